"""Learning-rate schedules: pure functions of the number of steps (or epochs) done, given as ``learning_rate``.

Where PyTorch has the schedule, the values are its own.  Each takes ``unit="step"`` (the default: updates done) or
``unit="epoch"`` (epochs done, as :meth:`Model.fit` counts them); its other lengths are in that unit.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = [
    "Constant",
    "Cosine",
    "CosineRestarts",
    "Exponential",
    "MultiStep",
    "OneCycle",
    "Polynomial",
    "Schedule",
    "Step",
    "Warmup",
]

UNITS = ("step", "epoch")


@dataclass(frozen=True)
class Schedule:
    """Base of schedules.

    Examples
    --------
    >>> from fastconv import nn
    >>> rate = nn.schedules.Warmup(nn.schedules.Cosine(0.1, steps=90), steps=10)
    >>> [round(rate(t), 3) for t in (0, 5, 10, 55, 100)]
    [0.0, 0.05, 0.1, 0.05, 0.0]
    >>> optimizer = nn.SGD(rate, momentum=0.9)
    """

    unit: str = field(default="step", kw_only=True)

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise ValueError(f"unit must be one of {UNITS}, got {self.unit!r}")
        self._check()

    def _check(self) -> None:
        """Raise ValueError for parameters that make no sense."""

    def __call__(self, t: int) -> float:
        """The learning rate after ``t`` units, counted from 0."""
        raise NotImplementedError


def _check_positive(**numbers: float) -> None:
    for name, value in numbers.items():
        if not (value > 0 and math.isfinite(value)):
            raise ValueError(f"{name} must be positive, got {value!r}")


def _check_length(**lengths: int) -> None:
    for name, value in lengths.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be an integer >= 1, got {value!r}")


def _between(start: float, end: float, share: float) -> float:
    """From ``start`` to ``end`` along half a cosine."""
    return end + (start - end) * (1.0 + math.cos(math.pi * share)) / 2.0


@dataclass(frozen=True)
class Constant(Schedule):
    """``learning_rate``, for the first ``steps`` units times ``factor`` (PyTorch's ConstantLR)."""

    learning_rate: float
    factor: float = 1.0
    steps: int = 0

    def _check(self) -> None:
        _check_positive(learning_rate=self.learning_rate, factor=self.factor)

    def __call__(self, t: int) -> float:
        return self.learning_rate * (self.factor if t < self.steps else 1.0)


@dataclass(frozen=True)
class Step(Schedule):
    """Times ``gamma`` every ``step_size`` units (PyTorch's StepLR)."""

    learning_rate: float
    step_size: int
    gamma: float = 0.1

    def _check(self) -> None:
        _check_positive(learning_rate=self.learning_rate, gamma=self.gamma)
        _check_length(step_size=self.step_size)

    def __call__(self, t: int) -> float:
        return self.learning_rate * self.gamma ** (t // self.step_size)


@dataclass(frozen=True)
class MultiStep(Schedule):
    """Times ``gamma`` at each of ``milestones`` (PyTorch's MultiStepLR)."""

    learning_rate: float
    milestones: Sequence[int]
    gamma: float = 0.1

    def _check(self) -> None:
        _check_positive(learning_rate=self.learning_rate, gamma=self.gamma)
        if list(self.milestones) != sorted(self.milestones):
            raise ValueError(f"milestones must ascend, got {self.milestones!r}")

    def __call__(self, t: int) -> float:
        return self.learning_rate * self.gamma ** bisect_right(self.milestones, t)


@dataclass(frozen=True)
class Exponential(Schedule):
    """Times ``gamma`` every unit (PyTorch's ExponentialLR)."""

    learning_rate: float
    gamma: float

    def _check(self) -> None:
        _check_positive(learning_rate=self.learning_rate, gamma=self.gamma)

    def __call__(self, t: int) -> float:
        return self.learning_rate * self.gamma**t


@dataclass(frozen=True)
class Polynomial(Schedule):
    """Down to ``min_rate`` within ``steps`` along ``(1 - t / steps)**power``, and there it stays.

    PyTorch's PolynomialLR.
    """

    learning_rate: float
    steps: int
    power: float = 1.0
    min_rate: float = 0.0

    def _check(self) -> None:
        _check_positive(learning_rate=self.learning_rate, power=self.power)
        _check_length(steps=self.steps)

    def __call__(self, t: int) -> float:
        left = 1.0 - min(t, self.steps) / self.steps
        return self.min_rate + (self.learning_rate - self.min_rate) * left**self.power


@dataclass(frozen=True)
class Cosine(Schedule):
    """Down to ``min_rate`` within ``steps`` along half a cosine, and there it stays (PyTorch's CosineAnnealingLR).

    Loshchilov & Hutter 2017, arXiv:1608.03983.
    """

    learning_rate: float
    steps: int
    min_rate: float = 0.0

    def _check(self) -> None:
        _check_positive(learning_rate=self.learning_rate)
        _check_length(steps=self.steps)

    def __call__(self, t: int) -> float:
        return _between(self.learning_rate, self.min_rate, min(t, self.steps) / self.steps)


@dataclass(frozen=True)
class CosineRestarts(Schedule):
    """Half cosines, the first of ``steps`` units, each next ``factor`` times as long.

    PyTorch's CosineAnnealingWarmRestarts; Loshchilov & Hutter 2017, arXiv:1608.03983.
    """

    learning_rate: float
    steps: int
    factor: int = 1
    min_rate: float = 0.0

    def _check(self) -> None:
        _check_positive(learning_rate=self.learning_rate)
        _check_length(steps=self.steps, factor=self.factor)

    def __call__(self, t: int) -> float:
        length = self.steps
        if self.factor == 1:
            t %= length
        while t >= length:
            t -= length
            length *= self.factor
        return _between(self.learning_rate, self.min_rate, t / length)


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Up to ``max_rate`` and down again, within ``steps``, along half cosines (PyTorch's OneCycleLR).

    It starts at ``max_rate / div_factor`` and ends ``final_div_factor`` times below that.  The momentum is left alone.
    Smith & Topin 2018, arXiv:1708.07120.
    """

    max_rate: float
    steps: int
    pct_start: float = 0.3
    div_factor: float = 25.0
    final_div_factor: float = 1e4

    def _check(self) -> None:
        _check_positive(
            max_rate=self.max_rate, div_factor=self.div_factor, final_div_factor=self.final_div_factor
        )
        _check_length(steps=self.steps)
        if not 0.0 <= self.pct_start <= 1.0:
            raise ValueError(f"pct_start must be between 0 and 1, got {self.pct_start!r}")

    def __call__(self, t: int) -> float:
        first = self.max_rate / self.div_factor
        top, end = self.pct_start * self.steps - 1.0, self.steps - 1.0
        if t <= top:
            return _between(first, self.max_rate, t / top if top else 1.0)
        share = (min(t, end) - top) / (end - top) if end > top else 1.0
        return _between(self.max_rate, first / self.final_div_factor, share)


@dataclass(frozen=True)
class Warmup(Schedule):
    """A straight line up to where another schedule starts, then that one (PyTorch's LinearLR, then SequentialLR).

    Parameters
    ----------
    after : Schedule or float
        Begins after ``steps``; its unit must be this one's.
    steps : int
    start_factor : float
        Share of the full rate at the first step; 0 leaves the first step without effect.
    """

    after: Schedule | float
    steps: int
    start_factor: float = 0.0

    def _check(self) -> None:
        _check_length(steps=self.steps)
        if not 0.0 <= self.start_factor <= 1.0:
            raise ValueError(f"start_factor must be between 0 and 1, got {self.start_factor!r}")
        if isinstance(self.after, Schedule):
            if self.after.unit != self.unit:
                raise ValueError(
                    f"a warm-up counted by {self.unit} cannot go on as a schedule counted by {self.after.unit}"
                )
        else:
            _check_positive(after=self.after)

    def __call__(self, t: int) -> float:
        later = self.after(max(t - self.steps, 0)) if isinstance(self.after, Schedule) else self.after
        share = min(t, self.steps) / self.steps
        return later * (self.start_factor + (1.0 - self.start_factor) * share)
