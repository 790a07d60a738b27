"""Layout: steps that keep images in the blocked layout (see :mod:`fastconv.blocked`) from one layer to the next."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv import _dispatch
from fastconv._spec import ConvSpec, Shape, as_epilogue, block_lanes, blocked_shape
from fastconv.graph import Graph
from fastconv.ops import (
    Activation,
    Add,
    AvgPool,
    Concat,
    Conv,
    GlobalAvgPool,
    Linear,
    MaxPool,
    Multiply,
    Op,
    Reshape,
    Unary,
)
from fastconv.plan._fuse import Unit
from fastconv.plan._steps import (
    Bind,
    Kernel,
    Step,
    change_of_layout,
    checked,
    concatenated,
    fixed,
    global_pool,
    joined,
    linear,
    plain_forward,
    pool,
)
from fastconv.prepared import FORWARD_OPS

Array = NDArray[Any]

MAX_REORDERED = 1 << 23  # weights that a linear layer takes in another order, which needs a copy of them


@dataclass
class _Layouts:
    """Steps so far, and where each value is kept in which layout."""

    graph: Graph
    dtype: str
    foreign: set[str]  # values that may be of another dtype
    flat_users: Mapping[str, int]  # values that linear layers alone use, and the outputs of those
    steps: list[Step] = field(default_factory=list)
    kernels: list[Kernel] = field(default_factory=list)
    blocked: set[str] = field(default_factory=set)  # names of values made in the blocked layout
    flattened: dict[str, Shape] = field(
        default_factory=dict
    )  # values that are blocked images, flat: of which shape
    converted: set[str] = field(default_factory=set)  # under which a step has brought them into the other one

    def shape(self, name: str, blocked: bool) -> Shape:
        plain = self.graph.shapes[name]
        return blocked_shape((1, *plain), self.dtype)[1:] if blocked else plain

    def value(self, name: str, blocked: bool) -> str:
        """Name under which the value is found in that layout; a step that changes the layout is added if need be."""
        if (name in self.blocked) == blocked:
            return name
        other = f"{name} ({'blocked' if blocked else 'plain'})"
        if other not in self.converted:
            self.converted.add(other)
            bind = change_of_layout("block" if blocked else "unblock", self.graph.shapes[name], self.dtype)
            if name in self.foreign:
                bind = checked(bind, self.dtype)
            self.steps.append(Step(name=other, inputs=(name,), shape=self.shape(name, blocked), bind=bind))
        return other

    def add(
        self,
        unit: Unit,
        blocked: bool,
        bind: Bind,
        *,
        inputs_blocked: bool | None = None,
        memory: str = "given",
    ) -> None:
        """A step for a unit whose result is of that layout, and its inputs as well unless said."""
        inputs = [self.value(n, blocked if inputs_blocked is None else inputs_blocked) for n in unit.inputs]
        if unit.residual is not None:
            inputs.append(self.value(unit.residual, blocked))
        if blocked:
            self.blocked.add(unit.name)
        if memory == "given" and not self.foreign.isdisjoint(unit.inputs):
            bind = checked(bind, self.dtype)
        self.steps.append(
            Step(
                name=unit.name,
                inputs=tuple(inputs),
                shape=self.shape(unit.name, blocked),
                bind=bind,
                nodes=unit.nodes,
                macs=unit.node.op.macs(*(self.graph.shapes[name] for name in unit.inputs)),
                memory=memory,
            )
        )

    def kernel(self, op: str, spec: ConvSpec, weight: Array, bias: Array | None, unit: Unit) -> Kernel:
        """The convolution of a unit."""
        activation, slope = as_epilogue(unit.activation, unit.slope)
        kernel = Kernel(op, replace(spec, activation=activation, slope=slope), weight, bias)
        self.kernels.append(kernel)
        return kernel


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What :func:`lay_out` returns: steps, the kernels that hold weights, and where the outputs are found, by name."""

    steps: tuple[Step, ...]
    kernels: tuple[Kernel, ...]
    outputs: dict[str, str]


def lay_out(graph: Graph, units: list[Unit], foreign: set[str], dtype: str) -> Layout:
    """Steps for the units, with changes of layout where they are needed; ``foreign`` values are not blocked."""
    users: dict[str, list[Op]] = {}
    for unit in units:
        for name in unit.inputs:
            users.setdefault(name, []).append(unit.node.op)
    flat_users = {
        name: sum(op.out_features for op in ops if isinstance(op, Linear))
        for name, ops in users.items()
        if name not in graph.outputs and all(isinstance(op, Linear) for op in ops)
    }
    out = _Layouts(graph, dtype, foreign, flat_users)
    for unit in units:
        op = unit.node.op
        if isinstance(op, Conv):
            _lay_out_conv(out, unit, op)
        elif isinstance(op, Linear):
            _lay_out_linear(out, unit, op)
        elif not _stays_blocked(out, unit):
            out.add(unit, False, fixed(plain_forward(op, unit.params), op.kind), memory="shared")
    outputs = {name: out.value(name, False) for name in graph.outputs}
    return Layout(steps=tuple(out.steps), kernels=tuple(out.kernels), outputs=outputs)


def _stays_blocked(out: _Layouts, unit: Unit) -> bool:
    """Add the step of a unit that works on blocked images, if any of its inputs is; whether it has been added."""
    graph, op = out.graph, unit.node.op
    shape = graph.shapes[unit.inputs[0]]
    if not any(name in out.blocked for name in unit.inputs) or len(shape) != 3:
        return False
    if not out.foreign.isdisjoint(unit.inputs):
        return False
    whole = all(graph.shapes[name][0] % block_lanes(out.dtype) == 0 for name in unit.inputs)
    match op:
        case MaxPool() | AvgPool():
            out.add(unit, True, pool(op, shape, out.dtype))
        case GlobalAvgPool():
            out.add(unit, False, global_pool(shape, graph.shapes[unit.name], out.dtype), inputs_blocked=True)
        case Activation() | Unary(is_tame=True):  # what fills a block up stays finite
            run = plain_forward(op, unit.params)
            out.add(unit, True, fixed(run, "element by element"), memory="own")
        case Add() | Multiply() if graph.is_uniform(unit.node):
            out.add(unit, True, fixed(joined(op), "element by element"))
        case Concat(axis=0) if whole and out.graph.constants.isdisjoint(unit.inputs):
            out.add(unit, True, fixed(concatenated, "blocks side by side"))
        case Reshape(shape=None) if whole and _pays_to_reorder(out, unit):
            # the linear layers behind it take their weights in the order of the blocks
            out.flattened[unit.name] = shape
            run = plain_forward(op, unit.params)
            out.add(unit, False, fixed(run, "as it lies"), inputs_blocked=True, memory="shared")
        case _:
            return False
    return True


def _pays_to_reorder(out: _Layouts, unit: Unit) -> bool:
    """Whether nothing but linear layers uses a value, and their weights are not too large for a second copy."""
    outputs = out.flat_users.get(unit.name)
    return outputs is not None and outputs * out.graph.shapes[unit.name][0] <= MAX_REORDERED


def _lay_out_conv(out: _Layouts, unit: Unit, op: Conv) -> None:
    layout = _layout_of_conv(out, unit, op)
    spec = op.spec((1, *out.graph.shapes[unit.inputs[0]]), out.dtype)
    kernel = out.kernel(FORWARD_OPS[layout], spec, *unit.weight_and_bias(), unit)
    out.add(unit, layout != "plain", kernel.bind, inputs_blocked=layout == "blocked")


def _layout_of_conv(out: _Layouts, unit: Unit, op: Conv) -> str:
    """Blocked, by way of a stem if the input is not, where kernels of their own serve that."""
    shape = out.graph.shapes[unit.inputs[0]]
    few = (
        op.groups == shape[0] == op.out_channels < block_lanes(out.dtype)
    )  # each lane a channel: mostly empty
    if len(op.kernel_size) != 2 or few:
        return "plain"
    spec = op.spec((1, *shape), out.dtype)
    if unit.inputs[0] not in out.blocked and _has_kernel("blocked_stem_forward", spec):
        return "stem"
    return "blocked" if _has_kernel("blocked_conv_forward", spec) else "plain"


def _has_kernel(op: str, spec: ConvSpec) -> bool:
    """Whether an op on the blocked layout is served otherwise than by way of the plain one."""
    return _dispatch.select(op, spec).name != "planes"


def _lay_out_linear(out: _Layouts, unit: Unit, op: Linear) -> None:
    (features,) = out.graph.shapes[unit.inputs[0]]
    lanes = block_lanes(out.dtype)
    weight, bias = unit.weight_and_bias()
    if shape := out.flattened.get(unit.inputs[0]):
        channels, *space = shape
        in_blocks = weight.reshape(-1, channels // lanes, lanes, math.prod(space))
        weight = np.moveaxis(in_blocks, 2, 3).reshape(weight.shape)
    spec = ConvSpec.from_shapes((1, features, 1), (*weight.shape, 1), out.dtype)
    kernel = out.kernel("blocked_conv_forward", spec, weight[:, :, None], bias, unit)
    out.add(unit, False, linear(kernel, features, op.out_features, lanes))
