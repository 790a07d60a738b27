"""The kernels as functions from tensors to tensors, with the arguments of ATen's operators.

Tensors and NumPy arrays share their memory both ways.  Nothing here knows of autograd: :mod:`fastconv.torch._ops` makes
operators of these functions, and compiled graphs call them as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

import fastconv.functional as F
import fastconv.grad as G

Array = NDArray[Any]

DTYPES = (torch.float32, torch.float64)
LARGEST_BYTE_WINDOW = 256  # elements of a window whose number fits in one byte

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_CONV_INPUT = {1: G.conv1d_input, 2: G.conv2d_input, 3: G.conv3d_input}
_CONV_WEIGHT = {1: G.conv1d_weight, 2: G.conv2d_weight, 3: G.conv3d_weight}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d}
_TRANSPOSED_INPUT = {1: G.conv_transpose1d_input, 2: G.conv_transpose2d_input}
_TRANSPOSED_WEIGHT = {1: G.conv_transpose1d_weight, 2: G.conv_transpose2d_weight}


def check(tensor: Tensor, name: str) -> None:
    """Refuse what the kernels do not take.

    Raises
    ------
    TypeError
        If the tensor is not on the CPU, is not strided, or is neither float32 nor float64.
    """
    if tensor.device.type != "cpu" or tensor.layout != torch.strided or tensor.dtype not in DTYPES:
        raise TypeError(
            f"{name} must be a strided float32 or float64 tensor on the CPU, got {tensor.dtype} "
            f"{tensor.layout} on {tensor.device}"
        )


def as_array(tensor: Tensor, name: str) -> Array:
    """The tensor's memory as a C-contiguous array; a copy only of a tensor that is not contiguous."""
    check(tensor, name)
    array: Array = tensor.detach().contiguous().numpy()
    return array


def as_tensor(array: Array) -> Tensor:
    """A tensor in the array's memory."""
    return torch.from_numpy(array)


def memory_order(tensor: Tensor) -> tuple[int, ...] | None:
    """Axes from the slowest to the fastest in memory, where that is not their order."""
    strides = [stride if isinstance(stride, int) else stride.node.hint for stride in tensor.stride()]
    order = tuple(sorted(range(tensor.ndim), key=lambda axis: -strides[axis]))
    return None if order == tuple(range(tensor.ndim)) else order


def in_order(tensor: Tensor, order: tuple[int, ...] | None) -> Tensor:
    """The tensor with its axes in that order in memory."""
    if order is None:
        return tensor
    back = [order.index(axis) for axis in range(len(order))]
    return tensor.permute(order).contiguous().permute(back)


def _optional(tensor: Tensor | None, name: str) -> Array | None:
    return None if tensor is None else as_array(tensor, name)


def _each(values: Sequence[int], ndim: int) -> tuple[int, ...]:
    """One value per spatial dimension; ATen takes one for all of them, too."""
    return tuple(values) * (ndim if len(values) == 1 else 1)


def nothing(like: Tensor) -> Tensor:
    """In the place of a result that nobody asked for."""
    return like.new_empty(0)


# -------------------------------------------------------------------------------------------------- convolution


def _geometry(ndim: int, transposed: bool, *values: Sequence[int]) -> list[tuple[int, ...]]:
    if transposed and ndim not in _TRANSPOSED:
        raise ValueError(f"a transposed convolution has 1 or 2 spatial dimensions, got {ndim}")
    return [_each(each, ndim) for each in values]


def convolution(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Tensor:
    """``aten::convolution`` of inputs with a batch axis."""
    ndim = weight.ndim - 2
    steps, sides, spread, extra = _geometry(ndim, transposed, stride, padding, dilation, output_padding)
    arrays = as_array(input, "input"), as_array(weight, "weight"), _optional(bias, "bias")
    if transposed:
        return as_tensor(_TRANSPOSED[ndim](*arrays, steps, sides, extra, groups, spread))
    return as_tensor(_CONV[ndim](*arrays, steps, sides, spread, groups))


def convolution_backward(
    grad_output: Tensor,
    input: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    output_mask: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of :func:`convolution` in input, weight and bias: of those that ``output_mask`` names."""
    ndim = weight.ndim - 2
    steps, sides, spread, extra = _geometry(ndim, transposed, stride, padding, dilation, output_padding)
    grad, x, w = as_array(grad_output, "grad_output"), as_array(input, "input"), as_array(weight, "weight")
    grad_input, grad_weight, grad_bias = (nothing(input) for _ in range(3))
    options: tuple[Any, ...]
    of_input: Callable[..., Array]
    of_weight: Callable[..., Array]
    if transposed:
        options = (steps, sides, extra, groups, spread)
        of_input, of_weight = _TRANSPOSED_INPUT[ndim], _TRANSPOSED_WEIGHT[ndim]
    else:
        options = (steps, sides, spread, groups)
        of_input, of_weight = _CONV_INPUT[ndim], _CONV_WEIGHT[ndim]
    if output_mask[0]:
        grad_input = as_tensor(of_input(x.shape, w, grad, *options))
    if output_mask[1]:
        grad_weight = as_tensor(of_weight(x, w.shape, grad, *options))
    if output_mask[2]:
        grad_bias = as_tensor(G.conv_bias(grad))
    return grad_input, grad_weight, grad_bias


def linear(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``aten::linear`` with a weight of two axes."""
    arrays = as_array(input, "input"), as_array(weight, "weight"), _optional(bias, "bias")
    return as_tensor(F.linear(*arrays))


def linear_backward(
    grad_output: Tensor, input: Tensor, weight: Tensor, output_mask: Sequence[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of :func:`linear` in input, weight and bias: of those that ``output_mask`` names."""
    grad = as_array(grad_output, "grad_output")
    grad_input, grad_weight, grad_bias = (nothing(input) for _ in range(3))
    if output_mask[0]:
        grad_input = as_tensor(G.linear_input(as_array(weight, "weight"), grad))
    if output_mask[1]:
        grad_weight = as_tensor(G.linear_weight(as_array(input, "input"), grad))
    if output_mask[2]:
        grad_bias = as_tensor(G.linear_bias(grad))
    return grad_input, grad_weight, grad_bias


# ------------------------------------------------------------------------------------------------------ pooling


def max_pool2d(
    input: Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
    indices: str,
) -> tuple[Tensor, Tensor]:
    """Maxima and where they are, ``indices`` being "int64", "uint8" (see ``functional.max_pool2d``) or "none"."""
    options = _window(kernel_size, stride, padding, dilation, ceil_mode)
    x = as_array(input, "input")
    if indices == "none":
        return as_tensor(F.max_pool2d(x, **options)), nothing(input)
    out, where = F.max_pool2d(x, **options, return_indices=True, index_dtype=indices)
    return as_tensor(out), as_tensor(where)


def max_pool2d_backward(
    grad_output: Tensor,
    indices: Tensor,
    input_size: Sequence[int],
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
) -> Tensor:
    """Gradient of :func:`max_pool2d`."""
    options = _window(kernel_size, stride, padding, dilation, ceil_mode)
    grad, where = as_array(grad_output, "grad_output"), indices.contiguous().numpy()
    return as_tensor(G.max_pool2d(grad, where, tuple(input_size), **options))


def _window(
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int] | None,
    ceil_mode: bool,
) -> dict[str, Any]:
    given = {} if dilation is None else {"dilation": _each(dilation, 2)}
    return {
        "kernel_size": _each(kernel_size, 2),
        "stride": _each(stride, 2) or None,  # ATen's empty list is the kernel size
        "padding": _each(padding, 2),
        "ceil_mode": ceil_mode,
        **given,
    }


def avg_pool2d(
    input: Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Tensor:
    """``aten::avg_pool2d``."""
    window = _window(kernel_size, stride, padding, None, ceil_mode)
    options: dict[str, Any] = {"count_include_pad": count_include_pad, "divisor_override": divisor_override}
    return as_tensor(F.avg_pool2d(as_array(input, "input"), **window, **options))


def avg_pool2d_backward(
    grad_output: Tensor,
    input_size: Sequence[int],
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Tensor:
    """Gradient of :func:`avg_pool2d`."""
    window = _window(kernel_size, stride, padding, None, ceil_mode)
    options: dict[str, Any] = {"count_include_pad": count_include_pad, "divisor_override": divisor_override}
    return as_tensor(
        G.avg_pool2d(as_array(grad_output, "grad_output"), tuple(input_size), **window, **options)
    )


def adaptive_avg_pool2d(input: Tensor, output_size: Sequence[int]) -> Tensor:
    """``aten::adaptive_avg_pool2d``."""
    return as_tensor(F.adaptive_avg_pool2d(as_array(input, "input"), tuple(output_size)))


def adaptive_avg_pool2d_backward(grad_output: Tensor, input_size: Sequence[int]) -> Tensor:
    """Gradient of :func:`adaptive_avg_pool2d`."""
    return as_tensor(G.adaptive_avg_pool2d(as_array(grad_output, "grad_output"), tuple(input_size)))


# --------------------------------------------------------------------------------------- normalisation, dropout


def batch_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Result, the mean and 1 / standard deviation used, and the running statistics as they are to be from now on.

    Empty tensors are in the place of running statistics that are not given.
    """
    mean, var = (None if each is None else each.clone() for each in (running_mean, running_var))
    out, *used = F.batch_norm(
        as_array(input, "input"),
        _optional(mean, "running_mean"),
        _optional(var, "running_var"),
        _optional(weight, "weight"),
        _optional(bias, "bias"),
        training,
        momentum,
        eps,
        return_stats=True,
    )
    kept = (nothing(input) if each is None else each for each in (mean, var))
    # In evaluation the mean used is the array of the running one: an operator returns memory of its own.
    own_mean, inv_std = (as_tensor(each if training else each.copy()) for each in used)
    return as_tensor(out), own_mean, inv_std, *kept


def batch_norm_backward(
    grad_output: Tensor,
    input: Tensor,
    weight: Tensor | None,
    mean: Tensor,
    inv_std: Tensor,
    training: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of :func:`batch_norm` in input, weight and bias."""
    arrays = (
        as_array(grad_output, "grad_output"),
        as_array(input, "input"),
        as_array(mean, "mean"),
        as_array(inv_std, "inv_std"),
        _optional(weight, "weight"),
    )
    grad_input, grad_weight, grad_bias = G.batch_norm(*arrays, training)
    return as_tensor(grad_input), as_tensor(grad_weight), as_tensor(grad_bias)


def dropout(input: Tensor, p: float, seed: Tensor) -> tuple[Tensor, Tensor]:
    """Result and packed mask; the mask is a function of ``seed``, one int64 >= 0."""
    out, mask = F.dropout(as_array(input, "input"), p, seed=int(seed), return_mask=True)
    return as_tensor(out), as_tensor(mask)


def dropout_backward(grad_output: Tensor, mask: Tensor, p: float) -> Tensor:
    """Gradient of :func:`dropout`."""
    return as_tensor(G.dropout(as_array(grad_output, "grad_output"), mask.numpy(), p))


# -------------------------------------------------------------------------------------------------- activations


def activation(input: Tensor, function: str, slope: float) -> Tensor:
    """A function of one element by its name in ``fastconv.functional``; ``slope`` is leaky_relu's."""
    options = (slope,) if function == "leaky_relu" else ()
    return as_tensor(ACTIVATIONS[function](as_array(input, "input"), *options))


def activation_backward(grad_output: Tensor, output: Tensor, function: str, slope: float) -> Tensor:
    """Gradient of :func:`activation`, from its result."""
    options = (slope,) if function == "leaky_relu" else ()
    arrays = as_array(grad_output, "grad_output"), as_array(output, "output")
    return as_tensor(getattr(G, function)(*arrays, *options))


ACTIVATIONS = {each.__name__: each for each in (F.relu, F.leaky_relu, F.relu6, F.sigmoid, F.tanh)}


def softmax(input: Tensor, dim: int, log: bool) -> Tensor:
    """Softmax or its logarithm."""
    return as_tensor((F.log_softmax if log else F.softmax)(as_array(input, "input"), dim))


def softmax_backward(grad_output: Tensor, output: Tensor, dim: int, log: bool) -> Tensor:
    """Gradient of :func:`softmax`, from its result."""
    arrays = as_array(grad_output, "grad_output"), as_array(output, "output")
    return as_tensor((G.log_softmax if log else G.softmax)(*arrays, dim))


def index_dtype(kernel_size: Sequence[int]) -> str:
    """The smallest positions that a backward pass of :func:`max_pool2d` can do with."""
    return "uint8" if math.prod(_each(kernel_size, 2)) <= LARGEST_BYTE_WINDOW else "int64"
