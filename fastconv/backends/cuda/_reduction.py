"""Sums over everything but the channels, in two stages."""

from __future__ import annotations

import numpy as np

from fastconv.backends.cuda.array import DeviceArray, empty
from fastconv.backends.cuda.launch import Kernel, cover, launch

THREADS, SPAN = 256, 64 * 256  # as the kernels have them


def channel_totals(
    kernel: Kernel, terms: int, shape: tuple[int, int, int], x: DeviceArray, *others: DeviceArray
) -> tuple[list[DeviceArray], int]:
    """Partial sums (parts, channels) of its one or two terms that ``kernel`` makes, and the number of parts.

    ``shape``: (batch, channels, inner); ``others``: the kernel's further arrays, as far as it reads any.
    """
    batch, channels, inner = shape
    parts = max(cover(batch * inner, SPAN), 1)
    sums = [empty((parts, channels), x.dtype) for _ in range(terms)]
    unused = (x,) * (5 - len(others))
    sizes = map(np.uint32, (channels, inner, batch * inner))
    launch(kernel, (channels, parts), THREADS, x, *others, *unused, sums[0], sums[-1], *sizes)
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
    (sums,), parts = channel_totals(kernel, 1, (batch, channels, inner), x)
    return finish("sum", sums, parts, shape)
