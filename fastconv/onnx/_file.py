"""ONNX files as checked data: a hostile one ends here with a ValueError, before anything of it is believed.

Nothing of the file is executed, and no array is allocated that the file's own size does not bound.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastconv._optional import require
from fastconv.onnx._values import Known, UnsupportedModelError

OLDEST_OPSET, NEWEST_OPSET = 6, 28

Path = str | os.PathLike[str]

_DOMAINS = ("", "ai.onnx")
_DTYPES = {"BOOL": "bool", "FLOAT16": "float16", "FLOAT": "float32", "DOUBLE": "float64"}
_DTYPES |= {f"{kind}{bits}".upper(): f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)}


@dataclass(frozen=True)
class TensorType:
    """What the file says of an input or output; an unknown size is None, and so is an unknown shape."""

    dtype: str
    shape: tuple[int | None, ...] | None


@dataclass
class Call:
    """One node of the file; reading an attribute marks it as understood."""

    op_type: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    opset: int
    _read: set[str] = field(default_factory=set)

    def __str__(self) -> str:
        return f"{self.op_type} {self.name!r}"

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute's value, of the type of ``default`` unless that is None."""
        self._read.add(name)
        value = self.attributes.get(name, default)
        if default is not None and type(value) is not type(default):
            raise ValueError(f"attribute {name!r} must be of type {type(default).__name__}, got {value!r}")
        return value

    def integers(self, name: str, default: tuple[int, ...] | None = None) -> tuple[int, ...] | None:
        """An attribute that is a list of integers, or the default."""
        value = self.attribute(name)
        if value is None:
            return default
        if not isinstance(value, tuple) or not all(isinstance(item, int) for item in value):
            raise ValueError(f"attribute {name!r} must be a list of integers, got {value!r}")
        return value

    def unread(self) -> list[str]:
        """Attributes that nobody has asked for: what they mean is not known here."""
        return sorted(set(self.attributes) - self._read)


@dataclass(frozen=True)
class Program:
    """A checked file: its calls are in an order in which each comes after what it uses."""

    inputs: Mapping[str, TensorType]
    outputs: Mapping[str, TensorType]
    constants: Mapping[str, Known]
    calls: tuple[Call, ...]

    def uses(self) -> dict[str, int]:
        """How often each value is used, as an output of the whole, too."""
        counts: dict[str, int] = dict.fromkeys(self.outputs, 1)
        for call in self.calls:
            for name in call.inputs:
                counts[name] = counts.get(name, 0) + 1
        return counts


def read(source: Any, operators: Collection[str]) -> Program:
    """The program in a file, in the bytes of one, or in a ``ModelProto``.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    UnsupportedModelError
        If the file uses operators, opsets, domains or types that are not known here; the message names all.
    ValueError
        If it is no ONNX model, or one that contradicts itself.
    """
    onnx = require("onnx", extra="onnx")
    folder = None
    if isinstance(source, onnx.ModelProto):
        model = source
    elif isinstance(source, (bytes, bytearray, memoryview)):
        model = _parse(onnx, bytes(source))
    else:
        folder = os.path.dirname(os.path.abspath(os.fspath(source)))
        with open(source, "rb") as file:
            model = _parse(onnx, file.read())  # whose bytes are let go of before arrays are made
    if not all(isinstance(text, str) for text in _strings(model)):  # else it is bytes
        raise ValueError("the model has names that are not UTF-8")
    _check_support(model, operators, onnx)
    opset = next(entry.version for entry in model.opset_import if entry.domain in _DOMAINS)
    return _program(model.graph, opset, _Tensors(onnx, folder), onnx)


def _parse(onnx: Any, content: bytes) -> Any:
    from google.protobuf.message import DecodeError  # comes with onnx

    try:
        model = onnx.ModelProto.FromString(content)
    except DecodeError as error:
        raise ValueError(f"this is not an ONNX file, or not a whole one: {error}") from None
    if not model.HasField("graph") or not model.graph.output:
        raise ValueError("this is not an ONNX file, or not a whole one: it holds no graph with an output")
    return model


def _strings(model: Any) -> Iterator[Any]:
    """All names that are looked at later."""
    for opset in model.opset_import:
        yield opset.domain
    for function in model.functions:
        yield function.name
    for node in model.graph.node:
        yield from (node.name, node.domain, node.op_type, *node.input, *node.output)
        for attribute in node.attribute:
            yield from (attribute.name, attribute.ref_attr_name)
    for tensor in (*model.graph.initializer, *(a.t for node in model.graph.node for a in node.attribute)):
        yield tensor.name
        for entry in tensor.external_data:
            yield from (entry.key, entry.value)
    for info in (*model.graph.input, *model.graph.output):
        yield info.name


# ------------------------------------------------------------------------------------------- what is supported


def _check_support(model: Any, operators: Collection[str], onnx: Any) -> None:
    """Refuse everything that is unknown, at once."""
    problems = []
    opsets = [entry.version for entry in model.opset_import if entry.domain in _DOMAINS]
    if len(opsets) != 1:
        problems.append(f"one opset of the domain 'ai.onnx' must be given, got {opsets}")
    problems += [
        f"opset {version} (supported are {OLDEST_OPSET} to {NEWEST_OPSET})"
        for version in opsets
        if not OLDEST_OPSET <= version <= NEWEST_OPSET
    ]
    unknown: dict[str, list[str]] = {}
    for node in model.graph.node:
        known = node.domain in _DOMAINS and node.op_type in operators
        if not known:
            unknown.setdefault(".".join(filter(None, (node.domain, node.op_type))), []).append(_label(node))
        for attribute in node.attribute:
            if attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS):
                unknown.setdefault(f"{node.op_type} with a graph inside", []).append(_label(node))
            elif attribute.ref_attr_name:
                unknown.setdefault(f"{node.op_type} with a reference as attribute", []).append(_label(node))
    for what, labels in sorted(unknown.items()):
        more = f" and {len(labels) - 3} more" if len(labels) > 3 else ""
        problems.append(f"operator {what} (node {', '.join(labels[:3])}{more})")
    if model.functions:
        problems.append(f"functions of the model's own ({', '.join(f.name for f in model.functions)})")
    if model.graph.sparse_initializer:
        problems.append("sparse initialisers")
    problems += sorted(set(_unknown_types(model.graph, onnx)))
    if problems:
        raise UnsupportedModelError("the model uses what is not supported: " + "; ".join(problems))


def _unknown_types(graph: Any, onnx: Any) -> Iterator[str]:
    for info in (*graph.input, *graph.output):
        kind = info.type.WhichOneof("value")
        if kind != "tensor_type":
            yield f"{info.name!r} of type {kind or 'unknown'}"
        elif _dtype(info.type.tensor_type.elem_type, onnx) is None:
            yield f"{info.name!r} of {_type_name(info.type.tensor_type.elem_type, onnx)}"
    for tensor in graph.initializer:
        if _dtype(tensor.data_type, onnx) is None:
            yield f"{tensor.name!r} of {_type_name(tensor.data_type, onnx)}"


def dtype_of(code: int) -> str:
    """The NumPy name of a type by its number in a file.

    Raises
    ------
    UnsupportedModelError
        If it is not supported.
    """
    onnx = require("onnx", extra="onnx")
    name = _dtype(code, onnx)
    if name is None:
        raise UnsupportedModelError(f"{_type_name(code, onnx)} is not supported")
    return name


def _dtype(code: int, onnx: Any) -> str | None:
    """The NumPy name of a type, None if it is not supported."""
    return _DTYPES.get(_type_name(code, onnx).upper())


def _type_name(code: int, onnx: Any) -> str:
    names: dict[int, str] = {number: name for name, number in onnx.TensorProto.DataType.items()}
    return names.get(code, f"type {code}").lower()


def _label(node: Any) -> str:
    return repr(node.name or next(iter(node.output), ""))


# -------------------------------------------------------------------------------------------- what is consistent


def _program(graph: Any, opset: int, tensors: _Tensors, onnx: Any) -> Program:
    constants: dict[str, Known] = {}
    for tensor in graph.initializer:
        if not tensor.name or tensor.name in constants:
            raise ValueError(f"initialisers must have names of their own, got {tensor.name!r}")
        constants[tensor.name] = Known(tensors.array(tensor), tensor.name)
    inputs = {}
    for info in graph.input:
        if not info.name or info.name in inputs:
            raise ValueError(f"inputs must have names of their own, got {info.name!r}")
        inputs[info.name] = _tensor_type(info, onnx)
    known = {*constants, *inputs}
    calls = []
    for node in graph.node:
        call = _call(node, opset, tensors, onnx)
        for name in call.inputs:
            if name and name not in known:
                raise ValueError(
                    f"node {call} uses {name!r}, which no input, initialiser or earlier node defines "
                    f"(nodes must be in topological order; a cycle has none)"
                )
        for name in filter(None, call.outputs):
            if name in known:
                raise ValueError(f"every value must be defined once, got {name!r} again by node {call}")
            known.add(name)
        calls.append(call)
    outputs = {}
    for info in graph.output:
        if info.name not in known or info.name in outputs:
            raise ValueError(f"outputs must be values of the graph, each given once, got {info.name!r}")
        outputs[info.name] = _tensor_type(info, onnx)
    free = {name: kind for name, kind in inputs.items() if name not in constants}
    return Program(inputs=free, outputs=outputs, constants=constants, calls=tuple(calls))


def _tensor_type(info: Any, onnx: Any) -> TensorType:
    kind = info.type.tensor_type
    shape = None
    if kind.HasField("shape"):
        shape = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim)
        if any(size is not None and size < 0 for size in shape):
            raise ValueError(f"sizes must not be negative, got {shape} for {info.name!r}")
    dtype = _dtype(kind.elem_type, onnx)
    assert dtype is not None  # _check_support refuses others
    return TensorType(dtype, shape)


def _call(node: Any, opset: int, tensors: _Tensors, onnx: Any) -> Call:
    attributes: dict[str, Any] = {}
    for attribute in node.attribute:
        if attribute.name in attributes:
            raise ValueError(f"node {_label(node)} has attribute {attribute.name!r} twice")
        attributes[attribute.name] = _attribute(attribute, tensors, onnx)
    return Call(
        op_type=node.op_type,
        name=node.name or next(iter(node.output), ""),
        inputs=tuple(node.input),
        outputs=tuple(node.output),
        attributes=attributes,
        opset=opset,
    )


def _attribute(attribute: Any, tensors: _Tensors, onnx: Any) -> Any:
    kinds = onnx.AttributeProto
    match attribute.type:
        case kinds.INT:
            return attribute.i
        case kinds.FLOAT:
            return shortest(attribute.f)
        case kinds.STRING:
            return attribute.s.decode(errors="replace")
        case kinds.INTS:
            return tuple(attribute.ints)
        case kinds.FLOATS:
            return tuple(map(shortest, attribute.floats))
        case kinds.TENSOR:
            return tensors.array(attribute.t)
        case other:
            raise UnsupportedModelError(
                f"attribute {attribute.name!r} is of type {other}, which is not known here"
            )


def shortest(value: Any) -> float:
    """The number that somebody wrote: the shortest that is ``value`` in float32, as 0.1 for 0.10000000149."""
    return float(str(np.float32(value)))


@dataclass(frozen=True)
class _Tensors:
    """Tensors as arrays, with their data inside the file or in one beside it."""

    onnx: Any
    folder: str | None

    def array(self, tensor: Any) -> np.ndarray:
        """A read-only array, unless its data contradicts its shape."""
        name = _dtype(tensor.data_type, self.onnx)
        if name is None:
            raise UnsupportedModelError(
                f"tensor {tensor.name!r} of {_type_name(tensor.data_type, self.onnx)} is not supported"
            )
        dtype = np.dtype(name)
        shape = tuple(tensor.dims)
        if any(size < 0 for size in shape):
            raise ValueError(f"sizes must not be negative, got {shape} for tensor {tensor.name!r}")
        count = 1
        for size in shape:
            count *= size
        if tensor.data_location == self.onnx.TensorProto.EXTERNAL:
            content = self._external(tensor, count * dtype.itemsize)
        elif tensor.HasField("raw_data"):
            content = tensor.raw_data
        else:
            field_name = self.onnx.helper.tensor_dtype_to_field(tensor.data_type)
            self._check_length(tensor, len(getattr(tensor, field_name)), count, "values")
            return self.onnx.numpy_helper.to_array(tensor)
        self._check_length(tensor, len(content), count * dtype.itemsize, "bytes")
        return np.frombuffer(content, dtype.newbyteorder("<")).reshape(shape).astype(dtype, copy=False)

    @staticmethod
    def _check_length(tensor: Any, got: int, expected: int, what: str) -> None:
        if got != expected:
            raise ValueError(
                f"tensor {tensor.name!r} of shape {tuple(tensor.dims)} needs {expected} {what}, got {got}"
            )

    def _external(self, tensor: Any, expected: int) -> bytes:
        """The bytes of a tensor in another file of the model's folder, or of a folder in it."""
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        if self.folder is None:
            raise ValueError(
                f"tensor {tensor.name!r} is in the file {location!r}, so the model must be given by its path"
            )
        folder = os.path.realpath(self.folder)
        try:
            path = os.path.realpath(os.path.join(folder, location), strict=True)
            status = os.stat(path)
        except (OSError, ValueError) as error:
            raise ValueError(f"tensor {tensor.name!r}: cannot read {location!r}: {error}") from None
        if os.path.isabs(location) or os.path.commonpath([folder, path]) != folder:
            raise ValueError(
                f"tensor {tensor.name!r}: external data must stay in the model's folder, got {location!r}"
            )
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"tensor {tensor.name!r}: {location!r} is no regular file")
        try:
            offset = int(entries.get("offset", "0"))
            length = int(entries.get("length", str(status.st_size - offset)))
        except ValueError:
            raise ValueError(
                f"tensor {tensor.name!r}: offset and length must be integers, got {entries}"
            ) from None
        if offset < 0 or length < 0 or offset + length > status.st_size:
            raise ValueError(
                f"tensor {tensor.name!r}: bytes {offset} to {offset + length} are not in {location!r}, "
                f"which has {status.st_size}"
            )
        self._check_length(tensor, length, expected, "bytes")
        with open(path, "rb") as file:
            file.seek(offset)
            return file.read(length)
