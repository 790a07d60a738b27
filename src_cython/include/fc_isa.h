/* Instruction-set levels and the run-time choice between them.
 *
 * Every kernel is a template header compiled once per level inside a target region (see fc_for_each.h), so a
 * build never depends on the CPU it runs on.  The caller passes the level to use; fc_isa_best() reports the highest
 * one that this CPU runs and this compiler could build. */
#ifndef FC_ISA_H
#define FC_ISA_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if (defined(__GNUC__) || defined(__clang__)) && (defined(__x86_64__) || defined(__i386__))
#define FC_HAVE_X86 1
#else
#define FC_HAVE_X86 0
#endif

#if defined(__GNUC__) || defined(__clang__)
#define FC_INLINE static inline __attribute__((always_inline))
#define FC_UNUSED __attribute__((unused))
#define FC_PREFETCH(p) __builtin_prefetch(p)
#else
#define FC_INLINE static __forceinline
#define FC_UNUSED
#define FC_PREFETCH(p) ((void)(p))
#endif

#if defined(_MSC_VER) && !defined(__clang__)
#define restrict __restrict
#endif

enum { FC_ISA_BASELINE = 0, FC_ISA_AVX2 = 1, FC_ISA_AVX512 = 2 };

static FC_UNUSED int fc_isa_best(void) {
#if FC_HAVE_X86
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
#ifdef FC_EMULATE_AVX512
        return FC_ISA_AVX512;
#endif
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
            return FC_ISA_AVX512;
        return FC_ISA_AVX2;
    }
#endif
    return FC_ISA_BASELINE;
}

/* FC_PICK(isa, foo_f32): the build of kernel foo_f32 for a level. */
#if FC_HAVE_X86
#define FC_PICK(isa, kernel)                         \
    ((isa) == FC_ISA_AVX512  ? kernel##__avx512      \
     : (isa) == FC_ISA_AVX2  ? kernel##__avx2        \
                             : kernel##__baseline)
#else
#define FC_PICK(isa, kernel) ((void)(isa), kernel##__baseline)
#endif

#define FC_CAT_(a, b, c, d) a##b##c##d
#define FC_CAT(a, b, c, d) FC_CAT_(a, b, c, d)
/* FC_NAME(foo) -> foo_f32__avx2 and so on. */
#define FC_NAME(base) FC_CAT(base, FC_DTYPE_SUFFIX, __, FC_ISA_SUFFIX)

#endif
