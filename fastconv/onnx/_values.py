"""What a value of a file is while the file is read: an array, or something that the net will compute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv._spec import Shape

Array = NDArray[Any]


class UnsupportedModelError(ValueError):
    """The model is in order but says what this package cannot express; the message names all of it."""


@dataclass(frozen=True)
class Batch:
    """The unknown number of samples, times ``factor``, where a file computes with shapes."""

    factor: int = 1

    def __mul__(self, other: Any) -> Batch:
        return Batch(self.factor * _as_factor(other))

    __rmul__ = __mul__

    def __floordiv__(self, other: Any) -> Batch | int:
        if isinstance(other, Batch):
            if self.factor % other.factor == 0:
                return self.factor // other.factor
        elif self.factor % _as_factor(other) == 0:
            return Batch(self.factor // _as_factor(other))
        raise UnsupportedModelError(f"{self} divided by {other} is not known")

    def __str__(self) -> str:
        return "the batch size" + (f" times {self.factor}" if self.factor != 1 else "")

    def __repr__(self) -> str:
        return "N" if self.factor == 1 else f"{self.factor}*N"


def _as_factor(value: Any) -> int:
    if isinstance(value, (int, np.integer)) and value > 0:
        return int(value)
    raise UnsupportedModelError(f"the batch size cannot be combined with {value!r}")


@dataclass(frozen=True)
class Known:
    """An array.  ``name`` is that of the initialiser that it comes from, unchanged but for its shape or type."""

    array: Array
    name: str | None = None

    @property
    def ndim(self) -> int:
        return self.array.ndim

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the elements; numbers of a shape are int64 also where one of them is the batch size."""
        return np.dtype(np.int64) if self.array.dtype == object else self.array.dtype


@dataclass(frozen=True)
class Open:
    """A result of the net; axis 0 is the batch, ``shape`` is that of one sample."""

    name: str
    shape: Shape
    dtype: np.dtype[Any]

    @property
    def ndim(self) -> int:
        return len(self.shape) + 1


Value = Known | Open
