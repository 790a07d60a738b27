"""How shapes are written in messages and tables."""

from __future__ import annotations

from collections.abc import Iterable

from fastconv._spec import Shape


def batched(shape: Shape) -> str:
    """The shape of a batch of samples: ``(N, 1, 28, 28)``, or ``(N,)`` for scalars."""
    return f"(N, {', '.join(map(str, shape))})" if shape else "(N,)"


def times(sizes: Iterable[object]) -> str:
    """Sizes without parentheses: ``3 x 3``."""
    return " x ".join(map(str, sizes))
