"""What the layers of a net hold and react to: filters, feature maps, the patches that excite a unit most, and images
made to excite it."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv._spec import as_int
from fastconv.explain._scores import as_image_batch, require_model
from fastconv.explain.receptive_field import receptive_field
from fastconv.nn import Model

Array = NDArray[Any]

_BATCH = 32


def feature_maps(model: Model, image: Any, node: str) -> np.ndarray:
    """The output of one node for one image.

    Parameters
    ----------
    model : Model
    image : ndarray of shape (C, H, W) or (1, C, H, W)
    node : str
        Name of the node, as in `model.summary()`.

    Returns
    -------
    ndarray of shape (K, H', W')
        One map per channel (another shape where the node's output is not made of maps).

    Raises
    ------
    KeyError
        If there is no such node; the message lists the names.
    """
    model = require_model(model, "feature_maps")
    return model.activations(as_image_batch(image), names=[node])[node][0].copy()


def filters(model: Model, node: str) -> np.ndarray:
    """The weights of one convolution.

    Those of the first layer can be seen as images; deeper ones say more by `filter_norms`.

    Parameters
    ----------
    model : Model
    node : str
        Name of the node, as in `model.summary()`.

    Returns
    -------
    ndarray of shape (K, C / groups, kh, kw)
        A copy.

    Raises
    ------
    KeyError
        If there is no such node.
    ValueError
        If the node has no filters.
    """
    graph = require_model(model, "filters").graph
    weights = graph.local_params(graph.node(node), model.params)
    if "weight" not in weights or weights["weight"].ndim < 3:
        raise ValueError(f"node {node!r} ({graph.node(node).op.kind}) has no filters")
    return weights["weight"].copy()


def filter_norms(model: Model, node: str) -> np.ndarray:
    """How strongly each filter reads each channel: Euclidean norms of its kernels, shape (K, C / groups).

    Raises
    ------
    KeyError, ValueError
        As :func:`filters`.
    """
    weight = filters(model, node).astype(np.float64)
    return np.asarray(np.sqrt((weight.reshape(*weight.shape[:2], -1) ** 2).sum(axis=2)))


def dead_filters(model: Model, images: Any, node: str, threshold: float = 0.0) -> np.ndarray:
    """Channels of a node that stay at or below a threshold, everywhere in all images.

    Parameters
    ----------
    model : Model
    images : ndarray of shape (N, C, *spatial), or an iterable of such batches
    node : str
        Behind an activation, as a rule: a ReLU whose channel is never above 0 lets no gradient through.
    threshold : float, default 0

    Returns
    -------
    ndarray of int
        Numbers of the channels.
    """
    model = require_model(model, "dead_filters")
    highest: Array | None = None
    for part in _batches(images):
        values = model.activations(part, names=[node])[node]
        here = values.reshape(*values.shape[:2], -1).max(axis=(0, 2))
        highest = here if highest is None else np.maximum(highest, here)
    if highest is None:
        raise ValueError("images must hold at least one image")
    return np.flatnonzero(highest <= threshold)


@dataclass(frozen=True, kw_only=True, eq=False)
class Patch:
    """A part of an image that excites a unit.

    Attributes
    ----------
    activation : float
    image : int
        Number of the image.
    position : tuple of int
        Of the unit in its map; empty where the node has no maps.
    region : tuple of slice
        What the unit sees of the image, per spatial axis.
    pixels : ndarray of shape (C, *region)
        A copy of that part.
    """

    activation: float
    image: int
    position: tuple[int, ...]
    region: tuple[slice, ...]
    pixels: np.ndarray


def top_patches(model: Model, images: Any, node: str, channel: int, count: int = 9) -> list[Patch]:
    """The images that excite a channel most, each with the patch that its strongest unit sees [1]_.

    Parameters
    ----------
    model : Model
        A net with one image input.
    images : ndarray of shape (N, C, *spatial), or an iterable of such batches
        Read once, batch by batch; the patches alone are kept.
    node : str
    channel : int
        Of the node's output; its index, where that is flat.
    count : int, default 9
        How many images.

    Returns
    -------
    list of Patch
        The strongest first; of equal ones, the earlier image.

    Raises
    ------
    KeyError
        If there is no such node.
    ValueError
        If there is no such channel, or the node's units have no fixed field.

    References
    ----------
    .. [1] Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", 2013, arXiv:1311.2901.
    """
    model = require_model(model, "top_patches")
    field = receptive_field(model)[node]
    _check_channel(channel, field.output_shape[0], node)
    most = as_int(count, "count", 1)
    best: list[tuple[float, int, Patch]] = []  # a heap, its smallest in front
    number = 0
    for part in _batches(images):
        maps = model.activations(part, names=[node])[node][:, channel]
        for image, values in zip(part, maps, strict=True):
            place = int(np.argmax(values))
            activation = float(values.reshape(-1)[place])
            if len(best) < most or activation > best[0][0]:
                position = tuple(int(i) for i in np.unravel_index(place, values.shape))
                region = field.region(position if position else (0,) * len(field.size))
                patch = Patch(
                    activation=activation,
                    image=number,
                    position=position,
                    region=region,
                    pixels=image[(slice(None), *region)].copy(),
                )
                entry = (activation, -number, patch)
                if len(best) < most:
                    heapq.heappush(best, entry)
                else:
                    heapq.heapreplace(best, entry)
            number += 1
    return [patch for _, _, patch in sorted(best, key=lambda entry: entry[:2], reverse=True)]


def maximize_activation(
    model: Model,
    node: str,
    channel: int,
    *,
    position: tuple[int, ...] | None = None,
    steps: int = 128,
    rate: float = 0.05,
    decay: float = 1e-3,
    smoothness: float = 1e-3,
    jitter: int = 2,
    start: Any = None,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """An image that excites a channel, climbed to by its gradient [1]_, [2]_.

    What is maximised is the mean of the channel (or one unit) less ``decay`` times the mean square of the image and
    ``smoothness`` times its total variation (mean square difference of neighbours). Each step follows the gradient over
    its root mean square, on an image that is shifted by up to ``jitter`` pixels, cyclically.

    Parameters
    ----------
    model : Model
        A net with one image input.
    node : str
    channel : int
    position : tuple of int, optional
        A single unit of the channel's map.
    steps : int, default 128
    rate : float, default 0.05
        Length of a step, root mean square of the pixels.
    decay, smoothness : float
        Of the regularisers.
    jitter : int, default 2
    start : ndarray of shape (C, *spatial), optional
        By default faint noise.
    seed : int, default 0
        Of noise and jitter.

    Returns
    -------
    image : ndarray of shape (C, *spatial)
    activations : ndarray of shape (steps + 1,)
        The mean of the channel, or the unit, before each step and at the end.

    References
    ----------
    .. [1] Erhan, Bengio, Courville and Vincent, "Visualizing Higher-Layer Features of a Deep Network", 2009.
    .. [2] Mahendran and Vedaldi, "Visualizing Deep Convolutional Neural Networks Using Natural Pre-Images", 2015,
       arXiv:1512.02017.
    """
    model = require_model(model, "maximize_activation")
    if len(model.graph.inputs) != 1:
        raise ValueError(f"this needs a net with one input, got {tuple(model.graph.inputs)}")
    (shape,) = model.graph.inputs.values()
    output_shape = model.graph.shapes[model.graph.node(node).name]
    _check_channel(channel, output_shape[0], node)
    if position is not None and (
        len(position) != len(output_shape) - 1
        or not all(0 <= y < n for y, n in zip(position, output_shape[1:], strict=True))
    ):
        raise ValueError(f"position must lie in a map of {output_shape[1:]}, got {position}")
    where: tuple[Any, ...] = (0, channel) if position is None else (0, channel, *position)
    rng = np.random.default_rng(seed)
    image = 0.01 * rng.standard_normal(shape) if start is None else np.array(start, dtype=np.float64)
    if image.shape != shape:
        raise ValueError(f"start must be of the net's input shape {shape}, got {image.shape}")
    axes = tuple(range(1, len(shape)))
    found: list[float] = []

    def mean_of_channel(output: Array) -> Array:
        found.append(float(output[where].mean()))
        share = np.zeros_like(output)
        share[where] = 1 / output[where].size
        return share

    for _ in range(as_int(steps, "steps", 1)):
        shift = tuple(int(n) for n in rng.integers(-jitter, jitter + 1, len(axes)))
        seen = np.roll(image, shift, axes)[None].astype(model.dtype)
        gradient = model.input_gradient(seen, mean_of_channel, node)[0].astype(np.float64)
        climb = np.roll(gradient, tuple(-n for n in shift), axes)
        climb -= (2 * decay * image + smoothness * _roughness_gradient(image)) / image.size
        length = float(np.sqrt(np.mean(climb**2)))
        if length > 0:
            image = image + rate * climb / length
    result = image.astype(model.dtype)
    found.append(float(model.activations(result[None], names=[node])[node][where].mean()))
    return result, np.array(found)


def _check_channel(channel: int, channels: int, node: str) -> None:
    if not 0 <= as_int(channel, "channel") < channels:
        raise ValueError(f"channel must lie in [0, {channels}) at node {node!r}, got {channel}")


def _roughness_gradient(image: Array) -> Array:
    """Gradient of the sum of squared differences of neighbours."""
    total = np.zeros_like(image)
    for axis in range(1, image.ndim):
        step = 2 * np.diff(image, axis=axis)
        before = [(0, 0)] * image.ndim
        before[axis] = (1, 0)
        after = [(0, 0)] * image.ndim
        after[axis] = (0, 1)
        total += np.pad(step, before) - np.pad(step, after)
    return total


def _batches(images: Any) -> Iterable[Array]:
    """Batches of an array, or those that an iterable gives."""
    if not isinstance(images, np.ndarray):
        yield from (np.asarray(part) for part in images)
        return
    for first in range(0, len(images), _BATCH):
        yield images[first : first + _BATCH]
