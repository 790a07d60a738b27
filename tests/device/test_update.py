"""Optimizers' steps on the device: every rule, in place on the host's arrays and on the device's."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="needs fastconv[cuda]")

from emulator import assemble, emulated, unsound
from fastconv import _dispatch
from fastconv._spec import UpdateRates, UpdateSpec
from fastconv.backends import load_backend
from fastconv.backends.cuda.array import lift
from kit import Array, reference

RATES = UpdateRates(0.01, 0.9, 0.8, 0.95, 1.5, 1e-3, bound=1.0)
RULES: list[tuple[str, bool, tuple[bool, bool, bool]]] = [  # rule, Nesterov, (velocity, mean, square)
    ("sgd", False, (False, False, False)),
    ("sgd", True, (True, False, False)),
    ("adam", False, (False, True, True)),
    ("rmsprop", False, (True, False, True)),
    ("rmsprop", False, (False, True, True)),
]


def state(given: tuple[bool, bool, bool], dtype: str) -> list[Any]:
    """Factors, then lists of weights, gradients, velocities, means and mean squares."""
    rng = np.random.default_rng(0)

    def arrays() -> list[Array]:
        return [rng.standard_normal(size).astype(dtype) for size in (1, 255, 257)]

    factors = np.array([[1, 0, 1], [0.99, 0.1, 2], [1, 0.01, 0.5]])
    moments = [arrays() if each else None for each in given[:2]]
    squares = [each * each + 1 for each in arrays()] if given[2] else None
    return [factors, arrays(), arrays(), *moments, squares]


@pytest.mark.parametrize(("rule", "nesterov", "given"), RULES)
def test_steps(rule: str, nesterov: bool, given: tuple[bool, bool, bool], dtype: str) -> None:
    spec = UpdateSpec(dtype=dtype, rule=rule, nesterov=nesterov)
    start = state(given, dtype)
    expected, got = copy.deepcopy(start), copy.deepcopy(start)
    reference("optimizer_update", spec, RATES, *expected)
    with emulated() as device:
        _dispatch.run("optimizer_update", spec, RATES, *got)
        device.assert_clean(in_place=True)
        there = [start[0], *(each and [*map(lift, each)] for each in start[1:])]
        load_backend("cuda").IMPLEMENTATIONS["optimizer_update"][0].run(spec, RATES, *there)
        stayed = [each and [one.numpy() for one in each] for each in there[1:]]
    assert not unsound(assemble(*device.launched[0]), double=dtype == "float64")
    for results in (got[1:], stayed):
        for one, other in zip(results, expected[1:], strict=True):
            for a, b in zip(one or (), other or (), strict=True):
                np.testing.assert_allclose(a, b, rtol=2e-5 if dtype == "float32" else 1e-13)
