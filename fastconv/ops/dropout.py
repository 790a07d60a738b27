"""Dropout of elements and of whole channels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from fastconv._dispatch import run
from fastconv._spec import DropoutSpec, Shape
from fastconv.ops._base import Array, Context, Gradients, Op, Wanted, single


@dataclass(frozen=True, kw_only=True)
class Dropout(Op):
    """In training, zero with probability ``p`` and scale the rest by 1/(1-p); otherwise the identity.

    With ``whole_channels`` one random bit decides for all positions of a channel (Tompson et al. 2015,
    arXiv:1411.4280).  The backward pass keeps the mask alone, one bit per decision.
    """

    p: float
    whole_channels: bool = False

    def __post_init__(self) -> None:
        DropoutSpec.from_args(0, 1, self.p, 0, 0)  # refuses a p outside [0, 1]

    @property
    def kind(self) -> str:
        return "channel_dropout" if self.whole_channels else "dropout"

    def infer_shape(self, *input_shapes: Shape) -> Shape:
        shape = single(input_shapes, self.kind)
        if self.whole_channels and len(shape) < 2:
            raise ValueError(f"{self.kind} takes an input with channels and spatial dimensions, got {shape}")
        return shape

    def forward(
        self, inputs: tuple[Array, ...], params: dict[str, Array], context: Context
    ) -> tuple[Array, Any]:
        (x,) = inputs
        if not context.training or self.p == 0.0:
            return x, None
        inner = math.prod(x.shape[2:]) if self.whole_channels else 1
        spec = DropoutSpec(size=x.size // inner, inner=inner, p=self.p, seed=context.mask_seed(), offset=0)
        y, mask = run("dropout_forward", spec, x)
        return y, (spec, mask) if context.recording else None

    def backward(self, grad_output: Array, saved: Any, params: dict[str, Array], wanted: Wanted) -> Gradients:
        if saved is None:
            return (grad_output,), {}
        spec, mask = saved
        return (run("dropout_apply", spec, grad_output, mask),), {}
