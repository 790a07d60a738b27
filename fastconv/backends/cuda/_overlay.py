"""Twin of patches laid over boxes of an image."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv._dispatch import Implementation
from fastconv._spec import OverlaySpec
from fastconv.backends.cuda.array import DeviceArray, empty, lift, settle
from fastconv.backends.cuda.launch import Kernel, cover, launch, too_many

THREADS = 256  # as the kernel has it


def _check(spec: OverlaySpec, places: NDArray[np.int64], room: int) -> None:
    """Refuse what a kernel would read outside of memory for."""
    start, corner, shape = places[:, 0], places[:, 1:3], places[:, 3:5]
    positions = spec.planes * spec.lanes
    inside = (places[:, :5] >= 0).all(1) & (corner + shape <= spec.base_size).all(1)
    inside &= start + shape.prod(1) * positions <= room
    if not inside.all():
        raise ValueError(f"patch {inside.argmin()} does not lie inside the base and the patches' memory")


def overlay(spec: OverlaySpec, base: Any, patches: Any, places: Any) -> Any:
    _check(spec, places.numpy() if isinstance(places, DeviceArray) else places, patches.size)
    out = empty(spec.output_shape, spec.dtype)
    extents = (spec.planes, *spec.base_size, *spec.size, spec.lanes)
    launch(
        Kernel("overlay", "overlay", (spec.dtype,)),
        (cover(out.size, THREADS),),
        THREADS,
        *map(lift, (base, patches, places)),
        out,
        *map(np.uint32, (out.size, *extents)),
        np.dtype(spec.dtype).type(spec.fill),
    )
    return settle(out, base)


def _refusal(spec: OverlaySpec) -> str | None:
    return too_many(math.prod(spec.base_shape), math.prod(spec.output_shape))


IMPLEMENTATIONS: dict[str, tuple[Implementation, ...]] = {
    "overlay": (Implementation("gather", overlay, _refusal),),
}
