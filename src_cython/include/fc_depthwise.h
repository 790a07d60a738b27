/* Geometry of depthwise convolution whose planes are read where they lie: kernels of 3x3 and 5x5, stride 1 or 2.
 *
 * A result row is summed from `kernel` source rows; a table says where each begins, which is a row of zeros above and below
 * the plane.  Left and right of a row lie its neighbours', so lanes that see padding are masked.  Vectors reach beyond a
 * row: the few rows at the ends of the source, where that would be foreign memory, are copied. */
#ifndef FC_DEPTHWISE_H
#define FC_DEPTHWISE_H

#include "fc_direct.h"

enum {
    FC_DEPTHWISE_ROWS = 4,       /* result rows of a block */
    FC_DEPTHWISE_SUMS = 64 << 10 /* bytes of a part's sums of the weight gradient */
};

static int fc_depthwise_axis_fits(const fc_direct_axis *a, int64_t kernel, int64_t step, int64_t size) {
    for (int64_t p = 0, t = 0; p < a->phases; t += a->ntaps[p++]) {
        const int64_t first = a->offset[t], last = first + a->ntaps[p] - 1;
        for (int64_t i = 1; i < a->ntaps[p]; i++)
            if (a->offset[t + i] != first + i)
                return 0;
        if (first <= -kernel || (a->grid[p] - 1) * step + last > size + kernel - 2)
            return 0;
    }
    /* all taps see the source, half of them in each of two phases */
    return a->taps == kernel && fc_min(a->ntaps[0], a->ntaps[a->phases - 1]) * a->phases >= kernel - 1;
}

/* Whether a direct job whose kernel has one tap along z is fit for it. */
static FC_UNUSED int fc_depthwise_fits(const fc_direct_job *d) {
    const fc_conv *g = &d->job.g;
    const int64_t k = d->kernel[0], step = g->step[1];
    return g->channels == 1 && g->grid[0] == 1 && g->size[0] == 1 && g->ntaps[0] == 1 && (k == 3 || k == 5) &&
           d->kernel[1] == k && g->step[2] == step && d->x.phases == d->y.phases && d->x.phases * step <= 2 &&
           d->x.ntaps[0] == d->y.ntaps[0] && g->dst_step[2] == d->x.phases && d->x.grid[0] <= FC_DIRECT_COLUMNS &&
           fc_depthwise_axis_fits(&d->y, k, step, g->size[1]) && fc_depthwise_axis_fits(&d->x, k, step, g->size[2]);
}

/* Elements that may be read of a row, from `kernel` before its first on. */
static int64_t fc_depthwise_reach(const fc_direct_job *d, int64_t lanes) {
    return 3 * d->kernel[1] + fc_max(d->job.g.size[2], d->job.g.step[2] * lanes);
}

/* Cuts the work into at least `parts` where there are so many: bands of planes, or channels of a weight gradient. */
static FC_UNUSED void fc_depthwise_plan(fc_direct_job *d, int64_t item, int64_t lanes, int64_t parts) {
    const int64_t planes = d->job.g.images * d->job.groups;
    fc_direct_range(&d->y, 1);
    fc_direct_range(&d->x, 1);
    const int64_t rows = d->y.longest;
    fc_direct_cut(&d->y, planes < parts ? fc_max(FC_DEPTHWISE_ROWS, rows * planes / parts) : rows, FC_DEPTHWISE_ROWS);
    const int64_t sums = d->kernel[0] * d->kernel[1] * lanes * item;
    d->part = fc_max(1, fc_min(d->job.groups * d->job.m / parts, FC_DEPTHWISE_SUMS / sums));
    d->x.tile = d->x.longest;
    d->x.tiles = 1;
    d->planes = planes * d->y.tiles;
}

/* Source rows that n grid rows read. */
static int64_t fc_depthwise_lines(const fc_direct_job *d, int64_t n) { return (n - 1) * d->job.g.step[1] + d->y.span + 1; }

/* How a thread's scratch memory is used; with memory NULL only counts bytes. */
typedef struct {
    const void **line; /* of each source row that a plane reads: what the first tap reads at position 0 */
    void *masks;       /* [vectors of a row][kernel + 1] */
    void *zeros;       /* a row */
    void *ends;        /* copies of rows at the ends of the source */
    void *end;         /* the last row of an input gradient of stride 2 */
    void *sums;        /* of the weight gradient, a vector for each tap of a part's channels */
    void *grad;        /* a plane of the gradient whose rows are shorter than a vector */
    int64_t bytes;
} fc_depthwise_scratch;

static FC_UNUSED fc_depthwise_scratch fc_depthwise_split(const fc_direct_job *d, int64_t item, int64_t lanes, void *memory) {
    fc_depthwise_scratch s;
    const fc_conv *g = &d->job.g;
    const int64_t k = d->kernel[0], reach = fc_depthwise_reach(d, lanes), vectors = (d->x.longest + lanes - 1) / lanes;
    char *at = (char *)memory;
    s.masks = at;
    at += fc_round_up(vectors * (k + 1) * lanes * item, 64);
    s.zeros = at;
    at += fc_round_up(reach * item, 64);
    s.ends = at;
    at += fc_round_up(2 * fc_min(g->size[1], reach / g->size[2] + 1) * reach * item, 64);
    s.end = at;
    at += fc_round_up(2 * vectors * lanes * item, 64);
    s.sums = at;
    at += d->grad ? fc_round_up(d->part * k * k * lanes * item, 64) : 0;
    s.grad = at;
    at += d->grad && d->x.longest < lanes ? fc_round_up((d->y.longest * d->x.longest + lanes) * item, 64) : 0;
    s.line = (const void **)at;
    at += fc_depthwise_lines(d, d->y.longest) * (int64_t)sizeof(void *);
    s.bytes = at - (char *)memory;
    return s;
}

#endif
