"""Losses."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv._arrays import cross_entropy_question
from fastconv._dispatch import Plan, plan
from fastconv._spec import CrossEntropySpec, Shape
from fastconv.nn._format import batched

__all__ = [
    "BinaryCrossEntropy",
    "CategoricalHinge",
    "CrossEntropy",
    "Hinge",
    "Huber",
    "KLDivergence",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "get",
]

Array = NDArray[Any]

_NOTHING_IGNORED = -100  # targets are checked to be classes, so no sample ever has this one


class Loss:
    """Base of losses: the mean over samples of something that compares output and target.

    With weights of the samples the mean is of ``weight * loss``, still divided by what it is divided by without
    them, as in Keras.

    Attributes
    ----------
    applies : tuple of str
        Ops that the loss applies to the output itself, so that a net should not end in one of them.
    """

    applies: tuple[str, ...] = ()

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

    def value_and_gradient(
        self, output: Array, target: Array, sample_weight: Array | None = None
    ) -> tuple[float, Array]:
        """The mean over the batch and its gradient in ``output``."""
        raise NotImplementedError

    def sums(self, output: Array, target: Array, sample_weight: Array | None = None) -> tuple[float, float]:
        """Dividend and divisor of the mean: those of several batches add up to those of all."""
        values = self.per_sample(output, target).astype(np.float64)
        if sample_weight is not None:
            values = values * sample_weight
        return float(values.sum()), float(len(values))


def _as_classes(target: Any, output_shape: Shape, ignore_index: int | None) -> Array:
    """Integer classes (N, ...) or probabilities (N, classes, ...) of an output (N, classes, ...)."""
    target = np.asarray(target)
    if not output_shape:
        raise ValueError("this loss needs an output with a class axis, got a scalar per sample")
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
    looked_at = target if ignore_index is None else target[target != ignore_index]
    if looked_at.size and not (looked_at.min() >= 0 and looked_at.max() < classes):
        raise ValueError(
            f"classes must be between 0 and {classes - 1} for {classes} outputs, got values "
            f"from {looked_at.min()} to {looked_at.max()}"
        )
    return target.astype(np.int64, copy=False)


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """Cross-entropy of logits (N, classes, ...) with classes (N, ...) or probabilities (N, classes, ...).

    Parameters
    ----------
    label_smoothing
        Share of each target that is spread over all classes.
    weight
        Factor of every class; the mean is then divided by the sum of the factors, as in PyTorch.
    ignore_index
        Class of positions that are left out; it need not be one of the output's.  A batch of nothing else has loss 0.
    """

    label_smoothing: float = 0.0
    weight: Sequence[float] | None = None
    ignore_index: int | None = None

    applies = ("softmax",)

    def __post_init__(self) -> None:
        if not 0.0 <= self.label_smoothing <= 1.0:
            raise ValueError(f"label_smoothing must be between 0 and 1, got {self.label_smoothing!r}")
        if self.weight is not None:
            weight = tuple(float(value) for value in self.weight)
            if not all(0.0 <= value < math.inf for value in weight):
                raise ValueError(f"class weights must be finite and >= 0, got {weight}")
            object.__setattr__(self, "weight", weight)

    def check(self, target: Any, output_shape: Shape) -> Array:
        if self.weight is not None and output_shape and len(self.weight) != output_shape[0]:
            raise ValueError(
                f"weight must have {output_shape[0]} elements, one a class, got {len(self.weight)}"
            )
        return _as_classes(target, output_shape, self.ignore_index)

    def _plan(self, op: str, output: Array, target: Array, reduction: str) -> Plan:
        ignored = _NOTHING_IGNORED if self.ignore_index is None else self.ignore_index
        settings = self.weight is not None, ignored, self.label_smoothing, reduction
        return plan(op, CrossEntropySpec.of, *cross_entropy_question(output, target, *settings))

    def _run(
        self, output: Array, target: Array, reduction: str
    ) -> tuple[CrossEntropySpec, Array, Array | None, Array, Array]:
        """(spec, target and class weights as the kernels want them, loss, log-probabilities)"""
        made = self._plan("cross_entropy_forward", output, target, reduction)
        spec = made.spec
        logits = output.reshape(spec.batch, spec.classes, spec.inner)
        aligned = np.ascontiguousarray(target, dtype=output.dtype if spec.soft else np.int64)
        aligned = aligned.reshape(logits.shape if spec.soft else (spec.batch, spec.inner))
        weight = None if self.weight is None else np.array(self.weight, output.dtype)
        loss, log_probs = made.run(logits, aligned, weight)
        return spec, aligned, weight, loss, log_probs

    def _shares(self, spec: CrossEntropySpec, target: Array) -> Array:
        """What each position adds to the divisor of the mean: shape (batch, inner)."""
        if spec.soft:
            return np.ones((spec.batch, spec.inner))
        kept = target != spec.ignore_index
        if self.weight is None:
            return kept.astype(np.float64)
        return np.where(kept, np.array(self.weight)[np.where(kept, target, 0)], 0.0)

    def per_sample(self, output: Array, target: Array) -> Array:
        spec, aligned, _, loss, _ = self._run(output, target, "none")
        totals = loss.reshape(spec.batch, spec.inner).sum(axis=1, dtype=np.float64)
        shares = self._shares(spec, aligned).sum(axis=1)
        return (totals / np.where(shares == 0, 1.0, shares)).astype(output.dtype)

    def sums(self, output: Array, target: Array, sample_weight: Array | None = None) -> tuple[float, float]:
        spec, aligned, _, loss, _ = self._run(output, target, "none")
        losses = loss.reshape(spec.batch, spec.inner).astype(np.float64)
        if sample_weight is not None:
            losses *= sample_weight[:, None]
        # a position counts as the share of a sample that it is
        return float(losses.sum()) / spec.inner, float(self._shares(spec, aligned).sum()) / spec.inner

    def value_and_gradient(
        self, output: Array, target: Array, sample_weight: Array | None = None
    ) -> tuple[float, Array]:
        scale: Array
        reduction = "none"
        if sample_weight is None and self.ignore_index is None:
            reduction = "mean"
            _, aligned, weight, loss, log_probs = self._run(output, target, reduction)
            scale, value = np.ones((), dtype=output.dtype), float(loss)
        else:
            spec, aligned, weight, loss, log_probs = self._run(output, target, reduction)
            scales = np.ones((spec.batch, spec.inner))
            if sample_weight is not None:
                scales *= sample_weight[:, None]
            divisor = float(self._shares(spec, aligned).sum())
            scales /= divisor or 1.0  # where nothing counts, the loss is 0
            value = float((loss.reshape(scales.shape) * scales).sum())
            scale = scales.astype(output.dtype)
        backward = self._plan("cross_entropy_backward", output, target, reduction)
        grad = backward.run(scale, log_probs, aligned, weight)
        return value, grad.reshape(output.shape)


@dataclass(frozen=True)
class KLDivergence(Loss):
    """Kullback-Leibler divergence of softmax(logits) from given probabilities, both (N, classes, ...).

    ``sum over classes of target * log(target / softmax(output))``: PyTorch's ``kl_div`` of the log-softmax with
    ``reduction="batchmean"``.
    """

    applies = ("softmax",)

    def check(self, target: Any, output_shape: Shape) -> Array:
        target = _as_classes(np.asarray(target, dtype=np.result_type(target, np.float32)), output_shape, None)
        if not (target >= 0).all():
            raise ValueError(f"probabilities must be >= 0, got {target.min()}")
        return target

    @staticmethod
    def _self_information(target: Array) -> Array:
        """Sum over classes of ``t log t``, averaged over the positions of a sample: shape (N,)."""
        t = target.astype(np.float64).reshape(*target.shape[:2], -1)
        return (t * np.log(np.where(t > 0, t, 1.0))).sum(axis=1).mean(axis=1)

    def per_sample(self, output: Array, target: Array) -> Array:
        return CrossEntropy().per_sample(output, target) + self._self_information(target).astype(output.dtype)

    def value_and_gradient(
        self, output: Array, target: Array, sample_weight: Array | None = None
    ) -> tuple[float, Array]:
        value, grad = CrossEntropy().value_and_gradient(output, target, sample_weight)
        information = self._self_information(target)
        if sample_weight is not None:
            information *= sample_weight
        return value + float(information.mean()), grad


class _Elementwise(Loss):
    """Mean of a function of one output and its target over all elements."""

    def check(self, target: Any, output_shape: Shape) -> Array:
        target = np.asarray(target)
        if target.dtype.kind not in "fiub":
            raise TypeError(f"targets must be real numbers, got dtype {target.dtype}")
        if target.ndim == 1 and output_shape == (1,):
            target = target[:, None]  # one number a sample
        if target.ndim == 0 or target.shape[1:] != output_shape:
            raise ValueError(
                f"targets must have the output's shape {batched(output_shape)}, got {target.shape}"
            )
        return target

    def values(self, output: Array, target: Array) -> Array:
        """The function."""
        raise NotImplementedError

    def slopes(self, output: Array, target: Array) -> Array:
        """Its derivative in the output."""
        raise NotImplementedError

    def per_sample(self, output: Array, target: Array) -> Array:
        values = self.values(output, target.astype(output.dtype, copy=False))
        return values.reshape(len(output), -1).mean(axis=1)

    def value_and_gradient(
        self, output: Array, target: Array, sample_weight: Array | None = None
    ) -> tuple[float, Array]:
        target = target.astype(output.dtype, copy=False)
        values, slopes = self.values(output, target), self.slopes(output, target)
        if sample_weight is not None:
            factors = sample_weight.astype(output.dtype).reshape(-1, *[1] * (output.ndim - 1))
            values, slopes = values * factors, slopes * factors
        return float(values.mean(dtype=np.float64)), slopes * (1.0 / output.size)


@dataclass(frozen=True)
class MeanSquaredError(_Elementwise):
    """Mean of ``(output - target)**2`` over all elements."""

    def values(self, output: Array, target: Array) -> Array:
        return np.square(output - target)

    def slopes(self, output: Array, target: Array) -> Array:
        return 2.0 * (output - target)


@dataclass(frozen=True)
class MeanAbsoluteError(_Elementwise):
    """Mean of ``|output - target|`` over all elements."""

    def values(self, output: Array, target: Array) -> Array:
        return np.abs(output - target)

    def slopes(self, output: Array, target: Array) -> Array:
        return np.sign(output - target)


@dataclass(frozen=True)
class Huber(_Elementwise):
    """Half the square of the error up to ``delta``, a straight line beyond (Huber 1964)."""

    delta: float = 1.0

    def __post_init__(self) -> None:
        if not self.delta > 0:
            raise ValueError(f"delta must be positive, got {self.delta!r}")

    def values(self, output: Array, target: Array) -> Array:
        error = np.abs(output - target)
        return np.where(error <= self.delta, 0.5 * np.square(error), self.delta * (error - 0.5 * self.delta))

    def slopes(self, output: Array, target: Array) -> Array:
        return np.clip(output - target, -self.delta, self.delta)


@dataclass(frozen=True)
class BinaryCrossEntropy(_Elementwise):
    """Cross-entropy of logits with targets between 0 and 1, every output by itself.

    Parameters
    ----------
    label_smoothing
        Share of each target that is moved to 1/2.
    """

    label_smoothing: float = 0.0

    applies = ("sigmoid", "softmax")

    def __post_init__(self) -> None:
        if not 0.0 <= self.label_smoothing <= 1.0:
            raise ValueError(f"label_smoothing must be between 0 and 1, got {self.label_smoothing!r}")

    def check(self, target: Any, output_shape: Shape) -> Array:
        target = super().check(target, output_shape)
        if not ((target >= 0) & (target <= 1)).all():
            raise ValueError(f"targets must be between 0 and 1, got {target.min()} to {target.max()}")
        return target

    def _smooth(self, target: Array) -> Array:
        return target * (1.0 - self.label_smoothing) + 0.5 * self.label_smoothing

    def values(self, output: Array, target: Array) -> Array:
        # exp of a number that is not positive, so nothing overflows
        return np.maximum(output, 0) - output * self._smooth(target) + np.log1p(np.exp(-np.abs(output)))

    def slopes(self, output: Array, target: Array) -> Array:
        small = np.exp(-np.abs(output))
        return np.where(output >= 0, 1.0, small).astype(output.dtype) / (1.0 + small) - self._smooth(target)


@dataclass(frozen=True)
class Hinge(_Elementwise):
    """``max(0, 1 - sign * output)``, every output by itself; targets are 0 and 1, or -1 and 1."""

    def check(self, target: Any, output_shape: Shape) -> Array:
        target = super().check(target, output_shape)
        if not np.isin(target, (-1, 0, 1)).all() or ((target == -1).any() and (target == 0).any()):
            raise ValueError(f"targets must be 0 and 1, or -1 and 1, got {np.unique(target)[:5]}")
        return np.where(target > 0, 1, -1)

    def values(self, output: Array, target: Array) -> Array:
        return np.maximum(1.0 - target * output, 0)

    def slopes(self, output: Array, target: Array) -> Array:
        return np.where(target * output < 1.0, -target, 0).astype(output.dtype)


@dataclass(frozen=True)
class CategoricalHinge(Loss):
    """``max(0, 1 + largest other output - output of the class)``: Crammer & Singer's multi-class hinge (2001).

    Outputs are (N, classes, ...); targets are classes (N, ...) or, one-hot, (N, classes, ...).
    """

    def check(self, target: Any, output_shape: Shape) -> Array:
        target = _as_classes(target, output_shape, None)
        if output_shape[0] < 2:
            raise ValueError(f"categorical hinge needs two or more outputs, got {output_shape[0]}")
        return target.argmax(axis=1) if target.dtype.kind == "f" else target

    @staticmethod
    def _margins(output: Array, target: Array) -> tuple[Array, Array, Array]:
        """(losses, the class and its largest rival, each with a class axis of 1)"""
        label = target[:, None]
        others = output.copy()
        np.put_along_axis(others, label, -np.inf, axis=1)
        rival = others.argmax(axis=1, keepdims=True)
        values = [np.take_along_axis(output, each, axis=1) for each in (rival, label)]
        return np.maximum(1.0 + values[0] - values[1], 0), label, rival

    def per_sample(self, output: Array, target: Array) -> Array:
        losses, _, _ = self._margins(output, target)
        return losses.reshape(len(output), -1).mean(axis=1)

    def value_and_gradient(
        self, output: Array, target: Array, sample_weight: Array | None = None
    ) -> tuple[float, Array]:
        losses, label, rival = self._margins(output, target)
        factors = np.full(losses.shape, 1.0 / losses.size)
        if sample_weight is not None:
            factors *= sample_weight.reshape(-1, *[1] * (output.ndim - 1))
        active = np.where(losses > 0, factors, 0.0)
        grad = np.zeros_like(output)
        np.put_along_axis(grad, rival, active, axis=1)
        np.put_along_axis(grad, label, -active, axis=1)
        return float((losses * factors).sum()), grad


NAMED: dict[str, Callable[[], Loss]] = {
    "binary_cross_entropy": BinaryCrossEntropy,
    "binary_crossentropy": BinaryCrossEntropy,
    "bce": BinaryCrossEntropy,
    "categorical_crossentropy": CrossEntropy,
    "categorical_hinge": CategoricalHinge,
    "cross_entropy": CrossEntropy,
    "hinge": Hinge,
    "huber": Huber,
    "kl_divergence": KLDivergence,
    "mae": MeanAbsoluteError,
    "mean_absolute_error": MeanAbsoluteError,
    "mean_squared_error": MeanSquaredError,
    "mse": MeanSquaredError,
    "sparse_categorical_crossentropy": CrossEntropy,
}


def get(loss: str | Loss) -> Loss:
    """A loss by name, or itself."""
    if isinstance(loss, Loss):
        return loss
    if loss not in NAMED:
        raise ValueError(f"loss must be a Loss or one of {sorted(NAMED)}, got {loss!r}")
    return NAMED[loss]()
