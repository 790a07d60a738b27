"""The fully connected layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastconv._dispatch import plan
from fastconv._spec import MatmulSpec, Shape, as_int
from fastconv.ops._base import GLOBAL, Array, Context, Extent, Gradients, Op, Wanted, single
from fastconv.ops.conv import channel_sum


@dataclass(frozen=True, kw_only=True)
class Linear(Op):
    """``x @ weight.T + bias`` on flat features; ``weight`` is (out_features, in_features)."""

    out_features: int
    bias: bool = True

    def __post_init__(self) -> None:
        if as_int(self.out_features, "out_features") < 1:
            raise ValueError(f"out_features must be >= 1, got {self.out_features!r}")

    @property
    def kind(self) -> str:
        return "linear"

    def _in_features(self, input_shapes: tuple[Shape, ...]) -> int:
        shape = single(input_shapes, self.kind)
        if len(shape) != 1 or shape[0] < 1:
            raise ValueError(
                f"{self.kind} takes flat features (F,) per sample, got {shape}; put a Flatten before it"
            )
        return shape[0]

    def infer_shape(self, *input_shapes: Shape) -> Shape:
        self._in_features(input_shapes)
        return (self.out_features,)

    def param_shapes(self, *input_shapes: Shape) -> dict[str, Shape]:
        shapes: dict[str, Shape] = {"weight": (self.out_features, self._in_features(input_shapes))}
        if self.bias:
            shapes["bias"] = (self.out_features,)
        return shapes

    def forward(
        self, inputs: tuple[Array, ...], params: dict[str, Array], context: Context
    ) -> tuple[Array, Any]:
        (x,) = inputs
        output = matmul(x, params["weight"], params.get("bias"), trans_b=True)
        return output, x if context.recording else None

    def backward(self, grad_output: Array, saved: Any, params: dict[str, Array], wanted: Wanted) -> Gradients:
        grad_params = {}
        if wanted.params:
            grad_params["weight"] = matmul(grad_output, saved, trans_a=True)
            if self.bias:
                grad_params["bias"] = channel_sum(grad_output)
        return (matmul(grad_output, params["weight"]) if wanted.inputs[0] else None,), grad_params

    def window(self, *input_shapes: Shape) -> Extent:
        return GLOBAL

    def macs(self, *input_shapes: Shape) -> int:
        return self.out_features * self._in_features(input_shapes)


def matmul(
    a: Array, b: Array, bias: Array | None = None, *, trans_a: bool = False, trans_b: bool = False
) -> Array:
    k, m = a.shape if trans_a else a.shape[::-1]
    n = b.shape[0] if trans_b else b.shape[1]
    return plan("matmul", MatmulSpec.of, m, n, k, trans_a, trans_b, a.dtype).run(a, b, bias)
