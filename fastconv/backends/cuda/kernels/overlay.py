"""Patches laid over boxes of an image: one element of a box a thread."""

from __future__ import annotations

from typing import Any

from fastconv.backends.cuda._numba import cuda, jit, real, uint32, uint64
from fastconv.backends.cuda.intrinsics import udiv
from fastconv.backends.cuda.kernels.index import place_in_volume

THREADS = 256
PLACE = 7  # numbers of a row of places


def overlay(dtype: str) -> Any:
    """(images, planes, height, width, lanes) from the base (planes, rows, columns, lanes) and the flat patches.

    Differences of coordinates are unsigned: what lies before a corner is beyond every extent.
    """
    number = real(dtype)

    @jit(THREADS)
    def kernel(base, patches, places, out, size, planes, rows, columns, height, width, lanes, fill):
        i = uint32(cuda.blockIdx.x) * uint32(THREADS) + uint32(cuda.threadIdx.x)
        if i < uint32(size):
            planes, rows, columns, lanes = uint32(planes), uint32(rows), uint32(columns), uint32(lanes)
            cell = udiv(uint32(i), lanes)
            lane = uint32(i - cell * lanes)
            image, plane, y, x = place_in_volume(cell, planes, uint32(height), uint32(width))
            p = uint32(image * uint32(PLACE))
            y = uint32(y + uint32(places[uint32(p + uint32(5))]))
            x = uint32(x + uint32(places[uint32(p + uint32(6))]))
            value = number(fill)
            if y < rows and x < columns:
                patch_y = uint32(y - uint32(places[uint32(p + uint32(1))]))
                patch_x = uint32(x - uint32(places[uint32(p + uint32(2))]))
                patch_height = uint32(places[uint32(p + uint32(3))])
                patch_width = uint32(places[uint32(p + uint32(4))])
                if patch_y < patch_height and patch_x < patch_width:
                    row = uint32(plane * patch_height + patch_y)
                    inside = uint32((row * patch_width + patch_x) * lanes + lane)
                    value = patches[uint64(places[p]) + uint64(inside)]
                else:
                    value = base[uint32(((plane * rows + y) * columns + x) * lanes + lane)]
            out[i] = value

    return kernel
