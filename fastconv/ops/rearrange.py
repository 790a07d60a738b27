"""Ops that put the elements of a sample in another order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from fastconv._spec import Shape
from fastconv.ops._base import (
    GLOBAL,
    Array,
    Context,
    Extent,
    Gradients,
    Op,
    Partition,
    Wanted,
    planes,
    single,
)


@dataclass(frozen=True, kw_only=True)
class Transpose(Op):
    """Axis i of the result is axis ``perm[i]`` of the input, counted in a sample."""

    perm: Shape

    def __post_init__(self) -> None:
        if sorted(self.perm) != list(range(len(self.perm))):
            raise ValueError(f"perm must hold each axis of a sample once, from 0 on, got {self.perm!r}")

    @property
    def kind(self) -> str:
        return "transpose"

    def infer_shape(self, *input_shapes: Shape) -> Shape:
        shape = single(input_shapes, self.kind)
        if len(shape) != len(self.perm):
            raise ValueError(f"transpose by {self.perm} takes {len(self.perm)} axes, got {shape}")
        return tuple(shape[axis] for axis in self.perm)

    def forward(
        self, inputs: tuple[Array, ...], params: dict[str, Array], context: Context
    ) -> tuple[Array, Any]:
        return _transposed(inputs[0], self.perm), None

    def backward(self, grad_output: Array, saved: Any, params: dict[str, Array], wanted: Wanted) -> Gradients:
        inverse = tuple(self.perm.index(axis) for axis in range(len(self.perm)))
        return (_transposed(grad_output, inverse),), {}

    def window(self, *input_shapes: Shape) -> Extent | None:
        return None if self.perm == tuple(range(len(self.perm))) else GLOBAL


def _transposed(x: Array, perm: Shape) -> Array:
    return np.ascontiguousarray(x.transpose(0, *(axis + 1 for axis in perm)))


# whether channels are counted (position in the square, rest) or (rest, position in the square)
BLOCK_MODES: Final = ("DCR", "CRD")


class _Blocks(Op):
    """Base of the two ways between squares of pixels and channels."""

    block: int
    mode: str

    def __post_init__(self) -> None:
        if self.block < 1:
            raise ValueError(f"block must be >= 1, got {self.block!r}")
        if self.mode not in BLOCK_MODES:
            raise ValueError(f"mode must be one of {BLOCK_MODES}, got {self.mode!r}")

    def window(self, *input_shapes: Shape) -> Partition:
        return Partition(in_size=input_shapes[0][1:], out_size=self.infer_shape(*input_shapes)[1:])

    def _to_space(self, x: Array) -> Array:
        batch, channels, height, width = x.shape
        b, rest = self.block, channels // self.block**2
        if self.mode == "DCR":
            split = x.reshape(batch, b, b, rest, height, width).transpose(0, 3, 4, 1, 5, 2)
        else:
            split = x.reshape(batch, rest, b, b, height, width).transpose(0, 1, 4, 2, 5, 3)
        return split.reshape(batch, rest, height * b, width * b)

    def _to_depth(self, x: Array) -> Array:
        batch, channels, height, width = x.shape
        b = self.block
        split = x.reshape(batch, channels, height // b, b, width // b, b)
        order = (0, 3, 5, 1, 2, 4) if self.mode == "DCR" else (0, 1, 3, 5, 2, 4)
        return split.transpose(order).reshape(batch, channels * b * b, height // b, width // b)


@dataclass(frozen=True, kw_only=True)
class DepthToSpace(_Blocks):
    """(C * block**2, H, W) to (C, H * block, W * block).

    The channels are the positions in a square one after the other, each with C channels, in mode ``"DCR"``; in mode
    ``"CRD"`` (PyTorch's pixel shuffle) they are C times the positions.
    """

    block: int
    mode: str = "DCR"

    @property
    def kind(self) -> str:
        return "depth_to_space"

    def infer_shape(self, *input_shapes: Shape) -> Shape:
        channels, height, width = planes(input_shapes, self.kind, 2)
        if channels % self.block**2:
            raise ValueError(
                f"depth_to_space by {self.block} takes a multiple of {self.block**2} channels, got {channels}"
            )
        return (channels // self.block**2, height * self.block, width * self.block)

    def forward(
        self, inputs: tuple[Array, ...], params: dict[str, Array], context: Context
    ) -> tuple[Array, Any]:
        return self._to_space(inputs[0]), None

    def backward(self, grad_output: Array, saved: Any, params: dict[str, Array], wanted: Wanted) -> Gradients:
        return (self._to_depth(grad_output),), {}


@dataclass(frozen=True, kw_only=True)
class SpaceToDepth(_Blocks):
    """(C, H, W) to (C * block**2, H / block, W / block): the inverse of :class:`DepthToSpace` of that mode."""

    block: int
    mode: str = "DCR"

    @property
    def kind(self) -> str:
        return "space_to_depth"

    def infer_shape(self, *input_shapes: Shape) -> Shape:
        channels, height, width = planes(input_shapes, self.kind, 2)
        if height % self.block or width % self.block:
            raise ValueError(
                f"space_to_depth by {self.block} takes sides that are multiples of it, got {(height, width)}"
            )
        return (channels * self.block**2, height // self.block, width // self.block)

    def forward(
        self, inputs: tuple[Array, ...], params: dict[str, Array], context: Context
    ) -> tuple[Array, Any]:
        return self._to_depth(inputs[0]), None

    def backward(self, grad_output: Array, saved: Any, params: dict[str, Array], wanted: Wanted) -> Gradients:
        return (self._to_space(grad_output),), {}
