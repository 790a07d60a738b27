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
from fastconv.ops.activation import Activation, Softmax
from fastconv.ops.adaptive_pool import AdaptiveAvgPool, AdaptiveMaxPool, GlobalAvgPool, GlobalMaxPool
from fastconv.ops.conv import Conv, ConvTranspose
from fastconv.ops.dropout import DropBlock, Dropout, GaussianNoise
from fastconv.ops.join import Add, Concat, Multiply
from fastconv.ops.linear import Linear
from fastconv.ops.norm import BatchNorm
from fastconv.ops.pad import Pad
from fastconv.ops.pool import AvgPool, MaxPool
from fastconv.ops.reshape import Reshape

VOCABULARY: dict[str, type[Op]] = {
    op.__name__: op
    for op in (
        Activation,
        AdaptiveAvgPool,
        AdaptiveMaxPool,
        Add,
        AvgPool,
        BatchNorm,
        Concat,
        Conv,
        ConvTranspose,
        DropBlock,
        Dropout,
        GaussianNoise,
        GlobalAvgPool,
        GlobalMaxPool,
        Linear,
        MaxPool,
        Multiply,
        Pad,
        Reshape,
        Softmax,
    )
}

__all__ = [
    "GLOBAL",
    "LAYOUTS",
    "VOCABULARY",
    "Activation",
    "AdaptiveAvgPool",
    "AdaptiveMaxPool",
    "Add",
    "AvgPool",
    "BatchNorm",
    "Concat",
    "Context",
    "Conv",
    "ConvTranspose",
    "DropBlock",
    "Dropout",
    "Extent",
    "GaussianNoise",
    "GlobalAvgPool",
    "GlobalMaxPool",
    "Linear",
    "MaxPool",
    "Multiply",
    "Op",
    "Pad",
    "Partition",
    "Reshape",
    "Softmax",
    "Wanted",
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
