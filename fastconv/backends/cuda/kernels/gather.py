"""Elements taken from where a table says: padding and its adjoint along one axis, planes read at indices,
and planes written at indices, which is done by reading, too: every cell looks for its values.
"""

from __future__ import annotations

from typing import Any

from fastconv.backends.cuda._numba import cuda, jit, real, uint32
from fastconv.backends.cuda.intrinsics import udiv
from fastconv.backends.cuda.kernels.index import place

THREADS = 256


def take(dtype: str) -> Any:
    """(outer, sources, inner) from (outer, length, inner); ``value`` where the source is negative."""

    @jit(THREADS)
    def kernel(x, sources, y, size, taken, length, inner, value):
        i = uint32(cuda.blockIdx.x) * uint32(THREADS) + uint32(cuda.threadIdx.x)
        if i < uint32(size):
            outer, position, k = place(uint32(i), uint32(taken), uint32(inner))
            source = sources[position]
            result = value
            if source >= 0:
                result = x[uint32((outer * uint32(length) + uint32(source)) * uint32(inner) + k)]
            y[i] = result

    return kernel


def add_back(dtype: str) -> Any:
    """Adjoint of :func:`take`: ``positions[starts[j] : starts[j + 1]]`` took element j."""
    zero = real(dtype)(0)

    @jit(THREADS)
    def kernel(y, starts, positions, x, size, taken, length, inner):
        i = uint32(cuda.blockIdx.x) * uint32(THREADS) + uint32(cuda.threadIdx.x)
        if i < uint32(size):
            outer, j, k = place(uint32(i), uint32(length), uint32(inner))
            total = zero
            at = starts[j]
            while at < starts[uint32(j + uint32(1))]:
                total += y[uint32((outer * uint32(taken) + positions[at]) * uint32(inner) + k)]
                at = uint32(at + uint32(1))
            x[i] = total

    return kernel


def planes(dtype: str) -> Any:
    """(planes, in_plane) read from (planes, out_plane) at int64 ``indices``."""

    @jit(THREADS)
    def kernel(x, indices, y, size, in_plane, out_plane):
        i = uint32(cuda.blockIdx.x) * uint32(THREADS) + uint32(cuda.threadIdx.x)
        if i < uint32(size):
            plane = udiv(uint32(i), uint32(in_plane))
            y[i] = x[uint32(plane * uint32(out_plane) + uint32(indices[i]))]

    return kernel


def senders() -> Any:
    """Which values each cell of (planes, out_plane) looks for: ``last`` of those that name it, counted from 1, and
    ``first``, counted from 1 at the plane's end; both are 0 where none does, and are so at the start.

    Maxima of integers do not depend on the order of the threads.
    """

    @jit(THREADS)
    def kernel(indices, first, last, size, in_plane, out_plane):
        i = uint32(cuda.blockIdx.x) * uint32(THREADS) + uint32(cuda.threadIdx.x)
        if i < uint32(size):
            plane = udiv(uint32(i), uint32(in_plane))
            position = uint32(i - plane * uint32(in_plane))
            cell = uint32(plane * uint32(out_plane) + uint32(indices[i]))
            cuda.atomic.max(last, cell, uint32(position + uint32(1)))
            cuda.atomic.max(first, cell, uint32(uint32(in_plane) - position))

    return kernel


def scattered(accumulate: bool, dtype: str) -> Any:
    """(planes, out_plane) with the sum, in their order, or the last of the values that name a cell."""
    zero = real(dtype)(0)

    @jit(THREADS)
    def kernel(values, indices, first, last, y, size, in_plane, out_plane):
        i = uint32(cuda.blockIdx.x) * uint32(THREADS) + uint32(cuda.threadIdx.x)
        if i < uint32(size):
            plane = udiv(uint32(i), uint32(out_plane))
            start = uint32(plane * uint32(in_plane))
            cell = uint32(i - plane * uint32(out_plane))
            total = zero
            if last[i] > uint32(0):
                end = uint32(start + last[i])
                at = uint32(start + uint32(in_plane) - first[i]) if accumulate else uint32(end - uint32(1))
                while at < end:
                    if uint32(indices[at]) == cell:
                        total = total + values[at] if accumulate else values[at]
                    at = uint32(at + uint32(1))
            y[i] = total

    return kernel
