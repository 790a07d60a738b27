"""Pictures of what a net holds and what it looks at."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np

from fastconv._optional import require
from fastconv.nn._format import times
from fastconv.plot._canvas import (
    MARK,
    ONE_SIGNED,
    grey,
    new_figure,
    number_axis,
    show_image,
    show_map,
    tiles,
    with_ndim,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fastconv.explain import (
        Curve,
        EffectiveField,
        Field,
        FieldTable,
        LinearizationError,
        OcclusionResult,
    )

_DASHES = ("-", "--", "-.", ":")  # tell lines apart without their colours
_OVERLAID = 0.995  # of the pixels, that an overlay tells apart


def filters(
    weight: np.ndarray, title: str = "Filters", max_filters: int = 64, max_channels: int = 16
) -> Figure:
    """The filters of a convolution, red where positive and blue where negative.

    Parameters
    ----------
    weight : ndarray of shape (K, C, kh, kw)
        As `fastconv.explain.filters` returns it.
    title : str
    max_filters, max_channels : int
        What is shown of larger layers; the title says so.

    Returns
    -------
    Figure
        For C = 1 a grid of K tiles; otherwise one row per filter and one column per input channel.
    """
    weight = with_ndim(weight, 4, "weight", "(K, C, kh, kw)")
    shown = weight[:max_filters, :max_channels]
    if shown.size < weight.size:
        title += (
            f" (first {shown.shape[0]} of {weight.shape[0]}, channels {shown.shape[1]} of {weight.shape[1]})"
        )
    if weight.shape[1] == 1:
        return tiles(shown[:, 0], title, "weight", columns=None)
    figure = tiles(
        shown.reshape(-1, *shown.shape[2:]), title, "weight", columns=shown.shape[1], numbered=False
    )
    axes = figure.axes[0]
    number_axis(axes.xaxis, shown.shape[1], shown.shape[3], "input channel")
    number_axis(axes.yaxis, shown.shape[0], shown.shape[2], "filter")
    return figure


def feature_maps(maps: np.ndarray, title: str = "Feature maps", max_maps: int = 64) -> Figure:
    """The maps that an image raises in one layer, all on one scale.

    Parameters
    ----------
    maps : ndarray of shape (K, H, W)
        As `fastconv.explain.feature_maps` returns it.
    title : str
    max_maps : int
        What is shown of larger layers; the title says so.

    Returns
    -------
    Figure
    """
    maps = with_ndim(maps, 3, "maps", "(K, H, W)")
    if len(maps) > max_maps:
        title += f" (first {max_maps} of {len(maps)})"
    return tiles(maps[:max_maps], title, "activation", columns=None)


def occlusion(
    result: OcclusionResult, class_names: Sequence[str] | None = None, title: str | None = None
) -> Figure:
    """The image, the loss difference of every window position, and the mean over the windows that cover a
    pixel.

    Parameters
    ----------
    result : OcclusionResult
        From `fastconv.explain.occlusion`.
    class_names : sequence of str, optional
        Names for the labels.
    title : str, optional

    Returns
    -------
    Figure
    """
    figure = new_figure(12, 4.6)
    picture, grid, pixels = figure.subplots(1, 3)
    watched, predicted = (
        class_names[k] if class_names else str(k) for k in (result.watched, result.predicted)
    )
    kind = {None: "prediction", True: "correct prediction", False: "incorrect prediction"}[result.correct]
    figure.suptitle(
        title
        or f"Occlusion, window {times(result.window)}: the loss of class {watched}, {kind} of {predicted}"
    )

    show_image(picture, result.image)
    picture.set_title(f"read as {predicted}, loss {result.loss:.2g}")
    top, left, height, width = result.most_important
    rectangle = require("matplotlib.patches", extra="plot").Rectangle
    box = {"fill": False, "edgecolor": MARK, "linewidth": 2}
    picture.add_patch(rectangle((left - 0.5, top - 0.5), width, height, **box))
    picture.set_xlabel("box: hiding it raises the loss most")

    cells = show_map(figure, grid, result.grid, "loss of the whole image - loss occluded")
    grid.set_title("per window position")
    grid.set_xlabel("left edge of the window")
    grid.set_ylabel("top edge of the window")
    for axis, edges in ((grid.xaxis, result.lefts), (grid.yaxis, result.tops)):
        shown = range(0, len(edges), math.ceil(len(edges) / 7))
        axis.set_ticks(shown, [str(edges[k]) for k in shown])

    values = result.pixel_map
    show_map(figure, pixels, values, "mean over the windows that cover it", limits=cells)
    outline = grey(result.image)
    if outline.max() > outline.min():  # outlines help to see where in the image a spot lies
        pixels.contour(
            outline, levels=[(outline.min() + outline.max()) / 2], colors="black", linewidths=0.6, alpha=0.6
        )
    pixels.set_title("per pixel")
    return figure


def saliency(image: np.ndarray, values: np.ndarray, title: str = "Saliency") -> Figure:
    """An image and its saliency map.

    Parameters
    ----------
    image : ndarray of shape (C, H, W)
    values : ndarray of shape (H, W)
        As `fastconv.explain.saliency_map` returns it; signed values are drawn around zero.
    title : str

    Returns
    -------
    Figure
    """
    values = with_ndim(values, 2, "values", "(H, W)")
    figure = new_figure(7.6, 4.2)
    picture, heat = figure.subplots(1, 2)
    figure.suptitle(title)
    show_image(picture, image)
    picture.set_title("image")
    show_map(figure, heat, values, "d score / d pixel" if values.min() < 0 else "|d score / d pixel|")
    heat.set_title("sensitivity of the class score")
    return figure


def overlay(
    image: np.ndarray,
    values: np.ndarray,
    label: str = "attribution",
    *,
    opacity: float = 0.6,
    ax: Axes | None = None,
) -> Axes:
    """An attribution over the image in grey: the stronger, the less of the image shows through.

    Colours and opacity end at the magnitude that 99.5 % of the pixels stay below, so that a few do not hide the rest.

    Parameters
    ----------
    image : ndarray of shape (C, H, W)
    values : ndarray of shape (H, W)
        Signed ones are drawn around zero.
    label : str
        Of the colour bar: what is drawn, with its unit.
    opacity : float, default 0.6
        Of the strongest value, in (0, 1].
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    values = with_ndim(values, 2, "values", "(H, W)")
    if np.shape(image)[1:] != values.shape:
        raise ValueError(f"image and values must be of one size, got {np.shape(image)} and {values.shape}")
    if not 0 < opacity <= 1:
        raise ValueError(f"opacity must lie in (0, 1], got {opacity}")
    ax = ax or new_figure(5, 4.2).subplots()
    show_image(ax, grey(image)[None])
    end = float(np.quantile(np.abs(values), _OVERLAID)) or float(np.abs(values).max()) or 1.0
    limits = (-end, end) if values.min() < 0 else (0.0, end)
    show_map(ax.figure, ax, values, label, limits, alpha=opacity * np.minimum(np.abs(values) / end, 1))
    return ax


def receptive_fields(
    image: np.ndarray, table: FieldTable, nodes: Sequence[str] | None = None, *, ax: Axes | None = None
) -> Axes:
    """What the middle unit of some nodes sees, as boxes on the image.

    Parameters
    ----------
    image : ndarray of shape (C, H, W)
    table : FieldTable
        From `fastconv.explain.receptive_field`.
    nodes : sequence of str, optional
        By default all that have a field of another size than the node before, and do not see the whole input.
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    if np.shape(image)[1:] != table.input_shape[1:] or len(table.input_shape) != 3:
        raise ValueError(
            f"image must be of the size of the net's input, {table.input_shape[1:]}, got shape {np.shape(image)}"
        )
    ax = ax or new_figure(6, 4.6).subplots()
    show_image(ax, image)
    rectangle = require("matplotlib.patches", extra="plot").Rectangle
    colours = require("matplotlib", extra="plot").colormaps[ONE_SIGNED]
    chosen = _growing(table) if nodes is None else [table[name] for name in nodes]
    for number, field in enumerate(chosen):
        unit = tuple(extent // 2 for extent in field.output_shape[1:])
        rows, columns = field.region(unit)
        ax.add_patch(
            rectangle(
                (columns.start - 0.5, rows.start - 0.5),
                columns.stop - columns.start,
                rows.stop - rows.start,
                fill=False,
                linewidth=1.5,
                edgecolor=colours(number / max(1, len(chosen) - 1)),
                label=f"{field.node}: {times(field.size)} pixels",
            )
        )
    if chosen:
        ax.legend(loc="upper left", bbox_to_anchor=(1.02, 1), fontsize=7, frameon=False)
    return ax


def _growing(table: FieldTable) -> list[Field]:
    """The fields that are larger than those before."""
    chosen: list[Field] = []
    for field in table:
        if not field.whole_input and field.stride and field.size != (chosen[-1].size if chosen else (1, 1)):
            chosen.append(field)
    return chosen


def effective_field(field: EffectiveField, *, ax: Axes | None = None) -> Axes:
    """What a unit really looks at, in the box of what it could see.

    Parameters
    ----------
    field : EffectiveField
        Of a net of images, from `fastconv.explain.effective_receptive_field`.
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    values = with_ndim(field.map, 2, "map", "(H, W)")
    ax = ax or new_figure(5, 4.2).subplots()
    show_map(ax.figure, ax, values, "mean |d unit / d pixel|")
    rows, columns = field.region
    rectangle = require("matplotlib.patches", extra="plot").Rectangle
    corner = (columns.start - 0.5, rows.start - 0.5)
    box = {"fill": False, "edgecolor": MARK, "linewidth": 2}
    ax.add_patch(rectangle(corner, columns.stop - columns.start, rows.stop - rows.start, **box))
    ax.set_title(f"{field.node} at {field.position}: {field.share:.0%} of its receptive field")
    ax.set_xlabel(f"box: what it can see; it looks at some {field.size:.0f} x {field.size:.0f} pixels")
    return ax


def importance_curves(
    curves: Mapping[str, Curve], title: str = "Deletion", *, ax: Axes | None = None
) -> Axes:
    """Probability of a class while pixels are deleted, or inserted, the most important first.

    Parameters
    ----------
    curves : mapping of str to Curve
        From `fastconv.explain.deletion` or `fastconv.explain.insertion`, by the name of the attribution.
    title : str
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    ax = ax or new_figure(5, 3.6).subplots()
    for (name, curve), dash in zip(curves.items(), cycle(_DASHES), strict=False):
        ax.plot(100 * curve.shares, curve.scores, dash, label=f"{name}: area {curve.area:.3g}")
    ax.set_xlabel("pixels changed (%)")
    ax.set_ylabel("probability of the class")
    ax.set_title(title)
    if curves:
        ax.legend(fontsize=8)
    return ax


def linearization_error(error: LinearizationError, *, ax: Axes | None = None) -> Axes:
    """The error of the first-order Taylor view along a line, on logarithmic axes, beside a line of slope 2.

    Parameters
    ----------
    error : LinearizationError
        From `fastconv.explain.linearization_error`.
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    ax = ax or new_figure(5, 3.6).subplots()
    seen = (error.steps > 0) & (error.errors > 0)
    steps, errors = error.steps[seen], error.errors[seen]
    order = f"order {error.order:.2f}" if seen.sum() > 1 else "no error"
    ax.plot(steps, errors, "o-", label=f"measured, {order}")
    if seen.any():
        ax.set_xscale("log")
        ax.set_yscale("log")
        far = int(np.argmax(steps))
        ax.plot(steps, errors[far] * (steps / steps[far]) ** 2, "k:", label="second order")
    ax.set_xlabel("part of the way from the image")
    ax.set_ylabel("|score - linear view|")
    ax.legend(fontsize=8)
    return ax
