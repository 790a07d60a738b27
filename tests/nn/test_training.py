import doctest
import importlib
import sys

import numpy as np
import pytest

import fastconv
from fastconv import nn
from fastconv.nn.callbacks import Callback, EarlyStopping


def stripes(n=96, seed=0):
    """Images with a horizontal, a vertical or a diagonal stripe: separable, but not by single pixels."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    x = 0.1 * rng.standard_normal((n, 1, 8, 8)).astype(np.float32)
    for image, kind, at in zip(x[:, 0], y, rng.integers(1, 7, n), strict=True):
        if kind == 0:
            image[at] += 1
        elif kind == 1:
            image[:, at] += 1
        else:
            image[np.arange(8), (np.arange(8) + at) % 8] += 1
    return x, y


def net(seed=0, **conv):
    layers = [
        nn.Conv2d(8, 3, padding=1, **conv),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.1),
        nn.Flatten(),
        nn.Linear(3),
    ]
    return nn.Sequential(layers, input_shape=(1, 8, 8), seed=seed)


@pytest.mark.parametrize("optimizer", [nn.SGD(0.1, momentum=0.9, nesterov=True), nn.Adam(0.01)])
def test_training_learns_a_separable_set(optimizer):
    x, y = stripes()
    model = net()
    model.compile(optimizer, "cross_entropy", ["accuracy"])
    history = model.fit(x, y, 16, 20, validation_data=stripes(30, seed=1), verbose=0)
    assert model.evaluate(x, y)["accuracy"] == 1.0
    assert history.history["val_accuracy"][-1] > 0.9
    assert set(history.history) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert history.epoch == list(range(20))
    assert history.history["loss"][-1] < history.history["loss"][0] / 4


def trained(seed=0, **options):
    x, y = stripes()
    model = net(seed)
    model.compile(nn.Adam(0.01))
    model.fit(x, y, 10, 2, verbose=0, **options)
    return model.params


def test_same_seed_trains_to_the_same_bits():
    augment = nn.augment.Compose([nn.augment.Shift(1), nn.augment.Affine(), nn.augment.Noise()])
    first, again = trained(3, augment=augment), trained(3, augment=augment)
    other, plain = trained(4, augment=augment), trained(3)
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
        assert not np.array_equal(first[name], other[name])
        assert not np.array_equal(first[name], plain[name])


def test_threads_do_not_change_a_bit():
    x = np.random.default_rng(0).random(
        (96, 3, 24, 24), np.float32
    )  # every layer is large enough to be split
    trained_with = []
    former = fastconv.get_num_threads()
    try:
        for threads in (1, 2, 3):
            fastconv.set_num_threads(threads)
            layers = [
                nn.Conv2d(16, 3, padding=1),
                nn.BatchNorm2d(),
                nn.ReLU(),
                nn.MaxPool2d(2),
                nn.Dropout(0.2),
                nn.Conv2d(24, 3),
                nn.AvgPool2d(2),
                nn.Flatten(),
                nn.Linear(5),
            ]
            model = nn.Sequential(layers, input_shape=(3, 24, 24))
            model.compile(nn.Adam(0.01))
            model.fit(x, np.arange(96) % 5, 48, 2, verbose=0)
            trained_with.append(model.params)
    finally:
        fastconv.set_num_threads(former)
    for name, one in trained_with[0].items():
        for other in trained_with[1:]:
            np.testing.assert_array_equal(one, other[name])


def test_two_calls_of_fit_are_not_one_call_repeated():
    class Order(Callback):
        def __init__(self):
            self.losses = []

        def on_train_batch_end(self, batch, logs):
            self.losses.append(logs["loss"])

    x, y = stripes()
    model = net()
    model.compile(nn.SGD(1e-9))  # the weights stay, so losses differ by order and dropout only
    first, second = Order(), Order()
    model.fit(x, y, 10, verbose=0, callbacks=[first])
    model.fit(x, y, 10, verbose=0, callbacks=[second])
    assert first.losses[0] != second.losses[0]


def test_unshuffled_training_sees_the_samples_in_order():
    seen = []

    def look(images, *, seed, epoch, indices):
        seen.append((epoch, list(indices)))
        return images

    x, y = stripes(12)
    model = net()
    model.compile()
    model.fit(x, y, 5, 2, shuffle=False, augment=look, verbose=0)
    parts = [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11]]
    assert seen == [(epoch, part) for epoch in range(2) for part in parts]


def test_data_are_not_modified():
    x, y = stripes()
    x.flags.writeable = y.flags.writeable = False
    model = net()
    model.compile()
    model.fit(x, y, 32, 1, verbose=0)


def test_layer_and_model_regularizers_add_up():
    x, y = stripes(12)
    plain = net()
    plain.compile()
    value, grads = plain.loss_and_gradients(x, y)
    model = net(weight_regularizer=nn.L1(0.5))
    model.compile(regularizer=nn.L2(0.25))
    penalised, penalised_grads = model.loss_and_gradients(x, y)
    conv, linear = model.params["conv2d_1.weight"], model.params["linear_1.weight"]
    assert penalised == pytest.approx(value + 0.5 * abs(conv).sum() + 0.25 * (linear**2).sum(), rel=1e-5)
    assert model.evaluate(x, y)["loss"] == pytest.approx(penalised, rel=1e-5)
    assert model.loss(x, y) == pytest.approx(value, rel=1e-5)
    expected = {
        "conv2d_1.weight": 0.5 * np.sign(conv),  # its own penalty, not the model's
        "linear_1.weight": 0.5 * linear,
        "conv2d_1.bias": 0,
        "linear_1.bias": 0,
    }
    for name, extra in expected.items():
        np.testing.assert_allclose(penalised_grads[name] - grads[name], extra, atol=1e-6)


def test_l1_l2_factors():
    w = np.array([-2.0, 0.0, 3.0])
    assert nn.L1L2(0.1, 0.01).penalty(w) == pytest.approx(0.5 + 0.13)
    with pytest.raises(ValueError, match=">= 0"):
        nn.L2(-1)
    with pytest.raises(TypeError, match="regularizer must be"):
        nn.Conv2d(4, 3, weight_regularizer=0.1)


def test_frozen_layers_stay():
    x, y = stripes()
    model = net(trainable=False)
    model.compile(nn.Adam(0.01))
    before = model.get_weights()
    model.fit(x, y, 16, 1, verbose=0)
    np.testing.assert_array_equal(model.params["conv2d_1.weight"], before["conv2d_1.weight"])
    assert not np.array_equal(model.params["linear_1.weight"], before["linear_1.weight"])


def test_running_statistics_follow_the_batches():
    model = nn.Sequential([nn.BatchNorm2d(momentum=0.5)], input_shape=(2, 3, 3), dtype="float64")
    model.compile(loss="mse")
    x = 3 + 2 * np.random.default_rng(0).standard_normal((8, 2, 3, 3))
    model.loss_and_gradients(x, x, training=True)
    mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), ddof=1)
    np.testing.assert_allclose(model.params["batch_norm_1.running_mean"], 0.5 * mean)
    np.testing.assert_allclose(model.params["batch_norm_1.running_var"], 0.5 + 0.5 * var)


def test_batch_norm_does_not_train_on_one_value():
    model = nn.Sequential([nn.BatchNorm2d()], input_shape=(2, 1, 1))
    model.compile(loss="mse")
    one = np.ones((1, 2, 1, 1))
    with pytest.raises(ValueError, match="more than one value per channel"):
        model.loss_and_gradients(one, one, training=True)


def test_non_finite_loss_names_the_first_layer():
    x, y = stripes()
    model = net()
    model.compile()
    model.params["conv2d_1.weight"][...] = 3e38  # finite itself, but not what it computes
    with (
        np.errstate(all="ignore"),
        pytest.raises(FloatingPointError, match="first layer with non-finite output is 'conv2d_1'"),
    ):
        model.fit(x, y, 16, 3, verbose=0)


def test_non_finite_data_are_named():
    x, y = stripes()
    x[5, 0, 0, 0] = np.nan
    model = net()
    model.compile()
    with pytest.raises(FloatingPointError, match="'input' already holds non-finite values"):
        model.fit(x, y, 96, 1, verbose=0)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"epochs": -1}, ValueError, "epochs must be >= 0"),
        ({"batch_size": 0}, ValueError, "batch_size >= 1"),
        ({"epochs": 1.5}, TypeError, "epochs must be an integer"),
        ({"verbose": 3}, ValueError, "verbose must be"),
        ({"validation_data": (np.zeros((2, 8, 8)), [0, 1])}, ValueError, "channel axis"),
    ],
)
def test_fit_refuses_bad_arguments(options, error, message):
    x, y = stripes(6)
    model = net()
    model.compile()
    with pytest.raises(error, match=message):
        model.fit(x, y, **{"verbose": 0} | options)


def test_fit_and_evaluate_need_compile_and_samples():
    x, y = stripes(6)
    model = net()
    with pytest.raises(ValueError, match="compile"):
        model.fit(x, y)
    with pytest.raises(ValueError, match="compile"):
        model.evaluate(x, y)
    model.compile()
    with pytest.raises(ValueError, match="no samples"):
        model.fit(x[:0], y[:0])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"optimizer": "lion"}, ValueError, "optimizer must be an Optimizer or one of"),
        ({"loss": "dice"}, ValueError, "loss must be a Loss or one of"),
        ({"metrics": ["kappa"]}, ValueError, "metrics must be"),
        ({"metrics": "accuracy"}, TypeError, r"write \['accuracy'\]"),
        ({"regularizer": 0.1}, TypeError, "regularizer must be"),
    ],
)
def test_compile_refuses_unknown_names(arguments, error, message):
    with pytest.raises(error, match=message):
        net().compile(**arguments)


def test_hooks_are_called_in_order():
    calls = []

    class Log(Callback):
        def on_train_begin(self):
            calls.append(f"begin {self.params['epochs']}x{self.params['steps']}")

        def on_train_end(self):
            calls.append("end")

        def on_epoch_begin(self, epoch):
            calls.append(f"epoch {epoch}")

        def on_epoch_end(self, epoch, logs):
            calls.append(f"/epoch {epoch} {sorted(logs)}")

        def on_train_batch_begin(self, batch):
            calls.append(f"batch {batch}")

        def on_train_batch_end(self, batch, logs):
            calls.append(f"/batch {batch} {sorted(logs)}")
            if batch == 1:
                self.model.stop_training = True

    x, y = stripes(9)
    model = net()
    model.compile()
    model.fit(x, y, 4, 2, callbacks=[Log()], verbose=0)
    assert calls == [
        "begin 2x3",
        "epoch 0",
        "batch 0",
        "/batch 0 ['loss']",
        "batch 1",
        "/batch 1 ['loss']",
        "/epoch 0 ['loss']",
        "end",
    ]


def test_progress_bar_and_lines(capsys, monkeypatch):
    x, y = stripes(9)
    model = net()
    model.compile(metrics=["accuracy"])
    model.fit(x, y, 4, 2, verbose=2)
    assert capsys.readouterr().out.startswith("Epoch 1/2: loss ")
    pytest.importorskip("tqdm")
    model.fit(x, y, 4, 2, verbose=1)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Epoch 2/2: 100%" in captured.err
    assert "accuracy" in captured.err
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)  # as if not installed
    model.fit(x, y, 4, 1, verbose=1)
    assert capsys.readouterr().out.startswith("Epoch 1/1: loss ")


class Scripted(Callback):
    """Stands in for training: feeds logged values to a callback and marks the weights with the epoch."""

    def __init__(self, stopper, values, name="val_loss"):
        self.model = nn.Sequential([nn.Linear(1)], input_shape=(1,))
        self.model.compile(metrics=["accuracy"])
        stopper.model = self.model
        self.epochs = 0
        stopper.on_train_begin()
        for epoch, value in enumerate(values):
            self.model.params["linear_1.bias"][...] = epoch
            self.epochs += 1
            stopper.on_epoch_end(epoch, {name: value})
            if self.model.stop_training:
                break
        stopper.on_train_end()
        self.weights_of = int(self.model.params["linear_1.bias"][0])


# expected results worked out from Keras 3's EarlyStopping
@pytest.mark.parametrize(
    ("options", "values", "epochs", "stopped", "best_epoch"),
    [
        ({"patience": 0}, [3, 2, 2.5, 1], 3, 2, 1),
        ({"patience": 2}, [3, 2, 2.5, 1, 2, 2, 2, 2], 6, 5, 3),
        ({"patience": 2}, [3, 2, 1, 0], 4, 0, 3),
        ({"patience": 1, "min_delta": 0.5}, [3, 2.6, 2.2, 2], 2, 1, 0),
        ({"patience": 1, "min_delta": -0.5}, [3, 2.4, 2.2, 2.0], 3, 2, 1),
        ({"patience": 1, "mode": "max"}, [1, 2, 3, 1, 5], 4, 3, 2),
        ({"patience": 2, "baseline": 0.5}, [3, 2, 1.9, 1.95, 1], 4, 3, 2),
        ({"patience": 2, "baseline": 2.5}, [3, 2, 2.1, 2.2, 1], 4, 3, 1),
        ({"patience": 1, "start_from_epoch": 2}, [0, 0, 3, 2, 2, 1], 5, 4, 3),
        ({"patience": 0}, [3], 1, 0, 0),
        ({"patience": 1}, [float("nan")] * 4, 2, 1, 0),
    ],
)
def test_early_stopping_does_as_keras(options, values, epochs, stopped, best_epoch):
    for restore in (False, True):
        stopper = EarlyStopping(restore_best_weights=restore, **options)
        run = Scripted(stopper, values)
        assert run.epochs == epochs
        assert stopper.stopped_epoch == stopped
        assert stopper.best_epoch == best_epoch
        assert run.weights_of == (best_epoch if restore else epochs - 1)


def test_early_stopping_asks_the_metric_which_way_is_better():
    stopper = EarlyStopping(monitor="val_accuracy", patience=0)
    assert Scripted(stopper, [0.5, 0.6, 0.4], name="val_accuracy").epochs == 3
    with pytest.raises(ValueError, match="cannot tell which way 'val_f1'"):
        Scripted(EarlyStopping(monitor="val_f1"), [1.0], name="val_f1")
    with pytest.raises(ValueError, match="mode must be"):
        EarlyStopping(mode="best")


def test_early_stopping_warns_of_a_missing_value():
    with pytest.warns(UserWarning, match="monitors 'val_loss', but the logs only have loss"):
        Scripted(EarlyStopping(), [1.0], name="loss")


def test_best_weights_come_back_when_training_ends_by_itself():
    x, y = stripes()
    model = net()
    model.compile(nn.SGD(0.1))
    seen = []

    class Spoil(Callback):
        def on_epoch_end(self, epoch, logs):
            seen.append({name: p.copy() for name, p in self.model.params.items()})
            logs["val_loss"] = [1.0, 0.5, 0.8][epoch]

    stopper = EarlyStopping(patience=5, restore_best_weights=True)
    history = model.fit(x, y, 32, 3, verbose=0, callbacks=[Spoil(), stopper])
    assert history.history["val_loss"] == [1.0, 0.5, 0.8]
    for name, value in model.params.items():
        np.testing.assert_array_equal(value, seen[1][name])


@pytest.mark.parametrize("name", ["model", "optimizers", "schedules"])
def test_documented_examples(name):
    tried = doctest.testmod(importlib.import_module(f"fastconv.nn.{name}"))
    assert tried.failed == 0
    assert tried.attempted > 0
