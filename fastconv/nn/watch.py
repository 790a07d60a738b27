"""The tensors of a training step, shown to whoever asks for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]


class Watcher:
    """Sees the tensors of one batch as training makes them; every hook does nothing.

    Nothing is computed for a watcher that the step would not compute, except the differences of :meth:`on_update`, and
    nothing is kept for it: the arrays are the net's own, to be read during the call and copied where they are needed
    longer.  :meth:`fastconv.nn.callbacks.Callback.watcher` says which batches are watched.
    """

    def on_activation(self, node: str, values: Array) -> None:
        """The output of a node, shape (N, *sample shape), in the order of the forward pass."""

    def on_output_gradient(self, node: str, gradient: Array) -> None:
        """The gradient of the mean loss in a node's output, in the order of the backward pass."""

    def on_gradients(self, gradients: Mapping[str, Array]) -> None:
        """The gradients of the trainable parameters, penalties included, before the optimizer takes them."""

    def on_update(self, changes: Mapping[str, Array]) -> None:
        """What the optimizer has just added to every trainable parameter."""
