"""What occlusion watches: an output, its probability or loss, or the activity of a feature map."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv.explain._occluded import Occluded, Subject, subject_of
from fastconv.explain._scores import forward_function, log_probabilities, require_model, target_index
from fastconv.graph import Graph, Node
from fastconv.nn import Model
from fastconv.ops import GlobalAvgPool

Array = NDArray[Any]

SCORES = ("output", "logit", "probability", "loss")


@dataclass(frozen=True)
class Activity:
    """The activity of a feature map, to be watched as a score [1]_: the sum of its values.

    Parameters
    ----------
    node : str
        Name of the node whose output the map is part of.
    channel : int, optional
        Number of the map; None is the most active one, for each image as it is.

    References
    ----------
    .. [1] Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", 2013, arXiv:1311.2901.
    """

    node: str
    channel: int | None = None

    def subject(self, model: Model) -> Subject:
        """What computes the activities (N, C): the net as far as the node, and the sums of its maps."""
        graph = model.graph
        names = [node.name for node in graph.nodes]
        if self.node not in names:
            raise ValueError(f"node must be one of {', '.join(names)}, got {self.node!r}")
        shape = graph.shapes[self.node]
        if self.channel is not None and not 0 <= self.channel < shape[0]:
            raise ValueError(f"channel must lie in [0, {shape[0]}), got {self.channel!r}")
        nodes = list(graph.nodes[: names.index(self.node) + 1])
        output = self.node
        if len(shape) > 1:
            output = "activity"
            while output in names:
                output += "_"
            nodes.append(Node(output, GlobalAvgPool(), (self.node,)))
        whole = Graph(graph.inputs, tuple(nodes), (output,))
        part = Graph(graph.inputs, whole.leading_to((output,)), (output,))
        params = {name: model.params[name] for name in part.param_shapes}
        return subject_of(Model.from_graph(part, params, dtype=model.dtype.name), scale=math.prod(shape[1:]))

    def maps(self, activities: Array) -> Array:
        """The map that is watched of each image, from its activities (N, C)."""
        if self.channel is None:
            return activities.argmax(axis=1)
        return np.full(len(activities), self.channel)


class Watched:
    """A score: a function of outputs, and of the number of the example that each belongs to.

    Attributes
    ----------
    subject : Subject
        What computes the outputs.
    """

    def __init__(self, asked: Model | Callable[..., Any], score: Any, target: Any) -> None:
        self._score, self._target = score, target
        if isinstance(score, str) and score not in SCORES:
            raise ValueError(f"score must be one of {SCORES}, an Activity or a function, got {score!r}")
        if not (isinstance(score, (str, Activity)) or callable(score)):
            raise TypeError(f"score must be a name, an Activity or a function, got {type(score).__name__}")
        if not isinstance(score, str) and target is not None:
            raise ValueError(
                f"target must be None where the score is a function or an Activity, got {target!r}"
            )
        if isinstance(score, Activity):
            self.subject = score.subject(require_model(asked, "an Activity as the score"))
        elif isinstance(asked, Model):
            self.subject = subject_of(asked)
        else:
            self.subject = Subject(forward=forward_function(asked))

    def original(self, occluded: Occluded) -> Array:
        """Scores of the batch as it is; which map is the most active is settled by them."""
        if isinstance(self._score, Activity):
            self._target = self._score.maps(occluded.original(lambda outputs, examples: outputs))
        return occluded.original(self)

    def __call__(self, outputs: Array, examples: Array) -> Array:
        if not isinstance(self._score, (str, Activity)):
            return np.asarray(self._score(outputs))
        n, target = len(examples), self._target
        if outputs.ndim == 0 or (outputs.shape == (1,) and n > 1):
            if target is not None:
                raise ValueError(
                    f"target must be None for a forward function with a single output, got {target!r}"
                )
            return outputs.reshape(())
        if len(outputs) != n:
            raise ValueError(
                f"the forward function must return one score per example ({n}), got shape {outputs.shape}"
            )
        if isinstance(target, (list, np.ndarray)) and len(target) > 1:
            target = np.asarray(target)[examples]
        if self._score in ("probability", "loss"):
            logarithms = log_probabilities(outputs, self.subject.graph)
            outputs = np.exp(logarithms) if self._score == "probability" else -logarithms
        return outputs[target_index(outputs.shape, target)]
