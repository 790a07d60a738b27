"""Nets with several outputs: their losses, gradients, metrics, training."""

import numpy as np
import pytest

from fastconv import nn
from kit import bits, ramp


def net(dtype="float64", **options):
    x = nn.Input((2, 6, 6))
    h = nn.Tanh(name="trunk")(nn.Conv2d(4, 3, padding=1)(x))
    label = nn.Linear(3, name="label")(nn.GlobalAvgPool2d()(h))
    mask = nn.Conv2d(1, 1, name="mask")(h)
    return nn.Model(x, [label, mask, h], seed=2, dtype=dtype, **options)


def data(count=10):
    x = ramp((count, 2, 6, 6))
    return x, np.arange(count) % 3, ramp((count, 1, 6, 6), seed=3)


LOSS = {"label": "cross_entropy", "mask": "mse"}


def test_the_loss_is_the_weighted_sum():
    x, label, mask = data()
    model = net()
    model.compile(loss=LOSS, loss_weights={"mask": 0.25})
    given = {"label": label, "mask": mask}
    outputs = model.predict(x)
    parts = (
        nn.CrossEntropy().per_sample(outputs[0], label).mean(),
        nn.MeanSquaredError().per_sample(outputs[1], mask).mean(),
    )
    assert model.loss(x, given) == pytest.approx(parts[0] + 0.25 * parts[1], rel=1e-12)
    assert model.loss(x, (label, mask, None)) == model.loss(x, given)
    assert model.loss(x, given, reduction="none").shape == (10,)
    logs = model.evaluate(x, given, batch_size=3)
    assert logs == {
        "loss": pytest.approx(parts[0] + 0.25 * parts[1], rel=1e-12),
        "label_loss": pytest.approx(parts[0], rel=1e-12),
        "mask_loss": pytest.approx(parts[1], rel=1e-12),
    }
    assert model.loss_and_gradients(x, given)[0] == pytest.approx(logs["loss"], rel=1e-12)


@pytest.mark.parametrize("weights", [None, [2.0, 0.5, 3.0]])
def test_gradients_agree_with_directional_derivatives(weights):
    x, label, mask = data()
    model = net()
    # the trunk is an output, and what the others are made of
    model.compile(loss=["cross_entropy", "mse", nn.MeanSquaredError()], loss_weights=weights)
    target = (label, mask, ramp((10, 4, 6, 6), seed=4))
    _, gradients = model.loss_and_gradients(x, target)
    assert set(gradients) == set(model.params)
    start = model.get_weights()
    rng = np.random.default_rng(0)
    direction = {name: rng.standard_normal(value.shape) for name, value in start.items()}

    def at(step):
        model.set_weights({name: value + step * direction[name] for name, value in start.items()})
        return model.loss(x, target)

    numeric = (at(1e-6) - at(-1e-6)) / 2e-6
    assert sum((gradients[name] * direction[name]).sum() for name in start) == pytest.approx(
        numeric, rel=1e-6
    )


def test_one_value_may_be_several_outputs():
    x = nn.Input((3,))
    h = nn.Linear(2, name="h")(x)
    twice, once = nn.Model(x, [h, h], dtype="float64"), nn.Model(x, h, dtype="float64")
    twice.compile(loss="mse")
    once.compile(loss="mse")
    batch, target = ramp((4, 3)), ramp((4, 2), seed=1)
    value, gradients = once.loss_and_gradients(batch, target)
    double, doubled = twice.loss_and_gradients(batch, (target, target))
    assert double == 2 * value
    for name, gradient in gradients.items():
        np.testing.assert_allclose(doubled[name], 2 * gradient, rtol=1e-12)


def test_training_with_metrics_validation_and_several_inputs():
    a, b = nn.Input((2, 6, 6), name="a"), nn.Input((4,), name="b")
    h = nn.Concat()(nn.Flatten()(nn.ReLU()(nn.Conv2d(4, 3)(a))), b)
    model = nn.Model([a, b], [nn.Linear(3, name="label")(h), nn.Linear(1, name="size")(h)], seed=1)
    model.compile(
        nn.Adam(0.01),
        {"label": "cross_entropy", "size": "mse"},
        {"label": ["accuracy"]},
        loss_weights=[1.0, 0.5],
    )
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, 60)
    x = {
        "a": rng.standard_normal((60, 2, 6, 6)) + label[:, None, None, None],
        "b": rng.standard_normal((60, 4)),
    }
    y = {"label": label, "size": x["b"].sum(axis=1, keepdims=True)}
    history = model.fit(x, y, batch_size=16, epochs=15, validation_data=(x, y), verbose=0).history
    assert set(history) == {
        prefix + name
        for prefix in ("", "val_")
        for name in ("loss", "label_loss", "size_loss", "label_accuracy")
    }
    assert history["val_label_accuracy"][-1] > 0.9
    assert history["val_size_loss"][-1] < history["val_size_loss"][0] / 2
    total = history["val_label_loss"][-1] + 0.5 * history["val_size_loss"][-1]
    assert history["val_loss"][-1] == pytest.approx(total, rel=1e-5)

    stop = nn.callbacks.EarlyStopping(monitor="val_label_accuracy", patience=1)
    epochs = len(model.fit(x, y, 16, 20, validation_data=(x, y), callbacks=[stop], verbose=0).history["loss"])
    assert epochs < 20


def test_weights_of_samples_weigh_every_loss():
    x, label, mask = data()
    model = net()
    model.compile(loss=LOSS, metrics={"label": ["accuracy"]}, loss_weights={"mask": 0.25})
    target = {"label": label, "mask": mask}
    weights = np.arange(10.0)
    per_sample = model.loss(x, target, reduction="none")
    logs = model.evaluate(x, target, sample_weight=weights)
    assert logs["loss"] == pytest.approx((weights * per_sample).mean(), rel=1e-12)
    value, gradients = model.loss_and_gradients(x, target, sample_weight=weights)
    assert value == pytest.approx(logs["loss"], rel=1e-12)
    # a sample that weighs nothing has no gradient, one that weighs two counts twice
    twice = np.r_[0:10, 3]
    doubled = model.loss_and_gradients(x, target, sample_weight=1.0 + (np.arange(10) == 3))[1]
    repeated = model.loss_and_gradients(x[twice], {"label": label[twice], "mask": mask[twice]})[1]
    for name in gradients:
        np.testing.assert_allclose(doubled[name] * 10, repeated[name] * 11, rtol=1e-9, atol=1e-12)
    with pytest.raises(ValueError, match="class_weight is for nets with one output"):
        model.fit(x, target, class_weight={0: 2.0}, verbose=0)


def test_counts_of_a_metric_can_be_read():
    x, label, mask = data()
    model = net()
    matrix = nn.metrics.ConfusionMatrix()
    model.compile(loss=LOSS, metrics={"label": [matrix]})
    model.evaluate(x, {"label": label, "mask": mask}, batch_size=4)
    assert matrix.counts.sum() == 10


def test_training_goes_on_from_a_checkpoint_with_the_same_bits(tmp_path):
    pytest.importorskip("safetensors")
    x, label, mask = data()
    target = {"label": label, "mask": mask}

    def start():
        model = net("float32")
        model.compile("adam", LOSS, {"label": ["accuracy"]})
        return model

    whole, first, second = start(), start(), start()
    history = whole.fit(x, target, 4, epochs=4, verbose=0).history
    first.fit(x, target, 4, epochs=2, checkpoint=tmp_path / "run", verbose=0)
    assert second.fit(x, target, 4, epochs=4, resume=tmp_path / "run", verbose=0).history == history
    for name, value in whole.params.items():
        assert bits(second.params[name]) == bits(value)


def test_outputs_without_loss_are_not_trained_by_it():
    x, _, mask = data()
    model = net("float32")
    model.compile("sgd", loss={"mask": "mse"})
    before = model.get_weights()
    model.fit(x, {"mask": mask}, verbose=0)
    assert bits(model.params["label.weight"]) == bits(before["label.weight"])
    assert bits(model.params["mask.weight"]) != bits(before["mask.weight"])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"loss": {"labels": "mse"}}, ValueError, r"there are no outputs \['labels'\]; the outputs are"),
        ({"loss": ["mse"]}, ValueError, "one entry for each of the outputs"),
        ({"loss": [None, None, None]}, ValueError, "needs a loss"),
        ({"loss": {"label": "hugs"}}, ValueError, "hugs"),
        ({"loss": LOSS, "loss_weights": [1.0]}, ValueError, "loss_weights must have one entry"),
        ({"loss": LOSS, "loss_weights": {"mask": float("nan")}}, ValueError, "finite numbers, got nan"),
        ({"loss": LOSS, "metrics": ["accuracy"]}, ValueError, "dict of lists by output"),
        ({"loss": LOSS, "metrics": {"label": "accuracy"}}, TypeError, "must be a list"),
        ({"loss": LOSS, "metrics": {"trunk": ["accuracy"]}}, ValueError, "'trunk' has metrics but no loss"),
    ],
)
def test_compile_says_what_does_not_fit(options, error, message):
    with pytest.raises(error, match=message):
        net().compile(**options)


def test_one_output_has_one_loss():
    model = nn.Sequential([nn.Linear(2)], input_shape=(3,))
    for options in ({"loss": ["mse"]}, {"loss": {"linear_1": "mse"}}, {"loss": "mse", "loss_weights": [1.0]}):
        with pytest.raises(ValueError, match="are for several outputs"):
            model.compile(**options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda y: y["label"], "takes a tuple of 3 targets or a dict"),
        (lambda y: (y["label"], y["mask"]), "takes a tuple of 3 targets or a dict"),
        (lambda y: {"label": y["label"]}, r"outputs \['label', 'mask'\], got \['label'\]"),
        (lambda y: y | {"label": y["label"] + 1}, "output 'label': classes must be between 0 and 2"),
        (lambda y: y | {"mask": y["mask"][:5]}, r"same number of samples, got \[5, 10\]"),
    ],
)
def test_targets_are_checked(change, message):
    x, label, mask = data()
    model = net()
    model.compile(loss=LOSS)
    with pytest.raises(ValueError, match=message):
        model.fit(x, change({"label": label, "mask": mask}), verbose=0)


def test_steps_are_those_of_torch():
    torch = pytest.importorskip("torch")
    x, label, mask = data()
    model = net()
    twin = {name: torch.nn.Parameter(torch.from_numpy(value.copy())) for name, value in model.params.items()}
    model.compile(nn.SGD(0.1), LOSS, loss_weights=[1.0, 0.3, 1.0])
    optimizer = torch.optim.SGD(twin.values(), lr=0.1)
    given = torch.from_numpy(x)
    for _ in range(3):
        ours = model.fit(x, {"label": label, "mask": mask}, 10, shuffle=False, verbose=0).history["loss"][0]
        F = torch.nn.functional
        h = torch.tanh(F.conv2d(given, twin["conv2d_1.weight"], twin["conv2d_1.bias"], padding=1))
        logits = F.linear(h.mean(dim=(2, 3)), twin["label.weight"], twin["label.bias"])
        picture = F.conv2d(h, twin["mask.weight"], twin["mask.bias"])
        loss = F.cross_entropy(logits, torch.from_numpy(label))
        loss = loss + 0.3 * F.mse_loss(picture, torch.from_numpy(mask))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert ours == pytest.approx(loss.item(), rel=1e-10)
    for name, value in model.params.items():
        np.testing.assert_allclose(value, twin[name].detach().numpy(), rtol=1e-9)
