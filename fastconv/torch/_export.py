"""A PyTorch module as a :class:`fastconv.nn.Model`, by way of ``torch.export``."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx
from torch.export import Dim, ExportedProgram, ShapesCollection

from fastconv.nn import Model
from fastconv.torch._aten import TABLE
from fastconv.torch._kernels import as_array
from fastconv.torch._ops import feature_dropout
from fastconv.torch._translation import (
    Activation,
    Translation,
    Untranslatable,
    constants_of,
    folding_of,
    param_tensors,
)

aten = torch.ops.aten


def from_module(
    module: torch.nn.Module,
    example_inputs: Tensor | Sequence[Tensor],
    *,
    seed: int = 0,
    name: str | None = None,
) -> Model:
    """A net that computes what a PyTorch module does, without PyTorch: it infers, trains and explains.

    The module is traced by ``torch.export`` with the batch size left open.  Dropout and batch normalisation are taken
    over as layers, whatever mode they are in; all else is traced in the module's present mode.

    Parameters
    ----------
    module : torch.nn.Module
        Its parameters and buffers are copied, under their names in ``state_dict()``; those that need no gradient are
        frozen.
    example_inputs : Tensor of shape (N, ...), or a sequence of them
        What the module is called with: float32 or float64, on the CPU.  Sizes beside the batch's become those of the
        net, the values do not matter.
    seed : int
        Of the net's dropout and order of samples.
    name : str, optional
        As for :class:`fastconv.nn.Model`.

    Returns
    -------
    Model
        Its nodes are called after the modules that made them.

    Raises
    ------
    ValueError
        If the module cannot be traced, or does what no layer stands for; the message names every such operator.
    TypeError
        If an example is no tensor with a batch axis.

    Examples
    --------
    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(36, 2))
    >>> model = from_module(net, torch.zeros(1, 1, 5, 5))
    >>> list(model.params)
    ['0.weight', '0.bias', '3.weight', '3.bias']
    """
    examples = (example_inputs,) if isinstance(example_inputs, Tensor) else tuple(example_inputs)
    program = _trace(module, tuple(_of_two(each) for each in examples))
    graph = program.graph_module.graph
    signature = program.graph_signature
    owned = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    nodes = {node.name: node for node in graph.nodes}
    sources = [nodes[key] for key in nodes if key in owned]
    translation = Translation(
        nodes[signature.user_inputs[0]].meta["val"].shape[0],
        constants_of(graph, sources),
        TABLE,
        training=True,
        param_name=lambda node: owned.get(node.name, node.name),
        node_name=_module_name,
    )
    for key in signature.user_inputs:
        translation.input(nodes[key])
    _translate(graph, translation)
    outputs = [nodes.get(str(key)) for key in signature.user_outputs]
    for output in outputs:
        if not isinstance(translation.values.get(output), Activation):
            raise ValueError(f"the module's outputs must depend on its inputs, got {output}")

    folding, needed = folding_of(program.graph_module, translation.folded, sources)
    values = [_value(program, owned[node.name]) for node in needed]
    with torch.no_grad():
        tensors = param_tensors(translation.params, folding(*values), translation.dtype or torch.float32)
    return Model.from_graph(
        translation.graph(outputs),
        {key: np.array(as_array(tensor, key)) for key, tensor in tensors.items()},
        seed=seed,
        dtype=str(translation.dtype).removeprefix("torch."),
        frozen=_frozen(
            translation, {node for node, value in zip(needed, values, strict=True) if value.requires_grad}
        ),
        name=name,
    )


def _of_two(example: Any) -> Tensor:
    """An example with more than one sample: PyTorch takes a batch of one to be one for ever."""
    if not isinstance(example, Tensor) or not example.ndim or not len(example):
        raise TypeError(f"example_inputs must be tensors with at least one sample, got {example!r}")
    return torch.cat([example, example]) if len(example) == 1 else example


def _trace(module: torch.nn.Module, examples: tuple[Tensor, ...]) -> ExportedProgram:
    batch, shapes = Dim("batch"), ShapesCollection()
    for each in examples:
        shapes[each] = {0: batch}
    try:
        with _as_layers(module), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # PyTorch's, of its own insides
            program = torch.export.export(module, examples, dynamic_shapes=shapes)
            for node in program.graph.find_nodes(op="call_function", target=aten.feature_dropout.default):
                node.target = feature_dropout
            return program.run_decompositions({})  # takes no operator apart that the table might know whole
    except Exception as error:
        raise ValueError(f"torch.export cannot trace the module with an open batch size: {error}") from error


@contextmanager
def _as_layers(module: torch.nn.Module) -> Iterator[None]:
    """Dropout and batch normalisation as in training, so that the trace shows them."""
    kinds = (torch.nn.modules.dropout._DropoutNd, torch.nn.modules.batchnorm._BatchNorm)
    asleep = [each for each in module.modules() if isinstance(each, kinds) and not each.training]
    try:
        for each in asleep:
            each.training = True
        yield
    finally:
        for each in asleep:
            each.training = False


def _module_name(node: fx.Node) -> str:
    """The path of the layer that made a node; the node's own name for what no layer did."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    path, kind = stack[-1] if stack else ("", "")
    return str(path) if path and str(kind).startswith("torch.nn.modules.") else node.name


def _translate(graph: fx.Graph, translation: Translation) -> None:
    """Translate all nodes that lead from inputs to outputs, or raise one error for all that cannot be."""
    refused: dict[str, str] = {}
    missing: set[fx.Node] = set()
    for node in graph.nodes:
        if (
            node.op != "call_function"
            or node in translation.constant
            or not _is_tensors(node.meta.get("val"))
        ):
            continue
        if not missing.isdisjoint(node.all_input_nodes):
            missing.add(node)
            if node.target not in translation.table:
                refused.setdefault(str(node.target), "no op stands for it")
            continue
        try:
            translation.translate(node)
        except Untranslatable as error:
            refused.setdefault(str(node.target), str(error))
            missing.add(node)
    if refused:
        listed = "".join(f"\n  {target}: {reason}" for target, reason in refused.items())
        raise ValueError(f"the module does what no layer stands for:{listed}")


def _is_tensors(value: Any) -> bool:
    return isinstance(value, Tensor) or (isinstance(value, (tuple, list)) and isinstance(value[0], Tensor))


def _value(program: ExportedProgram, name: str) -> Tensor:
    value: Tensor = program.state_dict[name] if name in program.state_dict else program.constants[name]
    return value


def _frozen(translation: Translation, trained: set[fx.Node]) -> list[str]:
    """Parameters that depend on none of ``trained``."""

    def is_trained(source: Any) -> bool:
        return isinstance(source, fx.Node) and (
            source in trained or any(is_trained(each) for each in source.all_input_nodes)
        )

    return [key for key, constant in translation.params.items() if not is_trained(constant.source)]
