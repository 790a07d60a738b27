# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Optimizer steps over any number of arrays at once: tasks of fixed size shared among threads.

What a task computes depends on the sizes alone, and sums are added in the order of the tasks: results are the same bits
for any number of threads.
"""

from libc.stdlib cimport calloc, free

from fc_update cimport *

include "arrays.pxi"
include "tasks.pxi"

cdef enum:
    CHUNK = 16384  # elements of a task

RULES = {"sgd": FC_SGD, "adam": FC_ADAM, "rmsprop": FC_RMSPROP}


cdef class Cut:
    """Arrays of several sizes cut into tasks, each of which lies in one array."""
    cdef Py_ssize_t n_arrays
    cdef size_t *sizes
    cdef Py_ssize_t *starts  # number of the first task of every array, and of the one after the last

    def __cinit__(self, list arrays, size_t item):
        cdef Py_ssize_t k
        self.n_arrays = len(arrays)
        self.sizes = <size_t *> calloc(self.n_arrays + 1, sizeof(size_t))
        self.starts = <Py_ssize_t *> calloc(self.n_arrays + 1, sizeof(Py_ssize_t))
        if self.sizes == NULL or self.starts == NULL:
            raise MemoryError(f"no memory for a table of {self.n_arrays} arrays")
        for k in range(self.n_arrays):
            self.sizes[k] = arrays[k].size
            self.starts[k + 1] = self.starts[k] + (self.sizes[k] + CHUNK - 1) // CHUNK

    def __dealloc__(self):
        free(self.sizes)
        free(self.starts)


cdef struct Job:
    const Py_ssize_t *starts
    const size_t *sizes
    Py_ssize_t n_arrays
    size_t item
    int isa


cdef inline Py_ssize_t array_of(const Job *job, Py_ssize_t task) noexcept nogil:
    """Number of the array that a task belongs to."""
    cdef Py_ssize_t low = 0, high = job.n_arrays, middle
    while high - low > 1:
        middle = (low + high) // 2
        if job.starts[middle] <= task:
            low = middle
        else:
            high = middle
    return low


cdef struct UpdateJob:
    Job cut
    const fc_update_array *arrays
    const fc_update_rates *rates
    int rule


cdef void update_task(const void *shared, Py_ssize_t i) noexcept nogil:
    cdef const UpdateJob *job = <const UpdateJob *> shared
    cdef Py_ssize_t k = array_of(&job.cut, i)
    cdef size_t first = (i - job.cut.starts[k]) * CHUNK
    fc_update(
        job.cut.isa, job.cut.item, job.rule, job.rates, &job.arrays[k], first, min(<size_t>CHUNK, job.cut.sizes[k] - first)
    )


def update(
    list weights, list grads, list velocity, list mean, list square, const double[:, ::1] factors, size_t item, int rule,
    double rate, double momentum, double mean_decay, double square_decay, double root_scale, double eps, double bound,
    bint nesterov, int isa, int n_threads,
):
    """Move every weight in place; ``factors`` holds shrink, decay and scale of each array."""
    cdef Cut cut = Cut(weights, item)
    cdef Py_ssize_t k, n = cut.n_arrays
    cdef size_t nbytes
    cdef fc_update_rates rates = fc_update_rates(
        rate, momentum, mean_decay, square_decay, root_scale, eps, bound, nesterov
    )
    cdef fc_update_array *arrays = <fc_update_array *> calloc(n + 1, sizeof(fc_update_array))
    cdef UpdateJob job = UpdateJob(Job(cut.starts, cut.sizes, n, item, isa), arrays, &rates, rule)
    try:
        if arrays == NULL:
            raise MemoryError(f"no memory for a table of {n} arrays")
        for k in range(n):
            nbytes = cut.sizes[k] * item
            arrays[k].weight = write_to(weights[k], nbytes)
            arrays[k].grad = read_from(grads[k], nbytes)
            arrays[k].velocity = NULL if velocity is None else write_to(velocity[k], nbytes)
            arrays[k].mean = NULL if mean is None else write_to(mean[k], nbytes)
            arrays[k].square = NULL if square is None else write_to(square[k], nbytes)
            arrays[k].shrink, arrays[k].decay, arrays[k].scale = factors[k, 0], factors[k, 1], factors[k, 2]
        run_tasks(update_task, &job, cut.starts[n], n_threads)
    finally:
        free(arrays)


cdef struct SumJob:
    Job cut
    const char **arrays
    double *partial


cdef void square_sum_task(const void *shared, Py_ssize_t i) noexcept nogil:
    cdef const SumJob *job = <const SumJob *> shared
    cdef Py_ssize_t k = array_of(&job.cut, i)
    cdef size_t first = (i - job.cut.starts[k]) * CHUNK
    fc_square_sum(
        job.cut.isa, job.cut.item, job.arrays[k] + first * job.cut.item, min(<size_t>CHUNK, job.cut.sizes[k] - first),
        &job.partial[i],
    )


def square_sums(list arrays, double[::1] out, size_t item, int isa, int n_threads):
    """Sum of the squares of each array, in float64."""
    cdef Cut cut = Cut(arrays, item)
    cdef Py_ssize_t k, i, n = cut.n_arrays
    cdef const char **starts = <const char **> calloc(n + 1, sizeof(char *))
    cdef double *partial = <double *> calloc(cut.starts[n] + 1, sizeof(double))
    cdef SumJob job = SumJob(Job(cut.starts, cut.sizes, n, item, isa), starts, partial)
    try:
        if starts == NULL or partial == NULL:
            raise MemoryError(f"no memory for a table of {n} arrays")
        for k in range(n):
            starts[k] = read_from(arrays[k], cut.sizes[k] * item)
        run_tasks(square_sum_task, &job, cut.starts[n], n_threads)
        for k in range(n):
            out[k] = 0
            for i in range(cut.starts[k], cut.starts[k + 1]):
                out[k] += partial[i]
    finally:
        free(starts)
        free(partial)
