"""What units really look at: closed forms, and the bounds that arithmetic sets."""

import numpy as np
import pytest

from fastconv import explain, nn


def convolutions(count, size=33, **options):
    layers = [nn.Conv2d(1, 3, padding=1, bias=False) for _ in range(count)]
    return nn.Sequential(layers, input_shape=(1, size, size), seed=0, **options)


def test_equal_weights_give_a_binomial_bell():
    model = convolutions(3, dtype="float64")
    model.set_weights({name: np.ones_like(value) for name, value in model.params.items()})
    field = explain.effective_receptive_field(model, samples=2)
    bell = np.convolve(np.convolve([1, 1, 1], [1, 1, 1]), [1, 1, 1])
    assert field.node == "conv2d_3"
    assert field.position == (16, 16)
    assert field.region == (slice(13, 20), slice(13, 20))
    np.testing.assert_allclose(field.map[field.region], np.outer(bell, bell), rtol=1e-12)
    assert field.map.sum() == pytest.approx(3**6)
    seen = (np.outer(bell, bell) > 0.0455 * 49).sum()  # the corners are 1 and 3 of 49
    assert field.size == pytest.approx(np.sqrt(seen))
    assert field.share == pytest.approx(seen / 49)


def test_the_share_of_the_theoretical_field_shrinks_with_depth():
    shares = []
    for count in (2, 5, 10):
        model = convolutions(count)
        model.set_weights({name: np.ones_like(value) / 9 for name, value in model.params.items()})
        shares.append(explain.effective_receptive_field(model, samples=1).share)
    assert shares[0] > shares[1] > shares[2]


def test_nothing_is_seen_outside_the_theoretical_field(rng):
    layers = [nn.Conv2d(4, 3, stride=2, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(3, 3), nn.Flatten()]
    model = nn.Sequential([*layers, nn.Linear(5)], input_shape=(3, 24, 20), seed=1)
    images = rng.standard_normal((11, 3, 24, 20))
    field = explain.effective_receptive_field(model, "conv2d_2", images, position=(0, 2))
    outside = field.map.copy()
    outside[field.region] = 0
    assert field.map.any()
    assert not outside.any()
    alone = [
        explain.effective_receptive_field(model, "conv2d_2", image[None], position=(0, 2)) for image in images
    ]
    np.testing.assert_allclose(field.map, np.mean([one.map for one in alone], axis=0), rtol=1e-5)


def test_seeds_choose_the_noise():
    model = nn.Sequential([nn.Conv1d(2, 5), nn.Tanh()], input_shape=(1, 30), seed=0)
    first, again, other = (explain.effective_receptive_field(model, seed=seed).map for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"node": "global_avg_pool_1"}, "see the whole input"),
        ({"position": (33, 0)}, "position must lie in a map"),
        ({"position": (1, -1)}, "position"),
        ({"samples": 0}, "samples"),
        ({"images": np.zeros((2, 3, 33, 33))}, "images must be of shape"),
    ],
)
def test_wrong_arguments(arguments, message):
    model = nn.Sequential([nn.Conv2d(1, 3, padding=1), nn.GlobalAvgPool2d()], input_shape=(1, 33, 33))
    with pytest.raises(ValueError, match=message):
        explain.effective_receptive_field(model, **arguments)
    with pytest.raises(KeyError, match="no node 'x'"):
        explain.effective_receptive_field(model, "x")
