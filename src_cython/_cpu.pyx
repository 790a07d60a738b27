# cython: language_level=3
"""What the CPU and this build can do."""

cdef extern from "fc_isa.h":
    int fc_isa_best() nogil

cdef extern from "fc_threads.h":
    const char *FC_COMPILER
    int FC_HAVE_OPENMP
    int fc_openmp_max_threads() nogil

MAX_THREADS = 1024
WORKSPACE_BYTES = 16 << 20
HAVE_OPENMP = bool(FC_HAVE_OPENMP)
COMPILER = FC_COMPILER.decode()


def best_isa():
    """Highest instruction-set level: 0 baseline, 1 AVX2 + FMA, 2 AVX-512."""
    return fc_isa_best()


def openmp_max_threads():
    """Threads OpenMP would use; 1 without OpenMP."""
    return fc_openmp_max_threads()
