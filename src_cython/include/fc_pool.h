/* Pooling kernels for every instruction set and dtype, with their run-time choice. */
#ifndef FC_POOL_H
#define FC_POOL_H

#include <math.h>

#include "fc_pool_geometry.h"

/* Every kernel has one signature: it does units unit0 .. unit1 - 1 of the work that `geometry` (fc_pool, or fc_adaptive
 * with planes as units) describes; the index arrays are those of max-pooling. */
#define FC_POOL_PARAMETERS                                                                                  \
    const void *geometry, const void *in, const void *in_index, void *out, void *out_index, int64_t unit0,  \
        int64_t unit1, void *scratch
typedef void (*fc_pool_fn)(FC_POOL_PARAMETERS);

#define FC_TEMPLATE "fc_pool_kernel.h"
#include "fc_for_each.h"

#define FC_POOL_ENTRY(kernel)                                                          \
    FC_INLINE fc_pool_fn pick_##kernel(int isa, int is_double) {                       \
        return is_double ? FC_PICK(isa, kernel##_f64) : FC_PICK(isa, kernel##_f32);    \
    }
FC_POOL_ENTRY(max_pool_values)
FC_POOL_ENTRY(max_pool_uint8)
FC_POOL_ENTRY(max_pool_int64)
FC_POOL_ENTRY(max_pool_backward)
FC_POOL_ENTRY(avg_pool_values)
FC_POOL_ENTRY(avg_pool_backward)
FC_POOL_ENTRY(adaptive_avg)
FC_POOL_ENTRY(adaptive_avg_backward)
FC_POOL_ENTRY(adaptive_max)
FC_POOL_ENTRY(narrow_avg)
FC_POOL_ENTRY(narrow_avg_backward)
#undef FC_POOL_ENTRY

#endif
