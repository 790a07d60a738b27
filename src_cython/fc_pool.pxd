from libc.stdint cimport int64_t

cdef extern from "fc_pool.h" nogil:
    ctypedef struct fc_pool:
        int64_t h, w, oh, ow
        int64_t kh, kw, sh, sw, dh, dw
        int64_t ph, pw, ph_hi, pw_hi
        int64_t divisor
        int count_include_pad
        int64_t band, bands

    ctypedef struct fc_adaptive:
        int64_t h, w, oh, ow
        const int64_t *y0
        const int64_t *y1
        const int64_t *y_count
        const int64_t *x0
        const int64_t *x1
        const int64_t *x_count

    enum:
        FC_POOL_LANES

    int64_t fc_pool_forward_band(const fc_pool *, int64_t item)
    int64_t fc_max_pool_forward_band(const fc_pool *, int64_t item)
    int64_t fc_pool_backward_band(const fc_pool *, int64_t item)
    int64_t fc_max_pool_forward_scratch(const fc_pool *, int64_t item)
    int64_t fc_pool_values_scratch(const fc_pool *, int64_t item)
    int64_t fc_max_pool_backward_scratch(const fc_pool *, int64_t item)
    int64_t fc_avg_pool_backward_scratch(const fc_pool *, int64_t item)

    ctypedef void (*fc_pool_fn)(const void *, const void *, const void *, void *, void *, int64_t, int64_t, void *) noexcept
    fc_pool_fn pick_max_pool_values(int isa, int is_double)
    fc_pool_fn pick_max_pool_uint8(int isa, int is_double)
    fc_pool_fn pick_max_pool_int64(int isa, int is_double)
    fc_pool_fn pick_max_pool_backward(int isa, int is_double)
    fc_pool_fn pick_avg_pool_values(int isa, int is_double)
    fc_pool_fn pick_avg_pool_backward(int isa, int is_double)
    fc_pool_fn pick_adaptive_avg(int isa, int is_double)
    fc_pool_fn pick_adaptive_avg_backward(int isa, int is_double)
    fc_pool_fn pick_adaptive_max(int isa, int is_double)
    fc_pool_fn pick_narrow_avg(int isa, int is_double)
    fc_pool_fn pick_narrow_avg_backward(int isa, int is_double)
