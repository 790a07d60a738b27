"""Pooling by a sliding window."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from fastconv._arrays import dtype_name
from fastconv._dispatch import run
from fastconv._spec import PoolSpec, Shape, as_int, as_int_tuple
from fastconv.ops._base import (
    DTYPE_OF_SHAPES,
    Array,
    Context,
    Gradients,
    Op,
    Wanted,
    Window,
    planes,
)

_LARGEST_BYTE_WINDOW = 256  # offsets 0..255 inside the window fit in one byte


@dataclass(frozen=True, kw_only=True)
class SlidingPool(Op):
    """What max- and average-pooling share.  One-dimensional pools run as planes of height 1."""

    kernel_size: Shape
    stride: Shape
    padding: Shape
    dilation: Shape
    ceil_mode: bool

    @property
    def _average_options(self) -> tuple[bool, int | None]:
        return True, None  # count_include_pad, divisor_override

    def spec(self, input_shape: Shape, dtype: str) -> PoolSpec:
        return PoolSpec.from_shape(
            input_shape,
            dtype,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            self.ceil_mode,
            *self._average_options,
        )

    def infer_shape(self, *input_shapes: Shape) -> Shape:
        shape = planes(input_shapes, self.kind, len(self.kernel_size))
        return self._output_shape(self.spec((1, *shape), DTYPE_OF_SHAPES))[1:]

    def _output_shape(self, spec: PoolSpec) -> Shape:
        return (spec.batch, spec.channels, *spec.out_size[2 - len(self.kernel_size) :])

    def window(self, *input_shapes: Shape) -> Window:
        return Window(
            kernel=self.kernel_size,
            stride=self.stride,
            pad_lo=self.padding,
            pad_hi=self.padding,
            dilation=self.dilation,
        )


def window_arguments(
    ndim: int, kernel_size: Any, stride: Any, padding: Any, dilation: Any
) -> dict[str, Shape]:
    kernel = as_int_tuple(kernel_size, ndim, "kernel_size", 1)
    return {
        "kernel_size": kernel,
        "stride": kernel if stride is None else as_int_tuple(stride, ndim, "stride", 1),
        "padding": as_int_tuple(padding, ndim, "padding", 0),
        "dilation": as_int_tuple(dilation, ndim, "dilation", 1),
    }


@dataclass(frozen=True, kw_only=True)
class MaxPool(SlidingPool):
    """Maximum of each window; the first of equal maxima takes the gradient, padding never wins."""

    @classmethod
    def of(
        cls,
        ndim: int,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
    ) -> MaxPool:
        """From integers or tuples; ``stride=None`` is the kernel size."""
        window = window_arguments(ndim, kernel_size, stride, padding, dilation)
        return cls(**window, ceil_mode=bool(ceil_mode))

    @property
    def kind(self) -> str:
        return f"max_pool{len(self.kernel_size)}d"

    def forward(
        self, inputs: tuple[Array, ...], params: dict[str, Array], context: Context
    ) -> tuple[Array, Any]:
        (x,) = inputs
        spec = self.spec(x.shape, dtype_name(x))
        index_dtype = None
        if context.recording:
            # the backward pass then needs one byte per output instead of the input
            index_dtype = "uint8" if math.prod(self.kernel_size) <= _LARGEST_BYTE_WINDOW else "int64"
        output, indices = run("max_pool_forward", spec, x.reshape(spec.input_shape), index_dtype)
        return output.reshape(self._output_shape(spec)), (
            spec,
            x.shape,
            indices,
        ) if context.recording else None

    def backward(self, grad_output: Array, saved: Any, params: dict[str, Array], wanted: Wanted) -> Gradients:
        spec, input_shape, indices = saved
        grad_input = run("max_pool_backward", spec, grad_output.reshape(spec.output_shape), indices)
        return (grad_input.reshape(input_shape),), {}


@dataclass(frozen=True, kw_only=True)
class AvgPool(SlidingPool):
    """Mean of each window; ``count_include_pad`` lets padding zeros count as elements."""

    count_include_pad: bool
    divisor_override: int | None

    @classmethod
    def of(
        cls,
        ndim: int,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> AvgPool:
        """From integers or tuples; ``stride=None`` is the kernel size."""
        window = window_arguments(ndim, kernel_size, stride, padding, 1)
        return cls(
            **window,
            ceil_mode=bool(ceil_mode),
            count_include_pad=bool(count_include_pad),
            divisor_override=None
            if divisor_override is None
            else as_int(divisor_override, "divisor_override"),
        )

    @property
    def kind(self) -> str:
        return f"avg_pool{len(self.kernel_size)}d"

    @property
    def _average_options(self) -> tuple[bool, int | None]:
        return self.count_include_pad, self.divisor_override

    def forward(
        self, inputs: tuple[Array, ...], params: dict[str, Array], context: Context
    ) -> tuple[Array, Any]:
        (x,) = inputs
        spec = self.spec(x.shape, dtype_name(x))
        output = run("avg_pool_forward", spec, x.reshape(spec.input_shape))
        return output.reshape(self._output_shape(spec)), (spec, x.shape) if context.recording else None

    def backward(self, grad_output: Array, saved: Any, params: dict[str, Array], wanted: Wanted) -> Gradients:
        spec, input_shape = saved
        grad_input = run("avg_pool_backward", spec, grad_output.reshape(spec.output_shape))
        return (grad_input.reshape(input_shape),), {}
