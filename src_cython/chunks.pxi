"""Into how many tasks a driver cuts its work."""

from libc.stdint cimport int64_t

cdef enum:
    SERIAL_ELEMENTS = 32768  # below, another Python thread need not wait long for its turn


cdef int64_t chunk_count(int64_t elements, int n_threads) noexcept:
    return 1 if elements < SERIAL_ELEMENTS else max(2, n_threads)
