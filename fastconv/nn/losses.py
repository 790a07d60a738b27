"""Losses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv._arrays import dtype_name
from fastconv._dispatch import Plan, plan
from fastconv._spec import CrossEntropySpec, Shape, frozen
from fastconv.nn._format import batched

__all__ = ["CrossEntropy", "Loss", "MeanSquaredError", "get"]

Array = NDArray[Any]

_NOTHING_IGNORED = -100  # targets are checked to be classes, so no sample ever has this one


class Loss:
    """Base of losses: the mean over samples of something that compares output and target."""

    def check(self, target: Any, output_shape: Shape) -> Array:
        """The target as the array that the other methods take.

        Raises
        ------
        ValueError, TypeError
            If it does not fit an output of ``output_shape`` per sample.
        """
        raise NotImplementedError

    def per_sample(self, output: Array, target: Array) -> Array:
        """Loss of each sample, shape (N,)."""
        raise NotImplementedError

    def value_and_gradient(self, output: Array, target: Array) -> tuple[float, Array]:
        """The mean over the batch and its gradient in ``output``."""
        raise NotImplementedError


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """Cross-entropy of logits (N, classes, ...) with classes (N, ...) or probabilities (N, classes, ...).

    Parameters
    ----------
    label_smoothing
        Share of each target that is spread over all classes.
    """

    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.label_smoothing <= 1.0:
            raise ValueError(f"label_smoothing must be between 0 and 1, got {self.label_smoothing!r}")

    def check(self, target: Any, output_shape: Shape) -> Array:
        target = np.asarray(target)
        if not output_shape:
            raise ValueError("cross-entropy needs an output with a class axis, got a scalar per sample")
        classes, positions = output_shape[0], output_shape[1:]
        if target.dtype.kind == "f":
            if target.shape[1:] != output_shape:
                raise ValueError(
                    f"targets of a floating-point dtype are probabilities of shape {batched(output_shape)}, "
                    f"got shape {target.shape}; classes must be integers"
                )
            return target
        if target.dtype.kind not in "iu":
            raise TypeError(
                f"targets must be integers (classes) or floats (probabilities), got dtype {target.dtype}"
            )
        if target.ndim == 0 or target.shape[1:] != positions:
            raise ValueError(f"classes must have shape {batched(positions)}, got {target.shape}")
        if target.size and not (target.min() >= 0 and target.max() < classes):
            raise ValueError(
                f"classes must be between 0 and {classes - 1} for {classes} outputs, got values "
                f"from {target.min()} to {target.max()}"
            )
        return target.astype(np.int64, copy=False)

    def _plan(self, op: str, output: Array, target: Array, reduction: str) -> Plan:
        question = output.shape, target.shape, dtype_name(output), target.dtype.kind == "f", False
        settings = frozen(_NOTHING_IGNORED, self.label_smoothing, reduction)
        return plan(op, CrossEntropySpec.of, *question, *settings)

    def _run(self, output: Array, target: Array, reduction: str) -> tuple[Array, Array, Array]:
        """Loss, log-probabilities and the target as the kernels take it."""
        made = self._plan("cross_entropy_forward", output, target, reduction)
        spec = made.spec
        logits = output.reshape(spec.batch, spec.classes, spec.inner)
        aligned = np.ascontiguousarray(target, dtype=output.dtype if spec.soft else np.int64)
        aligned = aligned.reshape(logits.shape if spec.soft else (spec.batch, spec.inner))
        loss, log_probs = made.run(logits, aligned, None)
        return loss, log_probs, aligned

    def per_sample(self, output: Array, target: Array) -> Array:
        loss, _, _ = self._run(output, target, "none")
        return loss.mean(axis=1)

    def value_and_gradient(self, output: Array, target: Array) -> tuple[float, Array]:
        loss, log_probs, aligned = self._run(output, target, "mean")
        backward = self._plan("cross_entropy_backward", output, target, "mean")
        grad = backward.run(np.ones((), dtype=output.dtype), log_probs, aligned, None)
        return float(loss), grad.reshape(output.shape)


@dataclass(frozen=True)
class MeanSquaredError(Loss):
    """Mean of ``(output - target)**2`` over all elements."""

    def check(self, target: Any, output_shape: Shape) -> Array:
        target = np.asarray(target)
        if target.dtype.kind not in "fiub":
            raise TypeError(f"targets must be real numbers, got dtype {target.dtype}")
        if target.ndim == 0 or target.shape[1:] != output_shape:
            raise ValueError(
                f"targets must have the output's shape {batched(output_shape)}, got {target.shape}"
            )
        return target

    def per_sample(self, output: Array, target: Array) -> Array:
        difference = output - target.astype(output.dtype, copy=False)
        return np.square(difference).reshape(len(output), -1).mean(axis=1)

    def value_and_gradient(self, output: Array, target: Array) -> tuple[float, Array]:
        difference = output - target.astype(output.dtype, copy=False)
        return float(np.square(difference).mean()), difference * (2.0 / difference.size)


NAMED: dict[str, type[Loss]] = {"cross_entropy": CrossEntropy, "mse": MeanSquaredError}


def get(loss: str | Loss) -> Loss:
    """A loss by name, or itself."""
    if isinstance(loss, Loss):
        return loss
    if loss not in NAMED:
        raise ValueError(f"loss must be a Loss or one of {sorted(NAMED)}, got {loss!r}")
    return NAMED[loss]()
