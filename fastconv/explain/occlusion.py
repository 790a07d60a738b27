"""Occlusion: slide a window over the input, replace what it covers, and watch the score or the loss.

Two conventions live here. `Occlusion` is Captum's: same call, same numbers. `occlusion` is the loss recipe:
how much the loss of the true class rises for every window position, with a window flush with each edge, so
that all pixels are covered alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from fastconv._optional import require
from fastconv.explain._scores import as_image_batch, forward_function, require_model, target_index
from fastconv.nn import Model

METHODS = ("batched",)
BASELINES = ("gray", "mean", "zero")

_BATCH_BYTES = 128 << 20  # activations of the two widest layers of one occluded batch


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
        self._forward = forward_function(forward_func)

    def attribute(
        self,
        inputs: Any,
        sliding_window_shapes: Any,
        strides: Any = None,
        baselines: Any = None,
        target: Any = None,
        perturbations_per_eval: int = 1,
        show_progress: bool = False,
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
            Window without the batch axis, channel included: (3, 15, 15) for RGB images.
        strides : int, tuple of int, or tuple of those (one per input), optional
            Steps of the window, one per non-batch axis; None is 1 everywhere.
        baselines : number, ndarray, or tuple of those (one per input), optional
            What replaces covered values; arrays broadcast against the input. None is 0.
        target : None, int, tuple of int, list, or ndarray, optional
            Which output is the score, for all examples, or one entry per example. None needs one output per
            example.
        perturbations_per_eval : int, default 1
            Window positions evaluated together: one forward pass holds `perturbations_per_eval * N`
            examples.
        show_progress : bool, default False
            Show a progress bar (tqdm) on stderr.

        Returns
        -------
        ndarray of shape (N, ...), or tuple of them
            Shape of the input (leading axis 1 when the forward function returns one number per batch).
            Always floating, of the score's precision, also for integer images.

        Raises
        ------
        ValueError
            If a window exceeds the input, a stride exceeds its window (gaps would stay uncovered; allowed
            where the window covers the whole axis), the target does not fit, or the forward function mixes
            examples.
        """
        many = isinstance(inputs, tuple)
        arrays = tuple(np.asarray(x) for x in (inputs if many else (inputs,)))
        windows = _per_input(sliding_window_shapes, many, len(arrays), "sliding_window_shapes")
        steps = _per_input(strides, many and strides is not None, len(arrays), "strides")
        fills = _per_input(baselines, many and baselines is not None, len(arrays), "baselines")
        if not isinstance(perturbations_per_eval, (int, np.integer)) or perturbations_per_eval < 1:
            raise ValueError(
                f"perturbations_per_eval must be a positive integer, got {perturbations_per_eval!r}"
            )
        if not all(x.ndim >= 2 and len(x) == len(arrays[0]) and x.size for x in arrays):
            shapes = ", ".join(str(x.shape) for x in arrays)
            raise ValueError(
                f"inputs must be non-empty, of shape (N, ...) with a common N, got shapes {shapes}"
            )
        plans = [_window_slices(x.shape[1:], w, s) for x, w, s in zip(arrays, windows, steps, strict=True)]
        original = self._scores(arrays, target)
        if original.ndim == 0 and perturbations_per_eval != 1:
            raise ValueError(
                "perturbations_per_eval must be 1 when the forward function returns one number per batch, "
                f"got {perturbations_per_eval}"
            )
        bar = _progress_bar(sum(len(plan) for plan in plans), show_progress)
        results = []
        for i, plan in enumerate(plans):
            total = np.zeros((original.size, *arrays[i].shape[1:]))
            count = np.zeros(arrays[i].shape[1:])
            fill = _common_baseline(arrays[i], fills[i])
            for chunk in _chunks(plan, int(perturbations_per_eval)):
                occluded = tuple(
                    _occlude(x, fill, chunk) if j == i else np.concatenate([x] * len(chunk))
                    for j, x in enumerate(arrays)
                )
                scores = self._scores(occluded, target, repeats=len(chunk)).reshape(len(chunk), -1)
                if scores.shape[1] != original.size:
                    raise ValueError(
                        f"the forward function must return one score per example, got {original.size} "
                        f"for the inputs and {scores.size} for {len(chunk)} occluded copies of them"
                    )
                differences = original.reshape(1, -1).astype(np.float64) - scores
                for region, difference in zip(chunk, differences, strict=True):
                    total[(slice(None), *region)] += difference.reshape(-1, *(1 for _ in region))
                    count[region] += 1
                bar.update(len(chunk))
            results.append((total / count).astype(np.result_type(original.dtype, np.float32)))
        bar.close()
        return tuple(results) if many else results[0]

    def _scores(self, inputs: tuple[np.ndarray, ...], target: Any, repeats: int = 1) -> np.ndarray:
        """The score of every example, shape (N,), or 0-d when there is one number for the whole batch."""
        output = self._forward(*inputs)
        n = len(inputs[0])
        if output.ndim == 0 or (output.shape == (1,) and n > 1):
            if target is not None:
                raise ValueError(
                    f"target must be None for a forward function with a single output, got {target!r}"
                )
            return output.reshape(())
        if isinstance(target, (list, np.ndarray)) and len(target) > 1:
            target = np.concatenate([np.asarray(target)] * repeats)
        if len(output) != n:
            raise ValueError(
                f"the forward function must return one score per example ({n}), got shape {output.shape}"
            )
        return output[target_index(output.shape, target)]


@dataclass(frozen=True, kw_only=True, eq=False)
class OcclusionResult:
    """What `occlusion` found: one loss difference per window position.

    Attributes
    ----------
    image : ndarray of shape (C, H, W)
        The image as given.
    label : int
        The class whose loss was watched.
    predicted : int
        The class the net gives the unoccluded image.
    loss : float
        Loss of the unoccluded image.
    grid : ndarray of shape (rows, columns)
        Loss of the image occluded at each position, minus `loss`. Positive: the net needed what was hidden.
    tops, lefts : ndarray of int, shapes (rows,) and (columns,)
        Upper edge and left edge of the windows.
    window : pair of int
        Height and width of the window.
    """

    image: np.ndarray
    label: int
    predicted: int
    loss: float
    grid: np.ndarray
    tops: np.ndarray
    lefts: np.ndarray
    window: tuple[int, int]

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
        row, column = np.unravel_index(int(np.argmax(self.grid)), self.grid.shape)
        return int(self.tops[row]), int(self.lefts[column]), *self.window


def occlusion(
    model: Model,
    image: Any,
    true_label: int | None = None,
    window: int | tuple[int, int] = 16,
    stride: int | tuple[int, int] = 8,
    baseline: str | float | np.ndarray = "gray",
    method: str = "batched",
    *,
    batch_size: int | None = None,
    show_progress: bool = False,
) -> OcclusionResult:
    """How much the loss rises when a window hides part of the image, for every window position.

    Windows start at 0, s, 2s, ... and one more is flush with the far edge, so every pixel is covered and
    all windows have one size: ceil((L - w) / s) + 1 positions along an axis of length L.

    Parameters
    ----------
    model : Model
        A compiled model (its loss is the one watched) with one image input.
    image : ndarray of shape (C, H, W) or (1, C, H, W)
        Never modified.
    true_label : int, optional
        The class whose loss is watched; None takes the class the net predicts.
    window, stride : int or pair of int, default 16 and 8
        Height and width; 1 <= stride <= window <= image.
    baseline : {"gray", "mean", "zero"}, number or ndarray, default "gray"
        What the window shows: midway between the image's smallest and largest value (whatever its scaling),
        the image's mean per channel, 0, a number, or an array that broadcasts to (C, H, W).
    method : {"batched"}
        How the losses are computed. "batched" runs the whole net on batches of occluded copies.
    batch_size : int, optional
        Copies per forward pass. None bounds the activations of the net's two widest layers to 128 MiB.
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
    if method not in METHODS:
        raise ValueError(f"method must be one of {METHODS}, got {method!r}")
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    batch = as_image_batch(image).astype(model.dtype)
    height, width = batch.shape[2:]
    sizes = _pair(window, "window"), _pair(stride, "stride")
    (window_h, stride_h), (window_w, stride_w) = zip(*sizes, strict=True)
    tops = _flush_starts(height, window_h, stride_h, "height")
    lefts = _flush_starts(width, window_w, stride_w, "width")
    fill = np.broadcast_to(_image_baseline(batch[0], baseline), batch.shape[1:])

    scores = model.predict(batch)[0]
    predicted = int(np.argmax(scores))
    label = predicted if true_label is None else int(true_label)
    if not 0 <= label < len(scores):
        raise ValueError(f"true_label must lie in [0, {len(scores)}), got {true_label!r}")
    loss = float(model.loss(batch, np.array([label]), reduction="none")[0])

    whole = slice(None)
    regions = [
        (whole, slice(top, top + window_h), slice(left, left + window_w))
        for top, left in product(tops.tolist(), lefts.tolist())
    ]
    losses = np.empty(len(regions), dtype=batch.dtype)
    done = 0
    bar = _progress_bar(len(regions), show_progress)
    for chunk in _chunks(regions, _bounded_batch(model) if batch_size is None else batch_size):
        labels = np.full(len(chunk), label)
        losses[done : done + len(chunk)] = model.loss(
            _occlude(batch, fill[None], chunk), labels, reduction="none"
        )
        done += len(chunk)
        bar.update(len(chunk))
    bar.close()
    return OcclusionResult(
        image=np.asarray(image).reshape(batch.shape[1:]),
        label=label,
        predicted=predicted,
        loss=loss,
        grid=(losses - losses.dtype.type(loss)).reshape(len(tops), len(lefts)),
        tops=tops,
        lefts=lefts,
        window=(window_h, window_w),
    )


def _per_input(value: Any, many: bool, n: int, name: str) -> tuple[Any, ...]:
    """One entry per input: a tuple's entries when the inputs came as a tuple, else the value itself."""
    if not many:
        return (value,) * n
    if not isinstance(value, tuple) or len(value) != n:
        raise ValueError(f"{name} must be a tuple with one entry per input ({n}), got {value!r}")
    return value


def _window_slices(shape: tuple[int, ...], window: Any, strides: Any) -> list[tuple[slice, ...]]:
    """Captum's window positions inside an array of `shape` (no batch axis), in order of the flat position."""
    window = _whole_numbers(window, len(shape), "sliding_window_shapes")
    strides = _whole_numbers(1 if strides is None else strides, len(shape), "strides")
    axes = []
    for extent, size, step in zip(shape, window, strides, strict=True):
        if size > extent:
            raise ValueError(f"the sliding window {window} must not exceed the input {shape}")
        if step > size and size != extent:
            raise ValueError(
                f"strides {strides} must not exceed the sliding window {window}: gaps would stay uncovered"
            )
        count = math.ceil((extent - size) / step) + 1
        axes.append([slice(i * step, min(i * step + size, extent)) for i in range(count)])
    return list(product(*axes))


def _whole_numbers(value: Any, n: int, name: str) -> tuple[int, ...]:
    values = (value,) * n if isinstance(value, (int, np.integer)) else tuple(value)
    if len(values) != n or not all(isinstance(v, (int, np.integer)) and v >= 1 for v in values):
        raise ValueError(f"{name} must be {n} positive integers, one per non-batch axis, got {value!r}")
    return tuple(int(v) for v in values)


def _common_baseline(x: np.ndarray, baseline: Any) -> np.ndarray:
    """The baseline broadcast to the input, in a dtype that holds both."""
    fill = np.asarray(0 if baseline is None else baseline)
    if fill.ndim == 0 and fill.dtype.kind in "iub":
        fill = fill.astype(np.min_scalar_type(fill))  # a Python number must not widen the input
    elif fill.ndim == 0 and x.dtype.kind == "f":
        fill = fill.astype(x.dtype)
    dtype = np.result_type(x.dtype, fill.dtype)
    try:
        return np.broadcast_to(fill.astype(dtype), x.shape)
    except ValueError:
        raise ValueError(
            f"baselines must broadcast to the input's shape {x.shape}, got shape {fill.shape}"
        ) from None


def _occlude(x: np.ndarray, fill: np.ndarray, regions: Sequence[tuple[slice, ...]]) -> np.ndarray:
    """Copies of the batch `x`, each with one region taken from `fill`; shape (len(regions) * N, ...)."""
    copies = np.empty((len(regions), *x.shape), dtype=fill.dtype)
    copies[:] = x
    for copy, region in zip(copies, regions, strict=True):
        inside = (slice(None), *region)
        copy[inside] = fill[inside]
    return copies.reshape(-1, *x.shape[1:])


def _chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _pair(value: Any, name: str) -> tuple[int, int]:
    pair = (value, value) if isinstance(value, (int, np.integer)) else tuple(value)
    if len(pair) != 2 or not all(isinstance(v, (int, np.integer)) and v >= 1 for v in pair):
        raise ValueError(f"{name} must be a positive integer or a pair of them, got {value!r}")
    return int(pair[0]), int(pair[1])


def _flush_starts(extent: int, size: int, step: int, axis: str) -> np.ndarray:
    """Window starts 0, step, 2 step, ... and the last one flush with the far edge."""
    if not step <= size <= extent:
        raise ValueError(
            f"stride <= window <= image must hold, got stride {step}, window {size}, {axis} {extent}"
        )
    count = math.ceil((extent - size) / step) + 1
    return np.minimum(np.arange(count) * step, extent - size)


def _image_baseline(image: np.ndarray, baseline: Any) -> np.ndarray:
    """What the window shows, broadcastable to `image` (C, H, W) and of its dtype."""
    if isinstance(baseline, str):
        if baseline not in BASELINES:
            raise ValueError(f"baseline must be one of {BASELINES}, a number or an array, got {baseline!r}")
        if baseline == "gray":
            return (image.min() + image.max()) / image.dtype.type(2)
        return image.mean(axis=(1, 2), keepdims=True) if baseline == "mean" else np.zeros((), image.dtype)
    fill = np.asarray(baseline, dtype=image.dtype)
    try:
        np.broadcast_to(fill, image.shape)
    except ValueError:
        raise ValueError(
            f"baseline must broadcast to the image's shape {image.shape}, got shape {fill.shape}"
        ) from None
    return fill


def _coverage(starts: np.ndarray, size: int, extent: int) -> np.ndarray:
    """Which window (rows) covers which pixel (columns) of one axis, as 0.0 and 1.0."""
    pixels = np.arange(extent)
    return ((pixels >= starts[:, None]) & (pixels < starts[:, None] + size)).astype(np.float64)


def _bounded_batch(model: Model) -> int:
    """Images per forward pass: the two widest layers (one read, one written) fit into `_BATCH_BYTES`."""
    sizes = sorted(math.prod(shape) for shape in model.graph.shapes.values())
    return max(1, min(256, _BATCH_BYTES // (sum(sizes[-2:]) * model.dtype.itemsize)))


class _NoBar:
    def update(self, n: int) -> None:
        """Nothing to show."""

    def close(self) -> None:
        """Nothing to close."""


def _progress_bar(total: int, shown: bool) -> Any:
    return (
        require("tqdm", extra="demo").tqdm(total=total, desc="occlusion", unit="window")
        if shown
        else _NoBar()
    )
