/* Adaptive pooling: output (i, j) covers rows y0[i] .. y1[i] and columns x0[j] .. x1[j].  Rows are combined first,
 * elementwise over the whole width, then the columns of each window. */

/* Sum of consecutive elements, in one order for any plane. */
FC_INLINE FC_T FC_NAME(fc_pool_sum)(const FC_T *restrict src, int64_t n) {
    P_VEC acc[4] = {P_SPLAT(0), P_SPLAT(0), P_SPLAT(0), P_SPLAT(0)};
    int64_t i = 0;
    for (; i + 4 * FC_VL <= n; i += 4 * FC_VL)
        for (int k = 0; k < 4; k++)
            acc[k] += P_LOAD(src + i + k * FC_VL);
    for (; i + FC_VL <= n; i += FC_VL)
        acc[0] += P_LOAD(src + i);
    const P_VEC all = (acc[0] + acc[1]) + (acc[2] + acc[3]);
    FC_T sum = 0;
    for (int l = 0; l < FC_VL; l++)
        sum += P_LANE(all, l);
    for (; i < n; i++)
        sum += src[i];
    return sum;
}

static FC_UNUSED void FC_NAME(adaptive_avg)(FC_POOL_PARAMETERS) {
    (void)in_index, (void)out_index;
    const fc_adaptive *g = (const fc_adaptive *)geometry;
    const FC_T *input = (const FC_T *)in;
    FC_T *output = (FC_T *)out;
    FC_T *restrict row = (FC_T *)scratch;
    const int64_t w = g->w;
    for (int64_t plane = unit0; plane < unit1; plane++) {
        for (int64_t i = 0; i < g->oh; i++) {
            const FC_T *restrict src = input + (plane * g->h + g->y0[i]) * w;
            const int64_t rows = g->y1[i] - g->y0[i];
            if (g->ow == 1) { /* as above all in global pooling */
                output[plane * g->oh + i] = FC_NAME(fc_pool_sum)(src, rows * w) / (FC_T)(rows * w);
                continue;
            }
            for (int64_t x = 0; x < w; x++)
                row[x] = src[x];
            for (int64_t k = 1; k < rows; k++)
                for (int64_t x = 0; x < w; x++)
                    row[x] += src[k * w + x];
            FC_T *dst = output + (plane * g->oh + i) * g->ow;
            for (int64_t j = 0; j < g->ow; j++) {
                FC_T sum = 0;
                for (int64_t x = g->x0[j]; x < g->x1[j]; x++)
                    sum += row[x];
                dst[j] = sum / (FC_T)(rows * (g->x1[j] - g->x0[j]));
            }
        }
    }
}

static FC_UNUSED void FC_NAME(adaptive_avg_backward)(FC_POOL_PARAMETERS) {
    (void)in_index, (void)out_index;
    const fc_adaptive *g = (const fc_adaptive *)geometry;
    const FC_T *grad_output = (const FC_T *)in;
    FC_T *grad_input = (FC_T *)out;
    FC_T *restrict row = (FC_T *)scratch;
    const int64_t w = g->w;
    for (int64_t plane = unit0; plane < unit1; plane++) {
        int64_t written = 0; /* the windows' rows leave no gap, so the first to reach a row may assign it */
        for (int64_t i = 0; i < g->oh; i++) {
            const FC_T *grad = grad_output + (plane * g->oh + i) * g->ow;
            const int64_t rows = g->y1[i] - g->y0[i];
            for (int64_t x = 0; x < w; x++)
                row[x] = 0;
            for (int64_t j = 0; j < g->ow; j++) {
                const FC_T share = grad[j] / (FC_T)(rows * (g->x1[j] - g->x0[j]));
                for (int64_t x = g->x0[j]; x < g->x1[j]; x++)
                    row[x] += share;
            }
            for (int64_t y = g->y0[i]; y < g->y1[i]; y++) {
                FC_T *restrict dst = grad_input + (plane * g->h + y) * w;
                if (y >= written)
                    for (int64_t x = 0; x < w; x++)
                        dst[x] = row[x];
                else
                    for (int64_t x = 0; x < w; x++)
                        dst[x] += row[x];
            }
            written = g->y1[i];
        }
    }
}

static FC_UNUSED void FC_NAME(adaptive_max)(FC_POOL_PARAMETERS) {
    (void)in_index;
    const fc_adaptive *g = (const fc_adaptive *)geometry;
    const FC_T *input = (const FC_T *)in;
    FC_T *output = (FC_T *)out;
    int64_t *indices = (int64_t *)out_index;
    const int64_t w = g->w;
    FC_T *restrict best = (FC_T *)scratch;
    FC_INT *restrict winner = (FC_INT *)(best + w);
    for (int64_t plane = unit0; plane < unit1; plane++) {
        for (int64_t i = 0; i < g->oh; i++) {
            const FC_T *restrict src = input + plane * g->h * w;
            for (int64_t x = 0; x < w; x++) {
                best[x] = src[g->y0[i] * w + x];
                winner[x] = (FC_INT)g->y0[i];
            }
            for (int64_t y = g->y0[i] + 1; y < g->y1[i]; y++) {
                const FC_T *restrict line = src + y * w;
                for (int64_t x = 0; x < w; x++) {
                    const FC_T v = line[x], m = best[x];
                    const FC_INT takes = (v > m) | (v != v);
                    best[x] = takes ? v : m;
                    winner[x] = takes ? (FC_INT)y : winner[x];
                }
            }
            const int64_t at = (plane * g->oh + i) * g->ow;
            for (int64_t j = 0; j < g->ow; j++) {
                /* Row-major order decides between columns: the first of equal maxima, the last NaN. */
                FC_T m = best[g->x0[j]];
                int64_t index = winner[g->x0[j]] * w + g->x0[j];
                for (int64_t x = g->x0[j] + 1; x < g->x1[j]; x++) {
                    const FC_T v = best[x];
                    const int64_t candidate = winner[x] * w + x;
                    if (v > m || (v == m && candidate < index) || (v != v && (m == m || candidate > index))) {
                        m = v;
                        index = candidate;
                    }
                }
                output[at + j] = m;
                indices[at + j] = index;
            }
        }
    }
}
