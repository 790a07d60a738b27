/* Convolution without a matrix product: one output row is a weighted sum of shifted source rows.  Serves depthwise
 * convolution and groups of few channels, where packing would cost more than the products; see fc_direct.h, and
 * fc_depthwise.h for most depthwise ones. */

static FC_UNUSED const int FC_NAME(direct_lanes) = FC_VL;

/* ---------------------------------------------------------------------------------------------- rows and strides */

#undef FC_EVEN
#undef FC_ODD
#undef FC_ZIP_LO
#undef FC_ZIP_HI
#undef FC_PICK_LANES
#undef FC_HALVES_LO
#undef FC_HALVES_HI
#if FC_VL > 1
typedef FC_INT FC_NAME(fc_lanes) __attribute__((vector_size(FC_VBYTES), aligned(sizeof(FC_T)), may_alias));
#if defined(__clang__)
#define FC_PICK_LANES(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define FC_PICK_LANES(a, b, ...) __builtin_shuffle(a, b, (FC_NAME(fc_lanes)){__VA_ARGS__})
#endif
#if FC_VL == 2
#define FC_EVEN 0, 2
#define FC_ODD 1, 3
#define FC_ZIP_LO 0, 2
#define FC_ZIP_HI 1, 3
#elif FC_VL == 4 && FC_VBYTES == 32
#define FC_HALVES_LO 0, 1, 4, 5
#define FC_HALVES_HI 2, 3, 6, 7
#define FC_EVEN 0, 4, 2, 6
#define FC_ODD 1, 5, 3, 7
#define FC_ZIP_LO 0, 4, 1, 5
#define FC_ZIP_HI 2, 6, 3, 7
#elif FC_VL == 4
#define FC_EVEN 0, 2, 4, 6
#define FC_ODD 1, 3, 5, 7
#define FC_ZIP_LO 0, 4, 1, 5
#define FC_ZIP_HI 2, 6, 3, 7
#elif FC_VL == 8 && FC_VBYTES == 32
#define FC_HALVES_LO 0, 1, 2, 3, 8, 9, 10, 11
#define FC_HALVES_HI 4, 5, 6, 7, 12, 13, 14, 15
#define FC_EVEN 0, 2, 8, 10, 4, 6, 12, 14
#define FC_ODD 1, 3, 9, 11, 5, 7, 13, 15
#define FC_ZIP_LO 0, 8, 1, 9, 2, 10, 3, 11
#define FC_ZIP_HI 4, 12, 5, 13, 6, 14, 7, 15
#elif FC_VL == 8
#define FC_EVEN 0, 2, 4, 6, 8, 10, 12, 14
#define FC_ODD 1, 3, 5, 7, 9, 11, 13, 15
#define FC_ZIP_LO 0, 8, 1, 9, 2, 10, 3, 11
#define FC_ZIP_HI 4, 12, 5, 13, 6, 14, 7, 15
#else
#define FC_EVEN 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define FC_ODD 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#define FC_ZIP_LO 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define FC_ZIP_HI 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#endif

/* The even and the odd ones of the elements of a and b.  Two shuffles within halves of 16 bytes and two of whole halves cost
 * less in AVX2 than shuffles of elements across. */
FC_INLINE void FC_NAME(direct_split)(FC_V a, FC_V b, FC_V *even, FC_V *odd) {
#ifdef FC_HALVES_LO
    const FC_V lo = FC_PICK_LANES(a, b, FC_HALVES_LO), hi = FC_PICK_LANES(a, b, FC_HALVES_HI);
    a = lo;
    b = hi;
#endif
    *even = FC_PICK_LANES(a, b, FC_EVEN);
    *odd = FC_PICK_LANES(a, b, FC_ODD);
}
#endif

/* FC_KEEP(v): v stays in a register, instead of being loaded again by each instruction that reads it. */
#undef FC_KEEP
#undef FC_MASKED
#if defined(__x86_64__) && !(FC_LEVEL == 2 && defined(FC_EMULATE_AVX512))
#define FC_KEEP(v) __asm__("" : "+v"(v))
#else
#define FC_KEEP(v) ((void)0)
#endif

/* Short rows are the rule, so what a vector does not fill is done by one laid back over what came before it, or by halves
 * of one: neither reads nor writes outside the n elements. */

FC_INLINE void FC_NAME(direct_copy)(FC_T *restrict dst, const FC_T *restrict src, int64_t n) {
    int64_t i = 0;
    for (; i + FC_VL <= n; i += FC_VL) {
        FC_V v = *(const FC_V *)(src + i);
        FC_KEEP(v); /* not a call of memcpy, which costs more than a short row */
        *(FC_V *)(dst + i) = v;
    }
    if (i == n)
        return;
    if (n >= FC_VL) {
        *(FC_V *)(dst + n - FC_VL) = *(const FC_V *)(src + n - FC_VL);
    } else if (FC_VL > 2 && n >= FC_VL / 2) {
        FC_T half[FC_VL / 2 + 1];
        memcpy(half, src + n - FC_VL / 2, FC_VL / 2 * sizeof(FC_T));
        memcpy(dst, src, FC_VL / 2 * sizeof(FC_T));
        memcpy(dst + n - FC_VL / 2, half, FC_VL / 2 * sizeof(FC_T));
    } else {
        for (; i < n; i++)
            dst[i] = src[i];
    }
}

/* even[i] = src[2 * i], odd[i] = src[2 * i + 1]. */
FC_INLINE void FC_NAME(direct_unzip)(FC_T *restrict even, FC_T *restrict odd, const FC_T *restrict src, int64_t n) {
    int64_t i = 0;
#if FC_VL > 1
    for (; i < n && n >= FC_VL; i += FC_VL) {
        if (i + FC_VL > n)
            i = n - FC_VL;
        const FC_V a = *(const FC_V *)(src + 2 * i), b = *(const FC_V *)(src + 2 * i + FC_VL);
        FC_NAME(direct_split)(a, b, (FC_V *)(even + i), (FC_V *)(odd + i));
    }
#endif
#if FC_VL > 2
    for (; i < n && n >= FC_VL / 2; i += FC_VL / 2) {
        if (i + FC_VL / 2 > n)
            i = n - FC_VL / 2;
        const FC_V a = *(const FC_V *)(src + 2 * i);
        FC_V e, o;
        FC_NAME(direct_split)(a, a, &e, &o);
        memcpy(even + i, &e, FC_VBYTES / 2);
        memcpy(odd + i, &o, FC_VBYTES / 2);
    }
#endif
    for (; i < n; i++) {
        even[i] = src[2 * i];
        odd[i] = src[2 * i + 1];
    }
}

/* dst[2 * i] = even[i], dst[2 * i + 1] = odd[i]; the sources are readable for a vector behind their end. */
FC_INLINE void FC_NAME(direct_zip)(FC_T *restrict dst, const FC_T *restrict even, const FC_T *restrict odd, int64_t n) {
    int64_t i = 0;
#if FC_VL > 1
    for (; i + FC_VL <= n; i += FC_VL) {
        const FC_V e = *(const FC_V *)(even + i), o = *(const FC_V *)(odd + i);
        *(FC_V *)(dst + 2 * i) = FC_PICK_LANES(e, o, FC_ZIP_LO);
        *(FC_V *)(dst + 2 * i + FC_VL) = FC_PICK_LANES(e, o, FC_ZIP_HI);
    }
    for (; i < n && n >= FC_VL / 2; i += FC_VL / 2) {
        if (i + FC_VL / 2 > n)
            i = n - FC_VL / 2;
        const FC_V e = *(const FC_V *)(even + i), o = *(const FC_V *)(odd + i);
        *(FC_V *)(dst + 2 * i) = FC_PICK_LANES(e, o, FC_ZIP_LO);
    }
#endif
    for (; i < n; i++) {
        dst[2 * i] = even[i];
        dst[2 * i + 1] = odd[i];
    }
}

/* Copies `rows` rows, `line_row` apart, into prepared rows; `line` is what their first element would be. */
static FC_UNUSED void FC_NAME(direct_prepare_rows)(const fc_direct_job *d, const int64_t *inside, const FC_T *line,
                                                   int64_t line_row, int64_t rows, FC_T *dst) {
    const int64_t step = d->job.g.step[2], n = d->segment, pitch = d->segments * n;
    if (step == 2 && d->x.shared) { /* both phases start in the source together; the first may have one element more */
        const int64_t lo = inside[0], even = inside[1], odd = inside[3];
        for (int64_t r = 0; r < rows; r++, line += line_row, dst += pitch) {
            FC_NAME(direct_unzip)(dst + lo, dst + n + lo, line + 2 * lo, odd - lo);
            if (even > odd)
                dst[odd] = line[2 * odd];
        }
        return;
    }
    for (int64_t i = 0; i < d->segments; i++, inside += 2) {
        const int64_t lo = inside[0], hi = inside[1];
        const FC_T *from = line + (d->x.shared ? i : d->x.offset[i] - d->x.offset[0]);
        FC_T *to = dst + i * n;
        for (int64_t r = 0; r < rows; r++, from += line_row, to += pitch)
            if (step == 1)
                FC_NAME(direct_copy)(to + lo, from + lo, hi - lo);
            else
                for (int64_t j = lo; j < hi; j++)
                    to[j] = from[step * j];
    }
}

/* Copies what a tile reads into sheets that are zero left and right of the source. */
static FC_UNUSED void FC_NAME(direct_prepare)(const fc_direct_job *d, const fc_direct_tile *tile, const int64_t *inside,
                                              FC_T *sheets) {
    const fc_conv *g = &d->job.g;
    const int64_t width = g->size[2], pitch = d->segments * d->segment;
    const int64_t pieces = d->y.shared ? 1 : d->y.taps, step = d->y.shared ? 1 : g->step[1], rows = d->rows / pieces;
    const int64_t x = tile->x * g->step[2] + (d->x.shared ? d->x.first : d->x.offset[0]);
    const FC_T *plane =
        (const FC_T *)d->job.src + tile->image * g->src_image + tile->group * g->channels * g->src_channel;
    for (int64_t c = 0; c < g->channels; c++, plane += g->src_channel)
        for (int64_t a = 0; a < g->ntaps[0]; a++) {
            const int64_t z = tile->z * g->step[0] + g->offset[0][a];
            const int64_t height = z >= 0 && z < g->size[0] ? g->size[1] : 0;
            for (int64_t i = 0; i < pieces; i++, sheets += rows * pitch) {
                const int64_t y = tile->y * g->step[1] + (d->y.shared ? d->y.first : d->y.offset[i]);
                int64_t lo, hi;
                fc_direct_inside(y, step, height, rows, &lo, &hi);
                memset(sheets, 0, (size_t)(lo * pitch) * sizeof(FC_T));
                FC_NAME(direct_prepare_rows)(d, inside, plane + (z * g->size[1] + y + lo * step) * width + x, step * width,
                                             hi - lo, sheets + lo * pitch);
                memset(sheets + hi * pitch, 0, (size_t)((rows - hi) * pitch) * sizeof(FC_T));
            }
        }
}

/* ---------------------------------------------------------------------------------------------- sums */

/* `rows` output rows by `vectors` vectors, `gap` apart, of a k x k kernel; k, step, rows and vectors constant.  Each source
 * vector is loaded once and serves all the rows that see it: row i sees prepared row r through tap r - i * step. */
FC_INLINE void FC_NAME(direct_fixed)(const FC_T *at, int64_t row, int64_t sheets, int64_t sheet, const int64_t *column,
                                     const FC_T *w, FC_T init, int64_t gap, FC_T *out, int64_t out_row, const int k,
                                     const int step, const int rows, const int vectors) {
    FC_V sum[4][2];
#pragma GCC unroll 4
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            sum[i][v] = (FC_V){0} + init;
    for (int64_t c = 0; c < sheets; c++, at += sheet, w += k * k) {
        const FC_T *line = at;
#pragma GCC unroll 16
        for (int r = 0; r < (rows - 1) * step + k; r++, line += row)
#pragma GCC unroll 8
            for (int e = 0; e < k; e++) {
                FC_V x[2];
#pragma GCC unroll 2
                for (int v = 0; v < vectors; v++) {
                    x[v] = *(const FC_V *)(line + column[e] + v * gap);
                    FC_KEEP(x[v]);
                }
#pragma GCC unroll 4
                for (int i = 0; i < rows; i++)
                    if (r >= i * step && r < i * step + k)
#pragma GCC unroll 2
                        for (int v = 0; v < vectors; v++)
                            sum[i][v] += x[v] * w[(r - i * step) * k + e];
            }
    }
#pragma GCC unroll 4
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            *(FC_V *)(out + i * out_row + v * gap) = sum[i][v];
}

/* Fetches a share of what the next tile reads, so that memory is busy while sums are computed. */
FC_INLINE const char *FC_NAME(direct_fetch)(const char *ahead, int64_t bytes) {
    for (int64_t i = 0; i < bytes; i += 64)
        FC_PREFETCH(ahead + i);
    return ahead + bytes;
}

/* `ny` rows of a k x k kernel. */
FC_INLINE void FC_NAME(direct_square)(const fc_direct_sum *s, const FC_T *at, int64_t ny, const FC_T *w, FC_T init,
                                      FC_T *out, int64_t out_row, const int k, const int step, const int vectors) {
    const int64_t row = s->across, n = fc_max(s->nx, FC_VL), sheets = s->sheets, sheet = s->sheet;
    const int64_t ahead_row = s->ahead_row;
    const char *ahead = s->ahead;
    int64_t column[5], x;
    for (int e = 0; e < k; e++)
        column[e] = s->offset[e];
    for (; ny >= 4; ny -= 4, at += 4 * step * row, out += 4 * out_row) {
        ahead = FC_NAME(direct_fetch)(ahead, 4 * ahead_row);
        for (x = 0; vectors == 2 && n - x > FC_VL; x += 2 * FC_VL)
            FC_NAME(direct_fixed)(at + x, row, sheets, sheet, column, w, init, fc_min(FC_VL, n - FC_VL - x), out + x,
                                  out_row, k, step, 4, vectors);
        for (; x < n; x += FC_VL) {
            x = fc_min(x, n - FC_VL);
            FC_NAME(direct_fixed)(at + x, row, sheets, sheet, column, w, init, 0, out + x, out_row, k, step, 4, 1);
        }
    }
    ahead = FC_NAME(direct_fetch)(ahead, ny * ahead_row);
    for (; ny > 0; ny--, at += step * row, out += out_row)
        for (x = 0; x < n; x += FC_VL) {
            x = fc_min(x, n - FC_VL);
            FC_NAME(direct_fixed)(at + x, row, sheets, sheet, column, w, init, 0, out + x, out_row, k, step, 1, 1);
        }
}

#define FC_DIRECT_SQUARE(k, step, vectors)                                                                              \
    static FC_UNUSED void FC_NAME(direct_square_##k##_##step)(const fc_direct_sum *s, const FC_T *at, int64_t ny,      \
                                                              const FC_T *w, FC_T init, FC_T *out, int64_t out_row) {  \
        FC_NAME(direct_square)(s, at, ny, w, init, out, out_row, k, step, vectors);                                     \
    }
FC_DIRECT_SQUARE(3, 1, 1)
FC_DIRECT_SQUARE(3, 2, 1)
FC_DIRECT_SQUARE(5, 1, 2)
FC_DIRECT_SQUARE(5, 2, 2)
#undef FC_DIRECT_SQUARE

/* direct_fixed for any kernel and step. */
FC_INLINE void FC_NAME(direct_any)(const fc_direct_sum *s, const FC_T *at, const FC_T *w, FC_T init, int64_t gap,
                                   FC_T *out, int64_t out_row, const int rows, const int vectors) {
    const int64_t taps = s->kh * s->kw, *offset = s->offset, row = s->row;
    FC_V sum[4][4];
#pragma GCC unroll 4
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            sum[i][v] = (FC_V){0} + init;
    for (int64_t c = 0; c < s->sheets; c++, at += s->sheet, w += taps)
        for (int64_t t = 0; t < taps; t++)
#pragma GCC unroll 4
            for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
                for (int v = 0; v < vectors; v++)
                    sum[i][v] += *(const FC_V *)(at + offset[t] + i * row + v * gap) * w[t];
#pragma GCC unroll 4
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            *(FC_V *)(out + i * out_row + v * gap) = sum[i][v];
}

static FC_UNUSED void FC_NAME(direct_rows_any)(const fc_direct_sum *s, const FC_T *at, const FC_T *w, FC_T init, FC_T *out,
                                               int64_t out_row) {
    const int64_t n = fc_max(s->nx, FC_VL);
    const char *ahead = s->ahead;
    int64_t y = 0, x;
    for (; y + 4 <= s->ny; y += 4, at += 4 * s->row, out += 4 * out_row) {
        ahead = FC_NAME(direct_fetch)(ahead, 4 * s->ahead_row);
        for (x = 0; n - x > FC_VL; x += 2 * FC_VL)
            FC_NAME(direct_any)(s, at + x, w, init, fc_min(FC_VL, n - FC_VL - x), out + x, out_row, 4, 2);
        if (x < n)
            FC_NAME(direct_any)(s, at + n - FC_VL, w, init, 0, out + n - FC_VL, out_row, 4, 1);
    }
    for (; y < s->ny; y++, at += s->row, out += out_row) {
        for (x = 0; x + 4 * FC_VL <= n; x += 4 * FC_VL)
            FC_NAME(direct_any)(s, at + x, w, init, FC_VL, out + x, out_row, 1, 4);
        for (; x < n; x += FC_VL) {
            x = fc_min(x, n - FC_VL);
            FC_NAME(direct_any)(s, at + x, w, init, 0, out + x, out_row, 1, 1);
        }
    }
}

/* Sums of a phase of a tile; out has room for whole vectors. */
static FC_UNUSED void FC_NAME(direct_rows)(const fc_direct_sum *s, const FC_T *at, const FC_T *w, FC_T init, FC_T *out,
                                           int64_t out_row) {
    int64_t classes;
    const int step = fc_direct_sharing(s, &classes);
    if (step == 0) {
        FC_NAME(direct_rows_any)(s, at, w, init, out, out_row);
        return;
    }
    for (int64_t i = 0; i < fc_min(classes, s->ny); i++, at += s->row, out += out_row) {
        const int64_t ny = (s->ny - i + classes - 1) / classes;
        if (s->kh == 3)
            (step == 1 ? FC_NAME(direct_square_3_1) : FC_NAME(direct_square_3_2))(s, at, ny, w, init, out, classes * out_row);
        else
            (step == 1 ? FC_NAME(direct_square_5_1) : FC_NAME(direct_square_5_2))(s, at, ny, w, init, out, classes * out_row);
    }
}

/* Rows of the result from the staged phases in x, `stage` elements each. */
static FC_UNUSED void FC_NAME(direct_unstage)(const fc_direct_job *d, const fc_direct_tile *tile, const FC_T *staged,
                                              int64_t stage, int64_t ny, FC_T *out) {
    const int64_t step = d->job.g.dst_step[2], *start = d->x.start, *grid = d->x.grid;
    const int zip = step == 2 && d->x.phases == 2; /* then the first phase starts first */
    for (int64_t y = 0; y < ny; y++, staged += d->width, out += d->job.g.dst_step[1]) {
        if (zip) {
            const int64_t n = fc_min(d->x.tile, grid[1] - tile->x), even = fc_min(d->x.tile, grid[0] - tile->x);
            FC_NAME(direct_zip)(out, staged, staged + stage, n);
            for (int64_t i = fc_max(n, 0); i < even; i++)
                out[2 * i] = staged[i];
            continue;
        }
        for (int64_t q = 0; q < d->x.phases; q++) {
            const int64_t n = fc_min(d->x.tile, grid[q] - tile->x);
            const FC_T *from = staged + q * stage;
            if (step == 1)
                FC_NAME(direct_copy)(out, from, n);
            for (int64_t i = 0; step > 1 && i < n; i++)
                out[start[q] + i * step] = from[i];
        }
    }
}

/* Prepares a tile, and where it lies elsewhere in its plane than the one before the scratch memory for it. */
static FC_UNUSED void FC_NAME(direct_enter)(const fc_direct_job *d, const fc_direct_tile *tile, fc_direct_tile *before,
                                            const fc_direct_scratch *scratch) {
    if (tile->y != before->y || tile->x != before->x)
        fc_direct_place(d, tile, scratch);
    if (tile->x != before->x)
        memset(scratch->sheets, 0, (size_t)fc_direct_sheet_bytes(d, sizeof(FC_T)) + FC_VL * sizeof(FC_T));
    *before = *tile;
    FC_NAME(direct_prepare)(d, tile, scratch->inside, scratch->sheets);
}

/* Has the sums of the first phase fetch what the next tile will read. */
static FC_UNUSED void FC_NAME(direct_look_ahead)(const fc_direct_job *d, const fc_direct_tile *next, fc_direct_sum *s) {
    const fc_conv *g = &d->job.g;
    const int64_t y = fc_max(0, next->y * g->step[1] + d->y.first), z = fc_max(0, next->z * g->step[0] + g->offset[0][0]);
    const int64_t elements =
        d->y.tiles == 1 ? g->channels * g->src_channel : fc_min(d->rows, g->size[1]) * g->size[2];
    s->ahead = (const char *)((const FC_T *)d->job.src + next->image * g->src_image +
                              next->group * g->channels * g->src_channel + (z * g->size[1] + y) * g->size[2]);
    s->ahead_row = fc_min(elements * (int64_t)sizeof(FC_T), FC_DIRECT_L2) / s->ny;
}

/* The weights of phase s between a result of a group and all it is summed from, by sheets. */
static FC_UNUSED const FC_T *FC_NAME(direct_weights)(const fc_direct_job *d, const fc_direct_sum *s, const FC_T *filter,
                                                     FC_T *memory) {
    const fc_conv_job *job = &d->job;
    const int64_t taps = s->kh * s->kw, *index = s->index;
    FC_T *w = memory;
    if (job->w_contiguous)
        return filter;
    for (int64_t c = 0; c < job->g.channels; c++)
        for (int64_t a = 0; a < job->g.ntaps[0]; a++) {
            const FC_T *from = filter + c * job->w_c + job->tap[a] * d->kernel[0] * d->kernel[1];
            for (int64_t t = 0; t < taps; t++)
                *w++ = from[index[t]];
        }
    return memory;
}

/* Tiles from `first` to `last`, each for all results of its group. */
static FC_UNUSED void FC_NAME(direct_item)(const fc_direct_job *d, int64_t first, int64_t last, void *memory) {
    const fc_conv_job *job = &d->job;
    const fc_conv *g = &job->g;
    const fc_direct_scratch scratch = fc_direct_split(d, sizeof(FC_T), FC_VL, 0, memory);
    const int64_t stage = d->y.tile * d->width;
    FC_T *staged = scratch.stage;
    fc_direct_tile next = fc_direct_find(d, first), before = {-1, -1, -1, -1, -1};
    for (int64_t i = first; i < last; i++) {
        const fc_direct_tile tile = next;
        FC_NAME(direct_enter)(d, &tile, &before, &scratch);
        fc_direct_forward(d, &next);
        if (i + 1 < last)
            FC_NAME(direct_look_ahead)(d, &next, scratch.phase);
        const int stages = g->dst_step[2] > 1 || d->x.longest - tile.x < FC_VL || d->x.tile < FC_VL;
        for (int64_t m = 0; m < job->m; m++) {
            const fc_direct_sum *s = scratch.phase;
            const int64_t channel = tile.group * job->dst_group + m;
            const FC_T *filter = (const FC_T *)job->w + tile.group * job->w_group + m * job->w_m;
            const FC_T init = job->b ? ((const FC_T *)job->b)[channel] : (FC_T)0;
            FC_T *plane = (FC_T *)job->dst + tile.image * g->dst_image + channel * g->dst_channel +
                          tile.z * g->dst_step[0] + tile.y * g->dst_step[1] + tile.x * g->dst_step[2];
            for (int64_t p = 0; p < d->y.phases; p++) {
                FC_T *out = plane + d->y.start[p];
                for (int64_t q = 0; q < d->x.phases; q++, s++)
                    FC_NAME(direct_rows)(s, (const FC_T *)scratch.sheets + s->origin,
                                         FC_NAME(direct_weights)(d, s, filter, scratch.weights), init,
                                         stages ? staged + q * stage : out, stages ? d->width : g->dst_step[1]);
                if (stages)
                    FC_NAME(direct_unstage)(d, &tile, staged, stage, s[-1].ny, out);
            }
            if (fc_epilogue_finishes(&job->epilogue)) { /* a forward pass, of one phase; whole rows are one run */
                const FC_T *residual = (const FC_T *)job->epilogue.residual;
                const int64_t ny = scratch.phase->ny, nx = scratch.phase->nx, run = nx == g->dst_step[1] ? ny : 1;
                FC_NAME(finish)(&job->epilogue, residual ? residual + (plane - (const FC_T *)job->dst) : NULL, plane,
                                g->dst_step[1], ny / run, nx * run);
            }
            scratch.phase->ahead_row = 0;
        }
    }
}

/* ---------------------------------------------------------------------------------------------- weight gradient */

#if FC_VL > 1
/* Lanes from `from` to `to`; the others become zero whatever they hold. */
FC_INLINE FC_NAME(fc_lanes) FC_NAME(direct_mask)(int64_t from, int64_t to) {
    FC_INT lane[FC_VL];
    FC_NAME(fc_lanes) mask;
    for (int l = 0; l < FC_VL; l++)
        lane[l] = l >= from && l < to ? -1 : 0;
    memcpy(&mask, lane, sizeof(mask));
    return mask;
}
#define FC_MASKED(v, masked) ((masked) ? (FC_V)((FC_NAME(fc_lanes))(v) & mask) : (v))
#else
#define FC_MASKED(v, masked) ((void)(masked), (void)mask, (v))
typedef FC_INT FC_NAME(fc_lanes);
FC_INLINE FC_NAME(fc_lanes) FC_NAME(direct_mask)(int64_t from, int64_t to) { return from < to; }
#endif

/* sum[t] += gradient * source over `rows` rows of one vector, for `columns` taps of each kernel row; see direct_fixed. */
FC_INLINE void FC_NAME(direct_dot_fixed)(const int64_t *column, const FC_T *at, int64_t row, const FC_T *grad,
                                         int64_t grad_row, FC_V *sum, const FC_NAME(fc_lanes) mask, const int k,
                                         const int columns, const int step, const int rows, const int masked) {
    FC_V y[4];
#pragma GCC unroll 4
    for (int i = 0; i < rows; i++)
        y[i] = FC_MASKED(*(const FC_V *)(grad + i * grad_row), masked);
#pragma GCC unroll 16
    for (int r = 0; r < (rows - 1) * step + k; r++, at += row)
#pragma GCC unroll 4
        for (int e = 0; e < columns; e++) {
            FC_V x = FC_MASKED(*(const FC_V *)(at + column[e]), masked);
            FC_KEEP(x);
#pragma GCC unroll 4
            for (int i = 0; i < rows; i++)
                if (r >= i * step && r < i * step + k)
                    sum[(r - i * step) * columns + e] += x * y[i];
        }
}

/* The same for whole rows, `ny` of them. */
FC_INLINE void FC_NAME(direct_dots_square)(const fc_direct_sum *s, const FC_T *at, int64_t ny, const FC_T *grad,
                                           int64_t grad_row, int64_t e0, const FC_NAME(fc_lanes) mask, FC_V *sums,
                                           const int k, const int columns, const int step) {
    const int64_t row = s->across, nx = s->nx, whole = nx / FC_VL * FC_VL, last = fc_max(nx - FC_VL, 0);
    const int64_t ahead_row = e0 == 0 ? s->ahead_row : 0;
    const char *ahead = s->ahead;
    int64_t column[3], x;
    FC_V sum[10];
    for (int e = 0; e < columns; e++)
        column[e] = s->offset[e0 + e];
#pragma GCC unroll 10
    for (int t = 0; t < k * columns; t++)
        sum[t] = sums[t / columns * k + e0 + t % columns];
    for (; ny >= 4; ny -= 4, at += 4 * step * row, grad += 4 * grad_row) {
        ahead = FC_NAME(direct_fetch)(ahead, 4 * ahead_row);
        for (x = 0; x < whole; x += FC_VL)
            FC_NAME(direct_dot_fixed)(column, at + x, row, grad + x, grad_row, sum, mask, k, columns, step, 4, 0);
        if (whole < nx)
            FC_NAME(direct_dot_fixed)(column, at + last, row, grad + last, grad_row, sum, mask, k, columns, step, 4, 1);
    }
    for (; ny > 0; ny--, at += step * row, grad += grad_row) {
        for (x = 0; x < whole; x += FC_VL)
            FC_NAME(direct_dot_fixed)(column, at + x, row, grad + x, grad_row, sum, mask, k, columns, step, 1, 0);
        if (whole < nx)
            FC_NAME(direct_dot_fixed)(column, at + last, row, grad + last, grad_row, sum, mask, k, columns, step, 1, 1);
    }
#pragma GCC unroll 10
    for (int t = 0; t < k * columns; t++)
        sums[t / columns * k + e0 + t % columns] = sum[t];
}

#define FC_DIRECT_DOTS(k, columns, step)                                                                                \
    static FC_UNUSED void FC_NAME(direct_dots_##k##_##columns##_##step)(                                               \
        const fc_direct_sum *s, const FC_T *at, int64_t ny, const FC_T *grad, int64_t grad_row, int64_t e0,            \
        const FC_NAME(fc_lanes) mask, FC_V *sums) {                                                                    \
        FC_NAME(direct_dots_square)(s, at, ny, grad, grad_row, e0, mask, sums, k, columns, step);                      \
    }
FC_DIRECT_DOTS(3, 3, 1)
FC_DIRECT_DOTS(3, 3, 2)
FC_DIRECT_DOTS(5, 2, 1)
FC_DIRECT_DOTS(5, 2, 2)
FC_DIRECT_DOTS(5, 1, 1)
FC_DIRECT_DOTS(5, 1, 2)
#undef FC_DIRECT_DOTS

/* The same for taps t0..t0+count of any kernel, count constant. */
FC_INLINE void FC_NAME(direct_dots_any)(const fc_direct_sum *s, const FC_T *at, const FC_T *grad, int64_t grad_row,
                                        int64_t t0, const FC_NAME(fc_lanes) mask, FC_V *sums, const int count) {
    const int64_t whole = s->nx / FC_VL * FC_VL, last = fc_max(s->nx - FC_VL, 0);
    FC_V sum[9];
#pragma GCC unroll 9
    for (int t = 0; t < count; t++)
        sum[t] = sums[t0 + t];
    for (int64_t y = 0; y < s->ny; y++, at += s->row, grad += grad_row) {
        for (int64_t x = 0; x < whole; x += FC_VL) {
            const FC_V g = *(const FC_V *)(grad + x);
#pragma GCC unroll 9
            for (int t = 0; t < count; t++)
                sum[t] += *(const FC_V *)(at + s->offset[t0 + t] + x) * g;
        }
        if (whole < s->nx) {
            const FC_V g = FC_MASKED(*(const FC_V *)(grad + last), 1);
#pragma GCC unroll 9
            for (int t = 0; t < count; t++)
                sum[t] += FC_MASKED(*(const FC_V *)(at + s->offset[t0 + t] + last), 1) * g;
        }
    }
#pragma GCC unroll 9
    for (int t = 0; t < count; t++)
        sums[t0 + t] = sum[t];
}

/* Adds a tile to the vector sums of all taps of one sheet. */
static FC_UNUSED void FC_NAME(direct_dots)(const fc_direct_sum *s, const FC_T *at, const FC_T *grad,
                                           int64_t grad_row, FC_V *sums) {
    const int64_t tail = s->nx % FC_VL;
    const FC_NAME(fc_lanes) mask =
        s->nx < FC_VL ? FC_NAME(direct_mask)(0, s->nx) : FC_NAME(direct_mask)(FC_VL - tail, FC_VL);
    int64_t classes;
    const int step = fc_direct_sharing(s, &classes);
    if (step == 0) {
        int64_t t = 0;
        for (; t + 9 <= s->kh * s->kw; t += 9)
            FC_NAME(direct_dots_any)(s, at, grad, grad_row, t, mask, sums, 9);
        for (; t + 4 <= s->kh * s->kw; t += 4)
            FC_NAME(direct_dots_any)(s, at, grad, grad_row, t, mask, sums, 4);
        for (; t < s->kh * s->kw; t++)
            FC_NAME(direct_dots_any)(s, at, grad, grad_row, t, mask, sums, 1);
        return;
    }
    for (int64_t i = 0; i < fc_min(classes, s->ny); i++, at += s->row, grad += grad_row) {
        const int64_t ny = (s->ny - i + classes - 1) / classes, skip = classes * grad_row;
        if (s->kh == 3) {
            (step == 1 ? FC_NAME(direct_dots_3_3_1) : FC_NAME(direct_dots_3_3_2))(s, at, ny, grad, skip, 0, mask, sums);
            continue;
        }
        for (int64_t e = 0; e < 4; e += 2)
            (step == 1 ? FC_NAME(direct_dots_5_2_1) : FC_NAME(direct_dots_5_2_2))(s, at, ny, grad, skip, e, mask, sums);
        (step == 1 ? FC_NAME(direct_dots_5_1_1) : FC_NAME(direct_dots_5_1_2))(s, at, ny, grad, skip, 4, mask, sums);
    }
}

/* The weight gradient of results m0 to m1 of one group. */
static FC_UNUSED void FC_NAME(direct_weight_item)(const fc_direct_job *d, int64_t group, int64_t m0, int64_t m1, void *memory) {
    const fc_conv_job *job = &d->job;
    const fc_conv *g = &job->g;
    const int64_t taps = d->y.taps * d->x.taps, filter = d->sheets * taps, total = (m1 - m0) * filter;
    const fc_direct_scratch scratch = fc_direct_split(d, sizeof(FC_T), FC_VL, total, memory);
    FC_T *dw = (FC_T *)job->dst + (group * job->m + m0) * filter;
    FC_V *sums = scratch.sums;
    fc_direct_tile next = {0, group, 0, 0, 0}, before = {-1, -1, -1, -1, -1};
    memset(sums, 0, (size_t)total * sizeof(FC_V));
    while (next.image < g->images) {
        const fc_direct_tile tile = next;
        FC_NAME(direct_enter)(d, &tile, &before, &scratch);
        next.image += !fc_direct_next(d, &next);
        if (next.image < g->images)
            FC_NAME(direct_look_ahead)(d, &next, scratch.phase);
        const fc_direct_sum *s = scratch.phase;
        for (int64_t m = m0; m < m1; m++) {
            const FC_T *grad = (const FC_T *)d->grad + tile.image * g->dst_image +
                               (group * job->m + m) * g->dst_channel + tile.z * g->dst_step[0] +
                               tile.y * g->dst_step[1] + tile.x;
            int64_t grad_row = g->dst_step[1];
            if (s->nx < FC_VL) { /* the end of the last row may not be readable: use a copy */
                FC_T *copy = scratch.stage;
                for (int64_t y = 0; y < s->ny; y++)
                    FC_NAME(direct_copy)(copy + y * FC_VL, grad + y * grad_row, s->nx);
                grad = copy;
                grad_row = FC_VL;
            }
            for (int64_t c = 0; c < d->sheets; c++)
                FC_NAME(direct_dots)(s, (const FC_T *)scratch.sheets + s->origin + c * s->sheet, grad, grad_row,
                                     sums + (m - m0) * filter + c * taps);
            scratch.phase->ahead_row = 0;
        }
    }
    for (int64_t t = 0; t < total; t++) {
        FC_T lane[FC_VL], sum = 0;
        memcpy(lane, sums + t, sizeof(lane));
        for (int l = 0; l < FC_VL; l++)
            sum += lane[l];
        dw[t] = sum;
    }
}
