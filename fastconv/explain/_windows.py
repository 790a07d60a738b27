"""What occlusion hides: positions of windows, regions of a mask, and the baseline that is shown instead."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastconv.functional as F

Array = NDArray[Any]

EDGES = ("cut", "drop", "flush")
BASELINES = ("gray", "mean", "zero", "blur", "noise")

_BLURS_PER_SIDE = 22.4  # the blur's standard deviation is 10 pixels of an image of 224
_NOISE_SEED = 0


@dataclass(frozen=True)
class Region:
    """What is hidden at once of an array, the batch axis left aside: a box, or what a mask of its shape selects."""

    where: tuple[slice, ...]
    mask: Array | None = None


@dataclass(frozen=True)
class Windows:
    """Regions in the order of their grid, which has as many axes as the array and windows along each, or one axis of
    regions of a mask."""

    regions: list[Region]
    grid: tuple[int, ...]


def starts(extent: int, size: int, step: int, edge: str) -> NDArray[np.int64]:
    """Starts of the windows along an axis: 0, step, 2 step, ...

    With ``edge`` "drop" as long as the window fits; "cut": one more where a rest is left, cut off at the edge; "flush":
    that one shifted back until it ends at the edge.
    """
    if edge not in EDGES:
        raise ValueError(f"edge must be one of {EDGES}, got {edge!r}")
    gap = extent - size
    count = (gap // step if edge == "drop" else math.ceil(gap / step)) + 1
    positions = np.arange(count) * step
    return np.minimum(positions, gap) if edge == "flush" else positions


def sliding(shape: Sequence[int], window: Any, strides: Any, edge: str) -> Windows:
    """Windows inside an array of ``shape`` (no batch axis), in order of the flat position."""
    window = whole_numbers(window, len(shape), "sliding_window_shapes")
    strides = whole_numbers(1 if strides is None else strides, len(shape), "strides")
    axes = []
    for extent, size, step in zip(shape, window, strides, strict=True):
        if size > extent:
            raise ValueError(f"the sliding window {window} must not exceed the input {tuple(shape)}")
        if step > size and size != extent:
            raise ValueError(
                f"strides {strides} must not exceed the sliding window {window}: gaps would stay uncovered"
            )
        axes.append(
            [slice(i, min(i + size, extent)) for i in starts(extent, size, step, edge).tolist()],
        )
    return Windows([Region(where) for where in product(*axes)], tuple(len(axis) for axis in axes))


def masked(shape: Sequence[int], mask: Any) -> Windows:
    """One region for each number in a mask, in ascending order.

    Raises
    ------
    ValueError, TypeError
        If the mask is not made of integers, or does not broadcast to (1, *shape).
    """
    numbers = np.asarray(mask)
    if numbers.dtype.kind not in "iu":
        raise TypeError(f"feature_mask must be made of integers, got {numbers.dtype}")
    try:
        numbers = np.broadcast_to(numbers, (1, *shape))[0]
    except ValueError:
        raise ValueError(
            f"feature_mask must broadcast to (1, {', '.join(map(str, shape))}), got shape {numbers.shape}"
        ) from None
    regions = []
    for number in np.unique(numbers):
        inside = np.nonzero(numbers == number)
        where = tuple(slice(int(axis.min()), int(axis.max()) + 1) for axis in inside)
        regions.append(Region(where, numbers[where] == number))
    return Windows(regions, (len(regions),))


def whole_numbers(value: Any, n: int, name: str) -> tuple[int, ...]:
    """An integer for all of ``n`` axes, or one for each."""
    values = (value,) * n if isinstance(value, (int, np.integer)) else tuple(value)
    if len(values) != n or not all(isinstance(v, (int, np.integer)) and v >= 1 for v in values):
        raise ValueError(f"{name} must be {n} positive integers, one per non-batch axis, got {value!r}")
    return tuple(int(v) for v in values)


def pair(value: Any, name: str) -> tuple[int, int]:
    """An integer for rows and columns, or one for each."""
    both = (value, value) if isinstance(value, (int, np.integer)) else tuple(value)
    if len(both) != 2 or not all(isinstance(v, (int, np.integer)) and v >= 1 for v in both):
        raise ValueError(f"{name} must be a positive integer or a pair of them, got {value!r}")
    return int(both[0]), int(both[1])


# ------------------------------------------------------------------------------------------------ baselines


def baseline_for(x: Array, baseline: Any) -> Array:
    """What is shown instead of the batch ``x`` (N, ...), of its shape and in a dtype that holds both.

    The names are those of :data:`BASELINES`, each image's own: "gray" is midway between its smallest and its largest
    value, "mean" the mean of each channel, "blur" the image blurred, "noise" normal noise of each channel's mean and
    standard deviation.

    Raises
    ------
    ValueError
        If there is no baseline of that name, or it does not broadcast to the shape of ``x``.
    """
    if isinstance(baseline, str):
        return np.broadcast_to(_named(x if x.dtype.kind == "f" else x.astype(float), baseline), x.shape)
    fill = np.asarray(0 if baseline is None else baseline)
    if fill.ndim == 0 and fill.dtype.kind in "iub":
        fill = fill.astype(np.min_scalar_type(fill))  # a Python number must not widen the input
    elif fill.ndim == 0 and x.dtype.kind == "f":
        fill = fill.astype(x.dtype)
    dtype = np.result_type(x.dtype, fill.dtype)
    try:
        return np.broadcast_to(fill.astype(dtype), x.shape)
    except ValueError:
        raise ValueError(
            f"baselines must broadcast to the input's shape {x.shape}, got shape {fill.shape}"
        ) from None


def _named(x: Array, name: str) -> Array:
    if name not in BASELINES:
        raise ValueError(f"a baseline must be one of {BASELINES}, a number or an array, got {name!r}")
    inside = tuple(range(2, x.ndim))
    if name == "gray":
        values = tuple(range(1, x.ndim))
        return (x.min(axis=values, keepdims=True) + x.max(axis=values, keepdims=True)) / x.dtype.type(2)
    if name == "zero":
        return np.zeros((), x.dtype)
    mean = x.mean(axis=inside, keepdims=True)
    if name == "mean":
        return mean
    if name == "noise":
        noise = np.random.default_rng(_NOISE_SEED).standard_normal(x.shape[1:])
        return (mean + x.std(axis=inside, keepdims=True) * noise).astype(x.dtype)
    if x.ndim != 4:
        raise ValueError(f"baseline 'blur' needs images (N, C, H, W), got shape {x.shape}")
    return _blurred(x)


def _blurred(x: Array) -> Array:
    """Images behind a Gaussian filter, their edges repeated."""
    deviation = max(x.shape[2:]) / _BLURS_PER_SIDE
    for axis in (2, 3):
        reach = min(math.ceil(3 * deviation), 10 * x.shape[axis])
        taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
        sides = (0, 0, reach, reach) if axis == 2 else (reach, reach, 0, 0)
        kernel = np.expand_dims((taps / taps.sum()).astype(x.dtype), 0 if axis == 3 else 1)
        planes = x.reshape(-1, 1, *x.shape[2:])
        x = F.conv2d(F.pad(planes, sides, mode="replicate"), kernel[None, None]).reshape(x.shape)
    return x
