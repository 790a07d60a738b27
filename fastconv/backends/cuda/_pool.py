"""Twins of the pooling ops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastconv._dispatch import Implementation
from fastconv._spec import PoolSpec
from fastconv.backends.cuda.array import empty, lift, settle
from fastconv.backends.cuda.launch import Kernel, cover, launch, too_many

THREADS = 256  # as the kernels have it


def _refusal(spec: PoolSpec) -> str | None:
    return too_many(math.prod(spec.input_shape), math.prod(spec.output_shape))


def _start(kernel: Kernel, spec: PoolSpec, size: int, *arrays: Any) -> None:
    sizes = (np.uint32(each) for each in (size, *spec.in_size, *spec.out_size))
    launch(kernel, (cover(size, THREADS),), THREADS, *arrays, *sizes)


def max_pool_forward(spec: PoolSpec, input: Any, index_dtype: str | None) -> tuple[Any, Any]:
    config = (spec.kernel, spec.stride, spec.dilation, spec.pad_lo, index_dtype, spec.dtype)
    y = empty(spec.output_shape, spec.dtype)
    indices = empty(spec.output_shape, index_dtype) if index_dtype else None
    _start(
        Kernel("pool", "max_forward", config), spec, y.size, lift(input), y, y if indices is None else indices
    )
    return settle(y, input), None if indices is None else settle(indices, input)


def max_pool_backward(spec: PoolSpec, grad_output: Any, indices: Any) -> Any:
    config = (spec.kernel, spec.stride, spec.dilation, spec.pad_lo, indices.dtype == np.int64, spec.dtype)
    dx = empty(spec.input_shape, spec.dtype)
    _start(Kernel("pool", "max_backward", config), spec, dx.size, lift(grad_output), lift(indices), dx)
    return settle(dx, grad_output)


def _mean(name: str, spec: PoolSpec) -> Kernel:
    counting = spec.count_include_pad if spec.divisor_override is None else spec.divisor_override
    config = (spec.kernel, spec.stride, spec.dilation, spec.pad_lo, spec.pad_hi, counting, spec.dtype)
    return Kernel("pool", name, config)


def avg_pool_forward(spec: PoolSpec, input: Any) -> Any:
    y = empty(spec.output_shape, spec.dtype)
    _start(_mean("avg_forward", spec), spec, y.size, lift(input), y)
    return settle(y, input)


def avg_pool_backward(spec: PoolSpec, grad_output: Any) -> Any:
    dx = empty(spec.input_shape, spec.dtype)
    _start(_mean("avg_backward", spec), spec, dx.size, lift(grad_output), dx)
    return settle(dx, grad_output)


IMPLEMENTATIONS: dict[str, tuple[Implementation, ...]] = {
    "max_pool_forward": (Implementation("windows", max_pool_forward, _refusal),),
    "max_pool_backward": (Implementation("gather", max_pool_backward, _refusal),),
    "avg_pool_forward": (Implementation("windows", avg_pool_forward, _refusal),),
    "avg_pool_backward": (Implementation("gather", avg_pool_backward, _refusal),),
}
