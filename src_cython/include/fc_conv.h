/* Geometry of a convolution as a matrix product, shared by its forward pass and both gradients.
 *
 * A column is one position of the output grid in one image; row k = (channel, tap) of a column is the source element
 *     source[image][channel][z * step[0] + offset[0][a]][y * step[1] + offset[1][b]][x * step[2] + offset[2][e]]
 * or zero outside the source, where tap = (a, b, e).  The matrix is never stored: a block of columns is packed for a few
 * channels at a time.  Offsets are free (not only multiples of a dilation), so one phase of a strided input gradient is
 * a problem of the same form. */
#ifndef FC_CONV_H
#define FC_CONV_H

#include "fc_epilogue.h"
#include "fc_isa.h"

typedef struct {
    int64_t images, channels; /* channels: those of one group that are summed over */
    int64_t grid[3], size[3], step[3], ntaps[3];
    const int64_t *offset[3];
    int64_t src_image, src_channel;              /* strides of the source, in elements */
    int64_t dst_image, dst_channel, dst_step[3]; /* strides of the positions in the destination */
    int64_t src_end;                             /* elements of the source */
    int64_t taps;                                /* product of ntaps */
    /* derived by fc_conv_derive */
    int64_t row_taps; /* taps over (a, b) */
    int64_t rows;           /* rows of the grid over all images */
    int64_t x_first, x_span;
    int64_t block_rows, block_x; /* columns of a block: block_rows whole rows, or block_x positions of one row */
} fc_conv;

/* One block of columns: its grid rows and the distinct source rows they read. */
typedef struct {
    int64_t rows, x0, nx, columns;
    int64_t sources;    /* distinct source rows */
    int64_t row_length; /* elements of a prepared source row, all phases */
    int64_t phase_length;
    int64_t *source_offset; /* [sources]: offset of the row in a channel plane over all images, -1 = all zero */
    int64_t *source_of;     /* [rows][row_taps]: which source row a grid row reads at (a, b) */
    int64_t *tap_shift;     /* [ntaps[2]]: where tap e starts in a prepared row */
    int64_t *column_dst;    /* [columns]: offset of a column in a destination channel */
    int64_t *chunk;         /* pieces of grid rows inside panels: (grid row, x - x0, lane) each */
    int64_t *panel_chunk;   /* [panels + 1]: first chunk of each panel */
} fc_block;

static FC_UNUSED int64_t fc_min(int64_t a, int64_t b) { return a < b ? a : b; }
static FC_UNUSED int64_t fc_max(int64_t a, int64_t b) { return a > b ? a : b; }
static FC_UNUSED int64_t fc_round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

/* Fills the derived fields; blocks get about `columns` columns, in panels of `lanes`. */
static FC_UNUSED void fc_conv_derive(fc_conv *g, int64_t columns, int64_t lanes) {
    int64_t first = g->offset[2][0], last = first;
    for (int64_t e = 1; e < g->ntaps[2]; e++) {
        first = fc_min(first, g->offset[2][e]);
        last = fc_max(last, g->offset[2][e]);
    }
    g->x_first = first;
    g->x_span = last - first;
    g->row_taps = g->ntaps[0] * g->ntaps[1];
    g->rows = g->images * g->grid[0] * g->grid[1];
    if (g->grid[2] >= columns) {
        int64_t pieces = (g->grid[2] + columns - 1) / columns;
        g->block_rows = 1;
        g->block_x = fc_min(fc_round_up((g->grid[2] + pieces - 1) / pieces, lanes), g->grid[2]);
    } else {
        int64_t most = fc_max(1, fc_min(columns / g->grid[2], g->rows)), best = most;
        double best_use = 0;
        for (int64_t r = most; r > most / 2; r--) { /* fullest last panel; more rows on a tie */
            double use = (double)(r * g->grid[2]) / (double)fc_round_up(r * g->grid[2], lanes);
            if (use > best_use + 1e-9) {
                best_use = use;
                best = r;
            }
        }
        g->block_rows = best;
        g->block_x = g->grid[2];
    }
}

static FC_UNUSED int64_t fc_conv_pieces(const fc_conv *g) { return (g->grid[2] + g->block_x - 1) / g->block_x; }

static FC_UNUSED int64_t fc_conv_blocks(const fc_conv *g) {
    return (g->rows + g->block_rows - 1) / g->block_rows * fc_conv_pieces(g);
}

/* int64 words of scratch that fc_block_plan needs for the largest block. */
static FC_UNUSED int64_t fc_block_words(const fc_conv *g, int64_t lanes) {
    int64_t columns = g->block_rows * g->block_x;
    int64_t panels = (columns + lanes - 1) / lanes;
    return 2 * g->block_rows * g->row_taps + g->ntaps[2] + columns + 3 * (g->block_rows + panels) + panels + 1;
}

/* Elements of the largest prepared source row (see fc_block.row_length). */
static FC_UNUSED int64_t fc_row_length(const fc_conv *g, int64_t nx, int64_t slack) {
    return (nx + g->x_span / g->step[2] + 1 + slack) * g->step[2];
}

static FC_UNUSED void fc_block_plan(const fc_conv *g, int64_t index, int64_t lanes, int64_t slack, int64_t *words,
                                    fc_block *b) {
    int64_t pieces = fc_conv_pieces(g);
    int64_t row0 = index / pieces * g->block_rows;
    b->x0 = index % pieces * g->block_x;
    b->nx = fc_min(g->block_x, g->grid[2] - b->x0);
    b->rows = fc_min(g->block_rows, g->rows - row0);
    b->columns = b->rows * b->nx;
    b->source_offset = words;
    b->source_of = b->source_offset + g->block_rows * g->row_taps;
    b->tap_shift = b->source_of + g->block_rows * g->row_taps;
    b->column_dst = b->tap_shift + g->ntaps[2];
    b->panel_chunk = b->column_dst + g->block_rows * g->block_x;
    b->chunk = b->panel_chunk + (g->block_rows * g->block_x + lanes - 1) / lanes + 1;

    b->phase_length = b->nx + g->x_span / g->step[2] + 1 + slack;
    b->row_length = b->phase_length * g->step[2];
    for (int64_t e = 0; e < g->ntaps[2]; e++) {
        int64_t shift = g->offset[2][e] - g->x_first;
        b->tap_shift[e] = shift % g->step[2] * b->phase_length + shift / g->step[2];
    }

    int64_t plane = g->grid[0] * g->grid[1], column = 0, chunks = 0, panel = 0;
    b->sources = 0;
    b->panel_chunk[0] = 0;
    for (int64_t r = 0; r < b->rows; r++) {
        int64_t image = (row0 + r) / plane, z = (row0 + r) % plane / g->grid[1], y = (row0 + r) % g->grid[1];
        int same_plane = r > 0 && y > 0; /* the grid row before reads the same planes: look for shared source rows */
        for (int64_t a = 0; a < g->ntaps[0]; a++)
            for (int64_t t = 0; t < g->ntaps[1]; t++) {
                int64_t *slot = &b->source_of[r * g->row_taps + a * g->ntaps[1] + t];
                int64_t sy = y * g->step[1] + g->offset[1][t], sz = z * g->step[0] + g->offset[0][a];
                int64_t found = -1;
                for (int64_t u = 0; same_plane && u < g->ntaps[1] && found < 0; u++)
                    if ((y - 1) * g->step[1] + g->offset[1][u] == sy)
                        found = b->source_of[(r - 1) * g->row_taps + a * g->ntaps[1] + u];
                if (found < 0) {
                    found = b->sources++;
                    int inside = sz >= 0 && sz < g->size[0] && sy >= 0 && sy < g->size[1];
                    b->source_offset[found] =
                        inside ? image * g->src_image + (sz * g->size[1] + sy) * g->size[2] : -1;
                }
                *slot = found;
            }
        int64_t dst = image * g->dst_image + z * g->dst_step[0] + y * g->dst_step[1] + b->x0 * g->dst_step[2];
        for (int64_t x = 0, n; x < b->nx; x += n, column += n, chunks++) { /* a piece of the row in each panel */
            const int64_t lane = column % lanes;
            if (lane == 0)
                b->panel_chunk[panel++] = chunks;
            b->chunk[3 * chunks] = r;
            b->chunk[3 * chunks + 1] = x;
            b->chunk[3 * chunks + 2] = lane;
            n = fc_min(lanes - lane, b->nx - x);
            for (int64_t l = 0; l < n; l++)
                b->column_dst[column + l] = dst + (x + l) * g->dst_step[2];
        }
    }
    b->panel_chunk[panel] = chunks;
}

/* How a product that reads its columns in place cuts the grid; see conv_indirect_item. */
typedef struct {
    int64_t band_rows, bands;    /* grid rows of a work item, work items of a plane */
    int64_t y_first, y_span;     /* source rows of a grid row: from y_first on, y_span + 1 */
    int64_t pitch;               /* elements of a prepared source row, all phases */
    int64_t source_bytes, bytes; /* scratch: prepared rows, and the table of offsets behind them */
} fc_indirect;

/* Plans a product of m rows that reads its columns in place; returns whether it is fit for it: prepared rows that stay in
 * the first-level cache, and grid rows of whole vectors but for a little. */
static FC_UNUSED int fc_indirect_plan(const fc_conv *g, int64_t m, int64_t item, int64_t lanes, fc_indirect *n) {
    const int64_t most = 24 << 10, k = g->channels * g->taps, width = g->grid[2];
    int64_t first = g->offset[1][0], last = first, x_first = g->offset[2][0], x_last = x_first;
    for (int64_t t = 1; t < g->ntaps[1]; t++) {
        first = fc_min(first, g->offset[1][t]);
        last = fc_max(last, g->offset[1][t]);
    }
    for (int64_t e = 1; e < g->ntaps[2]; e++) {
        x_first = fc_min(x_first, g->offset[2][e]);
        x_last = fc_max(x_last, g->offset[2][e]);
    }
    n->y_first = first;
    n->y_span = last - first;
    n->pitch = (width + (x_last - x_first) / g->step[2] + 1) * g->step[2];
    const int64_t row_bytes = g->channels * g->ntaps[0] * n->pitch * item;
    if (m > 32 || k > 1024 || g->dst_step[2] != 1 || width < lanes || fc_round_up(width, lanes) * 3 > width * 4 ||
        (n->y_span + 1) * row_bytes > most)
        return 0;
    n->band_rows = fc_min(g->grid[1], (most / row_bytes - n->y_span - 1) / g->step[1] + 1);
    n->bands = (g->grid[1] + n->band_rows - 1) / n->band_rows;
    n->source_bytes = fc_round_up(((n->band_rows - 1) * g->step[1] + n->y_span + 1) * row_bytes, 64);
    n->bytes = n->source_bytes + k * 8;
    return 1;
}

/* weights x columns -> destination, for all groups: forward pass, or one phase of the input gradient. */
typedef struct {
    fc_conv g;
    int64_t groups, m;              /* rows per group */
    int64_t parts, group_parts;     /* parts that the rows of a group, and the groups, are split into */
    int64_t block_channels;         /* channels packed at a time */
    int64_t dst_group;              /* destination channels from one group to the next */
    int64_t w_group, w_m, w_c;      /* strides of the unpacked weights */
    int w_contiguous;
    const int64_t *tap;             /* [taps] offset of a tap in a filter */
    const void *src, *w, *b;        /* source, unpacked weights and bias (or NULL) */
    const void *weights;            /* packed */
    void *dst;
    fc_epilogue epilogue;           /* what is done behind the bias b */
    int in_place;                   /* columns are read where they lie: see fc_indirect_plan */
    fc_indirect indirect;
} fc_conv_job;

/* Bands of the grid whose columns are gathered from padded source rows: band_images whole planes, or band_rows rows of one,
 * or band_x positions of a row.
 * Element (channel, tap) of a position lies at channel * channel_pitch + (offset of the tap) + (offset of the position). */
typedef struct {
    int64_t band_images, band_rows, band_x, pieces, bands;
    int64_t y_first, rows, pitch; /* padded source rows of a band's image: from y_first on, `rows` of them, `pitch` long */
    int64_t channel_pitch;
    int64_t positions; /* of a band, at most */
} fc_gather;

static FC_UNUSED void fc_gather_plan(const fc_conv *g, int64_t positions, fc_gather *n) {
    const int64_t planes = g->images * g->grid[0], plane = g->grid[1] * g->grid[2];
    int64_t first = g->offset[1][0], last = first;
    for (int64_t t = 1; t < g->ntaps[1]; t++) {
        first = fc_min(first, g->offset[1][t]);
        last = fc_max(last, g->offset[1][t]);
    }
    n->band_images = g->grid[0] > 1 ? 1 : fc_min(g->images, fc_max(1, positions / plane));
    n->band_rows = fc_min(g->grid[1], fc_max(1, positions / g->grid[2]));
    n->pieces = (g->grid[2] + positions - 1) / positions;
    n->band_x = (g->grid[2] + n->pieces - 1) / n->pieces;
    n->pieces = (g->grid[2] + n->band_x - 1) / n->band_x;
    n->bands = n->pieces * (n->band_images > 1 ? (g->images + n->band_images - 1) / n->band_images
                                               : planes * ((g->grid[1] + n->band_rows - 1) / n->band_rows));
    n->y_first = first;
    n->rows = (n->band_rows - 1) * g->step[1] + last - first + 1;
    n->pitch = (n->band_x - 1) * g->step[2] + g->x_span + 1;
    n->channel_pitch = n->band_images * g->ntaps[0] * n->rows * n->pitch;
    n->positions = n->band_images * n->band_rows * n->band_x;
}

/* gradient x columns^T -> weight gradient. */
typedef struct {
    fc_conv g;
    int64_t groups, m;
    int64_t part_m, part_q, shares; /* size of a part, shares of the sum */
    int64_t grad_end;
    fc_gather gather;
    const void *src, *grad;
    void *dst; /* [shares][groups][m][channels * taps] */
} fc_conv_weight_job;

/* What a work item of a weight gradient is: rows m0..m1 and columns q0..q1 of a group, over a share of the positions. */
typedef struct {
    int64_t q0, q1, m0, m1, share, group;
} fc_weight_part;

static FC_UNUSED fc_weight_part fc_weight_part_of(const fc_conv_weight_job *job, int64_t item) {
    fc_weight_part p;
    const int64_t nq = job->g.channels * job->g.taps;
    const int64_t parts_q = (nq + job->part_q - 1) / job->part_q, parts_m = (job->m + job->part_m - 1) / job->part_m;
    p.q0 = item % parts_q * job->part_q;
    p.q1 = fc_min(nq, p.q0 + job->part_q);
    item /= parts_q;
    p.m0 = item % parts_m * job->part_m;
    p.m1 = fc_min(job->m, p.m0 + job->part_m);
    item /= parts_m;
    p.share = item % job->shares;
    p.group = item / job->shares;
    return p;
}

/* Elements of scratch of a gathered item: offsets (as int64), padded rows, one panel of the gradient, sums. */
static FC_UNUSED int64_t fc_gather_bytes(const fc_conv_weight_job *job, int64_t item, int64_t tile_rows, int64_t lanes) {
    const fc_gather *n = &job->gather;
    const int64_t channels = (job->part_q + job->g.taps - 2) / job->g.taps + 1;
    return (n->positions + job->g.taps + 8) * 8 +
           (channels * n->channel_pitch + (n->positions + lanes) * lanes +
            fc_round_up(job->part_q, tile_rows) * fc_round_up(job->part_m, lanes)) * item;
}

/* How a thread's scratch memory is used. */
typedef struct {
    int64_t *words;
    void *zeros, *rows, *panels;
    void *row; /* pointers to prepared source rows */
    int64_t bytes;
} fc_scratch;

static FC_UNUSED int64_t fc_weight_channels(const fc_conv *g, int64_t part_q) {
    return fc_min(g->channels, (part_q - 1 + g->taps - 1) / g->taps + 1);
}

/* Lays out scratch for blocks of up to k rows (0: the caller continues behind `panels`), preparing the source rows of
 * `channels` channels at a time.  With scratch NULL only counts bytes. */
static FC_UNUSED fc_scratch fc_scratch_split(const fc_conv *g, int64_t k, int64_t item, int64_t lanes, int64_t channels,
                                             void *scratch) {
    fc_scratch s;
    const int64_t columns = g->block_rows * g->block_x, sources = g->block_rows * g->row_taps * channels;
    const int64_t length = fc_row_length(g, g->block_x, lanes);
    char *at = (char *)scratch;
    s.words = (int64_t *)at;
    at += fc_round_up(fc_block_words(g, lanes) * 8, 64);
    s.row = at;
    at += fc_round_up(sources * (int64_t)sizeof(void *), 64);
    s.zeros = at;
    at += fc_round_up(length * item, 64);
    s.rows = at;
    at += fc_round_up(sources * length * item, 64);
    s.panels = at;
    at += k ? (columns + lanes - 1) / lanes * (k + 1) * lanes * item : 0;
    s.bytes = at - (char *)scratch;
    return s;
}

#endif
