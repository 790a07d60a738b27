/* Winograd convolution: transforms of tiles and filters, products per frequency, transforms back.  Geometry and job
 * structures in fc_winograd.h.
 *
 * Vectors run over tiles in the forward pass (lanes of the product's columns) and over channels in the weight gradient,
 * where tiles are summed over.  Transforms work in vectors of GEMM_TW lanes, products in tiles of GEMM_MR x GEMM_NR. */
#include "fc_winograd_transform.h"

/* Channels multiplied at a time: their filters and tiles of all frequencies stay in the second-level cache. */
#define WINOGRAD_DEPTH (256 / FC_TBYTES)

/* Scratch of a transform item: places of the tiles, a row of zeros, lines before they are split by phase, and lines. */
typedef struct {
    int64_t *at;
    FC_T *zeros, *unsplit, *lines;
    int64_t channel; /* elements of one channel's lines */
    int64_t bytes;
} FC_NAME(winograd_scratch);

static FC_UNUSED FC_NAME(winograd_scratch)
    FC_NAME(winograd_split)(const fc_tiling *t, int64_t channels, void *scratch) {
    FC_NAME(winograd_scratch) s;
    const int64_t line = t->phases * t->phase_length + GEMM_TW;
    char *at = (char *)scratch;
    s.channel = fc_chunk_elements(t, GEMM_TW);
    s.at = (int64_t *)at;
    at += fc_round_up((t->chunk + GEMM_NR) * 8, 64);
    s.zeros = (FC_T *)at;
    at += fc_round_up(line * (int64_t)sizeof(FC_T), 64);
    s.unsplit = (FC_T *)at;
    at += t->phases > 1 ? fc_round_up(t->alpha[0] * line * (int64_t)sizeof(FC_T), 64) : 0;
    s.lines = (FC_T *)at;
    at += fc_round_up(channels * s.channel * (int64_t)sizeof(FC_T), 64);
    s.bytes = at - (char *)scratch;
    if (scratch)
        memset(s.zeros, 0, (size_t)line * sizeof(FC_T));
    return s;
}

static FC_UNUSED int64_t FC_NAME(winograd_scratch_bytes)(const fc_tiling *t, int64_t channels) {
    return FC_NAME(winograd_split)(t, channels, NULL).bytes;
}

#if GEMM_TW == 8
typedef FC_T FC_NAME(fc_half) __attribute__((vector_size(GEMM_TBYTES / 2), aligned(sizeof(FC_T)), may_alias));

/* Transposes the 4 x 4 blocks in both halves of 4 vectors. */
FC_INLINE void FC_NAME(transpose_halves)(FC_TV *r) {
    const FC_TV a = FC_SHUFFLE(r[0], r[1], 0, 8, 1, 9, 4, 12, 5, 13), b = FC_SHUFFLE(r[2], r[3], 0, 8, 1, 9, 4, 12, 5, 13);
    const FC_TV c = FC_SHUFFLE(r[0], r[1], 2, 10, 3, 11, 6, 14, 7, 15), d = FC_SHUFFLE(r[2], r[3], 2, 10, 3, 11, 6, 14, 7, 15);
    r[0] = FC_SHUFFLE(a, b, 0, 1, 8, 9, 4, 5, 12, 13);
    r[1] = FC_SHUFFLE(a, b, 2, 3, 10, 11, 6, 7, 14, 15);
    r[2] = FC_SHUFFLE(c, d, 0, 1, 8, 9, 4, 5, 12, 13);
    r[3] = FC_SHUFFLE(c, d, 2, 3, 10, 11, 6, 7, 14, 15);
}
#endif

/* ------------------------------------------------------------------------------------------------ tiles */

/* The first `count` < GEMM_TW elements behind a pointer; zeros follow.  Nothing else is read. */
FC_INLINE FC_TV FC_NAME(winograd_head)(const FC_T *from, int64_t count) {
    const int64_t half = GEMM_TW / 2;
    FC_T head[GEMM_TW] = {0};
    if (half > 0 && count >= half) { /* two moves of half a vector that overlap */
        memcpy(head, from, (size_t)half * sizeof(FC_T));
        memcpy(head + count - half, from + count - half, (size_t)half * sizeof(FC_T));
    } else {
        for (int64_t l = 0; l < count; l++)
            head[l] = from[l];
    }
    return *(const FC_TV *)head;
}

/* Zeros from x to `end` and in what is left of the last vector. */
FC_INLINE void FC_NAME(winograd_clear)(FC_T *line, int64_t x, int64_t end) {
    for (; x < end; x += GEMM_TW)
        *(FC_TV *)(line + x) = (FC_TV){0};
}

/* Vertical transform of n source rows, `count` elements from each row's pointer: alpha lines, `stride` apart.  A line has
 * room for a vector. */
FC_INLINE void FC_NAME(winograd_vertical)(fc_table *table, const int n, const int alpha, const FC_T *const *row,
                                          int64_t count, FC_T *out, int64_t stride) {
    FC_TV in[8], transformed[8];
    if (alpha == 1) {
        memcpy(out, row[0], (size_t)count * sizeof(FC_T));
        return;
    }
    for (int64_t x = 0; x < count; x += GEMM_TW) {
        if (x > 0 && x > count - GEMM_TW)
            x = count - GEMM_TW; /* the last vector is laid back over the one before */
#pragma GCC unroll 8
        for (int i = 0; i < n; i++)
            in[i] = count < GEMM_TW ? FC_NAME(winograd_head)(row[i], count) : *(const FC_TV *)(row[i] + x);
        FC_NAME(winograd_expand)(table, n, alpha, in, 1, transformed, 1);
#pragma GCC unroll 8
        for (int i = 0; i < alpha; i++)
            *(FC_TV *)(out + i * stride + x) = transformed[i];
    }
}

/* Lines of a chunk's tile rows in one channel: source rows transformed vertically, zeros around them, phases apart. */
FC_INLINE void FC_NAME(winograd_lines)(const fc_tiling *t, const fc_tile_source *s, fc_table *table, const int n,
                                       const int alpha, int64_t channel, const fc_chunk *c,
                                       const FC_NAME(winograd_scratch) * scratch, FC_T *lines) {
    const int64_t length = c->line - GEMM_TW, first = s->origin[1] + c->base, width = s->size[1];
    const int64_t lo = fc_min(fc_max(-first, 0), length), hi = fc_max(lo, fc_min(width - first, length));
    for (int64_t r = 0; r < c->rows; r++, lines += alpha * c->line) {
        const int64_t row = c->row0 + r, y0 = t->row_start[row % t->tile_rows] + s->origin[0];
        const FC_T *plane = (const FC_T *)s->data + row / t->tile_rows * s->image + channel * s->channel;
        const FC_T *rows[8];
        for (int i = 0; i < n; i++) {
            const int64_t y = y0 + i * t->dilation[0];
            rows[i] = y >= 0 && y < s->size[0] && hi > lo ? plane + y * width + first + lo : scratch->zeros;
        }
        FC_T *out = t->phases > 1 ? scratch->unsplit : lines;
        for (int i = 0; i < alpha; i++)
            FC_NAME(winograd_clear)(out + i * c->line, 0, lo);
        FC_NAME(winograd_vertical)(table, n, alpha, rows, hi - lo, out + lo, c->line);
        for (int i = 0; i < alpha; i++) {
            FC_NAME(winograd_clear)(out + i * c->line, hi, length);
            *(FC_TV *)(out + i * c->line + length) = (FC_TV){0};
            if (t->phases > 1) {
                for (int64_t phase = 0; phase < t->phases; phase++)
                    for (int64_t x = 0; x < t->phase_length; x++)
                        lines[i * c->line + phase * t->phase_length + x] = out[i * c->line + x * t->phases + phase];
                memset(lines + i * c->line + length, 0, GEMM_TW * sizeof(FC_T));
            }
        }
    }
}

/* Where the tiles tile0..tile1 start in the lines of their chunk. */
static FC_UNUSED void FC_NAME(winograd_places)(const fc_tiling *t, const fc_chunk *c, int64_t tile0, int64_t tile1,
                                               int64_t *at) {
    for (int64_t tile = tile0; tile < tile1; tile++)
        *at++ = (tile / t->tile_columns - c->row0) * t->alpha[0] * c->line + t->column_at[tile % t->tile_columns] - c->base;
}

/* in[j] = at[lane][j] for j < n; reads up to GEMM_TW - 1 elements behind. */
FC_INLINE void FC_NAME(winograd_gather)(const int n, const FC_T *const *at, int64_t offset, FC_TV *in) {
#if GEMM_TW == 1
    for (int j = 0; j < n; j++)
        in[j] = at[0][offset + j];
#else
    if (n == 1) {
        FC_T lane[GEMM_TW];
        for (int l = 0; l < GEMM_TW; l++)
            lane[l] = at[l][offset];
        in[0] = *(const FC_TV *)lane;
        return;
    }
#pragma GCC unroll 4
    for (int j = 0; j < n; j += GEMM_TW) {
        FC_TV block[GEMM_TW];
#pragma GCC unroll 8
        for (int l = 0; l < GEMM_TW; l++)
            block[l] = *(const FC_TV *)(at[l] + offset + j);
        FC_NAME(transpose)(block);
#pragma GCC unroll 8
        for (int l = 0; l < GEMM_TW; l++)
            in[j + l] = block[l];
    }
#endif
}

/* Horizontal transform of GEMM_TW tiles, whose lines start at at[]: one vector per frequency, `stride` apart. */
FC_INLINE void FC_NAME(winograd_horizontal)(fc_table *table, const int n, const int alpha0, const int alpha1,
                                            const FC_T *const *at, int64_t line, FC_T *out, int64_t stride) {
    for (int i = 0; i < alpha0; i++, out += alpha1 * stride) {
        FC_TV in[8 + GEMM_TW], transformed[8];
        FC_NAME(winograd_gather)(n, at, i * line, in);
        FC_NAME(winograd_expand)(table, n, alpha1, in, 1, transformed, 1);
#pragma GCC unroll 8
        for (int j = 0; j < alpha1; j++)
            *(FC_TV *)(out + j * stride) = transformed[j];
    }
}

/* Transforms a chunk of tiles of a block of channels: v is [panel][frequency][channel][lane]. */
FC_INLINE void FC_NAME(winograd_tiles)(const fc_winograd_job *job, int64_t item, void *scratch, const int m0, const int m1) {
    const fc_tiling *t = &job->t;
    const int alpha0 = m0 > 1 ? m0 + 2 : 1, alpha1 = m1 > 1 ? m1 + 2 : 1;
    const int64_t chunks = (job->tile1 - job->tile0 + t->chunk - 1) / t->chunk;
    const int64_t blocks = (job->channels + job->block_channels - 1) / job->block_channels;
    const int64_t tile0 = job->tile0 + item % chunks * t->chunk, tile1 = fc_min(job->tile1, tile0 + t->chunk);
    const int64_t c0 = item / chunks % blocks * job->block_channels, c1 = fc_min(job->channels, c0 + job->block_channels);
    const int64_t group = item / chunks / blocks;
    const int64_t stride = fc_winograd_v_stride(job->channels, GEMM_NR), panel_stride = alpha0 * alpha1 * stride;
    const int64_t panels = fc_panels(job->tile1 - job->tile0, GEMM_NR);
    FC_T *v = (FC_T *)job->v + (group * panels + (tile0 - job->tile0) / GEMM_NR) * panel_stride;
    const FC_NAME(winograd_scratch) s = FC_NAME(winograd_split)(t, 1, scratch);
    const fc_chunk c = fc_chunk_of(t, tile0, tile1, GEMM_TW);
    const int64_t padded = fc_round_up(tile1 - tile0, GEMM_NR);
    FC_NAME(winograd_places)(t, &c, tile0, tile1, s.at);
    for (int64_t i = tile1 - tile0; i < padded; i++)
        s.at[i] = s.at[i - 1]; /* lanes behind the last tile do its work again */
    for (int64_t channel = c0; channel < c1; channel++) {
        FC_NAME(winograd_lines)(t, &job->src, fc_winograd_b(m0), alpha0, alpha0, group * job->channels + channel, &c, &s,
                                s.lines);
        for (int64_t i = 0; i < padded; i += GEMM_TW) {
            const FC_T *at[GEMM_TW];
            for (int l = 0; l < GEMM_TW; l++)
                at[l] = s.lines + s.at[i + l];
            FC_NAME(winograd_horizontal)(fc_winograd_b(m1), alpha1, alpha0, alpha1, at, c.line,
                                         v + i / GEMM_NR * panel_stride + channel * GEMM_NR + i % GEMM_NR, stride);
        }
    }
}

/* ------------------------------------------------------------------------------------------------ filters */

/* in[t] = row[lane][t] for t < n; reads nothing behind. */
FC_INLINE void FC_NAME(winograd_taps)(const int n, const FC_T *const *row, FC_TV *in) {
#if GEMM_TW > 1
    const int whole = n / GEMM_TW * GEMM_TW;
    for (int t = 0; t < whole; t += GEMM_TW) {
#pragma GCC unroll 8
        for (int l = 0; l < GEMM_TW; l++)
            in[t + l] = *(const FC_TV *)(row[l] + t);
        FC_NAME(transpose)(in + t);
    }
#else
    const int whole = 0;
#endif
    for (int t = whole; t < n; t++) {
        FC_T lane[GEMM_TW];
#pragma GCC unroll 8
        for (int l = 0; l < GEMM_TW; l++)
            lane[l] = row[l][t];
        in[t] = *(const FC_TV *)lane;
    }
}

/* Elements of the filters of a block of rows and its first `channels` channels, in the order in which the products read them:
 * [block of WINOGRAD_DEPTH channels][frequency][row panel][channel][GEMM_MR]. */
static FC_UNUSED int64_t FC_NAME(winograd_filters_elements)(const fc_winograd_job *job, int64_t rows, int64_t channels) {
    const int64_t panels = fc_panels(rows, GEMM_MR), rest = channels % WINOGRAD_DEPTH;
    return fc_frequencies(&job->t) * (channels / WINOGRAD_DEPTH * fc_winograd_u_stride(panels, WINOGRAD_DEPTH, GEMM_MR) +
                                      (rest ? fc_winograd_u_stride(panels, rest, GEMM_MR) : 0));
}

/* Transforms the filters of rows row0..row1 and one block of channels c0..c1 of a group.  u is that of the block of rows.
 * Rows that do not exist repeat the last one: what comes of them is not stored. */
FC_INLINE void FC_NAME(winograd_filters)(const fc_winograd_job *job, int64_t group, int64_t row0, int64_t row1, int64_t c0,
                                         int64_t c1, FC_T *u, const int m0, const int m1) {
    const int alpha0 = m0 > 1 ? m0 + 2 : 1, alpha1 = m1 > 1 ? m1 + 2 : 1;
    const int r0 = m0 > 1 ? 3 : 1, r1 = m1 > 1 ? 3 : 1, taps = r0 * r1;
    const int64_t stride = fc_winograd_u_stride(fc_panels(row1 - row0, GEMM_MR), c1 - c0, GEMM_MR);
    u += FC_NAME(winograd_filters_elements)(job, row1 - row0, c0);
    for (int64_t row = row0; row < row1; row += GEMM_MR, u += fc_winograd_u_panel(c1 - c0, GEMM_MR))
        for (int64_t c = c0; c < c1; c++) {
            const FC_T *w = (const FC_T *)job->w + group * job->w_group + c * job->w_channel;
            /* ascending lanes and channels: what a vector spills over is written after it */
            for (int lane = 0; lane < GEMM_MR; lane += GEMM_TW) {
                const FC_T *rows[GEMM_TW];
                FC_TV filter[9 + GEMM_TW], half[8][3];
                for (int l = 0; l < GEMM_TW; l++)
                    rows[l] = w + fc_min(row + lane + l, row1 - 1) * job->w_row;
                FC_NAME(winograd_taps)(taps, rows, filter);
                if (job->turned)
                    for (int t = 0; t < taps / 2; t++) {
                        const FC_TV other = filter[t];
                        filter[t] = filter[taps - 1 - t];
                        filter[taps - 1 - t] = other;
                    }
#pragma GCC unroll 3
                for (int x = 0; x < r1; x++)
                    FC_NAME(winograd_expand)(fc_winograd_g(m0), r0, alpha0, filter + x, r1, half[0] + x, 3);
                for (int i = 0; i < alpha0; i++) {
                    FC_TV transformed[8];
                    FC_NAME(winograd_expand)(fc_winograd_g(m1), r1, alpha1, half[i], 1, transformed, 1);
#pragma GCC unroll 8
                    for (int j = 0; j < alpha1; j++)
                        *(FC_TV *)(u + (i * alpha1 + j) * stride + (c - c0) * GEMM_MR + lane) = transformed[j];
                }
            }
        }
}

/* ------------------------------------------------------------------------------------------------ sums */

/* Where a tile goes: offset in a destination channel and how many of its rows and columns exist. */
typedef struct {
    int64_t at;
    int rows, columns;
} FC_NAME(winograd_place);

static FC_UNUSED void FC_NAME(winograd_destinations)(const fc_winograd_job *job, int64_t tile, int64_t count,
                                                     FC_NAME(winograd_place) * place) {
    const fc_tiling *t = &job->t;
    for (int64_t i = 0; i < count; i++, place++) {
        if (tile + i >= job->tile1) {
            *place = (FC_NAME(winograd_place)){0};
            continue;
        }
        const int64_t row = (tile + i) / t->tile_columns, y = t->row_start[row % t->tile_rows];
        const int64_t x = t->column_start[(tile + i) % t->tile_columns];
        place->at = row / t->tile_rows * job->dst_image + y * t->grid[1] + x;
        place->rows = (int)fc_min(t->m[0], (t->grid[0] - y + t->dilation[0] - 1) / t->dilation[0]);
        place->columns = (int)fc_min(t->m[1], (t->grid[1] - x + t->dilation[1] - 1) / t->dilation[1]);
    }
}

/* Copies rows of a tile; a number of columns that is known when compiling takes one or two moves instead of a loop. */
FC_INLINE void FC_NAME(winograd_rows)(const FC_T *tile, const int pitch, FC_T *to, int64_t step, int rows, int columns,
                                      const int m1) {
#pragma GCC unroll 6
    for (int n = 1; n <= m1; n++)
        if (columns == n)
            for (int y = 0; y < rows; y++)
                memcpy(to + y * step, tile + y * pitch, (size_t)n * sizeof(FC_T));
}

/* Stores GEMM_TW tiles of sums, out[row][column] a vector of tiles, into one destination channel.  `whole` says that all of
 * every tile exists and is stored as it is, rows together. */
FC_INLINE void FC_NAME(winograd_store)(const fc_winograd_job *job, FC_TV *out, const FC_NAME(winograd_place) * place,
                                       int whole, int64_t channel, const int m0, const int m1) {
    const fc_tiling *t = &job->t;
    const int pitch = m1 == 6 && GEMM_TW > 2 ? 8 : m1; /* a tile's row stays inside a vector */
    const int length = (m0 * pitch + GEMM_TW - 1) / GEMM_TW * GEMM_TW;
    FC_T tile[GEMM_TW][48 + GEMM_TW];
    FC_T *dst = (FC_T *)job->dst + channel * job->dst_channel;
#if GEMM_TW == 8
    if (m1 == 4 && whole) {
#pragma GCC unroll 6
        for (int y = 0; y < m0; y++) {
            const int64_t step = y * t->dilation[0] * t->grid[1];
            FC_NAME(transpose_halves)(out + y * m1);
#pragma GCC unroll 4
            for (int l = 0; l < 4; l++) {
                const FC_NAME(fc_half) *half = (const FC_NAME(fc_half) *)(out + y * m1 + l);
                *(FC_NAME(fc_half) *)(dst + place[l].at + step) = half[0];
                *(FC_NAME(fc_half) *)(dst + place[l + 4].at + step) = half[1];
            }
        }
        return;
    }
#endif
#pragma GCC unroll 6
    for (int k = 0; k < length; k += GEMM_TW) {
        FC_TV block[GEMM_TW];
#pragma GCC unroll 8
        for (int l = 0; l < GEMM_TW; l++) {
            const int y = (k + l) / pitch, x = (k + l) % pitch;
            block[l] = out[fc_min(y, m0 - 1) * m1 + fc_min(x, m1 - 1)];
        }
#if GEMM_TW > 1
        FC_NAME(transpose)(block);
#endif
#pragma GCC unroll 8
        for (int l = 0; l < GEMM_TW; l++)
            *(FC_TV *)(tile[l] + k) = block[l];
    }
    for (int l = 0; l < GEMM_TW; l++, place++) {
        FC_T *to = dst + place->at;
        if (t->phases == 1) {
            FC_NAME(winograd_rows)(tile[l], pitch, to, t->dilation[0] * t->grid[1], place->rows, place->columns, m1);
            continue;
        }
        for (int y = 0; y < place->rows; y++)
            for (int x = 0; x < place->columns; x++)
                to[y * t->dilation[0] * t->grid[1] + x * t->dilation[1]] = tile[l][y * pitch + x];
    }
}

/* The epilogue of a panel's tiles whose sums are stored in one destination channel, tiles side by side at a time. */
FC_INLINE void FC_NAME(winograd_residual)(const fc_winograd_job *job, const FC_NAME(winograd_place) * place, int64_t channel,
                                          const int m1) {
    const fc_tiling *t = &job->t;
    const int64_t pitch = t->dilation[0] * t->grid[1];
    for (int lane = 0, n = 1; lane < GEMM_NR && place[lane].rows; lane += n) {
        const int64_t at = channel * job->dst_channel + place[lane].at;
        const FC_T *residual = (const FC_T *)job->epilogue.residual + at;
        FC_T *dst = (FC_T *)job->dst + at;
        int64_t width = place[lane].columns;
        if (t->phases == 1) {
            for (n = 1; lane + n < GEMM_NR && width == n * m1 && place[lane + n].at == place[lane].at + width; n++)
                width += place[lane + n].columns;
            FC_NAME(finish)(&job->epilogue, residual, dst, pitch, place[lane].rows, width);
            continue;
        }
        for (int y = 0; y < place[lane].rows; y++)
            for (int64_t x = 0; x < width; x++) {
                const int64_t i = y * pitch + x * t->dilation[1];
                FC_NAME(finish)(&job->epilogue, residual + i, dst + i, 0, 1, 1);
            }
    }
}

/* Products of rows row0..row1 and channels c0..c1 over panels panel0..panel1: sums is [panel][frequency][row][lane]. */
FC_INLINE void FC_NAME(winograd_products)(const fc_winograd_job *job, int64_t group, int64_t rows, int64_t c0, int64_t c1,
                                          int64_t panel0, int64_t panel1, const FC_T *u, FC_T *sums,
                                          const int64_t frequencies) {
    const int64_t row_panels = fc_panels(rows, GEMM_MR), panels = fc_panels(job->tile1 - job->tile0, GEMM_NR);
    const int64_t v_stride = fc_winograd_v_stride(job->channels, GEMM_NR);
    const int64_t u_stride = fc_winograd_u_stride(row_panels, c1 - c0, GEMM_MR);
    const int64_t u_panel = fc_winograd_u_panel(c1 - c0, GEMM_MR);
    const int64_t s_stride = fc_winograd_v_stride(row_panels * GEMM_MR, GEMM_NR);
    const FC_T *v = (const FC_T *)job->v + (group * panels + panel0) * frequencies * v_stride + c0 * GEMM_NR;
    u += FC_NAME(winograd_filters_elements)(job, rows, c0);
    for (int64_t f = 0; f < frequencies; f++)
        for (int64_t p = 0; p < panel1 - panel0; p++) {
            const FC_T *tiles = v + (p * frequencies + f) * v_stride;
            const FC_T *next = p + 1 < panel1 - panel0 ? tiles + frequencies * v_stride : v + (f + 1) * v_stride;
            for (int64_t r = 0; r < row_panels; r++)
                FC_NAME(gemm_ahead)(c1 - c0, u + f * u_stride + r * u_panel, tiles, c0 > 0,
                                    sums + (p * frequencies + f) * s_stride + r * GEMM_MR * GEMM_NR, GEMM_NR,
                                    next + (c1 - c0) * r / row_panels * GEMM_NR,
                                    (GEMM_NR + row_panels - 1) / row_panels);
        }
}

/* Transforms the sums of rows row0..row1 and panels panel0..panel1 back and stores them.  Returns whether a result is not
 * finite. */
FC_INLINE int FC_NAME(winograd_finish)(const fc_winograd_job *job, int64_t group, int64_t row0, int64_t row1, int64_t panel0,
                                       int64_t panel1, const FC_T *sums, const int m0, const int m1) {
    const int alpha0 = m0 > 1 ? m0 + 2 : 1, alpha1 = m1 > 1 ? m1 + 2 : 1, frequencies = alpha0 * alpha1;
    const int64_t s_stride = fc_winograd_v_stride(fc_round_up(row1 - row0, GEMM_MR), GEMM_NR);
    const FC_T slope = (FC_T)job->epilogue.slope;
    const int activation = job->epilogue.residual ? FC_LINEAR : job->epilogue.activation;
    FC_TV check = {0};
    for (int64_t p = 0; p < panel1 - panel0; p++) {
        FC_NAME(winograd_place) place[GEMM_NR];
        int whole[GEMM_NR / GEMM_TW];
        FC_NAME(winograd_destinations)(job, job->tile0 + (panel0 + p) * GEMM_NR, GEMM_NR, place);
        for (int i = 0; i < GEMM_NR / GEMM_TW; i++) {
            whole[i] = job->t.phases == 1;
            for (int l = 0; l < GEMM_TW; l++)
                whole[i] &= place[i * GEMM_TW + l].rows == m0 && place[i * GEMM_TW + l].columns == m1;
        }
        for (int64_t row = row0; row < row1; row++) {
            const int64_t channel = group * job->rows + row;
            const FC_T *bias = job->epilogue.bias ? (const FC_T *)job->epilogue.bias + channel : NULL;
            for (int lane = 0; lane < GEMM_NR && place[lane].rows; lane += GEMM_TW) {
                const FC_T *from = sums + p * frequencies * s_stride + (row - row0) * GEMM_NR + lane;
                FC_TV half[6][8], out[36];
#pragma GCC unroll 8
                for (int j = 0; j < alpha1; j++) {
                    FC_TV in[8], column[8];
#pragma GCC unroll 8
                    for (int i = 0; i < alpha0; i++)
                        in[i] = *(const FC_TV *)(from + (i * alpha1 + j) * s_stride);
                    FC_NAME(winograd_collapse)(fc_winograd_a(m0), m0, alpha0, in, 1, column, 1);
#pragma GCC unroll 6
                    for (int i = 0; i < m0; i++)
                        half[i][j] = column[i];
                }
                FC_TV total = {0};
#pragma GCC unroll 6
                for (int i = 0; i < m0; i++) {
                    FC_NAME(winograd_collapse)(fc_winograd_a(m1), m1, alpha1, half[i], 1, out + i * m1, 1);
#pragma GCC unroll 6
                    for (int j = 0; j < m1; j++)
                        total += out[i * m1 + j];
                }
                check += total * 0;
                if (bias)
                    for (int i = 0; i < m0 * m1; i++)
                        out[i] += *bias;
                if (activation != FC_LINEAR)
                    for (int i = 0; i < m0 * m1 * GEMM_TW / FC_VL; i++)
                        ((FC_V *)out)[i] = FC_NAME(activate)(activation, slope, ((FC_V *)out)[i]);
                FC_NAME(winograd_store)(job, out, place + lane, whole[lane / GEMM_TW], channel, m0, m1);
            }
            if (job->epilogue.residual)
                FC_NAME(winograd_residual)(job, place, channel, m1);
        }
    }
    FC_T lanes[GEMM_TW], sum = 0;
    *(FC_TV *)lanes = check;
    for (int l = 0; l < GEMM_TW; l++)
        sum += lanes[l];
    return sum != sum;
}

/* Elements of the sums of `panels` panels. */
static FC_UNUSED int64_t FC_NAME(winograd_sums_size)(const fc_winograd_job *job, int64_t panels) {
    return panels * fc_frequencies(&job->t) *
           fc_winograd_v_stride(fc_round_up(fc_min(job->block_rows, job->rows), GEMM_MR), GEMM_NR);
}

static FC_UNUSED int64_t FC_NAME(winograd_filters_size)(const fc_winograd_job *job) {
    return FC_NAME(winograd_filters_elements)(job, fc_min(job->block_rows, job->rows), job->channels);
}

/* One product item: a block of rows of a group times a range of panels. */
FC_INLINE int FC_NAME(winograd_product)(const fc_winograd_job *job, int64_t item, void *scratch, const int m0,
                                        const int m1) {
    const int alpha0 = m0 > 1 ? m0 + 2 : 1, alpha1 = m1 > 1 ? m1 + 2 : 1;
    const int64_t blocks = (job->rows + job->block_rows - 1) / job->block_rows;
    const int64_t panels = fc_panels(job->tile1 - job->tile0, GEMM_NR);
    const int64_t parts = (panels + job->block_panels - 1) / job->block_panels;
    const int64_t block = item / parts % blocks, group = item / parts / blocks;
    const int64_t row0 = block * job->block_rows, row1 = fc_min(job->rows, row0 + job->block_rows);
    const int64_t last = fc_min(panels, (item % parts + 1) * job->block_panels);
    FC_T *own = (FC_T *)scratch, *sums = own;
    const FC_T *u = own;
    if (job->prepared)
        u = (const FC_T *)job->prepared + (group * blocks + block) * FC_NAME(winograd_filters_size)(job);
    else
        sums += fc_round_up(FC_NAME(winograd_filters_size)(job), 16);
    int bad = 0;
    const int64_t first = item % parts * job->block_panels;
    for (int64_t p = first; p < last; p += job->stage_panels) {
        const int64_t end = fc_min(last, p + job->stage_panels);
        for (int64_t c0 = 0; c0 < job->channels; c0 += WINOGRAD_DEPTH) {
            const int64_t c1 = fc_min(job->channels, c0 + WINOGRAD_DEPTH);
            if (!job->prepared && p == first)
                FC_NAME(winograd_filters)(job, group, row0, row1, c0, c1, own, m0, m1);
            FC_NAME(winograd_products)(job, group, row1 - row0, c0, c1, p, end, u, sums, alpha0 * alpha1);
        }
        bad |= FC_NAME(winograd_finish)(job, group, row0, row1, p, end, sums, m0, m1);
    }
    return bad;
}

/* ------------------------------------------------------------------------------------------------ weight gradient */

/* Transforms tiles of `lanes` channels from `channel` on (of which `valid` exist) over the tiles of a pass:
 * out is [frequency][tile][width], lanes side by side. */
FC_INLINE void FC_NAME(winograd_depth)(const fc_winograd_weight_job *job, const fc_tile_source *s, fc_table *table0,
                                       fc_table *table1, const int n0, const int n1, const int alpha0, const int alpha1,
                                       int64_t channel, int64_t valid, const int width, FC_T *out, void *memory) {
    const fc_tiling *t = &job->t;
    const int64_t stride = fc_winograd_v_stride(job->tile1 - job->tile0, width);
    const FC_NAME(winograd_scratch) scratch = FC_NAME(winograd_split)(t, GEMM_TW, memory);
    for (int64_t tile0 = job->tile0; tile0 < job->tile1; tile0 += t->chunk) {
        const int64_t tile1 = fc_min(job->tile1, tile0 + t->chunk);
        const fc_chunk c = fc_chunk_of(t, tile0, tile1, GEMM_TW);
        FC_NAME(winograd_places)(t, &c, tile0, tile1, scratch.at);
        /* last lanes first: what they spill into the next tile is its first lanes, still to come */
        for (int first = (width - 1) / GEMM_TW * GEMM_TW; first >= 0; first -= GEMM_TW) {
            const FC_T *lines[GEMM_TW];
            if (first >= valid)
                continue;
            for (int l = 0; l < GEMM_TW; l++) {
                const int lane = first + l;
                lines[l] = l ? lines[l - 1] : scratch.lines; /* lanes that do not exist repeat one that does */
                if (lane < valid && lane < width) {
                    FC_T *own = scratch.lines + l * scratch.channel;
                    FC_NAME(winograd_lines)(t, s, table0, n0, alpha0, channel + lane, &c, &scratch, own);
                    lines[l] = own;
                }
            }
            for (int64_t tile = tile0; tile < tile1; tile++) {
                const FC_T *at[GEMM_TW];
                for (int l = 0; l < GEMM_TW; l++)
                    at[l] = lines[l] + scratch.at[tile - tile0];
                FC_NAME(winograd_horizontal)(table1, n1, alpha0, alpha1, at, c.line,
                                             out + (tile - job->tile0) * width + first, stride);
            }
        }
    }
}

/* One item: a panel of channels of the input, or behind those a panel of rows of the gradient. */
FC_INLINE void FC_NAME(winograd_weight_tiles)(const fc_winograd_weight_job *job, int64_t item, void *scratch, const int m0,
                                              const int m1) {
    const int alpha0 = m0 > 1 ? m0 + 2 : 1, alpha1 = m1 > 1 ? m1 + 2 : 1, frequencies = alpha0 * alpha1;
    const int64_t depth = job->tile1 - job->tile0;
    const int64_t channel_panels = fc_panels(job->channels, GEMM_NR), row_panels = fc_panels(job->row1 - job->row0, GEMM_MR);
    if (item < job->groups * channel_panels) {
        const int64_t c = item % channel_panels * GEMM_NR;
        FC_NAME(winograd_depth)(job, &job->src, fc_winograd_b(m0), fc_winograd_b(m1), alpha0, alpha1, alpha0, alpha1,
                                item / channel_panels * job->channels + c, job->channels - c, GEMM_NR,
                                (FC_T *)job->v + item * frequencies * fc_winograd_v_stride(depth, GEMM_NR), scratch);
    } else {
        item -= job->groups * channel_panels;
        const int64_t row = job->row0 + item % row_panels * GEMM_MR;
        FC_NAME(winograd_depth)(job, &job->grad, fc_winograd_a(m0), fc_winograd_a(m1), m0, m1, alpha0, alpha1,
                                item / row_panels * job->rows + row, job->row1 - row, GEMM_MR,
                                (FC_T *)job->u + item * frequencies * fc_winograd_v_stride(depth, GEMM_MR), scratch);
    }
}

/* One item: the products of one frequency of a group, summed over the tiles of a pass. */
static FC_UNUSED void FC_NAME(winograd_weight_product)(const fc_winograd_weight_job *job, int64_t item) {
    const int64_t frequencies = fc_frequencies(&job->t), depth = job->tile1 - job->tile0;
    const int64_t group = item / frequencies, f = item % frequencies;
    const int64_t channel_panels = fc_panels(job->channels, GEMM_NR), row_panels = fc_panels(job->row1 - job->row0, GEMM_MR);
    const int64_t v_stride = fc_winograd_v_stride(depth, GEMM_NR), u_stride = fc_winograd_v_stride(depth, GEMM_MR);
    const FC_T *v = (const FC_T *)job->v + (group * channel_panels * frequencies + f) * v_stride;
    const FC_T *u = (const FC_T *)job->u + (group * row_panels * frequencies + f) * u_stride;
    FC_T *sums = (FC_T *)job->sums + item * row_panels * GEMM_MR * channel_panels * GEMM_NR;
    const int64_t parts = fc_max(1, (depth * (int64_t)sizeof(FC_T) + 512) / 1024);
    for (int64_t d = 0; d < parts; d++) {
        const int64_t d0 = d * depth / parts, d1 = (d + 1) * depth / parts;
        for (int64_t c = 0; c < channel_panels; c++)
            for (int64_t r = 0; r < row_panels; r++)
                FC_NAME(gemm)(d1 - d0, u + r * frequencies * u_stride + d0 * GEMM_MR,
                              v + c * frequencies * v_stride + d0 * GEMM_NR, NULL, d > 0 || job->tile0 > 0,
                              sums + (r * GEMM_MR * channel_panels + c) * GEMM_NR, channel_panels * GEMM_NR);
    }
}

/* One item: the filters of one row.  Returns whether a result is not finite. */
FC_INLINE int FC_NAME(winograd_weight_filters)(const fc_winograd_weight_job *job, int64_t item, const int m0, const int m1) {
    const int alpha0 = m0 > 1 ? m0 + 2 : 1, alpha1 = m1 > 1 ? m1 + 2 : 1;
    const int r0 = m0 > 1 ? 3 : 1, r1 = m1 > 1 ? 3 : 1;
    const int64_t rows = job->row1 - job->row0, group = item / rows, row = item % rows;
    const int64_t padded = fc_round_up(job->channels, GEMM_NR), plane = fc_round_up(rows, GEMM_MR) * padded;
    const FC_T *sums = (const FC_T *)job->sums + group * fc_frequencies(&job->t) * plane + row * padded;
    FC_T *dst = (FC_T *)job->dst + (group * job->rows + job->row0 + row) * job->channels * r0 * r1;
    FC_T check = 0;
    for (int64_t c = 0; c < job->channels; c += GEMM_TW) {
        FC_TV half[3][8], out[9];
        FC_T filter[9][GEMM_TW];
        for (int j = 0; j < alpha1; j++) {
            FC_TV in[8], column[3];
#pragma GCC unroll 8
            for (int i = 0; i < alpha0; i++)
                in[i] = *(const FC_TV *)(sums + (i * alpha1 + j) * plane + c);
            FC_NAME(winograd_collapse)(fc_winograd_g(m0), r0, alpha0, in, 1, column, 1);
#pragma GCC unroll 3
            for (int i = 0; i < r0; i++)
                half[i][j] = column[i];
        }
#pragma GCC unroll 3
        for (int i = 0; i < r0; i++) {
            FC_NAME(winograd_collapse)(fc_winograd_g(m1), r1, alpha1, half[i], 1, out + i * r1, 1);
#pragma GCC unroll 3
            for (int j = 0; j < r1; j++)
                *(FC_TV *)filter[i * r1 + j] = out[i * r1 + j];
        }
        for (int l = 0; l < GEMM_TW && c + l < job->channels; l++)
            for (int k = 0; k < r0 * r1; k++) {
                *dst++ = filter[k][l];
                check += filter[k][l] * 0;
            }
    }
    return check != check;
}

/* ------------------------------------------------------------------------------------------------ one build per tile */

static FC_UNUSED void FC_NAME(winograd_tiles_item)(const fc_winograd_job *job, int64_t item, void *scratch) {
#define CALL(a, b) FC_NAME(winograd_tiles)(job, item, scratch, a, b)
    WINOGRAD_TILE(&job->t, CALL);
#undef CALL
}

static FC_UNUSED int FC_NAME(winograd_product_item)(const fc_winograd_job *job, int64_t item, void *scratch) {
#define CALL(a, b) return FC_NAME(winograd_product)(job, item, scratch, a, b)
    WINOGRAD_TILE(&job->t, CALL);
#undef CALL
}

/* One item: the filters of a block of rows of a group, into the place where the product looks for them. */
static FC_UNUSED void FC_NAME(winograd_filters_item)(const fc_winograd_job *job, int64_t item, void *prepared) {
    const int64_t blocks = (job->rows + job->block_rows - 1) / job->block_rows, row0 = item % blocks * job->block_rows;
    const int64_t row1 = fc_min(job->rows, row0 + job->block_rows);
    FC_T *u = (FC_T *)prepared + item * FC_NAME(winograd_filters_size)(job);
    for (int64_t c0 = 0; c0 < job->channels; c0 += WINOGRAD_DEPTH) {
        const int64_t c1 = fc_min(job->channels, c0 + WINOGRAD_DEPTH);
#define CALL(a, b) FC_NAME(winograd_filters)(job, item / blocks, row0, row1, c0, c1, u, a, b)
        WINOGRAD_TILE(&job->t, CALL);
#undef CALL
    }
}

static FC_UNUSED void FC_NAME(winograd_weight_tiles_item)(const fc_winograd_weight_job *job, int64_t item, void *scratch) {
#define CALL(a, b) FC_NAME(winograd_weight_tiles)(job, item, scratch, a, b)
    WINOGRAD_TILE(&job->t, CALL);
#undef CALL
}

static FC_UNUSED int FC_NAME(winograd_weight_filters_item)(const fc_winograd_weight_job *job, int64_t item) {
#define CALL(a, b) return FC_NAME(winograd_weight_filters)(job, item, a, b)
    WINOGRAD_TILE(&job->t, CALL);
#undef CALL
}

#undef WINOGRAD_DEPTH
