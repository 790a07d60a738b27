from libc.stdint cimport uint64_t


cdef extern from "fc_digest.h" nogil:
    uint64_t fc_digest(const char *bytes, size_t n) noexcept
    uint64_t fc_digest_join(uint64_t digest, uint64_t word) noexcept
