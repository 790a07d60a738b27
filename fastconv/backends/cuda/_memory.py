"""Device memory kept for the next array of about the same size: the driver's own allocation waits for the device."""

from __future__ import annotations

import threading
import weakref
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np

GRAIN = 256  # bytes: what the driver aligns to
FINE = 2**20  # below, sizes are rounded up to powers of two, above to multiples of this


def size_class(nbytes: int) -> int:
    """The size that a request is rounded up to."""
    if nbytes <= FINE:
        return max(GRAIN, 1 << (nbytes - 1).bit_length())
    return -(-nbytes // FINE) * FINE


class Pool:
    """Blocks of bytes, taken and, when nobody refers to what was taken any longer, offered again.

    All kernels run on one stream, so a block that is given back while one still reads it is written only after.

    Parameters
    ----------
    allocate
        ``bytes -> block``, a 1-D array of bytes.
    """

    def __init__(self, allocate: Callable[[int], Any]) -> None:
        self._allocate = allocate
        self._free: defaultdict[int, list[Any]] = defaultdict(list)
        self._lock = threading.RLock()  # a finalizer may run inside take

    def take(self, count: int, dtype: str) -> Any:
        """``count`` elements (one where none are asked for: devices have no empty arrays)."""
        nbytes = max(count, 1) * np.dtype(dtype).itemsize
        size = size_class(nbytes)
        with self._lock:
            block = self._free[size].pop() if self._free[size] else None
        if block is None:
            block = self._allocate(size)
        part = block[:nbytes].view(dtype)
        weakref.finalize(part, self._give_back, size, block).atexit = False
        return part

    def _give_back(self, size: int, block: Any) -> None:
        with self._lock:
            self._free[size].append(block)

    def clear(self) -> None:
        """Hand everything unused back to the driver."""
        with self._lock:
            self._free.clear()
