/* Geometry of direct convolution, shared by its forward pass and both gradients.
 *
 * A tile is a rectangle of the result's grid in one plane.  What its positions read is copied once into sheets of
 * padded rows, one sheet for each (summed channel, tap along z): every tap then lies a constant distance from its
 * position, and neither padding nor stride shows in the sums.  A strided input gradient has several phases in y and x
 * (see gradient_phases in geometry.pxi), which read the same sheets; elsewhere there is one. */
#ifndef FC_DIRECT_H
#define FC_DIRECT_H

#include "fc_conv.h"

typedef struct {
    int64_t phases, taps;                /* taps: of all phases together */
    const int64_t *grid, *start, *ntaps; /* [phases]: positions, first element in the result, number of taps */
    const int64_t *offset, *tap;         /* [taps], phase by phase; offsets of a phase ascend evenly */
    int64_t *place;                      /* [taps]: prepared row, or element of one, that a tap reads at position 0 */
    /* derived by fc_direct_plan */
    int64_t longest; /* largest grid */
    int64_t tile, tiles, first, span;
    int shared; /* taps read one prepared stretch of the source; else each has its own, for wide steps and dilations */
} fc_direct_axis;

typedef struct {
    fc_conv_job job; /* here `tap` holds only the taps along z */
    fc_direct_axis y, x;
    int64_t kernel[2];
    const void *grad; /* weight gradient: of the result */
    /* derived by fc_direct_plan */
    int64_t sheets, rows, segments, segment; /* sheets of rows, each in segments: phases of the stride, or taps */
    int64_t width;                           /* elements of a tile's row, at least a vector */
    int64_t planes;                          /* tiles in all, each for all m of a group */
    int64_t part;                            /* channels of a part of a depthwise weight gradient */
} fc_direct_job;

enum { FC_DIRECT_L1 = 24 << 10, FC_DIRECT_L2 = 192 << 10, FC_DIRECT_COLUMNS = 1024, FC_DIRECT_ROWS = 16 };

static int64_t fc_direct_row_bytes(const fc_direct_job *d, int64_t item) { return d->segments * d->segment * item; }

static int64_t fc_direct_sheet_bytes(const fc_direct_job *d, int64_t item) {
    return d->sheets * d->rows * fc_direct_row_bytes(d, item);
}

/* What all taps span, from an element on that lies in phase 0 of the source's step. */
static void fc_direct_range(fc_direct_axis *a, int64_t step) {
    int64_t last = a->first = a->offset[0];
    a->longest = 0;
    for (int64_t t = 0; t < a->taps; t++) {
        a->first = fc_min(a->first, a->offset[t]);
        last = fc_max(last, a->offset[t]);
    }
    a->first -= (a->first % step + step) % step;
    for (int64_t p = 0; p < a->phases; p++)
        a->longest = fc_max(a->longest, a->grid[p]);
    a->span = last - a->first;
}

/* Equal tiles of about `size` positions, in multiples of `unit` where there are several. */
static void fc_direct_cut(fc_direct_axis *a, int64_t size, int64_t unit) {
    const int64_t pieces = (a->longest + size - 1) / size;
    a->tile = pieces == 1 ? a->longest : fc_round_up((a->longest + pieces - 1) / pieces, unit);
    a->tiles = (a->longest + a->tile - 1) / a->tile;
}

static void fc_direct_lay_out(fc_direct_job *d, int64_t lanes) {
    const int64_t step = d->job.g.step[1], step_x = d->job.g.step[2];
    d->width = fc_max(d->x.tile, lanes);
    d->y.shared = (d->y.tile - 1) * step + d->y.span + 1 <= d->y.taps * d->y.tile;
    d->rows = d->y.shared ? (d->y.tile - 1) * step + d->y.span + 1 : d->y.taps * d->y.tile;
    d->x.shared = step_x * (d->width + d->x.span / step_x) <= fc_max(d->x.taps, 2) * d->width;
    d->segments = d->x.shared ? step_x : d->x.taps;
    d->segment = fc_round_up(d->x.shared ? d->width + d->x.span / step_x : d->width, lanes);
}

/* Chooses tiles, at least `parts` where there are so many rows, whose sheets stay in the first-level cache while every m
 * passes, or at least in the second. */
static FC_UNUSED void fc_direct_plan(fc_direct_job *d, int64_t item, int64_t lanes, int64_t parts) {
    const fc_conv *g = &d->job.g;
    int64_t columns = FC_DIRECT_COLUMNS, rows;
    const int64_t whole = g->images * d->job.groups * g->grid[0];
    fc_direct_range(&d->y, 1);
    fc_direct_range(&d->x, g->step[2]);
    d->sheets = g->channels * g->ntaps[0];
    rows = fc_max(1, d->y.longest);
    if (whole < parts) /* fewer planes than the threads could share */
        rows = fc_max(1, rows * whole / parts);
    for (;;) {
        fc_direct_cut(&d->x, columns, lanes);
        fc_direct_cut(&d->y, rows, 4);
        fc_direct_lay_out(d, lanes);
        const int64_t bytes = fc_direct_sheet_bytes(d, item);
        if (bytes > FC_DIRECT_L1 && d->y.tile > FC_DIRECT_ROWS)
            rows = fc_max(FC_DIRECT_ROWS, (d->y.tile + 1) / 2);
        else if (bytes > FC_DIRECT_L2 && d->x.tile > 4 * lanes)
            columns = fc_max(4 * lanes, (d->x.tile + 1) / 2);
        else if (bytes > FC_DIRECT_L2 && d->y.tile > 4)
            rows = fc_max(4, (d->y.tile + 1) / 2);
        else
            break;
    }
    for (int64_t t = 0; t < d->y.taps; t++)
        d->y.place[t] = d->y.shared ? d->y.offset[t] - d->y.first : t * d->y.tile;
    for (int64_t t = 0; t < d->x.taps; t++) {
        const int64_t shift = d->x.offset[t] - d->x.first;
        d->x.place[t] = d->x.shared ? shift % g->step[2] * d->segment + shift / g->step[2] : t * d->segment;
    }
    d->planes = whole * d->y.tiles * d->x.tiles;
}

/* What the sums of one phase of a tile run over; distances in elements of the prepared sheets. */
typedef struct {
    int64_t origin;        /* what the first tap reads at the first position */
    int64_t sheets, sheet; /* sheets, and elements of one */
    int64_t kh, kw, ny, nx;
    int64_t row, across;   /* from one position to the next in y, from one tap to the next in y */
    const int64_t *offset; /* [kh * kw]: from the first tap to each; the taps of one row come first */
    const int64_t *index;  /* [kh * kw]: where each lies in a plane of the kernel */
    const char *ahead;     /* what the next tile reads, */
    int64_t ahead_row;     /* and how many bytes of it to fetch with each row */
} fc_direct_sum;

/* How the rows of a 3x3 or 5x5 kernel share what they read: in `classes` of every classes-th row (dilation), neighbours of
 * which lie `step` prepared rows apart.  Step 0: they do not. */
static int fc_direct_sharing(const fc_direct_sum *s, int64_t *classes) {
    *classes = 1;
    if (s->kh != s->kw || (s->kh != 3 && s->kh != 5))
        return 0;
    if (s->row == s->across || s->row == 2 * s->across)
        return (int)(s->row / s->across);
    *classes = s->across / s->row;
    return s->across % s->row == 0;
}

/* How a thread's scratch memory is used; with memory NULL only counts bytes. */
typedef struct {
    void *sheets, *stage, *sums, *weights;
    fc_direct_sum *phase;    /* [y phases][x phases] */
    int64_t *offset, *index; /* [taps] */
    int64_t *inside;         /* [segments][2]: elements of a prepared row that lie in the source */
    int64_t bytes;
} fc_direct_scratch;

static fc_direct_scratch fc_direct_split(const fc_direct_job *d, int64_t item, int64_t lanes, int64_t sums, void *memory) {
    fc_direct_scratch s;
    const int64_t taps = d->y.taps * d->x.taps;
    char *at = (char *)memory;
    s.sheets = at;
    at += fc_round_up(fc_direct_sheet_bytes(d, item) + lanes * item, 64);
    s.stage = at;
    at += fc_round_up((d->x.phases * d->y.tile * d->width + lanes) * item, 64);
    s.sums = at;
    at += sums * lanes * item;
    s.phase = (fc_direct_sum *)at;
    at += d->y.phases * d->x.phases * (int64_t)sizeof(fc_direct_sum);
    s.offset = (int64_t *)at;
    s.index = s.offset + taps;
    s.inside = s.index + taps;
    at += (2 * taps + 2 * d->segments) * 8;
    s.weights = at;
    at += d->sheets * taps * item;
    s.bytes = at - (char *)memory;
    return s;
}

/* One tile of the grid. */
typedef struct {
    int64_t image, group, z, y, x;
} fc_direct_tile;

static fc_direct_tile fc_direct_find(const fc_direct_job *d, int64_t i) {
    fc_direct_tile t;
    t.x = i % d->x.tiles * d->x.tile;
    i /= d->x.tiles;
    t.y = i % d->y.tiles * d->y.tile;
    i /= d->y.tiles;
    t.z = i % d->job.g.grid[0];
    i /= d->job.g.grid[0];
    t.group = i % d->job.groups;
    t.image = i / d->job.groups;
    return t;
}

/* The next tile of a plane; 0, and the first tile again, where there is none. */
static int fc_direct_next(const fc_direct_job *d, fc_direct_tile *t) {
    if ((t->x += d->x.tile) < d->x.longest)
        return 1;
    t->x = 0;
    if ((t->y += d->y.tile) < d->y.longest)
        return 1;
    t->y = 0;
    if (++t->z < d->job.g.grid[0])
        return 1;
    t->z = 0;
    return 0;
}

/* The next tile of all planes. */
static void fc_direct_forward(const fc_direct_job *d, fc_direct_tile *t) {
    if (fc_direct_next(d, t) || ++t->group < d->job.groups)
        return;
    t->group = 0;
    t->image++;
}

/* What lies inside of the elements start + i * step, i < n, of `size`: [lo, hi). */
static void fc_direct_inside(int64_t start, int64_t step, int64_t size, int64_t n, int64_t *lo, int64_t *hi) {
    const int64_t before = fc_max(0, -start), behind = fc_max(0, size - start);
    *lo = fc_min(n, step == 1 ? before : (before + step - 1) / step);
    *hi = fc_max(*lo, fc_min(n, step == 1 ? behind : (behind + step - 1) / step));
}

/* Fills in what depends on where a tile lies in its plane: the phases, and what is inside of the source in x. */
static void fc_direct_place(const fc_direct_job *d, const fc_direct_tile *tile, const fc_direct_scratch *scratch) {
    const fc_conv *g = &d->job.g;
    const int64_t pitch = d->segments * d->segment;
    fc_direct_sum *s = scratch->phase;
    int64_t done = 0;
    for (int64_t p = 0, y0 = 0; p < d->y.phases; y0 += d->y.ntaps[p++])
        for (int64_t q = 0, x0 = 0; q < d->x.phases; x0 += d->x.ntaps[q++], s++) {
            const int64_t *y = d->y.place + y0, *x = d->x.place + x0;
            s->origin = y[0] * pitch + x[0];
            s->sheets = d->sheets;
            s->sheet = d->rows * pitch;
            s->kh = d->y.ntaps[p];
            s->kw = d->x.ntaps[q];
            s->ny = fc_min(d->y.tile, d->y.grid[p] - tile->y);
            s->nx = fc_min(d->x.tile, d->x.grid[q] - tile->x);
            s->ahead_row = 0;
            s->row = d->y.shared ? g->step[1] * pitch : pitch;
            s->across = s->kh > 1 ? (y[1] - y[0]) * pitch : 0;
            s->offset = scratch->offset + done;
            s->index = scratch->index + done;
            for (int64_t b = 0; b < s->kh; b++)
                for (int64_t e = 0; e < s->kw; e++, done++) {
                    scratch->offset[done] = (y[b] - y[0]) * pitch + x[e] - x[0];
                    scratch->index[done] = d->y.tap[y0 + b] * d->kernel[1] + d->x.tap[x0 + e];
                }
        }
    for (int64_t i = 0; i < d->segments; i++)
        fc_direct_inside(tile->x * g->step[2] + (d->x.shared ? d->x.first + i : d->x.offset[i]), g->step[2], g->size[2],
                         d->segment, &scratch->inside[2 * i], &scratch->inside[2 * i + 1]);
}

#endif
