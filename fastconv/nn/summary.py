"""The table of a net's layers, with what they cost and how much memory they take."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastconv._spec import Shape
from fastconv._table import aligned
from fastconv.graph import Graph, Node
from fastconv.nn._format import batched, times
from fastconv.ops import Window

if TYPE_CHECKING:
    from fastconv.explain import Field

_HEADER = ("layer", "kind", "input shape", "output shape", "kernel", "parameters", "MACs", "receptive field")
_NUMBERS = (_HEADER.index("parameters"), _HEADER.index("MACs"))


@dataclass(frozen=True, kw_only=True)
class Row:
    """One layer.

    Attributes
    ----------
    layer, kind : str
        Name of the node, and of what it computes.
    input_shapes : tuple of shapes
        Of one sample, one for each input; empty for an input of the net.
    output_shape : tuple of int
        Of one sample.
    kernel : tuple of int
        Size of its sliding window; empty if it has none.
    parameters : int
        How many it is the first to use.
    macs : int
        Multiply-accumulates for one sample.
    field : fastconv.explain.Field or None
        Its receptive field: size, effective stride, effective padding.  None if the net has not exactly one input
        with spatial axes, or the layer does not see that.
    """

    layer: str
    kind: str
    input_shapes: tuple[Shape, ...]
    output_shape: Shape
    kernel: Shape
    parameters: int
    macs: int
    field: Field | None

    def cells(self) -> tuple[str, ...]:
        """What the table shows."""
        shapes = [batched(shape) for shape in self.input_shapes]
        alike = len(shapes) > 1 and len(set(shapes)) == 1
        seen = ""
        if self.field is not None:
            seen = "whole input" if self.field.whole_input else times(self.field.size)
        numbers = ("", "") if self.kind == "input" else (f"{self.parameters:,}", f"{self.macs:,}")
        return (
            self.layer,
            self.kind,
            f"{len(shapes)} x {shapes[0]}" if alike else " + ".join(shapes),
            batched(self.output_shape),
            times(self.kernel),
            *numbers,
            seen,
        )


@dataclass(frozen=True, kw_only=True)
class Totals:
    """What a whole net has and needs; sizes in bytes are for a batch of ``batch_size`` samples.

    Attributes
    ----------
    parameters, trainable, statistics : int
        All parameters; those that training changes by their gradient; running statistics. What is in none of
        the two is frozen.
    macs : int
        Multiply-accumulates for one sample.
    parameter_bytes, activation_bytes : int
        The parameters; the outputs of all layers.
    inference_bytes : int
        Parameters, and the inputs and outputs that are alive at the same time.
    training_bytes : int
        What a training step needs at most: parameters and their gradients, inputs, outputs of all layers, and the
        two largest gradients of outputs; without the optimizer's state and the kernels' scratch memory.
    """

    batch_size: int
    parameters: int
    trainable: int
    statistics: int
    macs: int
    parameter_bytes: int
    activation_bytes: int
    inference_bytes: int
    training_bytes: int

    def lines(self) -> list[str]:
        """What stands below the table."""
        frozen = self.parameters - self.trainable - self.statistics
        shares = [f"{self.trainable:,} trainable", f"{self.statistics:,} running statistics"]
        shares += [f"{frozen:,} frozen"] if frozen else []
        return [
            f"parameters: {self.parameters:,} ({', '.join(shares)})",
            f"MACs per sample: {self.macs:,}",
            f"memory for a batch of {self.batch_size}: parameters {_mebibytes(self.parameter_bytes)}, "
            f"outputs of all layers {_mebibytes(self.activation_bytes)}",
            f"  inference {_mebibytes(self.inference_bytes)}, "
            f"training up to {_mebibytes(self.training_bytes)} and the optimizer's state",
        ]


class Summary(str):
    """The table as text, with its ``rows`` and ``totals`` as data; an interactive session shows the table."""

    rows: tuple[Row, ...]
    totals: Totals

    def __repr__(self) -> str:
        return str(self)


def summary(graph: Graph, batch_size: int = 1, itemsize: int = 4, frozen: Collection[str] = ()) -> Summary:
    """One line per layer, then the totals.

    Parameters shared by several layers are counted at their first use.  MACs are multiply-accumulates for one
    sample (a FLOP count is twice that); ops that only move or compare numbers count 0.

    Parameters
    ----------
    graph : Graph
    batch_size : int
        For how many samples memory is counted.
    itemsize : int
        Bytes of a number.
    frozen : collection of str
        Parameters that training leaves alone.

    Returns
    -------
    Summary
    """
    fields = _receptive_fields(graph)
    counted: set[str] = set()
    rows = [
        Row(
            layer=name,
            kind="input",
            input_shapes=(),
            output_shape=shape,
            kernel=(),
            parameters=0,
            macs=0,
            field=None,
        )
        for name, shape in graph.inputs.items()
    ]
    for node in graph.nodes:
        own = set(node.params) - counted
        counted |= own
        rows.append(
            Row(
                layer=node.name,
                kind=node.op.kind,
                input_shapes=graph.input_shapes(node),
                output_shape=graph.shapes[node.name],
                kernel=_kernel(graph, node),
                parameters=sum(math.prod(graph.param_shapes[name]) for name in own),
                macs=graph.macs(node),
                field=fields.get(node.name),
            )
        )
    totals = _totals(graph, rows, batch_size, itemsize, frozen)
    table = [_HEADER, *(row.cells() for row in rows)]
    lines = aligned(table, right=_NUMBERS)
    rule = "-" * max(map(len, lines))
    text = Summary("\n".join([lines[0], rule, *lines[1:], rule, *totals.lines()]))
    text.rows, text.totals = tuple(rows), totals
    return text


def _totals(graph: Graph, rows: list[Row], batch_size: int, itemsize: int, frozen: Collection[str]) -> Totals:
    sizes = {name: math.prod(shape) for name, shape in graph.param_shapes.items()}
    parameters = sum(sizes.values())
    gradients = sum(sizes[name] for name in graph.trainable if name not in frozen)
    inputs = sum(map(math.prod, graph.inputs.values()))
    outputs = sorted(math.prod(graph.shapes[node.name]) for node in graph.nodes)
    return Totals(
        batch_size=batch_size,
        parameters=parameters,
        trainable=gradients,
        statistics=parameters - sum(sizes[name] for name in graph.trainable),
        macs=sum(row.macs for row in rows),
        parameter_bytes=itemsize * parameters,
        activation_bytes=itemsize * batch_size * sum(outputs),
        inference_bytes=itemsize * (parameters + batch_size * _most_alive(graph)),
        training_bytes=itemsize
        * (parameters + gradients + batch_size * (inputs + sum(outputs) + sum(outputs[-2:]))),
    )


def _most_alive(graph: Graph) -> int:
    """The most elements of values of one sample that a forward pass holds at once."""
    alive = most = sum(map(math.prod, graph.inputs.values()))
    for node, dying in zip(graph.nodes, graph.last_uses, strict=True):
        alive += math.prod(graph.shapes[node.name])
        most = max(most, alive)
        alive -= sum(math.prod(graph.shapes[name]) for name in dying if name not in graph.outputs)
    return most


def _kernel(graph: Graph, node: Node) -> Shape:
    window = node.op.window(*graph.input_shapes(node))
    if isinstance(window, Window) and (node.params or max(window.kernel, default=1) > 1):
        return window.kernel
    return ()  # without parameters a window of one element only moves others


def _receptive_fields(graph: Graph) -> dict[str, Field]:
    from fastconv.explain import receptive_field  # which needs this package

    images = [name for name, shape in graph.inputs.items() if len(shape) > 1]
    return (
        {field.node: field for field in receptive_field(graph, input_name=images[0])}
        if len(images) == 1
        else {}
    )


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:,.2f} MiB"
