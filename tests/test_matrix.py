"""The convolution matrix as a proof of the convolution, its gradients and dropout."""

from __future__ import annotations

import numpy as np
import pytest

import fastconv.functional as F
import fastconv.grad as G
from fastconv import conv_matrix

pytest.importorskip("scipy")

PROBLEMS = [
    # image (C, *spatial), weight, stride, padding, dilation, groups
    ((1, 6), (1, 1, 3), 1, 0, 1, 1),
    ((4, 9), (6, 2, 3), 2, 2, 2, 2),
    ((3, 6, 7), (4, 3, 3, 3), 1, 1, 1, 1),
    ((4, 7, 5), (8, 1, 3, 2), (2, 1), (1, 0), (1, 2), 4),
    ((2, 5, 6), (3, 2, 3, 3), 1, (2, 0, 1, 3), 1, 1),
    ((2, 5, 5), (3, 2, 2, 3), 1, "same", 1, 1),
    ((2, 3, 4, 5), (4, 1, 2, 3, 2), 1, (0, 1, 1), 1, 2),
]


def integers(shape, seed):
    """Small integers: every sum of products is exact, so results must be equal to the bit."""
    return np.random.default_rng(seed).integers(-8, 9, shape).astype("float64")


@pytest.mark.parametrize(("image", "weight_shape", "stride", "padding", "dilation", "groups"), PROBLEMS)
def test_matrix_is_the_convolution_and_its_transpose_the_gradient(
    image, weight_shape, stride, padding, dilation, groups
):
    ndim = len(weight_shape) - 2
    x, w = integers(image, 0), integers(weight_shape, 1)
    args = (stride, padding, dilation, groups)
    a = conv_matrix(w, image[1:], *args)
    y = getattr(F, f"conv{ndim}d")(x, w, None, *args)
    np.testing.assert_array_equal((a @ x.ravel()).reshape(y.shape), y)
    assert a.shape == (y.size, x.size)
    assert a.dtype == w.dtype

    grad = integers(y.shape, 2)
    dx = getattr(G, f"conv{ndim}d_input")(x.shape, w, grad, *args)
    np.testing.assert_array_equal((a.T @ grad.ravel()).reshape(x.shape), dx)

    # A is linear in w: the gradient in w is <grad, A(e_j) x> for every unit kernel e_j.
    dw = getattr(G, f"conv{ndim}d_weight")(x, w.shape, grad, *args)
    for j in range(w.size):
        unit = np.zeros(w.size)
        unit[j] = 1.0
        column = conv_matrix(unit.reshape(w.shape), image[1:], *args) @ x.ravel()
        assert column @ grad.ravel() == dw.ravel()[j]


def test_dropout_before_a_convolution_scales_the_matrix_columns():
    x, w = integers((3, 6, 7), 0), integers((4, 3, 3, 3), 1)
    dropped, mask = F.dropout(x, 0.5, seed=11, return_mask=True)
    bits = np.unpackbits(mask, count=x.size, bitorder="little")
    a = conv_matrix(w, (6, 7), padding=1)
    scaled = a.multiply(2.0 * bits)
    np.testing.assert_array_equal(scaled @ x.ravel(), F.conv2d(dropped, w, padding=1).ravel())
    grad = integers((4, 6, 7), 2)
    through = G.dropout(G.conv2d_input(x.shape, w, grad, padding=1), mask, 0.5)
    np.testing.assert_array_equal(scaled.T @ grad.ravel(), through.ravel())


def test_one_channel_gives_a_doubly_blocked_toeplitz_matrix():
    a = conv_matrix(np.arange(1.0, 5.0).reshape(1, 1, 2, 2), (3, 3)).toarray()
    np.testing.assert_array_equal(
        a,
        [
            [1, 2, 0, 3, 4, 0, 0, 0, 0],
            [0, 1, 2, 0, 3, 4, 0, 0, 0],
            [0, 0, 0, 1, 2, 0, 3, 4, 0],
            [0, 0, 0, 0, 1, 2, 0, 3, 4],
        ],
    )


def test_image_shape_is_checked_against_the_weight():
    w = np.ones((1, 2, 3, 3))
    assert conv_matrix(w, (2, 5, 5)).shape == conv_matrix(w, 5).shape == (9, 50)
    with pytest.raises(ValueError, match="channels"):
        conv_matrix(w, (3, 5, 5))
    with pytest.raises(ValueError, match="1 to 3 kernel axes"):
        conv_matrix(np.ones((1, 2)), 5)


def test_rows_are_sorted_and_hold_the_zeros_of_the_kernel_but_not_of_the_padding():
    w = integers((4, 3, 3, 3), 3)
    w[0] = 0
    a = conv_matrix(w, (6, 7), padding=2, dilation=2)
    rows, columns = np.repeat(np.arange(a.shape[0]), np.diff(a.indptr)), a.indices
    assert (np.diff(rows * a.shape[1] + columns) > 0).all()
    seen = F.conv2d(np.ones((3, 6, 7)), np.ones_like(w), padding=2, dilation=2)
    np.testing.assert_array_equal(np.diff(a.indptr), seen.ravel())
