"""Activations: element-wise functions that have kernels, softmax, and the ReLU whose slope is learned."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastconv._arrays import dtype_name
from fastconv._dispatch import Plan, plan, run
from fastconv._spec import ActivationSpec, Shape, SoftmaxSpec
from fastconv.ops._axes import axis_of
from fastconv.ops._base import GLOBAL, Array, Context, Extent, Gradients, Op, Wanted, single
from fastconv.ops._broadcast import sum_to

FUNCTIONS = ("relu", "leaky_relu", "relu6", "sigmoid", "tanh")


@dataclass(frozen=True, kw_only=True)
class Activation(Op):
    """Element-wise ``function``; its gradient is computed from its output, so the input is not kept."""

    function: str
    slope: float = 0.0  # of leaky_relu, for negative inputs

    def __post_init__(self) -> None:
        if self.function not in FUNCTIONS:
            raise ValueError(f"function must be one of {FUNCTIONS}, got {self.function!r}")
        if self.function == "leaky_relu" and not self.slope > 0:
            raise ValueError(f"leaky_relu needs a slope > 0, got {self.slope!r}")

    @property
    def kind(self) -> str:
        return self.function

    def infer_shape(self, *input_shapes: Shape) -> Shape:
        return single(input_shapes, self.kind)

    def forward(
        self, inputs: tuple[Array, ...], params: dict[str, Array], context: Context
    ) -> tuple[Array, Any]:
        (x,) = inputs
        output = self._plan("activation_forward", x).run(x)
        return output, output if context.recording else None

    def backward(self, grad_output: Array, saved: Any, params: dict[str, Array], wanted: Wanted) -> Gradients:
        return (self._plan("activation_backward", saved).run(grad_output, saved),), {}

    def _plan(self, op: str, x: Array) -> Plan:
        return plan(op, ActivationSpec.of, self.function, x.size, x.dtype, self.slope)


@dataclass(frozen=True, kw_only=True)
class Softmax(Op):
    """Softmax over an axis of a sample, the channels if not told, or its logarithm."""

    log: bool = False
    axis: int = 0  # negative ones count from the last

    @property
    def kind(self) -> str:
        return "log_softmax" if self.log else "softmax"

    def infer_shape(self, *input_shapes: Shape) -> Shape:
        shape = single(input_shapes, self.kind)
        axis_of(self.axis, len(shape), self.kind)
        return shape

    def _run(self, op: str, *arrays: Array) -> Array:
        shape = arrays[0].shape
        axis = axis_of(self.axis, len(shape) - 1, self.kind) + 1
        view = (math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :]))
        outer, length, inner = view
        spec = SoftmaxSpec(outer=outer, length=length, inner=inner, log=self.log, dtype=dtype_name(arrays[0]))
        return run(op, spec, *(a.reshape(view) for a in arrays)).reshape(arrays[0].shape)

    def forward(
        self, inputs: tuple[Array, ...], params: dict[str, Array], context: Context
    ) -> tuple[Array, Any]:
        output = self._run("softmax_forward", inputs[0])
        return output, output if context.recording else None

    def backward(self, grad_output: Array, saved: Any, params: dict[str, Array], wanted: Wanted) -> Gradients:
        return (self._run("softmax_backward", grad_output, saved),), {}

    def window(self, *input_shapes: Shape) -> Extent | None:
        shape = single(input_shapes, self.kind)
        return None if axis_of(self.axis, len(shape), self.kind) == 0 else GLOBAL


@dataclass(frozen=True, kw_only=True)
class PRelu(Op):
    """``x`` where positive, else ``slope * x`` (He et al. 2015, arXiv:1502.01852).

    The parameter ``slope`` is of ``slope_shape``, which broadcasts to a sample: (C, 1, 1) is one for each channel of an
    image, and () one for all.
    """

    slope_shape: Shape

    @property
    def kind(self) -> str:
        return "prelu"

    def infer_shape(self, *input_shapes: Shape) -> Shape:
        shape = single(input_shapes, self.kind)
        try:
            fits = np.broadcast_shapes(shape, self.slope_shape) == shape
        except ValueError:
            fits = False
        if not fits:
            raise ValueError(f"slope_shape must broadcast to the input {shape}, got {self.slope_shape}")
        return shape

    def param_shapes(self, *input_shapes: Shape) -> dict[str, Shape]:
        return {"slope": self.slope_shape}

    def forward(
        self, inputs: tuple[Array, ...], params: dict[str, Array], context: Context
    ) -> tuple[Array, Any]:
        (x,) = inputs
        return np.where(x > 0, x, params["slope"] * x), x if context.recording else None

    def backward(self, grad_output: Array, saved: Any, params: dict[str, Array], wanted: Wanted) -> Gradients:
        x, slope = saved, params["slope"]
        grad_input = np.where(x > 0, grad_output, slope * grad_output) if wanted.inputs[0] else None
        if not wanted.params:
            return (grad_input,), {}
        steep = np.where(x > 0, grad_output.dtype.type(0), x * grad_output)
        return (grad_input,), {"slope": sum_to(steep, (1, *slope.shape))[0]}
