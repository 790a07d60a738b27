/* Activations of an epilogue.  Comparisons are written so that NaN passes through. */

/* activate_one for an element, activate for FC_V, activate_short for FC_TV; SELECT(type, mask, a, b) is mask ? a : b. */
#undef FC_SELECT_ONE
#undef FC_SELECT
#undef FC_ACTIVATE
#define FC_SELECT_ONE(M, V, mask, a, b) ((mask) ? (a) : (b))
#define FC_SELECT(M, V, mask, a, b) ((V)(((M)(mask) & (M)(a)) | (~(M)(mask) & (M)(b))))
#define FC_ACTIVATE(name, SELECT, M, V)                                        \
    FC_INLINE V FC_NAME(name)(const int activation, FC_T slope, V x) {         \
        const V zero = {0}, six = zero + 6;                                    \
        if (activation == FC_LINEAR)                                           \
            return x;                                                          \
        if (activation == FC_LEAKY_RELU)                                       \
            return SELECT(M, V, x < zero, x * slope, x);                       \
        x = SELECT(M, V, x < zero, zero, x);                                   \
        return activation == FC_RELU6 ? SELECT(M, V, x > six, six, x) : x;     \
    }

FC_ACTIVATE(activate_one, FC_SELECT_ONE, FC_INT, FC_T)
#if FC_VL == 1
FC_ACTIVATE(activate, FC_SELECT_ONE, FC_INT, FC_V)
FC_ACTIVATE(activate_short, FC_SELECT_ONE, FC_INT, FC_TV)
#else
FC_ACTIVATE(activate, FC_SELECT, FC_IV, FC_V)
FC_ACTIVATE(activate_short, FC_SELECT, FC_NAME(fc_tint), FC_TV)
#endif

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
