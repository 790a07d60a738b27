/* Cross-entropy from log-probabilities: the loss of a position is -sum_c q_c logp_c with the coefficients
 * q_c = (a t_c + b) weight_c, where t are the target probabilities, a = 1 - smoothing, b = smoothing / classes.
 *
 * A label stands for t = one-hot (`probs` is NULL): then without smoothing only the label's class is looked at, and
 * positions whose label is `ignore` count nothing.  Rows and columns as in fc_softmax_kernel.h. */

static void FC_NAME(cross_entropy_rows)(const FC_T *restrict logp, const int64_t *restrict label,
                                        const FC_T *restrict probs, const FC_T *restrict weight, FC_T *restrict loss,
                                        size_t rows, size_t classes, int64_t ignore, FC_T a, FC_T b) {
    for (size_t r = 0; r < rows; r++, logp += classes) {
        double sum = 0;
        if (probs) {
#pragma omp simd reduction(+ : sum)
            for (size_t c = 0; c < classes; c++) sum += (a * probs[c] + b) * weight[c] * logp[c];
            probs += classes;
        } else if (label[r] != ignore) {
            if (b != 0) {
#pragma omp simd reduction(+ : sum)
                for (size_t c = 0; c < classes; c++) sum += b * weight[c] * logp[c];
            }
            sum += a * weight[label[r]] * logp[label[r]];
        }
        loss[r] = (FC_T)(0 - sum);
    }
}

static void FC_NAME(cross_entropy_columns)(const FC_T *restrict logp, const int64_t *restrict label,
                                           const FC_T *restrict probs, const FC_T *restrict weight,
                                           FC_T *restrict loss, size_t classes, size_t stride, size_t n, int64_t ignore,
                                           FC_T a, FC_T b) {
    double sum[FC_COLUMNS];
    for (size_t j = 0; j < n; j++) sum[j] = 0;
    if (probs) {
        for (size_t c = 0; c < classes; c++)
            for (size_t j = 0; j < n; j++)
                sum[j] += (a * probs[c * stride + j] + b) * weight[c] * logp[c * stride + j];
    } else {
        if (b != 0)
            for (size_t c = 0; c < classes; c++)
                for (size_t j = 0; j < n; j++) sum[j] += b * weight[c] * logp[c * stride + j];
        for (size_t j = 0; j < n; j++)
            if (label[j] == ignore)
                sum[j] = 0;
            else
                sum[j] += a * weight[label[j]] * logp[label[j] * stride + j];
    }
    for (size_t j = 0; j < n; j++) loss[j] = (FC_T)(0 - sum[j]);
}

/* d_c = (exp(logp_c) sum_c q_c - q_c) scale; scale_step is 0 for one scale shared by all positions, else 1. */
static void FC_NAME(cross_entropy_grad_rows)(const FC_T *restrict logp, const int64_t *restrict label,
                                             const FC_T *restrict probs, const FC_T *restrict weight,
                                             const FC_T *restrict scale, size_t scale_step, FC_T *restrict d, size_t rows,
                                             size_t classes, int64_t ignore, FC_T a, FC_T b) {
    double weights = 0;
    for (size_t c = 0; c < classes; c++) weights += weight[c];
    for (size_t r = 0; r < rows; r++, logp += classes, d += classes) {
        const FC_T s = scale[r * scale_step];
        if (probs) {
            double q = 0;
#pragma omp simd reduction(+ : q)
            for (size_t c = 0; c < classes; c++) q += (a * probs[c] + b) * weight[c];
            const FC_T sum = (FC_T)q;
            for (size_t c = 0; c < classes; c++)
                d[c] = (FC_NAME(exp)(logp[c]) * sum - (a * probs[c] + b) * weight[c]) * s;
            probs += classes;
        } else if (label[r] == ignore) {
            memset(d, 0, classes * sizeof(FC_T));
        } else {
            const FC_T hit = a * weight[label[r]], sum = (FC_T)(hit + b * weights);
            for (size_t c = 0; c < classes; c++) d[c] = (FC_NAME(exp)(logp[c]) * sum - b * weight[c]) * s;
            d[label[r]] -= hit * s;
        }
    }
}

static void FC_NAME(cross_entropy_grad_columns)(const FC_T *restrict logp, const int64_t *restrict label,
                                                const FC_T *restrict probs, const FC_T *restrict weight,
                                                const FC_T *restrict scale, size_t scale_step, FC_T *restrict d,
                                                size_t classes, size_t stride, size_t n, int64_t ignore, FC_T a, FC_T b) {
    FC_T s[FC_COLUMNS], sum[FC_COLUMNS];
    double q[FC_COLUMNS], weights = 0;
    for (size_t c = 0; c < classes; c++) weights += weight[c];
    for (size_t j = 0; j < n; j++) {
        s[j] = scale[j * scale_step];
        q[j] = 0;
    }
    if (probs) {
        for (size_t c = 0; c < classes; c++)
            for (size_t j = 0; j < n; j++) q[j] += (a * probs[c * stride + j] + b) * weight[c];
        for (size_t j = 0; j < n; j++) sum[j] = (FC_T)q[j];
        for (size_t c = 0; c < classes; c++)
            for (size_t j = 0; j < n; j++)
                d[c * stride + j] = (FC_NAME(exp)(logp[c * stride + j]) * sum[j] -
                                     (a * probs[c * stride + j] + b) * weight[c]) * s[j];
    } else {
        /* an ignored position's gradient is zero even where the shared scale is not finite */
        for (size_t j = 0; j < n; j++) sum[j] = label[j] == ignore ? 0 : (FC_T)(a * weight[label[j]] + b * weights);
        for (size_t c = 0; c < classes; c++)
            for (size_t j = 0; j < n; j++) {
                const FC_T value = (FC_NAME(exp)(logp[c * stride + j]) * sum[j] - b * weight[c]) * s[j];
                d[c * stride + j] = label[j] == ignore ? 0 : value;
            }
        for (size_t j = 0; j < n; j++)
            if (label[j] != ignore) d[label[j] * stride + j] -= a * weight[label[j]] * s[j];
    }
}
