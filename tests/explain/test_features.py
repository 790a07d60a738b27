"""Filters and feature maps come from the node that was named."""

import numpy as np
import pytest

from fastconv import explain, nn
from fastconv.explain import features


@pytest.fixture
def model():
    layers = [nn.Conv2d(3, 3, name="first"), nn.ReLU(), nn.Flatten(), nn.Linear(2)]
    return nn.Sequential(layers, input_shape=(2, 5, 6), seed=0, dtype="float64")


def test_filters_are_a_copy_of_the_weights(model):
    got = explain.filters(model, "first")
    np.testing.assert_array_equal(got, model.params["first.weight"])
    got[:] = 0
    assert model.params["first.weight"].any()


def test_feature_maps_are_the_node_s_output(model):
    x = np.random.default_rng(0).normal(size=(2, 5, 6))
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))
    expected = np.einsum("chwij,kcij->khw", windows, model.params["first.weight"])
    np.testing.assert_allclose(explain.feature_maps(model, x, "first"), expected, atol=1e-12)
    np.testing.assert_allclose(
        explain.feature_maps(model, x[None], "relu_1"), np.maximum(expected, 0), atol=1e-12
    )


def test_wrong_nodes_are_named(model):
    with pytest.raises(KeyError, match="'second'"):
        explain.filters(model, "second")
    with pytest.raises(KeyError, match="'second'"):
        explain.feature_maps(model, np.zeros((2, 5, 6)), "second")
    for node in ("relu_1", "linear_1"):
        with pytest.raises(ValueError, match="has no filters"):
            explain.filters(model, node)


def test_norms_of_kernels(model):
    norms = explain.filter_norms(model, "first")
    assert norms.shape == (3, 2)
    assert norms[2, 1] == pytest.approx(np.linalg.norm(model.params["first.weight"][2, 1]))


def test_dead_filters_never_let_anything_through(model, rng):
    images = rng.standard_normal((70, 2, 5, 6))
    model.params["first.bias"][:] = [0, -100, 0]
    np.testing.assert_array_equal(explain.dead_filters(model, images, "relu_1"), [1])
    np.testing.assert_array_equal(explain.dead_filters(model, iter([images[:3], images[3:]]), "relu_1"), [1])
    np.testing.assert_array_equal(explain.dead_filters(model, images, "relu_1", threshold=1e9), [0, 1, 2])
    with pytest.raises(ValueError, match="at least one image"):
        explain.dead_filters(model, iter([]), "relu_1")


def test_top_patches_are_the_windows_of_the_strongest_units(model, rng):
    images = rng.standard_normal((50, 2, 5, 6))
    found = explain.top_patches(model, images, "first", 1, count=4)
    maps = np.stack([explain.feature_maps(model, image, "first")[1] for image in images])
    order = np.argsort(-maps.reshape(50, -1).max(axis=1))[:4]
    assert [patch.image for patch in found] == order.tolist()
    for patch in found:
        y, x = patch.position
        assert patch.activation == maps[patch.image].max() == maps[patch.image][y, x]
        assert patch.region == (slice(y, y + 3), slice(x, x + 3))
        np.testing.assert_array_equal(patch.pixels, images[patch.image][:, y : y + 3, x : x + 3])
        weight = model.params["first.weight"][1]
        assert (weight * patch.pixels).sum() == pytest.approx(patch.activation)
    streamed = explain.top_patches(model, (images[i : i + 7] for i in range(0, 50, 7)), "first", 1, count=4)
    assert [patch.image for patch in streamed] == order.tolist()


def test_of_equal_patches_the_earlier_image_comes_first(model):
    images = np.ones((5, 2, 5, 6))
    assert [patch.image for patch in explain.top_patches(model, images, "first", 0, count=3)] == [0, 1, 2]


def test_units_without_a_map_see_the_whole_image(model, rng):
    images = rng.standard_normal((3, 2, 5, 6))
    (best,) = explain.top_patches(model, images, "linear_1", 1, count=1)
    scores = model.activations(images, ["linear_1"])["linear_1"][:, 1]
    assert (best.image, best.activation) == (int(np.argmax(scores)), scores.max())
    assert best.position == ()
    np.testing.assert_array_equal(best.pixels, images[best.image])


def test_the_image_that_excites_a_linear_unit_most_is_its_filter(model):
    image, activations = explain.maximize_activation(
        model, "first", 2, position=(1, 2), steps=60, decay=0.02, smoothness=0, jitter=0
    )
    weight = model.params["first.weight"][2]
    seen = image[:, 1:4, 2:5]
    assert np.vdot(seen, weight) / np.linalg.norm(seen) / np.linalg.norm(weight) > 0.98
    outside = image.copy()
    outside[:, 1:4, 2:5] = 0
    assert np.abs(outside).max() < 0.3 * np.abs(seen).max()
    assert activations.shape == (61,)
    assert activations[-1] > activations[30] > activations[0]


def test_maximisation_is_seeded_smooth_and_bounded(model):
    def climb(**options):
        return explain.maximize_activation(model, "linear_1", 0, steps=40, **options)[0]

    np.testing.assert_array_equal(climb(seed=1), climb(seed=1))
    assert not np.array_equal(climb(seed=1), climb(seed=2))
    assert np.linalg.norm(climb(decay=10.0)) < np.linalg.norm(climb(decay=0))

    def roughness(image):
        return sum(np.mean(np.diff(image, axis=axis) ** 2) for axis in (1, 2)) / np.mean(image**2)

    assert roughness(climb(smoothness=1.0)) < roughness(climb(smoothness=0))


def test_the_gradient_of_roughness(rng):
    image, step = rng.standard_normal((2, 2, 4, 5))

    def roughness(x):
        return sum((np.diff(x, axis=axis) ** 2).sum() for axis in (1, 2))

    slope = (roughness(image + 1e-6 * step) - roughness(image - 1e-6 * step)) / 2e-6
    assert np.vdot(features._roughness_gradient(image), step) == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: explain.filter_norms(m, "relu_1"), "has no filters"),
        (
            lambda m: explain.top_patches(m, np.zeros((1, 2, 5, 6)), "first", 3),
            r"channel must lie in \[0, 3\)",
        ),
        (lambda m: explain.maximize_activation(m, "first", -1), "channel must lie in"),
        (lambda m: explain.maximize_activation(m, "first", 0, position=(3, 0)), "position must lie in a map"),
        (lambda m: explain.maximize_activation(m, "first", 0, start=np.zeros((2, 5, 5))), "start must be of"),
    ],
)
def test_wrong_arguments(call, message, model):
    with pytest.raises(ValueError, match=message):
        call(model)
