/* The kernels that one (instruction set, dtype) build of Winograd convolution consists of. */
#include "fc_vectors.h"

#include "fc_epilogue_kernel.h"
#include "fc_gemm_kernel.h"

#include "fc_winograd_kernel.h"
