"""Twins of the sums over channels and of batch normalisation."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv._dispatch import Implementation
from fastconv._spec import BatchNormSpec, ChannelSpec
from fastconv.backends.cuda.array import DeviceArray, empty, lift, settle
from fastconv.backends.cuda.launch import MAX_GRID, MAX_SIZE, Kernel, cover, launch

THREADS, SPAN = 256, 64 * 256  # as the kernels have them


def channel_totals(
    kernel: Kernel, shape: tuple[int, int, int], x: DeviceArray, g: DeviceArray, *statistics: DeviceArray
) -> tuple[tuple[DeviceArray, DeviceArray], int]:
    """Two partial sums (parts, channels) that ``kernel`` makes of arrays (batch, channels, inner), and their number."""
    batch, channels, inner = shape
    parts = max(cover(batch * inner, SPAN), 1)
    sums = empty((parts, channels), x.dtype), empty((parts, channels), x.dtype)
    unused = (x,) * (4 - len(statistics))
    sizes = map(np.uint32, (channels, inner, batch * inner))
    launch(kernel, (channels, parts), THREADS, x, g, *statistics, *unused, *sums, *sizes)
    return sums, parts


def finish(
    kind: str, partial: DeviceArray, parts: int, shape: tuple[int, ...], count: int = 1, eps: float = 0.0
) -> DeviceArray:
    """Sum, mean or reciprocal deviation (see the kernel) from partial sums."""
    out = empty(shape, partial.dtype)
    number = out.dtype.type
    sizes = np.uint32(parts), np.uint32(out.size), number(count), number(eps)
    kernel = Kernel("reduction", "finish", (kind, out.dtype.name))
    launch(kernel, (cover(out.size, THREADS),), THREADS, partial, out, *sizes)
    return out


def total(x: DeviceArray, channels: int = 1, inner: int = 1, shape: tuple[int, ...] = ()) -> DeviceArray:
    """Sum over all but the channels."""
    batch = x.size // max(channels * inner, 1)
    kernel = Kernel("reduction", "values", (x.dtype.name,))
    (sums, _), parts = channel_totals(kernel, (batch, channels, inner), x, x)
    return finish("sum", sums, parts, shape)


def channel_sum(spec: ChannelSpec, x: Any) -> Any:
    return settle(total(lift(x), spec.channels, spec.inner, (spec.channels,)), x)


def batch_norm_forward(
    spec: BatchNormSpec, x: Any, mean: Any, var: Any, weight: Any, bias: Any
) -> tuple[Any, Any, Any]:
    device, shape = lift(x), (spec.batch, spec.channels, spec.inner)
    channels, count = (spec.channels,), spec.batch * spec.inner
    if spec.training:
        sums, parts = channel_totals(Kernel("reduction", "values", (spec.dtype,)), shape, device, device)
        m = finish("mean", sums[0], parts, channels, count)
        sums, parts = channel_totals(Kernel("norm", "deviations", (spec.dtype,)), shape, device, device, m)
        inv_std = finish("inv_std", sums[0], parts, channels, count, spec.eps)
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
    sums, parts = channel_totals(kernel, shape, device, g, m, inverse, *affine)
    dweight, dbias = (finish("sum", each, parts, channels) for each in sums)
    dx = empty(x.shape, spec.dtype)
    sizes = map(np.uint32, (spec.channels, spec.inner, dx.size))
    count = dx.dtype.type(spec.batch * spec.inner)
    kernel = Kernel("norm", "backward", (*given, spec.training, spec.dtype))
    arrays = (g, device, m, inverse, *affine, dweight, dbias, dx)
    launch(kernel, (cover(dx.size, THREADS),), THREADS, *arrays, *sizes, count)
    return settle(dx, x), settle(dweight, x), settle(dbias, x)


def _refusal(spec: ChannelSpec | BatchNormSpec) -> str | None:
    size = spec.batch * spec.channels * spec.inner
    if size > MAX_SIZE:
        return f"it has {size} elements, more than {MAX_SIZE}"
    parts = cover(spec.batch * spec.inner, SPAN)
    return f"a channel has more than {SPAN * MAX_GRID[1]} elements" if parts > MAX_GRID[1] else None


IMPLEMENTATIONS: dict[str, tuple[Implementation, ...]] = {
    "channel_sum": (Implementation("two_stages", channel_sum, _refusal),),
    "batch_norm_forward": (Implementation("two_stages", batch_norm_forward, _refusal),),
    "batch_norm_backward": (Implementation("two_stages", batch_norm_backward, _refusal),),
}
