# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Drivers of convolution and matrix product: geometry, work items, scratch memory, threads.

A driver describes the problem as an ``fc_conv`` (see ``include/fc_conv.h``), cuts it into work items that write disjoint
parts of the result, and runs them in parallel.  How the work is cut never changes the order of a sum, so results are the
same bits for any thread count.
"""

from functools import lru_cache
from itertools import product

from cython cimport floating
from cython.parallel cimport prange
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

cimport fc_conv as c

include "arrays.pxi"
include "epilogue.pxi"
include "scratch.pxi"

cdef int64_t BLOCK_COLUMNS = 256           # columns packed at a time
cdef int64_t BLOCK_BYTES = 1024            # depth of a packed block, in bytes of one column
cdef int64_t PACKED_BYTES = 8 << 20        # packed weights of one pass, shared by the threads
cdef int64_t SCRATCH_BYTES = 16 << 20      # per thread
cdef int64_t COL2IM_RING_BYTES = 1024 << 10 # sums of a col2im item
cdef int64_t GATHER_SOURCE_BYTES = 128 << 10 # padded source rows of a gathered item
cdef int64_t WEIGHT_SOURCE_BYTES = 2 << 20 # prepared source rows of a weight-gradient item


# ------------------------------------------------------------------------------------------------ geometry


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


cdef set_geometry(c.fc_conv *g, axes, int64_t images, int64_t channels):
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


cdef set_strides(c.fc_conv *g, axes, int64_t src_channels, int64_t dst_channels, dst_size):
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


cdef int64_t *tap_table(axes, kernel) except NULL:
    """Offset in a filter of each tap of the problem, in the order (a, b, e)."""
    cdef Axis z = axes[0], y = axes[1], x = axes[2]
    cdef int64_t kh = kernel[1], kw = kernel[2], a, b, e, n = 0
    cdef int64_t *table = <int64_t *> malloc(<size_t> (z.ntaps * y.ntaps * x.ntaps + 1) * 8)
    if table == NULL:
        raise MemoryError()
    for a in range(z.ntaps):
        for b in range(y.ntaps):
            for e in range(x.ntaps):
                table[n] = (z.tap[a] * kh + y.tap[b]) * kw + x.tap[e]
                n += 1
    return table


# ------------------------------------------------------------------------------------------------ products


cdef void set_block_channels(c.fc_conv_job *job, int isa, int item):
    """Whether columns are read in place, and the channels of a block; the latter and the arguments fix the layout of
    packed weights."""
    cdef int lanes = c.fc_vector_bytes(isa) // item
    cdef int64_t depth = c.fc_max(1, BLOCK_BYTES // item), k = job.g.channels * job.g.taps
    cdef int64_t blocks = (k + depth - 1) // depth
    c.fc_conv_derive(&job.g, BLOCK_COLUMNS, lanes)
    job.in_place = (packed_weights(job, isa, item) * item <= PACKED_BYTES
                    and c.fc_indirect_plan(&job.g, job.m, item, lanes, &job.indirect))
    if job.in_place:
        job.block_channels = job.g.channels
        return
    # equal blocks of whole channels
    job.block_channels = c.fc_max(1, job.g.channels // c.fc_min(blocks, job.g.channels))
    if job.block_channels * job.g.taps < depth * 2 // 3:
        job.block_channels = c.fc_max(1, c.fc_min(job.g.channels, depth // job.g.taps))


cdef int64_t packed_weights(c.fc_conv_job *job, int isa, int item):
    """Elements of the packed weights of all groups."""
    return job.groups * c.fc_round_up(job.m, c.fc_gemm_rows(isa, item)) * job.g.channels * job.g.taps


cdef run_product(c.fc_conv_job *job, int isa, int item, int n_threads):
    """Packed weights times columns, in passes whose packed weights fit PACKED_BYTES; in one where they are given."""
    cdef int rows = c.fc_gemm_rows(isa, item), lanes = c.fc_gemm_lanes(isa, item)
    cdef int64_t columns = BLOCK_COLUMNS, all_k, padded, group_bytes, pass_groups, pass_m, m0, g0
    cdef int64_t items, total, least_parts
    cdef int64_t packed_bytes = 0, thread_bytes, at
    cdef bint given = job.weights != NULL
    cdef c.fc_conv_job part
    cdef Scratch scratch
    cdef char *base

    set_block_channels(job, isa, item)
    if job.in_place:
        run_indirect(job, isa, item, n_threads)
        return
    # fewer columns where there are fewer than the threads could share
    all_k = job.g.channels * job.g.taps
    if job.block_channels * job.g.taps * columns * item > SCRATCH_BYTES // 2:
        columns = c.fc_max(lanes, SCRATCH_BYTES // 2 // (job.block_channels * job.g.taps * item))
    total = job.g.images * job.g.grid[0] * job.g.grid[1] * job.g.grid[2]
    if n_threads > 1 and total * job.groups < columns * n_threads * 2:
        columns = c.fc_max(lanes, c.fc_round_up((total * job.groups + n_threads - 1) // n_threads, lanes))
    c.fc_conv_derive(&job.g, columns, lanes)

    padded = c.fc_round_up(job.m, rows)
    group_bytes = padded * all_k * item
    pass_groups, pass_m = job.groups, job.m
    if not given:
        pass_groups = c.fc_max(1, c.fc_min(job.groups, PACKED_BYTES // c.fc_max(1, group_bytes)))
        if pass_groups == 1 and group_bytes > PACKED_BYTES:
            pass_m = c.fc_max(rows, PACKED_BYTES // (all_k * item) // rows * rows)
        packed_bytes = c.fc_round_up(pass_groups * c.fc_round_up(pass_m, rows) * all_k * item, 64)
    thread_bytes = c.fc_scratch_split(&job.g, job.block_channels * job.g.taps, item, lanes, 1, NULL).bytes
    columns = c.fc_round_up(job.g.block_rows * job.g.block_x, lanes)
    least_parts = 1
    if job.g.dst_step[2] != 1:  # sums are staged: see conv_item
        least_parts = (pass_m * columns * item + SCRATCH_BYTES // 4 - 1) // (SCRATCH_BYTES // 4)
        thread_bytes += c.fc_round_up((pass_m + least_parts - 1) // least_parts, rows) * columns * item
    thread_bytes = c.fc_round_up(thread_bytes, 4096) + 4096

    scratch = take_scratch(packed_bytes + thread_bytes * n_threads)
    base = scratch.start
    try:
        for g0 in range(0, job.groups, pass_groups):
            for m0 in range(0, job.m, pass_m):
                part = job[0]
                part.groups = c.fc_min(pass_groups, job.groups - g0)
                part.m = c.fc_min(pass_m, job.m - m0)
                part.src = <const char *> job.src + g0 * job.g.channels * job.g.src_channel * item
                part.g.src_end = job.g.src_end - g0 * job.g.channels * job.g.src_channel  # what is left behind src
                at = (g0 * job.dst_group + m0) * item
                part.dst = <char *> job.dst + at * job.g.dst_channel
                if job.b != NULL:
                    part.b = <const char *> job.b + at
                if job.epilogue.residual != NULL:
                    part.epilogue.residual = <const char *> job.epilogue.residual + at * job.g.dst_channel
                if not given:
                    part.w = <const char *> job.w + (g0 * job.w_group + m0 * job.w_m) * item
                    part.weights = base
                    pack_weights(&part, isa, item, n_threads, base)
                part.group_parts = group_parts(c.fc_conv_blocks(&part.g), part.groups, n_threads)
                items = c.fc_conv_blocks(&part.g) * part.group_parts
                part.parts = least_parts
                if items < n_threads:
                    part.parts = c.fc_max(
                        least_parts, c.fc_min((n_threads + items - 1) // items, (part.m + rows - 1) // rows))
                run_items(&part, isa, item, items * part.parts, base + packed_bytes, thread_bytes, n_threads)
    finally:
        give_scratch(scratch)


cdef run_indirect(c.fc_conv_job *job, int isa, int item, int n_threads):
    """The product with columns read in place."""
    cdef int64_t packed_bytes = 0 if job.weights != NULL else c.fc_round_up(packed_weights(job, isa, item) * item, 64)
    cdef int64_t i, items, thread_bytes
    cdef Scratch scratch
    cdef char *memory
    items = job.g.images * job.g.grid[0] * job.groups
    if items * job.indirect.bands < n_threads:
        job.indirect.band_rows = c.fc_max(1, job.g.grid[1] * items // n_threads)
        job.indirect.bands = (job.g.grid[1] + job.indirect.band_rows - 1) // job.indirect.band_rows
    items *= job.indirect.bands
    thread_bytes = c.fc_round_up(job.indirect.bytes, 4096) + 4096
    scratch = take_scratch(packed_bytes + thread_bytes * n_threads)
    memory = scratch.start + packed_bytes
    try:
        if packed_bytes:
            job.weights = scratch.start
            pack_weights(job, isa, item, n_threads, scratch.start)
        with nogil:
            for i in prange(items, num_threads=n_threads, schedule="dynamic"):
                c.fc_conv_indirect_item(isa, item, job, i, memory + c.fc_thread_id() * thread_bytes)
    finally:
        give_scratch(scratch)


cdef void pack_weights(c.fc_conv_job *job, int isa, int item, int n_threads, void *packed):
    cdef int rows = c.fc_gemm_rows(isa, item)
    cdef int64_t i, panels = job.groups * ((job.m + rows - 1) // rows)
    with nogil:
        for i in prange(panels, num_threads=n_threads, schedule="static"):
            c.fc_conv_weights_item(isa, item, job, i, packed)


cdef void run_items(c.fc_conv_job *part, int isa, int item, int64_t items, char *memory, int64_t thread_bytes,
                    int n_threads):
    cdef int64_t i
    with nogil:
        for i in prange(items, num_threads=n_threads, schedule="dynamic"):
            c.fc_conv_item(isa, item, part, i, memory + c.fc_thread_id() * thread_bytes)


cdef int64_t group_parts(int64_t blocks, int64_t groups, int n_threads):
    """Parts of the groups, so that every thread gets several work items; each part plans its blocks anew."""
    if n_threads == 1 or blocks == 0:
        return 1
    return c.fc_min(groups, (4 * n_threads + blocks - 1) // blocks)


# ------------------------------------------------------------------------------------------------ direct


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


cdef run_direct(c.fc_conv_job *problem, const void *grad, Axis z, rows, columns, kernel, int isa, int item,
                int n_threads):
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
    job.kernel[0], job.kernel[1] = kernel[1], kernel[2]
    if kernel[0] == 1 and c.fc_depthwise_fits(job):
        run_depthwise(job, isa, item, n_threads)
        return
    if job.grad != NULL:
        c.fc_direct_plan(job, item, lanes, 1)
        sums = job.job.m * job.job.g.channels * job.job.g.taps
        n = c.fc_min(job.job.m, (2 * n_threads + job.job.groups - 1) // job.job.groups if n_threads > 1 else 1)
        parts = job.job.groups * n  # n of each group
    else:
        c.fc_direct_plan(job, item, lanes, 4 * n_threads if n_threads > 1 else 1)
        n = job.planes
        parts = c.fc_min(n, 4 * n_threads) if n_threads > 1 else 1
    thread_bytes = c.fc_round_up(c.fc_direct_split(job, item, lanes, sums, NULL).bytes, 4096) + 4096
    scratch = take_scratch(thread_bytes * n_threads)
    memory = scratch.start
    try:
        with nogil:
            for i in prange(parts, num_threads=n_threads, schedule="static"):
                if job.grad != NULL:
                    c.fc_direct_weight_item(isa, item, job, i // n, job.job.m * (i % n) // n,
                                            job.job.m * (i % n + 1) // n, memory + c.fc_thread_id() * thread_bytes)
                else:
                    c.fc_direct_item(isa, item, job, n * i // parts, n * (i + 1) // parts,
                                     memory + c.fc_thread_id() * thread_bytes)
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
        parts = c.fc_min(n, parts)
    thread_bytes = c.fc_round_up(c.fc_depthwise_split(job, item, lanes, NULL).bytes, 4096) + 4096
    scratch = take_scratch(thread_bytes * n_threads)
    try:
        with nogil:
            for i in prange(parts, num_threads=n_threads, schedule="static"):
                if job.grad != NULL:
                    c.fc_depthwise_weight_item(isa, item, job, i * job.part, c.fc_min(n, (i + 1) * job.part),
                                               scratch.start + c.fc_thread_id() * thread_bytes)
                else:
                    c.fc_depthwise_item(isa, item, job, n * i // parts, n * (i + 1) // parts,
                                        scratch.start + c.fc_thread_id() * thread_bytes)
    finally:
        give_scratch(scratch)


cdef set_forward(c.fc_conv_job *job, spec):
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


def packing(spec, int isa):
    """How the product packs the weights of :func:`conv_forward` in advance.

    Returns
    -------
    tuple of int
        Channels of a block, which with the instruction set and the weight's shape and dtype fix the layout, and elements
        of the whole.  0 and 0 where taps are left out, for they see padding alone.
    """
    cdef c.fc_conv_job job
    cdef int item = 4 if spec.dtype == "float32" else 8
    axes = set_forward(&job, spec)
    if not job.w_contiguous:
        return 0, 0
    set_block_channels(&job, isa, item)
    return job.block_channels, packed_weights(&job, isa, item)


def pack(spec, const floating[::1] weight, floating[::1] out, int isa, int n_threads):
    """The weights of :func:`conv_forward` as the product reads them, into ``out`` of the size told by :func:`packing`."""
    cdef c.fc_conv_job job
    cdef int64_t *table
    axes = set_forward(&job, spec)
    set_block_channels(&job, isa, sizeof(floating))
    check_packed(&job, out.shape[0], isa, sizeof(floating))
    job.w = &weight[0]
    table = tap_table(axes, triple(spec.kernel, 1))
    job.tap = table
    pack_weights(&job, isa, sizeof(floating), n_threads, &out[0])
    free(table)


cdef check_packed(c.fc_conv_job *job, int64_t elements, int isa, int item):
    cdef int64_t expected = packed_weights(job, isa, item)
    if elements != expected:
        raise ValueError(f"packed weights must have {expected} elements, got {elements}")


def conv_forward(spec, const floating[::1] input, const floating[::1] weight, const floating[::1] bias,
                 floating[::1] out, bint direct, int isa, int n_threads, str activation="linear", double slope=0,
                 const floating[::1] residual=None, const floating[::1] packed=None):
    """Cross-correlation into ``out`` (all arrays flat); ``bias`` may be None, ``packed`` the weights of :func:`pack`.

    ``residual``, laid out as ``out``, is added to the sums, and ``activation`` (a key of ACTIVATIONS, with the negative
    ``slope`` of "leaky_relu") is applied to them.
    """
    cdef c.fc_conv_job job
    cdef int64_t *table
    if out.shape[0] == 0:
        return
    axes = set_forward(&job, spec)
    kernel = triple(spec.kernel, 1)
    job.src, job.w, job.dst = &input[0], &weight[0], &out[0]
    job.b = &bias[0] if bias is not None else NULL
    job.epilogue.residual = &residual[0] if residual is not None else NULL
    job.epilogue.activation, job.epilogue.slope = ACTIVATIONS[activation], slope
    if packed is not None:
        check_packed(&job, packed.shape[0], isa, sizeof(floating))
        job.weights = &packed[0]
    table = tap_table(axes, kernel)
    job.tap = table
    try:
        if direct:
            run_direct(&job, NULL, axes[0], [(0, axes[1])], [(0, axes[2])], kernel, isa, sizeof(floating),
                       n_threads)
        else:
            run_product(&job, isa, sizeof(floating), n_threads)
    finally:
        free(table)


def conv_input_grad(spec, const floating[::1] grad, const floating[::1] weight, const floating[::1] bias,
                    floating[::1] out, bint direct, int isa, int n_threads):
    """Adjoint of :func:`conv_forward` in the input, plus ``bias`` per input channel, into ``out``."""
    cdef c.fc_conv_job job
    cdef int64_t *table
    cdef int64_t start
    cdef const void *bias_data = NULL
    if out.shape[0] == 0:
        return
    if bias is not None:
        bias_data = &bias[0]
    kernel = triple(spec.kernel, 1)
    taps = kernel[0] * kernel[1] * kernel[2]
    size, phases, complete = gradient_phases(spec)
    if not complete:
        fill_channels[floating](&out[0], out.shape[0], <floating *> bias_data, spec.in_channels,
                      size[0] * size[1] * size[2])
    if direct:  # all phases of a plane at once
        problems = product(phases[0], phases[1][:1], phases[2][:1])
    else:
        problems = product(*phases)
    for problem in problems:
        axes = [axis for _, axis in problem]
        start = problem[0][0] if direct else sum([first for first, _ in problem])
        memset(&job, 0, sizeof(job))
        set_geometry(&job.g, axes, spec.batch, spec.out_channels // spec.groups)
        set_strides(&job.g, axes, spec.out_channels, spec.in_channels, size)
        job.groups, job.m = spec.groups, spec.in_channels // spec.groups
        job.dst_group = job.m
        job.w_c, job.w_m = taps * job.m, taps
        job.w_group = taps * job.m * job.g.channels
        job.src, job.w, job.dst = &grad[0], &weight[0], &out[start]
        job.b = bias_data
        table = tap_table(axes, kernel)
        job.tap = table
        try:
            if direct:
                run_direct(&job, NULL, axes[0], phases[1], phases[2], kernel, isa, sizeof(floating), n_threads)
            else:
                run_product(&job, isa, sizeof(floating), n_threads)
        finally:
            free(table)


cdef set_col2im_parts(c.fc_col2im_job *job, int rows, int lanes, int item, int n_threads):
    """Blocks, ring and parts of a col2im job.  Blocks depend on the shapes of one image alone: they order the sums."""
    cdef int64_t y_first = job.g.offset[1][0], y_last = y_first, images = job.g.images, step = job.g.step[2], t, jobs
    job.g.images = 1
    c.fc_conv_derive(&job.g, c.fc_max(2 * lanes, c.fc_min(BLOCK_COLUMNS, 256 * BLOCK_COLUMNS // job.g.channels)), lanes)
    job.g.images = images
    for t in range(1, job.g.ntaps[1]):
        y_first, y_last = c.fc_min(y_first, job.g.offset[1][t]), c.fc_max(y_last, job.g.offset[1][t])
    job.ring = (job.g.block_rows - 1) * job.g.step[1] + y_last - y_first + 1
    job.phase_length = c.fc_max(job.g.grid[2] - 1 + job.g.x_span // step, (job.g.size[2] - 1 - job.g.x_first) // step)
    job.phase_length += 1 + lanes
    job.pitch = job.phase_length * step
    t = (job.g.channels * item + BLOCK_BYTES - 1) // BLOCK_BYTES
    job.depth = (job.g.channels + t - 1) // t
    job.part_m = c.fc_max(1, c.fc_min(job.m, COL2IM_RING_BYTES // (job.ring * job.pitch * item)))
    job.part_m = c.fc_max(1, c.fc_min(job.part_m, PACKED_BYTES // (job.g.channels * job.g.taps * item)))
    jobs = images * job.groups * ((job.m + job.part_m - 1) // job.part_m)
    if n_threads > 1 and jobs < 4 * n_threads:  # smaller parts, but of some tiles each
        t = images * job.groups
        job.part_m = c.fc_min(job.part_m, c.fc_max(job.m * t // (4 * n_threads), 16 * rows // job.g.taps + 1))
    job.parts = (job.m + job.part_m - 1) // job.part_m
    job.part_m = (job.m + job.parts - 1) // job.parts
    job.row_parts = 1
    jobs = images * job.groups * job.parts
    if jobs < n_threads:
        job.row_parts = c.fc_max(1, c.fc_min((2 * n_threads + jobs - 1) // jobs, job.g.grid[1] // job.g.block_rows))


def conv_input_grad_col2im(spec, const floating[::1] grad, const floating[::1] weight, const floating[::1] bias,
                           floating[::1] out, int isa, int n_threads):
    """As :func:`conv_input_grad`, by one product and shifted sums; see ``include/fc_col2im.h``."""
    cdef c.fc_col2im_job job
    cdef int item = sizeof(floating), rows = c.fc_gemm_rows(isa, item), lanes = c.fc_gemm_lanes(isa, item)
    cdef int64_t i, items, unit_bytes, thread_bytes, pass_units, u0
    cdef int64_t *table
    cdef char *memory
    cdef Scratch scratch
    memset(&job, 0, sizeof(job))
    if out.shape[0] == 0:
        return
    axes = forward_axes(spec)
    kernel = triple(spec.kernel, 1)
    set_geometry(&job.g, axes, spec.batch, spec.out_channels // spec.groups)
    job.groups, job.m, job.filter = spec.groups, spec.in_channels // spec.groups, kernel[0] * kernel[1] * kernel[2]
    set_col2im_parts(&job, rows, lanes, item, n_threads)
    job.grad, job.w, job.dst = &grad[0], &weight[0], &out[0]
    job.b = &bias[0] if bias is not None else NULL
    unit_bytes = c.fc_round_up(c.fc_col2im_weights(&job, rows) * item, 64)
    pass_units = c.fc_max(1, c.fc_min(job.groups * job.parts, PACKED_BYTES // unit_bytes))
    thread_bytes = c.fc_round_up(c.fc_col2im_scratch(&job, rows, lanes) * item, 4096) + 4096
    scratch = take_scratch(pass_units * unit_bytes + thread_bytes * n_threads)
    job.weights = scratch.start
    memory = scratch.start + pass_units * unit_bytes
    table = NULL
    try:
        table = tap_table(axes, kernel)
        job.tap = table
        for u0 in range(0, job.groups * job.parts, pass_units):
            job.unit0, job.units = u0, c.fc_min(pass_units, job.groups * job.parts - u0)
            items = c.fc_col2im_items(&job)
            with nogil:
                for i in prange(job.units, num_threads=n_threads, schedule="static"):
                    c.fc_col2im_weights_item(isa, item, &job, i)
                for i in prange(items, num_threads=n_threads, schedule="dynamic"):
                    c.fc_col2im_item(isa, item, &job, i, memory + c.fc_thread_id() * thread_bytes)
    finally:
        free(table)
        give_scratch(scratch)


cdef void fill_channels(floating *out, int64_t n, floating *bias, int64_t channels, int64_t plane) noexcept:
    """What positions without any tap hold: the bias of their channel, or zero."""
    cdef int64_t i
    for i in range(n):
        out[i] = bias[i // plane % channels] if bias != NULL else 0


cdef set_weight_parts(c.fc_conv_weight_job *job, int rows, int lanes, int item, int n_threads):
    """Cuts the weight gradient into (row, column) parts, and its sum into shares where it is small.

    The number of shares depends on the shapes alone: it fixes the order of the sum.
    """
    cdef int64_t nq = job.g.channels * job.g.taps, row_bytes, parts, blocks = c.fc_conv_blocks(&job.g)
    cdef int64_t tiles = ((job.m + rows - 1) // rows) * ((nq + lanes - 1) // lanes) * job.groups
    job.shares = 1
    if tiles < 64:
        job.shares = c.fc_max(1, c.fc_min(16, c.fc_min(blocks // 8, (1 << 18) // (job.groups * job.m * nq + 1))))
    job.part_m = c.fc_min(job.m, 1536 // rows * rows)
    # prepared source rows of a part stay within their share of scratch
    row_bytes = job.g.block_rows * job.g.row_taps * (job.g.block_x + 64) * job.g.step[2] * item
    job.part_q = c.fc_max(1, WEIGHT_SOURCE_BYTES // c.fc_max(1, row_bytes)) * job.g.taps
    job.part_q = c.fc_max(lanes, c.fc_min(job.part_q, 288) // lanes * lanes)
    job.part_q = c.fc_min(job.part_q, c.fc_round_up(nq, lanes))
    while (job.part_q > 3 * lanes and
           ((nq + job.part_q - 1) // job.part_q) * job.shares * job.groups * ((job.m + job.part_m - 1) // job.part_m)
           < n_threads):
        job.part_q = c.fc_round_up((job.part_q + 1) // 2, lanes)
    # equal parts: the last one must not be a sliver
    parts = (nq + job.part_q - 1) // job.part_q
    job.part_q = c.fc_round_up((nq + parts - 1) // parts, lanes)
    if ((nq + job.part_q - 1) // job.part_q) * job.shares * job.groups < n_threads and job.m > 2 * rows:
        job.part_m = c.fc_min(job.part_m, c.fc_round_up((job.m + n_threads - 1) // n_threads, rows))


cdef bint set_gather_parts(c.fc_conv_weight_job *job, int rows, int lanes, int item, int n_threads):
    """Cuts a weight gradient whose columns are gathered; returns whether that is fit for it: rows that fill half a vector
    tile, padded source rows that fit.  The number of shares depends on the shapes alone: it fixes the order of the sum."""
    cdef int64_t nq = job.g.channels * job.g.taps, channels, parts, tiles
    c.fc_gather_plan(&job.g, BLOCK_COLUMNS * 4 // item, &job.gather)
    if (job.m < lanes // 2 or job.g.taps > 4096
            or job.gather.channel_pitch * item > GATHER_SOURCE_BYTES):
        return False
    channels = c.fc_max(1, c.fc_min(job.g.channels, GATHER_SOURCE_BYTES // (job.gather.channel_pitch * item)))
    job.part_m = c.fc_min(job.m, 1536)  # of whole tiles
    job.part_q = c.fc_min(c.fc_min(nq, channels * job.g.taps), 1024)
    tiles = (nq + rows - 1) // rows * ((job.m + lanes - 1) // lanes) * job.groups
    job.shares = 1
    if tiles < 512:
        job.shares = c.fc_max(1, c.fc_min(8, job.gather.bands // 2))
    parts = (nq + job.part_q - 1) // job.part_q
    if parts * job.groups * job.shares < 2 * n_threads:
        parts = c.fc_min(2 * n_threads, (nq + rows - 1) // rows)
    job.part_q = c.fc_round_up((nq + parts - 1) // parts, rows)
    return True


def conv_weight_grad(spec, const floating[::1] input, const floating[::1] grad, floating[::1] out, bint direct, int isa,
                     int n_threads):
    """Adjoint of :func:`conv_forward` in the weight, into ``out``."""
    cdef c.fc_conv_weight_job job
    cdef c.fc_conv_job problem
    cdef int item = sizeof(floating), rows = c.fc_gemm_rows(isa, item), lanes = c.fc_gemm_lanes(isa, item)
    cdef int64_t i, s, items, thread_bytes, nq, columns, total, taps
    cdef Scratch scratch
    cdef char *memory
    cdef floating *partial
    cdef floating sum
    cdef bint gathered
    cdef int64_t partial_bytes = 0
    cdef int64_t *table = NULL
    memset(&job, 0, sizeof(job))
    if spec.batch == 0:
        out[:] = 0
        return
    axes = forward_axes(spec)
    set_geometry(&job.g, axes, spec.batch, spec.in_channels // spec.groups)
    set_strides(&job.g, axes, spec.in_channels, spec.out_channels, [(<Axis> axis).grid for axis in axes])
    job.groups, job.m = spec.groups, spec.out_channels // spec.groups
    job.src, job.grad, job.dst = &input[0], &grad[0], &out[0]
    job.grad_end = grad.shape[0]
    taps = out.shape[0] // (job.groups * job.m * job.g.channels)
    if direct and job.g.taps == taps:  # taps that see padding alone are left to the product
        memset(&problem, 0, sizeof(problem))
        problem.g, problem.groups, problem.m, problem.src, problem.dst = job.g, job.groups, job.m, job.src, job.dst
        run_direct(&problem, job.grad, axes[0], [(0, axes[1])], [(0, axes[2])], triple(spec.kernel, 1), isa, item,
                   n_threads)
        return
    c.fc_conv_derive(&job.g, BLOCK_COLUMNS * 4 // item, lanes)
    nq = job.g.channels * job.g.taps
    gathered = set_gather_parts(&job, rows, lanes, item, n_threads)
    if not gathered:
        set_weight_parts(&job, rows, lanes, item, n_threads)
    items = (job.groups * job.shares * ((nq + job.part_q - 1) // job.part_q)
             * ((job.m + job.part_m - 1) // job.part_m))
    if gathered:
        thread_bytes = c.fc_gather_bytes(&job, item, rows, lanes)
    else:
        columns = job.g.block_rows * job.g.block_x + 8
        thread_bytes = c.fc_scratch_split(&job.g, 0, item, lanes, c.fc_weight_channels(&job.g, job.part_q), NULL).bytes
        thread_bytes += (c.fc_round_up(job.part_q, lanes) + c.fc_round_up(job.part_m, rows)) * columns * item
    thread_bytes = c.fc_round_up(thread_bytes, 4096) + 4096
    total = job.groups * job.m * nq
    if job.shares > 1 or job.g.taps < taps:
        partial_bytes = c.fc_round_up(total * job.shares * item, 64)
    scratch = take_scratch(thread_bytes * n_threads + partial_bytes)
    memory = scratch.start + partial_bytes
    try:
        if partial_bytes:
            job.dst = scratch.start
        with nogil:
            if gathered:
                for i in prange(items, num_threads=n_threads, schedule="dynamic"):
                    c.fc_conv_weight_gather_item(isa, item, &job, i, memory + c.fc_thread_id() * thread_bytes)
            else:
                for i in prange(items, num_threads=n_threads, schedule="dynamic"):
                    c.fc_conv_weight_item(isa, item, &job, i, memory + c.fc_thread_id() * thread_bytes)
        if partial_bytes:
            table = tap_table(axes, triple(spec.kernel, 1))
            partial = <floating *> scratch.start
            if job.g.taps < taps:
                out[:] = 0
            for i in range(total):
                sum = partial[i]
                for s in range(1, job.shares):
                    sum += partial[s * total + i]
                out[i // job.g.taps * taps + table[i % job.g.taps]] = sum
    finally:
        free(table)
        give_scratch(scratch)


def matmul(a, b, bias, out, int64_t m, int64_t n, int64_t k, int item, bint trans_a, bint trans_b, int isa,
           int n_threads, str activation="linear", double slope=0, residual=None):
    """``out = activation(op(a) @ op(b) + bias + residual)``; ``item`` is the size of an element."""
    cdef c.fc_matmul_job job
    cdef int64_t i, items, thread_bytes
    cdef Scratch scratch
    cdef char *memory
    job.m, job.n, job.k = m, n, k
    job.trans_a, job.trans_b = trans_a, trans_b
    job.a, job.b = read_from(a, m * k * item), read_from(b, k * n * item)
    job.epilogue.bias, job.epilogue.residual = read_from(bias, n * item), read_from(residual, m * n * item)
    job.epilogue.activation, job.epilogue.slope = ACTIVATIONS[activation], slope
    job.c = write_to(out, m * n * item)
    if m == 0 or n == 0:
        return
    items = c.fc_matmul_items(&job, isa, item)
    thread_bytes = c.fc_round_up(c.fc_matmul_bytes(&job, isa, item), 4096) + 4096
    scratch = take_scratch(thread_bytes * n_threads)
    memory = scratch.start
    try:
        with nogil:
            if n_threads == 1:  # without the cost of a parallel region
                for i in range(items):
                    c.fc_matmul_item(isa, item, &job, i, memory)
            else:
                for i in prange(items, num_threads=n_threads, schedule="dynamic"):
                    c.fc_matmul_item(isa, item, &job, i, memory + c.fc_thread_id() * thread_bytes)
    finally:
        give_scratch(scratch)
