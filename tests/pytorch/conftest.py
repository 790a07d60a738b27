"""What the tests under PyTorch share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Every test compiles anew and draws the same numbers."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    torch.compiler.reset()
    yield
    torch.compiler.reset()
