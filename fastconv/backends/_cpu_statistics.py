"""Compiled statistics of an array."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv import _statistics
from fastconv._config import isa, threads_for
from fastconv._dispatch import Implementation
from fastconv._spec import StatisticsSpec

Array = NDArray[Any]

_NEGATIVE = _statistics.KEYS // 2  # key of the sign bit
_NORMAL = slice(
    4, _NEGATIVE - 4
)  # keys of one sign: four of zeros and denormals, then these, then four not finite


def statistics(spec: StatisticsSpec, x: Array) -> tuple[Array, Array, Array]:
    sums, keys = np.empty(5), np.empty(_statistics.KEYS, np.int64)
    zeros, tiny = _statistics.collect(x, sums, keys, spec.size, x.itemsize, isa(), threads_for(spec.size))
    finite, mean, square, least, greatest = sums.tolist()
    moments = (mean, square / finite, least, greatest) if finite else (np.nan,) * 4
    rare = (zeros, tiny - zeros, spec.size - int(finite))
    positive, negative = keys[:_NEGATIVE], keys[_NEGATIVE:]
    middle = [positive[: _NORMAL.start].sum() + negative[: _NORMAL.start].sum()]
    histogram = np.concatenate((negative[_NORMAL][::-1], middle, positive[_NORMAL]))
    return np.array(moments), np.array(rare, np.int64), histogram


IMPLEMENTATIONS: dict[str, tuple[Implementation, ...]] = {
    "statistics": (Implementation("simd", statistics),),
}
