"""Values and gradients of losses against PyTorch and against their definitions."""

import numpy as np
import pytest

from fastconv import nn
from fastconv.nn import losses

RNG = np.random.default_rng(0)
LOGITS = 2 * RNG.standard_normal((7, 4))
DENSE = RNG.standard_normal((3, 4, 2, 5))
CLASSES = np.array([0, 3, 1, 1, 2, 0, 3])
DENSE_CLASSES = RNG.integers(0, 4, (3, 2, 5))
PROBABILITIES = RNG.dirichlet(np.ones(4), 7)
BITS = RNG.integers(0, 2, (7, 4))
REALS = RNG.standard_normal((7, 4))
WEIGHTS = np.array([0.5, 2.0, 0.0, 1.0, 3.0, 1.0, 0.25])

CASES = {
    "cross_entropy": (losses.CrossEntropy(), LOGITS, CLASSES),
    "cross_entropy_soft": (losses.CrossEntropy(label_smoothing=0.2), LOGITS, PROBABILITIES),
    "cross_entropy_weighted": (losses.CrossEntropy(weight=[1.0, 0.5, 2.0, 0.0]), LOGITS, CLASSES),
    "cross_entropy_ignoring": (losses.CrossEntropy(ignore_index=3), LOGITS, CLASSES),
    "cross_entropy_dense": (
        losses.CrossEntropy(weight=[1.0, 0.5, 2.0, 3.0], ignore_index=1, label_smoothing=0.1),
        DENSE,
        DENSE_CLASSES,
    ),
    "binary": (losses.BinaryCrossEntropy(), LOGITS, BITS),
    "binary_smooth": (losses.BinaryCrossEntropy(label_smoothing=0.2), LOGITS, BITS),
    "mse": (losses.MeanSquaredError(), LOGITS, REALS),
    "mae": (losses.MeanAbsoluteError(), LOGITS, REALS),
    "huber": (losses.Huber(0.7), LOGITS, REALS),
    "hinge": (losses.Hinge(), LOGITS, BITS),
    "hinge_signs": (losses.Hinge(), LOGITS, 2 * BITS - 1),
    "categorical_hinge": (losses.CategoricalHinge(), LOGITS, CLASSES),
    "categorical_hinge_dense": (losses.CategoricalHinge(), DENSE, DENSE_CLASSES),
    "kl": (losses.KLDivergence(), LOGITS, PROBABILITIES),
}
every_loss = pytest.mark.parametrize(("loss", "output", "target"), CASES.values(), ids=CASES)


@every_loss
@pytest.mark.parametrize("weighted", [False, True])
def test_gradient_is_that_of_the_value(loss, output, target, weighted):
    target = loss.check(target, output.shape[1:])
    weights = WEIGHTS[: len(output)] if weighted else None
    direction = RNG.standard_normal(output.shape)
    ahead, _ = loss.value_and_gradient(output + 1e-6 * direction, target, weights)
    behind, _ = loss.value_and_gradient(output - 1e-6 * direction, target, weights)
    _, grad = loss.value_and_gradient(output, target, weights)
    assert (grad * direction).sum() == pytest.approx((ahead - behind) / 2e-6, rel=1e-6, abs=1e-9)


@every_loss
def test_the_mean_is_that_of_the_batches_sums(loss, output, target):
    target = loss.check(target, output.shape[1:])
    for weights in (None, WEIGHTS[: len(output)]):
        value, _ = loss.value_and_gradient(output, target, weights)
        parts = [slice(0, 1), slice(1, None)]
        sums = [loss.sums(output[p], target[p], None if weights is None else weights[p]) for p in parts]
        total, count = np.sum(sums, axis=0)
        assert total / count == pytest.approx(value, rel=1e-12)


@every_loss
def test_float32_stays_float32_and_is_near(loss, output, target):
    target = loss.check(target, output.shape[1:])
    value, grad = loss.value_and_gradient(output, target)
    value32, grad32 = loss.value_and_gradient(output.astype("float32"), target)
    assert grad32.dtype == loss.per_sample(output.astype("float32"), target).dtype == np.float32
    assert value32 == pytest.approx(value, rel=1e-5)
    np.testing.assert_allclose(grad32, grad, rtol=1e-4, atol=1e-6)


def test_losses_are_torch_s():
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    x, dense = torch.tensor(LOGITS), torch.tensor(DENSE)
    y, dense_y, bits = torch.tensor(CLASSES), torch.tensor(DENSE_CLASSES), torch.tensor(BITS, dtype=float)
    reals, p = torch.tensor(REALS), torch.tensor(PROBABILITIES)
    class_weights = torch.tensor([1.0, 0.5, 2.0, 0.0], dtype=float)
    expected = {
        "cross_entropy": F.cross_entropy(x, y),
        "cross_entropy_soft": F.cross_entropy(x, p, label_smoothing=0.2),
        "cross_entropy_weighted": F.cross_entropy(x, y, class_weights),
        "cross_entropy_ignoring": F.cross_entropy(x, y, ignore_index=3),
        "cross_entropy_dense": F.cross_entropy(
            dense,
            dense_y,
            torch.tensor([1.0, 0.5, 2.0, 3.0], dtype=float),
            ignore_index=1,
            label_smoothing=0.1,
        ),
        "binary": F.binary_cross_entropy_with_logits(x, bits),
        "binary_smooth": F.binary_cross_entropy_with_logits(x, 0.8 * bits + 0.1),
        "mse": F.mse_loss(x, reals),
        "mae": F.l1_loss(x, reals),
        "huber": F.huber_loss(x, reals, delta=0.7),
        "kl": F.kl_div(F.log_softmax(x, 1), p, reduction="batchmean"),
    }
    for name, value in expected.items():
        loss, output, target = CASES[name]
        target = loss.check(target, output.shape[1:])
        assert loss.value_and_gradient(output, target)[0] == pytest.approx(float(value), rel=1e-9), name


def test_hinges_by_definition():
    output = np.array([[2.0, 0.5, -1.0], [0.0, 0.0, 3.0]])
    binary, categorical = losses.Hinge(), losses.CategoricalHinge()
    labels = binary.check([[1, 0, 0], [1, 1, 1]], (3,))
    np.testing.assert_allclose(binary.per_sample(output, labels), [(0 + 1.5 + 0) / 3, (1 + 1 + 0) / 3])
    classes = categorical.check([1, 2], (3,))
    np.testing.assert_allclose(categorical.per_sample(output, classes), [1 + 2.0 - 0.5, 0.0])
    one_hot = categorical.check([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], (3,))
    np.testing.assert_array_equal(one_hot, classes)


def test_huge_logits_do_not_overflow():
    output = np.array([[1e4, -1e4]])
    value, grad = losses.BinaryCrossEntropy().value_and_gradient(output, np.array([[0, 1]]))
    assert value == pytest.approx(1e4)
    np.testing.assert_allclose(grad, [[0.5, -0.5]])


def test_a_batch_of_ignored_samples_has_no_loss():
    loss = losses.CrossEntropy(ignore_index=-1)
    target = loss.check(np.full(7, -1), (4,))
    value, grad = loss.value_and_gradient(LOGITS, target)
    assert value == 0.0
    assert (grad == 0).all()
    assert (loss.per_sample(LOGITS, target) == 0).all()


@pytest.mark.parametrize(
    ("loss", "target", "error", "message"),
    [
        ("bce", [[2], [0]], ValueError, "between 0 and 1, got 0 to 2"),
        ("hinge", [[3], [0]], ValueError, "0 and 1, or -1 and 1"),
        ("hinge", [[-1], [0]], ValueError, "0 and 1, or -1 and 1"),
        ("categorical_hinge", [0, 0], ValueError, "two or more outputs, got 1"),
        ("kl_divergence", [[-0.5], [1.0]], ValueError, "probabilities must be >= 0"),
        ("mae", [[1, 2], [3, 4]], ValueError, r"output's shape \(N, 1\), got \(2, 2\)"),
        ("mse", ["a", "b"], TypeError, "real numbers"),
        (losses.CrossEntropy(weight=[1.0, 2.0]), [0, 0], ValueError, "weight must have 1 elements"),
        (losses.CrossEntropy(ignore_index=7), [0, 6], ValueError, "between 0 and 0"),
    ],
)
def test_targets_that_do_not_fit(loss, target, error, message):
    model = nn.Sequential([nn.Linear(1)], input_shape=(3,))
    model.compile(loss=loss)
    with pytest.raises(error, match=message):
        model.loss(np.zeros((2, 3)), np.array(target))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: losses.CrossEntropy(label_smoothing=2), "label_smoothing must be between 0 and 1, got 2"),
        (lambda: losses.CrossEntropy(weight=[1.0, -1.0]), "class weights must be finite and >= 0"),
        (lambda: losses.BinaryCrossEntropy(-0.1), "label_smoothing"),
        (lambda: losses.Huber(0), "delta must be positive, got 0"),
    ],
)
def test_bad_parameters(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("name", losses.NAMED)
def test_names(name):
    assert isinstance(losses.get(name), losses.Loss)


def test_a_net_that_ends_in_what_the_loss_applies_is_warned_of():
    soft = nn.Sequential([nn.Linear(3), nn.Softmax()], input_shape=(4,))
    with pytest.warns(UserWarning, match="CrossEntropy takes logits, but the net ends in 'softmax_1'"):
        soft.compile()
    soft.compile(loss="mse")
    sigmoid = nn.Sequential([nn.Linear(1), nn.Sigmoid()], input_shape=(4,))
    with pytest.warns(UserWarning, match="BinaryCrossEntropy takes logits"):
        sigmoid.compile(loss="bce")


# -------------------------------------------------------------------------------------------- weights of samples


def line(seed=0):
    model = nn.Sequential([nn.Linear(3)], input_shape=(4,), seed=seed, dtype="float64")
    model.compile(nn.SGD(0.1))
    return model


X = RNG.standard_normal((12, 4))
Y = np.arange(12) % 3


def test_a_weight_of_two_counts_a_sample_twice():
    model = line()
    twice = np.r_[np.arange(12), 0, 1, 2]
    doubled = model.loss_and_gradients(X[twice], Y[twice])
    weighted = model.loss_and_gradients(X, Y, sample_weight=np.where(np.arange(12) < 3, 2.0, 1.0))
    # Keras divides by the number of samples, not by the sum of their weights
    assert weighted[0] == pytest.approx(doubled[0] * 15 / 12)
    for name, grad in weighted[1].items():
        np.testing.assert_allclose(grad, doubled[1][name] * 15 / 12)


def test_class_weights_are_sample_weights():
    weights = {0: 2.0, 2: 0.5}
    by_class, by_sample, plain = line(), line(), line()
    by_class.fit(X, Y, 5, 2, class_weight=weights, verbose=0)
    by_sample.fit(X, Y, 5, 2, sample_weight=[weights.get(label, 1.0) for label in Y], verbose=0)
    plain.fit(X, Y, 5, 2, verbose=0)
    np.testing.assert_array_equal(by_class.params["linear_1.weight"], by_sample.params["linear_1.weight"])
    assert not np.array_equal(by_class.params["linear_1.weight"], plain.params["linear_1.weight"])
    one_hot = line()
    one_hot.fit(X, np.eye(3)[Y], 5, 2, class_weight=weights, verbose=0)
    np.testing.assert_allclose(one_hot.params["linear_1.weight"], by_class.params["linear_1.weight"])


def test_weights_of_validation_and_evaluation():
    model, weights = line(), np.linspace(0, 2, 12)
    expected = float((model.loss(X, Y, reduction="none") * weights).mean())
    assert model.evaluate(X, Y, 5, sample_weight=weights)["loss"] == pytest.approx(expected)
    history = model.fit(X, Y, 12, 1, validation_data=(X, Y, weights), verbose=0)
    assert history.history["val_loss"][0] == pytest.approx(
        model.evaluate(X, Y, sample_weight=weights)["loss"]
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sample_weight": np.ones(11)}, r"sample_weight must have shape \(12,\), got \(11,\)"),
        ({"sample_weight": np.full(12, -1.0)}, "must be finite and >= 0"),
        ({"class_weight": {1: float("nan")}}, "must be finite and >= 0"),
        ({"validation_data": (X,)}, r"\(x, y\) or \(x, y, sample_weight\), got 1"),
        ({"validation_data": (X, Y, np.ones(3))}, "sample_weight must have shape"),
    ],
)
def test_weights_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        line().fit(X, Y, verbose=0, **options)


def test_class_weights_need_a_class_a_sample():
    model = nn.Sequential([nn.Linear(2)], input_shape=(4,))
    model.compile(loss="mse")
    with pytest.raises(ValueError, match="one class a sample"):
        model.fit(X, np.zeros((12, 2), int), class_weight={0: 2.0}, verbose=0)


def two_headed():
    x = nn.Input((4,))
    model = nn.Model(x, [nn.Linear(3, name="kind")(x), nn.Linear(1, name="size")(x)], dtype="float64")
    model.compile(
        nn.SGD(0.1),
        {"kind": losses.CrossEntropy(ignore_index=2), "size": "mse"},
        {"kind": ["accuracy", "confusion_matrix"]},
        loss_weights={"size": 0.5},
    )
    return model


def test_several_outputs_are_weighed_alike():
    model, sizes, weights = two_headed(), RNG.standard_normal(12), np.linspace(0, 2, 12)
    value, _ = model.loss_and_gradients(X, (Y, sizes), sample_weight=weights)
    kind, size = model.predict(X)
    parts = [
        losses.CrossEntropy(ignore_index=2).value_and_gradient(kind, Y, weights)[0],
        losses.MeanSquaredError().value_and_gradient(size, sizes[:, None], weights)[0],
    ]
    assert value == pytest.approx(parts[0] + 0.5 * parts[1])
    logs = model.evaluate(X, (Y, sizes), sample_weight=weights)
    assert logs["loss"] == pytest.approx(value)
    seen = Y != 2
    assert logs["kind_accuracy"] == np.mean(
        kind[seen].argmax(1) == Y[seen]
    )  # what the loss ignores does not count
    assert logs["kind_loss"] == pytest.approx(model.loss_function.parts[0].sums(kind, Y)[0] / seen.sum())
    with pytest.raises(ValueError, match="class_weight is for nets with one output"):
        model.fit(X, (Y, sizes), class_weight={0: 2.0}, verbose=0)
