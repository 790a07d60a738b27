from typing import Any

from numpy.typing import NDArray

from fastconv._spec import ConvSpec, PoolSpec

ACTIVATIONS: dict[str, int]
POOLS: dict[str, int]
_tiling: Any

def release_scratch() -> None: ...
def plane(values: tuple[int, ...], fill: int) -> tuple[int, ...]: ...
def tile_shape(spec: ConvSpec, m: int) -> tuple[int, ...]: ...
def packed_size(spec: ConvSpec, m: int, isa: int) -> int: ...
def pack(
    spec: ConvSpec, weight: NDArray[Any], packed: NDArray[Any], m: int, isa: int, n_threads: int
) -> None: ...

class Conv:
    def __init__(self, spec: ConvSpec, m: int, isa: int) -> None: ...
    def run(
        self,
        source: NDArray[Any],
        packed: NDArray[Any],
        bias: NDArray[Any] | None,
        residual: NDArray[Any] | None,
        out: NDArray[Any],
        n_threads: int,
    ) -> bool: ...

class Stem(Conv): ...

class Pool:
    def __init__(self, spec: PoolSpec, kind: str, isa: int) -> None: ...
    def run(self, source: NDArray[Any], out: NDArray[Any], n_threads: int) -> None: ...

def from_planes(
    planes: NDArray[Any],
    blocks: NDArray[Any],
    images: int,
    channels: int,
    plane: int,
    item: int,
    isa: int,
    n_threads: int,
) -> None: ...
def to_planes(
    blocks: NDArray[Any],
    planes: NDArray[Any],
    images: int,
    channels: int,
    plane: int,
    item: int,
    isa: int,
    n_threads: int,
) -> None: ...
