"""A layered drawing of a directed acyclic graph: who stands in which row, and where (Sugiyama et al. 1981).

Rows follow the longest path. An edge that spans several rows passes through a bend in each row between, which takes
part in the ordering as if it were a box; the edges that leave one box share their bends.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

SWEEPS = 12  # down and up again; drawings of usual nets settle in a few
_STRAIGHT = 8.0  # how much more an edge between two boxes, or two bends, wants to be straight than others

Point = tuple[float, float]


@dataclass(frozen=True)
class Drawing:
    """Where everything is; y grows upwards and is 0 at the top.

    Attributes
    ----------
    centres : dict of str to (x, y)
        Of the boxes.
    routes : dict of (str, str) to list of (x, y)
        For each edge an even number of points, from the lower side of the upper box to the upper side of the lower
        one: from the first to the second it crosses the space between two rows, from there to the third it runs
        straight down through a row, and so on.
    left, right, bottom : float
        What it spans.
    """

    centres: dict[str, Point]
    routes: dict[tuple[str, str], list[Point]]
    left: float
    right: float
    bottom: float


@dataclass
class _Item:
    """A box, or a bend (of width 0 and no name of its own) of a long edge."""

    row: int
    half: float  # of its width
    bend: bool
    above: list[_Item] = field(default_factory=list)
    below: list[_Item] = field(default_factory=list)
    x: float = 0.0
    wish: float = 0.0  # where it would rather be


def layered(
    boxes: Mapping[str, Sequence[str]], sizes: Mapping[str, tuple[float, float]], gap: float, row_gap: float
) -> Drawing:
    """Draw boxes and edges.

    Parameters
    ----------
    boxes : mapping of str to sequence of str
        For each box those that it follows, in topological order.
    sizes : mapping of str to (width, height)
        Of each box.
    gap, row_gap : float
        Least distance between neighbours in a row (half of it between edges), and distance between rows.

    Returns
    -------
    Drawing
    """
    rows = _rows(boxes)
    items = {name: _Item(rows[name], sizes[name][0] / 2, bend=False) for name in boxes}
    ranks: list[list[_Item]] = [[] for _ in range(max(rows.values()) + 1)]
    for name in boxes:
        ranks[rows[name]].append(items[name])
    chains: dict[str, list[_Item]] = {}  # of each box, the bends of its longest edge: the others branch off
    for name in boxes:
        last = max((rows[other] for other in boxes if name in boxes[other]), default=0)
        chains[name] = [_Item(row, 0.0, bend=True) for row in range(rows[name] + 1, last)]
        for bend in chains[name]:
            ranks[bend.row].append(bend)
        for upper, lower in itertools.pairwise([items[name], *chains[name]]):
            _link(upper, lower)
    for name, sources in boxes.items():
        for source in dict.fromkeys(sources):
            _link([items[source], *chains[source]][rows[name] - rows[source] - 1], items[name])
    _order(ranks)
    _spread(ranks, gap)

    tall = [max(sizes[name][1] for name in boxes if rows[name] == row) for row in range(len(ranks))]
    tops = [-sum(tall[:row]) - row * row_gap for row in range(len(ranks))]
    centres = {name: (item.x, tops[item.row] - tall[item.row] / 2) for name, item in items.items()}
    routes = {}
    for name, sources in boxes.items():
        for source in sources:
            (x, y), (end_x, end_y) = centres[source], centres[name]
            through = [
                (bend.x, tops[bend.row] - down)
                for bend in chains[source][: rows[name] - rows[source] - 1]
                for down in (0.0, tall[bend.row])
            ]
            start, end = (x, y - sizes[source][1] / 2), (end_x, end_y + sizes[name][1] / 2)
            routes[source, name] = [start, *through, end]
    everything = [item for rank in ranks for item in rank]
    return Drawing(
        centres=centres,
        routes=routes,
        left=min(item.x - item.half for item in everything),
        right=max(item.x + item.half for item in everything),
        bottom=tops[-1] - tall[-1],
    )


def _link(upper: _Item, lower: _Item) -> None:
    upper.below.append(lower)
    lower.above.append(upper)


def _rows(boxes: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """The longest path down to each box; one that follows none stands right above the first that follows it."""
    rows: dict[str, int] = {}
    for name, sources in boxes.items():
        rows[name] = 1 + max((rows[source] for source in sources), default=-1)
    for name in boxes:
        if not boxes[name]:
            rows[name] = min((rows[other] for other in boxes if name in boxes[other]), default=1) - 1
    return rows


def _order(ranks: list[list[_Item]]) -> None:
    """Order each row by the mean position of its neighbours in the row before, to and fro."""
    for rank in ranks:
        _number(rank)
    for _ in range(SWEEPS):
        for order, side in ((ranks, "above"), (ranks[::-1], "below")):
            for rank in order:
                for item in rank:
                    near: list[_Item] = getattr(item, side)
                    item.wish = fmean(other.x for other in near) if near else item.x
                rank.sort(key=lambda item: item.wish)
                _number(rank)


def _number(rank: list[_Item]) -> None:
    for position, item in enumerate(rank):
        item.x = float(position)


def _spread(ranks: list[list[_Item]], gap: float) -> None:
    """Coordinates: each as near as possible to its neighbours above and below, in the order found."""
    for _ in range(SWEEPS):
        for rank in (*ranks, *ranks[::-1]):
            weights = []
            for item in rank:
                near = [*item.above, *item.below]
                pulls = [_STRAIGHT if other.bend == item.bend else 1.0 for other in near]
                weights.append(sum(pulls) or 1.0)
                pulled = sum(pull * other.x for pull, other in zip(pulls, near, strict=True))
                item.wish = pulled / weights[-1] if near else item.x
            _settle(rank, weights, gap)


def _settle(rank: list[_Item], weights: list[float], gap: float) -> None:
    """Move a row to where it is nearest to its wishes, in weighted least squares, keeping order and distances.

    Less the least distance from the first, positions need only not decrease: those that would are pooled.
    """
    offsets = [0.0]
    for left, right in itertools.pairwise(rank):
        between = gap / 2 if left.bend and right.bend else gap
        offsets.append(offsets[-1] + left.half + between + right.half)
    pools: list[tuple[float, float, int]] = []  # mean, weight, count
    for item, weight, offset in zip(rank, weights, offsets, strict=True):
        mean, total, count = item.wish - offset, weight, 1
        while pools and pools[-1][0] > mean:
            other, more, size = pools.pop()
            mean = (mean * total + other * more) / (total + more)
            total, count = total + more, count + size
        pools.append((mean, total, count))
    means = [mean for mean, _, count in pools for _ in range(count)]
    for item, mean, offset in zip(rank, means, offsets, strict=True):
        item.x = mean + offset
