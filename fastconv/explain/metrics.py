"""Measures of whether an attribution says anything about the net."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv._spec import as_int
from fastconv.explain._scores import as_image_batch, probabilities, require_model
from fastconv.nn import Model

Array = NDArray[Any]
Explainer = Callable[[Model, Array], Array]

_BATCH = 16


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """A class score while the pixels that an attribution calls important are deleted, or inserted.

    Attributes
    ----------
    shares : ndarray of shape (n,)
        Of the pixels that were changed, 0 to 1.
    scores : ndarray of shape (n,)
        Probability of the class.
    """

    shares: Array
    scores: Array

    @property
    def area(self) -> float:
        """Area under the curve: small is good for a deletion, large for an insertion."""
        return float(np.diff(self.shares) @ (self.scores[1:] + self.scores[:-1]) / 2)


def deletion(
    model: Model, image: Any, attribution: Any, target: int, baseline: Any = 0.0, steps: int = 50
) -> Curve:
    """The score of a class while pixels are replaced by the baseline, the most important first [1]_.

    Parameters
    ----------
    model : Model
        A classifier with one image input; a net that gives logits is followed by a softmax.
    image : ndarray of shape (C, H, W) or (1, C, H, W)
    attribution : ndarray of shape (H, W) or (C, H, W)
        Larger is more important; channels are added up.
    target : int
        The class.
    baseline : number or ndarray that broadcasts to (C, H, W), default 0
        What a deleted pixel shows.
    steps : int, default 50
        In how many parts of like size.

    Returns
    -------
    Curve

    Raises
    ------
    ValueError
        If the shapes do not fit.

    References
    ----------
    .. [1] Petsiuk, Das and Saenko, "RISE: Randomized Input Sampling for Explanation of Black-box Models", 2018,
       arXiv:1806.07421.
    """
    batch = as_image_batch(image)
    return _replaced(model, batch[0], np.broadcast_to(baseline, batch.shape[1:]), attribution, target, steps)


def insertion(
    model: Model, image: Any, attribution: Any, target: int, baseline: Any = 0.0, steps: int = 50
) -> Curve:
    """The score of a class while pixels of the image replace the baseline, the most important first; see `deletion`."""
    batch = as_image_batch(image)
    return _replaced(model, np.broadcast_to(baseline, batch.shape[1:]), batch[0], attribution, target, steps)


def _replaced(model: Model, start: Array, end: Array, attribution: Any, target: int, steps: int) -> Curve:
    model = require_model(model, "this measure")
    importance = _per_pixel(attribution, end.shape)
    order = np.argsort(-importance, axis=None, kind="stable")
    counts = np.linspace(0, order.size, as_int(steps, "steps", 1) + 1).round().astype(int)
    current = start.reshape(len(start), -1).astype(model.dtype)
    final = end.reshape(len(end), -1)

    def images() -> Iterator[Array]:
        for first, last in zip((0, *counts[:-1]), counts, strict=True):
            current[:, order[first:last]] = final[:, order[first:last]]
            yield current.reshape(end.shape).copy()

    return Curve(shares=counts / order.size, scores=_probabilities(model, images(), target))


def _per_pixel(attribution: Any, shape: tuple[int, ...]) -> Array:
    values = np.asarray(attribution, dtype=np.float64)
    if values.ndim == 4 and len(values) == 1:
        values = values[0]
    if values.shape == shape:
        return np.asarray(values.sum(axis=0))
    if values.shape != shape[1:]:
        raise ValueError(f"attribution must be of shape {shape[1:]} or {shape}, got {values.shape}")
    return values


def _probabilities(model: Model, images: Iterator[Array], target: int) -> Array:
    """Probability of a class in each image; logits go through a softmax."""
    found: list[Array] = []
    part: list[Array] = []

    def flush() -> None:
        scores = model.predict(np.stack(part))
        if scores.ndim != 2 or not 0 <= target < scores.shape[1]:
            raise ValueError(
                f"target must be one of the net's classes, got {target} for scores {scores.shape}"
            )
        found.append(probabilities(scores, model.graph)[:, target])
        part.clear()

    for image in images:
        part.append(image)
        if len(part) == _BATCH:
            flush()
    if part:
        flush()
    return np.concatenate(found)


def infidelity(
    model: Model,
    image: Any,
    attribution: Any,
    target: int,
    noise: float = 0.1,
    samples: int = 100,
    seed: int = 0,
) -> float:
    """Mean square of what an attribution gets wrong about the score when the image changes a little [1]_.

    For perturbations I of normal noise, the mean of ``(I . attribution - (score(x) - score(x - I)))**2``, where the
    score is the net's own output.  The gradient is best for small noise; 0 is perfect.

    Parameters
    ----------
    model : Model
    image : ndarray of shape (C, H, W) or (1, C, H, W)
    attribution : ndarray of shape (C, H, W)
        Of a unit of input, such as the signed gradient.
    target : int
    noise : float, default 0.1
        Standard deviation.
    samples : int, default 100
    seed : int, default 0

    References
    ----------
    .. [1] Yeh, Hsieh, Suggala, Inouye and Ravikumar, "On the (In)fidelity and Sensitivity of Explanations", 2019,
       arXiv:1901.09392.
    """
    model = require_model(model, "infidelity")
    x = as_image_batch(image).astype(model.dtype)
    weights = np.asarray(attribution, dtype=np.float64).reshape(-1)
    if weights.size != x.size:
        raise ValueError(
            f"attribution must be of the image's shape {x.shape[1:]}, got {np.shape(attribution)}"
        )
    rng = np.random.default_rng(seed)
    whole = float(model.predict(x)[0, target])
    squares = []
    for _ in range(as_int(samples, "samples", 1)):
        change = (noise * rng.standard_normal(x.shape)).astype(model.dtype)
        moved = whole - float(model.predict(x - change)[0, target])
        squares.append((float(change.reshape(-1).astype(np.float64) @ weights) - moved) ** 2)
    return float(np.mean(squares))


def sensitivity_max(
    model: Model, image: Any, explainer: Explainer, radius: float = 0.02, samples: int = 10, seed: int = 0
) -> float:
    """The largest relative change of an attribution when each value of the image moves by up to ``radius`` [1]_.

    Parameters
    ----------
    model : Model
    image : ndarray of shape (C, H, W) or (1, C, H, W)
    explainer : callable ``(model, image (C, H, W)) -> attribution``
    radius : float, default 0.02
    samples : int, default 10
    seed : int, default 0

    References
    ----------
    .. [1] Yeh, Hsieh, Suggala, Inouye and Ravikumar, 2019, arXiv:1901.09392.
    """
    x = as_image_batch(image)[0]
    rng = np.random.default_rng(seed)
    original = np.asarray(explainer(model, x), dtype=np.float64)
    size = float(np.linalg.norm(original))
    if size == 0:
        raise ValueError("the attribution of the image is 0 everywhere: a relative change means nothing")
    changes = []
    for _ in range(as_int(samples, "samples", 1)):
        moved = explainer(model, (x + rng.uniform(-radius, radius, x.shape)).astype(x.dtype))
        changes.append(float(np.linalg.norm(moved - original)) / size)
    return max(changes)


def parameter_randomization(
    model: Model, image: Any, explainer: Explainer, seed: int = 0
) -> list[tuple[str, float]]:
    """How like an attribution stays while the net's parameters are replaced by noise, layer by layer from the top [1]_.

    An attribution that hardly changes does not depend on what the net has learned.

    Parameters
    ----------
    model : Model
        Left as it is: copies are randomised.
    image : ndarray of shape (C, H, W) or (1, C, H, W)
    explainer : callable ``(model, image (C, H, W)) -> attribution``
    seed : int, default 0

    Returns
    -------
    list of (node, float)
        From the last layer with parameters to the first: the rank correlation of absolute attributions with the
        original, when this layer and all above it are random.

    References
    ----------
    .. [1] Adebayo, Gilmer, Muelly, Goodfellow, Hardt and Kim, "Sanity Checks for Saliency Maps", 2018,
       arXiv:1810.03292.
    """
    model = require_model(model, "parameter_randomization")
    x = as_image_batch(image)[0]
    original = _ranks(explainer(model, x))
    params = dict(model.params)
    rng = np.random.default_rng(seed)
    found = []
    for node in reversed(model.graph.nodes):
        learned = [name for name in node.params if name in model.graph.trainable]
        if not learned:
            continue
        for name in learned:
            value = params[name]
            spread = float(value.std()) or 1.0
            params[name] = rng.normal(float(value.mean()), spread, value.shape).astype(value.dtype)
        copy = Model.from_graph(model.graph, params, dtype=model.dtype.name)
        found.append((node.name, _correlation(original, _ranks(explainer(copy, x)))))
    return found


def _ranks(attribution: Any) -> Array:
    """Ranks of the magnitudes, equal ones sharing theirs."""
    values = np.abs(np.asarray(attribution, dtype=np.float64)).ravel()
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[inverse])


def _correlation(a: Array, b: Array) -> float:
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size else 0.0


def compare(
    model: Model,
    image: Any,
    attributions: Sequence[tuple[str, Any]],
    target: int,
    baseline: Any = 0.0,
    steps: int = 50,
) -> list[tuple[str, float, float]]:
    """Areas under the deletion and the insertion curve of several attributions: (name, deletion, insertion)."""
    return [
        (
            name,
            deletion(model, image, values, target, baseline, steps).area,
            insertion(model, image, values, target, baseline, steps).area,
        )
        for name, values in attributions
    ]
