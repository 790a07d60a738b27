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
from fastconv import _config, _dispatch, _winograd
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


def winograds(op: str, spec: ConvSpec, tiles: tuple[int, ...] = TILES) -> list[_dispatch.Implementation]:
    """The Winograd implementations that accept ``spec``."""
    names = {f"winograd{m}" for m in tiles}
    return [each for each in kernels(op, spec) if each.name in names]


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


def check(
    op: str, spec: ConvSpec, rng: np.random.Generator, biased: bool = True, tiles: tuple[int, ...] = TILES
) -> None:
    """Every Winograd algorithm that accepts ``spec``, by norm, and exactly on integers where its matrices are exact."""
    rounded = normal(rng, op, spec)
    exact = draw(op, spec, lambda shape: integers(rng, shape, spec.dtype))
    if not biased:
        rounded, exact = rounded[:2], exact[:2]
    want, want_exactly = expected(op, spec, rounded), expected(op, spec, exact)
    unit = np.finfo(spec.dtype).eps * expected(op, spec, [np.abs(a) for a in rounded]).max(initial=0.0)
    for kernel in winograds(op, spec, tiles):
        former: dict[str, bytes] = {}
        for setting in every_setting():
            where = f"{op} by {kernel.name} on {setting}: {spec}"
            got = public(op, spec, rounded, algorithm=kernel.name)
            assert got.dtype == spec.dtype, where
            error = np.abs(got - want).max(initial=0.0)
            assert error <= NORM[tile(kernel)] * unit, f"{where}: error {error / unit:.1f} units"
            assert former.setdefault(setting.partition(",")[0], bits(got)) == bits(got), (
                f"other bits: {where}"
            )
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
        "same"
        if draw(st.integers(0, 4)) == 0 and all(n >= d for n, d in zip(size, dilation, strict=True))
        else sides,
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
        spec = ConvSpec.from_shapes((2, channels, h, w), (rows, channels, 3, 3), dtype, 1, 1)
        check(op, spec, rng, tiles=(m,))


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
    check(op, ConvSpec.from_shapes((2, 3, 0, 4), (4, 3, 3, 3), dtype, 1, 2), rng, biased=op == "conv_forward")
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
            got, want = (
                kernel.run(spec, *arrays, *[None] * (op != "conv_weight_grad")),
                expected(op, spec, arrays),
            )
            unit = np.finfo(dtype).eps * expected(op, spec, [np.abs(a) for a in arrays]).max()
            assert np.abs(got - want).max() <= NORM[tile(kernel)] * unit


@pytest.mark.parametrize("m", TILES)
def test_out_is_filled_and_its_neighbours_are_not(
    m: int, dtype: str, isa: str, rng: np.random.Generator
) -> None:
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


@pytest.mark.no_sanitize  # takes minutes there
@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("what", LARGE)
def test_several_passes(op: str, what: str, dtype: str, rng: np.random.Generator) -> None:
    """On one thread: what threads change of the cut is compared bit by bit below."""
    shape, weight, padding, dilation, groups = LARGE[what]
    spec = ConvSpec.from_shapes(shape, weight, dtype, 1, padding, dilation, groups)
    arrays = normal(rng, op, spec)
    want = expected(op, spec, arrays)
    unit = np.finfo(dtype).eps * expected(op, spec, [np.abs(a) for a in arrays]).max()
    for kernel in winograds(op, spec):
        for isa in fastconv.supported_isas():
            with fastconv.force_isa(isa), with_threads(1):
                got = public(op, spec, arrays, algorithm=kernel.name)
            assert np.abs(got - want).max() <= NORM[tile(kernel)] * unit, f"{kernel.name} on {isa}"


# ------------------------------------------------------------------------------------------------------ bounds


POINTS: dict[int, tuple[float, ...]] = {
    2: (0, 1, -1),
    4: (0, 5 / 8, -5 / 8, 3 / 2, -3 / 2),
    6: (0, 1, -1, 2, -2, 0.5, -0.5),
}


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
def test_errors_are_within_the_a_priori_bound(
    op: str, dtype: str, isa: str, rng: np.random.Generator
) -> None:
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


@pytest.mark.no_sanitize  # takes minutes there
@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize(("m", "most"), [(2, 2e-6), (4, 1e-5), (6, 5e-5)])
def test_typical_errors_are_small(op: str, m: int, most: float, isa: str) -> None:
    """Relative to the largest result; other interpolation points or a sum in another order would show."""
    spec = ConvSpec.from_shapes((1, 256, 26, 26), (256, 256, 3, 3), "float32", 1, 1)
    arrays = normal(np.random.default_rng(0), op, spec)[:2]
    want = expected(op, spec, arrays)
    got = public(op, spec, arrays, algorithm=f"winograd{m}")
    assert np.abs(got - want).max() <= most * np.abs(want).max()


# ------------------------------------------------------------------------------------------------------ special values


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", [0, 1])
def test_nan_and_infinity_reach_exactly_the_results_that_see_them(
    op: str, value: float, where: int, dtype: str, isa: str, rng: np.random.Generator
) -> None:
    """One element, first, last or inside, of either operand: the implicit product's result, bit by bit.

    A sample of finite results keeps its own, unless it is the filters that are not finite.
    """
    for spec in (
        ConvSpec.from_shapes((2, 3, 11, 10), (7, 3, 3, 3), dtype, 1, 1),
        ConvSpec.from_shapes((2, 4, 11, 12), (4, 2, 3, 3), dtype, 1, 2, 2, 2),
        ConvSpec.from_shapes((2, 3, 30), (7, 3, 3), dtype, 1, 1),
    ):
        clean = normal(rng, op, spec)
        for place in (0, clean[where].size // 3, clean[where].size - 1):
            arrays = [a.copy() for a in clean]
            arrays[where].flat[place] = value
            want = public(op, spec, arrays, algorithm="implicit_gemm")
            assert 0 < np.count_nonzero(~np.isfinite(want)) < want.size
            product = want
            for kernel in winograds(op, spec):
                if op != "conv_weight_grad" and where == 0:
                    hit = ~np.isfinite(product).all(axis=tuple(range(1, product.ndim)), keepdims=True)
                    want = np.where(hit, product, public(op, spec, clean, algorithm=kernel.name))
                got = public(op, spec, arrays, algorithm=kernel.name)
                np.testing.assert_array_equal(got, want, f"{kernel.name}: {spec}")
                if op != "conv_weight_grad":
                    out = np.zeros_like(want)
                    assert public(op, spec, arrays, algorithm=kernel.name, out=out) is out
                    np.testing.assert_array_equal(out, want, f"{kernel.name}: {spec}")


@pytest.mark.parametrize("op", OPS)
def test_sums_that_overflow_on_the_way_alone_are_right(op: str, isa: str, rng: np.random.Generator) -> None:
    """Tiles are sums of inputs with weights up to 5, and so beyond the largest float before the results are."""
    spec = ConvSpec.from_shapes((1, 2, 12, 13), (3, 2, 3, 3), "float32", 1, 1)
    arrays = normal(rng, op, spec)[:2]
    for large in (1e37, 5e37):
        given = [(large * np.sign(arrays[0])).astype("float32"), (arrays[1] / 50).astype("float32")]
        want = expected(op, spec, given)
        assert np.abs(want).max() < np.finfo("float32").max
        for kernel in winograds(op, spec):
            got = public(op, spec, given, algorithm=kernel.name)
            np.testing.assert_allclose(got, want, atol=1e-3 * np.abs(want).max(), rtol=0, err_msg=kernel.name)


@pytest.mark.parametrize("op", OPS[:2])
def test_a_bias_that_is_not_finite_stays_in_its_channel(
    op: str, dtype: str, isa: str, rng: np.random.Generator
) -> None:
    spec = ConvSpec.from_shapes((2, 3, 11, 10), (7, 3, 3, 3), dtype, 1, 1)
    *rest, bias = normal(rng, op, spec)
    for kernel in winograds(op, spec):
        clean = public(op, spec, [*rest, bias], algorithm=kernel.name)
        for value in (np.nan, np.inf):
            spoilt = bias.copy()
            spoilt[1] = value
            clean[:, 1] = value
            got = public(op, spec, [*rest, spoilt], algorithm=kernel.name)
            np.testing.assert_array_equal(got, clean)


# ------------------------------------------------------------------------------------------------------ threads, memory


@pytest.mark.parametrize("op", OPS)
def test_any_number_of_threads_gives_the_same_bits(
    op: str, dtype: str, isa: str, rng: np.random.Generator
) -> None:
    for spec in (
        ConvSpec.from_shapes((3, 16, 19, 23), (20, 16, 3, 3), dtype, 1, 1),
        ConvSpec.from_shapes((3, 128, 29, 28), (40, 128, 3, 3), dtype, 1, 1),
        ConvSpec.from_shapes((1, 140, 7, 6), (300, 140, 3, 3), dtype, 1, 1),
        ConvSpec.from_shapes((2, 24, 19, 23), (24, 8, 3, 3), dtype, 1, 2, 2, 3),
        ConvSpec.from_shapes((2, 5, 3000), (7, 5, 3), dtype, 1, 1),
    ):
        arrays = normal(rng, op, spec)
        for kernel in winograds(op, spec):
            results = []
            for n in (1, 2, 3, 5):
                with with_threads(n):
                    results.append(bits(public(op, spec, arrays, algorithm=kernel.name)))
            assert len(set(results)) == 1, f"{kernel.name}: {spec}"


@pytest.mark.parametrize("m", TILES)
def test_a_sample_s_result_does_not_depend_on_its_batch(
    m: int, dtype: str, isa: str, rng: np.random.Generator
) -> None:
    """The list of tiles is cut without regard to samples, and passes depend on the length of the list."""
    for shape, weight in (((9, 6, 7, 9), (13, 6, 3, 3)), ((5, 130, 30, 31), (12, 130, 3, 3))):
        spec = ConvSpec.from_shapes(shape, weight, dtype, 1, 1)
        alone = replace(spec, batch=1)
        for op in OPS[:2]:
            x, *rest = normal(rng, op, spec)
            together = public(op, spec, [x, *rest], algorithm=f"winograd{m}")
            for i in range(spec.batch):
                single = public(op, alone, [x[i : i + 1], *rest], algorithm=f"winograd{m}")
                assert bits(single) == bits(together[i : i + 1]), f"sample {i}: {op} of {spec}"


@pytest.mark.no_sanitize
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of the resident memory from /proc")
def test_scratch_memory_is_bounded() -> None:
    """The figures of _cpu_winograd's docstring, for two threads, with a little for the threads themselves."""
    code = """
import numpy as np, fastconv, fastconv.functional as F, fastconv.grad as G
def peak():
    return int(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0]) << 10
x, w = np.ones((2, 512, 28, 28), "float32"), np.ones((126, 512, 3, 3), "float32")
y, dx = np.ones((2, 126, 28, 28), "float32"), np.ones_like(x)
fastconv.set_num_threads(2)
F.conv2d(x[:1, :8], w[:8, :8], algorithm="winograd2")
before = peak()
for m in (2, 4, 6):
    F.conv2d(x, w, padding=1, algorithm=f"winograd{m}", out=y)
    F.conv_transpose2d(y, w, padding=1, algorithm=f"winograd{m}", out=dx)
    G.conv2d_weight(x, w.shape, y, padding=1, algorithm=f"winograd{m}")
print((peak() - before - w.nbytes) / 2**20)
"""
    grown = float(run_python("-c", code, OPENBLAS_NUM_THREADS="1"))
    assert grown <= 28 + 2 * 4 + 2


# ------------------------------------------------------------------------------------------------------ epilogue

ACTIVATE: dict[str, Callable[[Array], Array]] = {
    "linear": lambda y: y,
    "relu": lambda y: np.maximum(y, 0),
    "relu6": lambda y: np.clip(y, 0, 6),
    "leaky_relu": lambda y: np.where(y < 0, 0.25 * y, y),
}


@pytest.mark.parametrize("activation", ACTIVATE)
@pytest.mark.parametrize("m", [2, 4, 6])
@pytest.mark.parametrize("dilation", [1, 2])
def test_sums_are_activated_and_added_to_a_residual(
    activation: str, m: int, dilation: int, dtype: str, isa: str, rng: np.random.Generator
) -> None:
    """Before they are stored: whole tiles, cut ones, and those of a dilated image."""
    spec = ConvSpec.from_shapes((2, 3, 21, 22), (7, 3, 3, 3), dtype, 1, dilation, dilation)
    x, w, bias = (rng.standard_normal(s).astype(dtype) for s in (spec.input_shape, spec.weight_shape, (7,)))
    for residual in (None, rng.standard_normal(spec.output_shape).astype(dtype)):
        want = expected("conv_forward", spec, [x, w]) + bias.reshape(7, 1, 1)
        if residual is not None:
            want = want + residual
        out = np.full(spec.output_shape, np.nan, dtype)
        flat = x.reshape(-1), w.reshape(-1), bias, out.reshape(-1)
        rest = None if residual is None else residual.reshape(-1)
        assert _winograd.conv_forward(spec, *flat, m, _config.isa(), 2, activation, 0.25, rest)
        assert_within(
            out, ACTIVATE[activation](want).astype(dtype), 1e4 * np.finfo(dtype).eps, f"{activation}, F({m})"
        )


# ------------------------------------------------------------------------------------------------------ choice


def spec_of(
    channels: int = 128, size: int = 56, dtype: str = "float32", batch: int = 1, groups: int = 1
) -> ConvSpec:
    """A layer as they are met: 3 x 3, padded, as many channels out as in."""
    shape, weight = (batch, channels, size, size), (channels, channels // groups, 3, 3)
    return ConvSpec.from_shapes(shape, weight, dtype, 1, 1, 1, groups)


@pytest.mark.parametrize(
    ("name", "op"), [("conv2d", OPS[0]), ("grad.conv2d_input", OPS[1]), ("grad.conv2d_weight", OPS[2])]
)
def test_large_layers_take_winograd4_and_say_why(name: str, op: str, isa: str) -> None:
    spec = spec_of()
    x, w, y = (np.zeros(s, "float32") for s in (spec.input_shape, spec.weight_shape, spec.output_shape))
    arguments = {OPS[0]: (x, w), OPS[1]: (x.shape, w, y), OPS[2]: (x, w.shape, y)}[op]
    choice = fastconv.explain_choice(name, *arguments, padding=1)
    assert str(choice).startswith(f"{op}: cpu/winograd4")
    reasons = dict(choice.refusals)
    before = {OPS[0]: {"small", "direct"}, OPS[1]: {"small", "direct", "col2im"}, OPS[2]: {"direct"}}[op]
    assert set(reasons) == before | {"winograd2", "winograd6", "implicit_gemm"}
    assert "at most" in reasons["direct"]
    assert re.fullmatch(r"its error bound 1.56e\+03 exceeds max_error 200", reasons["winograd6"])
    for other in ("winograd2", "implicit_gemm"):
        assert re.fullmatch(r"by the cost model it takes [1-9][\d.]* times as long", reasons[other])


@pytest.mark.parametrize("op", OPS)
def test_max_error_decides_what_may_be_taken(op: str, isa: str, rng: np.random.Generator) -> None:
    spec = spec_of(64, 28)
    arrays = normal(rng, op, spec)
    plain = public(op, spec, arrays, algorithm="implicit_gemm")
    assert bits(public(op, spec, arrays, max_error=1)) == bits(plain)
    assert bits(public(op, spec, arrays)) != bits(plain)
    with pytest.raises(
        ValueError, match=r"algorithm 'winograd4' does not serve .* 175 exceeds max_error 100"
    ):
        public(op, spec, arrays, algorithm="winograd4", max_error=100)
    taken: dict[float | None, set[str]] = {None: set(), 20: set(), 2000: set()}
    for bound, names in taken.items():
        for channels, size, batch in itertools.product((8, 32, 128, 512), (4, 7, 14, 28, 56, 112), (1, 16)):
            choice = _dispatch.choose("cpu", op, spec_of(channels, size, batch=batch), "auto", bound)
            names.add(choice.implementation.name)
    assert "winograd4" in taken[None] and "winograd6" not in taken[None]
    assert not taken[20] & {"winograd4", "winograd6"}
    assert "winograd6" in taken[2000]


@pytest.mark.parametrize("op", OPS)
def test_float64_takes_winograd_on_request_alone(op: str, isa: str) -> None:
    choice = _dispatch.choose("cpu", op, spec_of(dtype="float64"), "auto", 2000)
    assert choice.implementation.name == "implicit_gemm"
    for m in TILES:
        assert dict(choice.refusals)[f"winograd{m}"] == "it serves this dtype on request alone"
        assert _dispatch.choose("cpu", op, spec_of(dtype="float64"), f"winograd{m}").refusals == ()


REFUSALS = [
    ((1, 2, 9, 9), (2, 2, 3, 3), {"stride": 2}, r"it serves stride 1, got \(2, 2\)"),
    ((1, 2, 9, 9), (2, 2, 3, 3), {"stride": (1, 2)}, r"it serves stride 1, got \(1, 2\)"),
    ((1, 2, 9, 9), (2, 2, 5, 5), {}, "3 x 3, 1 x 3 and 3 x 1 taps, got 5 x 5"),
    ((1, 2, 9, 9), (2, 2, 3, 2), {}, "3 x 3, 1 x 3 and 3 x 1 taps, got 3 x 2"),
    ((1, 2, 9, 9), (2, 2, 1, 1), {}, "3 x 3, 1 x 3 and 3 x 1 taps, got 1 x 1"),
    ((1, 2, 9), (2, 2, 4), {}, "it serves kernels of 3, .* got 4"),
    ((1, 2, 5, 5, 5), (2, 2, 3, 3, 3), {}, "it serves kernels of 3, .* got 3 x 3 x 3"),
    ((1, 2, 5, 5), (2, 2, 3, 3), {"padding": 1, "dilation": 3}, r"dilation \(3, 3\) leaves .* size \(1, 1\)"),
    ((1, 1, 3, 65_600), (1, 1, 3, 3), {}, "rows of up to 65536 elements.* got 65606"),
    ((1, 1, 65_531), (1, 1, 3), {}, "rows of up to 65536 elements.* got 65537"),
    ((1, 8193, 3, 3), (1, 8193, 3, 3), {}, "up to 8192 channels, got 8193"),
]


@pytest.mark.parametrize(("shape", "weight", "options", "message"), REFUSALS)
def test_refusals_state_rule_and_value(
    shape: tuple[int, ...], weight: tuple[int, ...], options: dict[str, Any], message: str
) -> None:
    x, w, dims = np.zeros(shape, "float32"), np.zeros(weight, "float32"), f"{len(shape) - 2}d"
    y = getattr(F, f"conv{dims}")(x, w, **options)
    message = f"algorithm 'winograd4' does not serve this .*: .*{message}"
    for function, arguments in (
        (getattr(F, f"conv{dims}"), (x, w)),
        (getattr(G, f"conv{dims}_input"), (x.shape, w, y)),
        (getattr(G, f"conv{dims}_weight"), (x, w.shape, y)),
    ):
        with pytest.raises(ValueError, match=message):
            function(*arguments, algorithm="winograd4", **options)


@pytest.mark.parametrize("m", [2, 6])
def test_one_sided_kernels_take_tiles_of_four(m: int) -> None:
    with pytest.raises(ValueError, match=f"one-sided kernels take tiles of 4, not {m}"):
        F.conv1d(np.zeros((1, 2, 9)), np.zeros((2, 2, 3)), algorithm=f"winograd{m}")


# ------------------------------------------------------------------------------------------------------ cost model


MODELLED = [
    spec_of(5, 9),
    spec_of(16, 14, batch=3),
    spec_of(12, 7, groups=2),
    ConvSpec.from_shapes((2, 3, 11, 13), (7, 3, 3, 3), "float32", 1, (2, 3), (2, 3)),
    ConvSpec.from_shapes((2, 3, 11, 13), (7, 3, 1, 3), "float32", 1, (0, 1)),
    ConvSpec.from_shapes((2, 3, 40), (7, 3, 3), "float32", 1, 1, 2),
]


def count_tiles(op: str, spec: ConvSpec, m: int) -> int:
    """Every result position named by its sample, phase and tile; positions along a side of one tap are tiles."""
    grid = spec.in_size if op == "conv_input_grad" else spec.out_size
    tiles = set()
    for position in np.ndindex(spec.batch, *grid):
        sides = zip(position[1:], spec.kernel, spec.dilation, strict=True)
        tiles.add((position[0], *((i % d, i // d // m) if k == 3 else (i, 0) for i, k, d in sides)))
    return len(tiles)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("spec", MODELLED, ids=str)
def test_features_are_counts(op: str, spec: ConvSpec, isa: str) -> None:
    lanes, rows = {"baseline": (4, 6), "avx2": (8, 6), "avx512": (16, 12)}[isa]
    c, k = spec.in_channels // spec.groups, spec.out_channels // spec.groups
    summed, produced = (k, c) if op == "conv_input_grad" else (c, k)
    padded = math.ceil(produced / rows) * rows
    taps = math.prod(spec.kernel)
    positions = spec.batch * math.prod(spec.in_size if op == "conv_input_grad" else spec.out_size)
    got = np.array(_cpu_cost.implicit_gemm_features(spec, op)) * lanes / spec.groups
    columns = positions * summed * taps
    np.testing.assert_allclose(
        got, [columns * padded, columns, positions * produced, taps * summed * produced]
    )
    for kernel in winograds(op, spec):
        m = tile(kernel)
        tiles, frequencies = count_tiles(op, spec, m), (m + 2) ** sum(n == 3 for n in spec.kernel)
        assert _cpu_cost.winograd_tiles(spec, op, m) == (tiles, frequencies)
        if op != "conv_weight_grad":
            tiles = math.ceil(tiles / (2 * lanes)) * 2 * lanes  # panels
        columns = math.ceil(summed / (2 * lanes)) * 2 * lanes if op == "conv_weight_grad" else summed
        got = np.array(_cpu_cost.winograd_features(spec, op, m)) * lanes / spec.groups / frequencies
        np.testing.assert_allclose(
            got, [tiles * columns * padded, tiles * summed, tiles * produced, summed * produced]
        )


@pytest.mark.parametrize("op", OPS)
def test_costs_are_positive_and_blind_to_the_number_of_threads(op: str, isa: str) -> None:
    for spec in MODELLED:
        costs = []
        for n in (1, 2, 7):
            with with_threads(n):
                _dispatch.forget_choices()
                named = {each.name: each.cost(spec) for each in kernels(op, spec) if each.cost}
                costs.append((named, _dispatch.choose("cpu", op, spec)))
        assert costs[0] == costs[1] == costs[2]
        assert all(0 < cost < math.inf for cost in costs[0][0].values())
        assert "implicit_gemm" in costs[0][0]


@pytest.mark.parametrize("op", OPS)
def test_another_instruction_set_chooses_anew(op: str) -> None:
    """A choice of one is not kept for the other: here Winograd would never pay on the baseline."""
    slow = {key: (1e9,) * 4 if key[1] else each for key, each in _cpu_cost._CONSTANTS["baseline"].items()}
    with mock.patch.dict(_cpu_cost._CONSTANTS, baseline=slow):
        for name in fastconv.supported_isas():
            with fastconv.force_isa(name):
                chosen = _dispatch.choose("cpu", op, spec_of()).implementation.name
                assert chosen == ("implicit_gemm" if name == "baseline" else "winograd4")
                assert _config.isa_name() == name
    _dispatch.forget_choices()
