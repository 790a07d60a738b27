"""From ATen's operators to ops of a :class:`fastconv.graph.Graph`: one function each, kept in a table.

A traced graph has two kinds of values.  *Constants* depend on parameters, buffers and literals alone; PyTorch computes
them.  *Activations* have the batch as their first axis, and the functions below must leave that axis alone: whatever
would move, cut or mix it is refused.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx

from fastconv import ops
from fastconv._spec import Shape
from fastconv.graph import Graph, Node
from fastconv.torch._kernels import DTYPES

aten = torch.ops.aten


class Untranslatable(ValueError):
    """An operator, or its use, that no op of a graph stands for."""


@dataclass(frozen=True)
class Constant:
    """The value of a node that depends on no input, to become a parameter."""

    node: fx.Node
    shape: Shape
    transposed: bool = False  # whether the parameter has its two axes swapped

    def param(self, value: Tensor) -> Tensor:
        """What the parameter holds, from the node's value."""
        return value.t() if self.transposed else value

    @property
    def t(self) -> Constant:
        """The transposed matrix."""
        rows, columns = self.shape
        return Constant(self.node, (columns, rows), not self.transposed)


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


def _is_repeatable(target: Any) -> bool:
    if isinstance(target, torch._ops.OpOverload):
        return not target._schema.is_mutable and torch.Tag.nondeterministic_seeded not in target.tags
    return target is operator.getitem


def same_size(a: Any, b: Any) -> bool:
    """Whether two sizes are equal, without a guard where they are symbols."""
    if isinstance(a, int) or isinstance(b, int):
        return isinstance(a, int) and isinstance(b, int) and a == b
    return bool(a.node.expr == b.node.expr)


@dataclass
class Translation:
    """A graph in the making.

    Parameters
    ----------
    batch : int or SymInt
        The first size of every activation.
    constant : collection of fx.Node
        See :func:`constants_of`.
    name_of : callable
        Name of a constant's parameter.
    """

    batch: Any
    constant: Collection[fx.Node]
    name_of: Callable[[fx.Node], str] = lambda node: node.name
    inputs: dict[str, Shape] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    params: dict[str, Constant] = field(default_factory=dict)
    values: dict[fx.Node, Any] = field(default_factory=dict)
    dtype: torch.dtype | None = None

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
        if not value.ndim or not same_size(value.shape[0], self.batch):
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
            result = self.values[source][index]
        else:
            function = TABLE.get(node.target)
            if function is None:
                raise Untranslatable(f"no op stands for {node.target}")
            arguments = {name: self._operand(value) for name, value in arguments_of(node).items()}
            try:
                result = function(Uses(self, node), **arguments)
            except (TypeError, ValueError) as error:
                raise Untranslatable(f"{node.target}: {error}") from None
        if isinstance(result, Activation):
            expected = self.sample_shape(node.meta["val"])
            if result.shape != expected:
                raise Untranslatable(f"{node.target} gives {expected}, its op {result.shape}")
        elif node.target is operator.getitem or not isinstance(result, tuple):
            raise Untranslatable(f"no op stands for this result of {node.target}")
        self.values[node] = result

    def _operand(self, value: Any) -> Any:
        if isinstance(value, (tuple, list)):
            return [self._operand(each) for each in value]
        if not isinstance(value, fx.Node):
            return value
        if value in self.values:
            return self.values[value]
        if value in self.constant and isinstance(value.meta.get("val"), Tensor):
            shape = value.meta["val"].shape
            if not all(isinstance(size, int) for size in shape):
                raise Untranslatable(f"sizes of constants must be numbers, got {list(shape)}")
            return Constant(value, tuple(shape))
        return value

    def free_name(self, base: str) -> str:
        """A name for a further node of the graph."""
        taken = {*self.inputs, *(node.name for node in self.nodes)}
        names = (base, *(f"{base}_part{number}" for number in range(1, len(taken) + 2)))
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
        for value in inputs:
            if not isinstance(value, Activation):
                raise Untranslatable(f"{op.kind} takes activations, got {value}")
        given = {key: self._param(value) for key, value in params.items() if value is not None}
        shapes = tuple(value.shape for value in inputs)
        expected = op.param_shapes(*shapes)
        for key, shape in expected.items():
            if key not in given or self.translation.params[given[key]].shape != shape:
                raise Untranslatable(f"{op.kind} takes a constant {key} of shape {shape}, got {params.get(key)}")
        name = self.translation.free_name(self.node.name)
        sources = tuple(value.name for value in inputs)
        self.translation.nodes.append(
            Node(name=name, op=op, inputs=sources, params=tuple(given[key] for key in expected))
        )
        return Activation(name, op.infer_shape(*shapes))

    def _param(self, value: Any) -> str:
        if not isinstance(value, Constant):
            raise Untranslatable(f"parameters must be constants, got {value}")
        name = self.translation.name_of(value.node) + (".t" if value.transposed else "")
        self.translation.params[name] = value
        return name


def arguments_of(node: fx.Node) -> dict[str, Any]:
    """All arguments of a call of an operator by name, defaults included."""
    names = node.target._schema.arguments  # type: ignore[union-attr]
    given = {argument.name: value for argument, value in zip(names, node.args, strict=False)} | node.kwargs
    return {
        argument.name: given.get(argument.name, argument.default_value) for argument in names
    }


# ----------------------------------------------------------------------------------------------------- the table


TABLE: dict[Any, Callable[..., Any]] = {}


def translates(*targets: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Put a function into the table; it gets the arguments of the operator by their names."""

    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        TABLE.update(dict.fromkeys(targets, function))
        return function

    return enter


# ---- convolution and matrix product


def _conv(
    use: Uses,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Sequence[int],
    padding: Any,
    dilation: Sequence[int],
    groups: int,
    output_padding: Sequence[int] | None = None,
) -> Activation:
    _check_constant(weight, "weight")
    ndim = len(weight.shape) - 2
    steps, spread = _each(stride, ndim), _each(dilation, ndim)
    sides = padding if isinstance(padding, str) else _each(padding, ndim)
    shared = {"kernel_size": weight.shape[2:], "stride": steps, "padding": sides, "dilation": spread}
    options: dict[str, Any] = {**shared, "groups": groups, "bias": bias is not None}
    op: ops.Op
    if output_padding is None:
        op = ops.Conv.of(ndim, weight.shape[0], **options)
    else:
        extra = _each(output_padding, ndim)
        op = ops.ConvTranspose.of(ndim, weight.shape[1] * groups, output_padding=extra, **options)
    return use.add(op, input, weight=weight, bias=bias)


def _each(values: Sequence[int], ndim: int) -> tuple[int, ...]:
    return tuple(values) * (ndim if len(values) == 1 else 1)


def _check_constant(value: Any, name: str) -> None:
    if not isinstance(value, Constant):
        raise Untranslatable(f"{name} must be a constant")


@translates(aten.convolution.default)
def _convolution(
    use: Uses,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Activation:
    extra = output_padding if transposed else None
    return _conv(use, input, weight, bias, stride, padding, dilation, groups, extra)


@translates(
    aten.conv1d.default,
    aten.conv1d.padding,
    aten.conv2d.default,
    aten.conv2d.padding,
    aten.conv3d.default,
    aten.conv3d.padding,
    aten.conv_transpose1d.default,
    aten.conv_transpose2d.input,
    aten.conv_transpose3d.input,
)
def _conv_nd(use: Uses, **arguments: Any) -> Activation:
    return _conv(use, **arguments)




def _linear(use: Uses, x: Any, weight: Any, bias: Any = None) -> Activation:
    _check_constant(weight, "weight")
    return use.add(ops.Linear(out_features=weight.shape[0], bias=bias is not None), x, weight=weight, bias=bias)


@translates(aten.linear.default)
def _linear_default(use: Uses, input: Any, weight: Any, bias: Any) -> Activation:
    return _linear(use, input, weight, bias)


@translates(aten.addmm.default)
def _addmm(use: Uses, self: Any, mat1: Any, mat2: Any, beta: float, alpha: float) -> Activation:
    if (beta, alpha) != (1, 1):
        raise Untranslatable(f"addmm takes beta 1 and alpha 1, got {beta} and {alpha}")
    _check_constant(mat2, "mat2")
    return _linear(use, mat1, mat2.t, self)


@translates(aten.mm.default)
def _mm(use: Uses, self: Any, mat2: Any) -> Activation:
    _check_constant(mat2, "mat2")
    return _linear(use, self, mat2.t)


# ---- pooling


@translates(aten.max_pool1d.default, aten.max_pool2d.default)
def _max_pool(
    use: Uses,
    self: Any,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
) -> Activation:
    ndim = len(self.shape) - 1
    window = [_each(each, ndim) for each in (kernel_size, stride or kernel_size, padding, dilation)]
    return use.add(ops.MaxPool.of(ndim, *window, ceil_mode=ceil_mode), self)


@translates(aten.max_pool2d_with_indices.default)
def _max_pool_with_indices(use: Uses, **arguments: Any) -> tuple[Activation, None]:
    return _max_pool(use, **arguments), None


@translates(aten.avg_pool1d.default, aten.avg_pool2d.default)
def _avg_pool(
    use: Uses,
    self: Any,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None = None,
) -> Activation:
    ndim = len(self.shape) - 1
    window = [_each(each, ndim) for each in (kernel_size, stride or kernel_size, padding)]
    options = (ceil_mode, count_include_pad, divisor_override)
    return use.add(ops.AvgPool.of(ndim, *window, *options), self)


@translates(
    aten.adaptive_avg_pool1d.default, aten.adaptive_avg_pool2d.default, aten._adaptive_avg_pool2d.default
)
def _adaptive_avg_pool(use: Uses, self: Any, output_size: Sequence[int]) -> Activation:
    if set(output_size) == {1}:
        return use.add(ops.GlobalAvgPool(keepdims=True), self)
    return use.add(ops.AdaptiveAvgPool.of(len(output_size), tuple(output_size)), self)


@translates(aten.adaptive_max_pool1d.default, aten.adaptive_max_pool2d.default)
def _adaptive_max_pool(use: Uses, self: Any, output_size: Sequence[int]) -> tuple[Activation, None]:
    return use.add(ops.AdaptiveMaxPool.of(len(output_size), tuple(output_size)), self), None


@translates(aten.mean.dim)
def _mean(use: Uses, self: Any, dim: Sequence[int], keepdim: bool, dtype: Any) -> Activation:
    axes = sorted(_sample_axis(axis, self) for axis in dim)
    if dtype is not None or len(self.shape) < 2 or axes != list(range(1, len(self.shape))):
        raise Untranslatable(f"means are over all spatial axes, got dim {dim}")
    return use.add(ops.GlobalAvgPool(keepdims=keepdim), self)


def _sample_axis(axis: int, value: Activation) -> int:
    """An axis of the batch as that of a sample."""
    own = axis - 1 if axis >= 0 else axis + len(value.shape)
    if own < 0:
        raise Untranslatable("the batch axis must be left alone")
    return own


# ---- normalisation, dropout, activations


def _batch_norm(
    use: Uses,
    x: Any,
    weight: Any,
    bias: Any,
    running_mean: Any,
    running_var: Any,
    momentum: float,
    eps: float,
) -> Activation:
    if (weight is None) != (bias is None):
        raise Untranslatable("batch_norm has both weight and bias or neither")
    op = ops.BatchNorm(eps=eps, momentum=momentum, affine=weight is not None)
    params = {"weight": weight, "bias": bias, "running_mean": running_mean, "running_var": running_var}
    return use.add(op, x, **params)


@translates(aten._native_batch_norm_legit_no_training.default)
def _batch_norm_eval(use: Uses, input: Any, **arguments: Any) -> tuple[Activation, None, None]:
    return _batch_norm(use, input, **arguments), None, None


@translates(aten.clone.default, aten.detach.default, aten.alias.default, aten.lift_fresh_copy.default)
def _identity(use: Uses, self: Any, memory_format: Any = None) -> Activation:
    if not isinstance(self, Activation):
        raise Untranslatable(f"copies are of activations, got {self}")
    return self


def _function(name: str) -> Callable[..., Activation]:
    def translate(use: Uses, self: Any) -> Activation:
        return use.add(ops.Activation(function=name), self)

    return translate


for _name in ("relu", "relu6", "sigmoid", "tanh"):
    translates(getattr(aten, _name).default)(_function(_name))


@translates(aten.hardtanh.default)
def _hardtanh(use: Uses, self: Any, min_val: float, max_val: float) -> Activation:
    if (min_val, max_val) != (0, 6):
        raise Untranslatable(f"hardtanh is between 0 and 6, got {min_val} and {max_val}")
    return use.add(ops.Activation(function="relu6"), self)


@translates(aten.leaky_relu.default)
def _leaky_relu(use: Uses, self: Any, negative_slope: float) -> Activation:
    return use.add(ops.Activation(function="leaky_relu", slope=negative_slope), self)


def _softmax(use: Uses, x: Any, dim: int, log: bool) -> Activation:
    if _sample_axis(dim, x) != 0:
        raise Untranslatable(f"softmax is over axis 1, got {dim}")
    return use.add(ops.Softmax(log=log), x)


@translates(aten._softmax.default, aten._log_softmax.default)
def _softmax_at_once(use: Uses, self: Any, dim: int, half_to_float: bool) -> Activation:
    return _softmax(use, self, dim, use.node.target is aten._log_softmax.default)


@translates(aten.softmax.int, aten.log_softmax.int)
def _softmax_of(use: Uses, self: Any, dim: int, dtype: Any) -> Activation:
    return _softmax(use, self, dim, use.node.target is aten.log_softmax.int)


# ---- joins and shapes


@translates(aten.add.Tensor)
def _add(use: Uses, self: Any, other: Any, alpha: float) -> Activation:
    if alpha != 1:
        raise Untranslatable(f"sums have alpha 1, got {alpha}")
    return use.add(ops.Add(), self, other)


@translates(aten.mul.Tensor)
def _mul(use: Uses, self: Any, other: Any) -> Activation:
    return use.add(ops.Multiply(), self, other)


@translates(aten.cat.default)
def _cat(use: Uses, tensors: list[Any], dim: int) -> Activation:
    if _sample_axis(dim, tensors[0]) != 0:
        raise Untranslatable(f"tensors are joined along axis 1, got {dim}")
    return use.add(ops.Concat(), *tensors)


@translates(
    aten.view.default,
    aten._unsafe_view.default,
    aten.reshape.default,
    aten.flatten.using_ints,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.unsqueeze.default,
)
def _reshape(use: Uses, self: Any, **new: Any) -> Activation:
    # Elements keep their order, so with the first size kept every sample keeps its own.
    if not isinstance(self, Activation):
        raise Untranslatable(f"what changes its shape is an activation, got {self}")
    shape = use.shape
    return use.add(ops.Reshape(shape=None if len(shape) == 1 else shape), self)
