from libc.stdint cimport uint8_t, uint32_t, uint64_t

# Arrays are void pointers and scalars double: `itemsize` (4 or 8) says which build is called.
cdef extern from "fc_dropout.h" nogil:
    ctypedef struct fc_philox_key:
        uint32_t round[10][2]

    ctypedef struct fc_drop_block_shape:
        size_t rows
        size_t cols
        size_t block_rows
        size_t block_cols

    fc_philox_key fc_philox_schedule(uint64_t seed) noexcept
    void fc_philox_block(const fc_philox_key *key, uint32_t *word) noexcept
    void fc_dropout_bits(
        int isa, const fc_philox_key *key, uint64_t element, size_t n, uint32_t threshold, uint8_t *mask) noexcept
    void fc_dropout_apply(
        int isa, size_t itemsize, const void *x, const uint8_t *mask, void *out, size_t n, double scale) noexcept
    void fc_dropout_apply_runs(
        int isa, size_t itemsize, const void *x, const uint8_t *mask, void *out, size_t start, size_t n, size_t inner,
        double scale) noexcept
    void fc_dropout_forward(
        int isa, size_t itemsize, const fc_philox_key *key, uint64_t element, uint32_t threshold, const void *x,
        void *out, uint8_t *mask, size_t n, double scale) noexcept
    void fc_drop_blocks(
        fc_drop_block_shape shape, size_t n_planes, const uint8_t *keep_centre, uint8_t *kept, uint8_t *mask) noexcept
