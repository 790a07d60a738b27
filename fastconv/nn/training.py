"""The training loop."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastconv._spec import as_int
from fastconv.nn import _checkpoint, _random
from fastconv.nn._interrupt import Interrupts
from fastconv.nn._tally import Tally
from fastconv.nn.callbacks import Callback, History, Logs, Progress
from fastconv.nn.joint import Parts
from fastconv.ops import derive_seed

if TYPE_CHECKING:
    from fastconv.nn.model import Model

Array = NDArray[Any]
Path = str | os.PathLike[str]
Batch = tuple[dict[str, Array], Array, Array | None]  # inputs, targets, weights of the samples


def fit(
    model: Model,
    x: Any,
    y: Any,
    *,
    batch_size: int,
    epochs: int,
    validation_data: tuple[Any, ...] | None,
    sample_weight: Any,
    class_weight: Mapping[int, float] | None,
    augment: Callable[..., Array] | None,
    callbacks: Sequence[Callback],
    shuffle: bool,
    verbose: int,
    checkpoint: Path | None,
    resume: Path | bool,
) -> History:
    """Train ``model`` by mini-batches.

    The order of samples, augmentation and dropout are pure functions of the model's seed and the number of
    epochs and steps it has been trained for, so training twice from the same start gives the same bits on any
    number of threads.

    Ctrl-C ends training after the step that is under way: callbacks get their ``on_train_end``, KeyboardInterrupt is
    raised, the model keeps the weights of its last whole step, and ``model.history`` the epochs done.

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
    validation_data : (x, y) or (x, y, sample_weight), optional
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
        Draw a new order of the samples every epoch.
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
    inputs, target = model._as_data(x, y)
    weights = sample_weights(target, sample_weight, class_weight)
    if augment is not None and len(inputs) > 1:
        raise ValueError("augment works on nets with one input")
    if validation_data is not None:  # complain before the first epoch, not after it
        if len(validation_data) not in (2, 3):
            raise ValueError(
                f"validation_data must be (x, y) or (x, y, sample_weight), got {len(validation_data)}"
            )
        *held_out, held_out_weights = (
            validation_data if len(validation_data) == 3 else (*validation_data, None)
        )
        sample_weights(model._as_data(*held_out)[1], held_out_weights)
    source = _source(checkpoint, resume)

    history = model.history = History()
    progress = Progress(bar=verbose == 1)
    # last those that show and record the logs, so that they see what other callbacks add to them
    everyone: list[Callback] = [*callbacks, *([progress] if verbose else []), history]
    run = {"samples": len(target), "batch_size": batch_size, "shuffle": bool(shuffle)}
    for callback in everyone:
        callback.model = model
        callback.params = {"epochs": epochs, "steps": -(-len(target) // batch_size), "verbose": verbose}

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
                batches = _batches(model, inputs, target, weights, batch_size, augment, shuffle)
                logs = _train_epoch(model, batches, everyone, interrupts)
                if validation_data is not None:
                    values = model.evaluate(*held_out, sample_weight=held_out_weights)
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


def sample_weights(
    target: Array | Parts, sample_weight: Any = None, class_weight: Mapping[int, float] | None = None
) -> Array | None:
    """Factor of every sample's loss, float64 of shape (N,), or None where all count the same.

    Raises
    ------
    ValueError
        If a weight is negative or not finite, there is not one a sample, or targets are not one class a sample.
    """
    if sample_weight is None and class_weight is None:
        return None
    weights = np.ones(len(target)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    if weights.shape != (len(target),):
        raise ValueError(f"sample_weight must have shape {(len(target),)}, got {weights.shape}")
    if class_weight is not None:
        if isinstance(target, Parts):
            raise ValueError("class_weight is for nets with one output; weigh the samples by sample_weight")
        if target.dtype.kind == "f" and target.ndim == 2 and target.shape[1] > 1:
            classes = target.argmax(axis=1)
        elif target.size == len(target):
            classes = target.reshape(-1)
        else:
            raise ValueError(
                f"class_weight needs one class a sample, got targets of shape {target.shape}; "
                f"nn.CrossEntropy(weight=...) weighs positions"
            )
        factors = {int(label): float(class_weight.get(int(label), 1.0)) for label in np.unique(classes)}
        weights = weights * np.array([factors[int(label)] for label in classes])
    if not (np.isfinite(weights) & (weights >= 0)).all():
        raise ValueError("weights of samples and classes must be finite and >= 0")
    return weights


def _batches(
    model: Model,
    inputs: dict[str, Array],
    target: Array,
    weights: Array | None,
    batch_size: int,
    augment: Callable[..., Array] | None,
    shuffle: bool,
) -> Iterator[Batch]:
    """The batches of the model's next epoch."""
    epoch = model._epochs_done  # over all calls of fit, so that a second call does not repeat the first
    order = np.arange(len(target))
    if shuffle:
        order = _random.permutation(derive_seed(model.seed, "shuffle", epoch), len(target))
    for start in range(0, len(target), batch_size):
        indices = order[start : start + batch_size]
        batch = model._take(inputs, indices)
        if augment is not None:
            ((name, images),) = batch.items()
            changed = augment(images, seed=model.seed, epoch=epoch, indices=indices)
            batch = model._take(model._as_inputs({name: changed}), slice(None))
        yield batch, target[indices], None if weights is None else weights[indices]


def _train_epoch(
    model: Model, batches: Iterator[Batch], callbacks: Sequence[Callback], interrupts: Interrupts
) -> Logs:
    """One pass over the samples; the means of loss and metrics over it."""
    tally = Tally(model.metrics)
    logs: Logs = {}
    for number, (batch, labels, weights) in enumerate(batches):
        for callback in callbacks:
            callback.on_train_batch_begin(number)
        try:
            with interrupts.held():
                loss, output = model._train_step(batch, labels, weights)
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
