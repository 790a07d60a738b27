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
    bins, counts
        The histogram: which bins are not empty, ascending, and how many elements each has.  The grid is the same for
        all arrays, four bins an octave from 2**-126 to 2**128 on both sides of one bin around zero, number 1016; larger
        numbers are counted in the outermost bins.
    """

    size: int
    mean: float
    variance: float
    minimum: float
    maximum: float
    zeros: int
    denormals: int
    nonfinite: int
    bins: Array
    counts: Array

    @property
    def lower(self) -> Array:
        """Lower edges of :attr:`bins`."""
        return StatisticsSpec.edges()[self.bins]

    @property
    def upper(self) -> Array:
        """Upper edges of :attr:`bins`."""
        return StatisticsSpec.edges()[self.bins + 1]

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
        inside = (self.lower >= -magnitude) & (self.upper <= magnitude)
        return 1.0 - float(self.counts[inside].sum()) / self.finite

    def histogram(self) -> tuple[Array, Array]:
        """The histogram over adjoining bins, an empty one where others are not filled.

        Returns
        -------
        edges : ndarray of shape (n + 1,)
        counts : ndarray of shape (n,)
        """
        edges = np.unique(np.concatenate((self.lower, self.upper)))
        counts = np.zeros(max(len(edges) - 1, 0), np.int64)
        counts[np.searchsorted(edges, self.lower)] = self.counts
        return edges, counts

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
        edges, counts = self.histogram()
        cumulated = np.concatenate(([0], np.cumsum(counts))) / self.finite
        return np.interp(q, cumulated, np.clip(edges, self.minimum, self.maximum))


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
    bins = np.flatnonzero(histogram)
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
        bins=bins,
        counts=histogram[bins],
    )
