from typing import Any

from numpy.typing import NDArray

from fastconv._spec import ConvSpec

ACTIVATIONS: dict[str, int]
MAX_TAPS: int

class Small:
    def __init__(self, spec: ConvSpec) -> None: ...
    def forward(
        self,
        input: NDArray[Any],
        weight: NDArray[Any],
        bias: NDArray[Any] | None,
        residual: NDArray[Any] | None,
        out: NDArray[Any],
        isa: int,
        n_threads: int,
    ) -> None: ...
    def input_grad(
        self,
        grad: NDArray[Any],
        weight: NDArray[Any],
        bias: NDArray[Any] | None,
        out: NDArray[Any],
        isa: int,
        n_threads: int,
    ) -> None: ...
