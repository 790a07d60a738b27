from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef extern from "fc_dropout.h" nogil:
    ctypedef struct fc_philox_key:
        uint32_t round[10][2]

    ctypedef struct fc_drop_block_shape:
        size_t rows
        size_t cols
        size_t block_rows
        size_t block_cols

    ctypedef void (*fc_dropout_bits_fn)(
        const fc_philox_key *key, uint64_t element, size_t n, uint32_t threshold, uint8_t *mask) noexcept nogil
    ctypedef void (*fc_dropout_apply_f32_fn)(
        const float *x, const uint8_t *mask, float *out, size_t n, float scale) noexcept nogil
    ctypedef void (*fc_dropout_apply_f64_fn)(
        const double *x, const uint8_t *mask, double *out, size_t n, double scale) noexcept nogil
    ctypedef void (*fc_dropout_apply_runs_f32_fn)(
        const float *x, const uint8_t *mask, float *out, size_t start, size_t n, size_t inner,
        float scale) noexcept nogil
    ctypedef void (*fc_dropout_apply_runs_f64_fn)(
        const double *x, const uint8_t *mask, double *out, size_t start, size_t n, size_t inner,
        double scale) noexcept nogil
    ctypedef void (*fc_dropout_forward_f32_fn)(
        const fc_philox_key *key, uint64_t element, uint32_t threshold, const float *x, float *out, uint8_t *mask,
        size_t n, float scale) noexcept nogil
    ctypedef void (*fc_dropout_forward_f64_fn)(
        const fc_philox_key *key, uint64_t element, uint32_t threshold, const double *x, double *out, uint8_t *mask,
        size_t n, double scale) noexcept nogil

    fc_philox_key fc_philox_schedule(uint64_t seed) noexcept
    void fc_philox_block(const fc_philox_key *key, uint32_t *word) noexcept
    void fc_drop_blocks(
        fc_drop_block_shape shape, size_t n_planes, const uint8_t *keep_centre, uint8_t *kept, uint8_t *mask) noexcept

    fc_dropout_bits_fn fc_dropout_bits(int isa) noexcept
    fc_dropout_apply_f32_fn fc_dropout_apply_f32(int isa) noexcept
    fc_dropout_apply_f64_fn fc_dropout_apply_f64(int isa) noexcept
    fc_dropout_apply_runs_f32_fn fc_dropout_apply_runs_f32(int isa) noexcept
    fc_dropout_apply_runs_f64_fn fc_dropout_apply_runs_f64(int isa) noexcept
    fc_dropout_forward_f32_fn fc_dropout_forward_f32(int isa) noexcept
    fc_dropout_forward_f64_fn fc_dropout_forward_f64(int isa) noexcept
