"""Metrics against their definitions, counted over batches of any size."""

import numpy as np
import pytest

from fastconv import nn
from fastconv.nn import losses, metrics

RNG = np.random.default_rng(0)
OUTPUT = RNG.standard_normal((40, 5))
TARGET = RNG.integers(0, 4, 40)  # class 4 never occurs
OUTPUT[:20][np.arange(20), TARGET[:20]] += 3
PREDICTED = OUTPUT.argmax(axis=1)
MATRIX = np.array([[np.sum((i == TARGET) & (j == PREDICTED)) for j in range(5)] for i in range(5)])


def results(metric, output=OUTPUT, target=TARGET):
    """Of all, counted in one go and in parts, which must be the same to the bit."""
    whole = metric.count(output, target)
    parts = sum(metric.count(output[i : i + 7], target[i : i + 7]) for i in range(0, len(output), 7))
    np.testing.assert_array_equal(whole, parts)
    assert whole.dtype.kind == "i"
    return metric.results(whole)


def test_accuracy():
    assert results(metrics.Accuracy()) == {"accuracy": np.mean(PREDICTED == TARGET)}
    assert results(metrics.Accuracy(), target=np.eye(5)[TARGET])["accuracy"] == np.mean(PREDICTED == TARGET)
    kept = TARGET != 2
    expected = np.mean(PREDICTED[kept] == TARGET[kept])
    assert results(metrics.Accuracy("a", ignore_index=2)) == {"a": expected}
    assert results(metrics.Accuracy(), target=np.where(kept, TARGET, -1))["accuracy"] == expected


def test_accuracy_of_dense_outputs_counts_positions():
    output, target = RNG.standard_normal((3, 4, 2, 5)), RNG.integers(0, 4, (3, 2, 5))
    assert results(metrics.Accuracy(), output, target)["accuracy"] == np.mean(output.argmax(1) == target)


@pytest.mark.parametrize("k", [1, 2, 4, 5])
def test_top_k(k):
    best = np.argsort(-OUTPUT, axis=1)[:, :k]
    expected = np.mean([label in row for label, row in zip(TARGET, best, strict=True)])
    assert results(metrics.TopKAccuracy(k)) == {f"top_{k}_accuracy": expected}


def test_top_k_with_ties_and_nan():
    output = np.array([[1.0, 1.0, 1.0], [np.nan, 2.0, 1.0], [np.nan, 2.0, 1.0], [3.0, np.nan, 1.0]])
    target = np.array([2, 1, 0, 0])
    top = metrics.TopKAccuracy(2)
    # a tie is in; NaN counts as larger; NaN itself is never in
    assert [top.count(output[i : i + 1], target[i : i + 1])[0] for i in range(4)] == [1, 1, 0, 1]
    assert metrics.TopKAccuracy(1).count(output, target)[0] == 1


def test_confusion_matrix():
    metric = metrics.ConfusionMatrix()
    assert results(metric) == {}
    np.testing.assert_array_equal(metric.count(OUTPUT, TARGET), MATRIX)
    with pytest.raises(ValueError, match="nothing is counted yet"):
        _ = metric.matrix


def divided(a, b):
    return np.where(b > 0, a / np.maximum(b, 1), 0.0)


HITS, PREDICTIONS, TRUE = np.diag(MATRIX), MATRIX.sum(axis=0), MATRIX.sum(axis=1)
PER_CLASS = {
    "precision": divided(HITS, PREDICTIONS),
    "recall": divided(HITS, TRUE),
    "f1": divided(2 * HITS, PREDICTIONS + TRUE),
}


@pytest.mark.parametrize("make", [metrics.Precision, metrics.Recall, metrics.F1])
def test_precision_recall_f1(make):
    name = make().name
    each = PER_CLASS[name]
    assert results(make())[name] == pytest.approx(each.mean())
    assert results(make("weighted"))[name] == pytest.approx((each * TRUE).sum() / TRUE.sum())
    assert results(make("binary"))[name] == pytest.approx(each[1])
    assert results(make("micro"))[name] == pytest.approx(HITS.sum() / 40)
    assert results(make(None)) == pytest.approx({f"{name}_{i}": value for i, value in enumerate(each)})
    with pytest.raises(ValueError, match="average must be one of"):
        make("mean")


@pytest.mark.parametrize("average", ["macro", "micro", "weighted", None])
def test_they_are_scikit_learn_s(average):
    sklearn = pytest.importorskip("sklearn.metrics")
    for make in (metrics.Precision, metrics.Recall, metrics.F1):
        name = make().name
        score = getattr(sklearn, f"{name}_score")
        expected = score(TARGET, PREDICTED, labels=range(5), average=average, zero_division=0)
        np.testing.assert_allclose(list(results(make(average)).values()), np.atleast_1d(expected))


def test_per_class_accuracy():
    assert results(metrics.PerClassAccuracy()) == pytest.approx(
        {f"accuracy_{i}": value for i, value in enumerate(PER_CLASS["recall"])}
    )


def test_one_logit_is_a_class_of_two():
    output, target = np.array([[2.0], [-1.0], [0.5], [-3.0]]), np.array([[1], [1], [0], [0]])
    assert results(metrics.Accuracy(), output, target) == {"accuracy": 0.5}
    matrix = metrics.ConfusionMatrix().count(output, target)
    np.testing.assert_array_equal(matrix, [[1, 1], [1, 1]])
    several = np.array([[2.0, -1.0], [-1.0, 3.0]])
    assert results(metrics.BinaryAccuracy(), several, np.array([[1, 0], [1, 1]])) == {"binary_accuracy": 0.75}


def test_a_model_counts_exactly_whatever_the_batches():
    model = nn.Sequential([nn.Linear(3)], input_shape=(4,))
    confusion = metrics.ConfusionMatrix()
    names = ["accuracy", "top_2_accuracy", "f1", "per_class_accuracy"]
    model.compile(metrics=[*names, confusion])
    x, y = RNG.standard_normal((50, 4)), RNG.integers(0, 3, 50)
    found = [model.evaluate(x, y, batch_size=size) for size in (50, 7, 1)]
    for other in found[1:]:
        assert {**other, "loss": 0} == {**found[0], "loss": 0}
        assert other["loss"] == pytest.approx(found[0]["loss"])
    predicted = model.predict(x).argmax(axis=1)
    assert found[0]["accuracy"] == np.mean(predicted == y)
    np.testing.assert_array_equal(confusion.matrix.sum(axis=1), np.bincount(y, minlength=3))
    assert np.trace(confusion.matrix) == np.sum(predicted == y)
    assert set(found[0]) == {"loss", "accuracy", "top_2_accuracy", "f1", *(f"accuracy_{i}" for i in range(3))}
    history = model.fit(x, y, 16, 1, validation_data=(x, y), verbose=0)
    assert "val_accuracy_2" in history.history


def test_accuracy_follows_the_loss():
    model = nn.Sequential([nn.Linear(2)], input_shape=(4,))
    for loss, kind in (("bce", metrics.BinaryAccuracy), ("cross_entropy", metrics.Accuracy)):
        model.compile(loss=loss, metrics=["accuracy"])
        assert isinstance(model.metrics[0], kind)
        assert model.metrics[0].name == "accuracy"


def test_names_take_what_the_loss_ignores():
    kept = TARGET != 2
    for name in ("accuracy", "top_2_accuracy", "recall", "confusion_matrix"):
        metric = metrics.get(name, losses.CrossEntropy(ignore_index=2))
        np.testing.assert_array_equal(metric.count(OUTPUT, TARGET), metric.count(OUTPUT[kept], TARGET[kept]))
    assert metrics.get("accuracy", losses.CrossEntropy()).count(OUTPUT, TARGET)[1] == 40


@pytest.mark.parametrize("name", [*metrics.NAMED, "top_3_accuracy"])
def test_names(name):
    assert isinstance(metrics.get(name), metrics.Metric)


def test_bad_k():
    with pytest.raises(ValueError, match="k must be >= 1, got 0"):
        metrics.TopKAccuracy(0)
