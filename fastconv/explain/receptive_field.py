"""Receptive fields of every node of a net, by arithmetic alone (no forward pass).

Where all units of a node see alike, the one at position y sees, along an axis, the input pixels

    [y * stride - padding,  y * stride - padding + size - 1]

which may reach into the padding. An op with effective kernel k = (kernel - 1) * dilation + 1, stride s and low
padding p turns the (size, stride, padding) of its input into

    size + (k - 1) * stride,    stride * s,    padding + p * stride

and a join takes the smallest interval that contains those of its branches. Behind a transposed convolution or an
adaptive pool of uneven windows, units see alike only every few positions; so what is walked through the graph is one
interval for each position of such a period, and the distance by which it moves on from period to period.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, overload

from fastconv._spec import Shape
from fastconv.graph import Graph, Node
from fastconv.nn._format import times
from fastconv.ops import GLOBAL, Partition, Window

if TYPE_CHECKING:
    from fastconv.nn import Model

Span = tuple[int, int]  # first and last pixel


@dataclass(frozen=True)
class _Axis:
    """What the units of a node see along one axis: ``spans`` at the positions of a period, then those moved on by
    ``advance``, and so on. None is a unit that sees nothing, between the reach of a transposed convolution's taps.
    """

    advance: int
    spans: tuple[Span | None, ...]

    @property
    def stride(self) -> Fraction:
        return Fraction(self.advance, len(self.spans))

    @property
    def size(self) -> int:
        return max((last - first + 1 for first, last in filter(None, self.spans)), default=0)

    def span(self, position: int) -> Span | None:
        period, place = divmod(position, len(self.spans))
        seen = self.spans[place]
        return seen and (seen[0] + period * self.advance, seen[1] + period * self.advance)

    def through(self, window: Window | Partition, axis: int) -> _Axis:
        """Seen through a window that slides over this node."""
        step, taps = window.taps(axis)
        repeats = len(self.spans) // math.gcd(len(self.spans), step)  # until both periods end together
        return _Axis(
            advance=repeats * step * self.advance // len(self.spans),
            spans=tuple(
                _hull(self.span(turn * step + tap) for tap in read)
                for turn in range(repeats)
                for read in taps
            ),
        )

    def over(self, period: int) -> _Axis:
        """The same, over a multiple of its period."""
        return _Axis(
            period // len(self.spans) * self.advance, tuple(self.span(place) for place in range(period))
        )


def _hull(spans: Iterator[Span | None]) -> Span | None:
    """The smallest span that contains all."""
    seen = [span for span in spans if span is not None]
    return (min(first for first, _ in seen), max(last for _, last in seen)) if seen else None


@dataclass(frozen=True, kw_only=True)
class Field:
    """What one unit of a node sees of the input.

    Attributes
    ----------
    node : str
        Name of the node.
    output_shape : tuple of int
        Shape of the node's output for one sample, (C, *spatial).
    size : tuple of int
        Receptive-field size per spatial axis, the largest of the node's units. If `whole_input`, the size of the
        input.
    stride : tuple of int or Fraction, or None
        Effective stride per spatial axis: how many pixels further the next unit sees, on average. None if
        `whole_input`, or behind a join of branches whose strides differ or of which one is repeated.
    padding : tuple of int, or None
        Effective padding (low side) per spatial axis. None where `stride` is, and where units see unalike:
        behind transposed convolutions of stride > 1, and adaptive pools of uneven windows.
    whole_input : bool
        Every unit sees everything (linear layers, global pooling, flattened maps).
    aligned : bool
        False if, here or further up, branches with different strides or different centres were joined. With
        equal strides the field is the smallest interval that contains those of all branches.
    """

    node: str
    output_shape: Shape
    size: tuple[int, ...]
    stride: tuple[int | Fraction, ...] | None = None
    padding: tuple[int, ...] | None = None
    whole_input: bool = False
    aligned: bool = True
    _axes: tuple[_Axis, ...] | None = dataclasses.field(default=None, repr=False)

    def interval(self, position: Sequence[int]) -> tuple[tuple[int, int], ...]:
        """First and last input pixel, per axis, that the unit at `position` sees; may lie outside, in the
        padding. Exact also where `padding` is None.

        Raises
        ------
        ValueError
            If the number of indices is not the number of spatial axes, the field has no fixed stride, or the
            unit sees nothing (some do behind a transposed convolution whose stride exceeds its kernel).
        """
        if len(position) != len(self.size):
            raise ValueError(
                f"position must have {len(self.size)} indices, one per spatial axis, got {tuple(position)}"
            )
        if self.whole_input:
            return tuple((0, extent - 1) for extent in self.size)
        if self._axes is None:
            raise ValueError(f"node {self.node!r} lies behind branches of different strides: no fixed field")
        spans = []
        for axis, y in zip(self._axes, position, strict=True):
            span = axis.span(y)
            if span is None:
                raise ValueError(f"the unit of node {self.node!r} at {tuple(position)} sees no input")
            spans.append(span)
        return tuple(spans)


class FieldTable(Sequence[Field]):
    """The receptive fields of a net's nodes, in order; indexed by position or by name; prints as a table."""

    def __init__(self, input_name: str, input_shape: Shape, fields: Sequence[Field]) -> None:
        self.input_name = input_name
        self.input_shape = input_shape
        self._fields = tuple(fields)
        self._by_name = {field.node: field for field in fields}

    @overload
    def __getitem__(self, key: int | str) -> Field: ...
    @overload
    def __getitem__(self, key: slice) -> tuple[Field, ...]: ...
    def __getitem__(self, key: int | str | slice) -> Field | tuple[Field, ...]:
        if isinstance(key, str):
            if key not in self._by_name:
                raise KeyError(
                    f"no node {key!r} sees {self.input_name!r}; those that do are {', '.join(self._by_name)}"
                )
            return self._by_name[key]
        return self._fields[key]

    def __iter__(self) -> Iterator[Field]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __str__(self) -> str:
        rows = [("node", "output shape", "receptive field", "eff. stride", "eff. padding", "")]
        rows.append(
            (self.input_name, times(self.input_shape), times((1,) * len(self.input_shape[1:])), "", "", "")
        )
        for field in self._fields:
            size = "whole input" if field.whole_input else times(field.size)
            stride, padding = times(field.stride or ()), times(field.padding or ())
            rows.append(
                (
                    field.node,
                    times(field.output_shape),
                    size,
                    stride,
                    padding,
                    "" if field.aligned else "not aligned",
                )
            )
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def receptive_field(model: Model | Graph, input_name: str | None = None) -> FieldTable:
    """Receptive-field size, effective stride and effective padding of every node, for any directed acyclic
    graph.

    Parameters
    ----------
    model : Model or Graph
        A net whose input is of shape (C, *spatial).
    input_name : str, optional
        The input that the fields refer to; needed if there are several. Nodes that do not depend on it are
        left out.

    Returns
    -------
    FieldTable
        One `Field` per node.

    Raises
    ------
    ValueError
        If there are several inputs and none was named, or the input has no spatial axes.

    Notes
    -----
    Padding counts as pixels outside the input, also where `nn.Pad` fills it with pixels from inside (modes
    "reflect", "replicate" and "circular").

    References
    ----------
    Araujo, Norris and Sim, "Computing Receptive Fields of Convolutional Neural Networks", Distill, 2019.

    Examples
    --------
    >>> from fastconv import explain, nn
    >>> layers = [nn.Conv2d(4, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(4, 3)]
    >>> net = nn.Sequential(layers, input_shape=(1, 28, 28), seed=0)
    >>> field = explain.receptive_field(net)[-1]
    >>> field.size, field.stride, field.padding
    ((8, 8), (2, 2), (1, 1))
    """
    graph = model if isinstance(model, Graph) else model.graph
    if input_name is None:
        if len(graph.inputs) != 1:
            raise ValueError(f"input_name must name one of the inputs {tuple(graph.inputs)}")
        input_name = next(iter(graph.inputs))
    if input_name not in graph.inputs:
        raise ValueError(f"input_name must be one of {tuple(graph.inputs)}, got {input_name!r}")
    input_shape = graph.inputs[input_name]
    spatial = tuple(input_shape[1:])
    if not spatial:
        raise ValueError(f"the input must have shape (channels, *spatial), got {input_shape}")

    start = _Axis(1, ((0, 0),))
    fields = {input_name: _field(input_name, input_shape, (start,) * len(spatial), aligned=True)}
    for node in graph.nodes:
        seen = [fields[name] for name in node.inputs if name in fields]
        if seen:
            fields[node.name] = _through(graph, node, seen, spatial)
    del fields[input_name]
    return FieldTable(input_name, input_shape, tuple(fields.values()))


def _field(node: str, output_shape: Shape, axes: tuple[_Axis, ...], aligned: bool) -> Field:
    """The field of a node of which every axis is known."""
    alike = all(_sees_alike(axis) for axis in axes)
    return Field(
        node=node,
        output_shape=output_shape,
        size=tuple(axis.size for axis in axes),
        stride=tuple(s.numerator if s.denominator == 1 else s for s in (axis.stride for axis in axes)),
        padding=tuple(-span[0] for axis in axes if (span := axis.spans[0])) if alike else None,
        aligned=aligned,
        _axes=axes,
    )


def _sees_alike(axis: _Axis) -> bool:
    """Whether one stride, padding and size describe all units."""
    first = axis.spans[0]
    return first is not None and all(
        span is not None and span[0] - first[0] == span[1] - first[1] == place * axis.stride
        for place, span in enumerate(axis.spans)
    )


def _through(graph: Graph, node: Node, branches: Sequence[Field], spatial: Shape) -> Field:
    """The field of a node whose inputs have the fields of `branches`."""
    shape = graph.shapes[node.name]
    window = node.op.window(*graph.input_shapes(node))
    aligned = all(branch.aligned for branch in branches)
    if window is GLOBAL or any(branch.whole_input for branch in branches):
        return Field(node=node.name, output_shape=shape, size=spatial, whole_input=True, aligned=aligned)
    # what is repeated along an axis is seen alike by all units there
    repeated = window is None and any(graph.shapes[branch.node][1:] != shape[1:] for branch in branches)
    known = [branch._axes for branch in branches if branch._axes is not None]
    strides = {tuple(axis.stride for axis in axes) for axes in known}
    if len(known) < len(branches) or len(strides) != 1 or repeated:
        size = tuple(max(sizes) for sizes in zip(*(branch.size for branch in branches), strict=True))
        return Field(node=node.name, output_shape=shape, size=size, aligned=False)
    joined = [_join(axes) for axes in zip(*known, strict=True)]
    axes = tuple(axis for axis, _ in joined)
    if isinstance(window, (Window, Partition)):
        axes = tuple(axis.through(window, number) for number, axis in enumerate(axes))
    return _field(node.name, shape, axes, aligned and all(same for _, same in joined))


def _join(axes: Sequence[_Axis]) -> tuple[_Axis, bool]:
    """The smallest spans that contain those of branches of one stride, and whether the branches' centres agree."""
    period = math.lcm(*(len(axis.spans) for axis in axes))
    branches = [axis.over(period) for axis in axes]
    together = list(zip(*(branch.spans for branch in branches), strict=True))
    aligned = all(len({span and sum(span) for span in spans}) == 1 for spans in together)
    return _Axis(branches[0].advance, tuple(_hull(iter(spans)) for spans in together)), aligned
