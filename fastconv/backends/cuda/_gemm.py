"""Twins of the matrix product: in float32 and float64, and, where allowed, on tensor cores."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv._dispatch import Implementation, tf32_allowed
from fastconv._spec import MatmulSpec
from fastconv.backends.cuda import engine
from fastconv.backends.cuda.array import empty, lift, settle
from fastconv.backends.cuda.launch import MAX_GRID, MAX_SIZE, Kernel, cover, launch

TILE, THREADS, TENSOR_THREADS = 64, 256, 128  # as the kernels have them


def _refusal(spec: MatmulSpec) -> str | None:
    size = max(spec.m * spec.k, spec.k * spec.n, spec.m * spec.n, spec.k + TILE)
    if size > MAX_SIZE:
        return f"a matrix has {size} elements, more than {MAX_SIZE}"
    if cover(spec.n, TILE) > MAX_GRID[1]:
        return f"the result has {spec.n} columns, more than {TILE * MAX_GRID[1]}"
    return None


def _product(name: str, threads: int, spec: MatmulSpec, *arrays: Any) -> Any:
    """Launch ``kernels.<name>.matmul`` on a, b and what there is of bias and residual."""
    out = empty((spec.m, spec.n), spec.dtype)
    options = [spec.trans_a, spec.trans_b, *(each is not None for each in arrays[2:]), spec.activation]
    if name == "gemm":
        options.append(spec.dtype)
    sizes = np.uint32(spec.m), np.uint32(spec.n), np.uint32(spec.k)
    launch(
        Kernel(name, "matmul", tuple(options)),
        (cover(spec.m, TILE), cover(spec.n, TILE)),
        threads,
        *(out if each is None else lift(each) for each in arrays),
        out,
        *sizes,
        np.dtype(spec.dtype).type(spec.slope),
    )
    return settle(out, arrays[0])


def matmul(spec: MatmulSpec, a: Any, b: Any, bias: Any, residual: Any = None) -> Any:
    return _product("gemm", THREADS, spec, a, b, bias, residual)


def matmul_tf32(spec: MatmulSpec, a: Any, b: Any, bias: Any, residual: Any = None) -> Any:
    """On tensor cores, see :class:`fastconv.allow_tf32` for the error."""
    return _product("tensor", TENSOR_THREADS, spec, a, b, bias, residual)


def _tensor_refusal(spec: MatmulSpec) -> str | None:
    if spec.dtype != "float32":
        return f"tensor cores take float32 rounded to TF32, not {spec.dtype}"
    if not tf32_allowed():
        return "fastconv.allow_tf32 is off"
    capability = engine.current().capability()
    if capability < (8, 0):
        return "TF32 needs compute capability 8.0, the device has {}.{}".format(*capability)
    return _refusal(spec)


IMPLEMENTATIONS: dict[str, tuple[Implementation, ...]] = {
    "matmul": (
        Implementation("tf32_64x64", matmul_tf32, _tensor_refusal),
        Implementation("gemm_64x64", matmul, _refusal),
    ),
}
