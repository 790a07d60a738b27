from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]

RULES: dict[str, int]

def update(
    weights: list[Array],
    grads: list[Array],
    velocity: list[Array] | None,
    mean: list[Array] | None,
    square: list[Array] | None,
    factors: Array,
    item: int,
    rule: int,
    rate: float,
    momentum: float,
    mean_decay: float,
    square_decay: float,
    root_scale: float,
    eps: float,
    bound: float,
    nesterov: bool,
    isa: int,
    n_threads: int,
) -> None: ...
def square_sums(arrays: list[Array], out: Array, item: int, isa: int, n_threads: int) -> None: ...
