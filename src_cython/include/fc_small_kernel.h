/* One image of a small convolution, and of its input gradient: rows times one weight, added up in place. */

/* to[i * to_step] += weight * from[i * from_step] */
FC_INLINE void FC_NAME(small_add)(FC_T *restrict to, int64_t to_step, const FC_T *restrict from, int64_t from_step,
                                  FC_T weight, int64_t n) {
    if (to_step == 1 && from_step == 1)
        for (int64_t i = 0; i < n; i++)
            to[i] += weight * from[i];
    else
        for (int64_t i = 0; i < n; i++)
            to[i * to_step] += weight * from[i * from_step];
}

/* Every (output row, vertical tap, horizontal tap) of one filter over one channel, forwards or, `adjoint`, backwards. */
FC_INLINE void FC_NAME(small_plane)(const fc_small *g, FC_T *source, FC_T *grid, const FC_T *weight, const int adjoint) {
    const fc_small_axis *y = &g->y, *x = &g->x;
    for (int64_t t = 0; t < y->taps; t++)
        for (int64_t o = y->first[t]; o < y->stop[t]; o++) {
            FC_T *row = source + (o * y->step + y->offset[t]) * x->source;
            for (int64_t e = 0; e < x->taps; e++) {
                FC_T *from = row + x->first[e] * x->step + x->offset[e], *to = grid + o * x->grid + x->first[e];
                const int64_t n = x->stop[e] - x->first[e];
                if (adjoint)
                    FC_NAME(small_add)(from, x->step, to, 1, weight[t * x->taps + e], n);
                else
                    FC_NAME(small_add)(to, 1, from, x->step, weight[t * x->taps + e], n);
            }
        }
}

static void FC_NAME(small_forward)(const fc_small *g, const FC_T *input, const FC_T *weight, const fc_epilogue *epilogue,
                                   FC_T *output) {
    const int64_t source = g->y.source * g->x.source, grid = g->y.grid * g->x.grid, taps = g->y.taps * g->x.taps;
    const FC_T *bias = epilogue->bias, *residual = epilogue->residual;
    const int finishes = fc_epilogue_finishes(epilogue);
    for (int64_t f = 0; f < g->groups * g->filters; f++, output += grid) {
        const FC_T init = bias ? bias[f] : (FC_T)0;
        const FC_T *plane = input + f / g->filters * g->channels * source;
        for (int64_t i = 0; i < grid; i++)
            output[i] = init;
        for (int64_t c = 0; c < g->channels; c++, plane += source, weight += taps)
            FC_NAME(small_plane)(g, (FC_T *)plane, output, weight, 0);
        if (finishes)
            FC_NAME(finish)(epilogue, residual ? residual + f * grid : NULL, output, grid, 1, grid);
    }
}

static void FC_NAME(small_input_grad)(const fc_small *g, const FC_T *grad, const FC_T *weight, const FC_T *bias,
                                      FC_T *input) {
    const int64_t source = g->y.source * g->x.source, grid = g->y.grid * g->x.grid, taps = g->y.taps * g->x.taps;
    for (int64_t c = 0; c < g->groups * g->channels; c++, input += source) {
        const FC_T init = bias ? bias[c] : (FC_T)0;
        const int64_t first = c / g->channels * g->filters;
        for (int64_t i = 0; i < source; i++)
            input[i] = init;
        for (int64_t f = first; f < first + g->filters; f++)
            FC_NAME(small_plane)(g, input, (FC_T *)grad + f * grid, weight + (f * g->channels + c % g->channels) * taps, 1);
    }
}
