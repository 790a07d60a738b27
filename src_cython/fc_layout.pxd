from libc.stdint cimport int64_t

cdef extern from "fc_layout.h" nogil:
    ctypedef struct fc_layout_window:
        int64_t size[3]
        int64_t out[3]
        int64_t kernel[3]
        int64_t stride[3]
        int64_t dilation[3]
        int64_t pad[3]

    ctypedef void (*fc_layout_f32_fn)(const fc_layout_window *, int64_t, const float *, float *) noexcept
    ctypedef void (*fc_layout_f64_fn)(const fc_layout_window *, int64_t, const double *, double *) noexcept
    fc_layout_f32_fn pick_unfold_tap_f32(int isa)
    fc_layout_f64_fn pick_unfold_tap_f64(int isa)
    fc_layout_f32_fn pick_fold_tap_f32(int isa)
    fc_layout_f64_fn pick_fold_tap_f64(int isa)
