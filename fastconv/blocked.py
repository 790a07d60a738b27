"""Operations on the blocked layout, for nets that keep it from layer to layer.

A blocked array has shape (N, blocks, *space, lanes): channel c is lane ``c % lanes`` of block ``c // lanes``, and the
lanes of one position fill a cache line, 16 in float32 and 8 in float64 (other libraries call it NCHW16c).  What the
lanes behind the last channel hold is of no account.  Functions of one element, such as a sum of two arrays or
:func:`fastconv.functional.relu`, work on blocked arrays as they are.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike, NDArray

from fastconv import _arrays
from fastconv._dispatch import AUTO, plan, run
from fastconv._spec import (
    LayoutSpec,
    as_epilogue,
    as_int,
    as_max_error,
    blocked_shape,
    conv_spec,
    frozen,
    pool_spec,
)

__all__ = ["avg_pool2d", "conv2d", "from_blocked", "max_pool2d", "stem2d", "to_blocked"]

Array = NDArray[Any]


def to_blocked(input: ArrayLike) -> Array:
    """An array in the blocked layout.

    Parameters
    ----------
    input : array_like of shape (N, C, *space)
        float32 or float64.

    Returns
    -------
    ndarray of shape (N, ceil(C / lanes), *space, lanes)
        Zeros behind the last channel.

    Raises
    ------
    TypeError, ValueError
        If the input is no array of floats with channels.

    Examples
    --------
    >>> import numpy as np
    >>> to_blocked(np.ones((2, 20, 7, 5), "float32")).shape
    (2, 2, 7, 5, 16)
    """
    x = _arrays.as_floats(input, "input")
    if x.ndim < 2:
        raise ValueError(f"input must have shape (N, C, ...), got {x.shape}")
    result: Array = run("block", LayoutSpec(planes_shape=x.shape, dtype=_arrays.dtype_name(x)), x)
    return result


def from_blocked(blocked: ArrayLike, channels: int) -> Array:
    """The plain array (N, channels, *space) of a blocked one.

    Raises
    ------
    TypeError, ValueError
        If the array is not blocked, or does not hold that many channels.
    """
    b = _arrays.as_floats(blocked, "blocked")
    shape = _arrays.planes_shape(b, "blocked", b.ndim - 3, as_int(channels, "channels"))
    result: Array = run("unblock", LayoutSpec(planes_shape=shape, dtype=_arrays.dtype_name(b)), b)
    return result


def conv2d(
    input: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    activation: str | None = None,
    negative_slope: float = 0.01,
    residual: ArrayLike | None = None,
    algorithm: str = AUTO,
    max_error: float | None = None,
) -> Array:
    """``activation(conv(input, weight) + bias + residual)`` of blocked images.

    Parameters
    ----------
    input : array_like of shape (N, ceil(C / lanes), H, W, lanes)
    weight : array_like of shape (K, C / groups, KH, KW)
    bias : array_like of shape (K,), optional
    stride, padding, dilation, groups, algorithm, max_error
        As in :func:`fastconv.functional.conv2d`.
    activation, negative_slope
        As in :func:`fastconv.prepare`, which is the way to call it often: ``prepare(..., layout="blocked")``.
    residual : array_like, optional
        Blocked, of the result's shape.

    Returns
    -------
    ndarray of shape (N, ceil(K / lanes), OH, OW, lanes)

    Raises
    ------
    TypeError, ValueError
        As in :func:`fastconv.functional.conv2d`, and if input or residual are not blocked.
    """
    x = _arrays.as_floats(input, "input")
    w = _arrays.as_floats_like(weight, "weight", x, "input")
    _check_weight(w)
    shape = _arrays.planes_shape(x, "input", 2, w.shape[1] * as_int(groups, "groups"))
    options = (stride, padding, dilation, groups, activation, negative_slope, algorithm, max_error)
    return _conv("blocked_conv_forward", x, shape, w, bias, residual, *options)


def stem2d(
    input: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    activation: str | None = None,
    negative_slope: float = 0.01,
    residual: ArrayLike | None = None,
    algorithm: str = AUTO,
    max_error: float | None = None,
) -> Array:
    """:func:`conv2d` of plain images (N, C, H, W): the first layer of a net, whose few channels fill no block."""
    x = _arrays.as_images(input, "input")
    w = _arrays.as_floats_like(weight, "weight", x, "input")
    _check_weight(w)
    options = (stride, padding, dilation, groups, activation, negative_slope, algorithm, max_error)
    return _conv("blocked_stem_forward", x, x.shape, w, bias, residual, *options)


def max_pool2d(
    input: ArrayLike,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> Array:
    """:func:`fastconv.functional.max_pool2d` of blocked images, without indices."""
    arguments = (kernel_size, stride, padding, dilation, ceil_mode, True, None)
    return _pool("blocked_max_pool_forward", input, *arguments)


def avg_pool2d(
    input: ArrayLike,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Array:
    """:func:`fastconv.functional.avg_pool2d` of blocked images."""
    arguments = (kernel_size, stride, padding, 1, ceil_mode, count_include_pad, divisor_override)
    return _pool("blocked_avg_pool_forward", input, *arguments)


def _check_weight(weight: Array) -> None:
    if weight.ndim != 4:
        raise ValueError(f"weight must have shape (K, C / groups, KH, KW), got {weight.shape}")


def _conv(
    op: str,
    x: Array,
    shape: tuple[int, ...],
    w: Array,
    bias: ArrayLike | None,
    residual: ArrayLike | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    activation: str | None,
    negative_slope: float,
    algorithm: str,
    max_error: float | None,
) -> Array:
    made = plan(
        op,
        conv_spec,
        shape,
        w.shape,
        _arrays.dtype_name(x),
        *frozen(stride, padding, dilation, groups),
        *as_epilogue(activation, negative_slope),
        algorithm=algorithm,
        max_error=as_max_error(max_error),
    )
    b = _arrays.as_vector_like(bias, "bias", made.spec.out_channels, x, "input")
    added = None
    if residual is not None:
        added = _arrays.as_floats_like(residual, "residual", x, "input")
        _arrays.check_shape(added, blocked_shape(made.spec.output_shape, made.spec.dtype), "residual")
    result: Array = made.run(x, w, b, None, added)
    return result


def _pool(op: str, input: ArrayLike, *arguments: Any) -> Array:
    x = _arrays.as_floats(input, "input")
    shape = _arrays.planes_shape(x, "input", 2)
    kernel_size, stride, padding, dilation, ceil_mode, count_include_pad, divisor_override = arguments
    made = plan(
        op,
        pool_spec,
        shape,
        _arrays.dtype_name(x),
        *frozen(kernel_size, stride, padding, dilation),
        bool(ceil_mode),
        bool(count_include_pad),
        divisor_override,
    )
    result: Array = made.run(x)
    return result
