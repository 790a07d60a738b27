"""What the machine can do: ``python -m fastconv.bench.machine THREADS`` measures it in a process of its own.

The peak is that of NumPy's float32 matrix product (its BLAS), the bandwidth that of copying arrays that no cache holds,
counted as bytes read plus bytes written; each the best of several turns.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

BLAS_VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")

_MATRIX, _COPIED_BYTES, _TURNS = (
    768,
    1 << 27,
    40,
)  # short turns: some are spared by what else the machine does


def _least_time(call: Callable[[], Any]) -> float:
    times = []
    for _ in range(_TURNS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def peak_flops() -> float:
    """Operations a second of a matrix product; its threads are those of the environment when NumPy was imported."""
    a, b = np.random.default_rng(0).standard_normal((2, _MATRIX, _MATRIX), np.float32)
    out = np.empty_like(a)
    return 2 * _MATRIX**3 / _least_time(lambda: np.matmul(a, b, out=out))


def copy_bandwidth(threads: int) -> float:
    """Bytes read and written a second by copies on that many threads."""
    source = np.ones((threads, _COPIED_BYTES // threads), np.uint8)
    target = np.zeros_like(source)
    with ThreadPoolExecutor(threads) as pool:
        seconds = _least_time(lambda: list(pool.map(np.copyto, target, source)))
    return 2 * source.nbytes / seconds


def load() -> float | None:
    """Average number of busy threads in the last minute, where the system counts it."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


if __name__ == "__main__":
    print(json.dumps({"flops": peak_flops(), "bandwidth": copy_bandwidth(int(sys.argv[1]))}))
