/* Packing of filters, for the implicit matrix product and for Winograd's transforms. */

/* One panel of GEMM_MR rows m0.. of the weight matrix for channels c0..c1: dst is [k][GEMM_MR], missing rows are zero.
 * Element (m, c, t) lies at w[m * stride_m + c * stride_c + tap[t]]; contiguous: (c, t) are neighbours in memory. */
static FC_UNUSED void FC_NAME(conv_pack_weights)(const FC_T *w, int64_t stride_m, int64_t stride_c, const int64_t *tap,
                                                 int64_t taps, int contiguous, int64_t m0, int64_t m, int64_t c0,
                                                 int64_t c1, FC_T *restrict dst) {
    const int64_t count = (c1 - c0) * taps;
    const FC_T *rows[GEMM_MR];
    w += m0 * stride_m + c0 * stride_c;
    if (contiguous && m - m0 >= GEMM_MR) {
        int64_t whole = (count - 1) / GEMM_TW * GEMM_TW; /* the rest by element: another thread may own what follows */
        for (int i = 0; i < GEMM_MR; i++)
            rows[i] = w + i * stride_m;
        FC_NAME(pack_transposed)(rows, GEMM_MR, whole, dst);
        for (int64_t k = whole; k < count; k++)
            for (int i = 0; i < GEMM_MR; i++)
                dst[k * GEMM_MR + i] = rows[i][k];
        return;
    }
    for (int64_t c = 0; c < c1 - c0; c++)
        for (int64_t t = 0; t < taps; t++)
            for (int i = 0; i < GEMM_MR; i++)
                *dst++ = m0 + i < m ? w[i * stride_m + c * stride_c + tap[t]] : (FC_T)0;
}
