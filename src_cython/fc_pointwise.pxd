from libc.stdint cimport int64_t

# Arrays are void pointers and scalars double: `itemsize` (4 or 8) says which build is called.
cdef extern from "fc_pointwise.h" nogil:
    enum:
        FC_RELU
        FC_LEAKY_RELU
        FC_RELU6
        FC_SIGMOID
        FC_TANH
        FC_ERF
        FC_GELU
        FC_COLUMNS

    void fc_activation_forward(
        int isa, size_t itemsize, int kind, const void *x, void *y, size_t n, double slope) noexcept
    void fc_activation_backward(
        int isa, size_t itemsize, int kind, const void *g, const void *y, void *dx, size_t n, double slope) noexcept

    void fc_add(int isa, size_t itemsize, const void *a, const void *b, void *y, size_t n, int relu) noexcept

    void fc_softmax_rows(
        int isa, size_t itemsize, const void *x, void *y, size_t rows, size_t length, int log_output) noexcept
    void fc_softmax_columns(
        int isa, size_t itemsize, const void *x, void *y, size_t length, size_t stride, size_t n,
        int log_output) noexcept
    void fc_softmax_grad_rows(
        int isa, size_t itemsize, const void *g, const void *y, void *dx, size_t rows, size_t length,
        int log_output) noexcept
    void fc_softmax_grad_columns(
        int isa, size_t itemsize, const void *g, const void *y, void *dx, size_t length, size_t stride, size_t n,
        int log_output) noexcept

    void fc_cross_entropy_rows(
        int isa, size_t itemsize, const void *logp, const int64_t *label, const void *probs, const void *weight,
        void *loss, size_t rows, size_t classes, int64_t ignore, double a, double b) noexcept
    void fc_cross_entropy_columns(
        int isa, size_t itemsize, const void *logp, const int64_t *label, const void *probs, const void *weight,
        void *loss, size_t classes, size_t stride, size_t n, int64_t ignore, double a, double b) noexcept
    void fc_cross_entropy_grad_rows(
        int isa, size_t itemsize, const void *logp, const int64_t *label, const void *probs, const void *weight,
        const void *scale, size_t scale_step, void *d, size_t rows, size_t classes, int64_t ignore, double a,
        double b) noexcept
    void fc_cross_entropy_grad_columns(
        int isa, size_t itemsize, const void *logp, const int64_t *label, const void *probs, const void *weight,
        const void *scale, size_t scale_step, void *d, size_t classes, size_t stride, size_t n, int64_t ignore,
        double a, double b) noexcept

    void fc_sum_run(int isa, size_t itemsize, const void *x, size_t n, double *sum) noexcept
    void fc_sum_columns(
        int isa, size_t itemsize, const void *x, size_t rows, size_t stride, size_t n, double *sum) noexcept
    void fc_moments_run(
        int isa, size_t itemsize, const void *x, size_t n, double shift, double *moment) noexcept
    void fc_moments_columns(
        int isa, size_t itemsize, const void *x, size_t rows, size_t stride, size_t n, const double *shift,
        double *sum, double *square) noexcept
    void fc_grad_moments_run(
        int isa, size_t itemsize, const void *g, const void *x, size_t n, double mean, int relu, double scale,
        double bias, double *moment) noexcept
    void fc_grad_moments_columns(
        int isa, size_t itemsize, const void *g, const void *x, size_t rows, size_t stride, size_t n,
        const double *mean, int relu, const void *scale, const void *bias, double *sum, double *product) noexcept
    void fc_normalize_run(
        int isa, size_t itemsize, const void *x, void *y, size_t n, int relu, double mean, double scale,
        double bias) noexcept
    void fc_normalize_columns(
        int isa, size_t itemsize, const void *x, void *y, size_t rows, size_t stride, size_t n, int relu,
        const void *mean, const void *scale, const void *bias) noexcept
    void fc_normalize_grad_run(
        int isa, size_t itemsize, const void *g, const void *x, void *dx, size_t n, int relu, double mean,
        double offset, double slope, double scale, double bias) noexcept
    void fc_normalize_grad_columns(
        int isa, size_t itemsize, const void *g, const void *x, void *dx, size_t rows, size_t stride, size_t n,
        int relu, const void *mean, const void *offset, const void *slope, const void *scale,
        const void *bias) noexcept
