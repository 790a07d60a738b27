"""Arithmetic of two or more inputs that broadcast as NumPy's do; sums, products: see :mod:`fastconv.ops.join`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from fastconv._spec import Shape
from fastconv.ops._base import Array, Context, Gradients, Op, Wanted
from fastconv.ops._broadcast import aligned, broadcast_shape, sum_to


class _Pair(Op):
    """A function of two inputs."""

    def infer_shape(self, *input_shapes: Shape) -> Shape:
        return broadcast_shape(input_shapes, self.kind, "two", len(input_shapes) == 2)

    def _value(self, a: Array, b: Array) -> Array:
        raise NotImplementedError

    def _slopes(self, a: Array, b: Array) -> tuple[Any, Any]:
        """Derivatives in both inputs."""
        raise NotImplementedError

    def forward(
        self, inputs: tuple[Array, ...], params: dict[str, Array], context: Context
    ) -> tuple[Array, Any]:
        a, b = aligned(inputs)
        with np.errstate(all="ignore"):
            return self._value(a, b), inputs if context.recording else None

    def backward(self, grad_output: Array, saved: Any, params: dict[str, Array], wanted: Wanted) -> Gradients:
        with np.errstate(all="ignore"):
            return tuple(
                sum_to(grad_output * slope, own.shape) if want else None
                for own, slope, want in zip(saved, self._slopes(*aligned(saved)), wanted.inputs, strict=True)
            ), {}


@dataclass(frozen=True, kw_only=True)
class Subtract(_Pair):
    """First input minus second."""

    @property
    def kind(self) -> str:
        return "subtract"

    def _value(self, a: Array, b: Array) -> Array:
        return a - b

    def _slopes(self, a: Array, b: Array) -> tuple[Any, Any]:
        return 1, -1


@dataclass(frozen=True, kw_only=True)
class Divide(_Pair):
    """First input over second; that of integers is rounded towards zero, as in C."""

    @property
    def kind(self) -> str:
        return "divide"

    def _value(self, a: Array, b: Array) -> Array:
        if a.dtype.kind in "iu" and b.dtype.kind in "iu":
            return np.where((a < 0) == (b < 0), a // b, -(-a // b))
        return a / b

    def _slopes(self, a: Array, b: Array) -> tuple[Any, Any]:
        return 1 / b, -a / (b * b)


@dataclass(frozen=True, kw_only=True)
class Power(_Pair):
    """First input to the power of the second, in the first one's dtype.

    The gradient in the exponent is 0 where the base is not positive: there is no real power around it.
    """

    @property
    def kind(self) -> str:
        return "power"

    def _value(self, a: Array, b: Array) -> Array:
        return np.power(a, b).astype(a.dtype, copy=False)

    def _slopes(self, a: Array, b: Array) -> tuple[Any, Any]:
        in_base = np.where(b == 0, 0, b * np.power(a, np.where(b == 0, 1, b - 1)))
        return in_base, np.where(a > 0, np.power(a, b) * np.log(np.where(a > 0, a, 1)), 0)


class _Several(Op):
    """A function of two or more inputs."""

    def infer_shape(self, *input_shapes: Shape) -> Shape:
        return broadcast_shape(input_shapes, self.kind, "two or more", len(input_shapes) >= 2)


class _Extreme(_Several):
    """The smallest or largest of the inputs; NaN wins.  Equal ones share the gradient evenly, as in PyTorch."""

    def _value(self, a: Array, b: Array) -> Array:
        raise NotImplementedError

    def forward(
        self, inputs: tuple[Array, ...], params: dict[str, Array], context: Context
    ) -> tuple[Array, Any]:
        output = reduce(self._value, aligned(inputs))
        return output, (inputs, output) if context.recording else None

    def backward(self, grad_output: Array, saved: Any, params: dict[str, Array], wanted: Wanted) -> Gradients:
        inputs, output = saved
        winners = [x == output for x in aligned(inputs)]
        shared = grad_output / np.maximum(sum(w.astype(grad_output.dtype) for w in winners), 1)
        return tuple(
            sum_to(shared * winner, x.shape) if want else None
            for x, winner, want in zip(inputs, winners, wanted.inputs, strict=True)
        ), {}


@dataclass(frozen=True, kw_only=True)
class Minimum(_Extreme):
    """The smallest of two or more inputs."""

    @property
    def kind(self) -> str:
        return "minimum"

    def _value(self, a: Array, b: Array) -> Array:
        return np.minimum(a, b)


@dataclass(frozen=True, kw_only=True)
class Maximum(_Extreme):
    """The largest of two or more inputs."""

    @property
    def kind(self) -> str:
        return "maximum"

    def _value(self, a: Array, b: Array) -> Array:
        return np.maximum(a, b)


@dataclass(frozen=True, kw_only=True)
class MeanOf(_Several):
    """The mean of two or more inputs, element by element."""

    @property
    def kind(self) -> str:
        return "mean_of"

    def forward(
        self, inputs: tuple[Array, ...], params: dict[str, Array], context: Context
    ) -> tuple[Array, Any]:
        return reduce(np.add, aligned(inputs)) / len(inputs), [x.shape for x in inputs]

    def backward(self, grad_output: Array, saved: Any, params: dict[str, Array], wanted: Wanted) -> Gradients:
        shared = grad_output / len(saved)
        return tuple(
            sum_to(shared, shape) if want else None for shape, want in zip(saved, wanted.inputs, strict=True)
        ), {}
