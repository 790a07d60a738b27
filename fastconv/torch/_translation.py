"""From a graph that PyTorch has traced to a :class:`fastconv.graph.Graph`.

A traced graph has two kinds of values.  *Constants* depend on parameters, buffers and literals alone; PyTorch computes
them, and they become parameters.  *Activations* have the batch as their first axis: what would move, cut or mix it is
refused.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx

from fastconv import ops
from fastconv._spec import Shape
from fastconv.graph import Graph, Node
from fastconv.torch._kernels import DTYPES


class Untranslatable(ValueError):
    """An operator, or its use, that no op of a graph stands for."""


@dataclass(frozen=True)
class Constant:
    """A value that depends on no input: that of a node, or a number, to become a parameter of ``shape``."""

    source: fx.Node | float
    shape: Shape
    transposed: bool = False  # whether the parameter has the two axes of the value swapped

    def param(self, value: Tensor) -> Tensor:
        """What the parameter holds, from the value."""
        return (value.t() if self.transposed else value).reshape(self.shape)

    @property
    def t(self) -> Constant:
        """The transposed matrix."""
        if len(self.shape) != 2:
            raise Untranslatable(f"a matrix has two axes, got shape {self.shape}")
        return Constant(self.source, self.shape[::-1], not self.transposed)


@dataclass(frozen=True)
class Activation:
    """A value of the graph by its name, with the shape of one sample."""

    name: str
    shape: Shape


def constants_of(graph: fx.Graph, given: Collection[fx.Node]) -> set[fx.Node]:
    """Nodes that depend on ``given`` and on literals alone, and that are the same in every call."""
    constant = set(given)
    for node in graph.nodes:
        if node.op == "get_attr" or (
            node.op == "call_function"
            and _is_repeatable(node.target)
            and all(source in constant for source in node.all_input_nodes)
        ):
            constant.add(node)
    return constant


def folding_of(
    gm: fx.GraphModule, constants: Sequence[fx.Node], sources: Sequence[fx.Node]
) -> tuple[fx.GraphModule, list[fx.Node]]:
    """What computes the values of ``constants``, and the sources that it takes."""
    needed = set(constants)
    for node in reversed(gm.graph.nodes):
        if node in needed:
            needed.update(node.all_input_nodes)
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in gm.graph.nodes:
        if node in needed:
            copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(tuple(copies[node] for node in constants))
    return fx.GraphModule(gm, graph), [node for node in sources if node in needed]


def param_tensors(
    params: Mapping[str, Constant], folded: Sequence[Tensor], dtype: torch.dtype
) -> dict[str, Tensor]:
    """Parameters of a graph, those that come from nodes from the nodes' values in order."""
    values = iter(folded)
    return {
        name: constant.param(
            next(values) if isinstance(constant.source, fx.Node) else torch.tensor(constant.source)
        ).to(dtype)
        for name, constant in params.items()
    }


def _is_repeatable(target: Any) -> bool:
    if isinstance(target, torch._ops.OpOverload):
        return not target._schema.is_mutable and torch.Tag.nondeterministic_seeded not in target.tags
    return target is operator.getitem


@dataclass
class Translation:
    """A graph in the making.

    Parameters
    ----------
    batch : int or SymInt
        The first size of every activation.
    constant : collection of fx.Node
        See :func:`constants_of`.
    table : mapping of operator to callable
        The functions that translate: ``(Uses, **arguments of the operator) -> Activation or tuple``.
    training : bool
        Whether the graph may be trained: then dropout and the like stand for themselves, in training as traced.
    param_name, node_name : callable
        Name of the parameter that a node becomes; name of the node that stands for one, if it is free.
    """

    batch: Any
    constant: Collection[fx.Node]
    table: Mapping[Any, Callable[..., Any]]
    training: bool = False
    param_name: Callable[[fx.Node], str] = lambda node: node.name
    node_name: Callable[[fx.Node], str] = lambda node: node.name
    inputs: dict[str, Shape] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    params: dict[str, Constant] = field(default_factory=dict)
    values: dict[fx.Node, Any] = field(default_factory=dict)
    dtype: torch.dtype | None = None

    def is_batch(self, size: Any) -> bool:
        """Whether a size is the batch's, without a guard where they are symbols."""
        if isinstance(size, int) or isinstance(self.batch, int):
            return isinstance(size, int) and isinstance(self.batch, int) and size == self.batch
        return bool(size.node.expr == self.batch.node.expr)

    def input(self, node: fx.Node) -> None:
        """Take a node's value as an input of the graph."""
        shape = self.sample_shape(node.meta["val"])
        self.inputs[node.name] = shape
        self.values[node] = Activation(node.name, shape)

    def sample_shape(self, value: Any) -> Shape:
        """Shape of one sample of an activation.

        Raises
        ------
        Untranslatable
            If the value is no activation of the graph's dtype on the CPU, or its sizes are not known.
        """
        if not isinstance(value, Tensor) or value.dtype not in DTYPES or value.device.type != "cpu":
            raise Untranslatable(f"activations are float32 or float64 tensors on the CPU, got {value}")
        if value.layout != torch.strided:
            raise Untranslatable(f"activations are strided tensors, got {value.layout}")
        if self.dtype not in (None, value.dtype):
            raise Untranslatable(f"all activations have one dtype, got {self.dtype} and {value.dtype}")
        self.dtype = value.dtype
        if not value.ndim or not self.is_batch(value.shape[0]):
            raise Untranslatable(f"the first axis must be the batch of {self.batch}, got {list(value.shape)}")
        if not all(isinstance(size, int) for size in value.shape[1:]):
            raise Untranslatable(f"sizes beside the batch must be numbers, got {list(value.shape)}")
        return tuple(value.shape[1:])

    def translate(self, node: fx.Node) -> None:
        """Add what stands for a node that is no constant.

        Raises
        ------
        Untranslatable
            If nothing does.
        """
        if node.target is operator.getitem:
            source, index = node.args
            self.values[node] = self.values[source][index]
            return
        function = self.table.get(node.target)
        if function is None:
            raise Untranslatable("no op stands for it")
        arguments = {name: self._operand(value) for name, value in arguments_of(node).items()}
        try:
            result = function(Uses(self, node), **arguments)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise Untranslatable(str(error)) from None
        if isinstance(result, Activation):
            expected = self.sample_shape(node.meta["val"])
            if result.shape != expected:
                raise Untranslatable(f"it gives {expected}, its op {result.shape}")
        self.values[node] = result

    def _operand(self, value: Any) -> Any:
        if isinstance(value, (tuple, list)):
            return [self._operand(each) for each in value]
        if not isinstance(value, fx.Node):
            return value
        if value in self.values:
            if self.values[value] is None:
                raise Untranslatable(f"no op stands for {value}, a result beside the first")
            return self.values[value]
        if value in self.constant and isinstance(value.meta.get("val"), Tensor):
            constant = value.meta["val"]
            shape = constant.shape
            if constant.device.type != "cpu" or constant.layout != torch.strided or constant.is_complex():
                raise Untranslatable(f"constants are strided tensors of numbers on the CPU, got {constant}")
            if not all(isinstance(size, int) for size in shape):
                raise Untranslatable(f"sizes of constants must be numbers, got {list(shape)}")
            return Constant(value, tuple(shape))
        return value

    @property
    def folded(self) -> list[fx.Node]:
        """The nodes whose values become parameters, in the order of those."""
        return [each.source for each in self.params.values() if isinstance(each.source, fx.Node)]

    def free_name(self, base: str) -> str:
        """A name for a further node of the graph."""
        taken = {*self.inputs, *(node.name for node in self.nodes)}
        names = (base, *(f"{base}_{number}" for number in range(2, len(taken) + 3)))
        return next(name for name in names if name not in taken)

    def graph(self, outputs: Sequence[fx.Node]) -> Graph:
        """What has been translated, with the values of ``outputs``."""
        names = tuple(self.values[node].name for node in outputs)
        return Graph(inputs=self.inputs, nodes=tuple(self.nodes), outputs=names)


@dataclass
class Uses:
    """What the functions of the table work with: the node they translate, and the graph it goes to."""

    translation: Translation
    node: fx.Node

    @property
    def shape(self) -> Shape:
        """Of one sample of the node's value."""
        return self.translation.sample_shape(self.node.meta["val"])

    def add(self, op: ops.Op, *inputs: Any, **params: Constant | None) -> Activation:
        """A node of the graph; ``params`` by the names that the op uses, None for those that are not there."""
        values = [self._checked(value) for value in inputs]
        given = {key: self._param(value) for key, value in params.items() if value is not None}
        shapes = tuple(value.shape for value in values)
        expected = op.param_shapes(*shapes)
        for key, shape in expected.items():
            if key not in given or self.translation.params[given[key]].shape != shape:
                raise Untranslatable(
                    f"{op.kind} takes a constant {key} of shape {shape}, got {params.get(key)}"
                )
        name = self.translation.free_name(self.translation.node_name(self.node))
        sources = tuple(value.name for value in values)
        self.translation.nodes.append(
            Node(name=name, op=op, inputs=sources, params=tuple(given[key] for key in expected))
        )
        return Activation(name, op.infer_shape(*shapes))

    def activation(self, value: Any) -> Activation:
        """A value as an activation: a constant becomes a node, which is the same for all samples."""
        if isinstance(value, (int, float)):
            value = Constant(value, ())
        if not isinstance(value, Constant):
            return self._checked(value)
        rank = max(len(each.shape) for each in self._operands())
        shape = value.shape
        if len(shape) > rank:
            if shape[: len(shape) - rank] != (1,):
                raise Untranslatable(f"a constant must be the same for the whole batch, got shape {shape}")
            shape = shape[1:]
        constant = Constant(value.source, shape, value.transposed)
        return self.add(ops.Constant(shape=shape), value=constant)

    def _operands(self) -> list[Activation]:
        """The activations that the node takes."""
        values = self.translation.values
        return [
            values[node] for node in self.node.all_input_nodes if isinstance(values.get(node), Activation)
        ]

    def _checked(self, value: Any) -> Activation:
        if not isinstance(value, Activation):
            raise Untranslatable(f"an activation is needed, got {value}")
        return value

    def _param(self, value: Any) -> str:
        if not isinstance(value, Constant):
            raise Untranslatable(f"parameters must be constants, got {value}")
        translation, source = self.translation, value.source
        base = (
            translation.param_name(source)
            if isinstance(source, fx.Node)
            else f"{translation.node_name(self.node)}.value"
        )
        name, number = base, 1
        while translation.params.setdefault(name, value) != value:  # the same value in another form
            number += 1
            name = f"{base}_{number}"
        return name


def arguments_of(node: fx.Node) -> dict[str, Any]:
    """All arguments of a call of an operator by name, defaults included."""
    names = node.target._schema.arguments
    given = {argument.name: value for argument, value in zip(names, node.args, strict=False)} | node.kwargs
    return {argument.name: given.get(argument.name, argument.default_value) for argument in names}
