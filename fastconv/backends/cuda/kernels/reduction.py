"""Sums in a fixed order: over a block of threads, and over everything but the channels in two stages."""

from __future__ import annotations

import math
from typing import Any

from fastconv.backends.cuda._numba import cuda, inlined, jit, real, uint32
from fastconv.backends.cuda.intrinsics import udiv

THREADS = 256
SPAN = 64 * THREADS  # elements of a channel that a block sums


def _fold(combine: Any) -> Any:
    """Reduce a value of every thread to one that all of them get; ``shared`` has a place for each thread."""

    @inlined
    def reduce(value, shared, thread):
        cuda.syncthreads()  # what it held before has been read
        shared[thread] = value
        half = uint32(THREADS // 2)
        while half > uint32(0):
            cuda.syncthreads()
            if thread < half:
                shared[thread] = combine(shared[thread], shared[uint32(thread + half)])
            half = uint32(half >> uint32(1))
        cuda.syncthreads()
        return shared[uint32(0)]

    return reduce


@inlined
def _sum(a: Any, b: Any) -> Any:
    return a + b


@inlined
def _larger(a: Any, b: Any) -> Any:
    return a if a > b else b


block_sum, block_max = _fold(_sum), _fold(_larger)


def of_channels(terms: Any, dtype: str, *, both: bool = False) -> Any:
    """Kernel that sums a term, or ``both``, over batch and inner: partial sums (parts, channels), one block each.

    ``terms(x, g, channel, mean, inv_std, weight, bias)`` makes the two from an element.
    """
    number = real(dtype)
    zero = number(0)

    @jit(THREADS)
    def kernel(x, g, mean, inv_std, weight, bias, first, second, channels, inner, count):
        channels, inner, count = uint32(channels), uint32(inner), uint32(count)
        shared = cuda.shared.array(THREADS, number)
        thread, channel = uint32(cuda.threadIdx.x), uint32(cuda.blockIdx.x)
        part = uint32(cuda.blockIdx.y)
        element = uint32(part * uint32(SPAN) + thread)
        end = min(uint32((part + uint32(1)) * uint32(SPAN)), count)
        a, b = zero, zero
        while element < end:
            n = udiv(element, inner)
            i = uint32((n * channels + channel) * inner + element - n * inner)
            one, other = terms(x[i], g[i], channel, mean, inv_std, weight, bias)
            a += one
            if both:
                b += other
            element = uint32(element + uint32(THREADS))
        a = block_sum(a, shared, thread)
        if thread == uint32(0):
            first[uint32(part * channels + channel)] = a
        if both:
            b = block_sum(b, shared, thread)
            if thread == uint32(0):
                second[uint32(part * channels + channel)] = b

    return kernel


def values(dtype: str) -> Any:
    """Kernel that sums the elements."""
    zero = real(dtype)(0)

    @inlined
    def terms(x, g, channel, mean, inv_std, weight, bias):
        return x, zero

    return of_channels(terms, dtype)


def finish(kind: str, dtype: str) -> Any:
    """From partial sums (parts, channels) to the "sum", the "mean" over ``count``, or "inv_std" of such a mean."""
    number = real(dtype)

    @jit(THREADS)
    def kernel(partial, out, parts, channels, count, eps):
        channels = uint32(channels)
        channel = uint32(cuda.blockIdx.x) * uint32(THREADS) + uint32(cuda.threadIdx.x)
        if channel < channels:
            total = number(0)
            part = uint32(0)
            while part < uint32(parts):
                total += partial[uint32(part * channels + channel)]
                part = uint32(part + uint32(1))
            if kind != "sum":
                total = total / count
            if kind == "inv_std":
                total = number(1) / math.sqrt(total + eps)
            out[channel] = total

    return kernel
