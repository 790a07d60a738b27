"""Reductions along axes, and normalisation along them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastconv import ops
from fastconv.onnx._builder import Builder
from fastconv.onnx._file import Call
from fastconv.onnx._operators._table import Result, integers, operator
from fastconv.onnx._values import Known, Open, UnsupportedModelError, Value

REDUCTIONS = {
    "ReduceL1": "l1",
    "ReduceL2": "l2",
    "ReduceLogSum": "log_sum",
    "ReduceLogSumExp": "log_sum_exp",
    "ReduceMax": "max",
    "ReduceMean": "mean",
    "ReduceMin": "min",
    "ReduceProd": "prod",
    "ReduceSum": "sum",
    "ReduceSumSquare": "sum_square",
}

_OF_NOTHING = {"max": -1, "min": 1, "log_sum_exp": -1}  # sign of the end of all numbers that is their result


def _end(dtype: np.dtype[Any], sign: int) -> Any:
    """The largest or smallest number of a type."""
    if dtype.kind == "f":
        return dtype.type(sign * math.inf)
    if dtype.kind == "b":
        return np.bool_(sign > 0)
    info = np.iinfo(dtype)
    return dtype.type(info.max if sign > 0 else info.min)


@operator(*REDUCTIONS)
def reduce(b: Builder, call: Call, x: Value, axes: Value | None = None) -> Result:
    attribute = call.integers("axes")
    given = integers(axes, "axes") or list(attribute or ())
    keepdims = bool(call.attribute("keepdims", 1))
    if call.attribute("noop_with_empty_axes", 0) and not given:
        return x
    if isinstance(x, Open) and not given:
        raise UnsupportedModelError("it works along the batch axis")
    chosen = tuple(sorted({b.axis(x, axis) for axis in given})) if given else tuple(range(x.ndim))
    function = REDUCTIONS[call.op_type]
    if (
        isinstance(x, Open)
        and function == "mean"
        and len(x.shape) > 1
        and chosen == tuple(range(1, len(x.shape)))
    ):
        return b.layer(ops.GlobalAvgPool(keepdims=keepdims), x)
    if isinstance(x, Known) and function in _OF_NOTHING and 0 in (x.array.shape[axis] for axis in chosen):
        shape = [
            1 if axis in chosen else n
            for axis, n in enumerate(x.array.shape)
            if keepdims or axis not in chosen
        ]
        return Known(np.full(shape, _end(x.dtype, _OF_NOTHING[function])))
    return b.apply(ops.Reduce(function=function, axes=chosen, keepdims=keepdims), x)


@operator("ArgMax", "ArgMin")
def arg_extreme(b: Builder, call: Call, x: Value) -> Result:
    op = ops.ArgMax if call.op_type == "ArgMax" else ops.ArgMin
    axis = b.axis(x, call.attribute("axis", 0))
    keepdims, last = bool(call.attribute("keepdims", 1)), bool(call.attribute("select_last_index", 0))
    return b.apply(op(axis=axis, keepdims=keepdims, select_last=last), x, dtype=np.int64)


@operator("Softmax", "LogSoftmax")
def softmax(b: Builder, call: Call, x: Value) -> Result:
    log = call.op_type == "LogSoftmax"
    axis = b.axis(x, call.attribute("axis", -1 if call.opset >= 13 else 1))
    shape = b.shape(x)
    if call.opset >= 13 or math.prod(shape[axis + 1 :]) == 1:
        return b.apply(ops.Softmax(log=log, axis=axis), x)
    # up to opset 12 all axes from this one on are taken together
    flat = ops.Reshape(shape=(*shape[:axis], math.prod(shape[axis:])))
    return b.apply(ops.Reshape(shape=shape), b.apply(ops.Softmax(log=log, axis=axis), b.apply(flat, x)))
