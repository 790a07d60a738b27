# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Pooling drivers: geometry, scratch memory, and the division of planes among threads."""

from cython.parallel cimport prange
from libc.stdint cimport int64_t, uint8_t, uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from fc_pool cimport *

ctypedef fused real:
    float
    double

ctypedef fused index:
    uint8_t
    int64_t

cdef int64_t PARALLEL_ELEMENTS = 32768  # below this a second thread costs more than it brings


cdef int64_t chunk_count(int64_t units, int64_t elements, int n_threads) noexcept:
    return 1 if elements < PARALLEL_ELEMENTS else max(1, min(units, n_threads))


cdef fc_pool geometry(object spec):
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


cdef void cut(fc_pool *g, int64_t rows, int64_t band, int64_t planes, int n_threads) noexcept:
    """Bands of at most ``band`` rows, smaller where there are fewer planes than it takes to feed the threads."""
    if planes < 4 * n_threads:
        band = min(band, max(1, rows * planes // (4 * n_threads)))
    g.band = band
    g.bands = (rows + band - 1) // band


cdef int run(
    fc_pool_fn kernel, const void *g, const void *source, const void *source_index, void *target, void *target_index,
    int64_t units, int64_t scratch_bytes, int64_t elements, int n_threads,
) except -1:
    cdef int64_t chunks = chunk_count(units, elements, n_threads), i
    cdef char *scratch
    cdef char *aligned
    scratch_bytes = (scratch_bytes + 127) // 64 * 64
    scratch = <char *> malloc(chunks * scratch_bytes + 64)
    if scratch == NULL:
        raise MemoryError(f"pooling needs {chunks * scratch_bytes} bytes of scratch memory")
    aligned = scratch + (64 - <uintptr_t> scratch % 64)
    for i in prange(chunks, nogil=True, num_threads=<int> chunks, schedule="static"):
        kernel(
            g, source, source_index, target, target_index, units * i // chunks, units * (i + 1) // chunks,
            aligned + i * scratch_bytes,
        )
    free(scratch)
    return 0


def max_pool_forward(
    object spec, const real[:, :, :, ::1] input, real[:, :, :, ::1] output, int isa, int n_threads
):
    """Maximum of every window."""
    cdef fc_pool g = geometry(spec)
    cdef int64_t planes = input.shape[0] * input.shape[1]
    if planes:
        cut(&g, g.oh, fc_pool_forward_band(&g, sizeof(real)), planes, n_threads)
        run(
            pick_max_pool_values(isa, sizeof(real) == 8), &g, &input[0, 0, 0, 0], NULL, &output[0, 0, 0, 0], NULL,
            planes * g.bands, fc_pool_values_scratch(&g, sizeof(real)), planes * g.h * g.w, n_threads,
        )


def max_pool_forward_indexed(
    object spec, const real[:, :, :, ::1] input, real[:, :, :, ::1] output, index[:, :, :, ::1] indices,
    int isa, int n_threads,
):
    """Maximum of every window and where it is: uint8 offset in the window or int64 flat index in the plane."""
    cdef fc_pool g = geometry(spec)
    cdef int64_t planes = input.shape[0] * input.shape[1]
    cdef fc_pool_fn kernel
    if index is uint8_t:
        kernel = pick_max_pool_uint8(isa, sizeof(real) == 8)
    else:
        kernel = pick_max_pool_int64(isa, sizeof(real) == 8)
    if planes:
        cut(&g, g.oh, fc_max_pool_forward_band(&g, sizeof(real)), planes, n_threads)
        run(
            kernel, &g, &input[0, 0, 0, 0], NULL, &output[0, 0, 0, 0], &indices[0, 0, 0, 0],
            planes * g.bands, fc_max_pool_forward_scratch(&g, sizeof(real)), planes * g.h * g.w, n_threads,
        )


def max_pool_backward(
    object spec, const real[:, :, :, ::1] grad_output, const uint8_t[:, :, :, ::1] offsets,
    real[:, :, :, ::1] grad_input, int isa, int n_threads,
):
    """Each gradient added at the offset in its window; an offset that no tap has adds nothing."""
    cdef fc_pool g = geometry(spec)
    cdef int64_t planes = grad_output.shape[0] * grad_output.shape[1]
    if planes:
        cut(&g, g.h, fc_pool_backward_band(&g, sizeof(real)), planes, n_threads)
        run(
            pick_max_pool_backward(isa, sizeof(real) == 8), &g, &grad_output[0, 0, 0, 0], &offsets[0, 0, 0, 0],
            &grad_input[0, 0, 0, 0], NULL, planes * g.bands, fc_max_pool_backward_scratch(&g, sizeof(real)),
            planes * g.h * g.w, n_threads,
        )


def avg_pool_forward(
    object spec, const real[:, :, :, ::1] input, real[:, :, :, ::1] output, int isa, int n_threads
):
    """Mean of every window."""
    cdef fc_pool g = geometry(spec)
    cdef int64_t planes = input.shape[0] * input.shape[1]
    if planes:
        cut(&g, g.oh, fc_pool_forward_band(&g, sizeof(real)), planes, n_threads)
        run(
            pick_avg_pool_values(isa, sizeof(real) == 8), &g, &input[0, 0, 0, 0], NULL, &output[0, 0, 0, 0], NULL,
            planes * g.bands, fc_pool_values_scratch(&g, sizeof(real)), planes * g.h * g.w, n_threads,
        )


def avg_pool_backward(
    object spec, const real[:, :, :, ::1] grad_output, real[:, :, :, ::1] grad_input, int isa, int n_threads
):
    """Each gradient spread evenly over its window."""
    cdef fc_pool g = geometry(spec)
    cdef int64_t planes = grad_output.shape[0] * grad_output.shape[1]
    if planes:
        cut(&g, g.h, fc_pool_backward_band(&g, sizeof(real)), planes, n_threads)
        run(
            pick_avg_pool_backward(isa, sizeof(real) == 8), &g, &grad_output[0, 0, 0, 0], NULL,
            &grad_input[0, 0, 0, 0], NULL, planes * g.bands, fc_avg_pool_backward_scratch(&g, sizeof(real)),
            planes * g.h * g.w, n_threads,
        )


cdef class Windows:
    """The window tables of an adaptive pool, kept alive beside the C structure that points into them."""

    cdef fc_adaptive g
    cdef const int64_t[::1] y0, y1, x0, x1

    def __init__(self, object spec):
        self.y0, self.y1 = spec.windows(0)
        self.x0, self.x1 = spec.windows(1)
        self.g.h, self.g.w = spec.in_size
        self.g.oh, self.g.ow = spec.out_size
        self.g.y0, self.g.y1 = &self.y0[0], &self.y1[0]
        self.g.x0, self.g.x1 = &self.x0[0], &self.x1[0]


def adaptive_avg_pool_forward(
    object spec, const real[:, :, :, ::1] input, real[:, :, :, ::1] output, int isa, int n_threads
):
    """Mean of every adaptive window."""
    cdef Windows windows = Windows(spec)
    cdef int64_t planes = input.shape[0] * input.shape[1]
    if planes:
        run(
            pick_adaptive_avg(isa, sizeof(real) == 8), &windows.g, &input[0, 0, 0, 0], NULL, &output[0, 0, 0, 0], NULL,
            planes, windows.g.w * sizeof(real), planes * windows.g.h * windows.g.w, n_threads,
        )


def adaptive_avg_pool_backward(
    object spec, const real[:, :, :, ::1] grad_output, real[:, :, :, ::1] grad_input, int isa, int n_threads
):
    """Each gradient spread evenly over its adaptive window."""
    cdef Windows windows = Windows(spec)
    cdef int64_t planes = grad_output.shape[0] * grad_output.shape[1]
    if planes:
        run(
            pick_adaptive_avg_backward(isa, sizeof(real) == 8), &windows.g, &grad_output[0, 0, 0, 0], NULL,
            &grad_input[0, 0, 0, 0], NULL, planes, windows.g.w * sizeof(real),
            planes * windows.g.h * windows.g.w, n_threads,
        )


def adaptive_max_pool_forward(
    object spec, const real[:, :, :, ::1] input, real[:, :, :, ::1] output, int64_t[:, :, :, ::1] indices,
    int isa, int n_threads,
):
    """Maximum of every adaptive window and its flat index in the plane."""
    cdef Windows windows = Windows(spec)
    cdef int64_t planes = input.shape[0] * input.shape[1]
    if planes:
        run(
            pick_adaptive_max(isa, sizeof(real) == 8), &windows.g, &input[0, 0, 0, 0], NULL, &output[0, 0, 0, 0],
            &indices[0, 0, 0, 0], planes, 2 * windows.g.w * sizeof(real), planes * windows.g.h * windows.g.w, n_threads,
        )


def scatter_planes(
    const real[:, ::1] values, const int64_t[:, ::1] indices, real[:, ::1] output, bint accumulate, int n_threads
):
    """Values put at flat indices of zeroed planes: added up in order, or the last one stays."""
    cdef int64_t planes = output.shape[0], size = output.shape[1], count = values.shape[1], p, i
    cdef int64_t chunks = chunk_count(planes, planes * (size + count), n_threads)
    cdef real *target
    cdef const real *value
    cdef const int64_t *at
    for p in prange(planes, nogil=True, num_threads=<int> chunks, schedule="static"):
        target = &output[p, 0]
        value = &values[p, 0]
        at = &indices[p, 0]
        memset(target, 0, size * sizeof(real))
        if accumulate:
            for i in range(count):
                target[at[i]] += value[i]
        else:
            for i in range(count):
                target[at[i]] = value[i]


def gather_planes(const real[:, ::1] x, const int64_t[:, ::1] indices, real[:, ::1] output, int n_threads):
    """Each plane read at flat indices."""
    cdef int64_t planes = output.shape[0], count = output.shape[1], p, i
    cdef int64_t chunks = chunk_count(planes, planes * count, n_threads)
    for p in prange(planes, nogil=True, num_threads=<int> chunks, schedule="static"):
        for i in range(count):
            output[p, i] = x[p, indices[p, i]]
