/* Operations on blocked arrays; geometry in fc_blocked.h.
 *
 * A product tile holds GEMM_MR positions x GEMM_NR filters: it reads the positions' channels where they lie, one tap after
 * the other, and packed weights in order. */
#undef BLOCK_LANES
#undef BLOCK_VECTORS
#define BLOCK_LANES (FC_BLOCK_BYTES / FC_TBYTES)
/* Vectors of one block in a tile of a kernel that works lane by lane. */
#define BLOCK_VECTORS (BLOCK_LANES / FC_VL < GEMM_NRV ? BLOCK_LANES / FC_VL : GEMM_NRV)

static FC_UNUSED const int FC_NAME(block_vectors) = BLOCK_VECTORS;

#if FC_VL == 1
FC_INLINE FC_V FC_NAME(blocked_maximum)(FC_V best, FC_V x) { return x > best || x != x ? x : best; }
#else
FC_INLINE FC_V FC_NAME(blocked_maximum)(FC_V best, FC_V x) {
    return FC_SELECT(FC_IV, FC_V, (x > best) | (x != x), x, best);
}
#endif

/* acc += channels of the positions at p (stepping by step[i] from block to block) x weights [channel][GEMM_NR]. */
FC_INLINE const FC_T *FC_NAME(blocked_accumulate)(int64_t channels, const FC_T **p, const int64_t *step,
                                                  const FC_T *restrict w, FC_V acc[GEMM_MR][GEMM_NRV]) {
    for (; channels > 0; channels -= BLOCK_LANES) {
        const int64_t n = fc_min(channels, BLOCK_LANES);
        for (int64_t c = 0; c < n; c++, w += GEMM_NR) {
            FC_V wv[GEMM_NRV];
#pragma GCC unroll 4
            for (int j = 0; j < GEMM_NRV; j++)
                wv[j] = *(const FC_V *)(w + j * FC_VL);
#pragma GCC unroll 16
            for (int i = 0; i < GEMM_MR; i++)
#pragma GCC unroll 4
                for (int j = 0; j < GEMM_NRV; j++)
                    acc[i][j] += wv[j] * p[i][c];
        }
#pragma GCC unroll 16
        for (int i = 0; i < GEMM_MR; i++)
            p[i] += step[i];
    }
    return w;
}

/* Where vector j of panel `panel` of a group lies behind its position, or -1 behind the last block. */
FC_INLINE int64_t FC_NAME(blocked_vector)(int64_t group, int64_t rows, int64_t panel, int j, int64_t plane) {
    const int64_t lane = panel * GEMM_NR + j * FC_VL;
    if (lane >= fc_round_up(rows, BLOCK_LANES))
        return -1;
    return (group * rows + lane) / BLOCK_LANES * plane * BLOCK_LANES + lane % BLOCK_LANES;
}

/* Residual and activation of the first m of a tile's sums, `vectors` (a constant) of each; vector j lies at vector[j] behind
 * target[i]. */
FC_INLINE void FC_NAME(blocked_finish)(const fc_epilogue *e, FC_V acc[GEMM_MR][GEMM_NRV], const int vectors,
                                       const int64_t *target, const int64_t *vector, int64_t m) {
    const FC_T *residual = e->residual;
    if (residual)
#pragma GCC unroll 16
        for (int i = 0; i < GEMM_MR; i++)
#pragma GCC unroll 4
            for (int j = 0; j < vectors; j++)
                if (i < m && vector[j] >= 0)
                    acc[i][j] += *(const FC_V *)(residual + target[i] + vector[j]);
    FC_NAME(activate_tile)(e, GEMM_MR, vectors, acc);
}

/* What a product tile of one panel of a group is stored by. */
typedef struct {
    int64_t vector[GEMM_NRV]; /* see blocked_vector */
    FC_V bias[GEMM_NRV];
} FC_NAME(blocked_panel);

FC_INLINE FC_NAME(blocked_panel) FC_NAME(blocked_panel_of)(const fc_blocked_job *job, int64_t group, int64_t panel) {
    FC_NAME(blocked_panel) p;
    const FC_T *bias = job->epilogue.bias;
    FC_T lanes[GEMM_NR] = {0};
    for (int64_t l = 0; bias && l < fc_min(GEMM_NR, job->rows - panel * GEMM_NR); l++)
        lanes[l] = bias[group * job->rows + panel * GEMM_NR + l];
#pragma GCC unroll 4
    for (int j = 0; j < GEMM_NRV; j++) {
        p.vector[j] = FC_NAME(blocked_vector)(group, job->rows, panel, j, job->w.grid[0] * job->w.grid[1]);
        p.bias[j] = *(const FC_V *)(lanes + j * FC_VL);
    }
    return p;
}

/* Stores the sums of m positions: onto what is there unless they are the `first`, through the epilogue if the `last`. */
FC_INLINE void FC_NAME(blocked_store)(const fc_blocked_job *job, const FC_NAME(blocked_panel) * panel,
                                      FC_V acc[GEMM_MR][GEMM_NRV], const int64_t *target, int64_t m, int first, int last) {
    FC_T *dst = job->dst;
#pragma GCC unroll 16
    for (int i = 0; i < GEMM_MR; i++)
#pragma GCC unroll 4
        for (int j = 0; j < GEMM_NRV; j++) {
            if (first)
                acc[i][j] += panel->bias[j];
            else if (i < m && panel->vector[j] >= 0)
                acc[i][j] += *(const FC_V *)(dst + target[i] + panel->vector[j]);
        }
    if (last)
        FC_NAME(blocked_finish)(&job->epilogue, acc, GEMM_NRV, target, panel->vector, m);
#pragma GCC unroll 16
    for (int i = 0; i < GEMM_MR; i++)
#pragma GCC unroll 4
        for (int j = 0; j < GEMM_NRV; j++)
            if (i < m && panel->vector[j] >= 0)
                *(FC_V *)(dst + target[i] + panel->vector[j]) = acc[i][j];
}

/* Which part of a job an item is. */
typedef struct {
    int64_t group, panel0, panel1;
    int64_t first, count; /* positions */
} FC_NAME(blocked_part);

FC_INLINE FC_NAME(blocked_part) FC_NAME(blocked_part_of)(const fc_blocked_job *job, int64_t panels, int64_t item) {
    FC_NAME(blocked_part) p;
    const int64_t parts = fc_panels(panels, job->panels);
    p.panel0 = item % parts * job->panels;
    p.panel1 = fc_min(panels, p.panel0 + job->panels);
    p.group = item / parts % job->groups;
    p.first = item / parts / job->groups * job->tiles * GEMM_MR;
    p.count = fc_min(fc_positions(&job->w) - p.first, job->tiles * GEMM_MR);
    return p;
}

static FC_UNUSED void FC_NAME(blocked_conv_item)(const fc_blocked_job *job, int64_t item, void *scratch) {
    const fc_window *w = &job->w;
    const int64_t taps = w->taps[0] * w->taps[1], panels = fc_blocked_panels(job->rows, BLOCK_LANES, GEMM_NR);
    const int64_t source_block = w->size[0] * w->size[1] * BLOCK_LANES, words = fc_window_words(w, GEMM_MR);
    const FC_NAME(blocked_part) part = FC_NAME(blocked_part_of)(job, panels, item);
    const FC_T *src = (const FC_T *)job->src + part.group * job->channels / BLOCK_LANES * source_block;
    const FC_T zeros[BLOCK_LANES] = {0};
    int64_t *table = scratch;
    for (int64_t t = 0; t * GEMM_MR < part.count; t++)
        fc_window_tile(w, part.first + t * GEMM_MR, GEMM_MR, BLOCK_LANES, table + t * words);

    for (int64_t c0 = 0; c0 < job->channels; c0 += job->depth) {
        const int64_t channels = fc_min(job->channels - c0, job->depth);
        const FC_T *from = src + c0 / BLOCK_LANES * source_block;
        for (int64_t panel = part.panel0; panel < part.panel1; panel++) {
            const FC_NAME(blocked_panel) at = FC_NAME(blocked_panel_of)(job, part.group, panel);
            const FC_T *weights = (const FC_T *)job->weights +
                                  ((part.group * panels + panel) * job->channels + c0) * taps * GEMM_NR;
            for (int64_t t = 0; t * GEMM_MR < part.count; t++) {
                const int64_t *offset = table + t * words;
                const FC_T *b = weights;
                FC_V acc[GEMM_MR][GEMM_NRV];
#pragma GCC unroll 16
                for (int i = 0; i < GEMM_MR; i++)
#pragma GCC unroll 4
                    for (int j = 0; j < GEMM_NRV; j++)
                        acc[i][j] = (FC_V){0};
                for (int64_t tap = 0; tap < taps; tap++, offset += GEMM_MR) {
                    const FC_T *p[GEMM_MR];
                    int64_t step[GEMM_MR], outside = 0;
#pragma GCC unroll 16
                    for (int i = 0; i < GEMM_MR; i++) {
                        p[i] = offset[i] < 0 ? zeros : from + offset[i];
                        step[i] = offset[i] < 0 ? 0 : source_block;
                        outside += offset[i] < 0;
                    }
                    if (outside == GEMM_MR)
                        b += channels * GEMM_NR;
                    else
                        b = FC_NAME(blocked_accumulate)(channels, p, step, b, acc);
                }
                FC_NAME(blocked_store)(job, &at, acc, offset, fc_min(GEMM_MR, part.count - t * GEMM_MR), c0 == 0,
                                       c0 + channels == job->channels);
            }
        }
    }
}

/* One item: a row of padded images of a stem. */
static FC_UNUSED void FC_NAME(blocked_stem_row)(const fc_blocked_stem_job *job, int64_t item) {
    const fc_window *w = &job->conv.w;
    const int64_t y = item % job->padded[0] - w->pad[0], x0 = fc_max(0, -w->pad[1]), left = fc_max(0, w->pad[1]);
    const int64_t n = fc_max(0, fc_min(w->size[1] - x0, job->padded[1] - left));
    FC_T *to = (FC_T *)job->copy + item * job->padded[1];
    memset(to, 0, (size_t)job->padded[1] * sizeof(FC_T));
    if (y >= 0 && y < w->size[0])
        memcpy(to + left, (const FC_T *)job->images + (item / job->padded[0] * w->size[0] + y) * w->size[1] + x0,
               (size_t)n * sizeof(FC_T));
}

static FC_UNUSED void FC_NAME(blocked_stem_item)(const fc_blocked_stem_job *stem, int64_t item) {
    const fc_blocked_job *job = &stem->conv;
    const fc_window *w = &job->w;
    const int64_t depth = job->channels * w->taps[0] * w->taps[1], panels = fc_blocked_panels(job->rows, BLOCK_LANES, GEMM_NR);
    const int64_t plane = w->grid[0] * w->grid[1], image_size = job->channels * stem->padded[0] * stem->padded[1];
    const FC_NAME(blocked_part) part = FC_NAME(blocked_part_of)(job, panels, item);
    const int64_t row_step = w->step[0] * stem->padded[1];
    for (int64_t panel = part.panel0; panel < part.panel1; panel++) {
        const FC_NAME(blocked_panel) at = FC_NAME(blocked_panel_of)(job, 0, panel);
        int64_t image = part.first / plane, in_plane = part.first % plane;
        int64_t y = in_plane / w->grid[1], x = in_plane % w->grid[1]; /* of the next position */
        for (int64_t t = 0; t < part.count; t += GEMM_MR) {
            const FC_T *p[GEMM_MR];
            int64_t target[GEMM_MR];
            FC_T sums[GEMM_MR * GEMM_NR];
            FC_V acc[GEMM_MR][GEMM_NRV];
            for (int i = 0; i < GEMM_MR; i++) {
                p[i] = (const FC_T *)job->src + image * image_size + y * row_step + x * w->step[1];
                target[i] = (image * w->blocks_out * plane + in_plane) * BLOCK_LANES;
                if (t + i + 1 >= part.count)
                    continue; /* those behind the last repeat it */
                in_plane++;
                if (++x == w->grid[1]) {
                    x = 0;
                    if (++y == w->grid[0]) {
                        y = in_plane = 0;
                        image++;
                    }
                }
            }
            FC_NAME(gemm_gather)(depth, p, stem->offset, (const FC_T *)job->weights + panel * depth * GEMM_NR, 0, sums,
                                 GEMM_MR);
#pragma GCC unroll 16
            for (int i = 0; i < GEMM_MR; i++)
#pragma GCC unroll 4
                for (int j = 0; j < GEMM_NRV; j++)
                    acc[i][j] = *(const FC_V *)(sums + i * GEMM_NR + j * FC_VL);
            FC_NAME(blocked_store)(job, &at, acc, target, fc_min(GEMM_MR, part.count - t), 1, 1);
        }
    }
}

/* Panels of weights (groups * rows, channels, *taps) for one panel of one group. */
static FC_UNUSED void FC_NAME(blocked_weights_item)(const fc_blocked_job *job, const FC_T *restrict w, int64_t item,
                                                    FC_T *restrict out) {
    const int64_t taps = job->w.taps[0] * job->w.taps[1], panels = fc_blocked_panels(job->rows, BLOCK_LANES, GEMM_NR);
    const int64_t group = item / panels, row0 = item % panels * GEMM_NR;
    out += item * job->channels * taps * GEMM_NR;
    for (int64_t c0 = 0; c0 < job->channels; c0 += job->depth)
        for (int64_t tap = 0; tap < taps; tap++)
            for (int64_t c = c0; c < fc_min(c0 + job->depth, job->channels); c++)
                for (int64_t l = 0; l < GEMM_NR; l++) {
                    const int64_t row = row0 + l;
                    *out++ = row < job->rows ? w[((group * job->rows + row) * job->channels + c) * taps + tap] : 0;
                }
}

/* One tile of one block of a depthwise convolution; `whole` if no position sees padding. */
FC_INLINE void FC_NAME(blocked_depthwise)(const fc_blocked_job *job, int64_t block, const int64_t *offset, int64_t m,
                                          const int whole) {
    const fc_window *w = &job->w;
    const int64_t taps = w->taps[0] * w->taps[1], first = block * BLOCK_LANES, *target = offset + taps * GEMM_MR;
    const int64_t behind = block * w->grid[0] * w->grid[1] * BLOCK_LANES;
    const FC_T *src = (const FC_T *)job->src + block * w->size[0] * w->size[1] * BLOCK_LANES;
    const FC_T *weights = (const FC_T *)job->weights + first * taps, zeros[BLOCK_LANES] = {0};
    FC_T bias[BLOCK_LANES] = {0};
    for (int64_t l = 0; job->epilogue.bias && l < fc_min(BLOCK_LANES, job->rows - first); l++)
        bias[l] = ((const FC_T *)job->epilogue.bias)[first + l];
    for (int lane = 0; lane < BLOCK_LANES; lane += BLOCK_VECTORS * FC_VL) {
        FC_V acc[GEMM_MR][GEMM_NRV];
        int64_t vector[BLOCK_VECTORS];
#pragma GCC unroll 4
        for (int j = 0; j < BLOCK_VECTORS; j++) {
            vector[j] = behind + lane + j * FC_VL;
#pragma GCC unroll 16
            for (int i = 0; i < GEMM_MR; i++)
                acc[i][j] = *(const FC_V *)(bias + lane + j * FC_VL);
        }
        for (int64_t tap = 0; tap < taps; tap++) {
            FC_V wv[BLOCK_VECTORS];
#pragma GCC unroll 4
            for (int j = 0; j < BLOCK_VECTORS; j++)
                wv[j] = *(const FC_V *)(weights + tap * BLOCK_LANES + lane + j * FC_VL);
#pragma GCC unroll 16
            for (int i = 0; i < GEMM_MR; i++) {
                const int64_t at = offset[tap * GEMM_MR + i];
                const FC_T *p = whole || at >= 0 ? src + at : zeros;
#pragma GCC unroll 4
                for (int j = 0; j < BLOCK_VECTORS; j++)
                    acc[i][j] += wv[j] * *(const FC_V *)(p + lane + j * FC_VL);
            }
        }
        FC_NAME(blocked_finish)(&job->epilogue, acc, BLOCK_VECTORS, target, vector, m);
#pragma GCC unroll 16
        for (int i = 0; i < GEMM_MR; i++)
#pragma GCC unroll 4
            for (int j = 0; j < BLOCK_VECTORS; j++)
                if (i < m)
                    *(FC_V *)((FC_T *)job->dst + target[i] + vector[j]) = acc[i][j];
    }
}

/* Depthwise: weights are [block][tap][lane]; items are (positions, blocks). */
static FC_UNUSED void FC_NAME(blocked_depthwise_item)(const fc_blocked_job *job, int64_t item, void *scratch) {
    const fc_window *w = &job->w;
    const int64_t taps = w->taps[0] * w->taps[1], words = fc_window_words(w, GEMM_MR);
    const FC_NAME(blocked_part) part = FC_NAME(blocked_part_of)(job, w->blocks_in, item);
    int64_t *table = scratch;
    for (int64_t t = 0; t * GEMM_MR < part.count; t++)
        fc_window_tile(w, part.first + t * GEMM_MR, GEMM_MR, BLOCK_LANES, table + t * words);
    for (int64_t block = part.panel0; block < part.panel1; block++)
        for (int64_t t = 0; t * GEMM_MR < part.count; t++) {
            const int64_t *offset = table + t * words, *seen = offset + (taps + 1) * GEMM_MR;
            const int64_t m = fc_min(GEMM_MR, part.count - t * GEMM_MR);
            int whole = 1;
            for (int i = 0; i < GEMM_MR; i++)
                whole &= seen[i] == taps;
            if (whole)
                FC_NAME(blocked_depthwise)(job, block, offset, m, 1);
            else
                FC_NAME(blocked_depthwise)(job, block, offset, m, 0);
        }
}

/* Maximum (NaN wins) or mean of windows; items are (positions, blocks). */
FC_INLINE void FC_NAME(blocked_pool)(const fc_blocked_job *job, int64_t item, int64_t *table, const int kind) {
    const fc_window *w = &job->w;
    const int64_t taps = w->taps[0] * w->taps[1], words = fc_window_words(w, GEMM_MR);
    const FC_NAME(blocked_part) part = FC_NAME(blocked_part_of)(job, w->blocks_in, item);
    const FC_T start = kind == FC_POOL_MAX ? -(FC_T)INFINITY : 0;
    for (int64_t t = 0; t * GEMM_MR < part.count; t++)
        fc_window_tile(w, part.first + t * GEMM_MR, GEMM_MR, BLOCK_LANES, table + t * words);
    for (int64_t block = part.panel0; block < part.panel1; block++)
        for (int64_t i = 0; i < part.count; i++) {
            const int64_t *offset = table + i / GEMM_MR * words + i % GEMM_MR, *target = offset + taps * GEMM_MR;
            const FC_T share = kind == FC_POOL_MAX ? 1 : (FC_T)1 / (FC_T)(kind == FC_POOL_MEAN ? taps : target[GEMM_MR]);
            const FC_T *src = (const FC_T *)job->src + block * w->size[0] * w->size[1] * BLOCK_LANES;
            FC_T *dst = (FC_T *)job->dst + block * w->grid[0] * w->grid[1] * BLOCK_LANES + *target;
            FC_V acc[BLOCK_LANES / FC_VL];
#pragma GCC unroll 16
            for (int j = 0; j < BLOCK_LANES / FC_VL; j++)
                acc[j] = (FC_V){0} + start;
            for (int64_t tap = 0; tap < taps; tap++) {
                const int64_t at = offset[tap * GEMM_MR];
                if (at < 0)
                    continue;
#pragma GCC unroll 16
                for (int j = 0; j < BLOCK_LANES / FC_VL; j++) {
                    const FC_V x = *(const FC_V *)(src + at + j * FC_VL);
                    if (kind == FC_POOL_MAX)
                        acc[j] = FC_NAME(blocked_maximum)(acc[j], x);
                    else
                        acc[j] += x;
                }
            }
#pragma GCC unroll 16
            for (int j = 0; j < BLOCK_LANES / FC_VL; j++) {
                if (kind != FC_POOL_MAX)
                    acc[j] *= share;
                *(FC_V *)(dst + j * FC_VL) = acc[j];
            }
        }
}

static FC_UNUSED void FC_NAME(blocked_pool_item)(const fc_blocked_job *job, int kind, int64_t item, void *scratch) {
    if (kind == FC_POOL_MAX)
        FC_NAME(blocked_pool)(job, item, scratch, FC_POOL_MAX);
    else if (kind == FC_POOL_MEAN)
        FC_NAME(blocked_pool)(job, item, scratch, FC_POOL_MEAN);
    else
        FC_NAME(blocked_pool)(job, item, scratch, FC_POOL_MEAN_OF_SEEN);
}
