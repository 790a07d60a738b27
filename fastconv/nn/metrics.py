"""Metrics: one number per sample, averaged over the samples seen."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

__all__ = ["Accuracy", "Metric", "get"]

Array = NDArray[Any]


class Metric:
    """Base of metrics.

    Attributes
    ----------
    name : str
        Key in the logs.
    direction : {"max", "min"}
        Which way is better; callbacks with ``mode="auto"`` ask it.
    """

    name: str
    direction: str

    def __call__(self, output: Array, target: Array) -> Array:
        """Values of shape (N,) from the net's output and the checked target."""
        raise NotImplementedError


class Accuracy(Metric):
    """Share of samples (for dense outputs: of positions) whose largest output is the target class."""

    name = "accuracy"
    direction = "max"

    def __call__(self, output: Array, target: Array) -> Array:
        if target.ndim == output.ndim:  # probabilities
            target = target.argmax(axis=1)
        hits = output.argmax(axis=1) == target
        return hits.reshape(len(hits), -1).mean(axis=1)


NAMED: dict[str, type[Metric]] = {"accuracy": Accuracy}


def get(metric: str | Metric) -> Metric:
    """A metric by name, or itself."""
    if isinstance(metric, Metric):
        return metric
    if metric not in NAMED:
        raise ValueError(f"metrics must be Metric objects or names from {sorted(NAMED)}, got {metric!r}")
    return NAMED[metric]()
