"""Inference under ``torch.compile``: parts of a traced graph become inference plans with the parameters frozen in.

A plan is made in the first call and again when a parameter has changed since.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx
from torch.fx.passes.infra.partitioner import CapabilityBasedPartitioner
from torch.fx.passes.operator_support import OperatorSupportBase
from torch.nn import functional as F

from fastconv.graph import Graph, Node
from fastconv.ops import Context, Unary
from fastconv.plan import InferencePlan
from fastconv.torch._aten import TABLE
from fastconv.torch._kernels import as_array, as_tensor, in_order, memory_order
from fastconv.torch._translation import (
    Activation,
    Constant,
    Translation,
    constants_of,
    folding_of,
    param_tensors,
)

Array = NDArray[Any]

_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64, 16: torch.complex128}  # by bytes


def plan_inference(gm: fx.GraphModule, static: Sequence[int]) -> None:
    """Replace the parts of a functional graph that plans serve; ``static`` numbers the placeholders of parameters."""
    sources = _parameters(gm, static)
    batch = _batch_size(node for node in gm.graph.find_nodes(op="placeholder") if node not in sources)
    if batch is None:
        return
    support = _Support(batch, constants_of(gm.graph, sources))
    partitioner = CapabilityBasedPartitioner(gm, support, allows_single_node_partition=True)
    worthwhile = [
        part
        for part in partitioner.propose_partitions()
        if any(support.macs.get(node) for node in part.nodes)
    ]
    partitioner.fuse_partitions(worthwhile, prefix="fastconv_plan_")
    sources = _parameters(gm, static)  # of the graph as it is now
    constant = constants_of(gm.graph, sources)
    for node in gm.graph.find_nodes(op="call_module"):
        _call_plan(gm, node, batch, constant, sources)
    gm.graph.eliminate_dead_code()
    gm.delete_all_unused_submodules()


def _parameters(gm: fx.GraphModule, static: Sequence[int]) -> list[fx.Node]:
    placeholders = gm.graph.find_nodes(op="placeholder")
    return [placeholders[index] for index in static]


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
        alone = Translation(self.batch, self.constant, TABLE)
        try:
            for source in node.all_input_nodes:
                if source not in self.constant and isinstance(source.meta.get("val"), Tensor):
                    alone.input(source)
            alone.translate(node)
            graph = Graph(inputs=alone.inputs, nodes=tuple(alone.nodes), outputs=tuple(alone.inputs))
        except (ValueError, KeyError):
            return False
        self.macs[node] = sum(graph.macs(each) for each in graph.nodes)
        result = alone.values[node]
        return isinstance(result, Activation) or all(result[user.args[1]] is not None for user in node.users)


def _call_plan(
    gm: fx.GraphModule, node: fx.Node, batch: Any, constant: set[fx.Node], sources: list[fx.Node]
) -> None:
    """Call a plan in the place of a part of the graph."""
    name = str(node.target)
    part = gm.get_submodule(name).graph
    given = dict(zip(part.find_nodes(op="placeholder"), node.args, strict=True))
    frozen = {inner for inner, outer in given.items() if outer in constant}
    translation = Translation(batch, frozen, TABLE)
    inputs = []
    for inner, outer in given.items():
        if inner not in frozen and isinstance(inner.meta["val"], Tensor):
            translation.input(inner)
            inputs.append(outer)
    for inner in part.nodes:
        if inner.op == "call_function":
            translation.translate(inner)
    (results,) = part.output_node().args
    outputs = results if isinstance(results, tuple) else (results,)
    folding, needed = folding_of(gm, [given[node] for node in translation.folded], sources)
    translation.nodes = [_with_kernel(each) for each in translation.nodes]
    plan = Plan(
        graph=translation.graph(outputs),
        dtype=str(translation.dtype).removeprefix("torch."),
        folding=folding,
        params=translation.params,
        orders=tuple(memory_order(output.meta["val"]) for output in outputs),
        alone=not isinstance(results, tuple),
    )
    gm.set_submodule(name, plan)
    node.args = (tuple(inputs), tuple(needed))


_FUNCTIONS: dict[str, Callable[[Tensor, float, float], Tensor]] = {
    "celu": lambda x, alpha, beta: F.celu(x, alpha),
    "elu": lambda x, alpha, beta: F.elu(x, alpha),
    "erf": lambda x, alpha, beta: torch.erf(x),
    "gelu": lambda x, alpha, beta: F.gelu(x),
    "gelu_tanh": lambda x, alpha, beta: F.gelu(x, approximate="tanh"),
    "mish": lambda x, alpha, beta: F.mish(x),
    "selu": lambda x, alpha, beta: torch.ops.aten.elu(x, alpha, beta),
}


@dataclass(frozen=True, kw_only=True)
class _UnaryOfTorch(Unary):
    """A function that only PyTorch has a kernel for, called amid a plan so that the layout is kept."""

    def forward(
        self, inputs: tuple[Array, ...], params: dict[str, Array], context: Context
    ) -> tuple[Array, Any]:
        result = _FUNCTIONS[self.function](as_tensor(*inputs), *self.numbers)
        return as_array(result, self.function), None


def _with_kernel(node: Node) -> Node:
    if not isinstance(node.op, Unary) or node.op.function not in _FUNCTIONS:
        return node
    op = node.op
    return replace(node, op=_UnaryOfTorch(function=op.function, alpha=op.alpha, beta=op.beta))


class Plan(torch.nn.Module):
    """A part of a graph that runs as an inference plan.

    Parameters
    ----------
    graph : Graph
    dtype : str
    folding : callable
        From the parameters of the module to the values of the constants.
    params : mapping of str to Constant
        The graph's parameters, in the order of those.
    orders : sequence of (tuple of int or None)
        Of each output's axes in memory.
    alone : bool
        Whether the result is the only output itself and not a tuple.
    """

    def __init__(
        self,
        graph: Graph,
        dtype: str,
        folding: Callable[..., Sequence[Tensor]],
        params: Mapping[str, Constant],
        orders: Sequence[tuple[int, ...] | None],
        alone: bool,
    ) -> None:
        super().__init__()
        self.graph, self.dtype, self.params = graph, dtype, params
        self.folding, self.orders, self.alone = folding, orders, alone
        self.plan: InferencePlan | None = None
        self._versions: list[tuple[int, int]] = []
        self._looks: list[Array] = []
        self._seen: list[bytes] = []

    def forward(self, inputs: Sequence[Tensor], sources: Sequence[Tensor]) -> Any:
        """Outputs for inputs, with the parameters that follow from ``sources`` as they are now."""
        versions = [(each.data_ptr(), 0 if each.is_inference() else each._version) for each in sources]
        if (
            self.plan is None
            or versions != self._versions
            or self._seen != [each.tobytes() for each in self._looks]
        ):
            self.plan = self._freeze(sources)
            self._versions = versions
            self._looks = [_look(each) for each in sources]
            self._seen = [each.tobytes() for each in self._looks]
        arrays = [as_array(each, "input") for each in inputs]
        if len(arrays[0]):
            results = self.plan(dict(zip(self.graph.inputs, arrays, strict=True)))
        else:
            results = {
                name: np.empty((0, *self.graph.shapes[name]), self.dtype) for name in self.graph.outputs
            }
        tensors = []
        for name, order in zip(self.graph.outputs, self.orders, strict=True):
            own = _own_memory(results[name], arrays)
            arrays.append(own)
            tensors.append(in_order(as_tensor(own), order))
        return tensors[0] if self.alone else tuple(tensors)

    def _freeze(self, sources: Sequence[Tensor]) -> InferencePlan:
        with torch.no_grad():
            tensors = param_tensors(self.params, self.folding(*sources), getattr(torch, self.dtype))
        params = {name: as_array(tensor, name) for name, tensor in tensors.items()}
        return InferencePlan(self.graph, params, self.dtype)


def _look(tensor: Tensor) -> Array:
    """A few elements of a tensor, as a view: they show changes that its version does not, as of ``.data``."""
    array: Array = tensor.detach().view(_BITS[tensor.element_size()]).numpy()
    return array[tuple(slice(None, None, max(1, size // 2)) for size in array.shape)]


def _own_memory(array: Array, others: Sequence[Array]) -> Array:
    """The array, copied where it is not writeable, not contiguous, or shares its memory with others."""
    array = np.ascontiguousarray(array)
    shared = not array.flags.writeable or any(np.may_share_memory(array, other) for other in others)
    return array.copy() if shared else array
