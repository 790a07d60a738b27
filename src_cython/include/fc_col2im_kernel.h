/* Input gradient by matrix product and shifted sums; see fc_col2im.h. */

/* Packs the weights of one part of the channels of one group: panels [k][GEMM_MR] of rows (channel, tap), a depth block
 * after the other. */
static FC_UNUSED void FC_NAME(col2im_weights_item)(const fc_col2im_job *job, int64_t item) {
    const fc_conv *g = &job->g;
    const int64_t part = (job->unit0 + item) % job->parts, group = (job->unit0 + item) / job->parts;
    const int64_t padded = fc_round_up(job->part_m * g->taps, GEMM_MR);
    const int64_t c0 = part * job->part_m, c1 = fc_min(job->m, c0 + job->part_m);
    const FC_T *w = (const FC_T *)job->w + (group * g->channels * job->m + c0) * job->filter;
    FC_T *dst = (FC_T *)job->weights + item * padded * g->channels;
    for (int64_t k0 = 0; k0 < g->channels; k0 += job->depth) {
        const int64_t k1 = fc_min(g->channels, k0 + job->depth);
        for (int64_t r0 = 0; r0 < padded; r0 += GEMM_MR, dst += (k1 - k0) * GEMM_MR) {
            int64_t at[GEMM_MR];
            for (int64_t i = 0; i < GEMM_MR; i++) {
                const int64_t c = (r0 + i) / g->taps;
                at[i] = c < c1 - c0 ? c * job->filter + job->tap[(r0 + i) % g->taps] : -1;
            }
            for (int64_t k = k0; k < k1; k++)
                for (int64_t i = 0; i < GEMM_MR; i++)
                    dst[(k - k0) * GEMM_MR + i] = at[i] < 0 ? (FC_T)0 : w[k * job->m * job->filter + at[i]];
        }
    }
}

/* Packs n neighbouring columns of `channels` rows, `plane` apart, into panels [channel][GEMM_NR]. */
static FC_UNUSED void FC_NAME(col2im_pack)(const FC_T *grad, int64_t plane, int64_t channels, int64_t n, FC_T *panels) {
    for (int64_t k = 0; k < channels; k++, grad += plane) {
        FC_T *dst = panels + k * GEMM_NR;
        int64_t j = 0;
        for (; j + GEMM_NR <= n; j += GEMM_NR, dst += channels * GEMM_NR)
            FC_NAME(copy_lanes)(dst, grad + j);
        for (int64_t l = 0; j < n && l < GEMM_NR; l++)
            dst[l] = j + l < n ? grad[j + l] : (FC_T)0;
    }
}

/* Adds `rows` rows of n sums to every step-th row of the ring, from its row `slot` on.  The vectors that hold a row may be
 * read and written as a whole: the mask of the last one keeps what lies behind out of the sums. */
static FC_UNUSED void FC_NAME(col2im_add)(FC_T *restrict sums, int64_t ring, int64_t pitch, int64_t slot, int64_t step,
                                          const FC_T *restrict from, int64_t rows, int64_t n, const FC_INT *mask) {
    const int64_t whole = n / FC_VL * FC_VL;
    FC_T *to = sums + slot * pitch;
    FC_T *const end = sums + ring * pitch;
#if FC_VL > 1
    const FC_IV keep = *(const FC_IV *)mask;
#endif
    for (; rows > 0; rows--, from += n) {
        for (int64_t i = 0; i < whole; i += FC_VL)
            *(FC_V *)(to + i) += *(const FC_V *)(from + i);
#if FC_VL > 1
        if (whole < n)
            *(FC_V *)(to + whole) += (FC_V)(*(const FC_IV *)(from + whole) & keep);
#endif
        to += step * pitch;
        while (to >= end) /* a stride may exceed the ring */
            to -= ring * pitch;
    }
}

/* Moves a finished row of the ring to the result, phases interleaved, and makes the ring's row `fill` again. */
static FC_UNUSED void FC_NAME(col2im_leave)(const fc_col2im_job *job, FC_T *restrict sums, FC_T *restrict out, FC_T fill) {
    const fc_conv *g = &job->g;
    const int64_t width = g->size[2], step = g->step[2], length = job->phase_length;
    const int64_t first = -g->x_first; /* where the result starts, counted over all phases; may be negative */
    if (step == 1 && first >= 0) {
        memcpy(out, sums + first, (size_t)width * sizeof(FC_T));
    } else if (step == 2 && first >= 0) {
        const FC_T *restrict even = sums + first % 2 * length + first / 2;
        const FC_T *restrict odd = sums + (first + 1) % 2 * length + (first + 1) / 2;
        for (int64_t i = 0; i < width / 2; i++) {
            out[2 * i] = even[i];
            out[2 * i + 1] = odd[i];
        }
        if (width % 2)
            out[width - 1] = even[width / 2];
    } else {
        for (int64_t x = 0; x < width; x++)
            out[x] = x + first < 0 ? fill : sums[(x + first) % step * length + (x + first) / step];
    }
    for (int64_t i = 0; i < job->pitch; i++)
        sums[i] = fill;
}

/* One work item: some channels and rows of one image's gradient. */
static FC_UNUSED void FC_NAME(col2im_item)(const fc_col2im_job *job, int64_t item, void *scratch) {
    const fc_conv *g = &job->g;
    const int64_t y_part = item % job->row_parts, unit = item / job->row_parts % job->units;
    const int64_t image = item / job->row_parts / job->units;
    const int64_t part = (job->unit0 + unit) % job->parts, group = (job->unit0 + unit) / job->parts;
    const int64_t c0 = part * job->part_m, channels = fc_min(job->m, c0 + job->part_m) - c0;
    const int64_t height = g->size[1], width = g->size[2], step = g->step[1];
    const int64_t y0 = y_part * height / job->row_parts, y1 = (y_part + 1) * height / job->row_parts;
    if (channels <= 0 || y0 == y1)
        return;
    const int64_t rows = channels * g->taps, padded = fc_round_up(job->part_m * g->taps, GEMM_MR);
    const int64_t plane = g->grid[1] * g->grid[2], pieces = fc_conv_pieces(g);
    const int64_t stride = fc_round_up(g->block_rows * g->block_x, GEMM_NR) + GEMM_NR;
    const int64_t batch = fc_col2im_rows(job, GEMM_MR);
    const FC_T *weights = (const FC_T *)job->weights + unit * padded * g->channels;
    const FC_T *grad = (const FC_T *)job->grad + (image * job->groups + group) * g->channels * plane;
    const int64_t channel = (image * job->groups + group) * job->m + c0;
    const FC_T *bias = job->b ? (const FC_T *)job->b + group * job->m + c0 : NULL;
    FC_T *dst = (FC_T *)job->dst + channel * height * width;
    FC_T *panels = scratch, *sums = panels + (stride - GEMM_NR) * g->channels, *ring = sums + batch * stride;

    int64_t y_first = g->offset[1][0], y_last = y_first;
    for (int64_t t = 1; t < g->ntaps[1]; t++) {
        y_first = fc_min(y_first, g->offset[1][t]);
        y_last = fc_max(y_last, g->offset[1][t]);
    }
    for (int64_t c = 0; c < channels; c++)
        for (int64_t i = 0; i < job->ring * job->pitch; i++)
            ring[c * job->ring * job->pitch + i] = bias ? bias[c] : (FC_T)0;

    /* output rows that send something to rows y0..y1 */
    const int64_t o_first = fc_max(0, y0 - y_last <= 0 ? 0 : (y0 - y_last + step - 1) / step);
    const int64_t o_end = y1 - 1 < y_first ? 0 : fc_min(g->grid[1], (y1 - 1 - y_first) / step + 1);
    int64_t left = y0; /* rows before this one have left the ring */
    for (int64_t o0 = o_first / g->block_rows * g->block_rows;; o0 += g->block_rows) {
        const int last = o0 >= o_end;
        for (int64_t to = last ? y1 : fc_min(y1, o0 * step + y_first); left < to; left++)
            for (int64_t c = 0; c < channels; c++)
                FC_NAME(col2im_leave)(job, ring + (c * job->ring + left % job->ring) * job->pitch,
                                      dst + (c * height + left) * width, bias ? bias[c] : (FC_T)0);
        if (last)
            break;
        const int64_t o1 = fc_min(g->grid[1], o0 + g->block_rows);
        for (int64_t piece = 0; piece < pieces; piece++) {
            const int64_t x0 = piece * g->block_x, nx = fc_min(g->block_x, g->grid[2] - x0), columns = (o1 - o0) * nx;
            FC_INT mask[FC_VL];
            for (int64_t l = 0; l < FC_VL; l++)
                mask[l] = l < nx % FC_VL ? -1 : 0;
            FC_NAME(col2im_pack)(grad + o0 * g->grid[2] + x0, plane, g->channels, columns, panels);
            for (int64_t r0 = 0; r0 < rows; r0 += batch) {
                const int64_t r1 = fc_min(rows, r0 + batch);
                for (int64_t k0 = 0; k0 < g->channels; k0 += job->depth) {
                    const int64_t k = fc_min(job->depth, g->channels - k0);
                    FC_NAME(conv_product)(columns, k, weights + k0 * padded + r0 * k, r1 - r0, panels + k0 * GEMM_NR,
                                          g->channels * GEMM_NR, NULL, k0 > 0, sums, stride, NULL, NULL, NULL);
                }
                for (int64_t r = r0; r < r1; r++) {
                    const int64_t c = r / g->taps, t = r % g->taps, dy = g->offset[1][t / g->ntaps[2]];
                    const int64_t dx = g->offset[2][t % g->ntaps[2]] - g->x_first;
                    /* those of the block's rows that land in y0..y1 */
                    const int64_t from = fc_max(o0, y0 > dy ? (y0 - dy + step - 1) / step : 0);
                    const int64_t to = y1 > dy ? fc_min(o1, (y1 - 1 - dy) / step + 1) : from;
                    FC_NAME(col2im_add)(ring + c * job->ring * job->pitch + dx % g->step[2] * job->phase_length +
                                            dx / g->step[2] + x0,
                                        job->ring, job->pitch, (from * step + dy) % job->ring, step,
                                        sums + (r - r0) * stride + (from - o0) * nx, to - from, nx, mask);
                }
            }
        }
    }
}
