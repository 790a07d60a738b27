from libc.stdint cimport int64_t

from fc_epilogue cimport fc_epilogue
from fc_tiling cimport fc_tiling

cdef extern from "fc_blocked_dispatch.h" nogil:
    enum: FC_BLOCK_BYTES
    enum: FC_POOL_MAX
    enum: FC_POOL_MEAN
    enum: FC_POOL_MEAN_OF_SEEN

    ctypedef struct fc_window:
        int64_t images, blocks_in, blocks_out
        int64_t size[2]
        int64_t grid[2]
        int64_t taps[2]
        int64_t step[2]
        int64_t dilation[2]
        int64_t pad[2]

    ctypedef struct fc_blocked_job:
        fc_window w
        int64_t groups, channels, rows, tiles, panels, depth
        const void *src
        const void *weights
        fc_epilogue epilogue
        void *dst

    ctypedef struct fc_blocked_stem_job:
        fc_blocked_job conv
        int64_t padded[2]
        const int64_t *offset
        const void *images
        void *copy

    ctypedef struct fc_blocked_winograd_job:
        fc_tiling t
        int64_t size[2]
        int64_t origin[2]
        int64_t groups, channels, rows, tile0, tile1, tiles, panels
        const void *src
        const void *filters
        fc_epilogue epilogue
        void *v
        void *dst

    int64_t fc_positions(const fc_window *w)
    int64_t fc_blocked_panels(int64_t rows, int64_t block, int64_t lanes)
    int64_t fc_window_words(const fc_window *w, int64_t tile)
    int fc_gemm_rows(int isa, int item)
    int fc_gemm_lanes(int isa, int item)
    void fc_blocked_from_planes(int isa, int item, const void *planes, int64_t channels, int64_t plane, void *blocks,
                                int64_t i)
    void fc_blocked_to_planes(int isa, int item, const void *blocks, int64_t channels, int64_t plane, void *planes, int64_t i)
    void fc_blocked_weights_item(int isa, int item, const fc_blocked_job *job, const void *w, int64_t i, void *out)
    void fc_blocked_conv_item(int isa, int item, const fc_blocked_job *job, int64_t i, void *scratch)
    void fc_blocked_stem_row(int isa, int item, const fc_blocked_stem_job *job, int64_t i)
    void fc_blocked_stem_item(int isa, int item, const fc_blocked_stem_job *job, int64_t i)
    void fc_blocked_depthwise_item(int isa, int item, const fc_blocked_job *job, int64_t i, void *scratch)
    void fc_blocked_pool_item(int isa, int item, const fc_blocked_job *job, int kind, int64_t i, void *scratch)
    void fc_blocked_filters_item(int isa, int item, const fc_blocked_winograd_job *job, const void *w, int64_t i, void *out)
    void fc_blocked_tiles_item(int isa, int item, const fc_blocked_winograd_job *job, int64_t i)
    int fc_blocked_product_item(int isa, int item, const fc_blocked_winograd_job *job, int64_t i, void *scratch)

cdef extern from "fc_threads.h" nogil:
    int fc_thread_id()
