/* Adaptive pooling: output (i, j) covers rows y0[i] .. y1[i] and columns x0[j] .. x1[j].  Rows are combined first,
 * elementwise over the whole width, then the columns of each window. */

/* Sums of every FC_VL-th of n consecutive elements, in one order for any plane; what fills no vector goes to `rest`. */
FC_INLINE P_VEC FC_NAME(fc_pool_sums)(const FC_T *restrict src, int64_t n, FC_T *rest) {
    P_VEC acc[4] = {P_SPLAT(0), P_SPLAT(0), P_SPLAT(0), P_SPLAT(0)};
    int64_t i = 0;
    for (; i + 4 * FC_VL <= n; i += 4 * FC_VL)
        for (int k = 0; k < 4; k++)
            acc[k] += P_LOAD(src + i + k * FC_VL);
    for (int k = 0; k < 3 && i + FC_VL <= n; k++, i += FC_VL)
        acc[k] += P_LOAD(src + i);
    for (*rest = 0; i < n; i++)
        *rest += src[i];
    return (acc[0] + acc[1]) + (acc[2] + acc[3]);
}

/* Means of `count` runs of n elements that follow `pitch` elements after one another, a vector of them at once. */
FC_INLINE void FC_NAME(fc_pool_means)(const FC_T *restrict src, int64_t n, int64_t pitch, FC_T *restrict out,
                                      int64_t step, int64_t count) {
    for (int64_t i = 0; i < count; i += FC_VL) {
        const int64_t some = fc_min(FC_VL, count - i);
        P_VEC sums[FC_VL], mean = P_SPLAT(0);
        FC_T rest[FC_VL] = {0}, lane[FC_VL];
        for (int l = 0; l < FC_VL; l++)
            sums[l] = l < some ? FC_NAME(fc_pool_sums)(src + (i + l) * pitch, n, rest + l) : P_SPLAT(0);
        FC_NAME(fc_pool_transpose)(sums);
        for (int l = 0; l < FC_VL; l++)
            mean += sums[l];
        *(P_VEC_MEM *)lane = (mean + P_LOAD(rest)) / (FC_T)n;
        for (int l = 0; l < some; l++)
            out[(i + l) * step] = lane[l];
    }
}

/* dst[0:n] = value; planes are done in order, so spilling into the next one does no harm where there is `room`. */
FC_INLINE void FC_NAME(fc_pool_fill)(FC_T *dst, FC_T value, int64_t n, int64_t room) {
    for (int64_t i = 0; i < n; i += FC_VL)
        P_STORE(dst + i, P_SPLAT(value), i + FC_VL <= room, n - i);
}

static FC_UNUSED void FC_NAME(adaptive_avg)(FC_POOL_PARAMETERS) {
    (void)in_index, (void)out_index;
    const fc_adaptive *g = (const fc_adaptive *)geometry;
    const FC_T *input = (const FC_T *)in;
    FC_T *output = (FC_T *)out;
    FC_T *restrict row = (FC_T *)scratch;
    const int64_t w = g->w;
    if (g->ow == 1) { /* as above all in global pooling: windows are runs of elements */
        for (int64_t i = 0; i < g->oh; i++)
            FC_NAME(fc_pool_means)(input + (unit0 * g->h + g->y0[i]) * w, (g->y1[i] - g->y0[i]) * w, g->h * w,
                                   output + unit0 * g->oh + i, g->oh, unit1 - unit0);
        return;
    }
    for (int64_t plane = unit0; plane < unit1; plane++) {
        for (int64_t i = 0; i < g->oh; i++) {
            const FC_T *restrict src = input + (plane * g->h + g->y0[i]) * w;
            const int64_t rows = g->y1[i] - g->y0[i];
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
    const int64_t w = g->w, size = g->h * w;
    if (g->oh == 1 && g->ow == 1) { /* global pooling */
        for (int64_t plane = unit0; plane < unit1; plane++)
            FC_NAME(fc_pool_fill)(grad_input + plane * size, grad_output[plane] / (FC_T)size, size,
                                  (unit1 - plane) * size);
        return;
    }
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
