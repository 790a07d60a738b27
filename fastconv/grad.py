"""Backward passes of the ops of :mod:`fastconv.functional`, named as in ``torch.nn.grad``.

Each function returns the gradient of a scalar with respect to the argument it is named for, given ``grad_output``, the
scalar's gradient with respect to the op's result.  Arguments that describe the op are those of the forward pass.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastconv import _arrays
from fastconv._dispatch import AUTO, plan, run
from fastconv._pool import check_offsets
from fastconv._spec import (
    ActivationSpec,
    BatchNormSpec,
    ChannelSpec,
    ConvSpec,
    CrossEntropySpec,
    DropoutSpec,
    MatmulSpec,
    PlaneSpec,
    Shape,
    SoftmaxSpec,
    adaptive_pool_spec,
    as_int,
    as_max_error,
    as_shape,
    as_slope,
    conv_spec,
    frozen,
    pad_spec,
    pool_spec,
)

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "avg_pool1d",
    "avg_pool2d",
    "batch_norm",
    "conv1d_input",
    "conv1d_weight",
    "conv2d_input",
    "conv2d_weight",
    "conv3d_input",
    "conv3d_weight",
    "conv_bias",
    "conv_transpose1d_input",
    "conv_transpose1d_weight",
    "conv_transpose2d_input",
    "conv_transpose2d_weight",
    "cross_entropy",
    "drop_block2d",
    "dropout",
    "dropout2d",
    "fold",
    "leaky_relu",
    "linear_bias",
    "linear_input",
    "linear_weight",
    "log_softmax",
    "max_pool1d",
    "max_pool2d",
    "max_unpool1d",
    "max_unpool2d",
    "pad",
    "relu",
    "relu6",
    "sigmoid",
    "softmax",
    "tanh",
    "unfold",
]

Array = NDArray[Any]


# -------------------------------------------------------------------------------------------------- convolution


def _check_grad(grad: Array, shape: Shape) -> None:
    """The output gradient must have the shape of the op's result."""
    _arrays.check_shape(grad, shape, "grad_output")


def _conv_input(
    ndim: int,
    input_size: Any,
    weight: ArrayLike,
    grad_output: ArrayLike,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    algorithm: str,
    max_error: float | None,
) -> Array:
    size, shape = _arrays.as_input_size(input_size, ndim)
    grad = _arrays.as_floats(grad_output, "grad_output")
    w = _arrays.as_floats_like(weight, "weight", grad, "grad_output")
    made = plan(
        "conv_input_grad",
        conv_spec,
        shape,
        w.shape,
        _arrays.dtype_name(grad),
        *frozen(stride, padding, dilation, groups),
        algorithm=algorithm,
        max_error=as_max_error(max_error),
    )
    _check_grad(grad, made.spec.output_shape[-len(size) :])
    result: Array = made.run(_arrays.batched(grad, ndim), w, None, None)
    return _arrays.unbatched(result, grad)


def _conv_weight(
    ndim: int,
    input: ArrayLike,
    weight_size: Any,
    grad_output: ArrayLike,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    algorithm: str,
    max_error: float | None,
) -> Array:
    x = _arrays.as_floats(input, "input")
    grad = _arrays.as_floats_like(grad_output, "grad_output", x, "input")
    shape = _arrays.batched_shape(x.shape, ndim, "input")
    kernel_shape = as_shape(weight_size, "weight_size")
    made = plan(
        "conv_weight_grad",
        conv_spec,
        shape,
        kernel_shape,
        _arrays.dtype_name(x),
        *frozen(stride, padding, dilation, groups),
        algorithm=algorithm,
        max_error=as_max_error(max_error),
    )
    _check_grad(grad, made.spec.output_shape[-x.ndim :])
    result: Array = made.run(_arrays.batched(x, ndim), _arrays.batched(grad, ndim))
    return result


def conv1d_input(
    input_size: Any,
    weight: ArrayLike,
    grad_output: ArrayLike,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    algorithm: str = AUTO,
    max_error: float | None = None,
) -> Array:
    """Gradient of :func:`fastconv.functional.conv1d` in its input.

    Parameters
    ----------
    input_size : tuple (N, C, L) or (C, L)
    weight : array_like of shape (K, C / groups, KL)
    grad_output : array_like of shape (N, K, OL) or (K, OL)
    stride, padding, dilation, groups, algorithm, max_error
        Those of the forward pass.

    Returns
    -------
    ndarray of shape input_size

    Raises
    ------
    ValueError, TypeError
        If an argument breaks a rule; the message states it.

    Examples
    --------
    >>> import numpy as np
    >>> conv1d_input((1, 1, 3), np.ones((1, 1, 2)), np.array([[[1.0, 2.0]]]))
    array([[[1., 3., 2.]]])
    """
    return _conv_input(
        1, input_size, weight, grad_output, stride, padding, dilation, groups, algorithm, max_error
    )


def conv1d_weight(
    input: ArrayLike,
    weight_size: Any,
    grad_output: ArrayLike,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    algorithm: str = AUTO,
    max_error: float | None = None,
) -> Array:
    """Gradient of :func:`fastconv.functional.conv1d` in its weight.

    Parameters
    ----------
    input : array_like of shape (N, C, L) or (C, L)
    weight_size : tuple (K, C / groups, KL)
    grad_output : array_like of shape (N, K, OL) or (K, OL)
    stride, padding, dilation, groups, algorithm, max_error
        Those of the forward pass.

    Returns
    -------
    ndarray of shape weight_size

    Raises
    ------
    ValueError, TypeError
        If an argument breaks a rule; the message states it.

    Examples
    --------
    >>> import numpy as np
    >>> conv1d_weight(np.array([[[1.0, 2.0, 4.0]]]), (1, 1, 2), np.ones((1, 1, 2)))
    array([[[3., 6.]]])
    """
    return _conv_weight(
        1, input, weight_size, grad_output, stride, padding, dilation, groups, algorithm, max_error
    )


def conv2d_input(
    input_size: Any,
    weight: ArrayLike,
    grad_output: ArrayLike,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    algorithm: str = AUTO,
    max_error: float | None = None,
) -> Array:
    """Gradient of :func:`fastconv.functional.conv2d` in its input.

    Parameters
    ----------
    input_size : tuple (N, C, H, W) or (C, H, W)
    weight : array_like of shape (K, C / groups, KH, KW)
    grad_output : array_like of shape (N, K, OH, OW) or (K, OH, OW)
    stride, padding, dilation, groups, algorithm, max_error
        Those of the forward pass.

    Returns
    -------
    ndarray of shape input_size

    Raises
    ------
    ValueError, TypeError
        If an argument breaks a rule; the message states it.

    Examples
    --------
    >>> import numpy as np
    >>> conv2d_input((1, 1, 1, 3), np.ones((1, 1, 1, 2)), np.array([[[[1.0, 2.0]]]]))
    array([[[[1., 3., 2.]]]])
    """
    return _conv_input(
        2, input_size, weight, grad_output, stride, padding, dilation, groups, algorithm, max_error
    )


def conv2d_weight(
    input: ArrayLike,
    weight_size: Any,
    grad_output: ArrayLike,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    algorithm: str = AUTO,
    max_error: float | None = None,
) -> Array:
    """Gradient of :func:`fastconv.functional.conv2d` in its weight.

    Parameters
    ----------
    input : array_like of shape (N, C, H, W) or (C, H, W)
    weight_size : tuple (K, C / groups, KH, KW)
    grad_output : array_like of shape (N, K, OH, OW) or (K, OH, OW)
    stride, padding, dilation, groups, algorithm, max_error
        Those of the forward pass.

    Returns
    -------
    ndarray of shape weight_size

    Raises
    ------
    ValueError, TypeError
        If an argument breaks a rule; the message states it.

    Examples
    --------
    >>> import numpy as np
    >>> conv2d_weight(np.array([[[[1.0, 2.0, 4.0]]]]), (1, 1, 1, 2), np.ones((1, 1, 1, 2)))
    array([[[[3., 6.]]]])
    """
    return _conv_weight(
        2, input, weight_size, grad_output, stride, padding, dilation, groups, algorithm, max_error
    )


def conv3d_input(
    input_size: Any,
    weight: ArrayLike,
    grad_output: ArrayLike,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    algorithm: str = AUTO,
    max_error: float | None = None,
) -> Array:
    """Gradient of :func:`fastconv.functional.conv3d` in its input.

    Parameters
    ----------
    input_size : tuple (N, C, D, H, W) or (C, D, H, W)
    weight : array_like of shape (K, C / groups, KD, KH, KW)
    grad_output : array_like of shape (N, K, OD, OH, OW) or (K, OD, OH, OW)
    stride, padding, dilation, groups, algorithm, max_error
        Those of the forward pass.

    Returns
    -------
    ndarray of shape input_size

    Raises
    ------
    ValueError, TypeError
        If an argument breaks a rule; the message states it.

    Examples
    --------
    >>> import numpy as np
    >>> conv3d_input((1, 1, 1, 1, 3), np.ones((1, 1, 1, 1, 2)), np.array([[[[[1.0, 2.0]]]]]))
    array([[[[[1., 3., 2.]]]]])
    """
    return _conv_input(
        3, input_size, weight, grad_output, stride, padding, dilation, groups, algorithm, max_error
    )


def conv3d_weight(
    input: ArrayLike,
    weight_size: Any,
    grad_output: ArrayLike,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    algorithm: str = AUTO,
    max_error: float | None = None,
) -> Array:
    """Gradient of :func:`fastconv.functional.conv3d` in its weight.

    Parameters
    ----------
    input : array_like of shape (N, C, D, H, W) or (C, D, H, W)
    weight_size : tuple (K, C / groups, KD, KH, KW)
    grad_output : array_like of shape (N, K, OD, OH, OW) or (K, OD, OH, OW)
    stride, padding, dilation, groups, algorithm, max_error
        Those of the forward pass.

    Returns
    -------
    ndarray of shape weight_size

    Raises
    ------
    ValueError, TypeError
        If an argument breaks a rule; the message states it.

    Examples
    --------
    >>> import numpy as np
    >>> conv3d_weight(np.array([[[[[1.0, 2.0, 4.0]]]]]), (1, 1, 1, 1, 2), np.ones((1, 1, 1, 1, 2)))
    array([[[[[3., 6.]]]]])
    """
    return _conv_weight(
        3, input, weight_size, grad_output, stride, padding, dilation, groups, algorithm, max_error
    )


def conv_bias(grad_output: ArrayLike) -> Array:
    """Gradient of any convolution in its bias: the sum over everything but the channels.

    Parameters
    ----------
    grad_output : array_like of shape (N, K, ...)
        With the batch axis.

    Returns
    -------
    ndarray of shape (K,)

    Raises
    ------
    ValueError, TypeError
        If there is no channel axis or the dtype is not taken.

    Examples
    --------
    >>> import numpy as np
    >>> conv_bias(np.ones((2, 3, 4, 4)))
    array([32., 32., 32.])
    """
    grad = _arrays.as_floats(grad_output, "grad_output")
    if grad.ndim < 2:
        raise ValueError(f"grad_output must have shape (N, K, ...), got {grad.shape}")
    inner = math.prod(grad.shape[2:])
    view = (*grad.shape[:2], inner)
    out: Array = plan("channel_sum", ChannelSpec.of, *view, grad.dtype).run(grad.reshape(view))
    return out


def _conv_transpose_input(
    ndim: int,
    input_size: Any,
    weight: ArrayLike,
    grad_output: ArrayLike,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: Any,
    dilation: Any,
) -> Array:
    size, shape = _arrays.as_input_size(input_size, ndim)
    grad = _arrays.as_floats(grad_output, "grad_output")
    w = _arrays.as_floats_like(weight, "weight", grad, "grad_output")
    spec = ConvSpec.transposed(
        shape, w.shape, _arrays.dtype_name(grad), stride, padding, output_padding, groups, dilation
    )
    _check_grad(grad, spec.input_shape[-len(size) :])
    # The transposed convolution is the transpose of a convolution, so its own transpose is that convolution.
    result: Array = run("conv_forward", spec, grad.reshape(spec.input_shape), w, None, None)
    return result.reshape(size)


def _conv_transpose_weight(
    ndim: int,
    input: ArrayLike,
    weight_size: Any,
    grad_output: ArrayLike,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: Any,
    dilation: Any,
) -> Array:
    x = _arrays.as_floats(input, "input")
    grad = _arrays.as_floats_like(grad_output, "grad_output", x, "input")
    shape = _arrays.batched_shape(x.shape, ndim, "input")
    spec = ConvSpec.transposed(
        shape,
        as_shape(weight_size, "weight_size"),
        _arrays.dtype_name(x),
        stride,
        padding,
        output_padding,
        groups,
        dilation,
    )
    _check_grad(grad, spec.input_shape[-x.ndim :])
    result: Array = run("conv_weight_grad", spec, grad.reshape(spec.input_shape), x.reshape(shape))
    return result


def conv_transpose1d_input(
    input_size: Any,
    weight: ArrayLike,
    grad_output: ArrayLike,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Array:
    """Gradient of :func:`fastconv.functional.conv_transpose1d` in its input.

    Parameters
    ----------
    input_size : tuple (N, C, L) or (C, L)
    weight : array_like of shape (C, K / groups, KL)
    grad_output : array_like of shape (N, K, OL) or (K, OL)
    stride, padding, output_padding, groups, dilation
        Those of the forward pass.

    Returns
    -------
    ndarray of shape input_size

    Raises
    ------
    ValueError, TypeError
        If an argument breaks a rule; the message states it.

    Examples
    --------
    >>> import numpy as np
    >>> conv_transpose1d_input((1, 1, 2), np.ones((1, 1, 2)), np.array([[[1.0, 2.0, 4.0]]]))
    array([[[3., 6.]]])
    """
    return _conv_transpose_input(
        1, input_size, weight, grad_output, stride, padding, output_padding, groups, dilation
    )


def conv_transpose1d_weight(
    input: ArrayLike,
    weight_size: Any,
    grad_output: ArrayLike,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Array:
    """Gradient of :func:`fastconv.functional.conv_transpose1d` in its weight.

    Parameters
    ----------
    input : array_like of shape (N, C, L) or (C, L)
    weight_size : tuple (C, K / groups, KL)
    grad_output : array_like of shape (N, K, OL) or (K, OL)
    stride, padding, output_padding, groups, dilation
        Those of the forward pass.

    Returns
    -------
    ndarray of shape weight_size

    Raises
    ------
    ValueError, TypeError
        If an argument breaks a rule; the message states it.

    Examples
    --------
    >>> import numpy as np
    >>> conv_transpose1d_weight(np.ones((1, 1, 2)), (1, 1, 2), np.array([[[1.0, 2.0, 4.0]]]))
    array([[[3., 6.]]])
    """
    return _conv_transpose_weight(
        1, input, weight_size, grad_output, stride, padding, output_padding, groups, dilation
    )


def conv_transpose2d_input(
    input_size: Any,
    weight: ArrayLike,
    grad_output: ArrayLike,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Array:
    """Gradient of :func:`fastconv.functional.conv_transpose2d` in its input.

    Parameters
    ----------
    input_size : tuple (N, C, H, W) or (C, H, W)
    weight : array_like of shape (C, K / groups, KH, KW)
    grad_output : array_like of shape (N, K, OH, OW) or (K, OH, OW)
    stride, padding, output_padding, groups, dilation
        Those of the forward pass.

    Returns
    -------
    ndarray of shape input_size

    Raises
    ------
    ValueError, TypeError
        If an argument breaks a rule; the message states it.

    Examples
    --------
    >>> import numpy as np
    >>> conv_transpose2d_input((1, 1, 1, 2), np.ones((1, 1, 1, 2)), np.array([[[[1.0, 2.0, 4.0]]]]))
    array([[[[3., 6.]]]])
    """
    return _conv_transpose_input(
        2, input_size, weight, grad_output, stride, padding, output_padding, groups, dilation
    )


def conv_transpose2d_weight(
    input: ArrayLike,
    weight_size: Any,
    grad_output: ArrayLike,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Array:
    """Gradient of :func:`fastconv.functional.conv_transpose2d` in its weight.

    Parameters
    ----------
    input : array_like of shape (N, C, H, W) or (C, H, W)
    weight_size : tuple (C, K / groups, KH, KW)
    grad_output : array_like of shape (N, K, OH, OW) or (K, OH, OW)
    stride, padding, output_padding, groups, dilation
        Those of the forward pass.

    Returns
    -------
    ndarray of shape weight_size

    Raises
    ------
    ValueError, TypeError
        If an argument breaks a rule; the message states it.

    Examples
    --------
    >>> import numpy as np
    >>> conv_transpose2d_weight(np.ones((1, 1, 1, 2)), (1, 1, 1, 2), np.array([[[[1.0, 2.0, 4.0]]]]))
    array([[[[3., 6.]]]])
    """
    return _conv_transpose_weight(
        2, input, weight_size, grad_output, stride, padding, output_padding, groups, dilation
    )


# ------------------------------------------------------------------------------------------------------ pooling


def _max_pool(
    ndim: int,
    grad_output: ArrayLike,
    indices: ArrayLike,
    input_size: Any,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
) -> Array:
    size, shape = _arrays.as_input_size(input_size, ndim)
    grad = _arrays.as_floats(grad_output, "grad_output")
    where = _arrays.as_indices(indices, "indices", allow_uint8=True)
    made = plan(
        "max_pool_backward",
        pool_spec,
        shape,
        _arrays.dtype_name(grad),
        *frozen(kernel_size, stride, padding, dilation),
        bool(ceil_mode),
        True,
        None,
    )
    spec = made.spec
    expected = _arrays.pooled_shape(size, spec.out_size, ndim)
    _check_grad(grad, expected)
    _arrays.check_shape(where, expected, "indices")
    if where.itemsize == 1:
        check_offsets(spec, where)
    else:
        _arrays.check_in_plane(where, math.prod(spec.in_size))
    shape = spec.output_shape
    out: Array = made.run(_arrays.as_planes(grad, shape), _arrays.as_planes(where, shape))
    return out if grad.ndim == 4 else out.reshape(size)


def max_pool1d(
    grad_output: ArrayLike,
    indices: ArrayLike,
    input_size: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> Array:
    """Gradient of :func:`fastconv.functional.max_pool1d`; see :func:`max_pool2d`.

    Parameters
    ----------
    grad_output : array_like of shape (N, C, OL) or (C, OL)
    indices : array_like of int64 or uint8 and the same shape
    input_size : tuple (N, C, L) or (C, L)
    kernel_size, stride, padding, dilation, ceil_mode
        Those of the forward pass.

    Returns
    -------
    ndarray of shape input_size

    Raises
    ------
    ValueError, TypeError
        If an index is out of range or another argument breaks a rule.

    Examples
    --------
    >>> import numpy as np
    >>> max_pool1d(np.array([[[1.0, 2.0]]]), np.array([[[1, 2]]]), (1, 1, 4), 2)
    array([[[0., 1., 2., 0.]]])
    """
    return _max_pool(1, grad_output, indices, input_size, kernel_size, stride, padding, dilation, ceil_mode)


def max_pool2d(
    grad_output: ArrayLike,
    indices: ArrayLike,
    input_size: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> Array:
    """Gradient of :func:`fastconv.functional.max_pool2d`: each output's gradient goes to its maximum.

    Parameters
    ----------
    grad_output : array_like of shape (N, C, OH, OW) or (C, OH, OW)
    indices : array_like of int64 or uint8 and the same shape
        As the forward pass returned them, of either kind.
    input_size : tuple (N, C, H, W) or (C, H, W)
    kernel_size, stride, padding, dilation, ceil_mode
        Those of the forward pass.

    Returns
    -------
    ndarray of shape input_size
        An element that is the maximum of several windows gets their sum, added in output order.

    Raises
    ------
    TypeError
        If the indices are neither int64 nor uint8.
    ValueError
        If an index names no element of the input, or another argument breaks a rule.

    Examples
    --------
    >>> import numpy as np
    >>> max_pool2d(np.ones((1, 1, 1, 1)), np.array([[[[1]]]]), (1, 1, 2, 2), 2)
    array([[[[0., 1.],
             [0., 0.]]]])
    """
    return _max_pool(2, grad_output, indices, input_size, kernel_size, stride, padding, dilation, ceil_mode)


def _avg_pool(
    ndim: int,
    grad_output: ArrayLike,
    input_size: Any,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Array:
    size, shape = _arrays.as_input_size(input_size, ndim)
    grad = _arrays.as_floats(grad_output, "grad_output")
    made = plan(
        "avg_pool_backward",
        pool_spec,
        shape,
        _arrays.dtype_name(grad),
        *frozen(kernel_size, stride, padding),
        1,
        bool(ceil_mode),
        bool(count_include_pad),
        *frozen(divisor_override),
    )
    _check_grad(grad, _arrays.pooled_shape(size, made.spec.out_size, ndim))
    out: Array = made.run(_arrays.as_planes(grad, made.spec.output_shape))
    return out if grad.ndim == 4 else out.reshape(size)


def avg_pool1d(
    grad_output: ArrayLike,
    input_size: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    """Gradient of :func:`fastconv.functional.avg_pool1d`.

    Parameters
    ----------
    grad_output : array_like of shape (N, C, OL) or (C, OL)
    input_size : tuple (N, C, L) or (C, L)
    kernel_size, stride, padding, ceil_mode, count_include_pad
        Those of the forward pass.

    Returns
    -------
    ndarray of shape input_size

    Raises
    ------
    ValueError, TypeError
        If an argument breaks a rule; the message states it.

    Examples
    --------
    >>> import numpy as np
    >>> avg_pool1d(np.array([[[2.0]]]), (1, 1, 2), 2)
    array([[[1., 1.]]])
    """
    return _avg_pool(
        1, grad_output, input_size, kernel_size, stride, padding, ceil_mode, count_include_pad, None
    )


def avg_pool2d(
    grad_output: ArrayLike,
    input_size: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Array:
    """Gradient of :func:`fastconv.functional.avg_pool2d`: spread evenly over each window.

    Parameters
    ----------
    grad_output : array_like of shape (N, C, OH, OW) or (C, OH, OW)
    input_size : tuple (N, C, H, W) or (C, H, W)
    kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
        Those of the forward pass.

    Returns
    -------
    ndarray of shape input_size

    Raises
    ------
    ValueError, TypeError
        If an argument breaks a rule; the message states it.

    Examples
    --------
    >>> import numpy as np
    >>> avg_pool2d(np.full((1, 1, 1, 1), 4.0), (1, 1, 2, 2), 2)
    array([[[[1., 1.],
             [1., 1.]]]])
    """
    return _avg_pool(
        2,
        grad_output,
        input_size,
        kernel_size,
        stride,
        padding,
        ceil_mode,
        count_include_pad,
        divisor_override,
    )


def _adaptive_avg_pool(ndim: int, grad_output: ArrayLike, input_size: Any) -> Array:
    size, shape = _arrays.as_input_size(input_size, ndim)
    grad = _arrays.as_floats(grad_output, "grad_output")
    out_size = _output_size(grad, size, ndim)
    made = plan("adaptive_avg_pool_backward", adaptive_pool_spec, shape, _arrays.dtype_name(grad), out_size)
    out: Array = made.run(_arrays.as_planes(grad, made.spec.output_shape))
    return out if grad.ndim == 4 else out.reshape(size)


def _output_size(grad: Array, size: Shape, ndim: int) -> Shape:
    """Spatial size of an output gradient whose leading axes must be those of the input size."""
    if grad.ndim != len(size) or grad.shape[:-ndim] != size[:-ndim]:
        raise ValueError(
            f"grad_output must have the leading axes of input_size {size}, got shape {grad.shape}"
        )
    return grad.shape[-ndim:]


def adaptive_avg_pool1d(grad_output: ArrayLike, input_size: Any) -> Array:
    """Gradient of :func:`fastconv.functional.adaptive_avg_pool1d`.

    Parameters
    ----------
    grad_output : array_like of shape (N, C, OL) or (C, OL)
    input_size : tuple (N, C, L) or (C, L)

    Returns
    -------
    ndarray of shape input_size

    Raises
    ------
    ValueError, TypeError
        If an argument breaks a rule; the message states it.

    Examples
    --------
    >>> import numpy as np
    >>> adaptive_avg_pool1d(np.array([[[2.0]]]), (1, 1, 2))
    array([[[1., 1.]]])
    """
    return _adaptive_avg_pool(1, grad_output, input_size)


def adaptive_avg_pool2d(grad_output: ArrayLike, input_size: Any) -> Array:
    """Gradient of :func:`fastconv.functional.adaptive_avg_pool2d`.

    Parameters
    ----------
    grad_output : array_like of shape (N, C, OH, OW) or (C, OH, OW)
    input_size : tuple (N, C, H, W) or (C, H, W)

    Returns
    -------
    ndarray of shape input_size

    Raises
    ------
    ValueError, TypeError
        If an argument breaks a rule; the message states it.

    Examples
    --------
    >>> import numpy as np
    >>> adaptive_avg_pool2d(np.full((1, 1, 1, 1), 4.0), (1, 1, 2, 2))
    array([[[[1., 1.],
             [1., 1.]]]])
    """
    return _adaptive_avg_pool(2, grad_output, input_size)


def _plane_spec(shape: Shape, in_plane: int, out_plane: int, dtype: str) -> PlaneSpec:
    return PlaneSpec(
        batch=shape[0],
        channels=shape[1],
        in_plane=in_plane,
        out_plane=out_plane,
        accumulate=True,
        dtype=dtype,
    )


def _adaptive_max_pool(ndim: int, grad_output: ArrayLike, indices: ArrayLike, input_size: Any) -> Array:
    size, shape = _arrays.as_input_size(input_size, ndim)
    grad = _arrays.as_floats(grad_output, "grad_output")
    where = _arrays.as_indices(indices, "indices")
    out_size = _output_size(grad, size, ndim)
    _arrays.check_shape(where, grad.shape, "indices")
    plane = math.prod(shape[2:])
    _arrays.check_in_plane(where, plane)
    spec = _plane_spec(shape, math.prod(out_size), plane, _arrays.dtype_name(grad))
    flat = (spec.batch, spec.channels, spec.in_plane)
    out: Array = run("scatter_planes", spec, grad.reshape(flat), where.reshape(flat))
    return out.reshape(size)


def adaptive_max_pool1d(grad_output: ArrayLike, indices: ArrayLike, input_size: Any) -> Array:
    """Gradient of :func:`fastconv.functional.adaptive_max_pool1d`; see :func:`adaptive_max_pool2d`.

    Parameters
    ----------
    grad_output : array_like of shape (N, C, OL) or (C, OL)
    indices : array_like of int64 and the same shape
    input_size : tuple (N, C, L) or (C, L)

    Returns
    -------
    ndarray of shape input_size

    Raises
    ------
    ValueError, TypeError
        If an index is out of range or another argument breaks a rule.

    Examples
    --------
    >>> import numpy as np
    >>> adaptive_max_pool1d(np.array([[[2.0]]]), np.array([[[1]]]), (1, 1, 2))
    array([[[0., 2.]]])
    """
    return _adaptive_max_pool(1, grad_output, indices, input_size)


def adaptive_max_pool2d(grad_output: ArrayLike, indices: ArrayLike, input_size: Any) -> Array:
    """Gradient of :func:`fastconv.functional.adaptive_max_pool2d`: each output's gradient goes to its maximum.

    Parameters
    ----------
    grad_output : array_like of shape (N, C, OH, OW) or (C, OH, OW)
    indices : array_like of int64 and the same shape
    input_size : tuple (N, C, H, W) or (C, H, W)

    Returns
    -------
    ndarray of shape input_size

    Raises
    ------
    ValueError, TypeError
        If an index is out of range or another argument breaks a rule.

    Examples
    --------
    >>> import numpy as np
    >>> adaptive_max_pool2d(np.full((1, 1, 1, 1), 2.0), np.array([[[[3]]]]), (1, 1, 2, 2))
    array([[[[0., 0.],
             [0., 2.]]]])
    """
    return _adaptive_max_pool(2, grad_output, indices, input_size)


def _max_unpool(ndim: int, grad_output: ArrayLike, indices: ArrayLike) -> Array:
    grad = _arrays.as_floats(grad_output, "grad_output")
    where = _arrays.as_indices(indices, "indices")
    shape = _arrays.batched_shape(grad.shape, ndim, "grad_output")
    _output_size(grad, where.shape, ndim)
    plane = math.prod(shape[2:])
    _arrays.check_in_plane(where, plane)
    spec = _plane_spec(shape, math.prod(where.shape[-ndim:]), plane, _arrays.dtype_name(grad))
    out: Array = run(
        "gather_planes",
        spec,
        grad.reshape(spec.batch, spec.channels, plane),
        where.reshape(spec.batch, spec.channels, spec.in_plane),
    )
    return out.reshape(where.shape)


def max_unpool1d(grad_output: ArrayLike, indices: ArrayLike) -> Array:
    """Gradient of :func:`fastconv.functional.max_unpool1d`; see :func:`max_unpool2d`.

    Parameters
    ----------
    grad_output : array_like of shape (N, C, OL) or (C, OL)
    indices : array_like of int64, shape (N, C, L) or (C, L)

    Returns
    -------
    ndarray of the indices' shape

    Raises
    ------
    ValueError, TypeError
        If an index is out of range or another argument breaks a rule.

    Examples
    --------
    >>> import numpy as np
    >>> max_unpool1d(np.array([[[1.0, 2.0, 3.0, 4.0]]]), np.array([[[1, 2]]]))
    array([[[2., 3.]]])
    """
    return _max_unpool(1, grad_output, indices)


def max_unpool2d(grad_output: ArrayLike, indices: ArrayLike) -> Array:
    """Gradient of :func:`fastconv.functional.max_unpool2d`: the output's gradient read at the indices.

    Parameters
    ----------
    grad_output : array_like of shape (N, C, OH, OW) or (C, OH, OW)
    indices : array_like of int64, shape (N, C, H, W) or (C, H, W)

    Returns
    -------
    ndarray of the indices' shape

    Raises
    ------
    ValueError, TypeError
        If an index is out of range or another argument breaks a rule.

    Examples
    --------
    >>> import numpy as np
    >>> max_unpool2d(np.arange(4.0).reshape(1, 1, 2, 2), np.array([[[[3]]]]))
    array([[[[3.]]]])
    """
    return _max_unpool(2, grad_output, indices)


# ------------------------------------------------------------------------------------------------------ dropout


def dropout(grad_output: ArrayLike, mask: ArrayLike | None, p: float) -> Array:
    """Gradient of :func:`fastconv.functional.dropout`: the same mask and scale again.

    Parameters
    ----------
    grad_output : array_like of any shape
    mask : array_like of uint8, shape (ceil(size / 8),), or None
        As the forward pass returned it; None (it was not training) passes the gradient on.
    p : float

    Returns
    -------
    ndarray of grad_output's shape

    Raises
    ------
    ValueError, TypeError
        If an argument breaks a rule; the message states it.

    Examples
    --------
    >>> import numpy as np
    >>> dropout(np.ones(4), np.array([0b0101], dtype=np.uint8), 0.5)
    array([2., 0., 2., 0.])
    """
    grad = _arrays.as_floats(grad_output, "grad_output")
    return _masked(grad, mask, DropoutSpec.from_args(grad.size, 1, p, 0, 0))


def dropout2d(grad_output: ArrayLike, mask: ArrayLike | None, p: float) -> Array:
    """Gradient of :func:`fastconv.functional.dropout2d`.

    Parameters
    ----------
    grad_output : array_like of shape (N, C, H, W)
    mask : array_like of uint8, shape (ceil(N * C / 8),), or None
    p : float

    Returns
    -------
    ndarray of shape (N, C, H, W)

    Raises
    ------
    ValueError, TypeError
        If an argument breaks a rule; the message states it.

    Examples
    --------
    >>> import numpy as np
    >>> dropout2d(np.ones((1, 2, 1, 2)), np.array([0b10], dtype=np.uint8), 0.5)
    array([[[[0., 0.]],
    <BLANKLINE>
            [[2., 2.]]]])
    """
    grad = _arrays.as_images(grad_output, "grad_output")
    bits = grad.shape[0] * grad.shape[1]
    return _masked(grad, mask, DropoutSpec.from_args(bits, math.prod(grad.shape[2:]), p, 0, 0))


def drop_block2d(grad_output: ArrayLike, mask: ArrayLike | None) -> Array:
    """Gradient of :func:`fastconv.functional.drop_block2d`; the scale follows from the mask.

    Parameters
    ----------
    grad_output : array_like of shape (N, C, H, W)
    mask : array_like of uint8, shape (ceil(N * C * H * W / 8),), or None

    Returns
    -------
    ndarray of shape (N, C, H, W)

    Raises
    ------
    ValueError, TypeError
        If an argument breaks a rule; the message states it.

    Examples
    --------
    >>> import numpy as np
    >>> drop_block2d(np.ones((1, 1, 1, 4)), np.array([0b0011], dtype=np.uint8))
    array([[[[2., 2., 0., 0.]]]])
    """
    grad = _arrays.as_images(grad_output, "grad_output")
    if mask is None:
        return grad.copy()
    packed = _arrays.as_mask(mask, grad.size)
    out: Array = run("dropout_apply", _arrays.drop_block_scaling(packed, grad.size), grad, packed)
    return out


def _masked(grad: Array, mask: ArrayLike | None, spec: DropoutSpec) -> Array:
    if mask is None:
        return grad.copy()
    out: Array = run("dropout_apply", spec, grad, _arrays.as_mask(mask, spec.size))
    return out


# --------------------------------------------------------------------------------------------------- activations


def _pair(grad_output: ArrayLike, output: ArrayLike) -> tuple[Array, Array]:
    grad = _arrays.as_floats(grad_output, "grad_output")
    y = _arrays.as_floats_like(output, "output", grad, "grad_output")
    _check_grad(grad, y.shape)
    return grad, y


def _activation(kind: str, grad_output: ArrayLike, output: ArrayLike, slope: float = 0.0) -> Array:
    grad, y = _pair(grad_output, output)
    made = plan("activation_backward", ActivationSpec.of, kind, y.size, y.dtype, slope)
    out: Array = made.run(grad, y)
    return out


def relu(grad_output: ArrayLike, output: ArrayLike) -> Array:
    """Gradient of :func:`fastconv.functional.relu`, from its output: zero where the output is.

    Parameters
    ----------
    grad_output, output : array_like of one shape

    Returns
    -------
    ndarray of the same shape

    Raises
    ------
    ValueError, TypeError
        If shapes or dtypes differ.

    Examples
    --------
    >>> relu([5.0, 5.0], [0.0, 2.0])
    array([0., 5.])
    """
    return _activation("relu", grad_output, output)


def relu6(grad_output: ArrayLike, output: ArrayLike) -> Array:
    """Gradient of :func:`fastconv.functional.relu6`, from its output: zero where the output is 0 or 6.

    Parameters
    ----------
    grad_output, output : array_like of one shape

    Returns
    -------
    ndarray of the same shape

    Raises
    ------
    ValueError, TypeError
        If shapes or dtypes differ.

    Examples
    --------
    >>> relu6([5.0, 5.0, 5.0], [0.0, 2.0, 6.0])
    array([0., 5., 0.])
    """
    return _activation("relu6", grad_output, output)


def sigmoid(grad_output: ArrayLike, output: ArrayLike) -> Array:
    """Gradient of :func:`fastconv.functional.sigmoid`, from its output: ``grad * y * (1 - y)``.

    Parameters
    ----------
    grad_output, output : array_like of one shape

    Returns
    -------
    ndarray of the same shape

    Raises
    ------
    ValueError, TypeError
        If shapes or dtypes differ.

    Examples
    --------
    >>> sigmoid([4.0], [0.5])
    array([1.])
    """
    return _activation("sigmoid", grad_output, output)


def tanh(grad_output: ArrayLike, output: ArrayLike) -> Array:
    """Gradient of :func:`fastconv.functional.tanh`, from its output: ``grad * (1 - y * y)``.

    Parameters
    ----------
    grad_output, output : array_like of one shape

    Returns
    -------
    ndarray of the same shape

    Raises
    ------
    ValueError, TypeError
        If shapes or dtypes differ.

    Examples
    --------
    >>> tanh([4.0], [0.5])
    array([3.])
    """
    return _activation("tanh", grad_output, output)


def leaky_relu(grad_output: ArrayLike, output: ArrayLike, negative_slope: float = 0.01) -> Array:
    """Gradient of :func:`fastconv.functional.leaky_relu`, from its output; the slope's side at 0.

    Parameters
    ----------
    grad_output, output : array_like of one shape
    negative_slope : float
        At least 0.

    Returns
    -------
    ndarray of the same shape

    Raises
    ------
    ValueError, TypeError
        If shapes or dtypes differ, or the slope is negative.

    Examples
    --------
    >>> leaky_relu([1.0, 1.0], [-0.5, 2.0], 0.5)
    array([0.5, 1. ])
    """
    return _activation("leaky_relu", grad_output, output, as_slope(negative_slope))


def _softmax(grad_output: ArrayLike, output: ArrayLike, dim: int, log: bool) -> Array:
    grad, y = _pair(grad_output, output)
    axis, dtype = as_int(dim, "dim"), _arrays.dtype_name(y)
    out: Array = plan("softmax_backward", SoftmaxSpec.from_shape, y.shape, axis, log, dtype).run(grad, y)
    return out


def softmax(grad_output: ArrayLike, output: ArrayLike, dim: int) -> Array:
    """Gradient of :func:`fastconv.functional.softmax`, from its output.

    Parameters
    ----------
    grad_output, output : array_like of one shape
    dim : int

    Returns
    -------
    ndarray of the same shape

    Raises
    ------
    ValueError, TypeError
        If shapes or dtypes differ, or there is no such axis.

    Examples
    --------
    >>> softmax([1.0, 0.0], [0.5, 0.5], dim=0)
    array([ 0.25, -0.25])
    """
    return _softmax(grad_output, output, dim, False)


def log_softmax(grad_output: ArrayLike, output: ArrayLike, dim: int) -> Array:
    """Gradient of :func:`fastconv.functional.log_softmax`, from its output.

    Parameters
    ----------
    grad_output, output : array_like of one shape
    dim : int

    Returns
    -------
    ndarray of the same shape

    Raises
    ------
    ValueError, TypeError
        If shapes or dtypes differ, or there is no such axis.

    Examples
    --------
    >>> log_softmax([1.0, 0.0], [-0.6931471805599453, -0.6931471805599453], dim=0)
    array([ 0.5, -0.5])
    """
    return _softmax(grad_output, output, dim, True)


# ------------------------------------------------------------------------------- linear, normalisation and loss


def linear_input(weight: ArrayLike, grad_output: ArrayLike) -> Array:
    """Gradient of :func:`fastconv.functional.linear` in its input: ``grad_output @ weight``.

    Parameters
    ----------
    weight : array_like of shape (out_features, in_features) or (in_features,)
    grad_output : array_like of shape (..., out_features), or (...) for a one-dimensional weight

    Returns
    -------
    ndarray of shape (..., in_features)

    Raises
    ------
    ValueError, TypeError
        If shapes or dtypes do not fit.

    Examples
    --------
    >>> linear_input([[1.0, 2.0]], [[3.0]])
    array([[3., 6.]])
    """
    grad = _arrays.as_floats(grad_output, "grad_output")
    w = _arrays.as_floats_like(weight, "weight", grad, "grad_output")
    if w.ndim not in (1, 2):
        raise ValueError(
            f"weight must have shape (out_features, in_features) or (in_features,), got {w.shape}"
        )
    lead = grad.shape if w.ndim == 1 else grad.shape[:-1]
    _check_grad(grad, lead + w.shape[:-1])
    rows, outputs = math.prod(lead), math.prod(w.shape[:-1])
    inputs = w.shape[-1]
    made = plan("matmul", MatmulSpec.of, rows, inputs, outputs, False, False, w.dtype)
    out: Array = made.run(grad.reshape(rows, outputs), w.reshape(outputs, inputs), None)
    return out.reshape(*lead, inputs)


def linear_weight(input: ArrayLike, grad_output: ArrayLike) -> Array:
    """Gradient of :func:`fastconv.functional.linear` in its weight: ``grad_output.T @ input``.

    Parameters
    ----------
    input : array_like of shape (..., in_features)
    grad_output : array_like of shape (..., out_features), or (...) for a one-dimensional weight

    Returns
    -------
    ndarray of shape (out_features, in_features) or (in_features,)

    Raises
    ------
    ValueError, TypeError
        If shapes or dtypes do not fit.

    Examples
    --------
    >>> linear_weight([[1.0, 2.0]], [[3.0]])
    array([[3., 6.]])
    """
    x = _arrays.as_floats(input, "input")
    grad = _arrays.as_floats_like(grad_output, "grad_output", x, "input")
    if x.ndim < 1:
        raise ValueError(f"input must have shape (..., in_features), got {x.shape}")
    outputs = () if grad.ndim == x.ndim - 1 else grad.shape[-1:]
    _check_grad(grad, x.shape[:-1] + outputs)
    rows, n = math.prod(x.shape[:-1]), math.prod(outputs)
    inputs = x.shape[-1]
    made = plan("matmul", MatmulSpec.of, n, inputs, rows, True, False, x.dtype)
    out: Array = made.run(grad.reshape(rows, n), x.reshape(rows, inputs), None)
    return out.reshape(*outputs, inputs)


def linear_bias(grad_output: ArrayLike) -> Array:
    """Gradient of :func:`fastconv.functional.linear` in its bias: the sum over all axes but the last.

    Parameters
    ----------
    grad_output : array_like of shape (..., out_features)

    Returns
    -------
    ndarray of shape (out_features,)

    Raises
    ------
    ValueError, TypeError
        If there is no axis to keep or the dtype is not taken.

    Examples
    --------
    >>> linear_bias([[1.0, 2.0], [3.0, 4.0]])
    array([4., 6.])
    """
    grad = _arrays.as_floats(grad_output, "grad_output")
    if grad.ndim < 1:
        raise ValueError(f"grad_output must have shape (..., out_features), got {grad.shape}")
    rows = math.prod(grad.shape[:-1])
    view = (rows, grad.shape[-1], 1)
    out: Array = plan("channel_sum", ChannelSpec.of, *view, grad.dtype).run(grad.reshape(view))
    return out


def batch_norm(
    grad_output: ArrayLike,
    input: ArrayLike,
    mean: ArrayLike,
    inv_std: ArrayLike,
    weight: ArrayLike | None = None,
    training: bool = True,
) -> tuple[Array, Array, Array]:
    """Gradients of :func:`fastconv.functional.batch_norm` in its input, weight and bias.

    Parameters
    ----------
    grad_output, input : array_like of shape (N, C, ...)
    mean, inv_std : array_like of shape (C,)
        What the forward pass used; it returns them for ``return_stats=True``.
    weight : array_like of shape (C,), optional
    training : bool
        Whether the statistics were the batch's own, so that the gradient flows through them as well.

    Returns
    -------
    grad_input : ndarray of the input's shape
    grad_weight, grad_bias : ndarray of shape (C,)

    Raises
    ------
    ValueError, TypeError
        If shapes or dtypes do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[1.0], [3.0]])
    >>> batch_norm(np.ones((2, 1)), x, [2.0], [1.0])
    (array([[0.],
           [0.]]), array([0.]), array([2.]))
    """
    x = _arrays.as_floats(input, "input")
    grad = _arrays.as_floats_like(grad_output, "grad_output", x, "input")
    _check_grad(grad, x.shape)
    spec = BatchNormSpec.from_shape(x.shape, _arrays.dtype_name(x), bool(training))
    m = _arrays.as_vector_like(mean, "mean", spec.channels, x, "input")
    s = _arrays.as_vector_like(inv_std, "inv_std", spec.channels, x, "input")
    w = _arrays.as_vector_like(weight, "weight", spec.channels, x, "input")
    if m is None or s is None:
        raise TypeError("mean and inv_std must be arrays, got None")
    dx, dweight, dbias = run("batch_norm_backward", spec, grad, x, m, s, w, None)
    return dx, dweight, dbias


def cross_entropy(
    grad_output: ArrayLike,
    log_probs: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Array:
    """Gradient of :func:`fastconv.functional.cross_entropy` in its logits.

    Parameters
    ----------
    grad_output : float or array_like
        Of shape () or, for reduction "none", the logits' shape without C.
    log_probs : array_like of the logits' shape
        log_softmax of the logits; the forward pass returns it for ``return_log_probs=True``.
    target, weight, ignore_index, reduction, label_smoothing
        Those of the forward pass.

    Returns
    -------
    ndarray of the logits' shape

    Raises
    ------
    ValueError, TypeError
        If an argument breaks a rule; the message states it.

    Examples
    --------
    >>> import numpy as np
    >>> cross_entropy(1.0, np.log([[0.25, 0.75]]), [1]).round(4)
    array([[ 0.25, -0.25]])
    """
    logp = _arrays.as_floats(log_probs, "log_probs")
    goal = _arrays.as_target(target)
    made = plan(
        "cross_entropy_backward",
        CrossEntropySpec.of,
        *_arrays.cross_entropy_question(
            logp, goal, weight is not None, ignore_index, label_smoothing, reduction
        ),
    )
    if np.isscalar(grad_output):
        grad_output = np.asarray(grad_output, dtype=logp.dtype)
    grad = _arrays.as_floats_like(grad_output, "grad_output", logp, "log_probs")
    if reduction == "none":
        _check_grad(grad, logp.shape[:1] + logp.shape[2:] if logp.ndim > 1 else ())
        grad = grad.reshape(made.spec.batch, made.spec.inner)
    else:
        _check_grad(grad, ())
    out: Array = made.run(grad, *_arrays.cross_entropy_arrays(made.spec, logp, goal, weight))
    return out.reshape(logp.shape)


# --------------------------------------------------------------------------------------------- patches, padding


def unfold(
    grad_output: ArrayLike,
    input_size: Any,
    kernel_size: Any,
    dilation: Any = 1,
    padding: Any = 0,
    stride: Any = 1,
) -> Array:
    """Gradient of :func:`fastconv.functional.unfold`: the columns folded back.

    Parameters
    ----------
    grad_output : array_like of shape (N, C * KH * KW, OH * OW) or (C * KH * KW, OH * OW)
    input_size : tuple (N, C, H, W) or (C, H, W)
    kernel_size, dilation, padding, stride
        Those of the forward pass.

    Returns
    -------
    ndarray of shape input_size

    Raises
    ------
    ValueError, TypeError
        If an argument breaks a rule; the message states it.

    Examples
    --------
    >>> import numpy as np
    >>> unfold(np.ones((1, 2, 2)), (1, 1, 1, 3), (1, 2))
    array([[[[1., 2., 1.]]]])
    """
    size, shape = _arrays.as_input_size(input_size, 2)
    grad = _arrays.as_floats(grad_output, "grad_output")
    spec = ConvSpec.of_patches(shape, _arrays.dtype_name(grad), kernel_size, dilation, padding, stride)
    columns = (spec.batch, spec.in_channels * math.prod(spec.kernel), math.prod(spec.out_size))
    _check_grad(grad, columns if len(size) == 4 else columns[1:])
    out: Array = run("fold", spec, grad.reshape(columns))
    return out.reshape(size)


def fold(
    grad_output: ArrayLike, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Array:
    """Gradient of :func:`fastconv.functional.fold`: the image's gradient unfolded.

    Parameters
    ----------
    grad_output : array_like of shape (N, C, H, W) or (C, H, W)
    kernel_size, dilation, padding, stride
        Those of the forward pass.

    Returns
    -------
    ndarray of shape (N, C * KH * KW, OH * OW) or (C * KH * KW, OH * OW)

    Raises
    ------
    ValueError, TypeError
        If an argument breaks a rule; the message states it.

    Examples
    --------
    >>> import numpy as np
    >>> fold(np.array([[[[1.0, 2.0, 3.0]]]]), (1, 2))
    array([[[1., 2.],
            [2., 3.]]])
    """
    grad = _arrays.as_floats(grad_output, "grad_output")
    shape = _arrays.batched_shape(grad.shape, 2, "grad_output")
    spec = ConvSpec.of_patches(shape, _arrays.dtype_name(grad), kernel_size, dilation, padding, stride)
    out: Array = run("unfold", spec, grad.reshape(shape))
    return out if grad.ndim == 4 else out.reshape(out.shape[1:])


def pad(grad_output: ArrayLike, input_size: Any, pad: Any, mode: str = "constant") -> Array:
    """Gradient of :func:`fastconv.functional.pad`: each padded element's gradient goes where it was copied from.

    Parameters
    ----------
    grad_output : array_like
    input_size : tuple of int
        Shape of the forward pass' input.
    pad, mode
        Those of the forward pass.

    Returns
    -------
    ndarray of shape input_size

    Raises
    ------
    ValueError, TypeError
        If an argument breaks a rule; the message states it.

    Examples
    --------
    >>> pad([[1.0, 2.0, 3.0, 4.0]], (1, 2), (1, 1), mode="replicate")
    array([[3., 7.]])
    """
    size = as_shape(input_size, "input_size")
    grad = _arrays.as_floats(grad_output, "grad_output")
    made = plan("pad_backward", pad_spec, size, *frozen(pad, mode, None), _arrays.dtype_name(grad))
    spec = made.spec
    _check_grad(grad, size[: len(size) - len(spec.in_shape)] + spec.out_shape)
    if not spec.in_shape:
        return grad.copy()
    out: Array = made.run(grad.reshape(spec.outer, *spec.out_shape))
    return out.reshape(size)
