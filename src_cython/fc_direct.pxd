from libc.stdint cimport int64_t

from fc_geometry cimport fc_conv_job

cdef extern from "fc_direct_dispatch.h" nogil:
    ctypedef struct fc_direct_axis:
        int64_t phases, taps
        const int64_t *grid
        const int64_t *start
        const int64_t *ntaps
        const int64_t *offset
        const int64_t *tap
        int64_t *place

    ctypedef struct fc_direct_job:
        fc_conv_job job
        fc_direct_axis y, x
        int64_t kernel[2]
        const void *grad
        int64_t planes, part

    ctypedef struct fc_direct_scratch:
        int64_t bytes

    int fc_direct_lanes(int isa, int item)
    void fc_direct_plan(fc_direct_job *job, int64_t item, int64_t lanes, int64_t parts)
    fc_direct_scratch fc_direct_split(const fc_direct_job *job, int64_t item, int64_t lanes, int64_t sums, void *memory)
    void fc_direct_item(int isa, int item, const fc_direct_job *job, int64_t first, int64_t last, void *scratch)
    void fc_direct_weight_item(int isa, int item, const fc_direct_job *job, int64_t group, int64_t m0, int64_t m1,
                               void *scratch)

    ctypedef struct fc_depthwise_scratch:
        int64_t bytes

    int fc_depthwise_fits(const fc_direct_job *job)
    void fc_depthwise_plan(fc_direct_job *job, int64_t item, int64_t lanes, int64_t parts)
    fc_depthwise_scratch fc_depthwise_split(const fc_direct_job *job, int64_t item, int64_t lanes, void *memory)
    void fc_depthwise_item(int isa, int item, const fc_direct_job *job, int64_t first, int64_t last, void *scratch)
    void fc_depthwise_weight_item(int isa, int item, const fc_direct_job *job, int64_t first, int64_t last, void *scratch)
