"""Boxes of images: what part of a layer's result a change of its input reaches, what part of the input that needs.

Boxes are int64 arrays of shape (n, 2, 2): start and end of the rows, start and end of the columns, one box for each of
n windows.  An empty box has its ends where it starts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv.ops import Window

Array = NDArray[Any]
Boxes = NDArray[np.int64]


def whole(n: int, size: Sequence[int]) -> Boxes:
    """``n`` boxes that are a whole image."""
    boxes = np.zeros((n, 2, 2), np.int64)
    boxes[:, :, 1] = size
    return boxes


def is_empty(boxes: Boxes) -> NDArray[np.bool_]:
    """Which boxes contain nothing, shape (n,)."""
    return np.any(boxes[:, :, 1] <= boxes[:, :, 0], axis=1)


def extents(boxes: Boxes) -> NDArray[np.int64]:
    """Heights and widths, shape (n, 2)."""
    return boxes[:, :, 1] - boxes[:, :, 0]


def areas(boxes: Boxes) -> NDArray[np.int64]:
    """Numbers of positions, shape (n,)."""
    positions: NDArray[np.int64] = extents(boxes).prod(axis=1)
    return positions


def reached(window: Window | None, boxes: Boxes, size: Sequence[int]) -> Boxes:
    """Boxes of the outputs, of which there are ``size``, that see any of the inputs in ``boxes``.

    Output y sees the positions ``y * stride - pad_lo + i * dilation``, i < kernel, of the expanded input, see
    :class:`fastconv.ops.Window`; so those that see inputs a to b - 1 lie from
    ``ceil((a * expansion + pad_lo - (kernel - 1) * dilation) / stride)`` to
    ``floor(((b - 1) * expansion + pad_lo) / stride)``.  None is a point-wise op.
    """
    result = boxes.copy()
    if window is not None:
        stride, pad, reach, expansion = _geometry(window)
        result[:, :, 0] = -((reach - pad - boxes[:, :, 0] * expansion) // stride)
        result[:, :, 1] = ((boxes[:, :, 1] - 1) * expansion + pad) // stride + 1
        result = result.clip(0, np.asarray(size)[:, None])
    result[is_empty(boxes) | is_empty(result)] = 0
    return result


def needed(window: Window | None, boxes: Boxes) -> Boxes:
    """Boxes of the inputs that the outputs in ``boxes`` see, as far as they reach into the padding."""
    if window is None:
        return boxes
    stride, pad, reach, expansion = _geometry(window)
    result = np.empty_like(boxes)
    result[:, :, 0] = -((pad - boxes[:, :, 0] * stride) // expansion)
    result[:, :, 1] = ((boxes[:, :, 1] - 1) * stride - pad + reach) // expansion + 1
    return result


@lru_cache(1024)
def _geometry(window: Window) -> tuple[Array, Array, Array, Array]:
    """Stride, low padding, distance from first to last tap, and expansion, each of rows and columns."""
    kernel, dilation = np.array(window.kernel), np.array(window.dilation)
    expansion = np.array(window.expansion or (1, 1))
    return np.array(window.stride), np.array(window.pad_lo), (kernel - 1) * dilation, expansion


def union(several: Sequence[Boxes]) -> Boxes:
    """The smallest boxes that contain those of each."""
    first, *others = several
    result = first.copy()
    for boxes in others:
        none, new = is_empty(result), ~is_empty(boxes)
        result[none] = boxes[none]
        both = new & ~none
        result[both, :, 0] = np.minimum(result[both, :, 0], boxes[both, :, 0])
        result[both, :, 1] = np.maximum(result[both, :, 1], boxes[both, :, 1])
    return result


def alike(boxes: Boxes, period: Sequence[int] = (1, 1)) -> Iterator[tuple[Array, Boxes]]:
    """Groups of boxes of one size: their numbers, and the boxes; the empty ones are in none.

    Starts of the boxes of a group are equal modulo ``period``.
    """
    numbers = np.flatnonzero(~is_empty(boxes))
    if not len(numbers):
        return
    some = boxes[numbers]
    keys = np.concatenate([extents(some), some[:, :, 0] % np.asarray(period)], axis=1)
    order = np.lexsort(keys.T)
    keys = keys[order]
    ends = np.flatnonzero(np.any(keys[1:] != keys[:-1], axis=1)) + 1
    for chosen in np.split(order, ends):
        yield numbers[chosen], some[chosen]
