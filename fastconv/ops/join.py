"""Ops that join branches."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from fastconv._spec import Shape
from fastconv.ops._base import Array, Context, Gradients, Op, Wanted


@dataclass(frozen=True, kw_only=True)
class Add(Op):
    """Sum of two or more inputs of one shape."""

    @property
    def kind(self) -> str:
        return "add"

    def infer_shape(self, *input_shapes: Shape) -> Shape:
        if len(input_shapes) < 2 or len(set(input_shapes)) != 1:
            raise ValueError(f"add takes two or more inputs of one shape, got {list(input_shapes)}")
        return input_shapes[0]

    def forward(
        self, inputs: tuple[Array, ...], params: dict[str, Array], context: Context
    ) -> tuple[Array, Any]:
        total = inputs[0] + inputs[1]
        return reduce(lambda t, x: np.add(t, x, out=t), inputs[2:], total), len(inputs)

    def backward(self, grad_output: Array, saved: Any, params: dict[str, Array], wanted: Wanted) -> Gradients:
        return (grad_output,) * saved, {}


@dataclass(frozen=True, kw_only=True)
class Multiply(Op):
    """Product of two inputs; a dimension of size 1 is repeated, as for channels weighted by (C, 1, 1)."""

    @property
    def kind(self) -> str:
        return "multiply"

    def infer_shape(self, *input_shapes: Shape) -> Shape:
        ranks = {len(shape) for shape in input_shapes}
        if (
            len(input_shapes) != 2
            or len(ranks) != 1
            or any(n != m and 1 not in (n, m) for n, m in zip(*input_shapes, strict=True))
        ):
            raise ValueError(
                f"multiply takes two inputs whose dimensions are equal or 1, got {list(input_shapes)}"
            )
        return np.broadcast_shapes(*input_shapes)

    def forward(
        self, inputs: tuple[Array, ...], params: dict[str, Array], context: Context
    ) -> tuple[Array, Any]:
        return inputs[0] * inputs[1], inputs if context.recording else None

    def backward(self, grad_output: Array, saved: Any, params: dict[str, Array], wanted: Wanted) -> Gradients:
        first, second = saved
        return tuple(
            _sum_to(grad_output * other, own.shape) if want else None
            for own, other, want in zip((first, second), (second, first), wanted.inputs, strict=True)
        ), {}


def _sum_to(grad: Array, shape: Shape) -> Array:
    """The gradient of an array of ``shape`` that was repeated to the gradient's."""
    repeated = tuple(axis for axis, (n, m) in enumerate(zip(shape, grad.shape, strict=True)) if n != m)
    return grad.sum(axis=repeated, keepdims=True) if repeated else grad


@dataclass(frozen=True, kw_only=True)
class Concat(Op):
    """Inputs side by side along the channels; all other dimensions agree."""

    @property
    def kind(self) -> str:
        return "concat"

    def infer_shape(self, *input_shapes: Shape) -> Shape:
        if len(input_shapes) < 2 or () in input_shapes or len({shape[1:] for shape in input_shapes}) != 1:
            raise ValueError(
                f"concat takes two or more inputs that differ in channels only, got {list(input_shapes)}"
            )
        return (sum(shape[0] for shape in input_shapes), *input_shapes[0][1:])

    def forward(
        self, inputs: tuple[Array, ...], params: dict[str, Array], context: Context
    ) -> tuple[Array, Any]:
        return np.concatenate(inputs, axis=1), [x.shape[1] for x in inputs]

    def backward(self, grad_output: Array, saved: Any, params: dict[str, Array], wanted: Wanted) -> Gradients:
        parts = np.split(grad_output, np.cumsum(saved)[:-1], axis=1)
        return tuple(
            np.ascontiguousarray(part) if want else None
            for part, want in zip(parts, wanted.inputs, strict=True)
        ), {}
