from typing import Any

from numpy.typing import NDArray

from fastconv._spec import ConvSpec

def unfold(spec: ConvSpec, input: NDArray[Any], columns: NDArray[Any], isa: int, n_threads: int) -> None: ...
def fold(spec: ConvSpec, columns: NDArray[Any], output: NDArray[Any], isa: int, n_threads: int) -> None: ...
def pad(
    x: NDArray[Any],
    out: NDArray[Any],
    source_z: NDArray[Any],
    source_y: NDArray[Any],
    source_x: NDArray[Any],
    run_start: int,
    run_length: int,
    value: float,
    n_threads: int,
) -> None: ...
def pad_backward(
    grad_output: NDArray[Any],
    grad_input: NDArray[Any],
    source_z: NDArray[Any],
    source_y: NDArray[Any],
    source_x: NDArray[Any],
    run_start: int,
    run_length: int,
    n_threads: int,
) -> None: ...
