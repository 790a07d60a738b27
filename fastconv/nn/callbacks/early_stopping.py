"""Stopping when a monitored value no longer improves."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from fastconv.nn.callbacks._base import Callback, Logs

if TYPE_CHECKING:
    from numpy.typing import NDArray


class EarlyStopping(Callback):
    """Stop training when a monitored value has stopped improving; arguments and behaviour are Keras'.

    Parameters
    ----------
    monitor : str
        Key in the logs.
    min_delta : float
        Smaller changes are no improvement.
    patience : int
        Epochs without improvement after which training stops.
    verbose : {0, 1}
        1 prints when training is stopped and weights are restored.
    mode : {"auto", "min", "max"}
        Which way is better; ``"auto"`` asks the metric of that name (a loss is better when smaller).
    baseline : float, optional
        The count of epochs without improvement starts anew only for values better than this one, too.
    restore_best_weights : bool
        Whether the model ends with the weights of its best epoch: always, also when training runs to its last
        epoch.
    start_from_epoch : int
        Epochs to let pass before watching.

    Attributes
    ----------
    stopped_epoch : int
        Epoch (from 0) at which training was stopped; 0 if it was not.
    best : float
    best_epoch : int
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ) -> None:
        if mode not in ("auto", "min", "max"):
            raise ValueError(f"mode must be 'auto', 'min' or 'max', got {mode!r}")
        self.monitor = monitor
        self.min_delta = abs(min_delta)
        self.patience = patience
        self.verbose = verbose
        self.mode = mode
        self.baseline = baseline
        self.restore_best_weights = restore_best_weights
        self.start_from_epoch = start_from_epoch
        self.on_train_begin()

    def on_train_begin(self) -> None:
        self.wait = 0
        self.stopped_epoch = 0
        self.best: float | None = None
        self.best_epoch = 0
        self.best_weights: dict[str, NDArray[Any]] | None = None

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        current = logs.get(self.monitor)
        if current is None:
            warnings.warn(
                f"EarlyStopping monitors {self.monitor!r}, but the logs only have {', '.join(logs)}",
                stacklevel=2,
            )
            return
        if epoch < self.start_from_epoch:
            return
        if self.restore_best_weights and self.best_weights is None:
            self._remember_weights(epoch)  # a first value that is NaN has no better predecessor
        self.wait += 1
        if self._improves(current, self.best):
            self.best, self.best_epoch = current, epoch
            if self.restore_best_weights:
                self._remember_weights(epoch)
            if self._improves(current, self.baseline):
                self.wait = 0
        elif self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self) -> None:
        if self.verbose and self.stopped_epoch:
            print(f"Epoch {self.stopped_epoch + 1}: early stopping")
        if self.best_weights is not None:
            if self.verbose:
                print(f"Restoring the weights of epoch {self.best_epoch + 1}")
            self.model.set_weights(self.best_weights)

    def _remember_weights(self, epoch: int) -> None:
        self.best_weights, self.best_epoch = self.model.get_weights(), epoch

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
            if metric.name == name:
                return metric.direction
        raise ValueError(
            f"EarlyStopping cannot tell which way {self.monitor!r} is better: pass mode='min' or mode='max'"
        )
