/* Geometry of Winograd convolution (Lavin & Gray 2016, "Fast algorithms for convolutional neural networks").
 *
 * The output is cut into tiles of m[0] x m[1] positions.  A tile reads alpha = m + taps - 1 source positions along each
 * dimension; its transform is alpha[0] * alpha[1] "frequencies", and at each frequency the convolution is a matrix product
 * over channels.  With dilation d a tile takes every d-th position, so the d * d phases of the image are ordinary
 * convolutions that share one list of tiles.
 *
 * Tiles are numbered (image, tile row, tile column), phases included, and the list is cut without regard to images: small
 * images share panels. */
#ifndef FC_WINOGRAD_H
#define FC_WINOGRAD_H

#include "fc_conv.h"
#include "fc_epilogue.h"

typedef struct {
    int64_t tile_rows, tile_columns; /* of one image */
    const int64_t *row_start;        /* [tile_rows] first output row of a tile row */
    const int64_t *column_start;     /* [tile_columns] */
    const int64_t *column_at;        /* [tile_columns] where a tile starts in a transformed line */
    int64_t phase_length, phases;    /* a line holds `phases` runs of phase_length elements, one per phase */
    int64_t tiles;                   /* of all images */
    int64_t grid[2], dilation[2];
    int m[2], taps[2], alpha[2];     /* outputs, filter taps and frequencies of a tile along each dimension */
    int64_t chunk;                   /* tiles transformed at a time */
} fc_tiling;

/* An array (images, channels, size[0], size[1]) whose tiles are read. */
typedef struct {
    const void *data;
    int64_t size[2];
    int64_t origin[2]; /* source position that the first element of a tile at output (0, 0) reads */
    int64_t image, channel; /* strides in elements */
} fc_tile_source;

/* Forward pass, or the input gradient as a forward pass with turned filters. */
typedef struct {
    fc_tiling t;
    fc_tile_source src;
    int64_t groups, channels, rows;   /* per group: channels that are summed over, rows (channels that are produced) */
    int64_t tile0, tile1;             /* tiles of this pass */
    int64_t block_channels;           /* channels of a transform item */
    int64_t block_rows, block_panels; /* rows and panels of a product item */
    int64_t stage_panels;             /* panels whose sums are kept before they are transformed back */
    const void *w;
    int64_t w_group, w_row, w_channel; /* strides of the filters */
    int turned;                        /* filters are read last tap first */
    const void *prepared;              /* transformed filters, or NULL */
    fc_epilogue epilogue;
    void *v; /* transformed tiles: [group][panel][frequency][channel][lane] */
    void *dst;
    int64_t dst_image, dst_channel;
} fc_winograd_job;

/* Weight gradient. */
typedef struct {
    fc_tiling t;
    fc_tile_source src, grad;
    int64_t groups, channels, rows; /* per group */
    int64_t row0, row1;             /* rows of this pass */
    int64_t tile0, tile1;
    void *v;    /* [group][channel panel][frequency][tile][lane] */
    void *u;    /* [group][row panel][frequency][tile][lane] */
    void *sums; /* [group][frequency][row, padded][channel, padded] */
    void *dst;
} fc_winograd_weight_job;

/* call(m0, m1) with the sizes of a tile as constants. */
#define WINOGRAD_TILE(t, call)                        \
    do {                                              \
        if ((t)->m[0] == 4 && (t)->m[1] == 4)         \
            call(4, 4);                               \
        else if ((t)->m[0] == 6 && (t)->m[1] == 6)    \
            call(6, 6);                               \
        else if ((t)->m[0] == 2 && (t)->m[1] == 2)    \
            call(2, 2);                               \
        else if ((t)->m[0] == 1)                      \
            call(1, 4);                               \
        else                                          \
            call(4, 1);                               \
    } while (0)

static FC_UNUSED int64_t fc_frequencies(const fc_tiling *t) { return (int64_t)t->alpha[0] * t->alpha[1]; }

static FC_UNUSED int64_t fc_panels(int64_t n, int64_t lanes) { return (n + lanes - 1) / lanes; }

/* Distances between frequencies.  One vector more than needed: equal powers of two would share cache sets. */
static FC_UNUSED int64_t fc_winograd_v_stride(int64_t depth, int64_t lanes) { return (depth + 1) * lanes; }

/* From one row panel of filters to the next: a vector of filters may spill over the end of its own. */
static FC_UNUSED int64_t fc_winograd_u_panel(int64_t channels, int64_t rows_of_panel) { return channels * rows_of_panel + 8; }

static FC_UNUSED int64_t fc_winograd_u_stride(int64_t row_panels, int64_t channels, int64_t rows_of_panel) {
    return row_panels * fc_winograd_u_panel(channels, rows_of_panel) + 8;
}

/* The source rows and columns that a chunk of tiles needs. */
typedef struct {
    int64_t row0, rows; /* tile rows over all images */
    int64_t base;       /* column_at of the first column kept */
    int64_t line;       /* elements of a transformed line */
} fc_chunk;

static FC_UNUSED fc_chunk fc_chunk_of(const fc_tiling *t, int64_t tile0, int64_t tile1, int64_t slack) {
    fc_chunk c;
    c.row0 = tile0 / t->tile_columns;
    c.rows = (tile1 - 1) / t->tile_columns - c.row0 + 1;
    c.base = 0;
    c.line = t->phases * t->phase_length;
    if (c.rows == 1 && t->phases == 1) {
        c.base = t->column_at[tile0 % t->tile_columns];
        c.line = t->column_at[(tile1 - 1) % t->tile_columns] - c.base + t->alpha[1];
    }
    c.line += slack;
    return c;
}

/* Elements that a chunk's transformed lines take at most, for one channel. */
static FC_UNUSED int64_t fc_chunk_elements(const fc_tiling *t, int64_t slack) {
    int64_t rows = (t->chunk + t->tile_columns - 2) / t->tile_columns + 1;
    return fc_min(rows, t->tiles / t->tile_columns) * t->alpha[0] * (t->phases * t->phase_length + slack);
}

#endif
