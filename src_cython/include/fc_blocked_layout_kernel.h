/* From planes to the blocked layout and back; items are (image, block). */

/* Writes blocks of `channels` planes; lanes behind the last channel become zeros. */
static FC_UNUSED void FC_NAME(blocked_from_planes)(const FC_T *planes, int64_t channels, int64_t plane, FC_T *blocks,
                                                   int64_t item) {
    const int64_t per_image = fc_panels(channels, BLOCK_LANES), image = item / per_image;
    const int64_t first = item % per_image * BLOCK_LANES, n = fc_min(BLOCK_LANES, channels - first);
    const int64_t whole = plane / GEMM_TW * GEMM_TW;
    const FC_T *row[BLOCK_LANES];
    FC_T *out = blocks + item * plane * BLOCK_LANES;
    for (int64_t l = 0; l < BLOCK_LANES; l++)
        row[l] = planes + (image * channels + first + fc_min(l, n - 1)) * plane;
    FC_NAME(pack_transposed)(row, BLOCK_LANES, whole, out);
    for (int64_t p = whole; p < plane; p++)
        for (int64_t l = 0; l < BLOCK_LANES; l++)
            out[p * BLOCK_LANES + l] = row[l][p];
    for (int64_t p = 0; n < BLOCK_LANES && p < plane; p++)
        for (int64_t l = n; l < BLOCK_LANES; l++)
            out[p * BLOCK_LANES + l] = 0;
}

static FC_UNUSED void FC_NAME(blocked_to_planes)(const FC_T *blocks, int64_t channels, int64_t plane, FC_T *planes,
                                                 int64_t item) {
    const int64_t per_image = fc_panels(channels, BLOCK_LANES), image = item / per_image;
    const int64_t first = item % per_image * BLOCK_LANES, n = fc_min(BLOCK_LANES, channels - first);
    const FC_T *from = blocks + item * plane * BLOCK_LANES;
    FC_T *out = planes + (image * channels + first) * plane;
    int64_t p = 0;
#if GEMM_TW > 1
    for (; p + GEMM_TW <= plane; p += GEMM_TW)
        for (int64_t g = 0; g < n; g += GEMM_TW) {
            FC_TV square[GEMM_TW];
#pragma GCC unroll 8
            for (int i = 0; i < GEMM_TW; i++)
                square[i] = *(const FC_TV *)(from + (p + i) * BLOCK_LANES + g);
            FC_NAME(transpose)(square);
            for (int i = 0; i < GEMM_TW && g + i < n; i++)
                *(FC_TV *)(out + (g + i) * plane + p) = square[i];
        }
#endif
    for (; p < plane; p++)
        for (int64_t l = 0; l < n; l++)
            out[l * plane + p] = from[p * BLOCK_LANES + l];
}
