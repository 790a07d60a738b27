/* Dropout kernels for every instruction set and dtype with their run-time choice, and DropBlock's block painting. */
#ifndef FC_DROPOUT_H
#define FC_DROPOUT_H

#include "fc_philox.h"

#if FC_HAVE_X86
#include <immintrin.h>
#endif

#define FC_TEMPLATE "fc_dropout_kernel.h"
#include "fc_for_each.h"

typedef void (*fc_dropout_bits_fn)(const fc_philox_key *, uint64_t, size_t, uint32_t, uint8_t *);
FC_INLINE fc_dropout_bits_fn fc_dropout_bits(int isa) { return FC_PICK(isa, dropout_bits_f32); }

#define FC_DROPOUT_PICKS(T, dtype)                                                                                  \
    typedef void (*fc_dropout_apply_##dtype##_fn)(const T *, const uint8_t *, T *, size_t, T);                      \
    typedef void (*fc_dropout_apply_runs_##dtype##_fn)(const T *, const uint8_t *, T *, size_t, size_t, size_t, T); \
    typedef void (*fc_dropout_forward_##dtype##_fn)(const fc_philox_key *, uint64_t, uint32_t, const T *, T *,      \
                                                    uint8_t *, size_t, T);                                          \
    FC_INLINE fc_dropout_apply_##dtype##_fn fc_dropout_apply_##dtype(int isa) {                                     \
        return FC_PICK(isa, dropout_apply_##dtype);                                                                 \
    }                                                                                                               \
    FC_INLINE fc_dropout_apply_runs_##dtype##_fn fc_dropout_apply_runs_##dtype(int isa) {                           \
        return FC_PICK(isa, dropout_apply_runs_##dtype);                                                            \
    }                                                                                                               \
    FC_INLINE fc_dropout_forward_##dtype##_fn fc_dropout_forward_##dtype(int isa) {                                 \
        return FC_PICK(isa, dropout_forward_##dtype);                                                               \
    }

FC_DROPOUT_PICKS(float, f32)
FC_DROPOUT_PICKS(double, f64)

typedef struct {
    size_t rows, cols, block_rows, block_cols;
} fc_drop_block_shape;

/* Paint the blocks of up to eight planes.  keep_centre holds one bit per element; a cleared bit drops the block around
 * it (rows c - b / 2 ... c + (b - 1) / 2, columns alike) where that fits into the plane.  `kept` is scratch of
 * n_planes * rows * cols bytes; the mask gets as many bits, unused bits of the last byte 0. */
static FC_UNUSED void fc_drop_blocks(fc_drop_block_shape shape, size_t n_planes, const uint8_t *keep_centre,
                                     uint8_t *kept, uint8_t *mask) {
    const size_t plane = shape.rows * shape.cols, n = n_planes * plane;
    const size_t first_row = shape.block_rows / 2, first_col = shape.block_cols / 2;
    const size_t last_row = shape.rows - (shape.block_rows - 1) / 2;
    const size_t last_col = shape.cols - (shape.block_cols - 1) / 2;
    memset(kept, 1, n);
    for (size_t byte = 0; byte < (n + 7) / 8; byte++) {
        if (keep_centre[byte] == 0xFF) continue;
        for (size_t i = byte * 8; i < byte * 8 + 8 && i < n; i++) {
            const size_t row = i % plane / shape.cols, col = i % shape.cols;
            if (keep_centre[byte] >> i % 8 & 1) continue;
            if (row < first_row || row >= last_row || col < first_col || col >= last_col) continue;
            uint8_t *corner = kept + i - first_row * shape.cols - first_col;
            for (size_t r = 0; r < shape.block_rows; r++) memset(corner + r * shape.cols, 0, shape.block_cols);
        }
    }
    memset(mask, 0, (n + 7) / 8);
    for (size_t i = 0; i < n; i++) mask[i / 8] |= (uint8_t)(kept[i] << i % 8);
}

#endif
