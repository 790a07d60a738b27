"""Nets as safetensors files: parameters as tensors, the graph as JSON in the header; nothing is executed.

Files are written beside their place and then moved there, so that whenever a process ends there is the old file or the
new one, whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastconv._optional import require
from fastconv.graph import Graph, Node
from fastconv.nn.regularizers import Regularizer
from fastconv.ops import from_config, to_config

if TYPE_CHECKING:
    from fastconv.nn.model import Model

Array = NDArray[Any]
Path = str | os.PathLike[str]

KEY = "fastconv"
FORMAT = 1
_EXTRA = "run/"  # no parameter's name begins so: it would need a dot


def save(model: Model, path: Path) -> None:
    """Write graph, parameters, penalties and seed of ``model``, but not what :meth:`Model.compile` set.

    A path that ends in ``.onnx`` gets an ONNX file, see :func:`fastconv.onnx.save`.
    """
    if _is_onnx(path):
        from fastconv import onnx

        onnx.save(model, path)
        return
    write(path, model.params, {KEY: describe(model)})


def _is_onnx(path: Path) -> bool:
    return os.fspath(path).endswith(".onnx")


def save_weights(model: Model, path: Path) -> None:
    """Write the parameters of ``model`` alone."""
    write(path, model.params, {})


def load(path: Path) -> Model:
    """The net that :meth:`Model.save` wrote, that of a checkpoint, or that of an ONNX file (``*.onnx``).

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no safetensors file, was not written by this package, or by a later format of it; for ONNX files see
        :func:`fastconv.onnx.load`.
    """
    from fastconv.nn.model import Model

    if _is_onnx(path):
        from fastconv import onnx

        return onnx.load(path)
    metadata, tensors = read(path)
    if KEY not in metadata:
        raise ValueError(f"{os.fspath(path)} holds tensors but no net of fastconv")
    description = parse(path, metadata[KEY], FORMAT)
    return Model.from_graph(
        _graph_from_config(description["graph"]),
        {name: tensor for name, tensor in tensors.items() if not is_extra(name)},
        seed=description["seed"],
        dtype=description["dtype"],
        regularizers={name: Regularizer(**factors) for name, factors in description["regularizers"].items()},
        frozen=description["frozen"],
        name=description.get("name"),  # absent from older files
    )


def load_weights(model: Model, path: Path) -> None:
    """Overwrite the parameters of ``model`` with those of a file: weights alone, a net, or a checkpoint.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, it is no safetensors file, or its parameters are not the model's.
    """
    _, tensors = read(path)
    try:
        model.set_weights({name: tensor for name, tensor in tensors.items() if not is_extra(name)})
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from None


def extra_name(number: int) -> str:
    """Name of a tensor that is no parameter."""
    return f"{_EXTRA}{number}"


def is_extra(name: str) -> bool:
    """Whether a tensor of a file is no parameter of its net."""
    return name.startswith(_EXTRA) and "." not in name


def describe(model: Model) -> str:
    """The net but for its parameters, as JSON."""
    description = {
        "format": FORMAT,
        "seed": model.seed,
        "dtype": model.dtype.name,
        "name": model.name,
        "graph": _graph_to_config(model.graph),
        "regularizers": {name: asdict(regularizer) for name, regularizer in model.regularizers.items()},
        "frozen": sorted(model.frozen),
    }
    return json.dumps(description)


def write(path: Path, tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """Replace the file at ``path`` by one of these tensors, at once."""
    safetensors = require("safetensors.numpy", extra="demo")
    path = os.fspath(path)
    temporary = f"{path}.tmp"  # one name: what a process leaves that ends here, the next one writes over
    contiguous = {name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}
    content = safetensors.save(contiguous, metadata=dict(metadata))
    with open(
        temporary, "wb"
    ) as file:  # save_file would give it to its owner alone, and leave files of its own
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    if os.name == "posix":  # elsewhere a folder cannot be opened
        folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def read(path: Path) -> tuple[dict[str, str], dict[str, Array]]:
    """(metadata, tensors) of a safetensors file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no safetensors file, or not a whole one.
    """
    safetensors = require("safetensors", extra="demo")
    path = os.fspath(path)
    if not os.path.exists(path):
        raise FileNotFoundError(f"no such file: {path}")
    try:
        with safetensors.safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            return metadata, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(f"{path} is not a safetensors file, or not a whole one: {error}") from None


def parse(path: Path, text: str | None, newest: int) -> dict[str, Any]:
    """A JSON object of the metadata, of a format that is known.

    Raises
    ------
    ValueError
        If it is none, or of a later format.
    """
    try:
        value = json.loads(text or "")
        written = value["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{os.fspath(path)} is damaged: {error}") from None
    if written != newest:
        raise ValueError(f"{os.fspath(path)} has format {written}, this version reads format {newest}")
    return value


def _graph_to_config(graph: Graph) -> dict[str, Any]:
    return {
        "inputs": dict(graph.inputs),
        "nodes": [
            {"name": node.name, "inputs": node.inputs, "params": node.params, **to_config(node.op)}
            for node in graph.nodes
        ],
        "outputs": graph.outputs,
    }


def _graph_from_config(config: dict[str, Any]) -> Graph:
    nodes = []
    for entry in config["nodes"]:
        name, inputs, params = entry.pop("name"), entry.pop("inputs"), entry.pop("params")
        nodes.append(Node(name=name, op=from_config(entry), inputs=tuple(inputs), params=tuple(params)))
    return Graph(
        inputs={name: tuple(shape) for name, shape in config["inputs"].items()},
        nodes=tuple(nodes),
        outputs=tuple(config["outputs"]),
    )
