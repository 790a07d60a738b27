"""Twins of the sums over channels and of batch normalisation."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv._dispatch import Implementation
from fastconv._spec import BatchNormSpec, ChannelSpec
from fastconv.backends.cuda._reduction import SPAN, channel_totals, finish, total
from fastconv.backends.cuda.array import empty, lift, settle
from fastconv.backends.cuda.launch import MAX_GRID, Kernel, cover, launch, too_many

THREADS = 256  # as the kernels have it


def channel_sum(spec: ChannelSpec, x: Any) -> Any:
    return settle(total(lift(x), spec.channels, spec.inner, (spec.channels,)), x)


def batch_norm_forward(
    spec: BatchNormSpec, x: Any, mean: Any, var: Any, weight: Any, bias: Any
) -> tuple[Any, Any, Any]:
    device, shape = lift(x), (spec.batch, spec.channels, spec.inner)
    channels, count = (spec.channels,), spec.batch * spec.inner
    if spec.training:
        (sums,), parts = channel_totals(Kernel("reduction", "values", (spec.dtype,)), 1, shape, device)
        m = finish("mean", sums, parts, channels, count)
        kernel = Kernel("norm", "deviations", (spec.dtype,))
        (sums,), parts = channel_totals(kernel, 1, shape, device, device, m)
        inv_std = finish("inv_std", sums, parts, channels, count, spec.eps)
    else:
        m = lift(mean)
        inv_std = finish("inv_std", lift(var), 1, channels, 1, spec.eps)
    y = empty(x.shape, spec.dtype)
    kernel = Kernel("norm", "forward", (weight is not None, bias is not None, spec.relu, spec.dtype))
    affine = (m if each is None else lift(each) for each in (weight, bias))
    sizes = map(np.uint32, (spec.channels, spec.inner, y.size))
    launch(kernel, (cover(y.size, THREADS),), THREADS, device, m, inv_std, *affine, y, *sizes)
    return settle(y, x), settle(m, x), settle(inv_std, x)


def batch_norm_backward(
    spec: BatchNormSpec, grad_output: Any, x: Any, mean: Any, inv_std: Any, weight: Any, bias: Any
) -> tuple[Any, Any, Any]:
    g, device, m, inverse = map(lift, (grad_output, x, mean, inv_std))
    affine = [m if each is None else lift(each) for each in (weight, bias)]
    given = (weight is not None, bias is not None, spec.relu)
    shape, channels = (spec.batch, spec.channels, spec.inner), (spec.channels,)
    kernel = Kernel("norm", "gradients", (*given, spec.dtype))
    sums, parts = channel_totals(kernel, 2, shape, device, g, m, inverse, *affine)
    dweight, dbias = (finish("sum", each, parts, channels) for each in sums)
    dx = empty(x.shape, spec.dtype)
    sizes = map(np.uint32, (spec.channels, spec.inner, dx.size))
    count = dx.dtype.type(spec.batch * spec.inner)
    kernel = Kernel("norm", "backward", (*given, spec.training, spec.dtype))
    arrays = (g, device, m, inverse, *affine, dweight, dbias, dx)
    launch(kernel, (cover(dx.size, THREADS),), THREADS, *arrays, *sizes, count)
    return settle(dx, x), settle(dweight, x), settle(dbias, x)


def _refusal(spec: ChannelSpec | BatchNormSpec) -> str | None:
    if reason := too_many(spec.batch * spec.channels * spec.inner):
        return reason
    parts = cover(spec.batch * spec.inner, SPAN)
    return f"a channel has more than {SPAN * MAX_GRID[1]} elements" if parts > MAX_GRID[1] else None


IMPLEMENTATIONS: dict[str, tuple[Implementation, ...]] = {
    "channel_sum": (Implementation("two_stages", channel_sum, _refusal),),
    "batch_norm_forward": (Implementation("two_stages", batch_norm_forward, _refusal),),
    "batch_norm_backward": (Implementation("two_stages", batch_norm_backward, _refusal),),
}
