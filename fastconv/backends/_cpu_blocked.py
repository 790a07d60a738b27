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


def _move(driver: Callable[..., None], spec: LayoutSpec, source: Array, target: Array) -> Array:
    batch, channels, *space = spec.planes_shape
    sizes = (batch, channels, math.prod(space), target.itemsize)
    driver(source, target, *sizes, _config.isa(), _config.threads_for(source.size))
    return target


def block(spec: LayoutSpec, planes: Array) -> Array:
    return _move(_blocked.from_planes, spec, planes, empty(spec.blocked_shape, spec.dtype))


def unblock(spec: LayoutSpec, blocked: Array) -> Array:
    return _move(_blocked.to_planes, spec, blocked, empty(spec.planes_shape, spec.dtype))


def _result(spec: ConvSpec, out: Array | None) -> Array:
    return empty(blocked_shape(spec.output_shape, spec.dtype), spec.dtype) if out is None else out


def _packed_layout(m: int, spec: ConvSpec) -> tuple[str, int, int]:
    return "blocked", m, _config.isa()


def _pack(m: int, spec: ConvSpec, weight: Array) -> Packed:
    isa = _config.isa()
    form = empty((_blocked.packed_size(spec, m, isa),), spec.dtype)
    _blocked.pack(spec, weight, form, m, isa, _config.threads_for(form.size))
    return Packed(weight, form, isa)


def _conv(
    m: int,
    spec: ConvSpec,
    input: Array,
    weight: Array | Packed,
    bias: Array | None,
    out: Array | None,
    residual: Array | None = None,
) -> Array:
    packed = weight if isinstance(weight, Packed) else _pack(m, spec, weight)
    result = _result(spec, out)

    def kernel(spec: ConvSpec, x: Array, y: Array, residual: Array | None) -> bool:
        threads = _config.threads_for(spec.macs)
        return _blocked.conv(spec, x, packed.form, bias, residual, y, m, packed.isa, threads)

    def direct(spec: ConvSpec, x: Array, y: Array, residual: Array | None) -> None:
        _conv(DIRECT, spec, x, packed.weight, bias, y, residual)

    _cpu_winograd.serve_samples(kernel, direct, spec, packed.weight, input, result, residual)
    return result


def _stem(
    spec: ConvSpec,
    input: Array,
    weight: Array | Packed,
    bias: Array | None,
    out: Array | None,
    residual: Array | None = None,
) -> Array:
    packed = weight if isinstance(weight, Packed) else _pack(DIRECT, spec, weight)
    result = _result(spec, out)
    arrays = (packed.form, bias, residual, result)
    _blocked.stem(spec, input, *arrays, packed.isa, _config.threads_for(spec.macs))
    return result


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
    return _move(_blocked.from_planes, layout, planes, _result(spec, out))


def _pool(kind: str, spec: PoolSpec, input: Array) -> Array:
    out = empty(blocked_shape(spec.output_shape, spec.dtype), spec.dtype)
    _blocked.pool(
        spec, input, out, kind, _config.isa(), _config.threads_for(out.size * math.prod(spec.kernel))
    )
    return out


def _max_pool(spec: PoolSpec, input: Array) -> Array:
    return _pool("max", spec, input)


def _avg_pool(spec: PoolSpec, input: Array) -> Array:
    return _pool("mean" if spec.count_include_pad else "mean_of_seen", spec, input)


def _pool_by_planes(op: str, spec: PoolSpec, input: Array) -> Array:
    planes = unblock(LayoutSpec(planes_shape=spec.input_shape, dtype=spec.dtype), input)
    out = _dispatch.run(op, spec, planes, *([None] if op == "max_pool_forward" else []))
    return block(
        LayoutSpec(planes_shape=spec.output_shape, dtype=spec.dtype),
        out[0] if isinstance(out, tuple) else out,
    )


def _max_pool_by_planes(spec: PoolSpec, input: Array) -> Array:
    return _pool_by_planes("max_pool_forward", spec, input)


def _avg_pool_by_planes(spec: PoolSpec, input: Array) -> Array:
    return _pool_by_planes("avg_pool_forward", spec, input)


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


def _packing(m: int) -> dict[str, Any]:
    return {"layout": partial(_packed_layout, m), "pack": partial(_pack, m)}


IMPLEMENTATIONS: dict[str, tuple[Implementation, ...]] = {
    "block": (Implementation("transposed", block),),
    "unblock": (Implementation("transposed", unblock),),
    "blocked_conv_forward": (
        Implementation("depthwise", partial(_conv, DEPTHWISE), _refuse_depthwise, **_packing(DEPTHWISE)),
        *(
            Implementation(
                f"winograd{m}",
                partial(_conv, m),
                partial(_refuse_winograd, m),
                partial(_cpu_winograd.growth, m),
                partial(_cost, m),
                **_packing(m),
            )
            for m in (4, 2, 6)
        ),
        Implementation(
            "direct", partial(_conv, DIRECT), _refuse_conv, cost=partial(_cost, DIRECT), **_packing(DIRECT)
        ),
        Implementation("planes", _conv_by_planes),
    ),
    "blocked_stem_forward": (
        Implementation("stem", _stem, _refuse_stem, **_packing(DIRECT)),
        Implementation("planes", _stem_by_planes),
    ),
    "blocked_max_pool_forward": (
        Implementation("windows", _max_pool, _too_large),
        Implementation("planes", _max_pool_by_planes),
    ),
    "blocked_avg_pool_forward": (
        Implementation("windows", _avg_pool, _refuse_avg_pool),
        Implementation("planes", _avg_pool_by_planes),
    ),
}
