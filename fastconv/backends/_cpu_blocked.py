"""Operations on the blocked layout: channels in blocks of one cache line, (N, blocks, H, W, lanes).

A position's channels lie side by side, so a product reads them where they are, for any stride, padding and dilation,
and Winograd's transforms, depthwise sums and pools work on whole vectors.  A net that stays in this layout changes it
once at its first layer (``stem``, which reads plain images of few channels) and once behind its last.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv import _blocked, _config, _dispatch
from fastconv._dispatch import Implementation, Packed
from fastconv._memory import empty
from fastconv._spec import ConvSpec, LayoutSpec, PoolSpec, block_lanes, blocked_shape
from fastconv.backends import _cpu_cost, _cpu_winograd

Array = NDArray

DIRECT, DEPTHWISE = 0, 1  # otherwise the side of Winograd's tiles
MAX_STEM_CHANNELS = 8
MAX_TAPS = 1 << 10  # offsets of a tile of positions are kept for all of them


def _prepare_move(driver: Callable[..., None], inward: bool, spec: LayoutSpec) -> Callable[..., Array]:
    """A change of layout as a function of the arrays."""
    batch, channels, *space = spec.planes_shape
    shape = spec.blocked_shape if inward else spec.planes_shape
    sizes = (batch, channels, math.prod(space), np.dtype(spec.dtype).itemsize)
    work = math.prod(spec.blocked_shape)

    def run(source: Array, out: Array | None = None) -> Array:
        if out is None:
            out = empty(shape, spec.dtype)
        driver(source, out, *sizes, _config.isa(), _config.threads_for(work))
        return out

    return run


_prepare_block = partial(_prepare_move, _blocked.from_planes, True)
_prepare_unblock = partial(_prepare_move, _blocked.to_planes, False)


def block(spec: LayoutSpec, planes: Array, out: Array | None = None) -> Array:
    return _prepare_block(spec)(planes, out)


def unblock(spec: LayoutSpec, blocked: Array, out: Array | None = None) -> Array:
    return _prepare_unblock(spec)(blocked, out)


def _packed_layout(m: int, spec: ConvSpec) -> tuple[str, int, int]:
    return "blocked", m, _config.isa()


def _pack(m: int, spec: ConvSpec, weight: Array) -> Packed:
    isa = _config.isa()
    form = empty((_blocked.packed_size(spec, m, isa),), spec.dtype)
    _blocked.pack(spec, weight, form, m, isa, _config.threads_for(form.size))
    return Packed(weight if m > DEPTHWISE else None, form, isa)  # Winograd may leave a sample to plain sums


def _prepare(kind: type[_blocked.Conv], m: int, spec: ConvSpec) -> Callable[..., Array]:
    """A convolution as a function of the arrays."""
    isa, work, shape = _config.isa(), spec.macs, blocked_shape(spec.output_shape, spec.dtype)
    job = kind(spec, m, isa)

    def run(
        input: Array,
        weight: Array | Packed,
        bias: Array | None,
        out: Array | None,
        residual: Array | None = None,
    ) -> Array:
        packed = weight if isinstance(weight, Packed) else _pack(m, spec, weight)
        driver = job if packed.isa == isa else kind(spec, m, packed.isa)
        if out is None:
            out = empty(shape, spec.dtype)
        if not driver.run(input, packed.form, bias, residual, out, _config.threads_for(work)):
            _serve_samples(m, spec, packed, bias, input, out, residual)
        return out

    return run


def _serve_samples(m: int, spec: ConvSpec, packed: Packed, bias: Array | None, *images: Array | None) -> None:
    """Winograd for the samples whose results are finite, plain sums for the others."""
    plain: Any = packed.weight

    def winograd(spec: ConvSpec, x: Array, y: Array, residual: Array | None) -> bool:
        job = _blocked.Conv(spec, m, packed.isa)
        finite: bool = job.run(x, packed.form, bias, residual, y, _config.threads_for(spec.macs))
        return finite

    def direct(spec: ConvSpec, x: Array, y: Array, residual: Array | None) -> None:
        _conv(_blocked.Conv, DIRECT, spec, x, plain, bias, y, residual)

    _cpu_winograd.serve_samples(winograd, direct, spec, plain, *images)


def _conv(
    kind: type[_blocked.Conv],
    m: int,
    spec: ConvSpec,
    input: Array,
    weight: Array | Packed,
    bias: Array | None,
    out: Array | None,
    residual: Array | None = None,
) -> Array:
    return _prepare(kind, m, spec)(input, weight, bias, out, residual)


def _conv_by_planes(
    spec: ConvSpec,
    input: Array,
    weight: Array,
    bias: Array | None,
    out: Array | None,
    residual: Array | None = None,
) -> Array:
    """What no blocked kernel serves, by those of the plain layout."""
    planes = unblock(LayoutSpec(planes_shape=spec.input_shape, dtype=spec.dtype), input)
    return _stem_by_planes(spec, planes, weight, bias, out, residual)


def _stem_by_planes(
    spec: ConvSpec,
    input: Array,
    weight: Array,
    bias: Array | None,
    out: Array | None,
    residual: Array | None = None,
) -> Array:
    layout = LayoutSpec(planes_shape=spec.output_shape, dtype=spec.dtype)
    added = None if residual is None else unblock(layout, residual)
    planes = _dispatch.run("conv_forward", spec, input, weight, bias, None, added)
    return block(layout, planes, out)


def _prepare_pool(kind: str, spec: PoolSpec) -> Callable[..., Array]:
    shape = blocked_shape(spec.output_shape, spec.dtype)
    work = math.prod(shape) * math.prod(spec.kernel)
    job = _blocked.Pool(spec, kind, _config.isa())

    def run(input: Array, out: Array | None = None) -> Array:
        if out is None:
            out = empty(shape, spec.dtype)
        job.run(input, out, _config.threads_for(work))
        return out

    return run


def _prepare_avg_pool(spec: PoolSpec) -> Callable[..., Array]:
    return _prepare_pool("mean" if spec.count_include_pad else "mean_of_seen", spec)


def _max_pool(spec: PoolSpec, input: Array, out: Array | None = None) -> Array:
    return _prepare_pool("max", spec)(input, out)


def _avg_pool(spec: PoolSpec, input: Array, out: Array | None = None) -> Array:
    return _prepare_avg_pool(spec)(input, out)


def _pool_by_planes(op: str, spec: PoolSpec, input: Array, out: Array | None) -> Array:
    planes = unblock(LayoutSpec(planes_shape=spec.input_shape, dtype=spec.dtype), input)
    result = _dispatch.run(op, spec, planes, *([None] if op == "max_pool_forward" else []))
    return block(
        LayoutSpec(planes_shape=spec.output_shape, dtype=spec.dtype),
        result[0] if isinstance(result, tuple) else result,
        out,
    )


def _max_pool_by_planes(spec: PoolSpec, input: Array, out: Array | None = None) -> Array:
    return _pool_by_planes("max_pool_forward", spec, input, out)


def _avg_pool_by_planes(spec: PoolSpec, input: Array, out: Array | None = None) -> Array:
    return _pool_by_planes("avg_pool_forward", spec, input, out)


def _too_large(spec: ConvSpec | PoolSpec) -> str | None:
    if len(spec.kernel) > 2 or math.prod(spec.kernel) > MAX_TAPS:
        return f"it serves one or two dimensions and up to {MAX_TAPS} taps, got kernel {spec.kernel}"
    return None


def _refuse_conv(spec: ConvSpec) -> str | None:
    lanes = block_lanes(spec.dtype)
    each = (spec.in_channels // spec.groups, spec.out_channels // spec.groups)
    if spec.groups > 1 and any(n % lanes for n in each):
        return f"its groups are whole blocks of {lanes} channels, got {each[0]} and {each[1]}"
    return _too_large(spec)


def _refuse_winograd(m: int, spec: ConvSpec) -> str | None:
    return _refuse_conv(spec) or _cpu_winograd.refusal(m, spec)


def _refuse_depthwise(spec: ConvSpec) -> str | None:
    if not spec.in_channels == spec.out_channels == spec.groups:
        return (
            f"each channel is its own group, got {spec.in_channels} to {spec.out_channels} channels in "
            f"{spec.groups} groups"
        )
    return _too_large(spec)


def _refuse_stem(spec: ConvSpec) -> str | None:
    if spec.groups > 1 or spec.in_channels > MAX_STEM_CHANNELS:
        return f"it pays for up to {MAX_STEM_CHANNELS} channels of one group, got {spec.in_channels} of {spec.groups}"
    return _too_large(spec)


def _refuse_avg_pool(spec: PoolSpec) -> str | None:
    if spec.divisor_override is not None or (spec.ceil_mode and spec.count_include_pad):
        return "it divides by the kernel's size or by the elements inside the image"
    return _too_large(spec)


def _cost(m: int, spec: ConvSpec) -> float:
    if m and spec.dtype != "float32":  # taken for the sake of accuracy: see _cpu_winograd
        return math.inf
    return _cpu_cost.cost(_cpu_cost.BLOCKED, m, _cpu_cost.blocked_features(spec, m))


def _kernel(kind: type[_blocked.Conv], m: int) -> dict[str, Any]:
    return {
        "run": partial(_conv, kind, m),
        "prepare": partial(_prepare, kind, m),
        "layout": partial(_packed_layout, m),
        "pack": partial(_pack, m),
    }


IMPLEMENTATIONS: dict[str, tuple[Implementation, ...]] = {
    "block": (Implementation("transposed", block, prepare=_prepare_block),),
    "unblock": (Implementation("transposed", unblock, prepare=_prepare_unblock),),
    "blocked_conv_forward": (
        Implementation("depthwise", refusal=_refuse_depthwise, **_kernel(_blocked.Conv, DEPTHWISE)),
        *(
            Implementation(
                f"winograd{m}",
                refusal=partial(_refuse_winograd, m),
                error_growth=partial(_cpu_winograd.growth, m),
                cost=partial(_cost, m),
                **_kernel(_blocked.Conv, m),
            )
            for m in (4, 2, 6)
        ),
        Implementation(
            "direct", refusal=_refuse_conv, cost=partial(_cost, DIRECT), **_kernel(_blocked.Conv, DIRECT)
        ),
        Implementation("planes", _conv_by_planes),
    ),
    "blocked_stem_forward": (
        Implementation("stem", refusal=_refuse_stem, **_kernel(_blocked.Stem, DIRECT)),
        Implementation("planes", _stem_by_planes),
    ),
    "blocked_max_pool_forward": (
        Implementation("windows", _max_pool, _too_large, prepare=partial(_prepare_pool, "max")),
        Implementation("planes", _max_pool_by_planes),
    ),
    "blocked_avg_pool_forward": (
        Implementation("windows", _avg_pool, _refuse_avg_pool, prepare=_prepare_avg_pool),
        Implementation("planes", _avg_pool_by_planes),
    ),
}
