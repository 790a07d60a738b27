# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Memory of large results, kept for the next one when an array dies.

The operating system hands out pages on first touch, zeroed, at a price that often exceeds the kernel's own time, and
takes them back as soon as a large block is freed.  So large results have an allocator of their own (NEP 49): arrays that
own their data like any other, whose memory goes to a cache of bounded size and from there to the next result of its
size.  Least recently used blocks leave first.

NumPy calls an allocator with the interpreter lock held, which guards the cache against other threads and forks.
"""

from libc.string cimport memcpy, memmove, memset

cimport numpy
from fc_memory cimport fc_block_class, fc_block_delete, fc_block_new, fc_block_of

from cpython.pycapsule cimport PyCapsule_New
cdef extern from "numpy/arrayobject.h":
    ctypedef struct PyArray_Descr:
        pass
    int PyArray_DescrConverter(object value, PyArray_Descr **descr) except 0
    object PyArray_Empty(int n_dims, numpy.npy_intp *dims, PyArray_Descr *descr, int fortran)
    void PyDimMem_FREE(numpy.npy_intp *dims)

numpy.import_array()

cdef enum:
    LEAST_BYTES = 1 << 18  # below, the C library keeps the pages itself
    SLOTS = 1024

cdef struct Kept:
    void *memory
    size_t nbytes

cdef Kept[SLOTS] kept  # oldest first
cdef Py_ssize_t n_kept = 0
cdef size_t kept_total = 0, kept_limit = 256 << 20


cdef void *take(Py_ssize_t i) noexcept:
    """Remove a block from the cache."""
    global n_kept, kept_total
    cdef void *memory = kept[i].memory
    n_kept -= 1
    kept_total -= kept[i].nbytes
    memmove(&kept[i], &kept[i + 1], (n_kept - i) * sizeof(Kept))
    return memory


cdef void shrink(size_t nbytes) noexcept:
    """Free the oldest blocks until the others hold at most ``nbytes``."""
    while kept_total > nbytes:
        fc_block_delete(take(0))


cdef void *result_malloc(void *context, size_t nbytes) noexcept:
    cdef Py_ssize_t i
    cdef void *memory
    nbytes = fc_block_class(nbytes)
    for i in range(n_kept - 1, -1, -1):  # the newest may still be in the processor's caches
        if kept[i].nbytes == nbytes:
            return take(i)
    memory = fc_block_new(nbytes)
    if memory == NULL:
        shrink(0)
        memory = fc_block_new(nbytes)
    return memory


cdef void result_free(void *context, void *memory, size_t nbytes) noexcept:
    global n_kept, kept_total
    if memory == NULL:
        return
    nbytes = fc_block_of(memory).nbytes  # NumPy's own count is that of the array
    if nbytes > kept_limit:
        fc_block_delete(memory)
        return
    shrink(kept_limit - nbytes)
    if n_kept == SLOTS:
        fc_block_delete(take(0))
    kept[n_kept] = Kept(memory, nbytes)
    n_kept += 1
    kept_total += nbytes


cdef void *result_calloc(void *context, size_t count, size_t size) noexcept:
    cdef void *memory = NULL if size and count > <size_t>-1 // size else result_malloc(context, count * size)
    if memory != NULL:
        memset(memory, 0, count * size)
    return memory


cdef void *result_realloc(void *context, void *memory, size_t nbytes) noexcept:
    cdef void *grown
    if memory != NULL and nbytes <= fc_block_of(memory).nbytes:
        return memory
    grown = result_malloc(context, nbytes)
    if memory != NULL and grown != NULL:
        memcpy(grown, memory, fc_block_of(memory).nbytes)
        result_free(context, memory, 0)
    return grown


cdef numpy.PyDataMem_Handler handler
memcpy(handler.name, b"fastconv", len(b"fastconv"))  # into zeroed static memory
handler.version = 1
handler.allocator = numpy.PyDataMemAllocator(NULL, result_malloc, result_calloc, result_realloc, result_free)
cdef object results = PyCapsule_New(&handler, b"mem_handler", NULL)


def empty(shape, dtype=float):
    """``numpy.empty(shape, dtype)``, in memory of an earlier result where it is large."""
    cdef numpy.PyArray_Dims dims
    cdef PyArray_Descr *reference  # the array takes it over from the converter
    cdef double nbytes  # which does not overflow
    numpy.PyArray_IntpConverter(shape, &dims)
    try:
        PyArray_DescrConverter(dtype, &reference)
        nbytes = (<numpy.dtype> reference).itemsize
        for i in range(dims.len):
            nbytes *= dims.ptr[i]
        if nbytes < LEAST_BYTES:
            return PyArray_Empty(dims.len, dims.ptr, reference, 0)
        former = numpy.PyDataMem_SetHandler(results)
        try:
            return PyArray_Empty(dims.len, dims.ptr, reference, 0)
        finally:
            numpy.PyDataMem_SetHandler(former)
    finally:
        PyDimMem_FREE(dims.ptr)


def limit():
    """Most bytes that are kept."""
    return kept_limit


def set_limit(size_t nbytes):
    """Keep at most ``nbytes`` from now on."""
    global kept_limit
    kept_limit = nbytes
    shrink(nbytes)


def held():
    """Bytes kept now."""
    return kept_total


def release():
    """Give all that is kept back."""
    shrink(0)
