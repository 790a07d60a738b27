# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Drivers of direct convolution, weighted sums of shifted rows: for depthwise convolution and groups of few channels.

Work items write disjoint parts of the result.  How the work is cut never changes the order of a sum, so results are the
same bits for any thread count.
"""

from cython cimport floating
from cython.parallel cimport prange
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

cimport fc_direct as c

include "epilogue.pxi"
include "geometry.pxi"
include "scratch.pxi"


cdef class Phases:
    """One dimension of a direct problem: its phases end to end in one piece of memory."""
    cdef c.fc_direct_axis axis
    cdef int64_t *memory

    def __cinit__(self, phases):
        cdef Axis axis
        cdef int64_t i, n = len(phases), t = 0, taps = sum((<Axis> axis).ntaps for _, axis in phases)
        cdef int64_t *at = <int64_t *> malloc(<size_t> (3 * n + 3 * taps) * 8)
        if at == NULL:
            raise MemoryError()
        self.memory = at
        self.axis.phases, self.axis.taps = n, taps
        self.axis.grid, self.axis.start, self.axis.ntaps = at, at + n, at + 2 * n
        self.axis.offset, self.axis.tap, self.axis.place = at + 3 * n, at + 3 * n + taps, at + 3 * n + 2 * taps
        for i, (start, axis) in enumerate(phases):
            at[i], at[n + i], at[2 * n + i] = axis.grid, start, axis.ntaps
            memcpy(at + 3 * n + t, axis.offset, <size_t> axis.ntaps * 8)
            memcpy(at + 3 * n + taps + t, axis.tap, <size_t> axis.ntaps * 8)
            t += axis.ntaps

    def __dealloc__(self):
        free(self.memory)


cdef run_direct(fc_conv_job *problem, const void *grad, Axis z, rows, columns, spec, int isa, int item, int n_threads):
    """Weighted sums of shifted rows, or where ``grad`` is given the weight gradient."""
    cdef Phases y = Phases(rows), x = Phases(columns)
    cdef c.fc_direct_job direct
    cdef c.fc_direct_job *job = &direct
    cdef int64_t i, n, parts, thread_bytes, sums = 0
    cdef int lanes = c.fc_direct_lanes(isa, item)
    cdef Scratch scratch
    cdef char *memory
    job.job, job.y, job.x, job.grad = problem[0], y.axis, x.axis, grad
    job.job.tap = z.tap
    kernel = triple(spec.kernel, 1)
    job.kernel[0], job.kernel[1] = kernel[1], kernel[2]
    if kernel[0] == 1 and c.fc_depthwise_fits(job):
        run_depthwise(job, isa, item, n_threads)
        return
    if job.grad != NULL:
        c.fc_direct_plan(job, item, lanes, 1)
        sums = job.job.m * job.job.g.channels * job.job.g.taps
        n = fc_min(job.job.m, (2 * n_threads + job.job.groups - 1) // job.job.groups if n_threads > 1 else 1)
        parts = job.job.groups * n  # n of each group
    else:
        c.fc_direct_plan(job, item, lanes, 4 * n_threads if n_threads > 1 else 1)
        n = job.planes
        parts = fc_min(n, 4 * n_threads) if n_threads > 1 else 1
    thread_bytes = fc_round_up(c.fc_direct_split(job, item, lanes, sums, NULL).bytes, 4096) + 4096
    scratch = take_scratch(thread_bytes * n_threads)
    memory = scratch.start
    try:
        with nogil:
            for i in prange(parts, num_threads=n_threads, schedule="static"):
                if job.grad != NULL:
                    c.fc_direct_weight_item(isa, item, job, i // n, job.job.m * (i % n) // n,
                                            job.job.m * (i % n + 1) // n, memory + fc_thread_id() * thread_bytes)
                else:
                    c.fc_direct_item(isa, item, job, n * i // parts, n * (i + 1) // parts,
                                     memory + fc_thread_id() * thread_bytes)
    finally:
        give_scratch(scratch)


cdef run_depthwise(c.fc_direct_job *job, int isa, int item, int n_threads):
    """A direct problem whose planes are read where they lie."""
    cdef int64_t i, parts = 4 * n_threads if n_threads > 1 else 1, n, thread_bytes
    cdef int lanes = c.fc_direct_lanes(isa, item)
    cdef Scratch scratch
    c.fc_depthwise_plan(job, item, lanes, parts)
    if job.grad != NULL:
        n = job.job.groups * job.job.m
        parts = (n + job.part - 1) // job.part
    else:
        n = job.planes
        parts = fc_min(n, parts)
    thread_bytes = fc_round_up(c.fc_depthwise_split(job, item, lanes, NULL).bytes, 4096) + 4096
    scratch = take_scratch(thread_bytes * n_threads)
    try:
        with nogil:
            for i in prange(parts, num_threads=n_threads, schedule="static"):
                if job.grad != NULL:
                    c.fc_depthwise_weight_item(isa, item, job, i * job.part, fc_min(n, (i + 1) * job.part),
                                               scratch.start + fc_thread_id() * thread_bytes)
                else:
                    c.fc_depthwise_item(isa, item, job, n * i // parts, n * (i + 1) // parts,
                                        scratch.start + fc_thread_id() * thread_bytes)
    finally:
        give_scratch(scratch)


def conv_forward(spec, const floating[::1] input, const floating[::1] weight, const floating[::1] bias,
                 floating[::1] out, int isa, int n_threads, str activation="linear", double slope=0,
                 const floating[::1] residual=None):
    """Cross-correlation into ``out`` (all arrays flat); ``bias`` may be None.

    ``residual``, laid out as ``out``, is added to the sums, and ``activation`` (a key of ACTIVATIONS, with the negative
    ``slope`` of "leaky_relu") is applied to them.
    """
    cdef fc_conv_job job
    if out.shape[0] == 0:
        return
    z, y, x = set_forward(&job, spec)
    job.src, job.w, job.dst = &input[0], &weight[0], &out[0]
    job.b = &bias[0] if bias is not None else NULL
    job.epilogue.residual = &residual[0] if residual is not None else NULL
    job.epilogue.activation, job.epilogue.slope = ACTIVATIONS[activation], slope
    run_direct(&job, NULL, z, [(0, y)], [(0, x)], spec, isa, sizeof(floating), n_threads)


def conv_input_grad(spec, const floating[::1] grad, const floating[::1] weight, const floating[::1] bias,
                    floating[::1] out, int isa, int n_threads):
    """Adjoint of :func:`conv_forward` in the input, plus ``bias`` per input channel, into ``out``."""
    cdef fc_conv_job job
    cdef int64_t start
    cdef const void *bias_data = NULL
    if out.shape[0] == 0:
        return
    if bias is not None:
        bias_data = &bias[0]
    size, (planes, rows, columns), complete = gradient_phases(spec)
    if not complete:
        fill_channels[floating](&out[0], out.shape[0], <floating *> bias_data, spec.in_channels,
                                size[0] * size[1] * size[2])
    for problem in product(planes, rows[:1], columns[:1]):  # all phases of a plane at once
        axes = set_input_grad(&job, spec, problem, size)
        start = problem[0][0]
        job.src, job.w, job.dst = &grad[0], &weight[0], &out[start]
        job.b = bias_data
        run_direct(&job, NULL, axes[0], rows, columns, spec, isa, sizeof(floating), n_threads)


def conv_weight_grad(spec, const floating[::1] input, const floating[::1] grad, floating[::1] out, int isa, int n_threads):
    """Adjoint of :func:`conv_forward` in the weight, into ``out``; every tap must see the input somewhere."""
    cdef fc_conv_job job
    if spec.batch == 0:
        out[:] = 0
        return
    z, y, x = set_forward(&job, spec)
    if not job.w_contiguous:
        raise ValueError(f"every tap must see the input, and some of kernel {spec.kernel} see padding alone")
    job.src, job.dst = &input[0], &out[0]
    run_direct(&job, &grad[0], z, [(0, y)], [(0, x)], spec, isa, sizeof(floating), n_threads)
