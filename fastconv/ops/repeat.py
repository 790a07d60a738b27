"""Ops that repeat their input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastconv._spec import Shape, check_size
from fastconv.ops._base import GLOBAL, Array, Context, Extent, Gradients, Op, Wanted, single
from fastconv.ops._broadcast import aligned, broadcast_shape, sum_to


@dataclass(frozen=True, kw_only=True)
class Expand(Op):
    """A sample broadcast together with ``shape``, as NumPy's arrays; a 1 in ``shape`` leaves the axis as it is."""

    shape: Shape

    @property
    def kind(self) -> str:
        return "expand"

    def infer_shape(self, *input_shapes: Shape) -> Shape:
        own = single(input_shapes, self.kind)
        return broadcast_shape((own, self.shape), f"expand to {self.shape}", "only", fits=True)

    def forward(
        self, inputs: tuple[Array, ...], params: dict[str, Array], context: Context
    ) -> tuple[Array, Any]:
        (x,) = inputs
        shape = self.infer_shape(x.shape[1:])
        lined_up, _ = aligned((x, np.empty((1, *(1,) * len(shape)))))
        return np.ascontiguousarray(np.broadcast_to(lined_up, (len(x), *shape))), x.shape

    def backward(self, grad_output: Array, saved: Any, params: dict[str, Array], wanted: Wanted) -> Gradients:
        return (sum_to(grad_output, saved),), {}


@dataclass(frozen=True, kw_only=True)
class Tile(Op):
    """A sample ``repeats`` times side by side, one number for each axis."""

    repeats: Shape

    def __post_init__(self) -> None:
        if any(n < 0 for n in self.repeats):
            raise ValueError(f"repeats must be >= 0, got {self.repeats!r}")

    @property
    def kind(self) -> str:
        return "tile"

    def infer_shape(self, *input_shapes: Shape) -> Shape:
        shape = single(input_shapes, self.kind)
        if len(shape) != len(self.repeats):
            raise ValueError(f"tile by {self.repeats} takes {len(self.repeats)} axes, got {shape}")
        tiled = tuple(n * repeats for n, repeats in zip(shape, self.repeats, strict=True))
        check_size(tiled, "output")
        return tiled

    def forward(
        self, inputs: tuple[Array, ...], params: dict[str, Array], context: Context
    ) -> tuple[Array, Any]:
        (x,) = inputs
        return np.tile(x, (1, *self.repeats)), x.shape

    def backward(self, grad_output: Array, saved: Any, params: dict[str, Array], wanted: Wanted) -> Gradients:
        batch, *shape = saved
        pairs = [n for pair in zip(self.repeats, shape, strict=True) for n in pair]
        turns = tuple(range(1, 2 * len(shape), 2))
        return (grad_output.reshape(batch, *pairs).sum(axis=turns),), {}

    def window(self, *input_shapes: Shape) -> Extent | None:
        return None if set(self.repeats[1:]) <= {1} else GLOBAL
