"""Arrays of different shapes taken together: NumPy's rules within a sample, and a batch axis of 1 for constants."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastconv._spec import Shape, check_size
from fastconv.ops._base import Array


def broadcast_shape(input_shapes: Sequence[Shape], kind: str, number: str, fits: bool) -> Shape:
    """The shape of a sample that the inputs' shapes broadcast to; ``fits`` says whether their number is right."""
    if fits:
        try:
            shape = tuple(int(n) for n in np.broadcast_shapes(*input_shapes))
        except ValueError:
            pass
        else:
            check_size(shape, "output")
            return shape
    raise ValueError(f"{kind} takes {number} inputs that broadcast to one shape, got {list(input_shapes)}")


def aligned(arrays: Sequence[Array]) -> tuple[Array, ...]:
    """The arrays with axes of size 1 behind the batch axis where others have more, so that they broadcast."""
    rank = max(array.ndim for array in arrays)
    return tuple(
        array
        if array.ndim == rank
        else array.reshape(len(array), *(1,) * (rank - array.ndim), *array.shape[1:])
        for array in arrays
    )


def sum_to(grad: Array, shape: Shape) -> Array:
    """The gradient of an array of ``shape`` that was broadcast, as :func:`aligned`, to that of ``grad``."""
    full = (shape[0], *(1,) * (grad.ndim - len(shape)), *shape[1:])
    repeated = tuple(axis for axis, (n, m) in enumerate(zip(full, grad.shape, strict=True)) if n != m)
    return (grad.sum(axis=repeated, keepdims=True) if repeated else grad).reshape(shape)
