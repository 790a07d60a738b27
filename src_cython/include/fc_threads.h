/* OpenMP where the build has it, one thread where not. */
#ifndef FC_THREADS_H
#define FC_THREADS_H

#ifdef _OPENMP
#include <omp.h>
#define FC_HAVE_OPENMP 1
static inline int fc_openmp_max_threads(void) { return omp_get_max_threads(); }
static inline int fc_thread_id(void) { return omp_get_thread_num(); }
#else
#define FC_HAVE_OPENMP 0
static inline int fc_openmp_max_threads(void) { return 1; }
static inline int fc_thread_id(void) { return 0; }
#endif

#if defined(__clang__)
#define FC_COMPILER "clang " __clang_version__
#elif defined(__GNUC__)
#define FC_COMPILER "gcc " __VERSION__
#elif defined(_MSC_VER)
#define FC_STR_(x) #x
#define FC_STR(x) FC_STR_(x)
#define FC_COMPILER "msvc " FC_STR(_MSC_VER)
#else
#define FC_COMPILER "unknown"
#endif

#endif
