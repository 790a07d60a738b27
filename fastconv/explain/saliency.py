"""Gradients of a class score in the input: saliency maps and the first-order Taylor view of a net."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastconv._spec import as_int
from fastconv.explain._scores import as_image_batch, require_model, target_index
from fastconv.nn import Model
from fastconv.ops import Softmax

REDUCTIONS = ("max_abs", "sum_abs", "none")


class Saliency:
    """Attribution by the gradient of the score, with Captum's conventions.

    Parameters
    ----------
    model : Model

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import explain, nn
    >>> net = nn.Sequential([nn.Flatten(), nn.Linear(3)], input_shape=(1, 2, 2), seed=0)
    >>> gradient = explain.Saliency(net).attribute(np.zeros((1, 1, 2, 2)), target=1, abs=False)
    >>> bool((gradient.ravel() == net.params["linear_1.weight"][1]).all())
    True
    """

    def __init__(self, model: Model) -> None:
        self.model = require_model(model, "Saliency")

    def attribute(self, inputs: Any, target: Any = None, abs: bool = True) -> np.ndarray:
        """The gradient of each example's score in that example.

        The score is the model's own output: the logit for a net that ends in a linear layer, the
        probability for one that ends in a softmax.

        Parameters
        ----------
        inputs : ndarray of shape (N, C, H, W)
            Never modified.
        target : None, int, tuple of int, list or ndarray, optional
            Which output is the score; see `Occlusion.attribute`.
        abs : bool, default True
            Return absolute values.

        Returns
        -------
        ndarray of shape (N, C, H, W)
            In the model's dtype; reduce the channels as you like.

        Raises
        ------
        ValueError
            If the target is missing or does not fit.
        """
        _, gradient = scores_and_gradients(self.model, np.asarray(inputs), target)
        return np.abs(gradient) if abs else gradient


def saliency_map(model: Model, image: Any, target: int | None = None, reduce: str = "max_abs") -> np.ndarray:
    r"""How strongly the un-normalised class score reacts to each pixel of an image [1]_.

    A softmax at the end of the net is left out: the gradient is that of the logit.

    Parameters
    ----------
    model : Model
    image : ndarray of shape (C, H, W) or (1, C, H, W)
    target : int, optional
        The class; None takes the one the net predicts.
    reduce : {"max_abs", "sum_abs", "none"}, default "max_abs"
        Over channels: the largest :math:`|\partial S / \partial x|` (the paper's map), their sum, or no
        reduction: the signed gradient of shape (C, H, W).

    Returns
    -------
    ndarray of shape (H, W), or (C, H, W) for "none"

    Raises
    ------
    ValueError
        If `reduce` or the shapes are not as stated.

    References
    ----------
    .. [1] Simonyan, Vedaldi and Zisserman, "Deep Inside Convolutional Networks", 2013, arXiv:1312.6034.
    """
    if reduce not in REDUCTIONS:
        raise ValueError(f"reduce must be one of {REDUCTIONS}, got {reduce!r}")
    model = require_model(model, "saliency_map")
    _, gradient = _class_score_and_gradient(model, as_image_batch(image), target)
    if reduce == "none":
        return gradient[0]
    return np.abs(gradient[0]).max(axis=0) if reduce == "max_abs" else np.abs(gradient[0]).sum(axis=0)


def linearize(model: Model, x0: Any, target: int | None = None) -> tuple[np.ndarray, float]:
    r"""The first-order Taylor view of a class score around one image: :math:`S(x) \approx w \cdot x + b`.

    :math:`w = \partial S / \partial x` at `x0` and :math:`b = S(x_0) - w \cdot x_0`, for the un-normalised
    score (a softmax at the end of the net is left out). Exact for all `x` in the same linear region of a
    ReLU net.

    Parameters
    ----------
    model : Model
    x0 : ndarray of shape (C, H, W) or (1, C, H, W)
    target : int, optional
        The class; None takes the one the net predicts at `x0`.

    Returns
    -------
    w : ndarray of the shape of x0
    b : float

    References
    ----------
    Simonyan, Vedaldi and Zisserman, "Deep Inside Convolutional Networks", 2013, arXiv:1312.6034, equations
    3 and 4.
    """
    model = require_model(model, "linearize")
    batch = as_image_batch(x0)
    score, gradient = _class_score_and_gradient(model, batch, target)
    b = float(score) - float(np.vdot(gradient.astype(np.float64), batch.astype(np.float64)))
    return gradient.reshape(np.shape(x0)), b


@dataclass(frozen=True, kw_only=True, eq=False)
class LinearizationError:
    """How far a class score is from its first-order Taylor view along a line away from the image.

    Attributes
    ----------
    steps : ndarray of shape (n,)
        Parts of the way.
    scores, predictions : ndarray of shape (n,)
        The score, and what the linear view says.
    """

    steps: np.ndarray
    scores: np.ndarray
    predictions: np.ndarray

    @property
    def errors(self) -> np.ndarray:
        """Absolute differences, shape (n,)."""
        return np.abs(self.scores - self.predictions)

    @property
    def order(self) -> float:
        """The power of the step with which the error grows: 2 for a smooth net, NaN where it is exact throughout."""
        seen = (self.steps > 0) & (self.errors > 0)
        if seen.sum() < 2:
            return math.nan
        return float(np.polyfit(np.log(self.steps[seen]), np.log(self.errors[seen]), 1)[0])


def linearization_error(
    model: Model, x0: Any, direction: Any, target: int | None = None, steps: Any = None
) -> LinearizationError:
    """Compare a class score with :func:`linearize` along ``x0 + step * direction``.

    Parameters
    ----------
    model : Model
    x0 : ndarray of shape (C, H, W) or (1, C, H, W)
    direction : ndarray of the shape of x0
        Where to go, such as another image less `x0`.
    target : int, optional
        The class; None takes the one the net predicts at `x0`.
    steps : sequence of float, optional
        Parts of the way; by default 1, 1/2, 1/4 ... 1/512.

    Returns
    -------
    LinearizationError

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    model = require_model(model, "linearization_error")
    batch, way = as_image_batch(x0), as_image_batch(direction)
    if batch.shape != way.shape:
        raise ValueError(f"direction must be of the shape of x0, {batch.shape}, got {way.shape}")
    if target is None:
        target = int(np.argmax(model.predict(batch)[0]))
    weight, bias = linearize(model, batch, target)
    parts = np.asarray(0.5 ** np.arange(10) if steps is None else steps, dtype=np.float64)
    line = (batch + parts.reshape(-1, 1, 1, 1) * way).astype(model.dtype)
    node = logit_node(model)
    scores = model.activations(line, names=[node])[node][:, target].astype(np.float64)
    flat = line.reshape(len(line), -1).astype(np.float64)
    return LinearizationError(
        steps=parts, scores=scores, predictions=flat @ weight.ravel().astype(np.float64) + bias
    )


def top_predictors(weight: Any, count: int = 10) -> list[tuple[tuple[int, ...], float]]:
    """The values of an image that count most in a linear view of a net: (index, weight), largest magnitude first.

    For a logistic regression (a net of one linear layer) the weights of :func:`linearize` are the model's own, the same
    for every image: they are the importances.
    """
    flat = np.asarray(weight)
    best = np.argsort(-np.abs(flat), axis=None, kind="stable")[: as_int(count, "count", 1)]
    where = zip(*np.unravel_index(best, flat.shape), strict=True)
    return [(tuple(int(i) for i in index), float(flat[tuple(index)])) for index in where]


def _class_score_and_gradient(
    model: Model, batch: np.ndarray, target: int | None
) -> tuple[float, np.ndarray]:
    """Logit of the target (or of the predicted class) of one image, and its gradient."""
    if target is None:
        target = int(np.argmax(model.predict(batch)[0]))
    scores, gradient = scores_and_gradients(model, batch, target, node=logit_node(model))
    return float(scores[0]), gradient


def logit_node(model: Model) -> str:
    """The node that gives the un-normalised scores: what a softmax at the end of the net takes."""
    last = model.graph.outputs[0]
    operators = {node.name: node for node in model.graph.nodes}
    while last in operators and isinstance(operators[last].op, Softmax):
        last = operators[last].inputs[0]
    return last


def scores_and_gradients(
    model: Model, batch: np.ndarray, target: Any, node: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Scores (N,) read at a node (by default the output) and their gradients, shaped like the batch."""
    graph = model.graph
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise ValueError(
            f"this needs a net with one input and one output, got {tuple(graph.inputs)} and {graph.outputs}"
        )
    (name,) = graph.inputs
    if batch.shape[1:] != graph.inputs[name]:
        raise ValueError(
            f"expected inputs of shape (N, {', '.join(map(str, graph.inputs[name]))}), got {batch.shape}"
        )
    scores: list[np.ndarray] = []

    def one_hot(output: np.ndarray) -> np.ndarray:
        index = target_index(output.shape, target)
        scores.append(output[index])
        ones = np.zeros_like(output)
        ones[index] = 1
        return ones

    gradient = model.input_gradient(batch, one_hot, node)
    return scores[0], gradient
