"""Interpolation of the positions along axes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache, reduce
from typing import Any, Final

import numpy as np

from fastconv._spec import Shape, check_size
from fastconv.ops._axes import scatter_add
from fastconv.ops._base import Array, Context, Gradients, Op, Wanted, Window, single

MODES: Final = ("nearest", "linear", "cubic")
COORDINATE_TRANSFORMS: Final = (
    "half_pixel",
    "asymmetric",
    "align_corners",
    "pytorch_half_pixel",
    "half_pixel_symmetric",
)
NEAREST_MODES: Final = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


@dataclass(frozen=True, kw_only=True)
class Resize(Op):
    """The last axes of a sample in other sizes, each interpolated by itself; other axes stay as they are.

    Position y of an axis of n positions, resized to m, is taken at x of the input, with the scale s:

    - ``"half_pixel"``: ``(y + 0.5) / s - 0.5``; ``"pytorch_half_pixel"``: the same, but 0 where m is 1
    - ``"asymmetric"``: ``y / s``
    - ``"align_corners"``: ``y * (n - 1) / (n * s - 1)``
    - ``"half_pixel_symmetric"``: as ``"half_pixel"``, about the middle also where ``n * s`` is not m

    Beyond the edges the outermost elements go on.

    Parameters
    ----------
    out_size : tuple of int, optional
        Sizes of as many last axes; None is ``floor(n * s)`` with the ``scales``.
    mode : {"nearest", "linear", "cubic"}
        Cubic is Keys' (1981) convolution with the coefficient ``cubic_coeff``.
    coordinate_transform : str
    nearest_mode : {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil"}
        Which position is nearest to x.
    scales : tuple of float, optional
        s of these axes; None is ``m / n``.
    antialias : bool
        Where an axis shrinks, the linear or cubic kernel is stretched by ``1 / s``.
    cubic_coeff : float
    exclude_outside : bool
        Weights beyond the edges go to those inside, in proportion, rather than to the outermost element.
    """

    out_size: Shape | None = None
    mode: str = "nearest"
    coordinate_transform: str = "half_pixel"
    nearest_mode: str = "round_prefer_floor"
    scales: tuple[float, ...] | None = None
    antialias: bool = False
    cubic_coeff: float = -0.75
    exclude_outside: bool = False

    def __post_init__(self) -> None:
        for name, value, choices in (
            ("mode", self.mode, MODES),
            ("coordinate_transform", self.coordinate_transform, COORDINATE_TRANSFORMS),
            ("nearest_mode", self.nearest_mode, NEAREST_MODES),
        ):
            if value not in choices:
                raise ValueError(f"{name} must be one of {choices}, got {value!r}")
        if self.out_size is None and self.scales is None:
            raise ValueError("either out_size or scales must be given, got neither")
        if self.out_size is not None and (not self.out_size or min(self.out_size) < 1):
            raise ValueError(f"out_size must hold sizes >= 1, got {self.out_size!r}")
        if self.scales is not None:
            axes = len(self.scales if self.out_size is None else self.out_size)
            if not len(self.scales) == axes > 0 or not all(0 < s < math.inf for s in self.scales):
                raise ValueError(f"scales must be finite numbers > 0, one for each size, got {self.scales!r}")

    @property
    def kind(self) -> str:
        return "resize"

    def infer_shape(self, *input_shapes: Shape) -> Shape:
        shape = single(input_shapes, self.kind)
        axes = len(self.out_size or self.scales or ())
        kept = len(shape) - axes
        if kept < 0 or 0 in shape[kept:]:
            raise ValueError(f"{self.kind} of {axes} axes takes as many axes of size >= 1, got {shape}")
        sizes = self.out_size or tuple(
            math.floor(n * scale) for n, scale in zip(shape[kept:], self.scales or (), strict=True)
        )
        if min(sizes) < 1:
            raise ValueError(f"{self.kind} by {self.scales} must give sizes >= 1, got {sizes} for {shape}")
        for n, m, scale in zip(shape[kept:], sizes, self.scales or (), strict=False):
            if not -0.5 <= n * scale - m < 1:  # what rounding either way leaves
                raise ValueError(f"{self.kind} by {self.scales} does not make {sizes} of {shape[kept:]}")
        check_size((*shape[:kept], *sizes), "output")
        return (*shape[:kept], *sizes)

    def _taps(self, shape: Shape) -> list[tuple[int, Array, Array]]:
        """(axis of the array, indices, weights) of each axis that changes, for a sample's shape."""
        first = len(shape) - len(self.out_size or self.scales or ())
        sizes = zip(shape[first:], self.infer_shape(shape)[first:], strict=True)
        found = []
        for place, (n, m) in enumerate(sizes):
            scale = None if self.scales is None else self.scales[place]
            indices, weights = _taps(
                n,
                m,
                scale,
                self.mode,
                self.coordinate_transform,
                self.nearest_mode,
                self.antialias,
                self.cubic_coeff,
                self.exclude_outside,
            )
            if indices.shape != (n, 1) or (indices[:, 0] != np.arange(n)).any():
                found.append((1 + first + place, indices, weights))
        return found

    def forward(
        self, inputs: tuple[Array, ...], params: dict[str, Array], context: Context
    ) -> tuple[Array, Any]:
        (x,) = inputs
        output = x
        for axis, indices, weights in self._taps(x.shape[1:]):
            if self.mode == "nearest":
                output = output.take(indices[:, 0], axis)
                continue
            factors = _along(weights.astype(x.dtype), axis, x.ndim)
            taps = zip(indices.T, factors, strict=True)
            output = reduce(np.add, (output.take(at, axis) * factor for at, factor in taps))
        return output, x.shape

    def backward(self, grad_output: Array, saved: Any, params: dict[str, Array], wanted: Wanted) -> Gradients:
        grad = grad_output
        for axis, indices, weights in reversed(self._taps(saved[1:])):
            factors = _along(weights.astype(grad.dtype), axis, grad.ndim)
            taps = zip(indices.T, factors, strict=True)
            grad = reduce(np.add, (scatter_add(grad * factor, at, saved[axis], axis) for at, factor in taps))
        return (grad,), {}

    def window(self, *input_shapes: Shape) -> Window:
        """The smallest that holds what is read: nothing else is, where scales are ``m / n``, corners are not aligned,
        and the mode is not cubic, some of whose weights are 0.
        """
        sizes = input_shapes[0][1:]
        kernel, stride, expansion = ([1] * len(sizes) for _ in range(3))
        pad_lo, pad_hi = ([0] * len(sizes) for _ in range(2))
        for axis, indices, weights in self._taps(input_shapes[0]):
            if axis == 1:  # channels
                continue
            place, n, m = axis - 2, input_shapes[0][axis - 1], len(indices)
            stride[place], expansion[place] = n // math.gcd(n, m), m // math.gcd(n, m)
            reach = (indices * expansion[place] - np.arange(m)[:, None] * stride[place])[weights != 0]
            pad_lo[place] = -int(reach.min())
            kernel[place] = int(reach.max()) + pad_lo[place] + 1
            pad_hi[place] = (
                (m - 1) * stride[place] + kernel[place] - pad_lo[place] - (n - 1) * expansion[place] - 1
            )
        return Window(
            kernel=tuple(kernel),
            stride=tuple(stride),
            pad_lo=tuple(pad_lo),
            pad_hi=tuple(pad_hi),
            dilation=(1,) * len(sizes),
            expansion=tuple(expansion),
        )


def _along(weights: Array, axis: int, ndim: int) -> list[Array]:
    """The weights of each tap, laid along an axis of an array."""
    return [column.reshape(-1, *(1,) * (ndim - 1 - axis)) for column in weights.T]


@lru_cache(256)
def _taps(
    n: int,
    m: int,
    scale: float | None,
    mode: str,
    coordinate_transform: str,
    nearest_mode: str,
    antialias: bool,
    cubic_coeff: float,
    exclude_outside: bool,
) -> tuple[Array, Array]:
    """Which of n positions each of m reads, and with which weights: arrays of shape (m, taps)."""
    at = _coordinates(n, m, scale, coordinate_transform)
    if mode == "nearest":
        indices = np.clip(_nearest(at, nearest_mode), 0, n - 1).astype(np.intp)[:, None]
        return indices, np.ones_like(indices, dtype=np.float64)
    stretch = max(1.0, n / m if scale is None else 1.0 / scale) if antialias else 1.0
    reach = (1 if mode == "linear" else 2) * stretch
    offsets = np.arange(math.floor(-reach) + 1, math.ceil(reach) + 1)
    positions = np.floor(at).astype(np.intp)[:, None] + offsets
    distance = np.abs(positions - at[:, None]) / stretch
    weights = np.maximum(1 - distance, 0) if mode == "linear" else _cubic(distance, cubic_coeff)
    if exclude_outside:
        weights = np.where((positions < 0) | (positions >= n), 0.0, weights)
    weights /= weights.sum(axis=1, keepdims=True)
    used = weights.any(axis=0)
    return np.clip(positions[:, used], 0, n - 1), weights[:, used]


def _coordinates(n: int, m: int, scale: float | None, transform: str) -> Array:
    y = np.arange(m, dtype=np.float64)
    length = m if scale is None else n * scale
    match transform:
        case "align_corners":
            return y * (n - 1) / (length - 1) if length > 1 else np.zeros(m)
        case "pytorch_half_pixel" if m == 1:
            return y
        case "asymmetric":
            return y * n / m if scale is None else y / scale
    middle = (y + 0.5) * n / m if scale is None else (y + 0.5) / scale
    centre = n / 2 * (1 - m / length) if transform == "half_pixel_symmetric" else 0.0
    return centre + middle - 0.5


def _nearest(at: Array, mode: str) -> Array:
    match mode:
        case "floor":
            return np.floor(at)
        case "ceil":
            return np.ceil(at)
        case "round_prefer_floor":
            return np.ceil(at - 0.5)
    return np.floor(at + 0.5)


def _cubic(distance: Array, a: float) -> Array:
    """R. Keys, "Cubic convolution interpolation for digital image processing", IEEE Trans. ASSP 29 (1981)."""
    near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))
