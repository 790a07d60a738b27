"""Pictures of training: curves, distributions over time, findings."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fastconv._optional import require
from fastconv.plot._canvas import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fastconv.nn.diagnosis import Finding, Snapshot
    from fastconv.statistics import Statistics

# TensorBoard's: the median and, of a normal distribution, about 1/2, 1 and 3/2 standard deviations around it
_PERCENTILES = (0, 7, 16, 31, 50, 69, 84, 93, 100)
_MOST_RIDGES = 50


def training_curves(history: Mapping[str, Sequence[float]], title: str = "Training") -> Figure:
    """Every quantity of a training history over the epochs, training and validation in one panel.

    Parameters
    ----------
    history : mapping of str to sequence of float
        `History.history`: "loss", "val_loss", "accuracy", ... with one value per epoch.
    title : str

    Returns
    -------
    Figure
        One panel per quantity; the best validation epoch is marked.

    Raises
    ------
    ValueError
        If the history is empty.
    """
    names = [name for name in history if not name.startswith("val_") and len(history[name])]
    if not names:
        raise ValueError("history holds no epochs")
    figure = new_figure(4.6 * len(names), 3.6)
    figure.suptitle(title)
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for key, label, style in ((name, "training", "C0-"), (f"val_{name}", "validation", "C1-")):
            if key in history:
                axes.plot(np.arange(1, len(history[key]) + 1), history[key], style, marker=".", label=label)
        best = history.get(f"val_{name}")
        if best is not None and len(best):
            at = int(np.argmax(best) if name == "accuracy" else np.argmin(best))
            axes.plot(
                at + 1,
                best[at],
                "o",
                mfc="none",
                mec="C1",
                ms=10,
                label=f"best: {best[at]:.4g} (epoch {at + 1})",
            )
        axes.set_xlabel("epoch")
        axes.set_title(name)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def distributions(
    snapshots: Sequence[Snapshot],
    table: str,
    name: str,
    style: str = "ridges",
    *,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """How a distribution changes in the course of training, as TensorBoard draws it.

    Parameters
    ----------
    snapshots : sequence of Snapshot
        `fastconv.nn.callbacks.Diagnose.snapshots`.
    table : {"activations", "output_gradients", "gradients", "parameters", "updates"}
    name : str
        A node, or a parameter for the last three.
    style : {"ridges", "bands"}
        One histogram behind the other, the newest in front; or percentiles over the batches, each shade as much as half
        a standard deviation where the distribution is normal.
    title : str, optional
    ax : Axes, optional
        Where to draw; on a new figure by default.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If there is no such style, table or name, or nothing finite to draw.
    """
    if style not in ("ridges", "bands"):
        raise ValueError(f"style must be 'ridges' or 'bands', got {style!r}")
    tables = ("activations", "output_gradients", "gradients", "parameters", "updates")
    if table not in tables:
        raise ValueError(f"table must be one of {tables}, got {table!r}")
    series = [(s.step, getattr(s, table)[name]) for s in snapshots if name in getattr(s, table)]
    if not series:
        known = sorted({key for snapshot in snapshots for key in getattr(snapshot, table)})
        raise ValueError(f"no snapshot has {name!r} among its {table}, which are {known}")
    series = [(step, values) for step, values in series if values.finite]
    if not series:
        raise ValueError(f"{table} of {name!r} are nowhere finite")
    axes = ax if ax is not None else new_figure(6.4, 4.6).subplots()
    label = f"{table.replace('_', ' ')} of {name}"
    if style == "bands":
        _bands(axes, series)
        axes.set_xlabel("batch")
        axes.set_ylabel(label)
    else:
        _ridges(axes, series)
        axes.set_xlabel(label)
        axes.set_ylabel("batch, each with its density upwards")
    axes.set_title(title or f"Distribution of {label}")
    return axes


def gradient_flow(
    snapshots: Sequence[Snapshot], *, title: str = "Gradient flow", ax: Axes | None = None
) -> Axes:
    """The size of the gradient in every layer's output, from the first layer to the last.

    Parameters
    ----------
    snapshots : sequence of Snapshot
        `fastconv.nn.callbacks.Diagnose.snapshots`.
    title : str
    ax : Axes, optional
        Where to draw; on a new figure by default.

    Returns
    -------
    Axes
        A line for the first quarter of the snapshots and one for the last, median over range, on a logarithmic
        scale.  Where it falls to the left by orders of magnitude the gradient vanishes, where it rises it explodes.

    Raises
    ------
    ValueError
        If no snapshot has a gradient.
    """
    complete = [snapshot for snapshot in snapshots if snapshot.output_gradients]
    if not complete:
        raise ValueError("snapshots hold no gradients")
    names = list(complete[-1].output_gradients)[::-1]
    axes = ax if ax is not None else new_figure(max(5.0, 1.6 + 0.45 * len(names)), 4.2).subplots()
    quarter = -(-len(complete) // 4)
    parts = [("C0", "o", complete[:quarter]), ("C1", "s", complete[-quarter:])] if len(complete) > 1 else []
    for colour, marker, part in parts or [("C0", "o", complete)]:
        norms = [
            [s.output_gradients[name].norm for s in part if name in s.output_gradients] for name in names
        ]
        ranges = [_low_middle_high([norm for norm in column if 0 < norm < math.inf]) for column in norms]
        low, middle, high = zip(*ranges, strict=True)
        first, last = part[0].step, part[-1].step
        label = f"batch {first}" if first == last else f"batches {first} to {last}"
        axes.fill_between(range(len(names)), low, high, color=colour, alpha=0.2, linewidth=0)
        axes.plot(range(len(names)), middle, color=colour, marker=marker, label=label)
    axes.set_yscale("log")
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=8)
    axes.set_ylabel("norm of d loss / d output")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend()
    return axes


def findings(found: Sequence[Finding], *, title: str = "Diagnosis", ax: Axes | None = None) -> Axes:
    """Faults of a net as a table.

    Parameters
    ----------
    found : sequence of Finding
        From `fastconv.explain.diagnose` or `fastconv.nn.callbacks.Diagnose.findings`.
    title : str
    ax : Axes, optional
        Where to draw; on a new figure by default.

    Returns
    -------
    Axes
    """
    heads, widths = ("fault", "layer", "evidence", "advice"), (18, 14, 44, 52)
    rows = [(each.fault, each.layer or "the net", each.evidence, each.advice) for each in found]
    cells = [[textwrap.fill(cell, width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    lines = [max(cell.count("\n") + 1 for cell in row) for row in cells]
    axes = ax if ax is not None else new_figure(11, 1.0 + 0.17 * (sum(lines) + len(lines))).subplots()
    axes.set_axis_off()
    axes.set_title(title)
    if not cells:
        axes.text(0.5, 0.5, "no fault found", ha="center", va="center", transform=axes.transAxes)
        return axes
    table = axes.table(
        cells,
        colLabels=heads,
        colWidths=[width / sum(widths) for width in widths],
        cellLoc="left",
        colLoc="left",
        bbox=require("matplotlib.transforms", extra="plot").Bbox.unit(),
    )
    table.auto_set_font_size(False)
    table.set_fontsize(8)
    total = sum(lines) + 0.7 * len(lines) + 1.5
    for (row, _), cell in table.get_celld().items():
        cell.set_height((1.5 if row == 0 else lines[row - 1] + 0.7) / total)
        cell.set_edgecolor("0.8")
        if row == 0:
            cell.set_text_props(weight="bold")
    return axes


def _low_middle_high(values: Sequence[float]) -> tuple[float, float, float]:
    """Least, median and greatest; NaN, which is not drawn, for no values."""
    return (min(values), float(np.median(values)), max(values)) if values else (math.nan,) * 3


def _bands(axes: Axes, series: Sequence[tuple[int, Statistics]]) -> None:
    """Percentiles over the steps, darker towards the median."""
    steps = [step for step, _ in series]
    levels = np.array([values.quantile(np.array(_PERCENTILES) / 100) for _, values in series]).T
    half = len(_PERCENTILES) // 2
    for k in range(half):
        low, high = _PERCENTILES[k], _PERCENTILES[-1 - k]
        label = "least to greatest" if k == 0 else f"{low} % to {high} %"
        axes.fill_between(
            steps, levels[k], levels[-1 - k], color="C0", alpha=0.15 + 0.1 * k, linewidth=0, label=label
        )
    axes.plot(steps, levels[half], color="black", linewidth=1, label="median")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)


def _ridges(axes: Axes, series: Sequence[tuple[int, Statistics]]) -> None:
    """One density behind the other, from the oldest, light and behind, to the newest, dark and in front."""
    series = [series[k] for k in np.unique(np.linspace(0, len(series) - 1, _MOST_RIDGES).round().astype(int))]
    low = min(values.minimum for _, values in series)
    high = max(values.maximum for _, values in series)
    if low == high:
        low, high = low - 0.5, high + 0.5
    grid = np.linspace(low, high, 121)
    curves = [density(values, grid) for _, values in series]
    steps = [step for step, _ in series]
    gap = (steps[-1] - steps[0]) / max(len(steps) - 1, 1) or 1.0
    # the common height, two ridges, is that of the second largest cell: the zeros of a ReLU, all in one, are cut off
    common = float(np.median([np.partition(curve, -2)[-2] for curve in curves])) or 1.0
    heights = [np.minimum(curve / common, 1.5) * 2 * gap for curve in curves]
    shade = require("matplotlib", extra="plot").colormaps["cividis_r"]
    centres = (grid[:-1] + grid[1:]) / 2
    for k, (step, height) in enumerate(zip(steps, heights, strict=True)):
        colour = shade(0.15 + 0.85 * k / max(len(steps) - 1, 1))
        axes.fill_between(centres, -step, height - step, color=colour, alpha=0.85, linewidth=0, zorder=k)
        axes.plot(centres, height - step, color="white", linewidth=0.5, zorder=k)
    axes.yaxis.set_major_formatter(lambda value, _: f"{abs(value):g}" if value <= 0 else "")
    axes.yaxis.set_major_locator(require("matplotlib.ticker", extra="plot").MaxNLocator(integer=True))


def density(values: Statistics, grid: np.ndarray) -> np.ndarray:
    """Share of the elements between neighbouring points of a linear grid that spans them all."""
    edges, counts = values.histogram()
    cumulated = np.concatenate(([0], np.cumsum(counts))) / values.finite
    return np.diff(
        np.interp(grid, np.clip(edges, values.minimum, values.maximum), cumulated, left=0, right=1)
    )
