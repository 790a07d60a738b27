"""The training loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np

from fastconv._spec import as_int
from fastconv.nn import data
from fastconv.nn.callbacks import Callback, History, Logs, Progress

if TYPE_CHECKING:
    from fastconv.nn.model import Model


def fit(
    model: Model,
    x: Any,
    y: Any,
    *,
    batch_size: int,
    epochs: int,
    validation_data: Any,
    augment: Callable[..., Any] | None,
    callbacks: Sequence[Callback],
    shuffle: bool,
    steps_per_epoch: int | None,
    validation_steps: int | None,
    workers: int,
    verbose: int,
) -> History:
    """Train ``model`` by mini-batches.

    The order of samples, augmentation and dropout are pure functions of the model's seed and the number of
    epochs and steps it has been trained for, so training twice from the same start gives the same bits on any
    number of threads and workers.

    Parameters
    ----------
    model : Model
        Compiled.
    x : array_like of shape (N, *input shape), or anything that gives batches
        Files mapped into memory are read batch by batch; integer images with a scale, sequences, iterables
        and generators of batches: see :class:`fastconv.nn.data.Arrays` and :class:`~fastconv.nn.data.Loader`.
    y : array_like, optional
        Targets as the loss takes them; not given if ``x`` gives batches.
    batch_size : int
        Of arrays; the last batch of an epoch may be smaller.
    epochs : int
    validation_data : (x, y), or anything that gives batches, optional
        Evaluated after every epoch.
    augment : callable, optional
        ``augment(batch, seed=..., epoch=..., indices=...) -> batch``, such as :mod:`fastconv.nn.augment`;
        ``indices`` are the samples' numbers in ``x``.
    callbacks : sequence of Callback
    shuffle : bool
        Draw a new order every epoch: of the samples of arrays, of the batches of a sequence.
    steps_per_epoch, validation_steps : int, optional
        Batches in an epoch and in an evaluation; all there are by default.  A generator goes on from epoch to
        epoch.
    workers : int
        Threads that prepare batches in the background; 0 prepares them in the calling thread.  The same bits
        for any number.
    verbose : {0, 1, 2}
        0 is silent, 1 shows a progress bar (a line per epoch without tqdm), 2 prints a line per epoch.

    Returns
    -------
    History

    Raises
    ------
    FloatingPointError
        If the loss becomes NaN or infinite; the message names the first layer with non-finite values.
    """
    if model.optimizer is None:
        raise ValueError("the model is not compiled: call model.compile(optimizer=..., loss=...) first")
    epochs, batch_size = as_int(epochs, "epochs"), as_int(batch_size, "batch_size")
    if epochs < 0 or batch_size < 1:
        raise ValueError(f"epochs must be >= 0 and batch_size >= 1, got {epochs} and {batch_size}")
    if verbose not in (0, 1, 2):
        raise ValueError(f"verbose must be 0, 1 or 2, got {verbose!r}")
    loader = data.Loader(
        model,
        x,
        y,
        batch_size=batch_size,
        steps=steps_per_epoch,
        passes=epochs,
        augment=augment,
        shuffle=shuffle,
        workers=workers,
    )
    if validation_data is not None:
        validation = validation_data if isinstance(validation_data, tuple) else (validation_data,)
        data.Loader(
            model, *validation, steps=validation_steps, passes=epochs
        )  # complain before the first epoch

    history = History()
    progress = Progress(bar=verbose == 1)
    # last those that show and record the logs, so that they see what other callbacks add to them
    everyone: list[Callback] = [*callbacks, *([progress] if verbose else []), history]
    for callback in everyone:
        callback.model = model
        callback.params = {"epochs": epochs, "steps": loader.steps, "verbose": verbose}

    model.stop_training = False
    for callback in everyone:
        callback.on_train_begin()
    try:
        for epoch in range(epochs):
            for callback in everyone:
                callback.on_epoch_begin(epoch)
            logs = _train_epoch(model, loader, everyone)
            if validation_data is not None:
                values = model.evaluate(*validation, steps=validation_steps)
                logs |= {f"val_{name}": value for name, value in values.items()}
            for callback in everyone:
                callback.on_epoch_end(epoch, logs)
            progress.close()
            if model.stop_training:
                break
    finally:
        progress.close()
    for callback in everyone:
        callback.on_train_end()
    return history


def _train_epoch(model: Model, loader: data.Loader, callbacks: Sequence[Callback]) -> Logs:
    """One pass over the samples; the means of loss and metrics over it."""
    names = ["loss", *(metric.name for metric in model.metrics)]
    totals = dict.fromkeys(names, 0.0)
    seen = 0
    logs: Logs = {}
    # counted over all calls of fit, so that a second call does not repeat the first
    with closing(loader.batches(epoch=model._epochs_done)) as batches:
        for number, (batch, labels) in enumerate(batches):
            for callback in callbacks:
                callback.on_train_batch_begin(number)
            loss, output = model._train_step(batch, labels)
            seen += len(labels)
            totals["loss"] += loss * len(labels)
            for metric in model.metrics:
                totals[metric.name] += float(metric(output, labels).sum(dtype=np.float64))
            logs = {name: total / seen for name, total in totals.items()}
            for callback in callbacks:
                callback.on_train_batch_end(number, logs)
            if model.stop_training:
                break
    model._epochs_done += 1
    return dict(logs)
