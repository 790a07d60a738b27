"""Keeping the net of an epoch, or the best so far, as a file."""

from __future__ import annotations

import os
from typing import Any

from fastconv.nn.callbacks._base import Logs
from fastconv.nn.callbacks._monitor import MonitoringCallback


class ModelCheckpoint(MonitoringCallback):
    """Save the model as training goes on; arguments and behaviour are Keras'.

    For a run that can be resumed after a crash use ``fit(checkpoint=...)``: these files hold no optimizer.

    Parameters
    ----------
    filepath : str or path
        May have places for the number of the epoch (from 1), of the batch and for the logs, such as
        ``"net-{epoch:02d}-{val_loss:.2f}.safetensors"``.
    monitor : str
        Key in the logs, for ``save_best_only``.
    verbose : {0, 1}
        1 prints what is saved.
    save_best_only : bool
        Save only when the monitored value is better than ever before.
    save_weights_only : bool
        Write the weights alone (:meth:`Model.save_weights`), not the whole net (:meth:`Model.save`).
    mode : {"auto", "min", "max"}
        Which way is better; ``"auto"`` asks the metric of that name (a loss is better when smaller).
    save_freq : "epoch" or int
        After every epoch, or after so many batches.
    initial_value_threshold : float, optional
        What the monitored value has to beat the first time.

    Attributes
    ----------
    best : float or None
    """

    def __init__(
        self,
        filepath: str | os.PathLike[str],
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: int | str = "epoch",
        initial_value_threshold: float | None = None,
    ) -> None:
        super().__init__(monitor, mode)
        if save_freq != "epoch" and not (isinstance(save_freq, int) and save_freq >= 1):
            raise ValueError(f"save_freq must be 'epoch' or a number of batches >= 1, got {save_freq!r}")
        self.filepath = os.fspath(filepath)
        self.verbose = verbose
        self.save_best_only = save_best_only
        self.save_weights_only = save_weights_only
        self.save_freq = save_freq
        self.best = initial_value_threshold
        self._epoch = 0
        self._batches = 0  # since the file was last written

    def on_epoch_begin(self, epoch: int) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        if self.save_freq == "epoch":
            return
        self._batches += 1
        if self._batches >= int(self.save_freq):
            self._batches = 0
            self._save(logs, epoch=self._epoch + 1, batch=batch + 1)

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        if self.save_freq == "epoch":
            self._save(logs, epoch=epoch + 1)

    def get_state(self) -> dict[str, Any]:
        return {"best": self.best, "batches": self._batches}

    def set_state(self, state: dict[str, Any]) -> None:
        self.best, self._batches = state["best"], state["batches"]

    def _save(self, logs: Logs, **numbers: int) -> None:
        path = self._path({**logs, **numbers})
        title = f"Epoch {numbers['epoch']}"
        if self.save_best_only:
            current = self._current(logs)
            if current is None:
                return
            if not self._improves(current, self.best):
                if self.verbose:
                    print(f"{title}: {self.monitor} did not improve from {self.best}")
                return
            if self.verbose:
                print(f"{title}: {self.monitor} improved from {self.best} to {current:.5f}, saving to {path}")
            self.best = current
        elif self.verbose:
            print(f"{title}: saving to {path}")
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        if self.save_weights_only:
            self.model.save_weights(path)
        else:
            self.model.save(path)

    def _path(self, values: dict[str, float]) -> str:
        try:
            return self.filepath.format(**values)
        except KeyError as error:
            raise ValueError(
                f"the file name {self.filepath!r} asks for {error}, but there is only {', '.join(values)}"
            ) from None
