/* The kernels that one (instruction set, dtype) build of small convolutions consists of. */
#include "fc_vectors.h"

#include "fc_epilogue_kernel.h"

#include "fc_small_kernel.h"
