"""What an array holds, in one compiled pass over it: moments, extremes, rare values and a histogram."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv._arrays import as_floats, dtype_name
from fastconv._dispatch import plan
from fastconv._spec import StatisticsSpec

__all__ = ["Statistics", "describe"]

Array = NDArray[Any]


@dataclass(frozen=True, eq=False, slots=True)
class Statistics:
    """Summary of an array; moments, extremes and the histogram are those of its finite elements.

    Parameters
    ----------
    size
        Number of elements.
    mean, variance
        The variance is the biased one.  NaN without a finite element, as are the extremes.
    minimum, maximum
    zeros, denormals, nonfinite
        How many elements are 0, are smaller than the dtype's least normal number, are infinite or NaN.
    first
        Number of the first bin of the histogram among those of the fixed grid that :attr:`edges` is cut from.
    counts
        The histogram from its first to its last bin that is not empty.
    """

    size: int
    mean: float
    variance: float
    minimum: float
    maximum: float
    zeros: int
    denormals: int
    nonfinite: int
    first: int
    counts: Array

    @property
    def edges(self) -> Array:
        """The ``len(counts) + 1`` edges of the histogram's bins.

        The grid is the same for all arrays: four bins an octave from 2**-126 to 2**128 on both sides of one bin around
        zero; larger numbers are counted in the outermost bins.
        """
        return StatisticsSpec.edges()[self.first : self.first + len(self.counts) + 1]

    @property
    def finite(self) -> int:
        """Number of finite elements."""
        return self.size - self.nonfinite

    @property
    def std(self) -> float:
        """Standard deviation."""
        return math.sqrt(self.variance)

    @property
    def rms(self) -> float:
        """Root of the mean square."""
        return math.sqrt(self.mean**2 + self.variance)

    @property
    def norm(self) -> float:
        """Euclidean norm; 0 of no elements."""
        return math.sqrt(self.finite) * self.rms if self.finite else 0.0

    def share_beyond(self, magnitude: float) -> float:
        """Share of finite elements whose absolute value is at least ``magnitude``, a power of two.

        NaN without a finite element.
        """
        if not self.finite:
            return math.nan
        edges = self.edges
        inside = (edges[:-1] >= -magnitude) & (edges[1:] <= magnitude)
        return 1.0 - float(self.counts[inside].sum()) / self.finite

    def quantile(self, q: Any) -> Any:
        """Quantiles by linear interpolation within a bin: right to a fifth of their own size.

        Parameters
        ----------
        q : float or array_like of float
            Each in [0, 1].

        Returns
        -------
        float or ndarray like ``q``
            NaN without a finite element.
        """
        if not self.finite:
            return np.full_like(q, np.nan, dtype=float)[()]
        cumulated = np.concatenate(([0], np.cumsum(self.counts))) / self.finite
        edges = np.clip(self.edges, self.minimum, self.maximum)
        return np.interp(q, cumulated, edges)


def describe(x: Any) -> Statistics:
    """The statistics of an array.

    Parameters
    ----------
    x : array_like of float32 or float64

    Returns
    -------
    Statistics
        The same bits for any number of threads.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.statistics import describe
    >>> s = describe(np.array([-1.0, 0.0, 3.0, np.nan], "float32"))
    >>> round(s.mean, 3), s.minimum, s.maximum, s.zeros, s.nonfinite
    (0.667, -1.0, 3.0, 1, 1)
    """
    array = as_floats(x, "x")
    made = plan("statistics", StatisticsSpec.of, array.size, dtype_name(array))
    moments, rare, histogram = made.run(array)
    filled = histogram != 0
    first, stop = 0, 0
    if filled.any():
        first, stop = int(filled.argmax()), len(filled) - int(filled[::-1].argmax())
    mean, variance, minimum, maximum = moments.tolist()
    zeros, denormals, nonfinite = rare.tolist()
    return Statistics(
        size=array.size,
        mean=mean,
        variance=variance,
        minimum=minimum,
        maximum=maximum,
        zeros=zeros,
        denormals=denormals,
        nonfinite=nonfinite,
        first=first,
        counts=histogram[first:stop].copy(),
    )
