"""The inference plan: a graph with constant parameters, rewritten to fewer and cheaper steps.

What no input reaches is computed at once.  Three passes, each a function below, do the rest.  ``_fuse`` leaves out what
inference does not need (dropout, noise), folds batch normalisation into the convolution before it, and gives
convolutions and linear layers the sum and the activation behind them as an epilogue.  ``_lay_out`` keeps images in the
blocked layout (see :mod:`fastconv.blocked`) from one layer to the next and changes it only where a step needs the other
one.  ``InferencePlan`` runs the steps; weights are packed once, and a result's memory
serves a later one of its size as soon as nobody needs it.

An op that no pass knows runs as it is, on plain arrays.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv import _arrays, _dispatch
from fastconv._spec import ACTIVATIONS, ConvSpec, LayoutSpec, PoolSpec, Shape, block_lanes, blocked_shape
from fastconv.graph import Graph, Node, forward
from fastconv.ops import (
    Activation,
    Add,
    AvgPool,
    BatchNorm,
    Concat,
    Context,
    Conv,
    DropBlock,
    Dropout,
    GaussianNoise,
    GlobalAvgPool,
    Linear,
    MaxPool,
    Multiply,
    Op,
    Unary,
)
from fastconv.prepared import prepare

Array = NDArray[Any]

_WITHOUT_EFFECT = (Dropout, DropBlock, GaussianNoise)  # in inference


@dataclass(frozen=True, kw_only=True)
class _Unit:
    """A node and those that have been made part of it."""

    node: Node  # the first, whose op does the work
    nodes: tuple[str, ...]  # the last of which names the value
    inputs: tuple[str, ...]
    params: Mapping[str, Array]
    activation: str | None = None
    slope: float = 0.0
    residual: str | None = None

    @property
    def name(self) -> str:
        return self.nodes[-1]


# ------------------------------------------------------------------------------------------------ fusion


def _fuse(graph: Graph, params: Mapping[str, Array]) -> list[_Unit]:
    """Units in an order in which each comes behind what it uses."""
    same_as: dict[str, str] = {}  # what a node without effect passes on
    consumers: dict[str, list[Node]] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.name in graph.constants:
            continue  # computed already
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
    units: list[_Unit] = []
    for node in nodes:
        if node.name in taken:
            continue
        unit = _Unit(
            node=node, nodes=(node.name,), inputs=node.inputs, params=graph.local_params(node, params)
        )
        if isinstance(node.op, BatchNorm) and len(graph.shapes[node.name]) == 3:
            unit = _as_convolution(unit, node.op, graph.shapes[node.name])
        if isinstance(unit.node.op, (Conv, Linear)):
            while (after := only_consumer(unit.name)) and (longer := _absorb(unit, after, graph, params)):
                unit = longer
        taken.update(unit.nodes)
        units.append(unit)
    return sorted(units, key=lambda unit: place[unit.name])


def _constants(graph: Graph, params: Mapping[str, Array]) -> dict[str, Array]:
    """The values that no input reaches."""
    nodes = tuple(node for node in graph.nodes if node.name in graph.constants)
    if not nodes:
        return {}
    values = forward(Graph({}, nodes, tuple(node.name for node in nodes)), params, {})
    return {name: value.copy() for name, value in values.items()}  # not the parameters themselves


def _absorb(unit: _Unit, after: Node, graph: Graph, params: Mapping[str, Array]) -> _Unit | None:
    """The unit with the node behind it made part of it, where its epilogue has room for that."""
    longer = replace(unit, nodes=(*unit.nodes, after.name))
    op = after.op
    if unit.activation is not None:
        return None
    if isinstance(op, BatchNorm) and unit.residual is None:
        scale, shift = _affine(op, graph.local_params(after, params))
        weight = unit.params["weight"]
        bias = unit.params.get("bias", np.zeros(len(weight), weight.dtype))
        folded = {
            "weight": weight * scale.reshape(-1, *(1,) * (weight.ndim - 1)),
            "bias": bias * scale + shift,
        }
        return replace(longer, params={k: v.astype(weight.dtype) for k, v in folded.items()})
    if isinstance(op, Add) and isinstance(unit.node.op, Conv) and unit.residual is None:
        others = [name for name in after.inputs if name != unit.name]
        if len(after.inputs) == 2 and len(others) == 1 and graph.is_uniform(after):
            return replace(longer, residual=others[0])
    if isinstance(op, Activation) and op.function in ACTIVATIONS:
        return replace(longer, activation=op.function, slope=op.slope)
    return None


def _affine(op: BatchNorm, params: Mapping[str, Array]) -> tuple[Array, Array]:
    """Batch normalisation with constant statistics as ``x * scale + shift``, in float64."""
    values = {name: value.astype(np.float64) for name, value in params.items()}
    scale = values.get("weight", 1.0) / np.sqrt(values["running_var"] + op.eps)
    return scale, values.get("bias", 0.0) - values["running_mean"] * scale


def _as_convolution(unit: _Unit, op: BatchNorm, shape: Shape) -> _Unit:
    """A batch normalisation of images, which follows no convolution, as a depthwise one of one tap."""
    scale, shift = _affine(op, unit.params)
    dtype = unit.params["running_var"].dtype
    return replace(
        unit,
        node=replace(unit.node, op=Conv.of(2, shape[0], 1, groups=shape[0])),
        params={"weight": scale.astype(dtype).reshape(-1, 1, 1, 1), "bias": shift.astype(dtype)},
    )


# ------------------------------------------------------------------------------------------------ layout


Run = Callable[[Sequence[Array], Array | None], Array]


@dataclass(frozen=True, kw_only=True)
class Step:
    """One call of a kernel.

    Attributes
    ----------
    name : str
        Of the value it makes; ``nodes`` are those of the graph it stands for.
    inputs : tuple of str
    run : callable
        ``(arrays, out) -> array``; ``out`` is None or memory for the result.
    shape : tuple of int
        Of the result of one sample, in its layout.
    by : str or callable
        By what it is served, or ``size of the batch -> str``.
    macs : int
        For one sample.
    fresh : bool
        Whether the result is memory of its own, and its inputs are not part of it.
    """

    name: str
    inputs: tuple[str, ...]
    run: Run
    shape: Shape
    by: str | Callable[[int], str]
    nodes: tuple[str, ...] = ()
    macs: int = 0
    fresh: bool = True


@dataclass
class _Layouts:
    """Steps so far, and where each value is kept in which layout."""

    graph: Graph
    dtype: str
    steps: list[Step] = field(default_factory=list)
    blocked: set[str] = field(default_factory=set)  # names of values made in the blocked layout
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
            plain = self.graph.shapes[name]
            op = "block" if blocked else "unblock"

            def run(arrays: Sequence[Array], out: Array | None) -> Array:
                spec = LayoutSpec(planes_shape=(len(arrays[0]), *plain), dtype=self.dtype)
                result: Array = _dispatch.run(op, spec, arrays[0])
                return result

            shape = self.shape(name, blocked)
            self.steps.append(Step(name=other, inputs=(name,), run=run, shape=shape, by="change of layout"))
        return other

    def add(
        self,
        unit: _Unit,
        blocked: bool,
        run: Run,
        by: str | Callable[[int], str],
        *,
        inputs_blocked: bool | None = None,
        fresh: bool = True,
    ) -> None:
        """A step for a unit whose result is of that layout, and its inputs as well unless said."""
        inputs = [self.value(n, blocked if inputs_blocked is None else inputs_blocked) for n in unit.inputs]
        if unit.residual is not None:
            inputs.append(self.value(unit.residual, blocked))
        if blocked:
            self.blocked.add(unit.name)
        self.steps.append(
            Step(
                name=unit.name,
                inputs=tuple(inputs),
                run=run,
                shape=self.shape(unit.name, blocked),
                by=by,
                nodes=unit.nodes,
                macs=unit.node.op.macs(*(self.graph.shapes[name] for name in unit.inputs)),
                fresh=fresh,
            )
        )


def _lay_out(graph: Graph, units: list[_Unit], dtype: str) -> tuple[list[Step], dict[str, str]]:
    """Steps for the units, with changes of layout where they are needed; and where the outputs are found, by name."""
    out = _Layouts(graph, dtype)
    for unit in units:
        op = unit.node.op
        if isinstance(op, Conv):
            _lay_out_conv(out, unit, op)
        elif isinstance(op, Linear):
            _lay_out_linear(out, unit, op)
        elif not _stays_blocked(out, unit):
            out.add(unit, False, _plain_forward(op, unit.params), op.kind, fresh=False)
    return out.steps, {name: out.value(name, False) for name in graph.outputs}


def _stays_blocked(out: _Layouts, unit: _Unit) -> bool:
    """Add the step of a unit that works on blocked images, if any of its inputs is; whether it has been added."""
    graph, op = out.graph, unit.node.op
    if not any(name in out.blocked for name in unit.inputs) or len(graph.shapes[unit.inputs[0]]) != 3:
        return False
    whole = graph.constants.isdisjoint(unit.inputs) and all(
        graph.shapes[name][0] % block_lanes(out.dtype) == 0 for name in unit.inputs
    )
    match op:
        case MaxPool() | AvgPool():
            out.add(unit, True, _pool(op, out.dtype), "blocked windows")
        case GlobalAvgPool():
            out.add(unit, False, _global_pool(graph, unit), "blocked windows", inputs_blocked=True)
        case Activation() | Unary(keeps_zero=True):  # what fills a block up stays finite
            out.add(unit, True, _plain_forward(op, unit.params), "element by element")
        case Add() | Multiply() if graph.is_uniform(unit.node):
            out.add(unit, True, _joined(op), "element by element")
        case Concat(axis=0) if whole:
            out.add(unit, True, _concatenated, "blocks side by side")
        case _:
            return False
    return True


def _lay_out_conv(out: _Layouts, unit: _Unit, op: Conv) -> None:
    layout = _layout_of_conv(out, unit, op)
    shape = out.graph.shapes[unit.inputs[0]]
    handle = prepare(
        unit.params["weight"],
        unit.params.get("bias"),
        stride=op.stride,
        padding=[side for pair in op.padding for side in pair],
        dilation=op.dilation,
        groups=op.groups,
        activation=unit.activation,
        negative_slope=unit.slope,
        layout=layout,
    )

    def run(arrays: Sequence[Array], memory: Array | None) -> Array:
        return handle(*arrays, out=memory)

    def by(batch: int) -> str:
        return handle.plan((batch, *shape)).implementation.name

    out.add(unit, layout != "plain", run, by, inputs_blocked=layout == "blocked")


def _layout_of_conv(out: _Layouts, unit: _Unit, op: Conv) -> str:
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


def _lay_out_linear(out: _Layouts, unit: _Unit, op: Linear) -> None:
    """A linear layer is a convolution of one position: its features are channels, and the batch fills the tiles."""
    handle = prepare(
        unit.params["weight"][:, :, None],
        unit.params.get("bias"),
        activation=unit.activation,
        negative_slope=unit.slope,
        layout="blocked",
    )
    lanes = block_lanes(out.dtype)
    features = out.graph.shapes[unit.inputs[0]][0]

    def run(arrays: Sequence[Array], memory: Array | None) -> Array:
        (x,) = arrays
        if features % lanes:
            x = np.pad(x, ((0, 0), (0, -features % lanes)))
        result = handle(x.reshape(len(x), -1, 1, lanes)).reshape(len(x), -1)
        return np.ascontiguousarray(result[:, : op.out_features])

    def by(batch: int) -> str:
        return handle.plan((batch, features, 1)).implementation.name

    out.add(unit, False, run, by)


def _plain_forward(op: Op, params: Mapping[str, Array]) -> Run:
    own, context = dict(params), Context()

    def run(arrays: Sequence[Array], out: Array | None) -> Array:
        return op.forward(tuple(arrays), own, context)[0]

    return run


def _joined(op: Add | Multiply) -> Run:
    join = np.add if isinstance(op, Add) else np.multiply

    def run(arrays: Sequence[Array], out: Array | None) -> Array:
        first, second, *others = arrays
        result: Array = join(first, second, out=out)
        for other in others:
            join(result, other, out=result)
        return result

    return run


def _concatenated(arrays: Sequence[Array], out: Array | None) -> Array:
    return np.concatenate(arrays, axis=1, out=out)


def _pool(op: MaxPool | AvgPool, dtype: str) -> Run:
    name = "blocked_max_pool_forward" if isinstance(op, MaxPool) else "blocked_avg_pool_forward"

    def run(arrays: Sequence[Array], out: Array | None) -> Array:
        spec = op.spec(_arrays.planes_shape(arrays[0], "input", 2), dtype)
        result: Array = _dispatch.run(name, spec, arrays[0])
        return result

    return run


def _global_pool(graph: Graph, unit: _Unit) -> Run:
    channels, *size = graph.shapes[unit.inputs[0]]
    result_shape = graph.shapes[unit.name]

    def run(arrays: Sequence[Array], out: Array | None) -> Array:
        (x,) = arrays
        shape = _arrays.planes_shape(x, "input", 2)
        spec = PoolSpec.from_shape(shape, _arrays.dtype_name(x), tuple(size))
        means = _dispatch.run("blocked_avg_pool_forward", spec, x)
        result: Array = means.reshape(len(x), -1)[:, :channels].reshape(len(x), *result_shape)
        return np.ascontiguousarray(result)

    return run


# ------------------------------------------------------------------------------------------------ running


class _Arena:
    """Memory of values that are no longer needed, for others of their shape in a batch of one size."""

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self._free: dict[Shape, list[Array]] = {}

    def take(self, shape: Shape) -> Array | None:
        free = self._free.get(shape)
        return free.pop() if free else None

    def give(self, value: Array) -> None:
        self._free.setdefault(value.shape, []).append(value)


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What one step did: see :meth:`InferencePlan.measure`."""

    step: Step
    by: str
    seconds: float
    gflops: float
    nbytes: int


class InferencePlan:
    """A net with its present parameters, ready to infer; :meth:`fastconv.nn.Model.compile_inference` makes one.

    Later changes of the parameters do not reach it.  It serves any batch size, and may be called by several threads.

    Attributes
    ----------
    steps : tuple of Step
    """

    def __init__(self, graph: Graph, params: Mapping[str, Array], dtype: str) -> None:
        self.graph = graph
        self.dtype = dtype
        self._constants = _constants(graph, params)
        steps, self._outputs = _lay_out(graph, _fuse(graph, params), dtype)
        self.steps = tuple(steps)
        self._dying = self._last_uses()
        self._reusable = self._own_memory()
        self._arenas: list[_Arena] = []  # memory between calls, one for each at a time

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name, for arrays (N, *shape) of the plan's dtype by the names of the graph's inputs."""
        values = dict(inputs)
        for _ in self._run(values):
            pass
        return {name: values[found] for name, found in self._outputs.items()}

    def measure(self, inputs: Mapping[str, Array], repeats: int = 5) -> list[Measurement]:
        """Least time of each step over ``repeats`` runs behind one that packs the weights."""
        best = dict.fromkeys((step.name for step in self.steps), np.inf)
        for turn in range(repeats + 1):
            start = time.perf_counter()
            for step in self._run(dict(inputs)):
                if turn:
                    best[step.name] = min(best[step.name], time.perf_counter() - start)
                start = time.perf_counter()
        batch = len(next(iter(inputs.values())))
        size = batch * np.dtype(self.dtype).itemsize
        return [
            Measurement(
                step=step,
                by=step.by if isinstance(step.by, str) else step.by(batch),
                seconds=best[step.name],
                gflops=2e-9 * step.macs * batch / best[step.name],
                nbytes=math.prod(step.shape) * size,
            )
            for step in self.steps
        ]

    def describe(self, inputs: Mapping[str, Array]) -> str:
        """A table of the steps: what serves each, its time, GFLOP/s and the memory of its result."""
        rows = [("step", "stands for", "by", "ms", "GFLOP/s", "MiB")]
        measured = self.measure(inputs)
        for each in measured:
            others = " + ".join(each.step.nodes[:-1])
            rows.append(
                (
                    each.step.name,
                    f"{others} + {each.step.name}" if others else "",
                    each.by,
                    f"{each.seconds * 1e3:.3f}",
                    f"{each.gflops:.1f}" if each.step.macs else "",
                    f"{each.nbytes / 2**20:.2f}",
                )
            )
        total = sum(each.seconds for each in measured)
        rows.append(("total", "", f"{len(self.steps)} steps", f"{total * 1e3:.3f}", "", ""))
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        )

    def _run(self, values: dict[str, Array]) -> Iterator[Step]:
        """Run all steps, keeping the outputs in ``values``; yields each step behind its run."""
        batch = len(next(iter(values.values())))
        values |= self._constants
        arena = self._arenas.pop() if self._arenas else _Arena(batch)
        if arena.batch != batch:
            arena = _Arena(batch)
        for step, dying in zip(self.steps, self._dying, strict=True):
            out = arena.take((batch, *step.shape)) if step.name in self._reusable else None
            values[step.name] = step.run([values[name] for name in step.inputs], out)
            yield step
            for name in dying:
                value = values.pop(name)
                if name in self._reusable:
                    arena.give(value)
        self._arenas.append(arena)

    def _last_uses(self) -> list[list[str]]:
        """For each step, the values that nobody needs behind it."""
        last: dict[str, int] = {}
        for index, step in enumerate(self.steps):
            for name in (step.name, *step.inputs):
                last[name] = index
        dying: list[list[str]] = [[] for _ in self.steps]
        kept = set(self._outputs.values())
        for name, index in last.items():
            if name not in kept:
                dying[index].append(name)
        return dying

    def _own_memory(self) -> frozenset[str]:
        """Values whose memory is the plan's own: no output of the net, and no other value is a view of it."""
        shared = {name for step in self.steps if not step.fresh for name in (step.name, *step.inputs)}
        return frozenset(
            step.name
            for step in self.steps
            if step.name not in shared and step.name not in self._outputs.values()
        )
