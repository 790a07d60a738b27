"""Padding, adaptive pools and columns on the device at odd shapes: what comes from tables, and what is gathered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="needs fastconv[cuda]")

import fastconv.functional as F
import fastconv.grad as G
from emulator import both
from kit import Array, integers


def check(function: Callable[[], Any]) -> None:
    """``function`` gives exactly what the reference does."""
    for one, other in both(function):
        np.testing.assert_array_equal(one, other)


def image(*shape: int) -> Array:
    return integers(np.random.default_rng(0), shape, "float32")


@pytest.mark.parametrize(
    ("pad", "mode"),
    [
        ((300, 1), "constant"),
        ((-2, 5, 0, -1), "constant"),
        ((4, 3, 2, 1), "reflect"),
        ((2, 9, 1, 0), "replicate"),
        ((5, 5, 0, 2), "circular"),
    ],
)
def test_padding_and_its_gradient(pad: tuple[int, ...], mode: str) -> None:
    x = image(2, 3, 5, 5)
    grown = F.pad(x, pad, mode=mode).shape
    value = {"value": 7.0} if mode == "constant" else {}
    check(lambda: (F.pad(x, pad, mode=mode, **value), G.pad(image(*grown), x.shape, pad, mode=mode)))


@pytest.mark.parametrize(
    ("size", "result"), [((1, 1), 1), ((7, 300), (3, 7)), ((3, 5), (7, 5)), ((16, 16), (5, 3))]
)
def test_largest_of_adaptive_windows(size: tuple[int, int], result: Any) -> None:
    x = image(2, 3, *size)
    x[0, 0, ::2, ::3] = np.nan
    check(lambda: F.adaptive_max_pool2d(x, result, return_indices=True))


@pytest.mark.parametrize(("size", "result"), [((8, 12), (2, 3)), ((4, 4), (8, 2)), ((2, 256), (1, 128))])
def test_means_of_adaptive_windows(size: tuple[int, int], result: tuple[int, int]) -> None:
    x = image(
        2, 3, *size
    )  # windows of powers of two and of six cells of integers: a mean differs by its rounding alone
    grad = 48 * image(2, 3, *result)
    check(lambda: (G.adaptive_avg_pool2d(grad, x.shape),))
    for got, expected in both(lambda: (F.adaptive_avg_pool2d(x, result),)):
        np.testing.assert_allclose(got, expected, rtol=2e-7)


@pytest.mark.parametrize(
    "window",
    [
        {"kernel_size": 1},
        {"kernel_size": (3, 2), "stride": (2, 3), "padding": (1, 2), "dilation": (1, 2)},
        {"kernel_size": 5, "padding": 4},
    ],
)
def test_columns_and_their_adjoint(window: dict) -> None:
    x = image(2, 3, 9, 11)
    columns = image(*F.unfold(x, **window).shape)
    check(lambda: (F.unfold(x, **window), F.fold(columns, (9, 11), **window)))
