"""Gradients of whole nets by random directional derivatives in float64."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from fastconv import nn, ops
from fastconv.autodiff import backward
from fastconv.graph import Graph, Node, forward
from fastconv.ops import Context


def residual():
    x = nn.Input((3, 9, 8))
    h = nn.ReLU()(nn.Conv2d(6, 3, padding=1)(x))
    h = h + nn.Conv2d(6, 3, padding=1)(nn.Tanh()(nn.Conv2d(6, 1)(h)))
    h = nn.Add()(h, nn.Sigmoid()(h), nn.Conv2d(6, 1, bias=False)(x))
    return x, nn.Linear(4)(nn.GlobalAvgPool2d()(h))


def shared_layer():
    x = nn.Input((4, 7, 7))
    conv, norm = nn.Conv2d(4, 3, padding=1), nn.BatchNorm2d()
    return x, nn.Linear(3)(nn.Flatten()(conv(nn.Tanh()(norm(conv(norm(x)))))))


def concatenated():
    x = nn.Input((2, 8, 8))
    stem = nn.LeakyReLU(0.1)(nn.Conv2d(4, 3, stride=2, padding=1)(x))
    branches = [stem, nn.Conv2d(3, 1)(stem), nn.MaxPool2d(3, 1, 1)(stem), nn.AvgPool2d(3, 1, 1)(stem)]
    return x, nn.Linear(5)(nn.Flatten()(nn.Concat()(*branches)))


def norm_pool_dropout_chain():
    x = nn.Input((2, 10, 10))
    h = nn.ReLU()(nn.BatchNorm2d()(nn.Conv2d(6, 3, groups=2)(x)))
    h = nn.Dropout2d(0.3)(nn.MaxPool2d(2)(h))
    return x, nn.Softmax()(nn.Linear(4)(nn.Dropout(0.25)(nn.Flatten()(h))))


def one_dimensional():
    x = nn.Input((3, 20))
    return x, nn.Linear(2)(nn.Flatten()(nn.Tanh()(nn.Conv1d(4, 3, stride=2, dilation=2, padding=2)(x))))


def two_inputs():
    a, b = nn.Input((2, 6, 6), name="a"), nn.Input((5,), name="b")
    features = nn.Flatten()(nn.Conv2d(2, 3)(a))
    return (a, b), nn.Linear(3)(nn.Concat()(features, nn.Tanh()(b)))


def large_window_pool():
    x = nn.Input((2, 20, 20))  # 17 * 17 > 256: indices no longer fit in a byte
    return x, nn.MaxPool2d(17, 3)(x)


NETS = [
    residual,
    shared_layer,
    concatenated,
    norm_pool_dropout_chain,
    one_dimensional,
    two_inputs,
    large_window_pool,
]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("net", NETS, ids=lambda f: f.__name__)
def test_gradients_agree_with_directional_derivatives(net, training):
    model = nn.Model(*net(), seed=3, dtype="float64")
    graph = model.graph
    rng = np.random.default_rng(11)
    params = {name: p + 0.1 * rng.standard_normal(p.shape) for name, p in model.params.items()}
    for name in params:
        if name.endswith("running_var"):
            params[name] = rng.uniform(0.5, 2.0, params[name].shape)
    inputs = {name: rng.standard_normal((4, *shape)) for name, shape in graph.inputs.items()}
    (output_name,) = graph.outputs
    weights = rng.standard_normal((4, *graph.shapes[output_name]))
    context = Context(training=training, seed=5, step=2)

    def value(shifted_params, shifted_inputs):
        # a copy: training moves the running statistics in place
        own = {name: p.copy() for name, p in shifted_params.items()}
        return float((forward(graph, own, shifted_inputs, context)[output_name] * weights).sum())

    tape = []
    own = {name: p.copy() for name, p in params.items()}
    forward(graph, own, inputs, context, tape=tape)
    param_grads, input_grads = backward(graph, params, tape, {output_name: weights}, wrt_inputs=True)
    assert tape == []
    assert set(param_grads) == set(graph.trainable)
    assert set(input_grads) == set(graph.inputs)

    step = 1e-6
    for _ in range(3):
        along_params = {name: rng.standard_normal(g.shape) for name, g in param_grads.items()}
        along_inputs = {name: rng.standard_normal(g.shape) for name, g in input_grads.items()}

        def at(t, dp=along_params, di=along_inputs):
            return value(
                {name: p + t * dp[name] if name in dp else p for name, p in params.items()},
                {name: x + t * di[name] for name, x in inputs.items()},
            )

        numeric = (at(step) - at(-step)) / (2 * step)
        analytic = sum(float((g * along_params[n]).sum()) for n, g in param_grads.items())
        analytic += sum(float((g * along_inputs[n]).sum()) for n, g in input_grads.items())
        assert analytic == pytest.approx(numeric, rel=1e-6, abs=1e-6)


def test_dropout_mask_of_a_step_is_the_same_again_and_differs_between_steps():
    model = nn.Sequential([nn.Dropout(0.5)], input_shape=(1000,))
    x = {"input": np.ones((2, 1000), np.float32)}

    def run(step):
        return forward(model.graph, {}, x, Context(training=True, seed=1, step=step))["dropout_1"]

    np.testing.assert_array_equal(run(0), run(0))
    assert (run(0) != run(1)).mean() > 0.3
    assert set(np.unique(run(0))) == {0.0, 2.0}


def test_a_shared_layer_gets_the_sum_of_its_uses():
    def make(second):
        x = nn.Input((3, 5, 5))
        first = nn.Conv2d(3, 3, padding=1)
        return nn.Model(x, nn.Flatten()((second or first)(nn.Tanh()(first(x)))), seed=0, dtype="float64")

    shared, separate = make(None), make(nn.Conv2d(3, 3, padding=1))
    for name in separate.params:
        separate.params[name][...] = shared.params["conv2d_1." + name.rpartition(".")[2]]
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 5))
    grads = {}
    for label, model in (("shared", shared), ("separate", separate)):
        tape = []
        out = forward(model.graph, model.params, {"input": x}, tape=tape)[model.graph.outputs[0]]
        grads[label], _ = backward(model.graph, model.params, tape, {model.graph.outputs[0]: np.cos(out)})
    assert list(shared.params) == ["conv2d_1.weight", "conv2d_1.bias"]
    assert [node.name for node in shared.graph.nodes] == ["conv2d_1", "tanh_1", "conv2d_1@2", "flatten_1"]
    for key in ("weight", "bias"):
        total = grads["separate"][f"conv2d_1.{key}"] + grads["separate"][f"conv2d_2.{key}"]
        np.testing.assert_allclose(grads["shared"][f"conv2d_1.{key}"], total, rtol=1e-12)


@dataclass(frozen=True, kw_only=True)
class Recorder(ops.Conv):
    """A convolution that notes which gradients it was asked for."""

    log: list

    def backward(self, grad_output, saved, params, wanted):
        self.log.append(wanted)
        return super().backward(grad_output, saved, params, wanted)


def test_only_what_is_wanted_is_computed():
    log = []
    conv = nn.Conv2d(2, 3, bias=False).op
    op = Recorder(**ops._base.attributes(conv), log=log)
    nodes = (Node("a", op, ("x",), ("a.w",)), Node("b", replace(op), ("a",), ("b.w",)))
    graph = Graph({"x": (2, 8, 8)}, nodes, ("b",))
    rng = np.random.default_rng(0)
    params = {name: rng.standard_normal(shape) for name, shape in graph.param_shapes.items()}
    x = {"x": rng.standard_normal((1, 2, 8, 8))}

    def run(**options):
        log.clear()
        tape = []
        forward(graph, params, x, tape=tape)
        grads = backward(graph, params, tape, {"b": np.ones((1, 2, 4, 4))}, **options)
        return [sorted(g) for g in grads], [(w.inputs, w.params) for w in log]

    assert run() == ([["a.w", "b.w"], []], [((True,), True), ((False,), True)])
    assert run(wrt_params=["b.w"]) == ([["b.w"], []], [((False,), True)])
    assert run(wrt_params=(), wrt_inputs=True) == ([[], ["x"]], [((True,), False), ((True,), False)])


def test_backward_never_writes_to_the_given_gradient():
    x = nn.Input((3,))
    model = nn.Model(x, x + x + nn.Tanh()(x), dtype="float64")
    grad = np.ones((2, 3))
    grad.flags.writeable = False
    values = np.random.default_rng(0).standard_normal((2, 3))
    result = model.input_gradient(values, grad)
    np.testing.assert_allclose(result, 2 + 1 / np.cosh(values) ** 2)
