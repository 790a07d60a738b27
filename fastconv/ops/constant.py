"""Values that no input reaches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastconv._spec import Shape
from fastconv.ops._base import Array, Context, Gradients, Op, Wanted


@dataclass(frozen=True, kw_only=True)
class Constant(Op):
    """A parameter ``value`` of ``shape`` as a node: the same for all samples, so its array has a batch axis of 1.

    Training moves it unless it is frozen.
    """

    shape: Shape

    @property
    def kind(self) -> str:
        return "constant"

    def infer_shape(self, *input_shapes: Shape) -> Shape:
        if input_shapes:
            raise ValueError(f"constant takes no input, got {len(input_shapes)}")
        return self.shape

    def param_shapes(self, *input_shapes: Shape) -> dict[str, Shape]:
        return {"value": self.shape}

    def forward(
        self, inputs: tuple[Array, ...], params: dict[str, Array], context: Context
    ) -> tuple[Array, Any]:
        return params["value"][None], None

    def backward(self, grad_output: Array, saved: Any, params: dict[str, Array], wanted: Wanted) -> Gradients:
        return (), {"value": grad_output.sum(axis=0)} if wanted.params else {}
