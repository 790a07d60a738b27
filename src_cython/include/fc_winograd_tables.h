/* Matrices of the one-dimensional Winograd algorithms F(m, 3), in the form fc_winograd_transform.h reads.
 *
 * The interpolation points are 0, pairs +p and -p, and infinity.  What a matrix does at +p and at -p differs only in the
 * sign of its odd columns, so a table holds one row for 0, one for each pair and one for infinity.
 *
 *   B (of tiles)    at p: coefficients of prod over the other points q of (x - q); at infinity: of prod over all (x - q)
 *   G (of filters)  at p: 1, p, p^2 over prod (p - q); at infinity: 0, 0, 1
 *   A (of outputs)  at p: 1, p, p^2 ...; at infinity: 0, ..., 0, 1
 *
 * F(4, 3) takes +-5/8 and +-3/2, whose rounding error is about a quarter of that at +-1 and +-2 for the same work. */
#ifndef FC_WINOGRAD_TABLES_H
#define FC_WINOGRAD_TABLES_H

typedef const double fc_table[8];

/* A dimension of one tap and one position: nothing to do. */
static FC_UNUSED fc_table fc_winograd_1[] = {{1}};

/* F(2, 3) at 1. */
static FC_UNUSED fc_table fc_winograd_b2[] = {{-1, 0, 1}, {0, 1, 1}, {0, -1, 0, 1}};
static FC_UNUSED fc_table fc_winograd_g2[] = {{-1}, {.5, .5, .5}, {0, 0, 1}};
static FC_UNUSED fc_table fc_winograd_a2[] = {{1}, {1, 1}, {0, 1}};

/* F(4, 3) at p and q. */
#define P .625
#define Q 1.5
#define PP (P * P)
#define QQ (Q * Q)
static FC_UNUSED fc_table fc_winograd_b4[] = {{PP * QQ, 0, -PP - QQ, 0, 1},
                                              {0, -P *QQ, -QQ, P, 1},
                                              {0, -Q *PP, -PP, Q, 1},
                                              {0, PP *QQ, 0, -PP - QQ, 0, 1}};
#define NP (2 * PP * (PP - QQ))
#define NQ (2 * QQ * (QQ - PP))
static FC_UNUSED fc_table fc_winograd_g4[] = {
    {1 / (PP * QQ)}, {1 / NP, P / NP, PP / NP}, {1 / NQ, Q / NQ, QQ / NQ}, {0, 0, 1}};
static FC_UNUSED fc_table fc_winograd_a4[] = {{1}, {1, P, PP, P *PP}, {1, Q, QQ, Q *QQ}, {0, 0, 0, 1}};
#undef P
#undef Q
#undef PP
#undef QQ
#undef NP
#undef NQ

/* F(6, 3) at 1, 2 and 1/2. */
static FC_UNUSED fc_table fc_winograd_b6[] = {{-1, 0, 5.25, 0, -5.25, 0, 1},
                                              {0, 1, 1, -4.25, -4.25, 1, 1},
                                              {0, .5, .25, -2.5, -1.25, 2, 1},
                                              {0, 2, 4, -2.5, -5, .5, 1},
                                              {0, -1, 0, 5.25, 0, -5.25, 0, 1}};
static FC_UNUSED fc_table fc_winograd_g6[] = {{-1},
                                              {-2. / 9, -2. / 9, -2. / 9},
                                              {1. / 90, 2. / 90, 4. / 90},
                                              {64. / 90, 32. / 90, 16. / 90},
                                              {0, 0, 1}};
static FC_UNUSED fc_table fc_winograd_a6[] = {
    {1}, {1, 1, 1, 1, 1, 1}, {1, 2, 4, 8, 16, 32}, {1, .5, .25, .125, .0625, .03125}, {0, 0, 0, 0, 0, 1}};

FC_INLINE fc_table *fc_winograd_b(const int m) {
    return m == 2 ? fc_winograd_b2 : m == 4 ? fc_winograd_b4 : m == 6 ? fc_winograd_b6 : fc_winograd_1;
}

FC_INLINE fc_table *fc_winograd_g(const int m) {
    return m == 2 ? fc_winograd_g2 : m == 4 ? fc_winograd_g4 : m == 6 ? fc_winograd_g6 : fc_winograd_1;
}

FC_INLINE fc_table *fc_winograd_a(const int m) {
    return m == 2 ? fc_winograd_a2 : m == 4 ? fc_winograd_a4 : m == 6 ? fc_winograd_a6 : fc_winograd_1;
}

#endif
