"""Pools on the device at odd shapes: gaps between windows, dilation, windows beyond the image, NaN and ties."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="needs fastconv[cuda]")

import fastconv
import fastconv.functional as F
import fastconv.grad as G
from emulator import ORDERS, emulated

WINDOWS = [
    ((1, 1, 1, 1), {"kernel_size": 1}),
    ((2, 3, 17, 5), {"kernel_size": (3, 2), "stride": (2, 3), "padding": (1, 1)}),
    ((1, 2, 13, 29), {"kernel_size": 2, "stride": 5}),
    ((1, 1, 11, 11), {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}),
    ((0, 2, 4, 4), {"kernel_size": 2}),
]


@pytest.mark.parametrize("index_dtype", ["int64", "uint8"])
@pytest.mark.parametrize(("shape", "window"), WINDOWS)
def test_maxima_and_their_gradient(shape: tuple[int, ...], window: dict, index_dtype: str) -> None:
    x = np.random.default_rng(0).integers(-2, 3, shape).astype(np.float32)
    x[x == 2] = np.nan
    x[x == -2] = -np.inf

    def both() -> tuple:
        y, indices = F.max_pool2d(x, **window, return_indices=True, index_dtype=index_dtype)
        grad = np.arange(y.size, dtype=np.float32).reshape(y.shape)
        return y, indices, G.max_pool2d(grad, indices, x.shape, **window)

    with fastconv.use_backend("reference"):
        expected = both()
    for order in ORDERS:
        with emulated(order=order) as device:
            got = both()
            assert not device.found
        for one, other in zip(got, expected, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("counting", [{}, {"count_include_pad": False}, {"divisor_override": 7}])
@pytest.mark.parametrize(("shape", "window"), WINDOWS)
def test_means_and_their_gradient(shape: tuple[int, ...], window: dict, counting: dict) -> None:
    x = np.random.default_rng(0).integers(-9, 9, shape).astype(np.float32)

    def both() -> tuple:
        y = F.avg_pool2d(x, **window, **counting)
        return y, G.avg_pool2d(np.ones_like(y), x.shape, **window, **counting)

    with fastconv.use_backend("reference"):
        expected = both()
    with emulated() as device:
        got = both()
        assert not device.found
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
