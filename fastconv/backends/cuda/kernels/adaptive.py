"""Pools to a fixed output size: bounds of the windows from tables, one element a thread, gradients gathered."""

from __future__ import annotations

from typing import Any

from fastconv.backends.cuda._numba import cuda, int64, jit, real, uint32
from fastconv.backends.cuda.kernels.index import place

THREADS = 256


def avg_forward(dtype: str) -> Any:
    """Mean of each window; ``rows`` and ``cols``: first and last + 1 of every window, one after the other."""
    number = real(dtype)

    @jit(THREADS)
    def pool(x, rows, cols, y, size, height, width, out_height, out_width):
        i = uint32(cuda.blockIdx.x) * uint32(THREADS) + uint32(cuda.threadIdx.x)
        if i >= uint32(size):
            return
        plane, row, col = place(uint32(i), uint32(out_height), uint32(out_width))
        top, bottom = rows[row], rows[uint32(row + uint32(out_height))]
        left, right = cols[col], cols[uint32(col + uint32(out_width))]
        total = number(0)
        r = top
        while r < bottom:
            c = left
            while c < right:
                total += x[uint32((plane * uint32(height) + r) * uint32(width) + c)]
                c = uint32(c + uint32(1))
            r = uint32(r + uint32(1))
        y[i] = total / number(uint32((bottom - top) * (right - left)))

    return pool


def avg_backward(dtype: str) -> Any:
    """Gradient of each cell from the windows over it, ``over_rows`` and ``over_cols`` in the tables' form."""
    number = real(dtype)

    @jit(THREADS)
    def pool(grad, rows, cols, over_rows, over_cols, dx, size, height, width, out_height, out_width):
        i = uint32(cuda.blockIdx.x) * uint32(THREADS) + uint32(cuda.threadIdx.x)
        if i >= uint32(size):
            return
        height, width = uint32(height), uint32(width)
        out_height, out_width = uint32(out_height), uint32(out_width)
        plane, row, col = place(uint32(i), height, width)
        total = number(0)
        r = over_rows[row]
        while r < over_rows[uint32(row + height)]:
            tall = uint32(rows[uint32(r + out_height)] - rows[r])
            c = over_cols[col]
            while c < over_cols[uint32(col + width)]:
                area = uint32(tall * (cols[uint32(c + out_width)] - cols[c]))
                total += grad[uint32((plane * out_height + r) * out_width + c)] / number(area)
                c = uint32(c + uint32(1))
            r = uint32(r + uint32(1))
        dx[i] = total

    return pool


def max_forward(dtype: str) -> Any:
    """First maximum of each window, the last NaN if there is one, and its index in the plane."""

    @jit(THREADS)
    def pool(x, rows, cols, y, indices, size, height, width, out_height, out_width):
        i = uint32(cuda.blockIdx.x) * uint32(THREADS) + uint32(cuda.threadIdx.x)
        if i >= uint32(size):
            return
        plane, row, col = place(uint32(i), uint32(out_height), uint32(out_width))
        left, right = cols[col], cols[uint32(col + uint32(out_width))]
        r = rows[row]
        image = uint32(plane * uint32(height) * uint32(width))
        where = uint32(r * uint32(width) + left)
        best = x[uint32(image + where)]
        while r < rows[uint32(row + uint32(out_height))]:
            c = left
            while c < right:
                cell = uint32(r * uint32(width) + c)
                value = x[uint32(image + cell)]
                if value > best or value != value:
                    best, where = value, cell
                c = uint32(c + uint32(1))
            r = uint32(r + uint32(1))
        y[i] = best
        indices[i] = int64(where)

    return pool
