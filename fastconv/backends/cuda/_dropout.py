"""Twins of the dropout ops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastconv._dispatch import Implementation
from fastconv._spec import DropBlockSpec, DropoutSpec
from fastconv.backends.cuda.array import DeviceArray, empty, lift, settle
from fastconv.backends.cuda.launch import Kernel, cover, launch, too_many

THREADS = 256  # as the kernels have it


def _too_large(spec: DropoutSpec) -> str | None:
    return too_many(spec.size * spec.inner)


def _blocks_too_large(spec: DropBlockSpec) -> str | None:
    return too_many(spec.batch * spec.channels * math.prod(spec.size))


def _mask(size: int, threshold: int, seed: int, offset: int) -> DeviceArray:
    """Keep-bits of elements offset .. offset + size - 1 of a seed's stream."""
    mask = empty((cover(size, 8),), np.uint8)
    first, shift = divmod(offset, 8)
    launch(
        Kernel("dropout", "mask", (shift,)),
        (cover(mask.size, THREADS),),
        THREADS,
        mask,
        np.uint32(size),
        np.uint64(first),
        np.uint32(seed & 0xFFFFFFFF),
        np.uint32(seed >> 32),
        np.uint32(threshold),
    )
    return mask


def _apply(spec: DropoutSpec, input: Any, mask: DeviceArray) -> Any:
    out = empty(input.shape, input.dtype)
    kernel = Kernel("dropout", "apply", (spec.inner > 1, input.dtype.name))
    scale = input.dtype.type(spec.scale)
    sizes = np.uint32(out.size), np.uint32(spec.inner)
    launch(kernel, (cover(out.size, THREADS),), THREADS, lift(input), mask, out, *sizes, scale)
    return settle(out, input)


def dropout_mask(spec: DropoutSpec) -> Any:
    return _mask(spec.size, spec.threshold, spec.seed, spec.offset).numpy()


def dropout_apply(spec: DropoutSpec, input: Any, mask: Any) -> Any:
    return _apply(spec, input, lift(mask))


def dropout_forward(spec: DropoutSpec, input: Any) -> tuple[Any, Any]:
    mask = _mask(spec.size, spec.threshold, spec.seed, spec.offset)
    return _apply(spec, input, mask), settle(mask, input)


def drop_block_mask(spec: DropBlockSpec) -> Any:
    (height, width), size = spec.size, spec.batch * spec.channels * math.prod(spec.size)
    centres = _mask(size, spec.threshold, spec.seed, spec.offset)
    mask = empty(centres.shape, np.uint8)
    sizes = np.uint32(size), np.uint32(height), np.uint32(width)
    launch(
        Kernel("dropout", "drop_block", spec.block),
        (cover(mask.size, THREADS),),
        THREADS,
        centres,
        mask,
        *sizes,
    )
    return mask.numpy()


IMPLEMENTATIONS: dict[str, tuple[Implementation, ...]] = {
    "dropout_mask": (Implementation("philox", dropout_mask, _too_large),),
    "dropout_apply": (Implementation("bits", dropout_apply, _too_large),),
    "dropout_forward": (Implementation("philox", dropout_forward, _too_large),),
    "drop_block_mask": (Implementation("philox", drop_block_mask, _blocks_too_large),),
}
