"""Batch normalisation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastconv._arrays import dtype_name
from fastconv._dispatch import run
from fastconv._spec import BatchNormSpec, Shape
from fastconv.ops._base import Array, Context, Gradients, Op, Wanted, single


@dataclass(frozen=True, kw_only=True)
class BatchNorm(Op):
    """``(x - mean) / sqrt(var + eps) * weight + bias`` per channel (Ioffe & Szegedy 2015, arXiv:1502.03167).

    Training uses the statistics of the batch and moves ``running_mean`` and ``running_var`` towards them *in
    place* by ``momentum`` (the running variance is the unbiased one, as in PyTorch); otherwise the running
    ones are used.
    """

    eps: float = 1e-5
    momentum: float = 0.1
    affine: bool = True  # whether there are a weight and a bias

    state = ("running_mean", "running_var")

    @property
    def kind(self) -> str:
        return "batch_norm"

    def infer_shape(self, *input_shapes: Shape) -> Shape:
        shape = single(input_shapes, self.kind)
        if not shape or shape[0] < 1:
            raise ValueError(f"{self.kind} takes an input with channels, got {shape}")
        return shape

    def __post_init__(self) -> None:
        if not self.eps >= 0.0:
            raise ValueError(f"eps must be >= 0, got {self.eps!r}")
        if not 0.0 <= self.momentum <= 1.0:
            raise ValueError(f"momentum must be between 0 and 1, got {self.momentum!r}")

    def param_shapes(self, *input_shapes: Shape) -> dict[str, Shape]:
        channels = self.infer_shape(*input_shapes)[:1]
        learned = ("weight", "bias") if self.affine else ()
        return dict.fromkeys((*learned, *self.state), channels)

    def forward(
        self, inputs: tuple[Array, ...], params: dict[str, Array], context: Context
    ) -> tuple[Array, Any]:
        (x,) = inputs
        batch, channels, *spatial = x.shape
        spec = BatchNormSpec(
            batch=batch,
            channels=channels,
            inner=math.prod(spatial),
            training=context.training,
            eps=self.eps,
            dtype=dtype_name(x),
        )
        x3 = x.reshape(batch, channels, spec.inner)
        count = batch * spec.inner
        if context.training and count < 2:
            raise ValueError(
                f"batch normalisation needs more than one value per channel to train, got input {x.shape}"
            )
        given = (None, None) if context.training else (params["running_mean"], params["running_var"])
        output, mean, inv_std = run(
            "batch_norm_forward", spec, x3, *given, params.get("weight"), params.get("bias")
        )
        if context.training:
            variance = np.maximum(inv_std**-2.0 - self.eps, 0.0) * (count / (count - 1))
            params["running_mean"] += self.momentum * (mean - params["running_mean"])
            params["running_var"] += self.momentum * (variance - params["running_var"])
        return output.reshape(x.shape), (spec, x3, mean, inv_std) if context.recording else None

    def backward(self, grad_output: Array, saved: Any, params: dict[str, Array], wanted: Wanted) -> Gradients:
        spec, x3, mean, inv_std = saved
        grad_input, grad_weight, grad_bias = run(
            "batch_norm_backward",
            spec,
            grad_output.reshape(x3.shape),
            x3,
            mean,
            inv_std,
            params.get("weight"),
        )
        grad_params = {"weight": grad_weight, "bias": grad_bias} if self.affine else {}
        return (grad_input.reshape(grad_output.shape),), grad_params
