"""Pooling to a given number of outputs: adaptive pools, and global ones, whose only window is the whole input."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

from fastconv._arrays import dtype_name
from fastconv._dispatch import run
from fastconv._spec import AdaptivePoolSpec, PlaneSpec, Shape, as_int
from fastconv.ops._base import (
    DTYPE_OF_SHAPES,
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


class _PoolTo(Op):
    """Base: what the windows are is up to one subclass, what becomes of them to another."""

    def _spec(self, input_shape: Shape, dtype: str) -> AdaptivePoolSpec:
        """The windows over ``input_shape`` = (N, C, *spatial)."""
        raise NotImplementedError

    def _shaped(self, output: Array, input_shape: Shape) -> Array:
        return output.reshape(input_shape[0], *self.infer_shape(input_shape[1:]))


@dataclass(frozen=True, kw_only=True)
class _Adaptive(_PoolTo):
    """Window i covers ``floor(i * in / out)`` up to ``ceil((i + 1) * in / out)``; an ``out`` of None is ``in``."""

    output_size: tuple[int | None, ...]

    @classmethod
    def of(cls, ndim: int, output_size: Any) -> Self:
        """From an integer or None for all ``ndim`` spatial dimensions, or one of them for each."""
        sizes = tuple(output_size) if isinstance(output_size, (tuple, list)) else (output_size,) * ndim
        if len(sizes) != ndim:
            raise ValueError(f"output_size must be one integer or {ndim}, got {output_size!r}")
        return cls(output_size=tuple(n if n is None else as_int(n, "output_size", 1) for n in sizes))

    def _spec(self, input_shape: Shape, dtype: str) -> AdaptivePoolSpec:
        return AdaptivePoolSpec.from_shape(input_shape, dtype, self.output_size)

    def infer_shape(self, *input_shapes: Shape) -> Shape:
        shape = planes(input_shapes, self.kind, len(self.output_size))
        sizes = self._spec((1, *shape), DTYPE_OF_SHAPES).out_size
        return (shape[0], *sizes[2 - len(self.output_size) :])

    def window(self, *input_shapes: Shape) -> Partition | Extent:
        in_size, out_size = input_shapes[0][1:], self.infer_shape(*input_shapes)[1:]
        return GLOBAL if set(out_size) == {1} else Partition(in_size=in_size, out_size=out_size)


@dataclass(frozen=True, kw_only=True)
class _Global(_PoolTo):
    """One window over all spatial positions: (C, ...) to (C,), or to (C, 1, ...) with ``keepdims``."""

    keepdims: bool = False

    def _spec(self, input_shape: Shape, dtype: str) -> AdaptivePoolSpec:
        plane = (*input_shape[:2], 1, math.prod(input_shape[2:]))
        return AdaptivePoolSpec.from_shape(plane, dtype, 1)

    def infer_shape(self, *input_shapes: Shape) -> Shape:
        shape = single(input_shapes, self.kind)
        if len(shape) < 2 or 0 in shape:
            raise ValueError(f"{self.kind} takes an input with channels and spatial dimensions, got {shape}")
        return (shape[0],) + (1,) * (len(shape) - 1 if self.keepdims else 0)

    def window(self, *input_shapes: Shape) -> Extent:
        return GLOBAL


class _Mean(_PoolTo):
    """The mean of each window."""

    def forward(
        self, inputs: tuple[Array, ...], params: dict[str, Array], context: Context
    ) -> tuple[Array, Any]:
        (x,) = inputs
        spec = self._spec(x.shape, dtype_name(x))
        output = run("adaptive_avg_pool_forward", spec, x.reshape(spec.input_shape))
        return self._shaped(output, x.shape), (spec, x.shape) if context.recording else None

    def backward(self, grad_output: Array, saved: Any, params: dict[str, Array], wanted: Wanted) -> Gradients:
        spec, input_shape = saved
        grad_input = run("adaptive_avg_pool_backward", spec, grad_output.reshape(spec.output_shape))
        return (grad_input.reshape(input_shape),), {}


class _Maximum(_PoolTo):
    """The maximum of each window; the first of equal maxima takes the gradient."""

    def forward(
        self, inputs: tuple[Array, ...], params: dict[str, Array], context: Context
    ) -> tuple[Array, Any]:
        (x,) = inputs
        spec = self._spec(x.shape, dtype_name(x))
        output, indices = run("adaptive_max_pool_forward", spec, x.reshape(spec.input_shape))
        return self._shaped(output, x.shape), (x.shape, indices) if context.recording else None

    def backward(self, grad_output: Array, saved: Any, params: dict[str, Array], wanted: Wanted) -> Gradients:
        input_shape, indices = saved
        batch, channels, *out_size = indices.shape
        spec = PlaneSpec(
            batch=batch,
            channels=channels,
            in_plane=math.prod(out_size),
            out_plane=math.prod(input_shape[2:]),
            accumulate=True,
            dtype=dtype_name(grad_output),
        )
        flat = (batch, channels, spec.in_plane)
        grad_input = run("scatter_planes", spec, grad_output.reshape(flat), indices.reshape(flat))
        return (grad_input.reshape(input_shape),), {}


class AdaptiveAvgPool(_Mean, _Adaptive):
    """Mean over as many windows as asked for."""

    @property
    def kind(self) -> str:
        return f"adaptive_avg_pool{len(self.output_size)}d"


class AdaptiveMaxPool(_Maximum, _Adaptive):
    """Maximum of as many windows as asked for."""

    @property
    def kind(self) -> str:
        return f"adaptive_max_pool{len(self.output_size)}d"


class GlobalAvgPool(_Mean, _Global):
    """Mean over all spatial positions."""

    @property
    def kind(self) -> str:
        return "global_avg_pool"


class GlobalMaxPool(_Maximum, _Global):
    """Maximum over all spatial positions."""

    @property
    def kind(self) -> str:
        return "global_max_pool"
