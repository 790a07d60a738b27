/* Statistics of an array with their run-time choice. */
#ifndef FC_STATISTICS_H
#define FC_STATISTICS_H

#include "fc_call.h"

#include <math.h>

#if FC_HAVE_X86
#include <immintrin.h>
#endif

#define FC_KEYS 2048  /* of sign, eight bits of exponent and two of mantissa */
#define FC_TABLES 4   /* neighbours count in different tables: an equal key need not wait for the store before it */
#define FC_CHUNK 4096 /* elements */

/* Of finite elements; `square` is the sum of squared distances from the mean. */
typedef struct {
    double count, mean, square, low, high;
} fc_moments;

static const fc_moments FC_NO_MOMENTS = {0, 0, 0, INFINITY, -INFINITY};

typedef struct {
    fc_moments moments;
    int64_t zeros, tiny; /* tiny: zero or denormal */
    int64_t histogram[FC_KEYS];
} fc_statistics;

/* Chan, Golub, LeVeque: Updating formulae and a pairwise algorithm for computing sample variances, 1979. */
static inline void fc_merge_moments(fc_moments *into, const fc_moments *other) {
    if (other->count == 0)
        return;
    if (into->count == 0) {
        *into = *other;
        return;
    }
    const double count = into->count + other->count;
    const double gap = other->mean - into->mean;
    into->mean += gap * (other->count / count);
    into->square += other->square + gap * gap * (into->count * other->count / count);
    into->count = count;
    into->low = other->low < into->low ? other->low : into->low;
    into->high = other->high > into->high ? other->high : into->high;
}

#define FC_TEMPLATE "fc_statistics_kernel.h"
#include "fc_for_each.h"

FC_ENTRY(collect, (x, n, s), const void *x, size_t n, fc_statistics *s)

#endif
