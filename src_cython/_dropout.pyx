# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Dropout masks and their application: chunks of fixed size shared among threads.

Every mask bit is a function of (seed, element number) and every output element of one input element and one bit, so the
cut into chunks and threads cannot change a result.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fc_dropout cimport (
    fc_drop_block_shape,
    fc_drop_blocks,
    fc_dropout_apply,
    fc_dropout_apply_runs,
    fc_dropout_bits,
    fc_dropout_forward,
    fc_philox_block,
    fc_philox_key,
    fc_philox_schedule,
)

include "arrays.pxi"
include "tasks.pxi"

cdef extern from "fc_threads.h" nogil:
    int fc_thread_id() noexcept

cdef enum:
    CHUNK = 16384  # elements; a multiple of 8, so that a chunk owns whole mask bytes
    PLANES = 8  # planes of a DropBlock task: whole mask bytes again


def philox_block(counter, key):
    """One block of Philox 4x32-10: four 32-bit words from a counter of four and a key of two."""
    cdef uint32_t word[4]
    cdef fc_philox_key schedule = fc_philox_schedule(<uint64_t>key[0] | <uint64_t>key[1] << 32)
    for i in range(4):
        word[i] = counter[i]
    fc_philox_block(&schedule, word)
    return word[0], word[1], word[2], word[3]


cdef struct DropoutJob:
    const char *source
    char *target
    uint8_t *mask
    size_t elements, item, inner
    fc_philox_key key
    uint64_t offset
    uint32_t threshold
    double scale
    int isa


cdef inline size_t chunk_size(const DropoutJob *job, size_t at) noexcept nogil:
    return min(<size_t>CHUNK, job.elements - at)


cdef Py_ssize_t count_chunks(const DropoutJob *job) noexcept:
    return (job.elements + CHUNK - 1) // CHUNK


cdef void mask_task(const void *shared, Py_ssize_t i) noexcept nogil:
    cdef const DropoutJob *job = <const DropoutJob *> shared
    cdef size_t at = i * CHUNK
    fc_dropout_bits(job.isa, &job.key, job.offset + at, chunk_size(job, at), job.threshold, job.mask + at // 8)


cdef void apply_task(const void *shared, Py_ssize_t i) noexcept nogil:
    cdef const DropoutJob *job = <const DropoutJob *> shared
    cdef size_t at = i * CHUNK, n = chunk_size(job, at)
    cdef const char *x = job.source + at * job.item
    cdef char *y = job.target + at * job.item
    if job.inner == 1:
        fc_dropout_apply(job.isa, job.item, x, job.mask + at // 8, y, n, job.scale)
    else:
        fc_dropout_apply_runs(job.isa, job.item, x, job.mask, y, at, n, job.inner, job.scale)


cdef void forward_task(const void *shared, Py_ssize_t i) noexcept nogil:
    cdef const DropoutJob *job = <const DropoutJob *> shared
    cdef size_t at = i * CHUNK
    fc_dropout_forward(
        job.isa, job.item, &job.key, job.offset + at, job.threshold, job.source + at * job.item,
        job.target + at * job.item, job.mask + at // 8, chunk_size(job, at), job.scale,
    )


def dropout_mask(mask, size_t size, uint32_t threshold, uint64_t seed, uint64_t offset, int isa, int n_threads):
    """Fill ``mask`` with the keep bits of elements offset ... offset + size - 1."""
    cdef DropoutJob job = DropoutJob(
        NULL, NULL, <uint8_t *> write_to(mask, (size + 7) // 8), size, 0, 1, fc_philox_schedule(seed), offset,
        threshold, 0, isa
    )
    run_tasks(mask_task, &job, count_chunks(&job), n_threads)


def dropout_apply(x, mask, out, size_t size, size_t item, size_t inner, double scale, int isa, int n_threads):
    """``out[i] = x[i] * (bit i // inner of mask ? scale : 0)``; ``size`` bits, each for ``inner`` elements."""
    cdef size_t elements = size * inner
    cdef DropoutJob job = DropoutJob(
        read_from(x, elements * item), write_to(out, elements * item), <uint8_t *> read_from(mask, (size + 7) // 8),
        elements, item, inner, fc_philox_schedule(0), 0, 0, scale, isa
    )
    run_tasks(apply_task, &job, count_chunks(&job), n_threads)


def dropout_forward(
    x, out, mask, size_t size, size_t item, uint32_t threshold, uint64_t seed, uint64_t offset, double scale, int isa,
    int n_threads,
):
    """dropout_mask and dropout_apply, one bit an element, in one pass."""
    cdef DropoutJob job = DropoutJob(
        read_from(x, size * item), write_to(out, size * item), <uint8_t *> write_to(mask, (size + 7) // 8), size,
        item, 1, fc_philox_schedule(seed), offset, threshold, scale, isa
    )
    run_tasks(forward_task, &job, count_chunks(&job), n_threads)


def drop_block_mask(
    mask, size_t n_planes, size_t rows, size_t cols, size_t block_rows, size_t block_cols, uint32_t threshold,
    uint64_t seed, uint64_t offset, scratch, int isa, int n_threads
):
    """Fill ``mask`` with the keep bits of n_planes planes.

    ``scratch`` holds for each thread 9 * rows * cols bytes: the centre bits of eight planes and their bytes.
    """
    cdef fc_philox_key key = fc_philox_schedule(seed)
    cdef fc_drop_block_shape shape = fc_drop_block_shape(rows, cols, block_rows, block_cols)
    cdef size_t plane = rows * cols, count
    cdef uint8_t *bits = <uint8_t *> write_to(mask, (n_planes * plane + 7) // 8)
    cdef uint8_t *memory = <uint8_t *> write_to(scratch, n_threads * 9 * plane)
    cdef Py_ssize_t i, n_tasks = (n_planes + PLANES - 1) // PLANES
    cdef uint8_t *centres
    for i in prange(n_tasks, nogil=True, num_threads=n_threads, schedule="static"):
        count = min(<size_t>PLANES, n_planes - i * PLANES)
        centres = memory + fc_thread_id() * 9 * plane
        fc_dropout_bits(isa, &key, offset + <uint64_t>i * PLANES * plane, count * plane, threshold, centres)
        fc_drop_blocks(shape, count, centres, centres + plane, bits + i * plane)
