import numpy as np

from fastconv.nn import _random
from fastconv.ops import derive_seed


def test_bits_are_splitmix64():
    # the first outputs of the published generator for seed 1234567
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert _random.bits(1234567, np.arange(4)).tolist() == expected


def test_uniform_and_normal_have_their_moments():
    u = _random.uniform(7, np.arange(100_000))
    z = _random.normal(7, np.arange(100_000))
    assert u.min() >= 0
    assert u.max() < 1
    # standard error of the mean: 1/sqrt(12 n) and 1/sqrt(n); five of them
    assert abs(u.mean() - 0.5) < 5 * (1 / 12 / 1e5) ** 0.5
    assert abs(z.mean()) < 5 * 1e-5**0.5
    assert abs(z.var() - 1) < 5 * (2 / 1e5) ** 0.5


def test_numbers_depend_on_the_index_alone():
    whole = _random.normal(3, np.arange(100))
    parts = np.concatenate([_random.normal(3, np.arange(0, 33)), _random.normal(3, np.arange(33, 100))])
    np.testing.assert_array_equal(whole, parts)


def test_permutation_is_one_and_differs_by_seed():
    first, second = _random.permutation(0, 1000), _random.permutation(1, 1000)
    assert sorted(first) == list(range(1000))
    assert (first != second).sum() > 900


def test_derived_seeds_do_not_collide_by_concatenation():
    assert derive_seed(1, 23) != derive_seed(12, 3)
    assert derive_seed(0, "a", "b") != derive_seed(0, "b", "a")
