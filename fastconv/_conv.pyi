from typing import Any

from numpy.typing import NDArray

from fastconv._spec import ConvSpec

ACTIVATIONS: dict[str, int]

def release_scratch() -> None: ...
def triple(values: Any, fill: Any) -> tuple[Any, ...]: ...
def seeing_axis(grid: int, size: int, step: int, taps: list[tuple[int, int]], dst_step: int) -> Any: ...
def forward_axes(spec: ConvSpec) -> list[Any]: ...
def gradient_phases(spec: ConvSpec) -> tuple[Any, Any, Any]: ...
def packing(spec: ConvSpec, isa: int) -> tuple[int, int]: ...
def pack(spec: ConvSpec, weight: NDArray[Any], out: NDArray[Any], isa: int, n_threads: int) -> None: ...
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
    packed: NDArray[Any] | None = None,
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
def conv_input_grad_col2im(
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
def matmul(
    a: NDArray[Any],
    b: NDArray[Any],
    bias: NDArray[Any] | None,
    out: NDArray[Any],
    m: int,
    n: int,
    k: int,
    item: int,
    trans_a: bool,
    trans_b: bool,
    isa: int,
    n_threads: int,
    activation: str = "linear",
    slope: float = 0,
    residual: NDArray[Any] | None = None,
) -> None: ...
