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

cdef enum:
    CHUNK = 16384  # elements of an element-wise task; about as many in a task of rows
    SMALL = 32768  # elements below which threads cost more than they save
    SHORT = 16  # runs shorter than this are taken as columns
    STRETCH = 4096  # elements that a task of short runs reads in one go
    SHIFT_TERMS = 1024  # elements averaged for the shift of a variance

KINDS = {"relu": FC_RELU, "leaky_relu": FC_LEAKY_RELU, "relu6": FC_RELU6, "sigmoid": FC_SIGMOID, "tanh": FC_TANH}


cdef inline const floating *data_of(const floating[::1] x) noexcept nogil:
    """First element, NULL for None."""
    if x is None:  # not a conditional expression: Cython's temporary for one drops the const
        return NULL
    return &x[0]


cdef inline int threads_for(size_t elements, int n_threads) noexcept nogil:
    return n_threads if elements >= SMALL else 1


# ------------------------------------------------------------------------------------------------ activations


def activation_forward(const floating[::1] x, floating[::1] y, int kind, double slope, int isa, int n_threads):
    """``y = f(x)``."""
    cdef size_t size = x.shape[0]
    cdef Py_ssize_t i, n_chunks = (size + CHUNK - 1) // CHUNK
    for i in prange(n_chunks, nogil=True, num_threads=threads_for(size, n_threads), schedule="static"):
        fc_activation_forward(
            isa, sizeof(floating), kind, &x[i * CHUNK], &y[i * CHUNK], min(<size_t>CHUNK, size - i * CHUNK), slope
        )


def activation_backward(
    const floating[::1] g, const floating[::1] y, floating[::1] dx, int kind, double slope, int isa, int n_threads
):
    """``dx = g f'``, the derivative told from the output ``y``."""
    cdef size_t size = g.shape[0]
    cdef Py_ssize_t i, n_chunks = (size + CHUNK - 1) // CHUNK
    for i in prange(n_chunks, nogil=True, num_threads=threads_for(size, n_threads), schedule="static"):
        fc_activation_backward(
            isa, sizeof(floating), kind, &g[i * CHUNK], &y[i * CHUNK], &dx[i * CHUNK],
            min(<size_t>CHUNK, size - i * CHUNK), slope,
        )


# ------------------------------------------------------------------------------------------------ softmax
# A task is a few whole rows where the axis is contiguous, else up to FC_COLUMNS neighbouring positions of one row.

cdef inline size_t task_positions(size_t length, size_t inner) noexcept nogil:
    if inner == 1:
        return 1 if length > CHUNK else CHUNK // max(length, <size_t>1)
    return FC_COLUMNS


def softmax_forward(
    const floating[::1] x, floating[::1] y, size_t outer, size_t length, size_t inner, bint log_output, int isa,
    int n_threads,
):
    """(Log-)softmax along the middle axis of (outer, length, inner)."""
    cdef size_t step = task_positions(length, inner), at, n
    cdef size_t per_row = 1 if inner == 1 else (inner + step - 1) // step
    cdef Py_ssize_t i, n_tasks = (outer + step - 1) // step if inner == 1 else outer * per_row
    for i in prange(n_tasks, nogil=True, num_threads=threads_for(x.shape[0], n_threads), schedule="static"):
        if inner == 1:
            at = i * step * length
            fc_softmax_rows(isa, sizeof(floating), &x[at], &y[at], min(step, outer - i * step), length, log_output)
        else:
            n = i % per_row * step
            at = i // per_row * length * inner + n
            fc_softmax_columns(
                isa, sizeof(floating), &x[at], &y[at], length, inner, min(step, inner - n), log_output
            )


def softmax_backward(
    const floating[::1] g, const floating[::1] y, floating[::1] dx, size_t outer, size_t length, size_t inner,
    bint log_output, int isa, int n_threads,
):
    """Gradient of softmax_forward from its output."""
    cdef size_t step = task_positions(length, inner), at, n
    cdef size_t per_row = 1 if inner == 1 else (inner + step - 1) // step
    cdef Py_ssize_t i, n_tasks = (outer + step - 1) // step if inner == 1 else outer * per_row
    for i in prange(n_tasks, nogil=True, num_threads=threads_for(g.shape[0], n_threads), schedule="static"):
        if inner == 1:
            at = i * step * length
            fc_softmax_grad_rows(
                isa, sizeof(floating), &g[at], &y[at], &dx[at], min(step, outer - i * step), length, log_output
            )
        else:
            n = i % per_row * step
            at = i // per_row * length * inner + n
            fc_softmax_grad_columns(
                isa, sizeof(floating), &g[at], &y[at], &dx[at], length, inner, min(step, inner - n), log_output
            )


# ------------------------------------------------------------------------------------------------ cross-entropy


def label_weight(const int64_t[::1] label, const floating[::1] weight, int64_t ignore):
    """Sum of the class weights of all labels but ``ignore``: the divisor of a mean."""
    cdef double total = 0
    cdef Py_ssize_t i
    with nogil:
        for i in range(label.shape[0]):
            if label[i] != ignore:
                total += weight[label[i]]
    return total


def total_over(const floating[::1] x, double divisor, int isa):
    """Sum of ``x`` divided by ``divisor``, as C divides: 0 / 0 is NaN."""
    cdef double total = 0
    with nogil:
        fc_sum_run(isa, sizeof(floating), data_of(x), x.shape[0], &total)
    return total / divisor


def cross_entropy_forward(
    const floating[::1] logp, const int64_t[::1] label, const floating[::1] probs, const floating[::1] weight,
    floating[::1] loss, size_t batch, size_t classes, size_t inner, int64_t ignore, double smoothing, int isa, int n_threads,
):
    """Loss of every position from log-probabilities; targets are ``label`` or, if that is None, ``probs``."""
    cdef const int64_t *label_at = NULL
    cdef const floating *probs_at = data_of(probs)
    cdef double a = 1 - smoothing, b = smoothing / classes
    cdef size_t step = task_positions(classes, inner), at, n, place
    cdef size_t per_row = 1 if inner == 1 else (inner + step - 1) // step
    cdef Py_ssize_t i, n_tasks = (batch + step - 1) // step if inner == 1 else batch * per_row
    if label is not None:
        label_at = &label[0]
    for i in prange(n_tasks, nogil=True, num_threads=threads_for(logp.shape[0], n_threads), schedule="static"):
        if inner == 1:
            place = i * step
            at = place * classes
            fc_cross_entropy_rows(
                isa, sizeof(floating), &logp[at], label_at + place if label_at else NULL,
                probs_at + at if probs_at else NULL, &weight[0], &loss[place], min(step, batch - place), classes,
                ignore, a, b,
            )
        else:
            n = i % per_row * step
            place = i // per_row * inner + n
            at = i // per_row * classes * inner + n
            fc_cross_entropy_columns(
                isa, sizeof(floating), &logp[at], label_at + place if label_at else NULL,
                probs_at + at if probs_at else NULL, &weight[0], &loss[place], classes, inner, min(step, inner - n),
                ignore, a, b,
            )


def cross_entropy_backward(
    const floating[::1] logp, const int64_t[::1] label, const floating[::1] probs, const floating[::1] weight,
    const floating[::1] scale, floating[::1] d, size_t batch, size_t classes, size_t inner, int64_t ignore, double smoothing, int isa, int n_threads,
):
    """Gradient in the logits; ``scale`` holds the factor of every position, or one for all."""
    cdef const int64_t *label_at = NULL
    cdef const floating *probs_at = data_of(probs)
    cdef double a = 1 - smoothing, b = smoothing / classes
    cdef size_t scale_step = 0 if scale.shape[0] == 1 else 1
    cdef size_t step = task_positions(classes, inner), at, n, place
    cdef size_t per_row = 1 if inner == 1 else (inner + step - 1) // step
    cdef Py_ssize_t i, n_tasks = (batch + step - 1) // step if inner == 1 else batch * per_row
    if label is not None:
        label_at = &label[0]
    for i in prange(n_tasks, nogil=True, num_threads=threads_for(logp.shape[0], n_threads), schedule="static"):
        if inner == 1:
            place = i * step
            at = place * classes
            fc_cross_entropy_grad_rows(
                isa, sizeof(floating), &logp[at], label_at + place if label_at else NULL,
                probs_at + at if probs_at else NULL, &weight[0], &scale[place * scale_step], scale_step, &d[at],
                min(step, batch - place), classes, ignore, a, b,
            )
        else:
            n = i % per_row * step
            place = i // per_row * inner + n
            at = i // per_row * classes * inner + n
            fc_cross_entropy_grad_columns(
                isa, sizeof(floating), &logp[at], label_at + place if label_at else NULL,
                probs_at + at if probs_at else NULL, &weight[0], &scale[place * scale_step], scale_step, &d[at],
                classes, inner, min(step, inner - n), ignore, a, b,
            )


# ------------------------------------------------------------------------------------------------ channels
# A task is one channel where the planes are long, so that a channel stays in cache between its statistics and its
# update; where planes are short it is a few neighbouring channels, worked on as columns of a (batch, channels * inner)
# matrix.

cdef inline size_t channels_per_task(size_t inner) noexcept nogil:
    return 1 if inner >= SHORT else FC_COLUMNS // max(inner, <size_t>1)


cdef void sum_task(
    const floating *x, double *total, size_t batch, size_t channels, size_t inner, size_t first, size_t count, int isa
) noexcept nogil:
    cdef double column[FC_COLUMNS]
    cdef size_t c, n
    for c in range(first, first + count):
        total[c] = 0
    if inner >= SHORT:
        for n in range(batch):
            for c in range(first, first + count):
                fc_sum_run(isa, sizeof(floating), x + (n * channels + c) * inner, inner, &total[c])
    else:
        fc_sum_columns(isa, sizeof(floating), x + first * inner, batch, channels * inner, count * inner, column)
        for n in range(count * inner):
            total[first + n // inner] += column[n]


def channel_sum(
    const floating[::1] x, double[::1] total, size_t batch, size_t channels, size_t inner, int isa, int n_threads
):
    """Sum of (batch, channels, inner) over batch and inner."""
    # a sum reads its channels once: enough of them to follow each other in memory for a while
    cdef size_t step = channels_per_task(inner) if inner < SHORT else max(STRETCH // inner, <size_t>1)
    cdef Py_ssize_t i, n_tasks = (channels + step - 1) // step
    for i in prange(n_tasks, nogil=True, num_threads=threads_for(x.shape[0], n_threads), schedule="static"):
        sum_task(&x[0], &total[0], batch, channels, inner, i * step, min(step, channels - i * step), isa)


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


def batch_norm_forward(
    const floating[::1] x, floating[::1] y, const floating[::1] given_mean, const floating[::1] given_var,
    const floating[::1] weight, const floating[::1] bias, floating[::1] mean, floating[::1] inv_std,
    double[:, ::1] scratch, size_t batch, size_t channels, size_t inner, double eps, int isa, int n_threads,
):
    """``y = (x - mean) inv_std weight + bias``, ``inv_std = 1 / sqrt(var + eps)``; both are also outputs.

    Mean and biased variance are the batch's own unless given.  ``scratch`` holds two rows of ``channels``.
    """
    cdef const floating *mean_at = data_of(given_mean)
    cdef const floating *var_at = data_of(given_var)
    cdef const floating *weight_at = data_of(weight)
    cdef const floating *bias_at = data_of(bias)
    cdef double *means = &scratch[0, 0]
    cdef double *inv_stds = &scratch[1, 0]
    cdef size_t step = channels_per_task(inner), first, count, c
    cdef Py_ssize_t i, n_tasks = (channels + step - 1) // step
    for i in prange(n_tasks, nogil=True, num_threads=threads_for(x.shape[0], n_threads), schedule="static"):
        first = i * step
        count = min(step, channels - first)
        if mean_at == NULL:
            channel_moments(&x[0], means, inv_stds, batch, channels, inner, first, count, isa)
        for c in range(first, first + count):
            if mean_at != NULL:
                means[c] = mean_at[c]
                inv_stds[c] = var_at[c]
            inv_stds[c] = 1 / sqrt(inv_stds[c] + eps)
            mean[c] = <floating>means[c]
            inv_std[c] = <floating>inv_stds[c]
        normalize_task(&x[0], &y[0], means, inv_stds, weight_at, bias_at, batch, channels, inner, first, count, isa)


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
    const floating[::1] g, const floating[::1] x, floating[::1] dx, const floating[::1] mean,
    const floating[::1] inv_std, const floating[::1] weight, double[::1] dweight, double[::1] dbias, size_t batch,
    size_t channels, size_t inner, bint training, int isa, int n_threads,
):
    """Gradients in input, weight and bias; in training also through the batch's statistics."""
    cdef const floating *weight_at = data_of(weight)
    cdef size_t step = channels_per_task(inner)
    cdef Py_ssize_t i, n_tasks = (channels + step - 1) // step
    for i in prange(n_tasks, nogil=True, num_threads=threads_for(x.shape[0], n_threads), schedule="static"):
        normalize_grad_task(
            &g[0], &x[0], &dx[0], &mean[0], &inv_std[0], weight_at, &dweight[0], &dbias[0], batch, channels, inner,
            i * step, min(step, channels - i * step), training, isa,
        )
