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
    labels: dict[object, str] = {}  # identity of a layer -> its name
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
        label = labels.get(layer.identity)
        if label is None:
            kinds[op.kind] += 1
            label = labels[layer.identity] = layer.name or f"{op.kind}_{kinds[op.kind]}"
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
            for key in graph.param_names[label]
            if not layer.trains(key)
        ),
        regularizers={
            f"{label}.{key}": regularizer
            for label, layer in layers.items()
            for key, regularizer in layer.regularizers.items()
            if f"{label}.{key}" in graph.param_shapes
        },
    )


def initial_params(blueprint: Blueprint, seed: int, dtype: np.dtype[Any]) -> dict[str, Array]:
    """Parameters: those of the layers of other models as they are, others made anew.

    Each of these is a pure function of (seed, its name, its shape).

    Raises
    ------
    TypeError
        If a shared parameter is not of ``dtype``.
    """
    params = {}
    for name, shape in blueprint.graph.param_shapes.items():
        label, _, key = name.rpartition(".")
        layer = blueprint.layers[label]
        shared = layer.values().get(key)
        if shared is None:
            initializer = layer.initializers.get(key, _ZEROS)
            params[name] = initializer(shape, derive_seed(seed, "init", name)).astype(dtype)
        elif shared.dtype == dtype:
            params[name] = shared
        else:
            raise TypeError(
                f"parameter {name!r} is shared with a model of {shared.dtype}, this one is {dtype}"
            )
    return params


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
