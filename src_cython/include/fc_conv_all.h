/* The kernels that one (instruction set, dtype) build of the convolution consists of. */
#include "fc_vectors.h"

#include "fc_epilogue_kernel.h"
#include "fc_gemm_kernel.h"

#include "fc_conv_kernel.h"
#include "fc_col2im_kernel.h"
#include "fc_matmul_kernel.h"
