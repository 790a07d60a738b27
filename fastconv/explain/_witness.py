"""Gradients as witnesses of receptive-field arithmetic.

A net of the same windows and joins, but of one channel, positive weights, averages in place of maxima and nothing
point-wise, has no gradient that cancels or dies: what reaches a pixel shows that the unit sees it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastconv._spec import Shape
from fastconv.autodiff import backward
from fastconv.graph import Graph, Node, Tape, forward
from fastconv.ops import (
    Activation,
    AdaptiveAvgPool,
    AdaptiveMaxPool,
    Conv,
    ConvTranspose,
    Op,
    Window,
)

if TYPE_CHECKING:
    from fastconv.explain.receptive_field import Field

Array = NDArray[Any]
Span = tuple[int, int]

_IDENTITY = Activation(function="leaky_relu", slope=1.0)
_MOST_BYTES = 256 << 20  # of the values of one batch of witnesses


def check_by_gradients(graph: Graph, input_name: str, fields: Mapping[str, Field]) -> dict[str, str]:
    """Compare the first, the middle and the last unit of every node with what its gradient reaches.

    Returns
    -------
    dict of str to str
        ``"exact"`` for a node of which a unit that sees no padding was tried, else ``"inside"``.

    Raises
    ------
    ArithmeticError
        If a gradient leaves the interval, or does not fill it although the unit sees no padding.
    """
    witness = _witness(graph, input_name, fields)
    params = _positive_params(witness)
    cropped = any(_crops(node.op.window(*witness.input_shapes(node))) for node in witness.nodes)
    trials = [
        (name, position, field.interval(position))
        for name, field in fields.items()
        if name in witness.shapes
        for position in _positions(field)
    ]
    values = sum(int(np.prod(shape)) for shape in witness.shapes.values())
    batch = max(1, _MOST_BYTES // (2 * 8 * values))
    verified: dict[str, str] = {}
    for start in range(0, len(trials), batch):
        part = trials[start : start + batch]
        reached = _reached(witness, params, input_name, [(name, position) for name, position, _ in part])
        for (name, position, interval), touched in zip(part, reached, strict=True):
            exact = _compare(f"the unit of node {name!r} at {position}", interval, touched, cropped)
            if exact or name not in verified:
                verified[name] = "exact" if exact else "inside"
    return verified


def _compare(unit: str, interval: tuple[Span, ...], touched: Array, cropped: bool) -> bool:
    """Whether a gradient shows all of an interval, and not just a part of it because the unit sees padding."""
    found = []
    for axis in range(touched.ndim):
        others = tuple(other for other in range(touched.ndim) if other != axis)
        at = np.flatnonzero(touched.any(axis=others))
        found.append((int(at[0]), int(at[-1])) if at.size else None)
    within = all(
        span is None or (low <= span[0] and span[1] <= high)
        for span, (low, high) in zip(found, interval, strict=True)
    )
    whole = all(
        low >= 0 and high < extent for (low, high), extent in zip(interval, touched.shape, strict=True)
    )
    if not within or (whole and not cropped and tuple(found) != interval):
        raise ArithmeticError(f"{unit} should see {interval}, but its gradient reaches {tuple(found)}")
    return whole and tuple(found) == interval


def _positions(field: Field) -> list[Shape]:
    """The first, the middle and the last unit of a node, less those that see nothing."""
    if field._axes is None or len(field.output_shape) != len(field.size) + 1:
        return []
    extents = field.output_shape[1:]
    chosen = dict.fromkeys(
        tuple(place(extent) for extent in extents)
        for place in (lambda n: n // 2, lambda n: 0, lambda n: n - 1)
    )
    return [
        position
        for position in chosen
        if all(axis.span(y) is not None for axis, y in zip(field._axes, position, strict=True))
    ]


def _reached(
    graph: Graph, params: Mapping[str, Array], input_name: str, units: list[tuple[str, Shape]]
) -> list[Array]:
    """Per unit, which pixels its gradient reaches."""
    inputs = {name: np.ones((len(units), *shape)) for name, shape in graph.inputs.items()}
    tape: Tape = []
    forward(graph, params, inputs, tape=tape)
    output_grads: dict[str, Array] = {}
    for number, (name, position) in enumerate(units):
        grad = output_grads.setdefault(name, np.zeros((len(units), *graph.shapes[name])))
        index: tuple[Any, ...] = (number, slice(None), *position)
        grad[index] = 1
    _, input_grads = backward(graph, params, tape, output_grads, wrt_params=(), wrt_inputs=True)
    return list((input_grads[input_name] != 0).any(axis=1))


def _witness(graph: Graph, input_name: str, fields: Mapping[str, Field]) -> Graph:
    """The net described above; with all its channels, where it does not work with one."""
    known = {name for name, field in fields.items() if field._axes is not None}
    nodes = graph.leading_to(known)
    outputs = tuple(known) or (input_name,)
    try:
        return _rebuilt(graph, nodes, outputs, thin=True)
    except ValueError:
        return _rebuilt(graph, nodes, outputs, thin=False)


def _rebuilt(graph: Graph, nodes: Sequence[Node], outputs: tuple[str, ...], thin: bool) -> Graph:
    inputs = {
        name: (1, *shape[1:]) if thin and len(shape) > 1 else shape for name, shape in graph.inputs.items()
    }
    shapes = dict(inputs)
    rebuilt = []
    for node in nodes:
        seen = tuple(shapes[name] for name in node.inputs)
        op = _stand_in(node.op, seen, graph.shapes[node.name], thin)
        shapes[node.name] = op.infer_shape(*seen)
        params = tuple(f"{node.name}.{key}" for key in op.param_shapes(*seen))
        rebuilt.append(replace(node, op=op, params=params))
    return Graph(inputs, tuple(rebuilt), outputs)


def _stand_in(op: Op, input_shapes: tuple[Shape, ...], output_shape: Shape, thin: bool) -> Op:
    """An op that sees the same of its input and whose gradient never dies."""
    window = op.window(*input_shapes)
    if isinstance(op, (Conv, ConvTranspose)):
        return replace(op, out_channels=1, groups=1, bias=False) if thin else replace(op, bias=False)
    if isinstance(op, AdaptiveMaxPool):
        return AdaptiveAvgPool(output_size=op.output_size)
    if isinstance(window, Window) and op.kind.startswith(("max_pool", "lp_pool")):
        (channels, *extents), steps = input_shapes[0], zip(window.kernel, window.dilation, strict=True)
        reach = [(kernel - 1) * dilation + 1 for kernel, dilation in steps]
        high = [
            max(0, (out - 1) * stride + k - extent - low)  # ceil_mode may need more than the padding
            for out, stride, k, extent, low in zip(
                output_shape[1:], window.stride, reach, extents, window.pad_lo, strict=True
            )
        ]
        padding = [side for pair in zip(window.pad_lo, high, strict=True) for side in pair]
        return Conv.of(
            len(extents),
            channels,
            window.kernel,
            window.stride,
            padding,
            window.dilation,
            channels,
            bias=False,
        )
    if window is None and len(input_shapes) == 1 and op.infer_shape(*input_shapes) == input_shapes[0]:
        return _IDENTITY
    return op


def _positive_params(graph: Graph) -> dict[str, Array]:
    """Weights that keep values near one, and neither shift nor scale anywhere else."""
    rng = np.random.default_rng(0)
    params = {}
    for name, shape in graph.param_shapes.items():
        if len(shape) > 1:
            params[name] = rng.uniform(0.5, 1.5, shape) / np.prod(shape[1:])
        else:
            params[name] = np.zeros(shape) if name.endswith(("bias", "running_mean")) else np.ones(shape)
    return params


def _crops(window: object) -> bool:
    return isinstance(window, Window) and min((*window.pad_lo, *window.pad_hi), default=0) < 0
