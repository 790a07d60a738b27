"""im2col and its adjoint in up to three dimensions; the adjoint gathers, so that no sum depends on an order."""

from __future__ import annotations

from typing import Any

from fastconv.backends.cuda._numba import cuda, jit, real, uint32
from fastconv.backends.cuda.intrinsics import udiv
from fastconv.backends.cuda.kernels.index import place_in_volume, tap_of, wrapped

THREADS = 256


def unfold(kernel: Any, stride: Any, dilation: Any, pad: Any, dtype: str) -> Any:
    """(planes * taps, output pixels) from (planes, input pixels): an element a thread."""
    zero = real(dtype)(0)
    decode = tap_of(kernel)
    (sz, sy, sx), (dz, dy, dx), (pz, py, px) = map(wrapped, (stride, dilation, pad))

    @jit(THREADS)
    def run(x, columns, size, i0, i1, i2, o0, o1, o2):
        i = uint32(cuda.blockIdx.x) * uint32(THREADS) + uint32(cuda.threadIdx.x)
        if i >= uint32(size):
            return
        row, oz, oy, ox = place_in_volume(uint32(i), uint32(o0), uint32(o1), uint32(o2))
        plane, kz, ky, kx = decode(row)
        z, y = uint32(oz * sz + kz * dz - pz), uint32(oy * sy + ky * dy - py)
        c = uint32(ox * sx + kx * dx - px)
        value = zero
        if z < uint32(i0) and y < uint32(i1) and c < uint32(i2):
            value = x[uint32(((plane * uint32(i0) + z) * uint32(i1) + y) * uint32(i2) + c)]
        columns[i] = value

    return run


def fold(kernel: Any, stride: Any, dilation: Any, pad: Any, dtype: str) -> Any:
    """(planes, input pixels) from (planes * taps, output pixels): overlaps added, a pixel of the input a thread."""
    zero = real(dtype)(0)
    deep, high, wide = kernel
    (sz, sy, sx), (dz, dy, dx), (pz, py, px) = map(wrapped, (stride, dilation, pad))

    @jit(THREADS)
    def run(columns, x, size, i0, i1, i2, o0, o1, o2):
        i = uint32(cuda.blockIdx.x) * uint32(THREADS) + uint32(cuda.threadIdx.x)
        if i >= uint32(size):
            return
        plane, iz, iy, ix = place_in_volume(uint32(i), uint32(i0), uint32(i1), uint32(i2))
        total = zero
        for kz in range(deep):
            z = uint32(iz + pz - uint32(kz) * dz)
            oz = udiv(z, sz)
            for ky in range(high):
                y = uint32(iy + py - uint32(ky) * dy)
                oy = udiv(y, sy)
                for kx in range(wide):
                    c = uint32(ix + px - uint32(kx) * dx)
                    ox = udiv(c, sx)
                    whole = uint32(oz * sz) == z and uint32(oy * sy) == y and uint32(ox * sx) == c
                    if whole and oz < uint32(o0) and oy < uint32(o1) and ox < uint32(o2):
                        row = uint32(
                            ((plane * uint32(deep) + uint32(kz)) * uint32(high) + uint32(ky)) * uint32(wide)
                        )
                        row = uint32(row + uint32(kx))
                        total += columns[
                            uint32(((row * uint32(o0) + oz) * uint32(o1) + oy) * uint32(o2) + ox)
                        ]
        x[i] = total

    return run
