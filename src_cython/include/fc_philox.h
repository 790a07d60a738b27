/* Philox 4x32-10, the counter-based generator behind every mask (Salmon, Moraes, Dror, Shaw: Parallel random numbers:
 * as easy as 1, 2, 3; SC 2011).  One block turns a 128-bit counter into 128 random bits; here the counter is the number
 * of a group of eight elements, so that each element owns sixteen bits that depend on (seed, element) alone.
 *
 * This file holds the scalar generator and the key schedule; fc_dropout_kernel.h runs many counters at once. */
#ifndef FC_PHILOX_H
#define FC_PHILOX_H

#include "fc_isa.h"

#define FC_PHILOX_ROUNDS 10
#define FC_PHILOX_M0 0xD2511F53u
#define FC_PHILOX_M1 0xCD9E8D57u
#define FC_PHILOX_W0 0x9E3779B9u /* golden ratio */
#define FC_PHILOX_W1 0xBB67AE85u /* sqrt(3) - 1 */

typedef struct {
    uint32_t round[FC_PHILOX_ROUNDS][2];
} fc_philox_key;

FC_INLINE fc_philox_key fc_philox_schedule(uint64_t seed) {
    fc_philox_key key;
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int r = 0; r < FC_PHILOX_ROUNDS; r++) {
        key.round[r][0] = k0;
        key.round[r][1] = k1;
        k0 += FC_PHILOX_W0;
        k1 += FC_PHILOX_W1;
    }
    return key;
}

FC_INLINE void fc_philox_block(const fc_philox_key *key, uint32_t word[4]) {
    for (int r = 0; r < FC_PHILOX_ROUNDS; r++) {
        const uint64_t p0 = (uint64_t)FC_PHILOX_M0 * word[0];
        const uint64_t p1 = (uint64_t)FC_PHILOX_M1 * word[2];
        word[0] = (uint32_t)(p1 >> 32) ^ word[1] ^ key->round[r][0];
        word[1] = (uint32_t)p1;
        word[2] = (uint32_t)(p0 >> 32) ^ word[3] ^ key->round[r][1];
        word[3] = (uint32_t)p0;
    }
}

#define FC_PHILOX_BLOCKS (UINT64_MAX >> 3) /* element numbers are 64-bit and wrap: so do block numbers, at 2^61 */

/* Keep bits of the eight elements of one block: bit h is set when halfword h is not below the threshold. */
FC_INLINE uint8_t fc_philox_keep_byte(const fc_philox_key *key, uint64_t block, uint32_t threshold) {
    block &= FC_PHILOX_BLOCKS;
    uint32_t word[4] = {(uint32_t)block, (uint32_t)(block >> 32), 0, 0};
    uint8_t byte = 0;
    fc_philox_block(key, word);
    for (int h = 0; h < 8; h++) byte |= (uint8_t)(((word[h / 2] >> (16 * (h % 2)) & 0xFFFF) >= threshold) << h);
    return byte;
}

#endif
