/* Activations and their gradients from the output.  Comparisons are written so that NaN passes through. */

#if FC_TBYTES == 4
/* Polynomial of Cephes' tanhf near zero, 1 - 2 / (exp(2 |x|) + 1) elsewhere. */
FC_INLINE float FC_NAME(tanh)(float x) {
    const float a = x < 0.0f ? -x : x, z = x * x;
    const float large = 1.0f - 2.0f / (FC_NAME(exp)(2.0f * a) + 1.0f);
    float p = -5.70498872745e-3f;
    p = p * z + 2.06390887954e-2f;
    p = p * z - 5.37397155531e-2f;
    p = p * z + 1.33314422036e-1f;
    p = p * z - 3.33332819422e-1f;
    return a < 0.625f ? x * (p * z + 1.0f) : x < 0.0f ? -large : large;
}

/* Minimax polynomials: of erf(x) / x in x^2 near zero, of -log(erfc(x)) / x up to 4, where erf is 1 to rounding.  Error at
 * most 3 ulp. */
FC_INLINE float FC_NAME(erf)(float x) {
    const float size = x < 0.0f ? -x : x, a = 4.0f < size ? 4.0f : size, z = a * a;
    float near = -6.22242107e-4f, p = 9.36486504e-6f, large;
    near = near * z + 5.03587164e-3f;
    near = near * z - 2.67939549e-2f;
    near = near * z + 1.12825245e-1f;
    near = near * z - 3.76125574e-1f;
    near = near * z + 1.12837911f;
    p = p * a - 3.04333575e-4f;
    p = p * a + 3.56827606e-3f;
    p = p * a - 2.36072261e-2f;
    p = p * a + 1.06059648e-1f;
    p = p * a + 6.35256886e-1f;
    p = p * a + 1.12862289f;
    large = 1.0f - FC_NAME(exp)(-a * p);
    return a < 0.875f ? x * near : x < 0.0f ? -large : large;
}
#else
FC_INLINE double FC_NAME(tanh)(double x) { return tanh(x); }
FC_INLINE double FC_NAME(erf)(double x) { return erf(x); }
#endif

static void FC_NAME(activation_forward)(int kind, const FC_T *restrict x, FC_T *restrict y, size_t n, FC_T slope) {
    switch (kind) {
    case FC_RELU:
        for (size_t i = 0; i < n; i++) y[i] = (FC_T)0 > x[i] ? (FC_T)0 : x[i];
        break;
    case FC_LEAKY_RELU:
        for (size_t i = 0; i < n; i++) y[i] = x[i] > 0 ? x[i] : x[i] * slope;
        break;
    case FC_RELU6:
        for (size_t i = 0; i < n; i++) {
            const FC_T low = (FC_T)0 > x[i] ? (FC_T)0 : x[i];
            y[i] = (FC_T)6 < low ? (FC_T)6 : low;
        }
        break;
    case FC_SIGMOID: /* exp of a number that is not positive, so nothing overflows */
        for (size_t i = 0; i < n; i++) {
            const FC_T e = FC_NAME(exp)(x[i] < 0 ? x[i] : -x[i]);
            y[i] = (x[i] < 0 ? e : (FC_T)1) / (1 + e);
        }
        break;
    case FC_TANH:
        for (size_t i = 0; i < n; i++) y[i] = FC_NAME(tanh)(x[i]);
        break;
    case FC_ERF:
        for (size_t i = 0; i < n; i++) y[i] = FC_NAME(erf)(x[i]);
        break;
    case FC_GELU:
        for (size_t i = 0; i < n; i++)
            y[i] = (FC_T)0.5 * x[i] * (1 + FC_NAME(erf)(x[i] * (FC_T)0.70710678118654752));
        break;
    }
}

/* y = a + b, without its negative part for a ReLU; y may be a or b. */
static void FC_NAME(add)(const FC_T *a, const FC_T *b, FC_T *y, size_t n, int relu) {
    if (relu) {
#pragma omp simd
        for (size_t i = 0; i < n; i++) {
            const FC_T sum = a[i] + b[i];
            y[i] = (FC_T)0 > sum ? (FC_T)0 : sum;
        }
    } else {
#pragma omp simd
        for (size_t i = 0; i < n; i++) y[i] = a[i] + b[i];
    }
}

static void FC_NAME(activation_backward)(int kind, const FC_T *restrict g, const FC_T *restrict y, FC_T *restrict dx,
                                         size_t n, FC_T slope) {
    switch (kind) {
    case FC_RELU:
        for (size_t i = 0; i < n; i++) {
            const FC_T grad = g[i]; /* read on both branches: then there is no branch */
            dx[i] = y[i] <= 0 ? (FC_T)0 : grad;
        }
        break;
    case FC_LEAKY_RELU:
        for (size_t i = 0; i < n; i++) dx[i] = y[i] > 0 ? g[i] : g[i] * slope;
        break;
    case FC_RELU6:
        for (size_t i = 0; i < n; i++) {
            const FC_T grad = g[i];
            dx[i] = (y[i] <= 0) | (y[i] >= 6) ? (FC_T)0 : grad;
        }
        break;
    case FC_SIGMOID:
        for (size_t i = 0; i < n; i++) dx[i] = g[i] * (1 - y[i]) * y[i];
        break;
    case FC_TANH:
        for (size_t i = 0; i < n; i++) dx[i] = g[i] * (1 - y[i] * y[i]);
        break;
    }
}
