"""Matrix products on the device at sizes around the tile; small integers, so that every sum is exact, in TF32 too."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="needs fastconv[cuda]")

import fastconv
from emulator import ORDERS, assemble, emulated, unsound
from fastconv import _dispatch
from fastconv._spec import MatmulSpec
from kit import integers, reference

SIZES = [(1, 1, 1), (63, 65, 17), (64, 64, 16), (65, 63, 15), (5, 130, 0), (130, 3, 33)]


@pytest.mark.parametrize(("trans_a", "trans_b"), [*itertools.product((False, True), repeat=2)])
@pytest.mark.parametrize("tf32", [False, True])
def test_products_are_exact(tf32: bool, trans_a: bool, trans_b: bool) -> None:
    rng = np.random.default_rng(0)
    for (m, n, k), order in itertools.product(SIZES, ORDERS):
        spec = MatmulSpec.of(m, n, k, trans_a, trans_b, np.dtype(np.float32), "relu", 0.0)
        a = integers(rng, (k, m) if trans_a else (m, k), "float32")
        b = integers(rng, (n, k) if trans_b else (k, n), "float32")
        bias, residual = integers(rng, n, "float32"), integers(rng, (m, n), "float32")
        with emulated(order=order) as device, fastconv.allow_tf32(tf32):
            got = _dispatch.run("matmul", spec, a, b, bias, residual)
            device.assert_clean()
        np.testing.assert_array_equal(got, reference("matmul", spec, a, b, bias, residual))
    (launched,) = device.launched
    assert launched[0].module == ("tensor" if tf32 else "gemm")
    assert not unsound(assemble(*launched))
    for target in ((8, 0, ""), (9, 0, "a"), (12, 0, "a")) if tf32 else ():
        machine = assemble(*launched, target)
        assert not unsound(machine)
        assert machine.instructions()["HMMA"]
