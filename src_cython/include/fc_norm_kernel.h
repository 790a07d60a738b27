/* Channel sums and batch normalisation.
 *
 * Sums gather in double.  Variances come from one pass over x - shift, where the caller's shift is a mean of some of the
 * channel's own elements: then (shift - mean)^2 is at most the number of elements over the number averaged times the
 * variance, which bounds what cancels.  "run": contiguous elements of one channel; "columns": `n` neighbouring columns of
 * `rows` rows `stride` apart, each column belonging to one channel. */

/* Adds the sum of x to *sum. */
static void FC_NAME(sum_run)(const FC_T *restrict x, size_t n, double *sum) {
    double total = 0;
#pragma omp simd reduction(+ : total)
    for (size_t i = 0; i < n; i++) total += x[i];
    *sum += total;
}

static void FC_NAME(sum_columns)(const FC_T *restrict x, size_t rows, size_t stride, size_t n, double *restrict sum) {
    for (size_t j = 0; j < n; j++) sum[j] = 0;
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < n; j++) sum[j] += x[i * stride + j];
}

/* Adds the sums of x - shift and of its square to moment[0] and moment[1]. */
static void FC_NAME(moments_run)(const FC_T *restrict x, size_t n, double shift, double *restrict moment) {
    double sum = 0, square = 0;
#pragma omp simd reduction(+ : sum, square)
    for (size_t i = 0; i < n; i++) {
        const double d = x[i] - shift;
        sum += d;
        square += d * d;
    }
    moment[0] += sum;
    moment[1] += square;
}

static void FC_NAME(moments_columns)(const FC_T *restrict x, size_t rows, size_t stride, size_t n,
                                     const double *restrict shift, double *restrict sum, double *restrict square) {
    for (size_t j = 0; j < n; j++) sum[j] = square[j] = 0;
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < n; j++) {
            const double d = x[i * stride + j] - shift[j];
            sum[j] += d;
            square[j] += d * d;
        }
}

/* Adds the sums of g and of g (x - mean) to moment[0] and moment[1]. */
static void FC_NAME(grad_moments_run)(const FC_T *restrict g, const FC_T *restrict x, size_t n, double mean,
                                      double *restrict moment) {
    double sum = 0, product = 0;
#pragma omp simd reduction(+ : sum, product)
    for (size_t i = 0; i < n; i++) {
        sum += g[i];
        product += g[i] * (x[i] - mean);
    }
    moment[0] += sum;
    moment[1] += product;
}

static void FC_NAME(grad_moments_columns)(const FC_T *restrict g, const FC_T *restrict x, size_t rows, size_t stride,
                                          size_t n, const double *restrict mean, double *restrict sum,
                                          double *restrict product) {
    for (size_t j = 0; j < n; j++) sum[j] = product[j] = 0;
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < n; j++) {
            sum[j] += g[i * stride + j];
            product[j] += g[i * stride + j] * (x[i * stride + j] - mean[j]);
        }
}

/* y = (x - mean) scale + bias */
static void FC_NAME(normalize_run)(const FC_T *restrict x, FC_T *restrict y, size_t n, FC_T mean, FC_T scale, FC_T bias) {
    for (size_t i = 0; i < n; i++) y[i] = (x[i] - mean) * scale + bias;
}

static void FC_NAME(normalize_columns)(const FC_T *restrict x, FC_T *restrict y, size_t rows, size_t stride, size_t n,
                                       const FC_T *restrict mean, const FC_T *restrict scale,
                                       const FC_T *restrict bias) {
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < n; j++) y[i * stride + j] = (x[i * stride + j] - mean[j]) * scale[j] + bias[j];
}

/* dx = (g - offset - (x - mean) slope) scale */
static void FC_NAME(normalize_grad_run)(const FC_T *restrict g, const FC_T *restrict x, FC_T *restrict dx, size_t n,
                                        FC_T mean, FC_T offset, FC_T slope, FC_T scale) {
    for (size_t i = 0; i < n; i++) dx[i] = (g[i] - offset - (x[i] - mean) * slope) * scale;
}

static void FC_NAME(normalize_grad_columns)(const FC_T *restrict g, const FC_T *restrict x, FC_T *restrict dx,
                                            size_t rows, size_t stride, size_t n, const FC_T *restrict mean,
                                            const FC_T *restrict offset, const FC_T *restrict slope,
                                            const FC_T *restrict scale) {
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < n; j++) {
            const size_t at = i * stride + j;
            dx[at] = (g[at] - offset[j] - (x[at] - mean[j]) * slope[j]) * scale[j];
        }
}
