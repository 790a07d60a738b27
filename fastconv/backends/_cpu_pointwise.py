"""Compiled implementations of dropout, activations, softmax, the loss and batch normalisation."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv import _dropout, _pointwise
from fastconv._config import SERIAL_WORK, get_num_threads, isa, threads_for
from fastconv._dispatch import Implementation
from fastconv._memory import empty
from fastconv._spec import (
    ActivationSpec,
    AddSpec,
    BatchNormSpec,
    ChannelSpec,
    CrossEntropySpec,
    DropBlockSpec,
    DropoutSpec,
    SoftmaxSpec,
)

Array = NDArray[Any]


def dropout_mask(spec: DropoutSpec) -> Array:
    mask = empty((spec.size + 7) // 8, np.uint8)
    _dropout.dropout_mask(
        mask, spec.size, spec.threshold, spec.seed, spec.offset, isa(), threads_for(spec.size)
    )
    return mask


def dropout_apply(spec: DropoutSpec, input: Array, mask: Array) -> Array:
    out = empty(input.shape, input.dtype)
    threads = threads_for(spec.size * spec.inner)
    _dropout.dropout_apply(
        input, mask, out, spec.size, input.itemsize, spec.inner, spec.scale, isa(), threads
    )
    return out


def dropout_forward(spec: DropoutSpec, input: Array) -> tuple[Array, Array]:
    if spec.inner != 1:  # few bits: nothing to gain from making them on the way
        mask = dropout_mask(spec)
        return dropout_apply(spec, input, mask), mask
    size = spec.size
    out, mask = empty(input.shape, input.dtype), empty((size + 7) // 8, np.uint8)
    _dropout.dropout_forward(
        input,
        out,
        mask,
        size,
        input.itemsize,
        spec.threshold,
        spec.seed,
        spec.offset,
        spec.scale,
        isa(),
        threads_for(size),
    )
    return out, mask


def drop_block_mask(spec: DropBlockSpec) -> Array:
    (rows, cols), (block_rows, block_cols) = spec.size, spec.block
    planes = spec.batch * spec.channels
    threads = threads_for(planes * rows * cols)
    mask = empty((planes * rows * cols + 7) // 8, np.uint8)
    scratch = empty((threads, 9 * rows * cols), np.uint8)
    _dropout.drop_block_mask(
        mask,
        planes,
        rows,
        cols,
        block_rows,
        block_cols,
        spec.threshold,
        spec.seed,
        spec.offset,
        scratch,
        isa(),
        threads,
    )
    return mask


def _prepare_activation(spec: ActivationSpec) -> Callable[[Array], Array]:
    dtype, size, kind, slope = np.dtype(spec.dtype), spec.size, _pointwise.KINDS[spec.kind], spec.slope
    item, serial = dtype.itemsize, size < SERIAL_WORK

    def run(x: Array) -> Array:
        y = empty(x.shape, dtype)
        threads = 1 if serial else get_num_threads()
        _pointwise.activation_forward(x, y, size, item, kind, slope, isa(), threads)
        return y

    return run


def activation_forward(spec: ActivationSpec, x: Array) -> Array:
    return _prepare_activation(spec)(x)


def activation_backward(spec: ActivationSpec, grad_output: Array, output: Array) -> Array:
    spec.check_derivative()
    dx = empty(output.shape, output.dtype)
    kind, size = _pointwise.KINDS[spec.kind], spec.size
    _pointwise.activation_backward(
        grad_output, output, dx, size, dx.itemsize, kind, spec.slope, isa(), threads_for(size)
    )
    return dx


def add(spec: AddSpec, a: Array, b: Array, out: Array | None) -> Array:
    y = empty(a.shape, a.dtype) if out is None else out
    _pointwise.add(a, b, y, spec.size, a.itemsize, spec.relu, isa(), threads_for(spec.size))
    return y


def softmax_forward(spec: SoftmaxSpec, x: Array) -> Array:
    y = empty(x.shape, x.dtype)
    view = (spec.outer, spec.length, spec.inner, x.itemsize)
    _pointwise.softmax_forward(x, y, *view, spec.log, isa(), threads_for(x.size))
    return y


def softmax_backward(spec: SoftmaxSpec, grad_output: Array, output: Array) -> Array:
    dx = empty(output.shape, output.dtype)
    view = (spec.outer, spec.length, spec.inner, dx.itemsize)
    _pointwise.softmax_backward(grad_output, output, dx, *view, spec.log, isa(), threads_for(dx.size))
    return dx


@lru_cache(64)
def _ones(n: int, dtype: str) -> Array:
    """The weights of classes that were given none."""
    ones = np.ones(n, dtype)
    ones.flags.writeable = False
    return ones


def _prepare_cross_entropy(spec: CrossEntropySpec) -> Callable[[Array, Array, Array | None], Any]:
    shape, ones = (spec.batch, spec.classes, spec.inner), _ones(spec.classes, spec.dtype)
    view, reduction = (*shape, ones.itemsize), _pointwise.REDUCTIONS[spec.reduction]
    settings = spec.ignore_index, spec.label_smoothing, reduction
    loss_shape, dtype, soft, work = (spec.batch, spec.inner), spec.dtype, spec.soft, math.prod(shape)

    def run(logits: Array, target: Array, weight: Array | None) -> tuple[Array, Array]:
        log_probs, loss = empty(shape, dtype), empty(loss_shape, dtype)
        label, probs = (None, target) if soft else (target, None)
        weights = ones if weight is None else weight
        reduced = _pointwise.cross_entropy_forward(
            logits, log_probs, label, probs, weights, loss, *view, *settings, isa(), threads_for(work)
        )
        return (loss if reduced is None else np.asarray(reduced, dtype)), log_probs

    return run


def cross_entropy_forward(
    spec: CrossEntropySpec, logits: Array, target: Array, weight: Array | None
) -> tuple[Array, Array]:
    loss, log_probs = _prepare_cross_entropy(spec)(logits, target, weight)
    return loss, log_probs


def _prepare_cross_entropy_grad(spec: CrossEntropySpec) -> Callable[..., Array]:
    shape, ones = (spec.batch, spec.classes, spec.inner), _ones(spec.classes, spec.dtype)
    view, reduction = (*shape, ones.itemsize), _pointwise.REDUCTIONS[spec.reduction]
    settings = spec.ignore_index, spec.label_smoothing, reduction
    dtype, soft, work = spec.dtype, spec.soft, math.prod(shape)

    def run(grad_loss: Array, log_probs: Array, target: Array, weight: Array | None) -> Array:
        d = empty(shape, dtype)
        label, probs = (None, target) if soft else (target, None)
        weights = ones if weight is None else weight
        _pointwise.cross_entropy_backward(
            log_probs, label, probs, weights, grad_loss, d, *view, *settings, isa(), threads_for(work)
        )
        return d

    return run


def cross_entropy_backward(
    spec: CrossEntropySpec, grad_loss: Array, log_probs: Array, target: Array, weight: Array | None
) -> Array:
    return _prepare_cross_entropy_grad(spec)(grad_loss, log_probs, target, weight)


def channel_sum(spec: ChannelSpec, x: Array) -> Array:
    total = empty(spec.channels)
    _pointwise.channel_sum(
        x, total, spec.batch, spec.channels, spec.inner, x.itemsize, isa(), threads_for(x.size)
    )
    return total.astype(spec.dtype)


def batch_norm_forward(
    spec: BatchNormSpec,
    x: Array,
    mean: Array | None,
    var: Array | None,
    weight: Array | None,
    bias: Array | None,
) -> tuple[Array, Array, Array]:
    y, out_mean, inv_std = (
        empty(x.shape, x.dtype),
        empty(spec.channels, x.dtype),
        empty(spec.channels, x.dtype),
    )
    _pointwise.batch_norm_forward(
        x,
        y,
        mean,
        var,
        weight,
        bias,
        out_mean,
        inv_std,
        empty((2, spec.channels)),
        spec.batch,
        spec.channels,
        spec.inner,
        x.itemsize,
        spec.eps,
        spec.relu,
        isa(),
        threads_for(x.size),
    )
    return y, out_mean, inv_std


def batch_norm_backward(
    spec: BatchNormSpec,
    grad_output: Array,
    x: Array,
    mean: Array,
    inv_std: Array,
    weight: Array | None,
    bias: Array | None,
) -> tuple[Array, Array, Array]:
    dx, dweight, dbias = empty(x.shape, x.dtype), empty(spec.channels), empty(spec.channels)
    _pointwise.batch_norm_backward(
        grad_output,
        x,
        dx,
        mean,
        inv_std,
        weight,
        bias,
        dweight,
        dbias,
        spec.batch,
        spec.channels,
        spec.inner,
        x.itemsize,
        spec.training,
        spec.relu,
        isa(),
        threads_for(x.size),
    )
    return dx, dweight.astype(spec.dtype), dbias.astype(spec.dtype)


IMPLEMENTATIONS: dict[str, tuple[Implementation, ...]] = {
    run.__name__: (Implementation(name, run),)
    for name, run in (
        ("philox", dropout_mask),
        ("philox", dropout_apply),
        ("philox", dropout_forward),
        ("philox", drop_block_mask),
        ("simd", activation_backward),
        ("simd", add),
        ("simd", softmax_forward),
        ("simd", softmax_backward),
        ("simd", channel_sum),
        ("simd", batch_norm_forward),
        ("simd", batch_norm_backward),
    )
}
IMPLEMENTATIONS |= {
    run.__name__: (Implementation("simd", run, prepare=prepare),)
    for run, prepare in (
        (activation_forward, _prepare_activation),
        (cross_entropy_forward, _prepare_cross_entropy),
        (cross_entropy_backward, _prepare_cross_entropy_grad),
    )
}
