"""Activations, sums, zeros: one element a thread."""

from __future__ import annotations

import math
from typing import Any

from fastconv.backends.cuda._numba import cuda, inlined, jit, real, uint32

THREADS = 256


def activation(kind: str, dtype: str) -> Any:
    """The function of one element and the slope; NaN stays NaN."""
    number = real(dtype)
    zero, half, one, six = number(0), number(0.5), number(1), number(6)
    root_half = number(math.sqrt(0.5))

    def linear(z: Any, slope: Any) -> Any:
        return z

    def relu(z: Any, slope: Any) -> Any:
        return zero if z < zero else z

    def leaky_relu(z: Any, slope: Any) -> Any:
        return z if z > zero else z * slope

    def relu6(z: Any, slope: Any) -> Any:
        return zero if z < zero else (six if z > six else z)

    def tanh(z: Any, slope: Any) -> Any:
        return math.tanh(z)

    def sigmoid(z: Any, slope: Any) -> Any:
        e = math.exp(-abs(z))  # of a negative number, so that nothing overflows
        return (e if z < zero else one) / (one + e)

    def erf(z: Any, slope: Any) -> Any:
        return math.erf(z)

    def gelu(z: Any, slope: Any) -> Any:
        return half * z * (one + math.erf(z * root_half))

    functions = (linear, relu, leaky_relu, relu6, tanh, sigmoid, erf, gelu)
    return inlined(next(each for each in functions if each.__name__ == kind))


def activation_forward(kind: str, dtype: str) -> Any:
    """y = f(x)."""
    function = activation(kind, dtype)

    @jit(THREADS)
    def kernel(x, y, size, slope):
        i = uint32(cuda.blockIdx.x) * uint32(THREADS) + uint32(cuda.threadIdx.x)
        if i < uint32(size):
            y[i] = function(x[i], slope)

    return kernel


def _derivative(kind: str, dtype: str) -> Any:
    """Gradient from that of the result, the result and the slope."""
    number = real(dtype)
    zero, one, six = number(0), number(1), number(6)

    def relu(g: Any, y: Any, slope: Any) -> Any:
        return zero if y <= zero else g

    def leaky_relu(g: Any, y: Any, slope: Any) -> Any:
        return g if y > zero else g * slope

    def relu6(g: Any, y: Any, slope: Any) -> Any:
        return zero if y <= zero or y >= six else g

    def tanh(g: Any, y: Any, slope: Any) -> Any:
        return g * (one - y * y)

    def sigmoid(g: Any, y: Any, slope: Any) -> Any:
        return g * y * (one - y)

    return inlined(
        {"relu": relu, "leaky_relu": leaky_relu, "relu6": relu6, "tanh": tanh, "sigmoid": sigmoid}[kind]
    )


def activation_backward(kind: str, dtype: str) -> Any:
    """dx from dy and y."""
    function = _derivative(kind, dtype)

    @jit(THREADS)
    def kernel(grad, y, dx, size, slope):
        i = uint32(cuda.blockIdx.x) * uint32(THREADS) + uint32(cuda.threadIdx.x)
        if i < uint32(size):
            dx[i] = function(grad[i], y[i], slope)

    return kernel


def add(relu: bool, dtype: str) -> Any:
    """out = a + b, after a ReLU where asked for; ``out`` may be ``a`` or ``b``."""
    zero = real(dtype)(0)

    @jit(THREADS)
    def kernel(a, b, out, size):
        i = uint32(cuda.blockIdx.x) * uint32(THREADS) + uint32(cuda.threadIdx.x)
        if i < uint32(size):
            total = a[i] + b[i]
            if relu and total < zero:
                total = zero
            out[i] = total

    return kernel


def zero() -> Any:
    """Counts of nothing."""

    @jit(THREADS)
    def kernel(counts, size):
        i = uint32(cuda.blockIdx.x) * uint32(THREADS) + uint32(cuda.threadIdx.x)
        if i < uint32(size):
            counts[i] = uint32(0)

    return kernel
