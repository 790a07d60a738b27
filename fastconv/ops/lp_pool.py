"""Pooling by p-norms."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastconv._arrays import dtype_name
from fastconv._dispatch import run
from fastconv._spec import Shape
from fastconv.ops._base import GLOBAL, Array, Context, Extent, Gradients, Op, Wanted, single
from fastconv.ops.pool import SlidingPool, window_arguments


def _check_p(p: float) -> None:
    if not 1 <= p < math.inf:
        raise ValueError(f"p must be a finite number >= 1, got {p!r}")


def _root_slope(norm: Array, p: float) -> Array:
    """Derivative of a p-norm in the sum below its root, times p; 0 at 0."""
    return np.where(norm > 0, np.where(norm > 0, norm, 1) ** (1 - p), 0)


def _power_slope(x: Array, p: float) -> Array:
    """Derivative of ``|x| ** p``, over p."""
    return np.sign(x) * np.abs(x) ** (p - 1)


@dataclass(frozen=True, kw_only=True)
class LpPool(SlidingPool):
    """``(sum of |x| ** p) ** (1 / p)`` of each window; padding counts as zeros."""

    p: float = 2.0

    def __post_init__(self) -> None:
        _check_p(self.p)

    @classmethod
    def of(
        cls,
        ndim: int,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        p: float = 2.0,
    ) -> LpPool:
        """From integers or tuples; ``stride=None`` is the kernel size."""
        window = window_arguments(ndim, kernel_size, stride, padding, dilation)
        return cls(**window, ceil_mode=bool(ceil_mode), p=float(p))

    @property
    def kind(self) -> str:
        return f"lp_pool{len(self.kernel_size)}d"

    @property
    def _average_options(self) -> tuple[bool, int | None]:
        return True, 1  # the mean over 1 is the sum

    def forward(
        self, inputs: tuple[Array, ...], params: dict[str, Array], context: Context
    ) -> tuple[Array, Any]:
        (x,) = inputs
        spec = self.spec(x.shape, dtype_name(x))
        powers = np.abs(x) ** self.p
        norm = run("avg_pool_forward", spec, powers.reshape(spec.input_shape)) ** (1 / self.p)
        return norm.reshape(self._output_shape(spec)), (spec, x, norm) if context.recording else None

    def backward(self, grad_output: Array, saved: Any, params: dict[str, Array], wanted: Wanted) -> Gradients:
        spec, x, norm = saved
        grad_sum = grad_output.reshape(spec.output_shape) * _root_slope(norm, self.p)
        grad_powers = run("avg_pool_backward", spec, grad_sum)
        return (grad_powers.reshape(x.shape) * _power_slope(x, self.p),), {}


@dataclass(frozen=True, kw_only=True)
class GlobalLpPool(Op):
    """The p-norm over all spatial positions: (C, ...) to (C,), or to (C, 1, ...) with ``keepdims``."""

    p: float = 2.0
    keepdims: bool = False

    def __post_init__(self) -> None:
        _check_p(self.p)

    @property
    def kind(self) -> str:
        return "global_lp_pool"

    def infer_shape(self, *input_shapes: Shape) -> Shape:
        shape = single(input_shapes, self.kind)
        if len(shape) < 2 or 0 in shape:
            raise ValueError(f"{self.kind} takes an input with channels and spatial dimensions, got {shape}")
        return (shape[0],) + (1,) * (len(shape) - 1 if self.keepdims else 0)

    def forward(
        self, inputs: tuple[Array, ...], params: dict[str, Array], context: Context
    ) -> tuple[Array, Any]:
        (x,) = inputs
        flat = x.reshape(*x.shape[:2], -1)
        norm = (np.abs(flat) ** self.p).sum(axis=2) ** (1 / self.p)
        return norm.reshape(len(x), *self.infer_shape(x.shape[1:])), (x, norm) if context.recording else None

    def backward(self, grad_output: Array, saved: Any, params: dict[str, Array], wanted: Wanted) -> Gradients:
        x, norm = saved
        grad_sum = grad_output.reshape(norm.shape) * _root_slope(norm, self.p)
        return (grad_sum.reshape(*norm.shape, *(1,) * (x.ndim - 2)) * _power_slope(x, self.p),), {}

    def window(self, *input_shapes: Shape) -> Extent:
        return GLOBAL
