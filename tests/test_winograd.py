"""Winograd convolution: values, its stated error bounds, infinities, threads, memory, and when it is chosen.

Results are compared with the reference in float64: by norm, since a tile mixes the rounding errors of its outputs, and
exactly where the arithmetic is exact (F(2 x 2) on small integers).
"""

from __future__ import annotations

import itertools
import math
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

import fastconv
import fastconv.functional as F
import fastconv.grad as G
from fastconv import _config, _dispatch
from fastconv._spec import ConvSpec
from fastconv.backends import _cpu_cost, _cpu_winograd
from kit import (
    Array,
    assert_within,
    bits,
    every_setting,
    integers,
    kernels,
    reference,
    run_python,
    with_threads,
)

OPS = ("conv_forward", "conv_input_grad", "conv_weight_grad")
TILES = (2, 4, 6)

# Largest errors in units of eps times the largest sum of absolute products; two to four times what is seen.
NORM = {2: 24, 4: 80, 6: 640}


def winograds(op: str, spec: ConvSpec) -> list[_dispatch.Implementation]:
    """The Winograd implementations that accept ``spec``."""
    return [each for each in kernels(op, spec) if each.name.startswith("winograd")]


def tile(kernel: _dispatch.Implementation) -> int:
    return int(kernel.name.removeprefix("winograd"))


def draw(op: str, spec: ConvSpec, make: Callable[[Any], Array]) -> list[Array]:
    """Operands of an op; the bias, where the public function takes one, comes last."""
    if op == "conv_forward":
        return [make(spec.input_shape), make(spec.weight_shape), make((spec.out_channels,))]
    if op == "conv_input_grad":
        return [make(spec.output_shape), make(spec.weight_shape), make((spec.in_channels,))]
    return [make(spec.input_shape), make(spec.output_shape)]


def normal(rng: np.random.Generator, op: str, spec: ConvSpec) -> list[Array]:
    return draw(op, spec, lambda shape: rng.standard_normal(shape).astype(spec.dtype))


def public(op: str, spec: ConvSpec, arrays: Sequence[Array], **options: Any) -> Array:
    """The call of a public function that a spec stands for; the input gradient with a bias is a transposed one."""
    room, dims = (G, F)[len(arrays) == 3 or op == "conv_forward"], f"{spec.ndim}d"
    sides: Any = [side for pair in zip(spec.pad_lo, spec.pad_hi, strict=True) for side in pair]
    options |= {"padding": sides, "dilation": spec.dilation, "groups": spec.groups}
    if op == "conv_weight_grad":
        arguments, name = [arrays[0], spec.weight_shape, arrays[1]], f"conv{dims}_weight"
    elif op == "conv_forward":
        arguments, name = [*arrays], f"conv{dims}"
    elif room is F:
        # what is negative of the padding, output_padding takes off
        options["output_padding"] = [max(0, -side) for side in spec.pad_hi]
        sides[1::2] = [max(0, side) for side in spec.pad_hi]
        arguments, name = [*arrays], f"conv_transpose{dims}"
    else:
        arguments, name = [spec.input_shape, arrays[1], arrays[0]], f"conv{dims}_input"
    return np.asarray(getattr(room, name)(*arguments, **options))


def expected(op: str, spec: ConvSpec, arrays: Sequence[Array]) -> Array:
    """The reference in float64."""
    double: list[Array | None] = [a.astype("float64") for a in arrays]
    if op != "conv_weight_grad":
        double += [None] * (4 - len(double))  # bias, out
    return np.asarray(reference(op, replace(spec, dtype="float64"), *double))


def check(op: str, spec: ConvSpec, rng: np.random.Generator, biased: bool = True) -> None:
    """Every Winograd algorithm that accepts ``spec``, by norm, and exactly on integers where its matrices are exact."""
    rounded = normal(rng, op, spec)
    exact = draw(op, spec, lambda shape: integers(rng, shape, spec.dtype))
    if not biased:
        rounded, exact = rounded[:2], exact[:2]
    want, want_exactly = expected(op, spec, rounded), expected(op, spec, exact)
    unit = np.finfo(spec.dtype).eps * expected(op, spec, [np.abs(a) for a in rounded]).max(initial=0.0)
    for kernel in winograds(op, spec):
        former: dict[str, bytes] = {}
        for setting in every_setting():
            where = f"{op} by {kernel.name} on {setting}: {spec}"
            got = public(op, spec, rounded, algorithm=kernel.name)
            assert got.dtype == spec.dtype, where
            error = np.abs(got - want).max(initial=0.0)
            assert error <= NORM[tile(kernel)] * unit, f"{where}: error {error / unit:.1f} units"
            assert former.setdefault(setting.partition(",")[0], bits(got)) == bits(got), f"other bits: {where}"
            if tile(kernel) == 2:
                got = public(op, spec, exact, algorithm=kernel.name)
                np.testing.assert_array_equal(got, want_exactly.astype(spec.dtype), where)


# ------------------------------------------------------------------------------------------------------ values


@st.composite
def specs(draw: st.DrawFn) -> ConvSpec:
    kernel = draw(st.sampled_from([(3, 3), (3, 3), (3, 3), (1, 3), (3, 1), (3,)]))
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    dilation = [draw(st.sampled_from([1, 1, 1, 2, 3, 5])) for _ in kernel]
    sides = [draw(st.integers(0, d + 2)) for d in dilation for _ in range(2)]
    size = []
    for i, (k, d) in enumerate(zip(kernel, dilation, strict=True)):
        needed = (k - 1) * d - sides[2 * i] - sides[2 * i + 1] + d  # an output as large as the dilation
        size.append(max(1, needed) + draw(st.sampled_from([0, 1, 2, 3, 5, 7, 11, 12, 20, 31])))
    channels = draw(st.sampled_from([1, 2, 3, 5, 8, 16, 17, 33]))
    return ConvSpec.from_shapes(
        (draw(st.sampled_from([0, 1, 1, 2, 3, 5, 9])), groups * channels, *size),
        (groups * draw(st.sampled_from([1, 2, 5, 6, 7, 12, 13, 25])), channels, *kernel),
        draw(st.sampled_from(["float32", "float64"])),
        1,
        "same" if draw(st.integers(0, 4)) == 0 and all(n >= d for n, d in zip(size, dilation, strict=True)) else sides,
        dilation,
        groups,
    )


@pytest.mark.parametrize("op", OPS)
@settings(max_examples=80)
@given(spec=specs(), biased=st.booleans(), seed=st.integers(0, 2**32))
def test_any_problem(op: str, spec: ConvSpec, biased: bool, seed: int) -> None:
    note(f"seed {seed}")
    names = {each.name for each in winograds(op, spec)}
    assert names == ({"winograd2", "winograd4", "winograd6"} if spec.kernel == (3, 3) else {"winograd4"})
    check(op, spec, np.random.default_rng(seed), biased)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("m", TILES)
def test_images_around_the_tile(op: str, m: int, dtype: str, rng: np.random.Generator) -> None:
    sizes = (1, m - 1, m, m + 1, 2 * m, 2 * m + 1, 17)
    for i, (h, w) in enumerate(itertools.product(sizes, sizes)):
        channels, rows = (1, 3, 8)[i % 3], (1, 5, 6, 7)[i % 4]
        check(op, ConvSpec.from_shapes((2, channels, h, w), (rows, channels, 3, 3), dtype, 1, 1), rng)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("channels", [1, 5, 6, 7, 12, 13, 15, 16, 17, 31, 33])
def test_channels_around_the_register_tile(
    op: str, channels: int, dtype: str, rng: np.random.Generator
) -> None:
    for c, k in ((channels, 13), (13, channels)):
        check(op, ConvSpec.from_shapes((1, c, 9, 10), (k, c, 3, 3), dtype, 1, 1), rng)
        check(op, ConvSpec.from_shapes((2, 2 * c, 11), (2 * k, c, 3), dtype, 1, 1, 1, 2), rng)


@pytest.mark.parametrize("op", OPS)
def test_tiles_around_the_panel(op: str, dtype: str, rng: np.random.Generator) -> None:
    """Panels hold up to 32 tiles, of several images where those are small."""
    for tiles in (1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 65):
        check(op, ConvSpec.from_shapes((1, 3, 4 * tiles), (4, 3, 3), dtype, 1, 1), rng)
        check(op, ConvSpec.from_shapes((tiles, 3, 2, 2), (4, 3, 3, 3), dtype, 1, 1), rng)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("dilation", [(1, 2), (2, 1), (2, 3), (5, 5)])
def test_dilation_with_every_remainder(
    op: str, dilation: tuple[int, int], dtype: str, rng: np.random.Generator
) -> None:
    """Phases of unequal length: some have one tile more than others."""
    for size in range(5, 16):
        spec = ConvSpec.from_shapes((2, 3, size, 20 - size), (5, 3, 3, 3), dtype, 1, dilation * 2, dilation)
        check(op, spec, rng)


@pytest.mark.parametrize("op", OPS)
def test_paddings(op: str, dtype: str, rng: np.random.Generator) -> None:
    """None, one side only, wider than a tile, and an input that is padding alone."""
    for sides in ((0, 0, 0, 0), (0, 2, 3, 0), (2, 0, 0, 1), (9, 11, 10, 13)):
        check(op, ConvSpec.from_shapes((2, 3, 7, 6), (4, 3, 3, 3), dtype, 1, sides), rng)
    check(op, ConvSpec.from_shapes((2, 3, 0, 4), (4, 3, 3, 3), dtype, 1, 2), rng)
    check(op, ConvSpec.from_shapes((2, 3, 1, 1), (4, 3, 3, 3), dtype, 1, 5, 2), rng)


@pytest.mark.parametrize("op", OPS)
def test_cropping_padding(op: str, dtype: str, rng: np.random.Generator) -> None:
    """output_padding of a transposed convolution leaves the convolution behind it a negative pad."""
    for extra, dilation in ((1, 2), (4, 5), ((0, 2), (1, 3))):
        spec = ConvSpec.transposed((2, 3, 9, 8), (3, 4, 3, 3), dtype, 1, 0, extra, 1, dilation)
        assert min(spec.pad_hi) < 0
        if op == "conv_input_grad":
            check(op, spec, rng)
        for kernel in winograds(op, spec):
            arrays = normal(rng, op, spec)
            got, want = kernel.run(spec, *arrays, *[None] * (op != "conv_weight_grad")), expected(op, spec, arrays)
            unit = np.finfo(dtype).eps * expected(op, spec, [np.abs(a) for a in arrays]).max()
            assert np.abs(got - want).max() <= NORM[tile(kernel)] * unit


@pytest.mark.parametrize("m", TILES)
def test_out_is_filled_and_its_neighbours_are_not(m: int, dtype: str, isa: str, rng: np.random.Generator) -> None:
    for spec in (
        ConvSpec.from_shapes((2, 3, 9, 10), (5, 3, 3, 3), dtype, 1, 1),
        ConvSpec.from_shapes((1, 2, 13, 7), (7, 2, 3, 3), dtype, 1, 2, 2),
    ):
        for op, shape in (("conv_forward", spec.output_shape), ("conv_input_grad", spec.input_shape)):
            arrays = normal(rng, op, spec)
            before = [bits(a) for a in arrays]
            room = np.full(math.prod(shape) + 128, np.nan, dtype)
            out = room[64:-64].reshape(shape)
            assert public(op, spec, arrays, algorithm=f"winograd{m}", out=out) is out
            assert bits(out) == bits(public(op, spec, arrays, algorithm=f"winograd{m}"))
            assert np.isnan(room[:64]).all() and np.isnan(room[-64:]).all()
            assert [bits(a) for a in arrays] == before


# Transformed tiles, filters and sums are cut into passes; each of these needs several of one kind in some algorithm.
LARGE = {
    "tiles": ((6, 128, 40, 40), (72, 128, 3, 3), 1, 1, 1),
    "filters": ((1, 130, 9, 10), (300, 130, 3, 3), 1, 1, 1),
    "rows of the weight gradient": ((2, 500, 6, 7), (520, 500, 3, 3), 1, 1, 1),
    "groups": ((3, 160, 30, 31), (160, 40, 3, 3), 1, 1, 4),
    "dilation": ((3, 48, 60, 61), (20, 48, 3, 3), 3, (2, 3), 1),
    "a wide row": ((1, 2, 3, 30_000), (3, 2, 3, 3), 1, 1, 1),
    "a wide row with phases": ((1, 2, 3, 20_001), (3, 2, 1, 3), (0, 5), (1, 5), 1),
    "a line": ((2, 3, 40_001), (4, 3, 3), 1, 1, 1),
    "a column": ((1, 3, 20_000, 2), (4, 3, 3, 1), (1, 0), 1, 1),
}


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("what", LARGE)
def test_several_passes(op: str, what: str, dtype: str, rng: np.random.Generator) -> None:
    shape, weight, padding, dilation, groups = LARGE[what]
    spec = ConvSpec.from_shapes(shape, weight, dtype, 1, padding, dilation, groups)
    arrays = normal(rng, op, spec)
    want = expected(op, spec, arrays)
    unit = np.finfo(dtype).eps * expected(op, spec, [np.abs(a) for a in arrays]).max()
    for kernel in winograds(op, spec):
        for isa in fastconv.supported_isas():
            with fastconv.force_isa(isa):
                got = public(op, spec, arrays, algorithm=kernel.name)
            assert np.abs(got - want).max() <= NORM[tile(kernel)] * unit, f"{kernel.name} on {isa}"


# ------------------------------------------------------------------------------------------------------ bounds


POINTS: dict[int, tuple[float, ...]] = {2: (0, 1, -1), 4: (0, 5 / 8, -5 / 8, 3 / 2, -3 / 2), 6: (0, 1, -1, 2, -2, 0.5, -0.5)}


def cook_toom(m: int) -> tuple[Array, Array, Array]:
    """B, G and A of F(m, 3), a row per interpolation point and one for infinity; the algorithm is A^T (G w * B x)."""
    points = np.array(POINTS[m])
    b, g, a = np.zeros((m + 2, m + 2)), np.zeros((m + 2, 3)), np.zeros((m + 2, m))
    for i, p in enumerate(points):
        others = np.delete(points, i)
        b[i, :-1] = np.poly(others)[::-1]
        g[i] = p ** np.arange(3) / np.prod(p - others)
        a[i] = p ** np.arange(m)
    b[-1] = np.poly(points)[::-1]
    g[-1, -1] = a[-1, -1] = 1
    return b, g, a


@pytest.mark.parametrize("m", TILES)
def test_cook_toom_matrices_compute_a_correlation(m: int, rng: np.random.Generator) -> None:
    b, g, a = cook_toom(m)
    x, w = rng.standard_normal(m + 2), rng.standard_normal(3)
    np.testing.assert_allclose(a.T @ ((g @ w) * (b @ x)), np.correlate(x, w, "valid"), atol=1e-12)


@pytest.mark.parametrize("m", TILES)
def test_growth_is_what_the_matrices_give(m: int) -> None:
    b, g, a = cook_toom(m)
    growth = np.einsum("fi,ft,f->it", np.abs(a), np.abs(g), np.abs(b).sum(1)).max()
    assert _cpu_winograd.GROWTH[m] == pytest.approx(growth, rel=1e-5)
    square = ConvSpec.from_shapes((1, 1, 9, 9), (1, 1, 3, 3), "float32")
    line = ConvSpec.from_shapes((1, 1, 9), (1, 1, 3), "float32")
    for op in OPS:
        for kernel in winograds(op, square):
            if tile(kernel) == m:
                assert kernel.error_growth(square) == pytest.approx(growth**2, rel=1e-5)
        for kernel in winograds(op, line):
            assert kernel.error_growth(line) == _cpu_winograd.GROWTH[4]


HEADER = Path(__file__).parents[1] / "src_cython/include/fc_winograd_tables.h"


def tables() -> dict[str, Array]:
    """The initializers of fc_winograd_tables.h as arrays."""
    text = re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.DOTALL)
    names = {}
    for name, value in re.findall(r"^#define (\w+) +(\S.*)$", text, re.MULTILINE):
        names[name] = eval(value, {}, names)
    found = {}
    for name, rows in re.findall(r"fc_table fc_winograd_(\w+)\[\] = (\{.*?\});", text, re.DOTALL):
        lists = eval(rows.replace("{", "[").replace("}", "]"), {}, names)
        found[name] = np.array([row + [0] * (8 - len(row)) for row in lists], "float64")
    return found


@pytest.mark.skipif(not HEADER.exists(), reason="the sources are not there")
@pytest.mark.parametrize("m", TILES)
def test_compiled_tables_are_the_cook_toom_matrices(m: int) -> None:
    """A table has one row for each pair of points +p and -p, between those of 0 and infinity."""
    for name, matrix in zip("bga", cook_toom(m), strict=True):
        table = tables()[f"{name}{m}"]
        rows = [table[0]]
        for row in table[1:-1]:
            rows += [row, row * (-1.0) ** np.arange(8)]
        rows.append(table[-1])
        width = matrix.shape[1]
        np.testing.assert_allclose(np.array(rows)[:, :width], matrix, rtol=1e-15, atol=1e-15, err_msg=name)
        assert not table[:, width:].any()


def magnitudes(op: str, spec: ConvSpec, arrays: list[Array]) -> tuple[int, Array]:
    """The number of products a result, and ``max|x| * sum|w|`` for each result."""
    x, w = (np.abs(a.astype("float64")) for a in arrays[:2])
    if op == "conv_weight_grad":  # sum of each gradient plane
        total = w.sum((0, *range(2, w.ndim)))
        terms = spec.batch * math.prod(spec.out_size)
        return terms, x.max() * total.reshape(-1, *[1] * (spec.ndim + 1))
    taps = tuple(range(2, w.ndim))
    channels = w.sum((1, *taps) if op == "conv_forward" else (0, *taps))
    terms = w[0].size if op == "conv_forward" else w[:, 0].size
    return terms, x.max() * channels.reshape(-1, *[1] * spec.ndim)


@pytest.mark.parametrize("op", OPS)
def test_errors_are_within_the_a_priori_bound(op: str, dtype: str, isa: str, rng: np.random.Generator) -> None:
    for shape, weight in (
        ((2, 24, 14, 15), (10, 24, 3, 3)),
        ((3, 1, 25, 9), (1, 1, 3, 3)),
        ((1, 130, 6, 6), (9, 130, 3, 3)),
        ((2, 24, 50), (10, 24, 3)),
    ):
        spec = ConvSpec.from_shapes(shape, weight, dtype, 1, 1)
        for scale, power in ((1.0, 1), (1e15, 1), (1.0, 2)):  # squares: all positive
            arrays = [(scale * a**power).astype(dtype) for a in normal(rng, op, spec)[:2]]
            want = expected(op, spec, arrays)
            terms, sums = magnitudes(op, spec, arrays)
            for kernel in winograds(op, spec):
                bound = kernel.error_growth(spec) * terms * np.finfo(dtype).eps * sums
                got = public(op, spec, arrays, algorithm=kernel.name)
                assert_within(got, want.astype(dtype), bound, f"{kernel.name}: {spec}, scale {scale}")


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize(("m", "most"), [(2, 5e-6), (4, 2e-5), (6, 2e-4)])
def test_typical_errors_are_small(op: str, m: int, most: float, isa: str) -> None:
    """Relative to the largest result; other interpolation points or a sum in another order would show."""
    spec = ConvSpec.from_shapes((1, 256, 26, 26), (256, 256, 3, 3), "float32", 1, 1)
    arrays = normal(np.random.default_rng(0), op, spec)[:2]
    want = expected(op, spec, arrays)
    got = public(op, spec, arrays, algorithm=f"winograd{m}")
    print(op, m, isa, np.abs(got - want).max() / np.abs(want).max())
    assert np.abs(got - want).max() <= most * np.abs(want).max()
