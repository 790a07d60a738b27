"""Scratch memory of the drivers, included by each extension that needs it."""

from libc.stdint cimport int64_t, uintptr_t
from libc.stdlib cimport free, malloc

cdef int64_t KEPT_BYTES = 64 << 20  # scratch kept for the next call, all together


cdef class Scratch:
    """Aligned memory, kept in a pool between calls: fresh pages would cost more than many a convolution."""
    cdef void *memory
    cdef char *start
    cdef readonly int64_t nbytes

    def __cinit__(self, int64_t nbytes):
        self.nbytes = nbytes
        self.memory = malloc(<size_t> nbytes + 64)
        if self.memory == NULL:
            raise MemoryError(f"no memory for {nbytes} bytes of scratch")
        self.start = <char *> ((<uintptr_t> self.memory + 63) & ~<uintptr_t> 63)

    def __dealloc__(self):
        free(self.memory)


cdef list _pool = []


cdef Scratch take_scratch(int64_t nbytes):
    cdef Scratch scratch
    for i in range(len(_pool) - 1, -1, -1):
        try:
            scratch = _pool.pop(i)
        except IndexError:
            break
        if scratch.nbytes >= nbytes:
            return scratch
        # too small: let it go, a larger one takes its place
    return Scratch(nbytes)


cdef void give_scratch(Scratch scratch):
    if scratch.nbytes <= KEPT_BYTES and len(_pool) < 4:
        _pool.append(scratch)


def release_scratch():
    """Let go of the scratch memory kept for the next call."""
    _pool.clear()
