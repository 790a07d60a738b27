"""The logs as a table in a file."""

from __future__ import annotations

import csv
import os
from typing import Any

from fastconv.nn.callbacks._base import Callback, Logs


class CSVLogger(Callback):
    """Write a line per epoch to a CSV file; arguments and behaviour are Keras'.

    Parameters
    ----------
    filename : str or path
    separator : str
    append : bool
        Go on with a file that is there (without a second header) instead of overwriting it.
    """

    def __init__(self, filename: str | os.PathLike[str], separator: str = ",", append: bool = False) -> None:
        self.filename = os.fspath(filename)
        self.separator = separator
        self.append = append
        self.keys: list[str] | None = None
        self._begun = False

    def on_train_begin(self) -> None:
        self.keys = None
        self._begun = self.append and os.path.exists(self.filename) and os.path.getsize(self.filename) > 0

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        if self.keys is None:
            self.keys = sorted(logs)
        # closed after every line, so that nothing is lost with the process
        with open(
            self.filename, "a" if self._begun or self.append else "w", newline="", encoding="utf-8"
        ) as file:
            writer = csv.writer(file, delimiter=self.separator)
            if not self._begun:
                writer.writerow(["epoch", *self.keys])
                self._begun = True
            writer.writerow([epoch, *(logs.get(key, "NA") for key in self.keys)])

    def get_state(self) -> dict[str, Any]:
        return {"keys": self.keys, "size": os.path.getsize(self.filename) if self._begun else 0}

    def set_state(self, state: dict[str, Any]) -> None:
        """Drop the lines of epochs that will come again."""
        self.keys = state["keys"]
        self._begun = os.path.exists(self.filename) and os.path.getsize(self.filename) >= state["size"] > 0
        if self._begun:
            os.truncate(self.filename, state["size"])
