"""Fusion: fewer nodes that do the same in inference."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv._spec import ACTIVATIONS, Shape
from fastconv.graph import Graph, Node
from fastconv.ops import (
    Activation,
    Add,
    ArgMax,
    ArgMin,
    BatchNorm,
    Cast,
    Compare,
    Conv,
    DropBlock,
    Dropout,
    GaussianNoise,
    Linear,
    Multiply,
    Pad,
    Where,
)

Array = NDArray[Any]

_WITHOUT_EFFECT = (Dropout, DropBlock, GaussianNoise)  # in inference


@dataclass(frozen=True, kw_only=True)
class Affine:
    """``x * scale + shift`` for each channel, in float64."""

    scale: Array | float = 1.0
    shift: Array | float = 0.0


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A node and those that have been made part of it."""

    node: Node  # the first, whose op does the work
    nodes: tuple[str, ...]  # the last of which names the value
    inputs: tuple[str, ...]
    params: Mapping[str, Array]
    folded: tuple[Affine, ...] = ()  # into weight and bias, when they are wanted
    activation: str | None = None
    slope: float = 0.0
    residual: str | None = None

    @property
    def name(self) -> str:
        return self.nodes[-1]

    def weight_and_bias(self) -> tuple[Array, Array | None]:
        """Of a convolution or linear layer, with what is folded into them."""
        weight, bias = self.params["weight"], self.params.get("bias")
        if not self.folded:
            return weight, bias
        scale, shift = (
            np.ones(len(weight)),
            np.zeros(len(weight)) if bias is None else bias.astype(np.float64),
        )
        for each in self.folded:
            scale, shift = scale * each.scale, shift * each.scale + each.shift
        tall = scale.reshape(-1, *(1,) * (weight.ndim - 1))
        return (weight * tall).astype(weight.dtype), shift.astype(weight.dtype)


def of_other_dtypes(graph: Graph, dtype: str) -> set[str]:
    """Values that may be of another dtype than the net's."""
    found: set[str] = set()
    for node in graph.nodes:
        match node.op:
            case Cast(to=to):
                other = to != dtype
            case Compare() | ArgMax() | ArgMin():
                other = True
            case Where():
                other = not found.isdisjoint(node.inputs[1:])
            case _:
                other = not found.isdisjoint(node.inputs)
        if other:
            found.add(node.name)
    return found


def fuse(
    graph: Graph, params: Mapping[str, Array], constants: Mapping[str, Array], foreign: Collection[str]
) -> list[Unit]:
    """Units in an order in which each comes behind what it uses.

    ``constants`` are computed already; ``foreign`` values are no part of a sum in a convolution's epilogue.
    """
    same_as: dict[str, str] = {}  # what a node without effect passes on
    consumers: dict[str, list[Node]] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.name in constants:
            continue
        inputs = tuple(same_as.get(name, name) for name in node.inputs)
        if isinstance(node.op, _WITHOUT_EFFECT) and node.name not in graph.outputs:
            same_as[node.name] = inputs[0]
            continue
        nodes.append(replace(node, inputs=inputs))
        for name in inputs:
            consumers.setdefault(name, []).append(nodes[-1])
    place = {node.name: index for index, node in enumerate(nodes)}

    def only_consumer(name: str) -> Node | None:
        users = consumers.get(name, [])
        alone = len(users) == 1 and name not in graph.outputs and users[0].name not in taken
        return users[0] if alone else None

    taken: set[str] = set()
    units: list[Unit] = []
    for node in nodes:
        if node.name in taken:
            continue
        unit = Unit(
            node=node, nodes=(node.name,), inputs=node.inputs, params=graph.local_params(node, params)
        )
        if isinstance(node.op, Pad) and (after := only_consumer(node.name)):
            unit = _padded_convolution(unit, node.op, after, graph, params) or unit
        if isinstance(node.op, BatchNorm) and len(graph.shapes[node.name]) == 3:
            unit = _as_convolution(unit, node.op, graph.shapes[node.name])
        if isinstance(unit.node.op, (Conv, Linear)):
            while (after := only_consumer(unit.name)) and (
                longer := _absorb(unit, after, graph, params, constants, foreign)
            ):
                unit = longer
        taken.update(unit.nodes)
        units.append(unit)
    return sorted(units, key=lambda unit: place[unit.name])


def _absorb(
    unit: Unit,
    after: Node,
    graph: Graph,
    params: Mapping[str, Array],
    constants: Mapping[str, Array],
    foreign: Collection[str],
) -> Unit | None:
    """The unit with the node behind it made part of it, where its epilogue has room for that."""
    longer = replace(unit, nodes=(*unit.nodes, after.name))
    op = after.op
    if unit.activation is not None:
        return None
    if isinstance(op, Activation) and op.function in ACTIVATIONS:
        return replace(longer, activation=op.function, slope=op.slope)
    if unit.residual is not None:
        return None
    if isinstance(op, BatchNorm):
        return replace(longer, folded=(*unit.folded, _normalisation(op, graph.local_params(after, params))))
    if not isinstance(op, (Add, Multiply)) or len(after.inputs) != 2:
        return None
    others = [name for name in after.inputs if name != unit.name]
    if len(others) != 1 or others[0] in foreign:
        return None
    if others[0] in constants:
        factor = _each_channel(constants[others[0]], graph.shapes[unit.name])
        if factor is not None and graph.shapes[after.name] == graph.shapes[unit.name]:
            affine = Affine(shift=factor) if isinstance(op, Add) else Affine(scale=factor)
            return replace(longer, folded=(*unit.folded, affine))
    elif isinstance(op, Add) and isinstance(unit.node.op, Conv) and graph.is_uniform(after):
        return replace(longer, residual=others[0])
    return None


def _normalisation(op: BatchNorm, params: Mapping[str, Array]) -> Affine:
    """Batch normalisation with constant statistics."""
    values = {name: value.astype(np.float64) for name, value in params.items()}
    scale = values.get("weight", 1.0) / np.sqrt(values["running_var"] + op.eps)
    return Affine(scale=scale, shift=values.get("bias", 0.0) - values["running_mean"] * scale)


def _each_channel(constant: Array, shape: Shape) -> Array | None:
    """A constant that is joined to images of a shape as one number for each channel, if it is no more than that."""
    value = constant.reshape((1,) * (1 + len(shape) - constant.ndim) + constant.shape)
    if value.ndim != 1 + len(shape) or value.size != value.shape[1]:
        return None
    return np.broadcast_to(value.astype(np.float64).reshape(-1), shape[:1])


def _as_convolution(unit: Unit, op: BatchNorm, shape: Shape) -> Unit:
    """A batch normalisation of images, which follows no convolution, as a depthwise one of one tap."""
    return replace(
        unit,
        node=replace(unit.node, op=Conv.of(2, shape[0], 1, groups=shape[0])),
        params={"weight": np.ones((shape[0], 1, 1, 1), unit.params["running_var"].dtype)},
        folded=(_normalisation(op, unit.params),),
    )


def _padded_convolution(
    unit: Unit, op: Pad, after: Node, graph: Graph, params: Mapping[str, Array]
) -> Unit | None:
    """Zeros around an image and the convolution behind them as one convolution."""
    conv = after.op
    (name,) = unit.inputs
    if not isinstance(conv, Conv) or op.mode != "constant" or op.value != 0 or name not in graph.shapes:
        return None
    channels, *sides = op.sides(graph.shapes[name])
    if channels != (0, 0) or min(min(pair) for pair in sides) < 0:
        return None
    padding = tuple((lo + a, hi + b) for (lo, hi), (a, b) in zip(conv.padding, sides, strict=True))
    return replace(
        unit,
        node=replace(after, op=replace(conv, padding=padding), inputs=unit.inputs),
        nodes=(unit.name, after.name),
        params=graph.local_params(after, params),
    )
