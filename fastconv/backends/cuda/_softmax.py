"""Twins of softmax and cross-entropy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastconv._dispatch import Implementation
from fastconv._spec import CrossEntropySpec, SoftmaxSpec
from fastconv.backends.cuda._reduction import total
from fastconv.backends.cuda.array import DeviceArray, empty, lift, settle
from fastconv.backends.cuda.launch import Kernel, cover, launch, too_many

THREADS = 256  # as the kernels have it
FEW = 32  # elements of a line that keep a warp of a block busy no better than a thread of its own each line


def _blocks(shape: tuple[int, int, int]) -> tuple[bool, int]:
    """Whether a block takes a line of the middle axis, rather than a thread, and the number of blocks."""
    outer, length, inner = shape
    rows = inner == 1 and length > FEW
    return rows, outer if rows else cover(outer * inner, THREADS)


def _along(name: str, shape: tuple[int, int, int], log: bool, *arrays: DeviceArray) -> None:
    """Launch ``kernels.softmax.<name>`` along the middle axis of ``shape``."""
    outer, length, inner = shape
    rows, blocks = _blocks(shape)
    kernel = Kernel("softmax", name, (rows, log, arrays[0].dtype.name))
    if math.prod(shape):
        launch(kernel, (blocks,), THREADS, *arrays, *map(np.uint32, (length, inner, outer * inner)))


def softmax_forward(spec: SoftmaxSpec, x: Any) -> Any:
    y = empty(x.shape, spec.dtype)
    _along("forward", (spec.outer, spec.length, spec.inner), spec.log, lift(x), y)
    return settle(y, x)


def softmax_backward(spec: SoftmaxSpec, grad_output: Any, output: Any) -> Any:
    dx = empty(output.shape, spec.dtype)
    shape = (spec.outer, spec.length, spec.inner)
    _along("backward", shape, spec.log, lift(grad_output), lift(output), dx)
    return settle(dx, output)


def _pixels(name: str, spec: CrossEntropySpec, options: tuple[bool, ...], *arrays: DeviceArray) -> None:
    """Launch ``kernels.softmax.<name>`` on the lines of classes, one for each pixel of (batch, inner)."""
    number = np.dtype(spec.dtype).type
    rows, blocks = _blocks((spec.batch, spec.classes, spec.inner))
    kernel = Kernel("softmax", name, (rows, spec.soft, spec.weighted, *options, spec.dtype))
    smooth = number(spec.label_smoothing), number(spec.label_smoothing / max(spec.classes, 1))
    sizes = map(np.uint32, (spec.classes, spec.inner, spec.batch * spec.inner))
    launch(kernel, (blocks,), THREADS, *arrays, *sizes, np.int64(spec.ignore_index), *smooth)


def cross_entropy_forward(spec: CrossEntropySpec, logits: Any, target: Any, weight: Any) -> tuple[Any, Any]:
    log_probs = empty(logits.shape, spec.dtype)
    _along("forward", (spec.batch, spec.classes, spec.inner), True, lift(logits), log_probs)
    loss = empty((spec.batch, spec.inner), spec.dtype)
    labels, weights = lift(target), log_probs if weight is None else lift(weight)
    _pixels("loss", spec, (), log_probs, labels, weights, loss)
    if spec.reduction != "none":
        loss = total(loss)
    if spec.reduction == "mean":
        loss = _quotient(loss, _divisor(spec, labels, weights))
    return settle(loss, logits), settle(log_probs, logits)


def _divisor(spec: CrossEntropySpec, labels: DeviceArray, weights: DeviceArray) -> DeviceArray:
    """What the pixels count together in the mean."""
    counts = empty((spec.batch, spec.inner), spec.dtype)
    kernel = Kernel("softmax", "shares", (spec.soft, spec.weighted, spec.dtype))
    numbers = np.uint32(counts.size), np.int64(spec.ignore_index)
    launch(kernel, (cover(counts.size, THREADS),), THREADS, labels, weights, counts, *numbers)
    return total(counts)


def _quotient(a: DeviceArray, b: DeviceArray) -> DeviceArray:
    out = empty((), a.dtype)
    launch(Kernel("softmax", "quotient", (a.dtype.name,)), (1,), THREADS, a, b, out)
    return out


def cross_entropy_backward(
    spec: CrossEntropySpec, grad_loss: Any, log_probs: Any, target: Any, weight: Any
) -> Any:
    dx = empty(log_probs.shape, spec.dtype)
    given, mean = lift(log_probs), spec.reduction == "mean"
    labels, weights = lift(target), given if weight is None else lift(weight)
    divisor = _divisor(spec, labels, weights) if mean else given
    arrays = (lift(grad_loss), given, labels, weights, divisor, dx)
    _pixels("loss_backward", spec, (spec.reduction != "none", mean), *arrays)
    return settle(dx, log_probs)


def _softmax_refusal(spec: SoftmaxSpec) -> str | None:
    return too_many(spec.outer * spec.length * spec.inner)


def _loss_refusal(spec: CrossEntropySpec) -> str | None:
    return too_many(spec.batch * spec.classes * spec.inner)


IMPLEMENTATIONS: dict[str, tuple[Implementation, ...]] = {
    "softmax_forward": (Implementation("lines", softmax_forward, _softmax_refusal),),
    "softmax_backward": (Implementation("lines", softmax_backward, _softmax_refusal),),
    "cross_entropy_forward": (Implementation("pixels", cross_entropy_forward, _loss_refusal),),
    "cross_entropy_backward": (Implementation("pixels", cross_entropy_backward, _loss_refusal),),
}
