"""Initial values: moments, orthogonality, and the same bits again."""

import numpy as np
import pytest

from fastconv import nn
from fastconv.nn import initializers
from kit import bits, with_threads

FAN_IN, FAN_OUT = 8 * 9, 16 * 9  # of a weight (16, 8, 3, 3)


@pytest.mark.parametrize(
    ("initializer", "variance"),
    [
        ("he_uniform", 2 / FAN_IN),
        ("he_normal", 2 / FAN_IN),
        ("glorot_uniform", 2 / (FAN_IN + FAN_OUT)),
        ("glorot_normal", 2 / (FAN_IN + FAN_OUT)),
        ("lecun_uniform", 1 / FAN_IN),
        ("lecun_normal", 1 / FAN_IN),
        (initializers.HeNormal(mode="fan_out"), 2 / FAN_OUT),
        (initializers.GlorotUniform(gain=3.0), 18 / (FAN_IN + FAN_OUT)),
        (initializers.VarianceScaling(0.5, "fan_out", "normal"), 0.25 / FAN_OUT),
    ],
)
def test_variance_follows_gain_and_fan(initializer, variance):
    weight = initializers.get(initializer)((16, 8, 3, 3), seed=5)
    assert abs(weight.mean()) < 5 * (variance / weight.size) ** 0.5
    assert weight.var() == pytest.approx(variance, rel=0.15)


def test_uniform_initial_values_keep_their_bound():
    weight = initializers.get("glorot_uniform")((10, 20), seed=0)
    assert abs(weight).max() <= (6 / 30) ** 0.5


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (1, 7), (16, 17), (33, 2, 4, 5), (70, 33), (64, 64)])
def test_orthogonal_weights_are(shape):
    weight = initializers.Orthogonal(gain=2.0)(shape, seed=1)
    assert weight.shape == shape
    matrix = weight.reshape(shape[0], -1)
    matrix = matrix if len(matrix) <= matrix.shape[1] else matrix.T
    np.testing.assert_allclose(matrix @ matrix.T, 4 * np.eye(len(matrix)), atol=1e-13)


@pytest.mark.parametrize("name", sorted(initializers.NAMED))
def test_the_same_seed_gives_the_same_bits(name):
    initializer = initializers.get(name)
    first = initializer((40, 6, 5), 7)
    with with_threads(3):
        assert bits(initializer((40, 6, 5), 7)) == bits(first)
    if name not in ("zeros", "ones"):
        assert not np.array_equal(initializer((40, 6, 5), 8), first)


def test_constants():
    np.testing.assert_array_equal(initializers.get("zeros")((2, 3), 0), np.zeros((2, 3)))
    np.testing.assert_array_equal(initializers.get("ones")((4,), 0), np.ones(4))
    np.testing.assert_array_equal(initializers.Constant(-2.5)((2,), 0), [-2.5, -2.5])


def test_gains_are_those_of_torch():
    torch = pytest.importorskip("torch")
    for name in ("linear", "sigmoid", "tanh", "relu", "leaky_relu", "selu"):
        assert initializers.calculate_gain(name) == torch.nn.init.calculate_gain(name)
    assert initializers.calculate_gain("leaky_relu", 0.3) == torch.nn.init.calculate_gain("leaky_relu", 0.3)


def test_layers_use_them():
    layers = [
        nn.Conv2d(4, 3, weight_initializer="orthogonal", bias_initializer=initializers.Constant(0.25)),
        nn.BatchNorm2d(weight_initializer="zeros", bias_initializer="ones"),
    ]
    params = nn.Sequential(layers, input_shape=(2, 8, 8), dtype="float64").params
    weight = params["conv2d_1.weight"].reshape(4, -1)
    np.testing.assert_allclose(weight @ weight.T, np.eye(4), atol=1e-14)
    assert set(params["conv2d_1.bias"]) == {0.25}
    assert set(params["batch_norm_1.weight"]) == {0.0}
    assert set(params["batch_norm_1.bias"]) == {1.0}
    assert set(params["batch_norm_1.running_var"]) == {1.0}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: initializers.get("xavier"), "he_uniform"),
        (lambda: initializers.HeNormal(gain=0.0), "gain must be a positive number"),
        (lambda: initializers.Orthogonal(gain=float("nan")), "gain must be a positive number"),
        (lambda: initializers.HeNormal(mode="fan"), "mode must be one of"),
        (lambda: initializers.VarianceScaling(distribution="cauchy"), "distribution must be one of"),
        (lambda: initializers.get("he_normal")((3,), 0), "inputs and outputs, got shape"),
        (lambda: initializers.get("orthogonal")((3,), 0), "inputs and outputs, got shape"),
        (lambda: initializers.calculate_gain("gelu"), "nonlinearity must be one of"),
    ],
)
def test_errors_say_what_is_allowed(make, message):
    with pytest.raises(ValueError, match=message):
        make()
