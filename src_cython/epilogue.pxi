"""Names of the activations that kernels apply to their sums."""

ACTIVATIONS = {"linear": 0, "relu": 1, "relu6": 2, "leaky_relu": 3}  # as in include/fc_epilogue.h
