"""Metrics: exact counts of a batch, which add up over batches, and the numbers that follow from them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv.nn.losses import BinaryCrossEntropy, CrossEntropy, Hinge, Loss

__all__ = [
    "F1",
    "Accuracy",
    "BinaryAccuracy",
    "ConfusionMatrix",
    "Metric",
    "PerClassAccuracy",
    "Precision",
    "Recall",
    "TopKAccuracy",
    "get",
]

Array = NDArray[Any]


class Metric:
    """Base of metrics.

    Parameters
    ----------
    name : str
        Key in the logs, or its beginning.

    Attributes
    ----------
    direction : {"max", "min"}
        Which way is better; callbacks with ``mode="auto"`` ask it.
    ignore_index : int or None
        Class of positions that do not count; a metric given by its name takes the loss's.
    counts : ndarray or None
        Of the last epoch or :meth:`Model.evaluate`.
    """

    direction = "max"
    ignore_index: int | None = None

    def __init__(self, name: str) -> None:
        self.name = name
        self.counts: Array | None = None

    def count(self, output: Array, target: Array) -> Array:
        """Counts of one batch, from the net's output and the checked target; sums of them count several batches."""
        raise NotImplementedError

    def results(self, counts: Array) -> dict[str, float]:
        """Entries of the logs."""
        raise NotImplementedError


def _share(part: Any, whole: Any) -> Any:
    """``part / whole``, 0 where there is nothing."""
    return np.divide(part, whole, out=np.zeros(np.shape(part)), where=np.asarray(whole) != 0)


def _classes(output: Array, target: Array, ignore_index: int | None) -> tuple[Array, Array, int]:
    """(predicted, true class) of every position that counts, and the number of classes.

    One output is the logit of class 1 of two.  True classes that the output does not have are what the loss ignores.
    """
    if output.shape[1] == 1:
        classes = 2
        predicted, label = (output > 0).astype(np.int64), (target > 0.5).astype(np.int64)
    else:
        classes = output.shape[1]
        predicted = output.argmax(axis=1)
        label = target.argmax(axis=1) if target.ndim == output.ndim else target
    predicted, label = predicted.reshape(-1), label.reshape(-1)
    counted = (label >= 0) & (label < classes) & (label != ignore_index)
    return predicted[counted], label[counted], classes


class _Share(Metric):
    """A share of what was seen: counts are (hits, all)."""

    def results(self, counts: Array) -> dict[str, float]:
        return {self.name: float(_share(counts[0], counts[1]))}


class Accuracy(_Share):
    """Share of samples (for dense outputs: of positions) whose largest output is the target class.

    Parameters
    ----------
    name : str
    ignore_index : int, optional
        Class of positions that do not count.  Classes that the output does not have never do.
    """

    def __init__(self, name: str = "accuracy", ignore_index: int | None = None) -> None:
        super().__init__(name)
        self.ignore_index = ignore_index

    def count(self, output: Array, target: Array) -> Array:
        predicted, label, _ = _classes(output, target, self.ignore_index)
        return np.array([np.count_nonzero(predicted == label), len(label)])


class BinaryAccuracy(_Share):
    """Share of outputs on the right side of ``threshold``: that of logits is 0, that of probabilities 0.5."""

    def __init__(self, threshold: float = 0.0, name: str = "binary_accuracy") -> None:
        super().__init__(name)
        self.threshold = threshold

    def count(self, output: Array, target: Array) -> Array:
        return np.array([np.count_nonzero((output > self.threshold) == (target > 0.5)), output.size])


class TopKAccuracy(_Share):
    """Share of samples or positions with fewer than ``k`` outputs above that of the target class.

    Parameters
    ----------
    k : int
    name : str, optional
        Default ``"top_5_accuracy"`` for ``k=5``.
    """

    def __init__(self, k: int = 5, name: str | None = None) -> None:
        if k < 1:
            raise ValueError(f"k must be >= 1, got {k!r}")
        super().__init__(name or f"top_{k}_accuracy")
        self.k = k

    def count(self, output: Array, target: Array) -> Array:
        label = target.argmax(axis=1) if target.ndim == output.ndim else target
        counted = (label >= 0) & (label < output.shape[1]) & (label != self.ignore_index)
        own = np.take_along_axis(output, np.where(counted, label, 0)[:, None], axis=1)
        above = np.count_nonzero(~(output <= own), axis=1)  # NaN is above all, and all are above NaN
        return np.array([np.count_nonzero(counted & (above < self.k)), np.count_nonzero(counted)])


class _PerClass(Metric):
    """Base of metrics from how often each class was hit, predicted and true: counts of shape (3, classes)."""

    averages = ("macro", "micro", "weighted", "binary", None)

    def __init__(self, average: str | None, name: str, ignore_index: int | None = None) -> None:
        if average not in self.averages:
            raise ValueError(f"average must be one of {self.averages}, got {average!r}")
        super().__init__(name)
        self.average = average
        self.ignore_index = ignore_index

    def count(self, output: Array, target: Array) -> Array:
        predicted, label, classes = _classes(output, target, self.ignore_index)
        groups = (label[predicted == label], predicted, label)
        return np.stack([np.bincount(group, minlength=classes) for group in groups])

    def of_class(self, counts: Array) -> Array:
        """The number of each class, or of what each column counts; 0 where nothing is there to divide by."""
        raise NotImplementedError

    def results(self, counts: Array) -> dict[str, float]:
        if self.average == "micro":
            return {self.name: float(self.of_class(counts.sum(axis=1)))}
        values = self.of_class(counts)
        if self.average is None:
            return {f"{self.name}_{number}": float(value) for number, value in enumerate(values)}
        if self.average == "binary":
            return {self.name: float(values[1])}
        weights = counts[2] if self.average == "weighted" else np.ones(len(values))
        return {self.name: float(_share((values * weights).sum(), weights.sum()))}


class Precision(_PerClass):
    """Of what was predicted to be of a class, the share that is.

    Parameters
    ----------
    average : {"macro", "micro", "weighted", "binary", None}
        The mean over classes, the value over all samples, the mean weighted by how often a class is true, the value
        of class 1, or (None) one entry a class, such as ``precision_0``; as in scikit-learn.
    name : str
    ignore_index : int, optional
        Class of positions that do not count.
    """

    def __init__(
        self, average: str | None = "macro", name: str = "precision", ignore_index: int | None = None
    ) -> None:
        super().__init__(average, name, ignore_index)

    def of_class(self, counts: Array) -> Array:
        return _share(counts[0], counts[1])


class Recall(_PerClass):
    """Of what is of a class, the share that was predicted to be; parameters as for :class:`Precision`."""

    def __init__(
        self, average: str | None = "macro", name: str = "recall", ignore_index: int | None = None
    ) -> None:
        super().__init__(average, name, ignore_index)

    def of_class(self, counts: Array) -> Array:
        return _share(counts[0], counts[2])


class F1(_PerClass):
    """Harmonic mean of precision and recall; parameters as for :class:`Precision`."""

    def __init__(
        self, average: str | None = "macro", name: str = "f1", ignore_index: int | None = None
    ) -> None:
        super().__init__(average, name, ignore_index)

    def of_class(self, counts: Array) -> Array:
        return _share(2 * counts[0], counts[1] + counts[2])


class PerClassAccuracy(Recall):
    """Accuracy among the samples of each class, which is its recall: entries ``accuracy_0``, ``accuracy_1``, ..."""

    def __init__(self, name: str = "accuracy", ignore_index: int | None = None) -> None:
        super().__init__(None, name, ignore_index)


class ConfusionMatrix(Metric):
    """How often class i (row) was taken for class j (column): read :attr:`matrix` after :meth:`Model.evaluate`.

    It has no entry in the logs.
    """

    def __init__(self, name: str = "confusion_matrix", ignore_index: int | None = None) -> None:
        super().__init__(name)
        self.ignore_index = ignore_index

    def count(self, output: Array, target: Array) -> Array:
        predicted, label, classes = _classes(output, target, self.ignore_index)
        return np.bincount(label * classes + predicted, minlength=classes**2).reshape(classes, classes)

    def results(self, counts: Array) -> dict[str, float]:
        return {}

    @property
    def matrix(self) -> Array:
        """Counts of the last epoch or evaluation, int64 of shape (classes, classes).

        Raises
        ------
        ValueError
            If nothing has been counted yet.
        """
        if self.counts is None:
            raise ValueError("nothing is counted yet: call model.evaluate(x, y) or model.fit(x, y) first")
        return self.counts


NAMED: dict[str, Callable[[], Metric]] = {
    "accuracy": Accuracy,
    "binary_accuracy": BinaryAccuracy,
    "confusion_matrix": ConfusionMatrix,
    "f1": F1,
    "per_class_accuracy": PerClassAccuracy,
    "precision": Precision,
    "recall": Recall,
    "top_k_accuracy": TopKAccuracy,
}


def get(metric: str | Metric, loss: Loss | None = None) -> Metric:
    """A metric by name, suited to the loss, or itself.

    Accuracy is that of every output where the loss takes each by itself; what cross-entropy ignores does not count.
    """
    if isinstance(metric, Metric):
        return metric
    if metric == "accuracy" and isinstance(loss, BinaryCrossEntropy | Hinge):
        return BinaryAccuracy(name="accuracy")
    if isinstance(metric, str) and (top := re.fullmatch(r"top_([1-9]\d*)_accuracy", metric)):
        made: Metric = TopKAccuracy(int(top[1]))
    elif metric in NAMED:
        made = NAMED[metric]()
    else:
        raise ValueError(f"metrics must be Metric objects or names from {sorted(NAMED)}, got {metric!r}")
    if isinstance(loss, CrossEntropy):
        made.ignore_index = loss.ignore_index
    return made
