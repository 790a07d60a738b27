"""Nets with a fault each, which must be found for every seed, and nets without, about which nothing may be said."""

from __future__ import annotations

import contextlib
import math

import numpy as np
import pytest

from fastconv import explain, nn
from fastconv.nn.callbacks import Callback, Diagnose
from fastconv.nn.diagnosis import Finding, find_faults
from fastconv.nn.watch import Watcher
from fastconv.statistics import describe
from kit import Array

SEEDS = [0, 1, 2]


def bars(n: int, seed: int, noise: float = 0.1) -> tuple[Array, Array]:
    """Images of a horizontal or a vertical bar."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    x = noise * rng.standard_normal((n, 1, 8, 8)).astype("float32")
    for image, kind, at in zip(x[:, 0], y, rng.integers(0, 8, n), strict=True):
        (image if kind else image.T)[at] += 1
    return x, y


def conv_net(seed: int, activation: type[nn.Layer] = nn.ReLU) -> nn.Sequential:
    layers = [
        nn.Conv2d(8, 3, padding=1),
        activation(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 3, padding=1),
        activation(),
        nn.Dropout(0.2),
        nn.Flatten(),
        nn.Linear(16),
        activation(),
        nn.Linear(2),
    ]
    return nn.Sequential(layers, input_shape=(1, 8, 8), seed=seed)


def train(
    model: nn.Model, optimizer: nn.optimizers.Optimizer, epochs: int = 3, every: int = 2
) -> tuple[Diagnose, set[str]]:
    """The callback after training, and the names of the faults."""
    diagnose = Diagnose(every=every)
    model.compile(optimizer, "cross_entropy")
    data, validation = bars(256, model.seed), bars(64, 99)
    with contextlib.suppress(FloatingPointError):  # findings are there nevertheless
        model.fit(*data, 16, epochs, validation_data=validation, callbacks=[diagnose], verbose=0)
    return diagnose, {finding.fault for finding in diagnose.findings()}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("activation", "optimizer"),
    [
        (nn.ReLU, nn.Adam(3e-3)),
        (nn.ReLU, nn.SGD(0.05, momentum=0.9)),
        (nn.Tanh, nn.SGD(0.05, momentum=0.9)),
    ],
    ids=["relu-adam", "relu-sgd", "tanh-sgd"],
)
def test_nothing_is_found_in_a_healthy_net(
    activation: type[nn.Layer], optimizer: nn.optimizers.Optimizer, seed: int
) -> None:
    model = conv_net(seed, activation)
    diagnose, _ = train(model, optimizer)
    assert [str(finding) for finding in diagnose.findings()] == []
    assert diagnose.losses[-1] < 0.3 * diagnose.losses[0], "it should have learned something"
    assert explain.diagnose(model, *bars(320, seed)) == []


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("rate", [10.0, 1e6])
def test_a_learning_rate_too_high_explodes(rate: float, seed: int) -> None:
    diagnose, faults = train(conv_net(seed), nn.SGD(rate), epochs=2)
    assert "exploding gradients" in faults
    assert "overfitting" not in faults
    found = next(each for each in diagnose.findings() if each.fault == "exploding gradients")
    assert found.layer in {node.name for node in diagnose.model.graph.nodes}
    assert "learning rate" in found.advice


@pytest.mark.parametrize("seed", SEEDS)
def test_divergence_shows_in_the_loss(seed: int) -> None:
    """Linear, so that steps too long do not end in dead units but go on growing."""
    model = nn.Sequential([nn.Flatten(), nn.Linear(8), nn.Linear(2)], input_shape=(1, 8, 8), seed=seed)
    diagnose, faults = train(model, nn.SGD(30.0, momentum=0.9), epochs=1)
    assert "loss divergence" in faults
    (found,) = (each for each in diagnose.findings() if each.fault == "loss divergence")
    assert found.value >= found.threshold or not math.isfinite(found.value)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_deep_stack_of_sigmoids_vanishes(seed: int) -> None:
    layers = [each for _ in range(8) for each in (nn.Linear(16), nn.Sigmoid())]
    model = nn.Sequential([nn.Flatten(), *layers, nn.Linear(2)], input_shape=(1, 8, 8), seed=seed)
    diagnose, faults = train(model, nn.SGD(0.05, momentum=0.9), epochs=2)
    assert faults == {"vanishing gradients"}
    (found,) = diagnose.findings()
    assert found.layer == "linear_1"
    assert found.value < found.threshold
    assert f"{found.value:.2g}" in found.evidence
    assert [each.fault for each in explain.diagnose(model, *bars(64, seed))] == ["vanishing gradients"]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_large_negative_bias_kills_a_layer(seed: int) -> None:
    model = conv_net(seed)
    model.params["conv2d_2.bias"][:] = -20
    diagnose, faults = train(model, nn.SGD(0.05))
    assert faults == {"sparse activations", "dead filters"}
    assert ("dead filters", "relu_2") in {(each.fault, each.layer) for each in diagnose.findings()}
    assert {each.fault for each in explain.diagnose(model, *bars(320, 7))} == faults


@pytest.mark.parametrize("seed", SEEDS)
def test_some_dead_filters_are_named(seed: int) -> None:
    model = conv_net(seed)
    dead = [1, 4, 6]
    model.params["conv2d_2.bias"][dead] = -20
    diagnose, faults = train(model, nn.SGD(0.05))
    assert faults == {"dead filters"}
    (found,) = diagnose.findings()
    assert (found.layer, found.value) == ("relu_2", 3 / 8)
    assert "3 of 8 channels (1, 4, 6)" in found.evidence
    assert explain.diagnose(model, *bars(64, 7)) == [], "too few samples to tell dead from rare"


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("activation", "kind"), [(nn.Tanh, "tanh"), (nn.Sigmoid, "sigmoid")])
def test_large_weights_saturate(activation: type[nn.Layer], kind: str, seed: int) -> None:
    model = conv_net(seed, activation)
    model.params["conv2d_1.weight"] *= 100
    model.compile()
    found = [each for each in explain.diagnose(model, *bars(64, seed)) if each.fault == "saturation"]
    assert [each.layer for each in found] == [f"{kind}_1"]
    z = model.activations(bars(64, seed)[0], ["conv2d_1"])["conv2d_1"]
    assert found[0].value == pytest.approx((np.abs(z) >= (2 if kind == "tanh" else 4)).mean(), abs=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_few_noisy_data_are_overfitted(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((80, 1, 8, 8)), rng.integers(0, 2, 80)
    model = nn.Sequential(
        [nn.Flatten(), nn.Linear(64), nn.ReLU(), nn.Linear(2)], input_shape=(1, 8, 8), seed=seed
    )
    model.compile(nn.Adam(3e-3))
    diagnose = Diagnose()
    model.fit(x[:40], y[:40], 20, 25, validation_data=(x[40:], y[40:]), callbacks=[diagnose], verbose=0)
    (found,) = diagnose.findings()
    assert (found.fault, found.layer) == ("overfitting", None)
    losses = diagnose.history["val_loss"]
    assert found.value == pytest.approx(losses[-1] / min(losses) - 1)


def test_non_finite_values_name_the_first_layer_that_has_them() -> None:
    model = conv_net(0)
    model.params["conv2d_2.weight"][0, 0, 0, 0] = np.nan
    diagnose, _ = train(model, nn.SGD(0.1), epochs=1)
    loss, finding = diagnose.findings()[:2]
    assert (loss.fault, loss.evidence) == ("loss divergence", "the training loss is nan")
    assert (finding.fault, finding.layer) == ("exploding gradients", "conv2d_2")
    assert "not finite in batch 0" in finding.evidence


def test_snapshots_hold_what_numpy_says() -> None:
    """Of the second batch, recomputed with the model's own public functions."""
    x, y = bars(32, 0)
    model, twin = conv_net(3), conv_net(3)
    for each in (model, twin):
        each.compile(nn.SGD(0.1))
    diagnose = Diagnose(every=1)
    model.fit(x, y, 16, 1, shuffle=False, callbacks=[diagnose], verbose=0)
    twin.fit(x[:16], y[:16], 16, 1, shuffle=False, verbose=0)
    before = twin.get_weights()
    _, gradients = twin.loss_and_gradients(x[16:], y[16:], training=True, step=1)
    snapshot = diagnose.snapshots[1]
    assert (snapshot.step, snapshot.samples) == (1, 16)
    assert list(snapshot.activations) == [node.name for node in model.graph.nodes]
    assert list(snapshot.output_gradients) == [node.name for node in reversed(model.graph.nodes)]
    for name, gradient in gradients.items():
        assert snapshot.gradients[name].norm == pytest.approx(np.linalg.norm(gradient), rel=1e-6)
        assert snapshot.parameters[name].norm == pytest.approx(np.linalg.norm(before[name]), rel=1e-6)
        change = model.params[name] - before[name]
        assert snapshot.updates[name].norm == pytest.approx(np.linalg.norm(change), rel=1e-6)
    ratio = np.linalg.norm(0.1 * gradients["linear_1.weight"]) / np.linalg.norm(before["linear_1.weight"])
    assert snapshot.update_ratio("linear_1.weight") == pytest.approx(ratio, rel=1e-4)
    shown = twin.activations(x[16:], ["relu_1"])["relu_1"]
    assert snapshot.activations["relu_1"].zeros == (shown == 0).sum()
    np.testing.assert_array_equal(snapshot.active["relu_1"], shown.any(axis=(0, 2, 3)))


def test_watching_does_not_change_training() -> None:
    x, y = bars(64, 0)
    plain, watched = conv_net(1), conv_net(1)
    for model, callbacks in ((plain, []), (watched, [Diagnose(every=1)])):
        model.compile(nn.Adam(0.01))
        model.fit(x, y, 16, 2, callbacks=callbacks, verbose=0)
    for name in plain.params:
        np.testing.assert_array_equal(plain.params[name], watched.params[name])


def test_explaining_changes_nothing() -> None:
    model = nn.Sequential(
        [nn.Conv2d(4, 3), nn.BatchNorm2d(), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(2)],
        input_shape=(1, 8, 8),
    )
    with pytest.raises(ValueError, match="no loss yet"):
        explain.diagnose(model, *bars(8, 0))
    model.compile()
    before = model.get_weights()
    explain.diagnose(model, *bars(64, 0))
    for name, value in before.items():
        np.testing.assert_array_equal(value, model.params[name])
    with pytest.raises(ValueError, match="batch_size must be >= 1, got 0"):
        explain.diagnose(model, *bars(8, 0), batch_size=0)
    with pytest.raises(TypeError, match=r"needs a fastconv\.nn\.Model"):
        explain.diagnose(abs, *bars(8, 0))


def test_a_long_training_keeps_evenly_spaced_snapshots() -> None:
    model = nn.Sequential([nn.Flatten(), nn.Linear(2)], input_shape=(1, 8, 8))
    model.compile()
    diagnose = Diagnose(every=1, max_snapshots=4)
    model.fit(*bars(32, 0), 1, 1, callbacks=[diagnose], verbose=0)
    assert [each.step for each in diagnose.snapshots] == [0, 8, 16, 24]
    with pytest.raises(ValueError, match="every must be >= 1 and max_snapshots >= 2, got 0 and 200"):
        Diagnose(every=0)


def test_findings_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    model = conv_net(0)
    model.params["conv2d_2.bias"][:] = -20
    model.compile()
    model.fit(*bars(320, 0), 32, 1, callbacks=[Diagnose(every=1, verbose=1)], verbose=0)
    shown = capsys.readouterr().out
    assert "dead filters in relu_2: 8 of 8 channels (0, 1, 2, 3, 4, 5, 6, 7) are zero" in shown
    model = conv_net(0)
    model.compile()
    model.fit(*bars(32, 0), 32, 1, callbacks=[Diagnose(verbose=1)], verbose=0)
    assert capsys.readouterr().out == "no fault found\n"


def test_watchers_see_every_tensor_of_the_batches_they_chose() -> None:
    seen: list[str] = []

    class Watch(Callback, Watcher):
        def watcher(self, batch: int) -> Watcher | None:
            return self if batch == 1 else None

        def on_activation(self, node: str, values: Array) -> None:
            seen.append(f"forward {node} {values.shape}")

        def on_output_gradient(self, node: str, gradient: Array) -> None:
            seen.append(f"backward {node} {gradient.shape}")

        def on_gradients(self, gradients: object) -> None:
            seen.append("gradients")

        def on_update(self, changes: object) -> None:
            seen.append("update")

    model = nn.Sequential([nn.Flatten(), nn.Linear(2)], input_shape=(1, 8, 8))
    model.compile()
    model.fit(*bars(9, 0), 3, 1, callbacks=[Watch()], verbose=0)
    assert seen == [
        "forward flatten_1 (3, 64)",
        "forward linear_1 (3, 2)",
        "backward linear_1 (3, 2)",
        "gradients",
        "update",
    ]


def test_a_gradient_with_several_uses_is_shown_complete() -> None:
    """The output of a node that two others use: its gradient is the sum, shown once."""
    shown: dict[str, list[Array]] = {}

    class Keep(Watcher):
        def on_output_gradient(self, node: str, gradient: Array) -> None:
            shown.setdefault(node, []).append(gradient.copy())

    x = nn.Input((4,))
    h = nn.Linear(4, name="first")(x)
    model = nn.Model(x, nn.Linear(2, name="last")(h + nn.ReLU(name="relu")(h) + h), dtype="float64")
    model.compile(loss="mse")
    rng = np.random.default_rng(0)
    data, target = rng.standard_normal((5, 4)), rng.standard_normal((5, 2))
    inputs, goal = model._as_data(data, target)
    _, gradients, _ = model._loss_and_gradients(inputs, goal, True, 0, watchers=[Keep()])
    (gradient,) = shown["first"]
    np.testing.assert_allclose(gradient.sum(axis=0), gradients["first.bias"], rtol=1e-12)
    (relu,) = shown["relu"]
    slope = model.activations(data, ["first"])["first"] > 0
    np.testing.assert_allclose(gradient, relu * slope + 2 * relu, rtol=1e-12)


def test_rules_take_what_is_missing() -> None:
    graph = conv_net(0).graph
    assert find_faults(graph, []) == []
    assert find_faults(graph, [], [1.0, math.nan])[0].fault == "loss divergence"
    assert find_faults(graph, [], [1.0, 2.9]) == []
    assert find_faults(graph, [], [], {"val_loss": [1.0]}) == []
    assert str(Finding("overfitting", None, "numbers", "Stop", 1.0, 0.1)) == "overfitting: numbers. Stop."
    assert str(Finding("saturation", "tanh_1", "x", "y", 1.0, 0.1)) == "saturation in tanh_1: x. y."
    assert describe(np.zeros(3)).norm == 0
