/* The first two moments of a run, for batch normalisation and statistics. */

#undef FC_PARTS
#undef FC_LANES
#undef FC_WIDEN
#undef FC_TILE
/* Vectors of doubles by name: left to itself the compiler makes one sum wait for the other, or keeps them in memory.
 * FC_PARTS of them stay in registers, as many columns or as many interleaved parts of a run. */
#define FC_PARTS 4
#ifdef FC_VBYTES
#define FC_LANES (FC_VBYTES / 8)
typedef double FC_NAME(lanes) __attribute__((vector_size(FC_VBYTES), aligned(8), may_alias));
typedef FC_T FC_NAME(narrow) __attribute__((vector_size(FC_LANES * FC_TBYTES), aligned(FC_TBYTES), may_alias));
/* one instruction, that GCC 12 does not find in the general form */
#if defined(__SSE2__) && FC_TBYTES == 4 && FC_LEVEL == 0
#define FC_WIDEN(p) ((FC_NAME(lanes))_mm_cvtps_pd(_mm_loadl_pi(_mm_setzero_ps(), (const __m64 *)(p))))
#elif FC_HAVE_X86 && FC_TBYTES == 4 && FC_LEVEL == 1
#define FC_WIDEN(p) ((FC_NAME(lanes))_mm256_cvtps_pd(_mm_loadu_ps(p)))
#elif FC_HAVE_X86 && FC_TBYTES == 4 && FC_LEVEL == 2 && !defined(FC_EMULATE_AVX512)
#define FC_WIDEN(p) ((FC_NAME(lanes))_mm512_cvtps_pd(_mm256_loadu_ps(p)))
#else
#define FC_WIDEN(p) __builtin_convertvector(*(const FC_NAME(narrow) *)(p), FC_NAME(lanes))
#endif
#else
#define FC_LANES 1
typedef double FC_NAME(lanes);
#define FC_WIDEN(p) ((double)*(p))
#endif
#define FC_TILE (FC_PARTS * FC_LANES)

FC_INLINE double FC_NAME(fold)(const FC_NAME(lanes) *part) {
    double lane[FC_TILE];
    memcpy(lane, part, sizeof lane);
    for (int width = FC_TILE / 2; width > 0; width /= 2)
        for (int k = 0; k < width; k++) lane[k] += lane[k + width];
    return lane[0];
}

/* Adds the sums of x - shift and of its square to moment[0] and moment[1]. */
static void FC_NAME(moments_run)(const FC_T *restrict x, size_t n, double shift, double *restrict moment) {
    FC_NAME(lanes) part[FC_PARTS] = {0}, square[FC_PARTS] = {0};
    double rest = 0, rest_square = 0;
    size_t i = 0;
    for (; i + FC_TILE <= n; i += FC_TILE)
        for (int k = 0; k < FC_PARTS; k++) {
            const FC_NAME(lanes) d = FC_WIDEN(x + i + k * FC_LANES) - shift;
            part[k] += d;
            square[k] += d * d;
        }
    for (; i < n; i++) {
        const double d = x[i] - shift;
        rest += d;
        rest_square += d * d;
    }
    moment[0] += FC_NAME(fold)(part) + rest;
    moment[1] += FC_NAME(fold)(square) + rest_square;
}
