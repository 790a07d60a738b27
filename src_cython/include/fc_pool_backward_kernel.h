/* Backward passes.  A gather writes every input row once, in order, from the output rows whose windows cover it; like a
 * scatter within one plane it adds in the order of the outputs, so the result depends on neither threads nor method.
 *
 * In a gather columns are worked on in phases of the stride: input columns q * sw + phase receive from output columns
 * q + shift for the taps that fc_pool_taps lists, which makes every read contiguous. */

typedef struct {
    fc_pool_tap *taps;   /* of all phases, one after another */
    int64_t *phase_taps; /* taps of phase p: phase_taps[p] .. phase_taps[p + 1] */
} FC_NAME(fc_pool_phases);

FC_INLINE FC_NAME(fc_pool_phases) FC_NAME(fc_pool_plan)(const fc_pool *g, void *scratch) {
    FC_NAME(fc_pool_phases) plan;
    plan.taps = (fc_pool_tap *)scratch;
    plan.phase_taps = (int64_t *)(plan.taps + g->kw);
    plan.phase_taps[0] = 0;
    for (int64_t p = 0; p < g->sw; p++)
        plan.phase_taps[p + 1] = plan.phase_taps[p] + fc_pool_taps(g, p, plan.taps + plan.phase_taps[p]);
    return plan;
}

/* Lanes of phase `phase`, input columns (q + l) * sw + phase, to an input row of w elements. */
FC_INLINE void FC_NAME(fc_pool_put_phase)(FC_T *out, P_VEC v, int64_t q, int64_t phase, int64_t sw, int64_t w) {
    for (int l = 0; l < FC_VL; l++) {
        int64_t x = (q + l) * sw + phase;
        if (x < w)
            out[x] = P_LANE(v, l);
    }
}

/* Even and odd columns of the row from 2 * q on; `room` elements may be written from the row's start. */
FC_INLINE void FC_NAME(fc_pool_put_pair)(FC_T *out, P_VEC even, P_VEC odd, int64_t q, int64_t w, int64_t room) {
#if FC_VL > 1
    const int64_t x = 2 * q;
    P_VEC lo = P_SHUFFLE(even, odd, P_ZIP_LO), hi = P_SHUFFLE(even, odd, P_ZIP_HI);
    P_STORE(out + x, lo, x + FC_VL <= room, fc_min(w - x, FC_VL));
    if (x + FC_VL < w)
        P_STORE(out + x + FC_VL, hi, x + 2 * FC_VL <= room, w - x - FC_VL);
#else
    (void)room;
    FC_NAME(fc_pool_put_phase)(out, even, q, 0, 2, w);
    FC_NAME(fc_pool_put_phase)(out, odd, q, 1, 2, w);
#endif
}

/* An output row whose windows cover the input row at hand. */
typedef struct {
    const FC_T *grads;   /* from column 0 on; readable, if meaningless, beyond both ends */
    const FC_INT *codes; /* likewise, FC_POOL_NO_CODE beyond both ends */
    int64_t code;        /* offset in the window of column 0 of the kernel row that touches */
} FC_NAME(fc_pool_cover);

FC_INLINE P_VEC FC_NAME(fc_max_pool_hit)(const FC_T *grads, const FC_INT *codes, P_IVEC code) {
    P_IVEC hit = P_ILOAD(codes) == code;
    return P_SELECT(hit, P_LOAD(grads), P_SPLAT(0));
}

/* One input row of w columns; `room` elements may be written from its start.  First the kernels of up to 3 x 3, dilation
 * 1, whose sizes the compiler knows; then any, looking its taps up. */
FC_INLINE void FC_NAME(fc_max_pool_known_row)(const FC_NAME(fc_pool_cover) *cover, FC_T *dst, int64_t w,
                                              int64_t room, const int n, const int kw, const int sw, const int pw) {
    FC_NAME(fc_pool_cover) row[3];
    P_IVEC code[3][3];
    for (int i = 0; i < n; i++) {
        row[i] = cover[i];
        for (int kx = 0; kx < kw; kx++)
            code[i][kx] = P_ISPLAT(cover[i].code + kx);
    }
    for (int64_t q = 0; q * sw < w; q += FC_VL) {
        P_VEC acc[2] = {P_SPLAT(0), P_SPLAT(0)};
        for (int phase = 0; phase < sw; phase++)
            for (int i = 0; i < n; i++)
                for (int kx = kw - 1; kx >= 0; kx--)
                    if ((phase + pw - kx) % sw == 0) {
                        const int64_t at = q + (phase + pw - kx) / sw;
                        acc[phase] += FC_NAME(fc_max_pool_hit)(row[i].grads + at, row[i].codes + at, code[i][kx]);
                    }
        if (sw == 1)
            P_STORE(dst + q, acc[0], q + FC_VL <= room, w - q);
        else
            FC_NAME(fc_pool_put_pair)(dst, acc[0], acc[1], q, w, room);
    }
}

FC_INLINE P_VEC FC_NAME(fc_max_pool_phase)(const FC_NAME(fc_pool_cover) *cover, int64_t n,
                                           const FC_NAME(fc_pool_phases) *plan, int64_t q, int64_t phase) {
    P_VEC acc = P_SPLAT(0);
    for (int64_t i = 0; i < n; i++)
        for (int64_t t = plan->phase_taps[phase]; t < plan->phase_taps[phase + 1]; t++) {
            const fc_pool_tap tap = plan->taps[t];
            acc += FC_NAME(fc_max_pool_hit)(cover[i].grads + tap.shift + q, cover[i].codes + tap.shift + q,
                                            P_ISPLAT(cover[i].code + tap.kx));
        }
    return acc;
}

FC_INLINE void FC_NAME(fc_max_pool_any_row)(const FC_NAME(fc_pool_cover) *cover, int64_t n,
                                            const FC_NAME(fc_pool_phases) *plan, FC_T *dst, int64_t w,
                                            int64_t room, const int64_t sw) {
#define P_PHASE(phase, q) FC_NAME(fc_max_pool_phase)(cover, n, plan, q, phase)
    if (sw == 1) {
        for (int64_t q = 0; q < w; q += FC_VL)
            P_STORE(dst + q, P_PHASE(0, q), q + FC_VL <= room, w - q);
    } else if (sw == 2) {
        for (int64_t q = 0; 2 * q < w; q += FC_VL)
            FC_NAME(fc_pool_put_pair)(dst, P_PHASE(0, q), P_PHASE(1, q), q, w, room);
    } else {
        for (int64_t phase = 0; phase < sw; phase++)
            for (int64_t q = 0; q * sw < w; q += FC_VL)
                FC_NAME(fc_pool_put_phase)(dst, P_PHASE(phase, q), q, phase, sw, w);
    }
#undef P_PHASE
}

/* The offsets of one output row as codes, in whole vectors as far as `readable` allows.  What overruns the row is wiped
 * again; rows are done in order, so spilling into the next one does no harm. */
FC_INLINE void FC_NAME(fc_pool_widen)(FC_INT *restrict dst, const uint8_t *restrict src, int64_t n,
                                              int64_t readable) {
    for (int64_t i = 0; i < n; i += 8) {
        if (i + 8 <= readable)
            for (int l = 0; l < 8; l++)
                dst[i + l] = src[i + l];
        else
            for (int64_t l = i; l < n; l++)
                dst[l] = src[l];
    }
    for (int l = 0; l < 8; l++)
        dst[n + l] = FC_POOL_NO_CODE;
}

FC_INLINE void FC_NAME(fc_max_pool_gather)(const fc_pool *geometry, const FC_T *restrict grad_output,
                                           const uint8_t *restrict offsets, FC_T *restrict grad_input, int64_t unit0,
                                           int64_t unit1, void *scratch) {
    const fc_pool local = *geometry, *g = &local; /* which no store can change, unlike what a pointer leads to */
    const int64_t w = g->w, oh = g->oh, ow = g->ow, kh = g->kh, kw = g->kw, sh = g->sh, sw = g->sw;
    const int64_t dh = g->dh, dw = g->dw, ph = g->ph, pw = g->pw;
    const int64_t pitch = fc_pool_output_reach(g), margin = fc_pool_left_margin(g);
    const int64_t row_count = fc_pool_backward_rows(g), end = fc_pool_start(g, unit1, g->h);
    const FC_NAME(fc_pool_phases) plan = FC_NAME(fc_pool_plan)(g, scratch);
    FC_NAME(fc_pool_cover) *cover = (FC_NAME(fc_pool_cover) *)(plan.phase_taps + sw + 1);
    FC_INT *codes = (FC_INT *)((char *)cover + FC_POOL_COVER_BYTES * kh);
    FC_T *grads = (FC_T *)(codes + row_count * pitch + FC_POOL_LANES);
    for (int64_t i = 0; i < row_count * pitch; i++) {
        codes[i] = FC_POOL_NO_CODE;
        grads[i] = 0;
    }

    for (int64_t unit = unit0; unit < unit1; unit++) {
        int64_t y0, y1, first, last;
        const int64_t plane = fc_pool_unit(g, unit, g->h, &y0, &y1);
        fc_pool_output_rows(g, y0, y1, &first, &last);
        for (int64_t oy = first; oy < last; oy++) {
            const int64_t from = (plane * oh + oy) * ow;
            FC_INT *code = codes + (oy - first) * pitch + margin;
            FC_NAME(fc_pool_widen)(code, offsets + from, ow, (oh - oy) * ow);
            /* Gradients need a copy with margins only where reading past the row would leave the plane. */
            if (oy * ow < margin || oy * ow - margin + pitch > oh * ow)
                P_COPY_ROW(grads + (oy - first) * pitch + margin, grad_output + from, ow);
        }
        int64_t from = first, to = first; /* the output rows whose windows span input row y */
        for (int64_t y = y0; y < y1; y++) {
            FC_T *dst = grad_input + (plane * g->h + y) * w;
            const int64_t room = (end - plane * g->h - y) * w;
            int64_t n = 0;
            while (from < last && from * sh < y + ph - (kh - 1) * dh)
                from++;
            while (to < last && to * sh <= y + ph)
                to++;
            for (int64_t oy = from; oy < to; oy++) {
                const int64_t t = y + ph - oy * sh, ky = dh == 1 ? t : t / dh;
                if (ky * dh == t) {
                    const int outside = oy * ow < margin || oy * ow - margin + pitch > oh * ow;
                    cover[n].grads =
                        outside ? grads + (oy - first) * pitch + margin : grad_output + (plane * oh + oy) * ow;
                    cover[n].codes = codes + (oy - first) * pitch + margin;
                    cover[n++].code = ky * kw;
                }
            }
#define P_KNOWN_ROW(n_, kw_, sw_, pw_) FC_NAME(fc_max_pool_known_row)(cover, dst, w, room, n_, kw_, sw_, pw_)
            if (dw == 1 && kw == 2 && sw == 2 && pw == 0 && n == 1)
                P_KNOWN_ROW(1, 2, 2, 0);
            else if (dw == 1 && kw == 3 && sw == 2 && pw == 1 && n == 1)
                P_KNOWN_ROW(1, 3, 2, 1);
            else if (dw == 1 && kw == 3 && sw == 2 && pw == 1 && n == 2)
                P_KNOWN_ROW(2, 3, 2, 1);
            else if (dw == 1 && kw == 3 && sw == 2 && pw == 0 && n == 1)
                P_KNOWN_ROW(1, 3, 2, 0);
            else if (dw == 1 && kw == 3 && sw == 2 && pw == 0 && n == 2)
                P_KNOWN_ROW(2, 3, 2, 0);
            else
                FC_NAME(fc_max_pool_any_row)(cover, n, &plan, dst, w, room, sw);
#undef P_KNOWN_ROW
        }
    }
}

/* Where output and input are the same grid, position i receives from positions i + shift, one a tap, and all planes are a
 * single run.  Beyond the border a position sees the offset of another row or plane, which does not match as long as
 * offsets name taps inside the input: from there, the tap in question leads out of the plane. */
FC_INLINE void FC_NAME(fc_max_pool_same_block)(const fc_pool *g, const FC_T *restrict grads, const FC_INT *restrict codes,
                                               FC_T *restrict dst, int64_t n, const int64_t kh, const int64_t kw) {
    for (int64_t i = 0; i < n; i += FC_VL) {
        P_VEC acc = P_SPLAT(0);
        for (int64_t ky = kh - 1; ky >= 0; ky--) {
            const int64_t row = i + (g->ph - ky * g->dh) * g->w + g->pw;
            for (int64_t kx = kw - 1; kx >= 0; kx--) {
                const int64_t at = row - kx * g->dw;
                acc += FC_NAME(fc_max_pool_hit)(grads + at, codes + at, P_ISPLAT(ky * kw + kx));
            }
        }
        P_STORE(dst + i, acc, i + FC_VL <= n, n - i);
    }
}

FC_INLINE void FC_NAME(fc_max_pool_same)(const fc_pool *geometry, const FC_T *restrict grad_output,
                                         const uint8_t *restrict offsets, FC_T *restrict grad_input, int64_t unit0,
                                         int64_t unit1, void *scratch) {
    const fc_pool local = *geometry, *g = &local;
    const int64_t reach = fc_pool_same_reach(g), block = fc_pool_same_block(g), plane = g->h * g->w;
    const int64_t begin = unit0 / g->bands * plane, end = ((unit1 - 1) / g->bands + 1) * plane; /* of what may be read */
    const int64_t stop = fc_pool_start(g, unit1, g->h) * g->w;
    FC_INT *codes = (FC_INT *)scratch;
    FC_T *copies = (FC_T *)(codes + block + 2 * reach + FC_POOL_LANES);
    for (int64_t at = fc_pool_start(g, unit0, g->h) * g->w; at < stop; at += block) {
        const int64_t n = fc_min(block, stop - at), from = at - reach, to = at + n + reach + FC_POOL_LANES;
        const int64_t first = fc_max(from, begin), last = fc_min(to, end);
        const FC_T *grads = grad_output + at;
        FC_INT *code = codes + reach;
        for (int64_t i = from; i < first; i++)
            codes[i - from] = FC_POOL_NO_CODE;
        for (int64_t i = first; i < last; i++)
            codes[i - from] = offsets[i];
        for (int64_t i = last; i < to; i++)
            codes[i - from] = FC_POOL_NO_CODE;
        if (first != from || last != to) { /* the rim: what is beyond matches nothing but must be there */
            for (int64_t i = from; i < to; i++)
                copies[i - from] = i >= first && i < last ? grad_output[i] : 0;
            grads = copies + reach;
        }
        if (g->kh == 3 && g->kw == 3)
            FC_NAME(fc_max_pool_same_block)(g, grads, code, grad_input + at, n, 3, 3);
        else
            FC_NAME(fc_max_pool_same_block)(g, grads, code, grad_input + at, n, g->kh, g->kw);
    }
}

#if FC_VL > 1
typedef uint8_t FC_NAME(fc_pool_bytes) __attribute__((vector_size(FC_VL), aligned(1), may_alias));

/* FC_VL gradients to twice as many columns of two input rows, the upper one first. */
FC_INLINE void FC_NAME(fc_max_pool_put_quarters)(const FC_T *grads, const uint8_t *offsets, FC_T *top, FC_T *bottom) {
    const P_VEC grad = P_LOAD(grads), none = P_SPLAT(0);
    const P_IVEC code = __builtin_convertvector(*(const FC_NAME(fc_pool_bytes) *)offsets, P_IVEC);
    P_VEC part[4];
    for (int i = 0; i < 4; i++) {
        const P_IVEC hit = code == P_ISPLAT(i);
        part[i] = P_SELECT(hit, grad, none);
    }
    *(P_VEC_MEM *)top = P_SHUFFLE(part[0], part[1], P_ZIP_LO);
    *(P_VEC_MEM *)(top + FC_VL) = P_SHUFFLE(part[0], part[1], P_ZIP_HI);
    *(P_VEC_MEM *)bottom = P_SHUFFLE(part[2], part[3], P_ZIP_LO);
    *(P_VEC_MEM *)(bottom + FC_VL) = P_SHUFFLE(part[2], part[3], P_ZIP_HI);
}
#endif

/* Every output row fills two input rows, so planes need not be told apart.  Rows narrower than a vector spill into what
 * is written after them; the last ones of a call, which may not, go by element. */
FC_INLINE void FC_NAME(fc_max_pool_quarters)(const fc_pool *g, const FC_T *restrict grad_output,
                                             const uint8_t *restrict offsets, FC_T *restrict grad_input, int64_t unit0,
                                             int64_t unit1) {
    const int64_t ow = g->ow, w = g->w;
    const int64_t first = fc_pool_start(g, unit0, g->h) / 2, last = fc_pool_start(g, unit1, g->h) / 2;
    for (int64_t y = first; y < last; y++) {
        const FC_T *grads = grad_output + y * ow;
        const uint8_t *codes = offsets + y * ow;
        FC_T *top = grad_input + 2 * y * w, *bottom = top + w;
        int64_t x = 0;
#if FC_VL > 1
        if (ow >= FC_VL || (last - y) * ow >= ow + FC_VL)
            for (; x < ow; x += FC_VL) {
                if (x > 0 && x > ow - FC_VL)
                    x = ow - FC_VL; /* laid back over the one before */
                FC_NAME(fc_max_pool_put_quarters)(grads + x, codes + x, top + 2 * x, bottom + 2 * x);
            }
#endif
        for (; x < ow; x++)
            for (int i = 0; i < 4; i++)
                (i < 2 ? top : bottom)[2 * x + i % 2] = codes[x] == i ? grads[x] : 0;
    }
}

/* Narrow rows would spend most of a gather on its bookkeeping: one gradient after another, then. */
FC_INLINE void FC_NAME(fc_max_pool_scatter)(const fc_pool *g, const FC_T *restrict grad_output,
                                            const uint8_t *restrict offsets, FC_T *restrict grad_input, int64_t unit0,
                                            int64_t unit1, int64_t *restrict steps) {
    const int64_t w = g->w, oh = g->oh, ow = g->ow, taps = g->kh * g->kw, rows = fc_pool_backward_rows(g);
    int64_t *restrict places = steps + 256; /* where the windows of a band start, relative to the first */
    for (int64_t i = 0; i < 256; i++)       /* an offset that no tap has leads out of the band */
        steps[i] = i < taps ? i / g->kw * g->dh * w + i % g->kw * g->dw : FC_POOL_NOWHERE;
    for (int64_t y = 0; y < rows; y++)
        for (int64_t x = 0; x < ow; x++)
            places[y * ow + x] = y * g->sh * w + x * g->sw;
    for (int64_t unit = unit0; unit < unit1; unit++) {
        int64_t y0, y1, first, last;
        const int64_t plane = fc_pool_unit(g, unit, g->h, &y0, &y1);
        FC_T *restrict dst = grad_input + (plane * g->h + y0) * w;
        const uint64_t size = (uint64_t)((y1 - y0) * w);
        memset(dst, 0, size * sizeof(FC_T));
        fc_pool_output_rows(g, y0, y1, &first, &last);
        const uint8_t *restrict offset = offsets + (plane * oh + first) * ow;
        const FC_T *restrict grad = grad_output + (plane * oh + first) * ow;
        const int64_t origin = (first * g->sh - g->ph - y0) * w - g->pw, count = (last - first) * ow;
        for (int64_t i = 0; i < count; i++) {
            const uint64_t at = (uint64_t)(origin + places[i] + steps[offset[i]]);
            if (at < size)
                dst[at] += grad[i];
        }
    }
}

/* From uint8 offsets; int64 indices need no kernel of their own (scatter_planes). */
static FC_UNUSED void FC_NAME(max_pool_backward)(FC_POOL_PARAMETERS) {
    (void)out_index;
    const fc_pool *g = (const fc_pool *)geometry;
    if (fc_pool_same(g))
        FC_NAME(fc_max_pool_same)(g, (const FC_T *)in, (const uint8_t *)in_index, (FC_T *)out, unit0, unit1, scratch);
    else if (fc_pool_quarters(g))
        FC_NAME(fc_max_pool_quarters)(g, (const FC_T *)in, (const uint8_t *)in_index, (FC_T *)out, unit0, unit1);
    else if (fc_pool_gathers(g))
        FC_NAME(fc_max_pool_gather)(g, (const FC_T *)in, (const uint8_t *)in_index, (FC_T *)out, unit0, unit1, scratch);
    else
        FC_NAME(fc_max_pool_scatter)(g, (const FC_T *)in, (const uint8_t *)in_index, (FC_T *)out, unit0, unit1,
                                     (int64_t *)scratch);
}

FC_INLINE P_VEC FC_NAME(fc_avg_pool_phase)(const FC_T *row, const fc_pool_tap *taps, int64_t n_taps, int64_t q) {
    P_VEC acc = P_SPLAT(0);
    for (int64_t t = 0; t < n_taps; t++)
        acc += P_LOAD(row + taps[t].shift + q);
    return acc;
}

/* The window is separable: the shares of the covering output rows are added up first, then spread over the columns. */
static FC_UNUSED void FC_NAME(avg_pool_backward)(FC_POOL_PARAMETERS) {
    (void)in_index, (void)out_index;
    const fc_pool *g = (const fc_pool *)geometry;
    const FC_T *grad_output = (const FC_T *)in;
    FC_T *grad_input = (FC_T *)out;
    const int64_t w = g->w, ow = g->ow, sw = g->sw;
    const int64_t pitch = fc_pool_output_reach(g), margin = fc_pool_left_margin(g), end = fc_pool_start(g, unit1, g->h);
    FC_NAME(fc_pool_phases) plan = FC_NAME(fc_pool_plan)(g, scratch);
    FC_T *counts = (FC_T *)(plan.phase_taps + sw + 1), *padded = counts + fc_whole_lanes(ow), *row = padded + margin;
    FC_NAME(fc_pool_column_counts)(g, counts);
    for (int64_t i = 0; i < pitch; i++)
        padded[i] = 0;

    for (int64_t unit = unit0; unit < unit1; unit++) {
        int64_t y0, y1;
        const int64_t plane = fc_pool_unit(g, unit, g->h, &y0, &y1);
        int64_t first_before = -1, last_before = -1;
        for (int64_t y = y0; y < y1; y++) {
            FC_T *dst = grad_input + (plane * g->h + y) * w;
            const int64_t room = (end - plane * g->h - y) * w;
            int64_t first, last;
            fc_pool_output_rows(g, y, y + 1, &first, &last);
            if (first != first_before || last != last_before) {
                for (int64_t x = 0; x < ow; x++)
                    row[x] = 0;
                for (int64_t oy = first; oy < last; oy++) {
                    const FC_T *restrict grad = grad_output + (plane * g->oh + oy) * ow;
                    const FC_T row_count = FC_NAME(fc_pool_row_count)(g, oy);
                    for (int64_t x = 0; x < ow; x++)
                        row[x] += grad[x] / (counts[x] * row_count);
                }
                first_before = first;
                last_before = last;
            }
#define P_PHASE(phase, q)                                                                    \
    FC_NAME(fc_avg_pool_phase)(row, plan.taps + plan.phase_taps[phase],                      \
                               plan.phase_taps[(phase) + 1] - plan.phase_taps[phase], q)
            if (sw == 1) {
                for (int64_t q = 0; q < w; q += FC_VL)
                    P_STORE(dst + q, P_PHASE(0, q), q + FC_VL <= room, w - q);
            } else if (sw == 2) {
                for (int64_t q = 0; 2 * q < w; q += FC_VL)
                    FC_NAME(fc_pool_put_pair)(dst, P_PHASE(0, q), P_PHASE(1, q), q, w, room);
            } else {
                for (int64_t phase = 0; phase < sw; phase++)
                    for (int64_t q = 0; q * sw < w; q += FC_VL)
                        FC_NAME(fc_pool_put_phase)(dst, P_PHASE(phase, q), q, phase, sw, w);
            }
#undef P_PHASE
        }
    }
}
