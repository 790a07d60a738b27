"""Twins of padding, axis by axis, and of planes read at indices."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastconv._dispatch import Implementation
from fastconv._spec import PadSpec, PlaneSpec
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


def _pad_refusal(spec: PadSpec) -> str | None:
    return too_many(spec.outer * math.prod(map(max, spec.in_shape, spec.out_shape)))


def _plane_refusal(spec: PlaneSpec) -> str | None:
    return too_many(spec.batch * spec.channels * max(spec.in_plane, spec.out_plane))


IMPLEMENTATIONS: dict[str, tuple[Implementation, ...]] = {
    "pad": (Implementation("axis_by_axis", pad, _pad_refusal),),
    "pad_backward": (Implementation("axis_by_axis", pad_backward, _pad_refusal),),
    "gather_planes": (Implementation("gather", gather_planes, _plane_refusal),),
}
