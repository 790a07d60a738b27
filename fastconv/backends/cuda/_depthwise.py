"""Twins of the convolution and its gradients where every group has one input channel."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastconv._dispatch import Implementation
from fastconv._spec import ConvSpec
from fastconv.backends.cuda._contraction import geometry, too_many_elements, volumes
from fastconv.backends.cuda.array import empty, lift, room, settle
from fastconv.backends.cuda.launch import Kernel, cover, launch

THREADS = 256  # as the kernels have it
ENOUGH = 1024  # blocks that keep a large device busy
LEAST_PART = 8 * THREADS  # outputs summed by one block: with fewer, adding up the threads takes the time


def _sizes(spec: ConvSpec) -> tuple[Any, ...]:
    """Input channels, output channels of each, and extents: the kernels' last arguments."""
    counts = (spec.groups, spec.out_channels // spec.groups, *volumes(spec))
    return tuple(map(np.uint32, counts))


def conv_forward(spec: ConvSpec, input: Any, weight: Any, bias: Any, out: Any, residual: Any = None) -> Any:
    made = room(out, spec.output_shape, spec.dtype)
    epilogue = (bias is not None, residual is not None, spec.activation)
    kernel = Kernel("depthwise", "conv_forward", (geometry(spec), epilogue, spec.dtype))
    x = lift(input)
    extra = [x if each is None else lift(each) for each in (bias, residual)]  # x: of the type, and never read
    slope = np.dtype(spec.dtype).type(spec.slope)
    grid = (cover(made.size, THREADS),)
    launch(kernel, grid, THREADS, x, lift(weight), *extra, made, np.uint32(made.size), *_sizes(spec), slope)
    return settle(made, input, out)


def conv_input_grad(spec: ConvSpec, grad_output: Any, weight: Any, bias: Any, out: Any) -> Any:
    made = room(out, spec.input_shape, spec.dtype)
    kernel = Kernel("depthwise", "conv_input_grad", (geometry(spec), bias is not None, spec.dtype))
    grad = lift(grad_output)
    arrays = (grad, lift(weight), grad if bias is None else lift(bias), made)
    launch(kernel, (cover(made.size, THREADS),), THREADS, *arrays, np.uint32(made.size), *_sizes(spec))
    return settle(made, grad_output, out)


def parts_of(elements: int, outputs: int) -> tuple[int, int]:
    """In how many parts the ``outputs`` of a channel are summed for ``elements`` of a weight, and the size of one."""
    parts = max(1, min(cover(ENOUGH, elements), cover(outputs, LEAST_PART)))
    return parts, cover(outputs, parts)


def conv_weight_grad(spec: ConvSpec, input: Any, grad_output: Any) -> Any:
    size = math.prod(spec.weight_shape)
    parts, part = parts_of(size, spec.batch * math.prod(spec.out_size))
    sums = empty((parts, size), spec.dtype)
    kernel = Kernel("depthwise", "conv_weight_grad", (geometry(spec), spec.dtype))
    counts = np.uint32(part), np.uint32(spec.batch)
    arrays = (lift(input), lift(grad_output), sums)
    launch(kernel, (size, parts), THREADS, *arrays, *counts, *_sizes(spec))
    if parts == 1:
        return settle(sums.reshape(*spec.weight_shape), input)
    made = empty(spec.weight_shape, spec.dtype)
    counts = np.uint32(size), np.uint32(parts)
    launch(
        Kernel("depthwise", "add_parts", (spec.dtype,)), (cover(size, THREADS),), THREADS, sums, made, *counts
    )
    return settle(made, input)


def _refusal(spec: ConvSpec) -> str | None:
    if spec.groups == 1 or spec.groups != spec.in_channels:
        return (
            f"its {spec.in_channels} input channels are in {spec.groups} groups, not each in one of its own"
        )
    return too_many_elements(spec)


IMPLEMENTATIONS: dict[str, tuple[Implementation, ...]] = {
    "conv_forward": (Implementation("depthwise", conv_forward, _refusal),),
    "conv_input_grad": (Implementation("depthwise", conv_input_grad, _refusal),),
    "conv_weight_grad": (Implementation("depthwise", conv_weight_grad, _refusal),),
}
