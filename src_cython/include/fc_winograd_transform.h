/* One-dimensional Winograd transforms of vectors of tiles, channels or filters; tables in fc_winograd_tables.h.
 *
 * `expand` multiplies by a matrix (tiles by B^T, filters by G, output gradients by A), `collapse` by its transpose (sums by
 * A^T, or by G^T for the weight gradient).  All sizes and tables are constants at the call, so zeros and ones cost
 * nothing. */

/* Sum of table[j] * in[j * stride] over j = first, first + step, ... < n. */
FC_INLINE FC_TV FC_NAME(winograd_dot)(const double *table, const int first, const int step, const int n, const FC_TV *in,
                                      const int stride) {
    FC_TV sum = {0};
    int any = 0;
#pragma GCC unroll 8
    for (int j = first; j < n; j += step)
        if (table[j] != 0) {
            FC_TV term = in[j * stride];
            if (table[j] != 1)
                term *= (FC_T)table[j];
            if (any)
                term += sum;
            sum = term;
            any = 1;
        }
    return sum;
}

/* out[0..alpha) = matrix * in[0..n), elements `stride` apart in both. */
FC_INLINE void FC_NAME(winograd_expand)(fc_table *table, const int n, const int alpha, const FC_TV *in, const int in_stride,
                                        FC_TV *out, const int out_stride) {
    const int pairs = (alpha - 1) / 2;
    out[0] = FC_NAME(winograd_dot)(table[0], 0, 1, n, in, in_stride);
#pragma GCC unroll 4
    for (int i = 0; i < pairs; i++) {
        const FC_TV even = FC_NAME(winograd_dot)(table[i + 1], 0, 2, n, in, in_stride);
        const FC_TV odd = FC_NAME(winograd_dot)(table[i + 1], 1, 2, n, in, in_stride);
        out[(2 * i + 1) * out_stride] = even + odd;
        out[(2 * i + 2) * out_stride] = even - odd;
    }
    if (alpha > 1)
        out[(alpha - 1) * out_stride] = FC_NAME(winograd_dot)(table[pairs + 1], 0, 1, n, in, in_stride);
}

/* out[0..n) = transposed matrix * in[0..alpha). */
FC_INLINE void FC_NAME(winograd_collapse)(fc_table *table, const int n, const int alpha, const FC_TV *in,
                                          const int in_stride, FC_TV *out, const int out_stride) {
    const int pairs = (alpha - 1) / 2;
    FC_TV part[3]; /* sums, then differences, of the pairs */
    double column[3];
#pragma GCC unroll 2
    for (int parity = 0; parity < 2; parity++) {
#pragma GCC unroll 4
        for (int i = 0; i < pairs; i++) {
            const FC_TV plus = in[(2 * i + 1) * in_stride], minus = in[(2 * i + 2) * in_stride];
            part[i] = plus + minus;
            if (parity)
                part[i] = plus - minus;
        }
#pragma GCC unroll 8
        for (int j = parity; j < n; j += 2) {
#pragma GCC unroll 4
            for (int i = 0; i < pairs; i++)
                column[i] = table[i + 1][j];
            FC_TV sum = FC_NAME(winograd_dot)(column, 0, 1, pairs, part, 1);
            if (table[0][j] != 0)
                sum = sum + in[0] * (FC_T)table[0][j];
            if (alpha > 1 && table[pairs + 1][j] != 0)
                sum = sum + in[(alpha - 1) * in_stride] * (FC_T)table[pairs + 1][j];
            out[j * out_stride] = sum;
        }
    }
}
