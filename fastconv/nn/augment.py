"""Random changes of training images.

Every transform is called as ``transform(images, seed=..., epoch=..., indices=...)`` with images (N, C, H, W)
and the samples' numbers in the data set.  What happens to a sample is a pure function of (seed, epoch, its
number): the split into batches, the order and the number of threads make no difference.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv.nn import _random
from fastconv.ops import derive_seed

__all__ = ["Affine", "Compose", "Flip", "Noise", "Shift", "Transform"]

Array = NDArray[Any]


class Transform:
    """Base: draws the random numbers and calls :meth:`apply`."""

    def __call__(self, images: Array, *, seed: int, epoch: int, indices: Array) -> Array:
        """The changed images, a new array (or ``images`` itself if nothing changes)."""
        images = np.asarray(images)
        indices = np.asarray(indices)
        if images.ndim != 4 or images.dtype.kind != "f":
            raise ValueError(
                f"augmentation works on floating-point images (N, C, H, W), got shape {images.shape} of "
                f"{images.dtype}"
            )
        if indices.shape != images.shape[:1]:
            raise ValueError(
                f"indices must have shape {images.shape[:1]}, one per image, got {indices.shape}"
            )
        return self.apply(images, derive_seed(seed, "augment", epoch), indices)

    def apply(self, images: Array, seed: int, indices: Array) -> Array:
        """The changed images, given the seed of this epoch."""
        raise NotImplementedError


class Compose(Transform):
    """One transform after the other, each with its own random numbers."""

    def __init__(self, transforms: list[Transform]) -> None:
        for transform in transforms:
            if not isinstance(transform, Transform):
                raise TypeError(f"transforms must be Transform objects, got {transform!r}")
        self.transforms = list(transforms)

    def apply(self, images: Array, seed: int, indices: Array) -> Array:
        for position, transform in enumerate(self.transforms):
            images = transform.apply(images, derive_seed(seed, position), indices)
        return images


class Flip(Transform):
    """Mirror left-right (``axis="horizontal"``) or up-down (``"vertical"``) with probability ``p``."""

    def __init__(self, p: float = 0.5, axis: str = "horizontal") -> None:
        if not 0.0 <= p <= 1.0:
            raise ValueError(f"p must be between 0 and 1, got {p!r}")
        if axis not in ("horizontal", "vertical"):
            raise ValueError(f"axis must be 'horizontal' or 'vertical', got {axis!r}")
        self.p = p
        self.axis = axis

    def apply(self, images: Array, seed: int, indices: Array) -> Array:
        chosen = _random.uniform(seed, indices) < self.p
        result = images.copy()
        result[chosen] = images[chosen, ..., ::-1] if self.axis == "horizontal" else images[chosen, :, ::-1]
        return result


class Shift(Transform):
    """Move by whole pixels, up to ``pixels`` in each direction; ``fill`` comes in at the edge."""

    def __init__(self, pixels: int = 2, fill: float = 0.0) -> None:
        if pixels < 0:
            raise ValueError(f"pixels must be >= 0, got {pixels!r}")
        self.pixels = int(pixels)
        self.fill = fill

    def apply(self, images: Array, seed: int, indices: Array) -> Array:
        n, _, height, width = images.shape
        choices = 2 * self.pixels + 1
        # (N, 2): where in the padded image the window starts
        start = (_random.uniform(seed, indices[:, None] * 2 + np.arange(2)) * choices).astype(np.intp)
        margin = (self.pixels, self.pixels)
        padded = np.pad(images, ((0, 0), (0, 0), margin, margin), constant_values=self.fill)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(2, 3))
        return windows[np.arange(n), :, start[:, 0], start[:, 1]]


class Affine(Transform):
    """Rotate, scale and slant about the centre by random amounts, with bilinear interpolation.

    Parameters
    ----------
    degrees : float
        Largest rotation, either way.
    scale : (float, float)
        Smallest and largest magnification.
    fill : float
        Value outside the image.
    shear : float
        Largest slant of vertical lines, in degrees, either way.
    """

    def __init__(
        self,
        degrees: float = 10.0,
        scale: tuple[float, float] = (0.9, 1.1),
        fill: float = 0.0,
        shear: float = 0.0,
    ) -> None:
        if not degrees >= 0:
            raise ValueError(f"degrees must be >= 0, got {degrees!r}")
        if len(scale) != 2 or not 0 < scale[0] <= scale[1]:
            raise ValueError(f"scale must be (smallest, largest) with 0 < smallest <= largest, got {scale!r}")
        if not 0 <= shear < 90:
            raise ValueError(f"shear must be >= 0 and below 90 degrees, got {shear!r}")
        self.degrees = degrees
        self.scale = scale
        self.fill = fill
        self.shear = shear

    def apply(self, images: Array, seed: int, indices: Array) -> Array:
        height, width = images.shape[2:]
        draw = _random.uniform(seed, indices[:, None] * 3 + np.arange(3))  # (N, 3)
        angle = np.deg2rad(self.degrees) * (2.0 * draw[:, 0] - 1.0)
        shrink = 1.0 / (self.scale[0] + (self.scale[1] - self.scale[0]) * draw[:, 1])
        cos, sin = ((f(angle) * shrink).astype(images.dtype)[:, None, None] for f in (np.cos, np.sin))
        slant = np.tan(np.deg2rad(self.shear) * (2.0 * draw[:, 2] - 1.0)).astype(images.dtype)[:, None, None]
        # pixel centres relative to the image's, and where in the source each output pixel comes from
        y = (np.arange(height, dtype=images.dtype) - (height - 1) / 2)[:, None]
        x = (np.arange(width, dtype=images.dtype) - (width - 1) / 2)[None, :]
        source_y = cos * y + sin * x + (height - 1) / 2  # (N, H, W)
        source_x = cos * x - (sin + slant) * y + (width - 1) / 2
        return _bilinear(images, source_y, source_x, self.fill)


class Noise(Transform):
    """Add normal noise of standard deviation ``std``."""

    def __init__(self, std: float = 0.05) -> None:
        if not std >= 0:
            raise ValueError(f"std must be >= 0, got {std!r}")
        self.std = std

    def apply(self, images: Array, seed: int, indices: Array) -> Array:
        size = int(np.prod(images.shape[1:]))
        draw = _random.normal(seed, indices[:, None] * size + np.arange(size))
        return images + (self.std * draw).astype(images.dtype).reshape(images.shape)


def _bilinear(images: Array, y: Array, x: Array, fill: float) -> Array:
    """Images (N, C, H, W) read at positions (N, H', W') between pixel centres; ``fill`` lies all around."""
    n, channels, height, width = images.shape
    # a border of two pixels of fill: every position, clipped to it, interpolates inside the padded image
    padded = np.pad(images, ((0, 0), (0, 0), (2, 2), (2, 2)), constant_values=fill)
    y, x = np.clip(y, -1.5, height + 0.5) + 2, np.clip(x, -1.5, width + 0.5) + 2
    top, left = y.astype(np.intp), x.astype(np.intp)  # positive: truncation is the floor
    down, right = (y - top).astype(images.dtype)[:, None], (x - left).astype(images.dtype)[:, None]
    row, plane = width + 4, (height + 4) * (width + 4)
    planes = np.arange(n * channels, dtype=np.intp).reshape(n, channels, 1, 1) * plane
    corner = (top * row + left)[:, None] + planes  # (N, C, H', W'): flat index of the upper left neighbour
    flat = padded.ravel()
    upper, lower = flat.take(corner), flat.take(corner + row)
    upper += (flat.take(corner + 1) - upper) * right
    lower += (flat.take(corner + (row + 1)) - lower) * right
    upper += (lower - upper) * down
    return upper
