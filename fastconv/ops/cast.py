"""Change of dtype."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from fastconv._spec import Shape
from fastconv.ops._base import Array, Context, Gradients, Op, Wanted, single

_DTYPES: Final = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64"),
)


@dataclass(frozen=True, kw_only=True)
class Cast(Op):
    """The elements as another dtype, ``to`` (NumPy's name), by NumPy's rules; only floats pass a gradient on."""

    to: str

    def __post_init__(self) -> None:
        if self.to not in _DTYPES:
            raise ValueError(f"to must be one of {_DTYPES}, got {self.to!r}")

    @property
    def kind(self) -> str:
        return "cast"

    def infer_shape(self, *input_shapes: Shape) -> Shape:
        return single(input_shapes, self.kind)

    def forward(
        self, inputs: tuple[Array, ...], params: dict[str, Array], context: Context
    ) -> tuple[Array, Any]:
        (x,) = inputs
        with np.errstate(all="ignore"):
            return x.astype(self.to, copy=False), x.dtype

    def backward(self, grad_output: Array, saved: Any, params: dict[str, Array], wanted: Wanted) -> Gradients:
        passes = saved.kind == np.dtype(self.to).kind == "f"
        return (grad_output.astype(saved, copy=False) if passes else None,), {}
