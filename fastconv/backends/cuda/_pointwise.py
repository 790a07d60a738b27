"""Twins of the element-wise ops."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv._dispatch import Implementation
from fastconv._spec import ActivationSpec, AddSpec
from fastconv.backends.cuda.array import DeviceArray, empty, lift, room, settle
from fastconv.backends.cuda.launch import Kernel, cover, launch, too_large

THREADS = 256  # as the kernels have it


def zero_counts(size: int) -> DeviceArray:
    """That many uint32 zeros."""
    counts = empty((size,), np.uint32)
    launch(Kernel("elementwise", "zero", ()), (cover(size, THREADS),), THREADS, counts, np.uint32(size))
    return counts


def activation_forward(spec: ActivationSpec, x: Any) -> Any:
    y = empty(x.shape, spec.dtype)
    slope = np.dtype(spec.dtype).type(spec.slope)
    kernel = Kernel("elementwise", "activation_forward", (spec.kind, spec.dtype))
    launch(kernel, (cover(spec.size, THREADS),), THREADS, lift(x), y, np.uint32(spec.size), slope)
    return settle(y, x)


def activation_backward(spec: ActivationSpec, grad_output: Any, output: Any) -> Any:
    dx = empty(output.shape, spec.dtype)
    slope = np.dtype(spec.dtype).type(spec.slope)
    spec.check_derivative()
    kernel = Kernel("elementwise", "activation_backward", (spec.kind, spec.dtype))
    size = np.uint32(spec.size)
    launch(kernel, (cover(spec.size, THREADS),), THREADS, lift(grad_output), lift(output), dx, size, slope)
    return settle(dx, output)


def add(spec: AddSpec, a: Any, b: Any, out: Any) -> Any:
    total = room(out, a.shape, spec.dtype)
    kernel = Kernel("elementwise", "add", (spec.relu, spec.dtype))
    launch(kernel, (cover(spec.size, THREADS),), THREADS, lift(a), lift(b), total, np.uint32(spec.size))
    return settle(total, a, out)


IMPLEMENTATIONS: dict[str, tuple[Implementation, ...]] = {
    "activation_forward": (Implementation("elementwise", activation_forward, too_large),),
    "activation_backward": (Implementation("elementwise", activation_backward, too_large),),
    "add": (Implementation("elementwise", add, too_large),),
}
