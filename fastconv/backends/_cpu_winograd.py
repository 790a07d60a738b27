"""Winograd convolution on the CPU: kernels of 3 taps and stride 1, any padding, dilation and groups.

F(m x m, 3 x 3) computes tiles of m x m outputs with (m + 2)^2 products instead of 9 m^2, in all three passes; kernels
of 1 x 3, 3 x 1 and 3 (one dimension) take F(4, 3) along their one long side.  A dilated convolution is as many
interleaved ordinary ones.

Rounding.  With ``n`` products a result, the error is at most ``growth * n * eps * max|x| * sum|w|`` (for the weight
gradient ``sum|grad|``), where ``growth`` is the maximum over output i and tap t of
``sum_f |A[i, f] G[f, t]| sum_j |B[f, j]|``, squared in two dimensions; the plain sum has growth 1.  Typical errors are
far smaller: see :data:`GROWTH`.

Infinities and NaNs would spread over their tile.  So the kernels report a result that is not finite.  Then the samples
are served one by one, and those that hold such a result by the implicit matrix product, which puts them where they
belong: no sample's bits depend on another's infinities.

Scratch memory in float32 is at most 28 MiB shared by the threads and 4 MiB for each, up to 512 channels of one group
and rows of 4096 elements; beyond, it grows in proportion.  It is kept for the next call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv import _config, _winograd
from fastconv._dispatch import Implementation, Packed, unpack
from fastconv._memory import empty
from fastconv._spec import ConvSpec
from fastconv.backends import _cpu_cost

Array = NDArray

# Worst-case growth of rounding errors in one dimension; measured maximum errors are about 1e-6 (m = 2), 3e-6 (4) and
# 2e-5 (6) of the largest result in float32.
GROWTH = {2: 4.0, 4: 13.2445, 6: 39.5556}

MAX_LINE = 1 << 16  # of a row: a thread keeps several transformed rows
MAX_CHANNELS = 1 << 13  # of all groups: the transformed tiles of one panel stay within scratch memory


def serve_samples(
    winograd: Callable[..., bool],
    product: Callable[..., Any],
    spec: ConvSpec,
    weight: Array,
    *images: Array | None,
) -> None:
    """Run ``winograd(spec, *images)``; samples whose result is not finite are left to ``product``, called alike."""
    if winograd(spec, *images):
        return
    if spec.batch == 1 or not np.isfinite(weight).all():
        product(spec, *images)
        return
    one = replace(spec, batch=1)
    for i in range(spec.batch):
        serve_samples(winograd, product, one, weight, *(x if x is None else x[i : i + 1] for x in images))


def _forward(
    m: int,
    fallback: Callable[..., Array],
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

    def winograd(spec: ConvSpec, x: Array, y: Array, residual: Array | None) -> bool:
        flat = x.reshape(-1), plain.reshape(-1), bias, y.reshape(-1)
        rest = None if residual is None else residual.reshape(-1)
        epilogue = spec.activation, spec.slope, rest
        return _winograd.conv_forward(spec, *flat, m, isa, _config.threads_for(spec.macs), *epilogue, form)

    def product(spec: ConvSpec, x: Array, y: Array, residual: Array | None) -> None:
        fallback(spec, x, plain, bias, y, residual)

    serve_samples(winograd, product, spec, plain, input, out, residual)
    return out


def _input_grad(
    m: int,
    fallback: Callable[..., Array],
    spec: ConvSpec,
    grad_output: Array,
    weight: Array,
    bias: Array | None,
    out: Array | None,
) -> Array:
    if out is None:
        out = empty(spec.input_shape, spec.dtype)

    def winograd(spec: ConvSpec, grad: Array, dx: Array) -> bool:
        flat = grad.reshape(-1), weight.reshape(-1), bias, dx.reshape(-1)
        return _winograd.conv_input_grad(spec, *flat, m, _config.isa(), _config.threads_for(spec.macs))

    def product(spec: ConvSpec, grad: Array, dx: Array) -> None:
        fallback(spec, grad, weight, bias, dx)

    serve_samples(winograd, product, spec, weight, grad_output, out)
    return out


def _layout(m: int, spec: ConvSpec) -> Hashable:
    return _config.isa(), m


def _pack(m: int, spec: ConvSpec, weight: Array) -> Packed:
    isa, threads = _config.isa(), _config.threads_for(weight.size)
    form = empty(_winograd.filters_size(spec, m, isa), weight.dtype)
    _winograd.transform(spec, weight.reshape(-1), form, m, isa, threads)
    return Packed(weight, form, isa)


def _weight_grad(
    m: int, fallback: Callable[..., Array], spec: ConvSpec, input: Array, grad_output: Array
) -> Array:
    result = empty(spec.weight_shape, spec.dtype)
    flat = input.reshape(-1), grad_output.reshape(-1), result.reshape(-1)
    if _winograd.conv_weight_grad(spec, *flat, m, _config.isa(), _config.threads_for(spec.macs)):
        return result
    return fallback(spec, input, grad_output)


_RUNS: dict[str, Callable[..., Array]] = {
    _cpu_cost.FORWARD: _forward,
    _cpu_cost.INPUT: _input_grad,
    _cpu_cost.WEIGHT: _weight_grad,
}


def refusal(m: int, spec: ConvSpec) -> str | None:
    sides = sorted(spec.kernel[-2:])
    if len(spec.kernel) > 2 or sides not in ([3], [3, 3], [1, 3]):
        return f"it serves kernels of 3, 3 x 3, 1 x 3 and 3 x 1 taps, got {' x '.join(map(str, spec.kernel))}"
    if m != 4 and sides != [3, 3]:
        return f"one-sided kernels take tiles of 4, not {m}"
    if any(s != 1 for s in spec.stride):
        return f"it serves stride 1, got {spec.stride}"
    line = max(spec.in_size[-1], spec.out_size[-1]) + spec.dilation[-1] * (m + 2)
    if line > MAX_LINE:
        return f"its scratch memory holds rows of up to {MAX_LINE} elements with the last tiles' margin, got {line}"
    channels = max(spec.in_channels, spec.out_channels)
    if channels > MAX_CHANNELS:
        return f"its scratch memory holds tiles of up to {MAX_CHANNELS} channels, got {channels}"
    if any(d > n for d, n in zip(spec.dilation, spec.out_size, strict=True)):
        return f"dilation {spec.dilation} leaves single positions of an output of size {spec.out_size}"
    return None


def growth(m: int, spec: ConvSpec) -> float:
    return GROWTH[m] ** sum(k == 3 for k in spec.kernel)


def _cost(op: str, m: int, spec: ConvSpec) -> float:
    """float64 is taken for the sake of accuracy: there Winograd serves on request alone."""
    if spec.dtype != "float32":
        return math.inf
    return _cpu_cost.cost(op, m, _cpu_cost.winograd_features(spec, op, m))


def implementations(op: str, fallback: Callable[..., Any]) -> tuple[Implementation, ...]:
    """F(4 x 4), F(2 x 2) and F(6 x 6) of one of the three passes."""
    packs = op == _cpu_cost.FORWARD
    return tuple(
        Implementation(
            f"winograd{m}",
            partial(_RUNS[op], m, fallback),
            partial(refusal, m),
            partial(growth, m),
            partial(_cost, op, m),
            layout=partial(_layout, m) if packs else None,
            pack=partial(_pack, m) if packs else None,
        )
        for m in (4, 2, 6)
    )
