"""Ops that take part of their input."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastconv._spec import Shape
from fastconv.ops._axes import axis_of, scatter_add
from fastconv.ops._base import GLOBAL, Array, Context, Extent, Gradients, Op, Wanted, Window, single


@dataclass(frozen=True, kw_only=True)
class Slice(Op):
    """``x[starts[0]:stops[0]:steps[0], ...]`` of a sample, one entry for each axis, by Python's rules.

    So negative positions count from the end, and those beyond an end are taken back to it; a negative step down to
    position 0 stops at any number below minus the size.
    """

    starts: Shape
    stops: Shape
    steps: Shape

    def __post_init__(self) -> None:
        if not len(self.starts) == len(self.stops) == len(self.steps):
            raise ValueError(
                "starts, stops and steps must be of one length, "
                f"got {self.starts!r}, {self.stops!r} and {self.steps!r}"
            )
        if 0 in self.steps:
            raise ValueError(f"steps must not be 0, got {self.steps!r}")

    @property
    def kind(self) -> str:
        return "slice"

    def _ranges(self, shape: Shape) -> list[range]:
        """The positions taken along each axis."""
        if len(shape) != len(self.starts):
            raise ValueError(f"slice takes {len(self.starts)} axes, one for each start, got {shape}")
        bounds = zip(self.starts, self.stops, self.steps, shape, strict=True)
        return [range(*slice(start, stop, step).indices(n)) for start, stop, step, n in bounds]

    def _slices(self) -> tuple[slice, ...]:
        return tuple(map(slice, (0, *self.starts), (None, *self.stops), (1, *self.steps)))

    def infer_shape(self, *input_shapes: Shape) -> Shape:
        return tuple(map(len, self._ranges(single(input_shapes, self.kind))))

    def forward(
        self, inputs: tuple[Array, ...], params: dict[str, Array], context: Context
    ) -> tuple[Array, Any]:
        (x,) = inputs
        return np.ascontiguousarray(x[self._slices()]), x.shape

    def backward(self, grad_output: Array, saved: Any, params: dict[str, Array], wanted: Wanted) -> Gradients:
        grad_input = np.zeros(saved, grad_output.dtype)
        grad_input[self._slices()] = grad_output
        return (grad_input,), {}

    def window(self, *input_shapes: Shape) -> Window | Extent:
        shape = single(input_shapes, self.kind)[1:]
        ranges = self._ranges(input_shapes[0])[1:]
        if any(r.step < 0 or not r for r in ranges):
            return GLOBAL
        ones = (1,) * len(ranges)
        return Window(
            kernel=ones,
            stride=tuple(r.step for r in ranges),
            pad_lo=tuple(-r.start for r in ranges),
            pad_hi=tuple(r[-1] + 1 - n for r, n in zip(ranges, shape, strict=True)),
            dilation=ones,
        )


@dataclass(frozen=True, kw_only=True)
class Gather(Op):
    """``x.take(indices, axis)`` of a sample, for indices that do not depend on the input.

    Parameters
    ----------
    axis : int
        Of a sample; negative ones count from the last.
    indices : tuple of int
        Flat, in C order; negative ones count from the end.
    indices_shape : tuple of int, optional
        What takes the axis' place in the shape; None is one axis, and () none.
    """

    axis: int
    indices: Shape
    indices_shape: Shape | None = None

    def __post_init__(self) -> None:
        if math.prod(self._taken) != len(self.indices):
            raise ValueError(
                f"indices_shape must have as many elements as there are indices, {len(self.indices)}, "
                f"got {self.indices_shape!r}"
            )

    @property
    def kind(self) -> str:
        return "gather"

    @property
    def _taken(self) -> Shape:
        return (len(self.indices),) if self.indices_shape is None else self.indices_shape

    def infer_shape(self, *input_shapes: Shape) -> Shape:
        shape = single(input_shapes, self.kind)
        axis = axis_of(self.axis, len(shape), self.kind)
        size = shape[axis]
        if self.indices and not -size <= min(self.indices) <= max(self.indices) < size:
            raise ValueError(
                f"indices must be from {-size} to {size - 1} on an axis of size {size}, "
                f"got {min(self.indices)} to {max(self.indices)}"
            )
        return (*shape[:axis], *self._taken, *shape[axis + 1 :])

    def forward(
        self, inputs: tuple[Array, ...], params: dict[str, Array], context: Context
    ) -> tuple[Array, Any]:
        (x,) = inputs
        axis = axis_of(self.axis, x.ndim - 1, self.kind) + 1
        indices = np.array(self.indices, np.intp).reshape(self._taken)
        return x.take(indices, axis), (axis, x.shape[axis])

    def backward(self, grad_output: Array, saved: Any, params: dict[str, Array], wanted: Wanted) -> Gradients:
        axis, size = saved
        flat = grad_output.reshape(
            *grad_output.shape[:axis], -1, *grad_output.shape[axis + len(self._taken) :]
        )
        return (scatter_add(flat, np.array(self.indices, np.intp) % size, size, axis),), {}

    def window(self, *input_shapes: Shape) -> Extent | None:
        shape = single(input_shapes, self.kind)
        whole = axis_of(self.axis, len(shape), self.kind) == 0 and len(self._taken) == 1
        return None if whole else GLOBAL  # channels alone
