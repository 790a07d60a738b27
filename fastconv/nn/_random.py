"""Counter-based random numbers: each is a pure function of (seed, index), whatever the NumPy version."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

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


def permutation(seed: int, n: int) -> NDArray[np.int64]:
    """A random order of 0 .. n-1."""
    return np.argsort(bits(seed, np.arange(n)), kind="stable")
