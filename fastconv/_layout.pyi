from typing import Any

from numpy.typing import NDArray

from fastconv._spec import ConvSpec

class Columns:
    def __init__(self, spec: ConvSpec) -> None: ...
    def unfold(self, input: NDArray[Any], columns: NDArray[Any], isa: int, n_threads: int) -> None: ...
    def fold(self, columns: NDArray[Any], output: NDArray[Any], isa: int, n_threads: int) -> None: ...

class Padding:
    def __init__(
        self,
        outer: int,
        inside: tuple[int, ...],
        tables: tuple[NDArray[Any], ...],
        run_start: int,
        run_length: int,
        value: float,
        item: int,
    ) -> None: ...
    def forward(self, x: NDArray[Any], out: NDArray[Any], n_threads: int) -> None: ...
    def backward(self, grad_output: NDArray[Any], grad_input: NDArray[Any], n_threads: int) -> None: ...

def overlay(
    base: NDArray[Any],
    patches: NDArray[Any],
    places: NDArray[Any],
    out: NDArray[Any],
    base_size: tuple[int, ...],
    fill: float,
    n_threads: int,
) -> None: ...
