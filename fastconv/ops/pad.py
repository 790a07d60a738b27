"""Padding and cropping."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastconv._arrays import dtype_name
from fastconv._dispatch import run
from fastconv._spec import PAD_MODES, PadSpec, Shape
from fastconv.ops._base import DTYPE_OF_SHAPES, Array, Context, Gradients, Op, Wanted, Window, single


@dataclass(frozen=True, kw_only=True)
class Pad(Op):
    """More elements at the sides; negative sides crop, in mode ``"constant"``.

    ``padding`` is one integer for both sides of every spatial dimension, or (low, high) of the last dimension,
    then of the one before, and so on.
    """

    padding: int | Shape
    mode: str = "constant"
    value: float = 0.0

    def __post_init__(self) -> None:
        if self.mode not in PAD_MODES:
            raise ValueError(f"mode must be one of {PAD_MODES}, got {self.mode!r}")

    @property
    def kind(self) -> str:
        return "pad"

    def _spec(self, input_shape: Shape, dtype: str) -> PadSpec:
        spatial = 2 * (len(input_shape) - 2)  # sides
        sides = (self.padding,) * spatial if isinstance(self.padding, int) else self.padding
        if not 0 < len(sides) <= spatial + 2 or len(sides) % 2:
            raise ValueError(
                f"padding must be one integer or (low, high) pairs, at most one for each dimension of a sample, "
                f"last first, got {self.padding!r} for an input {input_shape[1:]}"
            )
        sides += (0,) * (spatial - len(sides))
        return PadSpec.from_shape(input_shape, sides, self.mode, self.value or None, dtype)

    def infer_shape(self, *input_shapes: Shape) -> Shape:
        shape = single(input_shapes, self.kind)
        return self._output_shape(self._spec((1, *shape), DTYPE_OF_SHAPES), (1, *shape))[1:]

    @staticmethod
    def _output_shape(spec: PadSpec, input_shape: Shape) -> Shape:
        return input_shape[: len(input_shape) - len(spec.in_shape)] + spec.out_shape

    def forward(
        self, inputs: tuple[Array, ...], params: dict[str, Array], context: Context
    ) -> tuple[Array, Any]:
        (x,) = inputs
        spec = self._spec(x.shape, dtype_name(x))
        output = run("pad", spec, x.reshape(spec.outer, *spec.in_shape))
        return output.reshape(self._output_shape(spec, x.shape)), (
            spec,
            x.shape,
        ) if context.recording else None

    def backward(self, grad_output: Array, saved: Any, params: dict[str, Array], wanted: Wanted) -> Gradients:
        spec, input_shape = saved
        grad_input = run("pad_backward", spec, grad_output.reshape(spec.outer, *spec.out_shape))
        return (grad_input.reshape(input_shape),), {}

    def window(self, *input_shapes: Shape) -> Window:
        (shape,) = input_shapes
        ndim = len(shape) - 1
        spec = self._spec((1, *shape), DTYPE_OF_SHAPES)
        channels = len(spec.lo) - ndim  # they, too, may be padded, but are no part of a window
        ones = (1,) * ndim
        return Window(
            kernel=ones, stride=ones, pad_lo=spec.lo[channels:], pad_hi=spec.hi[channels:], dilation=ones
        )
