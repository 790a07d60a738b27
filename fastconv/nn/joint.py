"""Losses and metrics of nets with several outputs: to the training loop they look like those of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv.nn import losses, metrics
from fastconv.nn.losses import Loss
from fastconv.nn.metrics import Metric

Array = NDArray[Any]


class Parts:
    """Arrays of several outputs, or their targets, for the same samples; None where an output has no loss.

    Length and indexing are those of the samples, as for a single array.
    """

    def __init__(self, arrays: Sequence[Any]) -> None:
        self.arrays = tuple(arrays)

    def __len__(self) -> int:
        return len(next(array for array in self.arrays if array is not None))

    def __getitem__(self, index: Any) -> Parts:
        return Parts([None if array is None else array[index] for array in self.arrays])


class JointLoss(Loss):
    """Weighted sum of a loss for each of several outputs.

    Parameters
    ----------
    names
        Of the outputs.
    parts
        One loss for each; None for an output that is not trained.
    weights
        One factor for each.
    """

    def __init__(self, names: Sequence[str], parts: Sequence[Loss | None], weights: Sequence[float]) -> None:
        self.names = tuple(names)
        self.parts = tuple(parts)
        self.weights = tuple(weights)

    def _trained(self) -> list[tuple[int, Loss]]:
        """Position and loss of the outputs that have one."""
        return [(position, loss) for position, loss in enumerate(self.parts) if loss is not None]

    def check(self, target: Any, output_shape: Any) -> Any:  # one shape for each output
        wanted = [self.names[position] for position, _ in self._trained()]
        if isinstance(target, Parts):
            given = dict(enumerate(target.arrays))
        elif isinstance(target, Mapping):
            if set(target) != set(wanted):
                raise ValueError(f"targets must be those of the outputs {wanted}, got {sorted(target)}")
            given = {position: target.get(name) for position, name in enumerate(self.names)}
        elif isinstance(target, (tuple, list)) and len(target) == len(self.names):
            given = dict(enumerate(target))
        else:
            raise ValueError(
                f"a net with outputs {list(self.names)} takes a tuple of {len(self.names)} targets or a dict"
            )
        arrays: list[Any] = [None] * len(self.names)
        for position, loss in self._trained():
            try:
                arrays[position] = loss.check(given[position], output_shape[position])
            except (ValueError, TypeError) as error:
                raise type(error)(f"output {self.names[position]!r}: {error}") from None
        counts = {len(array) for array in arrays if array is not None}
        if len(counts) != 1:
            raise ValueError(f"all targets need the same number of samples, got {sorted(counts)}")
        return Parts(arrays)

    def per_sample(self, output: Any, target: Any) -> Array:
        values: list[Array] = [
            self.weights[position] * loss.per_sample(output.arrays[position], target.arrays[position])
            for position, loss in self._trained()
        ]
        return sum(values[1:], start=values[0])

    def sums(self, output: Any, target: Any, sample_weight: Array | None = None) -> tuple[float, float]:
        total = 0.0  # of means over the batch: a divisor of one loss is not that of another
        for position, loss in self._trained():
            part, count = loss.sums(output.arrays[position], target.arrays[position], sample_weight)
            total += self.weights[position] * part / (count or 1.0)
        return total * len(target), float(len(target))

    def value_and_gradient(
        self, output: Any, target: Any, sample_weight: Array | None = None
    ) -> tuple[float, Any]:
        total = 0.0
        grads: list[Any] = [None] * len(self.names)
        for position, loss in self._trained():
            weight = self.weights[position]
            value, grad = loss.value_and_gradient(
                output.arrays[position], target.arrays[position], sample_weight
            )
            total += weight * value
            grads[position] = grad * grad.dtype.type(weight)
        return total, Parts(grads)

    def metrics(self) -> list[Metric]:
        """The loss of each output by itself, without its weight."""
        return [_OutputLoss(self.names[position], position, loss) for position, loss in self._trained()]


class _OutputLoss(Metric):
    direction = "min"

    def __init__(self, output: str, position: int, loss: Loss) -> None:
        super().__init__(f"{output}_loss")
        self._position = position
        self._loss = loss

    def count(self, output: Any, target: Any) -> Array:
        return np.array(self._loss.sums(output.arrays[self._position], target.arrays[self._position]))

    def results(self, counts: Array) -> dict[str, float]:
        total, count = counts.tolist()
        return {self.name: total / (count or 1.0)}


class _OutputMetric(Metric):
    def __init__(self, output: str, position: int, metric: Metric) -> None:
        super().__init__(f"{output}_{metric.name}")
        self.direction = metric.direction
        self._output = output
        self._position = position
        self._metric = metric

    def count(self, output: Any, target: Any) -> Array:
        return self._metric.count(output.arrays[self._position], target.arrays[self._position])

    def results(self, counts: Array) -> dict[str, float]:
        self._metric.counts = counts  # where the user reads them
        return {f"{self._output}_{key}": value for key, value in self._metric.results(counts).items()}


def joint_loss(names: Sequence[str], loss: Any, loss_weights: Any = None) -> JointLoss:
    """The loss of a net with outputs ``names``.

    Parameters
    ----------
    names
        Of the outputs.
    loss
        One for all of them, a sequence with one for each (None for an output that is not trained), or a mapping that
        lacks those.
    loss_weights
        Factors of the losses, as a sequence or a mapping that lacks those that are 1.
    """
    chosen = _spread(names, loss if _is_many(loss) else [loss] * len(names), "loss", None)
    weights = _spread(
        names, [1.0] * len(names) if loss_weights is None else loss_weights, "loss_weights", 1.0
    )
    if all(part is None for part in chosen):
        raise ValueError(f"at least one of the outputs {list(names)} needs a loss")
    for weight in weights:
        if isinstance(weight, (str, bool)) or not np.isfinite(weight):
            raise ValueError(f"loss_weights must be finite numbers, got {weight!r}")
    parts = [None if part is None else losses.get(part) for part in chosen]
    return JointLoss(names, parts, [float(weight) for weight in weights])


def joint_metrics(names: Sequence[str], chosen: Any, loss: JointLoss) -> list[Metric]:
    """The metrics of a net with outputs ``names``: the loss of each, then those in a mapping of lists."""
    if chosen and not isinstance(chosen, Mapping):
        raise ValueError(
            f"metrics of a net with outputs {list(names)} must be a dict of lists by output, got {chosen!r}"
        )
    found = loss.metrics()
    for position, own in enumerate(_spread(names, chosen or {}, "metrics", ())):
        if isinstance(own, str):
            raise TypeError(f"metrics must be a list, got {own!r}; write [{own!r}]")
        if own and loss.parts[position] is None:
            raise ValueError(
                f"output {names[position]!r} has metrics but no loss to say what its targets are"
            )
        found += [
            _OutputMetric(names[position], position, metrics.get(metric, loss.parts[position]))
            for metric in own
        ]
    return found


def _is_many(value: Any) -> bool:
    return isinstance(value, (Mapping, list, tuple))


def _spread(names: Sequence[str], value: Any, what: str, default: Any) -> list[Any]:
    """One entry per output."""
    if isinstance(value, Mapping):
        unknown = sorted(set(value) - set(names))
        if unknown:
            raise ValueError(f"{what}: there are no outputs {unknown}; the outputs are {list(names)}")
        return [value.get(name, default) for name in names]
    if not isinstance(value, (list, tuple)) or len(value) != len(names):
        raise ValueError(f"{what} must have one entry for each of the outputs {list(names)}, got {value!r}")
    return list(value)
