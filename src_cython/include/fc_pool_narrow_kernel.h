/* Average pooling of narrow planes, whose rows would waste most of a vector: FC_VL planes at once, a lane each.  Windows
 * are those of fc_adaptive.  A lane's sums do not depend on its neighbours. */

/* lanes[i] = element i of `count` planes of n elements; further lanes repeat the last plane. */
FC_INLINE void FC_NAME(fc_pool_to_lanes)(const FC_T *restrict planes, int64_t count, int64_t n, P_VEC *restrict lanes) {
    const FC_T *plane[FC_VL];
    for (int64_t l = 0; l < FC_VL; l++)
        plane[l] = planes + fc_min(l, count - 1) * n;
    for (int64_t i = 0; i < n; i += FC_VL) {
        if (n < FC_VL) { /* by element */
            FC_T *lane = (FC_T *)lanes;
            for (i = 0; i < n; i++)
                for (int l = 0; l < FC_VL; l++)
                    lane[i * FC_VL + l] = plane[l][i];
            return;
        }
        i = fc_min(i, n - FC_VL); /* the last block overlaps the one before */
        P_VEC block[FC_VL];
        for (int l = 0; l < FC_VL; l++)
            block[l] = P_LOAD(plane[l] + i);
        FC_NAME(fc_pool_transpose)(block);
        for (int l = 0; l < FC_VL; l++)
            lanes[i + l] = block[l];
    }
}

FC_INLINE void FC_NAME(fc_pool_from_lanes)(const P_VEC *restrict lanes, FC_T *restrict planes, int64_t count, int64_t n) {
    if (n < FC_VL) {
        const FC_T *lane = (const FC_T *)lanes;
        for (int64_t l = 0; l < count; l++)
            for (int64_t i = 0; i < n; i++)
                planes[l * n + i] = lane[i * FC_VL + l];
        return;
    }
    for (int64_t i = 0; i < n; i += FC_VL) {
        i = fc_min(i, n - FC_VL);
        P_VEC block[FC_VL];
        for (int l = 0; l < FC_VL; l++)
            block[l] = lanes[i + l];
        FC_NAME(fc_pool_transpose)(block);
        for (int l = 0; l < FC_VL; l++)
            if (l < count)
                *(P_VEC_MEM *)(planes + l * n + i) = block[l];
    }
}

/* sum[i] = v[i] + v[i + step] + ... of n terms, for i < count. */
FC_INLINE void FC_NAME(fc_pool_add_up)(const P_VEC *restrict v, int64_t step, int64_t n, P_VEC *restrict sum, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        P_VEC total = v[i];
        for (int64_t k = 1; k < n; k++)
            total += v[i + k * step];
        sum[i] = total;
    }
}

static FC_UNUSED void FC_NAME(narrow_avg)(FC_POOL_PARAMETERS) {
    (void)in_index, (void)out_index;
    const fc_adaptive *g = (const fc_adaptive *)geometry;
    const int64_t w = g->w, size = g->h * w, out_size = g->oh * g->ow;
    P_VEC *restrict lanes = (P_VEC *)scratch, *restrict row = lanes + size, *restrict sums = row + w;
    for (int64_t plane = unit0; plane < unit1; plane += FC_VL) {
        const int64_t count = fc_min(FC_VL, unit1 - plane);
        FC_NAME(fc_pool_to_lanes)((const FC_T *)in + plane * size, count, size, lanes);
        for (int64_t i = 0; i < g->oh; i++) {
            const P_VEC *first = lanes + g->y0[i] * w;
            const int64_t rows = g->y1[i] - g->y0[i];
            if (rows == 2)
                FC_NAME(fc_pool_add_up)(first, w, 2, row, w);
            else if (rows == 3)
                FC_NAME(fc_pool_add_up)(first, w, 3, row, w);
            else
                FC_NAME(fc_pool_add_up)(first, w, rows, row, w);
            for (int64_t j = 0; j < g->ow; j++) {
                P_VEC sum = row[g->x0[j]];
                for (int64_t x = g->x0[j] + 1; x < g->x1[j]; x++)
                    sum += row[x];
                sums[i * g->ow + j] = sum / ((FC_T)g->y_count[i] * (FC_T)g->x_count[j]);
            }
        }
        FC_NAME(fc_pool_from_lanes)(sums, (FC_T *)out + plane * out_size, count, out_size);
    }
}

static FC_UNUSED void FC_NAME(narrow_avg_backward)(FC_POOL_PARAMETERS) {
    (void)in_index, (void)out_index;
    const fc_adaptive *g = (const fc_adaptive *)geometry;
    const int64_t w = g->w, size = g->h * w, out_size = g->oh * g->ow;
    P_VEC *restrict lanes = (P_VEC *)scratch, *restrict row = lanes + size, *restrict grads = row + w;
    for (int64_t plane = unit0; plane < unit1; plane += FC_VL) {
        const int64_t count = fc_min(FC_VL, unit1 - plane);
        int64_t written = 0; /* rows of the input; the first to reach a row assigns it */
        FC_NAME(fc_pool_to_lanes)((const FC_T *)in + plane * out_size, count, out_size, grads);
        for (int64_t i = 0; i < g->oh; i++) {
            for (int64_t x = 0; x < w; x++)
                row[x] = P_SPLAT(0);
            for (int64_t j = 0; j < g->ow; j++) {
                const P_VEC share = grads[i * g->ow + j] / ((FC_T)g->y_count[i] * (FC_T)g->x_count[j]);
                for (int64_t x = g->x0[j]; x < g->x1[j]; x++)
                    row[x] += share;
            }
            for (; written < g->y0[i]; written++)
                for (int64_t x = 0; x < w; x++)
                    lanes[written * w + x] = P_SPLAT(0);
            for (int64_t y = g->y0[i]; y < written && y < g->y1[i]; y++)
                for (int64_t x = 0; x < w; x++)
                    lanes[y * w + x] += row[x];
            for (; written < g->y1[i]; written++)
                for (int64_t x = 0; x < w; x++)
                    lanes[written * w + x] = row[x];
        }
        for (int64_t i = written * w; i < size; i++)
            lanes[i] = P_SPLAT(0);
        FC_NAME(fc_pool_from_lanes)(lanes, (FC_T *)out + plane * size, count, size);
    }
}
