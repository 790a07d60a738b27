"""Nets as safetensors files: parameters as tensors, the graph as JSON in the header; nothing is executed."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fastconv._optional import require
from fastconv.graph import Graph, Node
from fastconv.nn.regularizers import Regularizer
from fastconv.ops import from_config, to_config

if TYPE_CHECKING:
    from fastconv.nn.model import Model

_KEY = "fastconv"
_FORMAT = 1


def save(model: Model, path: str | os.PathLike[str]) -> None:
    """Write graph, parameters, penalties and seed of ``model``, but not what :meth:`Model.compile` set."""
    safetensors = require("safetensors.numpy", extra="demo")
    description = {
        "format": _FORMAT,
        "seed": model.seed,
        "dtype": model.dtype.name,
        "name": model.name,
        "graph": _graph_to_config(model.graph),
        "regularizers": {name: asdict(regularizer) for name, regularizer in model.regularizers.items()},
        "frozen": sorted(model.frozen),
    }
    safetensors.save_file(model.params, os.fspath(path), metadata={_KEY: json.dumps(description)})


def load(path: str | os.PathLike[str]) -> Model:
    """The net that :meth:`Model.save` wrote.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no safetensors file, was not written by this package, or by a later format of it.
    """
    from fastconv.nn.model import Model

    safetensors = require("safetensors", extra="demo")
    path = os.fspath(path)
    if not os.path.exists(path):
        raise FileNotFoundError(f"no such file: {path}")
    try:
        with safetensors.safe_open(path, framework="np") as file:
            text = (file.metadata() or {}).get(_KEY)
            params = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file: {error}") from None
    if text is None:
        raise ValueError(f"{path} holds tensors but no net of fastconv")
    description = json.loads(text)
    if description["format"] != _FORMAT:
        raise ValueError(f"{path} has format {description['format']}, this version reads format {_FORMAT}")
    return Model.from_graph(
        _graph_from_config(description["graph"]),
        params,
        seed=description["seed"],
        dtype=description["dtype"],
        regularizers={name: Regularizer(**factors) for name, factors in description["regularizers"].items()},
        frozen=description["frozen"],
        name=description.get("name"),  # absent from older files
    )


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
