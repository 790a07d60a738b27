"""Sums of products in tiles: the convolution and its two gradients as matrix products that are never laid out.

Every op is ``C[m, n] = sum over k of A[m, k] * B[k, n]`` in each group; they differ in where an element lies.  An
operand is a :class:`Side`: a thread owns one index of it, decodes that once, and then walks along the other one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from fastconv.backends.cuda._numba import cuda, inlined, jit, real, uint32, uint64
from fastconv.backends.cuda.intrinsics import udiv
from fastconv.backends.cuda.kernels.elementwise import activation
from fastconv.backends.cuda.kernels.index import place_in_volume, tap_of, wrapped

THREADS = 256
DEPTH = 8  # of a slab: products summed between two barriers


class Side(NamedTuple):
    """How one operand is read.

    ``own(index, limit, group, groups, sizes)`` makes the state of the index that a thread owns, the first of it whether
    the index is less than ``limit``; ``load(array, state, other, sizes)`` reads at ``other``.  Neighbouring threads own
    neighbouring indices: ``along_k`` says that these are those summed over.
    """

    own: Any
    load: Any
    along_k: bool


def _load_linear(array: Any, state: Any, other: Any, sizes: Any) -> Any:
    return array[uint32(state[1] + other * state[2])]


def _weight() -> Side:
    """The weight as (O, C * taps)."""

    @inlined
    def own(index, limit, group, groups, sizes):
        return index < limit, uint32(group * sizes[7] * limit + index), limit

    return Side(own, inlined(_load_linear), True)


def _swapped_weight(taps: int) -> Side:
    """The weight (O, C, taps) as (C, O * taps)."""

    @inlined
    def own(index, limit, group, groups, sizes):
        o = udiv(index, uint32(taps))
        first = uint32((group * sizes[7] + o) * sizes[6] * uint32(taps) + index - o * uint32(taps))
        return index < limit, first, uint32(taps)

    return Side(own, inlined(_load_linear), True)


@inlined
def _pixel_of_output(index, group, groups, channels, plane):
    """Address in (N, groups * channels, plane) of a pixel in channel 0 of the group; pixels count across the batch."""
    n = udiv(index, plane)
    return uint32((n * groups + group) * channels * plane + index - n * plane)


def _gradient() -> Side:
    """The output's gradient as (O, N * pixels)."""

    @inlined
    def own(index, limit, group, groups, sizes):
        plane = uint32(sizes[3] * sizes[4] * sizes[5])
        return index < limit, _pixel_of_output(index, group, groups, sizes[7], plane), plane

    return Side(own, inlined(_load_linear), True)


def _patches(kernel: Any, stride: Any, dilation: Any, pad: Any, *, along_k: bool) -> Side:
    """The input as (C * taps, N * output pixels), or transposed; a thread owns an output pixel."""
    decode = tap_of(kernel)
    (sz, sy, sx), (dz, dy, dx), (pz, py, px) = map(wrapped, (stride, dilation, pad))

    @inlined
    def own(index, limit, group, groups, sizes):
        n, z, y, x = place_in_volume(index, sizes[3], sizes[4], sizes[5])
        base = uint32((n * groups + group) * sizes[6] * sizes[0] * sizes[1] * sizes[2])
        return index < limit, base, uint32(z * sz - pz), uint32(y * sy - py), uint32(x * sx - px)

    @inlined
    def load(array, state, other, sizes):
        channel, kz, ky, kx = decode(other)
        z, y, x = uint32(state[2] + kz * dz), uint32(state[3] + ky * dy), uint32(state[4] + kx * dx)
        if z < sizes[0] and y < sizes[1] and x < sizes[2]:
            return array[uint32(state[1] + ((channel * sizes[0] + z) * sizes[1] + y) * sizes[2] + x)]
        return array.dtype.type(0)

    return Side(own, load, along_k)


def _gradient_patches(kernel: Any, stride: Any, dilation: Any, pad: Any) -> Side:
    """The output's gradient as (O * taps, N * input pixels), zero where no stride leads; a thread owns a pixel."""
    decode = tap_of(kernel)
    (sz, sy, sx), (dz, dy, dx), (pz, py, px) = map(wrapped, (stride, dilation, pad))

    @inlined
    def own(index, limit, group, groups, sizes):
        n, z, y, x = place_in_volume(index, sizes[0], sizes[1], sizes[2])
        base = uint32((n * groups + group) * sizes[7] * sizes[3] * sizes[4] * sizes[5])
        return index < limit, base, uint32(z + pz), uint32(y + py), uint32(x + px)

    @inlined
    def load(array, state, other, sizes):
        channel, kz, ky, kx = decode(other)
        z, y, x = uint32(state[2] - kz * dz), uint32(state[3] - ky * dy), uint32(state[4] - kx * dx)
        oz, oy, ox = udiv(z, sz), udiv(y, sy), udiv(x, sx)
        whole = uint32(oz * sz) == z and uint32(oy * sy) == y and uint32(ox * sx) == x
        if whole and oz < sizes[3] and oy < sizes[4] and ox < sizes[5]:
            return array[uint32(state[1] + ((channel * sizes[3] + oz) * sizes[4] + oy) * sizes[5] + ox)]
        return array.dtype.type(0)

    return Side(own, load, False)


def _rows() -> Any:
    """Where C[0, n] lies, and how far C[1, n] is: rows one after the other, group after group."""

    @inlined
    def column(n, limit, group, groups, sizes):
        return uint32(group * sizes[7] * limit + n), limit

    return column


def _planes(of_input: bool) -> Any:
    """The same where n counts the pixels of a batch and m its channels."""
    first, channels = (0, 6) if of_input else (3, 7)

    @inlined
    def column(n, limit, group, groups, sizes):
        plane = uint32(sizes[first] * sizes[first + 1] * sizes[first + 2])
        return _pixel_of_output(n, group, groups, sizes[channels], plane), plane

    return column


def conv_forward(geometry: tuple[Any, ...], epilogue: tuple[Any, ...], tile: int, dtype: str) -> Any:
    """Weight times patches of the input."""
    return _contraction(_weight(), _patches(*geometry, along_k=False), _planes(False), epilogue, tile, dtype)


def conv_input_grad(geometry: tuple[Any, ...], epilogue: tuple[Any, ...], tile: int, dtype: str) -> Any:
    """Swapped weight times patches of the output's gradient: gathered, so that no sum depends on the schedule."""
    kernel = geometry[0]
    weight = _swapped_weight(kernel[0] * kernel[1] * kernel[2])
    return _contraction(weight, _gradient_patches(*geometry), _planes(True), epilogue, tile, dtype)


def conv_weight_grad(geometry: tuple[Any, ...], epilogue: tuple[Any, ...], tile: int, dtype: str) -> Any:
    """The output's gradient times patches of the input, over all pixels of the batch."""
    return _contraction(_gradient(), _patches(*geometry, along_k=True), _rows(), epilogue, tile, dtype)


def _fill(side: Side, tile: int, dtype: str) -> tuple[Any, Any]:
    """``fetch`` of a thread's part of a slab into registers, and ``keep`` of that in shared memory."""
    zero = real(dtype)(0)
    load, along_k = side.load, side.along_k
    count, pitch = (
        tile * DEPTH // THREADS,
        uint32(tile + 4),
    )  # padded, so that columns are written without conflict
    across = uint32(DEPTH if along_k else tile)
    step = uint32(THREADS // (DEPTH if along_k else tile))

    @inlined
    def fetch(registers, array, state, origin, limit, thread, sizes):
        for j in range(count):
            other = uint32(origin + udiv(thread, across) + uint32(j) * step)
            value = zero
            if state[0] and other < limit:
                value = load(array, state, other, sizes)
            registers[j] = value

    @inlined
    def keep(registers, shared, start, thread):
        owned, other = uint32(thread % across), udiv(thread, across)
        for j in range(count):
            if along_k:
                shared[uint32(start + owned * pitch + other + uint32(j) * step)] = registers[j]
            else:
                shared[uint32(start + (other + uint32(j) * step) * pitch + owned)] = registers[j]

    return fetch, keep


def _contraction(
    left: Side, right: Side, column: Any, epilogue: tuple[Any, ...], tile: int, dtype: str
) -> Any:
    """The kernel; ``epilogue`` is what is added (bias or not, residual or not), and the activation.

    A block of threads makes ``tile x tile`` results, a thread squares of 4 x 4, while the slab after the one in shared
    memory is on its way to registers.  ``sizes``: depth, height and width of the input, those of the output, and the
    channels of a group of both.
    """
    number = real(dtype)
    zero = number(0)
    has_bias, has_residual, kind = epilogue
    function = activation(kind, dtype) if kind != "linear" else None
    fetch_a, keep_a = _fill(left, tile, dtype)
    fetch_b, keep_b = _fill(right, tile, dtype)
    own_a, own_b = left.own, right.own
    a_along_k, b_along_k = left.along_k, right.along_k
    side, count, pitch = tile // 16, tile * DEPTH // THREADS, tile + 4
    slab = uint32(DEPTH * pitch)
    room, area = 2 * DEPTH * pitch, side * side

    @inlined
    def add_products(total, shared_a, shared_b, start, row, col, d):
        at_a = uint64(
            start + row + d * uint32(pitch)
        )  # constants added in 64 bits: it is seen that fours are adjacent
        at_b = uint64(start + col + d * uint32(pitch))
        for i in range(side):
            x = shared_a[at_a + uint64(i // 4 * 64 + i % 4)]
            for j in range(side):
                total[i * side + j] += x * shared_b[at_b + uint64(j // 4 * 64 + j % 4)]

    @jit(THREADS, 2)
    def kernel(a, b, bias, residual, out, m, n, k, slope, i0, i1, i2, o0, o1, o2, in_channels, out_channels):
        m, n, k = uint32(m), uint32(n), uint32(k)
        sizes = (
            uint32(i0),
            uint32(i1),
            uint32(i2),
            uint32(o0),
            uint32(o1),
            uint32(o2),
            uint32(in_channels),
            uint32(out_channels),
        )
        shared_a, shared_b = cuda.shared.array(room, number), cuda.shared.array(room, number)
        next_a, next_b = cuda.local.array(count, number), cuda.local.array(count, number)
        total = cuda.local.array(area, number)
        thread = uint32(cuda.threadIdx.x)
        group, groups = uint32(cuda.blockIdx.z), uint32(cuda.gridDim.z)
        across = udiv(uint32(n + uint32(tile - 1)), uint32(tile))
        block = uint32(cuda.blockIdx.x)
        row_block = udiv(block, across)
        m0, n0 = uint32(row_block * uint32(tile)), uint32((block - row_block * across) * uint32(tile))
        owned_k, owned = uint32(thread % uint32(DEPTH)), uint32(thread % uint32(tile))
        state_a = own_a(
            owned_k if a_along_k else uint32(m0 + owned), k if a_along_k else m, group, groups, sizes
        )
        state_b = own_b(
            owned_k if b_along_k else uint32(n0 + owned), k if b_along_k else n, group, groups, sizes
        )
        fetch_a(next_a, a, state_a, m0 if a_along_k else uint32(0), m if a_along_k else k, thread, sizes)
        fetch_b(next_b, b, state_b, n0 if b_along_k else uint32(0), n if b_along_k else k, thread, sizes)
        for i in range(area):
            total[i] = zero
        row, col = uint32((thread >> uint32(4)) << uint32(2)), uint32((thread & uint32(15)) << uint32(2))
        k0 = uint32(0)
        while k0 < k:
            start = uint32((udiv(k0, uint32(DEPTH)) & uint32(1)) * slab)
            keep_a(next_a, shared_a, start, thread)
            keep_b(next_b, shared_b, start, thread)
            cuda.syncthreads()  # one is enough: the other buffer was read before the one that went before
            k0 = uint32(k0 + uint32(DEPTH))
            if k0 < k:
                if a_along_k:
                    state_a = own_a(uint32(k0 + owned_k), k, group, groups, sizes)
                if b_along_k:
                    state_b = own_b(uint32(k0 + owned_k), k, group, groups, sizes)
                fetch_a(next_a, a, state_a, m0 if a_along_k else k0, m if a_along_k else k, thread, sizes)
                fetch_b(next_b, b, state_b, n0 if b_along_k else k0, n if b_along_k else k, thread, sizes)
            # DEPTH times, in the source: the compiler keeps a loop
            add_products(total, shared_a, shared_b, start, row, col, uint32(0))
            add_products(total, shared_a, shared_b, start, row, col, uint32(1))
            add_products(total, shared_a, shared_b, start, row, col, uint32(2))
            add_products(total, shared_a, shared_b, start, row, col, uint32(3))
            add_products(total, shared_a, shared_b, start, row, col, uint32(4))
            add_products(total, shared_a, shared_b, start, row, col, uint32(5))
            add_products(total, shared_a, shared_b, start, row, col, uint32(6))
            add_products(total, shared_a, shared_b, start, row, col, uint32(7))
        for j in range(side):
            nj = uint32(n0 + col + uint32(j // 4 * 64 + j % 4))
            if nj < n:
                base, step = column(nj, n, group, groups, sizes)
                for i in range(side):
                    mi = uint32(m0 + row + uint32(i // 4 * 64 + i % 4))
                    if mi < m:
                        value = total[i * side + j]
                        place = uint32(base + mi * step)
                        if has_bias:
                            value += bias[uint32(group * m + mi)]
                        if has_residual:
                            value += residual[place]
                        if function is not None:
                            value = function(value, slope)
                        out[place] = value

    return kernel
