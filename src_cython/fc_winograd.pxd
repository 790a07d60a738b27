from libc.stdint cimport int64_t

from fc_epilogue cimport fc_epilogue
from fc_tiling cimport fc_tiling

cdef extern from "fc_winograd_dispatch.h" nogil:
    ctypedef struct fc_tile_source:
        const void *data
        int64_t size[2]
        int64_t origin[2]
        int64_t image, channel

    ctypedef struct fc_winograd_job:
        fc_tiling t
        fc_tile_source src
        int64_t groups, channels, rows, tile0, tile1, block_channels, block_rows, block_panels, stage_panels
        const void *w
        int64_t w_group, w_row, w_channel
        int turned
        const void *prepared
        fc_epilogue epilogue
        void *v
        void *dst
        int64_t dst_image, dst_channel

    ctypedef struct fc_winograd_weight_job:
        fc_tiling t
        fc_tile_source src, grad
        int64_t groups, channels, rows, row0, row1, tile0, tile1
        void *v
        void *u
        void *sums
        void *dst

    int64_t fc_chunk_elements(const fc_tiling *t, int64_t slack)
    int64_t fc_winograd_v_stride(int64_t depth, int64_t lanes)

    int fc_gemm_rows(int isa, int item)
    int fc_gemm_lanes(int isa, int item)
    int fc_transform_lanes(int isa, int item)
    int64_t fc_winograd_scratch(int isa, int item, const fc_tiling *t, int64_t channels)
    int64_t fc_winograd_filters_size(int isa, int item, const fc_winograd_job *job)
    int64_t fc_winograd_sums_size(int isa, int item, const fc_winograd_job *job, int64_t panels)
    void fc_winograd_tiles_item(int isa, int item, const fc_winograd_job *job, int64_t i, void *scratch)
    int fc_winograd_product_item(int isa, int item, const fc_winograd_job *job, int64_t i, void *scratch)
    void fc_winograd_filters_item(int isa, int item, const fc_winograd_job *job, int64_t i, void *prepared)
    void fc_winograd_weight_tiles_item(int isa, int item, const fc_winograd_weight_job *job, int64_t i, void *scratch)
    void fc_winograd_weight_product(int isa, int item, const fc_winograd_weight_job *job, int64_t i)
    int fc_winograd_weight_filters_item(int isa, int item, const fc_winograd_weight_job *job, int64_t i)

cdef extern from "fc_threads.h" nogil:
    int fc_thread_id()
