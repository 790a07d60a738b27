"""The ``cuda`` backend: kernels written for Numba, on the current NVIDIA device.

The table can be read without numba-cuda and without a device; :func:`check_available` says what a call would lack.
Ops that have no kernel have none that serves, and say why: a call of one is refused, it never falls back to the host.
"""

from __future__ import annotations

from fastconv._dispatch import Implementation
from fastconv.backends import reference
from fastconv.backends.cuda import (
    _adaptive,
    _blocked,
    _columns,
    _contraction,
    _depthwise,
    _dropout,
    _gather,
    _gemm,
    _norm,
    _overlay,
    _pointwise,
    _pool,
    _softmax,
    _statistics,
    _update,
    engine,
)

_KERNELS: dict[str, tuple[Implementation, ...]] = {
    **_pointwise.IMPLEMENTATIONS,
    **_dropout.IMPLEMENTATIONS,
    **_pool.IMPLEMENTATIONS,
    **_gemm.IMPLEMENTATIONS,
    **_update.IMPLEMENTATIONS,
    **_gather.IMPLEMENTATIONS,
    **_columns.IMPLEMENTATIONS,
    **_blocked.IMPLEMENTATIONS,
    **_adaptive.IMPLEMENTATIONS,
    **_norm.IMPLEMENTATIONS,
    **_overlay.IMPLEMENTATIONS,
    **_softmax.IMPLEMENTATIONS,
    **_statistics.IMPLEMENTATIONS,
    **{op: _depthwise.IMPLEMENTATIONS[op] + last for op, last in _contraction.IMPLEMENTATIONS.items()},
}

IMPLEMENTATIONS: dict[str, tuple[Implementation, ...]] = {
    op: _KERNELS.get(op, ()) for op in reference.IMPLEMENTATIONS
}


def check_available() -> None:
    """Find the device.

    Raises
    ------
    RuntimeError
        If there is none, or no numba-cuda; the message says how to mend it.
    """
    engine.current()
