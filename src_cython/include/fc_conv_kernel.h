/* Packing and block products of the implicit matrix product; see fc_conv.h for the geometry. */

/* dst[i] = src[2 * i] for i < n. */
static FC_UNUSED void FC_NAME(copy_even)(FC_T *restrict dst, const FC_T *restrict src, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        dst[i] = src[2 * i];
}

/* Copies a source row of `width` elements from its (possibly outer) position `first` on: phase p of the step gets elements
 * first + p, first + p + step, ... with zeros outside the row, n of each. */
static FC_UNUSED void FC_NAME(conv_row)(const FC_T *line, int64_t width, int64_t first, int64_t step, int64_t n, FC_T *dst) {
    for (int64_t start = first; start < first + step; start++, dst += n) { /* element i is line[start + i * step] */
        const int64_t lo = start >= 0 ? 0 : fc_min((-start + step - 1) / step, n);
        const int64_t hi = start >= width ? lo : fc_max(lo, fc_min((width - start + step - 1) / step, n));
        for (int64_t i = 0; i < lo; i++)
            dst[i] = 0;
        if (step == 1)
            memcpy(dst + lo, line + start + lo, (size_t)(hi - lo) * sizeof(FC_T));
        else if (step == 2)
            FC_NAME(copy_even)(dst + lo, line + start + 2 * lo, hi - lo);
        else
            for (int64_t i = lo; i < hi; i++)
                dst[i] = line[start + step * i];
        for (int64_t i = hi; i < n; i++)
            dst[i] = 0;
    }
}

/* Makes the source rows of a block readable at any tap: row[u] + tap_shift[e] + (x - x0) is the element that tap e sees
 * at x.  Rows that need neither zeros nor phase splitting are read in place; the others go to buffer. */
static FC_UNUSED void FC_NAME(conv_rows)(const fc_conv *g, const fc_block *b, const FC_T *src, int64_t channel,
                                         const FC_T *zeros, FC_T *buffer, const FC_T **row) {
    const int64_t step = g->step[2], width = g->size[2];
    const int64_t first = b->x0 * step + g->x_first; /* source x of element 0 of phase 0 */
    const int in_place = step == 1 && first >= 0 && first + b->nx + g->x_span <= width;
    const int64_t end = g->src_end - channel * g->src_channel;
    src += channel * g->src_channel;
    for (int64_t u = 0; u < b->sources; u++) {
        int64_t offset = b->source_offset[u];
        if (offset < 0) {
            row[u] = zeros;
            continue;
        }
        if (in_place && offset + first + b->row_length <= end) {
            row[u] = src + offset + first;
            continue;
        }
        const FC_T *line = src + offset;
        FC_T *dst = buffer;
        row[u] = dst;
        buffer += b->row_length;
        FC_NAME(conv_row)(line, width, first, step, b->phase_length, dst);
    }
}

/* Packs the columns of a block for channels c0..c1 into panels [k][GEMM_NR], panel_stride apart.
 *
 * Lanes are written in whole vectors in ascending (k, lane) order, so what a piece of a row spills over is written
 * after it; the last spill of a panel falls into GEMM_NR elements of slack behind it. */
static FC_UNUSED void FC_NAME(conv_pack_columns)(const fc_conv *g, const fc_block *b, const FC_T *src, int64_t c0,
                                                 int64_t c1, const FC_T *zeros, FC_T *buffer, const FC_T **row,
                                                 FC_T *panels, int64_t panel_stride) {
    const int64_t npanels = (b->columns + GEMM_NR - 1) / GEMM_NR, nx = g->ntaps[2];
    for (int64_t c = c0; c < c1; c++) {
        FC_NAME(conv_rows)(g, b, src, c, zeros, buffer, row);
        FC_T *first = panels + (c - c0) * g->taps * GEMM_NR;
        if (b->rows == 1) { /* panel p is piece p of the one row */
            for (int64_t ab = 0; ab < g->row_taps; ab++)
                for (int64_t e = 0; e < nx; e++, first += GEMM_NR) {
                    const FC_T *base = row[b->source_of[ab]] + b->tap_shift[e];
                    for (int64_t p = 0; p < npanels; p++)
                        FC_NAME(copy_lanes)(first + p * panel_stride, base + p * GEMM_NR);
                }
            continue;
        }
        for (int64_t p = 0; p < npanels; p++) {
            FC_T *dst = first + p * panel_stride;
            const int64_t *chunk = b->chunk + 3 * b->panel_chunk[p];
            const int64_t nchunks = b->panel_chunk[p + 1] - b->panel_chunk[p];
            const int64_t *source = b->source_of + chunk[0] * g->row_taps;
            if (nchunks == 1) {
                for (int64_t ab = 0; ab < g->row_taps; ab++) {
                    const FC_T *base = row[source[ab]] + chunk[1];
                    for (int64_t e = 0; e < nx; e++, dst += GEMM_NR)
                        FC_NAME(copy_lanes)(dst, base + b->tap_shift[e]);
                }
            } else if (nchunks == 2) {
                const int64_t *source2 = b->source_of + chunk[3] * g->row_taps;
                for (int64_t ab = 0; ab < g->row_taps; ab++) {
                    const FC_T *base = row[source[ab]] + chunk[1], *base2 = row[source2[ab]] + chunk[4];
                    for (int64_t e = 0; e < nx; e++, dst += GEMM_NR) {
                        FC_NAME(copy_lanes)(dst, base + b->tap_shift[e]);
                        FC_NAME(copy_lanes)(dst + chunk[5], base2 + b->tap_shift[e]);
                    }
                }
            } else {
                for (int64_t ab = 0; ab < g->row_taps; ab++)
                    for (int64_t e = 0; e < nx; e++, dst += GEMM_NR)
                        for (int64_t i = 0; i < nchunks; i++) {
                            const int64_t *ch = chunk + 3 * i;
                            const FC_T *base = row[b->source_of[ch[0] * g->row_taps + ab]] + ch[1];
                            FC_NAME(copy_lanes)(dst + ch[2], base + b->tap_shift[e]);
                        }
            }
        }
    }
}

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

/* How many of `count` columns go to neighbours of the first one's place in the destination; column NULL: all. */
FC_INLINE int64_t FC_NAME(neighbours)(const int64_t *column, int64_t count) {
    int64_t n = 1;
    while (n < count && (!column || column[n] == column[0] + n))
        n++;
    return n;
}

/* A tile that cannot be written in place: part of it is outside, or its columns are not neighbours. */
static FC_UNUSED void FC_NAME(gemm_edge)(int64_t k, const FC_T *a, const FC_T *b, const FC_T *init, int load, FC_T *c,
                                         int64_t ldc, const int64_t *column, int64_t rows, int64_t columns) {
    FC_T tile[GEMM_MR * GEMM_NR];
    FC_NAME(gemm_rows)(k, a, b, load ? NULL : init, 0, tile, GEMM_NR, rows);
    for (int64_t j = 0, n; j < columns; j += n) { /* neighbours in the destination go together */
        FC_T *out = c + (column ? column[j] : j);
        n = FC_NAME(neighbours)(column ? column + j : NULL, columns - j);
        for (int64_t i = 0; i < rows; i++, out += ldc)
            for (int64_t l = 0; l < n; l++)
                out[l] = load ? out[l] + tile[i * GEMM_NR + j + l] : tile[i * GEMM_NR + j + l];
    }
}

/* The epilogue of a tile of complete sums: row i of column j lies at first + i * ldc + column[j] of dst and residual. */
FC_INLINE void FC_NAME(conv_finish)(const fc_epilogue *e, const FC_T *residual, FC_T *dst, int64_t first, int64_t ldc,
                                    const int64_t *column, int64_t rows, int64_t columns) {
    for (int64_t j = 0, n; j < columns; j += n) {
        n = FC_NAME(neighbours)(column + j, columns - j);
        const int64_t at = first + column[j];
        FC_NAME(finish)(e, residual ? residual + at : NULL, dst + at, ldc, rows, n);
    }
}

/* Product of packed weights (panels [k][GEMM_MR], k * GEMM_MR apart, rows 0..m) with packed columns.  Column j goes to
 * dst[row * dst_channel + column[j]]; column NULL means j, in a destination padded to whole tiles.  Rows go in bands that
 * stay in the second-level cache while all column panels pass.  `last` is the epilogue of sums that are complete, or
 * NULL; `residual` (or NULL) has its elements where the destination has them. */
static FC_UNUSED void FC_NAME(conv_product)(int64_t columns, int64_t k, const FC_T *weights, int64_t m,
                                            const FC_T *panels, int64_t panel_stride, const FC_T *bias, int load,
                                            FC_T *dst, int64_t dst_channel, const int64_t *column,
                                            const fc_epilogue *last, const FC_T *residual) {
    const int64_t band = fc_max(1, (int64_t)(160 << 10) / (int64_t)sizeof(FC_T) / fc_max(1, k * GEMM_MR)) * GEMM_MR;
    for (int64_t m0 = 0; m0 < m; m0 += band)
        for (int64_t j = 0; j < columns; j += GEMM_NR) {
            const FC_T *panel = panels + j / GEMM_NR * panel_stride;
            const int64_t *at = column ? column + j : NULL;
            const int64_t lanes = fc_min(GEMM_NR, columns - j);
            const int adjacent = at == NULL || (lanes == GEMM_NR && at[GEMM_NR - 1] - at[0] == GEMM_NR - 1);
            for (int64_t i = m0; i < fc_min(m, m0 + band); i += GEMM_MR) {
                FC_T *c = dst + i * dst_channel;
                const FC_T *init = bias ? bias + i : NULL;
                const int64_t rows = fc_min(GEMM_MR, m - i);
                if (adjacent && last)
                    FC_NAME(gemm_last)(k, weights + i * k, panel, init, load, c + at[0], dst_channel, rows, last,
                                       residual ? residual + i * dst_channel + at[0] : NULL);
                else if (adjacent && i + GEMM_MR <= m)
                    FC_NAME(gemm)(k, weights + i * k, panel, init, load, c + (at ? at[0] : j), dst_channel);
                else if (adjacent)
                    FC_NAME(gemm_rows)(k, weights + i * k, panel, init, load, c + (at ? at[0] : j), dst_channel, rows);
                else
                    FC_NAME(gemm_edge)(k, weights + i * k, panel, init, load, c, dst_channel, at, rows, lanes);
                if (last && !adjacent)
                    FC_NAME(conv_finish)(last, residual, dst, i * dst_channel, dst_channel, at, rows, lanes);
            }
        }
}

/* Packs columns of a block for the weight gradient: rows q0..q1 of the column matrix, q = channel * taps + tap, become the
 * lanes of panels [position][GEMM_NR].  row[c - q0 / taps][u] are the prepared source rows. */
static FC_UNUSED void FC_NAME(conv_pack_positions)(const fc_conv *g, const fc_block *b, int64_t q0, int64_t q1,
                                                   const FC_T *const *row, FC_T *panels, int64_t panel_stride) {
    const int64_t channel0 = q0 / g->taps;
    const FC_T *lane[GEMM_NR];
    int64_t first[GEMM_NR], shift[GEMM_NR];
    for (int64_t q = q0; q < q1; q += GEMM_NR, panels += panel_stride) {
        const int64_t lanes = fc_min(GEMM_NR, q1 - q);
        int64_t ab[GEMM_NR];
        for (int64_t l = 0; l < GEMM_NR; l++) {
            int64_t at = q + fc_min(l, lanes - 1), tap = at % g->taps;
            first[l] = (at / g->taps - channel0) * b->sources;
            ab[l] = tap / g->ntaps[2];
            shift[l] = b->tap_shift[tap % g->ntaps[2]];
        }
        for (int64_t r = 0; r < b->rows; r++) {
            for (int64_t l = 0; l < GEMM_NR; l++)
                lane[l] = row[first[l] + b->source_of[r * g->row_taps + ab[l]]] + shift[l];
            FC_NAME(pack_transposed)(lane, GEMM_NR, b->nx, panels + r * b->nx * GEMM_NR);
        }
    }
}

/* Packs rows m0..m1 of the output gradient over a block's columns into panels [position][GEMM_MR]; grad has `end` readable
 * elements.  Grid rows of one image lie end to end in it. */
static FC_UNUSED void FC_NAME(conv_pack_gradient)(const fc_conv *g, const fc_block *b, const FC_T *grad, int64_t end,
                                                  int64_t m0, int64_t m1, FC_T *panels, int64_t panel_stride) {
    const FC_T *lane[GEMM_MR];
    for (int64_t m = m0; m < m1; m += GEMM_MR, panels += panel_stride) {
        const int64_t lanes = fc_min(GEMM_MR, m1 - m);
        for (int64_t column = 0, n; column < b->columns; column += n) {
            const int64_t at = b->column_dst[column];
            for (n = b->nx; column + n < b->columns && b->column_dst[column + n] == at + n;)
                n += b->nx;
            for (int64_t l = 0; l < GEMM_MR; l++)
                lane[l] = grad + (m + fc_min(l, lanes - 1)) * g->dst_channel + at;
            int64_t whole = n;
            if ((m + lanes - 1) * g->dst_channel + at + n + GEMM_TW > end)
                whole = n / GEMM_TW * GEMM_TW;
            FC_T *dst = panels + column * GEMM_MR;
            FC_NAME(pack_transposed)(lane, GEMM_MR, whole, dst);
            for (int64_t p = whole; p < n; p++)
                for (int64_t l = 0; l < GEMM_MR; l++)
                    dst[p * GEMM_MR + l] = lane[l][p];
        }
    }
}

/* dw[m][q] (+)= sum over positions of packed gradient times packed positions. */
static FC_UNUSED void FC_NAME(conv_product_weight)(int64_t positions, const FC_T *gradient, int64_t gradient_stride,
                                                   int64_t m, const FC_T *panels, int64_t panel_stride, int64_t nq, int load,
                                                   FC_T *dw, int64_t ldw) {
    const int64_t band =
        fc_max(1, (int64_t)(160 << 10) / (int64_t)sizeof(FC_T) / fc_max(1, positions * GEMM_MR)) * GEMM_MR;
    for (int64_t m0 = 0; m0 < m; m0 += band)
        for (int64_t q = 0; q < nq; q += GEMM_NR)
            for (int64_t i = m0; i < fc_min(m, m0 + band); i += GEMM_MR) {
                const FC_T *a = gradient + i / GEMM_MR * gradient_stride, *b = panels + q / GEMM_NR * panel_stride;
                FC_T *c = dw + i * ldw + q;
                if (i + GEMM_MR <= m && q + GEMM_NR <= nq)
                    FC_NAME(gemm)(positions, a, b, NULL, load, c, ldw);
                else
                    FC_NAME(gemm_edge)(positions, a, b, NULL, load, c, ldw, NULL, fc_min(GEMM_MR, m - i),
                                       fc_min(GEMM_NR, nq - q));
            }
}

/* ------------------------------------------------------------------------------------------------ work items */

/* One work item of a product job: a block of columns times a part of the rows of a range of groups. */
static FC_UNUSED void FC_NAME(conv_item)(const fc_conv_job *job, int64_t item, void *scratch) {
    const fc_conv *g = &job->g;
    const int64_t padded_m = fc_round_up(job->m, GEMM_MR), part_m = fc_round_up((job->m + job->parts - 1) / job->parts, GEMM_MR);
    const int64_t m0 = item % job->parts * part_m, m1 = fc_min(job->m, m0 + part_m);
    item /= job->parts;
    const int64_t group0 = item % job->group_parts * job->groups / job->group_parts;
    const int64_t group1 = (item % job->group_parts + 1) * job->groups / job->group_parts;
    if (m0 >= m1)
        return;
    fc_block b;
    fc_scratch s = fc_scratch_split(g, job->block_channels * g->taps, sizeof(FC_T), GEMM_NR, 1, scratch);
    fc_block_plan(g, item / job->group_parts, GEMM_NR, GEMM_NR, s.words, &b);
    memset(s.zeros, 0, (size_t)b.row_length * sizeof(FC_T));
    /* where the positions are not neighbours in the destination, sums are kept in a stage of whole tiles */
    const int64_t stage_stride = fc_round_up(b.columns, GEMM_NR);
    FC_T *stage = g->dst_step[2] == 1 ? NULL : (FC_T *)((char *)scratch + s.bytes);
    const fc_epilogue *e = &job->epilogue;
    for (int64_t group = group0; group < group1; group++) {
        const FC_T *weights = (const FC_T *)job->weights + group * padded_m * g->channels * g->taps;
        const int64_t first = group * job->dst_group + m0; /* destination channel */
        const FC_T *bias = job->b ? (const FC_T *)job->b + first : NULL;
        const FC_T *residual = e->residual ? (const FC_T *)e->residual + first * g->dst_channel : NULL;
        FC_T *dst = (FC_T *)job->dst + first * g->dst_channel;
        for (int64_t c0 = 0; c0 < g->channels; c0 += job->block_channels) {
            const int64_t c1 = fc_min(g->channels, c0 + job->block_channels), k = (c1 - c0) * g->taps;
            const int64_t stride = (k + 1) * GEMM_NR;
            FC_NAME(conv_pack_columns)(g, &b, job->src, group * g->channels + c0, group * g->channels + c1, s.zeros,
                                       s.rows, (const FC_T **)s.row, s.panels, stride);
            FC_NAME(conv_product)(b.columns, k, weights + c0 * g->taps * padded_m + m0 * k, m1 - m0, s.panels, stride, bias,
                                  c0 > 0, stage ? stage : dst, stage ? stage_stride : g->dst_channel,
                                  stage ? NULL : b.column_dst, c1 == g->channels && fc_epilogue_finishes(e) ? e : NULL,
                                  residual);
        }
        for (int64_t i = 0; stage && i < m1 - m0; i++)
            for (int64_t r = 0; r < b.rows; r++) {
                FC_T *restrict out = dst + i * g->dst_channel + b.column_dst[r * b.nx];
                const FC_T *restrict from = stage + i * stage_stride + r * b.nx;
                for (int64_t x = 0; x < b.nx; x++)
                    out[x * g->dst_step[2]] = from[x];
            }
    }
}

/* One work item of a product whose columns are read where the prepared source rows lie, by one table of offsets: a band of
 * grid rows of one image and one group.  Nothing is packed, so it pays where few rows share the packing of a column. */
static FC_UNUSED void FC_NAME(conv_indirect_item)(const fc_conv_job *job, int64_t item, void *scratch) {
    const fc_conv *g = &job->g;
    const fc_indirect *n = &job->indirect;
    const int64_t padded_m = fc_round_up(job->m, GEMM_MR), k = g->channels * g->taps;
    const int64_t group = item % job->groups, band = item / job->groups % n->bands, plane = item / job->groups / n->bands;
    const int64_t image = plane / g->grid[0], z = plane % g->grid[0];
    const int64_t y0 = band * n->band_rows, rows = fc_min(n->band_rows, g->grid[1] - y0), width = g->grid[2];
    const FC_T *weights = (const FC_T *)job->weights + group * padded_m * k;
    const FC_T *bias = job->b ? (const FC_T *)job->b + group * job->dst_group : NULL;
    const int64_t plane_dst = group * job->dst_group * g->dst_channel + image * g->dst_image + z * g->dst_step[0];
    const FC_T *residual = job->epilogue.residual ? (const FC_T *)job->epilogue.residual + plane_dst : NULL;
    FC_T *dst = (FC_T *)job->dst + plane_dst;
    FC_T *source = scratch;
    int64_t *offset = (int64_t *)((char *)scratch + n->source_bytes), *to_offset = offset;

    FC_T *to = source;
    for (int64_t c = 0; c < g->channels; c++)
        for (int64_t a = 0; a < g->ntaps[0]; a++) {
            const int64_t sz = z * g->step[0] + g->offset[0][a], first = to - source;
            const FC_T *from = (const FC_T *)job->src + image * g->src_image +
                               (group * g->channels + c) * g->src_channel;
            for (int64_t u = 0; u < (rows - 1) * g->step[1] + n->y_span + 1; u++, to += n->pitch) {
                const int64_t sy = y0 * g->step[1] + n->y_first + u;
                if (sz >= 0 && sz < g->size[0] && sy >= 0 && sy < g->size[1])
                    FC_NAME(conv_row)(from + (sz * g->size[1] + sy) * g->size[2], g->size[2], g->x_first, g->step[2],
                                      n->pitch / g->step[2], to);
                else
                    memset(to, 0, (size_t)n->pitch * sizeof(FC_T));
            }
            for (int64_t t = 0; t < g->ntaps[1]; t++)
                for (int64_t e = 0; e < g->ntaps[2]; e++) {
                    const int64_t dx = g->offset[2][e] - g->x_first;
                    *to_offset++ = first + (g->offset[1][t] - n->y_first) * n->pitch +
                                   dx % g->step[2] * (n->pitch / g->step[2]) + dx / g->step[2];
                }
        }

    const int64_t row_vectors = (width + FC_VL - 1) / FC_VL;
    for (int64_t v = 0; v < rows * row_vectors; v += GEMM_NRV) {
        const FC_T *b[GEMM_NRV];
        FC_T *c[GEMM_NRV];
        for (int64_t j = 0; j < GEMM_NRV; j++) { /* the last vector of a row overlaps the one before: the same values */
            const int64_t at = fc_min(v + j, rows * row_vectors - 1), y = at / row_vectors;
            const int64_t x = fc_min(at % row_vectors * FC_VL, width - FC_VL);
            b[j] = source + y * g->step[1] * n->pitch + x;
            c[j] = dst + (y0 + y) * g->dst_step[1] + x;
        }
        for (int64_t i = 0; i < job->m; i += GEMM_MR) {
            FC_T *tile[GEMM_NRV];
            for (int64_t j = 0; j < GEMM_NRV; j++)
                tile[j] = c[j] + i * g->dst_channel;
            FC_NAME(gemm_indirect)(k, weights + i * k, b, offset, bias ? bias + i : NULL, tile, g->dst_channel,
                                   fc_min(GEMM_MR, job->m - i));
        }
    }
    /* not tile by tile: where vectors overlap, their lanes are to be finished once */
    for (int64_t i = 0; fc_epilogue_finishes(&job->epilogue) && i < job->m; i++) {
        const int64_t at = i * g->dst_channel + y0 * g->dst_step[1];
        FC_NAME(finish)(&job->epilogue, residual ? residual + at : NULL, dst + at, g->dst_step[1], rows, width);
    }
}

/* One work item of a weight-gradient job: a range of rows m and columns q of one group's gradient, summed over a share of
 * the column blocks. */
static FC_UNUSED void FC_NAME(conv_weight_item)(const fc_conv_weight_job *job, int64_t item, void *scratch) {
    const fc_conv *g = &job->g;
    const int64_t nq = g->channels * g->taps, blocks = fc_conv_blocks(g);
    const fc_weight_part part = fc_weight_part_of(job, item);
    const int64_t q0 = part.q0, q1 = part.q1, m0 = part.m0, m1 = part.m1, share = part.share, group = part.group;
    const int64_t channel0 = q0 / g->taps, channel1 = (q1 - 1) / g->taps + 1;

    fc_scratch s = fc_scratch_split(g, 0, sizeof(FC_T), GEMM_NR, fc_weight_channels(g, job->part_q), scratch);
    FC_T *positions = s.panels;
    const int64_t most = g->block_rows * g->block_x + GEMM_TW;
    FC_T *gradient = positions + fc_round_up(job->part_q, GEMM_NR) * most;
    const FC_T *grad = (const FC_T *)job->grad + group * job->m * g->dst_channel;
    FC_T *dw = (FC_T *)job->dst + ((share * job->groups + group) * job->m + m0) * nq + q0;

    const int64_t first = share * blocks / job->shares, last = (share + 1) * blocks / job->shares;
    for (int64_t i = first; i < last; i++) {
        fc_block b;
        fc_block_plan(g, i, GEMM_NR, GEMM_NR, s.words, &b);
        if (i == first || g->block_rows == 1)
            memset(s.zeros, 0, (size_t)b.row_length * sizeof(FC_T));
        const FC_T **row = (const FC_T **)s.row;
        for (int64_t c = channel0; c < channel1; c++)
            FC_NAME(conv_rows)(g, &b, job->src, group * g->channels + c, s.zeros,
                               (FC_T *)s.rows + (c - channel0) * b.sources * b.row_length,
                               row + (c - channel0) * b.sources);
        const int64_t height = b.columns + GEMM_TW;
        FC_NAME(conv_pack_positions)(g, &b, q0, q1, row, positions, height * GEMM_NR);
        FC_NAME(conv_pack_gradient)(g, &b, grad, job->grad_end - group * job->m * g->dst_channel, m0, m1, gradient,
                                    height * GEMM_MR);
        FC_NAME(conv_product_weight)(b.columns, gradient, height * GEMM_MR, m1 - m0, positions, height * GEMM_NR, q1 - q0,
                                     i > first, dw, nq);
    }
}

/* One band of a gathered job: padded rows of channels c0..c1 of a group, and the offset of each position. */
static FC_UNUSED void FC_NAME(conv_gather_rows)(const fc_conv *g, const fc_gather *n, const FC_T *src, int64_t image0,
                                                int64_t images, int64_t z, int64_t y0, int64_t rows, int64_t x0,
                                                int64_t nx, int64_t c0, int64_t c1, FC_T *restrict to,
                                                int64_t *restrict position) {
    const int64_t image_pitch = g->ntaps[0] * n->rows * n->pitch;
    const int64_t used = (rows - 1) * g->step[1] + n->rows - (n->band_rows - 1) * g->step[1];
    for (int64_t c = c0; c < c1; c++, to += n->channel_pitch)
        for (int64_t i = 0; i < images; i++)
            for (int64_t a = 0; a < g->ntaps[0]; a++) {
                const int64_t sz = z * g->step[0] + g->offset[0][a];
                const FC_T *from = src + (image0 + i) * g->src_image + c * g->src_channel;
                FC_T *row = to + i * image_pitch + a * n->rows * n->pitch;
                for (int64_t u = 0; u < used; u++, row += n->pitch) {
                    const int64_t sy = y0 * g->step[1] + n->y_first + u;
                    if (sz >= 0 && sz < g->size[0] && sy >= 0 && sy < g->size[1])
                        FC_NAME(conv_row)(from + (sz * g->size[1] + sy) * g->size[2], g->size[2],
                                          g->x_first + x0 * g->step[2], 1, n->pitch, row);
                    else
                        memset(row, 0, (size_t)n->pitch * sizeof(FC_T));
                }
            }
    for (int64_t i = 0; i < images; i++)
        for (int64_t y = 0; y < rows; y++)
            for (int64_t x = 0; x < nx; x++)
                *position++ = i * image_pitch + y * g->step[1] * n->pitch + x * g->step[2];
}

/* A weight-gradient item as conv_weight_item, with exchanged roles: the gradient is transposed, the columns are read where
 * their padded rows lie. */
static FC_UNUSED void FC_NAME(conv_weight_gather_item)(const fc_conv_weight_job *job, int64_t item, void *scratch) {
    const fc_conv *g = &job->g;
    const fc_gather *n = &job->gather;
    const int64_t nq = g->channels * g->taps;
    const fc_weight_part part = fc_weight_part_of(job, item);
    const int64_t q0 = part.q0, q1 = part.q1, m0 = part.m0, m1 = part.m1, share = part.share, group = part.group;
    const int64_t channel0 = q0 / g->taps, channel1 = (q1 - 1) / g->taps + 1;
    const int64_t part_q = fc_round_up(job->part_q, GEMM_MR), plane = g->grid[1] * g->grid[2];

    int64_t *position = scratch, *tap = position + n->positions;
    FC_T *source = (FC_T *)(tap + g->taps), *panel = source + (channel1 - channel0) * n->channel_pitch;
    FC_T *sums = panel + (n->positions + GEMM_NR) * GEMM_NR;
    for (int64_t a = 0, k = 0; a < g->ntaps[0]; a++)
        for (int64_t t = 0; t < g->ntaps[1]; t++)
            for (int64_t e = 0; e < g->ntaps[2]; e++, k++)
                tap[k] = (a * n->rows + g->offset[1][t] - n->y_first) * n->pitch + g->offset[2][e] - g->x_first;

    const int64_t first = share * n->bands / job->shares, last = (share + 1) * n->bands / job->shares;
    const int64_t plane_bands = (g->grid[1] + n->band_rows - 1) / n->band_rows;
    for (int64_t i = first; i < last; i++) {
        const int64_t band = i / n->pieces, x0 = i % n->pieces * n->band_x, nx = fc_min(n->band_x, g->grid[2] - x0);
        const int64_t at = n->band_images > 1 ? band * n->band_images * g->grid[0] : band / plane_bands;
        const int64_t image0 = at / g->grid[0], z = at % g->grid[0], y0 = band % plane_bands * n->band_rows;
        const int64_t images = fc_min(n->band_images, g->images - image0), rows = fc_min(n->band_rows, g->grid[1] - y0);
        const int64_t count = rows * nx;
        FC_NAME(conv_gather_rows)(g, n, job->src, image0, images, z, y0, rows, x0, nx, group * g->channels + channel0,
                                  group * g->channels + channel1, source, position);
        for (int64_t m = m0; m < m1; m += GEMM_NR) {
            for (int64_t k = 0; k < images; k++) {
                const FC_T *lane[GEMM_NR];
                for (int64_t l = 0; l < GEMM_NR; l++)
                    lane[l] = (const FC_T *)job->grad + (image0 + k) * g->dst_image + z * plane + y0 * g->grid[2] + x0 +
                              (group * job->m + fc_min(m + l, m1 - 1)) * g->dst_channel;
                const int64_t whole = count / GEMM_TW * GEMM_TW;
                FC_T *to = panel + k * count * GEMM_NR;
                FC_NAME(pack_transposed)(lane, GEMM_NR, whole, to);
                for (int64_t p = whole; p < count; p++)
                    for (int64_t l = 0; l < GEMM_NR; l++)
                        to[p * GEMM_NR + l] = lane[l][p];
            }
            for (int64_t q = q0; q < q1; q += GEMM_MR) {
                const FC_T *row[GEMM_MR];
                for (int64_t l = 0; l < GEMM_MR; l++) {
                    const int64_t k = fc_min(q + l, q1 - 1);
                    row[l] = source + (k / g->taps - channel0) * n->channel_pitch + tap[k % g->taps];
                }
                FC_NAME(gemm_gather)(images * count, row, position, panel, i > first,
                                     sums + ((m - m0) * part_q + (q - q0) * GEMM_NR), fc_min(GEMM_MR, q1 - q));
            }
        }
    }
    FC_T *dw = (FC_T *)job->dst + (share * job->groups + group) * job->m * nq;
    for (int64_t m = m0; m < m1; m++)
        for (int64_t q = q0; q < q1; q++)
            dw[m * nq + q] = sums[(m - m0) / GEMM_NR * GEMM_NR * part_q + (q - q0) * GEMM_NR + (m - m0) % GEMM_NR];
}

/* One row panel of the weights of a group, block of channels by block of channels, into the packed weights. */
static FC_UNUSED void FC_NAME(conv_weights_item)(const fc_conv_job *job, int64_t item, void *packed) {
    const fc_conv *g = &job->g;
    const int64_t padded_m = fc_round_up(job->m, GEMM_MR), panels = padded_m / GEMM_MR;
    const int64_t group = item / panels, m0 = item % panels * GEMM_MR;
    FC_T *out = (FC_T *)packed + group * padded_m * g->channels * g->taps;
    const FC_T *w = (const FC_T *)job->w + group * job->w_group;
    for (int64_t c0 = 0; c0 < g->channels; c0 += job->block_channels) {
        const int64_t c1 = fc_min(g->channels, c0 + job->block_channels), k = (c1 - c0) * g->taps;
        FC_NAME(conv_pack_weights)(w, job->w_m, job->w_c, job->tap, g->taps, job->w_contiguous, m0, job->m, c0, c1,
                                   out + c0 * g->taps * padded_m + m0 * k);
    }
}
