"""The inference plan: the same numbers as the graph it was made of, in fewer steps."""

from __future__ import annotations

import copy
import itertools
import pickle
import threading
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastconv import force_isa, nn, use_backend
from fastconv.graph import Graph, Node, forward
from fastconv.ops import Activation, Add, Constant, Conv, Linear, Multiply, Reshape
from fastconv.plan import InferencePlan
from fastconv.plan._kept import digests
from fastconv.plan._memory import Life, arrange
from fastconv.plan._run import MOST_SIZES

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


def dilated() -> nn.Model:
    """A segmentation net: the same size throughout, ever wider spaced taps."""
    x = h = nn.Input((3, 20, 17))
    for channels, dilation in ((16, 1), (24, 2), (24, 4)):
        h = nn.ReLU()(nn.Conv2d(channels, 3, padding=dilation, dilation=dilation)(h))
    return nn.Model(x, nn.Conv2d(4, 1)(h))


def activated() -> nn.Model:
    """Functions of one element that no kernel has as its epilogue."""
    x = h = nn.Input((3, 10, 9))
    for layer in (nn.Hardswish(), nn.SiLU(), nn.GELU(), nn.Hardsigmoid(), nn.ELU()):
        h = layer(nn.Conv2d(20, 3, padding=1)(h))
    return nn.Model(x, h)


def padded() -> nn.Model:
    """Zeros around the image, which become part of a convolution, and others, which do not."""
    x = nn.Input((3, 11, 12))
    h = nn.ReLU()(nn.Conv2d(16, 3)(nn.Pad((2, 1, 0, 3))(x)))
    h = nn.Conv2d(16, 3, padding=1, stride=2)(nn.Pad(1)(h))
    return nn.Model(x, [nn.Conv2d(8, 3)(nn.Pad(1, mode="reflect")(h)), nn.MaxPool2d(2)(nn.Pad(1)(h))])


def with_constants() -> nn.Model:
    """Factors and summands of each channel behind a convolution, one of each element, and one without a batch."""
    conv, linear = Conv.of(2, 16, 3), Linear(out_features=6)
    nodes = (
        Node("scale", Constant(shape=(16, 1, 1)), (), ("scale.value",)),
        Node("shift", Constant(shape=(1,)), (), ("shift.value",)),
        Node("image", Constant(shape=(16, 5, 6)), (), ("image.value",)),
        Node("twice", Add(), ("image", "image"), ()),
        Node("conv", conv, ("x",), ("conv.weight", "conv.bias")),
        Node("scaled", Multiply(), ("scale", "conv"), ()),
        Node("shifted", Add(), ("scaled", "shift"), ()),
        Node("relu", Activation(function="relu"), ("shifted",), ()),
        Node("sum", Add(), ("relu", "twice"), ()),
        Node("flat", Reshape(), ("sum",), ()),
        Node("linear", linear, ("flat",), ("linear.weight", "linear.bias")),
    )
    graph = Graph({"x": (3, 7, 8)}, nodes, ("linear", "twice"))
    rng = np.random.default_rng(2)
    params = {n: rng.uniform(-1, 1, s).astype("float32") for n, s in graph.param_shapes.items()}
    return nn.Model.from_graph(graph, params)


NETS = [vgg, resnet, mobilenet, densenet, unet, shared_and_wide, signal, nothing_but_dropout]
NETS += [dilated, activated, padded, with_constants]


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


def exact(model: nn.Model, inputs: dict[str, Any]) -> dict[str, Any]:
    """What the graph gives in float64."""
    params, images = (
        {name: value.astype("float64") for name, value in arrays.items()} for arrays in (model.params, inputs)
    )
    return forward(model.graph, params, images)


def assert_right(plan: InferencePlan, model: nn.Model, inputs: dict[str, Any]) -> dict[str, Any]:
    """Within what the steps' rounding may do, and as much for the graph in float64."""
    got, want, tolerance = plan(inputs), exact(model, inputs), plan.tolerance(inputs)
    assert set(got) == set(want) == set(tolerance)
    for name, expected in want.items():
        np.testing.assert_allclose(got[name], expected, rtol=0, atol=2 * tolerance[name])
        assert got[name].dtype == plan.dtype
    return got


@pytest.mark.parametrize("build", NETS)
def test_equals_the_graph(build: Build, dtype: str, isa: str, threads: int) -> None:
    model = settled(build, dtype)
    plan = InferencePlan(model.graph, model.params, dtype)
    for batch in (1, 3, 1):
        inputs = inputs_of(model, batch)
        before = {name: value.copy() for name, value in inputs.items()}
        assert_right(plan, model, inputs)
        for name, value in inputs.items():
            np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize("build", NETS)
def test_tolerance_tells_rounding_from_mistakes(build: Build, dtype: str) -> None:
    """It is small, far smaller where no Winograd serves, and the same each time; a wrong weight is beyond it."""
    model = settled(build, dtype)
    plan, inputs = InferencePlan(model.graph, model.params, dtype), inputs_of(model, 2)
    before, tolerance = exact(model, inputs), plan.tolerance(inputs)
    most = 5e-3 if dtype == "float32" else 1e-12
    for name, value in before.items():
        assert tolerance[name] <= most * np.abs(value).max()
    assert plan.tolerance(inputs) == tolerance
    for key in [key for key in model.params if key.endswith("weight") and model.params[key].ndim > 1]:
        model.params[key][0] *= 1.5
        after = exact(model, inputs)
        assert any(np.abs(after[name] - before[name]).max() > 2 * tolerance[name] for name in before), key
        model.params[key][0] /= 1.5


def test_tolerance_knows_the_algorithm(isa: str) -> None:
    """Four times as much is allowed to an algorithm of four times the growth."""
    model = settled(vgg, "float32")
    inputs = inputs_of(model, 8)
    plan = InferencePlan(model.graph, model.params, "float32")
    (free,) = plan.tolerance(inputs).values()
    served = {row.by for row in plan.report(inputs, repeats=1).rows}
    double = settled(vgg, "float64")
    (summed,) = InferencePlan(double.graph, double.params, "float64").tolerance(inputs_of(double, 8)).values()
    scale = np.finfo("float32").eps / np.finfo("float64").eps
    assert (free > 4 * scale * summed) == any("winograd" in name for name in served)


def names(build: Build) -> list[str]:
    model = build()
    return [step.name for step in InferencePlan(model.graph, model.params, "float32").steps]


def test_what_is_fused_and_which_layout() -> None:
    assert names(vgg) == [
        "relu_1",
        "relu_2",
        "max_pool2d_1",
        "max_pool2d_1 (plain)",  # 20 channels do not fill their blocks
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
    assert [name for name in names(padded) if name.startswith("pad")] == ["pad_3", "pad_3 (blocked)", "pad_4"]
    assert names(with_constants) == ["relu", "relu (plain)", "sum", "flat", "linear"]


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
    (want,) = plan(inputs).values()
    for value in model.params.values():
        value[...] = 0.5
    np.testing.assert_array_equal(plan(inputs)["linear_1"], want)


def test_a_model_predicts_by_its_plan_until_its_weights_change() -> None:
    model = settled(vgg, "float32")
    (x,) = inputs_of(model, 5).values()
    before = model.predict(x)
    plan = model.compile_inference()
    (tolerance,) = plan.tolerance({"input": x}).values()
    np.testing.assert_allclose(model.predict(x, batch_size=2), before, rtol=0, atol=2 * tolerance)
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


def test_the_report_tells_of_every_step() -> None:
    model = settled(mobilenet, "float32")
    report = model.plan(batch_size=2)
    plan = model.compile_inference()
    lines = str(report).splitlines()
    assert lines[0].split() == ["step", "stands", "for", "by", "ms", "GFLOP/s", "MiB", "why"]
    assert len(lines) == len(plan.steps) + 2
    for step, row, line in zip(plan.steps, report.rows, lines[1:], strict=False):
        assert line.startswith(step.name)
        assert row.name == step.name
        assert row.seconds > 0
        assert (row.gflops > 0) == (step.macs > 0)
    assert any(row.by == "depthwise" for row in report.rows)
    assert any("each channel is its own group" in row.why for row in report.rows)
    assert report.batch == 2
    assert report.seconds > 0
    assert report.first_seconds > 0
    assert report.arena_nbytes < sum(row.nbytes for row in report.rows)  # values take each other's place
    assert report.weight_nbytes == plan.report().weight_nbytes > 0
    (x,) = inputs_of(model, 3).values()
    assert model.plan(x).batch == 3


def test_values_in_the_arena_never_overlap() -> None:
    """Places of values that live at the same time, on random schedules, and none behind the arena's end."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        held = []
        for index in range(rng.integers(1, 12)):
            shape = (int(rng.integers(0, 40)),)
            held.append(Life(name=str(index), shape=shape, first=index, last=index + int(rng.integers(0, 5))))
        batch, item = int(rng.integers(0, 4)), int(rng.choice([4, 8]))
        places, nbytes = arrange(held, batch, item)
        spans = {
            life.name: (places[life.name], places[life.name] + batch * life.shape[0] * item) for life in held
        }
        assert all(start % 64 == 0 and stop <= nbytes for start, stop in spans.values())
        for one, other in itertools.combinations(held, 2):
            if one.first <= other.last and other.first <= one.last:
                assert (
                    spans[one.name][1] <= spans[other.name][0] or spans[other.name][1] <= spans[one.name][0]
                )


def test_weights_are_kept_once_where_one_algorithm_serves_every_batch() -> None:
    x = nn.Input((32, 8, 8))
    pointwise = settled(lambda: nn.Model(x, nn.Conv2d(64, 1)(x)), "float32")
    plan = InferencePlan(pointwise.graph, pointwise.params, "float32")
    assert plan.weight_nbytes == sum(value.nbytes for value in pointwise.params.values())
    with force_isa("baseline"):  # the form is for the instruction set it was made for, and goes on serving
        assert_right(plan, pointwise, inputs_of(pointwise, 2))


def test_infinities_stay_where_they_belong() -> None:
    """Winograd's results are not finite around them; the plain weight is still there for their samples."""
    model = settled(vgg, "float32")
    plan = InferencePlan(model.graph, model.params, "float32")
    inputs = inputs_of(model, 3)
    clean = plan(inputs)
    (x,) = inputs.values()
    x[1, 0, 3, 3] = np.inf
    with np.errstate(invalid="ignore"):
        got, want = plan(inputs), forward(model.graph, model.params, inputs)
    for name, value in got.items():
        np.testing.assert_array_equal(np.isfinite(value), np.isfinite(want[name]))
        np.testing.assert_array_equal(value[[0, 2]], clean[name][[0, 2]])


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "inputs"),
        ({"input": np.zeros((2, 3, 14, 14), "float32")}, "shape"),
        ({"input": np.zeros((3, 14, 15), "float32")}, "shape"),
        ({"input": np.float32(1)}, "shape"),
        ({"input": np.zeros((2, 3, 14, 15), "float64")}, "float32"),
        ({"input": np.zeros((2, 3, 14, 15), "int32")}, "float"),
    ],
)
def test_unfit_inputs_are_refused(inputs: dict[str, Any], message: str) -> None:
    model = settled(vgg, "float32")
    plan = InferencePlan(model.graph, model.params, "float32")
    with pytest.raises((ValueError, TypeError), match=message):
        plan(inputs)


def test_any_number_of_batch_sizes() -> None:
    """More than a plan stays bound to, the empty batch, and smaller ones in the memory of larger ones."""
    model = settled(resnet, "float32")
    plan = InferencePlan(model.graph, model.params, "float32")
    for batch in (*range(MOST_SIZES + 2), 5, 0, 3):
        inputs = inputs_of(model, batch)
        assert_right(plan, model, inputs)


def change_in_place(model: nn.Model) -> None:
    model.params["conv2d_2.weight"][3, 1] *= -1


def replace_an_array(model: nn.Model) -> None:
    model.params["linear_2.bias"] = model.params["linear_2.bias"] + np.float32(1)


def reorder(model: nn.Model) -> None:
    model.params["conv2d_1.weight"][:] = model.params["conv2d_1.weight"][::-1].copy()


def train(model: nn.Model) -> None:
    model.compile(nn.SGD(0.1), "mse")
    (x,) = inputs_of(model, 4).values()
    model.fit(x, np.ones((4, 5), "float32"), 4, 1, verbose=0)


def train_by_hand(model: nn.Model) -> None:
    model.compile(nn.SGD(0.1), "mse")
    (x,) = inputs_of(model, 4).values()
    _, grads = model.loss_and_gradients(x, np.ones((4, 5), "float32"))
    nn.SGD(0.1).step(model.params, grads)


@pytest.mark.parametrize("change", [change_in_place, replace_an_array, reorder, train, train_by_hand])
def test_predict_is_of_the_parameters_as_they_are(change: Callable[[nn.Model], None]) -> None:
    """Its plan is as good as new: the bits are those of a model that never knew other parameters."""
    model = settled(vgg, "float32")
    (x,) = inputs_of(model, 5).values()
    before = model.predict(x)
    assert model.predict(x).tobytes() == before.tobytes()
    change(model)
    after = model.predict(x)
    assert np.abs(after - before).max() > 1e-3
    assert after.tobytes() == nn.Model.from_graph(model.graph, model.params).predict(x).tobytes()


def test_predict_keeps_its_plan_while_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(
        "fastconv.plan._kept.InferencePlan", lambda *args: made.append(1) or InferencePlan(*args)
    )
    model = settled(resnet, "float32")
    (x,) = inputs_of(model, 5).values()
    for batch_size in (5, 2, 5):
        model.predict(x, batch_size=batch_size)
    assert len(made) == 1
    with use_backend("reference"):  # which the plan is not made for
        model.predict(x)
    assert len(made) == 1
    with force_isa("baseline"):
        model.predict(x)
    assert len(made) == 2


@pytest.mark.parametrize("wrong", [np.zeros(3, "float32"), np.zeros((16, 3, 3, 3))])
def test_parameters_that_do_not_fit_are_refused(wrong: Any) -> None:
    model = settled(vgg, "float32")
    (x,) = inputs_of(model, 2).values()
    model.params["conv2d_1.weight"] = wrong
    for call in (lambda: model.predict(x), model.compile_inference, model.plan):
        with pytest.raises((ValueError, TypeError), match=r"conv2d_1\.weight"):
            call()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_make_plans_of_their_own(copied: Callable[[nn.Model], nn.Model]) -> None:
    model = settled(vgg, "float32")
    (x,) = inputs_of(model, 2).values()
    model.compile_inference()
    before = model.predict(x)
    other = copied(model)
    other.params["linear_2.bias"] += np.float32(1)
    np.testing.assert_allclose(other.predict(x), before + 1, rtol=1e-5)
    assert model.predict(x).tobytes() == before.tobytes()


def test_digests_tell_arrays_apart(threads: int) -> None:
    """Any changed element, also of the last incomplete row, changed signs that could cancel, order and length."""
    rng = np.random.default_rng(0)
    for size in (0, 1, 31, 32, 33, 200, 65536, 65537, 200_000):
        x = rng.standard_normal(size).astype("float32")
        arrays = [
            x,
            np.append(x, np.float32(0)),
            -x,
            x[::-1],
            np.roll(x, 32),
            np.roll(x, 65536),
            x * 2,
            x + 1,
        ]
        for place in {0, size // 2, size - 1} if size else ():
            arrays.append(np.where(np.arange(size) == place, np.nextafter(x, np.float32(9)), x))
        for places in ((0, 32), (0, 65536)):
            if places[1] < size:
                arrays.append(np.where(np.isin(np.arange(size), places), -x, x))
        different = {array.tobytes() for array in arrays}
        assert len({digests({"x": array}) for array in arrays}) == len(different)
        assert digests({"x": x}) == digests({"x": x.copy()})


def test_evaluate_runs_the_plan() -> None:
    model = settled(vgg, "float32")
    model.compile(nn.SGD(0.1), "cross_entropy", ["accuracy"])
    (x,) = inputs_of(model, 12).values()
    y = np.arange(12) % 5
    before = model.evaluate(x, y, batch_size=5)
    model.compile_inference()
    planned = model.evaluate(x, y, batch_size=5)
    assert planned["accuracy"] == before["accuracy"]
    assert planned["loss"] == pytest.approx(before["loss"], rel=1e-5)
    model.params["linear_2.bias"] += np.float32([9, 0, 0, 0, 0])  # against the promise, so it shows
    assert model.evaluate(x, y, batch_size=5) == planned
    model.compile_inference()
    assert model.evaluate(x, y)["loss"] != pytest.approx(planned["loss"], rel=1e-3)
