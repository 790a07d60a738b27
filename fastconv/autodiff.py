"""Reverse-mode differentiation: the backward walk over a recorded forward pass."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from numpy.typing import NDArray

from fastconv.graph import Graph, Observer, Tape
from fastconv.ops import Wanted
from fastconv.ops.join import add

Array = NDArray[Any]


def backward(
    graph: Graph,
    params: Mapping[str, Array],
    tape: Tape,
    output_grads: Mapping[str, Array],
    *,
    wrt_params: Collection[str] | None = None,
    wrt_inputs: bool = False,
    observe: Observer | None = None,
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Gradients of a scalar, given its gradients in the outputs (or any other nodes).

    The tape is emptied from its end, so that activations are freed as the walk passes them.  Contributions of
    several uses of one value or one parameter are added in reverse order of the nodes, whatever the number of
    threads.

    Parameters
    ----------
    graph, params
        The network that ran.
    tape
        Filled by :func:`fastconv.graph.forward`; used up.
    output_grads
        Node name to an array of its output's shape.
    wrt_params
        Names of the parameters to differentiate in; None is all trainable ones.
    wrt_inputs
        Whether to differentiate in the graph's inputs.  If not, the first layers skip that work.
    observe
        Called with the name of every node that the walk passes and the gradient of its output, once that is complete;
        the array is its only during the call.

    Returns
    -------
    param_grads, input_grads : dict of str to ndarray
    """
    wanted_params = frozenset(graph.trainable if wrt_params is None else wrt_params)
    active = _nodes_with_gradient(graph, wanted_params, wrt_inputs)
    param_grads: dict[str, Array] = {}
    pending = dict(output_grads)  # gradients of values whose node has not been passed yet
    summed: set[str] = (
        set()
    )  # those in pending that are our own sums: others may be shared, so never written to

    while tape:
        node, saved = tape.pop()
        grad_output = pending.pop(node.name, None)
        if grad_output is None or node.name not in active:
            continue
        if observe is not None:
            observe(node.name, grad_output)
        wanted = Wanted(
            inputs=tuple(name in active for name in node.inputs),
            params=not wanted_params.isdisjoint(node.params),
        )
        grad_inputs, grad_params = node.op.backward(
            grad_output, saved, graph.local_params(node, params), wanted
        )
        del grad_output, saved
        for name, wants, grad in zip(node.inputs, wanted.inputs, grad_inputs, strict=True):
            if not wants or grad is None:
                continue
            if name not in pending:
                pending[name] = grad
            else:
                pending[name] = add(pending[name], grad, out=pending[name] if name in summed else None)
                summed.add(name)
        for key, grad in grad_params.items():
            name = graph.param_names[node.name][key]
            if name not in wanted_params:
                continue
            if name in param_grads:
                param_grads[name] += grad
            else:
                param_grads[name] = grad
    return param_grads, {name: pending[name] for name in graph.inputs if wrt_inputs and name in pending}


def _nodes_with_gradient(graph: Graph, wanted_params: frozenset[str], wrt_inputs: bool) -> set[str]:
    """Inputs and nodes that depend on something to differentiate in."""
    active = set(graph.inputs) if wrt_inputs else set()
    for node in graph.nodes:
        if not wanted_params.isdisjoint(node.params) or not active.isdisjoint(node.inputs):
            active.add(node.name)
    return active
