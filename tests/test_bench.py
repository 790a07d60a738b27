"""The benchmark's problem lines are problems that fastconv solves, and its report says what was measured."""

from __future__ import annotations

import re

import numpy as np
import pytest

import fastconv.functional as F
import fastconv.grad as G
from fastconv._spec import ConvSpec
from kit import integers, reference
from problem_line import PROBLEMS, parse, read
from report import END, START, rewrite, section

CONVS = [
    pytest.param(each, id=f"{file}-{each.name}") for file in ("resnet50", "vgg16") for each in read(file)
]


def test_a_line_is_its_sizes() -> None:
    problem = parse('mb8 ic64 ih56 iw48 oc32 kh3 sh2 ph1 g2 n"block.2*3"')
    assert (problem.name, problem.count) == ("block.2", 3)
    assert problem.input_shape == (8, 64, 56, 48)
    assert problem.weight_shape == (32, 32, 3, 3)
    assert (problem.pair("s"), problem.pair("p"), problem.pair("d")) == ((2, 2), (1, 1), (1, 1))
    assert problem.out_size == (28, 24)
    assert problem.macs == 8 * 32 * 28 * 24 * 32 * 9


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("ic3 ih8 xx3", "'xx3'"),
        ("ic3 ih8 kh", "'kh'"),
        ("ic3 ih8 kh-1", "'kh-1'"),
        ("ic3 oc3", "needs ih"),
        ("ic3 ih8 ic4", "ic is given twice"),
        ('ic3 ih8 n"a b"', "words like"),
    ],
)
def test_lines_that_are_no_problem_are_refused(line: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(line)


@pytest.mark.parametrize("file", sorted(path.stem for path in PROBLEMS.glob("*.txt")))
def test_every_file_has_problems_with_names_of_their_own(file: str) -> None:
    names = [each.name for each in read(file)]
    assert names
    assert len(set(names)) == len(names)


def test_the_nets_have_their_published_cost() -> None:
    """15.35 GMAC for VGG-16's convolutions; 4.09 for ResNet-50 with its 7x7 stem (0.118) and classifier (0.002)."""
    cost = {
        file: sum(each.macs // each["mb"] * each.count for each in read(file))
        for file in ("vgg16", "resnet50")
    }
    assert cost["vgg16"] == 15_346_630_656
    assert cost["resnet50"] == 4_089_184_256 - 112**2 * 64 * 3 * 49 - 2048 * 1000
    assert sum(each.count for each in read("resnet50")) == 52


@pytest.mark.parametrize("problem", CONVS)
def test_layers_of_the_nets_are_right(problem: object) -> None:
    """All channels of each layer on a corner of its image; integers, so the results must be equal."""
    rng = np.random.default_rng(0)
    size = tuple(min(n, 5) for n in problem.input_shape[2:])
    options = {"stride": problem.pair("s"), "padding": problem.pair("p")}
    spec = ConvSpec.from_shapes((1, problem["ic"], *size), problem.weight_shape, "float32", **options)
    x, w, y = (
        integers(rng, shape, "float32") for shape in (spec.input_shape, spec.weight_shape, spec.output_shape)
    )
    np.testing.assert_array_equal(
        F.conv2d(x, w, **options), reference("conv_forward", spec, x, w, None, None)
    )
    np.testing.assert_array_equal(
        G.conv2d_input(x.shape, w, y, **options), reference("conv_input_grad", spec, y, w, None, None)
    )
    np.testing.assert_array_equal(
        G.conv2d_weight(x, w.shape, y, **options), reference("conv_weight_grad", spec, x, y)
    )


def row(name: str, ratio: float, **other: object) -> dict[str, object]:
    times = {
        "fastconv": {"min": 0.002, "median": 0.003},
        "torch NCHW": {"min": 0.002 * ratio, "median": 0.004},
    }
    return {
        "file": "net",
        "line": f'ic1 ih1 n"{name}"',
        "name": name,
        "pass": "forward",
        "threads": 1,
        "times": times,
        "rate": 12.5,
        "unit": "GFLOP/s",
        "rival": "torch NCHW",
        "ratio": ratio,
    } | other


CONFIG = {"version": "1", "isa": "avx2", "compiler": "gcc", "torch": "2", "cpu": "a CPU"}


def test_the_report_keeps_the_rows_that_lose() -> None:
    text = section({"config": CONFIG, "rows": [row("a", 2.0), row("b", 0.5), row("c", 4.0, threads=2)]})
    assert "| net | forward | 1 | 2 | 1.00 | 2.00 | **0.50** | 1 |" in text
    assert "| net | forward | 2 | 1 | 4.00 | 4.00 | 4.00 | 0 |" in text
    assert re.search(
        r'n"b"` \| forward \| 1 \| 2\.000 ms \| 12\.5 GFLOP/s \| 1\.000 ms \(NCHW\) \| \*\*0\.50\*\*', text
    )


def test_the_report_replaces_what_is_between_its_marks_alone() -> None:
    readme = f"above\n{START}\nold\n{END}\nbelow\n"
    once = rewrite(readme, "new")
    assert once == f"above\n{START}\nnew\n{END}\nbelow\n"
    assert rewrite(once, "new") == once
    for broken in ("none", f"{END} {START}", f"{START} {START} {END}"):
        with pytest.raises(ValueError, match="must have one"):
            rewrite(broken, "new")
