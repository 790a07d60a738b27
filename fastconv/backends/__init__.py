"""Backends: twins behind one protocol (:mod:`fastconv.backends.protocol`)."""

from __future__ import annotations

import importlib
from functools import cache
from types import ModuleType

NAMES = ("cpu", "reference", "cuda")


@cache
def load_backend(name: str) -> ModuleType:
    """The backend module called ``name``.

    Raises
    ------
    ValueError
        If there is no such backend.
    """
    if name not in NAMES:
        raise ValueError(f"backend must be one of {NAMES}, got {name!r}")
    return importlib.import_module(f"fastconv.backends.{name}")
