"""The vocabulary of a graph: one small class per op, the only thing that interpreters know about it."""

from __future__ import annotations

from typing import Any

from fastconv.ops._base import (
    GLOBAL,
    LAYOUTS,
    Context,
    Extent,
    Op,
    Partition,
    Wanted,
    Window,
    attributes,
    derive_seed,
)
from fastconv.ops.activation import Activation, PRelu, Softmax
from fastconv.ops.adaptive_pool import AdaptiveAvgPool, AdaptiveMaxPool, GlobalAvgPool, GlobalMaxPool
from fastconv.ops.arithmetic import Divide, Maximum, MeanOf, Minimum, Power, Subtract
from fastconv.ops.cast import Cast
from fastconv.ops.compare import Compare, Where
from fastconv.ops.constant import Constant
from fastconv.ops.conv import Conv, ConvTranspose
from fastconv.ops.dropout import DropBlock, Dropout, GaussianNoise
from fastconv.ops.join import Add, Concat, Multiply
from fastconv.ops.linear import Linear
from fastconv.ops.lp_pool import GlobalLpPool, LpPool
from fastconv.ops.lrn import LRN
from fastconv.ops.matmul import MatMul
from fastconv.ops.norm import BatchNorm
from fastconv.ops.own_statistics import GroupNorm, InstanceNorm, LayerNorm
from fastconv.ops.pad import Pad
from fastconv.ops.pool import AvgPool, MaxPool
from fastconv.ops.rearrange import DepthToSpace, SpaceToDepth, Transpose
from fastconv.ops.reduce import ArgMax, ArgMin, Reduce
from fastconv.ops.repeat import Expand, Tile
from fastconv.ops.reshape import Reshape
from fastconv.ops.resize import Resize
from fastconv.ops.select import Gather, Slice
from fastconv.ops.unary import Unary

VOCABULARY: dict[str, type[Op]] = {
    op.__name__: op
    for op in (
        Activation,
        AdaptiveAvgPool,
        AdaptiveMaxPool,
        Add,
        ArgMax,
        ArgMin,
        AvgPool,
        BatchNorm,
        Cast,
        Compare,
        Concat,
        Constant,
        Conv,
        ConvTranspose,
        DepthToSpace,
        Divide,
        DropBlock,
        Dropout,
        Expand,
        Gather,
        GaussianNoise,
        GlobalAvgPool,
        GlobalLpPool,
        GlobalMaxPool,
        GroupNorm,
        InstanceNorm,
        LRN,
        LayerNorm,
        Linear,
        LpPool,
        MatMul,
        MaxPool,
        Maximum,
        MeanOf,
        Minimum,
        Multiply,
        PRelu,
        Pad,
        Power,
        Reduce,
        Reshape,
        Resize,
        Slice,
        Softmax,
        SpaceToDepth,
        Subtract,
        Tile,
        Transpose,
        Unary,
        Where,
    )
}

__all__ = [
    "GLOBAL",
    "LAYOUTS",
    "LRN",
    "VOCABULARY",
    "Activation",
    "AdaptiveAvgPool",
    "AdaptiveMaxPool",
    "Add",
    "ArgMax",
    "ArgMin",
    "AvgPool",
    "BatchNorm",
    "Cast",
    "Compare",
    "Concat",
    "Constant",
    "Context",
    "Conv",
    "ConvTranspose",
    "DepthToSpace",
    "Divide",
    "DropBlock",
    "Dropout",
    "Expand",
    "Extent",
    "Gather",
    "GaussianNoise",
    "GlobalAvgPool",
    "GlobalLpPool",
    "GlobalMaxPool",
    "GroupNorm",
    "InstanceNorm",
    "LayerNorm",
    "Linear",
    "LpPool",
    "MatMul",
    "MaxPool",
    "Maximum",
    "MeanOf",
    "Minimum",
    "Multiply",
    "Op",
    "PRelu",
    "Pad",
    "Partition",
    "Power",
    "Reduce",
    "Reshape",
    "Resize",
    "Slice",
    "Softmax",
    "SpaceToDepth",
    "Subtract",
    "Tile",
    "Transpose",
    "Unary",
    "Wanted",
    "Where",
    "Window",
    "derive_seed",
    "from_config",
    "to_config",
]


def to_config(op: Op) -> dict[str, Any]:
    """An op as plain values that JSON can hold."""
    return {"op": type(op).__name__, **attributes(op)}


def from_config(config: dict[str, Any]) -> Op:
    """The op that :func:`to_config` described.

    Raises
    ------
    ValueError
        If the op is not in the vocabulary.
    """
    values = {name: _as_tuples(value) for name, value in config.items() if name != "op"}
    try:
        op = VOCABULARY[config["op"]]
    except KeyError:
        raise ValueError(f"op must be one of {sorted(VOCABULARY)}, got {config.get('op')!r}") from None
    return op(**values)


def _as_tuples(value: Any) -> Any:
    return tuple(_as_tuples(v) for v in value) if isinstance(value, list) else value
