# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Pooling drivers: geometry, scratch memory, and the division of planes among threads.

What depends on a spec alone is done once, in the objects that drive its passes.  What a unit of work computes does not
depend on the cut into units, so results are the same bits for any number of threads.
"""

from cython cimport floating
from libc.stdint cimport int64_t, uint8_t, uint64_t, uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from fc_pool cimport *

include "arrays.pxi"
include "chunks.pxi"
include "tasks.pxi"


# ------------------------------------------------------------------------------------------------ windows


cdef struct Job:
    fc_pool_fn kernel
    const void *geometry
    const char *source
    const char *source_index
    char *target
    char *target_index
    int64_t units, chunks, scratch_bytes
    char *scratch


cdef void chunk_task(const void *shared, Py_ssize_t i) noexcept nogil:
    cdef const Job *job = <const Job *> shared
    cdef int64_t first = job.units * i // job.chunks, last = job.units * (i + 1) // job.chunks
    if first < last:
        job.kernel(
            job.geometry, job.source, job.source_index, job.target, job.target_index, first, last,
            job.scratch + i * job.scratch_bytes,
        )


cdef int run(
    fc_pool_fn kernel, const void *geometry, const char *source, const char *source_index, char *target,
    char *target_index, int64_t units, int64_t scratch_bytes, int64_t elements, int n_threads,
) except -1:
    cdef int64_t chunks = chunk_count(elements, n_threads)
    cdef char *memory
    cdef Job job
    scratch_bytes = (scratch_bytes + 127) // 64 * 64
    memory = <char *> malloc(chunks * scratch_bytes + 64)
    if memory == NULL:
        raise MemoryError(f"pooling needs {chunks * scratch_bytes} bytes of scratch memory")
    job = Job(
        kernel, geometry, source, source_index, target, target_index, units, chunks, scratch_bytes,
        memory + (64 - <uintptr_t> memory % 64),
    )
    run_tasks(chunk_task, &job, chunks, n_threads)
    free(memory)
    return 0


ctypedef int64_t (*ScratchBytes)(const fc_pool *, int64_t) noexcept nogil


cdef fc_pool geometry(spec) except *:
    cdef fc_pool g
    g.h, g.w = spec.in_size
    g.oh, g.ow = spec.out_size
    g.kh, g.kw = spec.kernel
    g.sh, g.sw = spec.stride
    g.dh, g.dw = spec.dilation
    g.ph, g.pw = spec.pad_lo
    g.ph_hi, g.pw_hi = spec.pad_hi
    # The stride between windows has no meaning for a single one, but would size scratch memory.
    if g.oh == 1:
        g.sh = 1
    if g.ow == 1:
        g.sw = 1
    g.divisor = 0 if spec.divisor_override is None else spec.divisor_override
    g.count_include_pad = spec.count_include_pad
    g.band = g.bands = 1
    return g


cdef class Planes:
    """What all pools of N * C planes have in common."""
    cdef int64_t planes, elements
    cdef size_t item, input_bytes, output_bytes

    def __init__(self, spec):
        rows, columns = spec.out_size
        self.item = 4 if spec.dtype == "float32" else 8
        self.planes = spec.batch * spec.channels
        self.elements = self.planes * spec.in_size[0] * spec.in_size[1]
        self.input_bytes = self.elements * self.item
        self.output_bytes = self.planes * rows * columns * self.item


cdef class Pool(Planes):
    """A max- or average-pooling, ready to be run on arrays."""
    cdef fc_pool g

    def __init__(self, spec):
        Planes.__init__(self, spec)
        self.g = geometry(spec)

    cdef int forward(
        self, fc_pool_fn kernel, input, output, char *indices, int64_t band, ScratchBytes scratch_bytes, int n_threads
    ) except -1:
        cdef fc_pool g = self.cut(self.g.oh, band, n_threads)
        return run(
            kernel, &g, read_from(input, self.input_bytes), NULL, write_to(output, self.output_bytes), indices,
            self.planes * g.bands, scratch_bytes(&g, self.item), self.elements, n_threads,
        )

    cdef int backward(
        self, fc_pool_fn kernel, grad_output, const char *offsets, grad_input, ScratchBytes scratch_bytes,
        int n_threads,
    ) except -1:
        cdef fc_pool g = self.cut(self.g.h, fc_pool_backward_band(&self.g, self.item), n_threads)
        return run(
            kernel, &g, read_from(grad_output, self.output_bytes), offsets, write_to(grad_input, self.input_bytes),
            NULL, self.planes * g.bands, scratch_bytes(&g, self.item), self.elements, n_threads,
        )

    cdef fc_pool cut(self, int64_t rows, int64_t band, int n_threads) noexcept:
        """Bands of at most ``band`` rows, smaller where there are fewer planes than it takes to feed the threads."""
        cdef fc_pool g = self.g
        if self.planes < 4 * n_threads:
            band = min(band, max(1, rows * self.planes // (4 * n_threads)))
        g.band = band
        g.bands = (rows + band - 1) // band
        return g

    def max_forward(self, input, output, indices, size_t index_item, int isa, int n_threads):
        """Maximum of every window; in ``indices``, unless None, where it is.

        That is a uint8 offset in the window or an int64 flat index in the plane (``index_item`` 1 or 8).
        """
        cdef bint wide = self.item == 8
        if not self.planes:
            return
        if indices is None:
            self.forward(
                pick_max_pool_values(isa, wide), input, output, NULL, fc_pool_forward_band(&self.g, self.item),
                fc_pool_values_scratch, n_threads,
            )
        else:
            self.forward(
                pick_max_pool_uint8(isa, wide) if index_item == 1 else pick_max_pool_int64(isa, wide), input, output,
                write_to(indices, self.output_bytes // self.item * index_item),
                fc_max_pool_forward_band(&self.g, self.item), fc_max_pool_forward_scratch, n_threads,
            )

    def max_backward(self, grad_output, offsets, grad_input, int isa, int n_threads):
        """Each gradient added at the uint8 offset in its window; an offset that no tap has adds nothing."""
        if self.planes:
            self.backward(
                pick_max_pool_backward(isa, self.item == 8), grad_output,
                read_from(offsets, self.output_bytes // self.item), grad_input, fc_max_pool_backward_scratch, n_threads,
            )

    def avg_forward(self, input, output, int isa, int n_threads):
        """Mean of every window."""
        if self.planes:
            self.forward(
                pick_avg_pool_values(isa, self.item == 8), input, output, NULL,
                fc_pool_forward_band(&self.g, self.item), fc_pool_values_scratch, n_threads,
            )

    def avg_backward(self, grad_output, grad_input, int isa, int n_threads):
        """Each gradient spread evenly over its window."""
        if self.planes:
            self.backward(
                pick_avg_pool_backward(isa, self.item == 8), grad_output, NULL, grad_input,
                fc_avg_pool_backward_scratch, n_threads,
            )


cdef class WindowPool(Planes):
    """A pooling over windows given by tables, ready to be run on arrays.

    ``tables`` holds start, end and count (what an average divides by) of the windows' rows, then of their columns, as
    int64 arrays; ``narrow`` has averages of several planes taken at once.
    """
    cdef fc_adaptive g
    cdef object tables  # which `g` points into
    cdef bint narrow
    cdef int64_t scratch_bytes

    def __init__(self, spec, tables, narrow):
        Planes.__init__(self, spec)
        self.tables, self.narrow = tables, narrow
        y0, y1, y_count, x0, x1, x_count = tables
        self.g.h, self.g.w = spec.in_size
        self.g.oh, self.g.ow = spec.out_size
        self.g.y0 = <const int64_t *> read_from(y0, self.g.oh * 8)
        self.g.y1 = <const int64_t *> read_from(y1, self.g.oh * 8)
        self.g.y_count = <const int64_t *> read_from(y_count, self.g.oh * 8)
        self.g.x0 = <const int64_t *> read_from(x0, self.g.ow * 8)
        self.g.x1 = <const int64_t *> read_from(x1, self.g.ow * 8)
        self.g.x_count = <const int64_t *> read_from(x_count, self.g.ow * 8)
        if narrow:
            self.scratch_bytes = FC_POOL_LANES * self.item * ((self.g.h + 1) * self.g.w + self.g.oh * self.g.ow)
        else:
            self.scratch_bytes = 2 * self.g.w * self.item

    def avg_forward(self, input, output, int isa, int n_threads):
        """Mean of every window."""
        cdef bint wide = self.item == 8
        if self.planes:
            run(
                pick_narrow_avg(isa, wide) if self.narrow else pick_adaptive_avg(isa, wide), &self.g,
                read_from(input, self.input_bytes), NULL, write_to(output, self.output_bytes), NULL, self.planes,
                self.scratch_bytes, self.elements, n_threads,
            )

    def avg_backward(self, grad_output, grad_input, int isa, int n_threads):
        """Each gradient spread evenly over its window."""
        cdef bint wide = self.item == 8
        if self.planes:
            run(
                pick_narrow_avg_backward(isa, wide) if self.narrow else pick_adaptive_avg_backward(isa, wide), &self.g,
                read_from(grad_output, self.output_bytes), NULL, write_to(grad_input, self.input_bytes), NULL,
                self.planes, self.scratch_bytes, self.elements, n_threads,
            )

    def max_forward(self, input, output, indices, int isa, int n_threads):
        """Maximum of every window and its int64 flat index in the plane."""
        if self.planes:
            run(
                pick_adaptive_max(isa, self.item == 8), &self.g, read_from(input, self.input_bytes), NULL,
                write_to(output, self.output_bytes), write_to(indices, self.output_bytes // self.item * 8),
                self.planes, self.scratch_bytes, self.elements, n_threads,
            )


# ------------------------------------------------------------------------------------------------ flat indices


cdef struct PlaneJob:
    const char *source
    const int64_t *indices
    char *target
    int64_t planes, chunks
    int64_t count, size  # of the values with an index, and of the planes that these point into
    size_t item
    bint accumulate


cdef void scatter(
    const floating *values, const int64_t *at, floating *plane, int64_t count, int64_t size, bint accumulate
) noexcept nogil:
    cdef int64_t i
    memset(plane, 0, size * sizeof(floating))
    if accumulate:
        for i in range(count):
            plane[at[i]] += values[i]
    else:
        for i in range(count):
            plane[at[i]] = values[i]


cdef void gather(const floating *plane, const int64_t *at, floating *values, int64_t count) noexcept nogil:
    cdef int64_t i
    for i in range(count):
        values[i] = plane[at[i]]


cdef void scatter_task(const void *shared, Py_ssize_t i) noexcept nogil:
    cdef const PlaneJob *job = <const PlaneJob *> shared
    cdef int64_t p, n = job.count, size = job.size
    for p in range(job.planes * i // job.chunks, job.planes * (i + 1) // job.chunks):
        if job.item == 4:
            scatter(<const float *> job.source + p * n, job.indices + p * n, <float *> job.target + p * size, n, size,
                    job.accumulate)
        else:
            scatter(<const double *> job.source + p * n, job.indices + p * n, <double *> job.target + p * size, n, size,
                    job.accumulate)


cdef void gather_task(const void *shared, Py_ssize_t i) noexcept nogil:
    cdef const PlaneJob *job = <const PlaneJob *> shared
    cdef int64_t p, n = job.count, size = job.size
    for p in range(job.planes * i // job.chunks, job.planes * (i + 1) // job.chunks):
        if job.item == 4:
            gather(<const float *> job.source + p * size, job.indices + p * n, <float *> job.target + p * n, n)
        else:
            gather(<const double *> job.source + p * size, job.indices + p * n, <double *> job.target + p * n, n)


def scatter_planes(
    values, indices, output, int64_t planes, int64_t count, int64_t size, size_t item, bint accumulate, int n_threads
):
    """``count`` values put at flat indices of each of the zeroed planes: added up in order, or the last one stays."""
    cdef int64_t chunks = chunk_count(planes * (size + count), n_threads)
    cdef PlaneJob job = PlaneJob(
        read_from(values, planes * count * item), <const int64_t *> read_from(indices, planes * count * 8),
        write_to(output, planes * size * item), planes, chunks, count, size, item, accumulate
    )
    run_tasks(scatter_task, &job, chunks, n_threads)


def gather_planes(x, indices, output, int64_t planes, int64_t size, int64_t count, size_t item, int n_threads):
    """Each plane read at ``count`` flat indices."""
    cdef int64_t chunks = chunk_count(planes * count, n_threads)
    cdef PlaneJob job = PlaneJob(
        read_from(x, planes * size * item), <const int64_t *> read_from(indices, planes * count * 8),
        write_to(output, planes * count * item), planes, chunks, count, size, item, False
    )
    run_tasks(gather_task, &job, chunks, n_threads)


# ------------------------------------------------------------------------------------------------ checks


cdef bint lies_inside(int64_t start, int64_t tap, int64_t dilation, int64_t n) noexcept nogil:
    return 0 <= start + tap * dilation < n


cdef uint8_t largest_of(const uint8_t *values, int64_t count) noexcept nogil:
    cdef uint8_t largest = 0
    cdef int64_t i
    for i in range(count):
        largest = max(largest, values[i])
    return largest


cdef bint all_inside(const fc_pool *g, const uint8_t *offset, int64_t planes) noexcept nogil:
    """Whether every offset names an element of the input; only windows that hang over an edge need a look."""
    cdef int64_t left = 0, right = g.ow, row, x, top
    cdef bint whole
    while left < g.ow and left * g.sw < g.pw:
        left += 1
    while right > left and (right - 1) * g.sw - g.pw + (g.kw - 1) * g.dw >= g.w:
        right -= 1
    for row in range(planes * g.oh):
        top = row % g.oh * g.sh - g.ph
        whole = top >= 0 and top + (g.kh - 1) * g.dh < g.h
        x = right if whole and left == 0 else 0
        while x < g.ow:
            if not lies_inside(top, offset[x] // g.kw, g.dh, g.h):
                return False
            if not lies_inside(x * g.sw - g.pw, offset[x] % g.kw, g.dw, g.w):
                return False
            x = right if whole and x + 1 == left else x + 1
        offset += g.ow
    return True


def check_offsets(spec, offsets):
    """ValueError unless every uint8 offset names an element of its window that lies inside the input."""
    cdef fc_pool g = geometry(spec)
    cdef int64_t planes = spec.batch * spec.channels, count = planes * g.oh * g.ow
    cdef const uint8_t *offset = <const uint8_t *> read_from(offsets, count)
    cdef int64_t largest
    cdef bint inside
    with nogil:
        largest = largest_of(offset, count)
        inside = largest < g.kh * g.kw and all_inside(&g, offset, planes)
    if count and largest >= g.kh * g.kw:
        raise ValueError(f"uint8 indices must be offsets in [0, {g.kh * g.kw}), got {largest}")
    if count and not inside:
        raise ValueError("uint8 indices must name elements inside the input, got one in the padding")


def all_below(indices, int64_t count, int64_t size):
    """Whether ``count`` int64 indices all lie in [0, size)."""
    cdef const uint64_t *index = <const uint64_t *> read_from(indices, count * 8)  # seen so, negative ones are huge
    cdef int64_t i, strays = 0
    with nogil:
        for i in range(count):
            strays += index[i] >= <uint64_t> size
    return strays == 0
