from typing import Any

from numpy.typing import NDArray

KINDS: dict[str, int]

def activation_forward(
    x: NDArray[Any], y: NDArray[Any], kind: int, slope: float, isa: int, n_threads: int
) -> None: ...
def activation_backward(
    g: NDArray[Any], y: NDArray[Any], dx: NDArray[Any], kind: int, slope: float, isa: int, n_threads: int
) -> None: ...
def softmax_forward(
    x: NDArray[Any],
    y: NDArray[Any],
    outer: int,
    length: int,
    inner: int,
    log_output: bool,
    isa: int,
    n_threads: int,
) -> None: ...
def softmax_backward(
    g: NDArray[Any],
    y: NDArray[Any],
    dx: NDArray[Any],
    outer: int,
    length: int,
    inner: int,
    log_output: bool,
    isa: int,
    n_threads: int,
) -> None: ...
def label_weight(label: NDArray[Any], weight: NDArray[Any], ignore: int) -> float: ...
def total_over(x: NDArray[Any], divisor: float, isa: int) -> float: ...
def cross_entropy_forward(
    logp: NDArray[Any],
    label: NDArray[Any] | None,
    probs: NDArray[Any] | None,
    weight: NDArray[Any],
    loss: NDArray[Any],
    batch: int,
    classes: int,
    inner: int,
    ignore: int,
    smoothing: float,
    isa: int,
    n_threads: int,
) -> None: ...
def cross_entropy_backward(
    logp: NDArray[Any],
    label: NDArray[Any] | None,
    probs: NDArray[Any] | None,
    weight: NDArray[Any],
    scale: NDArray[Any],
    d: NDArray[Any],
    batch: int,
    classes: int,
    inner: int,
    ignore: int,
    smoothing: float,
    isa: int,
    n_threads: int,
) -> None: ...
def channel_sum(
    x: NDArray[Any], total: NDArray[Any], batch: int, channels: int, inner: int, isa: int, n_threads: int
) -> None: ...
def batch_norm_forward(
    x: NDArray[Any],
    y: NDArray[Any],
    mean: NDArray[Any],
    inv_std: NDArray[Any],
    weight: NDArray[Any] | None,
    bias: NDArray[Any] | None,
    batch: int,
    channels: int,
    inner: int,
    training: bool,
    eps: float,
    isa: int,
    n_threads: int,
) -> None: ...
def batch_norm_backward(
    g: NDArray[Any],
    x: NDArray[Any],
    dx: NDArray[Any],
    mean: NDArray[Any],
    inv_std: NDArray[Any],
    weight: NDArray[Any] | None,
    dweight: NDArray[Any],
    dbias: NDArray[Any],
    batch: int,
    channels: int,
    inner: int,
    training: bool,
    isa: int,
    n_threads: int,
) -> None: ...
