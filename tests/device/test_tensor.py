"""Matrix products on tensor cores: within the documented bound, off unless allowed; test_gemm has the exact ones."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="needs fastconv[cuda]")

import fastconv
import fastconv.functional as F
from emulator import emulated
from kit import assert_within


def test_the_error_is_within_its_bound_and_larger_than_float32_s() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((33, 200)).astype("f4"), rng.standard_normal((20, 200)).astype("f4")
    exact = a.astype("f8") @ b.T.astype("f8")
    with emulated(), fastconv.allow_tf32(True):
        got = F.linear(a, b)
    bound = (2**-10 + 2**-22 + 200 * 2**-22) * (np.abs(a) @ np.abs(b).T)
    assert_within(got.astype("f8"), exact, bound)
    assert np.abs(got - exact).max() > 1e-4


def test_it_is_off_unless_allowed() -> None:
    x, w = np.zeros((2, 3), np.float32), np.zeros((4, 3), np.float32)
    with emulated(), fastconv.allow_tf32(True):
        assert "cuda/tf32_64x64" in str(fastconv.explain_choice("linear", x, w))
        wide = str(fastconv.explain_choice("linear", x.astype("f8"), w.astype("f8")))
        assert "not tf32_64x64: tensor cores take float32" in wide
        with fastconv.allow_tf32(False):
            assert "not tf32_64x64: fastconv.allow_tf32 is off" in str(
                fastconv.explain_choice("linear", x, w)
            )
        assert "cuda/tf32_64x64" in str(fastconv.explain_choice("linear", x, w))
    with emulated():
        assert "cuda/gemm_64x64" in str(fastconv.explain_choice("linear", x, w))
    with emulated(target=(7, 5, "")), fastconv.allow_tf32(True):
        assert "needs compute capability 8.0, the device has 7.5" in str(
            fastconv.explain_choice("linear", x, w)
        )


def test_the_switch_takes_a_bool() -> None:
    with pytest.raises(TypeError, match="allowed must be a bool, got 'yes'"):
        fastconv.allow_tf32("yes")
