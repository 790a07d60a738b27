"""A graph that computes the same outputs and gradients with less traffic through the memory."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from fastconv.graph import Graph, Node
from fastconv.ops import Activation, Add, BatchNorm, MaxPool
from fastconv.ops._base import attributes
from fastconv.ops.fused import RELU, AddReLU, BatchNormReLU


def fuse(graph: Graph) -> Graph:
    """Join and reorder nodes where nobody can tell by the outputs.

    - A ReLU behind a batch normalisation or a sum of two values of one shape becomes part of it.
    - A max-pooling comes before a ReLU or ReLU6, which then has a fraction of the elements to look at.  Both are
      monotone, so the maximum is the same; where their plateau makes equal maxima, no gradient passes either way.

    Values between the outputs may be missing or others under the same name: whoever wants to see them runs the
    original.  Gradients and running statistics are those of the original to rounding.
    """
    uses = Counter(name for node in graph.nodes for name in node.inputs)
    uses.update(graph.outputs)
    nodes: dict[str, Node] = {}  # in topological order
    for node in graph.nodes:
        before = nodes.get(node.inputs[0]) if len(node.inputs) == 1 else None
        nodes[node.name] = node
        if before is None or uses[before.name] > 1:
            continue
        if node.op == RELU and type(before.op) is BatchNorm:
            del nodes[before.name]
            nodes[node.name] = replace(before, name=node.name, op=BatchNormReLU(**attributes(before.op)))
        elif (
            node.op == RELU
            and type(before.op) is Add
            and len(before.inputs) == 2
            and graph.is_uniform(before)
        ):
            del nodes[before.name]
            nodes[node.name] = replace(before, name=node.name, op=AddReLU())
        elif type(node.op) is MaxPool and _has_plateaus(before):
            nodes[before.name], nodes[node.name] = replace(before, op=node.op), replace(node, op=before.op)
    return Graph(graph.inputs, tuple(nodes.values()), graph.outputs)


def _has_plateaus(node: Node) -> bool:
    """Whether a node is a monotone function that is constant wherever it maps different values to one."""
    return isinstance(node.op, Activation) and node.op.function in ("relu", "relu6")
