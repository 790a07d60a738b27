"""Ops that put all elements along some axes together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from fastconv._spec import Shape
from fastconv.ops._axes import axes_of, axis_of
from fastconv.ops._base import GLOBAL, Array, Context, Extent, Gradients, Op, Partition, Wanted, single


class _Function(NamedTuple):
    """A reduction of an array along axes that are kept, and its derivative in the elements, of (x, result)."""

    value: Callable[[Array, Shape], Array]
    slope: Callable[[Array, Array, Shape], Any]
    of_nothing: bool = True  # whether it is defined for no elements


def _log_sum_exp(x: Array, axes: Shape) -> Array:
    peak = x.max(axis=axes, keepdims=True)
    peak = np.where(np.isfinite(peak), peak, 0)  # infinities keep their value
    return np.log(np.exp(x - peak).sum(axis=axes, keepdims=True)) + peak


def _share(x: Array, result: Array, axes: Shape) -> Array:
    """Equal extremes share the gradient evenly."""
    winner = (x == result).astype(result.dtype)
    return winner / np.maximum(winner.sum(axis=axes, keepdims=True), 1)


def _prod_slope(x: Array, result: Array, axes: Shape) -> Array:
    """The product of the others: exact also where one or more elements are 0."""
    last = tuple(range(-len(axes), 0))
    moved = np.moveaxis(x, axes, last)
    flat = moved.reshape(*moved.shape[: x.ndim - len(axes)], -1)
    ones = np.ones_like(flat[..., :1])
    before = np.cumprod(np.concatenate([ones, flat[..., :-1]], axis=-1), axis=-1)
    behind = np.cumprod(np.concatenate([ones, flat[..., :0:-1]], axis=-1), axis=-1)[..., ::-1]
    return np.moveaxis((before * behind).reshape(moved.shape), last, axes)


_FUNCTIONS: Final = {
    "l1": _Function(lambda x, axes: np.abs(x).sum(axis=axes, keepdims=True), lambda x, y, axes: np.sign(x)),
    "l2": _Function(
        lambda x, axes: np.sqrt(np.square(x).sum(axis=axes, keepdims=True)),
        lambda x, y, axes: np.where(y == 0, 0, x / np.where(y == 0, 1, y)),
    ),
    "log_sum": _Function(
        lambda x, axes: np.log(x.sum(axis=axes, keepdims=True)),
        lambda x, y, axes: 1 / x.sum(axis=axes, keepdims=True),
    ),
    "log_sum_exp": _Function(_log_sum_exp, lambda x, y, axes: np.exp(x - y), of_nothing=False),
    "max": _Function(lambda x, axes: x.max(axis=axes, keepdims=True), _share, of_nothing=False),
    "mean": _Function(
        lambda x, axes: x.mean(axis=axes, keepdims=True), lambda x, y, axes: y.size / x.size, of_nothing=False
    ),
    "min": _Function(lambda x, axes: x.min(axis=axes, keepdims=True), _share, of_nothing=False),
    "prod": _Function(lambda x, axes: x.prod(axis=axes, keepdims=True), _prod_slope),
    "sum": _Function(lambda x, axes: x.sum(axis=axes, keepdims=True), lambda x, y, axes: 1),
    "sum_square": _Function(
        lambda x, axes: np.square(x).sum(axis=axes, keepdims=True), lambda x, y, axes: 2 * x
    ),
}


def _without(shape: Shape, axes: Shape, keepdims: bool) -> Shape:
    return tuple(1 if axis in axes else n for axis, n in enumerate(shape) if keepdims or axis not in axes)


def _window_along(shape: Shape, axes: Shape, keepdims: bool) -> Partition | Extent | None:
    """What is seen by a reduction: along the axes everything, else one position."""
    if axes == (0,) and keepdims:
        return None
    if not keepdims or shape[0] == 0:
        return GLOBAL
    return Partition(in_size=shape[1:], out_size=_without(shape, axes, True)[1:])


@dataclass(frozen=True, kw_only=True)
class Reduce(Op):
    """One element from all along some axes of a sample.

    Parameters
    ----------
    function : str
        ``"sum"``, ``"mean"``, ``"prod"``, ``"max"``, ``"min"``; ``"l1"`` (sum of absolute values), ``"l2"`` (root of
        the sum of squares), ``"sum_square"``; ``"log_sum"`` and ``"log_sum_exp"``, the logarithm of a sum and of
        that of exponentials.  NaN wins extremes; equal ones share the gradient evenly, as in PyTorch's amax.
    axes : tuple of int, optional
        Negative ones count from the last; None is all.
    keepdims : bool
        Whether the axes stay, with size 1.
    """

    function: str
    axes: Shape | None = None
    keepdims: bool = True

    def __post_init__(self) -> None:
        if self.function not in _FUNCTIONS:
            raise ValueError(f"function must be one of {tuple(_FUNCTIONS)}, got {self.function!r}")

    @property
    def kind(self) -> str:
        return f"reduce_{self.function}"

    def infer_shape(self, *input_shapes: Shape) -> Shape:
        shape = single(input_shapes, self.kind)
        axes = axes_of(self.axes, len(shape), self.kind)
        if not _FUNCTIONS[self.function].of_nothing and 0 in (shape[axis] for axis in axes):
            raise ValueError(f"{self.kind} takes one or more elements along its axes {axes}, got {shape}")
        return _without(shape, axes, self.keepdims)

    def forward(
        self, inputs: tuple[Array, ...], params: dict[str, Array], context: Context
    ) -> tuple[Array, Any]:
        (x,) = inputs
        axes = tuple(axis + 1 for axis in axes_of(self.axes, x.ndim - 1, self.kind))
        with np.errstate(all="ignore"):
            kept = _FUNCTIONS[self.function].value(x, axes)
        if self.function != "mean":
            kept = kept.astype(x.dtype, copy=False)  # NumPy widens sums of small integers
        output = kept.reshape(
            len(x), *_without(x.shape[1:], axes_of(self.axes, x.ndim - 1, self.kind), self.keepdims)
        )
        return output, (x, kept, axes) if context.recording else None

    def backward(self, grad_output: Array, saved: Any, params: dict[str, Array], wanted: Wanted) -> Gradients:
        x, kept, axes = saved
        with np.errstate(all="ignore"):
            slope = _FUNCTIONS[self.function].slope(x, kept, axes)
            grad_input = np.broadcast_to(grad_output.reshape(kept.shape) * slope, x.shape)
        return (np.ascontiguousarray(grad_input),), {}

    def window(self, *input_shapes: Shape) -> Partition | Extent | None:
        shape = single(input_shapes, self.kind)
        return _window_along(shape, axes_of(self.axes, len(shape), self.kind), self.keepdims)


class _ArgExtreme(Op):
    """Base: the place of an extreme; a whole number, which has no gradient."""

    axis: int
    keepdims: bool
    select_last: bool

    def _place(self, x: Array, axis: int) -> Array:
        raise NotImplementedError

    def infer_shape(self, *input_shapes: Shape) -> Shape:
        shape = single(input_shapes, self.kind)
        axis = axis_of(self.axis, len(shape), self.kind)
        if shape[axis] < 1:
            raise ValueError(f"{self.kind} takes one or more elements along its axis {axis}, got {shape}")
        return _without(shape, (axis,), self.keepdims)

    def forward(
        self, inputs: tuple[Array, ...], params: dict[str, Array], context: Context
    ) -> tuple[Array, Any]:
        (x,) = inputs
        axis = axis_of(self.axis, x.ndim - 1, self.kind) + 1
        place = self._place(np.flip(x, axis) if self.select_last else x, axis)
        place = (x.shape[axis] - 1 - place if self.select_last else place).astype(np.int64, copy=False)
        return (np.expand_dims(place, axis) if self.keepdims else place), None

    def backward(self, grad_output: Array, saved: Any, params: dict[str, Array], wanted: Wanted) -> Gradients:
        return (None,), {}

    def window(self, *input_shapes: Shape) -> Partition | Extent | None:
        shape = single(input_shapes, self.kind)
        return _window_along(shape, (axis_of(self.axis, len(shape), self.kind),), self.keepdims)


@dataclass(frozen=True, kw_only=True)
class ArgMax(_ArgExtreme):
    """Where along an axis of a sample the largest element is (int64), the first or the last of equal ones; NaN wins."""

    axis: int = 0
    keepdims: bool = True
    select_last: bool = False

    @property
    def kind(self) -> str:
        return "argmax"

    def _place(self, x: Array, axis: int) -> Array:
        place: Array = np.argmax(x, axis)
        return place


@dataclass(frozen=True, kw_only=True)
class ArgMin(_ArgExtreme):
    """Where along an axis of a sample the smallest element is (int64); else as :class:`ArgMax`."""

    axis: int = 0
    keepdims: bool = True
    select_last: bool = False

    @property
    def kind(self) -> str:
        return "argmin"

    def _place(self, x: Array, axis: int) -> Array:
        place: Array = np.argmin(x, axis)
        return place
