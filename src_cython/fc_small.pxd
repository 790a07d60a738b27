from libc.stdint cimport int64_t

from fc_epilogue cimport fc_epilogue

# Arrays are void pointers: `itemsize` (4 or 8) says which build is called.
cdef extern from "fc_small.h" nogil:
    enum:
        FC_SMALL_TAPS

    ctypedef struct fc_small_axis:
        int64_t source, grid, taps, step
        int64_t offset[FC_SMALL_TAPS]
        int64_t first[FC_SMALL_TAPS]
        int64_t stop[FC_SMALL_TAPS]

    ctypedef struct fc_small:
        int64_t groups, channels, filters
        fc_small_axis y, x

    void fc_small_forward(
        int isa, size_t itemsize, const fc_small *g, const void *input, const void *weight, const fc_epilogue *epilogue,
        void *output) noexcept
    void fc_small_input_grad(
        int isa, size_t itemsize, const fc_small *g, const void *grad, const void *weight, const void *bias,
        void *input) noexcept
