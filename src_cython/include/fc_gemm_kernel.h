/* Register-tiled matrix product: the micro-kernel that convolution and linear layers stand on.
 *
 * Panels: a is [k][GEMM_MR], b is [k][GEMM_NR], both contiguous.  The tile has 12 accumulators where a level has 16 vector
 * registers and 24 where it has 32: enough independent FMA chains to hide the latency of two FMA pipes.  Vector types are
 * those of fc_vectors.h. */

#undef GEMM_MR
#undef GEMM_NRV
#undef GEMM_NR
#undef FC_SHUFFLE
#if FC_VL == 1
#define GEMM_MR 4
#define GEMM_NRV 4
#elif FC_LEVEL == 2
#define GEMM_MR 12
#define GEMM_NRV 2
#else
#define GEMM_MR 6
#define GEMM_NRV 2
#endif
#define GEMM_NR (GEMM_NRV * FC_VL)

static FC_UNUSED const int FC_NAME(gemm_mr) = GEMM_MR;
static FC_UNUSED const int FC_NAME(gemm_nr) = GEMM_NR;
static FC_UNUSED const int FC_NAME(gemm_tw) = GEMM_TW;

/* Tail tiles come in three heights, so that a few rows do not cost a whole tile. */
#undef GEMM_MR_STEP
#define GEMM_MR_STEP (GEMM_MR == 12 ? 4 : 2)

FC_INLINE void FC_NAME(activate_as)(const int activation, FC_T slope, const int rows, const int vectors,
                                    FC_V acc[GEMM_MR][GEMM_NRV]) {
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int j = 0; j < vectors; j++)
            acc[i][j] = FC_NAME(activate)(activation, slope, acc[i][j]);
}

/* The activation of `vectors` vectors of each of `rows` rows (constants) of sums. */
FC_INLINE void FC_NAME(activate_tile)(const fc_epilogue *e, const int rows, const int vectors,
                                      FC_V acc[GEMM_MR][GEMM_NRV]) {
    const FC_T slope = (FC_T)e->slope;
    switch (e->activation) {
    case FC_RELU: FC_NAME(activate_as)(FC_RELU, slope, rows, vectors, acc); break;
    case FC_RELU6: FC_NAME(activate_as)(FC_RELU6, slope, rows, vectors, acc); break;
    case FC_LEAKY_RELU: FC_NAME(activate_as)(FC_LEAKY_RELU, slope, rows, vectors, acc); break;
    }
}

/* Vector j of row i at c[j] + i * ldc = (load ? what is there : init[i]) + sum_p a[p * GEMM_MR + i] * b[j][offset[p]] for the
 * first m of `rows` rows (a constant); init may be NULL for zeros, and offset NULL for p * GEMM_NR.  k * step
 * elements from `ahead` on are fetched into the cache for a later product.  Where e is given, its activation and the
 * residual (residual[j], laid out as c[j], or NULL) finish the sums. */
FC_INLINE void FC_NAME(gemm_tile)(const int rows, int64_t k, const FC_T *restrict a, const FC_T *const *b,
                                  const int64_t *offset, const FC_T *init, int load, FC_T *const *c, int64_t ldc,
                                  int64_t m, const FC_T *ahead, int64_t step, const fc_epilogue *e,
                                  const FC_T *const *residual) {
    FC_V acc[GEMM_MR][GEMM_NRV];
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int j = 0; j < GEMM_NRV; j++)
            acc[i][j] = (FC_V){0};
    for (int i = 0; i < m; i++) { /* the tile will be read or written after the loop */
        FC_PREFETCH(c[0] + i * ldc);
        if (e && residual)
            FC_PREFETCH(residual[0] + i * ldc);
    }
    for (int64_t p = 0; p < k; p++) {
        const int64_t at = offset ? offset[p] : p * GEMM_NR;
        FC_V bv[GEMM_NRV];
        if (step) {
            FC_PREFETCH(ahead);
            ahead += step;
        }
#pragma GCC unroll 4
        for (int j = 0; j < GEMM_NRV; j++)
            bv[j] = *(const FC_V *)(b[j] + at);
#pragma GCC unroll 16
        for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
            for (int j = 0; j < GEMM_NRV; j++)
                acc[i][j] += bv[j] * a[i];
        a += GEMM_MR;
    }
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) {
        if (i >= m)
            break;
        FC_T first = init ? init[i] : (FC_T)0;
#pragma GCC unroll 4
        for (int j = 0; j < GEMM_NRV; j++) {
            FC_V *out = (FC_V *)(c[j] + i * ldc);
            FC_V base = (FC_V){0} + first;
            if (load)
                base = *out;
            acc[i][j] += base;
            if (e && residual)
                acc[i][j] += *(const FC_V *)(residual[j] + i * ldc);
            if (!e)
                *out = acc[i][j];
        }
    }
    if (!e)
        return;
    FC_NAME(activate_tile)(e, rows, GEMM_NRV, acc);
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) {
        if (i >= m)
            break;
#pragma GCC unroll 4
        for (int j = 0; j < GEMM_NRV; j++)
            *(FC_V *)(c[j] + i * ldc) = acc[i][j];
    }
}

/* A tile of neighbouring vectors on packed columns. */
FC_INLINE void FC_NAME(gemm_packed)(const int rows, int64_t k, const FC_T *a, const FC_T *b, const FC_T *init, int load,
                                    FC_T *c, int64_t ldc, int64_t m, const FC_T *ahead, int64_t step,
                                    const fc_epilogue *e, const FC_T *residual) {
    const FC_T *from[GEMM_NRV];
    FC_T *to[GEMM_NRV];
    const FC_T *rest[GEMM_NRV];
    for (int j = 0; j < GEMM_NRV; j++) {
        from[j] = b + j * FC_VL;
        to[j] = c + j * FC_VL;
        rest[j] = residual ? residual + j * FC_VL : NULL;
    }
    FC_NAME(gemm_tile)(rows, k, a, from, NULL, init, load, to, ldc, m, ahead, step, e, residual ? rest : NULL);
}

/* c[i][j] = (load ? c[i][j] : init[i]) + sum_p a[p][i] * b[p][j]; init may be NULL for zeros. */
static FC_UNUSED void FC_NAME(gemm)(int64_t k, const FC_T *a, const FC_T *b, const FC_T *init, int load, FC_T *c,
                                    int64_t ldc) {
    FC_NAME(gemm_packed)(GEMM_MR, k, a, b, init, load, c, ldc, GEMM_MR, NULL, 0, NULL, NULL);
}

/* The same, fetching k * step elements from `ahead` on into the cache for a later product. */
static FC_UNUSED void FC_NAME(gemm_ahead)(int64_t k, const FC_T *a, const FC_T *b, int load, FC_T *c, int64_t ldc,
                                          const FC_T *ahead, int64_t step) {
    FC_NAME(gemm_packed)(GEMM_MR, k, a, b, NULL, load, c, ldc, GEMM_MR, ahead, step, NULL, NULL);
}

/* The first m rows of gemm(), m at most GEMM_MR. */
static FC_UNUSED void FC_NAME(gemm_rows)(int64_t k, const FC_T *a, const FC_T *b, const FC_T *init, int load, FC_T *c,
                                         int64_t ldc, int64_t m) {
    if (m <= GEMM_MR_STEP)
        FC_NAME(gemm_packed)(GEMM_MR_STEP, k, a, b, init, load, c, ldc, m, NULL, 0, NULL, NULL);
    else if (m <= 2 * GEMM_MR_STEP)
        FC_NAME(gemm_packed)(2 * GEMM_MR_STEP, k, a, b, init, load, c, ldc, m, NULL, 0, NULL, NULL);
    else
        FC_NAME(gemm_packed)(GEMM_MR, k, a, b, init, load, c, ldc, m, NULL, 0, NULL, NULL);
}

/* gemm_rows() of sums that are complete with it: then comes the epilogue. */
static FC_UNUSED void FC_NAME(gemm_last)(int64_t k, const FC_T *a, const FC_T *b, const FC_T *init, int load, FC_T *c,
                                         int64_t ldc, int64_t m, const fc_epilogue *e, const FC_T *residual) {
    if (m <= GEMM_MR_STEP)
        FC_NAME(gemm_packed)(GEMM_MR_STEP, k, a, b, init, load, c, ldc, m, NULL, 0, e, residual);
    else if (m <= 2 * GEMM_MR_STEP)
        FC_NAME(gemm_packed)(2 * GEMM_MR_STEP, k, a, b, init, load, c, ldc, m, NULL, 0, e, residual);
    else if (m < GEMM_MR)
        FC_NAME(gemm_packed)(GEMM_MR, k, a, b, init, load, c, ldc, m, NULL, 0, e, residual);
    else
        FC_NAME(gemm_packed)(GEMM_MR, k, a, b, init, load, c, ldc, GEMM_MR, NULL, 0, e, residual);
}

/* gemm_rows() on unpacked columns: vector j of b's row p lies at b[j] + offset[p]. */
static FC_UNUSED void FC_NAME(gemm_indirect)(int64_t k, const FC_T *restrict a, const FC_T *const *b, const int64_t *offset,
                                             const FC_T *init, FC_T *const *c, int64_t ldc, int64_t m) {
    if (m <= GEMM_MR_STEP)
        FC_NAME(gemm_tile)(GEMM_MR_STEP, k, a, b, offset, init, 0, c, ldc, m, NULL, 0, NULL, NULL);
    else if (m <= 2 * GEMM_MR_STEP)
        FC_NAME(gemm_tile)(2 * GEMM_MR_STEP, k, a, b, offset, init, 0, c, ldc, m, NULL, 0, NULL, NULL);
    else if (m < GEMM_MR)
        FC_NAME(gemm_tile)(GEMM_MR, k, a, b, offset, init, 0, c, ldc, m, NULL, 0, NULL, NULL);
    else
        FC_NAME(gemm_tile)(GEMM_MR, k, a, b, offset, init, 0, c, ldc, GEMM_MR, NULL, 0, NULL, NULL);
}

/* c[i][j] = (load ? c[i][j] : 0) + sum_p a[i][offset[p]] * b[p][j] for i < rows (a constant): a is read where it lies, b is
 * [k][GEMM_NR] and c [rows][GEMM_NR]. */
FC_INLINE void FC_NAME(gather_tile)(const int rows, int64_t k, const FC_T *const *a, const int64_t *restrict offset,
                                    const FC_T *restrict b, int load, FC_T *restrict c) {
    FC_V acc[GEMM_MR][GEMM_NRV];
    const FC_T *row[GEMM_MR];
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) {
        row[i] = a[i];
#pragma GCC unroll 4
        for (int j = 0; j < GEMM_NRV; j++)
            acc[i][j] = (FC_V){0};
    }
    for (int64_t p = 0; p < k; p++) {
        const int64_t at = offset[p];
        FC_V bv[GEMM_NRV];
#pragma GCC unroll 4
        for (int j = 0; j < GEMM_NRV; j++)
            bv[j] = *(const FC_V *)(b + j * FC_VL);
#pragma GCC unroll 16
        for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
            for (int j = 0; j < GEMM_NRV; j++)
                acc[i][j] += bv[j] * row[i][at];
        b += GEMM_NR;
    }
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int j = 0; j < GEMM_NRV; j++) {
            FC_V *out = (FC_V *)(c + i * GEMM_NR + j * FC_VL);
            if (load)
                acc[i][j] += *out;
            *out = acc[i][j];
        }
}

/* The first m rows of a gathered tile, m at most GEMM_MR; a and c have room for a whole one. */
static FC_UNUSED void FC_NAME(gemm_gather)(int64_t k, const FC_T *const *a, const int64_t *offset, const FC_T *b, int load,
                                           FC_T *c, int64_t m) {
    if (m <= GEMM_MR_STEP)
        FC_NAME(gather_tile)(GEMM_MR_STEP, k, a, offset, b, load, c);
    else if (m <= 2 * GEMM_MR_STEP)
        FC_NAME(gather_tile)(2 * GEMM_MR_STEP, k, a, offset, b, load, c);
    else
        FC_NAME(gather_tile)(GEMM_MR, k, a, offset, b, load, c);
}

/* Writes dst[p][l] = rows[l][p] for l < lanes, p < count (lanes constant, at most 64).
 *
 * Works in whole blocks: up to GEMM_TW rows behind the last one are overwritten, and up to GEMM_TW - 1 elements behind
 * each source row are read. */
#if FC_VL == 1
FC_INLINE void FC_NAME(pack_transposed)(const FC_T *const *rows, const int lanes, int64_t count, FC_T *restrict dst) {
    for (int64_t p = 0; p < count; p++)
        for (int l = 0; l < lanes; l++)
            *dst++ = rows[l][p];
}
#else
#if defined(__clang__)
#define FC_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define FC_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (FC_NAME(fc_tint)){__VA_ARGS__})
#endif

FC_INLINE void FC_NAME(transpose)(FC_TV *r) {
#if GEMM_TBYTES / FC_TBYTES == 2
    FC_TV t = FC_SHUFFLE(r[0], r[1], 0, 2);
    r[1] = FC_SHUFFLE(r[0], r[1], 1, 3);
    r[0] = t;
#elif GEMM_TBYTES / FC_TBYTES == 4
    FC_TV a = FC_SHUFFLE(r[0], r[1], 0, 4, 2, 6), b = FC_SHUFFLE(r[0], r[1], 1, 5, 3, 7);
    FC_TV c = FC_SHUFFLE(r[2], r[3], 0, 4, 2, 6), d = FC_SHUFFLE(r[2], r[3], 1, 5, 3, 7);
    r[0] = FC_SHUFFLE(a, c, 0, 1, 4, 5);
    r[1] = FC_SHUFFLE(b, d, 0, 1, 4, 5);
    r[2] = FC_SHUFFLE(a, c, 2, 3, 6, 7);
    r[3] = FC_SHUFFLE(b, d, 2, 3, 6, 7);
#else
    FC_TV t[8], s[8];
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) {
        t[i] = FC_SHUFFLE(r[i], r[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
        t[i + 1] = FC_SHUFFLE(r[i], r[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4) {
        s[i] = FC_SHUFFLE(t[i], t[i + 2], 0, 1, 8, 9, 4, 5, 12, 13);
        s[i + 1] = FC_SHUFFLE(t[i], t[i + 2], 2, 3, 10, 11, 6, 7, 14, 15);
        s[i + 2] = FC_SHUFFLE(t[i + 1], t[i + 3], 0, 1, 8, 9, 4, 5, 12, 13);
        s[i + 3] = FC_SHUFFLE(t[i + 1], t[i + 3], 2, 3, 10, 11, 6, 7, 14, 15);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        r[i] = FC_SHUFFLE(s[i], s[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        r[i + 4] = FC_SHUFFLE(s[i], s[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
#endif
}

FC_INLINE void FC_NAME(pack_transposed)(const FC_T *const *rows, const int lanes, int64_t count, FC_T *restrict dst) {
    for (int64_t p = 0; p < count; p += GEMM_TW, dst += GEMM_TW * lanes)
        /* last lane group first: what a partial group writes over is the start of the next row, still to come */
        for (int g = (lanes - 1) / GEMM_TW; g >= 0; g--) {
            FC_TV block[GEMM_TW];
#pragma GCC unroll 8
            for (int i = 0; i < GEMM_TW; i++) {
                int lane = g * GEMM_TW + i;
                block[i] = *(const FC_TV *)(rows[lane < lanes ? lane : lanes - 1] + p);
            }
            FC_NAME(transpose)(block);
#pragma GCC unroll 8
            for (int i = 0; i < GEMM_TW; i++)
                *(FC_TV *)(dst + i * lanes + g * GEMM_TW) = block[i];
        }
}
#endif

/* FC_NAME(copy_lanes): GEMM_NR elements, whatever lies behind the ones that count. */
FC_INLINE void FC_NAME(copy_lanes)(FC_T *dst, const FC_T *src) {
#pragma GCC unroll 4
    for (int j = 0; j < GEMM_NRV; j++)
        *(FC_V *)(dst + j * FC_VL) = *(const FC_V *)(src + j * FC_VL);
}
