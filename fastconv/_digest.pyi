from typing import Any

from numpy.typing import NDArray

def digest(x: NDArray[Any], nbytes: int, n_threads: int) -> int: ...
