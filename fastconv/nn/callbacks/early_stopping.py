"""Stopping when a monitored value no longer improves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastconv.nn.callbacks._base import Logs
from fastconv.nn.callbacks._monitor import MonitoringCallback

if TYPE_CHECKING:
    from numpy.typing import NDArray

_REMEMBERED = ("wait", "stopped_epoch", "best", "best_epoch", "best_weights")


class EarlyStopping(MonitoringCallback):
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
        super().__init__(monitor, mode, min_delta)
        self.patience = patience
        self.verbose = verbose
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
        current = self._current(logs)
        if current is None or epoch < self.start_from_epoch:
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

    def get_state(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _REMEMBERED}

    def set_state(self, state: dict[str, Any]) -> None:
        for name in _REMEMBERED:
            setattr(self, name, state[name])
