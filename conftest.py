"""Decides which fastconv the tests import: the installed one, unless the source tree is built in place.

``python -m pytest`` puts the repository root on ``sys.path``, and there ``fastconv/`` has no compiled
extensions until ``make build``.  A bare ``pytest`` never puts it there.
"""

import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

ROOT = Path(__file__).parent.resolve()

if not any((ROOT / "fastconv" / f"_cpu{suffix}").exists() for suffix in EXTENSION_SUFFIXES):
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != ROOT]
