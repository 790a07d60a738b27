/* Channel sums and batch normalisation.
 *
 * Sums gather in double.  Variances come from one pass over x - shift, where the caller's shift is a mean of some of the
 * channel's own elements: then (shift - mean)^2 is at most the number of elements over the number averaged times the
 * variance, which bounds what cancels.  "run": contiguous elements of one channel; "columns": `n` neighbouring columns of
 * `rows` rows `stride` apart, each column belonging to one channel. */

#include "fc_moments_kernel.h"

/* Adds the sum of x to *sum. */
static void FC_NAME(sum_run)(const FC_T *restrict x, size_t n, double *sum) {
    FC_NAME(lanes) part[FC_PARTS] = {0};
    double rest = 0;
    size_t i = 0;
    for (; i + FC_TILE <= n; i += FC_TILE)
        for (int k = 0; k < FC_PARTS; k++) part[k] += FC_WIDEN(x + i + k * FC_LANES);
    for (; i < n; i++) rest += x[i];
    *sum += FC_NAME(fold)(part) + rest;
}

/* A normalisation, which both passes compute alike, and the gradient that a ReLU behind it lets through; NaN passes. */
FC_INLINE FC_T FC_NAME(normalized)(FC_T x, FC_T mean, FC_T scale, FC_T bias) { return (x - mean) * scale + bias; }

FC_INLINE FC_T FC_NAME(rectified)(FC_T y) { return (FC_T)0 > y ? (FC_T)0 : y; }

FC_INLINE FC_T FC_NAME(gated)(FC_T g, FC_T x, FC_T mean, FC_T scale, FC_T bias) {
    return FC_NAME(normalized)(x, mean, scale, bias) <= 0 ? (FC_T)0 : g;
}

/* Adds the sums of g and of g (x - mean) to moment[0] and moment[1]. */
FC_INLINE void FC_NAME(grad_moments_of)(const FC_T *restrict g, const FC_T *restrict x, size_t n, double mean,
                                        const int relu, FC_T scale, FC_T bias, double *restrict moment) {
    FC_NAME(lanes) part[FC_PARTS] = {0}, product[FC_PARTS] = {0};
    double rest = 0, rest_product = 0;
    size_t i = 0;
    for (; i + FC_TILE <= n; i += FC_TILE) {
        FC_T passed[FC_TILE];
        const FC_T *from = g + i;
        if (relu) {
            for (int k = 0; k < FC_TILE; k++) passed[k] = FC_NAME(gated)(g[i + k], x[i + k], (FC_T)mean, scale, bias);
            from = passed;
        }
        for (int k = 0; k < FC_PARTS; k++) {
            const FC_NAME(lanes) grad = FC_WIDEN(from + k * FC_LANES);
            part[k] += grad;
            product[k] += grad * (FC_WIDEN(x + i + k * FC_LANES) - mean);
        }
    }
    for (; i < n; i++) {
        const FC_T grad = relu ? FC_NAME(gated)(g[i], x[i], (FC_T)mean, scale, bias) : g[i];
        rest += grad;
        rest_product += grad * (x[i] - mean);
    }
    moment[0] += FC_NAME(fold)(part) + rest;
    moment[1] += FC_NAME(fold)(product) + rest_product;
}

static void FC_NAME(grad_moments_run)(const FC_T *restrict g, const FC_T *restrict x, size_t n, double mean, int relu,
                                      FC_T scale, FC_T bias, double *restrict moment) {
    if (relu)
        FC_NAME(grad_moments_of)(g, x, n, mean, 1, scale, bias, moment);
    else
        FC_NAME(grad_moments_of)(g, x, n, mean, 0, scale, bias, moment);
}

static void FC_NAME(sum_columns)(const FC_T *restrict x, size_t rows, size_t stride, size_t n, double *restrict sum) {
    size_t j = 0;
    for (; j + FC_TILE <= n; j += FC_TILE) {
        FC_NAME(lanes) part[FC_PARTS] = {0};
        for (size_t i = 0; i < rows; i++)
            for (int k = 0; k < FC_PARTS; k++) part[k] += FC_WIDEN(x + i * stride + j + k * FC_LANES);
        memcpy(sum + j, part, sizeof part);
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
        FC_NAME(lanes) part[FC_PARTS] = {0}, part_square[FC_PARTS] = {0}, start[FC_PARTS];
        memcpy(start, shift + j, sizeof start);
        for (size_t i = 0; i < rows; i++)
            for (int k = 0; k < FC_PARTS; k++) {
                const FC_NAME(lanes) d = FC_WIDEN(x + i * stride + j + k * FC_LANES) - start[k];
                part[k] += d;
                part_square[k] += d * d;
            }
        memcpy(sum + j, part, sizeof part);
        memcpy(square + j, part_square, sizeof part_square);
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

FC_INLINE void FC_NAME(grad_moments_of_columns)(const FC_T *restrict g, const FC_T *restrict x, size_t rows, size_t stride,
                                                size_t n, const double *restrict mean, const int relu,
                                                const FC_T *restrict scale, const FC_T *restrict bias,
                                                double *restrict sum, double *restrict product) {
    size_t j = 0;
    for (; j + FC_TILE <= n; j += FC_TILE) {
        FC_NAME(lanes) part[FC_PARTS] = {0}, part_product[FC_PARTS] = {0}, center[FC_PARTS];
        FC_T passed[FC_TILE];
        memcpy(center, mean + j, sizeof center);
        for (size_t i = 0; i < rows; i++) {
            const size_t at = i * stride + j;
            const FC_T *from = g + at;
            if (relu) {
                for (int k = 0; k < FC_TILE; k++)
                    passed[k] = FC_NAME(gated)(g[at + k], x[at + k], (FC_T)mean[j + k], scale[j + k], bias[j + k]);
                from = passed;
            }
            for (int k = 0; k < FC_PARTS; k++) {
                const FC_NAME(lanes) grad = FC_WIDEN(from + k * FC_LANES);
                part[k] += grad;
                part_product[k] += grad * (FC_WIDEN(x + at + k * FC_LANES) - center[k]);
            }
        }
        memcpy(sum + j, part, sizeof part);
        memcpy(product + j, part_product, sizeof part_product);
    }
    for (; j < n; j++) {
        sum[j] = product[j] = 0;
        for (size_t i = 0; i < rows; i++) {
            const size_t at = i * stride + j;
            const FC_T grad = relu ? FC_NAME(gated)(g[at], x[at], (FC_T)mean[j], scale[j], bias[j]) : g[at];
            sum[j] += grad;
            product[j] += grad * (x[at] - mean[j]);
        }
    }
}

static void FC_NAME(grad_moments_columns)(const FC_T *restrict g, const FC_T *restrict x, size_t rows, size_t stride,
                                          size_t n, const double *restrict mean, int relu, const FC_T *restrict scale,
                                          const FC_T *restrict bias, double *restrict sum, double *restrict product) {
    if (relu)
        FC_NAME(grad_moments_of_columns)(g, x, rows, stride, n, mean, 1, scale, bias, sum, product);
    else
        FC_NAME(grad_moments_of_columns)(g, x, rows, stride, n, mean, 0, scale, bias, sum, product);
}

/* y = (x - mean) scale + bias, without its negative part for a ReLU */
static void FC_NAME(normalize_run)(const FC_T *restrict x, FC_T *restrict y, size_t n, int relu, FC_T mean, FC_T scale,
                                   FC_T bias) {
    if (relu)
        for (size_t i = 0; i < n; i++) y[i] = FC_NAME(rectified)(FC_NAME(normalized)(x[i], mean, scale, bias));
    else
        for (size_t i = 0; i < n; i++) y[i] = FC_NAME(normalized)(x[i], mean, scale, bias);
}

static void FC_NAME(normalize_columns)(const FC_T *restrict x, FC_T *restrict y, size_t rows, size_t stride, size_t n,
                                       int relu, const FC_T *restrict mean, const FC_T *restrict scale,
                                       const FC_T *restrict bias) {
    for (size_t i = 0; i < rows; i++, x += stride, y += stride) {
        if (relu)
            for (size_t j = 0; j < n; j++)
                y[j] = FC_NAME(rectified)(FC_NAME(normalized)(x[j], mean[j], scale[j], bias[j]));
        else
            for (size_t j = 0; j < n; j++) y[j] = FC_NAME(normalized)(x[j], mean[j], scale[j], bias[j]);
    }
}

/* dx = (g - offset - (x - mean) slope) scale */
static void FC_NAME(normalize_grad_run)(const FC_T *restrict g, const FC_T *restrict x, FC_T *restrict dx, size_t n,
                                        int relu, FC_T mean, FC_T offset, FC_T slope, FC_T scale, FC_T bias) {
    if (relu)
        for (size_t i = 0; i < n; i++)
            dx[i] = (FC_NAME(gated)(g[i], x[i], mean, scale, bias) - offset - (x[i] - mean) * slope) * scale;
    else
        for (size_t i = 0; i < n; i++) dx[i] = (g[i] - offset - (x[i] - mean) * slope) * scale;
}

static void FC_NAME(normalize_grad_columns)(const FC_T *restrict g, const FC_T *restrict x, FC_T *restrict dx,
                                            size_t rows, size_t stride, size_t n, int relu, const FC_T *restrict mean,
                                            const FC_T *restrict offset, const FC_T *restrict slope,
                                            const FC_T *restrict scale, const FC_T *restrict bias) {
    for (size_t i = 0; i < rows; i++, g += stride, x += stride, dx += stride) {
        if (relu)
            for (size_t j = 0; j < n; j++) {
                const FC_T grad = FC_NAME(gated)(g[j], x[j], mean[j], scale[j], bias[j]);
                dx[j] = (grad - offset[j] - (x[j] - mean[j]) * slope[j]) * scale[j];
            }
        else
            for (size_t j = 0; j < n; j++) dx[j] = (g[j] - offset[j] - (x[j] - mean[j]) * slope[j]) * scale[j];
    }
}
