from libc.stdint cimport int64_t

cdef extern from "fc_winograd.h" nogil:
    ctypedef struct fc_tiling:
        int64_t tile_rows, tile_columns
        const int64_t *row_start
        const int64_t *column_start
        const int64_t *column_at
        int64_t phase_length, phases, tiles
        int64_t grid[2]
        int64_t dilation[2]
        int m[2]
        int taps[2]
        int alpha[2]
        int64_t chunk

    int64_t fc_min(int64_t a, int64_t b)
    int64_t fc_max(int64_t a, int64_t b)
    int64_t fc_round_up(int64_t n, int64_t to)
    int64_t fc_panels(int64_t n, int64_t lanes)
    int64_t fc_frequencies(const fc_tiling *t)
