"""A fused graph has the outputs, gradients and running statistics of the original."""

from __future__ import annotations

import numpy as np
import pytest

from fastconv import _memory, nn
from fastconv.autodiff import backward
from fastconv.fusion import fuse
from fastconv.graph import Graph, forward
from fastconv.ops import Context


def blocks():
    x = nn.Input((2, 12, 12))
    h = nn.MaxPool2d(3, 2, 1)(nn.ReLU()(nn.Conv2d(6, 3, padding=1)(x)))
    skip = nn.BatchNorm2d()(nn.Conv2d(8, 1)(h))
    h = nn.ReLU()(nn.BatchNorm2d()(nn.Conv2d(8, 3, padding=1)(h)))
    h = nn.ReLU()(nn.BatchNorm2d()(nn.Conv2d(8, 3, padding=1)(h)) + skip)
    h = nn.MaxPool2d(2)(nn.ReLU()(nn.BatchNorm2d()(h)))
    return x, nn.Linear(4)(nn.Dropout(0.3)(nn.Flatten()(h)))


def pools_in_a_row():
    x = nn.Input((3, 13, 13))
    return x, nn.Linear(2)(nn.Flatten()(nn.MaxPool2d(2)(nn.MaxPool2d(2)(nn.ReLU()(nn.Conv2d(5, 2)(x))))))


def relu_of_inputs():
    a, b = nn.Input((2, 8, 8), name="a"), nn.Input((2, 8, 8), name="b")
    return (a, b), nn.MaxPool2d(2)(nn.ReLU()(nn.ReLU()(a) + b))


def values_used_twice():
    """Every value that a fusion would hide is needed by somebody else."""
    x = nn.Input((4, 8, 8))
    norm = nn.BatchNorm2d()(x)
    relu = nn.ReLU()(norm)
    total = relu + norm
    return x, nn.Add()(nn.MaxPool2d(2)(relu), nn.AvgPool2d(2)(nn.ReLU()(total)), nn.AvgPool2d(2)(total))


def shared_layers():
    x = nn.Input((4, 8, 8))
    norm, relu, pool = nn.BatchNorm2d(), nn.ReLU(), nn.MaxPool2d(2)
    return x, pool(relu(norm(pool(relu(norm(x))))))


NETS = [blocks, pools_in_a_row, relu_of_inputs, values_used_twice, shared_layers]


def kinds(graph: Graph) -> list[str]:
    return [type(node.op).__name__ for node in graph.nodes if type(node.op).__name__ != "Conv"]


def step(model, graph, training):
    """Outputs, all gradients and the parameters after a forward and a backward pass."""
    rng = np.random.default_rng(3)
    params = {name: p + 0.1 * rng.standard_normal(p.shape) for name, p in model.params.items()}
    for name in params:
        if name.endswith("running_var"):
            params[name] = np.abs(params[name]) + 0.5
    inputs = {name: rng.standard_normal((5, *shape)) for name, shape in graph.inputs.items()}
    (output,) = graph.outputs
    tape = []
    value = forward(graph, params, inputs, Context(training=training, seed=1), tape=tape)[output]
    grads, input_grads = backward(graph, params, tape, {output: np.cos(value)}, wrt_inputs=True)
    return {"output": value} | grads | input_grads | {f"{name} after": p for name, p in params.items()}


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("net", NETS, ids=lambda f: f.__name__)
def test_outputs_and_gradients_are_the_same(net, training):
    model = nn.Model(*net(), dtype="float64")
    plain, fused = step(model, model.graph, training), step(model, fuse(model.graph), training)
    assert plain.keys() == fused.keys()
    np.testing.assert_array_equal(fused["output"], plain["output"])
    for name, value in plain.items():
        np.testing.assert_allclose(fused[name], value, rtol=1e-10, atol=1e-12, err_msg=name)


def test_what_is_joined_and_what_changes_places():
    assert kinds(fuse(nn.Model(*blocks()).graph)) == [
        *("MaxPool", "Activation", "BatchNorm", "BatchNormReLU", "BatchNorm", "AddReLU", "BatchNormReLU"),
        *("MaxPool", "Reshape", "Dropout", "Linear"),
    ]
    assert kinds(fuse(nn.Model(*pools_in_a_row()).graph))[:3] == ["MaxPool", "MaxPool", "Activation"]
    assert kinds(fuse(nn.Model(*relu_of_inputs()).graph)) == ["Activation", "AddReLU", "MaxPool"]
    assert "BatchNormReLU" in kinds(fuse(nn.Model(*shared_layers()).graph))


def test_values_that_others_need_stay():
    graph = nn.Model(*values_used_twice()).graph
    assert kinds(fuse(graph)) == kinds(graph)


@pytest.mark.parametrize("activation", [nn.LeakyReLU(0.1), nn.Sigmoid(), nn.Tanh()])
def test_only_plateaus_let_a_pooling_pass(activation):
    """Rounding may make two different values equal: then another one would win."""
    graph = nn.Sequential([activation, nn.MaxPool2d(2)], (2, 4, 4)).graph
    assert kinds(fuse(graph)) == kinds(graph)


def test_an_output_keeps_its_value():
    x = nn.Input((2, 4, 4))
    relu = nn.ReLU()(nn.BatchNorm2d()(x))
    graph = nn.Model(x, (relu, nn.MaxPool2d(2)(relu))).graph
    fused = fuse(graph)
    assert fused.outputs == graph.outputs and kinds(fused) == ["BatchNormReLU", "MaxPool"]


def test_ties_and_nan_give_the_same_gradient():
    graph = nn.Sequential([nn.ReLU(), nn.MaxPool2d(2)], (1, 2, 6)).graph
    x = np.array([[[[-1.0, -1.0, 2.0, 2.0, np.nan, 3.0], [0.0, -2.0, 2.0, -5.0, 4.0, np.nan]]]])

    def gradient(graph):
        tape = []
        forward(graph, {}, {"input": x}, tape=tape)
        return backward(graph, {}, tape, {graph.outputs[0]: np.ones((1, 1, 1, 3))}, wrt_inputs=True)[1]

    fused = fuse(graph)
    assert kinds(fused) == ["MaxPool", "Activation"]
    np.testing.assert_array_equal(gradient(fused)["input"], gradient(graph)["input"])


def test_steps_return_all_memory_that_they_take():
    model = nn.Model(*blocks())
    model.compile(nn.SGD(0.1))
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((256, 2, 12, 12), np.float32), rng.integers(0, 4, 256)
    _memory.release()
    held = []
    for _ in range(4):
        model.fit(x, y, batch_size=256, verbose=0)
        held.append(_memory.held())
    assert held[0] > 0 and held[1:] == held[:-1]


def test_results_are_never_overwritten():
    """Buffers go from step to step, but not while somebody holds an array in them."""
    model = nn.Model(*blocks())
    model.compile(nn.SGD(0.1))
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((256, 2, 12, 12), np.float32), rng.integers(0, 4, 256)
    _, grads = model.loss_and_gradients(x, y, training=True)
    predicted, shown = model.predict(x), model.activations(x)
    copies = {name: np.copy(value) for name, value in (grads | shown | {"": predicted}).items()}
    for _ in range(3):
        model.fit(x[::-1], y, batch_size=256, verbose=0)
        model.predict(-x)
    for name, value in (grads | shown | {"": predicted}).items():
        np.testing.assert_array_equal(value, copies[name], err_msg=name)
