"""Elements taken from where a table says: padding and its adjoint along one axis, planes read at indices."""

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
