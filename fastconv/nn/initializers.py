"""Initial values of parameters: pure functions of (shape, seed), equal in every dtype up to rounding.

Layers take an initializer, such as ``HeNormal(gain=1.0)``, or its name, ``"he_normal"``.  Fans are counted as PyTorch
counts them, from the shape alone: of a weight with axes (K, C, ...) ``fan_in`` is the size without K, and ``fan_out``
the size without C.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv._spec import Shape
from fastconv.functional import linear
from fastconv.nn import _random

__all__ = [
    "Constant",
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "Initializer",
    "LecunNormal",
    "LecunUniform",
    "Orthogonal",
    "VarianceScaling",
    "calculate_gain",
    "get",
]

Array = NDArray[Any]

MODES = ("fan_in", "fan_out", "fan_avg")
DISTRIBUTIONS = ("uniform", "normal")

_BLOCK = 16  # rows that are made orthogonal to all earlier ones at once


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
    """Zero mean and standard deviation ``gain / sqrt(fan)``.

    Parameters
    ----------
    gain : float
        See :func:`calculate_gain`.
    mode : {"fan_in", "fan_out", "fan_avg"}
        Which fan; ``"fan_avg"`` is the mean of the two.
    distribution : {"uniform", "normal"}
    """

    gain: float = 1.0
    mode: str = "fan_in"
    distribution: str = "uniform"

    def __post_init__(self) -> None:
        _check_gain(self.gain)
        if self.mode not in MODES:
            raise ValueError(f"mode must be one of {MODES}, got {self.mode!r}")
        if self.distribution not in DISTRIBUTIONS:
            raise ValueError(f"distribution must be one of {DISTRIBUTIONS}, got {self.distribution!r}")

    def __call__(self, shape: Shape, seed: int) -> Array:
        if len(shape) < 2:
            raise ValueError(f"variance scaling needs a weight with inputs and outputs, got shape {shape}")
        fan_in, fan_out = math.prod(shape[1:]), shape[0] * math.prod(shape[2:])
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        std = self.gain / math.sqrt(fan)
        index = np.arange(math.prod(shape))
        if self.distribution == "normal":
            values = _random.normal(seed, index) * std
        else:
            values = (2.0 * _random.uniform(seed, index) - 1.0) * (math.sqrt(3.0) * std)
        return values.reshape(shape)


@dataclass(frozen=True)
class HeUniform(VarianceScaling):
    """For layers before a ReLU (He et al. 2015, arXiv:1502.01852), uniform."""

    gain: float = math.sqrt(2.0)
    mode: str = "fan_in"
    distribution: str = "uniform"


@dataclass(frozen=True)
class HeNormal(VarianceScaling):
    """For layers before a ReLU (He et al. 2015, arXiv:1502.01852), normal."""

    gain: float = math.sqrt(2.0)
    mode: str = "fan_in"
    distribution: str = "normal"


@dataclass(frozen=True)
class GlorotUniform(VarianceScaling):
    """For layers before a sigmoid or hyperbolic tangent (Glorot & Bengio 2010), uniform."""

    gain: float = 1.0
    mode: str = "fan_avg"
    distribution: str = "uniform"


@dataclass(frozen=True)
class GlorotNormal(VarianceScaling):
    """For layers before a sigmoid or hyperbolic tangent (Glorot & Bengio 2010), normal."""

    gain: float = 1.0
    mode: str = "fan_avg"
    distribution: str = "normal"


@dataclass(frozen=True)
class LecunUniform(VarianceScaling):
    """Variance 1 / fan_in (LeCun et al. 1998, "Efficient BackProp"), uniform."""

    gain: float = 1.0
    mode: str = "fan_in"
    distribution: str = "uniform"


@dataclass(frozen=True)
class LecunNormal(VarianceScaling):
    """Variance 1 / fan_in (LeCun et al. 1998, "Efficient BackProp"), normal."""

    gain: float = 1.0
    mode: str = "fan_in"
    distribution: str = "normal"


@dataclass(frozen=True)
class Orthogonal(Initializer):
    """``gain`` times a random matrix with orthonormal rows, or columns if there are more rows (Saxe et al. 2014).

    The matrix is the weight as (K, C * prod(kernel)).

    Parameters
    ----------
    gain : float
        See :func:`calculate_gain`.
    """

    gain: float = 1.0

    def __post_init__(self) -> None:
        _check_gain(self.gain)

    def __call__(self, shape: Shape, seed: int) -> Array:
        if len(shape) < 2:
            raise ValueError(f"an orthogonal weight needs inputs and outputs, got shape {shape}")
        rows, columns = shape[0], math.prod(shape[1:])
        matrix = _random.normal(seed, np.arange(rows * columns)).reshape(rows, columns)
        matrix = _orthonormal_rows(matrix.T).T if rows > columns else _orthonormal_rows(matrix)
        return self.gain * matrix.reshape(shape)


def _orthonormal_rows(matrix: Array) -> Array:
    """Gram and Schmidt's, block by block and every projection twice, which is enough (Giraud et al. 2005).

    Products run on this package's kernel: a QR decomposition of LAPACK's may have other bits on other numbers
    of threads.
    """
    done = np.empty(matrix.shape)
    for start in range(0, len(matrix), _BLOCK):
        block = np.ascontiguousarray(matrix[start : start + _BLOCK])
        earlier = done[:start]
        for _ in range(2 if start else 0):
            block = block - linear(linear(block, earlier), earlier.T)
        for i, row in enumerate(block):
            for _ in range(2):
                row -= ((block[:i] * row).sum(axis=1, keepdims=True) * block[:i]).sum(axis=0)
            row /= math.sqrt(np.square(row).sum())
        done[start : start + _BLOCK] = block
    return done


def _check_gain(gain: float) -> None:
    if not 0.0 < gain < math.inf:
        raise ValueError(f"gain must be a positive number, got {gain!r}")


def calculate_gain(nonlinearity: str, param: float = 0.01) -> float:
    """The gain that keeps the variance of activations through a function, as PyTorch recommends it.

    Parameters
    ----------
    nonlinearity : {"linear", "sigmoid", "tanh", "relu", "leaky_relu", "selu"}
    param : float
        The negative slope of ``"leaky_relu"``.

    Returns
    -------
    float

    Examples
    --------
    >>> round(calculate_gain("relu"), 4)
    1.4142
    """
    gains = {
        "linear": 1.0,
        "sigmoid": 1.0,
        "tanh": 5.0 / 3.0,
        "relu": math.sqrt(2.0),
        "leaky_relu": math.sqrt(2.0 / (1.0 + param**2)),
        "selu": 0.75,
    }
    if nonlinearity not in gains:
        raise ValueError(f"nonlinearity must be one of {sorted(gains)}, got {nonlinearity!r}")
    return gains[nonlinearity]


NAMED: dict[str, Initializer] = {
    "zeros": Constant(0.0),
    "ones": Constant(1.0),
    "he_uniform": HeUniform(),
    "he_normal": HeNormal(),
    "glorot_uniform": GlorotUniform(),
    "glorot_normal": GlorotNormal(),
    "lecun_uniform": LecunUniform(),
    "lecun_normal": LecunNormal(),
    "orthogonal": Orthogonal(),
}


def get(initializer: str | Initializer) -> Initializer:
    """An initializer by name, or itself."""
    if isinstance(initializer, Initializer):
        return initializer
    if initializer not in NAMED:
        raise ValueError(f"initializer must be an Initializer or one of {sorted(NAMED)}, got {initializer!r}")
    return NAMED[initializer]
