/* Compiles the template header named by FC_TEMPLATE once per instruction set and dtype.
 *
 *     #define FC_TEMPLATE "fc_xxx_kernel.h"
 *     #include "fc_for_each.h"
 *
 * The template sees FC_T (float, double), FC_TBYTES, FC_VBYTES (vector bytes; sizeof(FC_T) where the compiler has no vector
 * extensions), FC_VL (lanes), FC_LEVEL (0, 1, 2) and FC_NAME(). */
#include "fc_isa.h"

/* FC_EMULATE_AVX512 compiles the AVX-512 level with its tile sizes and vector lengths but AVX2 instructions, so that a
 * machine without AVX-512 tests that code; for test builds only. */

#define FC_LEVEL 0
#define FC_ISA_SUFFIX baseline
#if defined(__GNUC__) || defined(__clang__)
#define FC_VBYTES 16
#endif
#include "fc_for_each_dtype.h"
#undef FC_LEVEL
#undef FC_ISA_SUFFIX
#undef FC_VBYTES

#if FC_HAVE_X86

#define FC_LEVEL 1
#define FC_ISA_SUFFIX avx2
#define FC_VBYTES 32
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,bmi,bmi2"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,bmi,bmi2")
#endif
#include "fc_for_each_dtype.h"
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#undef FC_LEVEL
#undef FC_ISA_SUFFIX
#undef FC_VBYTES

#define FC_LEVEL 2
#define FC_ISA_SUFFIX avx512
#define FC_VBYTES 64
#if defined(__clang__)
#ifdef FC_EMULATE_AVX512
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,bmi,bmi2"))), apply_to = function)
#else
#pragma clang attribute push( \
    __attribute__((target("avx2,fma,f16c,bmi,bmi2,avx512f,avx512bw,avx512dq,avx512vl"))), apply_to = function)
#endif
#else
#pragma GCC push_options
#ifdef FC_EMULATE_AVX512
#pragma GCC target("avx2,fma,f16c,bmi,bmi2")
#else
#pragma GCC target("avx2,fma,f16c,bmi,bmi2,avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")
#endif
#endif
#include "fc_for_each_dtype.h"
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#undef FC_LEVEL
#undef FC_ISA_SUFFIX
#undef FC_VBYTES

#endif

#undef FC_TEMPLATE
