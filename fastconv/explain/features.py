"""What the layers of a net hold: their filters, and the feature maps that an image raises in them."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv.explain._scores import as_image_batch, require_model
from fastconv.nn import Model


def feature_maps(model: Model, image: Any, node: str) -> np.ndarray:
    """The output of one node for one image.

    Parameters
    ----------
    model : Model
    image : ndarray of shape (C, H, W) or (1, C, H, W)
    node : str
        Name of the node, as in `model.summary()`.

    Returns
    -------
    ndarray of shape (K, H', W')
        One map per channel (another shape where the node's output is not made of maps).

    Raises
    ------
    KeyError
        If there is no such node; the message lists the names.
    """
    model = require_model(model, "feature_maps")
    return model.activations(as_image_batch(image), names=[node])[node][0].copy()


def filters(model: Model, node: str) -> np.ndarray:
    """The weights of one convolution.

    Parameters
    ----------
    model : Model
    node : str
        Name of the node, as in `model.summary()`.

    Returns
    -------
    ndarray of shape (K, C / groups, kh, kw)
        A copy.

    Raises
    ------
    KeyError
        If there is no such node.
    ValueError
        If the node has no filters.
    """
    graph = require_model(model, "filters").graph
    weights = graph.local_params(graph.node(node), model.params)
    if "weight" not in weights or weights["weight"].ndim < 3:
        raise ValueError(f"node {node!r} ({graph.node(node).op.kind}) has no filters")
    return weights["weight"].copy()
