/* The pooling templates, all on the vectors of one instruction set and dtype. */
#include "fc_pool_lanes.h"

#include "fc_pool_forward_kernel.h"

#include "fc_pool_backward_kernel.h"

#include "fc_pool_adaptive_kernel.h"

#include "fc_pool_narrow_kernel.h"

#include "fc_pool_undef.h"
