# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Drivers of the blocked layout (see ``include/fc_blocked.h``): convolution, pooling, and the way there and back.

Weights are packed once, for one instruction set.  How the work is cut never changes the order of a sum, so results are the
same bits for any thread count.
"""

import math

from cython.parallel cimport prange
from libc.string cimport memcpy, memset

cimport fc_blocked as c

include "arrays.pxi"
include "epilogue.pxi"
include "scratch.pxi"
include "tiling.pxi"

POOLS = {"max": c.FC_POOL_MAX, "mean": c.FC_POOL_MEAN, "mean_of_seen": c.FC_POOL_MEAN_OF_SEEN}

cdef int64_t DEPTH = 1024               # products summed at a time: a panel of their weights stays in cache
cdef int64_t SOURCE_BYTES = 128 << 10   # channels that an item reads at a time
cdef int64_t TABLE_BYTES = 64 << 10     # offsets of an item
cdef int64_t TILE_BYTES = 10 << 20      # transformed tiles of a pass, shared by the threads ...
cdef int64_t PASS_TILES = 96            # ... or this many: each pass reads all filters
cdef int64_t STAGE_BYTES = 400 << 10    # sums of a product item before they are transformed back
cdef int64_t STAGE_PANELS = 2           # panels of filters of a product item


cdef int64_t depth_of(int64_t taps, int64_t lanes):
    """Channels that are summed at a time."""
    return fc_max(lanes, DEPTH // taps // lanes * lanes)


cdef int64_t panels_of(int64_t rows, int64_t item, int isa):
    return c.fc_blocked_panels(rows, c.FC_BLOCK_BYTES // item, c.fc_gemm_lanes(isa, item))


def packed_size(spec, int m, int isa):
    """Numbers that :func:`pack` writes."""
    cdef int64_t item = 4 if spec.dtype == "float32" else 8, taps = 1
    cdef int64_t rows = spec.out_channels // spec.groups, channels = spec.in_channels // spec.groups
    if m == 1:
        return fc_round_up(spec.groups, c.FC_BLOCK_BYTES // item) * math.prod(spec.kernel)
    for tile, kernel in zip(tile_shape(spec, m), plane(spec.kernel, 1)):
        taps *= tile + kernel - 1 if m else kernel
    return spec.groups * panels_of(rows, item, isa) * c.fc_gemm_lanes(isa, item) * channels * taps


def pack(spec, weight, packed, int m, int isa, int n_threads):
    """The weight in the order in which the kernel of one instruction set reads it, for any batch and image size.

    ``m`` is 0 for plain sums, 1 for a depthwise convolution, else the side of Winograd's tiles.
    """
    cdef int64_t item = 4 if spec.dtype == "float32" else 8, lanes = c.FC_BLOCK_BYTES // item, i, taps, count
    cdef c.fc_blocked_job job
    cdef c.fc_blocked_winograd_job winograd
    cdef Tiling tiles
    cdef const char *source
    cdef char *target
    cdef int64_t nbytes = packed_size(spec, m, isa) * item
    taps = math.prod(spec.kernel)
    job.groups, job.channels, job.rows = spec.groups, spec.in_channels // spec.groups, spec.out_channels // spec.groups
    source = read_from(weight, spec.out_channels * job.channels * taps * item)
    target = write_to(packed, nbytes)
    if m == 1:  # [block][tap][lane]
        memset(target, 0, nbytes)
        for i in range(job.groups * taps):
            memcpy(target + (i // taps // lanes * taps * lanes + i % taps * lanes + i // taps % lanes) * item,
                   source + i * item, item)
        return
    if m > 1:
        tiles = _tiling(tile_shape(spec, m), (1, 1), tile_shape(spec, m))  # filters are the same for any grid
        winograd.t = tiles.t
        winograd.groups, winograd.channels, winograd.rows = job.groups, job.channels, job.rows
    job.depth = depth_of(taps, lanes)
    job.w.taps[0], job.w.taps[1] = plane(spec.kernel, 1)
    count = job.groups * panels_of(job.rows, item, isa)
    for i in prange(count, nogil=True, num_threads=n_threads, schedule="dynamic"):
        if m > 1:
            c.fc_blocked_filters_item(isa, item, &winograd, source, i, target)
        else:
            c.fc_blocked_weights_item(isa, item, &job, source, i, target)


cdef set_window(c.fc_window *w, spec, int64_t blocks_in, int64_t blocks_out):
    w.images, w.blocks_in, w.blocks_out = spec.batch, blocks_in, blocks_out
    w.size[0], w.size[1] = plane(spec.in_size, 1)
    w.grid[0], w.grid[1] = plane(spec.out_size, 1)
    w.taps[0], w.taps[1] = plane(spec.kernel, 1)
    w.step[0], w.step[1] = plane(spec.stride, 1)
    w.dilation[0], w.dilation[1] = plane(spec.dilation, 1)
    w.pad[0], w.pad[1] = plane(spec.pad_lo, 0)


cdef int64_t set_job(c.fc_blocked_job *job, spec, int m) except -1:
    """All of a job but its arrays; returns the size of an element."""
    cdef int64_t item = 4 if spec.dtype == "float32" else 8, lanes = c.FC_BLOCK_BYTES // item
    memset(job, 0, sizeof(job[0]))
    set_window(&job.w, spec, fc_panels(spec.in_channels, lanes), fc_panels(spec.out_channels, lanes))
    job.groups, job.channels, job.rows = spec.groups, spec.in_channels // spec.groups, spec.out_channels // spec.groups
    if m == 1:
        job.groups, job.rows = 1, spec.out_channels
    job.depth = depth_of(job.w.taps[0] * job.w.taps[1], lanes)
    job.epilogue.activation, job.epilogue.slope = ACTIVATIONS[spec.activation], spec.slope
    return item


cdef class Conv:
    """A convolution of blocked images, ready to be run on arrays; ``m`` as for :func:`pack`."""
    cdef c.fc_blocked_job job
    cdef Tiling tiles
    cdef int m, isa
    cdef int64_t item, source_bytes, weight_bytes, bias_bytes, out_bytes

    def __init__(self, spec, int m, int isa):
        cdef c.fc_blocked_job *job = &self.job
        self.m, self.isa = m, isa
        self.item = set_job(job, spec, m)
        self.source_bytes = spec.batch * job.w.blocks_in * job.w.size[0] * job.w.size[1] * c.FC_BLOCK_BYTES
        self.weight_bytes = packed_size(spec, m, isa) * self.item
        self.bias_bytes = spec.out_channels * self.item
        self.out_bytes = c.fc_positions(&job.w) * job.w.blocks_out * c.FC_BLOCK_BYTES
        if m > 1:
            self.tiles = _tiling(plane(spec.out_size, 1), plane(spec.dilation, 1), tile_shape(spec, m))

    cdef set_arrays(self, c.fc_blocked_job *job, packed, bias, residual, out):
        job.weights = read_from(packed, self.weight_bytes)
        job.epilogue.bias = read_from(bias, self.bias_bytes)
        job.epilogue.residual = read_from(residual, self.out_bytes)
        job.dst = write_to(out, self.out_bytes)

    def run(self, source, packed, bias, residual, out, int n_threads):
        """Cross-correlation plus ``bias`` and ``residual`` (each may be None), activated, into ``out``.

        Returns
        -------
        bool
            False where a result of Winograd's is not finite: it spreads infinities and NaNs over their tile, so ``out``
            must then be computed with other weights.
        """
        cdef c.fc_blocked_job job = self.job
        cdef c.fc_blocked_winograd_job winograd
        if job.w.images == 0:
            return True
        self.set_arrays(&job, packed, bias, residual, out)
        job.src = read_from(source, self.source_bytes)
        if self.m <= 1:
            run_windows(&job, DEPTHWISE if self.m == 1 else PRODUCT, self.isa, self.item, n_threads)
            return True
        memset(&winograd, 0, sizeof(winograd))
        winograd.t = self.tiles.t
        winograd.t.tiles = job.w.images * winograd.t.tile_rows * winograd.t.tile_columns
        for i in range(2):
            winograd.size[i], winograd.origin[i] = job.w.size[i], -job.w.pad[i]
        winograd.groups, winograd.channels, winograd.rows = job.groups, job.channels, job.rows
        winograd.src, winograd.filters, winograd.dst, winograd.epilogue = job.src, job.weights, job.dst, job.epilogue
        return run_winograd(&winograd, self.isa, self.item, n_threads)


cdef int64_t cut(c.fc_blocked_job *job, int64_t rows, int64_t position_bytes, int64_t panels, int n_threads):
    """Tiles of an item, and how many of ``panels`` it takes: few parts of them, but enough for the threads.

    Returns
    -------
    int
        Items in all.
    """
    cdef int64_t tiles = fc_panels(c.fc_positions(&job.w), rows), most, parts
    most = fc_min(SOURCE_BYTES // (rows * position_bytes), TABLE_BYTES // (8 * c.fc_window_words(&job.w, rows)))
    job.tiles = fc_max(1, fc_min(most, tiles))
    parts = fc_max(1, fc_min(panels, fc_panels(4 * n_threads, fc_panels(tiles, job.tiles) * job.groups)))
    job.panels = fc_panels(panels, parts)
    return job.groups * fc_panels(panels, job.panels) * fc_panels(tiles, job.tiles)


cdef enum:
    PRODUCT = -2
    DEPTHWISE = -1  # and from 0 on the code of a pool


cdef run_windows(c.fc_blocked_job *job, int work, int isa, int64_t item, int n_threads):
    """All items of a job that reads its source through tables of windows."""
    cdef int64_t rows = c.fc_gemm_rows(isa, item), panels = job.w.blocks_in, items, thread_bytes, i
    cdef int64_t read = fc_min(job.w.step[0] * job.w.step[1], job.w.taps[0] * job.w.taps[1]) * c.FC_BLOCK_BYTES
    cdef Scratch scratch
    cdef char *memory
    if work == PRODUCT:
        panels = panels_of(job.rows, item, isa)
        read = read // c.FC_BLOCK_BYTES * fc_min(job.channels, job.depth) * item
    items = cut(job, rows, read, panels, n_threads)
    thread_bytes = fc_round_up(c.fc_window_words(&job.w, rows) * 8 * job.tiles, 4096)
    scratch = take_scratch(thread_bytes * n_threads)
    memory = scratch.start
    for i in prange(items, nogil=True, num_threads=n_threads, schedule="dynamic"):
        if work == PRODUCT:
            c.fc_blocked_conv_item(isa, item, job, i, memory + c.fc_thread_id() * thread_bytes)
        elif work == DEPTHWISE:
            c.fc_blocked_depthwise_item(isa, item, job, i, memory + c.fc_thread_id() * thread_bytes)
        else:
            c.fc_blocked_pool_item(isa, item, job, work, i, memory + c.fc_thread_id() * thread_bytes)
    give_scratch(scratch)


cdef bint run_winograd(c.fc_blocked_winograd_job *job, int isa, int64_t item, int n_threads) except -1:
    cdef int64_t rows = c.fc_gemm_rows(isa, item), lanes = c.fc_gemm_lanes(isa, item)
    cdef int64_t frequencies = fc_frequencies(&job.t), panels = panels_of(job.rows, item, isa)
    cdef int64_t blocks = fc_panels(job.groups * job.channels, c.FC_BLOCK_BYTES // item)
    cdef int64_t pass_tiles, passes, v_bytes, thread_bytes, tiles_items, product_items, i, bad = 0
    cdef Scratch scratch
    cdef char *memory
    pass_tiles = fc_max(PASS_TILES, TILE_BYTES // (frequencies * blocks * c.FC_BLOCK_BYTES))
    passes = fc_panels(job.t.tiles, pass_tiles)
    pass_tiles = fc_round_up(fc_panels(job.t.tiles, passes), rows)
    v_bytes = frequencies * blocks * pass_tiles * c.FC_BLOCK_BYTES
    job.panels = fc_min(panels, STAGE_PANELS)
    job.tiles = fc_max(rows, STAGE_BYTES // (frequencies * lanes * item * job.panels) // rows * rows)
    while job.tiles > rows and fc_panels(pass_tiles, job.tiles) * fc_panels(panels, job.panels) * job.groups < 3 * n_threads:
        job.tiles -= rows
    thread_bytes = fc_round_up(frequencies * job.tiles * lanes * item * job.panels, 4096) + 64
    scratch = take_scratch(v_bytes + thread_bytes * n_threads)
    job.v = scratch.start
    memory = scratch.start + v_bytes
    try:
        while job.tile0 < job.t.tiles:
            job.tile1 = fc_min(job.t.tiles, job.tile0 + pass_tiles)
            tiles_items = blocks * fc_panels(job.tile1 - job.tile0, job.tiles)
            product_items = job.groups * fc_panels(job.tile1 - job.tile0, job.tiles) * fc_panels(panels, job.panels)
            with nogil:
                for i in prange(tiles_items, num_threads=n_threads, schedule="dynamic"):
                    c.fc_blocked_tiles_item(isa, item, job, i)
                for i in prange(product_items, num_threads=n_threads, schedule="dynamic"):
                    bad += c.fc_blocked_product_item(isa, item, job, i, memory + c.fc_thread_id() * thread_bytes)
            if bad:
                return False
            job.tile0 = job.tile1
        return True
    finally:
        give_scratch(scratch)


cdef class Stem(Conv):
    """The same of plain images (images, channels, height, width) of few channels, by plain sums."""

    def __init__(self, spec, int m, int isa):
        super().__init__(spec, m, isa)
        self.source_bytes = math.prod(spec.input_shape) * self.item

    def run(self, images, packed, bias, residual, out, int n_threads):
        """As of :class:`Conv`."""
        cdef int64_t item = self.item, rows = c.fc_gemm_rows(self.isa, item), panels, items, i, a, b, k, n = 0
        cdef int64_t taps, offset_bytes
        cdef c.fc_blocked_stem_job stem
        cdef c.fc_blocked_job *job = &stem.conv
        cdef int64_t *offset
        cdef Scratch scratch
        cdef int isa = self.isa
        stem.conv = self.job
        if job.w.images == 0:
            return True
        self.set_arrays(job, packed, bias, residual, out)
        stem.images = read_from(images, self.source_bytes)
        panels = panels_of(job.rows, item, isa)
        for i in range(2):
            stem.padded[i] = (job.w.grid[i] - 1) * job.w.step[i] + (job.w.taps[i] - 1) * job.w.dilation[i] + 1
        taps = job.w.taps[0] * job.w.taps[1]
        offset_bytes = fc_round_up(taps * job.channels * 8, 64)
        scratch = take_scratch(offset_bytes + job.w.images * job.channels * stem.padded[0] * stem.padded[1] * item)
        offset = <int64_t *> scratch.start
        stem.copy = scratch.start + offset_bytes
        job.src, stem.offset = stem.copy, offset
        for a in range(job.w.taps[0]):
            for b in range(job.w.taps[1]):
                for k in range(job.channels):
                    offset[n] = (k * stem.padded[0] + a * job.w.dilation[0]) * stem.padded[1] + b * job.w.dilation[1]
                    n += 1
        items = cut(job, rows, job.channels * taps * item, panels, n_threads)
        with nogil:
            for i in prange(job.w.images * job.channels * stem.padded[0], num_threads=n_threads, schedule="static"):
                c.fc_blocked_stem_row(isa, item, &stem, i)
            for i in prange(items, num_threads=n_threads, schedule="dynamic"):
                c.fc_blocked_stem_item(isa, item, &stem, i)
        give_scratch(scratch)
        return True


cdef class Pool:
    """Pooling of blocked images, ready to be run on arrays; ``kind`` is a key of POOLS."""
    cdef c.fc_blocked_job job
    cdef int kind, isa
    cdef int64_t item, source_bytes, out_bytes

    def __init__(self, spec, str kind, int isa):
        cdef c.fc_blocked_job *job = &self.job
        cdef int64_t blocks
        self.item, self.kind, self.isa = 4 if spec.dtype == "float32" else 8, POOLS[kind], isa
        blocks = fc_panels(spec.channels, c.FC_BLOCK_BYTES // self.item)
        memset(job, 0, sizeof(job[0]))
        set_window(&job.w, spec, blocks, blocks)
        job.groups = 1
        self.source_bytes = spec.batch * blocks * job.w.size[0] * job.w.size[1] * c.FC_BLOCK_BYTES
        self.out_bytes = spec.batch * blocks * job.w.grid[0] * job.w.grid[1] * c.FC_BLOCK_BYTES

    def run(self, source, out, int n_threads):
        """Pooled ``source`` into ``out``."""
        cdef c.fc_blocked_job job = self.job
        if job.w.images == 0:
            return
        job.src, job.dst = read_from(source, self.source_bytes), write_to(out, self.out_bytes)
        run_windows(&job, self.kind, self.isa, self.item, n_threads)


def from_planes(planes, blocks, int64_t images, int64_t channels, int64_t plane, int64_t item, int isa, int n_threads):
    """(images, channels, plane) into the blocked array ``blocks``."""
    cdef int64_t items = images * fc_panels(channels, c.FC_BLOCK_BYTES // item), i
    cdef const char *source = read_from(planes, images * channels * plane * item)
    cdef char *target = write_to(blocks, items * plane * c.FC_BLOCK_BYTES)
    for i in prange(items, nogil=True, num_threads=n_threads, schedule="static"):
        c.fc_blocked_from_planes(isa, item, source, channels, plane, target, i)


def to_planes(blocks, planes, int64_t images, int64_t channels, int64_t plane, int64_t item, int isa, int n_threads):
    """Adjoint of :func:`from_planes`: the blocked array into (images, channels, plane)."""
    cdef int64_t items = images * fc_panels(channels, c.FC_BLOCK_BYTES // item), i
    cdef const char *source = read_from(blocks, items * plane * c.FC_BLOCK_BYTES)
    cdef char *target = write_to(planes, images * channels * plane * item)
    for i in prange(items, nogil=True, num_threads=n_threads, schedule="static"):
        c.fc_blocked_to_planes(isa, item, source, channels, plane, target, i)
