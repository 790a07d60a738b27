# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Digest of an array: whether it holds what it held before, told in one read of it."""

from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free

from fc_digest cimport *

include "arrays.pxi"
include "tasks.pxi"

cdef enum:
    CHUNK = 262144  # bytes of a task


cdef struct Job:
    const char *source
    size_t nbytes
    uint64_t *parts


cdef void task(const void *shared, Py_ssize_t i) noexcept nogil:
    cdef const Job *job = <const Job *> shared
    cdef size_t first = i * CHUNK
    job.parts[i] = fc_digest(job.source + first, min(<size_t>CHUNK, job.nbytes - first))


def digest(x, size_t nbytes, int n_threads):
    """64 bits that tell the bytes of an array from others, the same for any number of threads."""
    cdef Py_ssize_t n_tasks = (nbytes + CHUNK - 1) // CHUNK, i
    cdef uint64_t whole = 0
    cdef Job job = Job(read_from(x, nbytes), nbytes, NULL)
    job.parts = <uint64_t *> calloc(max(n_tasks, 1), sizeof(uint64_t))
    if job.parts == NULL:
        raise MemoryError("no memory for the digest of an array")
    run_tasks(task, &job, n_tasks, n_threads)
    for i in range(n_tasks):
        whole = fc_digest_join(whole, job.parts[i])
    free(job.parts)
    return whole
