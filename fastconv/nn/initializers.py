"""Initial values of parameters: pure functions of (shape, seed), equal in every dtype up to rounding."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv._spec import Shape
from fastconv.nn import _random

__all__ = ["Constant", "Initializer", "VarianceScaling", "get"]

Array = NDArray[Any]


class Initializer:
    """Base: a callable ``(shape, seed) -> float64 array``."""

    def __call__(self, shape: Shape, seed: int) -> Array:
        raise NotImplementedError


@dataclass(frozen=True)
class Constant(Initializer):
    """Every element is ``value``."""

    value: float = 0.0

    def __call__(self, shape: Shape, seed: int) -> Array:
        return np.full(shape, self.value, dtype=np.float64)


@dataclass(frozen=True)
class VarianceScaling(Initializer):
    """Zero mean and variance ``scale / fan``.

    Parameters
    ----------
    scale
        2 for layers before a ReLU (He et al. 2015, arXiv:1502.01852), 1 for Glorot & Bengio 2010.
    fan
        ``"in"``: inputs per output, (C / groups) * prod(kernel); ``"average"``: the mean of inputs and
        outputs.
    distribution
        ``"uniform"`` or ``"normal"``.
    """

    scale: float = 1.0
    fan: str = "average"
    distribution: str = "uniform"

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise ValueError(f"scale must be positive, got {self.scale!r}")
        if self.fan not in ("in", "average"):
            raise ValueError(f"fan must be 'in' or 'average', got {self.fan!r}")
        if self.distribution not in ("uniform", "normal"):
            raise ValueError(f"distribution must be 'uniform' or 'normal', got {self.distribution!r}")

    def __call__(self, shape: Shape, seed: int) -> Array:
        if len(shape) < 2:
            raise ValueError(f"variance scaling needs a weight with inputs and outputs, got shape {shape}")
        fan_in, fan_out = math.prod(shape[1:]), shape[0] * math.prod(shape[2:])
        fan = fan_in if self.fan == "in" else (fan_in + fan_out) / 2
        std = math.sqrt(self.scale / fan)
        index = np.arange(math.prod(shape))
        if self.distribution == "normal":
            values = _random.normal(seed, index) * std
        else:
            values = (2.0 * _random.uniform(seed, index) - 1.0) * (math.sqrt(3.0) * std)
        return values.reshape(shape)


NAMED: dict[str, Initializer] = {
    "zeros": Constant(0.0),
    "ones": Constant(1.0),
    "he_uniform": VarianceScaling(2.0, "in", "uniform"),
    "he_normal": VarianceScaling(2.0, "in", "normal"),
    "glorot_uniform": VarianceScaling(1.0, "average", "uniform"),
    "glorot_normal": VarianceScaling(1.0, "average", "normal"),
}


def get(initializer: str | Initializer) -> Initializer:
    """An initializer by name, or itself."""
    if isinstance(initializer, Initializer):
        return initializer
    if initializer not in NAMED:
        raise ValueError(f"initializer must be an Initializer or one of {sorted(NAMED)}, got {initializer!r}")
    return NAMED[initializer]
