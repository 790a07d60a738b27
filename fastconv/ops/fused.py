"""Ops that do the work of two nodes in one pass over the memory; :mod:`fastconv.fusion` puts them into a graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastconv._arrays import dtype_name
from fastconv._dispatch import run
from fastconv._spec import ActivationSpec
from fastconv.ops._base import Array, Context, Gradients, Wanted
from fastconv.ops.join import Add, add
from fastconv.ops.norm import BatchNorm


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
        spec = ActivationSpec(kind="relu", size=saved.size, dtype=dtype_name(saved))
        return super().backward(run("activation_backward", spec, grad_output, saved), 2, params, wanted)
