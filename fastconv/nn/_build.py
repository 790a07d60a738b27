"""From symbolic tensors to a graph, parameters and penalties."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv.graph import Graph, Node
from fastconv.nn.initializers import Constant
from fastconv.nn.layers import Layer, Tensor
from fastconv.nn.regularizers import Regularizer
from fastconv.ops import derive_seed

Array = NDArray[Any]

_ZEROS = Constant(0.0)


@dataclass(frozen=True)
class Blueprint:
    """A traced net: its graph, the layers by name, and what training may move and penalises."""

    graph: Graph
    layers: Mapping[str, Layer]
    frozen: frozenset[str]  # parameters that training leaves alone
    regularizers: Mapping[str, Regularizer]  # by parameter


def trace(inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> Blueprint:
    """Collect what lies between ``inputs`` and ``outputs``, and name it.

    A layer without a name is called after its op with a running number; further uses of one layer get ``@2``,
    ``@3``.

    Raises
    ------
    ValueError
        If an output depends on an input that is not listed, or a listed one is not used.
    """
    needed = _ancestors(outputs)
    values: dict[int, str] = {}  # serial of a tensor -> name of its input or node
    for number, value in enumerate(inputs, start=1):
        if value.layer is not None:
            raise ValueError(f"the inputs of a model come from nn.Input, got {value!r}")
        if value.serial not in needed:
            raise ValueError(f"input number {number} of the model is not used by its outputs")
        values[value.serial] = value.name or ("input" if len(inputs) == 1 else f"input_{number}")

    layers: dict[str, Layer] = {}
    labels: dict[int, str] = {}  # id of a layer -> its name
    kinds: Counter[str] = Counter()
    uses: Counter[str] = Counter()
    nodes: list[Node] = []
    for serial in sorted(needed):
        value = needed[serial]
        if serial in values:
            continue
        layer = value.layer
        if layer is None:
            raise ValueError(f"the outputs depend on {value!r}, which is not among the model's inputs")
        shapes = tuple(source.shape for source in value.inputs)
        op = layer.op_for(*shapes)
        label = labels.get(id(layer))
        if label is None:
            kinds[op.kind] += 1
            label = labels[id(layer)] = layer.name or f"{op.kind}_{kinds[op.kind]}"
            if label in layers:
                raise ValueError(f"two layers of the model are called {label!r}")
            layers[label] = layer
        uses[label] += 1
        values[serial] = label if uses[label] == 1 else f"{label}@{uses[label]}"
        nodes.append(
            Node(
                name=values[serial],
                op=op,
                inputs=tuple(values[source.serial] for source in value.inputs),
                params=tuple(f"{label}.{key}" for key in op.param_shapes(*shapes)),
            )
        )
    graph = Graph(
        inputs={values[value.serial]: value.shape for value in inputs},
        nodes=tuple(nodes),
        outputs=tuple(values[value.serial] for value in outputs),
    )
    return Blueprint(
        graph=graph,
        layers=layers,
        frozen=frozenset(
            f"{label}.{key}"
            for label, layer in layers.items()
            if not layer.trainable
            for key in _keys(graph, label)
        ),
        regularizers={
            f"{label}.{key}": regularizer
            for label, layer in layers.items()
            for key, regularizer in layer.regularizers.items()
            if f"{label}.{key}" in graph.param_shapes
        },
    )


def initial_params(blueprint: Blueprint, seed: int, dtype: np.dtype[Any]) -> dict[str, Array]:
    """Initial parameters; each is a pure function of (seed, its name, its shape)."""
    params = {}
    for name, shape in blueprint.graph.param_shapes.items():
        label, _, key = name.rpartition(".")
        initializer = blueprint.layers[label].initializers.get(key, _ZEROS)
        params[name] = initializer(shape, derive_seed(seed, "init", name)).astype(dtype)
    return params


def _keys(graph: Graph, label: str) -> list[str]:
    return list(graph.param_names[label])


def _ancestors(outputs: Sequence[Tensor]) -> dict[int, Tensor]:
    """All tensors that ``outputs`` depend on, themselves included, by serial."""
    found: dict[int, Tensor] = {}
    waiting = list(outputs)
    while waiting:
        value = waiting.pop()
        if value.serial not in found:
            found[value.serial] = value
            waiting.extend(value.inputs)
    return found
