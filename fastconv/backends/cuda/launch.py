"""From an amount of work to a launch: which kernel, how many blocks, what arguments.  No device is needed to read it.

A kernel is named, not imported: the modules of :mod:`.kernels` need numba-cuda, and plans are made without.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from fastconv.backends.cuda import engine
from fastconv.backends.cuda.array import DeviceArray

MAX_THREADS = 1024
MAX_GRID = (2**31 - 1, 65535, 65535)
MAX_SIZE = 2**31  # elements of one array: kernels count in uint32 and may step past the end by a grid


@dataclass(frozen=True)
class Kernel:
    """A kernel specialised for a configuration: ``kernels.<module>.<name>(*config)``.

    Parameters
    ----------
    module
        Module in :mod:`fastconv.backends.cuda.kernels`.
    name
        Function there that makes the kernel.
    config
        What is constant in it: dtypes, window sizes, tiles.
    """

    module: str
    name: str
    config: tuple[Any, ...]

    def build(self) -> Any:
        """The dispatcher, made once; it compiles at its first launch."""
        return _build(self)

    def __str__(self) -> str:
        return f"{self.module}.{self.name}({', '.join(map(str, self.config))})"


@lru_cache(None)
def _build(kernel: Kernel) -> Any:
    module = importlib.import_module(f"fastconv.backends.cuda.kernels.{kernel.module}")
    return getattr(module, kernel.name)(*kernel.config)


def cover(size: int, block: int) -> int:
    """Number of blocks of ``block`` that cover ``size``."""
    return -(-size // block)


def too_many(*sizes: int) -> str | None:
    """Refusal of arrays with more elements than 32 bits count."""
    size = max(sizes)
    return f"it has {size} elements, more than {MAX_SIZE}" if size > MAX_SIZE else None


def too_large(spec: Any) -> str | None:
    """:func:`too_many` of specs with a ``size``."""
    return too_many(spec.size)


def check_grid(grid: tuple[int, int, int], threads: int) -> None:
    """Refuse what a device would.

    Raises
    ------
    ValueError
        If a side of the grid or the block is too large.
    """
    if any(side > most for side, most in zip(grid, MAX_GRID, strict=True)):
        raise ValueError(f"a grid must not exceed {MAX_GRID} blocks, got {grid}")
    if not 1 <= threads <= MAX_THREADS:
        raise ValueError(f"a block must have 1 to {MAX_THREADS} threads, got {threads}")


def launch(kernel: Kernel, grid: tuple[int, ...], threads: int, *arguments: Any) -> None:
    """Start ``kernel``; an empty grid is nothing to do.

    Arguments are :class:`DeviceArray`, which arrive as 1-D arrays, and NumPy scalars, which keep their type.
    """
    x, y, z = (*grid, *(1,) * (3 - len(grid)))
    check_grid((x, y, z), threads)
    if x and y and z:
        flat = tuple(each.flat if isinstance(each, DeviceArray) else each for each in arguments)
        engine.current().launch(kernel, (x, y, z), threads, flat)
