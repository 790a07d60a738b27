"""Pooling, unpooling and layout ops (unfold, fold, pad) of the ``cpu`` backend: thin callers of the compiled drivers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastconv import _pool
from fastconv._config import get_num_threads, isa
from fastconv._dispatch import Implementation
from fastconv._spec import AdaptivePoolSpec, PlaneSpec, PoolSpec

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
    out = np.empty(spec.output_shape, spec.dtype)
    if index_dtype is None:
        _pool.max_pool_forward(spec, input, out, isa(), get_num_threads())
        return out, None
    indices = np.empty(spec.output_shape, index_dtype)
    _pool.max_pool_forward_indexed(spec, input, out, indices, isa(), get_num_threads())
    return out, indices


def max_pool_backward(spec: PoolSpec, grad_output: Array, indices: Array) -> Array:
    """Each gradient added at its maximum."""
    grad_input = np.empty(spec.input_shape, spec.dtype)
    _pool.max_pool_backward(spec, grad_output, indices, grad_input, isa(), get_num_threads())
    return grad_input


def avg_pool_forward(spec: PoolSpec, input: Array) -> Array:
    """Window means."""
    out = np.empty(spec.output_shape, spec.dtype)
    _pool.avg_pool_forward(spec, input, out, isa(), get_num_threads())
    return out


def avg_pool_backward(spec: PoolSpec, grad_output: Array) -> Array:
    """Each gradient spread evenly over its window."""
    grad_input = np.empty(spec.input_shape, spec.dtype)
    _pool.avg_pool_backward(spec, grad_output, grad_input, isa(), get_num_threads())
    return grad_input


def adaptive_avg_pool_forward(spec: AdaptivePoolSpec, input: Array) -> Array:
    """Window means."""
    out = np.empty(spec.output_shape, spec.dtype)
    _pool.adaptive_avg_pool_forward(spec, input, out, isa(), get_num_threads())
    return out


def adaptive_avg_pool_backward(spec: AdaptivePoolSpec, grad_output: Array) -> Array:
    """Each gradient spread evenly over its window."""
    grad_input = np.empty(spec.input_shape, spec.dtype)
    _pool.adaptive_avg_pool_backward(spec, grad_output, grad_input, isa(), get_num_threads())
    return grad_input


def adaptive_max_pool_forward(spec: AdaptivePoolSpec, input: Array) -> tuple[Array, Array]:
    """Window maxima and their int64 flat indices."""
    out = np.empty(spec.output_shape, spec.dtype)
    indices = np.empty(spec.output_shape, np.int64)
    _pool.adaptive_max_pool_forward(spec, input, out, indices, isa(), get_num_threads())
    return out, indices


def scatter_planes(spec: PlaneSpec, values: Array, indices: Array) -> Array:
    """Values put at flat indices of zeroed planes."""
    planes = spec.batch * spec.channels
    out = np.empty((spec.batch, spec.channels, spec.out_plane), spec.dtype)
    inner, outer = (planes, spec.in_plane), (planes, spec.out_plane)
    _pool.scatter_planes(
        values.reshape(inner), indices.reshape(inner), out.reshape(outer), spec.accumulate, get_num_threads()
    )
    return out


def gather_planes(spec: PlaneSpec, x: Array, indices: Array) -> Array:
    """Planes read at flat indices."""
    planes = spec.batch * spec.channels
    out = np.empty((spec.batch, spec.channels, spec.in_plane), spec.dtype)
    inner, outer = (planes, spec.in_plane), (planes, spec.out_plane)
    _pool.gather_planes(x.reshape(outer), indices.reshape(inner), out.reshape(inner), get_num_threads())
    return out


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
}
