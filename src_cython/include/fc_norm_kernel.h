/* Channel sums and batch normalisation.
 *
 * Sums gather in double.  Variances come from one pass over x - shift, where the caller's shift is a mean of some of the
 * channel's own elements: then (shift - mean)^2 is at most the number of elements over the number averaged times the
 * variance, which bounds what cancels.  "run": contiguous elements of one channel; "columns": `n` neighbouring columns of
 * `rows` rows `stride` apart, each column belonging to one channel. */

#define FC_STREAMS 4 /* parts of a run summed side by side: one chain of additions would wait for itself */
#define FC_TILE 16   /* columns whose sums stay in registers */

/* Adds the sum of x to *sum. */
static void FC_NAME(sum_run)(const FC_T *restrict x, size_t n, double *sum) {
    const size_t part = n / FC_STREAMS;
    double a = 0, b = 0, c = 0, d = 0;
#pragma omp simd reduction(+ : a, b, c, d)
    for (size_t i = 0; i < part; i++) {
        a += x[i];
        b += x[part + i];
        c += x[2 * part + i];
        d += x[3 * part + i];
    }
    for (size_t i = FC_STREAMS * part; i < n; i++) a += x[i];
    *sum += (a + b) + (c + d);
}

/* Adds the sums of x - shift and of its square to moment[0] and moment[1]. */
static void FC_NAME(moments_run)(const FC_T *restrict x, size_t n, double shift, double *restrict moment) {
    const size_t part = n / FC_STREAMS;
    double a = 0, b = 0, c = 0, d = 0, aa = 0, bb = 0, cc = 0, dd = 0;
#pragma omp simd reduction(+ : a, b, c, d, aa, bb, cc, dd)
    for (size_t i = 0; i < part; i++) {
        const double ai = x[i] - shift, bi = x[part + i] - shift;
        const double ci = x[2 * part + i] - shift, di = x[3 * part + i] - shift;
        a += ai;
        b += bi;
        c += ci;
        d += di;
        aa += ai * ai;
        bb += bi * bi;
        cc += ci * ci;
        dd += di * di;
    }
    for (size_t i = FC_STREAMS * part; i < n; i++) {
        const double ai = x[i] - shift;
        a += ai;
        aa += ai * ai;
    }
    moment[0] += (a + b) + (c + d);
    moment[1] += (aa + bb) + (cc + dd);
}

/* Adds the sums of g and of g (x - mean) to moment[0] and moment[1]. */
static void FC_NAME(grad_moments_run)(const FC_T *restrict g, const FC_T *restrict x, size_t n, double mean,
                                      double *restrict moment) {
    const size_t part = n / 2;
    double a = 0, b = 0, ax = 0, bx = 0;
#pragma omp simd reduction(+ : a, b, ax, bx)
    for (size_t i = 0; i < part; i++) {
        a += g[i];
        b += g[part + i];
        ax += g[i] * (x[i] - mean);
        bx += g[part + i] * (x[part + i] - mean);
    }
    for (size_t i = 2 * part; i < n; i++) {
        a += g[i];
        ax += g[i] * (x[i] - mean);
    }
    moment[0] += a + b;
    moment[1] += ax + bx;
}

static void FC_NAME(sum_columns)(const FC_T *restrict x, size_t rows, size_t stride, size_t n, double *restrict sum) {
    size_t j = 0;
    for (; j + FC_TILE <= n; j += FC_TILE) {
        double part[FC_TILE] = {0};
        for (size_t i = 0; i < rows; i++)
            for (size_t k = 0; k < FC_TILE; k++) part[k] += x[i * stride + j + k];
        for (size_t k = 0; k < FC_TILE; k++) sum[j + k] = part[k];
    }
    for (; j < n; j++) {
        sum[j] = 0;
        for (size_t i = 0; i < rows; i++) sum[j] += x[i * stride + j];
    }
}

static void FC_NAME(moments_columns)(const FC_T *restrict x, size_t rows, size_t stride, size_t n,
                                     const double *restrict shift, double *restrict sum, double *restrict square) {
    size_t j = 0;
    for (; j + FC_TILE <= n; j += FC_TILE) {
        double part[FC_TILE] = {0}, part_square[FC_TILE] = {0};
        for (size_t i = 0; i < rows; i++)
            for (size_t k = 0; k < FC_TILE; k++) {
                const double d = x[i * stride + j + k] - shift[j + k];
                part[k] += d;
                part_square[k] += d * d;
            }
        for (size_t k = 0; k < FC_TILE; k++) {
            sum[j + k] = part[k];
            square[j + k] = part_square[k];
        }
    }
    for (; j < n; j++) {
        sum[j] = square[j] = 0;
        for (size_t i = 0; i < rows; i++) {
            const double d = x[i * stride + j] - shift[j];
            sum[j] += d;
            square[j] += d * d;
        }
    }
}

static void FC_NAME(grad_moments_columns)(const FC_T *restrict g, const FC_T *restrict x, size_t rows, size_t stride,
                                          size_t n, const double *restrict mean, double *restrict sum,
                                          double *restrict product) {
    size_t j = 0;
    for (; j + FC_TILE <= n; j += FC_TILE) {
        double part[FC_TILE] = {0}, part_product[FC_TILE] = {0};
        for (size_t i = 0; i < rows; i++)
            for (size_t k = 0; k < FC_TILE; k++) {
                const size_t at = i * stride + j + k;
                part[k] += g[at];
                part_product[k] += g[at] * (x[at] - mean[j + k]);
            }
        for (size_t k = 0; k < FC_TILE; k++) {
            sum[j + k] = part[k];
            product[j + k] = part_product[k];
        }
    }
    for (; j < n; j++) {
        sum[j] = product[j] = 0;
        for (size_t i = 0; i < rows; i++) {
            sum[j] += g[i * stride + j];
            product[j] += g[i * stride + j] * (x[i * stride + j] - mean[j]);
        }
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

#undef FC_STREAMS
#undef FC_TILE
