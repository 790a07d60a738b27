# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Drivers of convolution as a matrix product, and of the product itself: work items, scratch memory, threads.

A driver describes the problem as an ``fc_conv`` (see ``include/fc_conv.h``), cuts it into work items that write disjoint
parts of the result, and runs them in parallel.  How the work is cut never changes the order of a sum, so results are the
same bits for any thread count.
"""

from cython cimport floating
from cython.parallel cimport prange
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

cimport fc_conv as c

include "arrays.pxi"
include "epilogue.pxi"
include "geometry.pxi"
include "scratch.pxi"

cdef int64_t BLOCK_COLUMNS = 256           # columns packed at a time
cdef int64_t BLOCK_BYTES = 1024            # depth of a packed block, in bytes of one column
cdef int64_t PACKED_BYTES = 8 << 20        # packed weights of one pass, shared by the threads
cdef int64_t SCRATCH_BYTES = 16 << 20      # per thread
cdef int64_t COL2IM_RING_BYTES = 1024 << 10 # sums of a col2im item
cdef int64_t GATHER_SOURCE_BYTES = 128 << 10 # padded source rows of a gathered item
cdef int64_t WEIGHT_SOURCE_BYTES = 2 << 20 # prepared source rows of a weight-gradient item


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


cdef void set_block_channels(fc_conv_job *job, int isa, int item):
    """Whether columns are read in place, and the channels of a block; the latter and the arguments fix the layout of
    packed weights."""
    cdef int lanes = c.fc_vector_bytes(isa) // item
    cdef int64_t depth = fc_max(1, BLOCK_BYTES // item), k = job.g.channels * job.g.taps
    cdef int64_t blocks = (k + depth - 1) // depth
    c.fc_conv_derive(&job.g, BLOCK_COLUMNS, lanes)
    job.in_place = (packed_weights(job, isa, item) * item <= PACKED_BYTES
                    and c.fc_indirect_plan(&job.g, job.m, item, lanes, &job.indirect))
    if job.in_place:
        job.block_channels = job.g.channels
        return
    # equal blocks of whole channels
    job.block_channels = fc_max(1, job.g.channels // fc_min(blocks, job.g.channels))
    if job.block_channels * job.g.taps < depth * 2 // 3:
        job.block_channels = fc_max(1, fc_min(job.g.channels, depth // job.g.taps))


cdef int64_t packed_weights(fc_conv_job *job, int isa, int item):
    """Elements of the packed weights of all groups."""
    return job.groups * fc_round_up(job.m, c.fc_gemm_rows(isa, item)) * job.g.channels * job.g.taps


cdef run_product(fc_conv_job *job, int isa, int item, int n_threads):
    """Packed weights times columns, in passes whose packed weights fit PACKED_BYTES; in one where they are given."""
    cdef int rows = c.fc_gemm_rows(isa, item), lanes = c.fc_gemm_lanes(isa, item)
    cdef int64_t columns = BLOCK_COLUMNS, all_k, padded, group_bytes, pass_groups, pass_m, m0, g0
    cdef int64_t items, total, least_parts
    cdef int64_t packed_bytes = 0, thread_bytes, at
    cdef bint given = job.weights != NULL
    cdef fc_conv_job part
    cdef Scratch scratch
    cdef char *base

    set_block_channels(job, isa, item)
    if job.in_place:
        run_indirect(job, isa, item, n_threads)
        return
    # fewer columns where there are fewer than the threads could share
    all_k = job.g.channels * job.g.taps
    if job.block_channels * job.g.taps * columns * item > SCRATCH_BYTES // 2:
        columns = fc_max(lanes, SCRATCH_BYTES // 2 // (job.block_channels * job.g.taps * item))
    total = job.g.images * job.g.grid[0] * job.g.grid[1] * job.g.grid[2]
    if n_threads > 1 and total * job.groups < columns * n_threads * 2:
        columns = fc_max(lanes, fc_round_up((total * job.groups + n_threads - 1) // n_threads, lanes))
    c.fc_conv_derive(&job.g, columns, lanes)

    padded = fc_round_up(job.m, rows)
    group_bytes = padded * all_k * item
    pass_groups, pass_m = job.groups, job.m
    if not given:
        pass_groups = fc_max(1, fc_min(job.groups, PACKED_BYTES // fc_max(1, group_bytes)))
        if pass_groups == 1 and group_bytes > PACKED_BYTES:
            pass_m = fc_max(rows, PACKED_BYTES // (all_k * item) // rows * rows)
        packed_bytes = fc_round_up(pass_groups * fc_round_up(pass_m, rows) * all_k * item, 64)
    thread_bytes = c.fc_scratch_split(&job.g, job.block_channels * job.g.taps, item, lanes, 1, NULL).bytes
    columns = fc_round_up(job.g.block_rows * job.g.block_x, lanes)
    least_parts = 1
    if job.g.dst_step[2] != 1:  # sums are staged: see conv_item
        least_parts = (pass_m * columns * item + SCRATCH_BYTES // 4 - 1) // (SCRATCH_BYTES // 4)
        thread_bytes += fc_round_up((pass_m + least_parts - 1) // least_parts, rows) * columns * item
    thread_bytes = fc_round_up(thread_bytes, 4096) + 4096

    scratch = take_scratch(packed_bytes + thread_bytes * n_threads)
    base = scratch.start
    try:
        for g0 in range(0, job.groups, pass_groups):
            for m0 in range(0, job.m, pass_m):
                part = job[0]
                part.groups = fc_min(pass_groups, job.groups - g0)
                part.m = fc_min(pass_m, job.m - m0)
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
                    part.parts = fc_max(
                        least_parts, fc_min((n_threads + items - 1) // items, (part.m + rows - 1) // rows))
                run_items(&part, isa, item, items * part.parts, base + packed_bytes, thread_bytes, n_threads)
    finally:
        give_scratch(scratch)


cdef run_indirect(fc_conv_job *job, int isa, int item, int n_threads):
    """The product with columns read in place."""
    cdef int64_t packed_bytes = 0 if job.weights != NULL else fc_round_up(packed_weights(job, isa, item) * item, 64)
    cdef int64_t i, items, thread_bytes
    cdef Scratch scratch
    cdef char *memory
    items = job.g.images * job.g.grid[0] * job.groups
    if items * job.indirect.bands < n_threads:
        job.indirect.band_rows = fc_max(1, job.g.grid[1] * items // n_threads)
        job.indirect.bands = (job.g.grid[1] + job.indirect.band_rows - 1) // job.indirect.band_rows
    items *= job.indirect.bands
    thread_bytes = fc_round_up(job.indirect.bytes, 4096) + 4096
    scratch = take_scratch(packed_bytes + thread_bytes * n_threads)
    memory = scratch.start + packed_bytes
    try:
        if packed_bytes:
            job.weights = scratch.start
            pack_weights(job, isa, item, n_threads, scratch.start)
        with nogil:
            for i in prange(items, num_threads=n_threads, schedule="dynamic"):
                c.fc_conv_indirect_item(isa, item, job, i, memory + fc_thread_id() * thread_bytes)
    finally:
        give_scratch(scratch)


cdef void pack_weights(fc_conv_job *job, int isa, int item, int n_threads, void *packed):
    cdef int rows = c.fc_gemm_rows(isa, item)
    cdef int64_t i, panels = job.groups * ((job.m + rows - 1) // rows)
    with nogil:
        for i in prange(panels, num_threads=n_threads, schedule="static"):
            c.fc_conv_weights_item(isa, item, job, i, packed)


cdef void run_items(fc_conv_job *part, int isa, int item, int64_t items, char *memory, int64_t thread_bytes,
                    int n_threads):
    cdef int64_t i
    with nogil:
        for i in prange(items, num_threads=n_threads, schedule="dynamic"):
            c.fc_conv_item(isa, item, part, i, memory + fc_thread_id() * thread_bytes)


cdef int64_t group_parts(int64_t blocks, int64_t groups, int n_threads):
    """Parts of the groups, so that every thread gets several work items; each part plans its blocks anew."""
    if n_threads == 1 or blocks == 0:
        return 1
    return fc_min(groups, (4 * n_threads + blocks - 1) // blocks)


def packing(spec, int isa):
    """How the product packs the weights of :func:`conv_forward` in advance.

    Returns
    -------
    tuple of int
        Channels of a block, which with the instruction set and the weight's shape and dtype fix the layout, and elements
        of the whole.  0 and 0 where taps are left out, for they see padding alone.
    """
    cdef fc_conv_job job
    cdef int item = 4 if spec.dtype == "float32" else 8
    axes = set_forward(&job, spec)
    if not job.w_contiguous:
        return 0, 0
    set_block_channels(&job, isa, item)
    return job.block_channels, packed_weights(&job, isa, item)


def pack(spec, const floating[::1] weight, floating[::1] out, int isa, int n_threads):
    """The weights of :func:`conv_forward` as the product reads them, into ``out`` of the size told by :func:`packing`."""
    cdef fc_conv_job job
    cdef int64_t *table
    axes = set_forward(&job, spec)
    set_block_channels(&job, isa, sizeof(floating))
    check_packed(&job, out.shape[0], isa, sizeof(floating))
    job.w = &weight[0]
    table = tap_table(axes, triple(spec.kernel, 1))
    job.tap = table
    pack_weights(&job, isa, sizeof(floating), n_threads, &out[0])
    free(table)


cdef check_packed(fc_conv_job *job, int64_t elements, int isa, int item):
    cdef int64_t expected = packed_weights(job, isa, item)
    if elements != expected:
        raise ValueError(f"packed weights must have {expected} elements, got {elements}")


def conv_forward(spec, const floating[::1] input, const floating[::1] weight, const floating[::1] bias,
                 floating[::1] out, int isa, int n_threads, str activation="linear", double slope=0,
                 const floating[::1] residual=None, const floating[::1] packed=None):
    """Cross-correlation into ``out`` (all arrays flat); ``bias`` may be None, ``packed`` the weights of :func:`pack`.

    ``residual``, laid out as ``out``, is added to the sums, and ``activation`` (a key of ACTIVATIONS, with the negative
    ``slope`` of "leaky_relu") is applied to them.
    """
    cdef fc_conv_job job
    cdef int64_t *table
    if out.shape[0] == 0:
        return
    axes = set_forward(&job, spec)
    job.src, job.w, job.dst = &input[0], &weight[0], &out[0]
    job.b = &bias[0] if bias is not None else NULL
    job.epilogue.residual = &residual[0] if residual is not None else NULL
    job.epilogue.activation, job.epilogue.slope = ACTIVATIONS[activation], slope
    if packed is not None:
        check_packed(&job, packed.shape[0], isa, sizeof(floating))
        job.weights = &packed[0]
    table = tap_table(axes, triple(spec.kernel, 1))
    job.tap = table
    try:
        run_product(&job, isa, sizeof(floating), n_threads)
    finally:
        free(table)


def conv_input_grad(spec, const floating[::1] grad, const floating[::1] weight, const floating[::1] bias,
                    floating[::1] out, int isa, int n_threads):
    """Adjoint of :func:`conv_forward` in the input, plus ``bias`` per input channel, into ``out``."""
    cdef fc_conv_job job
    cdef int64_t *table
    cdef int64_t start
    cdef const void *bias_data = NULL
    if out.shape[0] == 0:
        return
    if bias is not None:
        bias_data = &bias[0]
    size, phases, complete = gradient_phases(spec)
    if not complete:
        fill_channels[floating](&out[0], out.shape[0], <floating *> bias_data, spec.in_channels,
                                size[0] * size[1] * size[2])
    for problem in product(*phases):
        axes = set_input_grad(&job, spec, problem, size)
        start = sum([first for first, _ in problem])
        job.src, job.w, job.dst = &grad[0], &weight[0], &out[start]
        job.b = bias_data
        table = tap_table(axes, triple(spec.kernel, 1))
        job.tap = table
        try:
            run_product(&job, isa, sizeof(floating), n_threads)
        finally:
            free(table)


cdef set_col2im_parts(c.fc_col2im_job *job, int rows, int lanes, int item, int n_threads):
    """Blocks, ring and parts of a col2im job.  Blocks depend on the shapes of one image alone: they order the sums."""
    cdef int64_t y_first = job.g.offset[1][0], y_last = y_first, images = job.g.images, step = job.g.step[2], t, jobs
    job.g.images = 1
    c.fc_conv_derive(&job.g, fc_max(2 * lanes, fc_min(BLOCK_COLUMNS, 256 * BLOCK_COLUMNS // job.g.channels)), lanes)
    job.g.images = images
    for t in range(1, job.g.ntaps[1]):
        y_first, y_last = fc_min(y_first, job.g.offset[1][t]), fc_max(y_last, job.g.offset[1][t])
    job.ring = (job.g.block_rows - 1) * job.g.step[1] + y_last - y_first + 1
    job.phase_length = fc_max(job.g.grid[2] - 1 + job.g.x_span // step, (job.g.size[2] - 1 - job.g.x_first) // step)
    job.phase_length += 1 + lanes
    job.pitch = job.phase_length * step
    t = (job.g.channels * item + BLOCK_BYTES - 1) // BLOCK_BYTES
    job.depth = (job.g.channels + t - 1) // t
    job.part_m = fc_max(1, fc_min(job.m, COL2IM_RING_BYTES // (job.ring * job.pitch * item)))
    job.part_m = fc_max(1, fc_min(job.part_m, PACKED_BYTES // (job.g.channels * job.g.taps * item)))
    jobs = images * job.groups * ((job.m + job.part_m - 1) // job.part_m)
    if n_threads > 1 and jobs < 4 * n_threads:  # smaller parts, but of some tiles each
        t = images * job.groups
        job.part_m = fc_min(job.part_m, fc_max(job.m * t // (4 * n_threads), 16 * rows // job.g.taps + 1))
    job.parts = (job.m + job.part_m - 1) // job.part_m
    job.part_m = (job.m + job.parts - 1) // job.parts
    job.row_parts = 1
    jobs = images * job.groups * job.parts
    if jobs < n_threads:
        job.row_parts = fc_max(1, fc_min((2 * n_threads + jobs - 1) // jobs, job.g.grid[1] // job.g.block_rows))


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
    unit_bytes = fc_round_up(c.fc_col2im_weights(&job, rows) * item, 64)
    pass_units = fc_max(1, fc_min(job.groups * job.parts, PACKED_BYTES // unit_bytes))
    thread_bytes = fc_round_up(c.fc_col2im_scratch(&job, rows, lanes) * item, 4096) + 4096
    scratch = take_scratch(pass_units * unit_bytes + thread_bytes * n_threads)
    job.weights = scratch.start
    memory = scratch.start + pass_units * unit_bytes
    table = NULL
    try:
        table = tap_table(axes, kernel)
        job.tap = table
        for u0 in range(0, job.groups * job.parts, pass_units):
            job.unit0, job.units = u0, fc_min(pass_units, job.groups * job.parts - u0)
            items = c.fc_col2im_items(&job)
            with nogil:
                for i in prange(job.units, num_threads=n_threads, schedule="static"):
                    c.fc_col2im_weights_item(isa, item, &job, i)
                for i in prange(items, num_threads=n_threads, schedule="dynamic"):
                    c.fc_col2im_item(isa, item, &job, i, memory + fc_thread_id() * thread_bytes)
    finally:
        free(table)
        give_scratch(scratch)


cdef set_weight_parts(c.fc_conv_weight_job *job, int rows, int lanes, int item, int n_threads):
    """Cuts the weight gradient into (row, column) parts, and its sum into shares where it is small.

    The number of shares depends on the shapes alone: it fixes the order of the sum.
    """
    cdef int64_t nq = job.g.channels * job.g.taps, row_bytes, parts, blocks = c.fc_conv_blocks(&job.g)
    cdef int64_t tiles = ((job.m + rows - 1) // rows) * ((nq + lanes - 1) // lanes) * job.groups
    job.shares = 1
    if tiles < 64:
        job.shares = fc_max(1, fc_min(16, fc_min(blocks // 8, (1 << 18) // (job.groups * job.m * nq + 1))))
    job.part_m = fc_min(job.m, 1536 // rows * rows)
    # prepared source rows of a part stay within their share of scratch
    row_bytes = job.g.block_rows * job.g.row_taps * (job.g.block_x + 64) * job.g.step[2] * item
    job.part_q = fc_max(1, WEIGHT_SOURCE_BYTES // fc_max(1, row_bytes)) * job.g.taps
    job.part_q = fc_max(lanes, fc_min(job.part_q, 288) // lanes * lanes)
    job.part_q = fc_min(job.part_q, fc_round_up(nq, lanes))
    while (job.part_q > 3 * lanes and
           ((nq + job.part_q - 1) // job.part_q) * job.shares * job.groups * ((job.m + job.part_m - 1) // job.part_m)
           < n_threads):
        job.part_q = fc_round_up((job.part_q + 1) // 2, lanes)
    # equal parts: the last one must not be a sliver
    parts = (nq + job.part_q - 1) // job.part_q
    job.part_q = fc_round_up((nq + parts - 1) // parts, lanes)
    if ((nq + job.part_q - 1) // job.part_q) * job.shares * job.groups < n_threads and job.m > 2 * rows:
        job.part_m = fc_min(job.part_m, fc_round_up((job.m + n_threads - 1) // n_threads, rows))


cdef bint set_gather_parts(c.fc_conv_weight_job *job, int rows, int lanes, int item, int n_threads):
    """Cuts a weight gradient whose columns are gathered; returns whether that is fit for it: rows that fill half a vector
    tile, padded source rows that fit.  The number of shares depends on the shapes alone: it fixes the order of the sum."""
    cdef int64_t nq = job.g.channels * job.g.taps, channels, parts, tiles
    c.fc_gather_plan(&job.g, BLOCK_COLUMNS * 4 // item, &job.gather)
    if (job.m < lanes // 2 or job.g.taps > 4096
            or job.gather.channel_pitch * item > GATHER_SOURCE_BYTES):
        return False
    channels = fc_max(1, fc_min(job.g.channels, GATHER_SOURCE_BYTES // (job.gather.channel_pitch * item)))
    job.part_m = fc_min(job.m, 1536)  # of whole tiles
    job.part_q = fc_min(fc_min(nq, channels * job.g.taps), 1024)
    tiles = (nq + rows - 1) // rows * ((job.m + lanes - 1) // lanes) * job.groups
    job.shares = 1
    if tiles < 512:
        job.shares = fc_max(1, fc_min(8, job.gather.bands // 2))
    parts = (nq + job.part_q - 1) // job.part_q
    if parts * job.groups * job.shares < 2 * n_threads:
        parts = fc_min(2 * n_threads, (nq + rows - 1) // rows)
    job.part_q = fc_round_up((nq + parts - 1) // parts, rows)
    return True


def conv_weight_grad(spec, const floating[::1] input, const floating[::1] grad, floating[::1] out, int isa, int n_threads):
    """Adjoint of :func:`conv_forward` in the weight, into ``out``."""
    cdef c.fc_conv_weight_job job
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
        thread_bytes += (fc_round_up(job.part_q, lanes) + fc_round_up(job.part_m, rows)) * columns * item
    thread_bytes = fc_round_up(thread_bytes, 4096) + 4096
    total = job.groups * job.m * nq
    if job.shares > 1 or job.g.taps < taps:
        partial_bytes = fc_round_up(total * job.shares * item, 64)
    scratch = take_scratch(thread_bytes * n_threads + partial_bytes)
    memory = scratch.start + partial_bytes
    try:
        if partial_bytes:
            job.dst = scratch.start
        with nogil:
            if gathered:
                for i in prange(items, num_threads=n_threads, schedule="dynamic"):
                    c.fc_conv_weight_gather_item(isa, item, &job, i, memory + fc_thread_id() * thread_bytes)
            else:
                for i in prange(items, num_threads=n_threads, schedule="dynamic"):
                    c.fc_conv_weight_item(isa, item, &job, i, memory + fc_thread_id() * thread_bytes)
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
    c.fc_matmul_plan(&job, c.fc_gemm_lanes(isa, item), n_threads)
    items = c.fc_matmul_items(&job, isa, item)
    thread_bytes = fc_round_up(c.fc_matmul_bytes(&job, isa, item), 4096) + 4096
    scratch = take_scratch(thread_bytes * n_threads)
    memory = scratch.start
    try:
        with nogil:
            if n_threads == 1:  # without the cost of a parallel region
                for i in range(items):
                    c.fc_matmul_item(isa, item, &job, i, memory)
            else:
                for i in prange(items, num_threads=n_threads, schedule="dynamic"):
                    c.fc_matmul_item(isa, item, &job, i, memory + fc_thread_id() * thread_bytes)
    finally:
        give_scratch(scratch)
