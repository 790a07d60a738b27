"""Occlusion: slide a window over the input, replace what it covers, and watch the score or the loss.

Two conventions live here. `Occlusion` is Captum's: same call, same numbers, and options for what others do.
`occlusion` is the loss recipe: how the loss of the predicted class moves for every window position, with a window flush
with each edge, so that all pixels are covered alike.

Both compute a net's scores incrementally where that pays, see `_incremental`: to the same numbers, to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from fastconv.explain import _windows
from fastconv.explain._occluded import MEMORY_LIMIT, Estimate, Occluded, Progress, images_per_pass, subject_of
from fastconv.explain._scores import as_image_batch, log_probabilities, require_model
from fastconv.explain._watched import Activity, Watched
from fastconv.explain._windows import Region, Windows
from fastconv.nn import Model

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = np.ndarray

REDUCTIONS = ("mean", "sum", "grid", "scores")


class Occlusion:
    """Perturbation-based attribution by a sliding window, with Captum's conventions [1]_.

    For every window position the covered values are replaced by the baseline, the score is computed again,
    and `score(original) - score(occluded)` is credited to every covered value; a value covered by several
    windows gets the mean.

    Parameters
    ----------
    forward_func : Model or callable
        A `fastconv.nn.Model`, or any function from arrays of shape (N, ...) to an array of shape (N,
        classes), (N,) or, for one score for the whole batch, a single number.

    References
    ----------
    .. [1] Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", 2013, arXiv:1311.2901.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import explain
    >>> image = np.arange(4.0).reshape(1, 1, 2, 2)
    >>> explain.Occlusion(lambda x: x.sum(axis=(1, 2, 3))).attribute(image, sliding_window_shapes=(1, 1, 1))
    array([[[[0., 1.],
             [2., 3.]]]])
    """

    def __init__(self, forward_func: Model | Callable[..., Any]) -> None:
        self.forward_func = forward_func
        Watched(forward_func, "output", None)  # refuses what is neither

    def attribute(
        self,
        inputs: Any,
        sliding_window_shapes: Any = None,
        strides: Any = None,
        baselines: Any = None,
        target: Any = None,
        perturbations_per_eval: int = 1,
        show_progress: bool = False,
        *,
        reduction: str = "mean",
        edge: str = "cut",
        score: str | Activity | Callable[[Array], Array] = "output",
        feature_mask: Any = None,
        method: str = "auto",
        memory_limit: int = MEMORY_LIMIT,
    ) -> Any:
        """Attribute the score of `target` to every value of the input.

        Along an axis of length L, windows of length w start at 0, s, 2s, ...: ceil((L - w) / s) + 1
        positions, of which the last is cut off at the edge where it would stick out.

        Parameters
        ----------
        inputs : ndarray of shape (N, ...), or tuple of them
            Never modified. With a tuple, `forward_func` is called with several arguments and each is
            occluded in turn.
        sliding_window_shapes : tuple of int, or tuple of tuples
            Window without the batch axis, channel included: (3, 15, 15) for RGB images. None with a `feature_mask`.
        strides : int, tuple of int, or tuple of those (one per input), optional
            Steps of the window, one per non-batch axis; None is 1 everywhere.
        baselines : number, ndarray, str, or tuple of those (one per input), optional
            What replaces covered values; arrays broadcast against the input. None is 0. Of each image itself: "gray"
            (midway between its smallest and largest value), "mean" (of each channel), "blur" (a Gaussian of a standard
            deviation of 10 pixels in 224), "noise" (normal, of each channel's mean and standard deviation, always the
            same).
        target : None, int, tuple of int, list, or ndarray, optional
            Which output is the score, for all examples, or one entry per example. None needs one output per
            example.
        perturbations_per_eval : int, default 1
            Window positions evaluated together by whole passes: one holds `perturbations_per_eval * N` examples. An
            incremental evaluation goes by `memory_limit`.
        show_progress : bool, default False
            Show a progress bar (tqdm) on stderr.
        reduction : {"mean", "sum", "grid", "scores"}
            Of the differences of all windows that cover a value: their mean, or their sum (both 0 where there are
            none); "grid", one difference per window position; "scores", there the score of the occluded input itself.
        edge : {"cut", "drop", "flush"}
            The last window along an axis: cut off at the edge; left out where it would stick out; or shifted back until
            it ends at the edge.
        score : {"output", "logit", "probability", "loss"}, Activity or callable
            What is watched: the net's output, also called "logit" ; its softmax (a net that ends in one is taken as it
            is); the loss -log P(target); the activity of a feature map, see `Activity`; or a function from outputs
            (N, ...) to scores (N,).
        feature_mask : ndarray of int, broadcast to (1, ...), optional
            In place of windows: values of one number are occluded together, wherever they lie.
        method : {"auto", "full", "incremental"}
            Whole passes, or what a window changes and nothing else: the same numbers to rounding. "auto" takes the
            latter where a net can be looked into and it saves work; `estimate` tells.
        memory_limit : int, default 256 MiB
            Bytes that windows which are computed together may take, beside the weights and the values of one image.

        Returns
        -------
        ndarray of shape (N, ...), or tuple of them
            Shape of the input (leading axis 1 when the forward function returns one number per batch); with the
            reductions "grid" and "scores" (N, windows along each axis), or (N, numbers in the mask). Always
            floating, of the score's precision, also for integer images.

        Raises
        ------
        ValueError
            If a window exceeds the input, a stride exceeds its window (gaps would stay uncovered; allowed
            where the window covers the whole axis), the target does not fit, the forward function mixes
            examples, or an option is none of those above.
        """
        if reduction not in REDUCTIONS:
            raise ValueError(f"reduction must be one of {REDUCTIONS}, got {reduction!r}")
        asked = self._asked(
            inputs,
            sliding_window_shapes,
            strides,
            baselines,
            target,
            perturbations_per_eval,
            edge,
            score,
            feature_mask,
            method,
            memory_limit,
        )
        arrays, watched, plans = asked
        results = []
        total = len(arrays[0]) * sum(len(windows.regions) for windows, _ in plans)
        with Progress(total, show_progress) as progress:
            for (windows, occluded), x in zip(plans, arrays, strict=True):
                original = watched.original(occluded)
                if original.ndim == 0 and perturbations_per_eval != 1:
                    raise ValueError(
                        "perturbations_per_eval must be 1 when the forward function returns one number per "
                        f"batch, got {perturbations_per_eval}"
                    )
                scores = occluded.scores(watched, original.size, progress)
                if reduction == "scores":
                    values = scores.T.reshape(-1, *windows.grid)
                else:
                    differences = original.reshape(1, -1).astype(np.float64) - scores
                    values = _reduced(differences, windows, x.shape[1:], reduction)
                results.append(values.astype(np.result_type(original.dtype, np.float32)))
        return tuple(results) if isinstance(inputs, tuple) else results[0]

    def estimate(
        self,
        inputs: Any,
        sliding_window_shapes: Any = None,
        strides: Any = None,
        baselines: Any = None,
        target: Any = None,
        perturbations_per_eval: int = 1,
        *,
        edge: str = "cut",
        score: str | Activity | Callable[[Array], Array] = "output",
        feature_mask: Any = None,
        method: str = "auto",
        memory_limit: int = MEMORY_LIMIT,
    ) -> Estimate:
        """What `attribute` with these arguments will cost, by which method, and why.

        Some windows of the first input are computed to that end, at most a few dozen.

        Returns
        -------
        Estimate
            `str()` of it is a sentence. With several inputs, it is that of the first.

        Raises
        ------
        ValueError
            As `attribute`.
        """
        asked = self._asked(
            inputs,
            sliding_window_shapes,
            strides,
            baselines,
            target,
            perturbations_per_eval,
            edge,
            score,
            feature_mask,
            method,
            memory_limit,
        )
        return asked[2][0][1].estimate()

    def _asked(
        self,
        inputs: Any,
        sliding_window_shapes: Any,
        strides: Any,
        baselines: Any,
        target: Any,
        perturbations_per_eval: int,
        edge: str,
        score: Any,
        feature_mask: Any,
        method: str,
        memory_limit: int,
    ) -> tuple[tuple[Array, ...], Watched, list[tuple[Windows, Occluded]]]:
        """The arrays, what is watched, and for each array its windows and its occluded copies."""
        many = isinstance(inputs, tuple)
        arrays = tuple(np.asarray(x) for x in (inputs if many else (inputs,)))
        each = len(arrays)
        if (sliding_window_shapes is None) == (feature_mask is None):
            raise ValueError("give either sliding_window_shapes or a feature_mask")
        shapes = _per_input(
            sliding_window_shapes, many and feature_mask is None, each, "sliding_window_shapes"
        )
        steps = _per_input(strides, many and strides is not None, each, "strides")
        fills = _per_input(baselines, many and baselines is not None, each, "baselines")
        masks = _per_input(feature_mask, many and feature_mask is not None, each, "feature_mask")
        if not isinstance(perturbations_per_eval, (int, np.integer)) or perturbations_per_eval < 1:
            raise ValueError(
                f"perturbations_per_eval must be a positive integer, got {perturbations_per_eval!r}"
            )
        if not all(x.ndim >= 2 and len(x) == len(arrays[0]) and x.size for x in arrays):
            found = ", ".join(str(x.shape) for x in arrays)
            raise ValueError(
                f"inputs must be non-empty, of shape (N, ...) with a common N, got shapes {found}"
            )
        if isinstance(target, (list, np.ndarray)) and len(target) not in (1, len(arrays[0])):
            raise ValueError(
                f"target must hold one entry, or one per example ({len(arrays[0])}), got {len(target)}"
            )
        watched = Watched(self.forward_func, score, target)
        plans = []
        for which, (x, shape, step, mask, fill) in enumerate(
            zip(arrays, shapes, steps, masks, fills, strict=True)
        ):
            inside = x.shape[1:]
            windows = (
                _windows.sliding(inside, shape, step, edge) if mask is None else _windows.masked(inside, mask)
            )
            occluded = Occluded(
                watched.subject,
                arrays,
                which,
                _windows.baseline_for(x, fill),
                windows.regions,
                method,
                memory_limit,
                int(perturbations_per_eval),
            )
            plans.append((windows, occluded))
        return arrays, watched, plans


def _reduced(differences: Array, windows: Windows, shape: tuple[int, ...], reduction: str) -> Array:
    """Differences (windows, N) as an attribution of values or a grid."""
    n = differences.shape[1]
    if reduction == "grid":
        return differences.T.reshape(n, *windows.grid)
    total, count = np.zeros((n, *shape)), np.zeros(shape)
    for region, difference in zip(windows.regions, differences, strict=True):
        covered = np.ones((1,) * len(shape)) if region.mask is None else region.mask
        total[(slice(None), *region.where)] += difference.reshape(-1, *(1 for _ in shape)) * covered
        count[region.where] += covered
    return total if reduction == "sum" else total / np.maximum(count, 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class OcclusionResult:
    """What `occlusion` found: one loss difference per window position.

    Attributes
    ----------
    image : ndarray of shape (C, H, W)
        The image as given.
    predicted : int
        The class Q that the net gives the whole image.
    label : int or None
        The true class K, as far as it was told.
    watched : int
        The class whose loss was watched: `predicted` unless another was asked for.
    loss : float
        Loss of the unoccluded image, -log P(watched).
    grid : ndarray of shape (rows, columns)
        `loss` minus the loss of the image occluded at each position. Negative: the net needed what was hidden; the
        smaller, the more important.
    tops, lefts : ndarray of int, shapes (rows,) and (columns,)
        Upper edge and left edge of the windows.
    window : pair of int
        Height and width of the window.
    method, reason : str
        How the losses were computed, and why so.
    """

    image: np.ndarray
    predicted: int
    label: int | None
    watched: int
    loss: float
    grid: np.ndarray
    tops: np.ndarray
    lefts: np.ndarray
    window: tuple[int, int]
    method: str
    reason: str

    @property
    def correct(self) -> bool | None:
        """Whether it explains a correct prediction (K = Q) or an incorrect one; None if nobody told K."""
        return None if self.label is None else self.label == self.predicted

    @property
    def explains(self) -> str:
        """The same in words."""
        kind = {None: "a prediction", True: "a correct prediction", False: "an incorrect prediction"}
        truth = f", true class {self.label}" if self.correct is False else ""
        return f"{kind[self.correct]} of class {self.predicted}{truth}"

    @property
    def positions(self) -> np.ndarray:
        """Upper left corner (row, column) of every window, shape (rows, columns, 2)."""
        return np.stack(np.meshgrid(self.tops, self.lefts, indexing="ij"), axis=-1)

    @property
    def pixel_map(self) -> np.ndarray:
        """The mean of the differences over all windows that cover a pixel, shape (H, W)."""
        rows = _coverage(self.tops, self.window[0], self.image.shape[1])
        columns = _coverage(self.lefts, self.window[1], self.image.shape[2])
        total = rows.T @ self.grid.astype(np.float64) @ columns
        return (total / np.outer(rows.sum(axis=0), columns.sum(axis=0))).astype(self.grid.dtype)

    @property
    def most_important(self) -> tuple[int, int, int, int]:
        """Top, left, height, width of the window that raises the loss most (the first one, at ties)."""
        row, column = np.unravel_index(int(np.argmin(self.grid)), self.grid.shape)
        return int(self.tops[row]), int(self.lefts[column]), *self.window

    def plot(self, class_names: Sequence[str] | None = None, title: str | None = None) -> Figure:
        """Image, grid and pixel map side by side: see `fastconv.plot.occlusion`."""
        from fastconv import plot

        return plot.occlusion(self, class_names, title)


def occlusion(
    model: Model,
    image: Any,
    true_label: int | None = None,
    window: int | tuple[int, int] = 16,
    stride: int | tuple[int, int] = 8,
    baseline: str | float | np.ndarray = "gray",
    method: str = "auto",
    *,
    target: int | None = None,
    batch_size: int | None = None,
    memory_limit: int = MEMORY_LIMIT,
    show_progress: bool = False,
) -> OcclusionResult:
    """How the loss of the predicted class moves when a window hides part of the image, for every window position.

    With Q the class predicted for the whole image, the loss of the whole image is L = -log P(y = Q), that under window
    i is L_i, the same of the occluded image, and the result holds delta_i = L - L_i: the smaller, the more important is
    what the window hid. Beside it stands whether a correct prediction is explained, Q = K, or an incorrect one.

    Windows start at 0, s, 2s, ... and one more is flush with the far edge, so every pixel is covered and
    all windows have one size: ceil((L - w) / s) + 1 positions along an axis of length L.

    Parameters
    ----------
    model : Model
        A classifier with one image input.
    image : ndarray of shape (C, H, W) or (1, C, H, W)
        Never modified.
    true_label : int, optional
        The true class K.
    window, stride : int or pair of int, default 16 and 8
        Height and width; 1 <= stride <= window <= image.
    baseline : {"gray", "mean", "zero", "blur", "noise"}, number or ndarray, default "gray"
        What the window shows, see `Occlusion.attribute`; an array broadcasts to (C, H, W).
    method : {"auto", "full", "incremental"}
        How the losses are computed, see `Occlusion.attribute`; the result tells which was taken and why.
    target : int, optional
        Watch the loss of this class and not of the predicted one.
    batch_size : int, optional
        Copies of a whole pass. None keeps the activations of the net's two widest layers to the limit.
    memory_limit : int, default 256 MiB
        Bytes that windows which are computed together may take.
    show_progress : bool, default False
        Show a progress bar (tqdm) on stderr.

    Returns
    -------
    OcclusionResult

    Raises
    ------
    ValueError
        If the method, baseline, label, window or stride is not as stated.
    """
    model = require_model(model, "occlusion")
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    batch = as_image_batch(image).astype(model.dtype)
    sizes = _windows.pair(window, "window"), _windows.pair(stride, "stride")
    (window_h, stride_h), (window_w, stride_w) = zip(*sizes, strict=True)
    tops = _flush_starts(batch.shape[2], window_h, stride_h, "height")
    lefts = _flush_starts(batch.shape[3], window_w, stride_w, "width")
    whole = slice(None)
    regions = [
        Region((whole, slice(top, top + window_h), slice(left, left + window_w)))
        for top, left in product(tops.tolist(), lefts.tolist())
    ]
    fill = _windows.baseline_for(batch, baseline).astype(model.dtype)
    per_pass = images_per_pass(model, memory_limit) if batch_size is None else batch_size
    subject = subject_of(model)
    occluded = Occluded(subject, (batch,), 0, fill, regions, method, memory_limit, per_pass)

    losses = occluded.original(lambda outputs, _: -log_probabilities(outputs, subject.graph))[0]
    if losses.ndim != 1:
        raise ValueError(f"the net must end in one value per class, got {losses.shape} for an image")
    predicted = int(np.argmin(losses))
    for name, value in (("true_label", true_label), ("target", target)):
        if value is not None and not 0 <= value < len(losses):
            raise ValueError(f"{name} must lie in [0, {len(losses)}), got {value!r}")
    watched = predicted if target is None else int(target)

    def loss(outputs: Array, examples: Array) -> Array:
        return -log_probabilities(outputs, subject.graph)[:, watched]

    with Progress(len(regions), show_progress) as progress:
        scores = occluded.scores(loss, 1, progress)
    return OcclusionResult(
        image=np.asarray(image).reshape(batch.shape[1:]),
        predicted=predicted,
        label=None if true_label is None else int(true_label),
        watched=watched,
        loss=float(losses[watched]),
        grid=(losses[watched] - scores).reshape(len(tops), len(lefts)),
        tops=tops,
        lefts=lefts,
        window=(window_h, window_w),
        method=occluded.method,
        reason=occluded.reason,
    )


def _per_input(value: Any, many: bool, n: int, name: str) -> tuple[Any, ...]:
    """One entry per input: a tuple's entries when the inputs came as a tuple, else the value itself."""
    if not many:
        return (value,) * n
    if not isinstance(value, tuple) or len(value) != n:
        raise ValueError(f"{name} must be a tuple with one entry per input ({n}), got {value!r}")
    return value


def _flush_starts(extent: int, size: int, step: int, axis: str) -> np.ndarray:
    """Window starts 0, step, 2 step, ... and the last one flush with the far edge."""
    if not step <= size <= extent:
        raise ValueError(
            f"stride <= window <= image must hold, got stride {step}, window {size}, {axis} {extent}"
        )
    return _windows.starts(extent, size, step, "flush")


def _coverage(starts: np.ndarray, size: int, extent: int) -> np.ndarray:
    """Which window (rows) covers which pixel (columns) of one axis, as 0.0 and 1.0."""
    pixels = np.arange(extent)
    return ((pixels >= starts[:, None]) & (pixels < starts[:, None] + size)).astype(np.float64)
