# `itemsize` (4 or 8) says which build is called.
cdef extern from "fc_update.h" nogil:
    enum:
        FC_SGD
        FC_ADAM
        FC_RMSPROP

    ctypedef struct fc_update_rates:
        double rate, momentum, mean_decay, square_decay, root_scale, eps, bound
        int nesterov

    ctypedef struct fc_update_array:
        void *weight
        const void *grad
        void *velocity
        void *mean
        void *square
        double shrink, decay, scale

    void fc_update(
        int isa, size_t itemsize, int rule, const fc_update_rates *rates, const fc_update_array *array, size_t first,
        size_t n) noexcept
    void fc_square_sum(int isa, size_t itemsize, const void *x, size_t n, double *sum) noexcept
