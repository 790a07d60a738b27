cdef extern from "fc_epilogue.h" nogil:
    ctypedef struct fc_epilogue:
        const void *bias
        const void *residual
        int activation
        double slope
