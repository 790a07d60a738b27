cdef extern from "fc_memory.h" nogil:
    ctypedef struct fc_block:
        size_t nbytes

    fc_block *fc_block_of(void *memory) noexcept
    size_t fc_block_class(size_t nbytes) noexcept
    void *fc_block_new(size_t nbytes) noexcept
    void fc_block_delete(void *memory) noexcept
