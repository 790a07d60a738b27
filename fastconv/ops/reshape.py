"""Ops that only change the shape."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from fastconv._spec import Shape
from fastconv.ops._base import GLOBAL, Array, Context, Extent, Gradients, Op, Wanted, single


@dataclass(frozen=True, kw_only=True)
class Reshape(Op):
    """The elements of a sample, in order, in another shape; ``shape`` None makes them flat."""

    shape: Shape | None = None

    @property
    def kind(self) -> str:
        return "flatten" if self.shape is None else "reshape"

    def infer_shape(self, *input_shapes: Shape) -> Shape:
        shape = single(input_shapes, self.kind)
        if self.shape is None:
            return (math.prod(shape),)
        if math.prod(shape) != math.prod(self.shape):
            raise ValueError(f"reshape to {self.shape} keeps the number of elements, got input {shape}")
        return self.shape

    def forward(
        self, inputs: tuple[Array, ...], params: dict[str, Array], context: Context
    ) -> tuple[Array, Any]:
        (x,) = inputs
        return x.reshape(x.shape[0], *self.infer_shape(x.shape[1:])), x.shape

    def backward(self, grad_output: Array, saved: Any, params: dict[str, Array], wanted: Wanted) -> Gradients:
        return (grad_output.reshape(saved),), {}

    def window(self, *input_shapes: Shape) -> Extent:
        return GLOBAL
