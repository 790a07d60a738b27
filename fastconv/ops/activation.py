"""Activations: element-wise functions and softmax."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from fastconv._arrays import dtype_name
from fastconv._dispatch import Plan, plan, run
from fastconv._spec import ActivationSpec, Shape, SoftmaxSpec
from fastconv.ops._base import Array, Context, Gradients, Op, Wanted, single

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
    """Softmax over the channels (the first axis of a sample), or its logarithm."""

    log: bool = False

    @property
    def kind(self) -> str:
        return "log_softmax" if self.log else "softmax"

    def infer_shape(self, *input_shapes: Shape) -> Shape:
        shape = single(input_shapes, self.kind)
        if not shape:
            raise ValueError(f"{self.kind} takes an input with channels, got a scalar per sample")
        return shape

    def _run(self, op: str, *arrays: Array) -> Array:
        outer, length, *inner = arrays[0].shape
        spec = SoftmaxSpec(
            outer=outer, length=length, inner=math.prod(inner), log=self.log, dtype=dtype_name(arrays[0])
        )
        view = (outer, length, spec.inner)
        return run(op, spec, *(a.reshape(view) for a in arrays)).reshape(arrays[0].shape)

    def forward(
        self, inputs: tuple[Array, ...], params: dict[str, Array], context: Context
    ) -> tuple[Array, Any]:
        output = self._run("softmax_forward", inputs[0])
        return output, output if context.recording else None

    def backward(self, grad_output: Array, saved: Any, params: dict[str, Array], wanted: Wanted) -> Gradients:
        return (self._run("softmax_backward", grad_output, saved),), {}
