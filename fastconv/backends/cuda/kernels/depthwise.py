"""Depthwise convolution: every output channel reads one input channel, so there is no matrix to multiply.

One result a thread, neighbouring threads neighbouring pixels.  The input's gradient is gathered; sums of the weight's
gradient are of fixed parts, added in a fixed order.
"""

from __future__ import annotations

from typing import Any

from fastconv.backends.cuda._numba import cuda, jit, real, uint32
from fastconv.backends.cuda.intrinsics import udiv
from fastconv.backends.cuda.kernels.elementwise import activation
from fastconv.backends.cuda.kernels.index import place_in_volume, wrapped
from fastconv.backends.cuda.kernels.reduction import block_sum

THREADS = 256
Geometry = tuple[tuple[int, int, int], ...]  # kernel, stride, dilation and leading pad


def conv_forward(geometry: Geometry, epilogue: tuple[bool, bool, str], dtype: str) -> Any:
    """y = f(sum over taps + bias + residual); ``epilogue``: whether there are these two, and f."""
    (kd, kh, kw), *rest = geometry
    (sd, sh, sw), (dd, dh, dw), (pd, ph, pw) = map(wrapped, rest)
    taps = kd * kh * kw
    has_bias, has_residual, kind = epilogue
    function = activation(kind, dtype)
    zero = real(dtype)(0)

    @jit(THREADS)
    def conv(
        x, w, bias, residual, y, size, channels, multiplier, depth, height, width, od, oh, ow, slope
    ):  # sizes of the input, then of the output
        i = uint32(cuda.blockIdx.x) * uint32(THREADS) + uint32(cuda.threadIdx.x)
        if i >= uint32(size):
            return
        image, oz, oy, ox = place_in_volume(uint32(i), uint32(od), uint32(oh), uint32(ow))
        channel = udiv(image, uint32(multiplier))  # of the batch
        outputs = uint32(uint32(channels) * uint32(multiplier))
        o = uint32(image - udiv(image, outputs) * outputs)
        total = zero
        for a in range(kd):
            z = uint32(oz * sd + uint32(a) * dd - pd)
            for b in range(kh):
                r = uint32(oy * sh + uint32(b) * dh - ph)
                for c in range(kw):
                    s = uint32(ox * sw + uint32(c) * dw - pw)
                    if z < uint32(depth) and r < uint32(height) and s < uint32(width):
                        line = uint32((channel * uint32(depth) + z) * uint32(height) + r)
                        tap = uint32(o * uint32(taps) + uint32((a * kh + b) * kw + c))
                        total += x[uint32(line * uint32(width) + s)] * w[tap]
        if has_bias:
            total += bias[o]
        if has_residual:
            total += residual[i]
        y[i] = function(total, slope)

    return conv


def conv_input_grad(geometry: Geometry, has_bias: bool, dtype: str) -> Any:
    """Gradient of each input: from the outputs of its channel that have it under a tap."""
    (kd, kh, kw), *rest = geometry
    (sd, sh, sw), (dd, dh, dw), (pd, ph, pw) = map(wrapped, rest)
    taps = kd * kh * kw
    zero = real(dtype)(0)

    @jit(THREADS)
    def conv(grad, w, bias, dx, size, channels, multiplier, depth, height, width, od, oh, ow):
        i = uint32(cuda.blockIdx.x) * uint32(THREADS) + uint32(cuda.threadIdx.x)
        if i >= uint32(size):
            return
        image, z, y, x = place_in_volume(uint32(i), uint32(depth), uint32(height), uint32(width))
        channel = uint32(image - udiv(image, uint32(channels)) * uint32(channels))
        total = zero
        j = uint32(0)
        while j < uint32(multiplier):
            plane = uint32(image * uint32(multiplier) + j)
            first = uint32((channel * uint32(multiplier) + j) * uint32(taps))
            for a in range(kd):
                down = uint32(z + pd - uint32(a) * dd)
                oz = udiv(down, sd)
                for b in range(kh):
                    back = uint32(y + ph - uint32(b) * dh)
                    oy = udiv(back, sh)
                    for c in range(kw):
                        right = uint32(x + pw - uint32(c) * dw)
                        ox = udiv(right, sw)
                        exact = (
                            uint32(oz * sd) == down and uint32(oy * sh) == back and uint32(ox * sw) == right
                        )
                        if exact and oz < uint32(od) and oy < uint32(oh) and ox < uint32(ow):
                            line = uint32((plane * uint32(od) + oz) * uint32(oh) + oy)
                            tap = uint32(first + uint32((a * kh + b) * kw + c))
                            total += grad[uint32(line * uint32(ow) + ox)] * w[tap]
            j = uint32(j + uint32(1))
        if has_bias:
            total += bias[channel]
        dx[i] = total

    return conv


def conv_weight_grad(geometry: Geometry, dtype: str) -> Any:
    """Part of the gradient of a tap a block: of ``part`` outputs, counted across the batch.

    Blocks along x are elements of the weight, those along y the parts; sums[part, element].
    """
    (kd, kh, kw), *rest = geometry
    (sd, sh, sw), (dd, dh, dw), (pd, ph, pw) = map(wrapped, rest)
    taps = kd * kh * kw
    number = real(dtype)
    zero = number(0)

    @jit(THREADS)
    def conv(x, grad, sums, part, batch, channels, multiplier, depth, height, width, od, oh, ow):
        shared = cuda.shared.array(THREADS, number)
        t = uint32(cuda.threadIdx.x)
        element = uint32(cuda.blockIdx.x)
        o = udiv(element, uint32(taps))
        tap = uint32(element - o * uint32(taps))
        row = udiv(tap, uint32(kw))
        a, b, c = udiv(row, uint32(kh)), uint32(row % uint32(kh)), uint32(tap - row * uint32(kw))
        outputs = uint32(uint32(channels) * uint32(multiplier))
        channel = udiv(o, uint32(multiplier))
        pixels = uint32(uint32(batch) * uint32(od) * uint32(oh) * uint32(ow))
        start = uint32(uint32(cuda.blockIdx.y) * uint32(part))
        stop = uint32(start + uint32(part))
        if stop > pixels:
            stop = pixels
        total = zero
        p = uint32(start + t)
        while p < stop:
            n, oz, oy, ox = place_in_volume(p, uint32(od), uint32(oh), uint32(ow))
            z, r, s = (
                uint32(oz * sd + a * dd - pd),
                uint32(oy * sh + b * dh - ph),
                uint32(ox * sw + c * dw - pw),
            )
            if z < uint32(depth) and r < uint32(height) and s < uint32(width):
                line = uint32(((n * uint32(channels) + channel) * uint32(depth) + z) * uint32(height) + r)
                g = uint32(((n * outputs + o) * uint32(od) + oz) * uint32(oh) + oy)
                total += x[uint32(line * uint32(width) + s)] * grad[uint32(g * uint32(ow) + ox)]
            p = uint32(p + uint32(THREADS))
        total = block_sum(total, shared, t)
        if t == uint32(0):
            sums[uint32(uint32(cuda.blockIdx.y) * uint32(cuda.gridDim.x) + element)] = total

    return conv


def add_parts(dtype: str) -> Any:
    """out[i] = the sum over parts of parts[part, i], the first part first."""
    zero = real(dtype)(0)

    @jit(THREADS)
    def kernel(parts, out, size, count):
        i = uint32(cuda.blockIdx.x) * uint32(THREADS) + uint32(cuda.threadIdx.x)
        if i >= uint32(size):
            return
        total = zero
        part = uint32(0)
        while part < uint32(count):
            total += parts[uint32(part * uint32(size) + i)]
            part = uint32(part + uint32(1))
        out[i] = total

    return kernel
