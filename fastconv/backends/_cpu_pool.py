"""Compiled implementations of pooling, unpooling, unfold, fold and pad."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fastconv import _layout, _pool
from fastconv._config import get_num_threads, isa
from fastconv._dispatch import Implementation
from fastconv._memory import empty
from fastconv._spec import AdaptivePoolSpec, ConvSpec, PadSpec, PlaneSpec, PoolSpec

Array = NDArray

_INT32_MAX = 2**31 - 1


def _refuse_wide_window(spec: PoolSpec) -> str | None:
    """Kernels count positions inside a window in 32 bits."""
    (kh, kw), (dh, dw), width = spec.kernel, spec.dilation, spec.in_size[1]
    span = (kh - 1) * dh * width + (kw - 1) * dw
    if max(span, kh * kw) > _INT32_MAX:
        return f"a window spans {span} elements, more than 2**31 - 1"
    return None


def max_pool_forward(spec: PoolSpec, input: Array, index_dtype: str | None) -> tuple[Array, Array | None]:
    """Window maxima, with or without their indices."""
    out = empty(spec.output_shape, spec.dtype)
    if index_dtype is None:
        _pool.max_pool_forward(spec, input, out, isa(), get_num_threads())
        return out, None
    indices = empty(spec.output_shape, index_dtype)
    _pool.max_pool_forward_indexed(spec, input, out, indices, isa(), get_num_threads())
    return out, indices


def max_pool_backward(spec: PoolSpec, grad_output: Array, indices: Array) -> Array:
    """Each gradient added at its maximum."""
    grad_input = empty(spec.input_shape, spec.dtype)
    if indices.dtype == np.uint8:
        _pool.max_pool_backward(spec, grad_output, indices, grad_input, isa(), get_num_threads())
    else:
        planes = spec.batch * spec.channels
        inner, outer = (planes, math.prod(spec.out_size)), (planes, math.prod(spec.in_size))
        _pool.scatter_planes(
            grad_output.reshape(inner),
            indices.reshape(inner),
            grad_input.reshape(outer),
            True,
            get_num_threads(),
        )
    return grad_input


def avg_pool_forward(spec: PoolSpec, input: Array) -> Array:
    """Window means."""
    out = empty(spec.output_shape, spec.dtype)
    _pool.avg_pool_forward(spec, input, out, isa(), get_num_threads())
    return out


def avg_pool_backward(spec: PoolSpec, grad_output: Array) -> Array:
    """Each gradient spread evenly over its window."""
    grad_input = empty(spec.input_shape, spec.dtype)
    _pool.avg_pool_backward(spec, grad_output, grad_input, isa(), get_num_threads())
    return grad_input


def _as_pool(spec: AdaptivePoolSpec) -> PoolSpec | None:
    """The ordinary pool that halves or keeps every row, where the adaptive one does: its kernels are faster."""
    if any(n % m for n, m in zip(spec.in_size, spec.out_size, strict=True)):
        return None
    kernel = tuple(n // m for n, m in zip(spec.in_size, spec.out_size, strict=True))
    if kernel[-1] > 2 or spec.out_size[-1] == 1:
        return None
    pool = PoolSpec.from_shape(spec.input_shape, spec.dtype, kernel)
    return None if _refuse_wide_window(pool) else pool


def adaptive_avg_pool_forward(spec: AdaptivePoolSpec, input: Array) -> Array:
    """Window means."""
    if pool := _as_pool(spec):
        return avg_pool_forward(pool, input)
    out = empty(spec.output_shape, spec.dtype)
    _pool.adaptive_avg_pool_forward(spec, input, out, isa(), get_num_threads())
    return out


def adaptive_avg_pool_backward(spec: AdaptivePoolSpec, grad_output: Array) -> Array:
    """Each gradient spread evenly over its window."""
    if pool := _as_pool(spec):
        return avg_pool_backward(pool, grad_output)
    grad_input = empty(spec.input_shape, spec.dtype)
    _pool.adaptive_avg_pool_backward(spec, grad_output, grad_input, isa(), get_num_threads())
    return grad_input


def adaptive_max_pool_forward(spec: AdaptivePoolSpec, input: Array) -> tuple[Array, Array]:
    """Window maxima and their int64 flat indices."""
    out = empty(spec.output_shape, spec.dtype)
    indices = empty(spec.output_shape, np.int64)
    if pool := _as_pool(spec):
        _pool.max_pool_forward_indexed(pool, input, out, indices, isa(), get_num_threads())
    else:
        _pool.adaptive_max_pool_forward(spec, input, out, indices, isa(), get_num_threads())
    return out, indices


def scatter_planes(spec: PlaneSpec, values: Array, indices: Array) -> Array:
    """Values put at flat indices of zeroed planes."""
    planes = spec.batch * spec.channels
    out = empty((spec.batch, spec.channels, spec.out_plane), spec.dtype)
    inner, outer = (planes, spec.in_plane), (planes, spec.out_plane)
    _pool.scatter_planes(
        values.reshape(inner), indices.reshape(inner), out.reshape(outer), spec.accumulate, get_num_threads()
    )
    return out


def gather_planes(spec: PlaneSpec, x: Array, indices: Array) -> Array:
    """Planes read at flat indices."""
    planes = spec.batch * spec.channels
    out = empty((spec.batch, spec.channels, spec.in_plane), spec.dtype)
    inner, outer = (planes, spec.in_plane), (planes, spec.out_plane)
    _pool.gather_planes(x.reshape(outer), indices.reshape(inner), out.reshape(inner), get_num_threads())
    return out


def unfold(spec: ConvSpec, input: Array) -> Array:
    """Patches as columns."""
    planes, taps, positions = spec.batch * spec.in_channels, math.prod(spec.kernel), math.prod(spec.out_size)
    columns = empty((spec.batch, spec.in_channels * taps, positions), spec.dtype)
    _layout.unfold(
        spec,
        input.reshape(planes, math.prod(spec.in_size)),
        columns.reshape(planes, taps, positions),
        isa(),
        get_num_threads(),
    )
    return columns


def fold(spec: ConvSpec, columns: Array) -> Array:
    """Columns added up where they overlap."""
    planes, taps, positions = spec.batch * spec.in_channels, math.prod(spec.kernel), math.prod(spec.out_size)
    out = empty(spec.input_shape, spec.dtype)
    _layout.fold(
        spec,
        columns.reshape(planes, taps, positions),
        out.reshape(planes, math.prod(spec.in_size)),
        isa(),
        get_num_threads(),
    )
    return out


_PAD_AXES = 3


def _refuse_many_axes(spec: PadSpec) -> str | None:
    if len(spec.in_shape) > _PAD_AXES:
        return f"it pads up to {_PAD_AXES} axes, not {len(spec.in_shape)}"
    return None


def _pad_source(size: int, lo: int, hi: int, mode: str) -> NDArray[np.int64]:
    """For every position of a padded axis the input position it takes, -1 for the constant."""
    position = np.arange(-lo, size + hi)
    if mode == "constant":
        return np.where((position >= 0) & (position < size), position, -1)
    if mode == "reflect":
        return (size - 1) - np.abs((size - 1) - np.abs(position))
    if mode == "replicate":
        return np.clip(position, 0, size - 1)
    return position % size


@lru_cache(256)
def _pad_tables(spec: PadSpec) -> tuple[tuple[NDArray[np.int64], ...], int, int]:
    """Source tables of three axes, and start and length of the columns that copy consecutive ones."""
    gap = _PAD_AXES - len(spec.in_shape)
    axes = ((1, 0, 0),) * gap + tuple(zip(spec.in_shape, spec.lo, spec.hi, strict=True))
    size, lo, hi = axes[-1]
    start = max(lo, 0)
    length = max(min(size + lo, size + lo + hi) - start, 0)
    return tuple(_pad_source(*axis, spec.mode) for axis in axes), start, length


def _pad_view(spec: PadSpec, array: Array, shape: tuple[int, ...]) -> Array:
    return array.reshape(spec.outer, *(1,) * (_PAD_AXES - len(shape)), *shape)


def pad(spec: PadSpec, x: Array) -> Array:
    """Trailing axes grown or cropped."""
    (source_z, source_y, source_x), start, length = _pad_tables(spec)
    out = empty((spec.outer, *spec.out_shape), spec.dtype)
    _layout.pad(
        _pad_view(spec, x, spec.in_shape),
        _pad_view(spec, out, spec.out_shape),
        source_z,
        source_y,
        source_x,
        start,
        length,
        spec.value,
        get_num_threads(),
    )
    return out


def pad_backward(spec: PadSpec, grad_output: Array) -> Array:
    """Each gradient added where its position came from."""
    (source_z, source_y, source_x), start, length = _pad_tables(spec)
    grad_input = empty((spec.outer, *spec.in_shape), spec.dtype)
    _layout.pad_backward(
        _pad_view(spec, grad_output, spec.out_shape),
        _pad_view(spec, grad_input, spec.in_shape),
        source_z,
        source_y,
        source_x,
        start,
        length,
        get_num_threads(),
    )
    return grad_input


IMPLEMENTATIONS: dict[str, tuple[Implementation, ...]] = {
    "max_pool_forward": (Implementation("vector", max_pool_forward, _refuse_wide_window),),
    "max_pool_backward": (Implementation("vector", max_pool_backward, _refuse_wide_window),),
    "avg_pool_forward": (Implementation("vector", avg_pool_forward),),
    "avg_pool_backward": (Implementation("vector", avg_pool_backward),),
    "adaptive_avg_pool_forward": (Implementation("vector", adaptive_avg_pool_forward),),
    "adaptive_avg_pool_backward": (Implementation("vector", adaptive_avg_pool_backward),),
    "adaptive_max_pool_forward": (Implementation("vector", adaptive_max_pool_forward),),
    "scatter_planes": (Implementation("scalar", scatter_planes),),
    "gather_planes": (Implementation("scalar", gather_planes),),
    "unfold": (Implementation("rows", unfold),),
    "fold": (Implementation("rows", fold),),
    "pad": (Implementation("rows", pad, _refuse_many_axes),),
    "pad_backward": (Implementation("rows", pad_backward, _refuse_many_axes),),
}
