"""The file of tuned choices.  Apart from :mod:`fastconv._tune`, which is part of every import of the package."""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

FORMAT = "fastconv tuned choices 1"

_CACHE_FOLDERS = {"win32": "~/AppData/Local", "darwin": "~/Library/Caches"}

Times = dict[str, dict[str, dict[str, float]]]  # seconds: environment, problem, implementation


class TunedFile:
    """A file of times; None stands for the one in the user's cache folder.

    Raises
    ------
    RuntimeError
        If the user has no home.
    """

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        self.path = _default_path() if path is None else Path(path)

    def read(self) -> Times:
        """The times in the file; none where there is no file.

        Raises
        ------
        OSError
            If it cannot be read.
        ValueError
            If it is none of ours.
        """
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            if content["format"] != FORMAT:
                raise ValueError("its format is another")
            return {
                environment: {
                    problem: {name: _as_seconds(value) for name, value in times.items()}
                    for problem, times in problems.items()
                }
                for environment, problems in content["seconds"].items()
            }
        except FileNotFoundError:
            return {}
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(
                f"{self.path} does not hold tuned choices ({type(error).__name__}: {error}): remove it, if it is of "
                "no other use"
            ) from None

    def write(self, times: Times) -> None:
        """Replace the file as a whole, so that no other process ever reads half of one."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=f"{self.path.name}.")
        try:
            with open(handle, "w", encoding="utf-8") as file:
                json.dump({"format": FORMAT, "seconds": times}, file, indent=1)
            os.replace(name, self.path)
        except BaseException:
            os.unlink(name)
            raise


def _default_path() -> Path:
    """In the user's cache folder."""
    folder = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not folder.is_absolute():  # to be ignored, by the XDG specification
        folder = Path(_CACHE_FOLDERS.get(sys.platform, "~/.cache")).expanduser()
    return folder / "fastconv" / "tuned.json"


def _as_seconds(value: Any) -> float:
    if isinstance(value, float) and 0.0 <= value < math.inf:
        return value
    raise ValueError(f"a time is {value!r}")
