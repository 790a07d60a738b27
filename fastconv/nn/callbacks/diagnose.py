"""Watching a net train, for signs of known faults."""

from __future__ import annotations

import math

from fastconv._spec import as_int
from fastconv.nn.callbacks._base import Callback, Logs
from fastconv.nn.diagnosis import Finding, Recorder, Snapshot, find_faults


class Diagnose(Callback):
    """Records the distributions of activations, gradients and updates, and names the faults they point to.

    Parameters
    ----------
    every : int
        Batches from one snapshot to the next, the first batch included.
    max_snapshots : int
        When so many are there, every second one is dropped and ``every`` doubles from then on: a long training takes no
        more memory than a short one.
    verbose : {0, 1}
        1 prints the findings at the end of training.

    Attributes
    ----------
    snapshots : list of fastconv.nn.diagnosis.Snapshot
    losses : list of float
        Of the first batch and of every epoch so far, the last one complete or not.
    history : dict of str to list of float
        Logs per epoch.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> model = nn.Sequential([nn.Conv2d(4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2)], input_shape=(1, 6, 6))
    >>> model.params["conv2d_1.bias"][:] = -100
    >>> model.compile("sgd", "cross_entropy")
    >>> x = np.random.default_rng(0).random((320, 1, 6, 6))
    >>> diagnose = nn.callbacks.Diagnose(every=1)
    >>> _ = model.fit(x, np.arange(320) % 2, epochs=2, callbacks=[diagnose], verbose=0)
    >>> [(finding.fault, finding.layer) for finding in diagnose.findings()]
    [('sparse activations', 'relu_1'), ('dead filters', 'relu_1')]
    """

    def __init__(self, every: int = 20, max_snapshots: int = 200, verbose: int = 0) -> None:
        self.every = as_int(every, "every")
        self.max_snapshots = as_int(max_snapshots, "max_snapshots")
        if self.every < 1 or self.max_snapshots < 2:
            raise ValueError(f"every must be >= 1 and max_snapshots >= 2, got {every} and {max_snapshots}")
        self.verbose = verbose
        self.snapshots: list[Snapshot] = []
        self.losses: list[float] = []
        self.history: dict[str, list[float]] = {}

    def findings(self) -> list[Finding]:
        """The faults that what was seen so far points to, see :func:`fastconv.nn.diagnosis.find_faults`.

        May be asked during training, and after it was broken off by an error.
        """
        return find_faults(self.model.graph, self.snapshots, self.losses, self.history)

    def on_train_begin(self) -> None:
        self.snapshots, self.losses, self.history = [], [], {}
        self._interval = self.every
        self._step = 0

    def on_epoch_begin(self, epoch: int) -> None:
        self._fresh = True  # the next loss is that of another epoch

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        self._step += 1
        if self._fresh or len(self.losses) == 1:
            self.losses.append(logs["loss"])
        else:
            self.losses[-1] = logs["loss"]
        self._fresh = False

    def on_non_finite_loss(self, batch: int, error: FloatingPointError) -> None:
        self.losses.append(math.nan)

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        for name, value in logs.items():
            self.history.setdefault(name, []).append(value)

    def on_train_end(self) -> None:
        if self.verbose:
            print("\n".join(map(str, self.findings())) or "no fault found")

    def watcher(self, batch: int) -> Recorder | None:
        if self._step % self._interval:
            return None
        if len(self.snapshots) >= self.max_snapshots:
            self.snapshots = self.snapshots[::2]
            self._interval *= 2
            if self._step % self._interval:
                return None
        recorder = Recorder(self.model.graph, self.model.params, self._step)
        self.snapshots.append(recorder.snapshot)  # filled in the course of the batch, in part if it fails
        return recorder
