from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]

KINDS: dict[str, int]

def activation_forward(x: Array, y: Array, kind: int, slope: float, isa: int, n_threads: int) -> None: ...
def activation_backward(
    g: Array, y: Array, dx: Array, kind: int, slope: float, isa: int, n_threads: int
) -> None: ...
def softmax_forward(
    x: Array, y: Array, outer: int, length: int, inner: int, log_output: bool, isa: int, n_threads: int
) -> None: ...
def softmax_backward(
    g: Array,
    y: Array,
    dx: Array,
    outer: int,
    length: int,
    inner: int,
    log_output: bool,
    isa: int,
    n_threads: int,
) -> None: ...
def label_weight(label: Array | None, weight: Array | None, ignore: int) -> float: ...
def total_over(x: Array, divisor: float, isa: int) -> float: ...
def cross_entropy_forward(
    logp: Array,
    label: Array | None,
    probs: Array | None,
    weight: Array | None,
    loss: Array,
    batch: int,
    classes: int,
    inner: int,
    ignore: int,
    smoothing: float,
    isa: int,
    n_threads: int,
) -> None: ...
def cross_entropy_backward(
    logp: Array,
    label: Array | None,
    probs: Array | None,
    weight: Array | None,
    scale: Array,
    d: Array,
    batch: int,
    classes: int,
    inner: int,
    ignore: int,
    smoothing: float,
    isa: int,
    n_threads: int,
) -> None: ...
def channel_sum(
    x: Array, total: Array, batch: int, channels: int, inner: int, isa: int, n_threads: int
) -> None: ...
def batch_norm_forward(
    x: Array,
    y: Array,
    given_mean: Array | None,
    given_var: Array | None,
    weight: Array | None,
    bias: Array | None,
    mean: Array,
    inv_std: Array,
    scratch: Array,
    batch: int,
    channels: int,
    inner: int,
    eps: float,
    isa: int,
    n_threads: int,
) -> None: ...
def batch_norm_backward(
    g: Array,
    x: Array,
    dx: Array,
    mean: Array,
    inv_std: Array,
    weight: Array | None,
    dweight: Array | None,
    dbias: Array | None,
    batch: int,
    channels: int,
    inner: int,
    training: bool,
    isa: int,
    n_threads: int,
) -> None: ...
