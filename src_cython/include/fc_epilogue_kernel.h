/* The activation of an epilogue, on vectors of GEMM_TW lanes (see fc_gemm_kernel.h). */
FC_INLINE FC_TV FC_NAME(activate)(const fc_epilogue *e, FC_TV x) {
    if (e->activation == FC_LINEAR)
        return x;
#if GEMM_TW == 1
    if (e->activation == FC_LEAKY_RELU)
        return x < 0 ? x * (FC_T)e->slope : x;
    x = x < 0 ? 0 : x;
    return e->activation == FC_RELU6 && x > 6 ? 6 : x;
#else
    typedef FC_NAME(fc_tint) mask_t;
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
