"""Saliency and linearisation: closed forms, finite differences, and the logit rule."""

import numpy as np
import pytest

from fastconv import explain, nn


def net(*tail, dtype="float64"):
    layers = [
        nn.Conv2d(3, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(4),
        *tail,
    ]
    return nn.Sequential(layers, input_shape=(2, 6, 4), seed=3, dtype=dtype)


def images(n=1, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (n, 2, 6, 4))


def test_the_gradient_of_a_linear_net_is_its_weight():
    model = nn.Sequential([nn.Flatten(), nn.Linear(3)], input_shape=(2, 2, 2), seed=1, dtype="float64")
    x = np.random.default_rng(0).normal(size=(2, 2, 2, 2))
    weight = model.params["linear_1.weight"].reshape(3, 2, 2, 2)
    got = explain.Saliency(model).attribute(x, target=[2, 0], abs=False)
    np.testing.assert_allclose(got, weight[[2, 0]], rtol=1e-14)
    np.testing.assert_allclose(
        explain.Saliency(model).attribute(x, target=[2, 0]), np.abs(weight[[2, 0]]), rtol=1e-14
    )
    w, b = explain.linearize(model, x[0], target=1)
    np.testing.assert_allclose(w, weight[1], rtol=1e-14)
    assert b == pytest.approx(model.params["linear_1.bias"][1], abs=1e-13)


def test_gradient_agrees_with_central_differences():
    model, x, step = net(), images(), 1e-6
    gradient = explain.Saliency(model).attribute(x, target=1, abs=False)[0]
    for at in np.ndindex(*x.shape[1:]):
        up, down = x.copy(), x.copy()
        up[0][at] += step
        down[0][at] -= step
        slope = (model.predict(up)[0, 1] - model.predict(down)[0, 1]) / (2 * step)
        assert gradient[at] == pytest.approx(slope, abs=1e-8)


def test_taylor_view_is_exact_in_the_linear_region_of_a_relu_net():
    model, x = net(), images()[0]
    w, b = explain.linearize(model, x, target=2)
    assert w.shape == x.shape
    for nearby in (x, x + 1e-6 * images(seed=9)[0]):
        assert np.vdot(w, nearby) + b == pytest.approx(model.predict(nearby[None])[0, 2], abs=1e-12)


@pytest.mark.parametrize("tail", [[nn.Softmax()], []])
def test_saliency_map_is_that_of_the_logit_with_or_without_a_softmax(tail):
    x = images()
    gradient = explain.Saliency(net()).attribute(x, target=1, abs=False)[0]
    model = net(*tail)
    np.testing.assert_allclose(
        explain.saliency_map(model, x[0], target=1, reduce="none"), gradient, rtol=1e-12
    )
    np.testing.assert_allclose(
        explain.saliency_map(model, x, target=1), np.abs(gradient).max(axis=0), rtol=1e-12
    )
    summed = explain.saliency_map(model, x, target=1, reduce="sum_abs")
    np.testing.assert_allclose(summed, np.abs(gradient).sum(axis=0), rtol=1e-12)


def test_saliency_of_a_softmax_net_is_that_of_the_probability():
    x, probability = images(), net(nn.Softmax())
    got = explain.Saliency(probability).attribute(x, target=1, abs=False)
    p = probability.predict(x)[0]
    logits = [explain.saliency_map(net(), x, target=k, reduce="none") for k in range(4)]
    expected = p[1] * (logits[1] - sum(pk * g for pk, g in zip(p, logits, strict=True)))
    np.testing.assert_allclose(got[0], expected, rtol=1e-10, atol=1e-14)


def test_target_defaults_to_the_predicted_class_for_maps_only():
    model, x = net(), images()
    predicted = int(model.predict(x)[0].argmax())
    np.testing.assert_array_equal(
        explain.saliency_map(model, x), explain.saliency_map(model, x, target=predicted)
    )
    assert explain.linearize(model, x)[1] == explain.linearize(model, x, target=predicted)[1]
    with pytest.raises(ValueError, match="target is required"):
        explain.Saliency(model).attribute(x)


def test_integer_images_are_taken_and_left_alone():
    x = np.random.default_rng(0).integers(0, 255, (1, 2, 6, 4), dtype=np.uint8)
    before, model = x.copy(), net(dtype="float32")
    got = explain.Saliency(model).attribute(x, target=0)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, explain.Saliency(model).attribute(x.astype(np.float32), target=0))
    np.testing.assert_array_equal(x, before)


def test_wrong_arguments_are_refused():
    model = net()
    with pytest.raises(ValueError, match="reduce must be one of"):
        explain.saliency_map(model, images(), reduce="max")
    with pytest.raises(ValueError, match=r"shape \(N, 2, 6, 4\), got \(1, 2, 5, 5\)"):
        explain.saliency_map(model, np.zeros((2, 5, 5)), target=0)
    with pytest.raises(ValueError, match="out of range"):
        explain.linearize(model, images(), target=7)
    with pytest.raises(TypeError, match="Saliency needs a"):
        explain.Saliency(lambda v: v)
