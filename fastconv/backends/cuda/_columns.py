"""Twins of im2col and col2im."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastconv._dispatch import Implementation
from fastconv._spec import ConvSpec
from fastconv.backends.cuda._contraction import geometry, volumes
from fastconv.backends.cuda.array import DeviceArray, empty, lift, settle
from fastconv.backends.cuda.launch import Kernel, cover, launch, too_many

THREADS = 256  # as the kernels have it


def _shape(spec: ConvSpec) -> tuple[int, int, int]:
    """Of the columns."""
    return spec.batch, spec.in_channels * math.prod(spec.kernel), math.prod(spec.out_size)


def _start(name: str, spec: ConvSpec, source: Any, result: DeviceArray) -> Any:
    kernel = Kernel("columns", name, (*geometry(spec), spec.dtype))
    extents = map(np.uint32, (result.size, *volumes(spec)))
    launch(kernel, (cover(result.size, THREADS),), THREADS, lift(source), result, *extents)
    return settle(result, source)


def unfold(spec: ConvSpec, input: Any) -> Any:
    return _start("unfold", spec, input, empty(_shape(spec), spec.dtype))


def fold(spec: ConvSpec, columns: Any) -> Any:
    return _start("fold", spec, columns, empty(spec.input_shape, spec.dtype))


def _refusal(spec: ConvSpec) -> str | None:
    return too_many(math.prod(_shape(spec)), math.prod(spec.input_shape))


IMPLEMENTATIONS: dict[str, tuple[Implementation, ...]] = {
    "unfold": (Implementation("gather", unfold, _refusal),),
    "fold": (Implementation("gather", fold, _refusal),),
}
