"""Axes of a sample: named from 0 on, or by negative numbers from the last one back, as NumPy's."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from fastconv._spec import Shape
from fastconv.ops._base import Array


def axis_of(axis: int, rank: int, kind: str) -> int:
    """``axis`` from 0 on."""
    if not -rank <= axis < rank:
        raise ValueError(f"{kind} takes an axis from {-rank} to {rank - 1} of a sample, got {axis!r}")
    return axis % rank


def axes_of(axes: Iterable[int] | None, rank: int, kind: str) -> Shape:
    """Several axes, each once, in order; None is all."""
    found = sorted(range(rank) if axes is None else (axis_of(axis, rank, kind) for axis in axes))
    if len(set(found)) != len(found):
        raise ValueError(f"{kind} takes each axis once, got {axes!r}")
    return tuple(found)


def scatter_add(grad: Array, indices: NDArray[np.intp], size: int, axis: int) -> Array:
    """The transpose of ``x.take(indices, axis)`` for an x of that ``size``: sums in the order of the indices."""
    shape = list(grad.shape)
    shape[axis] = size
    total = np.zeros(shape, grad.dtype)
    order = np.argsort(indices, kind="stable")
    counts = np.bincount(indices, minlength=size)
    starts = np.cumsum(counts) - counts
    for turn in range(counts.max(initial=0)):  # each adds one element at most to each sum
        places = np.flatnonzero(counts > turn)
        part = grad.take(order[starts[places] + turn], axis)
        if len(places) == size:
            total += part
        else:
            total[(slice(None),) * axis + (places,)] += part
    return total
