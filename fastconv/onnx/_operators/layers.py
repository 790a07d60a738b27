"""Convolution, pooling, normalisation, dropout, and matrix products."""

from __future__ import annotations

import math
from functools import reduce
from typing import Any

import numpy as np

import fastconv.functional as F
from fastconv import ops
from fastconv._spec import Shape
from fastconv.onnx._builder import Builder
from fastconv.onnx._file import Call
from fastconv.onnx._operators._table import Result, known, operator, scalar
from fastconv.onnx._values import Array, Known, Open, UnsupportedModelError, Value

Pads = tuple[tuple[int, int], ...]


def _spatial(x: Value) -> Shape:
    """Sizes behind batch and channels."""
    sizes = x.array.shape[2:] if isinstance(x, Known) else x.shape[1:]
    if x.ndim < 3:
        raise ValueError(f"its input needs a batch, channels and spatial axes, got {x.ndim} axes")
    return sizes


def _channels(x: Value) -> int:
    return int(x.array.shape[1] if isinstance(x, Known) else x.shape[0])


def _per_axis(call: Call, name: str, ndim: int, default: int | None = None) -> Shape:
    values = call.integers(name, None if default is None else (default,) * ndim)
    if values is None or len(values) != ndim or min(values) < 1:
        raise ValueError(f"attribute {name!r} must hold {ndim} integers >= 1, got {values}")
    return values


def _reach(kernel: Shape, dilation: Shape) -> Shape:
    return tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))


def _sides(call: Call, ndim: int) -> Pads:
    pads = call.integers("pads", (0,) * 2 * ndim) or ()
    if len(pads) != 2 * ndim or min(pads) < 0:
        raise ValueError(f"attribute 'pads' must hold {2 * ndim} integers >= 0, got {pads}")
    return tuple(zip(pads[:ndim], pads[ndim:], strict=True))


def _pads(call: Call, sizes: Shape, kernel: Shape, stride: Shape, dilation: Shape) -> Pads:
    """(low, high) per axis, those of ``auto_pad`` made explicit."""
    mode = call.attribute("auto_pad", "NOTSET")
    sides = _sides(call, len(sizes))
    if mode == "NOTSET":
        return sides
    if mode == "VALID":
        return ((0, 0),) * len(sizes)
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        raise ValueError(f"attribute 'auto_pad' is {mode!r}, which is not known")
    totals = [
        max((-(-n // s) - 1) * s + r - n, 0)
        for n, s, r in zip(sizes, stride, _reach(kernel, dilation), strict=True)
    ]
    return tuple(_split(total, mode) for total in totals)


def _split(total: int, mode: str) -> tuple[int, int]:
    less, more = total // 2, total - total // 2
    return (more, less) if mode == "SAME_LOWER" else (less, more)


def _padded(b: Builder, x: Value, pads: Pads, value: float) -> Value:
    """More or fewer elements at the sides of the spatial axes."""
    if not any(side for pair in pads for side in pair):
        return x
    return b.layer(ops.Pad(padding=tuple(side for pair in reversed(pads) for side in pair), value=value), x)


# ------------------------------------------------------------------------------------------------ convolution


def _weights(weight: Value, bias: Value | None) -> dict[str, Known]:
    params = {"weight": known(weight, "weight")}
    if bias is not None:
        params["bias"] = known(bias, "bias")
    return params


def _geometry(call: Call, shape: Shape, ndim: int) -> tuple[Shape, Shape, Shape]:
    """Kernel size, stride and dilation, for a weight of this shape."""
    if len(shape) != ndim + 2:
        raise ValueError(f"its weight must have {ndim + 2} axes, got shape {shape}")
    kernel = call.integers("kernel_shape", shape[2:])
    if kernel != shape[2:]:
        raise ValueError(f"attribute 'kernel_shape' is {kernel}, but the weight's shape is {shape}")
    return kernel, _per_axis(call, "strides", ndim, 1), _per_axis(call, "dilations", ndim, 1)


@operator("Conv")
def conv(b: Builder, call: Call, x: Value, weight: Value, bias: Value | None = None) -> Result:
    params, sizes = _weights(weight, bias), _spatial(x)
    shape = params["weight"].array.shape
    kernel, stride, dilation = _geometry(call, shape, len(sizes))
    op = ops.Conv(
        out_channels=shape[0],
        kernel_size=kernel,
        stride=stride,
        padding=_pads(call, sizes, kernel, stride, dilation),
        dilation=dilation,
        groups=call.attribute("group", 1),
        bias=bias is not None,
    )
    return b.layer(op, x, params)


@operator("ConvTranspose")
def conv_transpose(b: Builder, call: Call, x: Value, weight: Value, bias: Value | None = None) -> Result:
    params, sizes = _weights(weight, bias), _spatial(x)
    ndim, shape = len(sizes), params["weight"].array.shape
    kernel, stride, dilation = _geometry(call, shape, ndim)
    extra = call.integers("output_padding", (0,) * ndim) or ()
    if len(extra) != ndim or min(extra) < 0:
        raise ValueError(f"attribute 'output_padding' must hold {ndim} integers >= 0, got {extra}")
    wanted = call.integers("output_shape")
    mode = call.attribute("auto_pad", "NOTSET")
    pads = _sides(call, ndim)
    full = [s * (n - 1) + r for s, n, r in zip(stride, sizes, _reach(kernel, dilation), strict=True)]
    if mode in ("SAME_UPPER", "SAME_LOWER") and wanted is None:
        wanted = tuple(n * s for n, s in zip(sizes, stride, strict=True))
    if wanted is not None:
        wanted = wanted[-ndim:]  # some writers give batch and channels, too
        totals = [f + e - w for f, e, w in zip(full, extra, wanted, strict=True)]
        # the other way round than for convolutions: here the pads are taken away
        pads = tuple(_split(total, mode if mode == "SAME_UPPER" else "SAME_LOWER") for total in totals)
    elif mode == "VALID":
        pads = ((0, 0),) * ndim
    elif mode != "NOTSET":
        raise ValueError(f"attribute 'auto_pad' is {mode!r}, which is not known")
    # Convolve with all sides, then crop or, where there is more output than sides, pad: that is what pads mean.
    groups = call.attribute("group", 1)
    inside = tuple((max(lo, 0), max(hi - e, 0)) for (lo, hi), e in zip(pads, extra, strict=True))
    outside = tuple(
        (i_lo - lo, i_hi - (hi - e)) for (lo, hi), (i_lo, i_hi), e in zip(pads, inside, extra, strict=True)
    )
    op = ops.ConvTranspose(
        out_channels=shape[1] * groups,
        kernel_size=kernel,
        stride=stride,
        padding=inside,
        dilation=dilation,
        groups=groups,
        bias=bias is not None and not any(map(any, outside)),
        output_padding=(0,) * ndim,
    )
    if op.bias or bias is None:
        return _padded(b, b.layer(op, x, params), outside, 0.0)
    # what is added at the sides gets the bias, too
    weights = {"weight": params["weight"]}
    column = params["bias"].array.reshape(1, -1, *(1,) * ndim)
    y = _padded(b, b.layer(op, x, weights), outside, 0.0)
    return b.broadcast(ops.Add(), y, Known(column, params["bias"].name))


# ---------------------------------------------------------------------------------------------------- pooling


class _Windows:
    """The windows of a pooling node over an input."""

    def __init__(self, call: Call, x: Value) -> None:
        self.sizes = _spatial(x)
        ndim = len(self.sizes)
        self.kernel = _per_axis(call, "kernel_shape", ndim)
        self.stride = _per_axis(call, "strides", ndim, 1)
        self.dilation = _per_axis(call, "dilations", ndim, 1)
        self.ceil = bool(call.attribute("ceil_mode", 0)) and call.attribute("auto_pad", "NOTSET") == "NOTSET"
        self.pads = _pads(call, self.sizes, self.kernel, self.stride, self.dilation)
        self.plain = ndim < 3 and all(
            lo == hi and 2 * lo <= k for (lo, hi), k in zip(self.pads, self.kernel, strict=True)
        )

    @property
    def padding(self) -> Shape:
        return tuple(lo for lo, _ in self.pads)

    @property
    def arguments(self) -> dict[str, Any]:
        """Fields of a pooling op, where the windows are plain."""
        return {
            "kernel_size": self.kernel,
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "ceil_mode": self.ceil,
        }

    @property
    def out_sizes(self) -> Shape:
        """Rounded up in ceil mode, but for a window that would start in the high padding."""
        sizes = []
        for n, (lo, hi), s, r in zip(
            self.sizes, self.pads, self.stride, _reach(self.kernel, self.dilation), strict=True
        ):
            size = (n + lo + hi - r + (s - 1 if self.ceil else 0)) // s + 1
            if self.ceil and (size - 1) * s >= n + lo:
                size -= 1
            sizes.append(size)
        return tuple(sizes)

    @property
    def exact_pads(self) -> Pads:
        """Sides with which the windows end exactly where the input does."""
        return tuple(
            (lo, (size - 1) * s + r - n - lo)
            for n, (lo, _), size, s, r in zip(
                self.sizes,
                self.pads,
                self.out_sizes,
                self.stride,
                _reach(self.kernel, self.dilation),
                strict=True,
            )
        )

    def counts(self, include_pad: bool) -> Array:
        """How many elements of each window count, (1, 1, *out)."""
        per_axis = []
        for n, (lo, hi), size, s, k, d in zip(
            self.sizes, self.pads, self.out_sizes, self.stride, self.kernel, self.dilation, strict=True
        ):
            taps = np.arange(size)[:, None] * s - lo + np.arange(k) * d
            inside = (taps >= -lo) & (taps < n + hi) if include_pad else (taps >= 0) & (taps < n)
            per_axis.append(inside.sum(axis=1))
        return reduce(np.multiply.outer, per_axis)[None, None]


@operator("MaxPool")
def max_pool(b: Builder, call: Call, x: Value) -> Result:
    windows = _Windows(call, x)
    column_major = bool(call.attribute("storage_order", 0))
    if b.wants(1):
        return _max_pool_with_indices(b, windows, x, column_major)
    if windows.plain:
        return b.layer(
            ops.MaxPool(**windows.arguments),
            x,
        )
    x = _padded(b, x, windows.exact_pads, -math.inf)
    if len(windows.kernel) < 3:
        return _max_of(b, x, windows.kernel, windows.stride, windows.dilation)
    # the maximum of a box is that of its columns' maxima
    channels, (depth, *plane) = _channels(x), _spatial(x)
    x = b.layer(ops.Reshape(shape=(channels * depth, *plane)), x)
    x = _max_of(b, x, windows.kernel[1:], windows.stride[1:], windows.dilation[1:])
    x = b.layer(ops.Reshape(shape=(channels, depth, math.prod(windows.out_sizes[1:]))), x)
    x = _max_of(b, x, (windows.kernel[0], 1), (windows.stride[0], 1), (windows.dilation[0], 1))
    return b.layer(ops.Reshape(shape=(channels, *windows.out_sizes)), x)


def _max_of(b: Builder, x: Value, kernel: Shape, stride: Shape, dilation: Shape) -> Value:
    op = ops.MaxPool(
        kernel_size=kernel, stride=stride, padding=(0,) * len(kernel), dilation=dilation, ceil_mode=False
    )
    return b.layer(op, x)


def _max_pool_with_indices(b: Builder, windows: _Windows, x: Value, column_major: bool) -> tuple[Value, ...]:
    """The maxima, and where in the whole array they are."""
    if isinstance(x, Open):
        raise UnsupportedModelError(
            "its indices count over the whole batch, where a net treats each sample alone"
        )
    if len(windows.sizes) > 2:
        raise UnsupportedModelError("indices in three dimensions are not supported")
    array = x.array.astype(np.float64)
    pads = [(max(lo, 0), max(hi, 0)) for lo, hi in windows.exact_pads]
    sizes = [n + lo + hi for n, (lo, hi) in zip(windows.sizes, pads, strict=True)]
    b.reserve(8 * math.prod(array.shape[:2]) * math.prod(sizes))
    padded = np.pad(array, ((0, 0), (0, 0), *pads), constant_values=-math.inf)
    pool = F.max_pool1d if len(windows.sizes) == 1 else F.max_pool2d
    maxima, flat = pool(padded, windows.kernel, windows.stride, 0, windows.dilation, return_indices=True)
    place = [at - lo for at, (lo, _) in zip(np.unravel_index(flat, sizes), pads, strict=True)]
    inside = np.ravel_multi_index(tuple(place), windows.sizes, order="F" if column_major else "C")
    planes = np.arange(math.prod(array.shape[:2])).reshape(*array.shape[:2], *(1,) * len(windows.sizes))
    return Known(maxima.astype(x.dtype)), Known(inside + planes * math.prod(windows.sizes))


@operator("AveragePool")
def average_pool(b: Builder, call: Call, x: Value) -> Result:
    windows = _Windows(call, x)
    include = bool(call.attribute("count_include_pad", 0))
    if windows.plain and set(windows.dilation) == {1}:
        return b.layer(
            ops.AvgPool(
                **windows.arguments,
                count_include_pad=include,
                divisor_override=None,
            ),
            x,
        )
    pairs = zip(windows.out_sizes, windows.kernel, strict=True)
    b.reserve(8 * (math.prod(windows.out_sizes) + sum(size * taps for size, taps in pairs)))
    shares = Known((1 / windows.counts(include)).astype(x.dtype))
    return b.broadcast(ops.Multiply(), _window_sums(b, windows, x), shares)


def _window_sums(b: Builder, windows: _Windows, x: Value) -> Value:
    """The sum of each window, as a depthwise convolution."""
    channels, ndim = _channels(x), len(windows.kernel)
    shape = (channels, 1, *windows.kernel)
    b.reserve(8 * math.prod(shape))
    op = ops.Conv(
        out_channels=channels,
        kernel_size=windows.kernel,
        stride=windows.stride,
        padding=((0, 0),) * ndim,
        dilation=windows.dilation,
        groups=channels,
        bias=False,
    )
    ones = {"weight": Known(np.ones(shape, np.float32))}
    return b.layer(op, _padded(b, x, windows.exact_pads, 0.0), ones, frozen=True)


@operator("LpPool")
def lp_pool(b: Builder, call: Call, x: Value) -> Result:
    windows = _Windows(call, x)
    p = float(call.attribute("p", 2))
    if windows.plain and set(windows.dilation) == {1}:
        return b.layer(
            ops.LpPool(
                **windows.arguments,
                p=p,
            ),
            x,
        )
    powers = b.broadcast(ops.Power(), b.apply(ops.Unary(function="abs"), x), Known(np.asarray(p, x.dtype)))
    return b.broadcast(ops.Power(), _window_sums(b, windows, powers), Known(np.asarray(1 / p, x.dtype)))


@operator("GlobalLpPool")
def global_lp_pool(b: Builder, call: Call, x: Value) -> Result:
    _spatial(x)
    return b.layer(ops.GlobalLpPool(p=float(call.attribute("p", 2)), keepdims=True), x)


@operator("GlobalAveragePool", "GlobalMaxPool")
def global_pool(b: Builder, call: Call, x: Value) -> Result:
    _spatial(x)
    pool = ops.GlobalAvgPool if call.op_type == "GlobalAveragePool" else ops.GlobalMaxPool
    return b.layer(pool(keepdims=True), x)


# ---------------------------------------------------------------------------------- normalisation and dropout


@operator("BatchNormalization")
def batch_normalization(
    b: Builder, call: Call, x: Value, scale: Value, bias: Value, mean: Value, variance: Value
) -> Result:
    call.attribute("is_test", 0)  # up to opset 6; training is not for a file to decide
    if call.attribute("spatial", 1) != 1:
        raise UnsupportedModelError("statistics per element (spatial=0) are not supported")
    params = _affine(scale, bias) | {
        "running_mean": known(mean, "mean"),
        "running_var": known(variance, "variance"),
    }
    momentum = call.attribute("momentum", 0.9)
    op = ops.BatchNorm(eps=call.attribute("epsilon", 1e-5), momentum=round(1.0 - momentum, 9))  # 0.1 of 0.9
    if not call.attribute("training_mode", 0):
        return b.layer(op, x, params)
    if isinstance(x, Open):
        raise UnsupportedModelError("it uses the statistics of the batch in inference (training_mode=1)")
    axes = (0, *range(2, x.ndim))
    moved = [
        Known((momentum * old.array + (1.0 - momentum) * new).astype(old.dtype))
        for old, new in (
            (params["running_mean"], x.array.mean(axes)),
            (params["running_var"], x.array.var(axes)),  # not the unbiased one, as ours is
        )
    ]
    return b.layer(op, x, params, training=True), *moved


def _affine(scale: Value, bias: Value) -> dict[str, Known]:
    return {"weight": known(scale, "scale"), "bias": known(bias, "bias")}


@operator("InstanceNormalization")
def instance_normalization(b: Builder, call: Call, x: Value, scale: Value, bias: Value) -> Result:
    return b.layer(ops.InstanceNorm(eps=call.attribute("epsilon", 1e-5)), x, _affine(scale, bias))


@operator("GroupNormalization")
def group_normalization(b: Builder, call: Call, x: Value, scale: Value, bias: Value) -> Result:
    if call.opset < 21:
        raise UnsupportedModelError("scale and bias per group (opset 18) are not supported")
    call.attribute("stash_type", 1)
    op = ops.GroupNorm(num_groups=call.attribute("num_groups", 1), eps=call.attribute("epsilon", 1e-5))
    return b.layer(op, x, _affine(scale, bias))


@operator("LayerNormalization")
def layer_normalization(b: Builder, call: Call, x: Value, scale: Value, bias: Value | None = None) -> Result:
    call.attribute("stash_type", 1)
    params = {"weight": known(scale, "scale")}
    params["bias"] = Known(np.zeros_like(params["weight"].array)) if bias is None else known(bias, "bias")
    first, eps = b.axis(x, call.attribute("axis", -1)), call.attribute("epsilon", 1e-5)
    ndim = len(b.shape(x)) - first
    y = b.apply(ops.LayerNorm(ndim=ndim, eps=eps), x, params=params)
    if not (b.wants(1) or b.wants(2)):
        return y
    axes = tuple(range(first, first + ndim))
    mean = b.apply(ops.Reduce(function="mean", axes=axes), x)
    centred = b.broadcast(ops.Subtract(), x, mean)
    variance = b.apply(ops.Reduce(function="mean", axes=axes), b.broadcast(ops.Multiply(), centred, centred))
    deviation = b.apply(
        ops.Unary(function="sqrt"), b.broadcast(ops.Add(), variance, Known(np.asarray(eps, x.dtype)))
    )
    return y, mean, b.apply(ops.Unary(function="reciprocal"), deviation)


@operator("LRN")
def local_response_normalization(b: Builder, call: Call, x: Value) -> Result:
    op = ops.LRN(
        size=call.attribute("size", 0),
        alpha=call.attribute("alpha", 1e-4),
        beta=call.attribute("beta", 0.75),
        bias=call.attribute("bias", 1.0),
    )
    return b.layer(op, x)


@operator("Dropout")
def dropout(
    b: Builder, call: Call, x: Value, ratio: Value | None = None, training_mode: Value | None = None
) -> Result:
    call.attribute("is_test", 0)
    p = scalar(ratio, "ratio", call.attribute("ratio", 0.5))
    call.attribute("seed", 0)  # masks here are a function of the model's seed
    if isinstance(x, Open):
        return b.layer(ops.Dropout(p=p), x)
    if not scalar(training_mode, "training_mode", False):
        return x, Known(np.ones(x.array.shape, bool))
    kept = b.layer(ops.Dropout(p=p), Known(np.ones(x.array.shape, np.float32)), training=True)
    factors = known(kept, "mask").array
    return Known((x.array * factors).astype(x.dtype)), Known(factors != 0)


# --------------------------------------------------------------------------------------------- matrix products


@operator("Gemm")
def gemm(b: Builder, call: Call, a: Value, c: Value, bias: Value | None = None) -> Result:
    alpha, beta = call.attribute("alpha", 1.0), call.attribute("beta", 1.0)
    call.attribute("broadcast", 0)  # up to opset 6
    if call.attribute("transA", 0):
        if isinstance(a, Open):
            raise UnsupportedModelError("it works along the batch axis (transA=1)")
        a = Known(a.array.T)
    factor = known(c, "second factor")
    if a.ndim != 2 or factor.ndim != 2:
        raise ValueError(f"it takes matrices, got {a.ndim} and {factor.ndim} axes")
    weight = factor.array if call.attribute("transB", 0) else factor.array.T
    params = {"weight": Known(_scaled(weight, alpha), factor.name)}
    features = len(weight)
    if isinstance(bias, Known) and bias.array.shape in ((), (1,), (features,), (1, 1), (1, features)):
        row = np.broadcast_to(bias.array.reshape(-1), (features,))
        params["bias"], bias = Known(_scaled(row, beta), bias.name), None
    y = b.layer(ops.Linear(out_features=features, bias="bias" in params), a, params)
    if bias is None:
        return y
    if beta != 1.0:
        bias = b.broadcast(ops.Multiply(), bias, Known(np.asarray(beta, bias.dtype)))
    return b.broadcast(ops.Add(), y, bias)


def _scaled(array: Array, factor: float) -> Array:
    return array if factor == 1.0 else (array * factor).astype(array.dtype)


@operator("MatMul")
def matmul(b: Builder, call: Call, a: Value, c: Value) -> Result:
    if isinstance(a, Open) and a.ndim == 2 and isinstance(c, Known) and c.ndim == 2:
        return b.layer(
            ops.Linear(out_features=c.array.shape[1], bias=False), a, {"weight": Known(c.array.T, c.name)}
        )
    ndim = max(a.ndim, c.ndim)
    for value in (a, c):
        if isinstance(value, Open) and (value.ndim < ndim or ndim < 3):
            raise UnsupportedModelError("it works along the batch axis")
    if isinstance(a, Known) and isinstance(c, Known):
        return b.apply(ops.MatMul(), a, c)
    return b.apply(ops.MatMul(), b.sample(a, ndim), b.sample(c, ndim))
