/* Inner half of fc_for_each.h: one inclusion of FC_TEMPLATE per dtype. */
#define FC_T float
#define FC_TBYTES 4
#define FC_INT int32_t
#define FC_DTYPE_SUFFIX _f32
#ifdef FC_VBYTES
#define FC_VL (FC_VBYTES / 4)
#else
#define FC_VL 1
#endif
#include FC_TEMPLATE
#undef FC_T
#undef FC_TBYTES
#undef FC_INT
#undef FC_DTYPE_SUFFIX
#undef FC_VL

#define FC_T double
#define FC_TBYTES 8
#define FC_INT int64_t
#define FC_DTYPE_SUFFIX _f64
#ifdef FC_VBYTES
#define FC_VL (FC_VBYTES / 8)
#else
#define FC_VL 1
#endif
#include FC_TEMPLATE
#undef FC_T
#undef FC_TBYTES
#undef FC_INT
#undef FC_DTYPE_SUFFIX
#undef FC_VL
