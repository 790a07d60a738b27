"""Means of losses and counts of metrics over the batches of an epoch or an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from fastconv.nn.metrics import Metric

Array = NDArray[Any]


class Tally:
    """What has been seen so far: the dividend and divisor of the mean loss, and the counts of every metric."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics
        self._counts: list[Array | None] = [None] * len(metrics)
        self._total = self._weight = 0.0

    def add(self, total: float, weight: float, output: Array, target: Array) -> None:
        """Add a batch whose mean loss is ``total / weight``."""
        self._total += total
        self._weight += weight
        for number, metric in enumerate(self._metrics):
            counts, former = metric.count(output, target), self._counts[number]
            self._counts[number] = counts if former is None else former + counts

    def logs(self) -> dict[str, float]:
        """``loss`` and the entries of the metrics; these keep the counts."""
        entries = {"loss": self._total / self._weight if self._weight else 0.0}
        for metric, counts in zip(self._metrics, self._counts, strict=True):
            if counts is not None:
                metric.counts = counts
                entries |= metric.results(counts)
        return entries
