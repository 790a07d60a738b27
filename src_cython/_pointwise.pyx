# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Element-wise ops, softmax, cross-entropy and batch normalisation: tasks of fixed size shared among threads.

What a task computes depends on the shape alone, and no sum crosses tasks except in their order: results are the same
bits for any number of threads.
"""

from cython cimport floating
from cython.parallel cimport prange
from libc.math cimport NAN, sqrt
from libc.stdint cimport int64_t

from fc_pointwise cimport *

include "arrays.pxi"

cdef enum:
    CHUNK = 16384  # elements of an element-wise task; about as many in a task of rows
    SHORT = 16  # runs shorter than this are taken as columns
    STRETCH = 4096  # elements that a task of short runs reads in one go
    SHIFT_TERMS = 1024  # elements averaged for the shift of a variance

KINDS = {"relu": FC_RELU, "leaky_relu": FC_LEAKY_RELU, "relu6": FC_RELU6, "sigmoid": FC_SIGMOID, "tanh": FC_TANH}


# ------------------------------------------------------------------------------------------------ activations
# Arrays come as Python objects and are worked on as bytes: `item` (4 or 8) says which build of a kernel is called.


def activation_forward(x, y, size_t size, size_t item, int kind, double slope, int isa, int n_threads):
    """``y = f(x)``."""
    cdef const char *source = read_from(x, size * item)
    cdef char *target = write_to(y, size * item)
    cdef size_t at
    cdef Py_ssize_t i, n_chunks = (size + CHUNK - 1) // CHUNK
    for i in prange(n_chunks, nogil=True, num_threads=n_threads, schedule="static"):
        at = i * CHUNK
        fc_activation_forward(
            isa, item, kind, source + at * item, target + at * item, min(<size_t>CHUNK, size - at), slope
        )


def activation_backward(g, y, dx, size_t size, size_t item, int kind, double slope, int isa, int n_threads):
    """``dx = g f'``, the derivative told from the output ``y``."""
    cdef const char *grad = read_from(g, size * item)
    cdef const char *output = read_from(y, size * item)
    cdef char *target = write_to(dx, size * item)
    cdef size_t at
    cdef Py_ssize_t i, n_chunks = (size + CHUNK - 1) // CHUNK
    for i in prange(n_chunks, nogil=True, num_threads=n_threads, schedule="static"):
        at = i * CHUNK
        fc_activation_backward(
            isa, item, kind, grad + at * item, output + at * item, target + at * item, min(<size_t>CHUNK, size - at),
            slope,
        )


# ------------------------------------------------------------------------------------------------ softmax
# A task is a few whole rows where the axis is contiguous, else up to FC_COLUMNS neighbouring positions of one row.

cdef inline size_t task_positions(size_t length, size_t inner) noexcept nogil:
    if inner == 1:
        return 1 if length > CHUNK else CHUNK // max(length, <size_t>1)
    return FC_COLUMNS


def softmax_forward(
    x, y, size_t outer, size_t length, size_t inner, size_t item, bint log_output, int isa, int n_threads
):
    """(Log-)softmax along the middle axis of (outer, length, inner)."""
    cdef size_t nbytes = outer * length * inner * item
    cdef const char *source = read_from(x, nbytes)
    cdef char *target = write_to(y, nbytes)
    cdef size_t step = task_positions(length, inner), at, n
    cdef size_t per_row = 1 if inner == 1 else (inner + step - 1) // step
    cdef Py_ssize_t i, n_tasks = (outer + step - 1) // step if inner == 1 else outer * per_row
    for i in prange(n_tasks, nogil=True, num_threads=n_threads, schedule="static"):
        if inner == 1:
            at = i * step * length * item
            fc_softmax_rows(isa, item, source + at, target + at, min(step, outer - i * step), length, log_output)
        else:
            n = i % per_row * step
            at = (i // per_row * length * inner + n) * item
            fc_softmax_columns(isa, item, source + at, target + at, length, inner, min(step, inner - n), log_output)


def softmax_backward(
    g, y, dx, size_t outer, size_t length, size_t inner, size_t item, bint log_output, int isa, int n_threads
):
    """Gradient of softmax_forward from its output."""
    cdef size_t nbytes = outer * length * inner * item
    cdef const char *grad = read_from(g, nbytes)
    cdef const char *output = read_from(y, nbytes)
    cdef char *target = write_to(dx, nbytes)
    cdef size_t step = task_positions(length, inner), at, n
    cdef size_t per_row = 1 if inner == 1 else (inner + step - 1) // step
    cdef Py_ssize_t i, n_tasks = (outer + step - 1) // step if inner == 1 else outer * per_row
    for i in prange(n_tasks, nogil=True, num_threads=n_threads, schedule="static"):
        if inner == 1:
            at = i * step * length * item
            fc_softmax_grad_rows(
                isa, item, grad + at, output + at, target + at, min(step, outer - i * step), length, log_output
            )
        else:
            n = i % per_row * step
            at = (i // per_row * length * inner + n) * item
            fc_softmax_grad_columns(
                isa, item, grad + at, output + at, target + at, length, inner, min(step, inner - n), log_output
            )


# ------------------------------------------------------------------------------------------------ cross-entropy


def label_weight(label, weight, size_t positions, size_t classes, size_t item, int64_t ignore):
    """Sum of the class weights of all labels but ``ignore``: the divisor of a mean."""
    cdef const int64_t *labels = <const int64_t *> read_from(label, positions * sizeof(int64_t))
    cdef const char *weights = read_from(weight, classes * item)
    cdef double total = 0
    cdef size_t i
    with nogil:
        for i in range(positions):
            if labels[i] != ignore:
                total += (
                    (<const float *> weights)[labels[i]] if item == 4 else (<const double *> weights)[labels[i]]
                )
    return total


def total_over(x, size_t size, size_t item, double divisor, int isa):
    """Sum of ``x`` divided by ``divisor``, as C divides: 0 / 0 is NaN."""
    cdef const char *source = read_from(x, size * item)
    cdef double total = 0
    with nogil:
        fc_sum_run(isa, item, source, size, &total)
    return total / divisor


def cross_entropy_forward(
    logp, label, probs, weight, loss, size_t batch, size_t classes, size_t inner, size_t item, int64_t ignore,
    double smoothing, int isa, int n_threads,
):
    """Loss of every position from log-probabilities; targets are ``label`` or, if that is None, ``probs``."""
    cdef size_t positions = batch * inner
    cdef const char *source = read_from(logp, positions * classes * item)
    cdef const char *probs_at = read_from(probs, positions * classes * item)
    cdef const char *weights = read_from(weight, classes * item)
    cdef const int64_t *label_at = <const int64_t *> read_from(label, positions * sizeof(int64_t))
    cdef char *target = write_to(loss, positions * item)
    cdef double a = 1 - smoothing, b = smoothing / classes
    cdef size_t step = task_positions(classes, inner), at, n, place
    cdef size_t per_row = 1 if inner == 1 else (inner + step - 1) // step
    cdef Py_ssize_t i, n_tasks = (batch + step - 1) // step if inner == 1 else batch * per_row
    for i in prange(n_tasks, nogil=True, num_threads=n_threads, schedule="static"):
        if inner == 1:
            place = i * step
            at = place * classes * item
            fc_cross_entropy_rows(
                isa, item, source + at, label_at + place if label_at else NULL, probs_at + at if probs_at else NULL,
                weights, target + place * item, min(step, batch - place), classes, ignore, a, b,
            )
        else:
            n = i % per_row * step
            place = i // per_row * inner + n
            at = (i // per_row * classes * inner + n) * item
            fc_cross_entropy_columns(
                isa, item, source + at, label_at + place if label_at else NULL, probs_at + at if probs_at else NULL,
                weights, target + place * item, classes, inner, min(step, inner - n), ignore, a, b,
            )


def cross_entropy_backward(
    logp, label, probs, weight, scale, d, size_t n_scales, size_t batch, size_t classes, size_t inner, size_t item,
    int64_t ignore, double smoothing, int isa, int n_threads,
):
    """Gradient in the logits; ``scale`` holds the factor of every position, or one for all."""
    cdef size_t positions = batch * inner
    cdef const char *source = read_from(logp, positions * classes * item)
    cdef const char *probs_at = read_from(probs, positions * classes * item)
    cdef const char *weights = read_from(weight, classes * item)
    cdef const char *scales = read_from(scale, n_scales * item)
    cdef const int64_t *label_at = <const int64_t *> read_from(label, positions * sizeof(int64_t))
    cdef char *target = write_to(d, positions * classes * item)
    cdef double a = 1 - smoothing, b = smoothing / classes
    cdef size_t scale_step = 0 if n_scales == 1 else 1
    cdef size_t step = task_positions(classes, inner), at, n, place
    cdef size_t per_row = 1 if inner == 1 else (inner + step - 1) // step
    cdef Py_ssize_t i, n_tasks = (batch + step - 1) // step if inner == 1 else batch * per_row
    for i in prange(n_tasks, nogil=True, num_threads=n_threads, schedule="static"):
        if inner == 1:
            place = i * step
            at = place * classes * item
            fc_cross_entropy_grad_rows(
                isa, item, source + at, label_at + place if label_at else NULL, probs_at + at if probs_at else NULL,
                weights, scales + place * scale_step * item, scale_step, target + at, min(step, batch - place),
                classes, ignore, a, b,
            )
        else:
            n = i % per_row * step
            place = i // per_row * inner + n
            at = (i // per_row * classes * inner + n) * item
            fc_cross_entropy_grad_columns(
                isa, item, source + at, label_at + place if label_at else NULL, probs_at + at if probs_at else NULL,
                weights, scales + place * scale_step * item, scale_step, target + at, classes, inner,
                min(step, inner - n), ignore, a, b,
            )


# ------------------------------------------------------------------------------------------------ channels
# A task is one channel where the planes are long, so that a channel stays in cache between its statistics and its
# update; where planes are short it is a few neighbouring channels, worked on as columns of a (batch, channels * inner)
# matrix.

cdef inline size_t channels_per_task(size_t inner) noexcept nogil:
    return 1 if inner >= SHORT else FC_COLUMNS // max(inner, <size_t>1)


cdef void sum_task(
    const char *x, size_t item, double *total, size_t batch, size_t channels, size_t inner, size_t first,
    size_t count, int isa
) noexcept nogil:
    cdef double column[FC_COLUMNS]
    cdef size_t c, n
    for c in range(first, first + count):
        total[c] = 0
    if inner >= SHORT:
        for n in range(batch):
            for c in range(first, first + count):
                fc_sum_run(isa, item, x + (n * channels + c) * inner * item, inner, &total[c])
    else:
        fc_sum_columns(isa, item, x + first * inner * item, batch, channels * inner, count * inner, column)
        for n in range(count * inner):
            total[first + n // inner] += column[n]


def channel_sum(x, total, size_t batch, size_t channels, size_t inner, size_t item, int isa, int n_threads):
    """Sum of (batch, channels, inner) over batch and inner, in float64."""
    cdef const char *source = read_from(x, batch * channels * inner * item)
    cdef double *totals = <double *> write_to(total, channels * sizeof(double))
    # a sum reads its channels once: enough of them to follow each other in memory for a while
    cdef size_t step = channels_per_task(inner) if inner < SHORT else max(STRETCH // inner, <size_t>1)
    cdef Py_ssize_t i, n_tasks = (channels + step - 1) // step
    for i in prange(n_tasks, nogil=True, num_threads=n_threads, schedule="static"):
        sum_task(source, item, totals, batch, channels, inner, i * step, min(step, channels - i * step), isa)


cdef void channel_moments(
    const floating *x, double *mean, double *var, size_t batch, size_t channels, size_t inner, size_t first,
    size_t count, int isa
) noexcept nogil:
    """Mean and biased variance of a task's channels."""
    cdef double shift[FC_COLUMNS]
    cdef double column_sum[FC_COLUMNS]
    cdef double column_square[FC_COLUMNS]
    cdef double moment[2]
    cdef double start, total = <double>batch * inner
    cdef size_t n, c, j, terms
    if batch * inner == 0:
        for c in range(first, first + count):
            mean[c] = var[c] = NAN
        return
    if inner >= SHORT:
        terms = min(inner, <size_t>SHIFT_TERMS)
        start = 0
        fc_sum_run(isa, sizeof(floating), x + first * inner, terms, &start)
        start /= terms
        moment[0] = moment[1] = 0
        for n in range(batch):
            fc_moments_run(isa, sizeof(floating), x + (n * channels + first) * inner, inner, start, moment)
        mean[first] = start + moment[0] / total
        var[first] = max((moment[1] - moment[0] * moment[0] / total) / total, 0.0)
        return
    for c in range(count):
        start = 0
        terms = min(batch, <size_t>(SHIFT_TERMS // SHORT))
        for n in range(terms):
            start += x[(n * channels + first + c) * inner]
        for j in range(inner):
            shift[c * inner + j] = start / terms
    fc_moments_columns(
        isa, sizeof(floating), x + first * inner, batch, channels * inner, count * inner, shift, column_sum,
        column_square,
    )
    for c in range(count):
        moment[0] = moment[1] = 0
        for j in range(c * inner, (c + 1) * inner):
            moment[0] += column_sum[j]
            moment[1] += column_square[j]
        mean[first + c] = shift[c * inner] + moment[0] / total
        var[first + c] = max((moment[1] - moment[0] * moment[0] / total) / total, 0.0)


cdef void normalize_task(
    const floating *x, floating *y, const double *mean, const double *inv_std, const floating *weight,
    const floating *bias, size_t batch, size_t channels, size_t inner, size_t first, size_t count, int isa
) noexcept nogil:
    cdef floating center[FC_COLUMNS]
    cdef floating scale[FC_COLUMNS]
    cdef floating shift[FC_COLUMNS]
    cdef size_t n, c, j
    cdef double factor
    for c in range(count):
        factor = inv_std[first + c] * (weight[first + c] if weight else 1)
        for j in range(c * inner if inner < SHORT else 0, (c + 1) * inner if inner < SHORT else 1):
            center[j] = <floating>mean[first + c]
            scale[j] = <floating>factor
            # what rounding the mean has moved goes back in here
            shift[j] = <floating>((bias[first + c] if bias else 0) + (<double>center[j] - mean[first + c]) * factor)
    if inner >= SHORT:
        for n in range(batch):
            j = (n * channels + first) * inner
            fc_normalize_run(isa, sizeof(floating), x + j, y + j, inner, center[0], scale[0], shift[0])
    else:
        fc_normalize_columns(
            isa, sizeof(floating), x + first * inner, y + first * inner, batch, channels * inner, count * inner,
            center, scale, shift,
        )


cdef void batch_norm_task(
    const floating *x, floating *y, const floating *given_mean, const floating *given_var, const floating *weight,
    const floating *bias, floating *mean, floating *inv_std, double *means, double *inv_stds, size_t batch,
    size_t channels, size_t inner, size_t first, size_t count, double eps, int isa
) noexcept nogil:
    cdef size_t c
    if given_mean == NULL:
        channel_moments(x, means, inv_stds, batch, channels, inner, first, count, isa)
    for c in range(first, first + count):
        if given_mean != NULL:
            means[c] = given_mean[c]
            inv_stds[c] = given_var[c]
        inv_stds[c] = 1 / sqrt(inv_stds[c] + eps)
        mean[c] = <floating>means[c]
        inv_std[c] = <floating>inv_stds[c]
    normalize_task(x, y, means, inv_stds, weight, bias, batch, channels, inner, first, count, isa)


def batch_norm_forward(
    x, y, given_mean, given_var, weight, bias, mean, inv_std, scratch, size_t batch, size_t channels, size_t inner,
    size_t item, double eps, int isa, int n_threads,
):
    """``y = (x - mean) inv_std weight + bias``, ``inv_std = 1 / sqrt(var + eps)``; both are also outputs.

    Mean and biased variance are the batch's own unless given.  ``scratch`` holds two rows of ``channels``.
    """
    cdef size_t nbytes = batch * channels * inner * item, row = channels * item
    cdef const char *source = read_from(x, nbytes)
    cdef char *target = write_to(y, nbytes)
    cdef const char *mean_in = read_from(given_mean, row)
    cdef const char *var_in = read_from(given_var, row)
    cdef const char *weights = read_from(weight, row)
    cdef const char *biases = read_from(bias, row)
    cdef char *mean_out = write_to(mean, row)
    cdef char *inv_std_out = write_to(inv_std, row)
    cdef double *means = <double *> write_to(scratch, 2 * channels * sizeof(double))
    cdef double *inv_stds = means + channels
    cdef size_t step = channels_per_task(inner), first, count
    cdef Py_ssize_t i, n_tasks = (channels + step - 1) // step
    for i in prange(n_tasks, nogil=True, num_threads=n_threads, schedule="static"):
        first = i * step
        count = min(step, channels - first)
        if item == 4:
            batch_norm_task[float](
                <const float *> source, <float *> target, <const float *> mean_in, <const float *> var_in,
                <const float *> weights, <const float *> biases, <float *> mean_out, <float *> inv_std_out, means,
                inv_stds, batch, channels, inner, first, count, eps, isa,
            )
        else:
            batch_norm_task[double](
                <const double *> source, <double *> target, <const double *> mean_in, <const double *> var_in,
                <const double *> weights, <const double *> biases, <double *> mean_out, <double *> inv_std_out, means,
                inv_stds, batch, channels, inner, first, count, eps, isa,
            )


cdef void normalize_grad_task(
    const floating *g, const floating *x, floating *dx, const floating *mean, const floating *inv_std,
    const floating *weight, double *dweight, double *dbias, size_t batch, size_t channels, size_t inner, size_t first,
    size_t count, bint training, int isa
) noexcept nogil:
    cdef double center[FC_COLUMNS]
    cdef double column_sum[FC_COLUMNS]
    cdef double column_product[FC_COLUMNS]
    cdef floating mean_at[FC_COLUMNS]
    cdef floating offset[FC_COLUMNS]
    cdef floating slope[FC_COLUMNS]
    cdef floating scale[FC_COLUMNS]
    cdef double moment[2]
    cdef double inv, total = <double>batch * inner
    cdef size_t n, c, j, stop, at = first * inner
    if inner < SHORT:
        for j in range(count * inner):
            center[j] = mean[first + j // inner]
        fc_grad_moments_columns(
            isa, sizeof(floating), g + at, x + at, batch, channels * inner, count * inner, center, column_sum,
            column_product,
        )
    for c in range(count):
        moment[0] = moment[1] = 0
        if inner >= SHORT:
            for n in range(batch):
                at = (n * channels + first) * inner
                fc_grad_moments_run(isa, sizeof(floating), g + at, x + at, inner, mean[first], moment)
        else:
            for j in range(c * inner, (c + 1) * inner):
                moment[0] += column_sum[j]
                moment[1] += column_product[j]
        inv = inv_std[first + c]
        dbias[first + c] = moment[0]
        dweight[first + c] = moment[1] * inv
        stop = 1 if inner >= SHORT else (c + 1) * inner
        for j in range(0 if inner >= SHORT else c * inner, stop):
            mean_at[j] = mean[first + c]
            offset[j] = <floating>(moment[0] / total) if training else 0
            slope[j] = <floating>(moment[1] / total * inv * inv) if training else 0
            scale[j] = <floating>(inv * (weight[first + c] if weight else 1))
    if inner >= SHORT:
        for n in range(batch):
            at = (n * channels + first) * inner
            fc_normalize_grad_run(
                isa, sizeof(floating), g + at, x + at, dx + at, inner, mean_at[0], offset[0], slope[0], scale[0]
            )
    else:
        at = first * inner
        fc_normalize_grad_columns(
            isa, sizeof(floating), g + at, x + at, dx + at, batch, channels * inner, count * inner, mean_at, offset,
            slope, scale,
        )


def batch_norm_backward(
    g, x, dx, mean, inv_std, weight, dweight, dbias, size_t batch, size_t channels, size_t inner, size_t item,
    bint training, int isa, int n_threads,
):
    """Gradients in input, weight and bias; in training also through the batch's statistics."""
    cdef size_t nbytes = batch * channels * inner * item, row = channels * item
    cdef const char *grad = read_from(g, nbytes)
    cdef const char *source = read_from(x, nbytes)
    cdef char *target = write_to(dx, nbytes)
    cdef const char *means = read_from(mean, row)
    cdef const char *inv_stds = read_from(inv_std, row)
    cdef const char *weights = read_from(weight, row)
    cdef double *weight_grad = <double *> write_to(dweight, channels * sizeof(double))
    cdef double *bias_grad = <double *> write_to(dbias, channels * sizeof(double))
    cdef size_t step = channels_per_task(inner), first, count
    cdef Py_ssize_t i, n_tasks = (channels + step - 1) // step
    for i in prange(n_tasks, nogil=True, num_threads=n_threads, schedule="static"):
        first = i * step
        count = min(step, channels - first)
        if item == 4:
            normalize_grad_task[float](
                <const float *> grad, <const float *> source, <float *> target, <const float *> means,
                <const float *> inv_stds, <const float *> weights, weight_grad, bias_grad, batch, channels, inner,
                first, count, training, isa,
            )
        else:
            normalize_grad_task[double](
                <const double *> grad, <const double *> source, <double *> target, <const double *> means,
                <const double *> inv_stds, <const double *> weights, weight_grad, bias_grad, batch, channels, inner,
                first, count, training, isa,
            )
