"""Ops that join branches."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from fastconv._dispatch import plan
from fastconv._spec import AddSpec, Shape
from fastconv.ops._axes import axis_of
from fastconv.ops._base import GLOBAL, Array, Context, Extent, Gradients, Op, Wanted
from fastconv.ops._broadcast import aligned, broadcast_shape, sum_to


def add(a: Array, b: Array, *, relu: bool = False, out: Array | None = None) -> Array:
    """``a + b``, after a ReLU if asked for; ``out`` may be one of them."""
    if a.dtype != b.dtype or a.dtype.kind != "f":  # inside nets there are more dtypes than the kernel knows
        return np.maximum(a + b, 0) if relu else a + b
    total: Array = plan("add", AddSpec.of, a.size, a.dtype, relu).run(a, b, out)
    return total


@dataclass(frozen=True, kw_only=True)
class Add(Op):
    """Sum of two or more inputs that broadcast to one shape."""

    @property
    def kind(self) -> str:
        return "add"

    def infer_shape(self, *input_shapes: Shape) -> Shape:
        return broadcast_shape(input_shapes, self.kind, "two or more", len(input_shapes) >= 2)

    def forward(
        self, inputs: tuple[Array, ...], params: dict[str, Array], context: Context
    ) -> tuple[Array, Any]:
        shapes = [x.shape for x in inputs]
        if len(set(shapes)) > 1:
            return reduce(np.add, aligned(inputs)), shapes
        total, *others = inputs
        for number, other in enumerate(others):
            total = add(total, other, out=total if number else None)
        return total, shapes

    def backward(self, grad_output: Array, saved: Any, params: dict[str, Array], wanted: Wanted) -> Gradients:
        return tuple(
            sum_to(grad_output, shape) if want else None
            for shape, want in zip(saved, wanted.inputs, strict=True)
        ), {}


@dataclass(frozen=True, kw_only=True)
class Multiply(Op):
    """Product of two inputs that broadcast to one shape, as channels weighted by (C, 1, 1) do."""

    @property
    def kind(self) -> str:
        return "multiply"

    def infer_shape(self, *input_shapes: Shape) -> Shape:
        return broadcast_shape(input_shapes, self.kind, "two", len(input_shapes) == 2)

    def forward(
        self, inputs: tuple[Array, ...], params: dict[str, Array], context: Context
    ) -> tuple[Array, Any]:
        first, second = aligned(inputs)
        return first * second, inputs if context.recording else None

    def backward(self, grad_output: Array, saved: Any, params: dict[str, Array], wanted: Wanted) -> Gradients:
        first, second = aligned(saved)
        return tuple(
            sum_to(grad_output * other, own.shape) if want else None
            for own, other, want in zip(saved, (second, first), wanted.inputs, strict=True)
        ), {}


@dataclass(frozen=True, kw_only=True)
class Concat(Op):
    """Inputs side by side along an axis of a sample, the channels if not told; all other dimensions agree."""

    axis: int = 0  # negative ones count from the last

    @property
    def kind(self) -> str:
        return "concat"

    def infer_shape(self, *input_shapes: Shape) -> Shape:
        ranks = {len(shape) for shape in input_shapes}
        if len(input_shapes) >= 2 and len(ranks) == 1:
            axis = axis_of(self.axis, ranks.pop(), self.kind)
            if len({(shape[:axis], shape[axis + 1 :]) for shape in input_shapes}) == 1:
                size = sum(shape[axis] for shape in input_shapes)
                return (*input_shapes[0][:axis], size, *input_shapes[0][axis + 1 :])
        differ = "channels" if self.axis == 0 else f"axis {self.axis}"
        raise ValueError(
            f"concat takes two or more inputs that differ in {differ} only, got {list(input_shapes)}"
        )

    def forward(
        self, inputs: tuple[Array, ...], params: dict[str, Array], context: Context
    ) -> tuple[Array, Any]:
        axis = axis_of(self.axis, inputs[0].ndim - 1, self.kind) + 1
        batch = max(map(len, inputs), key=lambda n: n != 1)
        parts = [x if len(x) == batch else np.broadcast_to(x, (batch, *x.shape[1:])) for x in inputs]
        return np.concatenate(parts, axis=axis), (axis, [x.shape for x in inputs])

    def backward(self, grad_output: Array, saved: Any, params: dict[str, Array], wanted: Wanted) -> Gradients:
        axis, shapes = saved
        parts = np.split(grad_output, np.cumsum([shape[axis] for shape in shapes])[:-1], axis=axis)
        return tuple(
            np.ascontiguousarray(sum_to(part, shape)) if want else None
            for part, shape, want in zip(parts, shapes, wanted.inputs, strict=True)
        ), {}

    def window(self, *input_shapes: Shape) -> Extent | None:
        rank = len(input_shapes[0])
        return None if axis_of(self.axis, rank, self.kind) == 0 else GLOBAL
