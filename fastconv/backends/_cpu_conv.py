"""Convolution and matrix product on the CPU.

``direct`` sums shifted rows and serves depthwise convolution and groups of few channels; ``implicit_gemm`` packs
columns of the im2col matrix block by block (never the whole) for a register-tiled matrix product and serves everything.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fastconv import _config, _conv
from fastconv._dispatch import Implementation
from fastconv._spec import ConvSpec, MatmulSpec

Array = NDArray

MAX_TAPS = 1 << 17  # of one filter channel: 16 lanes of float64 of them fill a thread's scratch memory


def _forward(direct: bool) -> Callable[..., Array]:
    def run(spec: ConvSpec, input: Array, weight: Array, bias: Array | None, out: Array | None) -> Array:
        if out is None:
            out = np.empty(spec.output_shape, spec.dtype)
        _conv.conv_forward(
            spec,
            input.reshape(-1),
            weight.reshape(-1),
            bias,
            out.reshape(-1),
            direct,
            _config.isa(),
            _config.get_num_threads(),
        )
        return out

    return run


def _input_grad(direct: bool) -> Callable[..., Array]:
    def run(
        spec: ConvSpec, grad_output: Array, weight: Array, bias: Array | None, out: Array | None
    ) -> Array:
        if out is None:
            out = np.empty(spec.input_shape, spec.dtype)
        _conv.conv_input_grad(
            spec,
            grad_output.reshape(-1),
            weight.reshape(-1),
            bias,
            out.reshape(-1),
            direct,
            _config.isa(),
            _config.get_num_threads(),
        )
        return out

    return run


def _weight_grad(direct: bool) -> Callable[..., Array]:
    def run(spec: ConvSpec, input: Array, grad_output: Array) -> Array:
        out = np.empty(spec.weight_shape, spec.dtype)
        _conv.conv_weight_grad(
            spec,
            input.reshape(-1),
            grad_output.reshape(-1),
            out.reshape(-1),
            direct,
            _config.isa(),
            _config.get_num_threads(),
        )
        return out

    return run


def _matmul(spec: MatmulSpec, a: Array, b: Array, bias: Array | None) -> Array:
    out = np.empty((spec.m, spec.n), spec.dtype)
    _conv.matmul(a, b, bias, out, spec.trans_a, spec.trans_b, _config.isa(), _config.get_num_threads())
    return out


def _too_many_taps(spec: ConvSpec) -> str | None:
    if math.prod(spec.kernel) > MAX_TAPS:
        return f"its scratch memory holds kernels of up to {MAX_TAPS} taps, got {math.prod(spec.kernel)}"
    return None


def _few_channels(summed: int, produced: int) -> str | None:
    if (produced <= 8 and summed <= 64) or (produced <= 32 and summed == 1):
        return None
    return (
        "it pays for groups that produce at most 8 channels from at most 64, or 32 from 1; this one produces "
        f"{produced} from {summed}"
    )


def _refuse_direct_forward(spec: ConvSpec) -> str | None:
    summed, produced = spec.in_channels // spec.groups, spec.out_channels // spec.groups
    return _too_many_taps(spec) or _few_channels(summed, produced)


def _refuse_direct_input_grad(spec: ConvSpec) -> str | None:
    summed, produced = spec.out_channels // spec.groups, spec.in_channels // spec.groups
    return _too_many_taps(spec) or _few_channels(summed, produced)


def _refuse_direct_weight_grad(spec: ConvSpec) -> str | None:
    pairs = spec.in_channels // spec.groups * (spec.out_channels // spec.groups)
    if pairs > 32:
        return f"it pays for groups of at most 32 channel pairs, got {pairs}"
    return _too_many_taps(spec)


IMPLEMENTATIONS: dict[str, tuple[Implementation, ...]] = {
    "conv_forward": (
        Implementation("direct", _forward(direct=True), _refuse_direct_forward),
        Implementation("implicit_gemm", _forward(direct=False), _too_many_taps),
    ),
    "conv_input_grad": (
        Implementation("direct", _input_grad(direct=True), _refuse_direct_input_grad),
        Implementation("implicit_gemm", _input_grad(direct=False), _too_many_taps),
    ),
    "conv_weight_grad": (
        Implementation("direct", _weight_grad(direct=True), _refuse_direct_weight_grad),
        Implementation("implicit_gemm", _weight_grad(direct=False), _too_many_taps),
    ),
    "matmul": (Implementation("gemm", _matmul),),
}
