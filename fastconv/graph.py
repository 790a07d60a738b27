"""A network as data: named nodes in topological order, and the forward walk over them.

Every interpreter (forward, backward, summary, receptive field, export) walks the same :class:`Graph` and
speaks to an op only through :class:`fastconv.ops.Op`.  A graph holds no arrays: parameters are a dictionary
beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from numpy.typing import NDArray

from fastconv._spec import Shape
from fastconv.ops import Context, Op

Array = NDArray[Any]


@dataclass(frozen=True)
class Node:
    """One use of an op.

    Parameters
    ----------
    name
        Unique in the graph; also the name of the node's output.
    op
        What it computes.
    inputs
        Names of graph inputs or earlier nodes.
    params
        Full names of its parameters, in the order of ``op.param_shapes``.  Nodes that share a layer name the
        same ones.
    """

    name: str
    op: Op
    inputs: tuple[str, ...]
    params: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Graph:
    """A directed acyclic graph of ops over inputs of known shape; the batch size is left open.

    Parameters
    ----------
    inputs
        Shape of one sample for each input name.
    nodes
        In topological order: a node comes after what it uses.
    outputs
        Names of the results.

    Raises
    ------
    ValueError
        If a name is used twice or not at all defined before its use, or if shapes do not fit; the message
        names the node.
    """

    inputs: Mapping[str, Shape]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]

    def __post_init__(self) -> None:
        self._check_names()
        self.shapes, self.param_shapes  # noqa: B018  (shape errors show up here, not in the first forward pass)

    def _check_names(self) -> None:
        known = set(self.inputs)
        for node in self.nodes:
            for name in node.inputs:
                if name not in known:
                    raise ValueError(
                        f"node {node.name!r} uses {name!r}, which no input or earlier node is called"
                    )
            if node.name in known:
                raise ValueError(f"names of inputs and nodes must be unique, got {node.name!r} twice")
            known.add(node.name)
        if not self.outputs:
            raise ValueError("a graph needs at least one output")
        for name in self.outputs:
            if name not in known:
                raise ValueError(f"output {name!r} is no input or node of the graph")

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """Shape of one sample of every input and node."""
        shapes = {name: tuple(shape) for name, shape in self.inputs.items()}
        for node in self.nodes:
            try:
                shapes[node.name] = node.op.infer_shape(*(shapes[name] for name in node.inputs))
            except ValueError as error:
                raise ValueError(f"layer {node.name!r}: {error}") from None
        return shapes

    def input_shapes(self, node: Node) -> tuple[Shape, ...]:
        """Shapes of what a node uses."""
        return tuple(self.shapes[name] for name in node.inputs)

    @cached_property
    def param_shapes(self) -> dict[str, Shape]:
        """Shape of every parameter, by full name, in order of first use."""
        shapes: dict[str, Shape] = {}
        for node in self.nodes:
            expected = node.op.param_shapes(*self.input_shapes(node))
            if len(expected) != len(node.params):
                raise ValueError(
                    f"layer {node.name!r} has parameters {list(expected)}, got names {node.params}"
                )
            for name, shape in zip(node.params, expected.values(), strict=True):
                if shapes.setdefault(name, shape) != shape:
                    raise ValueError(
                        f"layer {node.name!r}: parameter {name!r} is shared by uses that need shapes "
                        f"{shapes[name]} and {shape}"
                    )
        return shapes

    @cached_property
    def param_names(self) -> dict[str, dict[str, str]]:
        """Per node, the full names of its parameters by the names that its op uses."""
        return {
            node.name: dict(zip(node.op.param_shapes(*self.input_shapes(node)), node.params, strict=True))
            for node in self.nodes
        }

    @cached_property
    def trainable(self) -> tuple[str, ...]:
        """Names of the parameters that have a gradient (running statistics have none)."""
        state = {self.param_names[node.name][key] for node in self.nodes for key in node.op.state}
        return tuple(name for name in self.param_shapes if name not in state)

    @cached_property
    def _by_name(self) -> dict[str, Node]:
        return {node.name: node for node in self.nodes}

    def node(self, name: str) -> Node:
        """The node called ``name``.

        Raises
        ------
        KeyError
            If there is none; the message lists the names.
        """
        try:
            return self._by_name[name]
        except KeyError:
            raise KeyError(f"no node {name!r}; the nodes are {', '.join(self._by_name)}") from None

    def leading_to(self, names: Collection[str]) -> tuple[Node, ...]:
        """The nodes that some values depend on, those that make them included, in their order."""
        needed, nodes = set(names), []
        for node in reversed(self.nodes):
            if node.name in needed:
                needed.update(node.inputs)
                nodes.append(node)
        return tuple(reversed(nodes))

    def local_params(self, node: Node, params: Mapping[str, Array]) -> dict[str, Array]:
        """A node's parameters by the names that its op uses."""
        return {key: params[name] for key, name in self.param_names[node.name].items()}

    @cached_property
    def constants(self) -> frozenset[str]:
        """Names of the nodes that no input reaches: the batch axis of their arrays is 1, whatever that of others."""
        found: set[str] = set()
        for node in self.nodes:
            if found.issuperset(node.inputs):
                found.add(node.name)
        return frozenset(found)

    def is_uniform(self, node: Node) -> bool:
        """Whether a node's inputs and output are arrays of one shape, the batch axis included."""
        names = (node.name, *node.inputs)
        return len({self.shapes[name] for name in names}) == 1 and self.constants.isdisjoint(names)

    def macs(self, node: Node) -> int:
        """Multiply-accumulates of a node for one sample."""
        return node.op.macs(*self.input_shapes(node))

    @cached_property
    def last_uses(self) -> tuple[tuple[str, ...], ...]:
        """For each node, the values that nobody needs after it (outputs of the graph included)."""
        last: dict[str, int] = dict.fromkeys(self.inputs, -1)
        for index, node in enumerate(self.nodes):
            last[node.name] = index
            for name in node.inputs:
                last[name] = index
        dying: list[list[str]] = [[] for _ in self.nodes]
        for name, index in last.items():
            if index >= 0:
                dying[index].append(name)
        return tuple(tuple(names) for names in dying)


Observer = Callable[[str, Array], None]  # is shown a value by its name; may read it during the call
Tape = list[tuple[Node, Any]]  # nodes in the order in which they ran, with what their backward pass needs


def forward(
    graph: Graph,
    params: Mapping[str, Array],
    inputs: Mapping[str, Array],
    context: Context | None = None,
    *,
    keep: Collection[str] = (),
    tape: Tape | None = None,
    observe: Observer | None = None,
) -> dict[str, Array]:
    """Run a graph; a value is freed after its last use unless it is an output or in ``keep``.

    Parameters
    ----------
    graph, params
        The network.  Parameters have the dtype of the inputs.
    inputs
        An array of shape (N, *shape) per graph input, C-contiguous.  Values that depend on none have N = 1.
    context
        Training or inference, and the key of the random masks; inference if None.
    keep
        Names of further inputs and nodes to return.
    tape
        An empty list to be filled with what :func:`fastconv.autodiff.backward` needs; None if there will be
        none.
    observe
        Called with every node's name and output as soon as it is there; the array is its only during the call.

    Returns
    -------
    dict of str to ndarray
        Outputs and kept values.  Arrays may share memory: treat them as read-only.
    """
    context = context or Context()
    returned = {*graph.outputs, *keep}
    values = dict(inputs)
    for node, dying in zip(graph.nodes, graph.last_uses, strict=True):
        here = Context(
            training=context.training,
            recording=tape is not None,
            seed=context.seed,
            step=context.step,
            node=node.name,
        )
        operands = tuple(values[name] for name in node.inputs)
        values[node.name], saved = node.op.forward(operands, graph.local_params(node, params), here)
        if tape is not None:
            tape.append((node, saved))
        if observe is not None:
            observe(node.name, values[node.name])
        del operands, saved
        for name in dying:
            if name not in returned:
                del values[name]
    return {name: value for name, value in values.items() if name in returned}
