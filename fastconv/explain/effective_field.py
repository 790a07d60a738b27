"""The effective receptive field: how much of what a unit can see it really looks at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastconv._spec import as_int, as_int_tuple
from fastconv.explain._scores import require_model
from fastconv.explain.receptive_field import receptive_field

if TYPE_CHECKING:
    from fastconv.nn import Model

_LEAST_SHARE = 1 - 0.9545  # of the largest gradient: two standard deviations of a normal distribution
_BATCH = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class EffectiveField:
    """What one unit of a node reacts to, on average.

    Attributes
    ----------
    node : str
    position : tuple of int
        Of the unit.
    map : ndarray of shape (*spatial)
        Mean over the images of the absolute gradient of the unit, summed over the channels of the image.
    region : tuple of slice
        What the unit can see at most: the theoretical field, cut at the image's edges.
    """

    node: str
    position: tuple[int, ...]
    map: np.ndarray
    region: tuple[slice, ...]

    @property
    def size(self) -> float:
        """Side of the square, in pixels, that has as many pixels as are above 4.55 % of the map's maximum [1]_.

        In nets with one spatial axis their number, with three the side of the cube.
        """
        seen = int((self.map > _LEAST_SHARE * self.map.max()).sum()) if self.map.any() else 0
        return float(seen ** (1 / self.map.ndim))

    @property
    def share(self) -> float:
        """How much of the theoretical field that is: the ratio of their numbers of pixels."""
        return self.size**self.map.ndim / self.map[self.region].size


def effective_receptive_field(
    model: Model,
    node: str | None = None,
    images: Any = None,
    *,
    position: Sequence[int] | None = None,
    samples: int = 32,
    seed: int = 0,
) -> EffectiveField:
    """Measure by gradients what a unit looks at [1]_.

    Parameters
    ----------
    model : Model
        A net with one image input.
    node : str, optional
        Where the unit is; by default the last node whose units do not see the whole input.
    images : ndarray of shape (N, C, *spatial), optional
        What to look at; by default noise of mean 0 and variance 1.
    position : sequence of int, optional
        Of the unit in the node's map; by default its middle.
    samples : int, default 32
        How many images of noise.
    seed : int, default 0
        Of the noise.

    Returns
    -------
    EffectiveField

    Raises
    ------
    KeyError
        If there is no such node.
    ValueError
        If the node's units see the whole input or have no fixed field, or the shapes do not fit.

    References
    ----------
    .. [1] Luo, Li, Urtasun and Zemel, "Understanding the Effective Receptive Field in Deep Convolutional Neural
       Networks", 2016, arXiv:1701.04128.
    """
    model = require_model(model, "effective_receptive_field")
    table = receptive_field(model)
    if node is None:
        local = [field.node for field in table if not field.whole_input]
        if not local:
            raise ValueError("every unit of the net sees the whole input")
        node = local[-1]
    field = table[node]
    if field.whole_input:
        raise ValueError(f"the units of node {node!r} see the whole input")
    extents = field.output_shape[1:]
    at = (
        tuple(n // 2 for n in extents)
        if position is None
        else as_int_tuple(tuple(position), len(extents), "position", 0)
    )
    if any(y >= n for y, n in zip(at, extents, strict=True)):
        raise ValueError(f"position must lie in a map of {extents}, got {at}")
    shape = table.input_shape
    if images is None:
        count = as_int(samples, "samples", 1)
        images = np.random.default_rng(seed).standard_normal((count, *shape))
    batch = np.ascontiguousarray(images, dtype=model.dtype)
    if batch.shape[1:] != shape or not len(batch):
        raise ValueError(f"images must be of shape (N, {', '.join(map(str, shape))}), got {batch.shape}")
    unit: tuple[Any, ...] = (slice(None), slice(None), *at)
    total = np.zeros(shape[1:])
    for start in range(0, len(batch), _BATCH):
        part = batch[start : start + _BATCH]
        grad = np.zeros((len(part), *field.output_shape), dtype=model.dtype)
        grad[unit] = 1
        total += np.abs(model.input_gradient(part, grad, node)).sum(axis=(0, 1), dtype=np.float64)
    return EffectiveField(node=node, position=at, map=total / len(batch), region=field.region(at))
