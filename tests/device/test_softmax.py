"""Softmax and cross-entropy on the device: lines around the block's length, infinities, every kind of target."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="needs fastconv[cuda]")

import fastconv
import fastconv.functional as F
import fastconv.grad as G
from emulator import ORDERS, both, emulated

SHAPES = [(3, 1), (300, 32), (3, 33), (2, 255), (2, 257), (1, 600), (2, 5, 300), (0, 4), (2, 3, 0)]


@pytest.mark.parametrize("function", [F.softmax, F.log_softmax])
@pytest.mark.parametrize("shape", SHAPES)
def test_lines(function: object, shape: tuple[int, ...]) -> None:
    x = 10 * np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    x.flat[::7] = -np.inf
    with fastconv.use_backend("reference"):
        expected = function(x, 1)
    for order in ORDERS:
        with emulated(order=order) as device:
            got = function(x, 1)
            device.assert_clean()
        np.testing.assert_allclose(got, expected, rtol=2e-6, atol=4e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_lines_without_a_largest_number_are_nan(value: float) -> None:
    x = np.full((2, 5), value, np.float32)
    x[1] = 0
    with emulated():
        y = F.softmax(x, 1)
    assert np.isnan(y[0]).all()
    np.testing.assert_allclose(y[1], 0.2, rtol=1e-6)


@pytest.mark.parametrize(("soft", "weighted"), [*itertools.product((False, True), repeat=2)])
@pytest.mark.parametrize(
    ("shape", "reduction"),
    [
        ((3, 4, 100), "none"),
        ((3, 4, 100), "sum"),
        ((3, 4, 100), "mean"),
        ((3, 600), "none"),
        ((4, 33), "mean"),
    ],
)
def test_losses_and_their_gradients(
    soft: bool, weighted: bool, shape: tuple[int, ...], reduction: str
) -> None:
    rng = np.random.default_rng(1)
    logits = rng.standard_normal(shape).astype(np.float32)
    target = rng.integers(0, shape[1], (shape[0], *shape[2:]))
    target[0] = -100
    if soft:
        target = F.softmax(rng.standard_normal(logits.shape).astype(np.float32), 1)
    options = {"reduction": reduction, "label_smoothing": 0.1}
    weight = np.resize(np.array([0.5, 0, 2, 1], np.float32), shape[1]) if weighted else None

    def loss_and_gradient() -> tuple:
        loss, log_probs = F.cross_entropy(logits, target, weight, **options, return_log_probs=True)
        return loss, G.cross_entropy(np.ones_like(loss), log_probs, target, weight, **options)

    for one, other in both(loss_and_gradient):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=1e-6)


def test_a_mean_over_nothing_has_gradient_zero() -> None:
    logits, target = np.zeros((2, 3), np.float32), np.array([-100, -100])
    with emulated():
        loss, log_probs = F.cross_entropy(logits, target, return_log_probs=True)
        grad = G.cross_entropy(loss, log_probs, target)
    assert np.isnan(loss)
    np.testing.assert_array_equal(grad, 0)
