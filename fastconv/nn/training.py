"""The training loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastconv._spec import as_int
from fastconv.nn import _random
from fastconv.nn.callbacks import Callback, History, Logs, Progress
from fastconv.ops import derive_seed

if TYPE_CHECKING:
    from fastconv.nn.model import Model

Array = NDArray[Any]


def fit(
    model: Model,
    x: Any,
    y: Any,
    *,
    batch_size: int,
    epochs: int,
    validation_data: tuple[Any, Any] | None,
    augment: Callable[..., Array] | None,
    callbacks: Sequence[Callback],
    shuffle: bool,
    verbose: int,
) -> History:
    """Train ``model`` by mini-batches.

    The order of samples, augmentation and dropout are pure functions of the model's seed and the number of
    epochs and steps it has been trained for, so training twice from the same start gives the same bits on any
    number of threads.

    Parameters
    ----------
    model : Model
        Compiled.
    x : array_like of shape (N, *input shape)
    y : array_like
        Targets as the loss takes them.
    batch_size : int
        The last batch of an epoch may be smaller.
    epochs : int
    validation_data : (x, y), optional
        Evaluated after every epoch.
    augment : callable, optional
        ``augment(batch, seed=..., epoch=..., indices=...) -> batch``, such as :mod:`fastconv.nn.augment`;
        ``indices`` are the samples' numbers in ``x``.
    callbacks : sequence of Callback
    shuffle : bool
        Draw a new order of the samples every epoch.
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
    inputs, target = model._as_data(x, y)
    if augment is not None and len(inputs) > 1:
        raise ValueError("augment works on nets with one input")
    if validation_data is not None:
        model._as_data(*validation_data)  # complain before the first epoch, not after it

    history = History()
    progress = Progress(bar=verbose == 1)
    # last those that show and record the logs, so that they see what other callbacks add to them
    everyone: list[Callback] = [*callbacks, *([progress] if verbose else []), history]
    steps = -(-len(target) // batch_size)
    for callback in everyone:
        callback.model = model
        callback.params = {"epochs": epochs, "steps": steps, "verbose": verbose}

    model.stop_training = False
    for callback in everyone:
        callback.on_train_begin()
    try:
        for epoch in range(epochs):
            for callback in everyone:
                callback.on_epoch_begin(epoch)
            logs = _train_epoch(model, inputs, target, batch_size, augment, shuffle, everyone)
            if validation_data is not None:
                values = model.evaluate(*validation_data)
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


def _train_epoch(
    model: Model,
    inputs: dict[str, Array],
    target: Array,
    batch_size: int,
    augment: Callable[..., Array] | None,
    shuffle: bool,
    callbacks: Sequence[Callback],
) -> Logs:
    """One pass over the samples; the means of loss and metrics over it."""
    epoch = model._epochs_done  # over all calls of fit, so that a second call does not repeat the first
    count = len(target)
    order = np.arange(count)
    if shuffle:
        order = _random.permutation(derive_seed(model.seed, "shuffle", epoch), count)
    names = ["loss", *(metric.name for metric in model.metrics)]
    totals = dict.fromkeys(names, 0.0)
    seen = 0
    logs: Logs = {}
    for number, start in enumerate(range(0, count, batch_size)):
        for callback in callbacks:
            callback.on_train_batch_begin(number)
        indices = order[start : start + batch_size]
        batch = model._take(inputs, indices)
        if augment is not None:
            ((name, images),) = batch.items()
            changed = augment(images, seed=model.seed, epoch=epoch, indices=indices)
            batch = model._take(model._as_inputs({name: changed}), slice(None))
        labels = target[indices]
        watchers = [watcher for callback in callbacks if (watcher := callback.watcher(number))]
        loss, output = model._train_step(batch, labels, watchers)
        seen += len(indices)
        totals["loss"] += loss * len(indices)
        for metric in model.metrics:
            totals[metric.name] += float(metric(output, labels).sum(dtype=np.float64))
        logs = {name: total / seen for name, total in totals.items()}
        for callback in callbacks:
            callback.on_train_batch_end(number, logs)
        if model.stop_training:
            break
    model._epochs_done += 1
    return dict(logs)
