/* Winograd convolution of blocked images: vectors run over channels, so that nothing is transposed.  Tables and transforms
 * in fc_winograd_tables.h and fc_winograd_transform.h. */

/* Where a tile of a pass lies: its image and the output position of its first element. */
typedef struct {
    int64_t image, y, x;
} FC_NAME(blocked_place);

FC_INLINE FC_NAME(blocked_place) FC_NAME(blocked_place_of)(const fc_tiling *t, int64_t tile) {
    const int64_t row = tile / t->tile_columns;
    const FC_NAME(blocked_place) place = {row / t->tile_rows, t->row_start[row % t->tile_rows],
                                          t->column_start[tile % t->tile_columns]};
    return place;
}

/* Tiles of a pass, rounded up to whole product tiles: from one block of a frequency to the next. */
FC_INLINE int64_t FC_NAME(blocked_pass)(const fc_blocked_winograd_job *job) {
    return fc_round_up(job->tile1 - job->tile0, GEMM_MR);
}

/* One item: transforms job->tiles tiles of one block of channels. */
FC_INLINE void FC_NAME(blocked_tiles)(const fc_blocked_winograd_job *job, int64_t item, const int m0, const int m1) {
    const fc_tiling *t = &job->t;
    const int alpha0 = m0 > 1 ? m0 + 2 : 1, alpha1 = m1 > 1 ? m1 + 2 : 1;
    const int64_t blocks = fc_panels(job->groups * job->channels, BLOCK_LANES), block = item % blocks;
    const int64_t first = job->tile0 + item / blocks * job->tiles, last = fc_min(job->tile1, first + job->tiles);
    const int64_t plane = job->size[0] * job->size[1], pass = FC_NAME(blocked_pass)(job);
    const int64_t down = t->dilation[0] * job->size[1] * BLOCK_LANES, right = t->dilation[1] * BLOCK_LANES;
    for (int64_t tile = first; tile < last; tile++) {
        const FC_NAME(blocked_place) place = FC_NAME(blocked_place_of)(t, tile);
        const int64_t y0 = place.y + job->origin[0], x0 = place.x + job->origin[1];
        const FC_T *src = (const FC_T *)job->src +
                          ((place.image * blocks + block) * plane + y0 * job->size[1] + x0) * BLOCK_LANES;
        FC_T *v = (FC_T *)job->v + (block * pass + tile - job->tile0) * BLOCK_LANES;
        const int whole = y0 >= 0 && y0 + (alpha0 - 1) * t->dilation[0] < job->size[0] && x0 >= 0 &&
                          x0 + (alpha1 - 1) * t->dilation[1] < job->size[1];
        for (int lane = 0; lane < BLOCK_LANES; lane += GEMM_TW) {
            FC_TV half[8][8];
#pragma GCC unroll 8
            for (int j = 0; j < alpha1; j++) {
                FC_TV in[8], column[8];
                const int64_t x = x0 + j * t->dilation[1];
#pragma GCC unroll 8
                for (int i = 0; i < alpha0; i++) {
                    const int64_t y = y0 + i * t->dilation[0];
                    in[i] = (FC_TV){0};
                    if (whole || (y >= 0 && y < job->size[0] && x >= 0 && x < job->size[1]))
                        in[i] = *(const FC_TV *)(src + i * down + j * right + lane);
                }
                FC_NAME(winograd_expand)(fc_winograd_b(m0), alpha0, alpha0, in, 1, column, 1);
#pragma GCC unroll 8
                for (int i = 0; i < alpha0; i++)
                    half[i][j] = column[i];
            }
#pragma GCC unroll 8
            for (int i = 0; i < alpha0; i++) {
                FC_TV out[8];
                FC_NAME(winograd_expand)(fc_winograd_b(m1), alpha1, alpha1, half[i], 1, out, 1);
#pragma GCC unroll 8
                for (int j = 0; j < alpha1; j++)
                    *(FC_TV *)(v + (i * alpha1 + j) * blocks * pass * BLOCK_LANES + lane) = out[j];
            }
        }
    }
}

/* Products of one panel over the tiles of an item: sums is [frequency][tile][GEMM_NR]. */
FC_INLINE void FC_NAME(blocked_products)(const fc_blocked_winograd_job *job, int64_t group, int64_t first, int64_t tiles,
                                         int64_t panel0, int64_t panel1, FC_T *sums, const int frequencies) {
    const int64_t pass = FC_NAME(blocked_pass)(job), blocks = fc_panels(job->groups * job->channels, BLOCK_LANES);
    const int64_t panels = fc_blocked_panels(job->rows, BLOCK_LANES, GEMM_NR), group_block = group * job->channels / BLOCK_LANES;
    const int64_t stride = fc_round_up(job->tiles, GEMM_MR) * GEMM_NR, step = pass * BLOCK_LANES;
    for (int f = 0; f < frequencies; f++) {
        const FC_T *v = (const FC_T *)job->v + ((f * blocks + group_block) * pass + first) * BLOCK_LANES;
        for (int64_t panel = panel0; panel < panel1; panel++) {
            const FC_T *u = (const FC_T *)job->filters +
                            ((group * panels + panel) * frequencies + f) * job->channels * GEMM_NR;
            FC_T *to = sums + ((panel - panel0) * frequencies + f) * stride;
            for (int64_t tile = 0; tile < tiles; tile += GEMM_MR, to += GEMM_MR * GEMM_NR) {
                FC_V acc[GEMM_MR][GEMM_NRV];
                const FC_T *p[GEMM_MR];
                int64_t steps[GEMM_MR];
#pragma GCC unroll 16
                for (int i = 0; i < GEMM_MR; i++) {
                    p[i] = v + (tile + i) * BLOCK_LANES;
                    steps[i] = step;
#pragma GCC unroll 4
                    for (int j = 0; j < GEMM_NRV; j++)
                        acc[i][j] = (FC_V){0};
                }
                FC_NAME(blocked_accumulate)(job->channels, p, steps, u, acc);
#pragma GCC unroll 16
                for (int i = 0; i < GEMM_MR; i++)
#pragma GCC unroll 4
                    for (int j = 0; j < GEMM_NRV; j++)
                        *(FC_V *)(to + i * GEMM_NR + j * FC_VL) = acc[i][j];
            }
        }
    }
}

/* Transforms the sums of one panel back and stores them.  Returns whether a result is not finite. */
FC_INLINE int FC_NAME(blocked_sums)(const fc_blocked_winograd_job *job, int64_t group, int64_t first, int64_t tiles,
                                    int64_t panel, const FC_T *sums, const int m0, const int m1) {
    const fc_tiling *t = &job->t;
    const int alpha0 = m0 > 1 ? m0 + 2 : 1, alpha1 = m1 > 1 ? m1 + 2 : 1;
    const int64_t plane = t->grid[0] * t->grid[1], out_blocks = fc_panels(job->groups * job->rows, BLOCK_LANES);
    const int64_t stride = fc_round_up(job->tiles, GEMM_MR) * GEMM_NR;
    const int64_t padded = fc_round_up(job->rows, BLOCK_LANES);
    const FC_T slope = (FC_T)job->epilogue.slope;
    FC_TV check = {0};
    FC_T bias[GEMM_NR] = {0};
    for (int64_t l = 0; job->epilogue.bias && l < GEMM_NR && panel * GEMM_NR + l < job->rows; l++)
        bias[l] = ((const FC_T *)job->epilogue.bias)[group * job->rows + panel * GEMM_NR + l];
    for (int64_t tile = 0; tile < tiles; tile++) {
        const FC_NAME(blocked_place) place = FC_NAME(blocked_place_of)(t, job->tile0 + first + tile);
        const int64_t rows = (t->grid[0] - place.y + t->dilation[0] - 1) / t->dilation[0];
        const int64_t columns = (t->grid[1] - place.x + t->dilation[1] - 1) / t->dilation[1];
        for (int64_t lane = panel * GEMM_NR; lane < fc_min(padded, (panel + 1) * GEMM_NR); lane += GEMM_TW) {
            const FC_T *from = sums + tile * GEMM_NR + lane % GEMM_NR;
            const int64_t block = (group * job->rows + lane) / BLOCK_LANES;
            const int64_t base = ((place.image * out_blocks + block) * plane + place.y * t->grid[1] + place.x) * BLOCK_LANES +
                                 lane % BLOCK_LANES;
            const FC_TV start = *(const FC_TV *)(bias + lane % GEMM_NR);
            FC_TV half[6][8];
#pragma GCC unroll 8
            for (int j = 0; j < alpha1; j++) {
                FC_TV in[8], column[8];
#pragma GCC unroll 8
                for (int i = 0; i < alpha0; i++)
                    in[i] = *(const FC_TV *)(from + (i * alpha1 + j) * stride);
                FC_NAME(winograd_collapse)(fc_winograd_a(m0), m0, alpha0, in, 1, column, 1);
#pragma GCC unroll 6
                for (int i = 0; i < m0; i++)
                    half[i][j] = column[i];
            }
#pragma GCC unroll 6
            for (int i = 0; i < m0; i++) {
                FC_TV out[8];
                FC_NAME(winograd_collapse)(fc_winograd_a(m1), m1, alpha1, half[i], 1, out, 1);
#pragma GCC unroll 6
                for (int j = 0; j < m1; j++) {
                    if (i >= rows || j >= columns)
                        continue;
                    const int64_t at = base + (i * t->dilation[0] * t->grid[1] + j * t->dilation[1]) * BLOCK_LANES;
                    check += out[j] * 0;
                    out[j] += start;
                    if (job->epilogue.residual)
                        out[j] += *(const FC_TV *)((const FC_T *)job->epilogue.residual + at);
                    *(FC_TV *)((FC_T *)job->dst + at) = FC_NAME(activate_short)(job->epilogue.activation, slope, out[j]);
                }
            }
        }
    }
    FC_T lanes[GEMM_TW], sum = 0;
    *(FC_TV *)lanes = check;
    for (int l = 0; l < GEMM_TW; l++)
        sum += lanes[l];
    return sum != sum;
}

/* One item: a range of panels of a group over a range of tiles; scratch holds their sums. */
FC_INLINE int FC_NAME(blocked_product)(const fc_blocked_winograd_job *job, int64_t item, FC_T *sums, const int m0,
                                       const int m1) {
    const int frequencies = (m0 > 1 ? m0 + 2 : 1) * (m1 > 1 ? m1 + 2 : 1);
    const int64_t panels = fc_blocked_panels(job->rows, BLOCK_LANES, GEMM_NR), parts = fc_panels(panels, job->panels);
    const int64_t panel0 = item % parts * job->panels, panel1 = fc_min(panels, panel0 + job->panels);
    item /= parts;
    const int64_t group = item % job->groups, first = item / job->groups * job->tiles;
    const int64_t tiles = fc_min(job->tiles, job->tile1 - job->tile0 - first);
    int bad = 0;
    FC_NAME(blocked_products)(job, group, first, tiles, panel0, panel1, sums, frequencies);
    for (int64_t panel = panel0; panel < panel1; panel++)
        bad |= FC_NAME(blocked_sums)(job, group, first, tiles, panel,
                                     sums + (panel - panel0) * frequencies * fc_round_up(job->tiles, GEMM_MR) * GEMM_NR, m0,
                                     m1);
    return bad;
}

/* Transformed filters of one panel of one group. */
FC_INLINE void FC_NAME(blocked_filters)(const fc_blocked_winograd_job *job, const FC_T *w, int64_t item, FC_T *out,
                                        const int m0, const int m1) {
    const int alpha0 = m0 > 1 ? m0 + 2 : 1, alpha1 = m1 > 1 ? m1 + 2 : 1, r0 = m0 > 1 ? 3 : 1, r1 = m1 > 1 ? 3 : 1;
    const int64_t panels = fc_blocked_panels(job->rows, BLOCK_LANES, GEMM_NR), group = item / panels, row0 = item % panels * GEMM_NR;
    out += item * alpha0 * alpha1 * job->channels * GEMM_NR;
    for (int64_t c = 0; c < job->channels; c++)
        for (int lane = 0; lane < GEMM_NR; lane += GEMM_TW) {
            FC_TV filter[9], half[8][3];
            for (int k = 0; k < r0 * r1; k++) {
                FC_T gathered[GEMM_TW];
                for (int l = 0; l < GEMM_TW; l++) {
                    const int64_t row = row0 + lane + l;
                    gathered[l] =
                        row < job->rows ? w[((group * job->rows + row) * job->channels + c) * r0 * r1 + k] : 0;
                }
                filter[k] = *(const FC_TV *)gathered;
            }
            for (int x = 0; x < r1; x++) {
                FC_TV column[8];
                FC_NAME(winograd_expand)(fc_winograd_g(m0), r0, alpha0, filter + x, r1, column, 1);
                for (int i = 0; i < alpha0; i++)
                    half[i][x] = column[i];
            }
            for (int i = 0; i < alpha0; i++) {
                FC_TV row[8];
                FC_NAME(winograd_expand)(fc_winograd_g(m1), r1, alpha1, half[i], 1, row, 1);
                for (int j = 0; j < alpha1; j++)
                    *(FC_TV *)(out + ((i * alpha1 + j) * job->channels + c) * GEMM_NR + lane) = row[j];
            }
        }
}

/* ------------------------------------------------------------------------------------------------ one build per tile */

static FC_UNUSED void FC_NAME(blocked_tiles_item)(const fc_blocked_winograd_job *job, int64_t item) {
#define CALL(a, b) FC_NAME(blocked_tiles)(job, item, a, b)
    WINOGRAD_TILE(&job->t, CALL);
#undef CALL
}

static FC_UNUSED int FC_NAME(blocked_product_item)(const fc_blocked_winograd_job *job, int64_t item, void *scratch) {
#define CALL(a, b) return FC_NAME(blocked_product)(job, item, scratch, a, b)
    WINOGRAD_TILE(&job->t, CALL);
#undef CALL
}

static FC_UNUSED void FC_NAME(blocked_filters_item)(const fc_blocked_winograd_job *job, const FC_T *w, int64_t item,
                                                    FC_T *out) {
#define CALL(a, b) FC_NAME(blocked_filters)(job, w, item, out, a, b)
    WINOGRAD_TILE(&job->t, CALL);
#undef CALL
}
