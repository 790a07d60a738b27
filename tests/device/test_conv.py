"""Convolutions on the device at sizes around the tile; integers, so that every sum is exact."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="needs fastconv[cuda]")

import fastconv
import fastconv.functional as F
import fastconv.grad as G
from emulator import ORDERS, assemble, emulated, unsound
from fastconv.backends.cuda._contraction import LARGE, SMALL, tile_of
from kit import integers

# input, weight, arguments: results of 1, tile - 1, tile, tile + 1 rows and columns, sums of 1 to more than a slab
SHAPES = [
    ((1, 1, 1, 1), (1, 1, 1, 1), {}),
    ((1, 3, 7, 9), (63, 3, 1, 1), {}),
    ((2, 1, 4, 8), (64, 1, 3, 3), {"padding": 1}),
    ((1, 2, 5, 13), (65, 2, 2, 1), {"padding": "same"}),
    ((2, 4, 11, 6), (6, 2, 3, 2), {"stride": (3, 2), "dilation": (2, 1), "padding": (2, 0), "groups": 2}),
]


@pytest.mark.parametrize(("shape", "weight", "options"), SHAPES, ids=str)
def test_sums_are_exact(shape: tuple[int, ...], weight: tuple[int, ...], options: dict) -> None:
    rng = np.random.default_rng(0)
    x, w, bias = (integers(rng, each, "float32") for each in (shape, weight, weight[0]))
    with fastconv.use_backend("reference"):
        y = F.conv2d(x, w, bias, **options)
        dy = integers(rng, y.shape, "float32")
        expected = y, G.conv2d_input(shape, w, dy, **options), G.conv2d_weight(x, weight, dy, **options)
    for order in ORDERS:
        with emulated(order=order) as device:
            got = (
                F.conv2d(x, w, bias, **options),
                G.conv2d_input(shape, w, dy, **options),
                G.conv2d_weight(x, weight, dy, **options),
            )
            device.assert_clean()
        for one, other in zip(got, expected, strict=True):
            np.testing.assert_array_equal(one, other)
    for kernel, parameters in device.launched:
        assert not unsound(assemble(kernel, parameters)), kernel


def test_large_tile_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastconv.backends.cuda._contraction.ENOUGH", 1)
    rng = np.random.default_rng(0)
    x, w = integers(rng, (1, 3, 10, 13), "float32"), integers(rng, (129, 3, 3, 3), "float32")
    with fastconv.use_backend("reference"):
        expected = F.conv2d(x, w, padding=1)
    for order in ORDERS:
        with emulated(order=order) as device:
            np.testing.assert_array_equal(F.conv2d(x, w, padding=1), expected)
            device.assert_clean()
    assert not unsound(assemble(*device.launched[0]))


def test_large_tiles_only_where_they_are_enough() -> None:
    assert tile_of(2048, 4096, 1, "float32") == LARGE
    for m, n, dtype in [(SMALL, 10**6, "float32"), (512, 512, "float32"), (2048, 4096, "float64")]:
        assert tile_of(m, n, 1, dtype) == SMALL
