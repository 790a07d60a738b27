"""Fixtures shared by all tests: instruction sets, thread counts, dtypes, and reproducible random numbers."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator

import hypothesis
import numpy as np
import pytest

import fastconv
from kit import with_threads

# The same examples on every run and on every machine; FASTCONV_TEST_SEED draws others.
SEED = int(os.environ.get("FASTCONV_TEST_SEED", "0"))
hypothesis.settings.register_profile(
    "fastconv",
    derandomize=SEED == 0,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large],
)
hypothesis.settings.load_profile("fastconv")

# Some tests read the progress bar, whatever the user's own taste.
os.environ.pop("TQDM_DISABLE", None)


@pytest.fixture(params=fastconv.supported_isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every instruction set that this machine runs, forced in turn."""
    with fastconv.force_isa(request.param):
        yield request.param


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """One thread and two."""
    with with_threads(request.param):
        yield request.param


@pytest.fixture(params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> str:
    """Both dtypes of the kernels."""
    return str(request.param)


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Random numbers of the test's own; the seed is printed where the test fails."""
    seed = zlib.crc32(request.node.nodeid.encode()) ^ SEED
    print(f"np.random.default_rng({seed})")
    return np.random.default_rng(seed)
