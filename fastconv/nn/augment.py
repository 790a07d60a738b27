"""Random changes of training images.

Every transform is called as ``transform(images, seed=..., epoch=..., indices=...)`` with images (N, C, H, W)
and the samples' numbers in the data set, and returns images.  What happens to a sample is a pure function of
(seed, epoch, its number): the split into batches, the order and the number of threads make no difference.
:class:`MixUp` and :class:`CutMix` blend each sample with its neighbour in the batch and its label with the
neighbour's: they are called as ``transform(images, labels, ...)`` and return both.

What other libraries have classes for is often one of these: a rotation is ``Affine(15, scale=(1, 1))``, a zoom
``Affine(0, scale=(0.8, 1.2))``, a slant ``Affine(0, (1, 1), shear=10)``; of pads and crops, ``Shift(4)`` keeps
the size and ``Crop(28)`` chooses it.

Outside an image lies what ``fill_mode`` says, with Keras' names: ``"constant"`` is ``fill`` everywhere,
``"nearest"`` repeats the edge (a|abc|c), ``"reflect"`` mirrors at the edge (ba|abc|cb), ``"wrap"`` begins again
at the other side (bc|abc|ab).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv._spec import as_int, as_int_tuple
from fastconv.nn import _random
from fastconv.ops import derive_seed

__all__ = [
    "Affine",
    "Brightness",
    "Compose",
    "Contrast",
    "Crop",
    "CutMix",
    "Cutout",
    "Flip",
    "MixUp",
    "Noise",
    "Shift",
    "Transform",
]

Array = NDArray[Any]

_PAD_MODES = {"constant": "constant", "nearest": "edge", "reflect": "symmetric", "wrap": "wrap"}
_MAX_SIZE = 2**31 - 1


class Transform:
    """Base: checks the arguments of a call and derives the seed of :meth:`apply`.

    Attributes
    ----------
    mixes_labels : bool
        Whether labels change too, so that calls must give them.
    """

    mixes_labels = False

    def __call__(
        self, images: Array, labels: Array | None = None, *, seed: int, epoch: int, indices: Array
    ) -> Any:
        """The changed images, a new array (or ``images`` itself if nothing changes).

        Parameters
        ----------
        images : ndarray of shape (N, C, H, W), floating-point
        labels : ndarray of shape (N, ...), optional
            Classes or what the loss takes in their place; with labels, the result is (images, labels).
        seed, epoch : int
        indices : ndarray of shape (N,)
            The samples' numbers in the data set.
        """
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
        if labels is None and self.mixes_labels:
            raise ValueError(f"{type(self).__name__} mixes labels too: call it with images and labels")
        key = derive_seed(seed, "augment", epoch)
        if labels is None:
            return self.apply(images, key, indices)
        labels = np.asarray(labels)
        if labels.shape[:1] != images.shape[:1]:
            raise ValueError(f"labels must be {len(images)}, one per image, got shape {labels.shape}")
        return self.apply_labelled(images, labels, key, indices)

    def apply(self, images: Array, seed: int, indices: Array) -> Array:
        """The changed images, given the seed of this epoch."""
        raise NotImplementedError

    def apply_labelled(self, images: Array, labels: Array, seed: int, indices: Array) -> tuple[Array, Array]:
        """The changed images and labels; most transforms leave the labels as they are."""
        return self.apply(images, seed, indices), labels


class Compose(Transform):
    """One transform after the other, each with its own random numbers."""

    def __init__(self, transforms: Sequence[Transform]) -> None:
        for transform in transforms:
            if not isinstance(transform, Transform):
                raise TypeError(f"transforms must be Transform objects, got {transform!r}")
        self.transforms = list(transforms)
        self.mixes_labels = any(transform.mixes_labels for transform in transforms)

    def apply(self, images: Array, seed: int, indices: Array) -> Array:
        for position, transform in enumerate(self.transforms):
            images = transform.apply(images, derive_seed(seed, position), indices)
        return images

    def apply_labelled(self, images: Array, labels: Array, seed: int, indices: Array) -> tuple[Array, Array]:
        for position, transform in enumerate(self.transforms):
            images, labels = transform.apply_labelled(images, labels, derive_seed(seed, position), indices)
        return images, labels


# ------------------------------------------------------------------------------------------------ geometry


class Flip(Transform):
    """Mirror left-right (``axis="horizontal"``) or up-down (``"vertical"``) with probability ``p``."""

    def __init__(self, p: float = 0.5, axis: str = "horizontal") -> None:
        self.p = _probability(p)
        if axis not in ("horizontal", "vertical"):
            raise ValueError(f"axis must be 'horizontal' or 'vertical', got {axis!r}")
        self.axis = axis

    def apply(self, images: Array, seed: int, indices: Array) -> Array:
        chosen = _random.uniform(seed, indices) < self.p
        result = images.copy()
        result[chosen] = images[chosen, ..., ::-1] if self.axis == "horizontal" else images[chosen, :, ::-1]
        return result


class Shift(Transform):
    """Move by whole pixels, up to ``pixels`` in each direction; ``fill`` or ``fill_mode`` comes in at the edge."""

    def __init__(self, pixels: int = 2, fill: float = 0.0, *, fill_mode: str = "constant") -> None:
        if pixels < 0:
            raise ValueError(f"pixels must be >= 0, got {pixels!r}")
        self.pixels = int(pixels)
        self.fill = fill
        self.fill_mode = _fill_mode(fill_mode)

    def apply(self, images: Array, seed: int, indices: Array) -> Array:
        padded = _pad(images, self.pixels, self.fill, self.fill_mode)
        return _random_windows(padded, images.shape[2:], seed, indices)


class Crop(Transform):
    """Cut out a window at a random place.

    Parameters
    ----------
    size : int or (int, int)
        Height and width of the result.
    padding : int
        Pixels put around the image before.
    fill, fill_mode
        What they hold.
    """

    def __init__(
        self, size: Any, padding: int = 0, fill: float = 0.0, *, fill_mode: str = "constant"
    ) -> None:
        self.size = as_int_tuple(size, 2, "size", 1)
        self.padding = as_int(padding, "padding", 0, _MAX_SIZE)
        self.fill = fill
        self.fill_mode = _fill_mode(fill_mode)

    def apply(self, images: Array, seed: int, indices: Array) -> Array:
        padded = _pad(images, self.padding, self.fill, self.fill_mode)
        if any(cut > whole for cut, whole in zip(self.size, padded.shape[2:], strict=True)):
            raise ValueError(
                f"a crop of {self.size} does not fit into images of {images.shape[2:]} padded by {self.padding}"
            )
        return _random_windows(padded, self.size, seed, indices)


class Affine(Transform):
    """Rotate, scale and slant about the centre by random amounts.

    Parameters
    ----------
    degrees : float
        Largest rotation, either way.
    scale : (float, float)
        Smallest and largest magnification.
    fill : float
        Value outside the image, for ``fill_mode="constant"``.
    shear : float
        Largest slant of vertical lines, in degrees, either way.
    interpolation : {"bilinear", "nearest"}
    fill_mode : {"constant", "nearest", "reflect", "wrap"}
    """

    def __init__(
        self,
        degrees: float = 10.0,
        scale: tuple[float, float] = (0.9, 1.1),
        fill: float = 0.0,
        shear: float = 0.0,
        *,
        interpolation: str = "bilinear",
        fill_mode: str = "constant",
    ) -> None:
        if not degrees >= 0:
            raise ValueError(f"degrees must be >= 0, got {degrees!r}")
        if len(scale) != 2 or not 0 < scale[0] <= scale[1]:
            raise ValueError(f"scale must be (smallest, largest) with 0 < smallest <= largest, got {scale!r}")
        if not 0 <= shear < 90:
            raise ValueError(f"shear must be >= 0 and below 90 degrees, got {shear!r}")
        if interpolation not in ("bilinear", "nearest"):
            raise ValueError(f"interpolation must be 'bilinear' or 'nearest', got {interpolation!r}")
        self.degrees = degrees
        self.scale = scale
        self.fill = fill
        self.shear = shear
        self.interpolation = interpolation
        self.fill_mode = _fill_mode(fill_mode)

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
        sample = _nearest if self.interpolation == "nearest" else _bilinear
        return sample(images, source_y, source_x, self.fill, self.fill_mode)


# ------------------------------------------------------------------------------------------------ values


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


class Brightness(Transform):
    """Add to all of an image one number, uniform in [-delta, delta]; nothing is clipped."""

    def __init__(self, delta: float = 0.2) -> None:
        if not delta >= 0:
            raise ValueError(f"delta must be >= 0, got {delta!r}")
        self.delta = delta

    def apply(self, images: Array, seed: int, indices: Array) -> Array:
        change = self.delta * (2.0 * _random.uniform(seed, indices) - 1.0)
        return images + change.astype(images.dtype)[:, None, None, None]


class Contrast(Transform):
    """Scale each channel's deviation from its mean by one factor an image, uniform in [1 - delta, 1 + delta]."""

    def __init__(self, delta: float = 0.2) -> None:
        if not 0 <= delta <= 1:
            raise ValueError(f"delta must be between 0 and 1, got {delta!r}")
        self.delta = delta

    def apply(self, images: Array, seed: int, indices: Array) -> Array:
        factor = 1.0 + self.delta * (2.0 * _random.uniform(seed, indices) - 1.0)
        mean = images.mean(axis=(2, 3), keepdims=True)
        return mean + (images - mean) * factor.astype(images.dtype)[:, None, None, None]


class Cutout(Transform):
    """Blank a square of ``size`` pixels with probability ``p`` (DeVries and Taylor 2017, arXiv:1708.04552).

    Its centre is any pixel, so that part of it may lie outside the image.
    """

    def __init__(self, size: int = 8, p: float = 1.0, fill: float = 0.0) -> None:
        self.size = as_int(size, "size", 1, _MAX_SIZE)
        self.p = _probability(p)
        self.fill = fill

    def apply(self, images: Array, seed: int, indices: Array) -> Array:
        height, width = images.shape[2:]
        draw = _random.uniform(seed, indices[:, None] * 3 + np.arange(3))
        top = (draw[:, 0] * height).astype(np.intp) - self.size // 2
        left = (draw[:, 1] * width).astype(np.intp) - self.size // 2
        hidden = _boxes(top, top + self.size, left, left + self.size, (height, width))
        hidden &= (draw[:, 2] < self.p)[:, None, None]
        return np.where(hidden[:, None], images.dtype.type(self.fill), images)


# ------------------------------------------------------------------------------------------------ mixtures


class _Mixture(Transform):
    """Blends sample i of a batch with sample i + 1, the last one with the first.

    The share of a sample is a pure function of (seed, epoch, its number); its partner is the batch's choice.
    """

    mixes_labels = True

    def __init__(self, alpha: float = 1.0, num_classes: int | None = None) -> None:
        if not (np.isfinite(alpha) and alpha > 0):
            raise ValueError(f"alpha must be positive and finite, got {alpha!r}")
        self.alpha = float(alpha)
        self.num_classes = None if num_classes is None else as_int(num_classes, "num_classes", 1)

    def apply_labelled(self, images: Array, labels: Array, seed: int, indices: Array) -> tuple[Array, Array]:
        share = _random.beta(derive_seed(seed, "share"), indices, self.alpha)
        images, share = self.mix(images, np.roll(images, -1, axis=0), share, seed, indices)
        targets = self._probabilities(labels, images.dtype)
        share = share.astype(images.dtype).reshape(-1, *[1] * (targets.ndim - 1))
        return images, share * targets + (1 - share) * np.roll(targets, -1, axis=0)

    def mix(
        self, images: Array, partners: Array, share: Array, seed: int, indices: Array
    ) -> tuple[Array, Array]:
        """The mixed images, and the share of each that is its own."""
        raise NotImplementedError

    def _probabilities(self, labels: Array, dtype: np.dtype[Any]) -> Array:
        if labels.dtype.kind == "f":
            return labels.astype(dtype, copy=False)
        if self.num_classes is None:
            raise ValueError(f"{type(self).__name__} of integer classes needs num_classes")
        if labels.ndim != 1 or labels.dtype.kind not in "iu":
            raise ValueError(f"classes must be integers of shape (N,), got {labels.shape} of {labels.dtype}")
        if labels.size and not (labels.min() >= 0 and labels.max() < self.num_classes):
            raise ValueError(
                f"classes must be between 0 and {self.num_classes - 1}, got values from {labels.min()} to "
                f"{labels.max()}"
            )
        return (labels[:, None] == np.arange(self.num_classes)).astype(dtype)


class MixUp(_Mixture):
    """Weighted means of samples and of their labels (Zhang et al. 2018, arXiv:1710.09412).

    Sample i is blended with its neighbour i + 1 of the batch (the last with the first), with a share of its own
    drawn from Beta(alpha, alpha).

    Parameters
    ----------
    alpha : float
        Small: nearly pure samples; large: halves.
    num_classes : int, optional
        Needed if labels are classes; they become probabilities of shape (N, num_classes).
    """

    def mix(
        self, images: Array, partners: Array, share: Array, seed: int, indices: Array
    ) -> tuple[Array, Array]:
        weight = share.astype(images.dtype)[:, None, None, None]
        return partners + weight * (images - partners), share


class CutMix(_Mixture):
    """A window of each sample comes from its neighbour in the batch (Yun et al. 2019, arXiv:1905.04899).

    The window's area is a share of the image that is drawn from Beta(alpha, alpha); labels are mixed by the area
    that lies inside the image.

    Parameters
    ----------
    alpha : float
    num_classes : int, optional
        Needed if labels are classes; they become probabilities of shape (N, num_classes).
    """

    def mix(
        self, images: Array, partners: Array, share: Array, seed: int, indices: Array
    ) -> tuple[Array, Array]:
        height, width = images.shape[2:]
        centre = _random.uniform(derive_seed(seed, "centre"), indices[:, None] * 2 + np.arange(2))
        half = np.sqrt(1.0 - share) / 2.0
        (top, left), (bottom, right) = (
            np.rint((centre + sign * half[:, None]) * (height, width)).T for sign in (-1, 1)
        )
        box = _boxes(top, bottom, left, right, (height, width))
        return np.where(box[:, None], partners, images), 1.0 - box.mean(axis=(1, 2))


# ------------------------------------------------------------------------------------------------ shared parts


def _probability(p: float) -> float:
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"p must be between 0 and 1, got {p!r}")
    return p


def _fill_mode(mode: str) -> str:
    if mode not in _PAD_MODES:
        raise ValueError(f"fill_mode must be one of {sorted(_PAD_MODES)}, got {mode!r}")
    return mode


def _pad(images: Array, pixels: int, fill: float, mode: str) -> Array:
    """Images with ``pixels`` more on each side."""
    value = {"constant_values": fill} if mode == "constant" else {}
    margin = (pixels, pixels)
    return np.pad(images, ((0, 0), (0, 0), margin, margin), mode=_PAD_MODES[mode], **value)  # type: ignore[call-overload]


def _random_windows(images: Array, size: tuple[int, ...], seed: int, indices: Array) -> Array:
    """A window of ``size`` of each image, every place being as likely."""
    choices = np.subtract(images.shape[2:], size) + 1
    start = (_random.uniform(seed, indices[:, None] * 2 + np.arange(2)) * choices).astype(np.intp)  # (N, 2)
    windows = np.lib.stride_tricks.sliding_window_view(images, size, axis=(2, 3))
    return windows[np.arange(len(images)), :, start[:, 0], start[:, 1]]


def _boxes(top: Array, bottom: Array, left: Array, right: Array, size: tuple[int, ...]) -> Array:
    """Masks (N, H, W), true where top <= row < bottom and left <= column < right."""
    rows, columns = np.arange(size[0])[None, :, None], np.arange(size[1])[None, None, :]
    top, bottom, left, right = (edge[:, None, None] for edge in (top, bottom, left, right))
    return (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)


def _fold(position: Array, size: int, mode: str) -> Array:
    """Positions along an axis of ``size`` pixels, brought to where a border of two pixels serves them."""
    if mode == "wrap":
        return np.mod(position + 0.5, size) - 0.5
    if mode == "reflect":
        position = np.mod(position + 0.5, 2 * size)
        return np.minimum(position, 2 * size - position) - 0.5
    if mode == "nearest":
        return np.clip(position, 0, size - 1)
    return np.clip(position, -1.5, size + 0.5)


def _nearest(images: Array, y: Array, x: Array, fill: float, mode: str) -> Array:
    """Images (N, C, H, W) at the pixels nearest to positions (N, H', W') between pixel centres."""
    n, channels, height, width = images.shape
    row, column = (np.rint(_fold(p, size, mode)).astype(np.intp) + 2 for p, size in ((y, height), (x, width)))
    padded = _pad(images, 2, fill, mode)
    sample, channel = np.ogrid[:n, :channels]
    return padded[sample[..., None, None], channel[..., None, None], row[:, None], column[:, None]]


def _bilinear(images: Array, y: Array, x: Array, fill: float, mode: str) -> Array:
    """Images (N, C, H, W) interpolated at positions (N, H', W') between pixel centres."""
    n, channels, height, width = images.shape
    padded = _pad(images, 2, fill, mode)
    y, x = _fold(y, height, mode) + 2, _fold(x, width, mode) + 2
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
