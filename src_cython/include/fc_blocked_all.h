/* The kernels that one (instruction set, dtype) build of the blocked layout consists of. */
#include "fc_vectors.h"

#include "fc_epilogue_kernel.h"
#include "fc_gemm_kernel.h"
#include "fc_winograd_transform.h"

#include "fc_blocked_kernel.h"
#include "fc_blocked_layout_kernel.h"
#include "fc_blocked_winograd_kernel.h"
