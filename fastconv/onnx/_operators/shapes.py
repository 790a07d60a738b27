"""Shapes and what depends on them: reshaping, slicing, joining, repeating, resizing."""

from __future__ import annotations

import math
from itertools import accumulate
from typing import Any

import numpy as np

from fastconv import ops
from fastconv._spec import Shape
from fastconv.onnx._builder import Builder
from fastconv.onnx._file import Call
from fastconv.onnx._operators._table import Result, integers, known, numbers, operator, scalar
from fastconv.onnx._values import Batch, Known, Open, UnsupportedModelError, Value

# ---------------------------------------------------------------------------------------- values of the file


@operator("Constant")
def constant(b: Builder, call: Call) -> Result:
    given = [name for name in call.attributes if name.startswith("value")]
    if len(given) != 1:
        raise ValueError(f"it must have one value, got {sorted(call.attributes)}")
    value = call.attribute(given[0])
    dtypes: dict[str, Any] = {"value_int": np.int64, "value_ints": np.int64, "value_float": np.float32}
    array = np.asarray(value, dtypes.get(given[0], np.float32 if given[0] == "value_floats" else None))
    if array.dtype.kind not in "biuf":
        raise UnsupportedModelError(f"its value is {array.dtype.name}, which is not supported")
    return Known(array, call.outputs[0])


@operator("ConstantOfShape")
def constant_of_shape(b: Builder, call: Call, shape: Value) -> Result:
    sizes = numbers(shape, "sizes") or []
    value = call.attribute("value")
    value = np.zeros(1, np.float32) if value is None else value
    per_sample = sizes[:1] == [Batch()]
    whole = sizes[1:] if per_sample else sizes
    if value.size != 1 or any(isinstance(n, Batch) or n < 0 for n in whole):
        raise ValueError(f"it takes sizes >= 0 and one number, got {sizes} and {value}")
    b.reserve(math.prod(whole) * value.dtype.itemsize)
    array = Known(np.full(whole, value.reshape(())))
    return b.opened(array) if per_sample else array


@operator("Range")
def numbers_between(b: Builder, call: Call, start: Value, limit: Value, delta: Value) -> Result:
    first, end, step = (
        scalar(value, what) for value, what in ((start, "start"), (limit, "limit"), (delta, "delta"))
    )
    dtype = known(start, "start").dtype
    count = max(math.ceil((end - first) / step), 0)
    b.reserve(count * dtype.itemsize)
    return Known((first + np.arange(count) * step).astype(dtype))


@operator("Shape")
def shape_of(b: Builder, call: Call, x: Value) -> Result:
    whole: list[Any] = list(x.array.shape) if isinstance(x, Known) else [Batch(), *x.shape]
    part = whole[call.attribute("start", 0) : call.attribute("end", len(whole))]
    return Known(_numbers_of_shape(part))


@operator("Size")
def size_of(b: Builder, call: Call, x: Value) -> Result:
    count = x.array.size if isinstance(x, Known) else Batch() * math.prod(x.shape)
    return Known(_numbers_of_shape([count]).reshape(()))


def _numbers_of_shape(items: list[Any]) -> Any:
    if not any(isinstance(item, Batch) for item in items):
        return np.array(items, np.int64)
    array = np.empty(len(items), object)
    array[:] = items
    return array


# -------------------------------------------------------------------------------------------------- reshaping


def _reshaped(b: Builder, x: Value, shape: Shape) -> Value:
    """The elements in another shape, of a sample or of an array."""
    if isinstance(x, Known):
        return Known(x.array.reshape(shape), x.name)
    if shape == x.shape:
        return x
    flat = len(shape) == 1
    joined = b.join_flat(x, b.call.inputs[0] if b.call else "", shape)
    return joined or b.layer(ops.Reshape(shape=None if flat else shape), x)


@operator("Reshape")
def reshape(b: Builder, call: Call, x: Value, shape: Value) -> Result:
    target = numbers(shape, "shape") or []
    own: list[Any] = list(x.array.shape) if isinstance(x, Known) else [Batch(), *x.shape]
    if not call.attribute("allowzero", 0):
        if any(size == 0 and index >= len(own) for index, size in enumerate(target)):
            raise ValueError(
                f"a 0 in its shape {target} stands for a size of the input, which has {len(own)} axes"
            )
        target = [own[index] if size == 0 else size for index, size in enumerate(target)]
    if target.count(-1) > 1 or any(isinstance(size, int) and size < -1 for size in target):
        raise ValueError(f"its shape must hold sizes and at most one -1, got {target}")
    if isinstance(x, Known):
        return _reshaped(b, x, tuple(integers(Known(_numbers_of_shape(target)), "shape") or ()))
    count = math.prod(x.shape)
    if target and target[0] in (-1, Batch(), b.batch) and not any(isinstance(n, Batch) for n in target[1:]):
        sample = _without_minus_one(target[1:], count)
        if math.prod(sample) == count:
            return _reshaped(b, x, sample)
    raise UnsupportedModelError(
        f"it reshapes (N, {', '.join(map(str, x.shape))}) to {target}: the batch axis is mixed up"
    )


def _without_minus_one(sizes: list[int], count: int) -> Shape:
    if -1 not in sizes:
        return tuple(sizes)
    rest = -math.prod(sizes)
    return tuple(count // rest if size == -1 and rest else size for size in sizes)


@operator("Flatten")
def flatten(b: Builder, call: Call, x: Value) -> Result:
    axis = call.attribute("axis", 1)
    if not -x.ndim <= axis <= x.ndim:
        raise ValueError(f"its axis must be between {-x.ndim} and {x.ndim}, got {axis}")
    axis += x.ndim if axis < 0 else 0
    if isinstance(x, Known):
        return _reshaped(b, x, (math.prod(x.array.shape[:axis]), math.prod(x.array.shape[axis:])))
    if axis == 0 or math.prod(x.shape[: axis - 1]) != 1:
        raise UnsupportedModelError(f"it flattens the batch axis (axis={axis})")
    return _reshaped(b, x, (math.prod(x.shape),))


def _axes(call: Call, value: Value | None) -> list[int] | None:
    """Axes, which are an attribute up to opset 12 (of reductions: 17) and an input from then on."""
    attribute = call.integers("axes")
    return integers(value, "axes") if value is not None else None if attribute is None else list(attribute)


@operator("Squeeze")
def squeeze(b: Builder, call: Call, x: Value, axes: Value | None = None) -> Result:
    shape, given = b.shape(x), _axes(call, axes)
    chosen = (
        [i for i, n in enumerate(shape) if n == 1] if given is None else [b.axis(x, axis) for axis in given]
    )
    if any(shape[axis] != 1 for axis in chosen):
        raise ValueError(f"it leaves out axes of size 1, got {given} of {shape}")
    return _reshaped(b, x, tuple(n for axis, n in enumerate(shape) if axis not in chosen))


@operator("Unsqueeze")
def unsqueeze(b: Builder, call: Call, x: Value, axes: Value | None = None) -> Result:
    given = _axes(call, axes)
    if given is None:
        raise ValueError("it needs axes")
    chosen = sorted(b.axis(x, axis, new=len(given)) for axis in given)
    if len(set(chosen)) != len(chosen):
        raise ValueError(f"its axes must differ, got {given}")
    shape = list(b.shape(x))
    for axis in chosen:
        shape.insert(axis, 1)
    return _reshaped(b, x, tuple(shape))


@operator("Transpose")
def transpose(b: Builder, call: Call, x: Value) -> Result:
    perm = call.integers("perm", tuple(reversed(range(x.ndim)))) or ()
    if isinstance(x, Open):
        if perm[:1] != (0,):
            raise UnsupportedModelError(f"it moves the batch axis (perm={perm})")
        perm = tuple(axis - 1 for axis in perm[1:])
    result = b.apply(ops.Transpose(perm=perm), x)
    return Known(result.array, x.name) if isinstance(result, Known) and isinstance(x, Known) else result


@operator("DepthToSpace", "SpaceToDepth")
def blocks(b: Builder, call: Call, x: Value) -> Result:
    block = call.attribute("blocksize", 0)
    op = ops.DepthToSpace if call.op_type == "DepthToSpace" else ops.SpaceToDepth
    return b.layer(op(block=block, mode=call.attribute("mode", "DCR")), x)


# ------------------------------------------------------------------------------------------ parts and wholes


@operator("Slice")
def cut(
    b: Builder,
    call: Call,
    x: Value,
    starts: Value | None = None,
    ends: Value | None = None,
    axes: Value | None = None,
    steps: Value | None = None,
) -> Result:
    if call.opset < 10:
        starts, ends = (Known(np.array(call.integers(name), np.int64)) for name in ("starts", "ends"))
    first, last = integers(starts, "starts"), integers(ends, "ends")
    if first is None or last is None:
        raise ValueError("it needs starts and ends")
    chosen = _axes(call, axes)
    chosen = list(range(len(first))) if chosen is None else chosen
    step = integers(steps, "steps") or [1] * len(first)
    if not len(first) == len(last) == len(chosen) == len(step):
        raise ValueError(
            f"its starts, ends, axes and steps must be of one length, got {first}, {last}, {chosen}, {step}"
        )
    shape = b.shape(x)
    parts: list[tuple[int, int, int]] = [(0, n, 1) for n in shape]
    for axis, start, stop, by in zip(chosen, first, last, step, strict=True):
        everything = start == 0 and by == 1 and stop >= 2**31 - 1
        if isinstance(x, Open) and axis in (0, -x.ndim) and everything:
            continue
        parts[b.axis(x, axis)] = (start, stop, by)
    if all(slice(*part).indices(n) == (0, n, 1) for part, n in zip(parts, shape, strict=True)):
        return x
    begins, stops, bys = zip(*parts, strict=True)
    return b.apply(ops.Slice(starts=begins, stops=stops, steps=bys), x)


@operator("Split")
def split(b: Builder, call: Call, x: Value, sizes: Value | None = None) -> Result:
    axis = b.axis(x, call.attribute("axis", 0))
    shape = b.shape(x)
    count = len(call.outputs)
    attribute = call.integers("split")
    parts = integers(sizes, "split") or (None if attribute is None else list(attribute))
    if call.attribute("num_outputs", count) != count:
        raise ValueError(f"it has {count} outputs, but num_outputs={call.attribute('num_outputs')}")
    if parts is None:
        even = -(-shape[axis] // count)
        parts = [max(min(even, shape[axis] - even * i), 0) for i in range(count)]
    if len(parts) != count or sum(parts) != shape[axis] or min(parts) < 0:
        raise ValueError(
            f"its parts must add up to {shape[axis]}, one for each of {count} outputs, got {parts}"
        )
    results = []
    for end, part in zip(accumulate(parts), parts, strict=True):
        starts, stops = [0] * len(shape), list(shape)
        starts[axis], stops[axis] = end - part, end
        results.append(
            b.apply(ops.Slice(starts=tuple(starts), stops=tuple(stops), steps=(1,) * len(shape)), x)
        )
    return tuple(results)


@operator("Gather")
def gather(b: Builder, call: Call, x: Value, indices: Value) -> Result:
    axis = b.axis(x, call.attribute("axis", 0))
    where = known(indices, "indices").array
    if where.dtype.kind not in "iu":
        raise ValueError(f"its indices must be integers, got {where.dtype}")
    if isinstance(x, Known):
        b.reserve(x.array.size // max(x.array.shape[axis], 1) * where.size * x.dtype.itemsize)
        return Known(np.asarray(np.take(x.array, where, axis)))
    return b.apply(
        ops.Gather(axis=axis, indices=tuple(where.reshape(-1).tolist()), indices_shape=where.shape), x
    )


@operator("Concat")
def concat(b: Builder, call: Call, *values: Value) -> Result:
    if "axis" not in call.attributes or not values or None in values:
        raise ValueError("it needs an axis and one or more inputs")
    if len(values) == 1:
        return values[0]
    ndim = values[0].ndim
    if any(value.ndim != ndim for value in values):
        raise ValueError(f"its inputs must have the same axes, got {[value.ndim for value in values]}")
    first = next((value for value in values if isinstance(value, Open)), values[0])
    axis = b.axis(first, call.attribute("axis", 1))
    if isinstance(first, Known):
        arrays = [known(value, "inputs").array for value in values]
        b.reserve(sum(array.nbytes for array in arrays))
        return Known(np.concatenate(arrays, axis))
    return b.apply(ops.Concat(axis=axis), *(b.sample(value, ndim) for value in values))


# -------------------------------------------------------------------------------------------------- repeating


@operator("Expand")
def expand(b: Builder, call: Call, x: Value, shape: Value) -> Result:
    target = numbers(shape, "shape") or []
    if isinstance(x, Known):
        per_sample = target[:1] == [Batch()] and x.ndim <= len(target)
        if per_sample:
            x, target = b.sample(x, len(target)), target[1:]
        value = b.apply(ops.Expand(shape=tuple(integers(Known(_numbers_of_shape(target)), "shape") or ())), x)
        return b.opened(value) if per_sample else value
    target = [1] * (x.ndim - len(target)) + target
    if len(target) > x.ndim or target[0] not in (1, Batch(), b.batch):
        raise UnsupportedModelError(f"it repeats along the batch axis, to {target}")
    sizes = tuple(integers(Known(_numbers_of_shape(target[1:])), "shape") or ())
    return (
        x
        if all(n in (1, m) for n, m in zip(sizes, x.shape, strict=True))
        else b.apply(ops.Expand(shape=sizes), x)
    )


@operator("Tile")
def tile(b: Builder, call: Call, x: Value, repeats: Value) -> Result:
    times = integers(repeats, "repeats") or []
    if len(times) != x.ndim:
        raise ValueError(f"its repeats must be one number for each of {x.ndim} axes, got {times}")
    if isinstance(x, Open):
        if times.pop(0) != 1:
            raise UnsupportedModelError("it repeats along the batch axis")
        if set(times) == {1}:
            return x
    return b.apply(ops.Tile(repeats=tuple(times)), x)


# --------------------------------------------------------------------------------------- padding and resizing

PAD_MODES = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}


@operator("Pad")
def pad(
    b: Builder,
    call: Call,
    x: Value,
    pads: Value | None = None,
    value: Value | None = None,
    axes: Value | None = None,
) -> Result:
    attribute = call.integers("pads")
    sides = integers(pads, "pads") or list(attribute or ())
    fill = scalar(value, "value", call.attribute("value", 0.0))
    chosen = integers(axes, "axes")
    chosen = list(range(x.ndim)) if chosen is None else chosen
    if len(sides) != 2 * len(chosen):
        raise ValueError(f"its pads must be two numbers for each of {len(chosen)} axes, got {sides}")
    shape = b.shape(x)
    padding = [(0, 0)] * len(shape)
    for axis, low, high in zip(chosen, sides[: len(chosen)], sides[len(chosen) :], strict=True):
        if (low, high) != (0, 0):
            padding[b.axis(x, axis)] = (low, high)
    while padding and padding[0] == (0, 0):
        padding.pop(0)
    if not padding:
        return x
    mode = PAD_MODES[call.attribute("mode", "constant")]
    fill = float(fill) if mode == "constant" else 0.0
    return b.apply(
        ops.Pad(padding=tuple(side for pair in reversed(padding) for side in pair), mode=mode, value=fill), x
    )


@operator("Upsample", "Resize")
def resize(
    b: Builder,
    call: Call,
    x: Value,
    roi: Value | None = None,
    scales: Value | None = None,
    sizes: Value | None = None,
) -> Result:
    mode = call.attribute("mode", "nearest")
    transform, nearest = "asymmetric", "floor"  # what it was before these attributes
    if call.op_type == "Upsample" or call.opset < 11:
        roi, scales = None, roi
    else:
        transform = call.attribute("coordinate_transformation_mode", "half_pixel")
        nearest = call.attribute("nearest_mode", "round_prefer_floor")
    if call.op_type == "Upsample" and call.opset < 9:
        scales = Known(np.array(call.attribute("scales", ()), np.float32))
    if isinstance(sizes, Known) and sizes.array.size == 0:  # another way of leaving them out
        sizes = None
    if transform == "tf_crop_and_resize":
        raise UnsupportedModelError("coordinate_transformation_mode 'tf_crop_and_resize' is not supported")
    call.attribute("extrapolation_value", 0.0)  # of tf_crop_and_resize alone
    given = call.integers("axes")
    axes = list(range(x.ndim)) if given is None else [axis + x.ndim if axis < 0 else axis for axis in given]
    shape: list[Any] = list(x.array.shape) if isinstance(x, Known) else [b.batch or Batch(), *x.shape]
    stretched = sizes is not None and call.attribute("keep_aspect_ratio_policy", "stretch") == "stretch"
    factors, targets = _resize_targets(call, scales, sizes, [shape[axis] for axis in axes])
    out: list[Any] = list(shape)
    scale = [1.0] * x.ndim
    for axis, factor, target in zip(axes, factors, targets, strict=True):
        out[axis], scale[axis] = target, factor
    if isinstance(x, Open):
        if out[0] not in (shape[0], Batch()) or scale[0] != 1.0:
            raise UnsupportedModelError("it resizes the batch axis")
        out, scale, shape = out[1:], scale[1:], shape[1:]
    unchanged = 0
    while unchanged < len(out) and out[unchanged] == shape[unchanged] and scale[unchanged] == 1.0:
        unchanged += 1
    if unchanged == len(out):
        return x
    op = ops.Resize(
        out_size=None if sizes is None else tuple(out[unchanged:]),
        mode=mode,
        coordinate_transform=transform,
        nearest_mode=nearest,
        scales=None if stretched else tuple(scale[unchanged:]),
        antialias=bool(call.attribute("antialias", 0)),
        cubic_coeff=call.attribute("cubic_coeff_a", -0.75),
        exclude_outside=bool(call.attribute("exclude_outside", 0)),
    )
    return b.apply(op, x)


def _resize_targets(
    call: Call, scales: Value | None, sizes: Value | None, shape: list[Any]
) -> tuple[list[float], list[Any]]:
    """Factor and new size of each axis; either may be what the file gives."""
    policy = call.attribute("keep_aspect_ratio_policy", "stretch")
    if sizes is None:
        array = known(scales, "scales").array.astype(np.float64)
        factors: list[float] = array.reshape(-1).tolist()
        if len(factors) != len(shape) or not all(0.0 < factor < math.inf for factor in factors):
            raise ValueError(f"its scales must be {len(shape)} positive numbers, got {factors}")
        return factors, [n if f == 1.0 else math.floor(n * f) for n, f in zip(shape, factors, strict=True)]
    targets = numbers(sizes, "sizes") or []
    if len(targets) != len(shape) or any(isinstance(size, int) and size < 1 for size in targets):
        raise ValueError(f"its sizes must be {len(shape)} numbers >= 1, got {targets}")
    ratios = [1.0 if Batch in (type(n), type(m)) else m / n for n, m in zip(shape, targets, strict=True)]
    if policy == "stretch":
        return ratios, targets
    ratio = {"not_larger": min, "not_smaller": max}[policy](ratios)
    return [ratio] * len(ratios), [math.floor(ratio * n + 0.5) for n in shape]
