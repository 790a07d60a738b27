/* Vectors as the pooling templates see them: arithmetic on FC_VL lanes, on one lane where the compiler has no vectors.
 *
 * A stride-2 load takes the even elements of 2 * FC_VL - 1 consecutive ones with one in-lane shuffle, which leaves them
 * out of order between 128-bit lanes; P_SETTLE restores the order once, after all taps have been combined. */

#define P_VEC FC_NAME(fc_pool_vec)
#define P_IVEC FC_NAME(fc_pool_ivec)
#define P_LVEC FC_NAME(fc_pool_lvec)
/* The same in memory, where they need no alignment beyond an element's. */
#define P_VEC_MEM FC_NAME(fc_pool_vec_mem)
#define P_IVEC_MEM FC_NAME(fc_pool_ivec_mem)
#define P_LVEC_MEM FC_NAME(fc_pool_lvec_mem)

#define P_LOAD(p) (*(const P_VEC_MEM *)(p))
#define P_ILOAD(p) (*(const P_IVEC_MEM *)(p))

#if FC_VL > 1

typedef FC_T P_VEC __attribute__((vector_size(FC_VBYTES)));
typedef FC_INT P_IVEC __attribute__((vector_size(FC_VBYTES)));
typedef int64_t P_LVEC __attribute__((vector_size(FC_VL * 8)));
typedef FC_T P_VEC_MEM __attribute__((vector_size(FC_VBYTES), aligned(sizeof(FC_T)), may_alias));
typedef FC_INT P_IVEC_MEM __attribute__((vector_size(FC_VBYTES), aligned(sizeof(FC_T)), may_alias));
typedef int64_t P_LVEC_MEM __attribute__((vector_size(FC_VL * 8), aligned(8), may_alias));

#define P_SPLAT(x) ((P_VEC){0} + (FC_T)(x))
#define P_ISPLAT(x) ((P_IVEC){0} + (FC_INT)(x))
#define P_LSPLAT(x) ((P_LVEC){0} + (int64_t)(x))
#define P_SELECT(mask, a, b) ((P_VEC)(((mask) & (P_IVEC)(a)) | (~(mask) & (P_IVEC)(b))))
#define P_ISELECT(mask, a, b) (((mask) & (a)) | (~(mask) & (b)))
#define P_WIDEN(code) __builtin_convertvector(code, P_LVEC)
#define P_LANE(v, l) ((v)[l])

#if defined(__clang__) || __GNUC__ >= 12
#define P_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define P_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (P_IVEC){__VA_ARGS__})
#endif

#if FC_VL == 2
#define P_EVEN 0, 3
#define P_ZIP_LO 0, 2
#define P_ZIP_HI 1, 3
#elif FC_VL == 4 && FC_VBYTES == 16
#define P_EVEN 0, 2, 5, 7
#define P_ZIP_LO 0, 4, 1, 5
#define P_ZIP_HI 2, 6, 3, 7
#elif FC_VL == 4
#define P_EVEN 0, 5, 2, 7
#define P_ORDER 0, 2, 1, 3
#define P_ZIP_LO 0, 4, 1, 5
#define P_ZIP_HI 2, 6, 3, 7
#elif FC_VL == 8 && FC_VBYTES == 32
#define P_EVEN 0, 2, 9, 11, 4, 6, 13, 15
#define P_ORDER 0, 1, 4, 5, 2, 3, 6, 7
#define P_ZIP_LO 0, 8, 1, 9, 2, 10, 3, 11
#define P_ZIP_HI 4, 12, 5, 13, 6, 14, 7, 15
#elif FC_VL == 8
#define P_EVEN 0, 9, 2, 11, 4, 13, 6, 15
#define P_ORDER 0, 2, 4, 6, 1, 3, 5, 7
#define P_ZIP_LO 0, 8, 1, 9, 2, 10, 3, 11
#define P_ZIP_HI 4, 12, 5, 13, 6, 14, 7, 15
#else
#define P_EVEN 0, 2, 17, 19, 4, 6, 21, 23, 8, 10, 25, 27, 12, 14, 29, 31
#define P_ORDER 0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15
#define P_ZIP_LO 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define P_ZIP_HI 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#endif

/* Vectors of either element type; `stride` is that of the loads. */
#ifdef P_ORDER
#define P_SETTLE(v, stride)                  \
    do {                                     \
        if ((stride) == 2)                   \
            (v) = P_SHUFFLE(v, v, P_ORDER);  \
    } while (0)
#else
#define P_SETTLE(v, stride) ((void)0)
#endif

FC_INLINE P_VEC FC_NAME(fc_pool_load_strided)(const FC_T *p, int64_t stride) {
    if (stride == 1)
        return P_LOAD(p);
    if (stride == 2) {
        P_VEC a = P_LOAD(p), b = P_LOAD(p + FC_VL - 1);
        return P_SHUFFLE(a, b, P_EVEN);
    }
    P_VEC v;
    for (int l = 0; l < FC_VL; l++)
        v[l] = p[l * stride];
    return v;
}

#else

typedef FC_T P_VEC;
typedef FC_INT P_IVEC;
typedef int64_t P_LVEC;
typedef FC_T P_VEC_MEM;
typedef FC_INT P_IVEC_MEM;
typedef int64_t P_LVEC_MEM;

#define P_SPLAT(x) ((FC_T)(x))
#define P_ISPLAT(x) ((FC_INT)(x))
#define P_LSPLAT(x) ((int64_t)(x))
#define P_SELECT(mask, a, b) ((mask) ? (a) : (b))
#define P_ISELECT(mask, a, b) ((mask) ? (a) : (b))
#define P_WIDEN(code) ((int64_t)(code))
#define P_LANE(v, l) (v)
#define P_SETTLE(v, stride) ((void)0)

FC_INLINE P_VEC FC_NAME(fc_pool_load_strided)(const FC_T *p, int64_t stride) {
    (void)stride;
    return *p;
}

#endif

#define P_LOAD_STRIDED FC_NAME(fc_pool_load_strided)

/* Lanes where x takes over from m: PyTorch's rule, strictly larger or NaN. */
#define P_TAKES(x, m) (((x) > (m)) | ((x) != (x)))

/* v to p, all of it where the caller may write that far, else its first n lanes.  Tails are rare and take v by value: an
 * inlined copy would keep every v in memory. */
static FC_COLD void FC_NAME(fc_pool_store_tail)(FC_T *p, P_VEC v, int64_t n) { memcpy(p, &v, (size_t)n * sizeof(FC_T)); }
static FC_COLD void FC_NAME(fc_pool_store_itail)(FC_INT *p, P_IVEC v, int64_t n) {
    memcpy(p, &v, (size_t)n * sizeof(FC_INT));
}
static FC_COLD void FC_NAME(fc_pool_store_ltail)(int64_t *p, P_LVEC v, int64_t n) { memcpy(p, &v, (size_t)n * 8); }

FC_INLINE void FC_NAME(fc_pool_store)(FC_T *p, P_VEC v, int whole, int64_t n) {
    if (whole)
        *(P_VEC_MEM *)p = v;
    else
        FC_NAME(fc_pool_store_tail)(p, v, n);
}
FC_INLINE void FC_NAME(fc_pool_store_i)(FC_INT *p, P_IVEC v, int whole, int64_t n) {
    if (whole)
        *(P_IVEC_MEM *)p = v;
    else
        FC_NAME(fc_pool_store_itail)(p, v, n);
}
FC_INLINE void FC_NAME(fc_pool_store_l)(int64_t *p, P_LVEC v, int whole, int64_t n) {
    if (whole)
        *(P_LVEC_MEM *)p = v;
    else
        FC_NAME(fc_pool_store_ltail)(p, v, n);
}
#define P_STORE FC_NAME(fc_pool_store)
#define P_ISTORE FC_NAME(fc_pool_store_i)
#define P_LSTORE FC_NAME(fc_pool_store_l)

/* dst[0:n] = src[0:n] without the cost of a library call on the short rows of late feature maps. */
FC_INLINE void FC_NAME(fc_pool_copy_row)(FC_T *restrict dst, const FC_T *restrict src, int64_t n) {
    const int64_t piece = 16 / (int64_t)sizeof(FC_T);
    int64_t i = 0;
    for (; i + FC_VL <= n; i += FC_VL) {
        FC_KEEP_LOOP();
        *(P_VEC_MEM *)(dst + i) = P_LOAD(src + i);
    }
    if (i < n && n >= FC_VL) {
        *(P_VEC_MEM *)(dst + n - FC_VL) = P_LOAD(src + n - FC_VL);
    } else if (i < n && n >= piece) {
        for (; i + piece <= n; i += piece)
            memcpy(dst + i, src + i, 16);
        memcpy(dst + n - piece, src + n - piece, 16);
    } else {
        for (; i < n; i++)
            dst[i] = src[i];
    }
}
#define P_COPY_ROW FC_NAME(fc_pool_copy_row)

/* Transposes FC_VL vectors: each round interleaves the two halves of all. */
FC_INLINE void FC_NAME(fc_pool_transpose)(P_VEC *v) {
#if FC_VL > 1
    P_VEC t[FC_VL];
    for (int round = 1; round < FC_VL; round *= 2) {
        for (int i = 0; i < FC_VL / 2; i++) {
            t[2 * i] = P_SHUFFLE(v[i], v[i + FC_VL / 2], P_ZIP_LO);
            t[2 * i + 1] = P_SHUFFLE(v[i], v[i + FC_VL / 2], P_ZIP_HI);
        }
        for (int i = 0; i < FC_VL; i++)
            v[i] = t[i];
    }
#else
    (void)v;
#endif
}
