/* Dropout kernels: mask bits, their application, and both in one pass.
 *
 * A Philox round is two 32x32 -> 64 products.  Each 32-bit word of the state sits in the low half of a 64-bit lane: the
 * multiplier reads only low halves, so what xors and shifts leave in the high halves never needs clearing, and a round
 * is two multiplications, two shifts and four xors for as many counters as a vector has 64-bit lanes.
 *
 * The mask does not depend on the dtype; the drivers use the f32 build of dropout_bits. */

#undef FC_W
#if FC_HAVE_X86 && FC_LEVEL == 2 && !defined(FC_EMULATE_AVX512)
#define FC_W 8
#define FC_U __m512i
#define FC_SET1(w) _mm512_set1_epi64((long long)(w))
#define FC_ADD(a, b) _mm512_add_epi64(a, b)
#define FC_MUL(a, b) _mm512_mul_epu32(a, b)
#define FC_HIGH(a) _mm512_srli_epi64(a, 32)
#define FC_XOR(a, b) _mm512_xor_si512(a, b)
#define FC_XOR3(a, b, c) _mm512_ternarylogic_epi64(a, b, c, 0x96)
#elif FC_HAVE_X86 && FC_LEVEL >= 1
#define FC_W 4
#define FC_U __m256i
#define FC_SET1(w) _mm256_set1_epi64x((long long)(w))
#define FC_ADD(a, b) _mm256_add_epi64(a, b)
#define FC_MUL(a, b) _mm256_mul_epu32(a, b)
#define FC_HIGH(a) _mm256_srli_epi64(a, 32)
#define FC_XOR(a, b) _mm256_xor_si256(a, b)
#define FC_XOR3(a, b, c) FC_XOR(a, FC_XOR(b, c))
#elif defined(__SSE2__)
#define FC_W 2
#define FC_U __m128i
#define FC_SET1(w) _mm_set1_epi64x((long long)(w))
#define FC_ADD(a, b) _mm_add_epi64(a, b)
#define FC_MUL(a, b) _mm_mul_epu32(a, b)
#define FC_HIGH(a) _mm_srli_epi64(a, 32)
#define FC_XOR(a, b) _mm_xor_si128(a, b)
#define FC_XOR3(a, b, c) FC_XOR(a, FC_XOR(b, c))
#endif

#ifdef FC_W

/* Counters block + i, in the lane order that store_keep_bits expects. */
FC_INLINE FC_U FC_NAME(counters)(uint32_t block) {
#if FC_W == 8
    const FC_U lane = _mm512_set_epi64(7, 3, 6, 2, 5, 1, 4, 0);
#elif FC_W == 4
    const FC_U lane = _mm256_set_epi64x(3, 2, 1, 0);
#else
    const FC_U lane = _mm_set_epi64x(1, 0);
#endif
    return FC_ADD(FC_SET1(block), lane);
}

/* Keep bits of FC_W blocks, one byte a block, from the four words of their last round. */
FC_INLINE void FC_NAME(store_keep_bits)(FC_U w0, FC_U w1, FC_U w2, FC_U w3, uint32_t threshold, uint8_t *bytes) {
#if FC_W == 8
    const __m512i limit = _mm512_set1_epi16((short)threshold);
    const __m512i a = _mm512_mask_blend_epi32(0xAAAA, w0, _mm512_slli_epi64(w1, 32));
    const __m512i b = _mm512_mask_blend_epi32(0xAAAA, w2, _mm512_slli_epi64(w3, 32));
    const uint64_t low = _mm512_cmpge_epu16_mask(_mm512_unpacklo_epi64(a, b), limit);
    const uint64_t high = _mm512_cmpge_epu16_mask(_mm512_unpackhi_epi64(a, b), limit);
    const uint64_t keep = low | high << 32;
    memcpy(bytes, &keep, 8);
#elif FC_W == 4
    const __m256i limit = _mm256_set1_epi16((short)threshold);
    const __m256i a = _mm256_blend_epi32(w0, _mm256_slli_epi64(w1, 32), 0xAA);
    const __m256i b = _mm256_blend_epi32(w2, _mm256_slli_epi64(w3, 32), 0xAA);
    /* limit - x saturates at zero exactly where x is kept; packing to bytes keeps zero and non-zero apart */
    const __m256i drop_low = _mm256_subs_epu16(limit, _mm256_unpacklo_epi64(a, b));
    const __m256i drop_high = _mm256_subs_epu16(limit, _mm256_unpackhi_epi64(a, b));
    const __m256i drop = _mm256_packs_epi16(drop_low, drop_high);
    const int32_t keep = _mm256_movemask_epi8(_mm256_cmpeq_epi8(drop, _mm256_setzero_si256()));
    memcpy(bytes, &keep, 4);
#else
    const __m128i limit = _mm_set1_epi16((short)threshold);
    const __m128i low_half = _mm_set1_epi64x(0xFFFFFFFF);
    const __m128i a = _mm_or_si128(_mm_and_si128(w0, low_half), _mm_slli_epi64(w1, 32));
    const __m128i b = _mm_or_si128(_mm_and_si128(w2, low_half), _mm_slli_epi64(w3, 32));
    const __m128i drop_low = _mm_subs_epu16(limit, _mm_unpacklo_epi64(a, b));
    const __m128i drop_high = _mm_subs_epu16(limit, _mm_unpackhi_epi64(a, b));
    const __m128i drop = _mm_packs_epi16(drop_low, drop_high);
    const uint16_t keep = (uint16_t)_mm_movemask_epi8(_mm_cmpeq_epi8(drop, _mm_setzero_si128()));
    memcpy(bytes, &keep, 2);
#endif
}

#define FC_CHAINS 2 /* independent vectors at once: a round is a chain of latencies */

/* Keep bytes of FC_CHAINS * FC_W blocks, the first of them those of `counter`, which moves on.  `key` holds the
 * constants of the first two rounds, where the upper counter words are zero and the block's high word is the same for
 * all, then the keys of the others. */
FC_INLINE void FC_NAME(keep_bytes)(const FC_U key[FC_PHILOX_ROUNDS][2], FC_U *counter, uint32_t threshold,
                                   uint8_t *bytes) {
    const FC_U m0 = FC_SET1(FC_PHILOX_M0), m1 = FC_SET1(FC_PHILOX_M1);
    FC_U w0[FC_CHAINS], w1[FC_CHAINS], w2[FC_CHAINS], w3[FC_CHAINS];
    for (int i = 0; i < FC_CHAINS; i++) {
        const FC_U p0 = FC_MUL(*counter, m0);
        const FC_U p1 = FC_MUL(FC_XOR(FC_HIGH(p0), key[0][1]), m1);
        w0[i] = FC_XOR(FC_HIGH(p1), key[1][0]);
        w1[i] = p1;
        w2[i] = FC_XOR(p0, key[1][1]);
        w3[i] = key[0][0];
        *counter = FC_ADD(*counter, FC_SET1(FC_W));
    }
    for (int r = 2; r < FC_PHILOX_ROUNDS; r++) {
        const FC_U k0 = key[r][0], k1 = key[r][1];
        for (int i = 0; i < FC_CHAINS; i++) {
            const FC_U p0 = FC_MUL(w0[i], m0), p1 = FC_MUL(w2[i], m1);
            w0[i] = FC_XOR3(FC_HIGH(p1), w1[i], k0);
            w1[i] = p1;
            w2[i] = FC_XOR3(FC_HIGH(p0), w3[i], k1);
            w3[i] = p0;
        }
    }
    for (int i = 0; i < FC_CHAINS; i++)
        FC_NAME(store_keep_bits)(w0[i], w1[i], w2[i], w3[i], threshold, bytes + i * FC_W);
}

#endif

/* out = x * (bit ? scale : 0); bit 0 of mask[0] belongs to x[0]. */
static void FC_NAME(dropout_apply)(const FC_T *restrict x, const uint8_t *restrict mask, FC_T *restrict out, size_t n,
                                   FC_T scale) {
    static const FC_INT bit[32] = {
        1 << 0,  1 << 1,  1 << 2,  1 << 3,  1 << 4,  1 << 5,  1 << 6,  1 << 7,  1 << 8,  1 << 9,  1 << 10,
        1 << 11, 1 << 12, 1 << 13, 1 << 14, 1 << 15, 1 << 16, 1 << 17, 1 << 18, 1 << 19, 1 << 20, 1 << 21,
        1 << 22, 1 << 23, 1 << 24, 1 << 25, 1 << 26, 1 << 27, 1 << 28, 1 << 29, 1 << 30, (FC_INT)(1u << 31)};
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        const uint8_t *m = mask + i / 8;
        const FC_INT word = (FC_INT)((uint32_t)m[0] | (uint32_t)m[1] << 8 | (uint32_t)m[2] << 16 | (uint32_t)m[3] << 24);
        for (int j = 0; j < 32; j++) out[i + j] = x[i + j] * (word & bit[j] ? scale : (FC_T)0);
    }
    for (; i < n; i++) out[i] = x[i] * (mask[i / 8] >> i % 8 & 1 ? scale : (FC_T)0);
}

/* Keep bytes of n whole blocks from number `block` on, as far as whole groups of vectors go; with x also their product,
 * while the bits are at hand.  Returns the number of blocks done. */
FC_INLINE size_t FC_NAME(vector_blocks)(const fc_philox_key *key, uint64_t block, size_t n, uint32_t threshold,
                                        uint8_t *restrict bytes, const FC_T *restrict x, FC_T *restrict out, FC_T scale) {
    size_t i = 0;
#ifdef FC_W
    block &= FC_PHILOX_BLOCKS;
    if (threshold <= 0xFFFF && (uint32_t)block <= (uint32_t)(block + n)) { /* the low word does not wrap on the way */
        const uint64_t second = (uint64_t)FC_PHILOX_M0 * ((uint32_t)(block >> 32) ^ key->round[0][0]);
        FC_U k[FC_PHILOX_ROUNDS][2];
        k[0][0] = FC_SET1((uint32_t)second);
        k[0][1] = FC_SET1(key->round[0][1]);
        k[1][0] = FC_SET1(key->round[1][0]);
        k[1][1] = FC_SET1((uint32_t)(second >> 32) ^ key->round[1][1]);
        for (int r = 2; r < FC_PHILOX_ROUNDS; r++) {
            k[r][0] = FC_SET1(key->round[r][0]);
            k[r][1] = FC_SET1(key->round[r][1]);
        }
        FC_U counter = FC_NAME(counters)((uint32_t)block);
        for (; i + FC_CHAINS * FC_W <= n; i += FC_CHAINS * FC_W) {
            FC_NAME(keep_bytes)(k, &counter, threshold, bytes + i);
            if (x) FC_NAME(dropout_apply)(x + 8 * i, bytes + i, out + 8 * i, 8 * FC_CHAINS * FC_W, scale);
        }
    }
#endif
    return i;
}

/* Keep bytes of n whole blocks. */
FC_INLINE void FC_NAME(dropout_blocks)(const fc_philox_key *key, uint64_t block, size_t n, uint32_t threshold,
                                       uint8_t *restrict bytes) {
    size_t i = FC_NAME(vector_blocks)(key, block, n, threshold, bytes, NULL, NULL, 0);
    for (; i < n; i++) bytes[i] = fc_philox_keep_byte(key, block + i, threshold);
}

/* Keep bits of elements element ... element + n - 1, packed from bit 0 of mask[0]; unused bits of the last byte are 0. */
static void FC_NAME(dropout_bits)(const fc_philox_key *key, uint64_t element, size_t n, uint32_t threshold,
                                  uint8_t *restrict mask) {
    enum { BATCH = 256 };
    const unsigned shift = (unsigned)(element % 8);
    const size_t n_bytes = (n + 7) / 8;
    uint64_t block = element / 8;
    if (n == 0) return;
    if (shift == 0) {
        FC_NAME(dropout_blocks)(key, block, n_bytes, threshold, mask);
    } else {
        uint8_t bytes[BATCH + 1];
        for (size_t i = 0; i < n_bytes; i += BATCH, block += BATCH) {
            const size_t count = n_bytes - i < BATCH ? n_bytes - i : BATCH;
            FC_NAME(dropout_blocks)(key, block, count + 1, threshold, bytes);
            for (size_t j = 0; j < count; j++)
                mask[i + j] = (uint8_t)(bytes[j] >> shift | bytes[j + 1] << (8 - shift));
        }
    }
    if (n % 8) mask[n_bytes - 1] &= (uint8_t)((1u << n % 8) - 1);
}

/* The same with one bit for every `inner` elements; x[0] is element `start` of the array. */
static void FC_NAME(dropout_apply_runs)(const FC_T *restrict x, const uint8_t *restrict mask, FC_T *restrict out,
                                        size_t start, size_t n, size_t inner, FC_T scale) {
    size_t run = start / inner, end = (run + 1) * inner - start;
    for (size_t i = 0; i < n; run++, end += inner) {
        const FC_T factor = mask[run / 8] >> run % 8 & 1 ? scale : (FC_T)0;
        if (end > n) end = n;
        for (; i < end; i++) out[i] = x[i] * factor;
    }
}

/* Mask and product of one run of elements in one pass. */
static void FC_NAME(dropout_forward)(const fc_philox_key *key, uint64_t element, uint32_t threshold,
                                     const FC_T *restrict x, FC_T *restrict out, uint8_t *restrict mask, size_t n,
                                     FC_T scale) {
    enum { BATCH = 256 };
    size_t i = 0;
    if (element % 8 == 0)
        i = 8 * FC_NAME(vector_blocks)(key, element / 8, n / 8, threshold, mask, x, out, scale);
    for (; i < n; i += BATCH) {
        const size_t count = n - i < BATCH ? n - i : BATCH;
        FC_NAME(dropout_bits)(key, element + i, count, threshold, mask + i / 8);
        FC_NAME(dropout_apply)(x + i, mask + i / 8, out + i, count, scale);
    }
}

#undef FC_W
#undef FC_U
#undef FC_SET1
#undef FC_ADD
#undef FC_MUL
#undef FC_HIGH
#undef FC_XOR
#undef FC_XOR3
#undef FC_CHAINS
