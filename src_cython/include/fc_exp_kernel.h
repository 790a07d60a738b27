/* exp for vectorised loops.
 *
 * float: x = n * ln 2 + r with |r| <= ln 2 / 2, exp(r) by the polynomial of Cephes' expf, then 2^n as two factors so that
 * results down to the smallest subnormal are right.  Error at most 1.5 ulp over all floats (2 ulp without FMA, 1 unit of
 * the subnormal spacing there); exp(-inf) = 0, overflow gives inf, NaN stays NaN.
 * double: the C library's. */

#if FC_TBYTES == 4
FC_INLINE float FC_NAME(exp)(float x) {
    const float round = 12582912.0f; /* 1.5 * 2^23: adding it leaves the nearest integer in the low mantissa bits */
    const float ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
    int32_t shifted, round_bits, half, rest, low_bits, high_bits;
    float low, high, n, p, r;
    x = 89.0f < x ? 89.0f : x;
    x = -104.0f > x ? -104.0f : x;
    n = x * 1.44269504f + round;
    memcpy(&shifted, &n, 4);
    memcpy(&round_bits, &round, 4);
    n -= round;
    r = x - n * ln2_high - n * ln2_low;
    p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    half = (shifted - round_bits) >> 1;
    rest = (shifted - round_bits) - half;
    low_bits = (int32_t)((uint32_t)(half + 127) << 23);
    high_bits = (int32_t)((uint32_t)(rest + 127) << 23);
    memcpy(&low, &low_bits, 4);
    memcpy(&high, &high_bits, 4);
    return p * low * high;
}
#else
FC_INLINE double FC_NAME(exp)(double x) { return exp(x); }
#endif
