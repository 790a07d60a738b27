"""Measures of attributions: closed forms, and that they tell a good attribution from a bad one."""

import numpy as np
import pytest

from fastconv import explain, nn
from fastconv.explain import metrics


def linear(weights, dtype="float64"):
    """Two classes; the logit of class 1 is the sum of ``weights`` times the pixels."""
    weights = np.asarray(weights, dtype=np.float64)
    layers = [nn.Flatten(), nn.Linear(2)]
    model = nn.Sequential(layers, input_shape=(1, *weights.shape), seed=0, dtype=dtype)
    both = np.stack([np.zeros(weights.size), weights.ravel()])
    model.set_weights({"linear_1.weight": both.astype(dtype), "linear_1.bias": np.zeros(2, dtype)})
    return model


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x)))


WEIGHTS = np.array([[4.0, -1.0], [2.0, 1.0]])


def test_deletion_takes_the_most_important_pixels_first():
    curve = explain.deletion(linear(WEIGHTS), np.ones((1, 2, 2)), WEIGHTS, target=1, steps=4)
    np.testing.assert_allclose(curve.shares, [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(curve.scores, sigmoid([6, 2, 0, -1, 0]))
    assert curve.area == pytest.approx((sigmoid([6, 2, 0, -1, 0]) @ [1, 2, 2, 2, 1]) / 8)


def test_insertion_brings_them_back_first():
    image, start = np.ones((1, 2, 2)), np.full((1, 2, 2), 0.5)
    curve = explain.insertion(linear(WEIGHTS), image, WEIGHTS[None], target=1, baseline=start, steps=2)
    np.testing.assert_allclose(curve.scores, sigmoid([3, 3 + 2 + 1, 6]))


def test_probabilities_of_a_net_with_a_softmax_are_taken_as_they_are():
    model = linear(WEIGHTS)
    layers = [nn.Flatten(), nn.Linear(2), nn.Softmax()]
    ending = nn.Sequential(layers, input_shape=(1, 2, 2), dtype="float64")
    ending.set_weights(model.params)
    image = np.ones((1, 2, 2))
    np.testing.assert_allclose(
        explain.deletion(ending, image, WEIGHTS, 1).scores, explain.deletion(model, image, WEIGHTS, 1).scores
    )


def test_a_true_attribution_is_better_than_a_reversed_one(rng):
    weights = rng.standard_normal((6, 6))
    model, image = linear(weights), np.ones((1, 6, 6))
    rows = metrics.compare(model, image, [("true", weights), ("reversed", -weights)], target=1)
    (_, deleted, inserted), (_, wrong_deleted, wrong_inserted) = rows
    assert deleted < wrong_deleted
    assert inserted > wrong_inserted


def test_infidelity_of_the_gradient_of_a_linear_score_is_zero(rng):
    weights = rng.standard_normal((3, 3))
    model, image = linear(weights), rng.standard_normal((1, 3, 3))
    assert explain.infidelity(model, image, weights, 1) == pytest.approx(0, abs=1e-20)
    # the expectation of (I . (a - w))**2 is noise**2 |a - w|**2
    wrong = explain.infidelity(model, image, weights + 0.5, 1, noise=0.2, samples=4000)
    assert wrong == pytest.approx(0.2**2 * 9 * 0.5**2, rel=0.1)
    assert wrong == explain.infidelity(model, image, weights + 0.5, 1, noise=0.2, samples=4000)


def gradient(model, image):
    return explain.Saliency(model).attribute(image[None], target=1, abs=False)[0]


def test_sensitivity_is_zero_where_the_attribution_is_constant(rng):
    image = rng.standard_normal((1, 3, 3))
    assert explain.sensitivity_max(linear(rng.standard_normal((3, 3))), image, gradient) == 0
    by_input = explain.sensitivity_max(
        linear(np.ones((3, 3))), image, lambda model, x: x * gradient(model, x), radius=0.1
    )
    assert 0 < by_input <= 0.1 * 3 / np.linalg.norm(image) + 1e-12
    with pytest.raises(ValueError, match="0 everywhere"):
        explain.sensitivity_max(linear(np.zeros((3, 3))), image, gradient)


def test_randomised_parameters_change_a_gradient_and_not_an_edge_detector(rng):
    layers = [nn.Conv2d(4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3)]
    model = nn.Sequential(layers, input_shape=(1, 10, 10), seed=0)
    before = {name: value.copy() for name, value in model.params.items()}
    image = rng.standard_normal((1, 10, 10))
    rows = explain.parameter_randomization(model, image, gradient)
    assert [name for name, _ in rows] == ["linear_1", "conv2d_1"]
    assert max(abs(value) for _, value in rows) < 0.6
    blind = explain.parameter_randomization(model, image, lambda _, x: np.abs(np.diff(x, axis=-1)))
    assert [value for _, value in blind] == pytest.approx([1, 1])
    for name, value in before.items():
        np.testing.assert_array_equal(model.params[name], value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, x: explain.deletion(m, x, np.ones((3, 3)), 1), r"attribution must be of shape \(2, 2\)"),
        (lambda m, x: explain.deletion(m, x, WEIGHTS, 2), "target must be one of the net's classes, got 2"),
        (lambda m, x: explain.deletion(m, x, WEIGHTS, 1, steps=0), "steps"),
        (lambda m, x: explain.infidelity(m, x, np.ones(3), 1), "attribution must be of the image's shape"),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call(linear(WEIGHTS), np.ones((1, 2, 2)))


class TestCaptum:
    """The same noise, drawn at once: both libraries take one copy after the other from it."""

    def test_infidelity(self, rng):
        torch, captum = pytest.importorskip("torch"), pytest.importorskip("captum.metrics")
        weights, x = rng.standard_normal((3, 3)), rng.standard_normal((1, 1, 3, 3))
        attribution = rng.standard_normal(x.shape)
        model = linear(weights)

        def perturbed(copies):
            noise = 0.1 * np.random.default_rng(4).standard_normal(copies.shape)
            return torch.from_numpy(noise), copies - torch.from_numpy(noise)

        expected = captum.infidelity(
            lambda v: torch.from_numpy(model.predict(v.numpy())),
            perturbed,
            torch.from_numpy(x),
            torch.from_numpy(attribution),
            target=1,
            n_perturb_samples=12,
        )
        got = explain.infidelity(model, x, attribution, 1, noise=0.1, samples=12, seed=4)
        assert got == pytest.approx(expected.item(), rel=1e-9)

    def test_sensitivity(self, rng):
        torch, captum = pytest.importorskip("torch"), pytest.importorskip("captum.metrics")
        model, x = linear(rng.standard_normal((3, 3))), rng.standard_normal((1, 1, 3, 3))

        def explainer(model, image):
            return image**2 * gradient(model, image)

        def perturbed(copies):
            noise = np.random.default_rng(4).uniform(-0.1, 0.1, copies.shape)
            return (copies + torch.from_numpy(noise),)

        expected = captum.sensitivity_max(
            lambda v: (torch.from_numpy(np.stack([explainer(model, one) for one in v[0].numpy()])),),
            torch.from_numpy(x),
            perturbed,
            n_perturb_samples=12,
        )
        got = explain.sensitivity_max(model, x, explainer, radius=0.1, samples=12, seed=4)
        assert got == pytest.approx(expected.item(), rel=1e-9)
