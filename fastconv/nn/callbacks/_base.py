"""The hooks of a callback, and the record of a training run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastconv.nn.watch import Watcher

if TYPE_CHECKING:
    from fastconv.nn.model import Model

Logs = dict[str, float]


class Callback:
    """Base of callbacks; every hook does nothing.

    Attributes
    ----------
    model : Model
        The model being trained.
    params : dict
        ``epochs``, ``steps`` (batches per epoch) and ``verbose``.
    """

    model: Model
    params: dict[str, Any]

    def on_train_begin(self) -> None:
        """Before the first epoch."""

    def on_train_end(self) -> None:
        """After the last epoch, also when training was stopped early or by Ctrl-C."""

    def on_epoch_begin(self, epoch: int) -> None:
        """Before epoch number ``epoch``, counted from 0."""

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """After an epoch; ``logs`` has ``loss``, the metrics, and both as ``val_...`` with validation."""

    def on_train_batch_begin(self, batch: int) -> None:
        """Before batch number ``batch`` of the epoch, counted from 0."""

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        """After a batch; ``logs`` has the means of the epoch so far."""

    def watcher(self, batch: int) -> Watcher | None:
        """Who is to see the tensors of batch number ``batch`` of the epoch, asked before it; None costs nothing."""
        return None

    def on_non_finite_loss(self, batch: int, error: FloatingPointError) -> None:
        """When a batch's loss is NaN or infinite; the weights have not moved.

        The error is raised unless a callback sets ``model.stop_training``.
        """

    def get_state(self) -> dict[str, Any]:
        """What a checkpoint has to keep, so that :meth:`set_state` goes on from it in another process.

        Values are what JSON can hold, arrays, and lists and dicts (with strings for keys) of them.
        """
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from the end of an epoch; called after :meth:`on_train_begin`, and only if there is a state."""


class History(Callback):
    """Records the logs; :meth:`Model.fit` returns one.

    Attributes
    ----------
    epoch : list of int
    history : dict of str to list of float
        One value per epoch.
    """

    def __init__(self) -> None:
        self.epoch: list[int] = []
        self.history: dict[str, list[float]] = {}

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        self.epoch.append(epoch)
        for name, value in logs.items():
            self.history.setdefault(name, []).append(value)

    def get_state(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "history": self.history}

    def set_state(self, state: dict[str, Any]) -> None:
        self.epoch, self.history = state["epoch"], state["history"]
