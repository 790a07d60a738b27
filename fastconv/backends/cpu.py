"""The ``cpu`` backend: compiled kernels in order of preference, the reference implementation last."""

from __future__ import annotations

from fastconv._dispatch import Implementation
from fastconv.backends import (
    _cpu_blocked,
    _cpu_conv,
    _cpu_pointwise,
    _cpu_pool,
    _cpu_statistics,
    _cpu_update,
    reference,
)

_KERNELS: dict[str, tuple[Implementation, ...]] = {
    **_cpu_conv.IMPLEMENTATIONS,
    **_cpu_blocked.IMPLEMENTATIONS,
    **_cpu_pool.IMPLEMENTATIONS,
    **_cpu_pointwise.IMPLEMENTATIONS,
    **_cpu_statistics.IMPLEMENTATIONS,
    **_cpu_update.IMPLEMENTATIONS,
}

IMPLEMENTATIONS: dict[str, tuple[Implementation, ...]] = {
    op: _KERNELS.get(op, ()) + fallback for op, fallback in reference.IMPLEMENTATIONS.items()
}
