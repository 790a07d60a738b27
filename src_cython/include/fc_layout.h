/* im2col and its adjoint for every instruction set and dtype, with their run-time choice. */
#ifndef FC_LAYOUT_H
#define FC_LAYOUT_H

#include "fc_call.h"

/* A sliding window over three spatial dimensions, slowest first. */
typedef struct {
    int64_t size[3], out[3], kernel[3], stride[3], dilation[3], pad[3];
} fc_layout_window;

/* Outputs first <= i < last of one dimension whose input position i * stride + offset lies inside the input. */
static inline void fc_layout_inside(const fc_layout_window *g, int dim, int64_t offset, int64_t *first, int64_t *last) {
    const int64_t s = g->stride[dim], n = g->size[dim] - offset;
    *first = offset < 0 ? (-offset + s - 1) / s : 0;
    *last = n > 0 ? (n - 1) / s + 1 : 0;
    if (*last > g->out[dim])
        *last = g->out[dim];
    if (*first > *last)
        *first = *last;
}

/* Input position of output 0 under tap `tap` of the kernel, per dimension. */
static inline void fc_layout_offsets(const fc_layout_window *g, int64_t tap, int64_t offset[3]) {
    for (int dim = 2; dim >= 0; dim--) {
        offset[dim] = tap % g->kernel[dim] * g->dilation[dim] - g->pad[dim];
        tap /= g->kernel[dim];
    }
}

#define FC_TEMPLATE "fc_layout_kernel.h"
#include "fc_for_each.h"

FC_ENTRY(unfold_tap, (window, tap, plane, column), const fc_layout_window *window, int64_t tap, const void *plane,
         void *column)
FC_ENTRY(fold_tap, (window, tap, column, plane), const fc_layout_window *window, int64_t tap, const void *column,
         void *plane)

#endif
