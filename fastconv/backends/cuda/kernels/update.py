"""Steps of the optimizers, in place: one weight a thread."""

from __future__ import annotations

import math
from typing import Any

from fastconv.backends.cuda._numba import cuda, jit, real, uint32

THREADS = 256


def step(rule: str, nesterov: bool, moving: bool, averaging: bool, squaring: bool, dtype: str) -> Any:
    """``moving``, ``averaging``, ``squaring``: whether there are velocities, means and mean squares."""
    number = real(dtype)
    zero, one = number(0), number(1)
    adam = rule == "adam"

    @jit(THREADS)
    def kernel(
        weights,
        grads,
        velocity,
        mean,
        square,
        size,
        shrink,
        decay,
        scale,
        rate,
        momentum,
        mean_decay,
        square_decay,
        root_scale,
        eps,
        bound,
    ):
        i = uint32(cuda.blockIdx.x) * uint32(THREADS) + uint32(cuda.threadIdx.x)
        if i >= uint32(size):
            return
        w = weights[i]
        g = grads[i] * scale
        g = bound if g > bound else (-bound if g < -bound else g)
        g += decay * w
        move = g
        average = zero
        if averaging:
            average = mean_decay * mean[i] + (one - mean_decay) * g
            mean[i] = average
        if squaring:
            variance = square_decay * square[i] + (one - square_decay) * g * g
            square[i] = variance
            if averaging and adam:
                move = average
            elif averaging:
                variance -= average * average
                variance = zero if variance < zero else variance
            move = move / (math.sqrt(variance) * root_scale + eps)
        if moving:
            speed = momentum * velocity[i] + move
            velocity[i] = speed
            move = g + momentum * speed if nesterov else speed
        weights[i] = shrink * w - rate * move

    return kernel
