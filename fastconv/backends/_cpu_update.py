"""Compiled implementations of what optimizers do with all parameters at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv import _update
from fastconv._config import isa, threads_for
from fastconv._dispatch import Implementation
from fastconv._spec import ArraysSpec, UpdateRates, UpdateSpec

Array = NDArray[Any]


def optimizer_update(
    spec: UpdateSpec,
    rates: UpdateRates,
    factors: Array,
    weights: list[Array],
    grads: list[Array],
    velocity: list[Array] | None,
    mean: list[Array] | None,
    square: list[Array] | None,
) -> None:
    work = sum(weight.size for weight in weights)
    _update.update(
        weights,
        grads,
        velocity,
        mean,
        square,
        factors,
        np.dtype(spec.dtype).itemsize,
        _update.RULES[spec.rule],
        *rates,
        spec.nesterov,
        isa(),
        threads_for(work),
    )


def square_sums(spec: ArraysSpec, arrays: list[Array]) -> Array:
    out = np.empty(len(arrays))
    work = sum(array.size for array in arrays)
    _update.square_sums(arrays, out, np.dtype(spec.dtype).itemsize, isa(), threads_for(work))
    return out


IMPLEMENTATIONS: dict[str, tuple[Implementation, ...]] = {
    run.__name__: (Implementation("simd", run),) for run in (optimizer_update, square_sums)
}
