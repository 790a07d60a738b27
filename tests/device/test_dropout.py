"""Masks on the device have the same bits as the other backends', wherever a stream is entered."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="needs fastconv[cuda]")

from emulator import ORDERS, emulated
from fastconv import _dispatch
from fastconv._spec import STREAM, DropBlockSpec, DropoutSpec
from kit import bits, reference


@pytest.mark.parametrize("offset", [0, 1, 7, 8, 2**35 + 3, STREAM - 2100, STREAM - 2053])
@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 2047, 2048, 2049])
def test_mask_bits(size: int, offset: int) -> None:
    spec = DropoutSpec.from_args(size, 1, 0.3, 2**64 - 3, offset)
    for order in ORDERS:
        with emulated(order=order) as device:
            mask = _dispatch.run("dropout_mask", spec)
            device.assert_clean()
        assert bits(mask) == bits(reference("dropout_mask", spec))


@pytest.mark.parametrize("p", [0.0, 2**-16, 0.5, 1.0])
@pytest.mark.parametrize("inner", [1, 3, 64])
def test_application_bit_for_bit(p: float, inner: int, dtype: str) -> None:
    x = np.random.default_rng(1).standard_normal(85 * inner).astype(dtype)
    x[::7], x[1::9] = np.nan, -0.0
    spec = DropoutSpec.from_args(85, inner, p, 5, 11)
    with emulated() as device:
        out, mask = _dispatch.run("dropout_forward", spec, x)
        device.assert_clean()
    expected, expected_mask = reference("dropout_forward", spec, x)
    assert bits(mask) == bits(expected_mask)
    np.testing.assert_array_equal(np.isnan(out), np.isnan(expected))
    assert bits(np.nan_to_num(out)) == bits(np.nan_to_num(expected))


@pytest.mark.parametrize("block", [1, 2, 3, (5, 4), (7, 9)])
def test_blocks(block: int) -> None:
    spec = DropBlockSpec.from_args((2, 3, 7, 9), 0.4, block, 3, 5)
    for order in ORDERS:
        with emulated(order=order) as device:
            mask = _dispatch.run("drop_block_mask", spec)
            device.assert_clean()
        assert bits(mask) == bits(reference("drop_block_mask", spec))
