"""Penalties on weights, added to the loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["L1", "L1L2", "L2", "Regularizer"]

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Regularizer:
    """``l1 * sum(|w|) + l2 * sum(w**2)``; build it with :func:`L1`, :func:`L2` or :func:`L1L2`."""

    l1: float = 0.0
    l2: float = 0.0

    def __post_init__(self) -> None:
        if not (self.l1 >= 0 and self.l2 >= 0):
            raise ValueError(f"penalty factors must be >= 0, got l1={self.l1!r} and l2={self.l2!r}")

    def penalty(self, weight: Array) -> float:
        """The penalty of one weight array."""
        total = 0.0
        if self.l1:
            total += self.l1 * float(np.abs(weight).sum(dtype=np.float64))
        if self.l2:
            total += self.l2 * float(np.square(weight).sum(dtype=np.float64))
        return total

    def add_gradient(self, weight: Array, grad: Array) -> None:
        """Add the penalty's gradient to ``grad`` in place (0 is taken as the slope of \\|w\\| at 0)."""
        if self.l1:
            grad += self.l1 * np.sign(weight)
        if self.l2:
            grad += (2.0 * self.l2) * weight


def L1(l1: float = 0.01) -> Regularizer:
    """``l1 * sum(|w|)``."""
    return Regularizer(l1=l1)


def L2(l2: float = 0.01) -> Regularizer:
    """``l2 * sum(w**2)``."""
    return Regularizer(l2=l2)


def L1L2(l1: float = 0.0, l2: float = 0.0) -> Regularizer:
    """``l1 * sum(|w|) + l2 * sum(w**2)``."""
    return Regularizer(l1=l1, l2=l2)
