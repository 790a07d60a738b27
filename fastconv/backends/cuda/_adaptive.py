"""Twins of the pools to a fixed output size."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv._dispatch import Implementation
from fastconv._spec import AdaptivePoolSpec
from fastconv.backends.cuda.array import empty, lift, settle
from fastconv.backends.cuda.launch import Kernel, cover, launch, too_many

THREADS = 256  # as the kernels have it


def _windows(spec: AdaptivePoolSpec) -> list[NDArray[np.uint32]]:
    """For rows and columns, the first of each window, then the last + 1 of each."""
    return [np.concatenate(spec.windows(axis)).astype(np.uint32) for axis in range(2)]


def _covering(spec: AdaptivePoolSpec, axis: int) -> NDArray[np.uint32]:
    """The first window over each cell, then the last + 1."""
    starts, ends = spec.windows(axis)
    cells = np.arange(spec.in_size[axis])
    bounds = np.searchsorted(ends, cells, "right"), np.searchsorted(starts, cells, "right")
    return np.concatenate(bounds).astype(np.uint32)


def _start(name: str, spec: AdaptivePoolSpec, size: int, *arrays: Any) -> None:
    sizes = (np.uint32(each) for each in (size, *spec.in_size, *spec.out_size))
    kernel = Kernel("adaptive", name, (spec.dtype,))
    launch(kernel, (cover(size, THREADS),), THREADS, *map(lift, arrays), *sizes)


def adaptive_avg_pool_forward(spec: AdaptivePoolSpec, input: Any) -> Any:
    y = empty(spec.output_shape, spec.dtype)
    _start("avg_forward", spec, y.size, input, *_windows(spec), y)
    return settle(y, input)


def adaptive_avg_pool_backward(spec: AdaptivePoolSpec, grad_output: Any) -> Any:
    dx = empty(spec.input_shape, spec.dtype)
    covering = (_covering(spec, axis) for axis in range(2))
    _start("avg_backward", spec, dx.size, grad_output, *_windows(spec), *covering, dx)
    return settle(dx, grad_output)


def adaptive_max_pool_forward(spec: AdaptivePoolSpec, input: Any) -> tuple[Any, Any]:
    y, indices = empty(spec.output_shape, spec.dtype), empty(spec.output_shape, "int64")
    _start("max_forward", spec, y.size, input, *_windows(spec), y, indices)
    return settle(y, input), settle(indices, input)


def _refusal(spec: AdaptivePoolSpec) -> str | None:
    return too_many(math.prod(spec.input_shape), math.prod(spec.output_shape))


IMPLEMENTATIONS: dict[str, tuple[Implementation, ...]] = {
    "adaptive_avg_pool_forward": (Implementation("windows", adaptive_avg_pool_forward, _refusal),),
    "adaptive_avg_pool_backward": (Implementation("gather", adaptive_avg_pool_backward, _refusal),),
    "adaptive_max_pool_forward": (Implementation("windows", adaptive_max_pool_forward, _refusal),),
}
