/* Convolution without a matrix product: one output row is a weighted sum of shifted source rows.  Serves depthwise
 * convolution and groups of few channels, where packing would cost more than the products. */

/* out[i] = init + sum_t w[t] * row[t][i] for `vectors` vectors from i, constant. */
FC_INLINE void FC_NAME(direct_vectors)(int64_t i, int64_t taps, const FC_T *const *row, const FC_T *w, FC_T init,
                                       const int vectors, FC_T *out) {
    FC_V sum[4];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++)
        sum[v] = (FC_V){0} + init;
    for (int64_t t = 0; t < taps; t++) {
        const FC_T *at = row[t] + i;
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            sum[v] += *(const FC_V *)(at + v * FC_VL) * w[t];
    }
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++)
        *(FC_V *)(out + v * FC_VL) = sum[v];
}

/* One output row.  Source rows are readable for a whole vector behind their end; out is not writable there, so the last
 * vector is laid back over the one before. */
static FC_UNUSED void FC_NAME(direct_row)(int64_t n, int64_t taps, const FC_T *const *row, const FC_T *w, FC_T init,
                                          FC_T *restrict out) {
    int64_t i = 0;
    if (n < FC_VL) {
        FC_T last[FC_VL];
        FC_NAME(direct_vectors)(0, taps, row, w, init, 1, last);
        for (; i < n; i++)
            out[i] = last[i];
        return;
    }
    for (; i + 4 * FC_VL <= n; i += 4 * FC_VL)
        FC_NAME(direct_vectors)(i, taps, row, w, init, 4, out + i);
    for (; i + 2 * FC_VL <= n; i += 2 * FC_VL)
        FC_NAME(direct_vectors)(i, taps, row, w, init, 2, out + i);
    for (; i + FC_VL <= n; i += FC_VL)
        FC_NAME(direct_vectors)(i, taps, row, w, init, 1, out + i);
    if (i < n)
        FC_NAME(direct_vectors)(n - FC_VL, taps, row, w, init, 1, out + n - FC_VL);
}

/* sum[t][lane] += grad[i] * row[t][i] over i = lane mod FC_VL, count constant.  What lies behind the rows is masked, not
 * multiplied by zero: it may be NaN. */
FC_INLINE void FC_NAME(direct_dot)(int64_t n, const FC_T *grad, const FC_T *const *row, const int count, FC_V *sum) {
    FC_V acc[9];
    int64_t i = 0;
#pragma GCC unroll 9
    for (int t = 0; t < count; t++)
        acc[t] = sum[t];
    for (; i + FC_VL <= n; i += FC_VL) {
        const FC_V g = *(const FC_V *)(grad + i);
#pragma GCC unroll 9
        for (int t = 0; t < count; t++)
            acc[t] += *(const FC_V *)(row[t] + i) * g;
    }
#if FC_VL > 1
    if (i < n) {
        typedef FC_INT mask_t __attribute__((vector_size(FC_VBYTES), aligned(sizeof(FC_T)), may_alias));
        FC_T last[FC_VL];
        FC_INT lane[FC_VL];
        for (int l = 0; l < FC_VL; l++) {
            lane[l] = l < n - i ? -1 : 0;
            last[l] = 0;
        }
        for (int l = 0; l < n - i; l++)
            last[l] = grad[i + l];
        const FC_V g = *(const FC_V *)last;
        const mask_t mask = *(const mask_t *)lane;
#pragma GCC unroll 9
        for (int t = 0; t < count; t++)
            acc[t] += (FC_V)(*(const mask_t *)(row[t] + i) & mask) * g;
    }
#endif
#pragma GCC unroll 9
    for (int t = 0; t < count; t++)
        sum[t] = acc[t];
}

/* Pointers of all taps (channel, a, b, e) at grid row r of a block. */
FC_INLINE void FC_NAME(direct_rows)(const fc_conv *g, const fc_block *b, const FC_T *const *row, int64_t r,
                                    const FC_T **tap) {
    const int64_t *source = b->source_of + r * g->row_taps;
    for (int64_t c = 0; c < g->channels; c++)
        for (int64_t ab = 0; ab < g->row_taps; ab++)
            for (int64_t e = 0; e < g->ntaps[2]; e++)
                *tap++ = row[c * b->sources + source[ab]] + b->tap_shift[e];
}

/* One work item: a block of output rows of a range of groups.  Weights are read unpacked. */
static FC_UNUSED void FC_NAME(direct_item)(const fc_conv_job *job, int64_t item, void *scratch) {
    const fc_conv *g = &job->g;
    const int64_t taps = g->channels * g->taps;
    const int64_t group0 = item % job->group_parts * job->groups / job->group_parts;
    const int64_t group1 = (item % job->group_parts + 1) * job->groups / job->group_parts;
    fc_block b;
    fc_scratch s = fc_scratch_split(g, 0, sizeof(FC_T), GEMM_NR, g->channels, scratch);
    const FC_T **row = (const FC_T **)s.row, **tap = (const FC_T **)s.panels;
    FC_T *w = (FC_T *)(tap + taps), *line = w + taps;
    fc_block_plan(g, item / job->group_parts, GEMM_NR, GEMM_NR, s.words, &b);
    memset(s.zeros, 0, (size_t)b.row_length * sizeof(FC_T));
    for (int64_t group = group0; group < group1; group++) {
        for (int64_t c = 0; c < g->channels; c++)
            FC_NAME(conv_rows)(g, &b, job->src, group * g->channels + c, s.zeros,
                               (FC_T *)s.rows + c * b.sources * b.row_length, row + c * b.sources);
        for (int64_t m = 0; m < job->m; m++) {
            const FC_T *filter = (const FC_T *)job->w + group * job->w_group + m * job->w_m;
            for (int64_t c = 0; c < g->channels; c++)
                for (int64_t t = 0; t < g->taps; t++)
                    w[c * g->taps + t] = filter[c * job->w_c + job->tap[t]];
            const int64_t channel = group * job->dst_group + m;
            const FC_T init = job->b ? ((const FC_T *)job->b)[channel] : (FC_T)0;
            for (int64_t r = 0; r < b.rows; r++) {
                FC_T *out = (FC_T *)job->dst + channel * g->dst_channel + b.column_dst[r * b.nx];
                FC_NAME(direct_rows)(g, &b, row, r, tap);
                if (g->dst_step[2] == 1) {
                    FC_NAME(direct_row)(b.nx, taps, tap, w, init, out);
                } else {
                    FC_NAME(direct_row)(b.nx, taps, tap, w, init, line);
                    for (int64_t x = 0; x < b.nx; x++)
                        out[x * g->dst_step[2]] = line[x];
                }
            }
        }
    }
}

/* One work item of the weight gradient: all positions of a range of groups. */
static FC_UNUSED void FC_NAME(direct_weight_item)(const fc_conv_weight_job *job, int64_t item, void *scratch) {
    const fc_conv *g = &job->g;
    const int64_t taps = g->channels * g->taps, blocks = fc_conv_blocks(g);
    const int64_t group0 = item * job->groups / job->group_parts, group1 = (item + 1) * job->groups / job->group_parts;
    fc_scratch s = fc_scratch_split(g, 0, sizeof(FC_T), GEMM_NR, g->channels, scratch);
    const FC_T **row = (const FC_T **)s.row, **tap = (const FC_T **)s.panels;
    FC_V *sums = (FC_V *)(tap + taps);
    memset(sums, 0, (size_t)((group1 - group0) * job->m * taps) * sizeof(FC_V));
    for (int64_t i = 0; i < blocks; i++) {
        fc_block b;
        fc_block_plan(g, i, GEMM_NR, GEMM_NR, s.words, &b);
        if (i == 0)
            memset(s.zeros, 0, (size_t)b.row_length * sizeof(FC_T));
        for (int64_t group = group0; group < group1; group++) {
            for (int64_t c = 0; c < g->channels; c++)
                FC_NAME(conv_rows)(g, &b, job->src, group * g->channels + c, s.zeros,
                                   (FC_T *)s.rows + c * b.sources * b.row_length, row + c * b.sources);
            for (int64_t r = 0; r < b.rows; r++) {
                FC_NAME(direct_rows)(g, &b, row, r, tap);
                for (int64_t m = 0; m < job->m; m++) {
                    const FC_T *line =
                        (const FC_T *)job->grad + (group * job->m + m) * g->dst_channel + b.column_dst[r * b.nx];
                    FC_V *sum = sums + ((group - group0) * job->m + m) * taps;
                    int64_t t = 0;
                    for (; t + 9 <= taps; t += 9)
                        FC_NAME(direct_dot)(b.nx, line, tap + t, 9, sum + t);
                    for (; t + 4 <= taps; t += 4)
                        FC_NAME(direct_dot)(b.nx, line, tap + t, 4, sum + t);
                    for (; t < taps; t++)
                        FC_NAME(direct_dot)(b.nx, line, tap + t, 1, sum + t);
                }
            }
        }
    }
    FC_T *dw = (FC_T *)job->dst + group0 * job->m * taps;
    for (int64_t t = 0; t < (group1 - group0) * job->m * taps; t++) {
        FC_T lane[FC_VL], total = 0;
        memcpy(lane, sums + t, sizeof(lane));
        for (int l = 0; l < FC_VL; l++)
            total += lane[l];
        dw[t] = total;
    }
}
