"""A training run that ends with SIGKILL where it is told to; started by test_resume.

Arguments: folder, and where to end: ``batch:N`` (in the N-th batch of this process), ``write:N`` (half-way through the
N-th checkpoint's bytes), ``move:N`` (before the N-th is moved to its place), ``moved:N`` (right after), or ``never``.
"""

import os
import signal
import sys
from pathlib import Path

import numpy as np

from fastconv import nn


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def patch(owner, name, call, number):
    """Replace a function so that its ``number``-th call goes to ``call`` (which gets the original first)."""
    original, calls = getattr(owner, name), []

    def counted(*arguments, **options):
        calls.append(1)
        if len(calls) == number:
            return call(original, *arguments, **options)
        return original(*arguments, **options)

    setattr(owner, name, counted)


def half(fsync, file):
    os.ftruncate(file, os.fstat(file).st_size // 2)
    die()


def before(replace, *paths):
    die()


def after(replace, *paths):
    replace(*paths)
    die()


class DieInBatch(nn.callbacks.Callback):
    def __init__(self, number):
        self.left = number

    def on_train_batch_begin(self, batch):
        self.left -= 1
        if self.left == 0:
            die()


def data(n, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 1, 6, 6)).astype("float32")
    return x, (x.mean(axis=(1, 2, 3)) > 0).astype(int)


def main(folder, where):
    point, _, number = where.partition(":")
    callbacks = []
    if point == "batch":
        callbacks.append(DieInBatch(int(number)))
    elif point == "write":
        patch(os, "fsync", half, 2 * int(number) - 1)  # between two files their folder is synchronised
    elif point != "never":
        patch(os, "replace", before if point == "move" else after, int(number))

    layers = [
        nn.Conv2d(4, 3),
        nn.BatchNorm2d(),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Flatten(),
        nn.Linear(2, weight_regularizer=nn.L2(1e-3)),
    ]
    model = nn.Sequential(layers, input_shape=(1, 6, 6), seed=5)
    schedule = nn.schedules.Warmup(nn.schedules.Cosine(0.02, 30), 4)
    model.compile(nn.AdamW(schedule, global_clipnorm=1.0), metrics=["accuracy"])
    stop = nn.callbacks.EarlyStopping(min_delta=0.01, patience=3, restore_best_weights=True)
    print("ready", flush=True)
    history = model.fit(
        *data(40, 0),
        batch_size=8,
        epochs=12,
        validation_data=data(20, 1),
        augment=nn.augment.Compose([nn.augment.Shift(1), nn.augment.Noise()]),
        callbacks=[*callbacks, stop, nn.callbacks.CSVLogger(folder / "log.csv")],
        verbose=0,
        checkpoint=folder / "run",
        resume=True,
    )
    model.save_weights(folder / "weights")
    assert 0 < stop.stopped_epoch < 11
    print(history.epoch, stop.stopped_epoch, stop.best_epoch, history.history, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
