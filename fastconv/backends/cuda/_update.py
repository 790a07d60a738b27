"""Twin of the optimizers' step."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv._dispatch import Implementation
from fastconv._spec import UpdateRates, UpdateSpec
from fastconv.backends.cuda.array import DeviceArray, lift
from fastconv.backends.cuda.launch import Kernel, cover, launch

THREADS = 256  # as the kernel has it


def optimizer_update(
    spec: UpdateSpec,
    rates: UpdateRates,
    factors: Any,
    weights: list[Any],
    grads: list[Any],
    velocity: list[Any] | None,
    mean: list[Any] | None,
    square: list[Any] | None,
) -> None:
    number = np.dtype(spec.dtype).type
    given = tuple(each is not None for each in (velocity, mean, square))
    kernel = Kernel("update", "step", (spec.rule, spec.nesterov, *given, spec.dtype))
    for k, own in enumerate(factors):
        states = [None if each is None else each[k] for each in (velocity, mean, square)]
        weight, grad = lift(weights[k]), lift(grads[k])
        devices = [weight if each is None else lift(each) for each in states]
        numbers = (number(each) for each in (*own, *rates))
        size = np.uint32(weight.size)
        launch(kernel, (cover(weight.size, THREADS),), THREADS, weight, grad, *devices, size, *numbers)
        for host, device in zip((weights[k], *states), (weight, *devices), strict=True):
            if host is not None and not isinstance(host, DeviceArray):
                host[...] = device.numpy()


IMPLEMENTATIONS: dict[str, tuple[Implementation, ...]] = {
    "optimizer_update": (Implementation("elementwise", optimizer_update),),
}
