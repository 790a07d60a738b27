"""Twins of the convolution and its gradients."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastconv._dispatch import Implementation
from fastconv._spec import ConvSpec
from fastconv.backends.cuda.array import DeviceArray, empty, lift, room, settle
from fastconv.backends.cuda.launch import MAX_GRID, Kernel, cover, launch, too_many

THREADS = 256  # as the kernels have it
LARGE, SMALL = 128, 64
ENOUGH = 128  # blocks that keep a large device busy; with fewer of them, smaller tiles spread the work better


def tile_of(m: int, n: int, groups: int, dtype: str) -> int:
    """Side of the square of results that a block makes; float64 has no registers for the large one."""
    blocks = cover(m, LARGE) * cover(n, LARGE) * groups
    return LARGE if dtype == "float32" and min(m, n) > SMALL and blocks >= ENOUGH else SMALL


def _contract(
    name: str,
    spec: ConvSpec,
    operands: tuple[Any, Any],
    extents: tuple[int, int, int],
    out: DeviceArray,
    *,
    bias: Any = None,
    residual: Any = None,
    activation: tuple[str, float] = ("linear", 0.0),
) -> None:
    """Launch ``kernels.contraction.<name>``; see there."""
    m, n, _ = extents
    dtype = out.dtype.name
    kind, slope = activation
    tile = tile_of(m, n, spec.groups, dtype)
    epilogue = (bias is not None, residual is not None, kind)
    kernel = Kernel("contraction", name, (geometry(spec), epilogue, tile, dtype))
    a, b = map(lift, operands)
    extra = [a if each is None else lift(each) for each in (bias, residual)]  # a: of the type, and never read
    grid = (cover(m, tile) * cover(n, tile), 1, spec.groups)
    channels = (spec.in_channels // spec.groups, spec.out_channels // spec.groups)
    counts, sizes = map(np.uint32, extents), map(np.uint32, (*volumes(spec), *channels))
    launch(kernel, grid, THREADS, a, b, *extra, out, *counts, out.dtype.type(slope), *sizes)


def volumes(spec: ConvSpec) -> tuple[int, ...]:
    """Extents of input and output in three dimensions, those of fewer with leading ones."""
    ones = (1,) * (3 - spec.ndim)
    return (*ones, *spec.in_size, *ones, *spec.out_size)


def geometry(spec: ConvSpec) -> tuple[tuple[int, ...], ...]:
    """Kernel, stride, dilation and leading pad in three dimensions: what is constant in a kernel."""
    rest = 3 - spec.ndim
    once = ((1,) * rest + each for each in (spec.kernel, spec.stride, spec.dilation))
    return (*once, (0,) * rest + spec.pad_lo)


def conv_forward(spec: ConvSpec, input: Any, weight: Any, bias: Any, out: Any, residual: Any = None) -> Any:
    made = room(out, spec.output_shape, spec.dtype)
    _contract(
        "conv_forward",
        spec,
        (weight, input),
        (
            spec.out_channels // spec.groups,
            spec.batch * math.prod(spec.out_size),
            math.prod(spec.weight_shape[1:]),
        ),
        made,
        bias=bias,
        residual=residual,
        activation=(spec.activation, spec.slope),
    )
    return settle(made, input, out)


def conv_input_grad(spec: ConvSpec, grad_output: Any, weight: Any, bias: Any, out: Any) -> Any:
    made = room(out, spec.input_shape, spec.dtype)
    outputs = spec.out_channels // spec.groups
    _contract(
        "conv_input_grad",
        spec,
        (weight, grad_output),
        (
            spec.in_channels // spec.groups,
            spec.batch * math.prod(spec.in_size),
            outputs * math.prod(spec.kernel),
        ),
        made,
        bias=bias,
    )
    return settle(made, grad_output, out)


def conv_weight_grad(spec: ConvSpec, input: Any, grad_output: Any) -> Any:
    made = empty(spec.weight_shape, spec.dtype)
    _contract(
        "conv_weight_grad",
        spec,
        (grad_output, input),
        (
            spec.out_channels // spec.groups,
            math.prod(spec.weight_shape[1:]),
            spec.batch * math.prod(spec.out_size),
        ),
        made,
    )
    return settle(made, input)


def too_many_elements(spec: ConvSpec) -> str | None:
    """Refusal of arrays that 32 bits do not count."""
    return too_many(*map(math.prod, (spec.input_shape, spec.weight_shape, spec.output_shape)))


def _conv_refusal(spec: ConvSpec) -> str | None:
    if reason := too_many_elements(spec):
        return reason
    if spec.groups > MAX_GRID[2]:
        return f"it has {spec.groups} groups, more than {MAX_GRID[2]}"
    return None


IMPLEMENTATIONS: dict[str, tuple[Implementation, ...]] = {
    "conv_forward": (Implementation("implicit_gemm", conv_forward, _conv_refusal),),
    "conv_input_grad": (Implementation("implicit_gemm", conv_input_grad, _conv_refusal),),
    "conv_weight_grad": (Implementation("implicit_gemm", conv_weight_grad, _conv_refusal),),
}
