/* Sizes of a two-dimensional pool and how its planes are cut into units of work. */
#ifndef FC_POOL_GEOMETRY_H
#define FC_POOL_GEOMETRY_H

#include "fc_isa.h"

#if defined(__GNUC__) || defined(__clang__)
#define FC_COLD __attribute__((noinline, cold, unused))
#define FC_APART __attribute__((noinline, unused))      /* inlined with its like, it would run out of registers */
#define FC_KEEP_LOOP() __asm__ volatile("")             /* or the compiler calls memcpy, dear for short rows */
#else
#define FC_COLD
#define FC_APART
#define FC_KEEP_LOOP() ((void)0)
#endif

/* Kernels work on units: bands of `band` rows of one plane, `bands` to a plane (rows of the output in forward passes, of
 * the input in backward passes).  What a unit computes does not depend on the cut. */
typedef struct {
    int64_t h, w, oh, ow;
    int64_t kh, kw, sh, sw, dh, dw;
    int64_t ph, pw, ph_hi, pw_hi; /* padding */
    int64_t divisor;              /* of average pooling; 0: the size of the window */
    int count_include_pad;
    int64_t band, bands;
} fc_pool;

/* Windows of adaptive pooling: rows y0[i] <= y < y1[i], columns x0[j] <= x < x1[j], of which an average counts y_count[i]
 * and x_count[j]. */
typedef struct {
    int64_t h, w, oh, ow;
    const int64_t *y0, *y1, *y_count, *x0, *x1, *x_count;
} fc_adaptive;

/* One tap of the kernel as a phase of the input columns sees it (see fc_pool_taps). */
typedef struct {
    int64_t shift; /* output column minus phase-local input column */
    int64_t kx;
} fc_pool_tap;

#define FC_POOL_LANES 16     /* at least the lanes of any vector */
#define FC_POOL_NO_CODE (-1) /* matches no tap, so margins around codes receive nothing */
#define FC_POOL_NOWHERE (INT64_MIN / 2)
#define FC_POOL_BAND_BYTES 24576
#define FC_POOL_COVER_BYTES 32 /* at least the size of fc_pool_cover (fc_pool_backward_kernel.h) */

static inline int64_t fc_min(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t fc_max(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t fc_ceil_div(int64_t a, int64_t b) { return a > 0 ? (a + b - 1) / b : -(-a / b); }
static inline int64_t fc_floor_div(int64_t a, int64_t b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }
static inline int64_t fc_whole_lanes(int64_t n) { return (n + FC_POOL_LANES - 1) / FC_POOL_LANES * FC_POOL_LANES; }

/* Elements of a padded input row that whole vectors of output columns read. */
static inline int64_t fc_pool_row_reach(const fc_pool *g) {
    return fc_max((fc_whole_lanes(g->ow) - 1) * g->sw + (g->kw - 1) * g->dw + 1, g->pw + g->w) + FC_POOL_LANES;
}

/* Columns of the input that one phase of the stride owns, in whole vectors. */
static inline int64_t fc_pool_phase_size(const fc_pool *g) { return fc_whole_lanes(fc_ceil_div(g->w, g->sw)); }

/* Margins that keep every shifted read of an output row inside its scratch copy. */
static inline int64_t fc_pool_left_margin(const fc_pool *g) {
    return fc_max(0, fc_ceil_div((g->kw - 1) * g->dw - g->pw, g->sw));
}
static inline int64_t fc_pool_output_reach(const fc_pool *g) {
    return fc_pool_left_margin(g) + fc_max(g->ow, fc_pool_phase_size(g) + (g->sw - 1 + g->pw) / g->sw);
}

/* Output rows first <= oy < last whose windows may touch input rows y0 <= y < y1. */
static inline void fc_pool_output_rows(const fc_pool *g, int64_t y0, int64_t y1, int64_t *first, int64_t *last) {
    *first = fc_max(0, fc_ceil_div(y0 + g->ph - (g->kh - 1) * g->dh, g->sh));
    *last = fc_min(g->oh, (y1 - 1 + g->ph) / g->sh + 1);
}

/* Kernel rows first <= ky < last of output row oy that lie inside the input: at least one, as every window covers an
 * element. */
static inline void fc_pool_kernel_rows(const fc_pool *g, int64_t oy, int64_t *first, int64_t *last) {
    const int64_t top = oy * g->sh - g->ph;
    if (g->dh == 1) { /* spares short rows two divisions */
        *first = fc_max(0, -top);
        *last = fc_min(g->kh, g->h - top);
    } else {
        *first = top < 0 ? fc_ceil_div(-top, g->dh) : 0;
        *last = fc_min(g->kh, (g->h - 1 - top) / g->dh + 1);
    }
}

/* Plane and rows y0 <= y < y1, out of `rows`, of a unit. */
static inline int64_t fc_pool_unit(const fc_pool *g, int64_t unit, int64_t rows, int64_t *y0, int64_t *y1) {
    const int64_t plane = g->bands == 1 ? unit : unit / g->bands;
    *y0 = (unit - plane * g->bands) * g->band;
    *y1 = fc_min(*y0 + g->band, rows);
    return plane;
}

/* Row, out of `rows` a plane and over all planes, that a unit starts at. */
static inline int64_t fc_pool_start(const fc_pool *g, int64_t unit, int64_t rows) {
    const int64_t plane = unit / g->bands;
    return plane * rows + (unit - plane * g->bands) * g->band;
}

/* The taps that reach input columns congruent to `phase` modulo the stride, in order of output column; returns how many.
 * Input column q * sw + phase receives from output column q + shift. */
static inline int64_t fc_pool_taps(const fc_pool *g, int64_t phase, fc_pool_tap *taps) {
    int64_t n = 0;
    for (int64_t kx = g->kw - 1; kx >= 0; kx--) {
        int64_t t = phase + g->pw - kx * g->dw;
        int64_t shift = fc_floor_div(t, g->sw);
        if (shift * g->sw == t) {
            taps[n].shift = shift;
            taps[n++].kx = kx;
        }
    }
    return n;
}

/* Rows of a forward band: enough that the input rows it copies fill the first-level cache but share little. */
static inline int64_t fc_pool_forward_band(const fc_pool *g, int64_t item) {
    int64_t rows = FC_POOL_BAND_BYTES / (fc_pool_row_reach(g) * item);
    return fc_min(g->oh, fc_max(2, (rows - (g->kh - 1) * g->dh - 1) / g->sh + 1));
}

/* Whether windows of 2 x 2 cover the plane side by side: an output row fills two input rows. */
static inline int fc_pool_quarters(const fc_pool *g) {
    const int square = g->kh == 2 && g->kw == 2 && g->sh == 2 && g->sw == 2 && g->dh == 1 && g->dw == 1;
    return square && g->ph == 0 && g->pw == 0 && g->h == 2 * g->oh && g->w == 2 * g->ow;
}

static inline int64_t fc_pool_backward_band(const fc_pool *g, int64_t item) {
    int64_t rows = FC_POOL_BAND_BYTES / (2 * fc_pool_output_reach(g) * item);
    if (fc_pool_quarters(g))
        return fc_min(g->h, fc_max(2, 2 * rows));
    return fc_min(g->h, fc_max(2 * g->sh, (rows - 1) * g->sh - (g->kh - 1) * g->dh));
}

/* With an index, a band holds the maxima of its rows and their codes as well. */
static inline int64_t fc_max_pool_forward_band(const fc_pool *g, int64_t item) {
    int64_t rows = FC_POOL_BAND_BYTES / ((fc_pool_row_reach(g) + 2 * g->ow) * item);
    return fc_min(g->oh, fc_max(2, (rows - (g->kh - 1) * g->dh - 1) / g->sh + 1));
}

/* Whether windows share input rows, so that it pays to reduce every row across before any window down. */
static inline int fc_pool_shares_rows(const fc_pool *g) { return g->sh < g->kh; }

/* Most output rows whose windows touch one band of input rows. */
static inline int64_t fc_pool_backward_rows(const fc_pool *g) {
    return fc_min(g->oh, (g->band - 1 + (g->kh - 1) * g->dh) / g->sh + 2);
}

/* Whether the backward pass of max-pooling is a gather (see fc_pool_backward_kernel.h): measured. */
static inline int fc_pool_gathers(const fc_pool *g) { return g->ow >= 24; }

/* Whether output and input are the same grid: position i receives from positions i + constant, one a tap. */
static inline int fc_pool_same(const fc_pool *g) { return g->sh == 1 && g->sw == 1 && g->oh == g->h && g->ow == g->w; }

/* How far the constants lead, and how many positions are worth a preparation of as many more. */
static inline int64_t fc_pool_same_reach(const fc_pool *g) {
    return fc_max(g->ph, (g->kh - 1) * g->dh - g->ph) * g->w + fc_max(g->pw, (g->kw - 1) * g->dw - g->pw);
}
static inline int64_t fc_pool_same_block(const fc_pool *g) { return fc_max(1024, fc_whole_lanes(4 * fc_pool_same_reach(g))); }

/* Most input rows that a band of the forward pass reads. */
static inline int64_t fc_pool_forward_rows(const fc_pool *g) {
    return fc_min((g->band - 1) * g->sh + (g->kh - 1) * g->dh + 1, g->h);
}

/* Elements of rows of the output, one after another, the last written in whole vectors. */
static inline int64_t fc_pool_run(const fc_pool *g, int64_t rows) { return fc_whole_lanes(rows * g->ow + FC_POOL_LANES); }

/* Elements that the rows of a band need which are reduced across before they are down. */
static inline int64_t fc_pool_staged(const fc_pool *g) {
    return fc_pool_shares_rows(g) ? fc_pool_run(g, fc_pool_forward_rows(g)) : 0;
}

/* Bytes of scratch of one thread. */
static inline int64_t fc_max_pool_forward_scratch(const fc_pool *g, int64_t item) {
    return item * (fc_whole_lanes(g->ow) + fc_pool_run(g, g->band) + 2 * fc_pool_staged(g) +
                   fc_pool_forward_rows(g) * fc_pool_row_reach(g));
}
static inline int64_t fc_pool_values_scratch(const fc_pool *g, int64_t item) {
    return item * (fc_whole_lanes(g->ow) + FC_POOL_LANES + g->band * fc_pool_row_reach(g));
}
static inline int64_t fc_pool_taps_scratch(const fc_pool *g) {
    return (int64_t)sizeof(fc_pool_tap) * g->kw + 8 * (g->sw + 1) + FC_POOL_COVER_BYTES * g->kh;
}
static inline int64_t fc_max_pool_backward_scratch(const fc_pool *g, int64_t item) {
    const int64_t rows = fc_pool_backward_rows(g);
    if (fc_pool_same(g))
        return 2 * item * (fc_pool_same_block(g) + 2 * fc_pool_same_reach(g) + FC_POOL_LANES);
    if (fc_pool_quarters(g))
        return 0;
    if (!fc_pool_gathers(g))
        return 8 * (256 + rows * g->ow);
    return fc_pool_taps_scratch(g) + 2 * item * (rows * fc_pool_output_reach(g) + FC_POOL_LANES);
}
static inline int64_t fc_avg_pool_backward_scratch(const fc_pool *g, int64_t item) {
    return fc_pool_taps_scratch(g) + item * (fc_whole_lanes(g->ow) + fc_pool_output_reach(g));
}

#endif
