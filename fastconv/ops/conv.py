"""Convolution in one to three spatial dimensions, and its transpose."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from fastconv._arrays import dtype_name
from fastconv._dispatch import plan, run
from fastconv._spec import ChannelSpec, ConvSpec, Shape, as_int, as_int_tuple, resolve_padding
from fastconv.ops._base import DTYPE_OF_SHAPES, Array, Context, Gradients, Op, Wanted, Window, planes

Pads = tuple[tuple[int, int], ...]  # (low, high) of each spatial dimension


@dataclass(frozen=True, kw_only=True)
class _Convolution(Op):
    """What a convolution and its transpose share.

    Both are described by the spec of a convolution; the transposed one runs it from its output to its input.
    """

    out_channels: int
    kernel_size: Shape
    stride: Shape
    padding: Pads
    dilation: Shape
    groups: int
    bias: bool

    _ahead: ClassVar[str]  # the kernels from input to output, and from its gradient to the input's
    _back: ClassVar[str]

    def __post_init__(self) -> None:
        if self.out_channels < 1 or self.groups < 1 or self.out_channels % self.groups:
            raise ValueError(
                f"out_channels must be a positive multiple of groups, got {self.out_channels} and groups "
                f"{self.groups}"
            )

    def spec(self, input_shape: Shape, dtype: str) -> ConvSpec:
        """The convolution that runs forwards or backwards; ``input_shape`` is (N, C, *spatial)."""
        raise NotImplementedError

    def _in_order(self, x: Array, grad_output: Array) -> tuple[Array, Array]:
        """The two as input and output of the convolution."""
        raise NotImplementedError

    def _sample_spec(self, input_shapes: tuple[Shape, ...]) -> ConvSpec:
        shape = planes(input_shapes, self.kind, len(self.kernel_size))
        if shape[0] == 0 or shape[0] % self.groups:
            raise ValueError(
                f"input channels must be a positive multiple of groups, got {shape[0]} and groups "
                f"{self.groups}"
            )
        return self.spec((1, *shape), DTYPE_OF_SHAPES)

    def param_shapes(self, *input_shapes: Shape) -> dict[str, Shape]:
        shapes: dict[str, Shape] = {"weight": self._sample_spec(input_shapes).weight_shape}
        if self.bias:
            shapes["bias"] = (self.out_channels,)
        return shapes

    def forward(
        self, inputs: tuple[Array, ...], params: dict[str, Array], context: Context
    ) -> tuple[Array, Any]:
        (x,) = inputs
        spec = self.spec(x.shape, dtype_name(x))
        output = run(self._ahead, spec, x, params["weight"], params.get("bias"), None)
        return output, (spec, x) if context.recording else None

    def backward(self, grad_output: Array, saved: Any, params: dict[str, Array], wanted: Wanted) -> Gradients:
        spec, x = saved
        grad_params = {}
        if wanted.params:
            grad_params["weight"] = run("conv_weight_grad", spec, *self._in_order(x, grad_output))
            if self.bias:
                grad_params["bias"] = channel_sum(grad_output)
        grad_input = None
        if wanted.inputs[0]:
            grad_input = run(self._back, spec, grad_output, params["weight"], None, None)
        return (grad_input,), grad_params

    def macs(self, *input_shapes: Shape) -> int:
        return self._sample_spec(input_shapes).macs


def _geometry(ndim: int, kernel_size: Any, stride: Any, padding: Any, dilation: Any) -> dict[str, Any]:
    kernel = as_int_tuple(kernel_size, ndim, "kernel_size", 1)
    steps = as_int_tuple(stride, ndim, "stride", 1)
    spread = as_int_tuple(dilation, ndim, "dilation", 1)
    low, high = resolve_padding(padding, ndim, kernel, steps, spread)
    return {
        "kernel_size": kernel,
        "stride": steps,
        "padding": tuple(zip(low, high, strict=True)),
        "dilation": spread,
    }


@dataclass(frozen=True, kw_only=True)
class Conv(_Convolution):
    """Cross-correlation with ``weight`` (K, C/groups, *kernel) and an optional ``bias`` (K,).

    Build it with :meth:`of`, which accepts what the functional form accepts.
    """

    _ahead, _back = "conv_forward", "conv_input_grad"

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
        return cls(
            out_channels=as_int(out_channels, "out_channels"),
            groups=as_int(groups, "groups"),
            bias=bool(bias),
            **_geometry(ndim, kernel_size, stride, padding, dilation),
        )

    @property
    def kind(self) -> str:
        return f"conv{len(self.kernel_size)}d"

    def spec(self, input_shape: Shape, dtype: str) -> ConvSpec:
        weight_shape = (self.out_channels, input_shape[1] // self.groups, *self.kernel_size)
        return ConvSpec.from_shapes(
            input_shape, weight_shape, dtype, self.stride, self.padding, self.dilation, self.groups
        )

    def _in_order(self, x: Array, grad_output: Array) -> tuple[Array, Array]:
        return x, grad_output

    def infer_shape(self, *input_shapes: Shape) -> Shape:
        return self._sample_spec(input_shapes).output_shape[1:]

    def window(self, *input_shapes: Shape) -> Window:
        return Window(
            kernel=self.kernel_size,
            stride=self.stride,
            pad_lo=tuple(low for low, _ in self.padding),
            pad_hi=tuple(high for _, high in self.padding),
            dilation=self.dilation,
        )


@dataclass(frozen=True, kw_only=True)
class ConvTranspose(_Convolution):
    """The adjoint of :class:`Conv` in its input: ``weight`` (C, K/groups, *kernel), optional ``bias`` (K,).

    Output size per dimension:
    ``(in - 1) * stride - pads + dilation * (kernel - 1) + output_padding + 1``.
    """

    output_padding: Shape

    _ahead, _back = "conv_input_grad", "conv_forward"

    @classmethod
    def of(
        cls,
        ndim: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
    ) -> ConvTranspose:
        """From integers and tuples, over ``ndim`` spatial dimensions."""
        if isinstance(padding, str):
            raise TypeError(f"padding of a transposed convolution must be integers, got {padding!r}")
        return cls(
            out_channels=as_int(out_channels, "out_channels"),
            groups=as_int(groups, "groups"),
            bias=bool(bias),
            output_padding=as_int_tuple(output_padding, ndim, "output_padding", 0),
            **_geometry(ndim, kernel_size, stride, padding, dilation),
        )

    @property
    def kind(self) -> str:
        return f"conv_transpose{len(self.kernel_size)}d"

    def spec(self, input_shape: Shape, dtype: str) -> ConvSpec:
        weight_shape = (input_shape[1], self.out_channels // self.groups, *self.kernel_size)
        return ConvSpec.transposed(
            input_shape,
            weight_shape,
            dtype,
            self.stride,
            self.padding,
            self.output_padding,
            self.groups,
            self.dilation,
        )

    def _in_order(self, x: Array, grad_output: Array) -> tuple[Array, Array]:
        return grad_output, x

    def infer_shape(self, *input_shapes: Shape) -> Shape:
        return self._sample_spec(input_shapes).input_shape[1:]

    def window(self, *input_shapes: Shape) -> Window:
        # a convolution of stride 1 over the input with stride - 1 zeros between its elements
        reach = tuple(d * (k - 1) for k, d in zip(self.kernel_size, self.dilation, strict=True))
        sides = zip(reach, self.padding, self.output_padding, strict=True)
        low, high = zip(*((r - lo, r - hi + extra) for r, (lo, hi), extra in sides), strict=True)
        return Window(
            kernel=self.kernel_size,
            stride=(1,) * len(reach),
            pad_lo=low,
            pad_hi=high,
            dilation=self.dilation,
            expansion=self.stride,
        )


def channel_sum(x: Array) -> Array:
    """Sum of (N, C, ...) over all axes but the channels: the gradient of a bias."""
    batch, channels, *rest = x.shape
    view = (batch, channels, math.prod(rest))
    return plan("channel_sum", ChannelSpec.of, *view, x.dtype).run(x.reshape(view))
