/* Input gradient as one matrix product and a sum of shifted rows.
 *
 * The product of the weights, one row per (channel, tap), with the output gradient gives what each output position sends to
 * each of its taps; every such row is then added where its tap looks (col2im).  Nothing is multiplied by padding or by the
 * holes of a stride, and the gradient is packed once for all taps, so it pays where channels are few or strides are taken.
 *
 * Sums are kept in a ring of input rows split by the phase of the stride, so that they are added to contiguous memory; a row
 * that nothing more is added to leaves the ring for the result. */
#ifndef FC_COL2IM_H
#define FC_COL2IM_H

#include "fc_conv.h"

typedef struct {
    fc_conv g;                  /* the forward problem: its grid is the output, its source the input; channels: those summed */
    int64_t groups, m;          /* input channels per group */
    int64_t parts, part_m;      /* parts of the channels of a group */
    int64_t unit0, units;       /* (group, part) pairs whose weights are packed now */
    int64_t row_parts;          /* parts of the input rows; each computes what its rows need */
    int64_t depth;              /* channels summed before a tile is stored */
    int64_t ring, pitch;        /* rows of the ring and the distance of two of them, in elements */
    int64_t phase_length;
    const int64_t *tap;         /* [taps] offset of a tap in a filter */
    int64_t filter;             /* elements of a filter's channel */
    const void *grad, *w, *b;   /* output gradient, weights, bias (or NULL) */
    void *weights, *dst;        /* packed weights, result */
} fc_col2im_job;

/* Rows (channel, tap) of the product that are computed before they are added: their sums stay in cache. */
static FC_UNUSED int64_t fc_col2im_rows(const fc_col2im_job *job, int64_t tile_rows) {
    const int64_t columns = job->g.block_rows * job->g.block_x;
    return fc_min(fc_max(1, (1 << 14) / columns / tile_rows) * tile_rows,
                  fc_round_up(job->part_m * job->g.taps, tile_rows));
}

/* Elements of packed weights of one part. */
static FC_UNUSED int64_t fc_col2im_weights(const fc_col2im_job *job, int64_t tile_rows) {
    return fc_round_up(job->part_m * job->g.taps, tile_rows) * job->g.channels;
}

/* Elements of scratch: packed gradient, one batch of sums, the ring. */
static FC_UNUSED int64_t fc_col2im_scratch(const fc_col2im_job *job, int64_t tile_rows, int64_t lanes) {
    const int64_t columns = fc_round_up(job->g.block_rows * job->g.block_x, lanes);
    return columns * job->g.channels + fc_col2im_rows(job, tile_rows) * (columns + lanes) +
           job->part_m * job->ring * job->pitch;
}

static FC_UNUSED int64_t fc_col2im_items(const fc_col2im_job *job) {
    return job->g.images * job->units * job->row_parts;
}

#endif
