"""Hooks given as functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastconv.nn.callbacks._base import Callback, Logs


class LambdaCallback(Callback):
    """A callback of functions; arguments are Keras'.

    Parameters
    ----------
    on_epoch_begin, on_epoch_end : callable, optional
        Of ``(epoch, logs)``.
    on_train_begin, on_train_end : callable, optional
        Of ``(logs)``.
    on_train_batch_begin, on_train_batch_end : callable, optional
        Of ``(batch, logs)``.  The logs of the hooks at a beginning and of those of training are empty.

    Examples
    --------
    >>> from fastconv import nn
    >>> tell = nn.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: print(epoch, logs["loss"]))
    """

    def __init__(
        self,
        on_epoch_begin: Callable[[int, Logs], Any] | None = None,
        on_epoch_end: Callable[[int, Logs], Any] | None = None,
        on_train_begin: Callable[[Logs], Any] | None = None,
        on_train_end: Callable[[Logs], Any] | None = None,
        on_train_batch_begin: Callable[[int, Logs], Any] | None = None,
        on_train_batch_end: Callable[[int, Logs], Any] | None = None,
    ) -> None:
        self._functions = {
            "epoch_begin": on_epoch_begin,
            "epoch_end": on_epoch_end,
            "train_begin": on_train_begin,
            "train_end": on_train_end,
            "batch_begin": on_train_batch_begin,
            "batch_end": on_train_batch_end,
        }

    def _call(self, hook: str, *arguments: Any) -> None:
        function = self._functions[hook]
        if function is not None:
            function(*arguments)

    def on_train_begin(self) -> None:
        self._call("train_begin", {})

    def on_train_end(self) -> None:
        self._call("train_end", {})

    def on_epoch_begin(self, epoch: int) -> None:
        self._call("epoch_begin", epoch, {})

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        self._call("epoch_end", epoch, logs)

    def on_train_batch_begin(self, batch: int) -> None:
        self._call("batch_begin", batch, {})

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        self._call("batch_end", batch, logs)
