/* Forward passes.  With an index every window is scanned in row-major order, vectors of output columns at a time; without
 * one a window is separable: the rows of the window first, elementwise, then its columns. */

/* Output columns whose window is the same for every row: the divisor of an average, per column. */
FC_INLINE void FC_NAME(fc_pool_column_counts)(const fc_pool *g, FC_T *counts) {
    for (int64_t ox = 0; ox < fc_whole_lanes(g->ow); ox++) {
        int64_t start = ox * g->sw - g->pw, stop = fc_min(start + g->kw, g->w + g->pw_hi);
        if (!g->count_include_pad) {
            start = fc_max(start, 0);
            stop = fc_min(stop, g->w);
        }
        counts[ox] = g->divisor || ox >= g->ow ? (FC_T)1 : (FC_T)(stop - start);
    }
}

FC_INLINE FC_T FC_NAME(fc_pool_row_count)(const fc_pool *g, int64_t oy) {
    int64_t start = oy * g->sh - g->ph, stop = fc_min(start + g->kh, g->h + g->ph_hi);
    if (!g->count_include_pad) {
        start = fc_max(start, 0);
        stop = fc_min(stop, g->h);
    }
    return (FC_T)(g->divisor ? g->divisor : stop - start);
}

FC_INLINE P_VEC FC_NAME(fc_pool_combine)(P_VEC a, P_VEC x, const int avg) {
    if (avg)
        return a + x;
    P_IVEC takes = P_TAKES(x, a);
    return P_SELECT(takes, x, a);
}

FC_INLINE void FC_NAME(fc_pool_rows_at)(FC_T *restrict dst, const FC_T *restrict src, int64_t n, int64_t pitch,
                                        const int avg) {
    P_VEC acc = P_LOAD(src);
    for (int64_t k = 1; k < n; k++)
        acc = FC_NAME(fc_pool_combine)(acc, P_LOAD(src + k * pitch), avg);
    *(P_VEC_MEM *)dst = acc;
}

/* dst[0:w] = the sum or maximum of n rows. */
FC_INLINE void FC_NAME(fc_pool_rows)(FC_T *restrict dst, const FC_T *restrict src, int64_t w, int64_t n, int64_t pitch,
                                     const int avg) {
    int64_t x = 0;
    for (; x + FC_VL <= w; x += FC_VL)
        FC_NAME(fc_pool_rows_at)(dst + x, src + x, n, pitch, avg);
    if (x < w && w >= FC_VL) {
        FC_NAME(fc_pool_rows_at)(dst + w - FC_VL, src + w - FC_VL, n, pitch, avg);
        return;
    }
    for (; x < w; x++) {
        FC_T acc = src[x];
        for (int64_t k = 1; k < n; k++) {
            FC_T v = src[k * pitch + x];
            acc = avg ? acc + v : P_TAKES(v, acc) ? v : acc;
        }
        dst[x] = acc;
    }
}

FC_INLINE void FC_NAME(fc_pool_columns)(const FC_T *restrict row, FC_T *restrict out, int64_t ow, int64_t room,
                                        const FC_T *restrict counts, FC_T row_count, const int avg, int64_t kw,
                                        int64_t sw, int64_t dw) {
    for (int64_t x = 0; x < ow; x += FC_VL) {
        const FC_T *p = row + x * sw;
        P_VEC acc = P_LOAD_STRIDED(p, sw);
        for (int64_t kx = 1; kx < kw; kx++)
            acc = FC_NAME(fc_pool_combine)(acc, P_LOAD_STRIDED(p + kx * dw, sw), avg);
        P_SETTLE(acc, sw);
        if (avg)
            acc /= P_LOAD(counts + x) * row_count;
        P_STORE(out + x, acc, x + FC_VL <= room, ow - x);
    }
}

FC_INLINE void FC_NAME(fc_pool_values)(const fc_pool *g, const FC_T *restrict input, FC_T *restrict output, int64_t unit0,
                                       int64_t unit1, void *scratch, const int avg) {
    FC_T *counts = (FC_T *)scratch, *rows = counts + fc_whole_lanes(g->ow);
    const int64_t h = g->h, w = g->w, ow = g->ow, kw = g->kw, sw = g->sw, dw = g->dw, reach = fc_pool_row_reach(g);
    const FC_T nothing = avg ? (FC_T)0 : -(FC_T)INFINITY;
    for (int64_t i = 0; i < g->band * reach; i++)
        rows[i] = nothing;
    if (avg)
        FC_NAME(fc_pool_column_counts)(g, counts);
    for (int64_t unit = unit0; unit < unit1; unit++) {
        int64_t y0, y1;
        const int64_t plane = fc_pool_unit(g, unit, g->oh, &y0, &y1);
        const FC_T *in = input + plane * h * w;
        FC_T *out = output + plane * g->oh * ow;
        /* All rows of the band before its columns: columns read across what rows have stored, which must have settled. */
        for (int64_t oy = y0; oy < y1; oy++) {
            FC_T *row = rows + (oy - y0) * reach + g->pw;
            int64_t ky0, ky1;
            fc_pool_kernel_rows(g, oy, &ky0, &ky1);
            const int64_t n = ky1 - ky0, pitch = g->dh * w;
            const FC_T *src = in + (oy * g->sh - g->ph + ky0 * g->dh) * w;
            if (n == 3)
                FC_NAME(fc_pool_rows)(row, src, w, 3, pitch, avg);
            else if (n == 2)
                FC_NAME(fc_pool_rows)(row, src, w, 2, pitch, avg);
            else
                FC_NAME(fc_pool_rows)(row, src, w, n, pitch, avg);
        }
        for (int64_t oy = y0; oy < y1; oy++) {
            const FC_T *row = rows + (oy - y0) * reach, count = avg ? FC_NAME(fc_pool_row_count)(g, oy) : (FC_T)1;
            FC_T *dst = out + oy * ow;
            const int64_t room = (y1 - oy) * ow;
#define P_COLUMNS(kw_, sw_, dw_) FC_NAME(fc_pool_columns)(row, dst, ow, room, counts, count, avg, kw_, sw_, dw_)
            if (sw == 2 && kw == 2 && dw == 1)
                P_COLUMNS(2, 2, 1);
            else if (sw == 2 && kw == 3 && dw == 1)
                P_COLUMNS(3, 2, 1);
            else if (sw == 1 && kw == 3 && dw == 1)
                P_COLUMNS(3, 1, 1);
            else if (sw == 1)
                P_COLUMNS(kw, 1, dw);
            else if (sw == 2)
                P_COLUMNS(kw, 2, dw);
            else
                P_COLUMNS(kw, sw, dw);
#undef P_COLUMNS
        }
    }
}

static FC_UNUSED void FC_NAME(max_pool_values)(FC_POOL_PARAMETERS) {
    (void)in_index, (void)out_index;
    FC_NAME(fc_pool_values)((const fc_pool *)geometry, (const FC_T *)in, (FC_T *)out, unit0, unit1, scratch, 0);
}

static FC_UNUSED void FC_NAME(avg_pool_values)(FC_POOL_PARAMETERS) {
    (void)in_index, (void)out_index;
    FC_NAME(fc_pool_values)((const fc_pool *)geometry, (const FC_T *)in, (FC_T *)out, unit0, unit1, scratch, 1);
}

/* One output row with its codes.  A code is ky * code_y + kx * code_x of the winner, `code` that of the first row; with
 * padding, a column whose maximum is -inf takes code_first, its first tap inside the input.  For int64 indices `base` is
 * the flat index of the window's origin at column 0. */
FC_INLINE void FC_NAME(fc_max_pool_row)(const FC_T *restrict src, int64_t pitch, FC_T *restrict out, FC_INT *restrict codes,
                                        int64_t *restrict flat, int64_t base, int64_t ow, int64_t room, int64_t code,
                                        int64_t code_y, int64_t code_x, const FC_INT *restrict first, int padded, int64_t n,
                                        int64_t kw, int64_t sw, int64_t dw) {
    P_LVEC steps;
#if FC_VL > 1
    for (int l = 0; l < FC_VL; l++)
        steps[l] = base + l * sw;
#else
    steps = base;
#endif
    for (int64_t x = 0; x < ow; x += FC_VL) {
        const FC_T *p = src + x * sw;
        P_VEC best = P_LOAD_STRIDED(p, sw);
        P_IVEC winner = P_ISPLAT(code);
        for (int64_t kx = 1; kx < kw; kx++) {
            P_VEC v = P_LOAD_STRIDED(p + kx * dw, sw);
            P_IVEC takes = P_TAKES(v, best);
            best = P_SELECT(takes, v, best);
            winner = P_ISELECT(takes, P_ISPLAT(code + kx * code_x), winner);
        }
        for (int64_t ky = 1; ky < n; ky++) {
            for (int64_t kx = 0; kx < kw; kx++) {
                P_VEC v = P_LOAD_STRIDED(p + ky * pitch + kx * dw, sw);
                P_IVEC takes = P_TAKES(v, best);
                best = P_SELECT(takes, v, best);
                winner = P_ISELECT(takes, P_ISPLAT(code + ky * code_y + kx * code_x), winner);
            }
        }
        P_SETTLE(best, sw);
        P_SETTLE(winner, sw);
        if (padded) {
            P_IVEC nothing = best == P_SPLAT(-INFINITY);
            winner = P_ISELECT(nothing, P_ILOAD(first + x) + (FC_INT)code, winner);
        }
        const int whole = x + FC_VL <= room;
        P_STORE(out + x, best, whole, ow - x);
        if (codes)
            P_ISTORE(codes + x, winner, whole, ow - x);
        else
            P_LSTORE(flat + x, P_WIDEN(winner) + (steps + x * sw), whole, ow - x);
    }
}

FC_INLINE void FC_NAME(fc_max_pool_indexed)(const fc_pool *g, const FC_T *restrict input, FC_T *restrict output,
                                            uint8_t *restrict offsets, int64_t *restrict flats, int64_t unit0,
                                            int64_t unit1, void *scratch) {
    const int64_t h = g->h, w = g->w, ow = g->ow, kw = g->kw, sw = g->sw, dw = g->dw, pitch = fc_pool_row_reach(g);
    const int64_t code_x = offsets ? 1 : dw, code_y = offsets ? kw : g->dh * w;
    FC_INT *first = (FC_INT *)scratch, *codes = first + fc_whole_lanes(ow);
    FC_T *rows = (FC_T *)(codes + fc_whole_lanes(g->band * ow));
    const int64_t row_count = fc_min((g->band - 1) * g->sh + (g->kh - 1) * g->dh + 1, h);
    const int padded = g->pw > 0 || (ow - 1) * sw + (kw - 1) * dw >= w;
    const int64_t vector_reach = ((ow + FC_VL - 1) / FC_VL * FC_VL - 1) * sw + (kw - 1) * dw + 1;

    for (int64_t x = 0; x < fc_whole_lanes(ow); x++) {
        int64_t left = x * sw - g->pw;
        first[x] = (FC_INT)(left < 0 ? fc_ceil_div(-left, dw) * code_x : 0);
    }
    for (int64_t i = 0; i < row_count * pitch; i++)
        rows[i] = -(FC_T)INFINITY;

    for (int64_t unit = unit0; unit < unit1; unit++) {
        int64_t y0, y1;
        const int64_t plane = fc_pool_unit(g, unit, g->oh, &y0, &y1);
        const FC_T *in = input + plane * h * w;
        FC_T *out = output + plane * g->oh * ow;
        int64_t *flat = flats ? flats + plane * g->oh * ow : NULL;
        const int64_t origin = fc_max(0, y0 * g->sh - g->ph); /* the input row at the top of `rows` */
        if (padded) {
            const int64_t end = fc_min(h, (y1 - 1) * g->sh - g->ph + (g->kh - 1) * g->dh + 1);
            for (int64_t y = origin; y < end; y++)
                P_COPY_ROW(rows + (y - origin) * pitch + g->pw, in + y * w, w);
        }
        for (int64_t oy = y0; oy < y1; oy++) {
            const int64_t top = oy * g->sh - g->ph, room = (y1 - oy) * ow;
            int64_t ky0, ky1;
            fc_pool_kernel_rows(g, oy, &ky0, &ky1);
            const int64_t n = ky1 - ky0, head = top + ky0 * g->dh, tail = top + (ky1 - 1) * g->dh;
            FC_T *dst = out + oy * ow;
            FC_INT *code_row = offsets ? codes + (oy - y0) * ow : NULL;
            int64_t *flat_row = flat ? flat + oy * ow : NULL;
            /* Without padding rows are read in place, unless whole vectors would leave the plane. */
            const FC_T *src;
            int64_t src_pitch;
            if (!padded && tail * w + vector_reach <= h * w) {
                src = in + head * w;
                src_pitch = g->dh * w;
            } else {
                for (int64_t y = head; !padded && y <= tail; y += g->dh)
                    P_COPY_ROW(rows + (y - origin) * pitch, in + y * w, w);
                src = rows + (head - origin) * pitch;
                src_pitch = g->dh * pitch;
            }
            const int64_t code = ky0 * code_y, base = top * w - g->pw;
#define P_ROW(code_, n_, kw_, sw_, dw_)                                                                             \
    FC_NAME(fc_max_pool_row)(src, src_pitch, dst, code_row, flat_row, base, ow, room, code_, code_y, code_x, first, padded, \
                             n_, kw_, sw_, dw_)
            /* The common kernels with all sizes known; a row less at the upper and lower border. */
            if (kw == 2 && sw == 2 && dw == 1 && n == 2 && code == 0)
                P_ROW(0, 2, 2, 2, 1);
            else if (kw == 3 && sw == 2 && dw == 1 && n == 3 && code == 0)
                P_ROW(0, 3, 3, 2, 1);
            else if (kw == 3 && sw == 2 && dw == 1 && n == 2)
                P_ROW(code, 2, 3, 2, 1);
            else if (kw == 3 && sw == 1 && dw == 1 && n == 3 && code == 0)
                P_ROW(0, 3, 3, 1, 1);
            else if (kw == 3 && sw == 1 && dw == 1 && n == 2)
                P_ROW(code, 2, 3, 1, 1);
            else if (sw == 1)
                P_ROW(code, n, kw, 1, dw);
            else if (sw == 2)
                P_ROW(code, n, kw, 2, dw);
            else
                P_ROW(code, n, kw, sw, dw);
#undef P_ROW
        }
        if (offsets) {
            uint8_t *dst = offsets + (plane * g->oh + y0) * ow;
            for (int64_t i = 0; i < (y1 - y0) * ow; i++)
                dst[i] = (uint8_t)codes[i];
        }
    }
}

static FC_UNUSED void FC_NAME(max_pool_uint8)(FC_POOL_PARAMETERS) {
    (void)in_index;
    FC_NAME(fc_max_pool_indexed)((const fc_pool *)geometry, (const FC_T *)in, (FC_T *)out, (uint8_t *)out_index, NULL, unit0,
                                 unit1, scratch);
}

static FC_UNUSED void FC_NAME(max_pool_int64)(FC_POOL_PARAMETERS) {
    (void)in_index;
    FC_NAME(fc_max_pool_indexed)((const fc_pool *)geometry, (const FC_T *)in, (FC_T *)out, NULL, (int64_t *)out_index, unit0,
                                 unit1, scratch);
}
