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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, overload

from fastconv._spec import Shape, as_int_tuple
from fastconv._table import aligned
from fastconv.explain._witness import check_by_gradients
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
    misaligned : tuple of str
        Where, here or further up, branches of different strides or different centres were joined: the names of
        the joins, each with what its branches see. With equal strides the field is the smallest interval that
        contains those of all branches.
    """

    node: str
    output_shape: Shape
    size: tuple[int, ...]
    stride: tuple[int | Fraction, ...] | None = None
    padding: tuple[int, ...] | None = None
    whole_input: bool = False
    misaligned: tuple[str, ...] = ()
    _axes: tuple[_Axis, ...] | None = dataclasses.field(default=None, repr=False)
    _input_size: tuple[int, ...] = dataclasses.field(default=(), repr=False)

    @property
    def aligned(self) -> bool:
        """Whether all branches that lead here see with one stride and one centre."""
        return not self.misaligned

    @property
    def centre(self) -> tuple[float, ...] | None:
        """The middle of what the unit at the origin sees, per spatial axis: (size - 1) / 2 - padding; that of unit y
        lies y strides further. None where `padding` is.
        """
        if self.padding is None:
            return None
        return tuple((size - 1) / 2 - low for size, low in zip(self.size, self.padding, strict=True))

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

    def region(self, position: Sequence[int]) -> tuple[slice, ...]:
        """The part of the image that the unit at `position` sees, per spatial axis: an index of the image.

        Raises
        ------
        ValueError
            As :meth:`interval`, and if the unit sees nothing but padding.
        """
        parts = []
        for (first, last), extent in zip(self.interval(position), self._input_size, strict=True):
            if last < 0 or first >= extent:
                raise ValueError(
                    f"the unit of node {self.node!r} at {tuple(position)} sees nothing but padding"
                )
            parts.append(slice(max(first, 0), min(last + 1, extent)))
        return tuple(parts)

    def units(self, pixel: Sequence[int]) -> tuple[range, ...]:
        """The reverse: positions of this node, per spatial axis, whose intervals contain a pixel.

        Units between the first and the last of them may miss it, where a kernel is dilated or units see unalike.

        Raises
        ------
        ValueError
            If the number of indices is not the number of spatial axes, or the field has no fixed stride.
        """
        if len(pixel) != len(self.size):
            raise ValueError(
                f"pixel must have {len(self.size)} indices, one per spatial axis, got {tuple(pixel)}"
            )
        extents = self.output_shape[1:] if len(self.output_shape) == len(self.size) + 1 else (1,) * len(pixel)
        if self.whole_input:
            return tuple(range(extent) for extent in extents)
        if self._axes is None:
            raise ValueError(f"node {self.node!r} lies behind branches of different strides: no fixed field")
        found = []
        for axis, extent, at in zip(self._axes, extents, pixel, strict=True):
            spans = ((y, axis.span(y)) for y in range(extent))
            seeing = [y for y, span in spans if span is not None and span[0] <= at <= span[1]]
            found.append(range(seeing[0], seeing[-1] + 1) if seeing else range(0))
        return tuple(found)


class FieldTable(Sequence[Field]):
    """The receptive fields of a net's nodes, in order; indexed by position or by name; prints as a table.

    Attributes
    ----------
    input_name : str
    input_shape : tuple of int
    verified : dict of str to str
        What gradients have shown of each node, if they were asked: ``"exact"``, or ``"inside"`` where the units that
        were tried see padding, so that the gradient can reach a part of their intervals alone.
    """

    def __init__(
        self,
        input_name: str,
        input_shape: Shape,
        fields: Sequence[Field],
        verified: Mapping[str, str] | None = None,
    ) -> None:
        self.verified = dict(verified or {})
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
                    "" if field.aligned else f"not aligned: {field.misaligned[-1]}",
                )
            )
        lines = aligned(rows)
        return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def receptive_field(
    model: Model | Graph,
    input_size: Sequence[int] | int | None = None,
    *,
    input_name: str | None = None,
    verify: bool = False,
) -> FieldTable:
    """Receptive-field size, effective stride and effective padding of every node, for any directed acyclic
    graph.

    Parameters
    ----------
    model : Model or Graph
        A net whose input is of shape (C, *spatial).
    input_size : int or sequence of int, optional
        Height and width (or what the net has instead) of another input than the net was built for.
    input_name : str, optional
        The input that the fields refer to; needed if there are several. Nodes that do not depend on it are
        left out.
    verify : bool, default False
        Prove the arithmetic by gradients: in a net of the same windows and joins with positive weights, the gradient of
        a unit reaches exactly the interval computed for it. Nodes whose intervals exceed the input need a larger
        `input_size` to be proved exactly; `FieldTable.verified` says which were.

    Returns
    -------
    FieldTable
        One `Field` per node.

    Raises
    ------
    ValueError
        If there are several inputs and none was named, the input has no spatial axes, or the net cannot take an input
        of `input_size`.
    ArithmeticError
        If a gradient contradicts the arithmetic: an op misreports its window.

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
    spatial = tuple(graph.inputs[input_name][1:])
    if not spatial:
        raise ValueError(f"the input must have shape (channels, *spatial), got {graph.inputs[input_name]}")
    if input_size is not None:
        spatial = as_int_tuple(input_size, len(spatial), "input_size", 1)
        graph = _resized(graph, input_name, spatial)

    start = _Axis(1, ((0, 0),))
    origin = Field(
        node=input_name,
        output_shape=graph.inputs[input_name],
        size=(1,) * len(spatial),
        _axes=(start,) * len(spatial),
        _input_size=spatial,
    )
    fields = {input_name: origin}
    for node in graph.nodes:
        seen = [fields[name] for name in node.inputs if name in fields]
        if seen:
            fields[node.name] = _through(graph, node, seen, spatial)
    del fields[input_name]
    verified = check_by_gradients(graph, input_name, fields) if verify else None
    return FieldTable(input_name, graph.inputs[input_name], tuple(fields.values()), verified)


def _resized(graph: Graph, input_name: str, spatial: Shape) -> Graph:
    """The graph for an input of another size."""
    shape = (graph.inputs[input_name][0], *spatial)
    try:
        return Graph({**graph.inputs, input_name: shape}, graph.nodes, graph.outputs)
    except ValueError as error:
        raise ValueError(f"input_size {times(spatial)} does not fit the net: {error}") from None


def _field(
    node: str, output_shape: Shape, axes: tuple[_Axis, ...], misaligned: tuple[str, ...], spatial: Shape
) -> Field:
    """The field of a node of which every axis is known."""
    alike = all(_sees_alike(axis) for axis in axes)
    return Field(
        node=node,
        output_shape=output_shape,
        size=tuple(axis.size for axis in axes),
        stride=tuple(s.numerator if s.denominator == 1 else s for s in (axis.stride for axis in axes)),
        padding=tuple(-span[0] for axis in axes if (span := axis.spans[0])) if alike else None,
        misaligned=misaligned,
        _axes=axes,
        _input_size=spatial,
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
    misaligned = tuple(dict.fromkeys(text for branch in branches for text in branch.misaligned))
    if window is GLOBAL or any(branch.whole_input for branch in branches):
        return Field(
            node=node.name,
            output_shape=shape,
            size=spatial,
            whole_input=True,
            misaligned=misaligned,
            _input_size=spatial,
        )
    # what is repeated along an axis is seen alike by all units there
    repeated = window is None and any(graph.shapes[branch.node][1:] != shape[1:] for branch in branches)
    known = [branch._axes for branch in branches if branch._axes is not None]
    strides = {tuple(axis.stride for axis in axes) for axes in known}
    if len(known) < len(branches) or len(strides) != 1 or repeated:
        size = tuple(max(sizes) for sizes in zip(*(branch.size for branch in branches), strict=True))
        return Field(
            node=node.name,
            output_shape=shape,
            size=size,
            misaligned=(*misaligned, _conflict(node, branches)),
            _input_size=spatial,
        )
    joined = [_join(axes) for axes in zip(*known, strict=True)]
    axes = tuple(axis for axis, _ in joined)
    if isinstance(window, (Window, Partition)):
        axes = tuple(axis.through(window, number) for number, axis in enumerate(axes))
    if not all(same for _, same in joined):
        misaligned = (*misaligned, _conflict(node, branches))
    return _field(node.name, shape, axes, misaligned, spatial)


def _conflict(node: Node, branches: Sequence[Field]) -> str:
    """What the branches of a join see, in words."""
    seen = []
    for branch in branches:
        if branch.stride is None:
            seen.append(f"{branch.node} (no fixed stride)")
        else:
            centre = "unlike centres" if branch.centre is None else f"centre {times(branch.centre)}"
            seen.append(f"{branch.node} (stride {times(branch.stride)}, {centre})")
    return f"{node.name}: {' against '.join(seen)}"


def _join(axes: Sequence[_Axis]) -> tuple[_Axis, bool]:
    """The smallest spans that contain those of branches of one stride, and whether the branches' centres agree."""
    period = math.lcm(*(len(axis.spans) for axis in axes))
    branches = [axis.over(period) for axis in axes]
    together = list(zip(*(branch.spans for branch in branches), strict=True))
    aligned = all(len({span and sum(span) for span in spans}) == 1 for spans in together)
    return _Axis(branches[0].advance, tuple(_hull(iter(spans)) for spans in together)), aligned
