"""Sums over channels and batch normalisation on the device at sizes around the block and its span."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="needs fastconv[cuda]")

import fastconv
import fastconv.functional as F
import fastconv.grad as G
from emulator import ORDERS, assemble, emulated, unsound
from fastconv import _dispatch
from fastconv._spec import ChannelSpec
from fastconv.backends.cuda._reduction import SPAN, THREADS
from kit import integers, reference

SHAPES = [
    (1, 1, 1),
    (0, 3, 4),
    (3, 5, THREADS - 1),
    (1, 2, THREADS + 1),
    (2, 1, SPAN // 2),
    (5, 3, SPAN // 4 - 1),
]


@pytest.mark.parametrize("shape", SHAPES)
def test_sums_are_exact(shape: tuple[int, int, int]) -> None:
    x = integers(np.random.default_rng(0), shape, "float32")
    spec = ChannelSpec.of(*shape, x.dtype)
    for order in ORDERS:
        with emulated(order=order) as device:
            got = _dispatch.run("channel_sum", spec, x)
            device.assert_clean()
        np.testing.assert_array_equal(got, reference("channel_sum", spec, x))
    assert not any(unsound(assemble(*each)) for each in device.launched)


@pytest.mark.parametrize("shape", [(7, 3, 37), (2, 5, SPAN // 2 + 3)])
@pytest.mark.parametrize("affine", [False, True])
def test_normalisation_and_its_gradient(shape: tuple[int, int, int], affine: bool) -> None:
    rng = np.random.default_rng(1)
    x, g = (rng.standard_normal(shape).astype(np.float32) * 2 + 3 for _ in range(2))
    weight, bias = rng.standard_normal((2, shape[1])).astype(np.float32) if affine else (None, None)

    def both() -> tuple:
        y, mean, inv_std = F.batch_norm(x, None, None, weight, bias, training=True, return_stats=True)
        return y, mean, inv_std, *G.batch_norm(g, x, mean, inv_std, weight, training=True)

    with fastconv.use_backend("reference"):
        expected = both()
    rounding = 3e-7 * shape[0] * shape[2]  # sums of that many numbers of either sign
    for order in ORDERS:
        with emulated(order=order) as device:
            got = both()
            device.assert_clean()
        for one, other in zip(got, expected, strict=True):
            np.testing.assert_allclose(
                one, other, rtol=0, atol=3e-6 * np.abs(other).max() + (rounding if one.ndim == 1 else 0)
            )


def test_a_variance_keeps_its_digits_beside_a_large_mean() -> None:
    x = np.random.default_rng(2).standard_normal((4, 1, 1000)).astype(np.float32) + 1000
    with emulated():
        _, _, inv_std = F.batch_norm(x, None, None, training=True, return_stats=True, eps=0.0)
    np.testing.assert_allclose(inv_std, 1 / x.std(dtype=np.float64), rtol=1e-4)
