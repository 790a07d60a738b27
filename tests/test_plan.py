"""The inference plan: the same numbers as the graph it was made of, in fewer steps."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastconv import nn
from fastconv.graph import forward
from fastconv.plan import InferencePlan

Build = Callable[[], nn.Model]


def conv_bn(x: Any, channels: int, kernel: int = 3, activation: Any = nn.ReLU, **options: Any) -> Any:
    h = nn.BatchNorm2d()(nn.Conv2d(channels, kernel, padding=kernel // 2, bias=False, **options)(x))
    return activation()(h) if activation else h


def vgg() -> nn.Model:
    layers = [nn.Conv2d(16, 3, padding=1), nn.ReLU(), nn.Conv2d(20, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    head = [nn.Flatten(), nn.Linear(33), nn.ReLU(), nn.Dropout(0.5), nn.Linear(5)]
    return nn.Sequential([*layers, *head], input_shape=(3, 14, 15))


def resnet() -> nn.Model:
    x = nn.Input((3, 21, 18))
    h = nn.MaxPool2d(3, 2, 1)(conv_bn(x, 24, 7, stride=2))
    for channels, stride in ((24, 1), (40, 2)):
        y = conv_bn(conv_bn(h, channels, stride=stride), channels, activation=None)
        short = h if stride == 1 else conv_bn(h, channels, 1, None, stride=stride)
        h = nn.ReLU()(y + short)
    return nn.Model(x, nn.Linear(7)(nn.GlobalAvgPool2d()(h)))


def mobilenet() -> nn.Model:
    x = nn.Input((3, 20, 20))
    h = conv_bn(x, 16, stride=2, activation=nn.ReLU6)
    y = conv_bn(h, 48, 1, nn.ReLU6)
    y = conv_bn(y, 48, 3, nn.ReLU6, groups=48)
    h = conv_bn(y, 16, 1, None) + h
    h = nn.GlobalAvgPool2d(keepdims=True)(nn.LeakyReLU(0.2)(h))
    return nn.Model(x, nn.Softmax()(nn.Linear(4)(nn.Flatten()(h))))


def densenet() -> nn.Model:
    """Normalisation first, values used many times, blocks that do not and that do fill cache lines."""
    x = nn.Input((3, 12, 12))
    h = nn.Conv2d(32, 3, padding=1)(x)
    for growth in (16, 16, 10, 16):
        h = nn.Concat()(h, conv_bn(nn.ReLU()(nn.BatchNorm2d()(h)), growth))
    return nn.Model(x, nn.AvgPool2d(2)(nn.Sigmoid()(h)))


def unet() -> nn.Model:
    x = nn.Input((2, 16, 16))
    high = conv_bn(x, 16)
    low = conv_bn(nn.MaxPool2d(2)(high), 32, dilation=1)
    up = nn.ConvTranspose2d(16, 2, 2)(low)
    return nn.Model(x, [nn.Conv2d(2, 1)(nn.Concat()(up, high)), low])


def shared_and_wide() -> nn.Model:
    """One layer used twice, a node that is an output and used as well, groups, a sum of a value with itself."""
    x = nn.Input((16, 9, 9))
    layer = nn.Conv2d(16, 3, padding=1, groups=2)
    first = layer(x)
    second = nn.ReLU()(layer(first))
    return nn.Model(x, [first, nn.Dropout(0.3)(second + second), nn.Tanh()(first)])


def signal() -> nn.Model:
    layers = [
        nn.Conv1d(8, 5, 2),
        nn.ReLU(),
        nn.BatchNorm1d(),
        nn.Conv1d(8, 3, dilation=2),
        nn.Flatten(),
        nn.Linear(3),
    ]
    return nn.Sequential(layers, input_shape=(2, 40))


def nothing_but_dropout() -> nn.Model:
    return nn.Sequential([nn.Dropout(0.5)], input_shape=(3,))


NETS = [vgg, resnet, mobilenet, densenet, unet, shared_and_wide, signal, nothing_but_dropout]


def settled(build: Build, dtype: str) -> nn.Model:
    """A net whose statistics are not those of a fresh one."""
    model = build()
    rng = np.random.default_rng(0)
    params = {}
    for name, value in model.params.items():
        draw = rng.uniform(0.5, 1.5, value.shape) if value.ndim == 1 else value
        params[name] = draw.astype(dtype)
    return nn.Model.from_graph(model.graph, params, dtype=dtype)


def inputs_of(model: nn.Model, batch: int) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    return {n: rng.standard_normal((batch, *s)).astype(model.dtype) for n, s in model.graph.inputs.items()}


def assert_alike(got: dict[str, Any], want: dict[str, Any], dtype: str) -> None:
    """Within rounding errors, which the norm of a layer's sums bounds."""
    assert set(got) == set(want)
    for name, expected in want.items():
        tolerance = (3e-5 if dtype == "float32" else 1e-13) * np.abs(expected).max(initial=1.0)
        np.testing.assert_allclose(got[name], expected, rtol=0, atol=tolerance)
        assert got[name].dtype == expected.dtype


@pytest.mark.parametrize("build", NETS)
def test_equals_the_graph(build: Build, dtype: str, isa: str, threads: int) -> None:
    model = settled(build, dtype)
    plan = InferencePlan(model.graph, model.params, dtype)
    for batch in (1, 3, 1):
        inputs = inputs_of(model, batch)
        before = {name: value.copy() for name, value in inputs.items()}
        assert_alike(plan(inputs), forward(model.graph, model.params, inputs), dtype)
        for name, value in inputs.items():
            np.testing.assert_array_equal(value, before[name])


def names(build: Build) -> list[str]:
    model = build()
    return [step.name for step in InferencePlan(model.graph, model.params, "float32").steps]


def test_what_is_fused_and_which_layout() -> None:
    assert names(vgg) == [
        "relu_1",
        "relu_2",
        "max_pool2d_1",
        "max_pool2d_1 (plain)",
        "flatten_1",
        "relu_3",
        "linear_2",
    ]
    # sums are part of the convolution before them, and batch normalisation of any
    steps = names(resnet)
    assert "add_1" not in steps
    assert not any(name.startswith("add") for name in steps)
    assert [name for name in steps if name.startswith("batch_norm")] == ["batch_norm_6"]  # the projection's
    assert not any("plain" in name for name in steps)
    assert names(nothing_but_dropout) == ["dropout_1"]


def test_results_are_the_caller_s_own() -> None:
    """A later call does not change what an earlier one returned."""
    model = settled(resnet, "float32")
    plan = InferencePlan(model.graph, model.params, "float32")
    first, second = inputs_of(model, 2), {n: v[::-1].copy() for n, v in inputs_of(model, 2).items()}
    got = plan(first)
    kept = {name: value.copy() for name, value in got.items()}
    plan(second)
    for name, value in kept.items():
        np.testing.assert_array_equal(got[name], value)


def test_memory_is_used_again() -> None:
    """A second call allocates little of what lies between input and output."""
    model = settled(vgg, "float32")
    plan = InferencePlan(model.graph, model.params, "float32")
    inputs = inputs_of(model, 16)

    def peak(call: Callable[[], Any]) -> int:
        call()
        tracemalloc.start()
        call()
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    assert peak(lambda: plan(inputs)) < 0.6 * peak(lambda: forward(model.graph, model.params, inputs))


def test_parameters_are_those_of_the_time_it_was_made() -> None:
    model = settled(resnet, "float32")
    plan = InferencePlan(model.graph, model.params, "float32")
    inputs = inputs_of(model, 1)
    want = plan(inputs)
    for value in model.params.values():
        value[...] = 0.5
    assert_alike(plan(inputs), want, "float32")


def test_a_model_predicts_by_its_plan_until_its_weights_change() -> None:
    model = settled(vgg, "float32")
    (x,) = inputs_of(model, 5).values()
    before = model.predict(x)
    plan = model.compile_inference()
    np.testing.assert_allclose(model.predict(x, batch_size=2), before, atol=3e-5 * np.abs(before).max())
    assert model.predict(x).tobytes() == plan({"input": x})[model.graph.outputs[0]].tobytes()
    model.set_weights({name: value * 0 for name, value in model.get_weights().items()})
    assert not model.predict(x).any()
    model.compile_inference()
    model.compile(nn.SGD(0.5), "mse")
    model.fit(x, np.ones((5, 5), "float32"), 5, 1, verbose=0)
    assert model.predict(x).any()


def test_several_threads_at_a_time() -> None:
    model = settled(resnet, "float32")
    plan = InferencePlan(model.graph, model.params, "float32")
    given = [{n: v * k for n, v in inputs_of(model, 2).items()} for k in (1.0, 2.0, 3.0)]
    given = [{n: v.astype("float32") for n, v in each.items()} for each in given]
    want = [plan(each) for each in given]
    wrong: list[int] = []

    def work(k: int) -> None:
        for _ in range(20):
            got = plan(given[k])
            wrong.extend(k for name in got if got[name].tobytes() != want[k][name].tobytes())

    workers = [threading.Thread(target=work, args=(k,)) for k in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_the_description_names_every_step() -> None:
    model = settled(mobilenet, "float32")
    plan = InferencePlan(model.graph, model.params, "float32")
    inputs = inputs_of(model, 1)
    lines = plan.describe(inputs).splitlines()
    assert lines[0].split() == ["step", "stands", "for", "by", "ms", "GFLOP/s", "MiB"]
    assert len(lines) == len(plan.steps) + 2
    for step, line in zip(plan.steps, lines[1:], strict=False):
        assert line.startswith(step.name)
    assert any("depthwise" in line for line in lines)
    for each in plan.measure(inputs, repeats=1):
        assert each.seconds > 0
        assert (each.gflops > 0) == (each.step.macs > 0)
