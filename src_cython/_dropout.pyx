# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Dropout masks and their application: chunks of fixed size shared among threads.

Every mask bit is a function of (seed, element number) and every output element of one input element and one bit, so the
cut into chunks and threads cannot change a result.
"""

from cython.parallel cimport prange
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


def dropout_mask(
    mask, size_t size, uint32_t threshold, uint64_t seed, uint64_t offset, int isa, int n_threads
):
    """Fill ``mask`` with the keep bits of elements offset ... offset + size - 1."""
    cdef char *bits = write_to(mask, (size + 7) // 8)
    cdef fc_philox_key key = fc_philox_schedule(seed)
    cdef size_t at
    cdef Py_ssize_t i, n_chunks = (size + CHUNK - 1) // CHUNK
    for i in prange(n_chunks, nogil=True, num_threads=n_threads, schedule="static"):
        at = i * CHUNK
        fc_dropout_bits(
            isa, &key, offset + at, min(<size_t>CHUNK, size - at), threshold, <uint8_t *> bits + at // 8
        )


def dropout_apply(
    x, mask, out, size_t size, size_t item, size_t inner, double scale, int isa, int n_threads
):
    """``out[i] = x[i] * (bit i // inner of mask ? scale : 0)``; ``size`` bits, each for ``inner`` elements."""
    cdef size_t elements = size * inner, at, n
    cdef const char *source = read_from(x, elements * item)
    cdef const uint8_t *bits = <const uint8_t *> read_from(mask, (size + 7) // 8)
    cdef char *target = write_to(out, elements * item)
    cdef Py_ssize_t i, n_chunks = (elements + CHUNK - 1) // CHUNK
    for i in prange(n_chunks, nogil=True, num_threads=n_threads, schedule="static"):
        at = i * CHUNK
        n = min(<size_t>CHUNK, elements - at)
        if inner == 1:
            fc_dropout_apply(isa, item, source + at * item, bits + at // 8, target + at * item, n, scale)
        else:
            fc_dropout_apply_runs(isa, item, source + at * item, bits, target + at * item, at, n, inner, scale)


def dropout_forward(
    x, out, mask, size_t size, size_t item, uint32_t threshold, uint64_t seed, uint64_t offset, double scale, int isa,
    int n_threads
):
    """dropout_mask and dropout_apply, one bit an element, in one pass."""
    cdef const char *source = read_from(x, size * item)
    cdef char *target = write_to(out, size * item)
    cdef char *bits = write_to(mask, (size + 7) // 8)
    cdef fc_philox_key key = fc_philox_schedule(seed)
    cdef size_t at
    cdef Py_ssize_t i, n_chunks = (size + CHUNK - 1) // CHUNK
    for i in prange(n_chunks, nogil=True, num_threads=n_threads, schedule="static"):
        at = i * CHUNK
        fc_dropout_forward(
            isa, item, &key, offset + at, threshold, source + at * item, target + at * item,
            <uint8_t *> bits + at // 8, min(<size_t>CHUNK, size - at), scale,
        )


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
