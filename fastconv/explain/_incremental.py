"""Exact incremental inference: what a change of a part of the image changes, and nothing else, is computed again.

The values of the unchanged image are kept.  A window that changes some pixels is carried through the net as a *patch*
of every value: a box and what it holds.  From value to value the box that the change can have reached follows from the
geometry of the layer between them.  The part of the layer's input that the box needs is the patch laid over the value
of the unchanged image, zeros (or what else the layer pads with) beyond the edges; patches of one size make one call of
the layer's kernel.  What lies outside the boxes is as it was, so the outputs are those of the whole net on the whole
changed image, to rounding.

A layer that sees all positions is computed whole, a global mean by the difference.  Where a patch turns out to hold
what the unchanged image held, bit for bit, its window is followed no further.

Images travel in the blocked layout, lifted to (planes, height, width, lanes); a value that is no image is one of plain
layout whose box is all of it or nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv import _dispatch
from fastconv._memory import empty
from fastconv._spec import LayoutSpec, OverlaySpec, PoolSpec, Shape, block_lanes, blocked_shape
from fastconv.explain import _regions
from fastconv.explain._regions import Boxes
from fastconv.graph import Graph
from fastconv.ops import (
    GLOBAL,
    Activation,
    AdaptiveAvgPool,
    Add,
    AvgPool,
    Concat,
    Context,
    Conv,
    ConvTranspose,
    GlobalAvgPool,
    Linear,
    MaxPool,
    Multiply,
    Op,
    Pad,
    Window,
)
from fastconv.plan import Unit, concatenated, fuse, joined, of_other_dtypes
from fastconv.prepared import prepare

Array = NDArray[Any]
Parts = Sequence[Array]
Run = Callable[[Parts, Boxes, Array | None], Array]
Update = Callable[[Array, Array, Array, Array], None]

POINT_WISE = None


@dataclass(frozen=True)
class Form:
    """How a value is kept: its shape for one sample, and whether in the blocked layout."""

    shape: Shape
    blocked: bool
    dtype: str

    @cached_property
    def size(self) -> Shape:
        """Height and width of an image; 1 and 1 of what is none."""
        return self.shape[1:] if len(self.shape) == 3 else (1, 1)

    @cached_property
    def kept(self) -> Shape:
        """(planes, height, width, lanes)."""
        if self.blocked:
            return blocked_shape((1, *self.shape), self.dtype)[1:]
        return (math.prod(self.shape) // math.prod(self.size), *self.size, 1)

    @property
    def elements(self) -> int:
        """Of one position."""
        return self.kept[0] * self.kept[3]

    def part(self, n: int, size: Sequence[int]) -> Shape:
        """Shape of ``n`` boxes of it."""
        planes, _, _, lanes = self.kept
        return (n, planes, *size, lanes) if self.blocked else (n, planes, *size)


@dataclass(frozen=True, kw_only=True)
class Patches:
    """A value of several windows, as far as it is not that of the unchanged image.

    Attributes
    ----------
    memory : ndarray
        Flat; of window i the patch (planes, height, width, lanes) begins at ``starts[i]``.
    starts : ndarray of shape (n,)
    boxes : ndarray of shape (n, 2, 2)
        Where the patches lie; empty where nothing has changed.
    """

    memory: Array
    starts: NDArray[np.int64]
    boxes: Boxes


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What windows cost.

    Attributes
    ----------
    macs : ndarray of shape (n,)
        Multiply-adds of each.
    nbytes : ndarray of shape (n,)
        Memory of each at most.
    order : ndarray of shape (n,)
        In which windows of like boxes are neighbours.
    whole : int
        Multiply-adds of the whole net.
    """

    macs: NDArray[np.int64]
    nbytes: NDArray[np.int64]
    order: NDArray[np.int64]
    whole: int


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A unit of the net as the engine runs it.

    Attributes
    ----------
    name : str
        Of its value.
    inputs : tuple of str
    form : Form
        Of its value.
    windows : tuple of Window or None, or None
        Through which it sees each input, None for one position; None for a layer that sees all of its inputs.
    run : callable
        ``(parts, boxes, out) -> array``: the boxes of the result from the parts of the inputs that they need, in
        ``out`` or in an array of its own.
    update : callable, or None
        Of a linear layer that sees all of its input: ``(part, under, base, out)`` fills ``out`` from the patches, what
        is under them, and the value of the unchanged image.
    blocked : bool
        Whether it takes its parts in the blocked layout; otherwise as (n, C, height, width), or (n, *shape) if it sees
        all.
    fill : float
        What lies beyond the edges of an input.
    margin : int
        So many positions more than needed it wants on each side.
    """

    name: str
    inputs: tuple[str, ...]
    form: Form
    windows: tuple[Window | None, ...] | None
    run: Run
    update: Update | None = None
    blocked: bool = False
    fill: float = 0.0
    margin: int = 0
    macs: int = 0

    @property
    def period(self) -> Shape:
        """Boxes of one phase are alike: those of a transposed convolution's result are not, whose stride parts them."""
        window = self.windows and self.windows[0]
        return window.expansion if window and window.expansion else (1, 1)

    def reached(self, inputs: Sequence[Boxes]) -> Boxes:
        """Which boxes of the result see any of those of the inputs."""
        if self.windows is None:
            changed = ~np.logical_and.reduce([_regions.is_empty(boxes) for boxes in inputs])
            return _regions.whole(len(changed), self.form.size) * changed[:, None, None]
        size = self.form.size
        through = zip(self.windows, inputs, strict=True)
        return _regions.union([_regions.reached(window, boxes, size) for window, boxes in through])

    def needed(self, boxes: Boxes) -> list[Boxes]:
        """Of each input, what boxes of the result need."""
        assert self.windows is not None
        margins = np.array([-self.margin, self.margin])
        return [_regions.needed(window, boxes) + margins for window in self.windows]


# ------------------------------------------------------------------------------------------------ layers


def layers_of(graph: Graph, params: Mapping[str, Array], dtype: str) -> list[Layer]:
    """The net's layers, for images that come in the plain layout."""
    forms = {name: Form(shape, False, dtype) for name, shape in graph.inputs.items()}
    layers = []
    for unit in fuse(graph, params, {}, of_other_dtypes(graph, dtype)):
        layer = _layer(graph, unit, forms, dtype)
        forms[unit.name] = layer.form
        layers.append(layer)
    return layers


def _layer(graph: Graph, unit: Unit, forms: Mapping[str, Form], dtype: str) -> Layer:
    op, shape = unit.node.op, graph.shapes[unit.name]
    names = unit.inputs if unit.residual is None else (*unit.inputs, unit.residual)
    inputs = [forms[name] for name in names]
    shapes = [form.shape for form in inputs]
    macs = op.macs(*shapes[: len(unit.inputs)])
    images = all(len(each) == 3 for each in (shape, *shapes))
    window = op.window(*shapes[: len(unit.inputs)])
    is_mean = isinstance(op, (GlobalAvgPool, AdaptiveAvgPool)) and window is GLOBAL
    blocked = Form(shape, True, dtype)
    layer = Layer(
        name=unit.name,
        inputs=names,
        form=Form(shape, False, dtype),
        windows=None,
        run=_forward(op, unit.params),
        macs=macs,
    )
    if isinstance(op, Linear):
        return replace(layer, run=_linear(unit, dtype))
    if is_mean and len(shapes[0]) == 3:
        return replace(layer, update=_mean(math.prod(shapes[0][1:]), shape[0], dtype))
    if not images:
        return layer
    sliding = window if isinstance(window, Window) else POINT_WISE
    local = replace(layer, windows=(sliding,) + (POINT_WISE,) * (len(names) - 1))
    same_size = len({each[1:] for each in (shape, *shapes)}) == 1
    lanes = block_lanes(dtype)
    match op:
        case Conv():
            stem = not inputs[0].blocked
            return replace(local, form=blocked, run=_conv(unit, op, stem), blocked=not stem)
        case ConvTranspose():
            return replace(local, run=_transposed(unit, op, graph.shapes[unit.inputs[0]][0]), margin=1)
        case MaxPool():
            return replace(local, form=blocked, run=_max_pool(op, dtype), blocked=True, fill=-math.inf)
        case AvgPool():
            return replace(local, form=blocked, run=_avg_pool(op, shapes[0], dtype), blocked=True)
        case Pad(mode="constant") if op.sides(shapes[0])[0] == (0, 0):
            form = Form(shape, inputs[0].blocked, dtype)
            return replace(local, form=form, blocked=form.blocked, run=_first, fill=op.value)
        case Add() | Multiply() if len(set(shapes)) == 1:
            return replace(local, form=blocked, run=_anywhere(joined(op)), blocked=True)
        case Concat() if all(each[0] % lanes == 0 for each in shapes):
            return replace(local, form=blocked, run=_anywhere(concatenated), blocked=True)
        case Activation():
            form = inputs[0]
            return replace(local, form=form, run=_forward(op, unit.params), blocked=form.blocked)
        case _ if window is None and same_size and all(p.ndim <= 1 for p in unit.params.values()):
            return local
    return layer


def _forward(op: Op, params: Mapping[str, Array]) -> Run:
    own, context = dict(params), Context()

    def run(parts: Parts, boxes: Boxes, out: Array | None) -> Array:
        return op.forward(tuple(parts), own, context)[0]

    return run


def _anywhere(run: Callable[[Parts, Array | None], Array]) -> Run:
    """What does the same wherever the boxes lie."""
    return lambda parts, boxes, out: run(parts, out)


def _first(parts: Parts, boxes: Boxes, out: Array | None) -> Array:
    return parts[0]


def _conv(unit: Unit, op: Conv, stem: bool) -> Run:
    handle = prepare(
        *unit.weight_and_bias(),
        stride=op.stride,
        dilation=op.dilation,
        groups=op.groups,
        activation=unit.activation,
        negative_slope=unit.slope,
        layout="stem" if stem else "blocked",
    )

    def run(parts: Parts, boxes: Boxes, out: Array | None) -> Array:
        return handle(*parts, out=out)

    return run


def _linear(unit: Unit, dtype: str) -> Run:
    """A linear layer is a convolution of one position: its features are channels, and the windows fill the tiles."""
    weight, bias = unit.weight_and_bias()
    handle = prepare(
        weight[:, :, None], bias, activation=unit.activation, negative_slope=unit.slope, layout="blocked"
    )
    lanes, (out_features, features) = block_lanes(dtype), weight.shape

    def run(parts: Parts, boxes: Boxes, out: Array | None) -> Array:
        (x,) = parts
        if features % lanes:
            x = np.pad(x, ((0, 0), (0, -features % lanes)))
        result = handle(x.reshape(len(x), -1, 1, lanes)).reshape(len(x), -1)
        return np.ascontiguousarray(result[:, :out_features])

    return run


def _transposed(unit: Unit, op: ConvTranspose, channels: int) -> Run:
    """The parts' whole transposed convolution, of which the boxes are cut out."""
    whole = ConvTranspose.of(
        2, op.out_channels, op.kernel_size, op.stride, groups=op.groups, bias=op.bias, dilation=op.dilation
    )
    forward = _forward(whole, unit.params)
    window = op.window((channels, 1, 1))

    def run(parts: Parts, boxes: Boxes, out: Array | None) -> Array:
        box = boxes[:1]
        first = _regions.needed(window, box)[0, :, 0] - 1
        top, left = box[0, :, 0] + [low for low, _ in op.padding] - first * op.stride
        height, width = _regions.extents(box)[0]
        return np.ascontiguousarray(
            forward(parts, boxes, None)[:, :, top : top + height, left : left + width]
        )

    return run


def _max_pool(op: MaxPool, dtype: str) -> Run:
    def run(parts: Parts, boxes: Boxes, out: Array | None) -> Array:
        return _pool("blocked_max_pool_forward", op, parts[0], op.dilation, dtype)

    return run


def _pool(name: str, op: MaxPool | AvgPool, part: Array, dilation: Shape, dtype: str) -> Array:
    n, blocks, height, width, lanes = part.shape
    shape = (n, blocks * lanes, height, width)
    result: Array = _dispatch.run(
        name, PoolSpec.from_shape(shape, dtype, op.kernel_size, op.stride, 0, dilation), part
    )
    return result


def _avg_pool(op: AvgPool, shape: Shape, dtype: str) -> Run:
    """Means over whole windows; those at the edges are put right where an average counts otherwise."""
    counts = _counts(op, shape)

    def run(parts: Parts, boxes: Boxes, out: Array | None) -> Array:
        means = _pool("blocked_avg_pool_forward", op, parts[0], op.dilation, dtype)
        if counts is not None:
            rows, columns = (
                np.stack([count[first:end] for first, end in boxes[:, axis]])
                for axis, count in enumerate(counts)
            )
            factors = math.prod(op.kernel_size) / (rows[:, :, None] * columns[:, None, :])
            means *= factors[:, None, :, :, None].astype(dtype)
        return means

    return run


def _counts(op: AvgPool, shape: Shape) -> list[Array] | None:
    """What averages divide by along each axis; None if it is the kernel's size everywhere."""
    if op.divisor_override is not None:
        sizes = op.infer_shape(shape)[1:]
        return [np.full(sizes[0], op.divisor_override), np.ones(sizes[1], int)]
    counts = []
    for axis, n in enumerate(shape[1:]):
        k, pad = op.kernel_size[axis], op.padding[axis]
        starts = np.arange(op.infer_shape(shape)[1 + axis]) * op.stride[axis] - pad
        if op.count_include_pad:
            counts.append(np.minimum(starts + k, n + pad) - starts)
        else:
            counts.append(np.minimum(starts + k, n) - np.maximum(starts, 0))
    regular = all((count == k).all() for count, k in zip(counts, op.kernel_size, strict=True))
    return None if regular else counts


def _mean(positions: int, channels: int, dtype: str) -> Update:
    """The mean over all positions, of which those of a patch are exchanged."""

    def mean(part: Array) -> Array:
        n, blocks, height, width, lanes = part.shape
        spec = PoolSpec.from_shape((n, blocks * lanes, height, width), dtype, (height, width))
        means: Array = _dispatch.run("blocked_avg_pool_forward", spec, part)
        return means.reshape(n, -1)[:, :channels]

    def update(part: Array, under: Array, base: Array, out: Array) -> None:
        share = math.prod(part.shape[2:4]) / positions
        new = mean(part)
        if share < 1:
            new = (new - mean(under)) * new.dtype.type(share) + base.reshape(-1)
        out[...] = new.reshape(out.shape)

    return update


# ------------------------------------------------------------------------------------------------ engine


class Engine:
    """A net with its present parameters, ready to follow what changes of an image change.

    Parameters
    ----------
    graph : Graph
        Of one input, an image, and one output.
    params : mapping of str to ndarray
    dtype : str
        Of the parameters and images.

    Attributes
    ----------
    layers : list of Layer
    """

    def __init__(self, graph: Graph, params: Mapping[str, Array], dtype: str) -> None:
        (self.input,), (self.output,) = graph.inputs, graph.outputs
        self.dtype = dtype
        self.layers = layers_of(graph, params, dtype)
        self.forms = {self.input: Form(graph.shapes[self.input], False, dtype)}
        self.forms |= {layer.name: layer.form for layer in self.layers}
        self._dying = self._last_uses()
        self._base: dict[str, Array] = {}  # values of the unchanged image

    def start(self, image: Array) -> Array:
        """Take an image (C, H, W) as the one that is changed; its output."""
        self._base = {self.input: np.ascontiguousarray(image).reshape(self.forms[self.input].kept)}
        for layer in self.layers:
            inputs = [self._unchanged(name) for name in layer.inputs]
            memory = self._computed(layer, inputs, _regions.whole(1, layer.form.size)).memory
            self._base[layer.name] = memory.reshape(layer.form.kept)
        output: Array = self._output(self._unchanged(self.output))[0]
        return output

    def _unchanged(self, name: str) -> Patches:
        """A value of the unchanged image, as that of a window."""
        return Patches(
            memory=self._base[name].reshape(-1),
            starts=np.zeros(1, np.int64),
            boxes=_regions.whole(1, self.forms[name].size),
        )

    def outputs(self, patches: Patches) -> Array:
        """The net's output for every window, shape (n, *shape), from the patches of the input."""
        values = {self.input: self._still_changed(self.forms[self.input], self._base[self.input], patches)}
        for layer, dying in zip(self.layers, self._dying, strict=True):
            inputs = [values[name] for name in layer.inputs]
            computed = self._computed(layer, inputs, layer.reached([each.boxes for each in inputs]))
            values[layer.name] = self._still_changed(layer.form, self._base[layer.name], computed)
            for name in dying:
                del values[name]
        return self._output(values[self.output])

    def _output(self, patches: Patches) -> Array:
        """The output's patches as whole plain arrays."""
        form, n = self.forms[self.output], len(patches.starts)
        output = self._part(self.output, patches, np.arange(n), _regions.whole(n, form.size), False)
        return output.reshape(n, *form.shape)

    def costs(self, boxes: Boxes) -> Costs:
        """What :meth:`outputs` would have to do for windows that change these boxes of the input, if none dies out."""
        changed = {self.input: boxes}
        areas = {self.input: _regions.areas(boxes)}
        macs = np.zeros(len(boxes), np.int64)
        held = peak = self.forms[self.input].elements * areas[self.input]
        keys = []
        for layer, dying in zip(self.layers, self._dying, strict=True):
            changed[layer.name] = layer.reached([changed[name] for name in layer.inputs])
            areas[layer.name] = area = _regions.areas(changed[layer.name])
            macs += layer.macs * area // math.prod(layer.form.size)
            own = layer.form.elements * area
            held = held + own
            parts = sum(self.forms[name].elements * areas[name] for name in layer.inputs)
            peak = np.maximum(peak, held + parts)
            for name in dying:
                held = held - self.forms[name].elements * areas[name]
            keys.append(_regions.extents(changed[layer.name]))
        return Costs(
            macs=macs,
            nbytes=peak * np.dtype(self.dtype).itemsize,
            order=np.lexsort(np.concatenate(keys, axis=1).T),
            whole=sum(layer.macs for layer in self.layers),
        )

    def _computed(self, layer: Layer, inputs: Sequence[Patches], changed: Boxes) -> Patches:
        """The patches of a layer's value that lie in boxes which a change has reached."""
        memory = empty((int(_regions.areas(changed).sum()) * layer.form.elements,), self.dtype)
        starts = np.zeros(len(changed), np.int64)
        filled = 0
        if layer.update is not None and layer.name in self._base:
            return self._updated(layer, layer.update, inputs[0], changed)
        for numbers, boxes in _regions.alike(changed, layer.period):
            size = _regions.extents(boxes)[0].tolist()
            each = layer.form.elements * math.prod(size)
            end = filled + each * len(numbers)
            out = memory[filled:end].reshape(layer.form.part(len(numbers), size))
            result = layer.run(self._parts(layer, inputs, numbers, boxes), boxes, out)
            if result is not out:
                out[...] = result.reshape(out.shape)
            starts[numbers] = np.arange(filled, end, each)
            filled = end
        return Patches(memory=memory, starts=starts, boxes=changed)

    def _updated(self, layer: Layer, update: Update, patches: Patches, changed: Boxes) -> Patches:
        """The value of a linear layer that sees all of its input, by what the patches make different."""
        (name,) = layer.inputs
        memory = empty((len(changed), layer.form.elements), self.dtype)
        nothing = replace(patches, boxes=np.zeros_like(patches.boxes))
        for numbers, boxes in _regions.alike(patches.boxes):
            part, under = (self._part(name, each, numbers, boxes, True) for each in (patches, nothing))
            out = np.empty((len(numbers), layer.form.elements), self.dtype)
            update(part, under, self._base[layer.name], out)
            memory[numbers] = out
        starts = np.arange(len(changed), dtype=np.int64) * layer.form.elements
        return Patches(memory=memory.reshape(-1), starts=starts, boxes=changed)

    def _parts(self, layer: Layer, inputs: Sequence[Patches], numbers: Array, boxes: Boxes) -> Parts:
        """Of each input, what boxes of a layer's value need."""
        if layer.windows is not None:
            return [
                self._part(name, patches, numbers, box, layer.blocked, layer.fill)
                for name, patches, box in zip(layer.inputs, inputs, layer.needed(boxes), strict=True)
            ]
        parts = []
        for name, patches in zip(layer.inputs, inputs, strict=True):
            form = self.forms[name]
            part = self._part(name, patches, numbers, _regions.whole(len(numbers), form.size), False)
            parts.append(part.reshape(len(numbers), *form.shape))
        return parts

    def _part(
        self,
        name: str,
        patches: Patches,
        numbers: Array,
        boxes: Boxes,
        blocked: bool,
        fill: float = 0.0,
    ) -> Array:
        """Boxes of one size of a value of some windows, in the layout asked for."""
        form, n = self.forms[name], len(numbers)
        size = _regions.extents(boxes)[0].tolist()
        shape = form.part(n, size)
        stored, starts = patches.boxes[numbers], patches.starts[numbers]
        first, count = int(starts[0]), math.prod(shape[1:])
        if np.array_equal(stored, boxes) and np.array_equal(
            starts, np.arange(first, first + n * count, count)
        ):
            part = patches.memory[first : first + n * count].reshape(shape)  # as they lie there
        else:
            planes, *base_size, lanes = form.kept
            spec = OverlaySpec(
                images=n,
                planes=planes,
                base_size=tuple(base_size),
                size=tuple(size),
                lanes=lanes,
                fill=fill,
                dtype=self.dtype,
            )
            places = np.empty((n, 7), np.int64)
            places[:, 0], places[:, 1:3], places[:, 5:] = starts, stored[:, :, 0], boxes[:, :, 0]
            places[:, 3:5] = _regions.extents(stored)
            part = _dispatch.run("overlay", spec, self._base[name], patches.memory, places).reshape(shape)
        if form.blocked == blocked:
            return part
        layout = LayoutSpec(planes_shape=(n, form.shape[0], *size), dtype=self.dtype)
        changed: Array = _dispatch.run("block" if blocked else "unblock", layout, part)
        return changed

    def _still_changed(self, form: Form, base: Array, patches: Patches) -> Patches:
        """The same, where all that a patch holds is what the unchanged image holds without a patch.

        Most patches differ in the middle, so that is looked at first.
        """
        numbers = np.flatnonzero(~_regions.is_empty(patches.boxes))
        boxes, starts = patches.boxes[numbers], patches.starts[numbers]
        planes, _, _, lanes = form.kept
        height, width = _regions.extents(boxes).T
        y, x = height // 2, width // 2
        same = np.arange(len(numbers))  # as far as it is known
        for plane in range(planes):
            places = starts[same] + ((plane * height[same] + y[same]) * width[same] + x[same]) * lanes
            middles = patches.memory[places[:, None] + np.arange(lanes)]
            under = base[plane, boxes[same, 0, 0] + y[same], boxes[same, 1, 0] + x[same]]
            same = same[(middles == under).all(axis=1)]
            if not len(same):
                return patches
        left = patches.boxes.copy()
        for number in numbers[same].tolist():
            (top, bottom), (begin, end) = patches.boxes[number].tolist()
            under = base[:, top:bottom, begin:end]
            start = int(patches.starts[number])
            if np.array_equal(patches.memory[start : start + under.size], under.reshape(-1)):
                left[number] = 0
        return replace(patches, boxes=left)

    def _last_uses(self) -> list[list[str]]:
        """For each layer, the values that no other needs behind it."""
        last: dict[str, int] = {}
        for index, layer in enumerate(self.layers):
            last |= dict.fromkeys((layer.name, *layer.inputs), index)
        dying: list[list[str]] = [[] for _ in self.layers]
        for name, index in last.items():
            if name != self.output:
                dying[index].append(name)
        return dying
