# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Drivers of Winograd convolution: tiles, passes whose transformed tiles fit in cache, work items, threads.

A pass transforms the tiles of all channels (items: channels x tiles), then multiplies and transforms back (items: rows x
tiles).  How the work is cut never changes the order of a sum, so results are the same bits for any thread count.
"""

from cython cimport floating
from cython.parallel cimport prange
from libc.string cimport memset

cimport fc_winograd as c

include "epilogue.pxi"
include "scratch.pxi"
include "tiling.pxi"

cdef int64_t TILE_BYTES = 3 << 20     # transformed tiles of a pass, shared by the threads
cdef int64_t TILE_BYTES_MOST = 12 << 20
cdef int64_t PASS_PANELS = 8          # ... or this many panels: each pass reads all filters
cdef int64_t PASS_TILES = 192         # ... of the weight gradient, whose sums each pass goes over
cdef int64_t FILTER_BYTES = 4 << 20   # filters that are transformed once, not by every item that needs them
cdef int64_t SUM_BYTES = 16 << 20     # sums of a pass of the weight gradient, shared by the threads
cdef int64_t STAGE_BYTES = 320 << 10  # sums of a product item before they are transformed back
cdef int64_t LINE_BYTES = 48 << 10    # vertically transformed lines of a transform item
cdef int64_t BLOCK_BYTES = 24 << 10   # filters of one frequency of a product item
cdef int64_t BLOCK_ROWS = 24          # least rows of a product item
cdef int64_t BLOCK_ROWS_MOST = 96


cdef set_source(c.fc_tile_source *s, size, origin, int64_t channels, const void *data):
    s.data = data
    s.size[0], s.size[1] = size
    s.origin[0], s.origin[1] = origin
    s.channel = s.size[0] * s.size[1]
    s.image = s.channel * channels


cdef set_chunk(fc_tiling *t, int64_t lanes, int64_t channels, int64_t item):
    """Tiles transformed at a time: whole rows of them while their lines stay in cache."""
    cdef int64_t rows = 4
    t.chunk = fc_min(4 * t.tile_columns, 256)
    while rows > 1 and channels * c.fc_chunk_elements(t, lanes) * item > LINE_BYTES:
        rows -= 1
        t.chunk = fc_min(rows * t.tile_columns, 256)
    t.chunk = fc_round_up(fc_max(t.chunk, 2 * lanes if channels == 1 else 1), lanes)


cdef int64_t set_block_rows(c.fc_winograd_job *job, int isa, int item):
    """Rows of a product item; it and the arguments alone fix the layout of transformed filters.

    Returns
    -------
    int
        Blocks of rows of all groups: each is a part of the transformed filters, ``fc_winograd_filters_size`` elements.
    """
    cdef int64_t most = fc_max(BLOCK_ROWS, fc_min(BLOCK_ROWS_MOST, BLOCK_BYTES // (job.channels * item)))
    cdef int64_t blocks = (job.rows + most - 1) // most
    job.block_rows = fc_round_up((job.rows + blocks - 1) // blocks, c.fc_gemm_rows(isa, item))
    return job.groups * ((job.rows + job.block_rows - 1) // job.block_rows)


cdef void transform_filters(c.fc_winograd_job *job, int64_t blocks, int isa, int item, int n_threads, void *filters):
    cdef int64_t i
    with nogil:
        for i in prange(blocks, num_threads=n_threads, schedule="dynamic"):
            c.fc_winograd_filters_item(isa, item, job, i, filters)


cdef bint run_sums(c.fc_winograd_job *job, int isa, int item, int n_threads) except -1:
    """All passes of a forward job, whose filters may be prepared; False where a result is not finite."""
    cdef int lanes = c.fc_gemm_lanes(isa, item)
    cdef int64_t panels = fc_panels(job.t.tiles, lanes), frequencies = fc_frequencies(&job.t)
    cdef int64_t panel_bytes = job.groups * frequencies * c.fc_winograd_v_stride(job.channels, lanes) * item
    cdef int64_t pass_panels = fc_min(panels, fc_max(TILE_BYTES // panel_bytes, fc_max(1, fc_min(
        PASS_PANELS, TILE_BYTES_MOST // panel_bytes))))
    cdef int64_t blocks, parts, passes, tiles_items, product_items, thread_bytes, tile_bytes, own, i, bad = 0
    cdef int64_t filter_bytes = 0
    cdef Scratch scratch
    cdef char *memory
    passes = (panels + pass_panels - 1) // pass_panels
    pass_panels = (panels + passes - 1) // passes

    set_chunk(&job.t, lanes, 1, item)
    job.block_channels = fc_max(1, fc_min(16, job.channels // (2 * n_threads)))
    blocks = set_block_rows(job, isa, item)
    job.stage_panels = fc_max(1, STAGE_BYTES // (c.fc_winograd_sums_size(isa, item, job, 1) * item))
    if job.prepared == NULL and (passes > 1 or blocks < 2 * n_threads):
        filter_bytes = blocks * c.fc_winograd_filters_size(isa, item, job) * item
        if filter_bytes > FILTER_BYTES:
            filter_bytes = 0
    # an item without prepared filters transforms its own: enough items for the threads, but not more
    parts = (8 * n_threads + blocks - 1) // blocks
    parts = fc_max(1, fc_min(parts, pass_panels if filter_bytes or job.prepared != NULL else pass_panels // 8))
    job.block_panels = (pass_panels + parts - 1) // parts

    tile_bytes = fc_round_up(panel_bytes * pass_panels, 64)
    own = c.fc_winograd_scratch(isa, item, &job.t, 1)
    thread_bytes = (c.fc_winograd_sums_size(isa, item, job, fc_min(job.stage_panels, job.block_panels)) + 32) * item
    if filter_bytes == 0 and job.prepared == NULL:
        thread_bytes += c.fc_winograd_filters_size(isa, item, job) * item
    thread_bytes = fc_round_up(fc_max(own, thread_bytes), 4096) + 4096
    filter_bytes = fc_round_up(filter_bytes, 64)
    scratch = take_scratch(tile_bytes + filter_bytes + thread_bytes * n_threads)
    job.v = scratch.start
    memory = scratch.start + tile_bytes + filter_bytes
    try:
        if filter_bytes:
            transform_filters(job, blocks, isa, item, n_threads, scratch.start + tile_bytes)
            job.prepared = scratch.start + tile_bytes
        job.tile0 = 0
        while job.tile0 < job.t.tiles:
            job.tile1 = fc_min(job.t.tiles, job.tile0 + pass_panels * lanes)
            tiles_items = (job.groups * ((job.channels + job.block_channels - 1) // job.block_channels)
                           * ((job.tile1 - job.tile0 + job.t.chunk - 1) // job.t.chunk))
            product_items = (blocks * ((fc_panels(job.tile1 - job.tile0, lanes) + job.block_panels - 1)
                                                    // job.block_panels))
            with nogil:
                for i in prange(tiles_items, num_threads=n_threads, schedule="dynamic"):
                    c.fc_winograd_tiles_item(isa, item, job, i, memory + c.fc_thread_id() * thread_bytes)
                for i in prange(product_items, num_threads=n_threads, schedule="dynamic"):
                    bad += c.fc_winograd_product_item(isa, item, job, i, memory + c.fc_thread_id() * thread_bytes)
            if bad:
                return False
            job.tile0 = job.tile1
        return True
    finally:
        give_scratch(scratch)


cdef Tiling set_forward(c.fc_winograd_job *job, spec, int m):
    """Tiling and filters of a forward job, but for their address; what is returned holds the tiling's tables."""
    cdef Tiling tiles = _tiling(plane(spec.out_size, 1), plane(spec.dilation, 1), tile_shape(spec, m))
    cdef int64_t taps
    memset(job, 0, sizeof(job[0]))
    job.t = tiles.t
    job.groups, job.channels, job.rows = spec.groups, spec.in_channels // spec.groups, spec.out_channels // spec.groups
    taps = job.t.taps[0] * job.t.taps[1]
    job.w_channel, job.w_row, job.w_group = taps, taps * job.channels, taps * job.channels * job.rows
    return tiles


cdef int64_t filters_elements(c.fc_winograd_job *job, int isa, int item):
    return set_block_rows(job, isa, item) * c.fc_winograd_filters_size(isa, item, job)


def filters_size(spec, int m, int isa):
    """Elements of the filters that :func:`transform` makes."""
    cdef c.fc_winograd_job job
    set_forward(&job, spec, m)
    return filters_elements(&job, isa, 4 if spec.dtype == "float32" else 8)


def transform(spec, const floating[::1] weight, floating[::1] out, int m, int isa, int n_threads):
    """The filters of :func:`conv_forward` as its products read them, into ``out`` of :func:`filters_size` elements.

    Of the spec, shape and dtype of the weight and ``groups`` matter alone.
    """
    cdef c.fc_winograd_job job
    cdef int64_t blocks
    set_forward(&job, spec, m)
    check_filters(&job, out.shape[0], isa, sizeof(floating))
    job.w = &weight[0]
    blocks = set_block_rows(&job, isa, sizeof(floating))
    transform_filters(&job, blocks, isa, sizeof(floating), n_threads, &out[0])


cdef check_filters(c.fc_winograd_job *job, int64_t elements, int isa, int item):
    cdef int64_t expected = filters_elements(job, isa, item)
    if elements != expected:
        raise ValueError(f"transformed filters must have {expected} elements, got {elements}")


def conv_forward(spec, const floating[::1] input, const floating[::1] weight, const floating[::1] bias,
                 floating[::1] out, int m, int isa, int n_threads, str activation="linear", double slope=0,
                 const floating[::1] residual=None, const floating[::1] filters=None):
    """Cross-correlation into ``out`` (all arrays flat); ``bias`` may be None, ``filters`` those of :func:`transform`.

    ``residual``, laid out as ``out``, is added to the sums, and ``activation`` (a key of ACTIVATIONS, with the negative
    ``slope`` of "leaky_relu") is applied to them before they are stored.

    Returns
    -------
    bool
        False where a result is not finite: Winograd spreads infinities and NaNs over their tile, so ``out`` must then be
        computed in another way.
    """
    cdef c.fc_winograd_job job
    cdef Tiling tiles
    if out.shape[0] == 0:
        return True
    tiles = set_forward(&job, spec, m)
    size, pads = plane(spec.in_size, 1), plane(spec.pad_lo, 0)
    job.t.tiles = spec.batch * job.t.tile_rows * job.t.tile_columns
    set_source(&job.src, size, (-pads[0], -pads[1]), spec.in_channels, &input[0])
    job.w = &weight[0]
    if filters is not None:
        check_filters(&job, filters.shape[0], isa, sizeof(floating))
        job.prepared = &filters[0]
    job.epilogue.bias = &bias[0] if bias is not None else NULL
    job.epilogue.residual = &residual[0] if residual is not None else NULL
    job.epilogue.activation, job.epilogue.slope = ACTIVATIONS[activation], slope
    job.dst = &out[0]
    job.dst_channel = job.t.grid[0] * job.t.grid[1]
    job.dst_image = job.dst_channel * spec.out_channels
    return run_sums(&job, isa, sizeof(floating), n_threads)


def conv_input_grad(spec, const floating[::1] grad, const floating[::1] weight, const floating[::1] bias,
                    floating[::1] out, int m, int isa, int n_threads):
    """Adjoint of :func:`conv_forward` in the input, plus ``bias`` per input channel, into ``out``; returns as it does.

    It is the forward pass over the gradient with turned filters and complementary padding.
    """
    cdef c.fc_winograd_job job
    cdef Tiling tiles
    memset(&job, 0, sizeof(job))
    if out.shape[0] == 0:
        return True
    tiles = _tiling(plane(spec.in_size, 1), plane(spec.dilation, 1), tile_shape(spec, m))
    job.t = tiles.t
    job.t.tiles = spec.batch * job.t.tile_rows * job.t.tile_columns
    origin = [lo - (k - 1) * d for lo, k, d in zip(plane(spec.pad_lo, 0), plane(spec.kernel, 1), plane(spec.dilation, 1))]
    set_source(&job.src, plane(spec.out_size, 1), origin, spec.out_channels, &grad[0])
    job.groups, job.channels, job.rows = spec.groups, spec.out_channels // spec.groups, spec.in_channels // spec.groups
    taps = job.t.taps[0] * job.t.taps[1]
    job.w = &weight[0]
    job.turned = 1
    job.w_row, job.w_channel, job.w_group = taps, taps * job.rows, taps * job.channels * job.rows
    job.epilogue.bias = &bias[0] if bias is not None else NULL
    job.dst = &out[0]
    job.dst_channel = job.t.grid[0] * job.t.grid[1]
    job.dst_image = job.dst_channel * spec.in_channels
    return run_sums(&job, isa, sizeof(floating), n_threads)


def conv_weight_grad(spec, const floating[::1] input, const floating[::1] grad, floating[::1] out, int m, int isa,
                     int n_threads):
    """Adjoint of :func:`conv_forward` in the weight, into ``out``; returns as it does.

    It is the adjoint of the forward algorithm: output gradients go through A, their products with the transformed input
    are summed over tiles, and G^T makes filters of the sums.
    """
    cdef c.fc_winograd_weight_job job
    cdef Tiling tiles
    cdef int item = sizeof(floating), lanes = c.fc_gemm_lanes(isa, item), rows = c.fc_gemm_rows(isa, item)
    cdef int width = c.fc_transform_lanes(isa, item)
    cdef int64_t frequencies, channels, pass_rows, pass_tiles, passes, row_bytes, tile_bytes, thread_bytes, v_bytes, u_bytes
    cdef int64_t sums_bytes, items, i, bad = 0
    cdef Scratch scratch
    cdef char *memory
    memset(&job, 0, sizeof(job))
    if spec.batch == 0 or out.shape[0] == 0:
        out[:] = 0
        return True
    tiles = _tiling(plane(spec.out_size, 1), plane(spec.dilation, 1), tile_shape(spec, m))
    pads = plane(spec.pad_lo, 0)
    job.t = tiles.t
    job.t.tiles = spec.batch * job.t.tile_rows * job.t.tile_columns
    set_source(&job.src, plane(spec.in_size, 1), (-pads[0], -pads[1]), spec.in_channels, &input[0])
    set_source(&job.grad, plane(spec.out_size, 1), (0, 0), spec.out_channels, &grad[0])
    job.groups, job.channels, job.rows = spec.groups, spec.in_channels // spec.groups, spec.out_channels // spec.groups
    job.dst = &out[0]

    frequencies = fc_frequencies(&job.t)
    channels = fc_round_up(job.channels, lanes)
    row_bytes = job.groups * frequencies * channels * item
    pass_rows = fc_max(rows, fc_min(fc_round_up(job.rows, rows), SUM_BYTES // row_bytes // rows * rows))
    passes = (job.rows + pass_rows - 1) // pass_rows
    pass_rows = fc_round_up((job.rows + passes - 1) // passes, rows)
    tile_bytes = job.groups * frequencies * (channels + pass_rows) * item
    pass_tiles = fc_max(TILE_BYTES // tile_bytes, fc_min(PASS_TILES, TILE_BYTES_MOST // tile_bytes))
    pass_tiles = fc_max(1, fc_min(job.t.tiles, pass_tiles))
    passes = (job.t.tiles + pass_tiles - 1) // pass_tiles
    pass_tiles = (job.t.tiles + passes - 1) // passes
    set_chunk(&job.t, width, width, item)

    v_bytes = fc_round_up(job.groups * frequencies * (channels // lanes) * c.fc_winograd_v_stride(pass_tiles, lanes) * item, 64)
    u_bytes = fc_round_up(job.groups * frequencies * (pass_rows // rows) * c.fc_winograd_v_stride(pass_tiles, rows) * item, 64)
    sums_bytes = row_bytes * pass_rows
    thread_bytes = fc_round_up(c.fc_winograd_scratch(isa, item, &job.t, width), 4096) + 4096
    scratch = take_scratch(v_bytes + u_bytes + sums_bytes + thread_bytes * n_threads)
    job.v = scratch.start
    job.u = scratch.start + v_bytes
    job.sums = scratch.start + v_bytes + u_bytes
    memory = scratch.start + v_bytes + u_bytes + sums_bytes
    try:
        while job.row0 < job.rows:
            job.row1 = fc_min(job.rows, job.row0 + pass_rows)
            job.tile0 = 0
            items = job.groups * (channels // lanes + fc_panels(job.row1 - job.row0, rows))
            while job.tile0 < job.t.tiles:
                job.tile1 = fc_min(job.t.tiles, job.tile0 + pass_tiles)
                with nogil:
                    for i in prange(items, num_threads=n_threads, schedule="dynamic"):
                        c.fc_winograd_weight_tiles_item(isa, item, &job, i, memory + c.fc_thread_id() * thread_bytes)
                    for i in prange(job.groups * frequencies, num_threads=n_threads, schedule="dynamic"):
                        c.fc_winograd_weight_product(isa, item, &job, i)
                job.tile0 = job.tile1
            with nogil:
                for i in prange(job.groups * (job.row1 - job.row0), num_threads=n_threads, schedule="static"):
                    bad += c.fc_winograd_weight_filters_item(isa, item, &job, i)
            if bad:
                return False
            job.row0 = job.row1
        return True
    finally:
        give_scratch(scratch)
