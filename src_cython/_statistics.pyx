# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Statistics of an array: tasks cut by its size alone, merged in their order, so any number of threads gives the same
bits.
"""

from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free

from fc_statistics cimport *

include "arrays.pxi"
include "tasks.pxi"

cdef enum:
    LEAST = 65536  # elements of a task; fewer would not be worth its tables
    MOST_TASKS = 16  # of arrays that fit a task's 32-bit counts as often
    COUNTABLE = 1 << 30

KEYS = FC_KEYS


cdef struct Job:
    const char *source
    fc_statistics *part
    size_t size, step, item
    int isa


cdef void task(const void *shared, Py_ssize_t i) noexcept nogil:
    cdef const Job *job = <const Job *> shared
    cdef size_t first = i * job.step
    job.part[i].moments = FC_NO_MOMENTS
    fc_collect(
        job.isa, job.item, job.source + first * job.item, min(job.step, job.size - first), &job.part[i]
    )


def collect(x, moments, histogram, size_t size, size_t item, int isa, int n_threads):
    """Fill float64 ``moments`` and int64 ``histogram``, the latter by key; returns (zeros, zeros and denormals).

    ``moments``: number of finite elements, their mean, their sum of squared distances from it, least, greatest.
    """
    cdef double *total = <double *> write_to(moments, 5 * sizeof(double))
    cdef int64_t *counts = <int64_t *> write_to(histogram, FC_KEYS * sizeof(int64_t))
    cdef size_t step = min(max(<size_t>LEAST, (size + MOST_TASKS - 1) // MOST_TASKS), <size_t>COUNTABLE)
    cdef Py_ssize_t n_tasks = (size + step - 1) // step, i
    cdef int64_t zeros = 0, tiny = 0
    cdef fc_moments merged = FC_NO_MOMENTS
    cdef int k
    cdef Job job = Job(read_from(x, size * item), NULL, size, step, item, isa)
    job.part = <fc_statistics *> calloc(max(n_tasks, 1), sizeof(fc_statistics))
    if job.part == NULL:
        raise MemoryError("no memory for the statistics of an array")
    run_tasks(task, &job, n_tasks, n_threads)
    for k in range(FC_KEYS):
        counts[k] = 0
    for i in range(n_tasks):
        fc_merge_moments(&merged, &job.part[i].moments)
        zeros += job.part[i].zeros
        tiny += job.part[i].tiny
        for k in range(FC_KEYS):
            counts[k] += job.part[i].histogram[k]
    free(job.part)
    total[0], total[1], total[2], total[3], total[4] = merged.count, merged.mean, merged.square, merged.low, merged.high
    return zeros, tiny
