"""Matrix products on the device at sizes around the tile; integers, so that every sum is exact."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="needs fastconv[cuda]")

from emulator import ORDERS, assemble, emulated, unsound
from fastconv import _dispatch
from fastconv._spec import MatmulSpec
from kit import integers, reference

SIZES = [(1, 1, 1), (63, 65, 17), (64, 64, 16), (65, 63, 15), (5, 130, 0), (130, 3, 33)]


@pytest.mark.parametrize(("trans_a", "trans_b"), [*itertools.product((False, True), repeat=2)])
def test_products_are_exact(trans_a: bool, trans_b: bool) -> None:
    rng = np.random.default_rng(0)
    for (m, n, k), order in itertools.product(SIZES, ORDERS):
        spec = MatmulSpec.of(m, n, k, trans_a, trans_b, np.dtype(np.float32), "relu", 0.0)
        a = integers(rng, (k, m) if trans_a else (m, k), "float32")
        b = integers(rng, (n, k) if trans_b else (k, n), "float32")
        bias, residual = integers(rng, n, "float32"), integers(rng, (m, n), "float32")
        with emulated(order=order) as device:
            got = _dispatch.run("matmul", spec, a, b, bias, residual)
            device.assert_clean()
        np.testing.assert_array_equal(got, reference("matmul", spec, a, b, bias, residual))
    assert not unsound(assemble(*device.launched[0]))
