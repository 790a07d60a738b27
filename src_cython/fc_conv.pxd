from libc.stdint cimport int64_t

from fc_epilogue cimport fc_epilogue
from fc_geometry cimport fc_conv, fc_conv_job, fc_indirect

cdef extern from "fc_conv_dispatch.h" nogil:
    int fc_indirect_plan(const fc_conv *g, int64_t m, int64_t item, int64_t lanes, fc_indirect *n)

    ctypedef struct fc_gather:
        int64_t bands, channel_pitch, positions

    ctypedef struct fc_conv_weight_job:
        fc_conv g
        fc_gather gather
        int64_t groups, m, part_m, part_q, shares, grad_end
        const void *src
        const void *grad
        void *dst

    void fc_gather_plan(const fc_conv *g, int64_t positions, fc_gather *n)
    int64_t fc_gather_bytes(const fc_conv_weight_job *job, int64_t item, int64_t tile_rows, int64_t lanes)

    ctypedef struct fc_scratch:
        int64_t bytes

    void fc_conv_derive(fc_conv *g, int64_t columns, int64_t lanes)
    int64_t fc_conv_blocks(const fc_conv *g)
    int64_t fc_weight_channels(const fc_conv *g, int64_t part_q)
    fc_scratch fc_scratch_split(const fc_conv *g, int64_t k, int64_t item, int64_t lanes, int64_t channels, void *scratch)

    int fc_gemm_rows(int isa, int item)
    int fc_gemm_lanes(int isa, int item)
    void fc_conv_weights_item(int isa, int item, const fc_conv_job *job, int64_t i, void *packed)
    void fc_conv_item(int isa, int item, const fc_conv_job *job, int64_t i, void *scratch)
    void fc_conv_indirect_item(int isa, int item, const fc_conv_job *job, int64_t i, void *scratch)
    void fc_conv_weight_item(int isa, int item, const fc_conv_weight_job *job, int64_t i, void *scratch)

    ctypedef struct fc_col2im_job:
        fc_conv g
        int64_t groups, m, parts, part_m, unit0, units, row_parts, depth, ring, pitch, phase_length, filter
        const int64_t *tap
        const void *grad
        const void *w
        const void *b
        void *weights
        void *dst

    int64_t fc_col2im_weights(const fc_col2im_job *job, int64_t tile_rows)
    int64_t fc_col2im_scratch(const fc_col2im_job *job, int64_t tile_rows, int64_t lanes)
    int64_t fc_col2im_items(const fc_col2im_job *job)
    void fc_col2im_weights_item(int isa, int item, const fc_col2im_job *job, int64_t i)
    void fc_col2im_item(int isa, int item, const fc_col2im_job *job, int64_t i, void *scratch)

    void fc_conv_weight_gather_item(int isa, int item, const fc_conv_weight_job *job, int64_t i, void *scratch)

    int fc_vector_bytes(int isa)

    ctypedef struct fc_matmul_job:
        int64_t m, n, k
        int trans_a, trans_b
        const void *a
        const void *b
        fc_epilogue epilogue
        void *c

    void fc_matmul_plan(fc_matmul_job *job, int64_t lanes, int64_t threads)
    int64_t fc_matmul_bytes(const fc_matmul_job *job, int isa, int item)
    int64_t fc_matmul_items(const fc_matmul_job *job, int isa, int item)
    void fc_matmul_item(int isa, int item, const fc_matmul_job *job, int64_t i, void *scratch)
