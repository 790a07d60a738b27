"""What all pictures share: figures, images, maps with their colour bars, and tiles."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fastconv._optional import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


SIGNED, ONE_SIGNED = "RdBu_r", "viridis"
MARK = "#ffb000"
_TILE_INCHES = 0.85


def new_figure(width: float, height: float) -> Figure:
    return require("matplotlib.figure", extra="plot").Figure(figsize=(width, height), layout="constrained")


def with_ndim(array: Any, ndim: int, name: str, layout: str) -> np.ndarray:
    array = np.asarray(array)
    if array.ndim != ndim or 0 in array.shape:
        raise ValueError(f"{name} must be a non-empty array of shape {layout}, got shape {array.shape}")
    return array


def tiles(tiles: np.ndarray, title: str, label: str, columns: int | None, numbered: bool = True) -> Figure:
    """One picture of n tiles (n, h, w) in a grid, with a gap of one cell between them and one colour bar."""
    n, height, width = tiles.shape
    columns = columns or min(n, 8)
    rows = math.ceil(n / columns)
    canvas = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1), np.nan)
    for k, tile in enumerate(tiles):
        top, left = (k // columns) * (height + 1), (k % columns) * (width + 1)
        canvas[top : top + height, left : left + width] = tile
    figure = new_figure(
        max(4.5, columns * _TILE_INCHES + 1.6), max(2.2, rows * _TILE_INCHES * height / width + 0.7)
    )
    axes = figure.subplots()
    show_map(figure, axes, canvas, label)
    axes.set_title(title)
    axes.set_axis_off()
    for k in range(n if numbered else 0):
        corner = ((k % columns) * (width + 1) - 0.3, (k // columns) * (height + 1) - 0.3)
        box = {"facecolor": "white", "alpha": 0.7, "pad": 0.6, "linewidth": 0}
        axes.text(*corner, str(k), va="top", fontsize=6, bbox=box)
    return figure


def number_axis(axis: Any, count: int, extent: int, label: str) -> None:
    """Number the tiles along one axis of a picture of tiles."""
    axis.axes.set_axis_on()
    for spine in axis.axes.spines.values():
        spine.set_visible(False)
    axis.set_ticks(
        [k * (extent + 1) + (extent - 1) / 2 for k in range(count)], [str(k) for k in range(count)]
    )
    axis.set_tick_params(length=0, labelsize=7)
    axis.set_label_text(label)


def show_image(axes: Axes, image: Any) -> None:
    """A (C, H, W) image: grey for one channel, colours for three, else the mean of the channels."""
    image = with_ndim(image, 3, "image", "(C, H, W)").astype(np.float64)
    low, high = min(image.min(), 0.0), image.max()
    if len(image) == 3:
        axes.imshow(np.moveaxis((image - low) / ((high - low) or 1), 0, -1))
    else:
        axes.imshow(grey(image), cmap="gray")
    axes.set_xticks([])
    axes.set_yticks([])


def grey(image: np.ndarray) -> np.ndarray:
    return np.asarray(image, dtype=np.float64).mean(axis=0)


def show_map(
    figure: Any,
    axes: Axes,
    values: np.ndarray,
    label: str,
    limits: tuple[float, float] | None = None,
    alpha: np.ndarray | None = None,
) -> tuple[float, float]:
    """A map with its colour bar; around zero if it has negative values. Returns the ends of the scale."""
    finite = values[np.isfinite(values)]
    low, high = limits or (float(finite.min(initial=0)), float(finite.max(initial=0)))
    if low < 0:
        high = max(-low, high)
        low = -high
    if low == high:
        high = low + 1
    picture = axes.imshow(
        values,
        cmap=SIGNED if low < 0 else ONE_SIGNED,
        vmin=low,
        vmax=high,
        interpolation="nearest",
        alpha=alpha,
    )
    figure.colorbar(picture, ax=axes, label=label, shrink=0.8)
    axes.set_xticks([])
    axes.set_yticks([])
    return low, high
