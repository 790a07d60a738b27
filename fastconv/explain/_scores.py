"""What every attribution method asks of its subject: a forward function, and one score per example."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fastconv.functional as F
from fastconv.graph import Graph
from fastconv.nn import Model
from fastconv.ops import Reshape, Softmax


def forward_function(model: Model | Callable[..., Any]) -> Callable[..., np.ndarray]:
    """The forward pass of a `Model` (in one batch) or of any callable, from arrays to an array."""
    if isinstance(model, Model):

        def forward(*inputs: np.ndarray) -> np.ndarray:
            return model.predict(inputs if len(inputs) > 1 else inputs[0], batch_size=len(inputs[0]))

        return forward
    if not callable(model):
        raise TypeError(f"expected a fastconv.nn.Model or a callable on arrays, got {type(model).__name__}")

    def call(*inputs: np.ndarray) -> np.ndarray:
        return np.asarray(model(*inputs))

    return call


def require_model(model: Any, what: str) -> Model:
    """`model` itself, or TypeError where gradients or layers are needed and `model` is a bare callable."""
    if not isinstance(model, Model):
        raise TypeError(
            f"{what} needs a fastconv.nn.Model (it looks inside the net), got {type(model).__name__}"
        )
    return model


def target_index(output_shape: tuple[int, ...], target: Any) -> tuple[Any, ...]:
    """The index that picks each example's score out of an output of shape (N, ...), by Captum's rules for
    `target`.

    Parameters
    ----------
    output_shape : tuple of int
        Shape of the forward function's output: (N,) or (N, 1) needs no target, (N, classes) an int, (N, d1,
        d2, ...) a tuple.
    target : None, int, tuple of int, list, or ndarray of shape (N,) or (1,)
        An int or tuple applies to every example; a list or array holds one int (or tuple) per example.

    Returns
    -------
    tuple
        `output[index]` has shape (N,).

    Raises
    ------
    ValueError
        If the output holds several values per example and no target was given, or the target does not fit
        the output.
    """
    n, rest = output_shape[0], output_shape[1:]
    if target is None:
        if any(extent != 1 for extent in rest):
            raise ValueError(
                f"target is required for an output of several values per example, got shape {output_shape}"
            )
        return (np.arange(n), *(0 for _ in rest))
    if isinstance(target, (list, np.ndarray)):
        columns = np.asarray(target).reshape(len(target), -1) if len(target) else np.empty((0, 0))
        if len(columns) not in (1, n):
            raise ValueError(f"target must hold one entry, or one per example ({n}), got {len(columns)}")
        columns = np.broadcast_to(columns, (n, columns.shape[1]))
    else:
        entries = target if isinstance(target, tuple) else (target,)
        columns = np.broadcast_to(np.asarray(entries), (n, len(entries)))
    if columns.dtype.kind not in "iu":
        raise TypeError(f"target must be made of integers, got {target!r}")
    if columns.shape[1] != len(rest):
        raise ValueError(
            f"target must have {len(rest)} indices for an output of shape {output_shape}, got {target!r}"
        )
    for axis, extent in enumerate(rest):
        if n and not (-extent <= columns[:, axis].min() and columns[:, axis].max() < extent):
            raise ValueError(f"target {target!r} is out of range for an output of shape {output_shape}")
    return (np.arange(n), *columns.T)


def log_probabilities(outputs: np.ndarray, graph: Graph | None) -> np.ndarray:
    """Logarithms of the classes' probabilities, from outputs (N, classes, ...).

    They are taken for logits, unless the net is known to end in a softmax over the classes; what reshapes the
    probabilities behind it changes nothing.
    """
    softmax = None if graph is None else _closing_softmax(graph)
    if softmax is not None:
        return outputs if softmax.log else np.log(np.maximum(outputs, np.finfo(outputs.dtype).tiny))
    return F.log_softmax(outputs, 1)


def _closing_softmax(graph: Graph) -> Softmax | None:
    """The softmax over the classes behind which the net does no more than reshape."""
    nodes = {node.name: node for node in graph.nodes}
    node = nodes.get(graph.outputs[0])
    while node is not None and isinstance(node.op, Reshape):
        node = nodes.get(node.inputs[0])
    if node is None or not isinstance(node.op, Softmax):
        return None
    return node.op if node.op.window(graph.shapes[node.name]) is None else None


def probabilities(outputs: np.ndarray, graph: Graph) -> np.ndarray:
    """Probabilities of the classes, (N, classes) in float64, by the rule of :func:`log_probabilities`."""
    return np.exp(log_probabilities(outputs.astype(np.float64), graph))


def as_image_batch(image: Any) -> np.ndarray:
    """One image of shape (C, H, W) or (1, C, H, W) as a batch of shape (1, C, H, W)."""
    image = np.asarray(image)
    if image.ndim == 3:
        return image[None]
    if image.ndim == 4 and image.shape[0] == 1:
        return image
    raise ValueError(f"expected one image of shape (C, H, W) or (1, C, H, W), got shape {image.shape}")
