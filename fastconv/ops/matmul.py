"""The product of two matrices that are both values of the net."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastconv._spec import Shape
from fastconv.ops._base import GLOBAL, Array, Context, Extent, Gradients, Op, Wanted
from fastconv.ops._broadcast import aligned, sum_to
from fastconv.ops.linear import matmul


@dataclass(frozen=True, kw_only=True)
class MatMul(Op):
    """``a @ b`` of two inputs by NumPy's rules: of the last two axes, for all of the broadcast axes before them.

    A sample of one axis is a row in the first place and a column in the second, and the result lacks that axis.
    """

    @property
    def kind(self) -> str:
        return "matmul"

    def infer_shape(self, *input_shapes: Shape) -> Shape:
        if len(input_shapes) == 2 and () not in input_shapes:
            (*outer_a, rows, inner_a), (*outer_b, inner_b, columns) = self._matrices(*input_shapes)
            if inner_a == inner_b:
                try:
                    outer = np.broadcast_shapes(tuple(outer_a), tuple(outer_b))
                except ValueError:
                    pass
                else:
                    return self._without_vectors((*outer, rows, columns), *input_shapes)
        raise ValueError(
            "matmul takes two inputs (..., M, K) and (..., K, N) whose axes in front broadcast, "
            f"got {list(input_shapes)}"
        )

    @staticmethod
    def _matrices(a: Shape, b: Shape) -> tuple[Shape, Shape]:
        return (1, *a) if len(a) == 1 else a, (*b, 1) if len(b) == 1 else b

    @staticmethod
    def _without_vectors(shape: Shape, a: Shape, b: Shape) -> Shape:
        rows, columns = shape[-2:]
        return (*shape[:-2], *(() if len(a) == 1 else (rows,)), *(() if len(b) == 1 else (columns,)))

    def _stacks(self, a: Array, b: Array) -> tuple[Array, Array]:
        """Both as (N, ..., rows, columns) of one rank."""
        shapes = self._matrices(a.shape[1:], b.shape[1:])
        first, second = aligned([x.reshape(len(x), *shape) for x, shape in zip((a, b), shapes, strict=True)])
        return first, second

    def forward(
        self, inputs: tuple[Array, ...], params: dict[str, Array], context: Context
    ) -> tuple[Array, Any]:
        a, b = inputs
        product = _product(*self._stacks(a, b))
        shape = self._without_vectors(product.shape[1:], a.shape[1:], b.shape[1:])
        return product.reshape(len(product), *shape), inputs if context.recording else None

    def backward(self, grad_output: Array, saved: Any, params: dict[str, Array], wanted: Wanted) -> Gradients:
        a, b = self._stacks(*saved)
        batch, outer = len(grad_output), np.broadcast_shapes(a.shape[1:-2], b.shape[1:-2])
        grad = grad_output.reshape(batch, *outer, a.shape[-2], b.shape[-1])
        grad_a = sum_to(_product(grad, b, trans_b=True), a.shape) if wanted.inputs[0] else None
        grad_b = sum_to(_product(a, grad, trans_a=True), b.shape) if wanted.inputs[1] else None
        return tuple(
            None if g is None else g.reshape(x.shape) for g, x in zip((grad_a, grad_b), saved, strict=True)
        ), {}

    def window(self, *input_shapes: Shape) -> Extent:
        return GLOBAL

    def macs(self, *input_shapes: Shape) -> int:
        return math.prod(self.infer_shape(*input_shapes)) * input_shapes[0][-1]


def _product(a: Array, b: Array, *, trans_a: bool = False, trans_b: bool = False) -> Array:
    """``a @ b`` of stacks of matrices, of either one or the other transposed."""
    if a.dtype != b.dtype or a.dtype.kind != "f" or a.dtype.itemsize < 4:
        return np.matmul(a.swapaxes(-1, -2) if trans_a else a, b.swapaxes(-1, -2) if trans_b else b)
    if b.size == b.shape[-1] * b.shape[-2] and not trans_a:  # one matrix for all rows of the other
        flat = matmul(a.reshape(-1, a.shape[-1]), b.reshape(b.shape[-2:]), trans_b=trans_b)
        return flat.reshape(*a.shape[:-1], -1)
    outer = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    stacks = (np.broadcast_to(x, (*outer, *x.shape[-2:])) for x in (a, b))
    first, second = (x.reshape(-1, *x.shape[-2:]) for x in stacks)
    product = [matmul(m, n, trans_a=trans_a, trans_b=trans_b) for m, n in zip(first, second, strict=True)]
    return np.stack(product).reshape(*outer, *product[0].shape)
