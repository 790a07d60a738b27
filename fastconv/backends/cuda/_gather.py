"""Twins of padding, axis by axis, and of planes read and written at indices."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastconv._dispatch import Implementation
from fastconv._spec import PadSpec, PlaneSpec
from fastconv.backends.cuda._pointwise import zero_counts
from fastconv.backends.cuda.array import DeviceArray, empty, lift, settle
from fastconv.backends.cuda.launch import Kernel, cover, launch, too_many
from fastconv.backends.reference import pad_sources

THREADS = 256  # as the kernels have it


def _start(
    name: str, result: DeviceArray, arrays: tuple[Any, ...], counts: tuple[int, ...], *more: Any
) -> DeviceArray:
    kernel = Kernel("gather", name, (result.dtype.name,))
    numbers = map(np.uint32, (result.size, *counts))
    launch(kernel, (cover(result.size, THREADS),), THREADS, *map(lift, arrays), result, *numbers, *more)
    return result


def pad(spec: PadSpec, x: Any) -> Any:
    now, shape = lift(x), [spec.outer, *spec.in_shape]
    value = np.dtype(spec.dtype).type(spec.value)
    for axis, length in enumerate(spec.in_shape, 1):
        sources = pad_sources(spec, axis - 1)
        shape[axis] = len(sources)
        counts = (len(sources), length, math.prod(shape[axis + 1 :]))
        now = _start("take", empty(tuple(shape), spec.dtype), (now, sources), counts, value)
    return settle(now, x)


def pad_backward(spec: PadSpec, grad_output: Any) -> Any:
    now, shape = lift(grad_output), [spec.outer, *spec.out_shape]
    for axis, length in enumerate(spec.in_shape, 1):
        sources = pad_sources(spec, axis - 1)
        order = np.argsort(sources, kind="stable")
        starts = np.searchsorted(sources[order], np.arange(length + 1)).astype(np.uint32)
        shape[axis] = length
        counts = (len(sources), length, math.prod(shape[axis + 1 :]))
        tables = (starts, order.astype(np.uint32))
        now = _start("add_back", empty(tuple(shape), spec.dtype), (now, *tables), counts)
    return settle(now, grad_output)


def gather_planes(spec: PlaneSpec, x: Any, indices: Any) -> Any:
    y = empty((spec.batch, spec.channels, spec.in_plane), spec.dtype)
    return settle(_start("planes", y, (x, indices), (spec.in_plane, spec.out_plane)), x)


def scatter_planes(spec: PlaneSpec, values: Any, indices: Any) -> Any:
    """A cell reads what lies between the first and the last value that names it.

    Under accumulation this is little where neighbours name neighbours, as windows of a pool do, and the whole plane for
    every cell that its first and its last value name.
    """
    y = empty((spec.batch, spec.channels, spec.out_plane), spec.dtype)
    first, last = zero_counts(y.size), zero_counts(y.size)
    where, counts = lift(indices), tuple(map(np.uint32, (spec.in_plane, spec.out_plane)))
    blocks = (cover(where.size, THREADS),)
    launch(
        Kernel("gather", "senders", ()), blocks, THREADS, where, first, last, np.uint32(where.size), *counts
    )
    kernel = Kernel("gather", "scattered", (spec.accumulate, spec.dtype))
    arrays = (lift(values), where, first, last, y)
    launch(kernel, (cover(y.size, THREADS),), THREADS, *arrays, np.uint32(y.size), *counts)
    return settle(y, values)


def _pad_refusal(spec: PadSpec) -> str | None:
    return too_many(spec.outer * math.prod(map(max, spec.in_shape, spec.out_shape)))


def _plane_refusal(spec: PlaneSpec) -> str | None:
    return too_many(spec.batch * spec.channels * max(spec.in_plane, spec.out_plane))


IMPLEMENTATIONS: dict[str, tuple[Implementation, ...]] = {
    "pad": (Implementation("axis_by_axis", pad, _pad_refusal),),
    "pad_backward": (Implementation("axis_by_axis", pad_backward, _pad_refusal),),
    "scatter_planes": (Implementation("gather", scatter_planes, _plane_refusal),),
    "gather_planes": (Implementation("gather", gather_planes, _plane_refusal),),
}
