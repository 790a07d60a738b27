"""The NumPy backend: every op of the contract, written to be read and to be right.

It is the oracle the compiled backends are tested against, so it shares no code with them, computes in float64
whatever the arrays hold, and rounds once at the end. Only masks and their application are done in the arrays' own
precision, because there the contract asks for the same bits everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from fastconv._dispatch import Implementation
from fastconv._spec import LayoutSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastconv._spec import (
        ActivationSpec,
        AdaptivePoolSpec,
        AddSpec,
        ArraysSpec,
        BatchNormSpec,
        ChannelSpec,
        ConvSpec,
        CrossEntropySpec,
        DropBlockSpec,
        DropoutSpec,
        MatmulSpec,
        OverlaySpec,
        PadSpec,
        PlaneSpec,
        PoolSpec,
        SoftmaxSpec,
        StatisticsSpec,
        UpdateRates,
        UpdateSpec,
    )

Array = np.ndarray
Index = Any  # tuples of slices, integers and ellipses, which the stubs of NumPy take one by one only


# ---------------------------------------------------------------------------------------------------------------
# Helpers shared by the window ops
# ---------------------------------------------------------------------------------------------------------------


def _placement(spec: ConvSpec) -> tuple[Index, Index, tuple[int, ...]]:
    """Where the input lies in the padded array: (slices of the padded array, slices of the input, padded size).

    A negative side crops, so both slices of such an axis are shorter than their arrays.
    """
    inside, kept, padded = [], [], []
    for size, lo, hi in zip(spec.in_size, spec.pad_lo, spec.pad_hi, strict=True):
        length = size + lo + hi
        start, stop = max(0, -lo), max(0, -lo, min(size, size + hi))
        kept.append(slice(start, stop))
        inside.append(slice(start + lo, stop + lo))
        padded.append(length)
    return (..., *inside), (..., *kept), tuple(padded)


def _pad_or_crop(spec: ConvSpec, input: Array) -> Array:
    """`input` in float64, with the spec's zero border around it (or cropped where a side is negative)."""
    inside, kept, size = _placement(spec)
    padded = np.zeros(input.shape[: -spec.ndim] + size)
    padded[inside] = input[kept]
    return padded


def _undo_pad_or_crop(spec: ConvSpec, padded: Array) -> Array:
    """Adjoint of `_pad_or_crop`: the border is dropped, cropped elements get zero."""
    inside, kept, _ = _placement(spec)
    out = np.zeros(padded.shape[: -spec.ndim] + tuple(spec.in_size))
    out[kept] = padded[inside]
    return out


def _taps(spec: ConvSpec) -> Iterator[tuple[Index, Index]]:
    """Each kernel position with the strided slice of the padded input that it touches, one element per output."""
    for tap in np.ndindex(*spec.kernel):
        yield (
            tap,
            (
                ...,
                *(
                    slice(t * d, t * d + s * (o - 1) + 1, s) if o else slice(0, 0)
                    for t, d, s, o in zip(tap, spec.dilation, spec.stride, spec.out_size, strict=True)
                ),
            ),
        )


def _deliver(value: Array, dtype: str, out: Array | None = None) -> Array:
    """Round a float64 result to the op's dtype, into `out` where one was given."""
    if out is None:
        return np.ascontiguousarray(value, dtype=dtype).reshape(value.shape)
    out[...] = value
    return out


def _split_groups(x: Array, groups: int) -> Array:
    """(N, C, *spatial) as (N, groups, C / groups, positions)."""
    return x.reshape(x.shape[0], groups, x.shape[1] // groups, int(np.prod(x.shape[2:])))


# ---------------------------------------------------------------------------------------------------------------
# Convolution
# ---------------------------------------------------------------------------------------------------------------


def _epilogue(spec: ConvSpec | MatmulSpec, sums: Array, residual: Array | None) -> Array:
    """What a product does to its float64 sums before they are rounded."""
    return _activate(spec.activation, sums if residual is None else sums + residual, spec.slope)


def conv_forward(
    spec: ConvSpec,
    input: Array,
    weight: Array,
    bias: Array | None,
    out: Array | None,
    residual: Array | None = None,
) -> Array:
    """Cross-correlation: one small matrix product per kernel position and group."""
    g = spec.groups
    padded = _pad_or_crop(spec, input)
    w = weight.astype(np.float64).reshape(g, spec.out_channels // g, spec.in_channels // g, *spec.kernel)
    total = np.zeros((spec.batch, g, spec.out_channels // g, int(np.prod(spec.out_size))))
    for tap, window in _taps(spec):
        total += w[(..., *tap)] @ _split_groups(padded[window], g)
    result = total.reshape(spec.output_shape)
    if bias is not None:
        result = result + bias.reshape(-1, *(1,) * spec.ndim)
    return _deliver(_epilogue(spec, result, residual), spec.dtype, out)


def conv_input_grad(
    spec: ConvSpec, grad_output: Array, weight: Array, bias: Array | None, out: Array | None
) -> Array:
    """Transpose of the convolution: every output gradient is scattered through the kernel."""
    g = spec.groups
    grad = _split_groups(grad_output.astype(np.float64), g)
    w = weight.astype(np.float64).reshape(g, spec.out_channels // g, spec.in_channels // g, *spec.kernel)
    padded = np.zeros((spec.batch, spec.in_channels, *_placement(spec)[2]))
    for tap, window in _taps(spec):
        touched = padded[window]
        touched += (np.swapaxes(w[(..., *tap)], -1, -2) @ grad).reshape(touched.shape)
    result = _undo_pad_or_crop(spec, padded)
    if bias is not None:
        result = result + bias.reshape(-1, *(1,) * spec.ndim)
    return _deliver(result, spec.dtype, out)


def conv_weight_grad(spec: ConvSpec, input: Array, grad_output: Array) -> Array:
    """Correlation of the input with the output gradient, one kernel position at a time."""
    g = spec.groups
    padded = _pad_or_crop(spec, input)
    grad = _split_groups(grad_output.astype(np.float64), g)
    result = np.zeros((g, spec.out_channels // g, spec.in_channels // g, *spec.kernel))
    for tap, window in _taps(spec):
        columns = np.swapaxes(_split_groups(padded[window], g), -1, -2)
        result[(..., *tap)] = (grad @ columns).sum(axis=0)
    return _deliver(result.reshape(spec.weight_shape), spec.dtype)


def block(spec: LayoutSpec, planes: Array, out: Array | None = None) -> Array:
    """Channels in blocks of one cache line, zeros behind the last."""
    batch, blocks, *space, lanes = spec.blocked_shape
    padded = np.zeros((batch, blocks * lanes, *space), spec.dtype)
    padded[:, : planes.shape[1]] = planes
    return _deliver(np.moveaxis(padded.reshape(batch, blocks, lanes, *space), 2, -1), spec.dtype, out)


def unblock(spec: LayoutSpec, blocked: Array, out: Array | None = None) -> Array:
    """The channels of a blocked array, side by side."""
    batch, blocks, *space, lanes = spec.blocked_shape
    planes = np.moveaxis(blocked, -1, 2).reshape(batch, blocks * lanes, *space)
    return _deliver(planes[:, : spec.planes_shape[1]], spec.dtype, out)


def _layout(shape: tuple[int, ...], dtype: str) -> LayoutSpec:
    return LayoutSpec(planes_shape=shape, dtype=dtype)


def blocked_conv_forward(
    spec: ConvSpec,
    input: Array,
    weight: Array,
    bias: Array | None,
    out: Array | None,
    residual: Array | None = None,
) -> Array:
    """`conv_forward` between changes of layout."""
    planes = unblock(_layout(spec.input_shape, spec.dtype), input)
    return blocked_stem_forward(spec, planes, weight, bias, out, residual)


def blocked_stem_forward(
    spec: ConvSpec,
    input: Array,
    weight: Array,
    bias: Array | None,
    out: Array | None,
    residual: Array | None = None,
) -> Array:
    """`conv_forward` before a change of layout."""
    layout = _layout(spec.output_shape, spec.dtype)
    added = None if residual is None else unblock(layout, residual)
    return block(layout, conv_forward(spec, input, weight, bias, None, added), out)


def blocked_max_pool_forward(spec: PoolSpec, input: Array, out: Array | None = None) -> Array:
    """`max_pool_forward` between changes of layout."""
    planes = unblock(_layout(spec.input_shape, spec.dtype), input)
    return block(_layout(spec.output_shape, spec.dtype), max_pool_forward(spec, planes, None)[0], out)


def blocked_avg_pool_forward(spec: PoolSpec, input: Array, out: Array | None = None) -> Array:
    """`avg_pool_forward` between changes of layout."""
    planes = unblock(_layout(spec.input_shape, spec.dtype), input)
    return block(_layout(spec.output_shape, spec.dtype), avg_pool_forward(spec, planes), out)


def channel_sum(spec: ChannelSpec, x: Array) -> Array:
    """Sum over everything but the channels: the gradient of a bias."""
    viewed = x.reshape(spec.batch, spec.channels, spec.inner)
    return _deliver(viewed.sum(axis=(0, 2), dtype=np.float64), spec.dtype)


def statistics(spec: StatisticsSpec, x: Array) -> tuple[Array, Array, Array]:
    """Moments and extremes of the finite elements, numbers of rare ones, histogram."""
    flat = x.ravel()
    finite = flat[np.isfinite(flat)].astype(np.float64)
    moments = np.full(4, np.nan)
    if finite.size:
        with np.errstate(over="ignore"):
            moments[:] = finite.mean(), finite.var(), finite.min(), finite.max()
    tiny = np.abs(flat) < np.finfo(flat.dtype).smallest_normal
    zeros = flat == 0
    rare = [zeros.sum(), (tiny & ~zeros).sum(), flat.size - finite.size]
    edges = spec.edges()
    # lower edges belong to bins of positive numbers, upper edges to those of negative ones
    place = np.where(
        finite > 0, np.searchsorted(edges, finite, "right"), np.searchsorted(edges, finite, "left")
    )
    bins = np.clip(place - 1, 0, spec.BINS - 1)
    return moments, np.array(rare, np.int64), np.bincount(bins, minlength=spec.BINS).astype(np.int64)


def unfold(spec: ConvSpec, input: Array) -> Array:
    """im2col: column p holds the window of output position p, channel by channel."""
    padded = _pad_or_crop(spec, input)
    columns = np.empty((spec.batch, spec.in_channels, *spec.kernel, *spec.out_size))
    for tap, window in _taps(spec):
        columns[(slice(None), slice(None), *tap)] = padded[window]
    rows = spec.in_channels * int(np.prod(spec.kernel))
    return _deliver(columns.reshape(spec.batch, rows, int(np.prod(spec.out_size))), spec.dtype)


def fold(spec: ConvSpec, columns: Array) -> Array:
    """col2im: the transpose of `unfold`; overlapping windows add up."""
    viewed = columns.reshape(spec.batch, spec.in_channels, *spec.kernel, *spec.out_size)
    padded = np.zeros((spec.batch, spec.in_channels, *_placement(spec)[2]))
    for tap, window in _taps(spec):
        padded[window] += viewed[(slice(None), slice(None), *tap)]
    return _deliver(_undo_pad_or_crop(spec, padded), spec.dtype)


# ---------------------------------------------------------------------------------------------------------------
# Pooling
# ---------------------------------------------------------------------------------------------------------------


def _pool_taps(spec: PoolSpec) -> Iterator[tuple[int, Array, Array, Array]]:
    """Each window position as (number, rows, columns, inside): the input cell it reads for every output.

    Rows and columns are clipped into the input; `inside` (out_h, out_w) says where that changed nothing.
    """
    (kh, kw), (h, w), (oh, ow) = spec.kernel, spec.in_size, spec.out_size
    for i, j in np.ndindex(kh, kw):
        rows = np.arange(oh) * spec.stride[0] - spec.pad_lo[0] + i * spec.dilation[0]
        cols = np.arange(ow) * spec.stride[1] - spec.pad_lo[1] + j * spec.dilation[1]
        inside = ((rows >= 0) & (rows < h))[:, None] & ((cols >= 0) & (cols < w))[None, :]
        yield i * kw + j, np.clip(rows, 0, h - 1)[:, None], np.clip(cols, 0, w - 1)[None, :], inside


def max_pool_forward(spec: PoolSpec, input: Array, index_dtype: str | None) -> tuple[Array, Array | None]:
    """Scan the window in row-major order; a strictly larger value or any NaN takes over.

    So the first maximum wins and, among NaNs, the last one. Padding never competes: it is no candidate at all.
    """
    best = np.full(spec.output_shape, -np.inf, dtype=input.dtype)
    flat = np.zeros(spec.output_shape, dtype=np.int64)
    offset = np.zeros(spec.output_shape, dtype=np.uint8)
    unset = np.ones(spec.output_shape, dtype=bool)
    for number, rows, cols, inside in _pool_taps(spec):
        value = input[:, :, rows, cols]
        takes = inside & (unset | (value > best) | np.isnan(value))
        best = np.where(takes, value, best)
        flat = np.where(takes, rows * spec.in_size[1] + cols, flat)
        if index_dtype == "uint8":
            offset[takes] = number
        unset &= ~takes
    indices = {None: None, "int64": flat, "uint8": offset}[index_dtype]
    return best, indices


def max_pool_backward(spec: PoolSpec, grad_output: Array, indices: Array) -> Array:
    """Each output gradient goes to the input cell its index names; cells named twice add up."""
    if indices.dtype == np.uint8:
        flat = np.zeros(spec.output_shape, dtype=np.int64)
        for number, rows, cols, inside in _pool_taps(spec):
            flat = np.where(inside & (indices == number), rows * spec.in_size[1] + cols, flat)
    else:
        flat = indices
    plane = int(np.prod(spec.in_size))
    grad = _scatter_add(grad_output, flat, spec.batch * spec.channels, int(np.prod(spec.out_size)), plane)
    return _deliver(grad.reshape(spec.input_shape), spec.dtype)


def _scatter_add(values: Array, indices: Array, planes: int, in_plane: int, out_plane: int) -> Array:
    """Add `values` to zeroed planes at flat `indices` within each plane, in float64."""
    out = np.zeros((planes, out_plane))
    plane = np.arange(planes)[:, None]
    np.add.at(out, (plane, indices.reshape(planes, in_plane)), values.reshape(planes, in_plane))
    return out


def _avg_divisor(spec: PoolSpec) -> Array:
    """What each window's sum is divided by, (out_h, out_w)."""
    if spec.divisor_override is not None:
        return np.full(spec.out_size, float(spec.divisor_override))
    counts = []
    for axis in range(2):
        start = np.arange(spec.out_size[axis]) * spec.stride[axis] - spec.pad_lo[axis]
        # A window that ceil_mode lets hang over is cut at the padding, not beyond it.
        stop = np.minimum(start + spec.kernel[axis], spec.in_size[axis] + spec.pad_hi[axis])
        if not spec.count_include_pad:
            start, stop = np.maximum(start, 0), np.minimum(stop, spec.in_size[axis])
        counts.append(np.maximum(stop - start, 0))
    return np.maximum(counts[0][:, None] * counts[1][None, :], 1).astype(np.float64)


def avg_pool_forward(spec: PoolSpec, input: Array) -> Array:
    """Sum of each window over its divisor; see `_avg_divisor` for what counts."""
    total = np.zeros(spec.output_shape)
    for _, rows, cols, inside in _pool_taps(spec):
        total += np.where(inside, input[:, :, rows, cols], 0.0)
    return _deliver(total / _avg_divisor(spec), spec.dtype)


def avg_pool_backward(spec: PoolSpec, grad_output: Array) -> Array:
    """Each output gradient, divided as the forward pass was, spread evenly over its window."""
    share = grad_output / _avg_divisor(spec)
    grad = np.zeros(spec.input_shape)
    for _, rows, cols, inside in _pool_taps(spec):
        where: Index = (..., rows, cols)
        np.add.at(grad, where, np.where(inside, share, 0.0))
    return _deliver(grad, spec.dtype)


def _adaptive_cells(spec: AdaptivePoolSpec) -> Iterator[tuple[tuple[int, int], tuple[int, int, int, int]]]:
    """Each output cell with its window (top, bottom, left, right)."""
    (tops, bottoms), (lefts, rights) = spec.windows(0), spec.windows(1)
    for i, (top, bottom) in enumerate(zip(tops, bottoms, strict=True)):
        for j, (left, right) in enumerate(zip(lefts, rights, strict=True)):
            yield (i, j), (int(top), int(bottom), int(left), int(right))


def adaptive_avg_pool_forward(spec: AdaptivePoolSpec, input: Array) -> Array:
    """Mean of each adaptive window."""
    out = np.empty((spec.batch, spec.channels, *spec.out_size))
    for (i, j), (top, bottom, left, right) in _adaptive_cells(spec):
        out[:, :, i, j] = input[:, :, top:bottom, left:right].mean(axis=(2, 3), dtype=np.float64)
    return _deliver(out, spec.dtype)


def adaptive_avg_pool_backward(spec: AdaptivePoolSpec, grad_output: Array) -> Array:
    """Each output gradient spread evenly over its window."""
    grad = np.zeros((spec.batch, spec.channels, *spec.in_size))
    for (i, j), (top, bottom, left, right) in _adaptive_cells(spec):
        share = grad_output[:, :, i, j].astype(np.float64) / ((bottom - top) * (right - left))
        grad[:, :, top:bottom, left:right] += share[:, :, None, None]
    return _deliver(grad, spec.dtype)


def adaptive_max_pool_forward(spec: AdaptivePoolSpec, input: Array) -> tuple[Array, Array]:
    """Maximum of each adaptive window and its flat index, ties and NaN as in `max_pool_forward`."""
    out = np.empty((spec.batch, spec.channels, *spec.out_size), dtype=input.dtype)
    indices = np.empty(out.shape, dtype=np.int64)
    for (i, j), (top, bottom, left, right) in _adaptive_cells(spec):
        window = input[:, :, top:bottom, left:right].reshape(
            spec.batch, spec.channels, -1 if input.size else 1
        )
        nan = np.isnan(window)
        last_nan = window.shape[-1] - 1 - np.argmax(nan[..., ::-1], axis=-1)
        pick = np.where(nan.any(axis=-1), last_nan, np.argmax(window, axis=-1))
        out[:, :, i, j] = np.take_along_axis(window, pick[..., None], axis=-1)[..., 0]
        width = right - left
        indices[:, :, i, j] = (top + pick // width) * spec.in_size[1] + left + pick % width
    return out, indices


def scatter_planes(spec: PlaneSpec, values: Array, indices: Array) -> Array:
    """Write each plane's values at its flat indices; colliding values add up or, without accumulate, the last stays."""
    planes = spec.batch * spec.channels
    if spec.accumulate:
        out = _scatter_add(values, indices, planes, spec.in_plane, spec.out_plane)
    else:
        out = np.zeros((planes, spec.out_plane), dtype=values.dtype)
        rows = np.arange(planes)[:, None]
        out[rows, indices.reshape(planes, spec.in_plane)] = values.reshape(planes, spec.in_plane)
    return _deliver(out.reshape(spec.batch, spec.channels, spec.out_plane), spec.dtype)


def gather_planes(spec: PlaneSpec, x: Array, indices: Array) -> Array:
    """Read each plane at its flat indices: the transpose of `scatter_planes`."""
    shape = (spec.batch, spec.channels)
    return np.take_along_axis(
        x.reshape(*shape, spec.out_plane), indices.reshape(*shape, spec.in_plane), axis=-1
    )


# ---------------------------------------------------------------------------------------------------------------
# Random masks
# ---------------------------------------------------------------------------------------------------------------

_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)


def philox4x32_10(counter: Array, key: tuple[int, int]) -> Array:
    """Ten rounds of Philox 4x32, the counter-based generator behind every mask.

    Parameters
    ----------
    counter : ndarray of uint32, shape (..., 4)
    key : (int, int)
        The two key words.

    Returns
    -------
    ndarray of uint32, shape (..., 4)

    References
    ----------
    Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011.

    Examples
    --------
    >>> [hex(word) for word in philox4x32_10(np.zeros(4, np.uint32), (0, 0))]
    ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
    """
    # Words live in uint64 so that a 32x32-bit product is exact.
    c0, c1, c2, c3 = (np.asarray(counter)[..., i].astype(np.uint64) for i in range(4))
    k0, k1 = int(key[0]), int(key[1])
    for _ in range(10):
        product0, product1 = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c2 = (product1 >> _SHIFT) ^ c1 ^ np.uint64(k0), (product0 >> _SHIFT) ^ c3 ^ np.uint64(k1)
        c1, c3 = product1 & _LOW, product0 & _LOW
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


def _kept(seed: int, offset: int, size: int, threshold: int) -> NDArray[np.bool_]:
    """Keep-decision of elements offset .. offset + size - 1: a 16-bit number each, eight to a Philox block.

    Element numbers are 64-bit and wrap, so block numbers wrap at 2**61.
    """
    first, last = offset // 8, (offset + size + 7) // 8
    block = (np.arange(last - first, dtype=np.uint64) + np.uint64(first)) & np.uint64(2**61 - 1)
    counter = np.zeros((len(block), 4), dtype=np.uint32)
    counter[:, 0] = block & _LOW
    counter[:, 1] = block >> _SHIFT
    words = philox4x32_10(counter, (seed & 0xFFFFFFFF, seed >> 32))
    halfwords = np.stack([words & np.uint32(0xFFFF), words >> np.uint32(16)], axis=-1).reshape(-1)
    start = offset - 8 * first
    return halfwords[start : start + size] >= threshold


def dropout_mask(spec: DropoutSpec) -> Array:
    """Packed keep-bits, least significant bit first; a bit is a pure function of (seed, offset + its number)."""
    return np.packbits(_kept(spec.seed, spec.offset, spec.size, spec.threshold), bitorder="little")


def dropout_apply(spec: DropoutSpec, input: Array, mask: Array) -> Array:
    """Multiply every group of `inner` elements by its bit times the scale, so a dropped NaN stays NaN."""
    bits = np.unpackbits(mask, count=spec.size, bitorder="little")
    factor = bits.astype(input.dtype) * input.dtype.type(spec.scale)
    return (input.reshape(spec.size, spec.inner) * factor[:, None]).reshape(input.shape)


def dropout_forward(spec: DropoutSpec, input: Array) -> tuple[Array, Array]:
    """A mask and its application."""
    mask = dropout_mask(spec)
    return dropout_apply(spec, input, mask), mask


def drop_block_mask(spec: DropBlockSpec) -> Array:
    """Packed keep-bits of (N, C, H, W) with whole blocks dropped.

    A block of b rows around centre c covers rows c - b // 2 .. c + (b - 1) // 2; only centres whose block fits count.
    """
    (h, w), (bh, bw) = spec.size, spec.block
    shape = (spec.batch, spec.channels, h, w)
    centre = ~_kept(spec.seed, spec.offset, int(np.prod(shape)), spec.threshold).reshape(shape)
    dropped = np.zeros(shape, dtype=bool)
    fits = centre[:, :, bh // 2 : h - (bh - 1) // 2, bw // 2 : w - (bw - 1) // 2]
    for i, j in np.ndindex(bh, bw):
        dropped[:, :, i : i + h - bh + 1, j : j + w - bw + 1] |= fits
    return np.packbits(~dropped.reshape(-1), bitorder="little")


# ---------------------------------------------------------------------------------------------------------------
# Element-wise ops, softmax, matrix product
# ---------------------------------------------------------------------------------------------------------------


def _activate(kind: str, z: Array, slope: float) -> Array:
    """The activation of every float64 element; NaN stays NaN."""
    match kind:
        case "linear":
            return z
        case "relu":
            return np.where(z < 0, 0.0, z)
        case "leaky_relu":
            return np.where(z > 0, z, z * slope)
        case "relu6":
            return np.clip(z, 0.0, 6.0)
        case "tanh":
            return np.tanh(z)
        case "erf":
            return _erf(z)
        case "gelu":
            return z / 2 * (1 + _erf(z / math.sqrt(2)))
    # exp of a negative number only, so that nothing overflows.
    e = np.exp(-np.abs(z))
    return np.where(z < 0, e, 1.0) / (1.0 + e)


_erf = np.vectorize(math.erf, otypes=[np.float64])


def activation_forward(spec: ActivationSpec, x: Array) -> Array:
    """The activation of every element; NaN stays NaN."""
    return _deliver(_activate(spec.kind, x.astype(np.float64), spec.slope), spec.dtype)


def activation_backward(spec: ActivationSpec, grad_output: Array, output: Array) -> Array:
    """Gradient through the activation, told from its output alone; zero at the kinks of relu and relu6."""
    spec.check_derivative()
    g, y = grad_output.astype(np.float64), output.astype(np.float64)
    if spec.kind == "relu":
        dx = np.where(y <= 0, 0.0, g)
    elif spec.kind == "leaky_relu":
        dx = np.where(y > 0, g, g * spec.slope)
    elif spec.kind == "relu6":
        dx = np.where((y <= 0) | (y >= 6), 0.0, g)
    elif spec.kind == "tanh":
        dx = g * (1.0 - y * y)
    else:
        dx = g * y * (1.0 - y)
    return _deliver(dx, spec.dtype)


def add(spec: AddSpec, a: Array, b: Array, out: Array | None) -> Array:
    """``a + b``, after a ReLU if the spec says so."""
    total = a + b
    return _deliver(np.where(total < 0, 0.0, total) if spec.relu else total, spec.dtype, out)


def softmax_forward(spec: SoftmaxSpec, x: Array) -> Array:
    """Softmax or its logarithm along the middle axis of (outer, length, inner)."""
    z = x.astype(np.float64).reshape(spec.outer, spec.length, spec.inner)
    with np.errstate(
        invalid="ignore", divide="ignore"
    ):  # inf - inf: NaN, as it should be; an axis of length 0
        z = z - z.max(axis=1, keepdims=True, initial=-np.inf)
        e = np.exp(z)
        total = e.sum(axis=1, keepdims=True)
        y = z - np.log(total) if spec.log else e / total
    return _deliver(y.reshape(x.shape), spec.dtype)


def softmax_backward(spec: SoftmaxSpec, grad_output: Array, output: Array) -> Array:
    """Gradient through softmax or log-softmax, from its output."""
    view = (spec.outer, spec.length, spec.inner)
    g, y = grad_output.astype(np.float64).reshape(view), output.astype(np.float64).reshape(view)
    dx = (
        g - np.exp(y) * g.sum(axis=1, keepdims=True)
        if spec.log
        else y * (g - (g * y).sum(axis=1, keepdims=True))
    )
    return _deliver(dx.reshape(output.shape), spec.dtype)


def matmul(spec: MatmulSpec, a: Array, b: Array, bias: Array | None, residual: Array | None = None) -> Array:
    """op(A) @ op(B), plus a bias per column."""
    left, right = a.astype(np.float64), b.astype(np.float64)
    result = (left.T if spec.trans_a else left) @ (right.T if spec.trans_b else right)
    return _deliver(_epilogue(spec, result if bias is None else result + bias, residual), spec.dtype)


# ---------------------------------------------------------------------------------------------------------------
# Normalisation and loss
# ---------------------------------------------------------------------------------------------------------------


def batch_norm_forward(
    spec: BatchNormSpec,
    x: Array,
    mean: Array | None,
    var: Array | None,
    weight: Array | None,
    bias: Array | None,
) -> tuple[Array, Array, Array]:
    """(y, mean, 1 / sqrt(var + eps)); in training mean and biased variance are the batch's own."""
    z = x.astype(np.float64).reshape(spec.batch, spec.channels, spec.inner)
    if spec.training and not z.size:
        m = v = np.full(spec.channels, np.nan)
    elif spec.training:
        m, v = z.mean(axis=(0, 2)), z.var(axis=(0, 2))
    else:
        m, v = np.asarray(mean, np.float64), np.asarray(var, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        inv_std = 1.0 / np.sqrt(v + spec.eps)
        y = (z - m[:, None]) * inv_std[:, None]
    if weight is not None:
        y = y * weight[:, None]
    if bias is not None:
        y = y + bias[:, None]
    if spec.relu:
        y = np.where(y < 0, 0.0, y)
    return _deliver(y.reshape(x.shape), spec.dtype), _deliver(m, spec.dtype), _deliver(inv_std, spec.dtype)


def batch_norm_backward(
    spec: BatchNormSpec,
    grad_output: Array,
    x: Array,
    mean: Array,
    inv_std: Array,
    weight: Array | None,
    bias: Array | None,
) -> tuple[Array, Array, Array]:
    """(dx, dweight, dbias); in training dx also flows through the batch statistics."""
    view = (spec.batch, spec.channels, spec.inner)
    g = grad_output.astype(np.float64).reshape(view)
    inv = inv_std.astype(np.float64)[:, None]
    normal = (x.astype(np.float64).reshape(view) - mean.astype(np.float64)[:, None]) * inv
    if spec.relu:
        y = normal if weight is None else normal * weight[:, None]
        g = np.where((y if bias is None else y + bias[:, None]) <= 0, 0.0, g)
    dweight, dbias = (g * normal).sum(axis=(0, 2)), g.sum(axis=(0, 2))
    if spec.training:
        count = spec.batch * spec.inner
        g = g - (dbias[:, None] + normal * dweight[:, None]) / count
    dx = g * inv if weight is None else g * inv * weight[:, None]
    return (
        _deliver(dx.reshape(x.shape), spec.dtype),
        _deliver(dweight, spec.dtype),
        _deliver(dbias, spec.dtype),
    )


def _cross_entropy_parts(
    spec: CrossEntropySpec, target: Array, weight: Array | None
) -> tuple[Array, Array, float]:
    """(coefficients, kept, divisor): the loss of an element is -sum over classes of coefficient * log-probability.

    `kept` (batch, inner) is False for ignored elements; the divisor is that of the mean reduction.
    """
    w = np.ones(spec.classes) if weight is None else weight.astype(np.float64)
    smooth = spec.label_smoothing
    if spec.soft:
        coefficient = (target * (1.0 - smooth) + smooth / spec.classes) * w[:, None]
        kept = np.ones((spec.batch, spec.inner), dtype=bool)
        return coefficient, kept, float(spec.batch * spec.inner)
    kept = target != spec.ignore_index
    label = np.where(kept, target, 0)
    coefficient = np.broadcast_to(
        (smooth / spec.classes) * w[:, None], (spec.batch, spec.classes, spec.inner)
    ).copy()
    one_hot = np.arange(spec.classes)[:, None] == label[:, None, :]
    coefficient += one_hot * ((1.0 - smooth) * w[:, None])
    coefficient *= kept[:, None, :]
    return coefficient, kept, float((w[label] * kept).sum())


def cross_entropy_forward(
    spec: CrossEntropySpec, logits: Array, target: Array, weight: Array | None
) -> tuple[Array, Array]:
    """(loss, log-probabilities) of logits viewed as (batch, classes, inner)."""
    z = logits.astype(np.float64).reshape(spec.batch, spec.classes, spec.inner)
    coefficient, _, divisor = _cross_entropy_parts(spec, target, weight)
    with np.errstate(invalid="ignore", divide="ignore"):
        z = z - z.max(axis=1, keepdims=True, initial=-np.inf)
        log_probs = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
        # A hard label never looks at the other classes, so their -inf must not turn into NaN through 0 * inf.
        terms = (
            coefficient * log_probs if spec.soft else np.where(coefficient == 0, 0.0, coefficient * log_probs)
        )
        loss = -terms.sum(axis=1)
        if spec.reduction != "none":
            loss = loss.sum()
        if spec.reduction == "mean":
            loss = np.float64(loss) / divisor
    return np.asarray(loss, dtype=spec.dtype), _deliver(log_probs, spec.dtype)


def cross_entropy_backward(
    spec: CrossEntropySpec, grad_loss: Array, log_probs: Array, target: Array, weight: Array | None
) -> Array:
    """Gradient with respect to the logits, (batch, classes, inner)."""
    coefficient, kept, divisor = _cross_entropy_parts(spec, target, weight)
    grad = np.asarray(grad_loss, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = grad.reshape(spec.batch, 1, spec.inner) if spec.reduction == "none" else grad
        if spec.reduction == "mean":
            scale = scale / divisor
        probs = np.exp(log_probs.astype(np.float64).reshape(coefficient.shape))
        dlogits = (probs * coefficient.sum(axis=1, keepdims=True) - coefficient) * scale
    # Ignored elements get zero even where the mean is over nothing, which makes the scale infinite.
    return _deliver(np.where(kept[:, None, :], dlogits, 0.0), spec.dtype)


# ---------------------------------------------------------------------------------------------------------------
# Padding
# ---------------------------------------------------------------------------------------------------------------

_NUMPY_MODE = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def pad_sources(spec: PadSpec, axis: int) -> Array:
    """For every position of a padded axis the input position it copies, -1 for the constant."""
    size, lo, hi = spec.in_shape[axis], spec.lo[axis], spec.hi[axis]
    if spec.mode == "constant":
        position = np.arange(size + lo + hi) - lo
        return np.where((position >= 0) & (position < size), position, -1)
    grown = np.pad(np.arange(size), (max(lo, 0), max(hi, 0)), mode=_NUMPY_MODE[spec.mode])  # type: ignore[call-overload]
    return grown[max(-lo, 0) : len(grown) - max(-hi, 0)]


def pad(spec: PadSpec, x: Array) -> Array:
    """Grow (or, in constant mode, crop) the trailing axes."""
    out = x.reshape(spec.outer, *spec.in_shape)
    for axis in range(len(spec.in_shape)):
        source = pad_sources(spec, axis)
        if spec.in_shape[axis]:
            grown = np.take(out, np.maximum(source, 0), axis=axis + 1)
        else:
            grown = np.empty((*out.shape[: axis + 1], len(source), *out.shape[axis + 2 :]), dtype=out.dtype)
        np.moveaxis(grown, axis + 1, -1)[..., source < 0] = spec.value
        out = grown
    return _deliver(out, spec.dtype)


def pad_backward(spec: PadSpec, grad_output: Array) -> Array:
    """Each padded position's gradient returns to the input position it copied."""
    grad = grad_output.astype(np.float64).reshape(spec.outer, *spec.out_shape)
    for axis in range(len(spec.in_shape)):
        source = pad_sources(spec, axis)
        moved = np.moveaxis(grad, axis + 1, -1)[..., source >= 0]
        back = np.zeros((*moved.shape[:-1], spec.in_shape[axis]))
        where: Index = (..., source[source >= 0])
        np.add.at(back, where, moved)
        grad = np.moveaxis(back, -1, axis + 1)
    return _deliver(grad, spec.dtype)


# ---------------------------------------------------------------------------------------------------------------
# Optimizers
# ---------------------------------------------------------------------------------------------------------------


def overlay(spec: OverlaySpec, base: Array, patches: Array, places: Array) -> Array:
    """Each box by way of the whole image with its patch."""
    base = base.reshape(spec.base_shape)
    out = np.full(spec.output_shape, spec.fill, spec.dtype)
    for box, (start, *corner, height, width, box_top, box_left) in zip(out, places.tolist(), strict=True):
        image = base.copy()
        shape = (spec.planes, height, width, spec.lanes)
        rows, columns = (slice(first, first + n) for first, n in zip(corner, shape[1:3], strict=True))
        image[:, rows, columns] = patches[start : start + math.prod(shape)].reshape(shape)
        inside, seen = zip(
            *(
                (slice(max(-first, 0), max(n - first, 0)), slice(max(first, 0), max(first + m, 0)))
                for first, n, m in zip((box_top, box_left), spec.base_size, spec.size, strict=True)
            ),
            strict=True,
        )
        box[(slice(None), *inside)] = image[(slice(None), *seen)]
    return out


def optimizer_update(
    spec: UpdateSpec,
    rates: UpdateRates,
    factors: Array,
    weights: list[Array],
    grads: list[Array],
    velocity: list[Array] | None,
    mean: list[Array] | None,
    square: list[Array] | None,
) -> None:
    """One step, in place; each array takes part in it by itself."""
    for k, (weight, grad) in enumerate(zip(weights, grads, strict=True)):
        shrink, decay, scale = factors[k]
        w = weight.astype(np.float64)
        g = np.clip(grad.astype(np.float64) * scale, -rates.bound, rates.bound) + decay * w
        move = g
        average = None
        if mean is not None:
            mean[k][...] = rates.mean_decay * mean[k].astype(np.float64) + (1.0 - rates.mean_decay) * g
            average = mean[k].astype(np.float64)
        if square is not None:
            square[k][...] = (
                rates.square_decay * square[k].astype(np.float64) + (1.0 - rates.square_decay) * g * g
            )
            variance = square[k].astype(np.float64)
            if average is not None and spec.rule == "adam":
                move = average
            elif average is not None:
                variance = np.maximum(variance - average**2, 0.0)
            move = move / (np.sqrt(variance) * rates.root_scale + rates.eps)
        if velocity is not None:
            velocity[k][...] = rates.momentum * velocity[k].astype(np.float64) + move
            move = velocity[k].astype(np.float64)
            if spec.nesterov:
                move = g + rates.momentum * move
        weight[...] = shrink * w - rates.rate * move


def square_sums(spec: ArraysSpec, arrays: list[Array]) -> Array:
    """Sum of the squares of each array."""
    return np.array([np.square(array.astype(np.float64)).sum() for array in arrays])


IMPLEMENTATIONS: dict[str, tuple[Implementation, ...]] = {
    op.__name__: (Implementation("reference", op),)
    for op in (
        conv_forward,
        conv_input_grad,
        conv_weight_grad,
        block,
        unblock,
        blocked_conv_forward,
        blocked_stem_forward,
        blocked_max_pool_forward,
        blocked_avg_pool_forward,
        channel_sum,
        statistics,
        max_pool_forward,
        max_pool_backward,
        avg_pool_forward,
        avg_pool_backward,
        adaptive_avg_pool_forward,
        adaptive_avg_pool_backward,
        adaptive_max_pool_forward,
        scatter_planes,
        gather_planes,
        dropout_mask,
        dropout_apply,
        dropout_forward,
        drop_block_mask,
        activation_forward,
        activation_backward,
        softmax_forward,
        softmax_backward,
        matmul,
        add,
        batch_norm_forward,
        batch_norm_backward,
        cross_entropy_forward,
        cross_entropy_backward,
        unfold,
        fold,
        pad,
        pad_backward,
        overlay,
        optimizer_update,
        square_sums,
    )
}
