"""Geometry of a convolution as sums over taps, for the drivers of products and of shifted rows; see include/fc_conv.h."""

from functools import lru_cache
from itertools import product

from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from fc_geometry cimport fc_conv, fc_conv_job, fc_max, fc_min, fc_round_up, fc_thread_id


cdef class Axis:
    """One spatial dimension of a problem: grid, source size, step, and the source offset of each tap."""
    cdef int64_t grid, size, step, ntaps, dst_step
    cdef int64_t *offset
    cdef int64_t *tap

    def __cinit__(self, int64_t grid, int64_t size, int64_t step, offsets, taps, int64_t dst_step):
        self.grid, self.size, self.step, self.dst_step = grid, size, step, dst_step
        self.ntaps = len(offsets)
        self.offset = <int64_t *> malloc(<size_t> (self.ntaps + 1) * 16)
        if self.offset == NULL:
            raise MemoryError()
        self.tap = self.offset + self.ntaps + 1
        for i, (offset, tap) in enumerate(zip(offsets, taps)):
            self.offset[i] = offset
            self.tap[i] = tap

    def __dealloc__(self):
        free(self.offset)


cdef set_geometry(fc_conv *g, axes, int64_t images, int64_t channels):
    cdef Axis axis
    cdef int64_t plane = 1
    g.images, g.channels = images, channels
    for i, axis in enumerate(axes):
        g.grid[i], g.size[i], g.step[i], g.ntaps[i] = axis.grid, axis.size, axis.step, axis.ntaps
        g.offset[i] = axis.offset
        plane *= axis.size
    g.src_channel = plane
    g.taps = g.ntaps[0] * g.ntaps[1] * g.ntaps[2]


def triple(values, fill):
    """Sizes of 1 to 3 dimensions as 3."""
    return (fill,) * (3 - len(values)) + tuple(values)


def seeing_axis(grid, size, step, taps, dst_step):
    """Axis of the (offset, tap) pairs that see the source somewhere on the grid; the others see padding alone.

    What is left spans no more than the source and the grid do, however large dilation and padding are.  At least one
    tap stays, out of sight if need be.
    """
    seeing = [(offset, tap) for offset, tap in taps if -step * (grid - 1) <= offset < size]
    offsets, taps = zip(*seeing or [(size, taps[0][1])])
    return Axis(grid, size, step, offsets, taps, dst_step)


@lru_cache(1024)
def forward_axes(spec):
    """Axes of the forward pass, slowest first; a convolution that reads each element in place becomes one long row."""
    pointwise = all(k == 1 and s == 1 and lo == 0 and hi == 0
                    for k, s, lo, hi in zip(spec.kernel, spec.stride, spec.pad_lo, spec.pad_hi))
    if pointwise:
        plane = 1
        for n in spec.in_size:
            plane *= n
        one = Axis(1, 1, 1, [0], [0], 1)
        return [one, one, Axis(plane, plane, 1, [0], [0], 1)]
    axes = []
    for n, out, k, s, d, lo in zip(spec.in_size, spec.out_size, spec.kernel, spec.stride, spec.dilation, spec.pad_lo):
        step = s if out > 1 else 1  # a stride that is never taken must not size scratch memory
        axes.append(seeing_axis(out, n, step, [(t * d - lo, t) for t in range(k)], 1))
    return [Axis(1, 1, 1, [0], [0], 1)] * (3 - len(axes)) + axes


@lru_cache(1024)
def gradient_phases(spec):
    """The input gradient as interleaved problems of step 1, one per phase of the stride.

    Along a dimension, input position x gets output o through tap t where ``x + pad_lo = o * stride + t * dilation``:
    positions with the same ``(x + pad_lo) % stride`` see the same taps, at fixed distances.  Phases that no tap reaches are
    left out.

    Returns
    -------
    size : tuple
        Spatial size of the input, slowest of three dimensions first.
    phases : list of list of (int, Axis)
        For each dimension its phases: offset of the first position in a channel, and axis.
    complete : bool
        Whether the phases cover every position.
    """
    size, out, kernel = triple(spec.in_size, 1), triple(spec.out_size, 1), triple(spec.kernel, 1)
    strides, dilations, pads = triple(spec.stride, 1), triple(spec.dilation, 1), triple(spec.pad_lo, 0)
    if all(k == 1 and s == 1 for k, s in zip(kernel, strides)) and size == out:  # one long row: see forward_axes
        size = out = (1, 1, size[0] * size[1] * size[2])
    per_dimension = []
    complete = True
    for n, o, k, s, d, lo, unit in zip(size, out, kernel, strides, dilations, pads, (size[1] * size[2], size[2], 1)):
        dimension = []
        for first in range(min(s, n)):
            taps = [((first + lo - t * d) // s, t) for t in reversed(range(k)) if (first + lo - t * d) % s == 0]
            if taps:  # offsets ascend
                dimension.append((first * unit, seeing_axis((n - first + s - 1) // s, o, 1, taps, s)))
            else:
                complete = False
        per_dimension.append(dimension)
    return size, per_dimension, complete


cdef set_strides(fc_conv *g, axes, int64_t src_channels, int64_t dst_channels, dst_size):
    """Destination strides for an array (images, dst_channels, *dst_size) of which the grid takes every dst_step-th."""
    cdef Axis axis
    cdef int64_t stride = 1
    cdef int i
    for i in range(2, -1, -1):
        axis = axes[i]
        g.dst_step[i] = stride * axis.dst_step
        stride *= <int64_t> dst_size[i]
    g.dst_channel = stride
    g.dst_image = stride * dst_channels
    g.src_image = g.src_channel * src_channels
    g.src_end = g.src_image * g.images


cdef set_forward(fc_conv_job *job, spec):
    """A forward job but for its arrays and taps; returns the axes, which hold the tables of offsets."""
    cdef int64_t taps
    memset(job, 0, sizeof(job[0]))
    axes = forward_axes(spec)
    set_geometry(&job.g, axes, spec.batch, spec.in_channels // spec.groups)
    set_strides(&job.g, axes, spec.in_channels, spec.out_channels, [(<Axis> axis).grid for axis in axes])
    job.groups, job.m = spec.groups, spec.out_channels // spec.groups
    job.dst_group = job.m
    z, y, x = triple(spec.kernel, 1)
    taps = z * y * x
    job.w_c, job.w_m, job.w_group = taps, taps * job.g.channels, taps * job.g.channels * job.m
    job.w_contiguous = job.g.taps == taps
    return axes


cdef set_input_grad(fc_conv_job *job, spec, problem, size):
    """One problem of the input gradient, for the (first position, Axis) pairs of :func:`gradient_phases`, but for its arrays
    and taps; returns the axes."""
    cdef int64_t taps = 1
    axes = [axis for _, axis in problem]
    for n in spec.kernel:
        taps *= n
    memset(job, 0, sizeof(job[0]))
    set_geometry(&job.g, axes, spec.batch, spec.out_channels // spec.groups)
    set_strides(&job.g, axes, spec.out_channels, spec.in_channels, size)
    job.groups, job.m = spec.groups, spec.in_channels // spec.groups
    job.dst_group = job.m
    job.w_c, job.w_m = taps * job.m, taps
    job.w_group = taps * job.m * job.g.channels
    return axes


cdef void fill_channels(floating *out, int64_t n, floating *bias, int64_t channels, int64_t plane) noexcept:
    """What positions without any tap hold: the bias of their channel, or zero."""
    cdef int64_t i
    for i in range(n):
        out[i] = bias[i // plane % channels] if bias != NULL else 0
