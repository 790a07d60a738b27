"""Twins of sums of squares and of the statistics of an array.

Their results are on the host wherever the arrays are: a few numbers that it decides by.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv._dispatch import Implementation
from fastconv._spec import ArraysSpec, StatisticsSpec
from fastconv.backends.cuda._pointwise import zero_counts
from fastconv.backends.cuda._reduction import SPAN, THREADS
from fastconv.backends.cuda.array import empty, lift
from fastconv.backends.cuda.launch import Kernel, cover, launch, too_large

WIDE = "float64"  # of the sums
KEYS = 2048  # as the kernels have them: histogram, zeros, denormals
NEGATIVE = KEYS // 2
NORMAL = slice(4, NEGATIVE - 4)  # keys of one sign: four of zeros and denormals, these, four not finite

Array = NDArray[Any]


def square_sums(spec: ArraysSpec, arrays: list[Any]) -> Array:
    parts = [cover(array.size, SPAN) for array in arrays]
    starts = np.cumsum([0, *parts]).astype(np.uint32)
    partial, out = empty((int(starts[-1]),), WIDE), empty((len(arrays),), WIDE)
    kernel = Kernel("statistics", "squares", (WIDE,))
    for array, start, blocks in zip(arrays, starts, parts, strict=False):
        launch(kernel, (blocks,), THREADS, lift(array), partial, start, np.uint32(array.size))
    blocks = cover(len(arrays), THREADS)
    kernel = Kernel("statistics", "segments", (WIDE,))
    launch(kernel, (blocks,), THREADS, partial, lift(starts), out, np.uint32(len(arrays)))
    return out.numpy()


def statistics(spec: StatisticsSpec, x: Any) -> tuple[Array, Array, Array]:
    device, size, parts = lift(x), np.uint32(spec.size), cover(spec.size, SPAN)
    counts, sums = zero_counts(KEYS + 2), empty((parts,), WIDE)
    extremes = [empty((parts,), spec.dtype) for _ in range(2)]
    kernel = Kernel("statistics", "counts_and_sums", (spec.dtype, WIDE))
    launch(kernel, (parts,), THREADS, device, counts, sums, *extremes, size)
    keys, (zeros, denormals) = np.split(counts.numpy().astype(np.int64), [KEYS])
    finite = int(keys.sum() + zeros)
    moments = np.full(4, np.nan)
    if finite:
        mean = sums.numpy().sum() / finite
        kernel = Kernel("statistics", "deviations", (spec.dtype, WIDE))
        launch(kernel, (parts,), THREADS, device, sums, mean, size)
        least, greatest = (each.numpy() for each in extremes)
        moments[:] = mean, sums.numpy().sum() / finite, least.min(), greatest.max()
    positive, negative = keys[:NEGATIVE], keys[NEGATIVE:]
    middle = [zeros + positive[: NORMAL.start].sum() + negative[: NORMAL.start].sum()]
    histogram = np.concatenate((negative[NORMAL][::-1], middle, positive[NORMAL]))
    return moments, np.array((zeros, denormals, spec.size - finite), np.int64), histogram


IMPLEMENTATIONS: dict[str, tuple[Implementation, ...]] = {
    "square_sums": (Implementation("two_stages", square_sums),),
    "statistics": (Implementation("two_stages", statistics, too_large),),
}
