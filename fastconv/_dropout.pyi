from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

def philox_block(counter: Sequence[int], key: Sequence[int]) -> tuple[int, int, int, int]: ...
def dropout_mask(
    mask: NDArray[Any], size: int, threshold: int, seed: int, offset: int, isa: int, n_threads: int
) -> None: ...
def dropout_apply(
    x: NDArray[Any],
    mask: NDArray[Any],
    out: NDArray[Any],
    size: int,
    item: int,
    inner: int,
    scale: float,
    isa: int,
    n_threads: int,
) -> None: ...
def dropout_forward(
    x: NDArray[Any],
    out: NDArray[Any],
    mask: NDArray[Any],
    size: int,
    item: int,
    threshold: int,
    seed: int,
    offset: int,
    scale: float,
    isa: int,
    n_threads: int,
) -> None: ...
def drop_block_mask(
    mask: NDArray[Any],
    n_planes: int,
    rows: int,
    cols: int,
    block_rows: int,
    block_cols: int,
    threshold: int,
    seed: int,
    offset: int,
    scratch: NDArray[Any],
    isa: int,
    n_threads: int,
) -> None: ...
