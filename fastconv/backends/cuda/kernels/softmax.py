"""Softmax along the middle axis of (outer, length, inner), and the cross-entropy on its logarithm.

``rows``: a block takes a line, of many elements that are adjacent (inner is 1); else a thread takes one of its own.
"""

from __future__ import annotations

import math
from typing import Any

from fastconv.backends.cuda._numba import cuda, inlined, int64, jit, real, uint32
from fastconv.backends.cuda.intrinsics import udiv
from fastconv.backends.cuda.kernels.reduction import THREADS, block_max, block_sum


def _line(rows: bool) -> Any:
    """Of a thread: its line, where that starts, the first of its elements there, how many further its next is."""

    @inlined
    def line(length, inner):
        thread, block = uint32(cuda.threadIdx.x), uint32(cuda.blockIdx.x)
        if rows:
            return block, uint32(block * length), thread, uint32(THREADS)
        number = uint32(block * uint32(THREADS) + thread)
        outer = udiv(number, inner)
        return number, uint32(outer * length * inner + number - outer * inner), uint32(0), uint32(1)

    return line


def forward(rows: bool, log: bool, dtype: str) -> Any:
    """Softmax or its logarithm."""
    number = real(dtype)
    zero, lowest = number(0), number(float("-inf"))
    line = _line(rows)

    @jit(THREADS)
    def kernel(x, y, length, inner, lines):
        length, inner = uint32(length), uint32(inner)
        shared = cuda.shared.array(THREADS, number)
        thread = uint32(cuda.threadIdx.x)
        mine, start, first, step = line(length, inner)
        if mine >= uint32(lines):  # never a part of a block with barriers
            return
        most, total = lowest, zero
        k = first
        while k < length:
            value = x[uint32(start + k * inner)]
            most = value if value > most else most
            k = uint32(k + step)
        if rows:
            most = block_max(most, shared, thread)
        k = first
        while k < length:
            total += math.exp(x[uint32(start + k * inner)] - most)
            k = uint32(k + step)
        if rows:
            total = block_sum(total, shared, thread)
        k = first
        while k < length:
            i = uint32(start + k * inner)
            z = x[i] - most
            y[i] = z - math.log(total) if log else math.exp(z) / total
            k = uint32(k + step)

    return kernel


def backward(rows: bool, log: bool, dtype: str) -> Any:
    """dx from dy and y."""
    number = real(dtype)
    line = _line(rows)

    @jit(THREADS)
    def kernel(g, y, dx, length, inner, lines):
        length, inner = uint32(length), uint32(inner)
        shared = cuda.shared.array(THREADS, number)
        thread = uint32(cuda.threadIdx.x)
        mine, start, first, step = line(length, inner)
        if mine >= uint32(lines):  # never a part of a block with barriers
            return
        total = number(0)
        k = first
        while k < length:
            i = uint32(start + k * inner)
            total += g[i] if log else g[i] * y[i]
            k = uint32(k + step)
        if rows:
            total = block_sum(total, shared, thread)
        k = first
        while k < length:
            i = uint32(start + k * inner)
            dx[i] = g[i] - math.exp(y[i]) * total if log else y[i] * (g[i] - total)
            k = uint32(k + step)

    return kernel


def _coefficient(soft: bool, weighted: bool, dtype: str) -> Any:
    """Of a class' log-probability in the loss of a pixel, whose label or probability of the class is ``aim``."""
    zero, one = real(dtype)(0), real(dtype)(1)

    @inlined
    def coefficient(aim, k, weight, smooth, share):
        hit = aim * (one - smooth) if soft else (one - smooth if aim == int64(k) else zero)
        value = hit + share
        return value * weight[k] if weighted else value

    return coefficient


def loss(rows: bool, soft: bool, weighted: bool, dtype: str) -> Any:
    """Loss of each pixel of (batch, inner)."""
    number = real(dtype)
    zero = number(0)
    coefficient, line = _coefficient(soft, weighted, dtype), _line(rows)

    @jit(THREADS)
    def kernel(log_probs, target, weight, losses, classes, inner, size, ignored, smooth, share):
        classes, inner = uint32(classes), uint32(inner)
        shared = cuda.shared.array(THREADS, number)
        thread = uint32(cuda.threadIdx.x)
        pixel, start, first, step = line(classes, inner)
        if pixel >= uint32(size):
            return
        kept = soft or target[pixel] != ignored
        total = zero
        k = first
        while kept and k < classes:
            i = uint32(start + k * inner)
            c = coefficient(target[i] if soft else target[pixel], k, weight, smooth, share)
            if soft or c != zero:
                total -= c * log_probs[i]
            k = uint32(k + step)
        if rows:
            total = block_sum(total, shared, thread)
        if not rows or thread == uint32(0):
            losses[pixel] = total

    return kernel


def shares(soft: bool, weighted: bool, dtype: str) -> Any:
    """What each pixel of (batch, inner) counts in the mean."""
    zero, one = real(dtype)(0), real(dtype)(1)

    @jit(THREADS)
    def kernel(target, weight, counts, size, ignored):
        pixel = uint32(cuda.blockIdx.x) * uint32(THREADS) + uint32(cuda.threadIdx.x)
        if pixel >= uint32(size):
            return
        count = one
        if not soft:
            if target[pixel] == ignored:
                count = zero
            elif weighted:
                count = weight[target[pixel]]
        counts[pixel] = count

    return kernel


def quotient(dtype: str) -> Any:
    """One number over another."""

    @jit(THREADS)
    def kernel(a, b, out):
        if uint32(cuda.threadIdx.x) == uint32(0):
            out[uint32(0)] = a[uint32(0)] / b[uint32(0)]

    return kernel


def loss_backward(rows: bool, soft: bool, weighted: bool, scalar: bool, mean: bool, dtype: str) -> Any:
    """Gradient in the logits; ``scalar``: of a reduced loss; ``mean``: by ``divisor``."""
    number = real(dtype)
    zero = number(0)
    coefficient, line = _coefficient(soft, weighted, dtype), _line(rows)

    @jit(THREADS)
    def kernel(g, log_probs, target, weight, divisor, dx, classes, inner, size, ignored, smooth, share):
        classes, inner = uint32(classes), uint32(inner)
        shared = cuda.shared.array(THREADS, number)
        thread = uint32(cuda.threadIdx.x)
        pixel, start, first, step = line(classes, inner)
        if pixel >= uint32(size):
            return
        kept = soft or target[pixel] != ignored
        scale = g[uint32(0) if scalar else pixel]
        if mean:
            scale = scale / divisor[uint32(0)]
        total = zero
        k = first
        while kept and k < classes:
            aim = target[uint32(start + k * inner)] if soft else target[pixel]
            total += coefficient(aim, k, weight, smooth, share)
            k = uint32(k + step)
        if rows:
            total = block_sum(total, shared, thread)
        k = first
        while k < classes:
            i = uint32(start + k * inner)
            value = zero
            if kept:
                aim = target[i] if soft else target[pixel]
                value = (math.exp(log_probs[i]) * total - coefficient(aim, k, weight, smooth, share)) * scale
            dx[i] = value
            k = uint32(k + step)

    return kernel
