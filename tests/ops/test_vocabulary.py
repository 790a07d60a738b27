"""Every op that a layer test does not cover: shape, dtype, gradients, plan, the way to a file and back, errors."""

import json
import math

import numpy as np
import pytest

from fastconv import nn, ops
from fastconv.autodiff import backward
from fastconv.explain import receptive_field
from fastconv.fusion import fuse
from fastconv.graph import Graph, Node, forward
from fastconv.ops import Context
from fastconv.plan import InferencePlan
from gradcheck import check_gradients
from kit import bits, ramp

UNARY = (
    *("abs", "celu", "clip", "cos", "elu", "erf", "exp", "gelu", "gelu_tanh", "hard_sigmoid", "hard_swish"),
    *("log", "mish", "neg", "reciprocal", "selu", "silu", "sin", "softplus", "softsign", "sqrt"),
)
STEPS = ("ceil", "floor", "round", "sign")
PAIRS = (ops.Subtract(), ops.Divide(), ops.Power(), ops.Minimum(), ops.Maximum(), ops.MeanOf())
REDUCTIONS = ("l1", "l2", "log_sum", "log_sum_exp", "max", "mean", "min", "prod", "sum", "sum_square")

# (op, shapes of its inputs per sample, shape of its output)
DIFFERENTIABLE = [
    *((ops.Unary(function=name), [(3, 7)], (3, 7)) for name in UNARY),
    *((ops.Unary(function=name), [(3, 4, 5)], (3, 4, 5)) for name in ("exp", "hard_swish", "silu")),
    (ops.Unary(function="clip", alpha=-0.3, beta=0.7), [(3, 7)], (3, 7)),
    (ops.Unary(function="elu", alpha=0.4), [(3, 7)], (3, 7)),
    (ops.Unary(function="hard_sigmoid", alpha=0.2, beta=0.4), [(3, 7)], (3, 7)),
    (ops.Unary(function="silu", alpha=1.7), [(3, 7)], (3, 7)),
    (ops.Unary(function="softplus", alpha=2.5), [(3, 7)], (3, 7)),
    (ops.PRelu(slope_shape=(3, 1, 1)), [(3, 4, 5)], (3, 4, 5)),
    (ops.PRelu(slope_shape=()), [(5,)], (5,)),
    (ops.PRelu(slope_shape=(4, 5)), [(3, 4, 5)], (3, 4, 5)),
    *((op, [(3, 4), (3, 4)], (3, 4)) for op in PAIRS),
    *((op, [(3, 1, 4), (2, 1)], (3, 2, 4)) for op in PAIRS),
    (ops.Minimum(), [(3,), (2, 1), ()], (2, 3)),
    (ops.MeanOf(), [(2, 3), (3,), (2, 1)], (2, 3)),
    (ops.Add(), [(2, 3), (3,), (2, 1)], (2, 3)),
    (ops.Multiply(), [(3,), (2, 1)], (2, 3)),
    (ops.MatMul(), [(3, 4), (4, 5)], (3, 5)),
    (ops.MatMul(), [(2, 3, 4), (4, 5)], (2, 3, 5)),
    (ops.MatMul(), [(3, 4), (2, 4, 5)], (2, 3, 5)),
    (ops.MatMul(), [(3, 1, 2, 4), (2, 4, 5)], (3, 2, 2, 5)),
    (ops.MatMul(), [(4,), (4, 5)], (5,)),
    (ops.MatMul(), [(2, 3, 4), (4,)], (2, 3)),
    (ops.MatMul(), [(4,), (4,)], ()),
    (ops.Transpose(perm=(2, 0, 1)), [(2, 3, 4)], (4, 2, 3)),
    (ops.Slice(starts=(1, -1, 0), stops=(9, -9, 4), steps=(1, -2, 3)), [(3, 5, 6)], (2, 3, 2)),
    (ops.Gather(axis=1, indices=(0, 2, 2, -1)), [(2, 4, 3)], (2, 4, 3)),
    (ops.Gather(axis=0, indices=(1, 0, 1, 2, 0, 0), indices_shape=(2, 3)), [(3, 2)], (2, 3, 2)),
    (ops.Gather(axis=-1, indices=(1,), indices_shape=()), [(3, 2)], (3,)),
    (ops.Expand(shape=(3, 1, 4)), [(2, 1)], (3, 2, 4)),
    (ops.Expand(shape=(1,)), [(2, 3)], (2, 3)),
    (ops.Tile(repeats=(2, 1, 3)), [(2, 3, 2)], (4, 3, 6)),
    (ops.DepthToSpace(block=2), [(12, 2, 3)], (3, 4, 6)),
    (ops.DepthToSpace(block=2, mode="CRD"), [(8, 2, 3)], (2, 4, 6)),
    (ops.SpaceToDepth(block=3), [(2, 3, 6)], (18, 1, 2)),
    (ops.SpaceToDepth(block=2, mode="CRD"), [(2, 4, 6)], (8, 2, 3)),
    (ops.Concat(axis=-1), [(2, 3), (2, 1), (2, 4)], (2, 8)),
    (ops.Softmax(axis=-1), [(2, 3, 4)], (2, 3, 4)),
    (ops.Softmax(axis=1, log=True), [(2, 3, 4)], (2, 3, 4)),
    (ops.Pad(padding=(1, 2, 0, 3, 2, 1), mode="reflect"), [(4, 5, 6)], (7, 8, 9)),
    (ops.Pad(padding=(3, 1), mode="replicate"), [(4,)], (8,)),
    (ops.Pad(padding=(-1, 2, 2, -2), mode="circular"), [(2, 3, 4)], (2, 3, 5)),
    (ops.Resize(out_size=(6, 10)), [(2, 3, 5)], (2, 6, 10)),
    (ops.Resize(scales=(1.5, 0.7), mode="linear"), [(2, 3, 5)], (2, 4, 3)),
    (ops.Resize(out_size=(4,), mode="linear"), [(2, 3, 5)], (2, 3, 4)),
    (ops.Resize(out_size=(7, 4), mode="cubic", coordinate_transform="align_corners"), [(2, 3, 5)], (2, 7, 4)),
    (ops.Resize(out_size=(3, 2, 4), mode="linear", antialias=True), [(2, 6, 5)], (3, 2, 4)),
    (ops.Resize(out_size=(3, 4), mode="cubic", exclude_outside=True), [(2, 6, 5)], (2, 3, 4)),
    *((ops.Reduce(function=name, axes=(1, -1)), [(2, 3, 4)], (2, 1, 1)) for name in REDUCTIONS),
    *((ops.Reduce(function=name, axes=(0,), keepdims=False), [(3, 4)], (4,)) for name in REDUCTIONS),
    (ops.Reduce(function="mean", keepdims=False), [(3, 4)], ()),
    (ops.LRN(size=3, alpha=0.5), [(5, 2, 3)], (5, 2, 3)),
    (ops.LRN(size=4, alpha=0.5, beta=0.6, bias=2.0), [(3, 2)], (3, 2)),
    (ops.LRN(size=4, before=2), [(6,)], (6,)),
    (ops.InstanceNorm(), [(3, 4, 5)], (3, 4, 5)),
    (ops.InstanceNorm(affine=False, eps=0.1), [(3, 6)], (3, 6)),
    (ops.GroupNorm(num_groups=2), [(4, 3, 2)], (4, 3, 2)),
    (ops.LayerNorm(), [(3, 6)], (3, 6)),
    (ops.LayerNorm(ndim=2), [(3, 2, 4)], (3, 2, 4)),
    (ops.LpPool.of(2, (2, 3), 2, 1), [(2, 5, 6)], (2, 3, 3)),
    (ops.LpPool.of(1, 3, 2, dilation=2, ceil_mode=True, p=3.0), [(2, 10)], (2, 4)),
    (ops.GlobalLpPool(), [(2, 3, 4)], (2,)),
    (ops.GlobalLpPool(p=3.0, keepdims=True), [(2, 5)], (2, 1)),
]
COMPARISONS = (
    *("equal", "not_equal", "greater", "less", "greater_or_equal", "less_or_equal", "and", "or", "xor"),
)
STEPWISE = [
    *((ops.Unary(function=name), [(3, 7)], (3, 7)) for name in STEPS),
    (ops.Unary(function="not"), [(3, 7)], (3, 7)),
    *((ops.Compare(function=name), [(3, 1), (4,)], (3, 4)) for name in COMPARISONS),
    (ops.ArgMax(), [(3, 4)], (1, 4)),
    (ops.ArgMax(axis=-1, keepdims=False, select_last=True), [(3, 4)], (3,)),
    (ops.ArgMin(axis=1), [(3, 4)], (3, 1)),
    (ops.Cast(to="int32"), [(3, 4)], (3, 4)),
]
CASES = DIFFERENTIABLE + STEPWISE


def label(case):
    op, shapes, _ = case
    return f"{op.kind}-{'-'.join('x'.join(map(str, shape)) for shape in shapes)}"


every_op = pytest.mark.parametrize(("op", "shapes", "expected"), CASES, ids=map(label, CASES))
every_differentiable = pytest.mark.parametrize(
    ("op", "shapes", "expected"), DIFFERENTIABLE, ids=map(label, DIFFERENTIABLE)
)

_POSITIVE = {"log", "sqrt", "power", "reciprocal", "divide", "reduce_log_sum"}


def arrays_for(op, shapes, batch=3, dtype="float64"):
    """No ties, nothing at a kink, and positive where the op is not defined elsewhere."""
    arrays = [ramp((batch, *shape), dtype, seed=i) * 4 for i, shape in enumerate(shapes)]
    return [np.abs(x) + x.dtype.type(0.1) for x in arrays] if op.kind in _POSITIVE else arrays


def params_for(op, shapes, dtype="float64"):
    return {
        key: ramp(shape, dtype, seed=20 + i)
        for i, (key, shape) in enumerate(op.param_shapes(*shapes).items())
    }


def graph_of(op, shapes):
    inputs = {f"x{i}": shape for i, shape in enumerate(shapes)}
    node = Node("y", op, tuple(inputs), tuple(f"y.{key}" for key in op.param_shapes(*shapes)))
    return Graph(inputs, (node,), ("y",))


def test_every_op_has_a_case():
    elsewhere = {
        *(ops.Activation, ops.AdaptiveAvgPool, ops.AdaptiveMaxPool, ops.AvgPool, ops.BatchNorm, ops.Conv),
        *(
            ops.ConvTranspose,
            ops.DropBlock,
            ops.Dropout,
            ops.GaussianNoise,
            ops.GlobalAvgPool,
            ops.GlobalMaxPool,
        ),
        *(ops.Linear, ops.MaxPool, ops.Reshape),  # of layers, with which they are tested
        *(ops.Constant, ops.Where),  # below
    }
    assert {type(op) for op, _, _ in CASES} | elsewhere == set(ops.VOCABULARY.values())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@every_op
def test_shape_and_dtype(op, shapes, expected, dtype):
    arrays, params = arrays_for(op, shapes, dtype=dtype), params_for(op, shapes, dtype)
    before = [bits(x) for x in arrays]
    output, _ = op.forward(tuple(arrays), params, Context())
    assert op.infer_shape(*shapes) == expected
    assert output.shape == (3, *expected)
    assert output.flags.c_contiguous
    assert [bits(x) for x in arrays] == before
    if (op, shapes, expected) in DIFFERENTIABLE or op.kind in STEPS:
        assert output.dtype == dtype


@every_op
def test_a_sample_does_not_depend_on_the_others(op, shapes, expected):
    arrays, params = arrays_for(op, shapes, dtype="float32"), params_for(op, shapes, "float32")
    together, _ = op.forward(tuple(arrays), params, Context())
    for i in range(3):
        alone, _ = op.forward(tuple(x[i : i + 1].copy() for x in arrays), params, Context())
        assert bits(alone) == bits(together[i : i + 1])


@every_differentiable
def test_gradients(op, shapes, expected):
    check_op(op, arrays_for(op, shapes), params_for(op, shapes))


@every_differentiable
def test_gradients_of_what_is_the_same_for_all_samples(op, shapes, expected):
    arrays = arrays_for(op, shapes)
    for i in range(len(arrays) if len(arrays) > 1 else 0):
        check_op(op, [x[:1] if j == i else x for j, x in enumerate(arrays)], params_for(op, shapes))


def check_op(op, arrays, params):
    def run(*values, recording=False):
        inputs, own = values[: len(arrays)], values[len(arrays) :]
        return op.forward(tuple(inputs), dict(zip(params, own, strict=True)), Context(recording=recording))

    def gradients(grad_output):
        _, saved = run(*arrays, *params.values(), recording=True)
        wanted = ops.Wanted(inputs=(True,) * len(arrays), params=True)
        of_inputs, of_params = op.backward(grad_output, saved, params, wanted)
        assert all(g.flags.c_contiguous for g in (*of_inputs, *of_params.values()))
        assert list(of_params) == list(params)
        return [*of_inputs, *of_params.values()]

    check_gradients(lambda *values: run(*values)[0], gradients, [*arrays, *params.values()], tolerance=1e-6)


@every_differentiable
def test_unwanted_gradients_are_left_out(op, shapes, expected):
    arrays, params = arrays_for(op, shapes), params_for(op, shapes)
    output, saved = op.forward(tuple(arrays), params, Context(recording=True))
    wanted = ops.Wanted(inputs=(False,) * (len(arrays) - 1) + (True,), params=False)
    of_inputs, _ = op.backward(np.ones_like(output), saved, params, wanted)
    assert [g is None for g in of_inputs] == [not want for want in wanted.inputs]


@pytest.mark.parametrize("op", [ops.Unary(function=name) for name in STEPS], ids=lambda op: op.kind)
def test_steps_have_gradient_zero(op):
    x = ramp((2, 5))
    _, saved = op.forward((x,), {}, Context(recording=True))
    (grad,), _ = op.backward(np.ones_like(x), saved, {}, ops.Wanted((True,), False))
    np.testing.assert_array_equal(grad, np.zeros_like(x))


@every_op
def test_config_round_trip(op, shapes, expected):
    again = ops.from_config(json.loads(json.dumps(ops.to_config(op))))
    assert again == op
    assert hash(again) == hash(op)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@every_differentiable
def test_the_inference_plan_computes_the_same(op, shapes, expected, dtype):
    """Also behind a convolution of images, which may leave its result in another layout, and before one."""
    inputs = [nn.Input(shape) for shape in shapes]
    layer = nn.Layer(op, initializers={key: nn.initializers.get("ones") for key in op.param_shapes(*shapes)})
    mixed = [nn.Conv2d(x.shape[0], 1)(x) if len(x.shape) == 3 else x for x in inputs]
    if op.kind in _POSITIVE:
        mixed = [nn.Layer(ops.Unary(function="exp"))(x) for x in mixed]
    y = layer(*mixed)
    y = nn.Conv2d(5, 1)(y) if len(y.shape) == 3 and y.shape[0] else nn.ReLU()(y)
    model = nn.Model(inputs, y, seed=1, dtype=dtype)
    x = {name: ramp((3, *shape), dtype) for name, shape in model.graph.inputs.items()}
    (name,) = model.graph.outputs
    found = InferencePlan(model.graph, model.params, dtype)(x)[name]
    wanted = forward(model.graph, model.params, x)[name]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=200 * np.finfo(dtype).eps * abs(wanted).max())


@every_op
def test_windows_hold_what_is_seen(op, shapes, expected):
    """Whatever a changed pixel changes has that pixel in its field."""
    if len(shapes) > 1 or len(shapes[0]) < 2 or op.kind == "not":
        return
    graph = graph_of(op, shapes)
    (field,) = receptive_field(graph)
    params = {f"y.{key}": value for key, value in params_for(op, shapes).items()}
    (x,) = arrays_for(op, shapes, batch=1)
    before = forward(graph, params, {"x0": x})["y"]
    for pixel in np.ndindex(*shapes[0][1:]):
        changed = x.copy()
        changed[(0, slice(None), *pixel)] = ramp(shapes[0][:1], seed=5) * 7 + (
            10 if op.kind in _POSITIVE else 0
        )
        after = forward(graph, params, {"x0": changed})["y"]
        if field.whole_input or field.stride is None:
            continue
        for unit in {tuple(map(int, place[2:])) for place in np.argwhere(before != after)}:
            spans = field.interval(unit)
            outside = any(
                not first <= at <= last and 0 < at < n - 1  # the edges stand for what is beyond
                for at, (first, last), n in zip(pixel, spans, shapes[0][1:], strict=True)
            )
            assert not outside or op.kind == "pad", (pixel, unit, spans)


def test_a_constant_in_a_net_that_trains():
    x = {"x": ramp((4, 3, 5, 5), "float32")}
    nodes = (
        Node("c", ops.Constant(shape=(6, 1, 1)), (), ("c.value",)),
        Node("same", ops.Constant(shape=(6, 5, 5)), (), ("same.value",)),
        Node("conv", ops.Conv.of(2, 6, 3, padding=1), ("x",), ("conv.weight", "conv.bias")),
        Node("sum", ops.Add(), ("conv", "same")),
        Node("relu", ops.Activation(function="relu"), ("sum",)),
        Node("scaled", ops.Multiply(), ("relu", "c")),
        Node("both", ops.Concat(), ("scaled", "same")),
        Node("next", ops.Conv.of(2, 8, 3), ("both",), ("next.weight", "next.bias")),
        Node("flat", ops.Reshape(), ("next",)),
        Node("y", ops.Linear(out_features=3), ("flat",), ("y.weight", "y.bias")),
    )
    graph = Graph({"x": (3, 5, 5)}, nodes, ("y",))
    params = {
        key: ramp(shape, "float32", seed=i) for i, (key, shape) in enumerate(graph.param_shapes.items())
    }
    model = nn.Model.from_graph(graph, params)
    plain = forward(graph, params, x)["y"]
    np.testing.assert_array_equal(forward(fuse(graph), params, x)["y"], plain)
    plan = InferencePlan(graph, params, "float32")
    for size in (4, 1, 4):
        found = plan({"x": x["x"][:size]})["y"]
        np.testing.assert_allclose(found, plain[:size], rtol=0, atol=1e-4 * abs(plain).max())
    before = {key: value.copy() for key, value in params.items()}
    model.compile(optimizer=nn.SGD(1e-2), loss="cross_entropy")
    model.fit(x["x"], np.array([0, 1, 2, 0]), epochs=1, batch_size=4, verbose=0)
    assert all((model.params[key] != before[key]).any() for key in ("c.value", "same.value", "conv.weight"))


def test_gradients_through_constants_and_choices():
    nodes = (
        Node("c", ops.Constant(shape=(4,)), (), ("c.value",)),
        Node("d", ops.Constant(shape=()), (), ("d.value",)),
        Node("test", ops.Compare(function="greater"), ("x", "d")),
        Node("chosen", ops.Where(), ("test", "c", "x")),
        Node("y", ops.Multiply(), ("chosen", "x")),
    )
    graph = Graph({"x": (2, 4)}, nodes, ("y",))
    arrays = [ramp((3, 2, 4)), ramp((4,), seed=1)]

    def run(x, c, tape=None):
        params = {"c.value": c, "d.value": np.array(0.2)}
        return params, forward(graph, params, {"x": x}, tape=tape)["y"]

    def gradients(grad_output):
        params, _ = run(*arrays, tape=(tape := []))
        of_params, of_inputs = backward(graph, params, tape, {"y": grad_output}, wrt_inputs=True)
        return of_inputs["x"], of_params["c.value"]

    check_gradients(lambda *values: run(*values)[1], gradients, arrays)


def test_training_goes_on_where_a_parameter_has_no_gradient():
    nodes = (
        Node("c", ops.Constant(shape=()), (), ("c.value",)),
        Node("h", ops.Linear(out_features=3), ("x",), ("h.weight", "h.bias")),
        Node("test", ops.Compare(function="greater"), ("h", "c")),
        Node("y", ops.Where(), ("test", "h", "c")),
    )
    graph = Graph({"x": (4,)}, nodes, ("y",))
    params = {
        key: ramp(shape, "float32", seed=i) for i, (key, shape) in enumerate(graph.param_shapes.items())
    }
    model = nn.Model.from_graph(graph, params)
    model.compile(optimizer=nn.Adam(1e-2), loss="mse")
    model.fit(ramp((8, 4), "float32"), ramp((8, 3), "float32"), epochs=2, verbose=0)
    assert math.isfinite(model.history.history["loss"][-1])


@pytest.mark.parametrize("dtype", ["float16", "int32", "int64", "bool"])
@pytest.mark.parametrize(
    "op",
    [
        ops.Activation(function="sigmoid"),
        ops.AdaptiveMaxPool.of(2, 2),
        ops.AvgPool.of(2, 2),
        ops.BatchNorm(affine=False),
        ops.Conv.of(2, 16, 3),
        ops.ConvTranspose.of(2, 16, 3),
        ops.GlobalAvgPool(),
        ops.InstanceNorm(affine=False),
        ops.LpPool.of(2, 2),
        ops.MaxPool.of(2, 2),
        ops.Pad(padding=1),
        ops.Softmax(),
    ],
    ids=lambda op: op.kind,
)
def test_kernels_take_no_other_dtypes(op, dtype):
    """Which are in a net since it can cast; the memory is another than they were told of."""
    params = tuple(f"y.{key}" for key in op.param_shapes((16, 4, 4)))
    nodes = (Node("c", ops.Cast(to=dtype), ("x",)), Node("y", op, ("c",), params))
    graph = Graph({"x": (16, 4, 4)}, nodes, ("y",))
    values = {name: np.ones(shape, "float32") for name, shape in graph.param_shapes.items()}
    x = {"x": ramp((2, 16, 4, 4), "float32")}
    for run in (lambda: forward(graph, values, x), lambda: InferencePlan(graph, values, "float32")(x)):
        with pytest.raises(TypeError, match=f"float32 or float64, got {dtype}"):
            run()


def test_sums_of_different_dtypes():
    x = ramp((2, 16, 4, 4), "float32") * 9
    nodes = (
        Node("c", ops.Cast(to="int32"), ("x",)),
        Node("s", ops.Add(), ("x", "c")),
        Node("y", ops.Activation(function="relu"), ("s",)),
    )
    graph = Graph({"x": (16, 4, 4)}, nodes, ("y",))
    expected = np.maximum(x + x.astype("int32"), 0)
    np.testing.assert_array_equal(forward(graph, {}, {"x": x})["y"], expected)
    np.testing.assert_array_equal(nn.Model.from_graph(graph, {}).predict(x), expected)


@pytest.mark.parametrize(
    ("op", "shapes", "message"),
    [
        (ops.Unary(function="exp"), [(3,), (3,)], "takes one input, got 2"),
        (ops.PRelu(slope_shape=(4,)), [(3,)], r"slope_shape must broadcast to the input \(3,\), got \(4,\)"),
        (ops.PRelu(slope_shape=(2, 3)), [(3,)], "slope_shape must broadcast"),
        (ops.Subtract(), [(3,), (4,)], r"two inputs that broadcast to one shape, got \[\(3,\), \(4,\)\]"),
        (ops.Subtract(), [(3,)], "takes two inputs"),
        (ops.Maximum(), [(3,)], "two or more inputs"),
        (ops.Compare(function="less"), [(3,), (3,), (3,)], "takes two inputs"),
        (ops.Where(), [(3,), (3,)], "takes three inputs"),
        (ops.Constant(shape=(2,)), [(3,)], "takes no input, got 1"),
        (ops.MatMul(), [(3, 4), (3, 4)], r"\(\.\.\., M, K\) and \(\.\.\., K, N\)"),
        (ops.MatMul(), [(2, 3, 4), (3, 4, 5)], "whose axes in front broadcast"),
        (ops.MatMul(), [(), (4, 5)], "matmul takes two inputs"),
        (ops.Transpose(perm=(1, 0)), [(3,)], "takes 2 axes, got"),
        (ops.Slice(starts=(0,), stops=(1,), steps=(1,)), [(3, 4)], "takes 1 axes"),
        (ops.Gather(axis=2, indices=(0,)), [(3, 4)], "axis from -2 to 1"),
        (ops.Gather(axis=1, indices=(0, 4)), [(3, 4)], "indices must be from -4 to 3 .* got 0 to 4"),
        (ops.Expand(shape=(3,)), [(4,)], r"expand to \(3,\)"),
        (ops.Tile(repeats=(2,)), [(3, 4)], "takes 1 axes"),
        (ops.Tile(repeats=(2**40, 2**40)), [(3, 4)], r"more than 2\*\*59 elements"),
        (ops.Expand(shape=(2**61,)), [(3, 1)], r"more than 2\*\*59 elements"),
        (ops.DepthToSpace(block=2), [(6, 2, 2)], "multiple of 4 channels, got 6"),
        (ops.SpaceToDepth(block=2), [(6, 3, 2)], r"multiples of it, got \(3, 2\)"),
        (ops.DepthToSpace(block=2), [(4, 2)], r"\(C, H, W\) per sample"),
        (ops.Concat(axis=1), [(2, 3), (3, 3)], "differ in axis 1 only"),
        (ops.Concat(axis=2), [(2, 3), (3, 3)], "axis from -2 to 1"),
        (ops.Softmax(axis=3), [(2, 3)], "axis from -2 to 1 of a sample, got 3"),
        (ops.Pad(padding=(3, 3, 0, 0, 4, 0), mode="reflect"), [(4, 4, 4)], "pads size 4 by 0 to 3"),
        (ops.Pad(padding=(-3, -3), mode="replicate"), [(5,)], "cropped below 0"),
        (ops.Resize(out_size=(4, 4)), [(3,)], "as many axes"),
        (ops.Resize(out_size=(4,)), [(0,)], "size >= 1"),
        (ops.Resize(out_size=(4,), scales=(1e-9,)), [(3, 8)], r"does not make \(4,\) of \(8,\)"),
        (ops.Resize(out_size=(2**40, 2**40)), [(3, 2, 2)], r"more than 2\*\*59 elements"),
        (ops.Reduce(function="sum", axes=(0, -2)), [(2, 3)], r"each axis once, got \(0, -2\)"),
        (ops.Reduce(function="max", axes=(0,)), [(0, 3)], "one or more elements"),
        (ops.ArgMax(axis=1), [(3, 0)], "one or more elements"),
        (ops.LRN(size=3), [()], "channels"),
        (ops.InstanceNorm(), [(3,)], "channels and spatial dimensions"),
        (ops.GroupNorm(num_groups=2), [(3, 4)], "a multiple of 2 channels"),
        (ops.LayerNorm(ndim=3), [(3, 4)], "over 3 axes"),
        (ops.GlobalLpPool(), [(3,)], "spatial dimensions"),
        (ops.LpPool.of(2, 9), [(3, 4, 4)], "effective window"),
    ],
)
def test_shape_errors(op, shapes, message):
    with pytest.raises(ValueError, match=message):
        op.infer_shape(*shapes)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ops.Unary(function="twist"), r"function must be one of .* got 'twist'"),
        (lambda: ops.Unary(function="celu", alpha=0.0), "an alpha that is not 0"),
        (lambda: ops.Unary(function="clip", alpha=math.nan), "must be numbers"),
        (lambda: ops.Compare(function="like"), "function must be one of"),
        (lambda: ops.Reduce(function="median"), "function must be one of"),
        (lambda: ops.Cast(to="complex64"), "to must be one of"),
        (lambda: ops.Transpose(perm=(0, 2)), "each axis of a sample once"),
        (lambda: ops.Slice(starts=(0, 1), stops=(1,), steps=(1,)), "of one length"),
        (lambda: ops.Slice(starts=(0,), stops=(1,), steps=(0,)), "steps must not be 0"),
        (lambda: ops.Gather(axis=0, indices=(0, 1, 2), indices_shape=(2, 2)), "as many elements"),
        (lambda: ops.Tile(repeats=(-1,)), "repeats must be >= 0"),
        (lambda: ops.DepthToSpace(block=0), "block must be >= 1"),
        (lambda: ops.SpaceToDepth(block=2, mode="RCD"), "mode must be one of"),
        (lambda: ops.Resize(out_size=(4,), mode="area"), "mode must be one of"),
        (lambda: ops.Resize(out_size=(4,), coordinate_transform="corner"), "coordinate_transform must be"),
        (lambda: ops.Resize(out_size=(4,), nearest_mode="up"), "nearest_mode must be"),
        (lambda: ops.Resize(out_size=(0,)), "sizes >= 1"),
        (lambda: ops.Resize(), "either out_size or scales"),
        (lambda: ops.Resize(scales=()), "scales must be"),
        (lambda: ops.Resize(out_size=(4,), scales=(0.0,)), "scales must be finite numbers > 0"),
        (lambda: ops.Resize(out_size=(4,), scales=(1.0, 2.0)), "one for each size"),
        (lambda: ops.LRN(size=0), "size must be >= 1"),
        (lambda: ops.LRN(size=3, before=3), "before must be from 0 to size - 1 = 2"),
        (lambda: ops.InstanceNorm(eps=-1.0), "eps must be >= 0"),
        (lambda: ops.LpPool.of(2, 2, p=0.5), "p must be a finite number >= 1"),
        (lambda: ops.GlobalLpPool(p=math.inf), "p must be a finite number >= 1"),
    ],
)
def test_ops_refuse_bad_fields_at_once(make, message):
    with pytest.raises(ValueError, match=message):
        make()
