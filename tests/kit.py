"""What several test modules need: settings for a while, integer and tie-free arrays, bounds of rounding errors."""

from __future__ import annotations

import gzip
import itertools
import math
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

import fastconv
from fastconv import _config, _dispatch

Array = NDArray[Any]


@contextmanager
def with_threads(n: int) -> Iterator[None]:
    """Run kernels on ``n`` threads."""
    with mock.patch.object(_config, "_n_threads", n):
        yield


def every_setting() -> Iterator[str]:
    """Force every instruction set with one thread and with two; yields a description."""
    for isa, threads in itertools.product(fastconv.supported_isas(), (1, 2)):
        with fastconv.force_isa(isa), with_threads(threads):
            yield f"{isa}, {threads} thread(s)"


def reference(op: str, spec: Any, *arrays: Any) -> Any:
    """The oracle's result."""
    (implementation,) = _dispatch.implementations(op, "reference")
    return implementation.run(spec, *arrays)


def kernels(op: str, spec: Any) -> list[_dispatch.Implementation]:
    """The compiled implementations of the cpu backend that accept ``spec``."""
    return [
        each
        for each in _dispatch.implementations(op, "cpu")
        if each.name != "reference" and each.refusal(spec) is None
    ]


def integers(rng: np.random.Generator, shape: Any, dtype: Any, bound: int = 3) -> Array:
    """Small integers: sums of their products are exact as long as they stay below 2**24."""
    return rng.integers(-bound, bound + 1, shape).astype(dtype)


def ramp(shape: Any, dtype: Any = "float64", seed: int = 0) -> Array:
    """Distinct values in [-1, 1] in random order, evenly spaced and none at 0: no ties, nothing at a kink."""
    size = math.prod(shape)
    values = (2.0 * np.random.default_rng(seed).permutation(size) - size + 0.5) / max(size, 1)
    return values.reshape(shape).astype(dtype)


def bits(array: Array) -> bytes:
    """The array's bytes: equal for equal bits only, which ``==`` is not (-0.0, NaN)."""
    return array.tobytes()


def assert_within(got: Array, expected: Array, bound: Array | float, message: str = "") -> None:
    """Every element within its own absolute bound."""
    assert got.shape == expected.shape, message
    assert got.dtype == expected.dtype, message
    error = np.abs(got.astype("float64") - expected)
    worst = np.argmax(error - bound) if error.size else 0
    assert np.all(error <= bound), (
        f"{message}: element {np.unravel_index(worst, error.shape)} is {got.flat[worst]!r}, "
        f"expected {expected.flat[worst]!r} within {np.broadcast_to(bound, error.shape).flat[worst]:.3g}"
    )


def start_python(
    *arguments: str, timeout: float = 120, **environment: str
) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter, run to its end, that finds the fastconv under test and these helpers.

    What crashes there does not take pytest along, and what hangs there ends with the timeout.
    """
    paths = os.pathsep.join([str(Path(fastconv.__file__).parents[1]), str(Path(__file__).parent)])
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    return subprocess.run(
        [sys.executable, "-P", "-X", "faulthandler", *arguments],
        env=variables | {"PYTHONPATH": paths} | environment,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def run_python(*arguments: str, timeout: float = 120, **environment: str) -> str:
    """Output of :func:`start_python`, which must exit with 0."""
    done = start_python(*arguments, timeout=timeout, **environment)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def idx(array: Array, code: int = 0x08) -> bytes:
    """An array as an IDX file; ``code`` says its type."""
    header = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


def write_fashion_mnist(folder: Path, rng: np.random.Generator, **parts: int) -> Path:
    """Files as Fashion-MNIST's of so many random images; labels are gzipped and count from 0 to 9, over and over."""
    for part, size in parts.items():
        pixels = rng.integers(0, 256, (size, 28, 28), np.uint8)
        pixels[0, 0, 0] = 255
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(pixels))
        labels = (np.arange(size) % 10).astype(np.uint8)
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    return folder
