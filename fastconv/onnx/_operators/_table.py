"""The table of operators: one translator each, which knows the differences between opsets."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from fastconv.onnx._builder import Builder
from fastconv.onnx._file import Call, shortest
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


def translate(builder: Builder, call: Call, operands: list[Value | None]) -> Result:
    """What a call's operator makes of its operands.

    Raises
    ------
    ValueError, UnsupportedModelError
        If there are too many of them or too few, or for a reason of the operator's.
    """
    translator = TRANSLATORS[call.op_type]
    fewest, most = _arity(translator)
    if not fewest <= len(operands) <= most or None in operands[:fewest]:
        raise ValueError(f"it takes {fewest} inputs or more, up to {most}, got {list(call.inputs)}")
    return translator(builder, call, *operands)


@cache
def _arity(translator: Translator) -> tuple[int, float]:
    """How many inputs must be there, and how many may."""
    parameters = list(inspect.signature(translator).parameters.values())[2:]
    if any(each.kind is inspect.Parameter.VAR_POSITIONAL for each in parameters):
        return 0, math.inf
    return sum(each.default is inspect.Parameter.empty for each in parameters), len(parameters)


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
    number = array.reshape(())
    return shortest(number) if array.dtype == np.float32 else number.item()
