"""``torch.nn.functional.interpolate`` as one operator.

PyTorch takes its own apart into index arithmetic where it traces a graph, which without a compiler is slower by
far than the kernels that it has.  They serve here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn.functional import interpolate as _of_torch

_BACKWARD = {
    "nearest": "upsample_nearest{}d_backward",
    "nearest-exact": "_upsample_nearest_exact{}d_backward",
    "linear": "upsample_linear{}d_backward",
    "bilinear": "upsample_bilinear{}d_backward",
    "trilinear": "upsample_trilinear{}d_backward",
    "bicubic": "upsample_bicubic{}d_backward",
}


@torch.library.custom_op("fastconv::interpolate", mutates_args=())
def _interpolate(
    input: Tensor,
    size: Sequence[int] | None,
    scale_factor: Sequence[float] | None,
    mode: str,
    align_corners: bool | None,
) -> Tensor:
    return _of_torch(input, size, scale_factor, mode, align_corners).contiguous()


@_interpolate.register_fake
def _interpolate_fake(input: Tensor, *arguments: Any) -> Tensor:
    return input.new_empty(_of_torch(input, *arguments).shape)


@torch.library.custom_op("fastconv::interpolate_backward", mutates_args=())
def _interpolate_backward(
    grad_output: Tensor,
    input_size: Sequence[int],
    scale_factor: Sequence[float] | None,
    mode: str,
    align_corners: bool | None,
) -> Tensor:
    ndim = grad_output.ndim - 2
    corners = () if mode.startswith("nearest") else (bool(align_corners),)
    scales = [None] * ndim if scale_factor is None else scale_factor
    backward = getattr(torch.ops.aten, _BACKWARD[mode].format(ndim))
    grad: Tensor = backward(grad_output, grad_output.shape[2:], input_size, *corners, *scales)
    return grad.contiguous()


@_interpolate_backward.register_fake
def _interpolate_backward_fake(grad_output: Tensor, input_size: Sequence[int], *_: Any) -> Tensor:
    return grad_output.new_empty(input_size)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    input, _, *ctx.options = inputs
    ctx.input_size = input.shape


def _gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return _interpolate_backward(grad, ctx.input_size, *ctx.options), None, None, None, None


_interpolate.register_autograd(_gradient, setup_context=_setup)


def interpolate(
    input: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """``torch.nn.functional.interpolate``, in a trace one operator where it is no unusual use."""
    if antialias or recompute_scale_factor or mode not in _BACKWARD or input.device.type != "cpu":
        return _of_torch(input, size, scale_factor, mode, align_corners, recompute_scale_factor, antialias)
    ndim = input.ndim - 2
    sizes, factors = (
        each if each is None or isinstance(each, (list, tuple)) else [each] * ndim
        for each in (size, scale_factor)
    )
    result: Tensor = _interpolate(input, sizes, factors, mode, align_corners)
    return result


def keep_interpolation(graph: fx.Graph) -> None:
    """Let the interpolations of a graph that TorchDynamo captured be one operator each."""
    for node in graph.find_nodes(op="call_function", target=_of_torch):
        node.target = interpolate
