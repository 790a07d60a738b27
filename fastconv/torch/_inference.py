"""Inference under ``torch.compile``: parts of a traced graph become inference plans with the parameters frozen in.

A plan is made in the first call and again when a parameter has changed since.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx
from torch.fx.passes.infra.partitioner import CapabilityBasedPartitioner
from torch.fx.passes.operator_support import OperatorSupportBase

from fastconv.graph import Graph
from fastconv.plan import InferencePlan
from fastconv.torch._aten import Constant, Translation, Untranslatable, constants_of
from fastconv.torch._kernels import as_array, as_tensor

Array = NDArray[Any]

_SAMPLES = 16  # elements of a parameter that are looked at to notice a change behind PyTorch's back


def plan_inference(gm: fx.GraphModule, static: Sequence[int]) -> None:
    """Replace the parts of a functional graph that a plan serves; ``static`` numbers the placeholders that are parameters."""
    placeholders = gm.graph.find_nodes(op="placeholder")
    sources = {placeholders[index] for index in static}
    constant = constants_of(gm.graph, sources)
    batch = _batch_size(node for node in placeholders if node not in sources)
    if batch is None:
        return
    support = _Support(batch, constant)
    partitioner = CapabilityBasedPartitioner(gm, support, allows_single_node_partition=True)
    worthwhile = [
        part
        for part in partitioner.propose_partitions()
        if any(support.macs.get(node) for node in part.nodes)
    ]
    partitioner.fuse_partitions(worthwhile, prefix="fastconv_plan_")
    for node in gm.graph.find_nodes(op="call_module"):
        _call_plan(gm, node, batch, constant, [each for each in placeholders if each in sources])
    gm.graph.eliminate_dead_code()
    gm.delete_all_unused_submodules()


def _batch_size(inputs: Any) -> Any:
    """First size of the first input that has one."""
    values = (node.meta["val"] for node in inputs)
    return next((value.shape[0] for value in values if isinstance(value, Tensor) and value.ndim), None)


class _Support(OperatorSupportBase):
    """Which nodes can be part of a plan."""

    def __init__(self, batch: Any, constant: set[fx.Node]) -> None:
        self.batch, self.constant = batch, constant
        self.macs: dict[fx.Node, int] = {}
        self._verdicts: dict[fx.Node, bool] = {}

    def is_node_supported(self, submodules: Any, node: fx.Node) -> bool:
        if node not in self._verdicts:
            self._verdicts[node] = self._judge(node)
        return self._verdicts[node]

    def _judge(self, node: fx.Node) -> bool:
        if node.op != "call_function" or node in self.constant:
            return False
        if node.target is operator.getitem:
            return self.is_node_supported(None, node.all_input_nodes[0])
        alone = Translation(self.batch, self.constant)
        try:
            for source in node.all_input_nodes:
                if source not in self.constant and isinstance(source.meta.get("val"), Tensor):
                    alone.input(source)
            alone.translate(node)
            graph = Graph(inputs=alone.inputs, nodes=tuple(alone.nodes), outputs=tuple(alone.inputs))
        except (Untranslatable, KeyError):
            return False
        self.macs[node] = sum(graph.macs(each) for each in graph.nodes)
        # Of several results only the first is there.
        return not isinstance(node.meta["val"], tuple) or all(user.args[1] == 0 for user in node.users)


def _call_plan(
    gm: fx.GraphModule, node: fx.Node, batch: Any, constant: set[fx.Node], sources: list[fx.Node]
) -> None:
    """Call a plan in the place of a part of the graph."""
    part = gm.get_submodule(str(node.target)).graph
    given = dict(zip(part.find_nodes(op="placeholder"), node.args, strict=True))
    translation = Translation(batch, {inner for inner, outer in given.items() if outer in constant})
    inputs = []
    for inner, outer in given.items():
        if inner not in translation.constant and isinstance(inner.meta["val"], Tensor):
            translation.input(inner)
            inputs.append(outer)
    for inner in part.nodes:
        if inner.op == "call_function":
            translation.translate(inner)
    (results,) = part.output_node().args
    outputs = results if isinstance(results, tuple) else (results,)
    folds = {name: (given[each.node], each) for name, each in translation.params.items()}
    needed = [source for source in sources if any(_depends(outer, source) for outer, _ in folds.values())]
    plan = Plan(
        graph=translation.graph(outputs),
        dtype=str(translation.dtype).removeprefix("torch."),
        sources=tuple(needed),
        folds=folds,
        orders=tuple(_memory_order(output.meta["val"]) for output in outputs),
        alone=not isinstance(results, tuple),
    )
    with gm.graph.inserting_before(node):
        call = gm.graph.call_function(plan, (tuple(inputs), tuple(needed)))
    call.meta = dict(node.meta)
    node.replace_all_uses_with(call)
    gm.graph.erase_node(node)


def _depends(node: fx.Node, source: fx.Node) -> bool:
    return node is source or any(_depends(each, source) for each in node.all_input_nodes)


def _memory_order(value: Tensor) -> tuple[int, ...] | None:
    """Axes from the slowest to the fastest where that is not their order."""
    strides = [stride if isinstance(stride, int) else stride.node.hint for stride in value.stride()]
    order = tuple(sorted(range(value.ndim), key=lambda axis: -strides[axis]))
    sizes = [value.shape[axis] for axis in order]
    in_order = order == tuple(range(value.ndim))
    return None if in_order or any(size == 0 for size in sizes if isinstance(size, int)) else order
