from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]

KEYS: int

def collect(
    x: Array, moments: Array, histogram: Array, size: int, item: int, isa: int, n_threads: int
) -> tuple[int, int]: ...
