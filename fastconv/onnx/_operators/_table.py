"""The table of operators: one translator each, which knows the differences between opsets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastconv.onnx._values import Batch, Known, UnsupportedModelError, Value

Result = Value | tuple[Value | None, ...]
Translator = Callable[..., Result]  # (builder, call, *inputs), an input that is left out is None

TRANSLATORS: dict[str, Translator] = {}


def operator(*op_types: str) -> Callable[[Translator], Translator]:
    """Enter a translator for these operators."""

    def enter(translator: Translator) -> Translator:
        for op_type in op_types:
            TRANSLATORS[op_type] = translator
        return translator

    return enter


def known(value: Value | None, what: str) -> Known:
    """A value that must not depend on the net's inputs."""
    if not isinstance(value, Known):
        raise UnsupportedModelError(f"its {what} must be constant, but depends on an input of the net")
    return value


def numbers(value: Value | None, what: str) -> list[Any] | None:
    """A constant vector of integers, of which one may be a :class:`Batch`; None if it is left out."""
    if value is None:
        return None
    array = known(value, what).array
    if array.ndim > 1 or array.dtype.kind not in "iuO":
        raise ValueError(f"its {what} must be a vector of integers, got {array.dtype} of shape {array.shape}")
    return [item if isinstance(item, Batch) else int(item) for item in array.reshape(-1)]


def integers(value: Value | None, what: str) -> list[int] | None:
    """A constant vector of plain integers; None if it is left out."""
    items = numbers(value, what)
    if items and any(isinstance(item, Batch) for item in items):
        raise UnsupportedModelError(f"its {what} depend on the batch size, got {items}")
    return items


def scalar(value: Value | None, what: str, default: Any = None) -> Any:
    """A constant of one element, or the default if it is left out."""
    if value is None:
        return default
    array = known(value, what).array
    if array.size != 1:
        raise ValueError(f"its {what} must be one number, got shape {array.shape}")
    return array.reshape(()).item()
