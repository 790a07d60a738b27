from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]

KINDS: dict[str, int]
REDUCTIONS: dict[str, int]

def activation_forward(
    x: Array, y: Array, size: int, item: int, kind: int, slope: float, isa: int, n_threads: int
) -> None: ...
def activation_backward(
    g: Array, y: Array, dx: Array, size: int, item: int, kind: int, slope: float, isa: int, n_threads: int
) -> None: ...
def add(a: Array, b: Array, y: Array, size: int, item: int, relu: bool, isa: int, n_threads: int) -> None: ...
def softmax_forward(
    x: Array,
    y: Array,
    outer: int,
    length: int,
    inner: int,
    item: int,
    log_output: bool,
    isa: int,
    n_threads: int,
) -> None: ...
def softmax_backward(
    g: Array,
    y: Array,
    dx: Array,
    outer: int,
    length: int,
    inner: int,
    item: int,
    log_output: bool,
    isa: int,
    n_threads: int,
) -> None: ...
def cross_entropy_forward(
    x: Array,
    logp: Array,
    label: Array | None,
    probs: Array | None,
    weight: Array,
    loss: Array,
    batch: int,
    classes: int,
    inner: int,
    item: int,
    ignore: int,
    smoothing: float,
    reduction: int,
    isa: int,
    n_threads: int,
) -> float | None: ...
def cross_entropy_backward(
    logp: Array,
    label: Array | None,
    probs: Array | None,
    weight: Array,
    grad: Array,
    d: Array,
    batch: int,
    classes: int,
    inner: int,
    item: int,
    ignore: int,
    smoothing: float,
    reduction: int,
    isa: int,
    n_threads: int,
) -> None: ...
def channel_sum(
    x: Array, total: Array, batch: int, channels: int, inner: int, item: int, isa: int, n_threads: int
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
    item: int,
    eps: float,
    relu: bool,
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
    bias: Array | None,
    dweight: Array,
    dbias: Array,
    batch: int,
    channels: int,
    inner: int,
    item: int,
    training: bool,
    relu: bool,
    isa: int,
    n_threads: int,
) -> None: ...
