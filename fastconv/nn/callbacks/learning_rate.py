"""Callbacks that set the learning rate."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastconv.nn.callbacks._base import Callback, Logs
from fastconv.nn.callbacks._monitor import MonitoringCallback
from fastconv.nn.schedules import Schedule

if TYPE_CHECKING:
    from fastconv.nn.model import Model


def _rate(model: Model) -> float:
    """The learning rate, which must be the callback's to set."""
    assert model.optimizer is not None  # fit has checked it
    rate = model.optimizer.learning_rate
    if isinstance(rate, Schedule):
        raise TypeError(f"the optimizer's learning rate follows {rate!r}, so no callback can set it")
    return rate


def _set_rate(model: Model, rate: float) -> None:
    assert model.optimizer is not None
    model.optimizer.learning_rate = rate


class LearningRateScheduler(Callback):
    """Set the learning rate before every epoch; arguments and behaviour are Keras'.

    A :mod:`fastconv.nn.schedules` object given to the optimizer does the same without a callback.

    Parameters
    ----------
    schedule : callable
        ``schedule(epoch, learning_rate) -> float``, or of the epoch alone; epochs are counted from 0.
    verbose : {0, 1}
        1 prints the rate.
    """

    def __init__(self, schedule: Callable[..., float], verbose: int = 0) -> None:
        if not callable(schedule):
            raise TypeError(f"schedule must be a function of the epoch, got {schedule!r}")
        self.schedule = schedule
        self.verbose = verbose

    def on_epoch_begin(self, epoch: int) -> None:
        rate = _rate(self.model)
        try:
            rate = self.schedule(epoch, rate)
        except TypeError:  # a function of the epoch alone
            rate = self.schedule(epoch)
        _set_rate(self.model, rate)
        if self.verbose:
            print(f"Epoch {epoch + 1}: learning rate {rate}")

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        logs["learning_rate"] = _rate(self.model)


class ReduceLROnPlateau(MonitoringCallback):
    """Reduce the learning rate when a monitored value no longer improves; arguments and behaviour are Keras'.

    Parameters
    ----------
    monitor : str
        Key in the logs.
    factor : float
        ``new rate = factor * rate``; below 1.
    patience : int
        Epochs without improvement after which the rate is reduced.
    verbose : {0, 1}
        1 prints the new rate.
    mode : {"auto", "min", "max"}
        Which way is better; ``"auto"`` asks the metric of that name (a loss is better when smaller).
    min_delta : float
        Smaller changes are no improvement.
    cooldown : int
        Epochs to let pass after a reduction before counting again.
    min_lr : float
        The rate is not reduced below it.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        if not 0 <= factor < 1:
            raise ValueError(f"factor must be in [0, 1), got {factor!r}")
        self.factor = factor
        self.patience = patience
        self.verbose = verbose
        self.cooldown = cooldown
        self.min_lr = min_lr
        self.on_train_begin()

    def on_train_begin(self) -> None:
        self.best: float | None = None
        self.wait = 0
        self.cooldown_counter = 0

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        rate = logs["learning_rate"] = _rate(self.model)
        current = self._current(logs)
        if current is None:
            return
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.wait = 0
        if self._improves(current, self.best):
            self.best, self.wait = current, 0
        elif self.cooldown_counter <= 0:
            self.wait += 1
            if self.wait >= self.patience and rate > self.min_lr:
                rate = max(rate * self.factor, self.min_lr)
                _set_rate(self.model, rate)
                if self.verbose:
                    print(f"Epoch {epoch + 1}: reducing the learning rate to {rate}")
                self.cooldown_counter, self.wait = self.cooldown, 0

    def get_state(self) -> dict[str, Any]:
        return {"best": self.best, "wait": self.wait, "cooldown_counter": self.cooldown_counter}

    def set_state(self, state: dict[str, Any]) -> None:
        self.best, self.wait, self.cooldown_counter = state["best"], state["wait"], state["cooldown_counter"]
