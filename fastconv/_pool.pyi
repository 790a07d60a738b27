from typing import Any

from numpy.typing import NDArray

from fastconv._spec import AdaptivePoolSpec, PoolSpec

def max_pool_forward(
    spec: PoolSpec, input: NDArray[Any], output: NDArray[Any], isa: int, n_threads: int
) -> None: ...
def max_pool_forward_indexed(
    spec: PoolSpec, input: NDArray[Any], output: NDArray[Any], indices: NDArray[Any], isa: int, n_threads: int
) -> None: ...
def max_pool_backward(
    spec: PoolSpec,
    grad_output: NDArray[Any],
    offsets: NDArray[Any],
    grad_input: NDArray[Any],
    isa: int,
    n_threads: int,
) -> None: ...
def avg_pool_forward(
    spec: PoolSpec, input: NDArray[Any], output: NDArray[Any], isa: int, n_threads: int
) -> None: ...
def avg_pool_backward(
    spec: PoolSpec, grad_output: NDArray[Any], grad_input: NDArray[Any], isa: int, n_threads: int
) -> None: ...
def adaptive_avg_pool_forward(
    spec: AdaptivePoolSpec, input: NDArray[Any], output: NDArray[Any], isa: int, n_threads: int
) -> None: ...
def adaptive_avg_pool_backward(
    spec: AdaptivePoolSpec, grad_output: NDArray[Any], grad_input: NDArray[Any], isa: int, n_threads: int
) -> None: ...
def adaptive_max_pool_forward(
    spec: AdaptivePoolSpec,
    input: NDArray[Any],
    output: NDArray[Any],
    indices: NDArray[Any],
    isa: int,
    n_threads: int,
) -> None: ...
def scatter_planes(
    values: NDArray[Any], indices: NDArray[Any], output: NDArray[Any], accumulate: bool, n_threads: int
) -> None: ...
def gather_planes(x: NDArray[Any], indices: NDArray[Any], output: NDArray[Any], n_threads: int) -> None: ...
