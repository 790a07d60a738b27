"""Compiled implementations of dropout, activations, softmax, the loss and batch normalisation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv import _dropout, _pointwise
from fastconv._config import get_num_threads, isa
from fastconv._dispatch import Implementation
from fastconv._spec import (
    ActivationSpec,
    BatchNormSpec,
    ChannelSpec,
    CrossEntropySpec,
    DropBlockSpec,
    DropoutSpec,
    SoftmaxSpec,
)

Array = NDArray[Any]


def _builds(driver: Any) -> dict[np.dtype[Any], Callable[..., Any]]:
    """A driver's builds by dtype: choosing here is cheaper than letting Cython look at the arguments."""
    return {np.dtype(np.float32): driver["float"], np.dtype(np.float64): driver["double"]}


_DROPOUT_APPLY = _builds(_dropout.dropout_apply)
_DROPOUT_FORWARD = _builds(_dropout.dropout_forward)
_ACTIVATION_FORWARD = _builds(_pointwise.activation_forward)
_ACTIVATION_BACKWARD = _builds(_pointwise.activation_backward)
_SOFTMAX_FORWARD = _builds(_pointwise.softmax_forward)
_SOFTMAX_BACKWARD = _builds(_pointwise.softmax_backward)
_LABEL_WEIGHT = _builds(_pointwise.label_weight)
_TOTAL_OVER = _builds(_pointwise.total_over)
_CROSS_ENTROPY_FORWARD = _builds(_pointwise.cross_entropy_forward)
_CROSS_ENTROPY_BACKWARD = _builds(_pointwise.cross_entropy_backward)
_CHANNEL_SUM = _builds(_pointwise.channel_sum)
_BATCH_NORM_FORWARD = _builds(_pointwise.batch_norm_forward)
_BATCH_NORM_BACKWARD = _builds(_pointwise.batch_norm_backward)


def dropout_mask(spec: DropoutSpec) -> Array:
    mask = np.empty((spec.size + 7) // 8, np.uint8)
    _dropout.dropout_mask(mask, spec.size, spec.threshold, spec.seed, spec.offset, isa(), get_num_threads())
    return mask


def dropout_apply(spec: DropoutSpec, input: Array, mask: Array) -> Array:
    out = np.empty_like(input)
    apply = _DROPOUT_APPLY[input.dtype]
    apply(input.reshape(-1), mask, out.reshape(-1), spec.inner, spec.scale, isa(), get_num_threads())
    return out


def dropout_forward(spec: DropoutSpec, input: Array) -> tuple[Array, Array]:
    if spec.inner != 1:  # few bits: nothing to gain from making them on the way
        mask = dropout_mask(spec)
        return dropout_apply(spec, input, mask), mask
    out, mask = np.empty_like(input), np.empty((spec.size + 7) // 8, np.uint8)
    forward = _DROPOUT_FORWARD[input.dtype]
    x, y = input.reshape(-1), out.reshape(-1)
    forward(x, y, mask, spec.threshold, spec.seed, spec.offset, spec.scale, isa(), get_num_threads())
    return out, mask


def drop_block_mask(spec: DropBlockSpec) -> Array:
    (rows, cols), (block_rows, block_cols) = spec.size, spec.block
    planes, threads = spec.batch * spec.channels, get_num_threads()
    mask = np.empty((planes * rows * cols + 7) // 8, np.uint8)
    scratch = np.empty((threads, 9 * rows * cols), np.uint8)
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


def activation_forward(spec: ActivationSpec, x: Array) -> Array:
    y = np.empty_like(x)
    _ACTIVATION_FORWARD[x.dtype](
        x.reshape(-1), y.reshape(-1), _pointwise.KINDS[spec.kind], spec.slope, isa(), get_num_threads()
    )
    return y


def activation_backward(spec: ActivationSpec, grad_output: Array, output: Array) -> Array:
    dx = np.empty_like(grad_output)
    _ACTIVATION_BACKWARD[output.dtype](
        grad_output.reshape(-1),
        output.reshape(-1),
        dx.reshape(-1),
        _pointwise.KINDS[spec.kind],
        spec.slope,
        isa(),
        get_num_threads(),
    )
    return dx


def softmax_forward(spec: SoftmaxSpec, x: Array) -> Array:
    y = np.empty_like(x)
    view = (spec.outer, spec.length, spec.inner)
    _SOFTMAX_FORWARD[x.dtype](x.reshape(-1), y.reshape(-1), *view, spec.log, isa(), get_num_threads())
    return y


def softmax_backward(spec: SoftmaxSpec, grad_output: Array, output: Array) -> Array:
    dx = np.empty_like(grad_output)
    view = (spec.outer, spec.length, spec.inner)
    _SOFTMAX_BACKWARD[output.dtype](
        grad_output.reshape(-1), output.reshape(-1), dx.reshape(-1), *view, spec.log, isa(), get_num_threads()
    )
    return dx


def _targets(spec: CrossEntropySpec, target: Array) -> tuple[Array | None, Array | None]:
    """(labels, probabilities): one of them is None."""
    return (None, target.reshape(-1)) if spec.soft else (target.reshape(-1), None)


def _divisor(spec: CrossEntropySpec, target: Array, weight: Array) -> float:
    """What a reduced loss is divided by; zero for the mean where every label is ignored."""
    if spec.reduction == "sum":
        return 1.0
    if spec.soft:
        return float(spec.batch * spec.inner)
    return _LABEL_WEIGHT[weight.dtype](target.reshape(-1), weight, spec.ignore_index)


def cross_entropy_forward(
    spec: CrossEntropySpec, logits: Array, target: Array, weight: Array | None
) -> tuple[Array, Array]:
    view = (spec.batch, spec.classes, spec.inner)
    settings = (isa(), get_num_threads())
    weights = np.ones(spec.classes, spec.dtype) if weight is None else weight
    log_probs, loss = np.empty_like(logits), np.empty((spec.batch, spec.inner), spec.dtype)
    flat_loss = loss.reshape(-1)
    _SOFTMAX_FORWARD[logits.dtype](logits.reshape(-1), log_probs.reshape(-1), *view, True, *settings)
    _CROSS_ENTROPY_FORWARD[logits.dtype](
        log_probs.reshape(-1),
        *_targets(spec, target),
        weights,
        flat_loss,
        *view,
        spec.ignore_index,
        spec.label_smoothing,
        *settings,
    )
    if spec.reduction != "none":
        total = _TOTAL_OVER[logits.dtype](flat_loss, _divisor(spec, target, weights), isa())
        loss = np.asarray(total, spec.dtype)
    return loss, log_probs


def cross_entropy_backward(
    spec: CrossEntropySpec, grad_loss: Array, log_probs: Array, target: Array, weight: Array | None
) -> Array:
    weights = np.ones(spec.classes, spec.dtype) if weight is None else weight
    scale = grad_loss.reshape(-1)
    if spec.reduction == "mean":
        mean_scale = _TOTAL_OVER[scale.dtype](scale, _divisor(spec, target, weights), isa())
        scale = np.full(1, mean_scale, spec.dtype)
    d = np.empty_like(log_probs)
    _CROSS_ENTROPY_BACKWARD[log_probs.dtype](
        log_probs.reshape(-1),
        *_targets(spec, target),
        weights,
        scale,
        d.reshape(-1),
        spec.batch,
        spec.classes,
        spec.inner,
        spec.ignore_index,
        spec.label_smoothing,
        isa(),
        get_num_threads(),
    )
    return d


def channel_sum(spec: ChannelSpec, x: Array) -> Array:
    total = np.empty(spec.channels)
    _CHANNEL_SUM[x.dtype](
        x.reshape(-1), total, spec.batch, spec.channels, spec.inner, isa(), get_num_threads()
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
        np.empty_like(x),
        np.empty(spec.channels, x.dtype),
        np.empty(spec.channels, x.dtype),
    )
    _BATCH_NORM_FORWARD[x.dtype](
        x.reshape(-1),
        y.reshape(-1),
        mean,
        var,
        weight,
        bias,
        out_mean,
        inv_std,
        np.empty((2, spec.channels)),
        spec.batch,
        spec.channels,
        spec.inner,
        spec.eps,
        isa(),
        get_num_threads(),
    )
    return y, out_mean, inv_std


def batch_norm_backward(
    spec: BatchNormSpec, grad_output: Array, x: Array, mean: Array, inv_std: Array, weight: Array | None
) -> tuple[Array, Array, Array]:
    dx, dweight, dbias = np.empty_like(x), np.empty(spec.channels), np.empty(spec.channels)
    _BATCH_NORM_BACKWARD[x.dtype](
        grad_output.reshape(-1),
        x.reshape(-1),
        dx.reshape(-1),
        mean,
        inv_std,
        weight,
        dweight,
        dbias,
        spec.batch,
        spec.channels,
        spec.inner,
        spec.training,
        isa(),
        get_num_threads(),
    )
    return dx, dweight.astype(spec.dtype), dbias.astype(spec.dtype)


IMPLEMENTATIONS: dict[str, tuple[Implementation, ...]] = {
    run.__name__: (Implementation(name, run),)
    for name, run in (
        ("philox", dropout_mask),
        ("philox", dropout_apply),
        ("philox", dropout_forward),
        ("philox", drop_block_mask),
        ("simd", activation_forward),
        ("simd", activation_backward),
        ("simd", softmax_forward),
        ("simd", softmax_backward),
        ("simd", cross_entropy_forward),
        ("simd", cross_entropy_backward),
        ("simd", channel_sum),
        ("simd", batch_norm_forward),
        ("simd", batch_norm_backward),
    )
}
