/* Geometry of operations on the blocked layout: channels in blocks of one cache line.
 *
 * A blocked array is (images, blocks, height, width, lanes) with as many lanes as fit in 64 bytes; channel c is lane c %
 * lanes of block c / lanes.  What the lanes behind the last channel hold is of no account.
 *
 * Output positions are numbered over all images, rows and columns, and cut into tiles of a few positions regardless of
 * where a row ends.  For each tap a tile keeps the offset of every position's source, or -1 in the padding. */
#ifndef FC_BLOCKED_H
#define FC_BLOCKED_H

#include <math.h>

#include "fc_conv.h"
#include "fc_epilogue.h"
#include "fc_winograd.h"

#define FC_BLOCK_BYTES 64

/* A sliding window over blocked images. */
typedef struct {
    int64_t images, blocks_in, blocks_out;
    int64_t size[2], grid[2], taps[2], step[2], dilation[2], pad[2];
} fc_window;

static FC_UNUSED int64_t fc_positions(const fc_window *w) { return w->images * w->grid[0] * w->grid[1]; }

/* Scratch of a tile's table: source offsets [tap][position], destination offsets, and how many taps see the image. */
static FC_UNUSED int64_t fc_window_words(const fc_window *w, int64_t tile) { return (w->taps[0] * w->taps[1] + 2) * tile; }

/* Fills the table of the tile of `count` positions from `first` on; positions behind the last one repeat it. */
static FC_UNUSED void fc_window_tile(const fc_window *w, int64_t first, int64_t count, int64_t lanes, int64_t *words) {
    const int64_t plane = w->grid[0] * w->grid[1], taps = w->taps[0] * w->taps[1];
    const int64_t in_image = w->blocks_in * w->size[0] * w->size[1], out_image = w->blocks_out * plane;
    const int64_t down = w->dilation[0] * w->size[1] * lanes, right = w->dilation[1] * lanes;
    int64_t *target = words + taps * count, *seen = target + count, left = fc_positions(w) - 1 - first;
    int64_t image = first / plane, at = first % plane, row = at / w->grid[1], column = at % w->grid[1];
    for (int64_t i = 0; i < count; i++, left--) {
        const int64_t y0 = row * w->step[0] - w->pad[0], x0 = column * w->step[1] - w->pad[1];
        const int64_t y1 = y0 + (w->taps[0] - 1) * w->dilation[0], x1 = x0 + (w->taps[1] - 1) * w->dilation[1];
        const int64_t base = (image * in_image + y0 * w->size[1] + x0) * lanes;
        const int whole = y0 >= 0 && y1 < w->size[0] && x0 >= 0 && x1 < w->size[1];
        int64_t *to = words + i;
        target[i] = (image * out_image + at) * lanes;
        seen[i] = whole ? taps : 0;
        for (int64_t a = 0; a < w->taps[0]; a++)
            for (int64_t b = 0; b < w->taps[1]; b++, to += count) {
                *to = base + a * down + b * right;
                if (!whole) {
                    const int64_t y = y0 + a * w->dilation[0], x = x0 + b * w->dilation[1];
                    const int inside = y >= 0 && y < w->size[0] && x >= 0 && x < w->size[1];
                    *to = inside ? *to : -1;
                    seen[i] += inside;
                }
            }
        if (left <= 0)
            continue;
        at++; /* divisions would take longer than the rest */
        if (++column == w->grid[1]) {
            column = 0;
            if (++row == w->grid[0]) {
                row = at = 0;
                image++;
            }
        }
    }
}

/* Panels of `lanes` that cover all blocks of a group's rows, so that no lane stays unwritten. */
static FC_UNUSED int64_t fc_blocked_panels(int64_t rows, int64_t block, int64_t lanes) {
    return fc_panels(fc_round_up(rows, block), lanes);
}

/* A convolution: items are (positions, group, panels of filters).  Depthwise: one group of as many rows as channels, items are
 * (positions, blocks of channels). */
typedef struct {
    fc_window w;
    int64_t groups, channels, rows; /* per group: channels summed over, channels produced */
    int64_t tiles;                  /* of an item */
    int64_t panels;                 /* of an item */
    int64_t depth;                  /* channels summed at a time, a multiple of the lanes */
    const void *src, *weights;      /* weights: [group][panel][depth pass][tap][channel][lane] */
    fc_epilogue epilogue;
    void *dst;
} fc_blocked_job;

/* A convolution of plain images of few channels to blocked ones: its weights are read as those of fc_blocked_job (one depth
 * pass, one group), its source is a copy of all images with the padding that the windows see.  Items as there. */
typedef struct {
    fc_blocked_job conv;
    int64_t padded[2];       /* size of a padded plane */
    const int64_t *offset;   /* [tap][channel] in a padded image */
    const void *images;      /* unpadded */
    void *copy;              /* padded: conv.src */
} fc_blocked_stem_job;

/* Winograd convolution of blocked images; items of the first pass are (block of channels, tiles), of the second (group,
 * tiles, panels of filters). */
typedef struct {
    fc_tiling t;
    int64_t size[2], origin[2];
    int64_t groups, channels, rows; /* per group */
    int64_t tile0, tile1;           /* tiles of this pass */
    int64_t tiles, panels;          /* of a product item */
    const void *src, *filters;      /* filters: [group][panel][frequency][channel][lane] */
    fc_epilogue epilogue;
    void *v; /* [frequency][block][tile][lane] */
    void *dst;
} fc_blocked_winograd_job;

/* Pooling. */
enum { FC_POOL_MAX = 0, FC_POOL_MEAN = 1, FC_POOL_MEAN_OF_SEEN = 2 };

#endif
