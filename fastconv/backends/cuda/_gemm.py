"""Twin of the matrix product."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv._dispatch import Implementation
from fastconv._spec import MatmulSpec
from fastconv.backends.cuda.array import empty, lift, settle
from fastconv.backends.cuda.launch import MAX_GRID, MAX_SIZE, Kernel, cover, launch

TILE, THREADS = 64, 256  # as the kernel has them


def _refusal(spec: MatmulSpec) -> str | None:
    size = max(spec.m * spec.k, spec.k * spec.n, spec.m * spec.n, spec.k + TILE)
    if size > MAX_SIZE:
        return f"a matrix has {size} elements, more than {MAX_SIZE}"
    if cover(spec.n, TILE) > MAX_GRID[1]:
        return f"the result has {spec.n} columns, more than {TILE * MAX_GRID[1]}"
    return None


def matmul(spec: MatmulSpec, a: Any, b: Any, bias: Any, residual: Any = None) -> Any:
    out = empty((spec.m, spec.n), spec.dtype)
    config = (
        spec.trans_a,
        spec.trans_b,
        bias is not None,
        residual is not None,
        spec.activation,
        spec.dtype,
    )
    sizes = np.uint32(spec.m), np.uint32(spec.n), np.uint32(spec.k)
    launch(
        Kernel("gemm", "matmul", config),
        (cover(spec.m, TILE), cover(spec.n, TILE)),
        THREADS,
        lift(a),
        lift(b),
        out if bias is None else lift(bias),
        out if residual is None else lift(residual),
        out,
        *sizes,
        np.dtype(spec.dtype).type(spec.slope),
    )
    return settle(out, a)


IMPLEMENTATIONS: dict[str, tuple[Implementation, ...]] = {
    "matmul": (Implementation("gemm_64x64", matmul, _refusal),),
}
