"""Statistics of arrays: every kernel against the reference and against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from fastconv import _dispatch
from fastconv._spec import StatisticsSpec
from fastconv.statistics import describe
from kit import Array, bits, every_setting, kernels, reference

# around a vector, the width of the loops, a chunk, a task, and more tasks than one
SIZES = [1, 2, 3, 15, 16, 17, 31, 4095, 4096, 4097, 8191, 65535, 65536, 65537, 200_003]


def spec_of(x: Array) -> StatisticsSpec:
    return StatisticsSpec(size=x.size, dtype=x.dtype.name)


def check(x: Array) -> None:
    """All kernels on all settings: equal bits among threads, values as the reference has them."""
    spec = spec_of(x)
    mean, *_ = expected = reference("statistics", spec, x)
    for kernel in kernels("statistics", spec):
        seen = {}
        for setting in every_setting():
            moments, rare, histogram = kernel.run(spec, x)
            np.testing.assert_array_equal(rare, expected[1], err_msg=setting)
            np.testing.assert_array_equal(histogram, expected[2], err_msg=setting)
            np.testing.assert_array_equal(moments[2:], mean[2:], err_msg=setting)
            scale = float(np.abs(mean[2:]).max())
            tolerance = 1e-15 * max(x.size, 16)
            np.testing.assert_allclose(moments[0], mean[0], rtol=0, atol=tolerance * scale, err_msg=setting)
            np.testing.assert_allclose(
                moments[1], mean[1], rtol=1e-9, atol=tolerance * scale**2, err_msg=setting
            )
            assert seen.setdefault(setting.split(",")[0], bits(moments)) == bits(moments), setting


@pytest.mark.parametrize("size", SIZES)
def test_kernels_agree_with_the_reference(size: int, dtype: str, rng: np.random.Generator) -> None:
    check((rng.standard_normal(size) * np.exp(rng.uniform(-20, 20, size))).astype(dtype))
    check(np.maximum(rng.standard_normal(size), 0).astype(dtype))


@pytest.mark.parametrize("size", [17, 5000, 70_000])
def test_rare_values_are_counted_and_kept_out_of_the_moments(
    size: int, dtype: str, rng: np.random.Generator
) -> None:
    x = rng.standard_normal(size).astype(dtype)
    info = np.finfo(x.dtype)
    odd = [np.nan, np.inf, -np.inf, 0.0, -0.0, info.smallest_subnormal, -info.smallest_normal / 2]
    x[rng.permutation(size)[: len(odd)]] = np.array(odd, dtype)
    check(x)
    got = describe(x)
    assert (got.zeros, got.denormals, got.nonfinite) == (2, 2, 3)
    assert got.counts.sum() == got.finite == size - 3


def test_extreme_magnitudes(dtype: str) -> None:
    info = np.finfo(dtype)
    values = [info.max / 4, info.min / 4, info.smallest_normal, -info.smallest_normal, info.eps, 1.0, -1.0]
    if dtype == "float32":
        check(np.array(values, dtype))
        return
    x = np.array([*values, 1e300, 2.0**128, 2.0**-127, -1e-200])  # beyond float32; squares overflow
    with np.errstate(over="ignore"):
        moments, rare, histogram = reference("statistics", spec_of(x), x)
    for setting in every_setting():
        got = describe(x)
        assert got.variance == moments[1] == np.inf, setting
        assert [got.minimum, got.maximum] == moments[2:].tolist()
        assert [got.zeros, got.denormals, got.nonfinite] == rare.tolist() == [0, 0, 0]
        np.testing.assert_array_equal(got.bins, histogram.nonzero()[0])
        np.testing.assert_array_equal(got.counts, histogram[histogram > 0])


@pytest.mark.parametrize(
    "x", [np.zeros(0), np.full(5, np.nan), np.full(5000, np.inf)], ids=["none", "nan", "inf"]
)
def test_nothing_finite(x: Array, dtype: str) -> None:
    got = describe(x.astype(dtype))
    assert np.isnan([got.mean, got.variance, got.minimum, got.maximum]).all()
    assert (got.finite, len(got.counts), got.nonfinite) == (0, 0, x.size)
    assert got.norm == 0
    assert np.isnan(got.quantile([0.0, 0.5])).all()
    assert np.isnan(got.share_beyond(2.0))


def test_a_large_mean_does_not_swallow_the_variance() -> None:
    x = (1e6 + np.random.default_rng(0).standard_normal(100_000)).astype("float32")
    assert describe(x).variance == pytest.approx(x.astype(float).var(), rel=1e-9)


def test_bins_include_the_edge_that_is_nearer_to_zero() -> None:
    got = describe(np.array([1.0, 1.25, np.nextafter(1.25, 0), -1.0, -1.25, 0.0]))
    filled = dict(
        zip(zip(got.lower.tolist(), got.upper.tolist(), strict=True), got.counts.tolist(), strict=True)
    )
    assert filled == {
        (-1.5, -1.25): 1,
        (-1.25, -1.0): 1,
        (-(2.0**-126), 2.0**-126): 1,
        (1.0, 1.25): 2,
        (1.25, 1.5): 1,
    }


def test_the_histogram_closes_its_gaps() -> None:
    edges, counts = describe(np.array([1.0, 1.3, -2.0, 2.5, 0.0])).histogram()
    tiny = 2.0**-126
    assert edges.tolist() == [-2.5, -2.0, -tiny, tiny, 1.0, 1.25, 1.5, 2.5, 3.0]
    assert counts.tolist() == [1, 0, 1, 0, 1, 1, 0, 1]
    assert [len(each) for each in describe(np.zeros(0)).histogram()] == [0, 0]


def test_shares_and_quantiles_come_from_the_histogram(rng: np.random.Generator) -> None:
    x = rng.standard_normal(200_000)
    got = describe(x)
    for magnitude in (0.5, 2.0, 4.0, 64.0):
        assert got.share_beyond(magnitude) == pytest.approx((np.abs(x) >= magnitude).mean(), abs=1e-12)
    assert describe(np.array([2.0, -2.0, 1.9, 0.0])).share_beyond(2.0) == 0.5
    q = np.array([0.0, 0.07, 0.31, 0.5, 0.69, 0.93, 1.0])
    exact = np.quantile(x, q)
    np.testing.assert_allclose(got.quantile(q), exact, rtol=0.05, atol=0.01)
    assert got.quantile(0.0) == x.min()
    assert got.quantile(1.0) == x.max()
    assert got.norm == pytest.approx(np.linalg.norm(x), rel=1e-12)


def test_any_array_will_do() -> None:
    x = np.arange(24, dtype="float64").reshape(2, 3, 4)
    for view in (x.T, x[:, ::-1], x.astype(">f8"), x[:, :, ::2]):
        assert describe(view).mean == view.mean()
    with pytest.raises(TypeError, match="x must be float32 or float64, got int64"):
        describe(np.arange(3))


def test_flushing_denormals_does_not_hide_them() -> None:
    torch = pytest.importorskip("torch")
    x = np.full(100, 1e-40, "float32")
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush")
    try:
        got = describe(x)
    finally:
        torch.set_flush_denormal(False)
    assert (got.denormals, got.zeros) == (100, 0)


def test_the_compiled_pass_is_what_serves() -> None:
    choice = _dispatch.choose("cpu", "statistics", StatisticsSpec(size=3, dtype="float32"))
    assert choice.implementation.name == "simd"
