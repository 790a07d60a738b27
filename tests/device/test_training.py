"""A net's training step on the device: convolution, pool, dropout, normalisation, linear, loss and update."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="needs fastconv[cuda]")

from emulator import emulated
from fastconv import nn


def trained() -> nn.Model:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((6, 1, 10, 10)).astype(np.float32), rng.integers(0, 4, 6)
    layers = [
        nn.Conv2d(5, 3, padding=1),
        nn.BatchNorm(),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.3),
        nn.Flatten(),
        nn.Linear(4),
    ]
    model = nn.Sequential(layers, input_shape=(1, 10, 10), seed=0)
    model.compile(nn.SGD(0.1, momentum=0.9), loss="cross_entropy")
    model.fit(x, y, batch_size=3, epochs=1, verbose=0)
    return model


def test_two_steps_change_the_weights_as_on_the_host() -> None:
    expected = trained()
    with emulated() as device:
        got = trained()
        device.assert_clean(in_place=True)
    assert {str(kernel).split(".")[0] for kernel, _ in device.launched} >= {
        "contraction",
        "norm",
        "pool",
        "dropout",
        "gemm",
        "softmax",
        "update",
    }
    for name, value in expected.params.items():
        np.testing.assert_allclose(got.params[name], value, rtol=1e-4, atol=1e-6, err_msg=name)
