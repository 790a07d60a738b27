from libc.stdint cimport int64_t

from fc_epilogue cimport fc_epilogue

cdef extern from "fc_conv_dispatch.h" nogil:
    ctypedef struct fc_conv:
        int64_t images, channels
        int64_t grid[3]
        int64_t size[3]
        int64_t step[3]
        int64_t ntaps[3]
        const int64_t *offset[3]
        int64_t src_image, src_channel, dst_image, dst_channel
        int64_t dst_step[3]
        int64_t src_end, taps, row_taps, rows, x_first, x_span, block_rows, block_x

    ctypedef struct fc_indirect:
        int64_t band_rows, bands, source_bytes, bytes

    int fc_indirect_plan(const fc_conv *g, int64_t m, int64_t item, int64_t lanes, fc_indirect *n)

    ctypedef struct fc_conv_job:
        fc_conv g
        int64_t groups, m, parts, group_parts, block_channels, dst_group, w_group, w_m, w_c
        int w_contiguous
        const int64_t *tap
        const void *src
        const void *w
        const void *b
        const void *weights
        void *dst
        fc_epilogue epilogue
        int in_place
        fc_indirect indirect

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

    int64_t fc_min(int64_t a, int64_t b)
    int64_t fc_max(int64_t a, int64_t b)
    int64_t fc_round_up(int64_t n, int64_t to)
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

    int fc_vector_bytes(int isa)
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

    ctypedef struct fc_matmul_job:
        int64_t m, n, k
        int trans_a, trans_b
        const void *a
        const void *b
        fc_epilogue epilogue
        void *c

    int64_t fc_matmul_bytes(const fc_matmul_job *job, int isa, int item)
    int64_t fc_matmul_items(const fc_matmul_job *job, int isa, int item)
    void fc_matmul_item(int isa, int item, const fc_matmul_job *job, int64_t i, void *scratch)

cdef extern from "fc_threads.h" nogil:
    int fc_thread_id()
