"""Compiled implementations of dropout, activations, softmax, the loss and batch normalisation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastconv import _dropout
from fastconv._config import get_num_threads, isa
from fastconv._dispatch import Implementation
from fastconv._spec import DropBlockSpec, DropoutSpec

Array = NDArray

# The builds of each driver by dtype: choosing here is cheaper than letting Cython look at the arguments.
_TYPES = {"float32": "float", "float64": "double"}
_DROPOUT_APPLY = {dtype: _dropout.dropout_apply[c_type] for dtype, c_type in _TYPES.items()}
_DROPOUT_FORWARD = {dtype: _dropout.dropout_forward[c_type] for dtype, c_type in _TYPES.items()}


def dropout_mask(spec: DropoutSpec) -> Array:
    mask = np.empty((spec.size + 7) // 8, np.uint8)
    _dropout.dropout_mask(mask, spec.size, spec.threshold, spec.seed, spec.offset, isa(), get_num_threads())
    return mask


def dropout_apply(spec: DropoutSpec, input: Array, mask: Array) -> Array:
    out = np.empty_like(input)
    apply = _DROPOUT_APPLY[input.dtype.name]
    apply(input.reshape(-1), mask, out.reshape(-1), spec.inner, spec.scale, isa(), get_num_threads())
    return out


def dropout_forward(spec: DropoutSpec, input: Array) -> tuple[Array, Array]:
    if spec.inner != 1:  # few bits: nothing to gain from making them on the way
        mask = dropout_mask(spec)
        return dropout_apply(spec, input, mask), mask
    out, mask = np.empty_like(input), np.empty((spec.size + 7) // 8, np.uint8)
    forward = _DROPOUT_FORWARD[input.dtype.name]
    x, y = input.reshape(-1), out.reshape(-1)
    forward(x, y, mask, spec.threshold, spec.seed, spec.offset, spec.scale, isa(), get_num_threads())
    return out, mask


def drop_block_mask(spec: DropBlockSpec) -> Array:
    rows, cols = spec.size
    planes, threads = spec.batch * spec.channels, get_num_threads()
    mask = np.empty((planes * rows * cols + 7) // 8, np.uint8)
    scratch = np.empty((threads, 9 * rows * cols), np.uint8)
    _dropout.drop_block_mask(
        mask, planes, rows, cols, *spec.block, spec.threshold, spec.seed, spec.offset, scratch, isa(), threads
    )
    return mask


IMPLEMENTATIONS: dict[str, tuple[Implementation, ...]] = {
    run.__name__: (Implementation("philox", run),)
    for run in (dropout_mask, dropout_apply, dropout_forward, drop_block_mask)
}
