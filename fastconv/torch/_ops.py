"""The kernels as PyTorch operators ``torch.ops.fastconv.*``: shapes of their results, and their gradients.

Every operator is functional and returns contiguous memory of its own, whatever the memory format of its inputs.
Gradients are operators themselves, but have none: second derivatives are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fastconv.torch import _kernels

KERNELS: dict[Any, Callable[..., Any]] = {}  # what each operator calls in the end

_aten = torch.ops.aten


def _operator(
    kernel: Callable[..., Any],
    fake: Callable[..., Any],
    setup: Callable[..., None] | None = None,
    backward: Callable[..., Any] | None = None,
) -> Any:
    """Register a kernel under its name; ``fake`` makes its results without values, the others are its gradient."""
    name = kernel.__name__
    definition = torch.library.custom_op(f"fastconv::{name}", kernel, mutates_args=(), device_types="cpu")
    definition.register_fake(fake)
    if backward is not None:
        definition.register_autograd(backward, setup_context=setup)
    op = getattr(torch.ops.fastconv, name).default
    KERNELS[op] = kernel
    return op


def _empty(like: Tensor, shape: Sequence[Any]) -> Tensor:
    _kernels.check(like, "input")
    return like.new_empty(shape)


def _empty_if(wanted: Sequence[bool], like: Tensor, *shapes: Sequence[Any]) -> tuple[Tensor, ...]:
    return tuple(_empty(like, shape if want else (0,)) for want, shape in zip(wanted, shapes, strict=True))


def _none_unless(wanted: Sequence[bool], grads: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
    return tuple(grad if want else None for want, grad in zip(wanted, grads, strict=True))


# -------------------------------------------------------------------------------------------------- convolution


def _convolution_fake(input: Tensor, *arguments: Any) -> Tensor:
    return _empty(input, _aten.convolution.default(input, *arguments).shape)


def _convolution_setup(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    input, weight, _, *ctx.options = inputs
    ctx.save_for_backward(input, weight)


def _convolution_gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    wanted = ctx.needs_input_grad[:3]
    grads = convolution_backward(grad, *ctx.saved_tensors, *ctx.options, wanted)
    return *_none_unless(wanted, grads), *(None,) * 6


def _convolution_backward_fake(grad: Tensor, input: Tensor, weight: Tensor, *options: Any) -> Any:
    return _empty_if(options[-1], grad, input.shape, weight.shape, grad.shape[1:2])


convolution = _operator(_kernels.convolution, _convolution_fake, _convolution_setup, _convolution_gradient)
convolution_backward = _operator(_kernels.convolution_backward, _convolution_backward_fake)


def _linear_fake(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return _empty(input, _aten.linear.default(input, weight, bias).shape)


def _linear_setup(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*inputs[:2])


def _linear_gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    wanted = ctx.needs_input_grad
    return _none_unless(wanted, linear_backward(grad, *ctx.saved_tensors, wanted))


def _linear_backward_fake(grad: Tensor, input: Tensor, weight: Tensor, output_mask: Sequence[bool]) -> Any:
    return _empty_if(output_mask, grad, input.shape, weight.shape, grad.shape[-1:])


linear = _operator(_kernels.linear, _linear_fake, _linear_setup, _linear_gradient)
linear_backward = _operator(_kernels.linear_backward, _linear_backward_fake)


# ------------------------------------------------------------------------------------------------------ pooling


def _max_pool2d_fake(input: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
    *window, indices = arguments
    shape = _aten.max_pool2d_with_indices.default(input, *window)[0].shape
    if indices == "none":
        return _empty(input, shape), _kernels.nothing(input)
    return _empty(input, shape), input.new_empty(shape, dtype=getattr(torch, indices))


def _max_pool2d_setup(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    input, *ctx.window, indices = inputs
    if indices == "none":
        raise ValueError("the gradient of max_pool2d needs indices, got indices 'none'")
    ctx.input_size = input.shape
    ctx.save_for_backward(output[1])
    ctx.mark_non_differentiable(output[1])


def _max_pool2d_gradient(ctx: Any, grad: Tensor, _: Any) -> tuple[Tensor | None, ...]:
    return max_pool2d_backward(grad, *ctx.saved_tensors, ctx.input_size, *ctx.window), *(None,) * 6


def _fake_of_input_size(grad: Tensor, input_size: Sequence[Any], *options: Any) -> Tensor:
    return _empty(grad, input_size)


max_pool2d = _operator(_kernels.max_pool2d, _max_pool2d_fake, _max_pool2d_setup, _max_pool2d_gradient)
max_pool2d_backward = _operator(
    _kernels.max_pool2d_backward, lambda grad, indices, input_size, *window: _empty(grad, input_size)
)


def _pool_setup(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    input, *ctx.options = inputs
    ctx.input_size = input.shape


def _avg_pool2d_fake(input: Tensor, *options: Any) -> Tensor:
    return _empty(input, _aten.avg_pool2d.default(input, *options).shape)


def _avg_pool2d_gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return avg_pool2d_backward(grad, ctx.input_size, *ctx.options), *(None,) * 6


avg_pool2d = _operator(_kernels.avg_pool2d, _avg_pool2d_fake, _pool_setup, _avg_pool2d_gradient)
avg_pool2d_backward = _operator(_kernels.avg_pool2d_backward, _fake_of_input_size)


def _adaptive_avg_pool2d_fake(input: Tensor, output_size: Sequence[Any]) -> Tensor:
    return _empty(input, (*input.shape[:-2], *output_size))


def _adaptive_avg_pool2d_gradient(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
    return adaptive_avg_pool2d_backward(grad, ctx.input_size), None


adaptive_avg_pool2d = _operator(
    _kernels.adaptive_avg_pool2d, _adaptive_avg_pool2d_fake, _pool_setup, _adaptive_avg_pool2d_gradient
)
adaptive_avg_pool2d_backward = _operator(_kernels.adaptive_avg_pool2d_backward, _fake_of_input_size)


# --------------------------------------------------------------------------------------- normalisation, dropout


def _batch_norm_fake(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    *options: Any,
) -> tuple[Tensor, ...]:
    channels = input.shape[1:2]
    kept = [(0,) if each is None else channels for each in (running_mean, running_var)]
    return tuple(_empty(input, shape) for shape in (input.shape, channels, channels, *kept))


def _batch_norm_setup(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    input, weight, *_, ctx.training, _, _ = inputs
    _, mean, inv_std, *kept = output
    ctx.save_for_backward(input, weight, mean, inv_std)
    ctx.mark_non_differentiable(mean, inv_std, *kept)


def _batch_norm_gradient(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    grads = batch_norm_backward(grad, *ctx.saved_tensors, ctx.training)
    return *_none_unless(ctx.needs_input_grad[:3], grads), *(None,) * 5


def _batch_norm_backward_fake(grad: Tensor, *_: Any) -> tuple[Tensor, ...]:
    channels = grad.shape[1:2]
    return tuple(_empty(grad, shape) for shape in (grad.shape, channels, channels))


batch_norm = _operator(_kernels.batch_norm, _batch_norm_fake, _batch_norm_setup, _batch_norm_gradient)
batch_norm_backward = _operator(_kernels.batch_norm_backward, _batch_norm_backward_fake)


def _dropout_fake(input: Tensor, p: float, seed: Tensor) -> tuple[Tensor, Tensor]:
    return _empty(input, input.shape), input.new_empty(((input.numel() + 7) // 8,), dtype=torch.uint8)


def _dropout_setup(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    _, ctx.p, _ = inputs
    ctx.save_for_backward(output[1])
    ctx.mark_non_differentiable(output[1])


def _dropout_gradient(ctx: Any, grad: Tensor, _: Any) -> tuple[Tensor, None, None]:
    return dropout_backward(grad, *ctx.saved_tensors, ctx.p), None, None


def _fake_alike(input: Tensor, *arguments: Any) -> Tensor:
    return _empty(input, input.shape)


dropout = _operator(_kernels.dropout, _dropout_fake, _dropout_setup, _dropout_gradient)
dropout_backward = _operator(_kernels.dropout_backward, _fake_alike)


@torch.library.custom_op("fastconv::feature_dropout", mutates_args=())
def _feature_dropout(input: Tensor, p: float, train: bool) -> Tensor:
    """``aten::feature_dropout`` under a name that traces keep: PyTorch takes its own apart into random numbers."""
    return torch.feature_dropout(input, p, train)


@_feature_dropout.register_fake
def _feature_dropout_fake(input: Tensor, p: float, train: bool) -> Tensor:
    return torch.empty_like(input)


feature_dropout = torch.ops.fastconv.feature_dropout.default


# -------------------------------------------------------------------------------------------------- activations


def _output_setup(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    _, *ctx.options = inputs
    ctx.save_for_backward(output)


def _activation_gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return activation_backward(grad, *ctx.saved_tensors, *ctx.options), None, None


activation = _operator(_kernels.activation, _fake_alike, _output_setup, _activation_gradient)
activation_backward = _operator(_kernels.activation_backward, _fake_alike)


def _softmax_gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return softmax_backward(grad, *ctx.saved_tensors, *ctx.options), None, None


softmax = _operator(_kernels.softmax, _fake_alike, _output_setup, _softmax_gradient)
softmax_backward = _operator(_kernels.softmax_backward, _fake_alike)
