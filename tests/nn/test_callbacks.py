"""Callbacks against Keras' documented behaviour; EarlyStopping is in test_training."""

import csv

import numpy as np
import pytest

from fastconv import nn
from fastconv.nn.callbacks import (
    Callback,
    CSVLogger,
    LambdaCallback,
    LearningRateScheduler,
    ModelCheckpoint,
    ReduceLROnPlateau,
    TerminateOnNaN,
)

X = np.random.default_rng(0).standard_normal((12, 4)).astype("float32")
Y = np.arange(12) % 3


def net(rate=0.1, metrics=()):
    model = nn.Sequential([nn.Linear(3)], input_shape=(4,))
    model.compile(nn.SGD(rate), metrics=metrics)
    return model


class Script(Callback):
    """Puts values into the logs, one an epoch, and marks the weights with the epoch."""

    def __init__(self, name, values):
        self.name, self.values = name, values

    def on_epoch_end(self, epoch, logs):
        logs[self.name] = self.values[epoch]
        self.model.params["linear_1.bias"][...] = epoch


def scripted(values, *callbacks, name="val_loss", **options):
    model = net(**options)
    history = model.fit(
        X, Y, 6, len(values), callbacks=[Script(name, values), *callbacks], shuffle=False, verbose=0
    )
    return model, history.history


# ------------------------------------------------------------------------------------------------ ModelCheckpoint


def marks(folder):
    """The epoch that each file holds, by name."""
    return {p.name: int(nn.load(p).params["linear_1.bias"][0]) for p in sorted(folder.iterdir())}


def test_checkpoint_names_have_epoch_and_logs(tmp_path):
    scripted(
        [0.5, 0.25, 0.75], ModelCheckpoint(tmp_path / "new" / "net-{epoch:02d}-{val_loss:.2f}.safetensors")
    )
    assert marks(tmp_path / "new") == {
        "net-01-0.50.safetensors": 0,
        "net-02-0.25.safetensors": 1,
        "net-03-0.75.safetensors": 2,
    }


@pytest.mark.parametrize(
    ("options", "values", "kept"),
    [
        ({}, [3, 2, 2.5, 1, 1], 3),
        ({"mode": "max"}, [3, 2, 2.5, 4, 1], 3),
        ({"initial_value_threshold": 2.2}, [3, 2.1, 2.5], 1),
        ({"save_best_only": False}, [1, 2, 3], 2),
        ({"monitor": "accuracy"}, [0.5, 0.9, 0.7], 1),
    ],
)
def test_checkpoint_of_the_best(tmp_path, options, values, kept):
    options = {"save_best_only": True} | options
    name = options.get("monitor", "val_loss")
    scripted(values, ModelCheckpoint(tmp_path / "best", **options), name=name, metrics=["accuracy"])
    assert marks(tmp_path) == {"best": kept}


def test_checkpoint_of_nan_only_is_none(tmp_path):
    scripted([float("nan")] * 2, ModelCheckpoint(tmp_path / "best", save_best_only=True))
    assert list(tmp_path.iterdir()) == []


def test_checkpoint_by_batches(tmp_path):
    model = net()
    model.fit(X, Y, 4, 3, callbacks=[ModelCheckpoint(tmp_path / "{epoch}-{batch}", save_freq=2)], verbose=0)
    # three batches an epoch, counted on through the epochs
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["1-2", "2-1", "2-3", "3-2"]


def test_checkpoint_of_weights_only(tmp_path, capsys):
    path = tmp_path / "w"
    model, _ = scripted([1.0], ModelCheckpoint(path, save_weights_only=True, verbose=1))
    assert f"Epoch 1: saving to {path}" in capsys.readouterr().out
    with pytest.raises(ValueError, match="no net of fastconv"):
        nn.load(path)
    other = net()
    other.load_weights(path)
    np.testing.assert_array_equal(other.params["linear_1.weight"], model.params["linear_1.weight"])


def test_checkpoint_refuses_what_it_cannot_do(tmp_path):
    with pytest.raises(
        ValueError, match="save_freq must be 'epoch' or a number of batches >= 1, got 'batch'"
    ):
        ModelCheckpoint(tmp_path / "a", save_freq="batch")
    with pytest.raises(ValueError, match="asks for 'val_acc', but there is only loss, val_loss, epoch"):
        scripted([1.0], ModelCheckpoint(tmp_path / "{val_acc:.2f}"))
    with pytest.warns(UserWarning, match="ModelCheckpoint monitors 'val_accuracy', but the logs only have"):
        scripted([1.0], ModelCheckpoint(tmp_path / "a", monitor="val_accuracy", save_best_only=True))


# -------------------------------------------------------------------------------------------------- learning rate


@pytest.mark.parametrize(
    ("options", "values", "rates"),
    [
        ({"patience": 1}, [3, 2, 2, 2, 1], [1, 1, 1, 0.1, 0.01]),
        ({"patience": 2, "factor": 0.5}, [3, 3, 3, 3, 3, 3], [1, 1, 1, 0.5, 0.5, 0.25]),
        ({"patience": 1, "cooldown": 2}, [3, 3, 3, 3, 3, 3], [1, 1, 0.1, 0.1, 0.01, 0.01]),
        ({"patience": 1, "min_lr": 0.04}, [3, 3, 3, 3], [1, 1, 0.1, 0.04]),
        ({"patience": 1, "min_delta": 0.5}, [3, 2.6, 2.0, 1], [1, 1, 0.1, 0.1]),
        ({"patience": 1, "mode": "max"}, [1, 2, 2, 3], [1, 1, 1, 0.1]),
        ({"patience": 1}, [float("nan")] * 3, [1, 0.1, 0.01]),
    ],
)
def test_reduce_on_plateau(options, values, rates):
    _, history = scripted(values, ReduceLROnPlateau(**options), rate=1.0)
    np.testing.assert_allclose(history["learning_rate"], rates)


def test_reduce_on_plateau_speaks_and_refuses(capsys):
    scripted([1, 1], ReduceLROnPlateau(patience=1, verbose=1), rate=1.0)
    assert "Epoch 2: reducing the learning rate to 0.1" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"factor must be in \[0, 1\), got 1.5"):
        ReduceLROnPlateau(factor=1.5)


def test_learning_rate_scheduler(capsys):
    model, history = scripted(
        [0, 0, 0], LearningRateScheduler(lambda epoch, rate: rate / 2, verbose=1), rate=0.8
    )
    assert history["learning_rate"] == [0.4, 0.2, 0.1]
    assert model.optimizer.learning_rate == 0.1
    assert "Epoch 2: learning rate 0.2" in capsys.readouterr().out
    _, history = scripted([0, 0], LearningRateScheduler(lambda epoch: 0.1 / (1 + epoch)))
    assert history["learning_rate"] == [0.1, 0.05]
    with pytest.raises(TypeError, match="schedule must be a function"):
        LearningRateScheduler(0.1)


@pytest.mark.parametrize(
    "callback", [ReduceLROnPlateau(monitor="loss"), LearningRateScheduler(lambda epoch: 0.1)]
)
def test_a_schedule_is_not_overruled(callback):
    with pytest.raises(TypeError, match="so no callback can set it"):
        net(nn.schedules.Cosine(0.1, 9)).fit(X, Y, callbacks=[callback], verbose=0)


# ------------------------------------------------------------------------------------------------------ the others


def rows(path, separator=","):
    with open(path, newline="") as file:
        return list(csv.reader(file, delimiter=separator))


def test_csv_logger(tmp_path):
    path = tmp_path / "log.csv"
    model = net()
    first = model.fit(X, Y, 6, 2, callbacks=[CSVLogger(path)], verbose=0).history["loss"]
    assert rows(path) == [["epoch", "loss"], ["0", str(first[0])], ["1", str(first[1])]]
    again = model.fit(X, Y, 6, 1, callbacks=[CSVLogger(path, append=True)], verbose=0).history["loss"]
    assert rows(path)[3:] == [["0", str(again[0])]]
    last = model.fit(X, Y, 6, 1, callbacks=[CSVLogger(path, separator=";")], verbose=0).history["loss"]
    assert rows(path, ";") == [["epoch", "loss"], ["0", str(last[0])]]
    fresh = tmp_path / "fresh.csv"
    model.fit(X, Y, 6, 1, callbacks=[CSVLogger(fresh, append=True)], verbose=0)
    assert rows(fresh)[0] == ["epoch", "loss"]


def test_csv_logger_keeps_its_columns(tmp_path):
    class Late(Callback):
        def on_epoch_end(self, epoch, logs):
            logs.update({"late": 1.0} if epoch else {"early": 2.0})

    path = tmp_path / "log.csv"
    net().fit(X, Y, 6, 2, callbacks=[Late(), CSVLogger(path)], verbose=0)
    assert [row[1] for row in rows(path)] == ["early", "2.0", "NA"]


def test_lambda_callback_gets_keras_arguments():
    seen = []

    def note(*arguments):
        seen.append([a if isinstance(a, int) else sorted(a) for a in arguments])

    hooks = ["epoch_begin", "epoch_end", "train_begin", "train_end", "train_batch_begin", "train_batch_end"]
    net().fit(X, Y, 12, 1, callbacks=[LambdaCallback(**{f"on_{hook}": note for hook in hooks})], verbose=0)
    assert seen == [[[]], [0, []], [0, []], [0, ["loss"]], [0, ["loss"]], [[]]]
    net().fit(X, Y, 12, 1, callbacks=[LambdaCallback()], verbose=0)


def test_terminate_on_nan(capsys):
    layers = [nn.BatchNorm2d(), nn.Flatten(), nn.Linear(3)]
    model = nn.Sequential(layers, input_shape=(1, 2, 2))
    model.compile(nn.SGD(0.1))
    x = X.reshape(12, 1, 2, 2).copy()
    x[7] = np.nan
    ends = []
    watch = LambdaCallback(
        on_train_batch_end=lambda batch, logs: ends.append(model.get_weights()), on_train_end=ends.append
    )
    history = model.fit(x, Y, 4, 3, callbacks=[TerminateOnNaN(), watch], shuffle=False, verbose=0)
    assert np.isnan(history.history["loss"]).tolist() == [True]
    assert "Batch 1: terminating training, the loss is nan: 'input' already holds" in capsys.readouterr().out
    weights, end = ends
    assert end == {}
    for name, value in weights.items():  # the running statistics, too
        np.testing.assert_array_equal(model.params[name], value)
    with pytest.raises(FloatingPointError):
        model.fit(x, Y, 12, 1, verbose=0)
    for name, value in weights.items():
        np.testing.assert_array_equal(model.params[name], value)
