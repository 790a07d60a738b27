from libc.stdint cimport int64_t

from fc_epilogue cimport fc_epilogue

cdef extern from "fc_conv.h" nogil:
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

    int64_t fc_min(int64_t a, int64_t b)
    int64_t fc_max(int64_t a, int64_t b)
    int64_t fc_round_up(int64_t n, int64_t to)

cdef extern from "fc_threads.h" nogil:
    int fc_thread_id()
