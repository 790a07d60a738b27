"""Max and average pools over windows: one element a thread, gradients gathered, so that no sum depends on an order.

Rows and columns are unsigned: one above the image wraps to a number that fails the same comparison as one below it.
"""

from __future__ import annotations

from typing import Any

from fastconv.backends.cuda._numba import cuda, inlined, int32, int64, jit, real, uint8, uint32
from fastconv.backends.cuda.intrinsics import udiv
from fastconv.backends.cuda.kernels.index import place

THREADS = 256
Pair = tuple[int, int]


def max_forward(
    kernel: Pair, stride: Pair, dilation: Pair, padding: Pair, index_dtype: str | None, dtype: str
) -> Any:
    """First maximum of each window, the last NaN if there is one, and where it was."""
    (kh, kw), (sh, sw), (dh, dw), (ph, pw) = kernel, stride, dilation, padding
    lowest = real(dtype)(float("-inf"))
    flat, offset = index_dtype == "int64", index_dtype == "uint8"

    @jit(THREADS)
    def pool(x, y, indices, size, height, width, out_height, out_width):
        i = uint32(cuda.blockIdx.x) * uint32(THREADS) + uint32(cuda.threadIdx.x)
        if i >= uint32(size):
            return
        plane, row, col = place(uint32(i), uint32(out_height), uint32(out_width))
        image = uint32(plane * uint32(height) * uint32(width))
        best, where, number, unset = lowest, uint32(0), uint32(0), True
        for a in range(kh):
            r = uint32(row * uint32(sh) + uint32(a * dh) - uint32(ph))
            for b in range(kw):
                c = uint32(col * uint32(sw) + uint32(b * dw) - uint32(pw))
                if r < uint32(height) and c < uint32(width):
                    cell = uint32(r * uint32(width) + c)
                    value = x[uint32(image + cell)]
                    if unset or value > best or value != value:
                        best, where, number, unset = value, cell, uint32(a * kw + b), False
        y[i] = best
        if flat:
            indices[i] = int64(where)
        if offset:
            indices[i] = uint8(number)

    return pool


def max_backward(kernel: Pair, stride: Pair, dilation: Pair, padding: Pair, flat: bool, dtype: str) -> Any:
    """Gradient of each input cell: from the windows over it whose index (flat, or in the window) names it."""
    (kh, kw), (sh, sw), (dh, dw), (ph, pw) = kernel, stride, dilation, padding
    zero = real(dtype)(0)

    @inlined
    def name(cell: Any, offset: Any) -> Any:
        return int64(cell) if flat else uint8(offset)

    @jit(THREADS)
    def pool(grad, indices, dx, size, height, width, out_height, out_width):
        i = uint32(cuda.blockIdx.x) * uint32(THREADS) + uint32(cuda.threadIdx.x)
        if i >= uint32(size):
            return
        plane, row, col = place(uint32(i), uint32(height), uint32(width))
        cell = uint32(row * uint32(width) + col)
        total = zero
        for a in range(kh - 1, -1, -1):  # outputs in their order
            down = uint32(row + uint32(ph) - uint32(a * dh))
            r = udiv(down, uint32(sh))
            for b in range(kw - 1, -1, -1):
                right = uint32(col + uint32(pw) - uint32(b * dw))
                c = udiv(right, uint32(sw))
                exact = uint32(r * uint32(sh)) == down and uint32(c * uint32(sw)) == right
                if exact and r < uint32(out_height) and c < uint32(out_width):
                    o = uint32((plane * uint32(out_height) + r) * uint32(out_width) + c)
                    if indices[o] == name(cell, uint32(a * kw + b)):
                        total += grad[o]
        dx[i] = total

    return pool


def _extent(size: int, stride: int, pad_lo: int, pad_hi: int, count_pad: bool) -> Any:
    """How many positions of a window the mean counts along an axis, from output position and input length."""

    @inlined
    def extent(position: Any, length: Any) -> Any:
        start = int32(int32(position) * int32(stride) - int32(pad_lo))
        stop = min(int32(start + int32(size)), int32(int32(length) + int32(pad_hi)))
        if not count_pad:
            start, stop = max(start, int32(0)), min(stop, int32(length))
        return max(int32(stop - start), int32(0))

    return extent


def _divisor(kernel: Pair, stride: Pair, pad_lo: Pair, pad_hi: Pair, counting: Any, dtype: str) -> Any:
    """What a window's sum is divided by; ``counting`` is whether padding counts, or the divisor itself."""
    number = real(dtype)
    if not isinstance(counting, bool):
        constant = number(counting)
        return inlined(lambda row, col, height, width: constant)
    rows, cols = (_extent(*axis, counting) for axis in zip(kernel, stride, pad_lo, pad_hi, strict=True))

    @inlined
    def divisor(row: Any, col: Any, height: Any, width: Any) -> Any:
        return number(max(rows(row, height) * cols(col, width), 1))

    return divisor


def avg_forward(
    kernel: Pair, stride: Pair, dilation: Pair, pad_lo: Pair, pad_hi: Pair, counting: Any, dtype: str
) -> Any:
    """Sum of each window over its divisor."""
    (kh, kw), (sh, sw), (dh, dw), (ph, pw) = kernel, stride, dilation, pad_lo
    divisor = _divisor(kernel, stride, pad_lo, pad_hi, counting, dtype)
    zero = real(dtype)(0)

    @jit(THREADS)
    def pool(x, y, size, height, width, out_height, out_width):
        i = uint32(cuda.blockIdx.x) * uint32(THREADS) + uint32(cuda.threadIdx.x)
        if i >= uint32(size):
            return
        plane, row, col = place(uint32(i), uint32(out_height), uint32(out_width))
        image = uint32(plane * uint32(height) * uint32(width))
        total = zero
        for a in range(kh):
            r = uint32(row * uint32(sh) + uint32(a * dh) - uint32(ph))
            for b in range(kw):
                c = uint32(col * uint32(sw) + uint32(b * dw) - uint32(pw))
                if r < uint32(height) and c < uint32(width):
                    total += x[uint32(image + r * uint32(width) + c)]
        y[i] = total / divisor(row, col, height, width)

    return pool


def avg_backward(
    kernel: Pair, stride: Pair, dilation: Pair, pad_lo: Pair, pad_hi: Pair, counting: Any, dtype: str
) -> Any:
    """Gradient of each input cell: its share of every window over it."""
    (kh, kw), (sh, sw), (dh, dw), (ph, pw) = kernel, stride, dilation, pad_lo
    divisor = _divisor(kernel, stride, pad_lo, pad_hi, counting, dtype)
    zero = real(dtype)(0)

    @jit(THREADS)
    def pool(grad, dx, size, height, width, out_height, out_width):
        i = uint32(cuda.blockIdx.x) * uint32(THREADS) + uint32(cuda.threadIdx.x)
        if i >= uint32(size):
            return
        plane, row, col = place(uint32(i), uint32(height), uint32(width))
        total = zero
        for a in range(kh - 1, -1, -1):
            down = uint32(row + uint32(ph) - uint32(a * dh))
            r = udiv(down, uint32(sh))
            for b in range(kw - 1, -1, -1):
                right = uint32(col + uint32(pw) - uint32(b * dw))
                c = udiv(right, uint32(sw))
                exact = uint32(r * uint32(sh)) == down and uint32(c * uint32(sw)) == right
                if exact and r < uint32(out_height) and c < uint32(out_width):
                    o = uint32((plane * uint32(out_height) + r) * uint32(out_width) + c)
                    total += grad[o] / divisor(r, c, height, width)
        dx[i] = total

    return pool
