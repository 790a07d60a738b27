"""Optimizer steps and sums of squares of the cpu backend against the reference, on every instruction set."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from fastconv._spec import ArraysSpec, UpdateRates, UpdateSpec
from fastconv.backends import _cpu_update as cpu
from fastconv.backends import reference
from kit import bits, with_threads

pytestmark = pytest.mark.usefixtures("isa")

DTYPES = ("float32", "float64")
# around the vector, the running sums (16) and the task (16384), and nothing at all
SIZES = ((0, 1, 3), (4, 5, 7, 8, 9), (15, 16, 17), (33, 0, 16383), (16384, 1), (16385, 40009), ())
RULES = {
    "sgd": ({}, ()),
    "momentum": ({}, ("velocity",)),
    "nesterov": ({"nesterov": True}, ("velocity",)),
    "adam": ({"rule": "adam"}, ("mean", "square")),
    "rmsprop": ({"rule": "rmsprop"}, ("square",)),
    "rmsprop_momentum": ({"rule": "rmsprop"}, ("velocity", "square")),
    "rmsprop_centered": ({"rule": "rmsprop"}, ("mean", "square")),
    "rmsprop_both": ({"rule": "rmsprop"}, ("velocity", "mean", "square")),
}
RATES = UpdateRates(0.1, 0.9, 0.8, 0.7, 1.3, 1e-3, bound=1.5)


def problem(name, sizes, dtype):
    """(spec, factors, weights, grads, velocity, mean, square)"""
    options, memories = RULES[name]
    rng = np.random.default_rng(len(sizes))

    def arrays(scale=1.0):
        return [(scale * rng.standard_normal(size)).astype(dtype) for size in sizes]

    factors = np.stack(
        [rng.uniform(0.9, 1, len(sizes)), rng.uniform(0, 0.1, len(sizes)), rng.uniform(0.5, 2, len(sizes))], 1
    )
    # a mean well below the root of the mean square, so that the centred root is not one of rounding errors
    made = {"velocity": arrays(), "mean": arrays(0.1), "square": [np.square(a) + 1 for a in arrays()]}
    kept = [made[kind] if kind in memories else None for kind in made]
    return UpdateSpec(**{"rule": "sgd"} | options, dtype=dtype), factors, arrays(), arrays(), *kept


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("name", RULES)
def test_a_step_is_the_reference_s_on_any_number_of_threads(name, sizes, dtype):
    spec, factors, *arrays = problem(name, sizes, dtype)
    expected, ours, threaded = copy.deepcopy(arrays), copy.deepcopy(arrays), copy.deepcopy(arrays)
    reference.optimizer_update(spec, RATES, factors, *expected)
    with with_threads(1):
        cpu.optimizer_update(spec, RATES, factors, *ours)
    with with_threads(3):
        cpu.optimizer_update(spec, RATES, factors, *threaded)
    for before, want, got, again in zip(arrays, expected, ours, threaded, strict=True):
        assert (want is None) == (before is None)
        for a, b, c in zip(want or (), got or (), again or (), strict=True):
            np.testing.assert_allclose(b, a, rtol=16 * np.finfo(dtype).eps, atol=16 * np.finfo(dtype).eps)
            assert bits(b) == bits(c)
    for before, after in zip(arrays[1], ours[1], strict=True):
        assert bits(before) == bits(after)  # gradients stay


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", RULES)
def test_nan_and_infinite_gradients_are_not_hidden(name, dtype):
    spec, factors, weights, grads, *memories = problem(name, (20,), dtype)
    grads[0][3], grads[0][17] = np.nan, np.nan
    cpu.optimizer_update(spec, RATES, factors, weights, grads, *memories)
    assert np.isnan(weights[0][[3, 17]]).all()
    assert np.isfinite(np.delete(weights[0], [3, 17])).all()


def test_a_constant_gradient_has_no_negative_variance():
    # rounding makes mean(g**2) - mean(g)**2 negative at times: its root would be NaN
    weights, grads = [np.zeros(64, "float32")], [np.linspace(0.1, 7, 64).astype("float32")]
    mean, square = [np.zeros(64, "float32")], [np.zeros(64, "float32")]
    spec = UpdateSpec(rule="rmsprop", dtype="float32")
    for _ in range(300):
        rates = UpdateRates(1e-3, mean_decay=0.5, square_decay=0.5, eps=1e-8)
        cpu.optimizer_update(spec, rates, np.array([[1.0, 0.0, 1.0]]), weights, grads, None, mean, square)
    assert np.isfinite(weights[0]).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_square_sums(sizes, dtype):
    arrays = [np.random.default_rng(k).integers(-3, 4, n).astype(dtype) for k, n in enumerate(sizes)]
    spec = ArraysSpec(dtype=dtype)
    expected = reference.square_sums(spec, arrays)
    for threads in (1, 3):
        with with_threads(threads):
            got = cpu.square_sums(spec, arrays)
        assert got.dtype == np.float64
        np.testing.assert_array_equal(got, expected)


def test_the_square_of_a_large_float_does_not_overflow():
    (total,) = cpu.square_sums(ArraysSpec(dtype="float32"), [np.full(40, 1e30, "float32")])
    assert total == pytest.approx(4e61, rel=1e-6)


def test_memory_of_another_size_is_refused():
    spec, factors, weights, grads, *memories = problem("adam", (20,), "float32")
    with pytest.raises(ValueError, match="the kernel was told of 80 bytes, the array has 76"):
        cpu.optimizer_update(spec, RATES, factors, weights, [grads[0][:19]], *memories)
