"""Counter-based random numbers: each is a pure function of (seed, index), whatever the NumPy version."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv.ops import derive_seed

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)


def bits(seed: int, index: NDArray[Any]) -> NDArray[np.uint64]:
    """64 random bits per index: that output of SplitMix64 (Steele, Lea, Flood 2014) started at ``seed``."""
    # arithmetic on uint64 arrays wraps round, as the generator wants
    z = (np.asarray(index, dtype=np.uint64) + np.uint64(1)) * _GOLDEN + np.uint64(seed)
    z = (z ^ (z >> np.uint64(30))) * _MIX1
    z = (z ^ (z >> np.uint64(27))) * _MIX2
    return z ^ (z >> np.uint64(31))


def uniform(seed: int, index: NDArray[Any]) -> NDArray[np.float64]:
    """Uniform on [0, 1), 53 bits."""
    return (bits(seed, index) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def normal(seed: int, index: NDArray[Any]) -> NDArray[np.float64]:
    """Standard normal, by Box and Muller from the two halves of 64 bits (so at most 6.8 in magnitude)."""
    z = bits(seed, index)
    radius = np.sqrt(-2.0 * np.log(((z >> np.uint64(32)).astype(np.float64) + 0.5) * 2.0**-32))
    return radius * np.cos((z & np.uint64(0xFFFFFFFF)).astype(np.float64) * (2.0 * np.pi * 2.0**-32))


def beta(seed: int, index: NDArray[Any], alpha: float) -> NDArray[np.float64]:
    """Beta(alpha, alpha) on [0, 1], as the share of one of two Gamma(alpha) variates."""
    first, second = (_log_gamma_variate(derive_seed(seed, part), index, alpha) for part in "ab")
    return 1.0 / (1.0 + np.exp(np.clip(second - first, -700.0, 700.0)))


def _log_gamma_variate(seed: int, index: NDArray[Any], alpha: float) -> NDArray[np.float64]:
    """Logarithms of Gamma(alpha) variates, by Marsaglia and Tsang (2000); of small ones the value underflows."""
    boosted = alpha + 1.0  # their method needs alpha >= 1; a power of a uniform number leads back
    d = boosted - 1.0 / 3.0
    result = np.log(_positive_uniform(derive_seed(seed, "power"), index)) / alpha
    pending = np.arange(len(index))
    attempt = 0
    while len(pending):
        key = index[pending]
        x = normal(derive_seed(seed, "normal", attempt), key)
        v = (1.0 + x / np.sqrt(9.0 * d)) ** 3
        u = _positive_uniform(derive_seed(seed, "uniform", attempt), key)
        log_v = np.log(np.maximum(v, np.finfo(v.dtype).tiny))
        accepted = (v > 0) & (np.log(u) < 0.5 * x * x + d - d * v + d * log_v)
        result[pending[accepted]] += np.log(d) + log_v[accepted]
        pending = pending[~accepted]
        attempt += 1
    return result


def _positive_uniform(seed: int, index: NDArray[Any]) -> NDArray[np.float64]:
    return uniform(seed, index) + 2.0**-54


def permutation(seed: int, n: int) -> NDArray[np.int64]:
    """A random order of 0 .. n-1."""
    return np.argsort(bits(seed, np.arange(n)), kind="stable")
