/* Activations, softmax, cross-entropy and batch-norm kernels with their run-time choice. */
#ifndef FC_POINTWISE_H
#define FC_POINTWISE_H

#include "fc_call.h"

#include <math.h>

#if FC_HAVE_X86
#include <immintrin.h>
#endif

enum { FC_RELU, FC_LEAKY_RELU, FC_RELU6, FC_SIGMOID, FC_TANH, FC_ERF, FC_GELU };

#define FC_RUN 1024    /* longest run that is summed in the array's own dtype, by the lanes of a vector */
#define FC_DEPTH 64    /* the same where one lane sums a column */
#define FC_SHORT 32    /* rows shorter than this are transposed first */
#define FC_COLUMNS 128 /* most columns that a kernel takes at once */

#define FC_TEMPLATE "fc_pointwise_kernel.h"
#include "fc_for_each.h"

FC_ENTRY(activation_forward, (kind, x, y, n, slope), int kind, const void *x, void *y, size_t n, double slope)
FC_ENTRY(activation_backward, (kind, g, y, dx, n, slope), int kind, const void *g, const void *y, void *dx, size_t n,
         double slope)

FC_ENTRY(add, (a, b, y, n, relu), const void *a, const void *b, void *y, size_t n, int relu)

FC_ENTRY(softmax_rows, (x, y, rows, length, log_output), const void *x, void *y, size_t rows, size_t length,
         int log_output)
FC_ENTRY(softmax_columns, (x, y, length, stride, n, log_output), const void *x, void *y, size_t length, size_t stride,
         size_t n, int log_output)
FC_ENTRY(softmax_grad_rows, (g, y, dx, rows, length, log_output), const void *g, const void *y, void *dx, size_t rows,
         size_t length, int log_output)
FC_ENTRY(softmax_grad_columns, (g, y, dx, length, stride, n, log_output), const void *g, const void *y, void *dx,
         size_t length, size_t stride, size_t n, int log_output)

FC_ENTRY(cross_entropy_rows, (logp, label, probs, weight, loss, rows, classes, ignore, a, b), const void *logp,
         const int64_t *label, const void *probs, const void *weight, void *loss, size_t rows, size_t classes,
         int64_t ignore, double a, double b)
FC_ENTRY(cross_entropy_columns, (logp, label, probs, weight, loss, classes, stride, n, ignore, a, b), const void *logp,
         const int64_t *label, const void *probs, const void *weight, void *loss, size_t classes, size_t stride,
         size_t n, int64_t ignore, double a, double b)
FC_ENTRY(cross_entropy_grad_rows, (logp, label, probs, weight, scale, scale_step, d, rows, classes, ignore, a, b),
         const void *logp, const int64_t *label, const void *probs, const void *weight, const void *scale,
         size_t scale_step, void *d, size_t rows, size_t classes, int64_t ignore, double a, double b)
FC_ENTRY(cross_entropy_grad_columns,
         (logp, label, probs, weight, scale, scale_step, d, classes, stride, n, ignore, a, b), const void *logp,
         const int64_t *label, const void *probs, const void *weight, const void *scale, size_t scale_step, void *d,
         size_t classes, size_t stride, size_t n, int64_t ignore, double a, double b)

FC_ENTRY(sum_run, (x, n, sum), const void *x, size_t n, double *sum)
FC_ENTRY(sum_columns, (x, rows, stride, n, sum), const void *x, size_t rows, size_t stride, size_t n, double *sum)
FC_ENTRY(moments_run, (x, n, shift, moment), const void *x, size_t n, double shift, double *moment)
FC_ENTRY(moments_columns, (x, rows, stride, n, shift, sum, square), const void *x, size_t rows, size_t stride, size_t n,
         const double *shift, double *sum, double *square)
FC_ENTRY(grad_moments_run, (g, x, n, mean, relu, scale, bias, moment), const void *g, const void *x, size_t n, double mean,
         int relu, double scale, double bias, double *moment)
FC_ENTRY(grad_moments_columns, (g, x, rows, stride, n, mean, relu, scale, bias, sum, product), const void *g,
         const void *x, size_t rows, size_t stride, size_t n, const double *mean, int relu, const void *scale,
         const void *bias, double *sum, double *product)
FC_ENTRY(normalize_run, (x, y, n, relu, mean, scale, bias), const void *x, void *y, size_t n, int relu, double mean,
         double scale, double bias)
FC_ENTRY(normalize_columns, (x, y, rows, stride, n, relu, mean, scale, bias), const void *x, void *y, size_t rows,
         size_t stride, size_t n, int relu, const void *mean, const void *scale, const void *bias)
FC_ENTRY(normalize_grad_run, (g, x, dx, n, relu, mean, offset, slope, scale, bias), const void *g, const void *x, void *dx,
         size_t n, int relu, double mean, double offset, double slope, double scale, double bias)
FC_ENTRY(normalize_grad_columns, (g, x, dx, rows, stride, n, relu, mean, offset, slope, scale, bias), const void *g,
         const void *x, void *dx, size_t rows, size_t stride, size_t n, int relu, const void *mean, const void *offset,
         const void *slope, const void *scale, const void *bias)

#endif
