/* Dropout kernels for every instruction set and dtype with their run-time choice, and DropBlock's block painting. */
#ifndef FC_DROPOUT_H
#define FC_DROPOUT_H

#include "fc_call.h"
#include "fc_philox.h"

#if FC_HAVE_X86
#include <immintrin.h>
#endif

#define FC_TEMPLATE "fc_dropout_kernel.h"
#include "fc_for_each.h"

FC_INLINE void fc_dropout_bits(int isa, const fc_philox_key *key, uint64_t element, size_t n, uint32_t threshold,
                               uint8_t *mask) {
    FC_PICK(isa, dropout_bits_f32)(key, element, n, threshold, mask);
}
FC_ENTRY(dropout_apply, (x, mask, out, n, scale), const void *x, const uint8_t *mask, void *out, size_t n, double scale)
FC_ENTRY(dropout_apply_runs, (x, mask, out, start, n, inner, scale), const void *x, const uint8_t *mask, void *out,
         size_t start, size_t n, size_t inner, double scale)
FC_ENTRY(dropout_forward, (key, element, threshold, x, out, mask, n, scale), const fc_philox_key *key, uint64_t element,
         uint32_t threshold, const void *x, void *out, uint8_t *mask, size_t n, double scale)

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
    for (size_t byte = 0; byte < n / 8; byte++) {
        const uint8_t *k = kept + 8 * byte;
        mask[byte] = (uint8_t)(k[0] | k[1] << 1 | k[2] << 2 | k[3] << 3 | k[4] << 4 | k[5] << 5 | k[6] << 6 | k[7] << 7);
    }
    if (n % 8) {
        mask[n / 8] = 0;
        for (size_t i = n / 8 * 8; i < n; i++) mask[n / 8] |= (uint8_t)(kept[i] << i % 8);
    }
}

#endif
