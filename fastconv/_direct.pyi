from typing import Any

from numpy.typing import NDArray

from fastconv._spec import ConvSpec

ACTIVATIONS: dict[str, int]

def release_scratch() -> None: ...
def conv_forward(
    spec: ConvSpec,
    input: NDArray[Any],
    weight: NDArray[Any],
    bias: NDArray[Any] | None,
    out: NDArray[Any],
    isa: int,
    n_threads: int,
    activation: str = "linear",
    slope: float = 0,
    residual: NDArray[Any] | None = None,
) -> None: ...
def conv_input_grad(
    spec: ConvSpec,
    grad: NDArray[Any],
    weight: NDArray[Any],
    bias: NDArray[Any] | None,
    out: NDArray[Any],
    isa: int,
    n_threads: int,
) -> None: ...
def conv_weight_grad(
    spec: ConvSpec,
    input: NDArray[Any],
    grad: NDArray[Any],
    out: NDArray[Any],
    isa: int,
    n_threads: int,
) -> None: ...
