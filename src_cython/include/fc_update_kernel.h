/* One step of an optimizer on neighbouring elements: each is read and written once. */

#define FC_SUMS 16 /* running sums side by side, so that vectors can hold them */
#if FC_TBYTES == 4
#define FC_SQRT sqrtf
#else
#define FC_SQRT sqrt
#endif

/* The gradient as the rules see it: scaled, clamped (NaN passes), with the coupled decay. */
FC_INLINE FC_T FC_NAME(slope)(FC_T w, FC_T g, FC_T scale, FC_T bound, FC_T decay) {
    g *= scale;
    g = g > bound ? bound : g;
    g = g < -bound ? -bound : g;
    return g + decay * w;
}

#define FC_SLOPE(i) FC_NAME(slope)(w[i], g[i], scale, bound, decay)

static void FC_NAME(update_sgd)(const fc_update_rates *rates, const fc_update_array *array, FC_T *restrict w,
                                const FC_T *restrict g, FC_T *restrict velocity, size_t n) {
    const FC_T scale = (FC_T)array->scale, decay = (FC_T)array->decay, shrink = (FC_T)array->shrink;
    const FC_T bound = (FC_T)rates->bound, rate = (FC_T)rates->rate, momentum = (FC_T)rates->momentum;
    if (!velocity) {
        for (size_t i = 0; i < n; i++) w[i] = shrink * w[i] - rate * FC_SLOPE(i);
    } else if (rates->nesterov) {
        for (size_t i = 0; i < n; i++) {
            const FC_T slope = FC_SLOPE(i);
            velocity[i] = momentum * velocity[i] + slope;
            w[i] = shrink * w[i] - rate * (slope + momentum * velocity[i]);
        }
    } else {
        for (size_t i = 0; i < n; i++) {
            velocity[i] = momentum * velocity[i] + FC_SLOPE(i);
            w[i] = shrink * w[i] - rate * velocity[i];
        }
    }
}

static void FC_NAME(update_adam)(const fc_update_rates *rates, const fc_update_array *array, FC_T *restrict w,
                                 const FC_T *restrict g, FC_T *restrict mean, FC_T *restrict square, size_t n) {
    const FC_T scale = (FC_T)array->scale, decay = (FC_T)array->decay, shrink = (FC_T)array->shrink;
    const FC_T bound = (FC_T)rates->bound, rate = (FC_T)rates->rate, eps = (FC_T)rates->eps;
    const FC_T beta1 = (FC_T)rates->mean_decay, beta2 = (FC_T)rates->square_decay;
    const FC_T share1 = (FC_T)(1 - rates->mean_decay), share2 = (FC_T)(1 - rates->square_decay);
    const FC_T root_scale = (FC_T)rates->root_scale;
    for (size_t i = 0; i < n; i++) {
        const FC_T slope = FC_SLOPE(i);
        mean[i] = beta1 * mean[i] + share1 * slope;
        square[i] = beta2 * square[i] + share2 * slope * slope;
        w[i] = shrink * w[i] - rate * mean[i] / (FC_SQRT(square[i]) * root_scale + eps);
    }
}

/* Inlined once per use, with flags that are constants: a loop that branches is not made of vectors. */
FC_INLINE void FC_NAME(rmsprop_loop)(const fc_update_rates *rates, const fc_update_array *array, FC_T *restrict w,
                                     const FC_T *restrict g, FC_T *restrict velocity, FC_T *restrict mean,
                                     FC_T *restrict square, size_t n, int moving, int centered) {
    const FC_T scale = (FC_T)array->scale, decay = (FC_T)array->decay, shrink = (FC_T)array->shrink;
    const FC_T bound = (FC_T)rates->bound, rate = (FC_T)rates->rate, eps = (FC_T)rates->eps;
    const FC_T beta1 = (FC_T)rates->mean_decay, beta2 = (FC_T)rates->square_decay;
    const FC_T share1 = (FC_T)(1 - rates->mean_decay), share2 = (FC_T)(1 - rates->square_decay);
    const FC_T root_scale = (FC_T)rates->root_scale, momentum = (FC_T)rates->momentum;
    for (size_t i = 0; i < n; i++) {
        const FC_T slope = FC_SLOPE(i);
        FC_T move, variance = square[i] = beta2 * square[i] + share2 * slope * slope;
        if (centered) {
            mean[i] = beta1 * mean[i] + share1 * slope;
            variance -= mean[i] * mean[i];
            variance = variance < 0 ? 0 : variance; /* by rounding, where the gradient stays the same */
        }
        move = slope / (FC_SQRT(variance) * root_scale + eps);
        if (moving)
            move = velocity[i] = momentum * velocity[i] + move;
        w[i] = shrink * w[i] - rate * move;
    }
}

static void FC_NAME(update_rmsprop)(const fc_update_rates *rates, const fc_update_array *array, FC_T *w,
                                    const FC_T *g, FC_T *velocity, FC_T *mean, FC_T *square, size_t n) {
    if (velocity && mean)
        FC_NAME(rmsprop_loop)(rates, array, w, g, velocity, mean, square, n, 1, 1);
    else if (velocity)
        FC_NAME(rmsprop_loop)(rates, array, w, g, velocity, NULL, square, n, 1, 0);
    else if (mean)
        FC_NAME(rmsprop_loop)(rates, array, w, g, NULL, mean, square, n, 0, 1);
    else
        FC_NAME(rmsprop_loop)(rates, array, w, g, NULL, NULL, square, n, 0, 0);
}

static void FC_NAME(update)(int rule, const fc_update_rates *rates, const fc_update_array *array, size_t first,
                            size_t n) {
    /* an offset from NULL is never used, but would not be C */
    FC_T *w = (FC_T *)array->weight + first;
    const FC_T *g = (const FC_T *)array->grad + first;
    FC_T *velocity = array->velocity ? (FC_T *)array->velocity + first : NULL;
    FC_T *mean = array->mean ? (FC_T *)array->mean + first : NULL;
    FC_T *square = array->square ? (FC_T *)array->square + first : NULL;
    switch (rule) {
    case FC_SGD:
        FC_NAME(update_sgd)(rates, array, w, g, velocity, n);
        break;
    case FC_ADAM:
        FC_NAME(update_adam)(rates, array, w, g, mean, square, n);
        break;
    case FC_RMSPROP:
        FC_NAME(update_rmsprop)(rates, array, w, g, velocity, mean, square, n);
        break;
    }
}

/* In double: the square of a large float is none. */
static void FC_NAME(square_sum)(const FC_T *restrict x, size_t n, double *restrict sum) {
    double part[FC_SUMS] = {0}, total = 0;
    size_t i = 0;
    for (; i + FC_SUMS <= n; i += FC_SUMS)
        for (size_t j = 0; j < FC_SUMS; j++) part[j] += (double)x[i + j] * (double)x[i + j];
    for (; i < n; i++) total += (double)x[i] * (double)x[i];
    for (size_t j = 0; j < FC_SUMS; j++) total += part[j];
    *sum = total;
}

#undef FC_SLOPE
#undef FC_SUMS
#undef FC_SQRT
