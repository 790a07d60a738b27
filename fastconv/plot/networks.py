"""Pictures of the net itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from fastconv._layered import layered
from fastconv._optional import require
from fastconv.graph import Graph, Node
from fastconv.nn._format import times
from fastconv.ops import Window

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fastconv.nn import Model

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
