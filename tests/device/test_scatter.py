"""Planes written at indices on the device: collisions near and far, cells that nothing names, odd sizes."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="needs fastconv[cuda]")

from emulator import ORDERS, assemble, emulated, unsound
from fastconv import _dispatch
from fastconv._spec import PlaneSpec
from kit import bits, integers, reference

SIZES = [(1, 1, 1, 1), (2, 3, 17, 5), (1, 2, 255, 257), (3, 1, 257, 256), (1, 1, 0, 3), (0, 2, 3, 3)]


@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("shape", SIZES)
def test_values_arrive(shape: tuple[int, int, int, int], accumulate: bool) -> None:
    batch, channels, in_plane, out_plane = shape
    rng = np.random.default_rng(0)
    spec = PlaneSpec(
        batch=batch,
        channels=channels,
        in_plane=in_plane,
        out_plane=out_plane,
        accumulate=accumulate,
        dtype="float32",
    )
    indices = rng.integers(0, max(out_plane * 2 // 3, 1), (batch, channels, in_plane))
    values = integers(rng, indices.shape, "float32")
    for order in ORDERS:
        with emulated(order=order) as device:
            got = _dispatch.run("scatter_planes", spec, values, indices)
            device.assert_clean()
        np.testing.assert_array_equal(got, reference("scatter_planes", spec, values, indices))
    assert not any(unsound(assemble(*each)) for each in device.launched)


def test_sums_have_the_same_bits_in_any_order_of_threads() -> None:
    rng = np.random.default_rng(1)
    spec = PlaneSpec(batch=1, channels=2, in_plane=300, out_plane=4, accumulate=True, dtype="float32")
    values = rng.standard_normal((1, 2, 300)).astype(np.float32)
    indices = rng.integers(0, 4, values.shape)
    seen = set()
    for order in ORDERS:
        with emulated(order=order):
            seen.add(bits(_dispatch.run("scatter_planes", spec, values, indices)))
    assert len(seen) == 1
