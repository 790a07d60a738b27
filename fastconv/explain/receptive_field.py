"""Receptive fields of every node of a net, by arithmetic alone (no forward pass).

The unit at position y of a node sees, along an axis, the input pixels

    [y * stride - padding,  y * stride - padding + size - 1]

which may reach into the padding. Walking the graph once, an op with effective kernel k = (kernel - 1) *
dilation + 1, stride s and low padding p turns the (size, stride, padding) of its input into

    size + (k - 1) * stride,    stride * s,    padding + p * stride

and a join takes the smallest interval that contains those of its branches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

from fastconv._spec import Shape
from fastconv.graph import Graph
from fastconv.nn import Model
from fastconv.ops import GLOBAL, Op, Window


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
        Receptive-field size per spatial axis. If `whole_input`, the size of the input.
    stride, padding : tuple of int, or None
        Effective stride and effective padding (low side) per spatial axis; None if `whole_input`, or behind
        a join of branches whose strides differ.
    whole_input : bool
        Every unit sees everything (linear layers, global pooling, flattened maps).
    aligned : bool
        False if, here or further up, branches with different strides or different centres were joined. With
        equal strides the field is the smallest interval that contains those of all branches.
    """

    node: str
    output_shape: Shape
    size: tuple[int, ...]
    stride: tuple[int, ...] | None
    padding: tuple[int, ...] | None
    whole_input: bool = False
    aligned: bool = True

    def interval(self, position: Sequence[int]) -> tuple[tuple[int, int], ...]:
        """First and last input pixel, per axis, that the unit at `position` sees; may lie outside, in the
        padding.

        Raises
        ------
        ValueError
            If the number of indices is not the number of spatial axes, or the field has no fixed stride.
        """
        if len(position) != len(self.size):
            raise ValueError(
                f"position must have {len(self.size)} indices, one per spatial axis, got {tuple(position)}"
            )
        if self.whole_input:
            return tuple((0, extent - 1) for extent in self.size)
        if self.stride is None or self.padding is None:
            raise ValueError(f"node {self.node!r} lies behind branches of different strides: no fixed field")
        starts = [y * s - p for y, s, p in zip(position, self.stride, self.padding, strict=True)]
        return tuple((start, start + size - 1) for start, size in zip(starts, self.size, strict=True))


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
            (self.input_name, _times(self.input_shape), _times((1,) * len(self.input_shape[1:])), "", "", "")
        )
        for field in self._fields:
            size = "whole input" if field.whole_input else _times(field.size)
            stride, padding = _times(field.stride or ()), _times(field.padding or ())
            rows.append(
                (
                    field.node,
                    _times(field.output_shape),
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
    graph = model.graph if isinstance(model, Model) else model
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

    ones = (1,) * len(spatial)
    origin = Field(
        node=input_name, output_shape=input_shape, size=ones, stride=ones, padding=(0,) * len(spatial)
    )
    fields = {input_name: origin}
    for node in graph.nodes:
        seen = [fields[name] for name in node.inputs if name in fields]
        if seen:
            fields[node.name] = _through(
                node.op, _join(seen, spatial), spatial, node.name, graph.shapes[node.name]
            )
    del fields[input_name]
    return FieldTable(input_name, input_shape, tuple(fields.values()))


def _through(op: Op, field: Field, spatial: Shape, name: str, output_shape: Shape) -> Field:
    """The field of a node whose input has `field`."""
    size, stride, padding, whole = field.size, field.stride, field.padding, field.whole_input
    window = op.window()
    if window is GLOBAL or whole:
        size, stride, padding, whole = spatial, None, None, True
    elif isinstance(window, Window) and stride is not None and padding is not None:
        reach = [(k - 1) * d for k, d in zip(window.kernel, window.dilation, strict=True)]
        size = tuple(r + extra * jump for r, extra, jump in zip(size, reach, stride, strict=True))
        padding = tuple(p + low * jump for p, low, jump in zip(padding, window.pad_lo, stride, strict=True))
        stride = tuple(jump * s for jump, s in zip(stride, window.stride, strict=True))
    return Field(
        node=name,
        output_shape=output_shape,
        size=size,
        stride=stride,
        padding=padding,
        whole_input=whole,
        aligned=field.aligned,
    )


def _join(branches: Sequence[Field], spatial: Shape) -> Field:
    """The smallest field that contains those of all branches."""
    first = branches[0]
    if len(branches) == 1:
        return first
    whole = any(branch.whole_input for branch in branches)
    steady = [
        (b.size, b.stride, b.padding) for b in branches if b.stride is not None and b.padding is not None
    ]
    same_stride = len(steady) == len(branches) and len({stride for _, stride, _ in steady}) == 1
    aligned = all(branch.aligned for branch in branches)
    if whole or not same_stride:
        return Field(
            node=first.node,
            output_shape=first.output_shape,
            size=spatial if whole else tuple(map(max, *(b.size for b in branches))),
            stride=None,
            padding=None,
            whole_input=whole,
            aligned=aligned and whole,
        )
    # Twice the centre of a unit at position 0, (size - 1) / 2 - padding: branches are aligned where all
    # centres agree.
    centres = {
        tuple(r - 1 - 2 * p for r, p in zip(size, padding, strict=True)) for size, _, padding in steady
    }
    padding = tuple(map(max, *(padding for _, _, padding in steady)))
    ends = tuple(map(max, *(tuple(r - p for r, p in zip(size, low, strict=True)) for size, _, low in steady)))
    return Field(
        node=first.node,
        output_shape=first.output_shape,
        size=tuple(end + p for end, p in zip(ends, padding, strict=True)),
        stride=first.stride,
        padding=padding,
        aligned=aligned and len(centres) == 1,
    )


def _times(numbers: Sequence[int]) -> str:
    return " x ".join(map(str, numbers))
