"""The convolution as one sparse matrix, for proofs, teaching and linear algebra."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from fastconv import _arrays
from fastconv._optional import require
from fastconv._spec import ConvSpec, as_int_tuple

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


def conv_matrix(
    weight: ArrayLike,
    input_size: Any,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> csr_matrix:
    """The matrix A with ``A @ x.ravel() == conv(x, weight).ravel()`` for one image x.

    For one channel and stride 1 it is a doubly blocked Toeplitz matrix.  Its transpose maps output gradients to input
    gradients; scaling its columns by a dropout mask is convolving after dropout.

    Parameters
    ----------
    weight : array_like of shape (K, C / groups, *kernel)
        1 to 3 spatial dimensions.
    input_size : int or tuple of int
        Spatial size of the image, one for each spatial dimension; an image shape (C, *spatial) is taken as well.
    stride, padding, dilation, groups
        As in :func:`fastconv.functional.conv2d`.

    Returns
    -------
    scipy.sparse.csr_matrix of shape (K * OH * OW, C * H * W)
        Of the weight's dtype, sorted indices, no entry for padding.  Zeros of the kernel are stored.

    Raises
    ------
    ValueError, TypeError
        If an argument breaks a rule; the message states it.
    ImportError
        If SciPy is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> conv_matrix(np.array([[[1.0, 2.0]]]), 3).toarray()
    array([[1., 2., 0.],
           [0., 1., 2.]])
    """
    sparse = require("scipy.sparse", extra="data")
    w = _arrays.as_floats(weight, "weight")
    ndim = w.ndim - 2
    if not 1 <= ndim <= 3:
        raise ValueError(
            f"weight must have shape (K, C / groups, *kernel) with 1 to 3 kernel axes, got {w.shape}"
        )
    spec = ConvSpec.from_shapes(
        _image_shape(input_size, w.shape, groups),
        w.shape,
        _arrays.dtype_name(w),
        stride,
        padding,
        dilation,
        groups,
    )
    out_per_group, in_per_group = spec.out_channels // spec.groups, spec.in_channels // spec.groups

    # Flat input position that each (kernel position, output position) pair reads, and whether it is inside the image.
    position = np.zeros((1, 1), dtype=np.int64)
    inside = np.ones((1, 1), dtype=bool)
    for axis in range(ndim):
        place = (
            np.arange(spec.kernel[axis], dtype=np.int64)[:, None] * spec.dilation[axis]
            + np.arange(spec.out_size[axis], dtype=np.int64) * spec.stride[axis]
            - spec.pad_lo[axis]
        )
        position = _outer(position * spec.in_size[axis], place, np.add)
        inside = _outer(inside, (place >= 0) & (place < spec.in_size[axis]), np.logical_and)
    # Row (k, p) holds the taps t that position p sees, channel after channel: in this order columns rise.
    out_position, tap = np.nonzero(inside.T)
    taps_seen = inside.sum(axis=0)
    before = np.cumsum(taps_seen) - taps_seen
    channel = np.arange(in_per_group)[:, None]
    entry = before[out_position] * in_per_group + channel * taps_seen[out_position]
    entry += np.arange(tap.size) - before[out_position]

    out_plane, in_plane = math.prod(spec.out_size), math.prod(spec.in_size)
    shape = (spec.out_channels * out_plane, spec.in_channels * in_plane)
    stored = spec.out_channels * entry.size
    index = np.dtype(np.int32 if max(*shape, stored) <= np.iinfo(np.int32).max else np.int64)
    columns, weights = np.empty((2, entry.size), dtype=index)  # the same for every output channel
    columns[entry] = channel * in_plane + position[tap, out_position]
    weights[entry] = channel * inside.shape[0] + tap
    first = np.arange(spec.out_channels) // out_per_group * (in_per_group * in_plane)
    indices = columns + first.astype(index)[:, None]
    values = np.take(w.reshape(spec.out_channels, -1), weights, axis=1)
    starts = np.zeros(shape[0] + 1, dtype=index)
    np.cumsum(np.tile(taps_seen * in_per_group, spec.out_channels), out=starts[1:])
    matrix = sparse.csr_matrix((values.ravel(), indices.ravel(), starts), shape=shape)
    matrix.has_canonical_format = True
    return matrix


def _outer(a: np.ndarray, b: np.ndarray, join: np.ufunc) -> np.ndarray:
    """Join every (tap, output) entry of ``a`` with every one of ``b``: both axes grow, ``a``'s index first."""
    grown: np.ndarray = join(a[:, None, :, None], b[None, :, None, :])
    return grown.reshape(a.shape[0] * b.shape[0], a.shape[1] * b.shape[1])


def _image_shape(input_size: Any, weight_shape: tuple[int, ...], groups: Any) -> tuple[int, ...]:
    """(1, C, *spatial) from a spatial size or an image shape."""
    ndim = len(weight_shape) - 2
    if np.ndim(input_size) == 1 and len(input_size) == ndim + 1:
        return (1, *as_int_tuple(input_size, ndim + 1, "input_size", 1))
    channels = weight_shape[1] * max(int(groups), 1)
    return (1, channels, *as_int_tuple(input_size, ndim, "input_size", 1))
