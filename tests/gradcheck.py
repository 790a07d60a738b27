"""Gradients against random directional derivatives, in float64.

For ``s = sum(g * f(x))`` with a random ``g`` and a random direction ``d`` the derivative of ``s`` along ``d``, taken
by central differences, must equal ``sum(gradient * d)``: one comparison, whatever the sizes, that a wrong element fails
with probability one.  Inputs must stay away from kinks and ties by more than the step: see :func:`kit.ramp`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kit import Array

STEP = 1e-5


def check_gradients(
    forward: Callable[..., Any],
    backward: Callable[..., Sequence[Any]],
    arrays: Sequence[Array],
    *,
    tolerance: float = 1e-7,
    directions: int = 3,
) -> None:
    """Check the gradients of ``forward(*arrays)`` in each of its arrays.

    Parameters
    ----------
    forward : callable
        Takes the float64 ``arrays``, returns an array.
    backward : callable
        ``backward(grad_output)`` returns the gradients, one for each of ``arrays``, in their order.
    arrays : sequence of ndarray
    tolerance : float
        Of the derivative, relative to the product of the norms of gradient and direction.
    directions : int
        How many random directions to try.

    Raises
    ------
    AssertionError
        If a gradient has the wrong shape or dtype, or a derivative differs.
    """
    random = np.random.default_rng(0)
    output = np.asarray(forward(*arrays))
    weights = random.standard_normal(output.shape)
    gradients = backward(weights)
    assert len(gradients) == len(arrays)
    for i, (gradient, array) in enumerate(zip(gradients, arrays, strict=True)):
        assert gradient.shape == array.shape, f"gradient {i} has shape {gradient.shape}, not {array.shape}"
        assert gradient.dtype == array.dtype == np.float64
        for _ in range(directions):
            direction = random.standard_normal(array.shape)
            ahead, behind = (
                np.asarray(forward(*arrays[:i], array + sign * STEP * direction, *arrays[i + 1 :]))
                for sign in (1, -1)
            )
            numeric = float(np.sum(weights * (ahead - behind))) / (2 * STEP)
            exact = float(np.sum(gradient * direction))
            scale = 1.0 + np.linalg.norm(gradient) * np.linalg.norm(direction)
            assert abs(numeric - exact) <= tolerance * scale, (
                f"gradient {i}: along a random direction the derivative is {numeric}, the gradient gives {exact}"
            )
