from typing import Any

from numpy.typing import NDArray

from fastconv._spec import AdaptivePoolSpec, PoolSpec

class Pool:
    def __init__(self, spec: PoolSpec) -> None: ...
    def max_forward(
        self,
        input: NDArray[Any],
        output: NDArray[Any],
        indices: NDArray[Any] | None,
        index_item: int,
        isa: int,
        n_threads: int,
    ) -> None: ...
    def max_backward(
        self,
        grad_output: NDArray[Any],
        offsets: NDArray[Any],
        grad_input: NDArray[Any],
        isa: int,
        n_threads: int,
    ) -> None: ...
    def avg_forward(self, input: NDArray[Any], output: NDArray[Any], isa: int, n_threads: int) -> None: ...
    def avg_backward(
        self, grad_output: NDArray[Any], grad_input: NDArray[Any], isa: int, n_threads: int
    ) -> None: ...

class WindowPool:
    def __init__(
        self, spec: PoolSpec | AdaptivePoolSpec, tables: tuple[NDArray[Any], ...], narrow: bool
    ) -> None: ...
    def avg_forward(self, input: NDArray[Any], output: NDArray[Any], isa: int, n_threads: int) -> None: ...
    def avg_backward(
        self, grad_output: NDArray[Any], grad_input: NDArray[Any], isa: int, n_threads: int
    ) -> None: ...
    def max_forward(
        self, input: NDArray[Any], output: NDArray[Any], indices: NDArray[Any], isa: int, n_threads: int
    ) -> None: ...

def scatter_planes(
    values: NDArray[Any],
    indices: NDArray[Any],
    output: NDArray[Any],
    planes: int,
    count: int,
    size: int,
    item: int,
    accumulate: bool,
    n_threads: int,
) -> None: ...
def gather_planes(
    x: NDArray[Any],
    indices: NDArray[Any],
    output: NDArray[Any],
    planes: int,
    size: int,
    count: int,
    item: int,
    n_threads: int,
) -> None: ...
def check_offsets(spec: PoolSpec, offsets: NDArray[Any]) -> None: ...
def all_below(indices: NDArray[Any], count: int, size: int) -> bool: ...
