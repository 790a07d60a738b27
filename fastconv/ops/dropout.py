"""What only training does: dropout of elements, channels and blocks, and noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastconv._arrays import drop_block_scaling
from fastconv._dispatch import run
from fastconv._spec import DropBlockSpec, DropoutSpec, Shape, as_int_tuple, as_probability
from fastconv.ops._base import Array, Context, Gradients, Op, Wanted, planes, single


class _Masked(Op):
    """What multiplies by a mask keeps that, one bit per decision, and how it scales; None if it did nothing."""

    def backward(self, grad_output: Array, saved: Any, params: dict[str, Array], wanted: Wanted) -> Gradients:
        if saved is None:
            return (grad_output,), {}
        scaling, mask = saved
        return (run("dropout_apply", scaling, grad_output, mask),), {}


@dataclass(frozen=True, kw_only=True)
class Dropout(_Masked):
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


@dataclass(frozen=True, kw_only=True)
class DropBlock(_Masked):
    """In training, zero rectangles of each feature map and scale the rest to the map's size; else the identity.

    About the fraction ``p`` is dropped (Ghiasi, Lin, Le 2018, arXiv:1810.12890; the block centres are drawn
    as :func:`fastconv.functional.drop_block2d` says).  The backward pass keeps one bit per element.
    """

    p: float
    block_size: Shape

    def __post_init__(self) -> None:
        as_probability(self.p)
        as_int_tuple(self.block_size, 2, "block_size", 1)

    @property
    def kind(self) -> str:
        return "drop_block2d"

    def infer_shape(self, *input_shapes: Shape) -> Shape:
        shape = planes(input_shapes, self.kind, 2)
        DropBlockSpec.from_args((1, *shape), self.p, self.block_size, 0, 0)
        return shape

    def forward(
        self, inputs: tuple[Array, ...], params: dict[str, Array], context: Context
    ) -> tuple[Array, Any]:
        (x,) = inputs
        if not context.training or self.p == 0.0:
            return x, None
        mask = run(
            "drop_block_mask",
            DropBlockSpec.from_args(x.shape, self.p, self.block_size, context.mask_seed(), 0),
        )
        scaling = drop_block_scaling(mask, x.size)
        return run("dropout_apply", scaling, x, mask), (scaling, mask) if context.recording else None


@dataclass(frozen=True, kw_only=True)
class GaussianNoise(Op):
    """In training, add normal noise of mean 0 and standard deviation ``std``; otherwise the identity.

    The noise is NumPy's Philox stream (Salmon et al. 2011) of this node and step, in the order of the elements:
    the same for any number of threads, and the same for the first samples of a larger batch.
    """

    std: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.std < math.inf:
            raise ValueError(f"std must be a finite number >= 0, got {self.std!r}")

    @property
    def kind(self) -> str:
        return "gaussian_noise"

    def infer_shape(self, *input_shapes: Shape) -> Shape:
        return single(input_shapes, self.kind)

    def forward(
        self, inputs: tuple[Array, ...], params: dict[str, Array], context: Context
    ) -> tuple[Array, Any]:
        (x,) = inputs
        if not context.training or self.std == 0.0:
            return x, None
        generator = np.random.Generator(np.random.Philox(key=context.mask_seed()))
        noise = generator.standard_normal(x.shape, dtype=x.dtype.type)
        noise *= self.std
        noise += x
        return noise, None

    def backward(self, grad_output: Array, saved: Any, params: dict[str, Array], wanted: Wanted) -> Gradients:
        return (grad_output,), {}
