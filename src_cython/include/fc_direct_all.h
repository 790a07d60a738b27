/* The kernels that one (instruction set, dtype) build of direct convolution consists of. */
#include "fc_vectors.h"

#include "fc_epilogue_kernel.h"

#include "fc_direct_kernel.h"
#include "fc_depthwise_kernel.h"
