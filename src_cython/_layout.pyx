# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Layout drivers: unfold, fold and pad move whole rows; every geometry is lifted to three spatial dimensions."""

from cython.parallel cimport prange
from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

from fc_layout cimport *

ctypedef fused real:
    float
    double

cdef int64_t PARALLEL_ELEMENTS = 32768  # below this a second thread costs more than it brings


cdef int thread_count(int64_t elements, int n_threads) noexcept:
    return 1 if elements < PARALLEL_ELEMENTS else n_threads


cdef void lift(object values, int64_t *target, int64_t missing):
    """A tuple of one to three numbers as three, the missing leading ones filled in."""
    cdef int64_t i, gap = 3 - len(values)
    for i in range(3):
        target[i] = missing if i < gap else values[i - gap]


cdef fc_layout_window window(object spec):
    cdef fc_layout_window g
    lift(spec.in_size, g.size, 1)
    lift(spec.out_size, g.out, 1)
    lift(spec.kernel, g.kernel, 1)
    lift(spec.stride, g.stride, 1)
    lift(spec.dilation, g.dilation, 1)
    lift(spec.pad_lo, g.pad, 0)
    return g


def unfold(object spec, const real[:, ::1] input, real[:, :, ::1] columns, int isa, int n_threads):
    """Planes (N * C, in_size) to columns (N * C, prod(kernel), prod(out_size))."""
    cdef fc_layout_window g = window(spec)
    cdef int64_t planes = input.shape[0], taps = columns.shape[1], i, plane, tap
    cdef int threads = thread_count(planes * taps * columns.shape[2], n_threads)
    for i in prange(planes * taps, nogil=True, num_threads=threads, schedule="static"):
        plane = i // taps
        tap = i % taps
        if real is float:
            pick_unfold_tap_f32(isa)(&g, tap, &input[plane, 0], &columns[plane, tap, 0])
        else:
            pick_unfold_tap_f64(isa)(&g, tap, &input[plane, 0], &columns[plane, tap, 0])


def fold(object spec, const real[:, :, ::1] columns, real[:, ::1] output, int isa, int n_threads):
    """Columns (N * C, prod(kernel), prod(out_size)) added up in planes (N * C, in_size)."""
    cdef fc_layout_window g = window(spec)
    cdef int64_t planes = output.shape[0], taps = columns.shape[1], plane, tap
    cdef int threads = thread_count(planes * taps * columns.shape[2], n_threads)
    for plane in prange(planes, nogil=True, num_threads=threads, schedule="static"):
        memset(&output[plane, 0], 0, output.shape[1] * sizeof(real))
        for tap in range(taps):
            if real is float:
                pick_fold_tap_f32(isa)(&g, tap, &columns[plane, tap, 0], &output[plane, 0])
            else:
                pick_fold_tap_f64(isa)(&g, tap, &columns[plane, tap, 0], &output[plane, 0])


def pad(
    const real[:, :, :, ::1] x, real[:, :, :, ::1] out, const int64_t[::1] source_z, const int64_t[::1] source_y,
    const int64_t[::1] source_x, int64_t run_start, int64_t run_length, real value, int n_threads,
):
    """Each output position takes the input position its tables name, or ``value`` where they say -1.

    Output columns ``run_start`` to ``run_start + run_length`` take consecutive input columns.
    """
    cdef int64_t outer = out.shape[0], nz = out.shape[1], ny = out.shape[2], nx = out.shape[3]
    cdef int64_t run_source = source_x[run_start] if run_length > 0 else 0
    cdef int64_t row, o, z, y, i, sz, sy
    cdef real *target
    cdef const real *source
    cdef int threads = thread_count(outer * nz * ny * nx, n_threads)
    for row in prange(outer * nz * ny, nogil=True, num_threads=threads, schedule="static"):
        o = row // (nz * ny)
        z = row // ny % nz
        y = row % ny
        sz = source_z[z]
        sy = source_y[y]
        target = &out[o, z, y, 0]
        if sz < 0 or sy < 0:
            for i in range(nx):
                target[i] = value
        else:
            source = &x[o, sz, sy, 0]
            for i in range(run_start):
                target[i] = source[source_x[i]] if source_x[i] >= 0 else value
            memcpy(target + run_start, source + run_source, run_length * sizeof(real))
            for i in range(run_start + run_length, nx):
                target[i] = source[source_x[i]] if source_x[i] >= 0 else value


def pad_backward(
    const real[:, :, :, ::1] grad_output, real[:, :, :, ::1] grad_input, const int64_t[::1] source_z,
    const int64_t[::1] source_y, const int64_t[::1] source_x, int64_t run_start, int64_t run_length, int n_threads,
):
    """Adjoint of :func:`pad`: each gradient added to the input position its output position took."""
    cdef int64_t outer = grad_output.shape[0], nz = grad_output.shape[1]
    cdef int64_t ny = grad_output.shape[2], nx = grad_output.shape[3]
    cdef int64_t plane = grad_input.shape[1] * grad_input.shape[2] * grad_input.shape[3]
    cdef int64_t run_source = source_x[run_start] if run_length > 0 else 0
    cdef int64_t o, z, y, i
    cdef real *target
    cdef const real *source
    cdef int threads = thread_count(outer * nz * ny * nx, n_threads)
    for o in prange(outer, nogil=True, num_threads=threads, schedule="static"):
        memset(&grad_input[o, 0, 0, 0], 0, plane * sizeof(real))
        for z in range(nz):
            for y in range(ny):
                if source_z[z] < 0 or source_y[y] < 0:
                    continue
                source = &grad_output[o, z, y, 0]
                target = &grad_input[o, source_z[z], source_y[y], 0]
                for i in range(run_start):
                    if source_x[i] >= 0:
                        target[source_x[i]] += source[i]
                for i in range(run_length):
                    target[run_source + i] += source[run_start + i]
                for i in range(run_start + run_length, nx):
                    if source_x[i] >= 0:
                        target[source_x[i]] += source[i]
