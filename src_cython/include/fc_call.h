/* Entry points that choose a kernel's build at run time.
 *
 *     FC_ENTRY(scale, (x, n, factor), void *x, size_t n, double factor)
 *
 * defines fc_scale(isa, itemsize, x, n, factor), which calls scale_f32 or scale_f64 (by the size of an element) in the
 * build for a level.  Arrays are void pointers and scalars double, so that one line of a driver serves both dtypes. */
#ifndef FC_CALL_H
#define FC_CALL_H

#include "fc_denormals.h"
#include "fc_isa.h"

#define FC_ENTRY(kernel, arguments, ...)                               \
    FC_INLINE void fc_##kernel(int isa, size_t itemsize, __VA_ARGS__) { \
        if (itemsize == 4)                                             \
            FC_PICK(isa, kernel##_f32) arguments;                      \
        else                                                           \
            FC_PICK(isa, kernel##_f64) arguments;                      \
    }

/* FC_CALL(isa, itemsize, kernel, args): the value of one call; FC_FLUSHED: a statement, with denormals taken as zero. */
#define FC_CALL(isa, itemsize, kernel, ...) \
    ((itemsize) == 4 ? FC_PICK(isa, kernel##_f32)(__VA_ARGS__) : FC_PICK(isa, kernel##_f64)(__VA_ARGS__))
#define FC_FLUSHED(isa, itemsize, kernel, ...) FC_WITHOUT_DENORMALS(FC_CALL(isa, itemsize, kernel, __VA_ARGS__))

#endif
