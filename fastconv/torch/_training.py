"""Training under ``torch.compile``: in a traced graph ATen's operators give way to those of fastconv.

It is the joint graph of the forward and the backward pass, before it is cut into the two: so a pair of operators can
agree on what one keeps for the other, such as a byte for each maximum, or a bit for each element that was dropped.
What PyTorch would lay out otherwise than in the order of the axes (channels last) is left to it.
Other element-wise functions stay PyTorch's, which are as fast.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from fastconv.torch import _kernels, _ops
from fastconv.torch._translation import arguments_of

aten = torch.ops.aten

LARGEST_SEED = 2**63 - 1


def use_kernels(graph: fx.Graph) -> None:
    """Put fastconv's operators into a functional graph in the place of ATen's, where they serve."""
    for node in graph.find_nodes(op="call_function", target=aten.detach.default):
        if all(user.op == "call_function" for user in node.users):
            node.replace_all_uses_with(node.args[0])  # or users would not be recognised
    for target, rewrite in REWRITES.items():
        for node in graph.find_nodes(op="call_function", target=target):
            if _served(node):
                with graph.inserting_before(node):
                    rewrite(node, **arguments_of(node))
    graph.eliminate_dead_code()


def call_kernels(graph: fx.Graph) -> None:
    """Call the operators' kernels as they are: PyTorch's dispatcher takes longer than small layers."""
    for node in graph.nodes:
        if node.op == "call_function" and node.target in _ops.KERNELS:
            node.target = _ops.KERNELS[node.target]


def _in_order(node: fx.Node) -> bool:
    """Whether the results are to lie in memory as the kernels put them: later views count on that."""
    value = node.meta["val"]
    results = [value] if isinstance(value, Tensor) else value
    return all(_kernels.memory_order(each) is None for each in results if isinstance(each, Tensor))


def _served(node: fx.Node) -> bool:
    """Whether all floats are of one dtype that the kernels take, on the CPU, and the results in order."""
    values = [each.meta.get("val") for each in node.all_input_nodes]
    tensors = [each for each in values if isinstance(each, Tensor) and each.is_floating_point()]
    return (
        _in_order(node)
        and len({each.dtype for each in tensors}) == 1
        and tensors[0].dtype in _kernels.DTYPES
        and all(each.device.type == "cpu" and each.layout == torch.strided for each in tensors)
    )


def _call(node: fx.Node, op: Any, *arguments: Any) -> fx.Node:
    """A call of an operator before ``node``, with its results in ``meta``."""
    call = node.graph.call_function(op, arguments)
    call.meta = {key: value for key, value in node.meta.items() if key not in ("val", "tensor_meta")}
    values = fx.node.map_arg(arguments, lambda each: each.meta["val"])
    call.meta["val"] = op(*values)
    return call


def _item(node: fx.Node, call: fx.Node, index: int) -> fx.Node:
    item = node.graph.call_function(operator.getitem, (call, index))
    item.meta = {**call.meta, "val": call.meta["val"][index]}
    return item


def _replace(node: fx.Node, new: fx.Node) -> None:
    node.replace_all_uses_with(new)
    node.graph.erase_node(node)


def _size(node: fx.Node, of: fx.Node) -> list[Any]:
    """Sizes of a value, those that are symbols as nodes."""
    sizes: list[Any] = []
    for axis, size in enumerate(of.meta["val"].shape):
        if not isinstance(size, int):
            size_node = node.graph.call_function(aten.sym_size.int, (of, axis))
            size_node.meta["val"] = size
            size = size_node
        sizes.append(size)
    return sizes


def _users(node: fx.Node, index: int) -> list[fx.Node]:
    """What uses one of a node's results."""
    return [user for item in node.users if item.args[1] == index for user in item.users]


def _all_are(nodes: list[fx.Node], target: Any) -> bool:
    """Whether nodes call that operator, and can be replaced."""
    return all(node.target is target and _in_order(node) for node in nodes)


# ------------------------------------------------------------------------------------------------------- the table


Rewrite = Callable[..., None]
REWRITES: dict[Any, Rewrite] = {}


def _rewrites(target: Any) -> Callable[[Rewrite], Rewrite]:
    """Put a function into the table; it gets the node, and the arguments of the operator by their names."""

    def enter(function: Rewrite) -> Rewrite:
        REWRITES[target] = function
        return function

    return enter


@_rewrites(aten.convolution.default)
def _convolution(node: fx.Node, **arguments: Any) -> None:
    if _is_served_convolution(**arguments):
        _replace(node, _call(node, _ops.convolution, *arguments.values()))


def _is_served_convolution(weight: fx.Node, transposed: bool, **_: Any) -> bool:
    return not transposed or weight.meta["val"].ndim < 5


@_rewrites(aten.convolution_backward.default)
def _convolution_backward(node: fx.Node, bias_sizes: Any, **arguments: Any) -> None:
    if _is_served_convolution(**arguments):
        _replace(node, _call(node, _ops.convolution_backward, *arguments.values()))


def _matrix(node: fx.Node) -> fx.Node | None:
    """What a node is the transposed matrix of."""
    return node.args[0] if node.target is aten.t.default else None


@_rewrites(aten.addmm.default)
def _addmm(node: fx.Node, self: fx.Node, mat1: fx.Node, mat2: fx.Node, beta: Any, alpha: Any) -> None:
    weight = _matrix(mat2)
    if weight is not None and (beta, alpha) == (1, 1) and self.meta["val"].ndim == 1:
        _replace(node, _call(node, _ops.linear, mat1, weight, self))


@_rewrites(aten.max_pool2d_with_indices.default)
def _max_pool(
    node: fx.Node, self: fx.Node, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> None:
    window = (kernel_size, stride, padding, dilation, ceil_mode)
    backward = _users(node, 1)
    if not _all_are(backward, aten.max_pool2d_with_indices_backward.default):
        return  # somebody wants to have the indices
    indices = _kernels.index_dtype(kernel_size) if backward else "none"
    pooled = _call(node, _ops.max_pool2d, self, *window, indices)
    size = _size(node, self)
    where = _item(node, pooled, 1)
    for user in backward:
        with node.graph.inserting_before(user):
            grad = arguments_of(user)["grad_output"]
            _replace(user, _call(user, _ops.max_pool2d_backward, grad, where, size, *window))
    _replace(node, pooled)


@_rewrites(aten.avg_pool2d.default)
def _avg_pool(node: fx.Node, **arguments: Any) -> None:
    _replace(node, _call(node, _ops.avg_pool2d, *arguments.values()))


@_rewrites(aten.avg_pool2d_backward.default)
def _avg_pool_backward(node: fx.Node, grad_output: fx.Node, self: fx.Node, **window: Any) -> None:
    size = _size(node, self)
    _replace(node, _call(node, _ops.avg_pool2d_backward, grad_output, size, *window.values()))


@_rewrites(aten._adaptive_avg_pool2d.default)
def _adaptive_avg_pool(node: fx.Node, **arguments: Any) -> None:
    _replace(node, _call(node, _ops.adaptive_avg_pool2d, *arguments.values()))


@_rewrites(aten._adaptive_avg_pool2d_backward.default)
def _adaptive_avg_pool_backward(node: fx.Node, grad_output: fx.Node, self: fx.Node) -> None:
    _replace(node, _call(node, _ops.adaptive_avg_pool2d_backward, grad_output, _size(node, self)))


def _batch_norm(node: fx.Node, *arguments: Any) -> None:
    """Ours in the place of a node, and in that of the nodes behind it that are its backward pass."""
    backward = [user for user in _users(node, 1) if user.target is aten.native_batch_norm_backward.default]
    if not _all_are(backward, aten.native_batch_norm_backward.default):
        return
    call = _call(node, _ops.batch_norm, *arguments)
    mean, inv_std = _item(node, call, 1), _item(node, call, 2)
    for user in backward:
        given = arguments_of(user)
        with node.graph.inserting_before(user):
            training = given["train"]
            own = (given["grad_out"], given["input"], given["weight"], mean, inv_std, training)
            _replace(user, _call(user, _ops.batch_norm_backward, *own))
    _replace(node, call)


@_rewrites(aten._native_batch_norm_legit_functional.default)
def _batch_norm_training(node: fx.Node, **arguments: Any) -> None:
    _batch_norm(node, *arguments.values())


@_rewrites(aten._native_batch_norm_legit.no_stats)
def _batch_norm_without_statistics(
    node: fx.Node, input: fx.Node, weight: Any, bias: Any, training: bool, momentum: float, eps: float
) -> None:
    _batch_norm(node, input, weight, bias, None, None, training, momentum, eps)


@_rewrites(aten._native_batch_norm_legit_no_training.default)
def _batch_norm_evaluation(
    node: fx.Node,
    input: fx.Node,
    weight: Any,
    bias: Any,
    running_mean: fx.Node,
    running_var: fx.Node,
    momentum: float,
    eps: float,
) -> None:
    _batch_norm(node, input, weight, bias, running_mean, running_var, False, momentum, eps)


@_rewrites(aten.native_dropout.default)
def _dropout(node: fx.Node, input: fx.Node, p: float, train: bool | None) -> None:
    backward = _users(node, 1)
    if not train or not _all_are(backward, aten.native_dropout_backward.default):
        return
    seed = node.graph.call_function(
        aten.randint.default, (LARGEST_SEED, []), {"dtype": torch.int64, "device": torch.device("cpu")}
    )
    seed.meta = {"val": input.meta["val"].new_empty((), dtype=torch.int64)}
    call = _call(node, _ops.dropout, input, p, seed)
    mask = _item(node, call, 1)
    for user in backward:
        with node.graph.inserting_before(user):
            grad = arguments_of(user)["grad_output"]
            _replace(user, _call(user, _ops.dropout_backward, grad, mask, p))
    _replace(node, call)


def _original(node: fx.Node) -> fx.Node:
    """What a node is a copy of."""
    while node.target is aten.clone.default:
        (node,) = node.all_input_nodes
    return node


@_rewrites(aten.hardtanh.default)
def _relu6(node: fx.Node, self: fx.Node, min_val: float, max_val: float) -> None:
    # Its gradient is computed from the result, so the input need not be kept, nor copied where it is written over.
    if (min_val, max_val) != (0, 6):
        return
    call = _call(node, _ops.activation, self, "relu6", 0.0)
    for user in node.graph.find_nodes(op="call_function", target=aten.hardtanh_backward.default):
        given = arguments_of(user)
        same = _original(given["self"]) is _original(self) and _in_order(user)
        if same and (given["min_val"], given["max_val"]) == (0, 6):
            with node.graph.inserting_before(user):
                grad = given["grad_output"]
                _replace(user, _call(user, _ops.activation_backward, grad, call, "relu6", 0.0))
    _replace(node, call)
