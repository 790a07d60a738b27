/* Activations of an epilogue.  Comparisons are written so that NaN passes through. */

/* activate_one for an element, activate for FC_TV, activate_wide for FC_V; SELECT(type, mask, a, b) is mask ? a : b. */
#undef FC_SELECT_ONE
#undef FC_SELECT
#undef FC_ACTIVATE
#define FC_SELECT_ONE(M, V, mask, a, b) ((mask) ? (a) : (b))
#define FC_SELECT(M, V, mask, a, b) ((V)(((M)(mask) & (M)(a)) | (~(M)(mask) & (M)(b))))
#define FC_ACTIVATE(name, SELECT, M, V)                                       \
    FC_INLINE V FC_NAME(name)(const fc_epilogue *e, V x) {                    \
        const V zero = {0}, six = zero + 6;                                   \
        if (e->activation == FC_LINEAR)                                       \
            return x;                                                         \
        if (e->activation == FC_LEAKY_RELU)                                   \
            return SELECT(M, V, x < zero, x * (FC_T)e->slope, x);             \
        x = SELECT(M, V, x < zero, zero, x);                                  \
        return e->activation == FC_RELU6 ? SELECT(M, V, x > six, six, x) : x; \
    }

FC_ACTIVATE(activate_one, FC_SELECT_ONE, FC_INT, FC_T)
#if FC_VL == 1
FC_ACTIVATE(activate, FC_SELECT_ONE, FC_INT, FC_TV)
FC_ACTIVATE(activate_wide, FC_SELECT_ONE, FC_INT, FC_V)
#else
FC_ACTIVATE(activate, FC_SELECT, FC_NAME(fc_tint), FC_TV)
FC_ACTIVATE(activate_wide, FC_SELECT, FC_IV, FC_V)
#endif

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
