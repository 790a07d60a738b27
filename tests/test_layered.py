"""Layered drawings: rows, order, distances, bends."""

import itertools

import numpy as np
import pytest

from fastconv._layered import layered


def draw(boxes, size=(1.0, 1.0), gap=0.5):
    return layered(boxes, dict.fromkeys(boxes, size), gap, 0.25)


def random_graph(seed):
    rng = np.random.default_rng(seed)
    return {
        str(i): [str(j) for j in rng.choice(i, size=min(i, rng.integers(1, 4)), replace=False)] if i else []
        for i in range(25)
    }


@pytest.mark.parametrize("seed", range(5))
def test_boxes_never_overlap_and_edges_run_down(seed):
    rng = np.random.default_rng(seed)
    boxes = random_graph(seed)
    sizes = {
        name: (float(w), float(h)) for name, (w, h) in zip(boxes, rng.uniform(0.5, 3, (25, 2)), strict=True)
    }
    drawing = layered(boxes, sizes, 0.5, 0.25)
    spans = {}
    for name, (x, y) in drawing.centres.items():
        width, height = sizes[name]
        assert drawing.left <= x - width / 2
        assert x + width / 2 <= drawing.right
        assert drawing.bottom <= y - height / 2 + 1e-9
        spans.setdefault(y, []).append((x - width / 2, x + width / 2))
    for row in spans.values():
        row.sort()
        assert all(right + 0.5 <= left + 1e-9 for (_, right), (left, _) in itertools.pairwise(row))
    assert set(drawing.routes) == {(a, b) for b, sources in boxes.items() for a in sources}
    for route in drawing.routes.values():
        heights = [y for _, y in route]
        assert heights == sorted(heights, reverse=True)
        assert len(route) % 2 == 0
        assert all(
            route[i][0] == route[i + 1][0] for i in range(1, len(route) - 1, 2)
        )  # straight through a row


def test_a_chain_is_a_straight_line():
    drawing = draw({"a": [], "b": ["a"], "c": ["b"]})
    assert [y for _, y in drawing.centres.values()] == [-0.5, -1.75, -3.0]
    assert len({x for x, _ in drawing.centres.values()}) == 1
    assert drawing.bottom == -3.5


def test_a_skipping_edge_goes_round_what_it_skips():
    drawing = draw({"a": [], "b": ["a"], "c": ["b", "a", "a"]})
    (_, first, second, _) = drawing.routes["a", "c"]
    assert first[0] == second[0]
    assert abs(first[0] - drawing.centres["b"][0]) >= 1.0 - 1e-9  # half a box and the gap


def test_crossings_are_undone():
    boxes = {"top": [], "l": ["top"], "r": ["top"], "under r": ["r"], "under l": ["l"]}
    centres = draw(boxes).centres
    assert (centres["l"][0] < centres["r"][0]) == (centres["under l"][0] < centres["under r"][0])


def test_a_late_input_stands_right_above_its_first_use():
    boxes = {"a": [], "late": [], "b": ["a"], "c": ["b"], "d": ["c", "late"]}
    centres = draw(boxes).centres
    assert centres["late"][1] == centres["c"][1]


def test_edges_that_leave_one_box_share_their_bends():
    boxes = {"a": [], "b": ["a"], "c": ["b", "a"], "d": ["c", "a"], "e": ["d", "a"]}
    routes = draw(boxes).routes
    assert len(routes["a", "e"]) == 2 + 2 * 3
    for name, bends in (("c", 1), ("d", 2)):
        assert routes["a", name][:-1] == routes["a", "e"][: 1 + 2 * bends]
