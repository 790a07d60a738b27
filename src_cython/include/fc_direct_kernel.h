/* Convolution without a matrix product: one output row is a weighted sum of shifted source rows.  Serves depthwise
 * convolution and groups of few channels, where packing would cost more than the products. */

/* out[i] = (load ? out[i] : init) + sum_t w[t] * row[t][i], count constant. */
FC_INLINE void FC_NAME(direct_taps)(int64_t n, const FC_T *const *row, const FC_T *w, const int count, FC_T init, int load,
                                    FC_T *restrict out) {
    const FC_T *p[9];
    FC_T v[9];
    for (int t = 0; t < count; t++) {
        p[t] = row[t];
        v[t] = w[t];
    }
    for (int64_t i = 0; i < n; i++) {
        FC_T sum = load ? out[i] : init;
        for (int t = 0; t < count; t++)
            sum += v[t] * p[t][i];
        out[i] = sum;
    }
}

static FC_UNUSED void FC_NAME(direct_row)(int64_t n, int64_t taps, const FC_T *const *row, const FC_T *w, FC_T init,
                                          FC_T *restrict out) {
    int64_t t = 0;
    int load = 0;
    for (; t + 9 <= taps; t += 9, load = 1)
        FC_NAME(direct_taps)(n, row + t, w + t, 9, init, load, out);
    for (; t + 5 <= taps; t += 5, load = 1)
        FC_NAME(direct_taps)(n, row + t, w + t, 5, init, load, out);
    for (; t + 3 <= taps; t += 3, load = 1)
        FC_NAME(direct_taps)(n, row + t, w + t, 3, init, load, out);
    for (; t < taps; t++, load = 1)
        FC_NAME(direct_taps)(n, row + t, w + t, 1, init, load, out);
}

#define DIRECT_LANES 8 /* partial sums of a dot product: enough chains to vectorise on every level */

/* sum[t][lane] += grad[i] * row[t][i] over i = lane mod DIRECT_LANES, count constant. */
FC_INLINE void FC_NAME(direct_dot_taps)(int64_t n, const FC_T *grad, const FC_T *const *row, const int count,
                                        FC_T (*restrict sum)[DIRECT_LANES]) {
    FC_T acc[3][DIRECT_LANES];
    for (int t = 0; t < count; t++)
        for (int l = 0; l < DIRECT_LANES; l++)
            acc[t][l] = sum[t][l];
    int64_t i = 0;
    for (; i + DIRECT_LANES <= n; i += DIRECT_LANES)
        for (int t = 0; t < count; t++)
            for (int l = 0; l < DIRECT_LANES; l++)
                acc[t][l] += grad[i + l] * row[t][i + l];
    for (int l = 0; i + l < n; l++)
        for (int t = 0; t < count; t++)
            acc[t][l] += grad[i + l] * row[t][i + l];
    for (int t = 0; t < count; t++)
        for (int l = 0; l < DIRECT_LANES; l++)
            sum[t][l] = acc[t][l];
}

/* One work item: a block of output rows of one group; see conv_item.  Weights are read unpacked. */
static FC_UNUSED void FC_NAME(direct_item)(const fc_conv_job *job, int64_t item, void *scratch) {
    const fc_conv *g = &job->g;
    const int64_t blocks = fc_conv_blocks(g), group = item / blocks, taps = g->channels * g->taps;
    fc_block b;
    fc_scratch s = fc_scratch_split(g, 0, sizeof(FC_T), GEMM_NR, g->channels, scratch);
    const FC_T **tap = (const FC_T **)s.panels;
    FC_T *w = (FC_T *)(tap + taps), *line = w + taps;
    fc_block_plan(g, item % blocks, GEMM_NR, GEMM_NR, s.words, &b);
    memset(s.zeros, 0, (size_t)b.row_length * sizeof(FC_T));

    const FC_T *src = (const FC_T *)job->src + group * g->channels * g->src_channel;
    fc_conv shifted = *g;
    shifted.src_end -= group * g->channels * g->src_channel;
    const FC_T **row = (const FC_T **)s.row;
    for (int64_t c = 0; c < g->channels; c++)
        FC_NAME(conv_rows)(&shifted, &b, src, c, s.zeros, (FC_T *)s.rows + c * b.sources * b.row_length, row + c * b.sources);

    for (int64_t m = 0; m < job->m; m++) {
        const FC_T *filter = (const FC_T *)job->w + group * job->w_group + m * job->w_m;
        for (int64_t c = 0; c < g->channels; c++)
            for (int64_t t = 0; t < g->taps; t++)
                w[c * g->taps + t] = filter[c * job->w_c + job->tap[t]];
        const int64_t channel = group * job->dst_group + m;
        const FC_T init = job->b ? ((const FC_T *)job->b)[channel] : (FC_T)0;
        FC_T *dst = (FC_T *)job->dst + channel * g->dst_channel;
        for (int64_t r = 0; r < b.rows; r++) {
            const FC_T **at = tap;
            for (int64_t c = 0; c < g->channels; c++)
                for (int64_t ab = 0; ab < g->row_taps; ab++)
                    for (int64_t e = 0; e < g->ntaps[2]; e++)
                        *at++ = row[c * b.sources + b.source_of[r * g->row_taps + ab]] + b.tap_shift[e];
            FC_T *out = dst + b.column_dst[r * b.nx];
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

/* One work item of the weight gradient: one (group, row m), all positions. */
static FC_UNUSED void FC_NAME(direct_weight_item)(const fc_conv_weight_job *job, int64_t item, void *scratch) {
    const fc_conv *g = &job->g;
    const int64_t group = item / job->m, m = item % job->m, taps = g->channels * g->taps, blocks = fc_conv_blocks(g);
    fc_scratch s = fc_scratch_split(g, 0, sizeof(FC_T), GEMM_NR, g->channels, scratch);
    const FC_T **tap = (const FC_T **)s.panels;
    FC_T(*sum)[DIRECT_LANES] = (FC_T(*)[DIRECT_LANES])(tap + taps);
    memset(sum, 0, (size_t)taps * sizeof(*sum));

    const FC_T *src = (const FC_T *)job->src + group * g->channels * g->src_channel;
    const FC_T *grad = (const FC_T *)job->grad + (group * job->m + m) * g->dst_channel;
    fc_conv shifted = *g;
    shifted.src_end -= group * g->channels * g->src_channel;
    const FC_T **row = (const FC_T **)s.row;
    for (int64_t i = 0; i < blocks; i++) {
        fc_block b;
        fc_block_plan(g, i, GEMM_NR, GEMM_NR, s.words, &b);
        if (i == 0)
            memset(s.zeros, 0, (size_t)b.row_length * sizeof(FC_T));
        for (int64_t c = 0; c < g->channels; c++)
            FC_NAME(conv_rows)(&shifted, &b, src, c, s.zeros, (FC_T *)s.rows + c * b.sources * b.row_length,
                               row + c * b.sources);
        for (int64_t r = 0; r < b.rows; r++) {
            const FC_T **at = tap;
            for (int64_t c = 0; c < g->channels; c++)
                for (int64_t ab = 0; ab < g->row_taps; ab++)
                    for (int64_t e = 0; e < g->ntaps[2]; e++)
                        *at++ = row[c * b.sources + b.source_of[r * g->row_taps + ab]] + b.tap_shift[e];
            const FC_T *line = grad + b.column_dst[r * b.nx];
            int64_t t = 0;
            for (; t + 3 <= taps; t += 3)
                FC_NAME(direct_dot_taps)(b.nx, line, tap + t, 3, sum + t);
            for (; t < taps; t++)
                FC_NAME(direct_dot_taps)(b.nx, line, tap + t, 1, sum + t);
        }
    }
    FC_T *dw = (FC_T *)job->dst + item * taps;
    for (int64_t t = 0; t < taps; t++) {
        FC_T total = 0;
        for (int l = 0; l < DIRECT_LANES; l++)
            total += sum[t][l];
        dw[t] = total;
    }
}
#undef DIRECT_LANES
