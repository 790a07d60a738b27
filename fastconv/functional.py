"""The ops on arrays, named and ordered as in ``torch.nn.functional``, with PyTorch's semantics.

Arrays are NumPy float32 or float64, channels first; whatever converts to them (strided, read-only, byte-swapped,
``__array__``, ``__dlpack__``) is taken, copied where needed and never modified.  Inputs without a batch axis are taken
where PyTorch takes them.  Mistakes raise ValueError or TypeError that state the rule and the value.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastconv import _arrays
from fastconv._config import draw_seed
from fastconv._dispatch import AUTO, Plan, plan, run
from fastconv._spec import (
    ActivationSpec,
    BatchNormSpec,
    ConvSpec,
    CrossEntropySpec,
    DropBlockSpec,
    DropoutSpec,
    MatmulSpec,
    PlaneSpec,
    Shape,
    SoftmaxSpec,
    adaptive_pool_spec,
    as_int,
    as_int_tuple,
    as_max_error,
    as_probability,
    as_shape,
    as_slope,
    conv_spec,
    conv_transpose_spec,
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
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "cross_entropy",
    "drop_block2d",
    "dropout",
    "dropout2d",
    "fold",
    "leaky_relu",
    "linear",
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


def _conv(
    ndim: int,
    input: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    algorithm: str,
    max_error: float | None,
    out: Array | None,
) -> Array:
    x = _arrays.as_floats(input, "input")
    w = _arrays.as_floats_like(weight, "weight", x, "input")
    _check_weight(w, ndim)
    made = plan(
        "conv_forward",
        conv_spec,
        _arrays.batched_shape(x.shape, ndim, "input"),
        w.shape,
        _arrays.dtype_name(x),
        *frozen(stride, padding, dilation, groups),
        algorithm=algorithm,
        max_error=as_max_error(max_error),
    )
    spec = made.spec
    b = _arrays.as_vector_like(bias, "bias", spec.out_channels, x, "input")
    if out is not None:
        _arrays.as_out(out, spec.output_shape[-x.ndim :], x.dtype, input, weight, bias, x, w, b)
        made.run(x.reshape(spec.input_shape), w, b, out.reshape(spec.output_shape))
        return out
    result: Array = made.run(_arrays.batched(x, ndim), w, b, None)
    return _arrays.unbatched(result, x)


def _conv_transpose(
    ndim: int,
    input: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: Any,
    dilation: Any,
    algorithm: str,
    max_error: float | None,
    out: Array | None,
) -> Array:
    x = _arrays.as_floats(input, "input")
    w = _arrays.as_floats_like(weight, "weight", x, "input")
    _check_weight(w, ndim)
    made = plan(
        "conv_input_grad",
        conv_transpose_spec,
        _arrays.batched_shape(x.shape, ndim, "input"),
        w.shape,
        _arrays.dtype_name(x),
        *frozen(stride, padding, output_padding, groups, dilation),
        algorithm=algorithm,
        max_error=as_max_error(max_error),
    )
    spec = made.spec
    b = _arrays.as_vector_like(bias, "bias", spec.in_channels, x, "input")
    if out is not None:
        _arrays.as_out(out, spec.input_shape[-x.ndim :], x.dtype, input, weight, bias, x, w, b)
        made.run(x.reshape(spec.output_shape), w, b, out.reshape(spec.input_shape))
        return out
    result: Array = made.run(_arrays.batched(x, ndim), w, b, None)
    return _arrays.unbatched(result, x)


def _check_weight(weight: Array, ndim: int) -> None:
    if weight.ndim != ndim + 2:
        raise ValueError(f"weight must have {ndim + 2} dimensions, got shape {weight.shape}")


def conv1d(
    input: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    algorithm: str = AUTO,
    max_error: float | None = None,
    out: Array | None = None,
) -> Array:
    """One-dimensional cross-correlation; see :func:`conv2d` for everything but the shapes.

    Parameters
    ----------
    input : array_like of shape (N, C, L) or (C, L)
    weight : array_like of shape (K, C / groups, KL)
    bias : array_like of shape (K,), optional
    stride, dilation : int or tuple of 1 int
    padding : int, tuple of 1 int, (left, right), "valid" or "same"
    groups : int
    algorithm, max_error, out
        As in :func:`conv2d`.

    Returns
    -------
    ndarray of shape (N, K, OL) or (K, OL)
        ``OL = floor((L + left + right - dilation * (KL - 1) - 1) / stride) + 1``.

    Raises
    ------
    ValueError, TypeError
        If an argument breaks a rule; the message states it.

    Examples
    --------
    >>> import numpy as np
    >>> conv1d(np.array([[[1.0, 2.0, 4.0, 8.0]]]), np.array([[[1.0, -1.0]]]))
    array([[[-1., -2., -4.]]])
    """
    return _conv(1, input, weight, bias, stride, padding, dilation, groups, algorithm, max_error, out)


def conv2d(
    input: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    algorithm: str = AUTO,
    max_error: float | None = None,
    out: Array | None = None,
) -> Array:
    """Two-dimensional cross-correlation, the convolution of neural networks (the kernel is not flipped).

    Parameters
    ----------
    input : array_like of shape (N, C, H, W) or (C, H, W)
        float32 or float64; an NHWC array is taken as ``x.transpose(0, 3, 1, 2)``.
    weight : array_like of shape (K, C / groups, KH, KW)
        Of the input's dtype.
    bias : array_like of shape (K,), optional
    stride, dilation : int or tuple of 2 ints
        At least 1.
    padding : int, tuple of 2 ints, (top, bottom, left, right), "valid" or "same"
        Zeros around the input.  ``"same"`` keeps the size, needs stride 1 and puts an odd zero at the high side.
    groups : int
        Channels are split into this many independent convolutions.
    algorithm : str
        ``"auto"`` or the name of an implementation, see :func:`fastconv.explain_choice`.
    max_error : float, optional
        Largest acceptable a-priori error bound, as a multiple of that of the plain sum of n products,
        ``n * eps * max|input| * sum|weight|``: 1 asks for plain sums, 16 admits Winograd's F(2 x 2, 3 x 3), 176
        F(4 x 4, 3 x 3) and 1565 F(6 x 6, 3 x 3).  By default float32 takes F(2 x 2) and F(4 x 4), whose measured errors
        are some 1e-6 of the largest result, and float64 plain sums.
    out : ndarray, optional
        Receives the result: C-contiguous, of the result's shape and dtype, sharing no memory with the inputs.

    Returns
    -------
    ndarray of shape (N, K, OH, OW) or (K, OH, OW)
        ``OH = floor((H + top + bottom - dilation * (KH - 1) - 1) / stride) + 1``, OW alike.  Denormal numbers, among
        inputs and results alike, may be taken as zero.

    Raises
    ------
    TypeError
        If an array is neither float32 nor float64, the dtypes differ, or a count is not an integer.
    ValueError
        If shapes do not fit each other, the padded input is smaller than the effective kernel, an implementation
        asked for by name does not serve the call, or ``out`` is unfit.

    References
    ----------
    Dumoulin, Visin: "A guide to convolution arithmetic for deep learning", arXiv 1603.07285.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.arange(9.0).reshape(1, 1, 3, 3)
    >>> conv2d(x, np.ones((1, 1, 2, 2)))
    array([[[[ 8., 12.],
             [20., 24.]]]])
    """
    return _conv(2, input, weight, bias, stride, padding, dilation, groups, algorithm, max_error, out)


def conv3d(
    input: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    algorithm: str = AUTO,
    max_error: float | None = None,
    out: Array | None = None,
) -> Array:
    """Three-dimensional cross-correlation; see :func:`conv2d` for everything but the shapes.

    Parameters
    ----------
    input : array_like of shape (N, C, D, H, W) or (C, D, H, W)
    weight : array_like of shape (K, C / groups, KD, KH, KW)
    bias : array_like of shape (K,), optional
    stride, dilation : int or tuple of 3 ints
    padding : int, tuple of 3 ints, (front, back, top, bottom, left, right), "valid" or "same"
    groups : int
    algorithm, max_error, out
        As in :func:`conv2d`.

    Returns
    -------
    ndarray of shape (N, K, OD, OH, OW) or (K, OD, OH, OW)
        ``OD = floor((D + front + back - dilation * (KD - 1) - 1) / stride) + 1``, OH and OW alike.

    Raises
    ------
    ValueError, TypeError
        If an argument breaks a rule; the message states it.

    Examples
    --------
    >>> import numpy as np
    >>> conv3d(np.ones((1, 1, 2, 2, 2)), np.ones((1, 1, 2, 2, 2)))
    array([[[[[8.]]]]])
    """
    return _conv(3, input, weight, bias, stride, padding, dilation, groups, algorithm, max_error, out)


def conv_transpose1d(
    input: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    *,
    algorithm: str = AUTO,
    max_error: float | None = None,
    out: Array | None = None,
) -> Array:
    """One-dimensional transposed convolution; see :func:`conv_transpose2d` for everything but the shapes.

    Parameters
    ----------
    input : array_like of shape (N, C, L) or (C, L)
    weight : array_like of shape (C, K / groups, KL)
    bias : array_like of shape (K,), optional
    stride, output_padding, dilation : int or tuple of 1 int
    padding : int, tuple of 1 int or (left, right)
    groups : int
    algorithm, max_error, out
        As in :func:`conv2d`.

    Returns
    -------
    ndarray of shape (N, K, OL) or (K, OL)
        ``OL = (L - 1) * stride - left - right + dilation * (KL - 1) + output_padding + 1``.

    Raises
    ------
    ValueError, TypeError
        If an argument breaks a rule; the message states it.

    Examples
    --------
    >>> import numpy as np
    >>> conv_transpose1d(np.array([[[1.0, 2.0]]]), np.array([[[1.0, 10.0]]]), stride=2)
    array([[[ 1., 10.,  2., 20.]]])
    """
    return _conv_transpose(
        1, input, weight, bias, stride, padding, output_padding, groups, dilation, algorithm, max_error, out
    )


def conv_transpose2d(
    input: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    *,
    algorithm: str = AUTO,
    max_error: float | None = None,
    out: Array | None = None,
) -> Array:
    """Two-dimensional transposed convolution: the gradient of :func:`conv2d` in its input, used forwards.

    Parameters
    ----------
    input : array_like of shape (N, C, H, W) or (C, H, W)
    weight : array_like of shape (C, K / groups, KH, KW)
    bias : array_like of shape (K,), optional
    stride, dilation : int or tuple of 2 ints
    padding : int, tuple of 2 ints or (top, bottom, left, right)
        Taken off the result's sides.
    output_padding : int or tuple of 2 ints
        Added to the result's high sides to choose among the sizes that a strided convolution maps to one; smaller
        than stride or dilation.
    groups : int
    algorithm, max_error, out
        As in :func:`conv2d`.

    Returns
    -------
    ndarray of shape (N, K, OH, OW) or (K, OH, OW)
        ``OH = (H - 1) * stride - top - bottom + dilation * (KH - 1) + output_padding + 1``, OW alike.

    Raises
    ------
    ValueError, TypeError
        If an argument breaks a rule; the message states it.

    References
    ----------
    Dumoulin, Visin: "A guide to convolution arithmetic for deep learning", arXiv 1603.07285.

    Examples
    --------
    >>> import numpy as np
    >>> conv_transpose2d(np.array([[[[1.0, 2.0]]]]), np.ones((1, 1, 1, 2)))
    array([[[[1., 3., 2.]]]])
    """
    return _conv_transpose(
        2, input, weight, bias, stride, padding, output_padding, groups, dilation, algorithm, max_error, out
    )


# ------------------------------------------------------------------------------------------------------ pooling


def _max_pool(
    ndim: int,
    input: ArrayLike,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    return_indices: bool,
    index_dtype: str,
) -> Any:
    if index_dtype not in ("int64", "uint8"):
        raise ValueError(f"index_dtype must be 'int64' or 'uint8', got {index_dtype!r}")
    x = _arrays.as_floats(input, "input")
    shape = _arrays.batched_shape(x.shape, ndim, "input")
    made = plan(
        "max_pool_forward",
        pool_spec,
        shape,
        _arrays.dtype_name(x),
        *frozen(kernel_size, stride, padding, dilation),
        bool(ceil_mode),
        True,
        None,
    )
    spec = made.spec
    if index_dtype == "uint8" and math.prod(spec.kernel) > 256:
        raise ValueError(
            f"index_dtype 'uint8' holds offsets in a window of at most 256 elements, got kernel_size {kernel_size!r}"
        )
    planes = _arrays.as_planes(x, spec.input_shape)
    out, indices = made.run(planes, index_dtype if return_indices else None)
    out = _arrays.from_planes(out, x, ndim)
    return (out, _arrays.from_planes(indices, x, ndim)) if return_indices else out


def max_pool1d(
    input: ArrayLike,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    index_dtype: str = "int64",
) -> Any:
    """Maximum of every window of a sequence; see :func:`max_pool2d` for everything but the shapes.

    Parameters
    ----------
    input : array_like of shape (N, C, L) or (C, L)
    kernel_size, stride, padding, dilation : int or tuple of 1 int
    ceil_mode, return_indices, index_dtype
        As in :func:`max_pool2d`.

    Returns
    -------
    ndarray of shape (N, C, OL) or (C, OL), or a pair of them with the indices
        ``OL = floor((L + 2 * padding - dilation * (kernel_size - 1) - 1) / stride) + 1``, rounded up in ceil_mode.

    Raises
    ------
    ValueError, TypeError
        If an argument breaks a rule; the message states it.

    Examples
    --------
    >>> import numpy as np
    >>> max_pool1d(np.array([[[1.0, 5.0, 2.0, 2.0]]]), 2, return_indices=True)
    (array([[[5., 2.]]]), array([[[1, 2]]]))
    """
    return _max_pool(1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices, index_dtype)


def max_pool2d(
    input: ArrayLike,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    index_dtype: str = "int64",
) -> Any:
    """Maximum of every window of an image.

    Parameters
    ----------
    input : array_like of shape (N, C, H, W) or (C, H, W)
    kernel_size, dilation : int or tuple of 2 ints
    stride : int or tuple of 2 ints, optional
        The kernel size by default.
    padding : int or tuple of 2 ints
        At most half the kernel size; padding counts as -inf.  A window that dilation takes past every element is
        refused (PyTorch gives it an index outside the plane).
    ceil_mode : bool
        Round the output size up, but let no window start in the high padding.
    return_indices : bool
        Also return where the maxima are.
    index_dtype : {"int64", "uint8"}
        ``"int64"``: flat index in the (H, W) plane, as PyTorch.  ``"uint8"``: offset ``kh * KW + kw`` inside the
        window, one byte an output, for windows of at most 256 elements; the backward pass takes both.

    Returns
    -------
    ndarray of shape (N, C, OH, OW) or (C, OH, OW), or a pair of them with the indices
        ``OH = floor((H + 2 * padding - dilation * (KH - 1) - 1) / stride) + 1``, rounded up in ceil_mode; OW alike.

    Raises
    ------
    ValueError, TypeError
        If an argument breaks a rule; the message states it.

    Notes
    -----
    The first of equal maxima in row-major order wins.  A NaN in the window is its maximum, the last one if several.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[[[1.0, 7.0], [7.0, 2.0]]]])
    >>> max_pool2d(x, 2, return_indices=True)
    (array([[[[7.]]]]), array([[[[1]]]]))
    """
    return _max_pool(2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices, index_dtype)


def _avg_pool(
    ndim: int,
    input: ArrayLike,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Array:
    x = _arrays.as_floats(input, "input")
    made = plan(
        "avg_pool_forward",
        pool_spec,
        _arrays.batched_shape(x.shape, ndim, "input"),
        _arrays.dtype_name(x),
        *frozen(kernel_size, stride, padding),
        1,
        bool(ceil_mode),
        bool(count_include_pad),
        *frozen(divisor_override),
    )
    return _arrays.from_planes(made.run(_arrays.as_planes(x, made.spec.input_shape)), x, ndim)


def avg_pool1d(
    input: ArrayLike,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    """Mean of every window of a sequence; see :func:`avg_pool2d` for everything but the shapes.

    Parameters
    ----------
    input : array_like of shape (N, C, L) or (C, L)
    kernel_size, stride, padding : int or tuple of 1 int
    ceil_mode, count_include_pad : bool

    Returns
    -------
    ndarray of shape (N, C, OL) or (C, OL)
        ``OL = floor((L + 2 * padding - kernel_size) / stride) + 1``, rounded up in ceil_mode.

    Raises
    ------
    ValueError, TypeError
        If an argument breaks a rule; the message states it.

    Examples
    --------
    >>> import numpy as np
    >>> avg_pool1d(np.array([[[1.0, 3.0, 5.0, 7.0]]]), 2)
    array([[[2., 6.]]])
    """
    return _avg_pool(1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


def avg_pool2d(
    input: ArrayLike,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Array:
    """Mean of every window of an image.

    Parameters
    ----------
    input : array_like of shape (N, C, H, W) or (C, H, W)
    kernel_size : int or tuple of 2 ints
    stride : int or tuple of 2 ints, optional
        The kernel size by default.
    padding : int or tuple of 2 ints
        Zeros around the input, at most half the kernel size.
    ceil_mode : bool
        Round the output size up, but let no window start in the high padding.
    count_include_pad : bool
        Whether zeros of the padding count in the divisor; what hangs over the padding never does.
    divisor_override : int, optional
        Divide every window's sum by this instead.

    Returns
    -------
    ndarray of shape (N, C, OH, OW) or (C, OH, OW)
        ``OH = floor((H + 2 * padding - KH) / stride) + 1``, rounded up in ceil_mode; OW alike.

    Raises
    ------
    ValueError, TypeError
        If an argument breaks a rule; the message states it.

    Examples
    --------
    >>> import numpy as np
    >>> avg_pool2d(np.arange(16.0).reshape(1, 1, 4, 4), 2)
    array([[[[ 2.5,  4.5],
             [10.5, 12.5]]]])
    """
    return _avg_pool(2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def _adaptive(op: str, ndim: int, x: Array, output_size: Any) -> Plan:
    shape = _arrays.batched_shape(x.shape, ndim, "input")
    return plan(op, adaptive_pool_spec, shape, _arrays.dtype_name(x), *frozen(output_size))


def _adaptive_avg_pool(ndim: int, input: ArrayLike, output_size: Any) -> Array:
    x = _arrays.as_floats(input, "input")
    made = _adaptive("adaptive_avg_pool_forward", ndim, x, output_size)
    return _arrays.from_planes(made.run(_arrays.as_planes(x, made.spec.input_shape)), x, ndim)


def _adaptive_max_pool(ndim: int, input: ArrayLike, output_size: Any, return_indices: bool) -> Any:
    x = _arrays.as_floats(input, "input")
    made = _adaptive("adaptive_max_pool_forward", ndim, x, output_size)
    out, indices = made.run(_arrays.as_planes(x, made.spec.input_shape))
    out = _arrays.from_planes(out, x, ndim)
    return (out, _arrays.from_planes(indices, x, ndim)) if return_indices else out


def adaptive_avg_pool1d(input: ArrayLike, output_size: Any) -> Array:
    """Mean over as many windows as asked for; see :func:`adaptive_avg_pool2d`.

    Parameters
    ----------
    input : array_like of shape (N, C, L) or (C, L)
    output_size : int, None or tuple of 1

    Returns
    -------
    ndarray of shape (N, C, output_size) or (C, output_size)

    Raises
    ------
    ValueError, TypeError
        If an argument breaks a rule; the message states it.

    Examples
    --------
    >>> import numpy as np
    >>> adaptive_avg_pool1d(np.array([[[1.0, 2.0, 6.0]]]), 2)
    array([[[1.5, 4. ]]])
    """
    return _adaptive_avg_pool(1, input, output_size)


def adaptive_avg_pool2d(input: ArrayLike, output_size: Any) -> Array:
    """Mean over as many windows as asked for; ``output_size`` 1 is global average pooling.

    Parameters
    ----------
    input : array_like of shape (N, C, H, W) or (C, H, W)
    output_size : int, None or tuple of 2
        None keeps the input's size.

    Returns
    -------
    ndarray of shape (N, C, OH, OW) or (C, OH, OW)
        Window i covers rows ``floor(i * H / OH)`` up to ``ceil((i + 1) * H / OH)``, columns alike.

    Raises
    ------
    ValueError, TypeError
        If an argument breaks a rule; the message states it.

    References
    ----------
    Lin, Chen, Yan: "Network in network", arXiv 1312.4400.

    Examples
    --------
    >>> import numpy as np
    >>> adaptive_avg_pool2d(np.arange(4.0).reshape(1, 1, 2, 2), 1)
    array([[[[1.5]]]])
    """
    return _adaptive_avg_pool(2, input, output_size)


def adaptive_max_pool1d(input: ArrayLike, output_size: Any, return_indices: bool = False) -> Any:
    """Maximum over as many windows as asked for; see :func:`adaptive_max_pool2d`.

    Parameters
    ----------
    input : array_like of shape (N, C, L) or (C, L)
    output_size : int, None or tuple of 1
    return_indices : bool

    Returns
    -------
    ndarray of shape (N, C, output_size) or (C, output_size), or a pair of them with the int64 indices

    Raises
    ------
    ValueError, TypeError
        If an argument breaks a rule; the message states it.

    Examples
    --------
    >>> import numpy as np
    >>> adaptive_max_pool1d(np.array([[[1.0, 2.0, 6.0]]]), 2)
    array([[[2., 6.]]])
    """
    return _adaptive_max_pool(1, input, output_size, return_indices)


def adaptive_max_pool2d(input: ArrayLike, output_size: Any, return_indices: bool = False) -> Any:
    """Maximum over as many windows as asked for, windows as in :func:`adaptive_avg_pool2d`.

    Parameters
    ----------
    input : array_like of shape (N, C, H, W) or (C, H, W)
    output_size : int, None or tuple of 2
        None keeps the input's size.
    return_indices : bool
        Also return the flat int64 indices in the (H, W) plane.

    Returns
    -------
    ndarray of shape (N, C, OH, OW) or (C, OH, OW), or a pair of them with the indices
        Ties and NaN as in :func:`max_pool2d`.

    Raises
    ------
    ValueError, TypeError
        If an argument breaks a rule; the message states it.

    Examples
    --------
    >>> import numpy as np
    >>> adaptive_max_pool2d(np.arange(4.0).reshape(1, 1, 2, 2), 1, return_indices=True)
    (array([[[[3.]]]]), array([[[[3]]]]))
    """
    return _adaptive_max_pool(2, input, output_size, return_indices)


def _unpool_size(
    ndim: int, shape: Shape, kernel_size: Any, stride: Any, padding: Any, output_size: Any
) -> Shape:
    """Spatial size of an unpooled array: the asked one, checked to be within a stride of the natural one."""
    kernel = as_int_tuple(kernel_size, ndim, "kernel_size", 1)
    steps = kernel if stride is None else as_int_tuple(stride, ndim, "stride", 1)
    sides = as_int_tuple(padding, ndim, "padding", 0)
    natural = tuple(
        (n - 1) * s - 2 * p + k for n, s, p, k in zip(shape[-ndim:], steps, sides, kernel, strict=True)
    )
    if output_size is None:
        if min(natural) < 1:
            raise ValueError(f"the unpooled size must be >= 1, got {natural}")
        return natural
    asked = as_shape(output_size, "output_size")
    size = as_int_tuple(asked[-ndim:] if len(asked) == len(shape) else asked, ndim, "output_size", 1)
    for n, middle, s in zip(size, natural, steps, strict=True):
        if not middle - s < n < middle + s:
            raise ValueError(
                f"output_size must be between {middle - s + 1} and {middle + s - 1} here, got {output_size!r}"
            )
    return size


def _max_unpool(
    ndim: int,
    input: ArrayLike,
    indices: ArrayLike,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    output_size: Any,
) -> Array:
    x = _arrays.as_floats(input, "input")
    shape = _arrays.batched_shape(x.shape, ndim, "input")
    where = _arrays.as_indices(indices, "indices")
    _arrays.check_shape(where, x.shape, "indices")
    size = _unpool_size(ndim, x.shape, kernel_size, stride, padding, output_size)
    _arrays.check_in_plane(where, math.prod(size))
    spec = PlaneSpec(
        batch=shape[0],
        channels=shape[1],
        in_plane=math.prod(shape[2:]),
        out_plane=math.prod(size),
        accumulate=False,
        dtype=_arrays.dtype_name(x),
    )
    flat = (*shape[:2], spec.in_plane)
    out: Array = run("scatter_planes", spec, x.reshape(flat), where.reshape(flat))
    return out.reshape(_arrays.pooled_shape(x.shape, size, ndim))


def max_unpool1d(
    input: ArrayLike,
    indices: ArrayLike,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> Array:
    """Put maxima back where :func:`max_pool1d` found them; see :func:`max_unpool2d`.

    Parameters
    ----------
    input : array_like of shape (N, C, L) or (C, L)
    indices : array_like of int64 and the same shape
    kernel_size, stride, padding : int or tuple of 1 int
    output_size : tuple of int, optional

    Returns
    -------
    ndarray of shape (N, C, OL) or (C, OL)
        ``OL = (L - 1) * stride - 2 * padding + kernel_size`` unless ``output_size`` says otherwise.

    Raises
    ------
    ValueError, TypeError
        If an argument breaks a rule; the message states it.

    Examples
    --------
    >>> import numpy as np
    >>> max_unpool1d(np.array([[[5.0, 2.0]]]), np.array([[[1, 2]]]), 2)
    array([[[0., 5., 2., 0.]]])
    """
    return _max_unpool(1, input, indices, kernel_size, stride, padding, output_size)


def max_unpool2d(
    input: ArrayLike,
    indices: ArrayLike,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> Array:
    """Put maxima back where :func:`max_pool2d` found them, zeros elsewhere.

    Parameters
    ----------
    input : array_like of shape (N, C, H, W) or (C, H, W)
    indices : array_like of int64 and the same shape
        Flat indices in the output plane; where several name one element, the last in row-major order stays.
    kernel_size, stride, padding : int or tuple of 2 ints
        Those of the pooling.
    output_size : tuple of int, optional
        Spatial size, or whole shape, of the result; less than a stride away from the default.

    Returns
    -------
    ndarray of shape (N, C, OH, OW) or (C, OH, OW)
        ``OH = (H - 1) * stride - 2 * padding + KH`` unless ``output_size`` says otherwise; OW alike.

    Raises
    ------
    TypeError
        If the indices are not int64.
    ValueError
        If an index lies outside the output plane, or another argument breaks a rule.

    Examples
    --------
    >>> import numpy as np
    >>> max_unpool2d(np.array([[[[7.0]]]]), np.array([[[[1]]]]), 2)
    array([[[[0., 7.],
             [0., 0.]]]])
    """
    return _max_unpool(2, input, indices, kernel_size, stride, padding, output_size)


# ------------------------------------------------------------------------------------------------------ dropout


def _masked(
    x: Array,
    bits: int,
    inner: int,
    p: Any,
    training: bool,
    seed: Any,
    offset: Any,
    mask: Any,
    return_mask: bool,
) -> Any:
    """Dropout of ``x``, one mask bit per ``inner`` elements."""
    p = as_probability(p)
    if mask is not None and seed is not None:
        raise ValueError("give a seed or a mask, not both")
    if not training:
        return (x.copy(), None) if return_mask else x.copy()
    if mask is None:
        spec = DropoutSpec.from_args(bits, inner, p, draw_seed() if seed is None else seed, offset)
        out, packed = run("dropout_forward", spec, x)
    else:
        spec = DropoutSpec.from_args(bits, inner, p, 0, 0)
        packed = _arrays.as_mask(mask, bits)
        out = run("dropout_apply", spec, x, packed)
    return (out, packed) if return_mask else out


def dropout(
    input: ArrayLike,
    p: float = 0.5,
    training: bool = True,
    *,
    seed: int | None = None,
    offset: int = 0,
    mask: ArrayLike | None = None,
    return_mask: bool = False,
) -> Any:
    """Zero each element with probability ``p`` and divide the others by ``1 - p`` (inverted dropout).

    Parameters
    ----------
    input : array_like of any shape
    p : float
        Probability of dropping, honoured to 2**-17; 1 drops everything.
    training : bool
        False returns a copy of the input (and None for the mask).
    seed : int, optional
        In [0, 2**64).  None draws one from the generator that :func:`fastconv.manual_seed` seeds.
    offset : int
        Number of the first element in the seed's stream.  The decision on element i is a pure function of
        ``(seed, offset + i)``: the same on every backend, for any thread count and any split of the batch.
    mask : array_like of uint8, shape (ceil(size / 8),), optional
        Keep-bits of a former call, instead of a seed.
    return_mask : bool
        Also return the mask: bit i of the flat array, 1 = kept, is ``mask[i // 8] >> (i % 8) & 1``.

    Returns
    -------
    ndarray of the input's shape, or a pair of it and the packed mask
        As in PyTorch a dropped element is multiplied by 0, so a dropped NaN or infinity is NaN.

    Raises
    ------
    ValueError, TypeError
        If an argument breaks a rule; the message states it.

    References
    ----------
    Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov: "Dropout", JMLR 15, 2014.
    Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011.

    Examples
    --------
    >>> import numpy as np
    >>> y, mask = dropout(np.ones(8), 0.5, seed=1, return_mask=True)
    >>> bool(np.all(y == 2.0 * np.unpackbits(mask, bitorder="little")))
    True
    """
    x = _arrays.as_floats(input, "input")
    return _masked(x, x.size, 1, p, training, seed, offset, mask, return_mask)


def dropout2d(
    input: ArrayLike,
    p: float = 0.5,
    training: bool = True,
    *,
    seed: int | None = None,
    offset: int = 0,
    mask: ArrayLike | None = None,
    return_mask: bool = False,
) -> Any:
    """Drop whole channels of an image batch.

    Parameters
    ----------
    input : array_like of shape (N, C, H, W)
        Three axes are refused: PyTorch reads them as (N, C, L) now and announces (C, H, W), so say which you mean by
        ``x[:, :, None]`` or ``x[None]``.
    p, training, seed, offset, return_mask
        As in :func:`dropout`.
    mask : array_like of uint8, shape (ceil(N * C / 8),), optional
        One bit a channel.

    Returns
    -------
    ndarray of shape (N, C, H, W), or a pair of it and the packed mask

    Raises
    ------
    ValueError, TypeError
        If an argument breaks a rule; the message states it.

    References
    ----------
    Tompson, Goroshin, Jain, LeCun, Bregler: "Efficient object localization using convolutional networks",
    arXiv 1411.4280.

    Examples
    --------
    >>> import numpy as np
    >>> y = dropout2d(np.ones((1, 3, 2, 2)), 0.5, seed=0)
    >>> [len(np.unique(channel)) for channel in y[0]]
    [1, 1, 1]
    """
    x = _arrays.as_images(input, "input")
    return _masked(
        x, x.shape[0] * x.shape[1], math.prod(x.shape[2:]), p, training, seed, offset, mask, return_mask
    )


def drop_block2d(
    input: ArrayLike,
    p: float,
    block_size: Any,
    training: bool = True,
    *,
    seed: int | None = None,
    offset: int = 0,
    mask: ArrayLike | None = None,
    return_mask: bool = False,
) -> Any:
    """Drop square blocks of each feature map and scale the rest by ``count / count of kept`` (DropBlock).

    Parameters
    ----------
    input : array_like of shape (N, C, H, W)
    p : float
        Fraction to drop; block centres are drawn with probability
        ``p / area(block) * H * W / ((H - BH + 1) * (W - BW + 1))``, so overlaps drop a little less.
    block_size : int or tuple of 2 ints
        At most the feature map.
    training, seed, offset, return_mask
        As in :func:`dropout`.
    mask : array_like of uint8, shape (ceil(N * C * H * W / 8),), optional
        One bit an element.

    Returns
    -------
    ndarray of shape (N, C, H, W), or a pair of it and the packed mask

    Raises
    ------
    ValueError, TypeError
        If an argument breaks a rule; the message states it.

    References
    ----------
    Ghiasi, Lin, Le: "DropBlock: A regularization method for convolutional networks", arXiv 1810.12890.

    Examples
    --------
    >>> import numpy as np
    >>> y, mask = drop_block2d(np.ones((1, 1, 8, 8)), 0.3, 3, seed=0, return_mask=True)
    >>> bool(np.isclose(y.sum(), 64.0))
    True
    """
    x = _arrays.as_images(input, "input")
    if mask is not None and seed is not None:
        raise ValueError("give a seed or a mask, not both")
    draw = training and mask is None
    spec = DropBlockSpec.from_args(
        x.shape, p, block_size, draw_seed() if draw and seed is None else seed or 0, offset
    )
    if not training:
        return (x.copy(), None) if return_mask else x.copy()
    packed = run("drop_block_mask", spec) if mask is None else _arrays.as_mask(mask, x.size)
    out = run("dropout_apply", _arrays.drop_block_scaling(packed, x.size), x, packed)
    return (out, packed) if return_mask else out


# --------------------------------------------------------------------------------------------------- activations


def _activation(kind: str, input: ArrayLike, slope: float = 0.0) -> Array:
    x = _arrays.as_floats(input, "input")
    out: Array = plan("activation_forward", ActivationSpec.of, kind, x.size, x.dtype, slope).run(x)
    return out


def relu(input: ArrayLike) -> Array:
    """``max(x, 0)``; NaN stays NaN.

    Parameters
    ----------
    input : array_like of any shape

    Returns
    -------
    ndarray of the input's shape

    Raises
    ------
    TypeError
        If the input is neither float32 nor float64.

    Examples
    --------
    >>> relu([-1.0, 2.0])
    array([0., 2.])
    """
    return _activation("relu", input)


def leaky_relu(input: ArrayLike, negative_slope: float = 0.01) -> Array:
    """``x`` where positive, else ``negative_slope * x``.

    Parameters
    ----------
    input : array_like of any shape
    negative_slope : float
        At least 0, so that the backward pass can tell the sides from the output.

    Returns
    -------
    ndarray of the input's shape

    Raises
    ------
    TypeError, ValueError
        If the input is neither float32 nor float64, or the slope is negative.

    Examples
    --------
    >>> leaky_relu([-1.0, 2.0], 0.5)
    array([-0.5,  2. ])
    """
    return _activation("leaky_relu", input, as_slope(negative_slope))


def relu6(input: ArrayLike) -> Array:
    """``min(max(x, 0), 6)``; NaN stays NaN.

    Parameters
    ----------
    input : array_like of any shape

    Returns
    -------
    ndarray of the input's shape

    Raises
    ------
    TypeError
        If the input is neither float32 nor float64.

    Examples
    --------
    >>> relu6([-1.0, 2.0, 9.0])
    array([0., 2., 6.])
    """
    return _activation("relu6", input)


def sigmoid(input: ArrayLike) -> Array:
    """``1 / (1 + exp(-x))``, without overflow on either side.

    Parameters
    ----------
    input : array_like of any shape

    Returns
    -------
    ndarray of the input's shape

    Raises
    ------
    TypeError
        If the input is neither float32 nor float64.

    Examples
    --------
    >>> sigmoid([-1000.0, 0.0])
    array([0. , 0.5])
    """
    return _activation("sigmoid", input)


def tanh(input: ArrayLike) -> Array:
    """Hyperbolic tangent.

    Parameters
    ----------
    input : array_like of any shape

    Returns
    -------
    ndarray of the input's shape

    Raises
    ------
    TypeError
        If the input is neither float32 nor float64.

    Examples
    --------
    >>> tanh([0.0])
    array([0.])
    """
    return _activation("tanh", input)


def _softmax(input: ArrayLike, dim: int, log: bool) -> Array:
    x = _arrays.as_floats(input, "input")
    made = plan(
        "softmax_forward", SoftmaxSpec.from_shape, x.shape, as_int(dim, "dim"), log, _arrays.dtype_name(x)
    )
    out: Array = made.run(x)
    return out


def softmax(input: ArrayLike, dim: int) -> Array:
    """``exp(x) / sum(exp(x))`` along an axis, without overflow.

    Parameters
    ----------
    input : array_like of any shape
    dim : int
        The axis; negative counts from the end.

    Returns
    -------
    ndarray of the input's shape
        A slice of -inf alone, or with a NaN or +inf in it, gives NaN.

    Raises
    ------
    ValueError, TypeError
        If there is no such axis or the dtype is not taken.

    Examples
    --------
    >>> softmax([[0.0, 0.0]], dim=1)
    array([[0.5, 0.5]])
    """
    return _softmax(input, dim, False)


def log_softmax(input: ArrayLike, dim: int) -> Array:
    """``x - log(sum(exp(x)))`` along an axis, without overflow.

    Parameters
    ----------
    input : array_like of any shape
    dim : int
        The axis; negative counts from the end.

    Returns
    -------
    ndarray of the input's shape

    Raises
    ------
    ValueError, TypeError
        If there is no such axis or the dtype is not taken.

    Examples
    --------
    >>> log_softmax([[0.0, 0.0]], dim=-1).round(4)
    array([[-0.6931, -0.6931]])
    """
    return _softmax(input, dim, True)


# ------------------------------------------------------------------------------- linear, normalisation and loss


def linear(input: ArrayLike, weight: ArrayLike, bias: ArrayLike | None = None) -> Array:
    """``input @ weight.T + bias``.

    Parameters
    ----------
    input : array_like of shape (..., in_features)
    weight : array_like of shape (out_features, in_features) or (in_features,)
    bias : array_like of shape (out_features,), optional
        Of shape () for a one-dimensional weight.

    Returns
    -------
    ndarray of shape (..., out_features), or (...) for a one-dimensional weight

    Raises
    ------
    ValueError, TypeError
        If shapes or dtypes do not fit.

    Examples
    --------
    >>> linear([[1.0, 2.0]], [[3.0, 4.0], [5.0, 6.0]], [0.5, 0.5])
    array([[11.5, 17.5]])
    """
    x = _arrays.as_floats(input, "input")
    w = _arrays.as_floats_like(weight, "weight", x, "input")
    if w.ndim not in (1, 2):
        raise ValueError(
            f"weight must have shape (out_features, in_features) or (in_features,), got {w.shape}"
        )
    if x.ndim < 1 or x.shape[-1] != w.shape[-1]:
        raise ValueError(
            f"the last axis of input must have weight's in_features = {w.shape[-1]} elements, got shape {x.shape}"
        )
    if bias is not None:
        bias = _arrays.as_floats_like(bias, "bias", x, "input")
        _arrays.check_shape(bias, w.shape[:-1], "bias")
        bias = bias.reshape(-1)
    rows, outputs = math.prod(x.shape[:-1]), math.prod(w.shape[:-1])
    inputs = x.shape[-1]
    made = plan("matmul", MatmulSpec.of, rows, outputs, inputs, False, True, x.dtype)
    out: Array = made.run(x.reshape(rows, inputs), w.reshape(outputs, inputs), bias)
    return out.reshape(x.shape[:-1] + w.shape[:-1])


def batch_norm(
    input: ArrayLike,
    running_mean: Any,
    running_var: Any,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    return_stats: bool = False,
) -> Any:
    """``(x - mean) / sqrt(var + eps) * weight + bias`` per channel.

    Parameters
    ----------
    input : array_like of shape (N, C, ...)
    running_mean, running_var : ndarray of shape (C,), or None in training
        Used in evaluation.  In training the batch's own mean and biased variance are used, and these two are updated
        in place: ``running = (1 - momentum) * running + momentum * batch``, the variance unbiased there.
    weight, bias : array_like of shape (C,), optional
    training : bool
    momentum, eps : float
    return_stats : bool
        Also return the mean and ``1 / sqrt(var + eps)`` that were used, for :func:`fastconv.grad.batch_norm`.

    Returns
    -------
    ndarray of the input's shape, or a triple of it and two ndarrays of shape (C,)

    Raises
    ------
    ValueError
        If shapes do not fit, training has one value per channel, or evaluation lacks running statistics.
    TypeError
        If dtypes differ, or statistics to be updated are not writeable arrays.

    References
    ----------
    Ioffe, Szegedy: "Batch normalization", arXiv 1502.03167.

    Examples
    --------
    >>> import numpy as np
    >>> batch_norm(np.array([[1.0], [3.0]]), None, None, training=True, eps=0.0)
    array([[-1.],
           [ 1.]])
    """
    x = _arrays.as_floats(input, "input")
    spec = BatchNormSpec.from_shape(x.shape, _arrays.dtype_name(x), bool(training), eps)
    w = _arrays.as_vector_like(weight, "weight", spec.channels, x, "input")
    b = _arrays.as_vector_like(bias, "bias", spec.channels, x, "input")
    mean = _arrays.as_vector_like(running_mean, "running_mean", spec.channels, x, "input")
    var = _arrays.as_vector_like(running_var, "running_var", spec.channels, x, "input")
    if not training:
        if mean is None or var is None:
            raise ValueError("running_mean and running_var must be given in evaluation, got None")
        out, used_mean, inv_std = run("batch_norm_forward", spec, x, mean, var, w, b)
        return (out, used_mean, inv_std) if return_stats else out
    kept_mean, kept_var = _updatable(running_mean, "running_mean"), _updatable(running_var, "running_var")
    out, used_mean, inv_std = run("batch_norm_forward", spec, x, None, None, w, b)
    values = spec.batch * spec.inner
    if values:
        if kept_mean is not None:
            kept_mean += momentum * (used_mean - kept_mean)
        if kept_var is not None:
            batch_var = np.maximum(1.0 / (inv_std.astype(np.float64) ** 2) - spec.eps, 0.0)
            kept_var += momentum * (batch_var * (values / (values - 1)) - kept_var)
    return (out, used_mean, inv_std) if return_stats else out


def _updatable(x: Any, name: str) -> Array | None:
    """The memory behind running statistics, to be written in place."""
    if x is None:
        return None
    array = x if isinstance(x, np.ndarray) else np.asarray(x)
    if isinstance(x, (list, tuple)) or not array.flags.writeable:
        raise TypeError(
            f"{name} is updated in training, so it must be a writeable array, got {type(x).__name__}"
        )
    return array


def cross_entropy(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    *,
    return_log_probs: bool = False,
) -> Any:
    """Cross-entropy of softmax(input) against labels or probabilities.

    Parameters
    ----------
    input : array_like of shape (C,), (N, C) or (N, C, ...)
        Logits.
    target : array_like
        Integer labels in [0, C) of the input's shape without C, or probabilities of the input's shape and dtype.
    weight : array_like of shape (C,), optional
        Factor of each class.
    ignore_index : int
        Elements with this label count for nothing.
    reduction : {"mean", "sum", "none"}
        The mean is over the weights of the labels that count; over the elements for probabilities.
    label_smoothing : float
        In [0, 1]: share of the target that is spread evenly over the classes.
    return_log_probs : bool
        Also return log_softmax(input), for :func:`fastconv.grad.cross_entropy`.

    Returns
    -------
    ndarray of shape () or, for reduction "none", the input's shape without C; or a pair of it and the log-probabilities
        The mean over nothing is NaN.

    Raises
    ------
    ValueError, TypeError
        If a label is out of range, or another argument breaks a rule.

    References
    ----------
    Szegedy, Vanhoucke, Ioffe, Shlens, Wojna: "Rethinking the Inception architecture", arXiv 1512.00567 (smoothing).

    Examples
    --------
    >>> float(cross_entropy([[0.0, 0.0]], [1]).round(4))
    0.6931
    """
    x = _arrays.as_floats(input, "input")
    goal = _arrays.as_target(target)
    made = plan(
        "cross_entropy_forward",
        CrossEntropySpec.of,
        *_arrays.cross_entropy_question(
            x, goal, weight is not None, ignore_index, label_smoothing, reduction
        ),
    )
    loss, log_probs = made.run(*_arrays.cross_entropy_arrays(made.spec, x, goal, weight))
    if reduction == "none":
        loss = loss.reshape(x.shape[:1] + x.shape[2:] if x.ndim > 1 else ())
    return (loss, log_probs.reshape(x.shape)) if return_log_probs else loss


# --------------------------------------------------------------------------------------------- patches, padding


def unfold(input: ArrayLike, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Array:
    """The patches of a convolution as columns (im2col).

    Parameters
    ----------
    input : array_like of shape (N, C, H, W) or (C, H, W)
    kernel_size, dilation, stride : int or tuple of 2 ints
    padding : int, tuple of 2 ints or (top, bottom, left, right)

    Returns
    -------
    ndarray of shape (N, C * KH * KW, OH * OW) or (C * KH * KW, OH * OW)
        OH and OW as in :func:`conv2d`.

    Raises
    ------
    ValueError, TypeError
        If an argument breaks a rule; the message states it.

    Examples
    --------
    >>> import numpy as np
    >>> unfold(np.arange(4.0).reshape(1, 1, 2, 2), (1, 2))
    array([[[0., 2.],
            [1., 3.]]])
    """
    x = _arrays.as_floats(input, "input")
    shape = _arrays.batched_shape(x.shape, 2, "input")
    spec = ConvSpec.of_patches(shape, _arrays.dtype_name(x), kernel_size, dilation, padding, stride)
    out: Array = run("unfold", spec, x.reshape(shape))
    return out if x.ndim == 4 else out.reshape(out.shape[1:])


def fold(
    input: ArrayLike, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Array:
    """Add columns back to the image patches they stand for (col2im): the transpose of :func:`unfold`.

    Parameters
    ----------
    input : array_like of shape (N, C * KH * KW, OH * OW) or (C * KH * KW, OH * OW)
    output_size : int or tuple of 2 ints
        (H, W) of the image.
    kernel_size, dilation, stride : int or tuple of 2 ints
    padding : int, tuple of 2 ints or (top, bottom, left, right)

    Returns
    -------
    ndarray of shape (N, C, H, W) or (C, H, W)

    Raises
    ------
    ValueError, TypeError
        If an argument breaks a rule; the message states it.

    Examples
    --------
    >>> import numpy as np
    >>> fold(np.ones((1, 2, 2)), (1, 3), (1, 2))
    array([[[[1., 2., 1.]]]])
    """
    x = _arrays.as_floats(input, "input")
    if x.ndim not in (2, 3):
        raise ValueError(
            f"fold takes an input of shape (N, C * KH * KW, OH * OW) or without N, got {x.shape}"
        )
    columns = x if x.ndim == 3 else x.reshape(1, *x.shape)
    kernel = as_int_tuple(kernel_size, 2, "kernel_size", 1)
    size = as_int_tuple(output_size, 2, "output_size", 1)
    batch, rows, _ = columns.shape
    if not rows or rows % math.prod(kernel):
        raise ValueError(
            f"the rows of fold's input must be a multiple of KH * KW = {math.prod(kernel)}, got {rows}"
        )
    shape = (batch, rows // math.prod(kernel), *size)
    spec = ConvSpec.of_patches(shape, _arrays.dtype_name(x), kernel, dilation, padding, stride)
    _arrays.check_shape(columns, (batch, rows, math.prod(spec.out_size)), "fold's input")
    out: Array = run("fold", spec, columns)
    return out if x.ndim == 3 else out.reshape(shape[1:])


def pad(input: ArrayLike, pad: Any, mode: str = "constant", value: float | None = None) -> Array:
    """Grow an array at its sides, or crop it.

    Parameters
    ----------
    input : array_like
        Of any shape for ``"constant"``; else with one or two axes before the padded ones.
    pad : sequence of int
        (lo, hi) of the last axis, then of the one before: (left, right, top, bottom).  Negative crops, in mode
        ``"constant"``.
    mode : {"constant", "reflect", "replicate", "circular"}
        ``"reflect"`` pads less than the axis' size, ``"circular"`` at most that.
    value : float, optional
        The constant; 0 by default.

    Returns
    -------
    ndarray
        Each padded axis has ``size + lo + hi`` elements.

    Raises
    ------
    ValueError, TypeError
        If an argument breaks a rule; the message states it.

    Examples
    --------
    >>> pad([1.0, 2.0], (1, 2))
    array([0., 1., 2., 0., 0.])
    """
    x = _arrays.as_floats(input, "input")
    made = plan("pad", pad_spec, x.shape, *frozen(pad, mode, value), _arrays.dtype_name(x))
    spec = made.spec
    if not spec.in_shape:
        return x.copy()
    out: Array = made.run(x.reshape(spec.outer, *spec.in_shape))
    return out.reshape(x.shape[: x.ndim - len(spec.in_shape)] + spec.out_shape)
