# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Dropout masks and their application: chunks of fixed size shared among threads.

Every mask bit is a function of (seed, element number) and every output element of one input element and one bit, so the
cut into chunks and threads cannot change a result.
"""

from cython cimport floating
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
    uint8_t[::1] mask, size_t size, uint32_t threshold, uint64_t seed, uint64_t offset, int isa, int n_threads
):
    """Fill ``mask`` with the keep bits of elements offset ... offset + size - 1."""
    cdef fc_philox_key key = fc_philox_schedule(seed)
    cdef Py_ssize_t i, n_chunks = (size + CHUNK - 1) // CHUNK
    for i in prange(n_chunks, nogil=True, num_threads=n_threads if n_chunks > 2 else 1, schedule="static"):
        fc_dropout_bits(
            isa, &key, offset + <uint64_t>(i * CHUNK), min(<size_t>CHUNK, size - i * CHUNK), threshold,
            &mask[i * CHUNK // 8],
        )


def dropout_apply(
    const floating[::1] x, const uint8_t[::1] mask, floating[::1] out, size_t inner, double scale, int isa, int n_threads
):
    """``out[i] = x[i] * (bit i // inner of mask ? scale : 0)``."""
    cdef size_t size = x.shape[0], at, n
    cdef Py_ssize_t i, n_chunks = (size + CHUNK - 1) // CHUNK
    for i in prange(n_chunks, nogil=True, num_threads=n_threads if n_chunks > 2 else 1, schedule="static"):
        at = i * CHUNK
        n = min(<size_t>CHUNK, size - at)
        if inner == 1:
            fc_dropout_apply(isa, sizeof(floating), &x[at], &mask[at // 8], &out[at], n, scale)
        else:
            fc_dropout_apply_runs(isa, sizeof(floating), &x[at], &mask[0], &out[at], at, n, inner, scale)


def dropout_forward(
    const floating[::1] x, floating[::1] out, uint8_t[::1] mask, uint32_t threshold, uint64_t seed, uint64_t offset,
    double scale, int isa, int n_threads
):
    """dropout_mask and dropout_apply, one bit an element, in one pass."""
    cdef fc_philox_key key = fc_philox_schedule(seed)
    cdef size_t size = x.shape[0], at
    cdef Py_ssize_t i, n_chunks = (size + CHUNK - 1) // CHUNK
    for i in prange(n_chunks, nogil=True, num_threads=n_threads if n_chunks > 2 else 1, schedule="static"):
        at = i * CHUNK
        fc_dropout_forward(
            isa, sizeof(floating), &key, offset + <uint64_t>at, threshold, &x[at], &out[at], &mask[at // 8],
            min(<size_t>CHUNK, size - at), scale,
        )


def drop_block_mask(
    uint8_t[::1] mask, size_t n_planes, size_t rows, size_t cols, size_t block_rows, size_t block_cols,
    uint32_t threshold, uint64_t seed, uint64_t offset, uint8_t[:, ::1] scratch, int isa, int n_threads
):
    """Fill ``mask`` with the keep bits of n_planes planes.

    ``scratch`` holds for each thread 9 * rows * cols bytes: the centre bits of eight planes and their bytes.
    """
    cdef fc_philox_key key = fc_philox_schedule(seed)
    cdef fc_drop_block_shape shape = fc_drop_block_shape(rows, cols, block_rows, block_cols)
    cdef size_t plane = rows * cols, count
    cdef Py_ssize_t i, n_tasks = (n_planes + PLANES - 1) // PLANES
    cdef uint8_t *centres
    for i in prange(n_tasks, nogil=True, num_threads=n_threads, schedule="static"):
        count = min(<size_t>PLANES, n_planes - i * PLANES)
        centres = &scratch[fc_thread_id(), 0]
        fc_dropout_bits(isa, &key, offset + <uint64_t>i * PLANES * plane, count * plane, threshold, centres)
        fc_drop_blocks(shape, count, centres, centres + plane, &mask[i * plane])
