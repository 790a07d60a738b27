"""Convolution and matrix product on the CPU.

``small`` works on images of a few elements as they are, without packing or padding; ``direct`` sums shifted rows and
serves depthwise convolution and groups of few channels; ``implicit_gemm`` packs columns of the im2col matrix block by
block (never the whole) for a register-tiled matrix product and serves everything; ``winograd4``, ``winograd2`` and
``winograd6`` need fewer products for kernels of 3 taps (see :mod:`._cpu_winograd`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv import _config, _conv, _small
from fastconv._dispatch import Implementation
from fastconv._spec import ConvSpec, MatmulSpec, Shape
from fastconv.backends import _cpu_cost, _cpu_winograd

Array = NDArray

SMALL_MACS = 1 << 14  # of one image, so that no result depends on the size of the batch
SMALL_ROWS = 160  # weighted rows added up: in larger batches other algorithms overtake
MAX_TAPS = 1 << 17  # of one filter channel: 16 lanes of float64 of them fill a thread's scratch memory


def _builds(driver: Any) -> dict[np.dtype[Any], Callable[..., Any]]:
    """A driver's builds by dtype: choosing here is cheaper than letting Cython look at the arguments."""
    return {np.dtype(np.float32): driver["float"], np.dtype(np.float64): driver["double"]}


_CONV_FORWARD = _builds(_conv.conv_forward)
_CONV_INPUT_GRAD = _builds(_conv.conv_input_grad)
_CONV_WEIGHT_GRAD = _builds(_conv.conv_weight_grad)


def _prepared(kernel: Callable[..., None], shape: Shape, spec: ConvSpec) -> Callable[..., Array]:
    """A kernel of a prepared convolution as a function of the arrays."""
    dtype, work = np.dtype(spec.dtype), spec.macs

    def run(source: Array, weight: Array, bias: Array | None, out: Array | None) -> Array:
        if out is None:
            out = np.empty(shape, dtype)
        kernel(source, weight, bias, out, _config.isa(), _config.threads_for(work))
        return out

    return run


def _prepare_small_forward(spec: ConvSpec) -> Callable[..., Array]:
    return _prepared(_small.Small(spec).forward, spec.output_shape, spec)


def _prepare_small_input_grad(spec: ConvSpec) -> Callable[..., Array]:
    return _prepared(_small.Small(spec).input_grad, spec.input_shape, spec)


def _small_forward(
    spec: ConvSpec, input: Array, weight: Array, bias: Array | None, out: Array | None
) -> Array:
    return _prepare_small_forward(spec)(input, weight, bias, out)


def _small_input_grad(
    spec: ConvSpec, grad_output: Array, weight: Array, bias: Array | None, out: Array | None
) -> Array:
    return _prepare_small_input_grad(spec)(grad_output, weight, bias, out)


def _forward(direct: bool) -> Callable[..., Array]:
    def run(spec: ConvSpec, input: Array, weight: Array, bias: Array | None, out: Array | None) -> Array:
        if out is None:
            out = np.empty(spec.output_shape, spec.dtype)
        _CONV_FORWARD[input.dtype](
            spec,
            input.reshape(-1),
            weight.reshape(-1),
            bias,
            out.reshape(-1),
            direct,
            _config.isa(),
            _config.threads_for(spec.macs),
        )
        return out

    return run


def _input_grad(direct: bool) -> Callable[..., Array]:
    def run(
        spec: ConvSpec, grad_output: Array, weight: Array, bias: Array | None, out: Array | None
    ) -> Array:
        if out is None:
            out = np.empty(spec.input_shape, spec.dtype)
        _CONV_INPUT_GRAD[grad_output.dtype](
            spec,
            grad_output.reshape(-1),
            weight.reshape(-1),
            bias,
            out.reshape(-1),
            direct,
            _config.isa(),
            _config.threads_for(spec.macs),
        )
        return out

    return run


def _weight_grad(direct: bool) -> Callable[..., Array]:
    def run(spec: ConvSpec, input: Array, grad_output: Array) -> Array:
        out = np.empty(spec.weight_shape, spec.dtype)
        _CONV_WEIGHT_GRAD[input.dtype](
            spec,
            input.reshape(-1),
            grad_output.reshape(-1),
            out.reshape(-1),
            direct,
            _config.isa(),
            _config.threads_for(spec.macs),
        )
        return out

    return run


def _matmul(spec: MatmulSpec, a: Array, b: Array, bias: Array | None) -> Array:
    out = np.empty((spec.m, spec.n), a.dtype)
    sizes = (spec.m, spec.n, spec.k)
    threads = _config.threads_for(spec.m * spec.n * spec.k)
    _conv.matmul(a, b, bias, out, *sizes, out.itemsize, spec.trans_a, spec.trans_b, _config.isa(), threads)
    return out


def _too_many_taps(spec: ConvSpec) -> str | None:
    if math.prod(spec.kernel) > MAX_TAPS:
        return f"its scratch memory holds kernels of up to {MAX_TAPS} taps, got {math.prod(spec.kernel)}"
    return None


def _refuse_small(spec: ConvSpec) -> str | None:
    if spec.ndim > 2 or max(spec.kernel) > _small.MAX_TAPS:
        return f"it serves one or two dimensions of up to {_small.MAX_TAPS} taps, got kernel {spec.kernel}"
    macs = math.prod(spec.output_shape[1:]) * math.prod(spec.weight_shape[1:])
    rows = macs // max(spec.out_size[-1], 1)
    if macs > SMALL_MACS or rows > SMALL_ROWS:
        return (
            f"it pays for images of up to {SMALL_MACS} multiply-accumulates in {SMALL_ROWS} rows, got {macs} "
            f"in {rows}"
        )
    return None


def _few_channels(summed: int, produced: int) -> str | None:
    if (produced <= 2 and summed <= 64) or (produced <= 4 and summed <= 8):
        return None
    return (
        "it pays for groups that produce at most 2 channels from at most 64, or 4 from 8; this one produces "
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
    if spec.groups == 1 or pairs > 16:
        return f"it pays for several groups of at most 16 channel pairs, got {spec.groups} groups of {pairs}"
    return _too_many_taps(spec)


def _gemm_cost(op: str, spec: ConvSpec) -> float:
    return _cpu_cost.cost(op, 0, _cpu_cost.implicit_gemm_features(spec, op))


def _implementations(
    op: str, run: Callable[[bool], Callable[..., Array]], refuse_direct: Callable[[ConvSpec], str | None]
) -> tuple[Implementation, ...]:
    """``direct`` wherever it pays, else the cheaper of Winograd and the implicit product."""
    gemm = Implementation("implicit_gemm", run(False), _too_many_taps, cost=partial(_gemm_cost, op))
    return (
        Implementation("direct", run(True), refuse_direct),
        *_cpu_winograd.implementations(op, gemm.run),
        gemm,
    )


IMPLEMENTATIONS: dict[str, tuple[Implementation, ...]] = {
    "conv_forward": (
        Implementation("small", _small_forward, _refuse_small, prepare=_prepare_small_forward),
        *_implementations("conv_forward", _forward, _refuse_direct_forward),
    ),
    "conv_input_grad": (
        Implementation("small", _small_input_grad, _refuse_small, prepare=_prepare_small_input_grad),
        *_implementations("conv_input_grad", _input_grad, _refuse_direct_input_grad),
    ),
    "conv_weight_grad": _implementations("conv_weight_grad", _weight_grad, _refuse_direct_weight_grad),
    "matmul": (Implementation("gemm", _matmul),),
}
