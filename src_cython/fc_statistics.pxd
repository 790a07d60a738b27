from libc.stdint cimport int64_t

cdef extern from "fc_statistics.h" nogil:
    enum:
        FC_KEYS

    ctypedef struct fc_moments:
        double count
        double mean
        double square
        double low
        double high

    ctypedef struct fc_statistics:
        fc_moments moments
        int64_t zeros
        int64_t tiny
        int64_t histogram[FC_KEYS]

    const fc_moments FC_NO_MOMENTS
    void fc_merge_moments(fc_moments *into, const fc_moments *other) noexcept
    # `s` must hold FC_NO_MOMENTS and zeros.
    void fc_collect(int isa, size_t itemsize, const void *x, size_t n, fc_statistics *s) noexcept
