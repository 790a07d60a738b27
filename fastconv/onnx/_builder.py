"""From the calls of a file to the nodes of a graph; what depends on no input is computed at once."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from fastconv import ops
from fastconv._spec import Shape
from fastconv.graph import Graph, Node
from fastconv.onnx._file import Call, Program
from fastconv.onnx._values import Array, Known, Open, UnsupportedModelError, Value
from fastconv.ops import Context, Op

LARGEST_VALUE = 2**32  # bytes of one sample of any value of a net
_LONGEST_FOLDING = 2**34  # multiply-accumulates on constants while a file is loaded

# What takes arrays of any type, numbers of shapes among them; other ops have kernels for two types of floats.
_OF_ANY_TYPE = (
    *(ops.Add, ops.Multiply, ops.Subtract, ops.Divide, ops.Power, ops.Minimum, ops.Maximum),
    *(ops.Compare, ops.Where, ops.Reduce, ops.ArgMax, ops.ArgMin, ops.MatMul),
    *(ops.Transpose, ops.Slice, ops.Gather, ops.Expand, ops.Tile, ops.Concat, ops.Reshape),
)


class Builder:
    """A graph under construction.

    Parameters
    ----------
    program : Program
    batch : int, optional
        The batch size that the file was made for, if it names one.
    dtype : str
        Of the net's parameters.
    max_folding : int, optional
        Bytes of all values together that are computed at once; None is for a model that runs, so computes for long,
        too.
    """

    def __init__(
        self,
        program: Program,
        batch: int | None = None,
        dtype: str = "float32",
        max_folding: int | None = None,
    ) -> None:
        self.batch = batch
        self.dtype = np.dtype(dtype)
        self.inputs: dict[str, Shape] = {}
        self.nodes: list[Node] = []
        self.params: dict[str, Array] = {}
        self.frozen: set[str] = set()
        self.uses = program.uses()
        self.call: Call | None = None  # the one being translated, after which nodes are named
        self._max_folding = max_folding
        self._folded, self._macs = 0, 0
        self._names: set[str] = set()
        self._origins: dict[str, Array] = {}  # the file's array behind a parameter
        self._constants: dict[tuple[int, Shape], Open] = {}
        self._kept: list[Known] = []  # so that the ids in _constants stay theirs

    # ---- values

    def input(self, name: str, shape: Shape, dtype: str) -> Open:
        """A new input of the net."""
        value = Open(self._unique(name), shape, np.dtype(dtype))
        self.inputs[value.name] = shape
        return value

    def wants(self, index: int) -> bool:
        """Whether anything uses this output of the present call."""
        outputs = self.call.outputs if self.call else ()
        return index < len(outputs) and outputs[index] in self.uses

    def axis(self, value: Value, axis: int, *, new: int = 0) -> int:
        """An axis as ops count it: from 0, without the batch axis; ``new`` axes are about to be added."""
        ndim = value.ndim + new
        if not -ndim <= axis < ndim:
            raise ValueError(f"an axis of {ndim} must be between {-ndim} and {ndim - 1}, got {axis}")
        axis %= ndim
        if isinstance(value, Known):
            return axis
        if axis == 0:
            raise UnsupportedModelError("it works along the batch axis")
        return axis - 1

    def shape(self, value: Value) -> Shape:
        """The shape as ops see it: of one sample, or of the array."""
        return value.array.shape if isinstance(value, Known) else value.shape

    # ---- ops

    def layer(
        self,
        op: Op,
        value: Value,
        params: Mapping[str, Known] | None = None,
        *,
        training: bool = False,
        frozen: bool = False,
    ) -> Value:
        """``op`` on a value whose axis 0 is the batch also where it is known."""
        params = params or {}
        if isinstance(value, Known):
            arrays = {key: param.array for key, param in params.items()}
            return self._fold(op, (value.array,), arrays, value.dtype, training)
        return self._emit(op, (value,), params, value.dtype, frozen)

    def apply(
        self, op: Op, *values: Value, dtype: Any = None, params: Mapping[str, Known] | None = None
    ) -> Value:
        """``op`` on whole samples; one that is known is a sample as it is."""
        dtype = np.dtype(values[0].dtype if dtype is None else dtype)
        params = params or {}
        if all(isinstance(value, Known) for value in values):
            arrays = tuple(value.array[None] for value in values if isinstance(value, Known))
            result = self._fold(op, arrays, {key: p.array for key, p in params.items()}, dtype)
            return Known(result.array[0])
        return self._emit(op, tuple(map(self.opened, values)), params, dtype)

    def broadcast(self, op: Op, *values: Value, dtype: Any = None) -> Value:
        """``op`` on values of any shapes that broadcast; the batch axes stay where they are."""
        ndim = max(value.ndim for value in values)
        if any(isinstance(value, Open) and value.ndim < ndim for value in values):
            raise UnsupportedModelError(
                f"it broadcasts the batch axis of a value to axis {ndim - 1} or further"
            )
        if any(isinstance(value, Open) for value in values):
            values = tuple(self.sample(value, ndim) for value in values)
            if not isinstance(op, ops.Compare):
                first = int(isinstance(op, ops.Where))  # what decides may be of any type
                values = (*values[:first], *map(self._as_floats, values[first:]))
        return self.apply(op, *values, dtype=dtype)

    def _as_floats(self, value: Value) -> Value:
        """Whole numbers and truth values of a net as floats, as all its constants are, so that types do not widen."""
        if isinstance(value, Known) or value.dtype.kind == "f":
            return value
        return self._emit(ops.Cast(to=self.dtype.name), (value,), {}, value.dtype)

    @staticmethod
    def sample(value: Value, ndim: int) -> Value:
        """A value as one sample of ``ndim`` axes, the batch among them: an array loses its axis of 1 for that."""
        if isinstance(value, Open) or value.ndim == ndim - 1:
            return value
        shape = (1,) * (ndim - value.ndim) + value.array.shape
        if shape[0] != 1:
            raise UnsupportedModelError(f"it combines the batch with {shape[0]} constant samples")
        return replace(value, array=value.array.reshape(shape[1:]))

    def opened(self, value: Value) -> Open:
        """The value in the graph; an array, which is one sample there, as a constant."""
        if isinstance(value, Open):
            return value
        key = (id(value.array), value.array.shape)
        if key not in self._constants:
            self._kept.append(value)
            frozen = value.name is None or value.array.size == 1
            self._constants[key] = self._emit(
                ops.Constant(shape=value.array.shape), (), {"value": value}, value.dtype, frozen=frozen
            )
        return self._constants[key]

    def _fold(
        self,
        op: Op,
        inputs: tuple[Array, ...],
        params: dict[str, Array],
        dtype: np.dtype[Any],
        training: bool = False,
    ) -> Known:
        shapes = tuple(array.shape[1:] for array in inputs)
        size = inputs[0].shape[0] * math.prod(op.infer_shape(*shapes)) * dtype.itemsize
        self.reserve(size)
        self._macs += inputs[0].shape[0] * op.macs(*shapes)
        if self._max_folding is not None and self._macs > _LONGEST_FOLDING:
            raise UnsupportedModelError("its constants take too long to compute")
        computed = {array.dtype.name for array in inputs} | {"float32"}
        to = "float32" if computed <= {"float16", "float32"} else "float64"
        if computed != {to} and not isinstance(op, _OF_ANY_TYPE):
            inputs = tuple(array.astype(to) for array in inputs)
        params = {key: np.array(array, to, order="C") for key, array in params.items()}
        output, _ = op.forward(tuple(map(np.ascontiguousarray, inputs)), params, Context(training=training))
        return Known(output if output.dtype == object else output.astype(dtype, copy=False))

    def reserve(self, size: int) -> None:
        """Count the bytes of an array before it is made.

        Raises
        ------
        UnsupportedModelError
            If the file asks for more than the limits.
        """
        self._folded += size
        if self._max_folding is not None and self._folded > self._max_folding:
            raise UnsupportedModelError(
                f"constants of {self._folded} bytes would be computed, more than max_folding={self._max_folding}"
            )
        if size > LARGEST_VALUE:
            raise UnsupportedModelError(f"a value of {size} bytes is larger than {LARGEST_VALUE}")

    def _emit(
        self,
        op: Op,
        inputs: tuple[Open, ...],
        params: Mapping[str, Known],
        dtype: np.dtype[Any],
        frozen: bool = False,
    ) -> Open:
        shapes = tuple(value.shape for value in inputs)
        shape = op.infer_shape(*shapes)
        if math.prod(shape) * self.dtype.itemsize > LARGEST_VALUE:
            raise UnsupportedModelError(f"one sample of shape {shape} has more than {LARGEST_VALUE} bytes")
        expected = op.param_shapes(*shapes)
        name = self._unique(self.call.name if self.call else op.kind)
        names = []
        for key, needed in expected.items():
            given = params[key]
            if given.array.shape != needed:
                raise ValueError(f"{key} must have shape {needed}, got {given.array.shape}")
            names.append(self._param(given, f"{name}.{key}"))
            if frozen:
                self.frozen.add(names[-1])
        self.nodes.append(Node(name, op, tuple(value.name for value in inputs), tuple(names)))
        return Open(name, shape, dtype)

    def _param(self, value: Known, otherwise: str) -> str:
        """The name of a parameter of this value, which uses of the same initialiser share."""
        wanted = name = _readable(value.name or otherwise).replace("/", ".")
        number = 1
        while name in self.params and not _same(self._origins[name], value.array):
            number += 1
            name = f"{wanted}_{number}"
        if name not in self.params:
            self._origins[name] = value.array
            self.params[name] = np.array(value.array, self.dtype, order="C")  # its own, writable
        return name

    def _unique(self, name: str) -> str:
        wanted = unique = _readable(name)
        number = 1
        while unique in self._names:
            number += 1
            unique = f"{wanted}_{number}"
        self._names.add(unique)
        return unique

    # ---- the end

    def _last(self, value: Value, name: str) -> Node | None:
        """The node just made, if ``value``, called ``name`` in the file, is its result and nothing else uses it."""
        last = self.nodes[-1] if self.nodes else None
        alone = last and isinstance(value, Open) and value.name == last.name and self.uses.get(name) == 1
        return last if alone else None

    def join_bias(self, value: Value, name: str, bias: Value) -> Value | None:
        """The value with a bias, if it is that of a linear layer just made which has none."""
        last = self._last(value, name)
        if last is None or not (isinstance(last.op, ops.Linear) and not last.op.bias):
            return None
        if not (isinstance(bias, Known) and isinstance(value, Open) and bias.array.shape == value.shape):
            return None
        params = (*last.params, self._param(bias, f"{last.name}.bias"))
        self.nodes[-1] = replace(last, op=replace(last.op, bias=True), params=params)
        return value

    def join_flat(self, value: Value, name: str, shape: Shape) -> Value | None:
        """The value flat, if it is that of a global pool just made which kept its axes."""
        last = self._last(value, name)
        if last is None or not isinstance(last.op, (ops.GlobalAvgPool, ops.GlobalMaxPool, ops.GlobalLpPool)):
            return None
        if len(shape) != 1 or not last.op.keepdims:
            return None
        self.nodes.pop()
        self._names.discard(last.name)
        flat = Open(self._unique(self.call.name if self.call else last.name), shape, value.dtype)
        self.nodes.append(replace(last, name=flat.name, op=replace(last.op, keepdims=False)))
        return flat

    def _gives_whole_numbers(self, value: Open) -> bool:
        """Whether a result is of the type that the file says, rather than floats of these values."""
        op = next((node.op for node in self.nodes if node.name == value.name), None)
        return isinstance(op, (ops.ArgMax, ops.ArgMin, ops.Cast, ops.Compare))

    def graph(self, outputs: Mapping[str, Value]) -> Graph:
        """The graph with these results, whose nodes get their names."""
        names: dict[str, str] = {}
        results = []
        for label, value in outputs.items():
            if isinstance(value, Known):
                raise UnsupportedModelError(f"output {label!r} depends on no input")
            if value.dtype.kind != "f" and not self._gives_whole_numbers(value):
                value = self._emit(ops.Cast(to=value.dtype.name), (value,), {}, value.dtype)
            if value.name not in self.inputs and value.name not in names:
                names[value.name] = label
            results.append(value.name)
        taken = self._names - set(names)
        for old, label in names.items():
            new = _readable(label)
            names[old] = new if new not in taken else old
            taken.add(names[old])
        nodes = tuple(
            replace(
                node,
                name=names.get(node.name, node.name),
                inputs=tuple(names.get(name, name) for name in node.inputs),
            )
            for node in self.nodes
        )
        return Graph(self.inputs, nodes, tuple(names.get(name, name) for name in results))


def _readable(name: str) -> str:
    """A name of letters, digits and ``_ . - /``, as the file has it as far as possible."""
    return re.sub(r"[^\w.\-/]", "_", name, flags=re.ASCII).strip("/.") or "value"


def _same(a: Array, b: Array) -> bool:
    return a is b or (a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes())
