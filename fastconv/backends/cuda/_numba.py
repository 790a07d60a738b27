"""Everything that is taken from Numba; nothing else imports it, so that a successor can take its place here.

Importing this module needs ``numba-cuda``, not a device.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from numba import cuda, float32, float64, int32, int64, types, uint8, uint16, uint32, uint64

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"

__all__ = [
    "SIMULATED",
    "cuda",
    "float32",
    "float64",
    "inlined",
    "int32",
    "int64",
    "jit",
    "real",
    "types",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
]


def jit(max_threads: int, min_blocks: int = 1) -> Callable[[Callable[..., None]], Any]:
    """``cuda.jit`` with launch bounds: at most so many threads a block, and registers for so many blocks at once.

    Compilation waits for the first launch: eager signatures would need a driver at import.  No fast-math, which
    would take NaN for impossible.
    """
    if SIMULATED:  # knows no launch bounds
        return cuda.jit
    return cuda.jit(launch_bounds=(max_threads, min_blocks))


def real(dtype: str) -> Any:
    """Numba's type of that name: calling it inside a kernel casts, so that no literal is float64 by accident."""
    return {"float32": float32, "float64": float64}[dtype]


def inlined(function: Callable[..., Any]) -> Any:
    """A function for kernels to call."""
    return cuda.jit(device=True)(function)
