"""Convolution and matrix product on the CPU.

``small`` works on images of a few elements as they are, without packing or padding; ``direct`` sums shifted rows and
serves depthwise convolution and groups of few channels; ``implicit_gemm`` packs columns of the im2col matrix block by
block (never the whole) for a register-tiled matrix product, or reads them in place where few rows would share the
packing, and serves everything; ``col2im`` computes an input gradient as one product whose rows are added where each tap
looks; ``winograd4``, ``winograd2`` and ``winograd6`` need fewer products for kernels of 3 taps (see
:mod:`._cpu_winograd`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv import _config, _conv, _direct, _small
from fastconv._dispatch import Implementation, Packed, unpack
from fastconv._memory import empty
from fastconv._spec import ConvSpec, MatmulSpec, Shape
from fastconv.backends import _cpu_cost, _cpu_winograd

Array = NDArray

SMALL_MACS = 1 << 14  # of one image, so that no result depends on the size of the batch
SMALL_ROWS = 160  # weighted rows added up: in larger batches other algorithms overtake
MAX_COL2IM = 1 << 20  # elements of a channel's weights, and of the rows it is summed in
MAX_TAPS = 1 << 17  # of one filter channel: 16 lanes of float64 of them fill a thread's scratch memory


def _builds(driver: Any) -> dict[np.dtype[Any], Callable[..., Any]]:
    """A driver's builds by dtype: choosing here is cheaper than letting Cython look at the arguments."""
    return {np.dtype(np.float32): driver["float"], np.dtype(np.float64): driver["double"]}


def _prepared(kernel: Callable[..., None], shape: Shape, spec: ConvSpec) -> Callable[..., Array]:
    """A kernel of a prepared convolution as a function of the arrays; the forward pass takes a residual last."""
    dtype, work = np.dtype(spec.dtype), spec.macs

    def run(
        source: Array, weight: Array, bias: Array | None, out: Array | None, *residual: Array | None
    ) -> Array:
        if out is None:
            out = empty(shape, dtype)
        kernel(source, weight, bias, out, _config.isa(), _config.threads_for(work), *residual)
        return out

    return run


def _prepare_small_forward(spec: ConvSpec) -> Callable[..., Array]:
    return _prepared(_small.Small(spec).forward, spec.output_shape, spec)


def _prepare_small_input_grad(spec: ConvSpec) -> Callable[..., Array]:
    return _prepared(_small.Small(spec).input_grad, spec.input_shape, spec)


def _small_forward(
    spec: ConvSpec,
    input: Array,
    weight: Array,
    bias: Array | None,
    out: Array | None,
    residual: Array | None = None,
) -> Array:
    return _prepare_small_forward(spec)(input, weight, bias, out, residual)


def _small_input_grad(
    spec: ConvSpec, grad_output: Array, weight: Array, bias: Array | None, out: Array | None
) -> Array:
    return _prepare_small_input_grad(spec)(grad_output, weight, bias, out)


def _forward(driver: Any) -> Callable[..., Array]:
    builds = _builds(driver)

    def run(
        spec: ConvSpec,
        input: Array,
        weight: Array | Packed,
        bias: Array | None,
        out: Array | None,
        residual: Array | None = None,
    ) -> Array:
        if out is None:
            out = empty(spec.output_shape, spec.dtype)
        isa, plain, form = unpack(weight, _config.isa())
        builds[input.dtype](
            spec,
            input.reshape(-1),
            plain.reshape(-1),
            bias,
            out.reshape(-1),
            isa,
            _config.threads_for(spec.macs),
            spec.activation,
            spec.slope,
            None if residual is None else residual.reshape(-1),
            *(() if form is None else (form,)),
        )
        return out

    return run


def _gemm_layout(spec: ConvSpec) -> Hashable:
    isa = _config.isa()
    packing = _conv.packing(spec, isa)
    return (isa, packing) if packing[0] else None


def _gemm_pack(spec: ConvSpec, weight: Array) -> Packed:
    isa, threads = _config.isa(), _config.threads_for(weight.size)
    _, elements = _conv.packing(spec, isa)
    form = np.empty(elements, weight.dtype)
    _conv.pack(spec, weight.reshape(-1), form, isa, threads)
    return Packed(weight, form, isa)


def _input_grad(driver: Any) -> Callable[..., Array]:
    builds = _builds(driver)

    def run(
        spec: ConvSpec, grad_output: Array, weight: Array, bias: Array | None, out: Array | None
    ) -> Array:
        if out is None:
            out = empty(spec.input_shape, spec.dtype)
        builds[grad_output.dtype](
            spec,
            grad_output.reshape(-1),
            weight.reshape(-1),
            bias,
            out.reshape(-1),
            _config.isa(),
            _config.threads_for(spec.macs),
        )
        return out

    return run


def _input_grad_col2im(
    spec: ConvSpec, grad_output: Array, weight: Array, bias: Array | None, out: Array | None
) -> Array:
    if out is None:
        out = empty(spec.input_shape, spec.dtype)
    _conv.conv_input_grad_col2im(
        spec,
        grad_output.reshape(-1),
        weight.reshape(-1),
        bias,
        out.reshape(-1),
        _config.isa(),
        _config.threads_for(spec.macs),
    )
    return out


def _weight_grad(driver: Any) -> Callable[..., Array]:
    builds = _builds(driver)

    def run(spec: ConvSpec, input: Array, grad_output: Array) -> Array:
        out = empty(spec.weight_shape, spec.dtype)
        builds[input.dtype](
            spec,
            input.reshape(-1),
            grad_output.reshape(-1),
            out.reshape(-1),
            _config.isa(),
            _config.threads_for(spec.macs),
        )
        return out

    return run


def _matmul(spec: MatmulSpec, a: Array, b: Array, bias: Array | None, residual: Array | None = None) -> Array:
    out = empty((spec.m, spec.n), a.dtype)
    sizes = (spec.m, spec.n, spec.k)
    threads = _config.threads_for(spec.m * spec.n * spec.k)
    _conv.matmul(
        a,
        b,
        bias,
        out,
        *sizes,
        out.itemsize,
        spec.trans_a,
        spec.trans_b,
        _config.isa(),
        threads,
        spec.activation,
        spec.slope,
        residual,
    )
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
    if (
        (produced <= 2 and summed <= 64)
        or (produced <= 4 and summed <= 8)
        or (produced <= 32 and summed == 1)
    ):
        return None
    return (
        "it pays for groups that produce at most 2 channels from at most 64, 4 from 8, or 32 from 1; this one produces "
        f"{produced} from {summed}"
    )


def _refuse_direct_forward(spec: ConvSpec) -> str | None:
    summed, produced = spec.in_channels // spec.groups, spec.out_channels // spec.groups
    return _too_many_taps(spec) or _few_channels(summed, produced)


def _refuse_direct_input_grad(spec: ConvSpec) -> str | None:
    summed, produced = spec.out_channels // spec.groups, spec.in_channels // spec.groups
    return _too_many_taps(spec) or _few_channels(summed, produced)


def _refuse_col2im(spec: ConvSpec) -> str | None:
    summed, produced = spec.out_channels // spec.groups, spec.in_channels // spec.groups
    if refusal := _too_many_taps(spec):
        return refusal
    if len(spec.kernel) == 3:
        return "it serves one or two dimensions"
    if summed < 16 or (produced > 4 and max(spec.stride) == 1):
        return (
            "it pays for sums of at least 16 channels, with a stride or for at most 4 channels produced; this one "
            f"produces {produced} from {summed} with stride {spec.stride}"
        )
    if math.prod(spec.kernel) * summed > MAX_COL2IM:
        return f"it packs up to {MAX_COL2IM} weights of a channel, got {math.prod(spec.kernel) * summed}"
    # rows that are summed at the same time: what a kernel spans, as far as it sees the input
    spans = [
        min((k - 1) * d, n + (o - 1) * s) + n
        for k, d, n, o, s in zip(
            spec.kernel, spec.dilation, spec.in_size, spec.out_size, spec.stride, strict=True
        )
    ]
    height = spans[0] - spec.in_size[0] if len(spans) == 2 else 0
    if (height + 1) * (spans[-1] + 256 * max(spec.stride)) > MAX_COL2IM:
        return (
            f"the input rows that a kernel spans, of {spec.in_size[-1]} elements, exceed its scratch memory"
        )
    return None


def _refuse_direct_weight_grad(spec: ConvSpec) -> str | None:
    pairs = spec.in_channels // spec.groups * (spec.out_channels // spec.groups)
    if pairs > 32:
        return f"it pays for groups of at most 32 channel pairs, got {pairs}"
    for n, o, k, s, d, lo in zip(
        spec.in_size, spec.out_size, spec.kernel, spec.stride, spec.dilation, spec.pad_lo, strict=True
    ):
        if lo > (o - 1) * s or (k - 1) * d - lo >= n:
            return f"every tap must see the input, and some of kernel {spec.kernel} see padding alone"
    return _too_many_taps(spec)


def _gemm_cost(op: str, spec: ConvSpec) -> float:
    return _cpu_cost.cost(op, 0, _cpu_cost.implicit_gemm_features(spec, op))


def _implementations(
    op: str,
    run: Callable[[Any], Callable[..., Array]],
    refuse_direct: Callable[[ConvSpec], str | None],
) -> tuple[Implementation, ...]:
    """``direct`` wherever it pays, else the cheaper of Winograd and the implicit product."""
    product = run(getattr(_conv, op))
    gemm = Implementation("implicit_gemm", product, _too_many_taps, cost=partial(_gemm_cost, op))
    if op == _cpu_cost.FORWARD:
        gemm = replace(gemm, layout=_gemm_layout, pack=_gemm_pack)
    return (
        Implementation("direct", run(getattr(_direct, op)), refuse_direct),
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
        Implementation("col2im", _input_grad_col2im, _refuse_col2im),
        *_implementations("conv_input_grad", _input_grad, _refuse_direct_input_grad),
    ),
    "conv_weight_grad": _implementations("conv_weight_grad", _weight_grad, _refuse_direct_weight_grad),
    "matmul": (Implementation("gemm", _matmul),),
}
