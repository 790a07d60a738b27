"""Progress in a terminal or notebook."""

from __future__ import annotations

from typing import Any

from fastconv.nn.callbacks._base import Callback, Logs


class Progress(Callback):
    """A tqdm bar per epoch if tqdm is installed, and a line per epoch otherwise or with ``bar=False``."""

    def __init__(self, bar: bool = True) -> None:
        self._bar: Any = None
        self._tqdm: Any = None
        if bar:
            try:
                from tqdm.auto import tqdm  # a widget in notebooks
            except ImportError:
                return
            self._tqdm = tqdm

    def on_epoch_begin(self, epoch: int) -> None:
        if self._tqdm is not None:
            title = f"Epoch {epoch + 1}/{self.params['epochs']}"
            self._bar = self._tqdm(total=self.params["steps"], desc=title, unit="batch")

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        if self._bar is not None:
            self._bar.set_postfix_str(_text(logs), refresh=False)
            self._bar.update()

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        if self._bar is None:
            print(f"Epoch {epoch + 1}/{self.params['epochs']}: {_text(logs)}", flush=True)
        else:
            self._bar.set_postfix_str(_text(logs))

    def close(self) -> None:
        """Finish the bar of an epoch, complete or not."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _text(logs: Logs) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in logs.items())
