/* Activations of an epilogue.  Comparisons are written so that NaN passes through. */

FC_INLINE FC_T FC_NAME(activate_one)(const fc_epilogue *e, FC_T x) {
    if (e->activation == FC_LINEAR)
        return x;
    if (e->activation == FC_LEAKY_RELU)
        return x < 0 ? x * (FC_T)e->slope : x;
    x = x < 0 ? 0 : x;
    return e->activation == FC_RELU6 && x > 6 ? 6 : x;
}

FC_INLINE FC_TV FC_NAME(activate)(const fc_epilogue *e, FC_TV x) {
#if GEMM_TW == 1
    return FC_NAME(activate_one)(e, x);
#else
    typedef FC_NAME(fc_tint) mask_t;
    if (e->activation == FC_LINEAR)
        return x;
    const mask_t negative = (mask_t)(x < 0);
    if (e->activation == FC_LEAKY_RELU) {
        const FC_TV scaled = x * (FC_T)e->slope;
        return (FC_TV)(((mask_t)scaled & negative) | ((mask_t)x & ~negative));
    }
    x = (FC_TV)((mask_t)x & ~negative);
    if (e->activation == FC_RELU6) {
        const FC_TV six = (FC_TV){0} + 6;
        const mask_t above = (mask_t)(x > 6);
        x = (FC_TV)(((mask_t)six & above) | ((mask_t)x & ~above));
    }
    return x;
#endif
}

/* What an epilogue does behind the bias, in place: n neighbours of a destination, `residual` (or NULL) their counterparts. */
FC_INLINE void FC_NAME(finish)(const fc_epilogue *e, const FC_T *residual, FC_T *c, int64_t n) {
    int64_t i = 0;
    for (; i + GEMM_TW <= n; i += GEMM_TW) {
        FC_TV x = *(const FC_TV *)(c + i);
        if (residual)
            x += *(const FC_TV *)(residual + i);
        *(FC_TV *)(c + i) = FC_NAME(activate)(e, x);
    }
    for (; i < n; i++)
        c[i] = FC_NAME(activate_one)(e, residual ? c[i] + residual[i] : c[i]);
}
