/* What an array holds: moments, extremes, zeros, denormals, non-finite values and a histogram, in one pass over memory.
 *
 * A chunk is small enough to stay in the first cache while the loops below go over it in turn.  Bits are looked at as
 * integers, so that the answer does not depend on whether the processor takes denormals for zeros. */
#include "fc_moments_kernel.h"

#define FC_ABS_MASK ((FC_INT)(FC_TBYTES == 4 ? 0x7fffffff : 0x7fffffffffffffff))
#define FC_LEAST_NORMAL ((FC_INT)(FC_TBYTES == 4 ? 0x00800000 : 0x0010000000000000))
#define FC_INFINITY ((FC_INT)(FC_TBYTES == 4 ? 0x7f800000 : 0x7ff0000000000000))
#define FC_WIDTH 16 /* independent minima, maxima and counts: a few vectors of any instruction set */

FC_INLINE FC_INT FC_NAME(bits_of)(const FC_T *x) {
    FC_INT bits;
    memcpy(&bits, x, sizeof bits);
    return bits;
}

/* Sign, exponent and two mantissa bits of a value as float32 has them: 11 bits.  Doubles beyond float32's range take the
 * key next to it. */
FC_INLINE size_t FC_NAME(key_of)(FC_INT bits) {
#if FC_TBYTES == 4
    return (uint32_t)bits >> 21;
#else
    const int64_t magnitude = (bits & FC_ABS_MASK) >> 50, sign = bits < 0 ? FC_KEYS / 2 : 0;
    int64_t key = magnitude - 4 * (1023 - 127);
    if (magnitude >= FC_INFINITY >> 50)
        key = FC_KEYS / 2 - 1;
    else if (key >= FC_KEYS / 2 - 4)
        key = FC_KEYS / 2 - 5;
    else if (key < 0)
        key = 0;
    return (size_t)(sign + key);
#endif
}

static void FC_NAME(count_keys)(const FC_T *restrict x, size_t n, uint32_t (*restrict table)[FC_KEYS]) {
    size_t i = 0;
    for (; i + FC_TABLES <= n; i += FC_TABLES)
        for (int k = 0; k < FC_TABLES; k++) table[k][FC_NAME(key_of)(FC_NAME(bits_of)(x + i + k))]++;
    for (; i < n; i++) table[0][FC_NAME(key_of)(FC_NAME(bits_of)(x + i))]++;
}

/* Extremes, and how many are zero, or zero or denormal ("tiny"). */
static void FC_NAME(extremes)(const FC_T *restrict x, size_t n, double *low, double *high, int64_t *zeros,
                              int64_t *tiny) {
    FC_T least[FC_WIDTH], most[FC_WIDTH];
    FC_INT zero[FC_WIDTH], small[FC_WIDTH];
    for (int k = 0; k < FC_WIDTH; k++) {
        least[k] = most[k] = x[0];
        zero[k] = small[k] = 0;
    }
    size_t i = 0;
    for (; i + FC_WIDTH <= n; i += FC_WIDTH)
        for (int k = 0; k < FC_WIDTH; k++) {
            const FC_INT magnitude = FC_NAME(bits_of)(x + i + k) & FC_ABS_MASK;
            least[k] = x[i + k] < least[k] ? x[i + k] : least[k];
            most[k] = x[i + k] > most[k] ? x[i + k] : most[k];
            zero[k] += magnitude == 0;
            small[k] += magnitude < FC_LEAST_NORMAL;
        }
    for (; i < n; i++) {
        const FC_INT magnitude = FC_NAME(bits_of)(x + i) & FC_ABS_MASK;
        least[0] = x[i] < least[0] ? x[i] : least[0];
        most[0] = x[i] > most[0] ? x[i] : most[0];
        zero[0] += magnitude == 0;
        small[0] += magnitude < FC_LEAST_NORMAL;
    }
    *low = least[0];
    *high = most[0];
    for (int k = 0; k < FC_WIDTH; k++) {
        *low = least[k] < *low ? least[k] : *low;
        *high = most[k] > *high ? most[k] : *high;
        *zeros += zero[k];
        *tiny += small[k];
    }
}

/* As `moments_run` and `extremes`, of the finite elements alone, one by one: rare. */
static fc_moments FC_NAME(finite_moments)(const FC_T *restrict x, size_t n) {
    fc_moments m = FC_NO_MOMENTS;
    for (size_t i = 0; i < n; i++) {
        if ((FC_NAME(bits_of)(x + i) & FC_ABS_MASK) >= FC_INFINITY)
            continue;
        const fc_moments one = {1, x[i], 0, x[i], x[i]};
        fc_merge_moments(&m, &one);
    }
    return m;
}

static void FC_NAME(collect)(const FC_T *restrict x, size_t n, fc_statistics *restrict s) {
    uint32_t table[FC_TABLES][FC_KEYS];
    memset(table, 0, sizeof table);
    for (size_t at = 0; at < n; at += FC_CHUNK) {
        const size_t count = n - at < FC_CHUNK ? n - at : FC_CHUNK;
        const FC_T *chunk = x + at;
        FC_NAME(count_keys)(chunk, count, table);
        fc_moments m = FC_NO_MOMENTS;
        int64_t tiny = 0;
        FC_NAME(extremes)(chunk, count, &m.low, &m.high, &s->zeros, &tiny);
        s->tiny += tiny;
        double moment[2] = {0, 0};
        FC_NAME(moments_run)(chunk, count, chunk[0], moment);
        if (moment[1] - moment[1] == 0) { /* neither infinite nor NaN: nor is any element */
            m.count = (double)count;
            m.mean = chunk[0] + moment[0] / m.count;
            m.square = moment[1] - moment[0] * moment[0] / m.count;
            m.square = m.square > 0 ? m.square : 0;
        } else
            m = FC_NAME(finite_moments)(chunk, count);
        fc_merge_moments(&s->moments, &m);
    }
    for (int k = 0; k < FC_KEYS; k++)
        for (int t = 0; t < FC_TABLES; t++) s->histogram[k] += table[t][k];
}

#undef FC_ABS_MASK
#undef FC_LEAST_NORMAL
#undef FC_INFINITY
#undef FC_WIDTH
