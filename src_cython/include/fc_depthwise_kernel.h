/* Depthwise convolution that reads planes where they lie; see fc_depthwise.h.
 *
 * Branches that share loads are kept apart by loops: hoisted above a branch, the loads of a block would not fit into
 * registers. */

#undef FC_SEEN
#if FC_VL > 1
#define FC_SEEN(v, mask) ((FC_V)((FC_NAME(fc_lanes))(v) & (mask)))
#else
#define FC_SEEN(v, mask) ((mask) ? (v) : (FC_T)0)
#endif

/* What the rows of all planes have in common. */
typedef struct {
    int64_t vectors, last;         /* vectors of a row; the last one is laid back over the former, to end with the row */
    int64_t lo, hi;                /* vectors that see no padding */
    const FC_NAME(fc_lanes) *mask; /* [vectors][pitch] */
    int64_t pitch;                 /* masks of a vector: of each tap, and of the lanes that no former vector has */
    int64_t out_row;
} FC_NAME(depthwise_rows);

/* ---------------------------------------------------------------------------------------------- rows and masks */

/* With `once`, only lanes that no former vector has see anything. */
static FC_UNUSED FC_NAME(depthwise_rows) FC_NAME(depthwise_enter)(const fc_direct_job *d, const fc_depthwise_scratch *scratch,
                                                                  const int once) {
    const fc_conv *g = &d->job.g;
    const int64_t n = d->x.longest, columns = d->x.span + 1, pair = g->step[2] == 1 && d->x.phases == 1 && !once ? 2 : 1;
    FC_NAME(depthwise_rows) rows = {(n + FC_VL - 1) / FC_VL, fc_max(0, n - FC_VL), 0, 0, NULL, columns + 1,
                                    g->dst_step[1] / d->y.phases};
    FC_INT *mask = scratch->masks;
    rows.mask = scratch->masks;
    rows.lo = rows.hi = rows.vectors;
    for (int64_t j = 0; j < rows.vectors; j++) {
        int masked = 0;
        for (int64_t e = 0; e <= columns; e++)
            for (int64_t l = 0; l < FC_VL; l++) {
                const int64_t x = fc_min(j * FC_VL, rows.last) + l, at = x * g->step[2] + d->x.first + e;
                const int fresh = x >= j * FC_VL && x < n;
                const int seen = e == columns ? fresh : at >= 0 && at < g->size[2] && (fresh || !once);
                masked |= !seen && (once || e < columns);
                *mask++ = seen ? -1 : 0;
            }
        if (!masked && rows.lo == rows.vectors && j % pair == 0)
            rows.lo = j;
        if (!masked && rows.lo < rows.vectors)
            rows.hi = j + 1;
    }
    rows.hi -= (rows.hi - rows.lo) % pair;
    memset((void *)scratch->zeros, 0, (size_t)fc_depthwise_reach(d, FC_VL) * sizeof(FC_T));
    return rows;
}

/* Where the source rows of a plane begin that its result rows from y on read, `ny` of them. */
static FC_UNUSED void FC_NAME(depthwise_lines)(const fc_direct_job *d, int64_t plane, int64_t y, int64_t ny,
                                               const fc_depthwise_scratch *scratch) {
    const fc_conv *g = &d->job.g;
    const int64_t k = d->kernel[1], width = g->size[2], reach = fc_depthwise_reach(d, FC_VL);
    const int64_t top = y * g->step[1] + d->y.first, n = fc_depthwise_lines(d, ny), start = plane * g->src_channel + top * width;
    const int64_t lo = fc_min(n, fc_max(0, -top)), hi = fc_max(lo, fc_min(n, g->size[1] - top));
    const FC_T *src = (const FC_T *)d->job.src + start + lo * width, *from = src + d->x.first;
    const FC_T *zeros = (const FC_T *)scratch->zeros + k + d->x.first, **line = (const FC_T **)scratch->line;
    FC_T *copy = (FC_T *)scratch->ends + k;
    int64_t r = 0;
    for (; r < lo; r++)
        line[r] = zeros;
    for (; r < hi; r++, from += width)
        line[r] = from;
    for (; r < n; r++)
        line[r] = zeros;
    if (start + lo * width >= k && start + (hi - 1) * width + reach <= g->src_end + k)
        return;
    for (r = lo; r < hi; r++, src += width) { /* rows of the first or the last plane */
        if (start + r * width >= k && start + r * width + reach <= g->src_end + k)
            continue;
        memcpy(copy, src, (size_t)width * sizeof(FC_T));
        line[r] = copy + d->x.first;
        copy += reach;
    }
}

/* The elements that one vector of results sees of a row through each tap. */
FC_INLINE void FC_NAME(depthwise_load)(const FC_T *p, FC_V *s, const int k, const int step) {
#if FC_VL > 1
    if (step == 2) {
#pragma GCC unroll 3
        for (int e = 0; e < k; e += 2)
            FC_NAME(direct_split)(*(const FC_V *)(p + e), *(const FC_V *)(p + e + FC_VL), &s[e], &s[e + 1]);
        return;
    }
#endif
#pragma GCC unroll 5
    for (int e = 0; e < k; e++)
        s[e] = *(const FC_V *)(p + e);
}

/* ---------------------------------------------------------------------------------------------- sums */

/* `rows` by `vectors` vectors, the second `gap` behind the first, of stride 1.  Column by column: the weights of one stay in
 * registers. */
FC_INLINE void FC_NAME(depthwise_block_1)(const FC_T *const *line, int64_t x, int64_t gap, const FC_NAME(fc_lanes) *mask,
                                          int64_t pitch, const FC_T *w, FC_T init, FC_T *out, int64_t out_row, const int k,
                                          const int rows, const int vectors, const int masked) {
    FC_V sum[FC_DEPTHWISE_ROWS][2];
#pragma GCC unroll 4
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            sum[i][v] = (FC_V){0} + init;
#pragma GCC unroll 5
    for (int e = 0; e < k; e++)
#pragma GCC unroll 8
        for (int r = 0; r < rows - 1 + k; r++) {
            FC_V s[2];
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++) {
                s[v] = *(const FC_V *)(line[r] + x + e + v * gap);
                if (masked)
                    s[v] = FC_SEEN(s[v], mask[v * pitch + e]);
                FC_KEEP(s[v]);
            }
#pragma GCC unroll 4
            for (int i = 0; i < rows; i++)
                if (r >= i && r < i + k)
#pragma GCC unroll 2
                    for (int v = 0; v < vectors; v++)
                        sum[i][v] += s[v] * w[(r - i) * k + e];
        }
#pragma GCC unroll 4
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            *(FC_V *)(out + i * out_row + v * gap) = sum[i][v];
}

/* `rows` vectors of stride 2, row by row: each is taken apart once. */
FC_INLINE void FC_NAME(depthwise_block_2)(const FC_T *const *line, int64_t x, const FC_NAME(fc_lanes) *mask, const FC_T *w,
                                          FC_T init, FC_T *out, int64_t out_row, const int k, const int rows,
                                          const int masked) {
    FC_V sum[FC_DEPTHWISE_ROWS], s[6];
#pragma GCC unroll 4
    for (int i = 0; i < rows; i++)
        sum[i] = (FC_V){0} + init;
#pragma GCC unroll 11
    for (int r = 0; r < (rows - 1) * 2 + k; r++) {
        FC_NAME(depthwise_load)(line[r] + 2 * x, s, k, 2);
#pragma GCC unroll 5
        for (int e = 0; e < k; e++) {
            if (masked)
                s[e] = FC_SEEN(s[e], mask[e]);
            FC_KEEP(s[e]);
#pragma GCC unroll 4
            for (int i = 0; i < rows; i++)
                if (r >= 2 * i && r < 2 * i + k)
                    sum[i] += s[e] * w[(r - 2 * i) * k + e];
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < rows; i++)
        *(FC_V *)(out + i * out_row) = sum[i];
}

/* One block of whole rows. */
FC_INLINE void FC_NAME(depthwise_across)(const FC_NAME(depthwise_rows) *t, const FC_T *const *line, const FC_T *w, FC_T init,
                                         FC_T *out, int64_t out_row, const int k, const int step, const int rows) {
    const int64_t last = t->last, vectors = t->vectors, lo = t->lo, hi = t->hi;
    const FC_NAME(fc_lanes) *mask = t->mask;
    const int pair = step == 1 ? 2 : 1, pitch = k + 1;
    int64_t j = lo == 0 ? hi : 0;
    for (; j + pair <= vectors; j = j + pair == lo ? hi : j + pair) {
        const int64_t x = fc_min(j * FC_VL, last);
        if (step == 1)
            FC_NAME(depthwise_block_1)(line, x, fc_min(FC_VL, last - x), mask + j * pitch, pitch, w, init, out + x, out_row, k,
                                       rows, 2, 1);
        else
            FC_NAME(depthwise_block_2)(line, x, mask + j * pitch, w, init, out + x, out_row, k, rows, 1);
    }
    if (j < vectors)
        FC_NAME(depthwise_block_1)(line, last, 0, mask + j * pitch, pitch, w, init, out + last, out_row, k, rows, 1, 1);
    for (j = lo; j < hi; j += pair) {
        const int64_t x = fc_min(j * FC_VL, last);
        if (step == 1)
            FC_NAME(depthwise_block_1)(line, x, fc_min(FC_VL, last - x), mask, pitch, w, init, out + x, out_row, k, rows, 2, 0);
        else
            FC_NAME(depthwise_block_2)(line, x, mask, w, init, out + x, out_row, k, rows, 0);
    }
}

/* `ny` rows.  The last block is laid back over the former, so that single rows are summed only where there are fewer than a
 * block has.  Rows shorter than a vector are written beyond their end, and put right by the next one: not so at the end. */
FC_INLINE void FC_NAME(depthwise_down)(const FC_NAME(depthwise_rows) *t, const FC_T *const *line, int64_t ny, const FC_T *w,
                                       FC_T init, FC_T *out, const int k, const int step) {
    const int64_t out_row = t->out_row, spare = fc_max(0, FC_VL - out_row);
    FC_T ends[FC_DEPTHWISE_ROWS * FC_VL];
    int64_t y = 0;
    if (ny >= FC_DEPTHWISE_ROWS)
        for (int64_t end = 0; end < ny; y = end) {
            end = fc_min(y + FC_DEPTHWISE_ROWS, ny);
            y = end - FC_DEPTHWISE_ROWS;
            const int over = (ny - end) * out_row < spare;
            FC_NAME(depthwise_across)(t, line + y * step, w, init, over ? ends : out + y * out_row, over ? FC_VL : out_row, k,
                                      step, FC_DEPTHWISE_ROWS);
            for (int64_t i = 0; over && i < FC_DEPTHWISE_ROWS; i++)
                FC_NAME(direct_copy)(out + (y + i) * out_row, ends + i * FC_VL, out_row);
        }
    for (; y < ny; y++) {
        const int over = (ny - y - 1) * out_row < spare;
        FC_NAME(depthwise_across)(t, line + y * step, w, init, over ? ends : out + y * out_row, out_row, k, step, 1);
        if (over)
            FC_NAME(direct_copy)(out + y * out_row, ends, out_row);
    }
}

#define FC_DEPTHWISE_DOWN(k, step)                                                                                     \
    static FC_UNUSED void FC_NAME(depthwise_down_##k##_##step)(const FC_NAME(depthwise_rows) * t,                      \
                                                               const FC_T *const *line, int64_t ny, const FC_T *w,     \
                                                               FC_T init, FC_T *out) {                                 \
        FC_NAME(depthwise_down)(t, line, ny, w, init, out, k, step);                                                   \
    }
FC_DEPTHWISE_DOWN(3, 1)
FC_DEPTHWISE_DOWN(3, 2)
FC_DEPTHWISE_DOWN(5, 1)
FC_DEPTHWISE_DOWN(5, 2)
#undef FC_DEPTHWISE_DOWN

/* The sums of `height` by `columns` taps of an input gradient of stride 2: every other element of a row. */
FC_INLINE FC_V FC_NAME(depthwise_spread_sum)(const FC_T *const *line, int64_t x, const FC_NAME(fc_lanes) *mask, const FC_T *w,
                                             FC_T init, const int k, const int height, const int columns, const int masked) {
    FC_V sum = (FC_V){0} + init;
#pragma GCC unroll 3
    for (int b = 0; b < height; b++)
#pragma GCC unroll 3
        for (int e = 0; e < columns; e++) {
            FC_V s = *(const FC_V *)(line[b] + x + e);
            if (masked)
                s = FC_SEEN(s, mask[e]);
            sum += s * w[b * k + e];
        }
    return sum;
}

/* A vector of even elements, which see `even` columns of taps, and one of odd elements, which see the others of k. */
FC_INLINE void FC_NAME(depthwise_spread_block)(const FC_T *const *line, int64_t x, const int64_t *column,
                                               const FC_NAME(fc_lanes) *mask, const FC_T *w, FC_T init, FC_T *out,
                                               const int k, const int height, const int even, const int masked) {
    const FC_V first = FC_NAME(depthwise_spread_sum)(line, x + column[0], mask + column[0], w, init, k, height, even, masked);
    const FC_V second = FC_NAME(depthwise_spread_sum)(line, x + column[1], mask + column[1], w + even, init, k, height,
                                                      k - even, masked);
#if FC_VL > 1
    *(FC_V *)out = FC_PICK_LANES(first, second, FC_ZIP_LO);
    *(FC_V *)(out + FC_VL) = FC_PICK_LANES(first, second, FC_ZIP_HI);
#else
    out[0] = first;
    out[1] = second;
#endif
}

/* A row of such vectors. */
FC_INLINE void FC_NAME(depthwise_spread_row)(const FC_NAME(depthwise_rows) *t, const FC_T *const *line, const int64_t *column,
                                             const FC_T *w, FC_T init, FC_T *out, const int k, const int height,
                                             const int even) {
    for (int64_t j = t->lo == 0 ? t->hi : 0; j < t->vectors; j = j + 1 == t->lo ? t->hi : j + 1) {
        const int64_t x = fc_min(j * FC_VL, t->last);
        FC_NAME(depthwise_spread_block)(line, x, column, t->mask + j * t->pitch, w, init, out + 2 * x, k, height, even, 1);
    }
    for (int64_t j = t->lo; j < t->hi; j++) {
        const int64_t x = fc_min(j * FC_VL, t->last);
        FC_NAME(depthwise_spread_block)(line, x, column, t->mask, w, init, out + 2 * x, k, height, even, 0);
    }
}

/* `rows` rows, of which every other one sees `even` rows of taps, the first one too.  Rows are
 * written beyond their end, and put right by the next one: the last ones by way of `end`. */
FC_INLINE void FC_NAME(depthwise_spread)(const fc_direct_job *d, const FC_NAME(depthwise_rows) *t, const FC_T *const *line,
                                         int64_t rows, const FC_T *w, FC_T init, FC_T *out, FC_T *end, const int k,
                                         const int even) {
    const int64_t row[2] = {d->y.offset[0] - d->y.first, d->y.offset[even] - d->y.first};
    const int64_t column[2] = {d->x.offset[0] - d->x.first, d->x.offset[even] - d->x.first};
    const int64_t spare = 2 * (t->last + FC_VL) - t->out_row;
    for (int64_t y = 0; y < rows; y++, out += t->out_row) {
        const int over = (rows - y - 1) * t->out_row < spare;
        if (y % 2 == 0)
            FC_NAME(depthwise_spread_row)(t, line + y / 2 + row[0], column, w, init, over ? end : out, k, even, even);
        else
            FC_NAME(depthwise_spread_row)(t, line + y / 2 + row[1], column, w + even * k, init, over ? end : out, k, k - even,
                                          even);
        if (over)
            FC_NAME(direct_copy)(out, end, t->out_row);
    }
}

#define FC_DEPTHWISE_SPREAD(k, even)                                                                                   \
    static FC_UNUSED void FC_NAME(depthwise_spread_##k##_##even)(                                                      \
        const fc_direct_job *d, const FC_NAME(depthwise_rows) * t, const FC_T *const *line, int64_t rows,              \
        const FC_T *w, FC_T init, FC_T *out, FC_T *end) {                                                              \
        FC_NAME(depthwise_spread)(d, t, line, rows, w, init, out, end, k, even);                                       \
    }
FC_DEPTHWISE_SPREAD(3, 1)
FC_DEPTHWISE_SPREAD(3, 2)
FC_DEPTHWISE_SPREAD(5, 2)
FC_DEPTHWISE_SPREAD(5, 3)
#undef FC_DEPTHWISE_SPREAD

/* Tiles from `first` to `last`: bands of planes, each for all results of its group. */
static FC_UNUSED void FC_NAME(depthwise_item)(const fc_direct_job *d, int64_t first, int64_t last, void *memory) {
    const fc_conv_job *job = &d->job;
    const fc_conv *g = &job->g;
    const int64_t k = d->kernel[0], step = g->step[1];
    const fc_depthwise_scratch scratch = fc_depthwise_split(d, sizeof(FC_T), FC_VL, memory);
    const FC_NAME(depthwise_rows) rows = FC_NAME(depthwise_enter)(d, &scratch, 0);
    fc_direct_tile tile = fc_direct_find(d, first);
    int64_t index[25], forward = 1;
    for (int64_t t = 0; t < k * k; t++) {
        index[t] = d->y.tap[t / k] * k + d->x.tap[t % k];
        forward &= index[t] == t;
    }
    for (int64_t i = first; i < last; i++) {
        const int64_t ny = fc_min(d->y.tile, d->y.longest - tile.y);
        FC_NAME(depthwise_lines)(d, tile.image * job->groups + tile.group, tile.y, ny, &scratch);
        for (int64_t m = 0; m < job->m; m++) {
            const int64_t channel = tile.group * job->dst_group + m;
            const FC_T *filter = (const FC_T *)job->w + tile.group * job->w_group + m * job->w_m;
            const FC_T init = job->b ? ((const FC_T *)job->b)[channel] : (FC_T)0;
            FC_T *out = (FC_T *)job->dst + tile.image * g->dst_image + channel * g->dst_channel + tile.y * g->dst_step[1], w[25];
            for (int64_t t = 0; t < k * k && !forward; t++)
                w[t] = filter[index[t]];
            if (d->y.phases == 2) {
                const int64_t odd = fc_min(ny, d->y.grid[1] - tile.y), even = d->y.ntaps[0];
                (k == 3 ? even == 1 ? FC_NAME(depthwise_spread_3_1) : FC_NAME(depthwise_spread_3_2)
                        : even == 2 ? FC_NAME(depthwise_spread_5_2) : FC_NAME(depthwise_spread_5_3))(
                    d, &rows, (const FC_T *const *)scratch.line, ny + odd, w, init, out, scratch.end);
                continue;
            }
            (k == 3 ? step == 1 ? FC_NAME(depthwise_down_3_1) : FC_NAME(depthwise_down_3_2)
                    : step == 1 ? FC_NAME(depthwise_down_5_1) : FC_NAME(depthwise_down_5_2))(
                &rows, (const FC_T *const *)scratch.line, ny, forward ? filter : w, init, out);
            if (fc_epilogue_finishes(&job->epilogue)) {
                const FC_T *residual = (const FC_T *)job->epilogue.residual;
                FC_NAME(finish)(&job->epilogue, residual ? residual + (out - (const FC_T *)job->dst) : NULL, out, 0, 1,
                                ny * rows.out_row);
            }
        }
        fc_direct_forward(d, &tile);
    }
}

/* ---------------------------------------------------------------------------------------------- weight gradient */

/* sum[tap] += gradient * source over `rows` rows of one vector, for `columns` taps of each kernel row. */
FC_INLINE void FC_NAME(depthwise_dot)(const FC_T *const *line, int64_t at, const FC_NAME(fc_lanes) *mask,
                                      const FC_NAME(fc_lanes) fresh, const FC_T *grad, int64_t grad_row, FC_V *sum,
                                      const int k, const int columns, const int step, const int rows, const int masked) {
    FC_V y[FC_DEPTHWISE_ROWS], s[6];
#pragma GCC unroll 4
    for (int i = 0; i < rows; i++) {
        y[i] = *(const FC_V *)(grad + i * grad_row);
        if (masked)
            y[i] = FC_SEEN(y[i], fresh);
    }
#pragma GCC unroll 11
    for (int r = 0; r < (rows - 1) * step + k; r++) {
        FC_NAME(depthwise_load)(line[r] + at, s, columns, step);
#pragma GCC unroll 3
        for (int e = 0; e < columns; e++) {
            if (masked)
                s[e] = FC_SEEN(s[e], mask[e]);
            FC_KEEP(s[e]);
#pragma GCC unroll 4
            for (int i = 0; i < rows; i++)
                if (r >= i * step && r < i * step + k)
                    sum[(r - i * step) * columns + e] += s[e] * y[i];
        }
    }
}

/* The same for whole rows. */
FC_INLINE void FC_NAME(depthwise_dots_across)(const FC_NAME(depthwise_rows) *t, const FC_T *const *line, const FC_T *grad,
                                              FC_V *sum, int64_t e0, const int k, const int columns, const int step,
                                              const int rows) {
    const int64_t pitch = k + 1;
    for (int64_t j = t->lo == 0 ? t->hi : 0; j < t->vectors; j = j + 1 == t->lo ? t->hi : j + 1) {
        const int64_t x = fc_min(j * FC_VL, t->last);
        FC_NAME(depthwise_dot)(line, x * step + e0, t->mask + j * pitch + e0, t->mask[j * pitch + k], grad + x, t->out_row, sum,
                               k, columns, step, rows, 1);
    }
    for (int64_t j = t->lo; j < t->hi; j++)
        FC_NAME(depthwise_dot)(line, j * FC_VL * step + e0, t->mask, *t->mask, grad + j * FC_VL, t->out_row, sum, k, columns,
                               step, rows, 0);
}

/* Adds a plane to the sums of `columns` columns of taps from e0 on. */
FC_INLINE void FC_NAME(depthwise_dots)(const FC_NAME(depthwise_rows) *t, const FC_T *const *line, int64_t ny,
                                       const FC_T *grad, FC_V *sums, int64_t e0, const int k, const int columns,
                                       const int step) {
    FC_V sum[10];
#pragma GCC unroll 10
    for (int i = 0; i < k * columns; i++)
        sum[i] = sums[i / columns * k + e0 + i % columns];
    for (; ny >= FC_DEPTHWISE_ROWS; ny -= FC_DEPTHWISE_ROWS) {
        FC_NAME(depthwise_dots_across)(t, line, grad, sum, e0, k, columns, step, FC_DEPTHWISE_ROWS);
        line += FC_DEPTHWISE_ROWS * step;
        grad += FC_DEPTHWISE_ROWS * t->out_row;
    }
    for (; ny > 0; ny--, line += step, grad += t->out_row)
        FC_NAME(depthwise_dots_across)(t, line, grad, sum, e0, k, columns, step, 1);
#pragma GCC unroll 10
    for (int i = 0; i < k * columns; i++)
        sums[i / columns * k + e0 + i % columns] = sum[i];
}

#define FC_DEPTHWISE_DOTS(k, columns, step)                                                                            \
    static FC_UNUSED void FC_NAME(depthwise_dots_##k##_##columns##_##step)(                                            \
        const FC_NAME(depthwise_rows) * t, const FC_T *const *line, int64_t ny, const FC_T *grad, FC_V *sums,          \
        int64_t e0) {                                                                                                  \
        FC_NAME(depthwise_dots)(t, line, ny, grad, sums, e0, k, columns, step);                                        \
    }
FC_DEPTHWISE_DOTS(3, 3, 1)
FC_DEPTHWISE_DOTS(3, 3, 2)
FC_DEPTHWISE_DOTS(5, 2, 1)
FC_DEPTHWISE_DOTS(5, 2, 2)
FC_DEPTHWISE_DOTS(5, 1, 1)
FC_DEPTHWISE_DOTS(5, 1, 2)
#undef FC_DEPTHWISE_DOTS

/* The weight gradient of result channels `first` to `last`, plane by plane in the order in which they lie. */
static FC_UNUSED void FC_NAME(depthwise_weight_item)(const fc_direct_job *d, int64_t first, int64_t last, void *memory) {
    const fc_conv_job *job = &d->job;
    const fc_conv *g = &job->g;
    const int64_t k = d->kernel[0], step = g->step[1], ny = d->y.longest, plane = g->dst_channel;
    const fc_depthwise_scratch scratch = fc_depthwise_split(d, sizeof(FC_T), FC_VL, memory);
    const FC_NAME(depthwise_rows) rows = FC_NAME(depthwise_enter)(d, &scratch, 1);
    const int64_t spare = fc_max(0, FC_VL - rows.out_row), channels = job->groups * job->m;
    const FC_T *const *line = (const FC_T *const *)scratch.line;
    memset(scratch.sums, 0, (size_t)((last - first) * k * k) * sizeof(FC_V));
    for (int64_t image = 0; image < g->images; image++) {
        FC_V *sums = scratch.sums;
        for (int64_t channel = first; channel < last; channel++, sums += k * k) {
            const FC_T *grad = (const FC_T *)d->grad + (image * channels + channel) * plane;
            const int64_t group = channel / job->m;
            if (channel == first || channel % job->m == 0)
                FC_NAME(depthwise_lines)(d, image * job->groups + group, 0, ny, &scratch);
            if (((g->images - image) * channels - channel - 1) * plane < spare) { /* vectors reach beyond the gradient */
                memcpy(scratch.grad, grad, (size_t)plane * sizeof(FC_T));
                grad = scratch.grad;
            }
            if (k == 3) {
                (step == 1 ? FC_NAME(depthwise_dots_3_3_1) : FC_NAME(depthwise_dots_3_3_2))(&rows, line, ny, grad, sums, 0);
                continue;
            }
            for (int64_t e = 0; e < 4; e += 2)
                (step == 1 ? FC_NAME(depthwise_dots_5_2_1) : FC_NAME(depthwise_dots_5_2_2))(&rows, line, ny, grad, sums, e);
            (step == 1 ? FC_NAME(depthwise_dots_5_1_1) : FC_NAME(depthwise_dots_5_1_2))(&rows, line, ny, grad, sums, 4);
        }
    }
    for (int64_t i = 0; i < (last - first) * k * k; i++) {
        FC_T lane[FC_VL], sum = 0;
        memcpy(lane, (const FC_V *)scratch.sums + i, sizeof(lane));
        for (int l = 0; l < FC_VL; l++)
            sum += lane[l];
        ((FC_T *)job->dst)[first * k * k + i] = sum;
    }
}
