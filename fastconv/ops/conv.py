"""Convolution in one to three spatial dimensions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from fastconv._arrays import dtype_name
from fastconv._dispatch import plan, run
from fastconv._spec import ChannelSpec, ConvSpec, Shape, as_int, as_int_tuple, resolve_padding
from fastconv.ops._base import DTYPE_OF_SHAPES, Array, Context, Gradients, Op, Wanted, Window, planes

Pads = tuple[tuple[int, int], ...]  # (low, high) of each spatial dimension


@dataclass(frozen=True, kw_only=True)
class Conv(Op):
    """Cross-correlation with ``weight`` (K, C/groups, *kernel) and an optional ``bias`` (K,).

    Build it with :meth:`of`, which accepts what the functional form accepts.
    """

    out_channels: int
    kernel_size: Shape
    stride: Shape
    padding: Pads
    dilation: Shape
    groups: int
    bias: bool

    @classmethod
    def of(
        cls,
        ndim: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> Conv:
        """From integers, tuples, ``"same"`` and ``"valid"``, over ``ndim`` spatial dimensions."""
        out_channels, groups = as_int(out_channels, "out_channels"), as_int(groups, "groups")
        if out_channels < 1 or groups < 1 or out_channels % groups:
            raise ValueError(
                f"out_channels must be a positive multiple of groups, got {out_channels} and groups {groups}"
            )
        kernel = as_int_tuple(kernel_size, ndim, "kernel_size", 1)
        steps = as_int_tuple(stride, ndim, "stride", 1)
        spread = as_int_tuple(dilation, ndim, "dilation", 1)
        low, high = resolve_padding(padding, ndim, kernel, steps, spread)
        return cls(
            out_channels=out_channels,
            kernel_size=kernel,
            stride=steps,
            padding=tuple(zip(low, high, strict=True)),
            dilation=spread,
            groups=groups,
            bias=bool(bias),
        )

    @property
    def kind(self) -> str:
        return f"conv{len(self.kernel_size)}d"

    def _spec(self, input_shape: Shape, dtype: str) -> ConvSpec:
        weight_shape = (self.out_channels, input_shape[1] // self.groups, *self.kernel_size)
        return ConvSpec.from_shapes(
            input_shape, weight_shape, dtype, self.stride, self.padding, self.dilation, self.groups
        )

    def _sample_spec(self, input_shapes: tuple[Shape, ...]) -> ConvSpec:
        shape = planes(input_shapes, self.kind, len(self.kernel_size))
        if shape[0] == 0 or shape[0] % self.groups:
            raise ValueError(
                f"input channels must be a positive multiple of groups, got {shape[0]} and groups "
                f"{self.groups}"
            )
        return self._spec((1, *shape), DTYPE_OF_SHAPES)

    def infer_shape(self, *input_shapes: Shape) -> Shape:
        return self._sample_spec(input_shapes).output_shape[1:]

    def param_shapes(self, *input_shapes: Shape) -> dict[str, Shape]:
        shapes: dict[str, Shape] = {"weight": self._sample_spec(input_shapes).weight_shape}
        if self.bias:
            shapes["bias"] = (self.out_channels,)
        return shapes

    def forward(
        self, inputs: tuple[Array, ...], params: dict[str, Array], context: Context
    ) -> tuple[Array, Any]:
        (x,) = inputs
        spec = self._spec(x.shape, dtype_name(x))
        output = run("conv_forward", spec, x, params["weight"], params.get("bias"), None)
        return output, (spec, x) if context.recording else None

    def backward(self, grad_output: Array, saved: Any, params: dict[str, Array], wanted: Wanted) -> Gradients:
        spec, x = saved
        grad_params = {}
        if wanted.params:
            grad_params["weight"] = run("conv_weight_grad", spec, x, grad_output)
            if self.bias:
                grad_params["bias"] = channel_sum(grad_output)
        grad_input = None
        if wanted.inputs[0]:
            grad_input = run("conv_input_grad", spec, grad_output, params["weight"], None, None)
        return (grad_input,), grad_params

    def window(self) -> Window:
        return Window(
            kernel=self.kernel_size,
            stride=self.stride,
            pad_lo=tuple(low for low, _ in self.padding),
            pad_hi=tuple(high for _, high in self.padding),
            dilation=self.dilation,
        )

    def macs(self, *input_shapes: Shape) -> int:
        return self._sample_spec(input_shapes).macs


def channel_sum(x: Array) -> Array:
    """Sum of (N, C, ...) over all axes but the channels: the gradient of a bias."""
    batch, channels, *rest = x.shape
    view = (batch, channels, math.prod(rest))
    return plan("channel_sum", ChannelSpec.of, *view, x.dtype).run(x.reshape(view))
