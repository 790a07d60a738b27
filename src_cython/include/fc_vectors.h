/* Vector types of a build: FC_V as long as the level has them (FC_VL lanes), FC_TV for work on small square blocks
 * (GEMM_TW lanes).  Both may lie anywhere in memory. */

#undef GEMM_TW
#undef GEMM_TBYTES
#undef FC_V
#undef FC_IV
#undef FC_TV
#define FC_V FC_NAME(fc_vec)
#define FC_TV FC_NAME(fc_tvec)
#if FC_VL == 1
#define GEMM_TW 1
typedef FC_T FC_V;
typedef FC_T FC_TV;
#else
typedef FC_T FC_V __attribute__((vector_size(FC_VBYTES), aligned(sizeof(FC_T)), may_alias));
#define FC_IV FC_NAME(fc_ivec)
typedef FC_INT FC_IV __attribute__((vector_size(FC_VBYTES), aligned(sizeof(FC_T)), may_alias));
/* Transposition works on blocks of GEMM_TW x GEMM_TW in vectors of 32 bytes, 16 in the baseline. */
#if FC_LEVEL >= 1
#define GEMM_TBYTES 32
#else
#define GEMM_TBYTES 16
#endif
#define GEMM_TW (GEMM_TBYTES / FC_TBYTES)
typedef FC_T FC_TV __attribute__((vector_size(GEMM_TBYTES), aligned(sizeof(FC_T)), may_alias));
typedef FC_INT FC_NAME(fc_tint) __attribute__((vector_size(GEMM_TBYTES)));
#endif
