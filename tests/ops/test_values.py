"""Ops against NumPy and the standard library."""

import math

import numpy as np
import pytest

from fastconv import ops
from fastconv.explain import receptive_field
from fastconv.graph import Graph, Node, forward
from fastconv.ops import Context
from kit import ramp

EXTREMES = np.array([-np.inf, -1e30, -800.0, -30.0, -1e-30, 0.0, 1e-30, 30.0, 800.0, 1e30, np.inf])


def run(op, *arrays, **params):
    return op.forward(arrays, params, Context())[0]


def unary(function, x, **numbers):
    return run(ops.Unary(function=function, **numbers), x)


def test_erf_is_right_to_rounding():
    x = np.concatenate([np.linspace(-7, 7, 20011), np.geomspace(1e-300, 0.5, 500), [0.46875]])
    expected = np.array([math.erf(v) for v in x])
    np.testing.assert_allclose(unary("erf", x), expected, rtol=4 * np.finfo(float).eps, atol=0)
    single = x.astype(np.float32)
    found = unary("erf", single)
    assert found.dtype == np.float32
    expected = np.array([math.erf(v) for v in single])
    np.testing.assert_allclose(found, expected, rtol=5 * np.finfo(np.float32).eps, atol=1e-44)
    np.testing.assert_array_equal(unary("erf", np.array([np.nan, np.inf, -np.inf])), [np.nan, 1, -1])
    assert math.copysign(1, unary("erf", np.array([-0.0]))[0]) == -1


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("softplus", [0, 0, 0, math.exp(-30), math.log(2), math.log(2), math.log(2), 30, 800, 1e30, math.inf]),
        ("elu", [-1, -1, -1, math.expm1(-30), -1e-30, 0, 1e-30, 30, 800, 1e30, math.inf]),
        ("mish", [math.nan, 0, 0, -30 * math.exp(-30), -6e-31, 0, 6e-31, 30, 800, 1e30, math.inf]),
        ("silu", [math.nan, 0, 0, -30 * math.exp(-30), -5e-31, 0, 5e-31, 30, 800, 1e30, math.inf]),
        ("gelu", [math.nan, 0, 0, 0, -5e-31, 0, 5e-31, 30, 800, 1e30, math.inf]),
        ("log", [math.nan] * 5 + [-math.inf, *(math.log(v) for v in EXTREMES[6:])]),
        ("sqrt", [math.nan] * 5 + [0, 1e-15, 30**0.5, 800**0.5, 1e15, math.inf]),
        ("reciprocal", [0, -1e-30, -1 / 800, -1 / 30, -1e30, math.inf, 1e30, 1 / 30, 1 / 800, 1e-30, 0]),
    ],
)  # fmt: skip
def test_functions_at_extremes(function, expected):
    np.testing.assert_allclose(unary(function, EXTREMES), expected, rtol=1e-12, atol=1e-40)
    assert np.isnan(unary(function, np.array([np.nan])))[0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "function", ["celu", "elu", "gelu_tanh", "mish", "selu", "silu", "softplus", "softsign"]
)
def test_slopes_at_extremes_are_finite(function, dtype):
    x = np.array([-1e4, -90, -20, 0, 20, 90, 1e4], dtype)
    op = ops.Unary(function=function)
    _, saved = op.forward((x,), {}, Context(recording=True))
    (grad,), _ = op.backward(np.ones_like(x), saved, {}, ops.Wanted((True,), False))
    assert grad.dtype == dtype
    assert np.isfinite(grad).all()
    assert (np.abs(grad) < 2).all()


def test_functions_of_nan_are_nan_but_for_not():
    for name in (
        *("abs", "ceil", "clip", "hard_sigmoid", "hard_swish", "round", "selu", "sign", "softsign"),
    ):
        assert np.isnan(unary(name, np.array([np.nan], np.float32)))[0], name
    np.testing.assert_array_equal(unary("not", np.array([True, False])), [False, True])
    np.testing.assert_array_equal(unary("round", np.array([0.5, 1.5, -0.5, 2.4])), [0, 2, 0, 2])


def test_tame_functions():
    """Which may work on what fills a block of channels up."""
    tame = ("abs", "elu", "erf", "gelu", "hard_swish", "mish", "neg", "silu", "sin", "softsign")
    wild = ("cos", "exp", "hard_sigmoid", "log", "reciprocal", "softplus", "sqrt")
    assert all(ops.Unary(function=name).is_tame for name in tame)
    assert not any(ops.Unary(function=name).is_tame for name in wild)
    assert not ops.Unary(function="clip", alpha=1.0).is_tame


def test_clip_passes_the_gradient_at_its_bounds():
    op = ops.Unary(function="clip", alpha=0.0, beta=6.0)
    x = np.array([-1.0, 0.0, 3.0, 6.0, 7.0])
    (grad,), _ = op.backward(np.ones(5), x, {}, ops.Wanted((True,), False))
    np.testing.assert_array_equal(grad, [0, 1, 1, 1, 0])


def test_prelu_has_a_slope_for_each_channel():
    x = ramp((2, 3, 4, 5))
    slope = np.array([0.1, -0.5, 2.0])[:, None, None]
    op = ops.PRelu(slope_shape=(3, 1, 1))
    np.testing.assert_array_equal(run(op, x, slope=slope), np.where(x > 0, x, slope * x))
    assert np.isnan(run(op, np.full((1, 3, 1, 1), np.nan), slope=slope)).all()


@pytest.mark.parametrize(
    ("op", "function"),
    [
        (ops.Add(), np.add),
        (ops.Subtract(), np.subtract),
        (ops.Multiply(), np.multiply),
        (ops.Divide(), np.divide),
        (ops.Minimum(), np.minimum),
        (ops.Maximum(), np.maximum),
        (ops.Compare(function="less_or_equal"), np.less_equal),
        (ops.Compare(function="equal"), np.equal),
    ],
)
def test_samples_broadcast_as_arrays_do(op, function):
    a, b = ramp((3, 2, 4), "float32"), ramp((3, 5, 1, 4), "float32", seed=1)
    expected = np.stack([function(x, y) for x, y in zip(a, b, strict=True)])
    np.testing.assert_array_equal(run(op, a, b), expected)
    np.testing.assert_array_equal(run(op, b, a[:1]), function(b, a[0]))


def test_division_is_silent_and_that_of_integers_truncates():
    np.testing.assert_array_equal(
        run(ops.Divide(), np.array([[1.0, -1.0, 0.0]]), np.zeros((1, 3))), [[np.inf, -np.inf, np.nan]]
    )
    quotient = run(ops.Divide(), np.array([[7, -7, 7, -7]]), np.array([[2, 2, -2, -2]]))
    np.testing.assert_array_equal(quotient, [[3, -3, -3, 3]])
    assert quotient.dtype.kind == "i"


def test_power_at_its_edges():
    op, base = ops.Power(), np.array([[-2.0, 0.0, 0.0, 3.0]])
    exponent = np.array([[3.0, 0.0, 2.0, -1.0]])
    np.testing.assert_allclose(run(op, base, exponent), [[-8, 1, 0, 1 / 3]])
    grads, _ = op.backward(np.ones((1, 4)), (base, exponent), {}, ops.Wanted((True, True), False))
    np.testing.assert_allclose(grads[0], [[12, 0, 0, -1 / 9]])
    np.testing.assert_allclose(grads[1], [[0, 0, 0, math.log(3) / 3]])
    assert run(op, base.astype("float32"), exponent).dtype == np.float32


@pytest.mark.parametrize("op", [ops.Minimum(), ops.Maximum()])
def test_equal_extremes_share_the_gradient(op):
    a, b = np.array([[1.0, 2.0, np.nan]]), np.array([[1.0, 3.0, 1.0]])
    output, saved = op.forward((a, b), {}, Context(recording=True))
    assert np.isnan(output[0, 2])
    grads, _ = op.backward(np.ones((1, 3)), saved, {}, ops.Wanted((True, True), False))
    np.testing.assert_array_equal(grads[0][0, :2], [0.5, op.kind == "minimum"])
    np.testing.assert_array_equal(grads[1][0, :2], [0.5, op.kind == "maximum"])


def test_where_takes_truth_values_and_numbers():
    a, b = ramp((2, 3)), ramp((1, 3), seed=1)
    for condition in (a > 0, (a > 0).astype("float32")):
        np.testing.assert_array_equal(run(ops.Where(), condition, a, b), np.where(a > 0, a, b))


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
@pytest.mark.parametrize(
    ("a", "b"),
    [((3, 4), (4, 5)), ((2, 3, 4), (4, 5)), ((2, 1, 3, 4), (6, 4, 5)), ((4,), (4, 5)), ((3, 4), (4,))],
)
def test_matmul_is_numpys(a, b, dtype):
    x, y = (np.rint(ramp((3, *shape), seed=i) * 9).astype(dtype) for i, shape in enumerate((a, b)))
    expected = np.stack([np.matmul(m, n) for m, n in zip(x, y, strict=True)])
    found = run(ops.MatMul(), x, y)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(run(ops.MatMul(), x, y[:1]), np.stack([np.matmul(m, y[0]) for m in x]))
    assert ops.MatMul().macs(a, b) == expected[0].size * 4


def test_selection_is_numpys():
    x = ramp((2, 3, 5, 6))
    op = ops.Slice(starts=(0, -2, 5), stops=(2**62, -(2**62), 0), steps=(1, -1, -2))
    np.testing.assert_array_equal(run(op, x), x[:, :, -2::-1, 5:0:-2])
    empty = ops.Slice(starts=(0, 4, 0), stops=(3, 2, 6), steps=(1, 1, 1))
    assert empty.infer_shape((3, 5, 6)) == run(empty, x).shape[1:] == (3, 0, 6)
    np.testing.assert_array_equal(
        run(ops.Gather(axis=-2, indices=(4, 0, -1, 2), indices_shape=(2, 2)), x),
        x.take([[4, 0], [-1, 2]], axis=2),
    )
    np.testing.assert_array_equal(run(ops.Transpose(perm=(2, 0, 1)), x), x.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(run(ops.Tile(repeats=(2, 1, 3)), x), np.tile(x, (1, 2, 1, 3)))
    np.testing.assert_array_equal(
        run(ops.Expand(shape=(2, 3, 5, 6)), x), np.broadcast_to(x[:, None], (2, 2, 3, 5, 6))
    )
    np.testing.assert_array_equal(run(ops.Concat(axis=2), x, x[:1]), np.concatenate([x, x[[0, 0]]], axis=3))


@pytest.mark.parametrize("mode", ops.rearrange.BLOCK_MODES)
def test_blocks_of_pixels_go_to_channels_and_back(mode):
    x = ramp((2, 3, 4, 6))
    deep = run(ops.SpaceToDepth(block=2, mode=mode), x)
    np.testing.assert_array_equal(run(ops.DepthToSpace(block=2, mode=mode), deep), x)
    first = deep[:, :3] if mode == "DCR" else deep[:, ::4]
    np.testing.assert_array_equal(first, x[:, :, ::2, ::2])
    second = deep[:, 3:6] if mode == "DCR" else deep[:, 1::4]
    np.testing.assert_array_equal(second, x[:, :, ::2, 1::2])


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_any_axis_can_be_padded(mode):
    x = ramp((2, 4, 5, 6))
    kind = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}[mode]
    op = ops.Pad(padding=(1, 2, 0, 4, 3, 1), mode=mode)
    np.testing.assert_array_equal(run(op, x), np.pad(x, ((0, 0), (3, 1), (0, 4), (1, 2)), kind))
    cropped = ops.Pad(padding=(-1, 2), mode=mode)
    np.testing.assert_array_equal(run(cropped, x), np.pad(x, ((0, 0),) * 3 + ((0, 2),), kind)[..., 1:])


@pytest.mark.parametrize("axes", [None, (0,), (1, 2), (-1,), ()])
@pytest.mark.parametrize("keepdims", [False, True])
def test_reductions_are_numpys(axes, keepdims):
    x = ramp((2, 3, 4, 5))
    along = {"axis": (1, 2, 3) if axes is None else tuple(a % 3 + 1 for a in axes), "keepdims": keepdims}
    with np.errstate(invalid="ignore"):
        expected = {
            "l1": np.abs(x).sum(**along),
            "l2": np.sqrt(np.square(x).sum(**along)),
            "log_sum": np.log(x.sum(**along)),
            "log_sum_exp": np.log(np.exp(x).sum(**along)),
            "max": x.max(**along),
            "mean": x.mean(**along),
            "min": x.min(**along),
            "prod": x.prod(**along),
            "sum": x.sum(**along),
            "sum_square": np.square(x).sum(**along),
        }
    for function, wanted in expected.items():
        found = run(ops.Reduce(function=function, axes=axes, keepdims=keepdims), x)
        np.testing.assert_allclose(found, wanted, rtol=1e-13, atol=1e-13)


def test_reductions_at_extremes():
    x = np.array([[1000.0, 1001.0, -np.inf], [-np.inf] * 3, [np.inf, 0.0, 1.0], [np.nan, 0.0, 1.0]])
    found = run(ops.Reduce(function="log_sum_exp", keepdims=False), x)
    np.testing.assert_allclose(found, [1001 + math.log1p(math.exp(-1)), -np.inf, np.inf, np.nan])
    zeros = np.array([[0.0, 2.0, 3.0], [0.0, 0.0, 3.0]])
    op = ops.Reduce(function="prod")
    _, saved = op.forward((zeros,), {}, Context(recording=True))
    (grad,), _ = op.backward(np.ones((2, 1)), saved, {}, ops.Wanted((True,), False))
    np.testing.assert_array_equal(grad, [[6, 0, 0], [0, 0, 0]])
    integers = run(ops.Reduce(function="sum"), np.ones((2, 3), np.int32))
    assert integers.dtype == np.int32


def test_places_of_extremes():
    x = np.array([[[1.0, 3.0, 3.0, 0.0], [5.0, 5.0, 0.0, np.nan]]])
    np.testing.assert_array_equal(run(ops.ArgMax(axis=1), x), [[[1], [3]]])
    np.testing.assert_array_equal(run(ops.ArgMax(axis=-1, select_last=True, keepdims=False), x), [[2, 3]])
    np.testing.assert_array_equal(run(ops.ArgMin(axis=0, keepdims=False), x[..., :3]), [[0, 0, 1]])
    assert run(ops.ArgMax(), x).dtype == np.int64


def test_casts_are_numpys_and_silent():
    x = np.array([[1.7, -1.7, 0.0, np.inf]])
    assert run(ops.Cast(to="float32"), x).dtype == np.float32
    np.testing.assert_array_equal(run(ops.Cast(to="int64"), x)[:, :3], [[1, -1, 0]])
    np.testing.assert_array_equal(run(ops.Cast(to="bool"), x), [[True, True, False, True]])
    op = ops.Cast(to="float32")
    (grad,), _ = op.backward(np.ones(2, np.float32), x.dtype, {}, ops.Wanted((True,), False))
    assert grad.dtype == np.float64
    assert ops.Cast(to="int8").backward(np.ones(2), x.dtype, {}, ops.Wanted((True,), False)) == ((None,), {})


def test_own_statistics_make_mean_0_and_variance_1():
    x = ramp((2, 4, 5, 6)) * 3 + 1
    weight, bias = ramp((4,), seed=1), ramp((4,), seed=2)
    for op, axes in (
        (ops.InstanceNorm(eps=1e-3), (2, 3)),
        (ops.GroupNorm(num_groups=4, eps=1e-3), (2, 3)),
        (ops.GroupNorm(num_groups=1, eps=1e-3), (1, 2, 3)),
    ):
        normal = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-3)
        expected = normal * weight[:, None, None] + bias[:, None, None]
        np.testing.assert_allclose(run(op, x, weight=weight, bias=bias), expected, rtol=0, atol=1e-12)
    layer = ops.LayerNorm(ndim=2, affine=False)
    expected = (x - x.mean((2, 3), keepdims=True)) / np.sqrt(x.var((2, 3), keepdims=True) + 1e-5)
    np.testing.assert_allclose(run(layer, x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("size", "before"), [(3, None), (4, None), (4, 2), (1, None), (9, None)])
def test_local_response_normalisation_by_its_formula(size, before):
    x = ramp((2, 5, 3)) * 3
    low = (size - 1) // 2 if before is None else before
    expected = np.empty_like(x)
    for c in range(5):
        squares = np.square(x[:, max(0, c - low) : max(0, c - low + size)]).sum(axis=1)
        if c - low < 0:
            squares = np.square(x[:, : c - low + size]).sum(axis=1)
        expected[:, c] = x[:, c] / (2 + 0.3 / size * squares) ** 0.6
    op = ops.LRN(size=size, alpha=0.3, beta=0.6, bias=2.0, before=before)
    np.testing.assert_allclose(run(op, x), expected, rtol=1e-13)


def test_norm_pools_by_their_formula():
    x = ramp((2, 3, 6, 6))
    windows = np.lib.stride_tricks.sliding_window_view(x, (2, 2), (2, 3))[:, :, ::2, ::2]
    for p in (1.0, 2.0, 3.0):
        expected = (np.abs(windows) ** p).sum((-1, -2)) ** (1 / p)
        np.testing.assert_allclose(run(ops.LpPool.of(2, 2, p=p), x), expected, rtol=1e-13)
        whole = (np.abs(x) ** p).sum((2, 3)) ** (1 / p)
        np.testing.assert_allclose(run(ops.GlobalLpPool(p=p), x), whole, rtol=1e-13)
    op = ops.LpPool.of(2, 2)
    _, saved = op.forward((np.zeros((1, 1, 2, 2)),), {}, Context(recording=True))
    (grad,), _ = op.backward(np.ones((1, 1, 1, 1)), saved, {}, ops.Wanted((True,), False))
    np.testing.assert_array_equal(grad, np.zeros((1, 1, 2, 2)))


def field(op, shape=(2, 6, 6)):
    return receptive_field(Graph({"x": shape}, (Node("y", op, ("x",)),), ("y",)))["y"]


@pytest.mark.parametrize(
    ("op", "size", "stride"),
    [
        (ops.Unary(function="gelu"), (1, 1), (1, 1)),
        (ops.Reduce(function="mean", axes=(0,)), (1, 1), (1, 1)),
        (ops.Slice(starts=(0, 1, 2), stops=(2, 6, 6), steps=(1, 1, 2)), (1, 1), (1, 2)),
        (ops.Pad(padding=(1, 1), mode="reflect"), (1, 1), (1, 1)),
        (ops.SpaceToDepth(block=3), (3, 3), (3, 3)),
        (ops.Resize(out_size=(3, 2)), (1, 1), (2, 3)),
        (ops.Resize(out_size=(3,), mode="linear"), (1, 2), (1, 2)),
        (ops.Resize(out_size=(2, 2), mode="linear"), (1, 1), (3, 3)),
        (ops.LpPool.of(2, 3, 2, 1), (3, 3), (2, 2)),
    ],
)
def test_fields(op, size, stride):
    seen = field(op)
    assert (seen.size, seen.stride, seen.whole_input) == (size, stride, False)


@pytest.mark.parametrize(
    "op",
    [
        ops.Transpose(perm=(0, 2, 1)),
        ops.Softmax(axis=1),
        ops.Concat(axis=1),
        ops.InstanceNorm(),
        ops.Gather(axis=1, indices=(0, 3)),
        ops.Tile(repeats=(1, 2, 1)),
        ops.Slice(starts=(0, -1, 0), stops=(2, -9, 6), steps=(1, -1, 1)),
    ],
    ids=lambda op: op.kind,
)
def test_fields_of_the_whole_input(op):
    assert op.window((2, 6, 6)) is ops.GLOBAL


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("size", [3, 6, 9, 12, 18, 8, 4])
def test_fields_of_resized_maps_are_exact(mode, size):
    """Inside, the span of a unit is that of the pixels which change it."""
    op, n = ops.Resize(out_size=(size,), mode=mode), 6
    graph = Graph({"x": (1, n)}, (Node("y", op, ("x",)),), ("y",))
    seen = receptive_field(graph)["y"]
    reads = forward(graph, {}, {"x": np.eye(n)[:, None, :]})["y"][:, 0] != 0
    for unit in range(size):
        ((first, last),) = seen.interval((unit,))
        pixels = np.flatnonzero(reads[:, unit])
        inside = first >= 0 and last < n and pixels[0] > 0 and pixels[-1] < n - 1
        assert not inside or (first, last) == (pixels[0], pixels[-1])


def test_upsampled_maps_see_less_than_a_pixel_further():
    nearest = field(ops.Resize(out_size=(12, 12)))
    assert nearest.size == (1, 1)
    assert [nearest.interval((y, 0))[0] for y in range(4)] == [(0, 0), (0, 0), (1, 1), (1, 1)]
    linear = field(ops.Resize(out_size=(12, 12), mode="linear"))
    assert [linear.interval((y, 0))[0] for y in range(1, 5)] == [(0, 1), (0, 1), (1, 2), (1, 2)]
    shuffled = field(ops.DepthToSpace(block=2), (4, 6, 6))
    assert [shuffled.interval((y, 0))[0] for y in range(4)] == [(0, 0), (0, 0), (1, 1), (1, 1)]
