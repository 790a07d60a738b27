/* Plain matrix product c = op(a) op(b) and its epilogue on the convolution's micro-kernel. */

#undef MATMUL_K
#define MATMUL_K 256 /* depth of a packed block */

/* Packs depth k0..k1 of vectors v0.. (rows of a^T or b^T) into one panel [k][lanes], lanes constant; missing vectors are
 * zero.  along_k: the depth is contiguous in memory, `stride` apart vectors; else vectors are, `stride` apart depths. */
FC_INLINE void FC_NAME(matmul_pack)(const FC_T *x, int along_k, int64_t stride, int64_t v0, int64_t count, int64_t k0,
                                    int64_t k1, const int lanes, FC_T *restrict dst) {
    const int64_t valid = fc_min(lanes, count - v0), k = k1 - k0;
    if (!along_k) {
        for (int64_t p = 0; p < k; p++, dst += lanes) {
            const FC_T *from = x + (k0 + p) * stride + v0;
            if (valid == lanes) { /* of constant size */
                memcpy(dst, from, (size_t)lanes * sizeof(FC_T));
                continue;
            }
            for (int64_t l = 0; l < valid; l++)
                dst[l] = from[l];
            for (int64_t l = valid; l < lanes; l++)
                dst[l] = 0;
        }
        return;
    }
    const FC_T *rows[GEMM_MR > GEMM_NR ? GEMM_MR : GEMM_NR];
    const int64_t whole = k / GEMM_TW * GEMM_TW;
    for (int64_t l = 0; l < lanes; l++)
        rows[l] = x + (v0 + fc_min(l, valid - 1)) * stride + k0;
    FC_NAME(pack_transposed)(rows, lanes, whole, dst);
    for (int64_t p = whole; p < k; p++)
        for (int64_t l = 0; l < lanes; l++)
            dst[p * lanes + l] = rows[l][p];
}

/* One work item: rows (item % row parts) and columns (item / row parts) of c. */
static FC_UNUSED void FC_NAME(matmul_item)(const fc_matmul_job *job, int64_t item, void *scratch) {
    const int64_t part_m = fc_matmul_rows(job), parts_m = (job->m + part_m - 1) / part_m;
    const int64_t m0 = item % parts_m * part_m, m1 = fc_min(job->m, m0 + part_m);
    const int64_t part_n = job->panels * GEMM_NR;
    const int64_t n0 = item / parts_m * part_n, n1 = fc_min(job->n, n0 + part_n);
    FC_T *a = scratch, *b = a + (part_m + GEMM_MR) * MATMUL_K + GEMM_TW * GEMM_MR;
    FC_T *c = job->c;
    for (int64_t k0 = 0; k0 < job->k; k0 += MATMUL_K) {
        const int64_t k1 = fc_min(job->k, k0 + MATMUL_K), k = k1 - k0;
        for (int64_t m = m0; m < m1; m += GEMM_MR)
            FC_NAME(matmul_pack)(job->a, !job->trans_a, job->trans_a ? job->m : job->k, m, job->m, k0, k1, GEMM_MR,
                                 a + (m - m0) * k);
        for (int64_t n = n0; n < n1; n += GEMM_NR) {
            FC_NAME(matmul_pack)(job->b, job->trans_b, job->trans_b ? job->k : job->n, n, job->n, k0, k1, GEMM_NR, b);
            for (int64_t m = m0; m < m1; m += GEMM_MR) {
                FC_T *tile = c + m * job->n + n;
                if (m + GEMM_MR <= m1 && n + GEMM_NR <= n1)
                    FC_NAME(gemm)(k, a + (m - m0) * k, b, NULL, k0 > 0, tile, job->n);
                else
                    FC_NAME(gemm_edge)(k, a + (m - m0) * k, b, NULL, k0 > 0, tile, job->n, NULL, fc_min(GEMM_MR, m1 - m),
                                       fc_min(GEMM_NR, n1 - n));
            }
        }
    }
    const FC_T *bias = job->epilogue.bias, *residual = job->epilogue.residual;
    for (int64_t m = m0; m < m1; m++) {
        FC_T *row = c + m * job->n;
        for (int64_t n = n0; n < n1; n++) {
            if (job->k == 0)
                row[n] = 0;
            if (bias)
                row[n] += bias[n];
        }
    }
    if (fc_epilogue_finishes(&job->epilogue))
        FC_NAME(finish)(&job->epilogue, residual ? residual + m0 * job->n + n0 : NULL, c + m0 * job->n + n0, job->n, m1 - m0,
                        n1 - n0);
}
