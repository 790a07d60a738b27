"""Truth values, and the choice between inputs that they make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from fastconv._spec import Shape
from fastconv.ops._base import Array, Context, Gradients, Op, Wanted
from fastconv.ops._broadcast import aligned, broadcast_shape, sum_to

_COMPARISONS: Final = {
    "equal": np.equal,
    "not_equal": np.not_equal,
    "greater": np.greater,
    "less": np.less,
    "greater_or_equal": np.greater_equal,
    "less_or_equal": np.less_equal,
    "and": np.logical_and,
    "or": np.logical_or,
    "xor": np.logical_xor,
}


@dataclass(frozen=True, kw_only=True)
class Compare(Op):
    """Whether two inputs, element by element, are as ``function`` says; truth values, which have no gradient."""

    function: str

    def __post_init__(self) -> None:
        if self.function not in _COMPARISONS:
            raise ValueError(f"function must be one of {tuple(_COMPARISONS)}, got {self.function!r}")

    @property
    def kind(self) -> str:
        return self.function

    def infer_shape(self, *input_shapes: Shape) -> Shape:
        return broadcast_shape(input_shapes, self.kind, "two", len(input_shapes) == 2)

    def forward(
        self, inputs: tuple[Array, ...], params: dict[str, Array], context: Context
    ) -> tuple[Array, Any]:
        return _COMPARISONS[self.function](*aligned(inputs)), None

    def backward(self, grad_output: Array, saved: Any, params: dict[str, Array], wanted: Wanted) -> Gradients:
        return (None, None), {}


@dataclass(frozen=True, kw_only=True)
class Where(Op):
    """The second input where the first is true (not 0), else the third; no gradient reaches the first."""

    @property
    def kind(self) -> str:
        return "where"

    def infer_shape(self, *input_shapes: Shape) -> Shape:
        return broadcast_shape(input_shapes, self.kind, "three", len(input_shapes) == 3)

    def forward(
        self, inputs: tuple[Array, ...], params: dict[str, Array], context: Context
    ) -> tuple[Array, Any]:
        condition, a, b = aligned(inputs)
        truth = condition.astype(bool, copy=False)
        saved = (truth, inputs[1].shape, inputs[2].shape) if context.recording else None
        return np.ascontiguousarray(np.where(truth, a, b)), saved

    def backward(self, grad_output: Array, saved: Any, params: dict[str, Array], wanted: Wanted) -> Gradients:
        truth, *shapes = saved
        grads = (
            sum_to(np.where(chosen, grad_output, grad_output.dtype.type(0)), shape) if want else None
            for chosen, shape, want in zip((truth, ~truth), shapes, wanted.inputs[1:], strict=True)
        )
        return (None, *grads), {}
