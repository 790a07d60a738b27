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

/* dst[0:w] = the sum or maximum of n rows.  Rows narrower than a vector are combined as one all the same if that stays
 * between `begin` and `end`: what comes from their neighbours is wiped again, the FC_VL elements before or after the row. */
FC_INLINE void FC_NAME(fc_pool_rows)(FC_T *restrict dst, const FC_T *restrict src, int64_t w, int64_t n, int64_t pitch,
                                     const FC_T *begin, const FC_T *end, const int avg) {
    int64_t x = 0;
    if (w < FC_VL) {
        const P_VEC nothing = P_SPLAT(avg ? (FC_T)0 : -(FC_T)INFINITY);
        if (end - src >= (n - 1) * pitch + FC_VL) {
            FC_NAME(fc_pool_rows_at)(dst, src, n, pitch, avg);
            *(P_VEC_MEM *)(dst + w) = nothing;
            return;
        }
        if (src - begin >= FC_VL - w) {
            FC_NAME(fc_pool_rows_at)(dst + w - FC_VL, src + w - FC_VL, n, pitch, avg);
            *(P_VEC_MEM *)(dst - FC_VL) = nothing;
            return;
        }
    }
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
    FC_T *counts = (FC_T *)scratch, *rows = counts + fc_whole_lanes(g->ow) + FC_POOL_LANES;
    const int64_t h = g->h, w = g->w, ow = g->ow, kw = g->kw, sw = g->sw, dw = g->dw, reach = fc_pool_row_reach(g);
    const int64_t end = fc_pool_start(g, unit1, g->oh);
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
                FC_NAME(fc_pool_rows)(row, src, w, 3, pitch, input, in + h * w, avg);
            else if (n == 2)
                FC_NAME(fc_pool_rows)(row, src, w, 2, pitch, input, in + h * w, avg);
            else
                FC_NAME(fc_pool_rows)(row, src, w, n, pitch, input, in + h * w, avg);
        }
        for (int64_t oy = y0; oy < y1; oy++) {
            const FC_T *row = rows + (oy - y0) * reach, count = avg ? FC_NAME(fc_pool_row_count)(g, oy) : (FC_T)1;
            FC_T *dst = out + oy * ow;
            const int64_t room = (end - plane * g->oh - oy) * ow;
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

/* A vector of maxima with its codes, or with its flat indices: those of code 0 are `origin`. */
FC_INLINE void FC_NAME(fc_max_pool_put)(FC_T *restrict out, FC_INT *restrict codes, int64_t *restrict flat, int64_t x,
                                        P_VEC best, P_IVEC winner, P_LVEC origin, int64_t count, int64_t room) {
    const int whole = x + FC_VL <= room;
    P_STORE(out + x, best, whole, count - x);
    if (!flat)
        P_ISTORE(codes + x, winner, 1, count - x);
    else
        P_LSTORE(flat + x, P_WIDEN(winner) + origin, whole, count - x);
}

/* base, base + step, ... */
FC_INLINE P_LVEC FC_NAME(fc_pool_steps)(int64_t base, int64_t step) {
    P_LVEC steps;
#if FC_VL > 1
    for (int l = 0; l < FC_VL; l++)
        steps[l] = base + l * step;
#else
    (void)step;
    steps = base;
#endif
    return steps;
}

/* One output row with its codes.  A code is ky * code_y + kx * code_x of the winner, `code` that of the first row; with
 * padding, a column whose maximum is -inf takes code_first, its first tap inside the input.  For int64 indices `base` is
 * the flat index of the window's origin at column 0. */
FC_INLINE void FC_NAME(fc_max_pool_row)(const FC_T *restrict src, int64_t pitch, FC_T *restrict out, FC_INT *restrict codes,
                                        int64_t *restrict flat, int64_t base, int64_t ow, int64_t room, int64_t code,
                                        int64_t code_y, int64_t code_x, const FC_INT *restrict first, int padded, int64_t n,
                                        int64_t kw, int64_t sw, int64_t dw) {
    const P_LVEC steps = FC_NAME(fc_pool_steps)(base, sw);
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
        FC_NAME(fc_max_pool_put)(out, codes, flat, x, best, winner, steps + x * sw, ow, room);
    }
}

/* The maxima of the windows' columns in each of some input rows, `pitch` apart, and which column that is; both arrays have
 * room for whole vectors after the last row.  Left of the input nothing wins: a window without more takes `first`.
 * What the next band starts with, at `ahead`, comes from memory meanwhile. */
FC_INLINE void FC_NAME(fc_max_pool_across)(const FC_T *restrict src, int64_t pitch, int64_t rows, FC_T *restrict maxima,
                                           FC_INT *restrict winners, const FC_INT *restrict first, int64_t n_first,
                                           int64_t ow, int64_t code_x, const FC_T *ahead, int64_t kw, int64_t sw,
                                           int64_t dw) {
    for (int64_t y = 0; y < rows; y++, src += pitch, maxima += ow, winners += ow, ahead += ow * sw) {
        for (int64_t x = 0; x < ow; x += FC_VL) {
            const FC_T *p = src + x * sw;
            FC_PREFETCH(ahead + x * sw);
            P_VEC best = P_LOAD_STRIDED(p, sw);
            P_IVEC winner = P_ISPLAT(0);
            for (int64_t kx = 1; kx < kw; kx++) {
                P_VEC v = P_LOAD_STRIDED(p + kx * dw, sw);
                P_IVEC takes = P_TAKES(v, best);
                best = P_SELECT(takes, v, best);
                winner = P_ISELECT(takes, P_ISPLAT(kx * code_x), winner);
            }
            P_SETTLE(best, sw);
            P_SETTLE(winner, sw);
            *(P_VEC_MEM *)(maxima + x) = best;
            *(P_IVEC_MEM *)(winners + x) = winner;
        }
        for (int64_t x = 0; x < n_first; x++)
            if (maxima[x] == -(FC_T)INFINITY)
                winners[x] = first[x];
    }
}

/* Outputs from the maxima of n rows each and their codes, both of the pitch of the output: as many rows as are wanted are
 * one run of `count`.  Row after row, as the rows' maxima were found, this is the order of a scan of the whole window. */
FC_INLINE void FC_NAME(fc_max_pool_down)(const FC_T *restrict maxima, const FC_INT *restrict winners, int64_t pitch,
                                         FC_T *restrict out, FC_INT *restrict codes, int64_t *restrict flat, int64_t base,
                                         int64_t step, int64_t count, int64_t room, int64_t code, int64_t code_y, int64_t n) {
    const P_LVEC steps = FC_NAME(fc_pool_steps)(base, step);
    for (int64_t x = 0; x < count; x += FC_VL) {
        P_VEC best = P_LOAD(maxima + x);
        P_IVEC winner = P_ILOAD(winners + x) + (FC_INT)code;
        for (int64_t ky = 1; ky < n; ky++) {
            P_VEC v = P_LOAD(maxima + ky * pitch + x);
            P_IVEC takes = P_TAKES(v, best);
            best = P_SELECT(takes, v, best);
            winner = P_ISELECT(takes, P_ILOAD(winners + ky * pitch + x) + (FC_INT)(code + ky * code_y), winner);
        }
        FC_NAME(fc_max_pool_put)(out, codes, flat, x, best, winner, steps + x * step, count, room);
    }
}

#define P_ACROSS_PARAMETERS                                                                                    \
    const FC_T *restrict src, int64_t pitch, int64_t rows, FC_T *restrict maxima, FC_INT *restrict winners,    \
        const FC_INT *restrict first, int64_t n_first, int64_t ow, int64_t code_x, const FC_T *ahead, int64_t kw, \
        int64_t sw, int64_t dw
#define P_ACROSS(kw, sw, dw)                                                                              \
    FC_NAME(fc_max_pool_across)(src, pitch, rows, maxima, winners, first, n_first, ow, code_x, ahead, kw, sw, dw)
static FC_APART void FC_NAME(fc_max_pool_across_3s1)(P_ACROSS_PARAMETERS) {
    (void)kw, (void)sw, (void)dw;
    P_ACROSS(3, 1, 1);
}
static FC_APART void FC_NAME(fc_max_pool_across_3s2)(P_ACROSS_PARAMETERS) {
    (void)kw, (void)sw, (void)dw;
    P_ACROSS(3, 2, 1);
}
static FC_APART void FC_NAME(fc_max_pool_across_any)(P_ACROSS_PARAMETERS) {
    if (sw == 1)
        P_ACROSS(kw, 1, dw);
    else if (sw == 2)
        P_ACROSS(kw, 2, dw);
    else
        P_ACROSS(kw, sw, dw);
}
#undef P_ACROSS

#define P_DOWN_PARAMETERS                                                                                    \
    const FC_T *restrict maxima, const FC_INT *restrict winners, int64_t pitch, FC_T *restrict out,          \
        FC_INT *restrict codes, int64_t *restrict flat, int64_t base, int64_t step, int64_t count,           \
        int64_t room, int64_t code, int64_t code_y, int64_t n
#define P_DOWN_KERNEL(name, n_)                                                                                        \
    static FC_APART void FC_NAME(name)(P_DOWN_PARAMETERS) {                                                            \
        (void)n;                                                                                                       \
        if (flat)                                                                                                      \
            FC_NAME(fc_max_pool_down)(maxima, winners, pitch, out, NULL, flat, base, step, count, room, code, code_y, n_); \
        else                                                                                                           \
            FC_NAME(fc_max_pool_down)(maxima, winners, pitch, out, codes, NULL, 0, 0, count, room, code, code_y, n_);  \
    }
P_DOWN_KERNEL(fc_max_pool_down_2, 2)
P_DOWN_KERNEL(fc_max_pool_down_3, 3)
P_DOWN_KERNEL(fc_max_pool_down_any, n)
#undef P_DOWN_KERNEL

FC_INLINE void FC_NAME(fc_max_pool_indexed)(const fc_pool *geometry, const FC_T *restrict input, FC_T *restrict output,
                                            uint8_t *restrict offsets, int64_t *restrict flats, int64_t unit0,
                                            int64_t unit1, void *scratch) {
    const fc_pool local = *geometry, *g = &local; /* which no store can change, unlike what a pointer leads to */
    const int64_t h = g->h, w = g->w, ow = g->ow, kw = g->kw, sw = g->sw, dw = g->dw, pitch = fc_pool_row_reach(g);
    const int64_t code_x = offsets ? 1 : dw, code_y = offsets ? kw : g->dh * w;
    const int64_t row_count = fc_pool_forward_rows(g), end = fc_pool_start(g, unit1, g->oh);
    const int shares = fc_pool_shares_rows(g);
    FC_INT *first = (FC_INT *)scratch, *codes = first + fc_whole_lanes(ow), *winners = codes + fc_pool_run(g, g->band);
    FC_T *maxima = (FC_T *)(winners + fc_pool_staged(g)), *rows = maxima + fc_pool_staged(g);
    const int padded = g->pw > 0 || (ow - 1) * sw + (kw - 1) * dw >= w;
    const int64_t vector_reach = ((ow + FC_VL - 1) / FC_VL * FC_VL - 1) * sw + (kw - 1) * dw + 1;
    const int64_t n_first = fc_min(ow, fc_ceil_div(g->pw, sw));
    void (*across)(P_ACROSS_PARAMETERS) = kw == 3 && sw == 1 && dw == 1   ? FC_NAME(fc_max_pool_across_3s1)
                                          : kw == 3 && sw == 2 && dw == 1 ? FC_NAME(fc_max_pool_across_3s2)
                                                                          : FC_NAME(fc_max_pool_across_any);
    /* With equal steps of input and output, rows of flat indices continue one another. */
    const int runs = g->sh == 1 && (offsets || w == ow * sw);

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
        const int64_t origin = fc_max(0, y0 * g->sh - g->ph); /* the input row at the top of `rows` and `maxima` */
        const int64_t stop = fc_min(h, (y1 - 1) * g->sh - g->ph + (g->kh - 1) * g->dh + 1);
        if (padded)
            for (int64_t y = origin; y < stop; y++)
                P_COPY_ROW(rows + (y - origin) * pitch + g->pw, in + y * w, w);
        if (shares) {
            /* Without padding rows are read in place, unless whole vectors would leave the plane. */
            const int64_t safe = padded ? origin : fc_max(origin, fc_min(stop, fc_floor_div(h * w - vector_reach, w) + 1));
            for (int64_t y = safe; !padded && y < stop; y++)
                P_COPY_ROW(rows + (y - origin) * pitch, in + y * w, w);
            const int64_t in_place = safe - origin;
            across(in + origin * w, w, in_place, maxima, winners, first, n_first, ow, code_x, in + stop * w, kw, sw, dw);
            across(rows + in_place * pitch, pitch, stop - safe, maxima + in_place * ow, winners + in_place * ow, first,
                   n_first, ow, code_x, in + (stop + in_place) * w, kw, sw, dw);
        }
        for (int64_t oy = y0, done; oy < y1; oy += done) {
            const int64_t top = oy * g->sh - g->ph, room = (end - plane * g->oh - oy) * ow;
            int64_t ky0, ky1;
            fc_pool_kernel_rows(g, oy, &ky0, &ky1);
            const int64_t n = ky1 - ky0, head = top + ky0 * g->dh, tail = top + (ky1 - 1) * g->dh;
            FC_T *dst = out + oy * ow;
            FC_INT *code_row = offsets ? codes + (oy - y0) * ow : NULL;
            int64_t *flat_row = flat ? flat + oy * ow : NULL;
            const int64_t code = ky0 * code_y, base = top * w - g->pw;
            done = 1;
            if (shares) {
                if (runs && n == g->kh) /* and so are the following rows, up to the one whose window leaves the input */
                    done = fc_min(y1 - oy, h - tail);
                const int64_t at = (head - origin) * ow;
                void (*down)(P_DOWN_PARAMETERS) = n == 3   ? FC_NAME(fc_max_pool_down_3)
                                                  : n == 2 ? FC_NAME(fc_max_pool_down_2)
                                                           : FC_NAME(fc_max_pool_down_any);
                down(maxima + at, winners + at, g->dh * ow, dst, code_row, flat_row, base, sw, done * ow, room, code, code_y, n);
                continue;
            }
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
#define P_ROW(code_, n_, kw_, sw_, dw_)                                                                             \
    FC_NAME(fc_max_pool_row)(src, src_pitch, dst, code_row, flat_row, base, ow, room, code_, code_y, code_x, first, padded, \
                             n_, kw_, sw_, dw_)
            if (kw == 2 && sw == 2 && dw == 1 && n == 2 && code == 0)
                P_ROW(0, 2, 2, 2, 1);
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

#undef P_ACROSS_PARAMETERS
#undef P_DOWN_PARAMETERS

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
