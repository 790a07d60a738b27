# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Element-wise ops, softmax, cross-entropy and batch normalisation: tasks of fixed size shared among threads.

What a task computes depends on the shape alone, and no sum crosses tasks except in their order: results are the same
bits for any number of threads.
"""

from cython cimport floating
from libc.math cimport NAN, sqrt
from libc.stdint cimport int64_t

from fc_pointwise cimport *

include "arrays.pxi"
include "tasks.pxi"

cdef enum:
    CHUNK = 16384  # elements of an element-wise task; about as many in a task of rows
    SHORT = 16  # runs shorter than this are taken as columns
    STRETCH = 4096  # elements that a task of short runs reads in one go
    SHIFT_TERMS = 1024  # elements averaged for the shift of a variance
    NONE = 0  # reductions of a loss
    SUM = 1
    MEAN = 2

REDUCTIONS = {"none": NONE, "sum": SUM, "mean": MEAN}
KINDS = {
    "relu": FC_RELU,
    "leaky_relu": FC_LEAKY_RELU,
    "relu6": FC_RELU6,
    "sigmoid": FC_SIGMOID,
    "tanh": FC_TANH,
    "erf": FC_ERF,
    "gelu": FC_GELU,
}


# Arrays come as Python objects and are worked on as bytes: `item` (4 or 8) says which build of a kernel is called.


# ------------------------------------------------------------------------------------------------ activations


cdef struct ActivationJob:
    const char *grad  # NULL in the forward pass
    const char *source
    char *target
    size_t size, item
    double slope
    int kind, isa


cdef void activation_task(const void *shared, Py_ssize_t i) noexcept nogil:
    cdef const ActivationJob *job = <const ActivationJob *> shared
    cdef size_t at = i * CHUNK * job.item, n = min(<size_t>CHUNK, job.size - i * CHUNK)
    if job.grad == NULL:
        fc_activation_forward(job.isa, job.item, job.kind, job.source + at, job.target + at, n, job.slope)
    else:
        fc_activation_backward(
            job.isa, job.item, job.kind, job.grad + at, job.source + at, job.target + at, n, job.slope
        )


cdef run_activation(g, x, y, size_t size, size_t item, int kind, double slope, int isa, int n_threads):
    cdef ActivationJob job = ActivationJob(
        read_from(g, size * item), read_from(x, size * item), write_to(y, size * item), size, item, slope, kind, isa
    )
    run_tasks(activation_task, &job, (size + CHUNK - 1) // CHUNK, n_threads)


def activation_forward(x, y, size_t size, size_t item, int kind, double slope, int isa, int n_threads):
    """``y = f(x)``."""
    run_activation(None, x, y, size, item, kind, slope, isa, n_threads)


def activation_backward(g, y, dx, size_t size, size_t item, int kind, double slope, int isa, int n_threads):
    """``dx = g f'``, the derivative told from the output ``y``."""
    run_activation(g, y, dx, size, item, kind, slope, isa, n_threads)


cdef struct AddJob:
    const char *a
    const char *b
    char *target
    size_t size, item
    int relu, isa


cdef void add_task(const void *shared, Py_ssize_t i) noexcept nogil:
    cdef const AddJob *job = <const AddJob *> shared
    cdef size_t at = i * CHUNK * job.item, n = min(<size_t>CHUNK, job.size - i * CHUNK)
    fc_add(job.isa, job.item, job.a + at, job.b + at, job.target + at, n, job.relu)


def add(a, b, y, size_t size, size_t item, bint relu, int isa, int n_threads):
    """``y = a + b``, then a ReLU if asked for; ``y`` may be ``a`` or ``b``."""
    cdef size_t nbytes = size * item
    cdef AddJob job = AddJob(read_from(a, nbytes), read_from(b, nbytes), write_to(y, nbytes), size, item, relu, isa)
    run_tasks(add_task, &job, (size + CHUNK - 1) // CHUNK, n_threads)


# ------------------------------------------------------------------------------------------------ along an axis
# Softmax and cross-entropy see an array as (outer, length, inner).  A task is a few whole rows where the axis is
# contiguous, else up to FC_COLUMNS neighbouring positions of one row.


cdef struct Cut:
    size_t outer, length, inner, step, per_row


cdef Cut cut_of(size_t outer, size_t length, size_t inner):
    cdef size_t step = FC_COLUMNS
    if inner == 1:
        step = 1 if length > CHUNK else CHUNK // max(length, <size_t>1)
    return Cut(outer, length, inner, step, (inner + step - 1) // step)


cdef Py_ssize_t count_tasks(const Cut *cut) noexcept:
    return (cut.outer + cut.step - 1) // cut.step if cut.inner == 1 else cut.outer * cut.per_row


cdef inline size_t first_position(const Cut *cut, size_t i) noexcept nogil:
    """Of a task, among the outer * inner positions."""
    return i * cut.step if cut.inner == 1 else i // cut.per_row * cut.inner + i % cut.per_row * cut.step


cdef inline size_t first_element(const Cut *cut, size_t i) noexcept nogil:
    if cut.inner == 1:
        return i * cut.step * cut.length
    return i // cut.per_row * cut.length * cut.inner + i % cut.per_row * cut.step


cdef inline size_t positions_of(const Cut *cut, size_t i) noexcept nogil:
    if cut.inner == 1:
        return min(cut.step, cut.outer - i * cut.step)
    return min(cut.step, cut.inner - i % cut.per_row * cut.step)


cdef struct SoftmaxJob:
    Cut cut
    const char *grad  # NULL in the forward pass
    const char *source
    char *target
    size_t item
    int log_output, isa


cdef void softmax_task(const void *shared, Py_ssize_t i) noexcept nogil:
    cdef const SoftmaxJob *job = <const SoftmaxJob *> shared
    cdef const Cut *cut = &job.cut
    cdef size_t at = first_element(cut, i) * job.item, n = positions_of(cut, i)
    cdef const char *x = job.source + at
    cdef char *y = job.target + at
    if job.grad == NULL:
        if cut.inner == 1:
            fc_softmax_rows(job.isa, job.item, x, y, n, cut.length, job.log_output)
        else:
            fc_softmax_columns(job.isa, job.item, x, y, cut.length, cut.inner, n, job.log_output)
    elif cut.inner == 1:
        fc_softmax_grad_rows(job.isa, job.item, job.grad + at, x, y, n, cut.length, job.log_output)
    else:
        fc_softmax_grad_columns(
            job.isa, job.item, job.grad + at, x, y, cut.length, cut.inner, n, job.log_output
        )


cdef run_softmax(
    g, x, y, size_t outer, size_t length, size_t inner, size_t item, bint log_output, int isa, int n_threads
):
    cdef size_t nbytes = outer * length * inner * item
    cdef SoftmaxJob job = SoftmaxJob(
        cut_of(outer, length, inner), read_from(g, nbytes), read_from(x, nbytes), write_to(y, nbytes), item,
        log_output, isa
    )
    run_tasks(softmax_task, &job, count_tasks(&job.cut), n_threads)


def softmax_forward(
    x, y, size_t outer, size_t length, size_t inner, size_t item, bint log_output, int isa, int n_threads
):
    """(Log-)softmax along the middle axis of (outer, length, inner)."""
    run_softmax(None, x, y, outer, length, inner, item, log_output, isa, n_threads)


def softmax_backward(
    g, y, dx, size_t outer, size_t length, size_t inner, size_t item, bint log_output, int isa, int n_threads
):
    """Gradient of softmax_forward from its output."""
    run_softmax(g, y, dx, outer, length, inner, item, log_output, isa, n_threads)


cdef double divisor_of(
    int reduction, const int64_t *label, const char *weight, size_t positions, size_t item, int64_t ignore
) noexcept nogil:
    """What a reduced loss is divided by: for the mean over labels the sum of their classes' weights."""
    cdef double total = 0
    cdef size_t i
    if reduction == SUM:
        return 1
    if label == NULL:
        return <double>positions
    for i in range(positions):
        if label[i] != ignore:
            total += (<const float *> weight)[label[i]] if item == 4 else (<const double *> weight)[label[i]]
    return total


cdef struct CrossEntropyJob:
    Cut cut
    const char *logp
    const int64_t *label  # or NULL
    const char *probs  # or NULL
    const char *weight
    const char *scale  # factor of every position or, with step 0, of all; NULL in the forward pass
    size_t scale_step
    char *target
    size_t item
    int64_t ignore
    double a, b
    int isa


cdef void cross_entropy_task(const void *shared, Py_ssize_t i) noexcept nogil:
    cdef const CrossEntropyJob *job = <const CrossEntropyJob *> shared
    cdef const Cut *cut = &job.cut
    cdef size_t item = job.item, place = first_position(cut, i), at = first_element(cut, i) * item
    cdef size_t n = positions_of(cut, i)
    cdef const int64_t *label = NULL
    cdef const char *probs = NULL
    cdef const char *logp = job.logp + at
    cdef const char *scale
    cdef char *loss = job.target + place * item
    cdef char *d = job.target + at
    if job.label != NULL:
        label = job.label + place
    if job.probs != NULL:
        probs = job.probs + at
    if job.scale == NULL:
        if cut.inner == 1:
            fc_cross_entropy_rows(
                job.isa, item, logp, label, probs, job.weight, loss, n, cut.length, job.ignore, job.a, job.b
            )
        else:
            fc_cross_entropy_columns(
                job.isa, item, logp, label, probs, job.weight, loss, cut.length, cut.inner, n, job.ignore, job.a,
                job.b,
            )
        return
    scale = job.scale + place * job.scale_step * item
    if cut.inner == 1:
        fc_cross_entropy_grad_rows(
            job.isa, item, logp, label, probs, job.weight, scale, job.scale_step, d, n, cut.length, job.ignore, job.a,
            job.b,
        )
    else:
        fc_cross_entropy_grad_columns(
            job.isa, item, logp, label, probs, job.weight, scale, job.scale_step, d, cut.length, cut.inner, n,
            job.ignore, job.a, job.b,
        )


cdef CrossEntropyJob cross_entropy_job(
    logp, label, probs, weight, size_t batch, size_t classes, size_t inner, size_t item, int64_t ignore,
    double smoothing, int isa,
):
    """All but scale and target."""
    cdef size_t positions = batch * inner, nbytes = positions * classes * item
    return CrossEntropyJob(
        cut_of(batch, classes, inner), read_from(logp, nbytes),
        <const int64_t *> read_from(label, positions * sizeof(int64_t)), read_from(probs, nbytes),
        read_from(weight, classes * item), NULL, 0, NULL, item, ignore, 1 - smoothing, smoothing / classes, isa
    )


def cross_entropy_forward(
    x, logp, label, probs, weight, loss, size_t batch, size_t classes, size_t inner, size_t item, int64_t ignore,
    double smoothing, int reduction, int isa, int n_threads,
):
    """Log-probabilities of logits and the loss of every position; targets are ``label`` or, if that is None, ``probs``.

    Returns the reduced loss: sum or mean, divided as C divides: 0 / 0 is NaN.
    """
    cdef size_t positions = batch * inner
    cdef double total = 0
    run_softmax(None, x, logp, batch, classes, inner, item, True, isa, n_threads)
    cdef CrossEntropyJob job = cross_entropy_job(
        logp, label, probs, weight, batch, classes, inner, item, ignore, smoothing, isa
    )
    job.target = write_to(loss, positions * item)
    run_tasks(cross_entropy_task, &job, count_tasks(&job.cut), n_threads)
    if reduction == NONE:
        return None
    fc_sum_run(isa, item, job.target, positions, &total)
    return total / divisor_of(reduction, job.label, job.weight, positions, item, ignore)


def cross_entropy_backward(
    logp, label, probs, weight, grad, d, size_t batch, size_t classes, size_t inner, size_t item, int64_t ignore,
    double smoothing, int reduction, int isa, int n_threads,
):
    """Gradient in the logits; ``grad`` is that of the loss: of every position, or one where the loss is reduced."""
    cdef size_t positions = batch * inner
    cdef CrossEntropyJob job = cross_entropy_job(
        logp, label, probs, weight, batch, classes, inner, item, ignore, smoothing, isa
    )
    cdef double divisor, mean64
    cdef float mean32
    job.target = write_to(d, positions * classes * item)
    if reduction == NONE:
        job.scale, job.scale_step = read_from(grad, positions * item), 1
    else:
        divisor = divisor_of(reduction, job.label, job.weight, positions, item, ignore)
        job.scale = read_from(grad, item)
        if item == 4:
            mean32 = <float>((<const float *> job.scale)[0] / divisor)
            job.scale = <const char *> &mean32
        else:
            mean64 = (<const double *> job.scale)[0] / divisor
            job.scale = <const char *> &mean64
    run_tasks(cross_entropy_task, &job, count_tasks(&job.cut), n_threads)


# ------------------------------------------------------------------------------------------------ channels
# A task is one channel where the planes are long, so that a channel stays in cache between its statistics and its
# update; where planes are short it is a few neighbouring channels, worked on as columns of a (batch, channels * inner)
# matrix.

cdef inline size_t channels_per_task(size_t inner) noexcept nogil:
    return 1 if inner >= SHORT else FC_COLUMNS // max(inner, <size_t>1)


cdef struct SumJob:
    const char *source
    double *total
    size_t batch, channels, inner, step, item
    int isa


cdef void sum_task(const void *shared, Py_ssize_t i) noexcept nogil:
    cdef const SumJob *job = <const SumJob *> shared
    cdef double column[FC_COLUMNS]
    cdef size_t inner = job.inner, first = i * job.step, count = min(job.step, job.channels - first), c, n
    cdef const char *source = job.source + first * inner * job.item
    for c in range(first, first + count):
        job.total[c] = 0
    if inner >= SHORT:
        for n in range(job.batch):
            for c in range(count):
                fc_sum_run(
                    job.isa, job.item, source + (n * job.channels + c) * inner * job.item, inner,
                    &job.total[first + c],
                )
    else:
        fc_sum_columns(job.isa, job.item, source, job.batch, job.channels * inner, count * inner, column)
        for n in range(count * inner):
            job.total[first + n // inner] += column[n]


def channel_sum(x, total, size_t batch, size_t channels, size_t inner, size_t item, int isa, int n_threads):
    """Sum of (batch, channels, inner) over batch and inner, in float64."""
    # a sum reads its channels once: enough of them to follow each other in memory for a while
    cdef size_t step = channels_per_task(inner) if inner < SHORT else max(STRETCH // inner, <size_t>1)
    cdef SumJob job = SumJob(
        read_from(x, batch * channels * inner * item), <double *> write_to(total, channels * sizeof(double)), batch,
        channels, inner, step, item, isa
    )
    run_tasks(sum_task, &job, (channels + step - 1) // step, n_threads)


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


cdef void normalize_channels(
    const floating *x, floating *y, const double *mean, const double *inv_std, const floating *weight,
    const floating *bias, size_t batch, size_t channels, size_t inner, size_t first, size_t count, bint relu, int isa
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
            fc_normalize_run(isa, sizeof(floating), x + j, y + j, inner, relu, center[0], scale[0], shift[0])
    else:
        fc_normalize_columns(
            isa, sizeof(floating), x + first * inner, y + first * inner, batch, channels * inner, count * inner, relu,
            center, scale, shift,
        )


cdef struct BatchNormJob:
    const char *source
    char *target
    const char *given_mean  # or NULL, as the three below
    const char *given_var
    const char *weight
    const char *bias
    char *mean
    char *inv_std
    double *means
    double *inv_stds
    size_t batch, channels, inner, step, item
    double eps
    bint relu
    int isa


cdef void batch_norm_channels(const BatchNormJob *job, floating *mean, size_t first, size_t count) noexcept nogil:
    """A task for the dtype of ``mean``."""
    cdef const floating *x = <const floating *> job.source
    cdef const floating *given_mean = <const floating *> job.given_mean
    cdef const floating *given_var = <const floating *> job.given_var
    cdef floating *inv_std = <floating *> job.inv_std
    cdef size_t c
    if given_mean == NULL:
        channel_moments(
            x, job.means, job.inv_stds, job.batch, job.channels, job.inner, first, count, job.isa
        )
    for c in range(first, first + count):
        if given_mean != NULL:
            job.means[c] = given_mean[c]
            job.inv_stds[c] = given_var[c]
        job.inv_stds[c] = 1 / sqrt(job.inv_stds[c] + job.eps)
        mean[c] = <floating>job.means[c]
        inv_std[c] = <floating>job.inv_stds[c]
    normalize_channels(
        x, <floating *> job.target, job.means, job.inv_stds, <const floating *> job.weight,
        <const floating *> job.bias, job.batch, job.channels, job.inner, first, count, job.relu, job.isa,
    )


cdef void batch_norm_task(const void *shared, Py_ssize_t i) noexcept nogil:
    cdef const BatchNormJob *job = <const BatchNormJob *> shared
    cdef size_t first = i * job.step, count = min(job.step, job.channels - first)
    if job.item == 4:
        batch_norm_channels(job, <float *> job.mean, first, count)
    else:
        batch_norm_channels(job, <double *> job.mean, first, count)


def batch_norm_forward(
    x, y, given_mean, given_var, weight, bias, mean, inv_std, scratch, size_t batch, size_t channels, size_t inner,
    size_t item, double eps, bint relu, int isa, int n_threads,
):
    """``y = (x - mean) inv_std weight + bias``, ``inv_std = 1 / sqrt(var + eps)``; both are also outputs.

    Mean and biased variance are the batch's own unless given.  ``relu`` sets what is negative to zero.  ``scratch`` holds two rows of ``channels``.
    """
    cdef size_t nbytes = batch * channels * inner * item, row = channels * item, step = channels_per_task(inner)
    cdef double *means = <double *> write_to(scratch, 2 * channels * sizeof(double))
    cdef BatchNormJob job = BatchNormJob(
        read_from(x, nbytes), write_to(y, nbytes), read_from(given_mean, row), read_from(given_var, row),
        read_from(weight, row), read_from(bias, row), write_to(mean, row), write_to(inv_std, row), means,
        means + channels, batch, channels, inner, step, item, eps, relu, isa
    )
    run_tasks(batch_norm_task, &job, (channels + step - 1) // step, n_threads)


cdef struct BatchNormGradJob:
    const char *grad
    const char *source
    char *target
    const char *mean
    const char *inv_std
    const char *weight  # or NULL
    const char *bias  # or NULL; matters for a ReLU
    double *dweight
    double *dbias
    size_t batch, channels, inner, step, item
    bint training, relu
    int isa


cdef void normalize_grad_channels(
    const BatchNormGradJob *job, floating *dx, size_t first, size_t count
) noexcept nogil:
    """A task for the dtype of ``dx``."""
    cdef const floating *g = <const floating *> job.grad
    cdef const floating *x = <const floating *> job.source
    cdef const floating *mean = <const floating *> job.mean
    cdef const floating *inv_std = <const floating *> job.inv_std
    cdef const floating *weight = <const floating *> job.weight
    cdef size_t batch = job.batch, channels = job.channels, inner = job.inner
    cdef const floating *bias = <const floating *> job.bias
    cdef bint training = job.training, relu = job.relu
    cdef int isa = job.isa
    cdef double center[FC_COLUMNS]
    cdef double column_sum[FC_COLUMNS]
    cdef double column_product[FC_COLUMNS]
    cdef floating mean_at[FC_COLUMNS]
    cdef floating offset[FC_COLUMNS]
    cdef floating slope[FC_COLUMNS]
    cdef floating scale[FC_COLUMNS]
    cdef floating shift[FC_COLUMNS]
    cdef double moment[2]
    cdef double inv, total = <double>batch * inner
    cdef size_t n, c, j, stop, at = first * inner
    for c in range(count):
        for j in range(c * inner if inner < SHORT else 0, (c + 1) * inner if inner < SHORT else 1):
            center[j] = mean_at[j] = mean[first + c]
            scale[j] = <floating>(<double>inv_std[first + c] * (weight[first + c] if weight else 1))
            shift[j] = bias[first + c] if bias else 0
    if inner < SHORT:
        fc_grad_moments_columns(
            isa, sizeof(floating), g + at, x + at, batch, channels * inner, count * inner, center, relu, scale, shift,
            column_sum, column_product,
        )
    for c in range(count):
        moment[0] = moment[1] = 0
        if inner >= SHORT:
            for n in range(batch):
                at = (n * channels + first) * inner
                fc_grad_moments_run(
                    isa, sizeof(floating), g + at, x + at, inner, center[0], relu, scale[0], shift[0], moment
                )
        else:
            for j in range(c * inner, (c + 1) * inner):
                moment[0] += column_sum[j]
                moment[1] += column_product[j]
        inv = inv_std[first + c]
        job.dbias[first + c] = moment[0]
        job.dweight[first + c] = moment[1] * inv
        stop = 1 if inner >= SHORT else (c + 1) * inner
        for j in range(0 if inner >= SHORT else c * inner, stop):
            offset[j] = <floating>(moment[0] / total) if training else 0
            slope[j] = <floating>(moment[1] / total * inv * inv) if training else 0
    if inner >= SHORT:
        for n in range(batch):
            at = (n * channels + first) * inner
            fc_normalize_grad_run(
                isa, sizeof(floating), g + at, x + at, dx + at, inner, relu, mean_at[0], offset[0], slope[0], scale[0],
                shift[0],
            )
    else:
        at = first * inner
        fc_normalize_grad_columns(
            isa, sizeof(floating), g + at, x + at, dx + at, batch, channels * inner, count * inner, relu, mean_at,
            offset, slope, scale, shift,
        )


cdef void normalize_grad_task(const void *shared, Py_ssize_t i) noexcept nogil:
    cdef const BatchNormGradJob *job = <const BatchNormGradJob *> shared
    cdef size_t first = i * job.step, count = min(job.step, job.channels - first)
    if job.item == 4:
        normalize_grad_channels(job, <float *> job.target, first, count)
    else:
        normalize_grad_channels(job, <double *> job.target, first, count)


def batch_norm_backward(
    g, x, dx, mean, inv_std, weight, bias, dweight, dbias, size_t batch, size_t channels, size_t inner, size_t item,
    bint training, bint relu, int isa, int n_threads,
):
    """Gradients in input, weight and bias; in training also through the batch's statistics.

    With ``relu`` the gradient is that of the output after it, told from ``x`` and ``bias``.
    """
    cdef size_t nbytes = batch * channels * inner * item, row = channels * item, step = channels_per_task(inner)
    cdef BatchNormGradJob job = BatchNormGradJob(
        read_from(g, nbytes), read_from(x, nbytes), write_to(dx, nbytes), read_from(mean, row),
        read_from(inv_std, row), read_from(weight, row), read_from(bias, row),
        <double *> write_to(dweight, channels * sizeof(double)), <double *> write_to(dbias, channels * sizeof(double)),
        batch, channels, inner, step, item, training, relu, isa
    )
    run_tasks(normalize_grad_task, &job, (channels + step - 1) // step, n_threads)
