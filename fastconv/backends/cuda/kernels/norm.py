"""Batch normalisation of (batch, channels, inner)."""

from __future__ import annotations

from typing import Any

from fastconv.backends.cuda._numba import cuda, inlined, jit, real, uint32
from fastconv.backends.cuda.intrinsics import udiv
from fastconv.backends.cuda.kernels import reduction

THREADS = 256


def _affine(weighted: bool, biased: bool) -> Any:
    """``normal * weight + bias``."""

    @inlined
    def apply(normal, channel, weight, bias):
        y = normal
        if weighted:
            y = y * weight[channel]
        if biased:
            y = y + bias[channel]
        return y

    return apply


def deviations(dtype: str) -> Any:
    """Kernel that sums the squared distances from the mean."""
    zero = real(dtype)(0)

    @inlined
    def terms(x, g, channel, mean, inv_std, weight, bias):
        d = x - mean[channel]
        return d * d, zero

    return reduction.of_channels(terms, dtype)


def gradients(weighted: bool, biased: bool, relu: bool, dtype: str) -> Any:
    """Kernel that sums the gradients of weight and bias."""
    zero = real(dtype)(0)
    affine = _affine(weighted, biased)

    @inlined
    def terms(x, g, channel, mean, inv_std, weight, bias):
        normal = (x - mean[channel]) * inv_std[channel]
        if relu and affine(normal, channel, weight, bias) <= zero:
            g = zero
        return g * normal, g

    return reduction.of_channels(terms, dtype, both=True)


def forward(weighted: bool, biased: bool, relu: bool, dtype: str) -> Any:
    """y from x and its statistics."""
    zero = real(dtype)(0)
    affine = _affine(weighted, biased)

    @jit(THREADS)
    def kernel(x, mean, inv_std, weight, bias, y, channels, inner, size):
        i = uint32(cuda.blockIdx.x) * uint32(THREADS) + uint32(cuda.threadIdx.x)
        if i < uint32(size):
            plane = udiv(uint32(i), uint32(inner))
            channel = uint32(plane - udiv(plane, uint32(channels)) * uint32(channels))
            value = affine((x[i] - mean[channel]) * inv_std[channel], channel, weight, bias)
            if relu and value < zero:
                value = zero
            y[i] = value

    return kernel


def backward(weighted: bool, biased: bool, relu: bool, training: bool, dtype: str) -> Any:
    """dx from dy, the sums over it and the statistics."""
    zero = real(dtype)(0)
    affine = _affine(weighted, biased)

    @jit(THREADS)
    def kernel(g, x, mean, inv_std, weight, bias, dweight, dbias, dx, channels, inner, size, count):
        i = uint32(cuda.blockIdx.x) * uint32(THREADS) + uint32(cuda.threadIdx.x)
        if i < uint32(size):
            plane = udiv(uint32(i), uint32(inner))
            channel = uint32(plane - udiv(plane, uint32(channels)) * uint32(channels))
            normal = (x[i] - mean[channel]) * inv_std[channel]
            value = g[i]
            if relu and affine(normal, channel, weight, bias) <= zero:
                value = zero
            if training:
                value -= (dbias[channel] + normal * dweight[channel]) / count
            value *= inv_std[channel]
            if weighted:
                value *= weight[channel]
            dx[i] = value

    return kernel
