"""What callbacks share that watch one value of the logs."""

from __future__ import annotations

import warnings

from fastconv.nn.callbacks._base import Callback, Logs


class MonitoringCallback(Callback):
    """Base of callbacks that ask whether a monitored value has become better.

    Parameters
    ----------
    monitor : str
        Key in the logs.
    mode : {"auto", "min", "max"}
        Which way is better; ``"auto"`` asks the metric of that name (a loss is better when smaller).
    min_delta : float
        Smaller changes are no improvement.
    """

    def __init__(self, monitor: str, mode: str, min_delta: float = 0) -> None:
        if mode not in ("auto", "min", "max"):
            raise ValueError(f"mode must be 'auto', 'min' or 'max', got {mode!r}")
        self.monitor = monitor
        self.mode = mode
        self.min_delta = abs(min_delta)

    def _current(self, logs: Logs) -> float | None:
        """The monitored value; None, with a warning, where the logs do not have it."""
        if self.monitor in logs:
            return float(logs[self.monitor])
        warnings.warn(
            f"{type(self).__name__} monitors {self.monitor!r}, but the logs only have {', '.join(logs)}",
            stacklevel=3,
        )
        return None

    def _improves(self, value: float, reference: float | None) -> bool:
        """Whether ``value`` beats ``reference`` (None: the worst possible) by more than ``min_delta``."""
        sign = 1.0 if self._direction() == "max" else -1.0
        if reference is None:
            return sign * value > float("-inf")
        return sign * (value - reference) > self.min_delta

    def _direction(self) -> str:
        if self.mode != "auto":
            return self.mode
        name = self.monitor.removeprefix("val_")
        if name == "loss":
            return "min"
        for metric in self.model.metrics:
            if name == metric.name or name.startswith(f"{metric.name}_"):
                return metric.direction
        raise ValueError(
            f"{type(self).__name__} cannot tell which way {self.monitor!r} is better: "
            f"pass mode='min' or mode='max'"
        )
