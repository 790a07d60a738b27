"""Ending training in peace when the loss is no longer finite."""

from __future__ import annotations

from fastconv.nn.callbacks._base import Callback


class TerminateOnNaN(Callback):
    """Stop training, instead of raising :class:`FloatingPointError`, when a loss is NaN or infinite.

    The model keeps the weights that it had before that batch; a line says where the first such value arose.
    """

    def on_non_finite_loss(self, batch: int, error: FloatingPointError) -> None:
        print(f"Batch {batch}: terminating training, {error}")
        self.model.stop_training = True
