"""ATen's operators as ops of a graph: one function each, kept in a table by operator.

A function gets the arguments of its operator by their names.  It may count on nothing but what it checks: the first
axis of every activation is the batch, and must stay that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from fastconv import ops
from fastconv.torch._ops import feature_dropout
from fastconv.torch._translation import Activation, Constant, Untranslatable, Uses

aten = torch.ops.aten

TABLE: dict[Any, Callable[..., Any]] = {}


def _translates(*targets: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Put a function into the table."""

    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        TABLE.update(dict.fromkeys(targets, function))
        return function

    return enter


# ---- convolution and matrix product


def _conv(
    use: Uses,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Sequence[int],
    padding: Any,
    dilation: Sequence[int],
    groups: int,
    output_padding: Sequence[int] | None = None,
) -> Activation:
    _check_constant(weight, "weight")
    ndim = len(weight.shape) - 2
    options: dict[str, Any] = {
        "kernel_size": weight.shape[2:],
        "stride": _each(stride, ndim),
        "padding": padding if isinstance(padding, str) else _each(padding, ndim),
        "dilation": _each(dilation, ndim),
        "groups": groups,
        "bias": bias is not None,
    }
    op: ops.Op
    if output_padding is None:
        op = ops.Conv.of(ndim, weight.shape[0], **options)
    else:
        extra = _each(output_padding, ndim)
        op = ops.ConvTranspose.of(ndim, weight.shape[1] * groups, output_padding=extra, **options)
    return use.add(op, input, weight=weight, bias=bias)


def _each(values: Sequence[int], ndim: int) -> tuple[int, ...]:
    return tuple(values) * (ndim if len(values) == 1 else 1)


def _check_constant(value: Any, name: str) -> None:
    if not isinstance(value, Constant):
        raise Untranslatable(f"{name} must be a constant")


@_translates(aten.convolution.default)
def _convolution(
    use: Uses,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Activation:
    extra = output_padding if transposed else None
    return _conv(use, input, weight, bias, stride, padding, dilation, groups, extra)


@_translates(
    aten.conv1d.default,
    aten.conv1d.padding,
    aten.conv2d.default,
    aten.conv2d.padding,
    aten.conv3d.default,
    aten.conv3d.padding,
    aten.conv_transpose1d.default,
    aten.conv_transpose2d.input,
    aten.conv_transpose3d.input,
)
def _conv_nd(use: Uses, **arguments: Any) -> Activation:
    return _conv(use, **arguments)


def _linear(use: Uses, x: Any, weight: Any, bias: Any = None) -> Activation:
    _check_constant(weight, "weight")
    if len(x.shape) == 1:
        op = ops.Linear(out_features=weight.shape[0], bias=bias is not None)
        return use.add(op, x, weight=weight, bias=bias)
    product = use.add(ops.MatMul(), x, use.add(ops.Constant(shape=weight.t.shape), value=weight.t))
    return product if bias is None else use.add(ops.Add(), product, use.activation(bias))


@_translates(aten.linear.default)
def _linear_default(use: Uses, input: Any, weight: Any, bias: Any) -> Activation:
    return _linear(use, input, weight, bias)


@_translates(aten.addmm.default)
def _addmm(use: Uses, self: Any, mat1: Any, mat2: Any, beta: float, alpha: float) -> Activation:
    if (beta, alpha) != (1, 1):
        raise Untranslatable(f"addmm takes beta 1 and alpha 1, got {beta} and {alpha}")
    _check_constant(mat2, "mat2")
    return _linear(use, mat1, mat2.t, self)


@_translates(aten.mm.default)
def _mm(use: Uses, self: Any, mat2: Any) -> Activation:
    _check_constant(mat2, "mat2")
    return _linear(use, self, mat2.t)


# ---- pooling


@_translates(aten.max_pool1d.default, aten.max_pool2d.default)
def _max_pool(
    use: Uses,
    self: Any,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
) -> Activation:
    ndim = len(self.shape) - 1
    size, steps, sides, spread = (_each(each, ndim) for each in (kernel_size, stride, padding, dilation))
    return use.add(ops.MaxPool.of(ndim, size, steps or None, sides, spread, ceil_mode), self)


@_translates(aten.max_pool2d_with_indices.default)
def _max_pool_with_indices(use: Uses, **arguments: Any) -> tuple[Activation, None]:
    return _max_pool(use, **arguments), None


@_translates(aten.avg_pool1d.default, aten.avg_pool2d.default)
def _avg_pool(
    use: Uses,
    self: Any,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None = None,
) -> Activation:
    ndim = len(self.shape) - 1
    size, steps, sides = (_each(each, ndim) for each in (kernel_size, stride, padding))
    options = (ceil_mode, count_include_pad, divisor_override)
    return use.add(ops.AvgPool.of(ndim, size, steps or None, sides, *options), self)


@_translates(
    aten.adaptive_avg_pool1d.default, aten.adaptive_avg_pool2d.default, aten._adaptive_avg_pool2d.default
)
def _adaptive_avg_pool(use: Uses, self: Any, output_size: Sequence[int]) -> Activation:
    if set(output_size) == {1}:
        return use.add(ops.GlobalAvgPool(keepdims=True), self)
    return use.add(ops.AdaptiveAvgPool.of(len(output_size), tuple(output_size)), self)


@_translates(aten.adaptive_max_pool1d.default, aten.adaptive_max_pool2d.default)
def _adaptive_max_pool(use: Uses, self: Any, output_size: Sequence[int]) -> tuple[Activation, None]:
    return use.add(ops.AdaptiveMaxPool.of(len(output_size), tuple(output_size)), self), None


def _sample_axis(axis: int, value: Activation) -> int:
    """An axis of the batch as that of a sample."""
    own = axis - 1 if axis >= 0 else axis + len(value.shape)
    if not 0 <= own < len(value.shape):
        raise Untranslatable("the batch axis must be left alone")
    return own


def _reduction(function: str) -> Callable[..., Activation]:
    def translate(use: Uses, self: Any, dim: Any, keepdim: bool, dtype: Any = None) -> Activation:
        if dtype not in (None, use.translation.dtype):
            raise Untranslatable(f"results have the dtype of the input, got {dtype}")
        dims = [dim] if isinstance(dim, int) else dim or range(len(self.shape) + 1)
        axes = tuple(sorted(_sample_axis(axis, self) for axis in dims))
        if function == "mean" and axes and axes == tuple(range(1, len(self.shape))):
            return use.add(ops.GlobalAvgPool(keepdims=keepdim), self)
        return use.add(ops.Reduce(function=function, axes=axes, keepdims=keepdim), self)

    return translate


for _name, _target in {
    "mean": aten.mean.dim,
    "sum": aten.sum.dim_IntList,
    "max": aten.amax.default,
    "min": aten.amin.default,
    "prod": aten.prod.dim_int,
    "log_sum_exp": aten.logsumexp.default,
}.items():
    _translates(_target)(_reduction(_name))


# ---- normalisation, dropout, activations


def _batch_norm(
    use: Uses,
    x: Any,
    weight: Any,
    bias: Any,
    running_mean: Any,
    running_var: Any,
    momentum: float,
    eps: float,
) -> Activation:
    if (weight is None) != (bias is None):
        raise Untranslatable("batch_norm has both weight and bias or neither")
    op = ops.BatchNorm(eps=eps, momentum=momentum, affine=weight is not None)
    params = {"weight": weight, "bias": bias, "running_mean": running_mean, "running_var": running_var}
    return use.add(op, x, **params)


@_translates(aten._native_batch_norm_legit_no_training.default)
def _batch_norm_evaluation(use: Uses, input: Any, **arguments: Any) -> tuple[Activation, None, None]:
    return _batch_norm(use, input, **arguments), None, None


@_translates(aten._native_batch_norm_legit_functional.default)
def _batch_norm_training(
    use: Uses, input: Any, training: bool, **arguments: Any
) -> tuple[Activation | None, ...]:
    _check_training(use)
    return _batch_norm(use, input, **arguments), None, None, None, None


@_translates(aten.batch_norm.default)
def _batch_norm_of_either(
    use: Uses, input: Any, training: bool, cudnn_enabled: bool, **arguments: Any
) -> Activation:
    if training:
        _check_training(use)
    return _batch_norm(use, input, **arguments)


def _check_training(use: Uses) -> None:
    if not use.translation.training:
        raise Untranslatable("inference has no operators of training")


def _own_statistics(use: Uses, op: ops.Op, x: Any, weight: Any, bias: Any) -> Activation:
    if (weight is None) != (bias is None):
        raise Untranslatable(f"{op.kind} has both weight and bias or neither")
    return use.add(op, x, weight=weight, bias=bias)


@_translates(aten.layer_norm.default)
def _layer_norm(
    use: Uses, input: Any, normalized_shape: Sequence[int], weight: Any, bias: Any, eps: float, **_: Any
) -> Activation:
    op = ops.LayerNorm(ndim=len(normalized_shape), eps=eps, affine=weight is not None)
    return _own_statistics(use, op, input, weight, bias)


@_translates(aten.native_layer_norm.default)
def _native_layer_norm(use: Uses, **arguments: Any) -> tuple[Activation, None, None]:
    return _layer_norm(use, **arguments), None, None


@_translates(aten.group_norm.default)
def _group_norm(
    use: Uses, input: Any, num_groups: int, weight: Any, bias: Any, eps: float, **_: Any
) -> Activation:
    op = ops.GroupNorm(num_groups=num_groups, eps=eps, affine=weight is not None)
    return _own_statistics(use, op, input, weight, bias)


@_translates(aten.native_group_norm.default)
def _native_group_norm(use: Uses, group: int, **arguments: Any) -> tuple[Activation, None, None]:
    return _group_norm(use, num_groups=group, **arguments), None, None


@_translates(aten.instance_norm.default)
def _instance_norm(
    use: Uses, input: Any, weight: Any, bias: Any, use_input_stats: bool, eps: float, **_: Any
) -> Activation:
    if not use_input_stats:
        raise Untranslatable("instance_norm takes the statistics of its input")
    op = ops.InstanceNorm(eps=eps, affine=weight is not None)
    return _own_statistics(use, op, input, weight, bias)


def _dropping(whole_channels: bool) -> Callable[..., Activation]:
    def translate(use: Uses, input: Any, p: float, train: bool) -> Activation:
        if not train:
            return _identity(use, input)
        _check_training(use)
        return use.add(ops.Dropout(p=p, whole_channels=whole_channels), input)

    return translate


_translates(aten.dropout.default)(_dropping(False))
_translates(feature_dropout)(_dropping(True))


@_translates(aten.native_dropout.default)
def _native_dropout(use: Uses, input: Any, p: float, train: bool | None) -> tuple[Activation, None]:
    if train is False:
        return _identity(use, input), None
    _check_training(use)
    return use.add(ops.Dropout(p=p), input), None


@_translates(
    aten.clone.default,
    aten.detach.default,
    aten.alias.default,
    aten.contiguous.default,
    aten.lift_fresh_copy.default,
    aten._to_copy.default,
    aten.to.dtype,
)
def _identity(use: Uses, self: Any, **_: Any) -> Activation:
    # What it may change is the dtype, and activations of another are refused.
    return use.activation(self)


def _function(name: str) -> Callable[..., Activation]:
    def translate(use: Uses, self: Any) -> Activation:
        return use.add(ops.Activation(function=name), self)

    return translate


for _name in ("relu", "relu6", "sigmoid", "tanh"):
    _translates(getattr(aten, _name).default)(_function(_name))


@_translates(aten.leaky_relu.default)
def _leaky_relu(use: Uses, self: Any, negative_slope: float) -> Activation:
    return use.add(ops.Activation(function="leaky_relu", slope=negative_slope), self)


@_translates(aten.clamp.default, aten.hardtanh.default)
def _clip(use: Uses, self: Any, **bounds: Any) -> Activation:
    low, high = bounds.values()
    if (low, high) == (0, 6):
        return use.add(ops.Activation(function="relu6"), self)
    low, high = -math.inf if low is None else low, math.inf if high is None else high
    return use.add(ops.Unary(function="clip", alpha=low, beta=high), self)


@_translates(aten.clamp_min.default)
def _at_least(use: Uses, self: Any, min: float) -> Activation:
    return _clip(use, self, min=min, max=None)


@_translates(aten.clamp_max.default)
def _at_most(use: Uses, self: Any, max: float) -> Activation:
    return _clip(use, self, min=None, max=max)


def _unary(name: str) -> Callable[..., Activation]:
    def translate(use: Uses, self: Any) -> Activation:
        return use.add(ops.Unary(function=name), self)

    return translate


for _name, _target in {
    **{
        name: getattr(aten, name).default
        for name in (
            *("abs", "ceil", "cos", "erf", "exp", "floor", "log", "mish", "neg", "reciprocal", "round"),
            *("selu", "sign", "silu", "sin", "sqrt"),
        )
    },
    "hard_sigmoid": aten.hardsigmoid.default,
    "hard_swish": aten.hardswish.default,
}.items():
    _translates(_target)(_unary(_name))


@_translates(aten.rsqrt.default)
def _rsqrt(use: Uses, self: Any) -> Activation:
    return use.add(ops.Unary(function="reciprocal"), use.add(ops.Unary(function="sqrt"), self))


@_translates(aten.elu.default)
def _elu(use: Uses, self: Any, alpha: float, scale: float, input_scale: float) -> Activation:
    if input_scale != 1:
        raise Untranslatable(f"elu has an input_scale of 1, got {input_scale}")
    return use.add(
        ops.Unary(function="selu", alpha=alpha, beta=scale), self
    )  # it is scaled elu of any numbers


@_translates(aten.celu.default)
def _celu(use: Uses, self: Any, alpha: float) -> Activation:
    return use.add(ops.Unary(function="celu", alpha=alpha), self)


@_translates(aten.softplus.default)
def _softplus(use: Uses, self: Any, beta: float, threshold: float) -> Activation:
    # Behind the threshold PyTorch gives the input itself, which is the same to rounding from 20 on.
    if threshold < 20:
        raise Untranslatable(f"softplus has a threshold of at least 20, got {threshold}")
    return use.add(ops.Unary(function="softplus", alpha=beta), self)


@_translates(aten.gelu.default)
def _gelu(use: Uses, self: Any, approximate: str) -> Activation:
    return use.add(ops.Unary(function="gelu" if approximate == "none" else "gelu_tanh"), self)


@_translates(aten.prelu.default, aten._prelu_kernel.default)
def _prelu(use: Uses, self: Any, weight: Any) -> Activation:
    _check_constant(weight, "weight")
    slopes = math.prod(weight.shape)
    shape = (slopes,) + (1,) * (len(self.shape) - 1) if slopes > 1 else ()
    return use.add(ops.PRelu(slope_shape=shape), self, slope=Constant(weight.source, shape))


def _softmax(use: Uses, x: Any, dim: int, log: bool) -> Activation:
    return use.add(ops.Softmax(log=log, axis=_sample_axis(dim, x)), x)


@_translates(aten._softmax.default, aten._log_softmax.default)
def _softmax_at_once(use: Uses, self: Any, dim: int, half_to_float: bool) -> Activation:
    return _softmax(use, self, dim, use.node.target is aten._log_softmax.default)


@_translates(aten.softmax.int, aten.log_softmax.int)
def _softmax_of(use: Uses, self: Any, dim: int, dtype: Any) -> Activation:
    return _softmax(use, self, dim, use.node.target is aten.log_softmax.int)


# ---- arithmetic


def _pair(use: Uses, op: ops.Op, a: Any, b: Any) -> Activation:
    ranks = {len(each.shape) for each in (a, b) if isinstance(each, Activation)}
    if len(ranks) != 1:
        raise Untranslatable("activations that meet have the same number of axes")
    return use.add(op, use.activation(a), use.activation(b))


@_translates(aten.add.Tensor, aten.add.Scalar)
def _add(use: Uses, self: Any, other: Any, alpha: float) -> Activation:
    _check_factor(alpha)
    return _pair(use, ops.Add(), self, other)


@_translates(aten.sub.Tensor, aten.sub.Scalar)
def _sub(use: Uses, self: Any, other: Any, alpha: float) -> Activation:
    _check_factor(alpha)
    return _pair(use, ops.Subtract(), self, other)


@_translates(aten.rsub.Tensor, aten.rsub.Scalar)
def _rsub(use: Uses, self: Any, other: Any, alpha: float) -> Activation:
    _check_factor(alpha)
    return _pair(use, ops.Subtract(), other, self)


def _check_factor(alpha: float) -> None:
    if alpha != 1:
        raise Untranslatable(f"sums have an alpha of 1, got {alpha}")


def _arithmetic(op: ops.Op) -> Callable[..., Activation]:
    def translate(use: Uses, self: Any, other: Any) -> Activation:
        return _pair(use, op, self, other)

    return translate


for _op, _targets in {
    ops.Multiply(): (aten.mul.Tensor, aten.mul.Scalar),
    ops.Divide(): (aten.div.Tensor, aten.div.Scalar),
    ops.Maximum(): (aten.maximum.default,),
    ops.Minimum(): (aten.minimum.default,),
}.items():
    _translates(*_targets)(_arithmetic(_op))


@_translates(aten.pow.Tensor_Scalar)
def _power(use: Uses, self: Any, exponent: float) -> Activation:
    if exponent == 2:
        return use.add(ops.Multiply(), self, self)
    return _pair(use, ops.Power(), self, exponent)


@_translates(aten.matmul.default, aten.bmm.default)
def _matmul(use: Uses, **arguments: Any) -> Activation:
    return _pair(use, ops.MatMul(), *arguments.values())


# ---- shapes


@_translates(
    aten.view.default,
    aten._unsafe_view.default,
    aten.reshape.default,
    aten.flatten.using_ints,
    aten.unflatten.int,
    aten.squeeze.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.unsqueeze.default,
)
def _reshape(use: Uses, **arguments: Any) -> Activation:
    # Elements keep their order, so with the first size kept every sample keeps its own.
    (x, *_), shape = arguments.values(), use.shape
    return use.add(ops.Reshape(shape=None if len(shape) == 1 else shape), x)


@_translates(aten.permute.default)
def _permute(use: Uses, self: Any, dims: Sequence[int]) -> Activation:
    rank = len(self.shape) + 1
    first, *rest = (axis % rank for axis in dims)
    if first != 0:
        raise Untranslatable(f"the batch axis stays the first, got dims {dims}")
    return use.add(ops.Transpose(perm=tuple(axis - 1 for axis in rest)), self)


@_translates(aten.transpose.int)
def _transpose(use: Uses, self: Any, dim0: int, dim1: int) -> Activation:
    perm = list(range(len(self.shape)))
    a, b = _sample_axis(dim0, self), _sample_axis(dim1, self)
    perm[a], perm[b] = perm[b], perm[a]
    return use.add(ops.Transpose(perm=tuple(perm)), self)


def _part(use: Uses, x: Any, axis: int, start: int | None, stop: int | None, step: int = 1) -> Activation:
    shape = use.activation(x).shape
    taken = range(*slice(start, stop, step).indices(shape[axis]))
    starts, stops, steps = [0] * len(shape), list(shape), [1] * len(shape)
    starts[axis], stops[axis], steps[axis] = taken.start, taken.stop, taken.step
    return use.add(ops.Slice(starts=tuple(starts), stops=tuple(stops), steps=tuple(steps)), x)


@_translates(aten.slice.Tensor)
def _slice(use: Uses, self: Any, dim: int, start: int | None, end: Any, step: int) -> Activation:
    if dim == 0 and not start and step == 1 and use.translation.is_batch(use.node.meta["val"].shape[0]):
        return _identity(use, self)
    return _part(use, self, _sample_axis(dim, self), start, end, step)


@_translates(aten.select.int)
def _select(use: Uses, self: Any, dim: int, index: int) -> Activation:
    axis = _sample_axis(dim, self)
    place = index % self.shape[axis]
    one = _part(use, self, axis, place, place + 1)
    return use.add(ops.Reshape(shape=use.shape), one)


@_translates(aten.split_with_sizes.default, aten.split.Tensor, aten.chunk.default)
def _split(use: Uses, self: Any, dim: int, **_: Any) -> tuple[Activation, ...]:
    axis, start, parts = _sample_axis(dim, self), 0, []
    for part in use.node.meta["val"]:
        size = part.shape[axis + 1]
        parts.append(_part(use, self, axis, start, start + size))
        start += size
    return tuple(parts)


@_translates(aten.cat.default)
def _cat(use: Uses, tensors: list[Any], dim: int) -> Activation:
    (*_, last) = values = [use.activation(each) for each in tensors]
    axis = _sample_axis(dim, last)
    return last if len(values) == 1 else use.add(ops.Concat(axis=axis), *values)


@_translates(aten.expand.default)
def _expand(use: Uses, self: Any, size: Any, implicit: bool) -> Activation:
    if len(use.shape) != len(self.shape):
        raise Untranslatable("what is expanded keeps its number of axes")
    return use.add(ops.Expand(shape=use.shape), self)


@_translates(aten.repeat.default)
def _repeat(use: Uses, self: Any, repeats: Sequence[int]) -> Activation:
    if len(repeats) != len(self.shape) + 1 or repeats[0] != 1:
        raise Untranslatable(f"the batch axis must be left alone, got repeats {repeats}")
    return use.add(ops.Tile(repeats=tuple(repeats[1:])), self)


def _padding(mode: str) -> Callable[..., Activation]:
    def translate(use: Uses, self: Any, **arguments: Any) -> Activation:
        sides, *value = arguments.values()
        return use.add(ops.Pad(padding=tuple(sides), mode=mode, value=float(*value)), self)

    return translate


for _name, _targets in {
    "constant": (aten.constant_pad_nd.default,),
    "reflect": (aten.reflection_pad1d.default, aten.reflection_pad2d.default, aten.reflection_pad3d.default),
    "replicate": (
        aten.replication_pad1d.default,
        aten.replication_pad2d.default,
        aten.replication_pad3d.default,
    ),
}.items():
    _translates(*_targets)(_padding(_name))


@_translates(aten.pad.default)
def _pad(use: Uses, self: Any, pad: Sequence[int], mode: str, value: float | None) -> Activation:
    return use.add(ops.Pad(padding=tuple(pad), mode=mode, value=value or 0.0), self)


@_translates(aten.pixel_shuffle.default)
def _pixel_shuffle(use: Uses, self: Any, upscale_factor: int) -> Activation:
    return use.add(ops.DepthToSpace(block=upscale_factor, mode="CRD"), self)


@_translates(aten.pixel_unshuffle.default)
def _pixel_unshuffle(use: Uses, self: Any, downscale_factor: int) -> Activation:
    return use.add(ops.SpaceToDepth(block=downscale_factor, mode="CRD"), self)


def _resizing(mode: str, ndim: int) -> Callable[..., Activation]:
    def translate(
        use: Uses,
        input: Any,
        output_size: Any,
        scale_factors: Sequence[float] | None,
        align_corners: bool = False,
    ) -> Activation:
        transform = "asymmetric" if mode == "nearest" else "align_corners" if align_corners else "half_pixel"
        op = ops.Resize(
            out_size=use.shape[-ndim:],
            mode=mode,
            coordinate_transform=transform,
            nearest_mode="floor",
            scales=None if scale_factors is None or align_corners else tuple(scale_factors),
        )
        return use.add(op, input)

    return translate


for _target, _name, _ndim in (
    (aten.upsample_nearest1d.vec, "nearest", 1),
    (aten.upsample_nearest2d.vec, "nearest", 2),
    (aten.upsample_nearest3d.vec, "nearest", 3),
    (aten.upsample_linear1d.vec, "linear", 1),
    (aten.upsample_bilinear2d.vec, "linear", 2),
    (aten.upsample_trilinear3d.vec, "linear", 3),
    (aten.upsample_bicubic2d.vec, "cubic", 2),
):
    _translates(_target)(_resizing(_name, _ndim))
