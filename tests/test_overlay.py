"""Patches laid over boxes of an image: the compiled kernel is the reference, bit for bit."""

import math

import numpy as np
import pytest

from fastconv._spec import OverlaySpec
from fastconv.backends import cpu, reference

KERNEL = cpu.IMPLEMENTATIONS["overlay"][0]


def places_of(rng, n, planes, size, lanes):
    """Random patches inside an image, and boxes that may lie anywhere; and the elements of all patches."""
    rows, start = [], 0
    for _ in range(n):
        height, width = (int(rng.integers(0, extent + 1)) for extent in size)
        top, left = (
            int(rng.integers(0, extent - n + 1)) for extent, n in zip(size, (height, width), strict=True)
        )
        box = (int(rng.integers(-5, extent + 3)) for extent in size)
        rows.append((start, top, left, height, width, *box))
        start += planes * height * width * lanes
    return np.array(rows, np.int64), start


@pytest.mark.parametrize("lanes", [1, 8, 16])
@pytest.mark.parametrize("fill", [0.0, -math.inf, 2.5])
def test_kernel_equals_reference(lanes, fill, dtype, threads):
    rng = np.random.default_rng(lanes)
    for _ in range(40):
        images, planes, *sizes = (int(n) for n in rng.integers(1, (6, 4, 9, 9, 14, 14)))
        places, room = places_of(rng, images, planes, sizes[:2], lanes)
        spec = OverlaySpec(
            images=images,
            planes=planes,
            base_size=tuple(sizes[:2]),
            size=tuple(sizes[2:]),
            lanes=lanes,
            fill=fill,
            dtype=dtype,
        )
        base = rng.normal(size=spec.base_shape).astype(dtype)
        patches = rng.normal(size=room).astype(dtype)
        got = KERNEL.run(spec, base, patches, places)
        assert got.shape == spec.output_shape
        np.testing.assert_array_equal(got, reference.overlay(spec, base, patches, places))


@pytest.mark.parametrize(
    "place",
    [
        (-1, 0, 0, 1, 1, 0, 0),
        (0, -1, 0, 1, 1, 0, 0),
        (0, 0, -1, 1, 1, 0, 0),
        (0, 3, 0, 2, 1, 0, 0),
        (0, 0, 3, 1, 2, 0, 0),
        (1, 0, 0, 2, 2, 0, 0),
    ],
)
def test_patches_outside_of_the_image_or_their_memory_are_refused(place):
    spec = OverlaySpec(images=1, planes=1, base_size=(4, 4), size=(2, 2), lanes=1, fill=0.0, dtype="float32")
    with pytest.raises(ValueError, match="patch 0 does not lie inside"):
        KERNEL.run(spec, np.zeros((1, 4, 4, 1), "f4"), np.zeros(4, "f4"), np.array([place], np.int64))
