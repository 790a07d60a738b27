"""From a number to coordinates and back.

Coordinates are unsigned: one before the image wraps to a number that fails the same comparison as one behind it.
"""

from __future__ import annotations

from typing import Any

from fastconv.backends.cuda._numba import inlined, uint32
from fastconv.backends.cuda.intrinsics import udiv


@inlined
def place(i: Any, height: Any, width: Any) -> Any:
    """(plane, row, column) of element ``i`` of images."""
    line = udiv(i, width)
    plane = udiv(line, height)
    return plane, uint32(line - plane * height), uint32(i - line * width)


@inlined
def place_in_volume(i: Any, depth: Any, height: Any, width: Any) -> Any:
    """(image, z, y, x) of element ``i`` of volumes."""
    plane, y, x = place(i, height, width)
    image = udiv(plane, depth)
    return image, uint32(plane - image * depth), y, x


def tap_of(kernel: tuple[int, ...]) -> Any:
    """``channel * taps + tap`` to channel and coordinates of the tap."""
    deep, high, wide = map(uint32, kernel)

    @inlined
    def decode(index):
        return place_in_volume(index, deep, high, wide)

    return decode


def wrapped(values: tuple[int, ...]) -> tuple[Any, ...]:
    """As uint32, negative ones modulo 2**32."""
    return tuple(uint32(value % 2**32) for value in values)
