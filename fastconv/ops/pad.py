"""Padding and cropping."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from fastconv._arrays import dtype_name
from fastconv._dispatch import run
from fastconv._spec import PAD_MODES, PadSpec, Shape, check_size
from fastconv.ops._axes import scatter_add
from fastconv.ops._base import Array, Context, Gradients, Op, Wanted, Window, single

_NUMPY_MODES: Final[dict[str, Literal["reflect", "edge", "wrap"]]] = {
    "reflect": "reflect",
    "replicate": "edge",
    "circular": "wrap",
}
_KERNEL_AXES: Final = 3  # at most, that the kernels pad


@dataclass(frozen=True, kw_only=True)
class Pad(Op):
    """More elements at the sides; negative sides crop.

    ``padding`` is one integer for both sides of every spatial dimension, or (low, high) of the last dimension of a
    sample, then of the one before, and so on.  ``mode`` is ``"constant"`` (``value``), ``"reflect"``, ``"replicate"``
    (NumPy's and ONNX's "edge") or ``"circular"`` ("wrap").
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

    def sides(self, shape: Shape) -> list[tuple[int, int]]:
        """(low, high) of each axis of a sample."""
        spatial = len(shape) - 1
        sides = (self.padding,) * (2 * spatial) if isinstance(self.padding, int) else self.padding
        if not 0 < len(sides) <= 2 * len(shape) or len(sides) % 2:
            raise ValueError(
                f"padding must be one integer or (low, high) pairs, at most one for each dimension of a sample, "
                f"last first, got {self.padding!r} for an input {shape}"
            )
        sides += (0,) * (2 * len(shape) - len(sides))
        return list(zip(sides[-2::-2], sides[::-2], strict=True))

    def infer_shape(self, *input_shapes: Shape) -> Shape:
        shape = single(input_shapes, self.kind)
        padded = []
        for n, (low, high) in zip(shape, self.sides(shape), strict=True):
            most = {"reflect": n - 1, "circular": n}.get(self.mode, math.inf)
            if (low > 0 or high > 0) and self.mode != "constant" and (n < 1 or max(low, high) > most):
                raise ValueError(
                    f"mode {self.mode!r} pads size {n} by 0 to {most} on each side, got ({low}, {high})"
                )
            if n + min(low, 0) + min(high, 0) < 0:
                raise ValueError(f"an axis cannot be cropped below 0, got size {n} and pad ({low}, {high})")
            padded.append(n + low + high)
        check_size(tuple(padded), "output")
        return tuple(padded)

    def _spec(self, x_shape: Shape, dtype: str) -> PadSpec | None:
        """What a kernel is to do; None where none serves the mode on these axes."""
        sides = self.sides(x_shape[1:])
        if self.mode != "constant":
            served = sides[0] == (0, 0) and 2 <= len(sides) <= 4 and min(map(min, sides)) >= 0
            if not served:
                return None
            sides = sides[1:]
        else:
            while len(sides) > 1 and sides[0] == (0, 0):
                sides = sides[1:]
            if len(sides) > _KERNEL_AXES:
                return None
        flat = [side for pair in reversed(sides) for side in pair]
        return PadSpec.from_shape(x_shape, flat, self.mode, self.value or None, dtype)

    def _sources(self, shape: Shape) -> list[tuple[int, NDArray[np.intp]]]:
        """(axis of the array, position that each position of the result is taken from) of the axes that change."""
        found = []
        for axis, (n, (low, high)) in enumerate(zip(shape, self.sides(shape), strict=True), start=1):
            if low or high:
                grown = np.pad(
                    np.arange(n, dtype=np.intp), (max(low, 0), max(high, 0)), _NUMPY_MODES[self.mode]
                )
                found.append((axis, grown[max(-low, 0) : len(grown) - max(-high, 0)]))
        return found

    def forward(
        self, inputs: tuple[Array, ...], params: dict[str, Array], context: Context
    ) -> tuple[Array, Any]:
        (x,) = inputs
        spec = self._spec(x.shape, dtype_name(x))
        if spec is None and self.mode == "constant":
            output = _with_sides(x, self.sides(x.shape[1:]), self.value)
        elif spec is None:
            output = x
            for axis, positions in self._sources(x.shape[1:]):
                output = output.take(positions, axis)
        else:
            padded = run("pad", spec, x.reshape(spec.outer, *spec.in_shape))
            output = padded.reshape(len(x), *self.infer_shape(x.shape[1:]))
        return output, (spec, x.shape) if context.recording else None

    def backward(self, grad_output: Array, saved: Any, params: dict[str, Array], wanted: Wanted) -> Gradients:
        spec, input_shape = saved
        if spec is None and self.mode == "constant":
            opposite = [(-low, -high) for low, high in self.sides(input_shape[1:])]
            return (_with_sides(grad_output, opposite, 0.0),), {}
        if spec is None:
            grad_input = grad_output
            for axis, positions in self._sources(input_shape[1:]):
                grad_input = scatter_add(grad_input, positions, input_shape[axis], axis)
            return (grad_input,), {}
        grad_input = run("pad_backward", spec, grad_output.reshape(spec.outer, *spec.out_shape))
        return (grad_input.reshape(input_shape),), {}

    def window(self, *input_shapes: Shape) -> Window:
        (shape,) = input_shapes
        sides = self.sides(shape)[1:]  # channels, too, may be padded, but are no part of a window
        ones = (1,) * len(sides)
        return Window(
            kernel=ones,
            stride=ones,
            pad_lo=tuple(low for low, _ in sides),
            pad_hi=tuple(high for _, high in sides),
            dilation=ones,
        )


def _with_sides(x: Array, sides: list[tuple[int, int]], value: float) -> Array:
    """A batch with constant or cropped sides, of any number of axes."""
    inner = tuple(
        slice(max(-low, 0), n - max(-high, 0)) for n, (low, high) in zip(x.shape[1:], sides, strict=True)
    )
    more = [(max(low, 0), max(high, 0)) for low, high in sides]
    padded: Array = np.pad(x[(slice(None), *inner)], [(0, 0), *more], constant_values=value)
    return padded
