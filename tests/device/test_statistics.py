"""Sums of squares and statistics on the device, around a block's span and for numbers out of the ordinary."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="needs fastconv[cuda]")

from emulator import ORDERS, assemble, emulated, unsound
from fastconv import _dispatch
from fastconv._spec import ArraysSpec, StatisticsSpec
from fastconv.backends.cuda._reduction import SPAN, THREADS
from kit import Array, bits, integers, reference


def check(x: Array) -> None:
    """Counts and extremes as the reference has them, moments to rounding; the same bits in any order of threads."""
    spec = StatisticsSpec(size=x.size, dtype=x.dtype.name)
    expected, rare, histogram = reference("statistics", spec, x)
    seen = set()
    for order in ORDERS:
        with emulated(order=order) as device:
            moments, got_rare, got_histogram = _dispatch.run("statistics", spec, x)
            device.assert_clean()
        np.testing.assert_array_equal(got_rare, rare)
        np.testing.assert_array_equal(got_histogram, histogram)
        np.testing.assert_array_equal(moments[2:], expected[2:])
        np.testing.assert_allclose(moments[:2], expected[:2], rtol=1e-11, atol=1e-13 * np.abs(expected[3]))
        seen.add(bits(moments))
    assert len(seen) == 1
    for kernel, parameters in device.launched:
        assert not unsound(assemble(kernel, parameters), double="float64" in kernel.config), kernel


@pytest.mark.parametrize("size", [1, THREADS - 1, THREADS + 1, SPAN, SPAN + 1])
def test_statistics(size: int, dtype: str) -> None:
    rng = np.random.default_rng(size)
    x = (rng.standard_normal(size) * np.exp(rng.uniform(-20, 20, size))).astype(dtype)
    x[::3] = 0
    check(x)


def test_rare_numbers(dtype: str) -> None:
    info = np.finfo(dtype)
    odd = [np.nan, np.inf, -np.inf, 0.0, -0.0, info.smallest_subnormal, -info.smallest_normal / 2]
    check(np.array([*odd, 1.0, -1.75, 2.0, info.smallest_normal, -(2.0**-126), 3e38, -1e30], dtype))
    if dtype == "float64":
        check(np.array([2.0**-127, 1e150, -1e-200, 2.0**128, -(2.0**128)]))


@pytest.mark.parametrize("values", [[np.nan, np.inf], []])
def test_nothing_finite_has_no_moments(values: list[float]) -> None:
    x = np.array(values, np.float32)
    spec = StatisticsSpec(size=x.size, dtype="float32")
    with emulated():
        moments, rare, histogram = _dispatch.run("statistics", spec, x)
    assert np.isnan(moments).all()
    np.testing.assert_array_equal(rare, [0, 0, x.size])
    assert not histogram.any()


@pytest.mark.parametrize("sizes", [(), (1,), (3, 0, THREADS + 1), (SPAN + 1, 5, SPAN)])
def test_sums_of_squares(sizes: tuple[int, ...], dtype: str) -> None:
    arrays = [integers(np.random.default_rng(k), size, dtype) for k, size in enumerate(sizes)]
    spec = ArraysSpec(dtype=dtype)
    for order in ORDERS:
        with emulated(order=order) as device:
            got = _dispatch.run("square_sums", spec, arrays)
            assert not device.found
        assert got.dtype == np.float64
        np.testing.assert_array_equal(got, reference("square_sums", spec, arrays))
    for kernel, parameters in device.launched:
        assert not unsound(assemble(kernel, parameters), double="float64" in kernel.config), kernel


def test_the_square_of_a_large_float_does_not_overflow() -> None:
    with emulated():
        (total,) = _dispatch.run("square_sums", ArraysSpec(dtype="float32"), [np.full(40, 1e30, "float32")])
    assert total == pytest.approx(4e61, rel=1e-6)
