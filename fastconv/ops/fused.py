"""Ops that do the work of two nodes in one pass over the memory; :mod:`fastconv.fusion` puts them into a graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastconv.ops._base import Array, Context, Gradients, Wanted
from fastconv.ops.activation import Activation
from fastconv.ops.join import Add, add
from fastconv.ops.norm import BatchNorm

RELU = Activation(function="relu")


@dataclass(frozen=True, kw_only=True)
class BatchNormReLU(BatchNorm):
    """Batch normalisation and a ReLU.

    The backward pass computes the sign of the normalised values again rather than keep them or a mask.
    """

    _relu = True


@dataclass(frozen=True, kw_only=True)
class AddReLU(Add):
    """Sum of two inputs and a ReLU."""

    def forward(
        self, inputs: tuple[Array, ...], params: dict[str, Array], context: Context
    ) -> tuple[Array, Any]:
        output = add(*inputs, relu=True)
        return output, output if context.recording else None

    def backward(self, grad_output: Array, saved: Any, params: dict[str, Array], wanted: Wanted) -> Gradients:
        (grad_sum,), _ = RELU.backward(grad_output, saved, params, wanted)
        return (grad_sum, grad_sum), {}
