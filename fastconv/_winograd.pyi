from typing import Any

from numpy.typing import NDArray

from fastconv._spec import ConvSpec

def release_scratch() -> None: ...

ACTIVATIONS: dict[str, int]
_tiling: Any

def plane(values: tuple[int, ...], fill: int) -> tuple[int, ...]: ...
def tile_shape(spec: ConvSpec, m: int) -> tuple[int, ...]: ...
def filters_size(spec: ConvSpec, m: int, isa: int) -> int: ...
def transform(
    spec: ConvSpec, weight: NDArray[Any], out: NDArray[Any], m: int, isa: int, n_threads: int
) -> None: ...
def conv_forward(
    spec: ConvSpec,
    input: NDArray[Any],
    weight: NDArray[Any],
    bias: NDArray[Any] | None,
    out: NDArray[Any],
    m: int,
    isa: int,
    n_threads: int,
    activation: str = "linear",
    slope: float = 0,
    residual: NDArray[Any] | None = None,
    filters: NDArray[Any] | None = None,
) -> bool: ...
def conv_input_grad(
    spec: ConvSpec,
    grad: NDArray[Any],
    weight: NDArray[Any],
    bias: NDArray[Any] | None,
    out: NDArray[Any],
    m: int,
    isa: int,
    n_threads: int,
) -> bool: ...
def conv_weight_grad(
    spec: ConvSpec,
    input: NDArray[Any],
    grad: NDArray[Any],
    out: NDArray[Any],
    m: int,
    isa: int,
    n_threads: int,
) -> bool: ...
