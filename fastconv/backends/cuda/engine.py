"""Where device memory comes from and what launches kernels: a thin layer over the driver.

All of it that can be wrong without a device at hand is elsewhere: grids in :mod:`.launch`, shapes in the twins.
Tests put an engine in place of the driver's that executes the compiled kernels on the host.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastconv._optional import require

Buffer = Any  # a 1-D contiguous array in device memory, as kernels take it


class Engine(Protocol):
    """What the twins need of a device."""

    def capability(self) -> tuple[int, int]:
        """Compute capability."""

    def empty(self, size: int, dtype: str) -> Buffer:
        """Memory for ``size`` elements, at least one, contents undefined, at an address divisible by 256."""

    def upload(self, host: NDArray[Any]) -> Buffer:
        """A copy of a 1-D host array."""

    def download(self, buffer: Buffer) -> NDArray[Any]:
        """A copy on the host, made after everything launched before."""

    def launch(
        self, kernel: Any, grid: tuple[int, int, int], threads: int, arguments: tuple[Any, ...]
    ) -> None:
        """Start a compiled kernel (see :mod:`.launch`) and return at once."""


class DriverEngine:
    """Numba on the current device, its default stream and its default context."""

    def __init__(self) -> None:
        from fastconv.backends.cuda import _memory, _numba

        self._cuda = _numba.cuda
        self._pool = _memory.Pool(lambda size: _numba.cuda.device_array(size, np.uint8))

    def capability(self) -> tuple[int, int]:
        major, minor = self._cuda.get_current_device().compute_capability
        return major, minor

    def empty(self, size: int, dtype: str) -> Buffer:
        return self._pool.take(size, dtype)

    def upload(self, host: NDArray[Any]) -> Buffer:
        buffer = self.empty(host.size, host.dtype.name)
        if host.size:
            buffer.copy_to_device(host)
        return buffer

    def download(self, buffer: Buffer) -> NDArray[Any]:
        return buffer.copy_to_host()

    def launch(
        self, kernel: Any, grid: tuple[int, int, int], threads: int, arguments: tuple[Any, ...]
    ) -> None:
        kernel.build()[grid, threads](*arguments)


def why_off() -> str | None:
    """What keeps the device from being used, and how to mend it; None where all is well."""
    try:
        numba_cuda = require("numba.cuda", extra="cuda")
    except ImportError as error:
        return f"numba-cuda cannot be imported: {error}"
    if numba_cuda.is_available():
        return None
    return (
        "numba-cuda finds no CUDA device: fastconv[cuda] needs an NVIDIA GPU of compute capability 7.5 or more and a "
        "driver of version 580 or more (`nvidia-smi` lists both; CUDA_VISIBLE_DEVICES may hide the GPU)"
    )


@cache
def driver() -> Engine:
    """The device's engine.

    Raises
    ------
    RuntimeError
        If there is no device to be used; the message says why, and how to mend it.
    """
    reason = why_off()
    if reason:
        raise RuntimeError(f"backend 'cuda' is not available: {reason}")
    return DriverEngine()


_replacement: Engine | None = None


def replace(engine: Engine | None) -> Engine | None:
    """Let ``engine`` serve in the driver's place (None: the driver again); returns what did before."""
    global _replacement
    former, _replacement = _replacement, engine
    return former


def current() -> Engine:
    """The engine that serves calls now."""
    return _replacement or driver()
