/* Denormal numbers are taken as zero while a kernel runs: arithmetic on them is a hundred times slower on many CPUs.
 *
 * The floating-point state belongs to the thread, so every work item sets it and puts the caller's back. */
#ifndef FC_DENORMALS_H
#define FC_DENORMALS_H

#include "fc_isa.h"

#if defined(__SSE2__) || defined(_M_X64)
#include <emmintrin.h>
#define FC_FLUSH_TO_ZERO 0x8000 /* results */
#define FC_DENORMALS_ARE_ZERO 0x0040 /* operands */

FC_INLINE uint64_t fc_denormals_off(void) {
    const unsigned state = _mm_getcsr();
    _mm_setcsr(state | FC_FLUSH_TO_ZERO | FC_DENORMALS_ARE_ZERO);
    return state;
}

FC_INLINE void fc_denormals_restore(uint64_t state) { _mm_setcsr((unsigned)state); }

#elif defined(__aarch64__) && (defined(__GNUC__) || defined(__clang__))
#define FC_FLUSH_TO_ZERO (1ULL << 24)

FC_INLINE uint64_t fc_denormals_off(void) {
    uint64_t state;
    __asm__ volatile("mrs %0, fpcr" : "=r"(state));
    __asm__ volatile("msr fpcr, %0" : : "r"(state | FC_FLUSH_TO_ZERO) : "memory");
    return state;
}

FC_INLINE void fc_denormals_restore(uint64_t state) { __asm__ volatile("msr fpcr, %0" : : "r"(state) : "memory"); }

#else

FC_INLINE uint64_t fc_denormals_off(void) { return 0; }
FC_INLINE void fc_denormals_restore(uint64_t state) { (void)state; }

#endif

/* Runs a statement without denormals. */
#define FC_WITHOUT_DENORMALS(statement)              \
    do {                                             \
        const uint64_t fc_state = fc_denormals_off(); \
        statement;                                   \
        fc_denormals_restore(fc_state);              \
    } while (0)

#endif
