"""Element-wise functions, arithmetic, comparisons, and changes of type."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastconv import ops
from fastconv.onnx._builder import Builder
from fastconv.onnx._file import Call, dtype_of
from fastconv.onnx._operators._table import Result, known, operator, scalar
from fastconv.onnx._values import Known, Open, UnsupportedModelError, Value

FUNCTIONS = {
    "Abs": "abs",
    "Ceil": "ceil",
    "Cos": "cos",
    "Erf": "erf",
    "Exp": "exp",
    "Floor": "floor",
    "HardSwish": "hard_swish",
    "Log": "log",
    "Mish": "mish",
    "Neg": "neg",
    "Reciprocal": "reciprocal",
    "Round": "round",
    "Sign": "sign",
    "Sin": "sin",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "Sqrt": "sqrt",
}
_ACTIVATIONS = {"Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh"}


@operator(*FUNCTIONS)
def unary(b: Builder, call: Call, x: Value) -> Result:
    return b.apply(ops.Unary(function=FUNCTIONS[call.op_type]), x)


@operator(*_ACTIVATIONS)
def activation(b: Builder, call: Call, x: Value) -> Result:
    return b.apply(ops.Activation(function=_ACTIVATIONS[call.op_type]), x)


@operator("LeakyRelu")
def leaky_relu(b: Builder, call: Call, x: Value) -> Result:
    slope = call.attribute("alpha", 0.01)
    if slope > 0.0:
        return b.apply(ops.Activation(function="leaky_relu", slope=slope), x)
    if slope == 0.0:
        return b.apply(ops.Activation(function="relu"), x)
    return _with_slope(b, x, Known(np.asarray(slope, x.dtype)))


@operator("PRelu")
def prelu(b: Builder, call: Call, x: Value, slope: Value) -> Result:
    if call.opset < 7 and isinstance(slope, Known) and slope.ndim == 1 and x.ndim > 2:  # one for each channel
        slope = Known(slope.array.reshape(-1, *(1,) * (x.ndim - 2)), slope.name)
    if isinstance(slope, Known) and isinstance(x, Open):
        sample = known(b.sample(slope, x.ndim), "slope")
        return b.apply(ops.PRelu(slope_shape=sample.array.shape), x, params={"slope": sample})
    return _with_slope(b, x, slope)


def _with_slope(b: Builder, x: Value, slope: Value) -> Value:
    negative = b.broadcast(ops.Compare(function="less"), x, Known(np.zeros((), x.dtype)), dtype=bool)
    return b.broadcast(ops.Where(), negative, b.broadcast(ops.Multiply(), x, slope), x, dtype=x.dtype)


@operator("Elu", "Celu")
def elu(b: Builder, call: Call, x: Value) -> Result:
    return b.apply(ops.Unary(function=call.op_type.lower(), alpha=call.attribute("alpha", 1.0)), x)


@operator("Selu")
def selu(b: Builder, call: Call, x: Value) -> Result:
    alpha, gamma = (
        call.attribute("alpha", 1.67326319217681884765625),
        call.attribute("gamma", 1.05070102214813232421875),
    )
    return b.apply(ops.Unary(function="selu", alpha=alpha, beta=gamma), x)


@operator("HardSigmoid")
def hard_sigmoid(b: Builder, call: Call, x: Value) -> Result:
    alpha, beta = call.attribute("alpha", 0.2), call.attribute("beta", 0.5)
    return b.apply(ops.Unary(function="hard_sigmoid", alpha=alpha, beta=beta), x)


@operator("Swish")
def swish(b: Builder, call: Call, x: Value) -> Result:
    return b.apply(ops.Unary(function="silu", alpha=call.attribute("alpha", 1.0)), x)


@operator("Gelu")
def gelu(b: Builder, call: Call, x: Value) -> Result:
    functions = {"none": "gelu", "tanh": "gelu_tanh"}
    return b.apply(ops.Unary(function=functions[call.attribute("approximate", "none")]), x)


@operator("Clip")
def clip(b: Builder, call: Call, x: Value, low: Value | None = None, high: Value | None = None) -> Result:
    bounds = [
        float(scalar(low, "minimum", call.attribute("min", -math.inf))),
        float(scalar(high, "maximum", call.attribute("max", math.inf))),
    ]
    limit = float(np.finfo(np.float32).max)  # what opset 6 writes for none
    bounds = [math.copysign(math.inf, v) if abs(v) == limit else v for v in bounds]
    if isinstance(x, Open):
        functions = {(0.0, 6.0): "relu6", (0.0, math.inf): "relu"}
        if tuple(bounds) in functions:
            return b.apply(ops.Activation(function=functions[bounds[0], bounds[1]]), x)
    return b.apply(ops.Unary(function="clip", alpha=bounds[0], beta=bounds[1]), x)


@operator("Not")
def logical_not(b: Builder, call: Call, x: Value) -> Result:
    return b.apply(ops.Unary(function="not"), x, dtype=bool)


# ------------------------------------------------------------------------------------------------- arithmetic

_PAIRS = {"Sub": ops.Subtract(), "Mul": ops.Multiply(), "Pow": ops.Power()}
_SEVERAL = {"Sum": ops.Add(), "Mean": ops.MeanOf(), "Min": ops.Minimum(), "Max": ops.Maximum()}
COMPARISONS = {
    "Equal": "equal",
    "Greater": "greater",
    "GreaterOrEqual": "greater_or_equal",
    "Less": "less",
    "LessOrEqual": "less_or_equal",
    "And": "and",
    "Or": "or",
    "Xor": "xor",
}


def _lined_up(call: Call, x: Value, y: Value) -> Value:
    """The second operand with the axes that opset 6 names rather than lines up at the end."""
    if call.opset > 6:
        return y
    broadcast, axis = call.attribute("broadcast", 0), call.attribute("axis")
    if not broadcast or axis is None:
        return y
    array = known(y, "second operand").array
    axis += x.ndim if axis < 0 else 0
    return Known(
        array.reshape(*array.shape, *(1,) * (x.ndim - axis - array.ndim)), known(y, "second operand").name
    )


@operator(*_PAIRS)
def pair(b: Builder, call: Call, x: Value, y: Value) -> Result:
    return b.broadcast(_PAIRS[call.op_type], x, _lined_up(call, x, y))


@operator("Add")
def add(b: Builder, call: Call, x: Value, y: Value) -> Result:
    y = _lined_up(call, x, y)
    joined = b.join_bias(x, call.inputs[0], y) or b.join_bias(y, call.inputs[1], x)
    return joined or b.broadcast(ops.Add(), x, y)


@operator("Div")
def divide(b: Builder, call: Call, x: Value, y: Value) -> Result:
    y = _lined_up(call, x, y)
    if isinstance(x, Known) and isinstance(y, Known) and object in (x.array.dtype, y.array.dtype):
        return Known(x.array // y.array)  # numbers of a shape
    if x.dtype.kind in "iu" and not (isinstance(x, Known) and isinstance(y, Known)):
        raise UnsupportedModelError("division of integers that depend on an input is not supported")
    return b.broadcast(ops.Divide(), x, y)


@operator(*_SEVERAL)
def several(b: Builder, call: Call, *values: Value) -> Result:
    if not values or None in values:
        raise ValueError(f"it takes one or more inputs, got {len(values)}")
    return values[0] if len(values) == 1 else b.broadcast(_SEVERAL[call.op_type], *values)


@operator(*COMPARISONS)
def compare(b: Builder, call: Call, x: Value, y: Value) -> Result:
    return b.broadcast(ops.Compare(function=COMPARISONS[call.op_type]), x, _lined_up(call, x, y), dtype=bool)


@operator("Where")
def where(b: Builder, call: Call, condition: Value, x: Value, y: Value) -> Result:
    return b.broadcast(ops.Where(), condition, x, y, dtype=x.dtype)


# ------------------------------------------------------------------------------------------------------ types


@operator("Identity")
def identity(b: Builder, call: Call, x: Value) -> Result:
    return x


@operator("Cast")
def cast(b: Builder, call: Call, x: Value) -> Result:
    call.attribute("saturate", 1)  # these say what happens to 8-bit floats, which are not supported
    call.attribute("round_mode", "up")
    return _as_dtype(b, x, np.dtype(dtype_of(call.attribute("to", 0))))


@operator("CastLike")
def cast_like(b: Builder, call: Call, x: Value, like: Value) -> Result:
    call.attribute("saturate", 1)
    call.attribute("round_mode", "up")
    return _as_dtype(b, x, like.dtype)


def _as_dtype(b: Builder, x: Value, dtype: np.dtype[Any]) -> Value:
    if isinstance(x, Known):
        if x.array.dtype == object and dtype.kind in "iu":
            return x
        with np.errstate(all="ignore"):
            return Known(x.array.astype(dtype), x.name if x.dtype.kind == dtype.kind == "f" else None)
    if dtype.kind == "f":  # all floats of a net are of one type
        return (
            Open(x.name, x.shape, dtype)
            if x.dtype.kind == "f"
            else b.apply(ops.Cast(to=b.dtype.name), x, dtype=dtype)
        )
    return b.apply(ops.Cast(to=dtype.name), x, dtype=dtype)
