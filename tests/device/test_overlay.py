"""Patches laid over boxes on the device: boxes beside the image, empty patches, both layouts."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="needs fastconv[cuda]")

from emulator import assemble, emulated, settings, unsound
from fastconv import _dispatch
from fastconv._spec import OverlaySpec
from kit import reference

PLACES = [  # start, corner, height and width of the patch; corner of the box
    (0, 1, 2, 2, 3, 0, 0),
    (12, 0, 0, 5, 7, -2, -3),
    (82, 4, 0, 0, 7, 3, 5),
    (82, 4, 6, 1, 1, 4, 6),
    (84, 2, 1, 3, 3, -40, 2),
]


def spec_of(size: tuple[int, int], lanes: int, fill: float, dtype: str) -> OverlaySpec:
    images, planes = len(PLACES), 2
    return OverlaySpec(
        images=images, planes=planes, base_size=(5, 7), size=size, lanes=lanes, fill=fill, dtype=dtype
    )


@pytest.mark.parametrize("lanes", [1, 8])
@pytest.mark.parametrize("size", [(1, 1), (5, 7), (9, 4), (0, 3)])
def test_boxes_are_the_reference_s(size: tuple[int, int], lanes: int, dtype: str) -> None:
    rng = np.random.default_rng(0)
    places = np.array(PLACES)
    places[:, 0] *= lanes
    for fill in (0.0, -math.inf):
        spec = spec_of(size, lanes, fill, dtype)
        base = rng.standard_normal(spec.base_shape).astype(dtype)
        patches = rng.standard_normal(102 * lanes).astype(dtype)
        expected = reference("overlay", spec, base, patches, places)
        for options in settings():
            with emulated(**options) as device:
                got = _dispatch.run("overlay", spec, base, patches, places)
                assert not device.found
            np.testing.assert_array_equal(got, expected)
    assert not any(unsound(assemble(*each), double=dtype == "float64") for each in device.launched)


@pytest.mark.parametrize(
    ("column", "value"), [(0, -1), (0, 101), (1, -1), (1, 4), (2, 5), (3, -1), (3, 5), (4, 7)]
)
def test_patches_outside_of_the_image_or_their_memory_are_refused(column: int, value: int) -> None:
    spec = spec_of((2, 2), 1, 0.0, "float32")
    places = np.array(PLACES)
    places[0, column] = value
    with emulated(), pytest.raises(ValueError, match="patch 0 does not lie inside"):
        _dispatch.run("overlay", spec, np.zeros(spec.base_shape, "f4"), np.zeros(102, "f4"), places)
