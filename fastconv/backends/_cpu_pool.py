"""Compiled implementations of pooling, unpooling, unfold, fold, pad and overlay."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import cast

import numpy as np
from numpy.typing import NDArray

from fastconv import _layout, _pool
from fastconv._config import isa, threads_for
from fastconv._dispatch import Implementation
from fastconv._memory import empty
from fastconv._spec import AdaptivePoolSpec, ConvSpec, OverlaySpec, PadSpec, PlaneSpec, PoolSpec, Shape

Array = NDArray

_INT32_MAX = 2**31 - 1

NARROW_WIDTH = 32  # of rows that are done several planes at once
NARROW_PLANE = 1024  # elements: several planes stay in the first-level cache


def _refuse_wide_window(spec: PoolSpec) -> str | None:
    """Kernels count positions inside a window in 32 bits."""
    (kh, kw), (dh, dw), width = spec.kernel, spec.dilation, spec.in_size[1]
    span = (kh - 1) * dh * width + (kw - 1) * dw
    if max(span, kh * kw) > _INT32_MAX:
        return f"a window spans {span} elements, more than 2**31 - 1"
    return None


def _work(spec: PoolSpec | AdaptivePoolSpec) -> int:
    return spec.batch * spec.channels * math.prod(spec.in_size)


@lru_cache(256)
def _pool_of(spec: PoolSpec) -> _pool.Pool:
    return _pool.Pool(spec)


def _windows(spec: PoolSpec | AdaptivePoolSpec, axis: int) -> tuple[Array, Array, Array]:
    """Start, end and count of the windows along an axis: the part inside the input, and what an average divides by."""
    if isinstance(spec, AdaptivePoolSpec):
        start, end = spec.windows(axis)
        return start, end, end - start
    n, k = spec.in_size[axis], spec.kernel[axis]
    start = np.arange(spec.out_size[axis], dtype=np.int64) * spec.stride[axis] - spec.pad_lo[axis]
    first, end = np.maximum(start, 0), np.minimum(start + k, n)
    if spec.divisor_override is not None:
        count = np.full_like(start, spec.divisor_override if axis == 0 else 1)
    elif spec.count_include_pad:
        count = np.minimum(start + k, n + spec.pad_hi[axis]) - start
    else:
        count = end - first
    return first, end, count


@lru_cache(256)
def _window_pool_of(spec: PoolSpec | AdaptivePoolSpec) -> _pool.WindowPool:
    return _pool.WindowPool(spec, (*_windows(spec, 0), *_windows(spec, 1)), _is_narrow(spec))


def _is_narrow(spec: PoolSpec | AdaptivePoolSpec) -> bool:
    """Whether averages of several planes at once, a vector lane each, are faster than rows of one: measured."""
    inputs, outputs = math.prod(spec.in_size), math.prod(spec.out_size)
    return outputs > 1 and spec.in_size[1] <= NARROW_WIDTH and max(inputs, outputs) <= NARROW_PLANE


def _prepare_max_pool_forward(spec: PoolSpec) -> Callable[..., tuple[Array, Array | None]]:
    pool, shape, dtype, work = _pool_of(spec), spec.output_shape, np.dtype(spec.dtype), _work(spec)

    def run(input: Array, index_dtype: str | None) -> tuple[Array, Array | None]:
        out = empty(shape, dtype)
        indices = None if index_dtype is None else empty(shape, index_dtype)
        pool.max_forward(input, out, indices, 1 if index_dtype == "uint8" else 8, isa(), threads_for(work))
        return out, indices

    return run


def max_pool_forward(spec: PoolSpec, input: Array, index_dtype: str | None) -> tuple[Array, Array | None]:
    """Window maxima, with or without their indices."""
    return _prepare_max_pool_forward(spec)(input, index_dtype)


def _prepare_max_pool_backward(spec: PoolSpec) -> Callable[[Array, Array], Array]:
    pool, shape, dtype, work = _pool_of(spec), spec.input_shape, np.dtype(spec.dtype), _work(spec)
    planes = (spec.batch * spec.channels, math.prod(spec.out_size), math.prod(spec.in_size), dtype.itemsize)

    def run(grad_output: Array, indices: Array) -> Array:
        grad_input = empty(shape, dtype)
        if indices.itemsize == 1:
            pool.max_backward(grad_output, indices, grad_input, isa(), threads_for(work))
        else:
            _pool.scatter_planes(grad_output, indices, grad_input, *planes, True, threads_for(work))
        return grad_input

    return run


def max_pool_backward(spec: PoolSpec, grad_output: Array, indices: Array) -> Array:
    """Each gradient added at its maximum."""
    return _prepare_max_pool_backward(spec)(grad_output, indices)


def _prepared(
    kernel: Callable[..., None], spec: PoolSpec | AdaptivePoolSpec | ConvSpec, shape: Shape, work: int
) -> Callable[[Array], Array]:
    """A prepared kernel from one array to another as a function of the first."""
    dtype = np.dtype(spec.dtype)

    def run(source: Array) -> Array:
        out = empty(shape, dtype)
        kernel(source, out, isa(), threads_for(work))
        return out

    return run


def _average_of(spec: PoolSpec | AdaptivePoolSpec) -> _pool.Pool | _pool.WindowPool:
    """The kernels that serve an average fastest."""
    if _is_narrow(spec):
        return _window_pool_of(spec)
    pool = spec if isinstance(spec, PoolSpec) else _as_pool(spec)
    return _window_pool_of(spec) if pool is None or _is_global(pool) else _pool_of(pool)


def _is_global(spec: PoolSpec) -> bool:
    """Whether the one window is the whole plane, as in an adaptive pool of output size 1."""
    unpadded = spec.pad_lo == spec.pad_hi == (0, 0)
    return spec.kernel == spec.in_size and unpadded and spec.divisor_override is None


def _prepare_avg_pool_forward(spec: PoolSpec | AdaptivePoolSpec) -> Callable[[Array], Array]:
    return _prepared(_average_of(spec).avg_forward, spec, spec.output_shape, _work(spec))


def _prepare_avg_pool_backward(spec: PoolSpec | AdaptivePoolSpec) -> Callable[[Array], Array]:
    return _prepared(_average_of(spec).avg_backward, spec, spec.input_shape, _work(spec))


def avg_pool_forward(spec: PoolSpec, input: Array) -> Array:
    """Window means."""
    return _prepare_avg_pool_forward(spec)(input)


def avg_pool_backward(spec: PoolSpec, grad_output: Array) -> Array:
    """Each gradient spread evenly over its window."""
    return _prepare_avg_pool_backward(spec)(grad_output)


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
    return _prepare_avg_pool_forward(spec)(input)


def adaptive_avg_pool_backward(spec: AdaptivePoolSpec, grad_output: Array) -> Array:
    """Each gradient spread evenly over its window."""
    return _prepare_avg_pool_backward(spec)(grad_output)


def _prepare_adaptive_max_pool_forward(spec: AdaptivePoolSpec) -> Callable[[Array], tuple[Array, Array]]:
    shape, dtype, work = spec.output_shape, np.dtype(spec.dtype), _work(spec)
    if pool := _as_pool(spec):
        halving = _prepare_max_pool_forward(pool)
        return lambda input: cast("tuple[Array, Array]", halving(input, "int64"))
    kernel = _window_pool_of(spec).max_forward

    def run(input: Array) -> tuple[Array, Array]:
        out, indices = empty(shape, dtype), empty(shape, np.int64)
        kernel(input, out, indices, isa(), threads_for(work))
        return out, indices

    return run


def adaptive_max_pool_forward(spec: AdaptivePoolSpec, input: Array) -> tuple[Array, Array]:
    """Window maxima and their int64 flat indices."""
    return _prepare_adaptive_max_pool_forward(spec)(input)


def scatter_planes(spec: PlaneSpec, values: Array, indices: Array) -> Array:
    """Values put at flat indices of zeroed planes."""
    planes, inner, outer = spec.batch * spec.channels, spec.in_plane, spec.out_plane
    out = empty((spec.batch, spec.channels, outer), values.dtype)
    threads = threads_for(planes * (inner + outer))
    _pool.scatter_planes(values, indices, out, planes, inner, outer, out.itemsize, spec.accumulate, threads)
    return out


def gather_planes(spec: PlaneSpec, x: Array, indices: Array) -> Array:
    """Planes read at flat indices."""
    planes, inner, outer = spec.batch * spec.channels, spec.in_plane, spec.out_plane
    out = empty((spec.batch, spec.channels, inner), x.dtype)
    _pool.gather_planes(x, indices, out, planes, outer, inner, out.itemsize, threads_for(planes * inner))
    return out


@lru_cache(256)
def _columns_of(spec: ConvSpec) -> _layout.Columns:
    return _layout.Columns(spec)


def _prepare_unfold(spec: ConvSpec) -> Callable[[Array], Array]:
    shape = _columns_shape(spec)
    return _prepared(_columns_of(spec).unfold, spec, shape, math.prod(shape))


def _prepare_fold(spec: ConvSpec) -> Callable[[Array], Array]:
    return _prepared(_columns_of(spec).fold, spec, spec.input_shape, math.prod(_columns_shape(spec)))


def _columns_shape(spec: ConvSpec) -> Shape:
    return (spec.batch, spec.in_channels * math.prod(spec.kernel), math.prod(spec.out_size))


def unfold(spec: ConvSpec, input: Array) -> Array:
    """Patches as columns."""
    return _prepare_unfold(spec)(input)


def fold(spec: ConvSpec, columns: Array) -> Array:
    """Columns added up where they overlap."""
    return _prepare_fold(spec)(columns)


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


def _padding_of(spec: PadSpec) -> _layout.Padding:
    """Of three axes, the columns of the last copied as far as they are consecutive ones."""
    gap = _PAD_AXES - len(spec.in_shape)
    axes = ((1, 0, 0),) * gap + tuple(zip(spec.in_shape, spec.lo, spec.hi, strict=True))
    size, lo, hi = axes[-1]
    start = max(lo, 0)
    length = max(min(size + lo, size + lo + hi) - start, 0)
    tables = tuple(_pad_source(*axis, spec.mode) for axis in axes)
    inside = tuple(axis[0] for axis in axes)
    return _layout.Padding(
        spec.outer, inside, tables, start, length, spec.value, np.dtype(spec.dtype).itemsize
    )


def _prepare_pad(spec: PadSpec) -> Callable[[Array], Array]:
    kernel, dtype, shape = _padding_of(spec).forward, np.dtype(spec.dtype), (spec.outer, *spec.out_shape)
    work = math.prod(shape)

    def run(x: Array) -> Array:
        out = empty(shape, dtype)
        kernel(x, out, threads_for(work))
        return out

    return run


def _prepare_pad_backward(spec: PadSpec) -> Callable[[Array], Array]:
    kernel, dtype, shape = _padding_of(spec).backward, np.dtype(spec.dtype), (spec.outer, *spec.in_shape)
    work = spec.outer * math.prod(spec.out_shape)

    def run(grad_output: Array) -> Array:
        grad_input = empty(shape, dtype)
        kernel(grad_output, grad_input, threads_for(work))
        return grad_input

    return run


def pad(spec: PadSpec, x: Array) -> Array:
    """Trailing axes grown or cropped."""
    return _prepare_pad(spec)(x)


def pad_backward(spec: PadSpec, grad_output: Array) -> Array:
    """Each gradient added where its position came from."""
    return _prepare_pad_backward(spec)(grad_output)


def overlay(spec: OverlaySpec, base: Array, patches: Array, places: Array) -> Array:
    """Rows of the base around those of the patch."""
    out = empty(spec.output_shape, spec.dtype)
    _layout.overlay(base, patches, places, out, spec.base_size, spec.fill, threads_for(out.size))
    return out


IMPLEMENTATIONS: dict[str, tuple[Implementation, ...]] = {
    "max_pool_forward": (
        Implementation("vector", max_pool_forward, _refuse_wide_window, prepare=_prepare_max_pool_forward),
    ),
    "max_pool_backward": (
        Implementation("vector", max_pool_backward, _refuse_wide_window, prepare=_prepare_max_pool_backward),
    ),
    "avg_pool_forward": (Implementation("vector", avg_pool_forward, prepare=_prepare_avg_pool_forward),),
    "avg_pool_backward": (Implementation("vector", avg_pool_backward, prepare=_prepare_avg_pool_backward),),
    "adaptive_avg_pool_forward": (
        Implementation("vector", adaptive_avg_pool_forward, prepare=_prepare_avg_pool_forward),
    ),
    "adaptive_avg_pool_backward": (
        Implementation("vector", adaptive_avg_pool_backward, prepare=_prepare_avg_pool_backward),
    ),
    "adaptive_max_pool_forward": (
        Implementation("vector", adaptive_max_pool_forward, prepare=_prepare_adaptive_max_pool_forward),
    ),
    "scatter_planes": (Implementation("scalar", scatter_planes),),
    "gather_planes": (Implementation("scalar", gather_planes),),
    "unfold": (Implementation("rows", unfold, prepare=_prepare_unfold),),
    "fold": (Implementation("rows", fold, prepare=_prepare_fold),),
    "pad": (Implementation("rows", pad, _refuse_many_axes, prepare=_prepare_pad),),
    "pad_backward": (Implementation("rows", pad_backward, _refuse_many_axes, prepare=_prepare_pad_backward),),
    "overlay": (Implementation("rows", overlay),),
}
