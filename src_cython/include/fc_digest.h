/* A digest of memory as fast as it can be read: 32 lanes of 32 bits, and nothing that a plain vector unit lacks.

   Every step of a lane, (33 h + word) and a shift, is a bijection of its state and of the word: one changed word always
   shows.  The shift brings high bits down, for a product moves them up alone and two changed signs would cancel. */
#ifndef FC_DIGEST_H
#define FC_DIGEST_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { FC_DIGEST_LANES = 32, FC_DIGEST_ROW = FC_DIGEST_LANES * sizeof(uint32_t) };

static inline void fc_digest_row(uint32_t *restrict lanes, const char *restrict row) {
    uint32_t words[FC_DIGEST_LANES];
    memcpy(words, row, sizeof words);
    for (int l = 0; l < FC_DIGEST_LANES; l++) {
        const uint32_t mixed = (lanes[l] << 5) + lanes[l] + words[l];
        lanes[l] = mixed ^ mixed >> 15;
    }
}

/* `digest` with `word` added; the order counts. */
static inline uint64_t fc_digest_join(uint64_t digest, uint64_t word) {
    const uint64_t mixed = (digest ^ word) * UINT64_C(0x9E3779B97F4A7C15);
    return mixed ^ mixed >> 32;
}

static inline uint64_t fc_digest(const char *bytes, size_t n) {
    uint32_t lanes[FC_DIGEST_LANES];
    uint64_t digest = n;
    for (int l = 0; l < FC_DIGEST_LANES; l++) lanes[l] = (uint32_t)l;
    for (; n >= FC_DIGEST_ROW; n -= FC_DIGEST_ROW, bytes += FC_DIGEST_ROW) fc_digest_row(lanes, bytes);
    if (n) {
        char last[FC_DIGEST_ROW] = {0};
        memcpy(last, bytes, n);
        fc_digest_row(lanes, last);
    }
    for (int l = 0; l < FC_DIGEST_LANES; l++) digest = fc_digest_join(digest, lanes[l]);
    return digest;
}

#endif
