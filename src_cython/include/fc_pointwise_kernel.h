/* Everything element-wise or along one axis, compiled once per instruction set and dtype. */
#include "fc_exp_kernel.h"

#include "fc_activation_kernel.h"
#include "fc_cross_entropy_kernel.h"
#include "fc_norm_kernel.h"
#include "fc_softmax_kernel.h"
