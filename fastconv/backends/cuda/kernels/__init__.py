"""Device code only: each function makes one kernel for one configuration.

Kernels take 1-D contiguous arrays and uint32 sizes; what is constant comes from the enclosing function.  Importing
these modules needs numba-cuda, so :class:`fastconv.backends.cuda.launch.Kernel` does it, at the first launch.
"""
