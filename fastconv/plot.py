"""Pictures. A function returns a new matplotlib `Figure` (save it with `figure.savefig(path)`) or, where it takes
`ax` and may be part of a larger picture, the `Axes` it drew on; none touches global state.

Signed quantities use a red-blue map centred at zero, one-signed ones a sequential map; tiles of one picture
share a scale.
"""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from fastconv._layered import layered
from fastconv._optional import require
from fastconv.graph import Graph, Node
from fastconv.nn._format import times
from fastconv.ops import Window

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fastconv.explain import OcclusionResult
    from fastconv.nn import Model
    from fastconv.nn.diagnosis import Finding, Snapshot
    from fastconv.statistics import Statistics

__all__ = [
    "benchmark_ratios",
    "distributions",
    "feature_maps",
    "filters",
    "findings",
    "gradient_flow",
    "network",
    "occlusion",
    "roofline",
    "saliency",
    "training_curves",
]

SIGNED, ONE_SIGNED = "RdBu_r", "viridis"

_TILE_INCHES = 0.85
_MARK = "#ffb000"
_WON, _LOST = "C0", "C3"
# TensorBoard's: the median and, of a normal distribution, about 1/2, 1 and 3/2 standard deviations around it
_PERCENTILES = (0, 7, 16, 31, 50, 69, 84, 93, 100)
_MOST_RIDGES = 50

_FONT = 8  # points, of the text in a net's boxes where there is room
_LINE, _CHARACTER = 1.35 * _FONT / 72, 0.58 * _FONT / 72  # inches
_ROW_GAP, _BOX_GAP, _MARGIN = (
    0.26,
    0.3,
    0.1,
)  # inches, between the rows of a net, neighbours in one, and around it
_COLORS = {
    "input": "#ffffff",
    "weights": "#d3e4f5",
    "window": "#fbe3c8",
    "join": "#d6ecd2",
    "pointwise": "#ececec",
}


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
    weight = _with_ndim(weight, 4, "weight", "(K, C, kh, kw)")
    shown = weight[:max_filters, :max_channels]
    if shown.size < weight.size:
        title += (
            f" (first {shown.shape[0]} of {weight.shape[0]}, channels {shown.shape[1]} of {weight.shape[1]})"
        )
    if weight.shape[1] == 1:
        return _tiles(shown[:, 0], title, "weight", columns=None)
    figure = _tiles(
        shown.reshape(-1, *shown.shape[2:]), title, "weight", columns=shown.shape[1], numbered=False
    )
    axes = figure.axes[0]
    _number_axis(axes.xaxis, shown.shape[1], shown.shape[3], "input channel")
    _number_axis(axes.yaxis, shown.shape[0], shown.shape[2], "filter")
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
    maps = _with_ndim(maps, 3, "maps", "(K, H, W)")
    if len(maps) > max_maps:
        title += f" (first {max_maps} of {len(maps)})"
    return _tiles(maps[:max_maps], title, "activation", columns=None)


def network(model: Model | Graph, ax: Axes | None = None) -> Axes:
    """The layers of a net and how they are connected, from top to bottom.

    A box holds a layer and the point-wise ones that follow it alone (normalisation, activation, dropout), each with
    its kernel and stride, and the shape of a sample that leaves it. Blue boxes have weights, orange ones only a
    window or another shape, green ones join branches, grey ones work point by point.

    Parameters
    ----------
    model : Model or Graph
        Any directed acyclic graph.
    ax : Axes, optional
        Where to draw; the text shrinks to fit. None makes a figure of the right size: `ax.figure.savefig(path)`.

    Returns
    -------
    Axes

    References
    ----------
    Sugiyama, Tagawa and Toda, "Methods for Visual Understanding of Hierarchical System Structures", 1981.
    """
    graph = model if isinstance(model, Graph) else model.graph
    boxes = _boxes(graph)
    home = {node.name: title for title, nodes in boxes.items() for node in nodes} | {
        name: name for name in graph.inputs
    }
    links = {
        title: [home[name] for name in nodes[0].inputs] if nodes else [] for title, nodes in boxes.items()
    }
    texts = {title: _box_lines(graph, title, nodes) for title, nodes in boxes.items()}
    sizes = {
        title: (_CHARACTER * (2 + max(map(len, lines))), _LINE * (len(lines) + 0.7))
        for title, lines in texts.items()
    }
    drawing = layered(links, sizes, _BOX_GAP, _ROW_GAP)
    left, right = drawing.left - _MARGIN, drawing.right + _MARGIN
    bottom, top = drawing.bottom - _MARGIN, _MARGIN

    if ax is None:
        figure = require("matplotlib.figure", extra="plot").Figure(figsize=(right - left, top - bottom))
        ax = figure.add_axes((0, 0, 1, 1))
    ax.set_axis_off()
    ax.set_aspect("equal")
    ax.set_xlim(left, right)
    ax.set_ylim(bottom, top)
    room = ax.get_window_extent()
    scale = min(room.width / (right - left), room.height / (top - bottom)) / ax.figure.dpi

    patches = require("matplotlib.patches", extra="plot")
    line = {"edgecolor": "0.35", "linewidth": 0.8 * scale}
    for route in drawing.routes.values():
        path = _smooth(route)
        ax.add_patch(
            patches.FancyArrowPatch(
                path=path, arrowstyle="-|>", mutation_scale=7 * scale, facecolor="0.35", **line
            )
        )
    for title, (x, y) in drawing.centres.items():
        width, height = sizes[title]
        corner, rounded = (x - width / 2, y - height / 2), "round,pad=0,rounding_size=0.05"
        color = _COLORS[_box_kind(graph, boxes[title])]
        ax.add_patch(patches.FancyBboxPatch(corner, width, height, boxstyle=rounded, facecolor=color, **line))
        ax.text(x, y, "\n".join(texts[title]), ha="center", va="center", fontsize=_FONT * scale)
    return ax


def _smooth(route: Sequence[tuple[float, float]]) -> Any:
    """A path along the points of an edge, vertical at each of them."""
    path = require("matplotlib.path", extra="plot").Path
    points, codes = [route[0]], [path.MOVETO]
    for number, ((x, y), (next_x, next_y)) in enumerate(pairwise(route)):
        if number % 2:
            points.append((next_x, next_y))
            codes.append(path.LINETO)
        else:
            middle = (y + next_y) / 2
            points += [(x, middle), (next_x, middle), (next_x, next_y)]
            codes += [path.CURVE4] * 3
    return path(points, codes)


def _boxes(graph: Graph) -> dict[str, list[Node]]:
    """The nodes of each box by the name of the first; an input's box has none."""
    uses = Counter(name for node in graph.nodes for name in node.inputs)
    boxes: dict[str, list[Node]] = {name: [] for name in graph.inputs}
    last: dict[str, str] = {}  # last node of a box -> its title
    for node in graph.nodes:
        before = node.inputs[0]
        follows = len(node.inputs) == 1 and uses[before] == 1 and before in last
        if follows and node.op.window(*graph.input_shapes(node)) is None and before not in graph.outputs:
            title = last.pop(before)
            boxes[title].append(node)
        else:
            title = node.name
            boxes[title] = [node]
        last[node.name] = title
    return boxes


def _box_lines(graph: Graph, title: str, box: list[Node]) -> list[str]:
    lines = [_node_line(graph, node) for node in box] or [title]
    return [*lines, times(graph.shapes[box[-1].name if box else title])]


def _node_line(graph: Graph, node: Node) -> str:
    window = node.op.window(*graph.input_shapes(node))
    if not isinstance(window, Window) or not (node.params or max(window.kernel, default=1) > 1):
        return node.name
    steps = window.expansion or window.stride
    step = "" if set(steps) == {1} else f", stride {times(steps if len(set(steps)) > 1 else steps[:1])}"
    return f"{node.name}: {times(window.kernel)}{step}"


def _box_kind(graph: Graph, box: list[Node]) -> str:
    if not box:
        return "input"
    if any(graph.macs(node) for node in box):
        return "weights"
    if len(box[0].inputs) > 1:
        return "join"
    return "pointwise" if box[0].op.window(*graph.input_shapes(box[0])) is None else "window"


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
    figure = _new_figure(12, 4.6)
    picture, grid, pixels = figure.subplots(1, 3)
    watched, predicted = (
        class_names[k] if class_names else str(k) for k in (result.watched, result.predicted)
    )
    kind = {None: "prediction", True: "correct prediction", False: "incorrect prediction"}[result.correct]
    figure.suptitle(
        title
        or f"Occlusion, window {times(result.window)}: the loss of class {watched}, {kind} of {predicted}"
    )

    _show_image(picture, result.image)
    picture.set_title(f"read as {predicted}, loss {result.loss:.2g}")
    top, left, height, width = result.most_important
    rectangle = require("matplotlib.patches", extra="plot").Rectangle
    box = {"fill": False, "edgecolor": _MARK, "linewidth": 2}
    picture.add_patch(rectangle((left - 0.5, top - 0.5), width, height, **box))
    picture.set_xlabel("box: hiding it raises the loss most")

    cells = _show_map(figure, grid, result.grid, "loss of the whole image - loss occluded")
    grid.set_title("per window position")
    grid.set_xlabel("left edge of the window")
    grid.set_ylabel("top edge of the window")
    for axis, edges in ((grid.xaxis, result.lefts), (grid.yaxis, result.tops)):
        shown = range(0, len(edges), math.ceil(len(edges) / 7))
        axis.set_ticks(shown, [str(edges[k]) for k in shown])

    values = result.pixel_map
    _show_map(figure, pixels, values, "mean over the windows that cover it", limits=cells)
    grey = _grey(result.image)
    if grey.max() > grey.min():  # outlines help to see where in the image a spot lies
        pixels.contour(
            grey, levels=[(grey.min() + grey.max()) / 2], colors="black", linewidths=0.6, alpha=0.6
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
    values = _with_ndim(values, 2, "values", "(H, W)")
    figure = _new_figure(7.6, 4.2)
    picture, heat = figure.subplots(1, 2)
    figure.suptitle(title)
    _show_image(picture, image)
    picture.set_title("image")
    _show_map(figure, heat, values, "d score / d pixel" if values.min() < 0 else "|d score / d pixel|")
    heat.set_title("sensitivity of the class score")
    return figure


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
    figure = _new_figure(4.6 * len(names), 3.6)
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
    axes = ax if ax is not None else _new_figure(6.4, 4.6).subplots()
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
    axes = ax if ax is not None else _new_figure(max(5.0, 1.6 + 0.45 * len(names)), 4.2).subplots()
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
    axes = ax if ax is not None else _new_figure(11, 1.0 + 0.17 * (sum(lines) + len(lines))).subplots()
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


def benchmark_ratios(
    rows: Sequence[Mapping[str, Any]], title: str = "Other libraries over fastconv"
) -> Figure:
    """How many times longer the fastest other library takes, a bar per problem and pass.

    Parameters
    ----------
    rows : sequence of mapping
        Of the JSON that ``fastconv bench`` writes; those without a ratio are left out.
    title : str

    Returns
    -------
    Figure
        One panel per number of threads, on a logarithmic scale; losses have another colour.

    Raises
    ------
    ValueError
        If no row has a ratio.
    """
    shown = [row for row in rows if row["ratio"] is not None]
    if not shown:
        raise ValueError("rows hold no ratio: fastconv was alone")
    counts = list(dict.fromkeys(row["threads"] for row in shown))
    labels = list(dict.fromkeys(f"{row['name']}, {row['pass']}" for row in shown))
    figure = _new_figure(3.2 + 4 * len(counts), 1.3 + 0.17 * len(labels))
    figure.suptitle(title)
    panels = figure.subplots(1, len(counts), sharey=True, sharex=True, squeeze=False)[0]
    for axes, count in zip(panels, counts, strict=True):
        here = [row for row in shown if row["threads"] == count]
        ratios = np.array([row["ratio"] for row in here])
        places = [labels.index(f"{row['name']}, {row['pass']}") for row in here]
        # From 1, where both are as fast, to the right for a win and to the left for a loss.
        axes.barh(places, ratios - 1, left=1, color=np.where(ratios >= 1, _WON, _LOST), height=0.75)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.axvline(1, color="black", linewidth=0.8)
        axes.set_yticks(range(len(labels)), labels, fontsize=6)
        axes.set_ylim(len(labels) - 0.4, -0.6)
        lost = int(np.count_nonzero(ratios < 1))
        axes.set_title(f"{count} thread{'s' * (count != 1)}: {lost} of {len(ratios)} lost", fontsize=9)
        axes.set_xlabel("time of the fastest other / time of fastconv")
        axes.grid(axis="x", alpha=0.3)
    return figure


def roofline(
    rows: Sequence[Mapping[str, Any]], peak: float, bandwidth: float, title: str = "Roofline"
) -> Figure:
    """Rates that were reached, under what the machine allows.

    Parameters
    ----------
    rows : sequence of mapping
        Of the JSON that ``fastconv bench`` writes, of one number of threads.  A dot is a problem's pass that
        multiplies; it lies above the roof where an algorithm saves multiplications.
    peak : float
        Operations a second.
    bandwidth : float
        Bytes a second.
    title : str

    Returns
    -------
    Figure
        Logarithmic axes: operations per byte against GFLOP/s.

    Raises
    ------
    ValueError
        If no row counts operations.

    References
    ----------
    Williams, Waterman, Patterson: Roofline: an insightful visual performance model, CACM 52 (4), 2009.
    """
    shown = [row for row in rows if row["flop"] and row["rate"] is not None]
    if not shown:
        raise ValueError("rows hold no problem that counts operations")
    figure = _new_figure(8, 5.2)
    axes = figure.subplots()
    for kind in dict.fromkeys(row["pass"] for row in shown):
        here = [row for row in shown if row["pass"] == kind]
        intensity = [row["flop"] / row["bytes"] for row in here]
        axes.plot(intensity, [row["rate"] for row in here], ".", label=kind)
    left, right = axes.get_xlim()
    reach = np.geomspace(max(left, 0.1), max(right, 10 * peak / bandwidth), 200)
    roof = 1e-9 * np.minimum(peak, bandwidth * reach)
    label = f"{1e-9 * bandwidth:.1f} GB/s, then {1e-9 * peak:.0f} GFLOP/s"
    axes.plot(reach, roof, color="black", linewidth=1, label=label)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("operations per byte that must be moved")
    axes.set_ylabel("GFLOP/s, counted as the direct algorithm's")
    axes.set_title(title)
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    return figure


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
    curves = [_density(values, grid) for _, values in series]
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


def _density(values: Statistics, grid: np.ndarray) -> np.ndarray:
    """Share of the elements between neighbouring points of a linear grid that spans them all."""
    edges, counts = values.histogram()
    cumulated = np.concatenate(([0], np.cumsum(counts))) / values.finite
    return np.diff(
        np.interp(grid, np.clip(edges, values.minimum, values.maximum), cumulated, left=0, right=1)
    )


def _new_figure(width: float, height: float) -> Figure:
    return require("matplotlib.figure", extra="plot").Figure(figsize=(width, height), layout="constrained")


def _with_ndim(array: Any, ndim: int, name: str, layout: str) -> np.ndarray:
    array = np.asarray(array)
    if array.ndim != ndim or 0 in array.shape:
        raise ValueError(f"{name} must be a non-empty array of shape {layout}, got shape {array.shape}")
    return array


def _tiles(tiles: np.ndarray, title: str, label: str, columns: int | None, numbered: bool = True) -> Figure:
    """One picture of n tiles (n, h, w) in a grid, with a gap of one cell between them and one colour bar."""
    n, height, width = tiles.shape
    columns = columns or min(n, 8)
    rows = math.ceil(n / columns)
    canvas = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1), np.nan)
    for k, tile in enumerate(tiles):
        top, left = (k // columns) * (height + 1), (k % columns) * (width + 1)
        canvas[top : top + height, left : left + width] = tile
    figure = _new_figure(
        max(4.5, columns * _TILE_INCHES + 1.6), max(2.2, rows * _TILE_INCHES * height / width + 0.7)
    )
    axes = figure.subplots()
    _show_map(figure, axes, canvas, label)
    axes.set_title(title)
    axes.set_axis_off()
    for k in range(n if numbered else 0):
        corner = ((k % columns) * (width + 1) - 0.3, (k // columns) * (height + 1) - 0.3)
        box = {"facecolor": "white", "alpha": 0.7, "pad": 0.6, "linewidth": 0}
        axes.text(*corner, str(k), va="top", fontsize=6, bbox=box)
    return figure


def _number_axis(axis: Any, count: int, extent: int, label: str) -> None:
    """Number the tiles along one axis of a picture of tiles."""
    axis.axes.set_axis_on()
    for spine in axis.axes.spines.values():
        spine.set_visible(False)
    axis.set_ticks(
        [k * (extent + 1) + (extent - 1) / 2 for k in range(count)], [str(k) for k in range(count)]
    )
    axis.set_tick_params(length=0, labelsize=7)
    axis.set_label_text(label)


def _show_image(axes: Axes, image: Any) -> None:
    """A (C, H, W) image: grey for one channel, colours for three, else the mean of the channels."""
    image = _with_ndim(image, 3, "image", "(C, H, W)").astype(np.float64)
    low, high = min(image.min(), 0.0), image.max()
    if len(image) == 3:
        axes.imshow(np.moveaxis((image - low) / ((high - low) or 1), 0, -1))
    else:
        axes.imshow(_grey(image), cmap="gray")
    axes.set_xticks([])
    axes.set_yticks([])


def _grey(image: np.ndarray) -> np.ndarray:
    return np.asarray(image, dtype=np.float64).mean(axis=0)


def _show_map(
    figure: Figure, axes: Axes, values: np.ndarray, label: str, limits: tuple[float, float] | None = None
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
        values, cmap=SIGNED if low < 0 else ONE_SIGNED, vmin=low, vmax=high, interpolation="nearest"
    )
    figure.colorbar(picture, ax=axes, label=label, shrink=0.8)
    axes.set_xticks([])
    axes.set_yticks([])
    return low, high
