from libc.stdint cimport int64_t

# Arrays are void pointers: `itemsize` (4 or 8) says which build is called.
cdef extern from "fc_layout.h" nogil:
    ctypedef struct fc_layout_window:
        int64_t size[3]
        int64_t out[3]
        int64_t kernel[3]
        int64_t stride[3]
        int64_t dilation[3]
        int64_t pad[3]

    void fc_unfold_tap(
        int isa, size_t itemsize, const fc_layout_window *window, int64_t tap, const void *plane,
        void *column) noexcept
    void fc_fold_tap(
        int isa, size_t itemsize, const fc_layout_window *window, int64_t tap, const void *column,
        void *plane) noexcept
