"""The training loop."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from fastconv._spec import as_int
from fastconv.nn import _checkpoint, data
from fastconv.nn._interrupt import Interrupts
from fastconv.nn._tally import Tally
from fastconv.nn.callbacks import Callback, History, Logs, Progress

if TYPE_CHECKING:
    from fastconv.nn.model import Model

Path = str | os.PathLike[str]


def fit(
    model: Model,
    x: Any,
    y: Any,
    *,
    batch_size: int,
    epochs: int,
    validation_data: Any,
    sample_weight: Any,
    class_weight: Mapping[int, float] | None,
    augment: Callable[..., Any] | None,
    callbacks: Sequence[Callback],
    shuffle: bool,
    steps_per_epoch: int | None,
    validation_steps: int | None,
    workers: int,
    verbose: int,
    checkpoint: Path | None,
    resume: Path | bool,
) -> History:
    """Train ``model`` by mini-batches.

    The order of samples, augmentation and dropout are pure functions of the model's seed and the number of
    epochs and steps it has been trained for, so training twice from the same start gives the same bits on any
    number of threads and workers.

    Ctrl-C ends training after the step that is under way: callbacks get their ``on_train_end``, KeyboardInterrupt is
    raised, the model keeps the weights of its last whole step, and ``model.history`` the epochs done.

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
    validation_data : (x, y) or (x, y, sample_weight), or anything that gives batches, optional
        Evaluated after every epoch.
    sample_weight : array_like of shape (N,), optional
        Factor of the loss of each sample, as in Keras: the mean is still divided by the number of samples.
    class_weight : mapping of int to float, optional
        Factor of the loss of the samples of a class; 1 for classes that it lacks.
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
    checkpoint : path, optional
        Where to save the run after every epoch: weights, optimizer, callbacks and history, in one safetensors file
        that is replaced at once, so that it is whole whenever the process ends.
    resume : path or bool
        A checkpoint to go on from: training ends with the same bits as if it had never been interrupted, given the same
        data and arguments.  True goes on from ``checkpoint`` if it is there, and starts anew if it is not.  ``epochs``
        counts those done before; a run that a callback has stopped stays so.

    Returns
    -------
    History

    Raises
    ------
    FileNotFoundError
        If there is no file to resume from.
    FloatingPointError
        If the loss becomes NaN or infinite; the message names the first layer with non-finite values.
    ValueError, TypeError
        If arguments do not fit together, or the checkpoint is none, is damaged, or is of another net or run.
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
        sample_weight=sample_weight,
        class_weight=class_weight,
        batch_size=batch_size,
        steps=steps_per_epoch,
        passes=epochs,
        augment=augment,
        shuffle=shuffle,
        workers=workers,
    )
    if validation_data is not None:  # complain before the first epoch, not after it
        held_out = validation_data if isinstance(validation_data, tuple) else (validation_data, None)
        if len(held_out) not in (2, 3):
            raise ValueError(f"validation_data must be (x, y) or (x, y, sample_weight), got {len(held_out)}")
        held_out, held_out_weights = held_out[:2], held_out[2] if len(held_out) == 3 else None
        data.Loader(model, *held_out, sample_weight=held_out_weights, steps=validation_steps, passes=epochs)
    source = _source(checkpoint, resume)

    history = model.history = History()
    progress = Progress(bar=verbose == 1)
    # last those that show and record the logs, so that they see what other callbacks add to them
    everyone: list[Callback] = [*callbacks, *([progress] if verbose else []), history]
    run = {
        "samples": loader.samples,
        "steps": loader.steps,
        "batch_size": batch_size,
        "shuffle": bool(shuffle),
    }
    for callback in everyone:
        callback.model = model
        callback.params = {"epochs": epochs, "steps": loader.steps, "verbose": verbose}

    model.stop_training = False
    for callback in everyone:
        callback.on_train_begin()
    done = 0 if source is None else _checkpoint.restore(source, model, everyone, run)
    with Interrupts() as interrupts:
        try:
            for epoch in range(done, epochs):
                if model.stop_training:
                    break
                for callback in everyone:
                    callback.on_epoch_begin(epoch)
                # counted over all calls of fit, so that a second call does not repeat the first
                with closing(loader.batches(model._epochs_done)) as batches:
                    logs = _train_epoch(model, batches, everyone, interrupts)
                if validation_data is not None:
                    values = model.evaluate(*held_out, sample_weight=held_out_weights, steps=validation_steps)
                    logs |= {f"val_{name}": value for name, value in values.items()}
                for callback in everyone:
                    callback.on_epoch_end(epoch, logs)
                progress.close()
                if checkpoint is not None:
                    _checkpoint.write(checkpoint, model, everyone, run, epoch + 1)
        except KeyboardInterrupt:
            for callback in everyone:
                callback.on_train_end()
            raise
        finally:
            progress.close()
    for callback in everyone:
        callback.on_train_end()
    return history


def _source(checkpoint: Path | None, resume: Path | bool) -> Path | None:
    """The file to go on from, if any."""
    if checkpoint is not None:
        _checkpoint.prepare(checkpoint)
    if resume is True:
        if checkpoint is None:
            raise ValueError(
                "resume=True goes on from the checkpoint, but none is given: fit(checkpoint=path)"
            )
        return checkpoint if os.path.exists(checkpoint) else None
    return None if resume is False else resume


def _train_epoch(
    model: Model, batches: Iterable[data.Batch], callbacks: Sequence[Callback], interrupts: Interrupts
) -> Logs:
    """One pass over the samples; the means of loss and metrics over it."""
    tally = Tally(model.metrics)
    logs: Logs = {}
    for number, (batch, labels, weights) in enumerate(batches):
        for callback in callbacks:
            callback.on_train_batch_begin(number)
        watchers = [watcher for callback in callbacks if (watcher := callback.watcher(number))]
        try:
            with interrupts.held():
                loss, output = model._train_step(batch, labels, weights, watchers)
        except FloatingPointError as error:
            for callback in callbacks:
                callback.on_non_finite_loss(number, error)
            if not model.stop_training:
                raise
            logs = {**logs, "loss": math.nan}
            break
        tally.add(loss * len(labels), len(labels), output, labels)
        logs = tally.logs()
        for callback in callbacks:
            callback.on_train_batch_end(number, logs)
        if model.stop_training:
            break
    model._epochs_done += 1
    model._optimizer_state.epoch += 1
    return logs
