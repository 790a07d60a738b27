"""Normalisation by the statistics of a sample itself: the same in training and inference."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from fastconv._arrays import dtype_name
from fastconv._dispatch import run
from fastconv._spec import BatchNormSpec, Shape
from fastconv.ops._base import GLOBAL, Array, Context, Extent, Gradients, Op, Wanted, single


class _OwnStatistics(Op):
    """Base: parts of a sample, which subclasses name, get mean 0 and variance 1, then a weight and a bias.

    Each part of each sample is a channel of one large sample to the kernels of batch normalisation.
    """

    eps: float
    affine: bool

    def __post_init__(self) -> None:
        if not self.eps >= 0.0:
            raise ValueError(f"eps must be >= 0, got {self.eps!r}")

    def _parts(self, shape: Shape) -> int:
        """Number of parts, one after the other, of a sample; ValueError if it has none."""
        raise NotImplementedError

    def _affine_shape(self, shape: Shape) -> Shape:
        """Of weight and bias: that of the channels unless a subclass says otherwise."""
        return shape[:1]

    def _lined_up(self, param: Array, ndim: int) -> Array:
        """A weight or bias so that it broadcasts to an array of ``ndim`` axes."""
        return param.reshape(-1, *(1,) * (ndim - 2))

    def infer_shape(self, *input_shapes: Shape) -> Shape:
        shape = single(input_shapes, self.kind)
        self._parts(shape)
        return shape

    def param_shapes(self, *input_shapes: Shape) -> dict[str, Shape]:
        shape = self._affine_shape(self.infer_shape(*input_shapes))
        return dict.fromkeys(("weight", "bias"), shape) if self.affine else {}

    def forward(
        self, inputs: tuple[Array, ...], params: dict[str, Array], context: Context
    ) -> tuple[Array, Any]:
        (x,) = inputs
        parts = len(x) * self._parts(x.shape[1:])
        spec = BatchNormSpec(
            batch=1,
            channels=parts,
            inner=x.size // max(parts, 1),
            training=True,
            eps=self.eps,
            dtype=dtype_name(x),
            relu=False,
        )
        x3 = x.reshape(1, parts, spec.inner)
        normal, mean, inv_std = run("batch_norm_forward", spec, x3, None, None, None, None)
        normal = output = normal.reshape(x.shape)
        if self.affine:
            output = normal * self._lined_up(params["weight"], x.ndim)
            output += self._lined_up(params["bias"], x.ndim)
        return output, (
            spec,
            x3,
            mean,
            inv_std,
            normal if self.affine else None,
        ) if context.recording else None

    def backward(self, grad_output: Array, saved: Any, params: dict[str, Array], wanted: Wanted) -> Gradients:
        spec, x3, mean, inv_std, normal = saved
        grad_normal, grad_params = grad_output, {}
        if self.affine:
            weight = self._lined_up(params["weight"], grad_output.ndim)
            grad_normal = grad_output * weight
            if wanted.params:
                full = (1,) * (grad_output.ndim - weight.ndim) + weight.shape
                others = tuple(
                    axis for axis, n in enumerate(full) if n != grad_output.shape[axis] or axis == 0
                )
                for key, grad in (("weight", grad_output * normal), ("bias", grad_output)):
                    grad_params[key] = grad.sum(axis=others).reshape(params[key].shape)
        if not wanted.inputs[0]:
            return (None,), grad_params
        grad_input, _, _ = run(
            "batch_norm_backward", spec, grad_normal.reshape(x3.shape), x3, mean, inv_std, None, None
        )
        return (grad_input.reshape(grad_output.shape),), grad_params

    def window(self, *input_shapes: Shape) -> Extent:
        return GLOBAL


@dataclass(frozen=True, kw_only=True)
class InstanceNorm(_OwnStatistics):
    """Each channel of (C, ...) by its own statistics (Ulyanov et al. 2016, arXiv:1607.08022)."""

    eps: float = 1e-5
    affine: bool = True

    @property
    def kind(self) -> str:
        return "instance_norm"

    def _parts(self, shape: Shape) -> int:
        if len(shape) < 2 or 0 in shape:
            raise ValueError(f"{self.kind} takes an input with channels and spatial dimensions, got {shape}")
        return shape[0]


@dataclass(frozen=True, kw_only=True)
class GroupNorm(_OwnStatistics):
    """Groups of neighbouring channels by their common statistics (Wu & He 2018, arXiv:1803.08494)."""

    num_groups: int
    eps: float = 1e-5
    affine: bool = True

    @property
    def kind(self) -> str:
        return "group_norm"

    def _parts(self, shape: Shape) -> int:
        if not shape or 0 in shape or self.num_groups < 1 or shape[0] % self.num_groups:
            raise ValueError(f"{self.kind} takes a multiple of {self.num_groups} channels, got {shape}")
        return self.num_groups


@dataclass(frozen=True, kw_only=True)
class LayerNorm(_OwnStatistics):
    """The last ``ndim`` axes by their common statistics (Ba et al. 2016, arXiv:1607.06450)."""

    ndim: int = 1
    eps: float = 1e-5
    affine: bool = True

    @property
    def kind(self) -> str:
        return "layer_norm"

    def _parts(self, shape: Shape) -> int:
        if not 1 <= self.ndim <= len(shape) or 0 in shape:
            raise ValueError(f"{self.kind} over {self.ndim} axes takes as many, got {shape}")
        return math.prod(shape[: len(shape) - self.ndim])

    def _affine_shape(self, shape: Shape) -> Shape:
        return shape[len(shape) - self.ndim :]

    def _lined_up(self, param: Array, ndim: int) -> Array:
        return param
