"""Filters and feature maps come from the node that was named."""

import numpy as np
import pytest

from fastconv import explain, nn


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
