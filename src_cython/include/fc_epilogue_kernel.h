/* Activations of an epilogue.  Comparisons are written so that NaN passes through. */

FC_INLINE FC_T FC_NAME(activate_one)(const int activation, FC_T slope, FC_T x) {
    if (activation == FC_LINEAR)
        return x;
    if (activation == FC_LEAKY_RELU)
        return x < 0 ? x * slope : x;
    x = x < 0 ? 0 : x;
    return activation == FC_RELU6 && x > 6 ? 6 : x;
}

FC_INLINE FC_V FC_NAME(activate)(const int activation, FC_T slope, FC_V x) {
#if FC_VL == 1
    return FC_NAME(activate_one)(activation, slope, x);
#else
    typedef FC_IV mask_t;
    if (activation == FC_LINEAR)
        return x;
    const mask_t negative = (mask_t)(x < 0);
    if (activation == FC_LEAKY_RELU) {
        const FC_V scaled = x * slope;
        return (FC_V)(((mask_t)scaled & negative) | ((mask_t)x & ~negative));
    }
    x = (FC_V)((mask_t)x & ~negative);
    if (activation == FC_RELU6) {
        const FC_V six = (FC_V){0} + 6;
        const mask_t above = (mask_t)(x > 6);
        x = (FC_V)(((mask_t)six & above) | ((mask_t)x & ~above));
    }
    return x;
#endif
}

FC_INLINE void FC_NAME(finish_rows)(const int activation, FC_T slope, const FC_T *residual, FC_T *c, int64_t ldc,
                                    int64_t rows, int64_t n) {
    for (int64_t r = 0; r < rows; r++, c += ldc) {
        int64_t i = 0;
        for (; i + FC_VL <= n; i += FC_VL) {
            FC_V x = *(const FC_V *)(c + i);
            if (residual)
                x += *(const FC_V *)(residual + i);
            *(FC_V *)(c + i) = FC_NAME(activate)(activation, slope, x);
        }
        for (; i < n; i++)
            c[i] = FC_NAME(activate_one)(activation, slope, residual ? c[i] + residual[i] : c[i]);
        if (residual)
            residual += ldc;
    }
}

/* What an epilogue does behind the bias, in place: `rows` runs of n neighbours in a destination, ldc apart; `residual` (or
 * NULL) are their counterparts. */
static FC_UNUSED void FC_NAME(finish)(const fc_epilogue *e, const FC_T *residual, FC_T *c, int64_t ldc, int64_t rows,
                                      int64_t n) {
    const FC_T slope = (FC_T)e->slope;
    switch (e->activation) {
    case FC_RELU: FC_NAME(finish_rows)(FC_RELU, slope, residual, c, ldc, rows, n); break;
    case FC_RELU6: FC_NAME(finish_rows)(FC_RELU6, slope, residual, c, ldc, rows, n); break;
    case FC_LEAKY_RELU: FC_NAME(finish_rows)(FC_LEAKY_RELU, slope, residual, c, ldc, rows, n); break;
    default: FC_NAME(finish_rows)(FC_LINEAR, slope, residual, c, ldc, rows, n);
    }
}
