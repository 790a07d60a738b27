/* Convolution of a handful of elements: nothing is packed, padded or copied first.
 *
 * Geometry is worked out once per problem: for each tap of an axis the range of output positions that see the source
 * through it, so that padding is never read. */
#ifndef FC_SMALL_H
#define FC_SMALL_H

#include "fc_call.h"
#include "fc_epilogue.h"

#define FC_SMALL_TAPS 16 /* most taps of an axis */

typedef struct {
    int64_t source, grid, taps, step; /* source positions, output positions, kernel size, stride */
    int64_t offset[FC_SMALL_TAPS];    /* output position o reads source position o * step + offset[tap] ... */
    int64_t first[FC_SMALL_TAPS];     /* ... from o = first[tap] */
    int64_t stop[FC_SMALL_TAPS];      /* ... up to o < stop[tap] */
} fc_small_axis;

typedef struct {
    int64_t groups, channels, filters; /* channels and filters of one group */
    fc_small_axis y, x;
} fc_small;

#define FC_TEMPLATE "fc_small_all.h"
#include "fc_for_each.h"

FC_ENTRY(small_forward, (g, input, weight, epilogue, output), const fc_small *g, const void *input, const void *weight,
         const fc_epilogue *epilogue, void *output)
FC_ENTRY(small_input_grad, (g, grad, weight, bias, input), const fc_small *g, const void *grad, const void *weight,
         const void *bias, void *input)

#endif
