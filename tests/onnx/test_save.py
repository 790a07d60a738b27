"""Nets as ONNX files: what onnxruntime makes of them, and what comes back."""

from __future__ import annotations

import importlib
import math
from typing import Any

import numpy as np
import pytest

import fastconv.onnx
from fastconv import nn, ops
from fastconv.graph import Graph, Node
from fastconv.onnx._save import _WRITERS
from kit import ramp

pytest.importorskip("onnx")

from onnx_files import onnx, runtime

EPS = float(np.finfo(np.float32).eps)
IMAGE = (4, 6, 8)

# every op, as the last of a small net: the shapes of its inputs
OPS: list[tuple[ops.Op, tuple[tuple[int, ...], ...]]] = [
    (ops.Conv.of(2, 4, (3, 2), 2, (1, 0), (1, 2), groups=2), (IMAGE,)),
    (ops.Conv.of(1, 4, 3, bias=False), ((4, 9),)),
    (ops.Conv.of(3, 4, 2), ((2, 3, 4, 5),)),
    (ops.ConvTranspose.of(2, 4, 3, 2, 1, 1, groups=2), (IMAGE,)),
    (ops.Linear(out_features=3), ((5,),)),
    (ops.Linear(out_features=3, bias=False), ((5,),)),
    (ops.MatMul(), ((3, 4), (4, 5))),
    (ops.MatMul(), ((2, 3, 4), (4, 5))),
    (ops.MaxPool.of(2, 3, 2, 1, ceil_mode=True), (IMAGE,)),
    (ops.MaxPool.of(2, 2, 1, 1, 2), (IMAGE,)),
    (ops.AvgPool.of(2, 3, 2, 1), (IMAGE,)),
    (ops.AvgPool.of(2, 3, 2, 1, count_include_pad=False), (IMAGE,)),
    (ops.AvgPool.of(2, 3, 2, 1, divisor_override=5), (IMAGE,)),
    (ops.LpPool.of(2, 3, 2, 1), (IMAGE,)),
    *((op, (IMAGE,)) for pool in (ops.GlobalAvgPool, ops.GlobalMaxPool) for op in (pool(), pool(keepdims=True))),
    (ops.GlobalLpPool(p=3.0), (IMAGE,)),
    (ops.AdaptiveAvgPool.of(2, (3, 2)), (IMAGE,)),
    (ops.AdaptiveMaxPool.of(2, (None, 4)), (IMAGE,)),
    (ops.BatchNorm(eps=1e-3), (IMAGE,)),
    (ops.BatchNorm(affine=False), ((5,),)),
    (ops.InstanceNorm(), (IMAGE,)),
    (ops.InstanceNorm(affine=False), (IMAGE,)),
    (ops.LayerNorm(ndim=2), (IMAGE,)),
    (ops.LayerNorm(affine=False), (IMAGE,)),
    (ops.GroupNorm(num_groups=2), (IMAGE,)),
    (ops.LRN(size=3, alpha=0.1, beta=0.6, bias=1.2), (IMAGE,)),
    (ops.Dropout(p=0.4), (IMAGE,)),
    (ops.Dropout(p=0.4, whole_channels=True), (IMAGE,)),
    (ops.DropBlock(p=0.1, block_size=(2, 2)), (IMAGE,)),
    (ops.GaussianNoise(std=0.1), (IMAGE,)),
    *((ops.Activation(function=f), (IMAGE,)) for f in ("relu", "relu6", "sigmoid", "tanh")),
    (ops.Activation(function="leaky_relu", slope=0.1), (IMAGE,)),
    *(
        (ops.Unary(function=f), (IMAGE,))
        for f in (
            *("abs", "ceil", "celu", "cos", "elu", "erf", "exp", "floor", "gelu", "gelu_tanh", "hard_sigmoid"),
            *("hard_swish", "mish", "neg", "reciprocal", "round", "selu", "sign", "silu", "sin", "softplus"),
            "softsign",
        )
    ),
    (ops.Unary(function="clip", alpha=-0.5), (IMAGE,)),
    (ops.Unary(function="silu", alpha=1.7), (IMAGE,)),
    (ops.Unary(function="softplus", alpha=2.0), (IMAGE,)),
    (ops.PRelu(slope_shape=(4, 1, 1)), (IMAGE,)),
    (ops.Softmax(), (IMAGE,)),
    (ops.Softmax(axis=-1, log=True), (IMAGE,)),
    (ops.Add(), (IMAGE, (4, 1, 1), (8,))),
    *((op, (IMAGE, (6, 1))) for op in (ops.Add(), ops.Multiply(), ops.Subtract(), ops.Divide(), ops.MeanOf())),
    *((op, (IMAGE, IMAGE, (8,))) for op in (ops.Minimum(), ops.Maximum())),
    *(
        (ops.Compare(function=f), (IMAGE, (8,)))
        for f in ("equal", "not_equal", "greater", "less", "greater_or_equal", "less_or_equal", "and", "or", "xor")
    ),
    (ops.Where(), (IMAGE, (8,), IMAGE)),
    (ops.Concat(), (IMAGE, (2, 6, 8))),
    (ops.Concat(axis=-1), (IMAGE, (4, 6, 1))),
    (ops.Cast(to="int32"), (IMAGE,)),
    (ops.Reshape(), (IMAGE,)),
    (ops.Reshape(shape=(8, 24)), (IMAGE,)),
    (ops.Transpose(perm=(2, 0, 1)), (IMAGE,)),
    (ops.Slice(starts=(0, -1, 2), stops=(3, -10, 7), steps=(1, -2, 3)), (IMAGE,)),
    (ops.Gather(axis=1, indices=(0, -1, 2, 2), indices_shape=(2, 2)), (IMAGE,)),
    (ops.Gather(axis=-1, indices=(3,), indices_shape=()), (IMAGE,)),
    (ops.Expand(shape=(3, 4, 1, 8)), ((4, 6, 1),)),
    (ops.Tile(repeats=(1, 2, 3)), (IMAGE,)),
    (ops.Pad(padding=1, value=0.5), (IMAGE,)),
    (ops.Pad(padding=(1, 2, -1, 0)), (IMAGE,)),
    (ops.Pad(padding=(1, 2, 0, 3), mode="reflect"), (IMAGE,)),
    (ops.Pad(padding=(1, 2, 0, 3), mode="replicate"), (IMAGE,)),
    (ops.Pad(padding=(1, 2, 0, 3), mode="circular"), (IMAGE,)),
    (ops.Resize(out_size=(9, 20)), (IMAGE,)),
    (ops.Resize(out_size=(9, 20), mode="linear", coordinate_transform="align_corners"), (IMAGE,)),
    (ops.Resize(out_size=(4, 5), mode="linear", antialias=True), (IMAGE,)),
    (ops.Resize(out_size=(13,), mode="cubic", scales=(1.7,)), (IMAGE,)),
    (ops.Resize(mode="cubic", scales=(2.5, 1.7)), (IMAGE,)),
    (ops.DepthToSpace(block=2), (IMAGE,)),
    (ops.DepthToSpace(block=2, mode="CRD"), (IMAGE,)),
    (ops.SpaceToDepth(block=2), (IMAGE,)),
    (ops.SpaceToDepth(block=2, mode="CRD"), (IMAGE,)),
    *(
        (ops.Reduce(function=f, axes=(1, -1), keepdims=f != "sum"), (IMAGE,))
        for f in ("sum", "mean", "prod", "max", "min", "l1", "l2", "sum_square", "log_sum_exp")
    ),
    (ops.Reduce(function="mean"), (IMAGE,)),
    (ops.ArgMax(axis=1), (IMAGE,)),
    (ops.ArgMin(axis=-1, keepdims=False, select_last=True), (IMAGE,)),
]  # fmt: skip
NEEDS = {"group_norm": 21}  # opset


def net_of(op: ops.Op, shapes: tuple[tuple[int, ...], ...]) -> nn.Model:
    """The op alone, on inputs; parameters are arbitrary, variances positive."""
    inputs = {f"input_{number}": shape for number, shape in enumerate(shapes)}
    names = {key: f"layer.{key}" for key in op.param_shapes(*shapes)}
    graph = Graph(inputs, (Node("layer", op, tuple(inputs), tuple(names.values())),), ("layer",))
    params = {
        names[key]: ramp(shape, "float32", seed) + (1.5 if key == "running_var" else 0.0)
        for seed, (key, shape) in enumerate(op.param_shapes(*shapes).items())
    }
    return nn.Model.from_graph(graph, {name: value.astype(np.float32) for name, value in params.items()})


def label(case: Any) -> str:
    op, shapes = case
    return f"{op} of {shapes}"


@pytest.mark.parametrize("case", OPS, ids=label)
def test_every_op(case):
    """A file is valid, onnxruntime computes the same, and reading it gives a net that does."""
    net = net_of(*case)
    kind = case[0].kind
    opset = 19 if kind == "pad" or getattr(case[0], "antialias", False) else NEEDS.get(kind, 17)
    content = fastconv.onnx.save(net, opset=opset)
    onnx.checker.check_model(onnx.load_from_string(content), full_check=True)
    feeds = {
        name: ramp((3, *shape), "float32", seed)
        for seed, (name, shape) in enumerate(net.graph.inputs.items())
    }
    expected = net.predict(feeds)
    terms = 16 + max(math.prod(shape) for shape in case[1])
    bound = terms * EPS * max(float(np.abs(expected.astype(np.float64)).max()), 1.0)
    again = fastconv.onnx.load(content)
    np.testing.assert_allclose(again.predict(feeds).astype(np.float64), expected, rtol=0.0, atol=bound)
    (theirs,) = runtime(content, feeds)
    assert theirs.dtype == expected.dtype
    np.testing.assert_allclose(theirs.astype(np.float64), expected, rtol=0.0, atol=bound)


def test_all_ops_are_among_the_cases():
    """But for two that have a test of their own."""
    assert {type(op) for op, _ in OPS} | {ops.Constant, ops.Power} == set(_WRITERS)


def test_every_op_of_the_vocabulary_is_written():
    assert set(_WRITERS) >= set(ops.VOCABULARY.values())


def test_constants(rng):
    graph = Graph(
        {"x": (3, 4)},
        (
            Node("c", ops.Constant(shape=(4,)), (), ("c",)),
            Node("d", ops.Unary(function="exp"), ("c",)),
            Node("y", ops.Power(), ("d", "x")),
        ),
        ("y",),
    )
    net = nn.Model.from_graph(graph, {"c": rng.normal(size=4).astype(np.float32)})
    content = fastconv.onnx.save(net)
    x = rng.normal(size=(2, 3, 4)).astype(np.float32)
    np.testing.assert_allclose(runtime(content, {"x": x})[0], net.predict(x), rtol=1e-5)
    np.testing.assert_allclose(fastconv.onnx.load(content).predict(x), net.predict(x), rtol=1e-6)


def test_gelu_is_one_node_where_the_opset_has_it():
    for function in ("gelu", "gelu_tanh"):
        net = net_of(ops.Unary(function=function), (IMAGE,))
        kinds = {
            opset: [
                node.op_type
                for node in onnx.load_from_string(fastconv.onnx.save(net, opset=opset)).graph.node
            ]
            for opset in (13, 20)
        }
        assert kinds[20] == ["Gelu"]
        assert "Gelu" not in kinds[13]
        assert (
            fastconv.onnx.load(fastconv.onnx.save(net, opset=20)).graph.nodes[0].op == net.graph.nodes[0].op
        )


def test_one_error_names_every_layer_that_cannot_be_written():
    x = nn.Input((4, 7, 7))
    net = nn.Model(x, nn.Flatten()(nn.AdaptiveAvgPool2d(4)(nn.Pad(1, mode="circular")(x))))
    with pytest.raises(fastconv.onnx.UnsupportedModelError) as caught:
        fastconv.onnx.save(net, opset=13)
    message = str(caught.value)
    assert "'pad_1' (pad): mode 'circular' needs opset 19" in message
    assert "'adaptive_avg_pool2d_1'" in message
    with pytest.raises(ValueError, match="opset must be between 13"):
        fastconv.onnx.save(net, opset=12)


def mbconv(h: Any, channels: int) -> Any:
    """An inverted residual of MobileNetV2."""
    y = nn.ReLU6()(nn.BatchNorm2d()(nn.Conv2d(2 * channels, 1, bias=False)(h)))
    y = nn.ReLU6()(
        nn.BatchNorm2d()(nn.Conv2d(2 * channels, 3, padding=1, groups=2 * channels, bias=False)(y))
    )
    return nn.BatchNorm2d()(nn.Conv2d(channels, 1, bias=False)(y)) + h


def residual(h: Any, channels: int, stride: int) -> Any:
    """A basic block of ResNet."""
    y = nn.ReLU()(nn.BatchNorm2d()(nn.Conv2d(channels, 3, stride, 1, bias=False)(h)))
    y = nn.BatchNorm2d()(nn.Conv2d(channels, 3, padding=1, bias=False)(y))
    return nn.ReLU()(y + nn.BatchNorm2d()(nn.Conv2d(channels, 1, stride, bias=False)(h)))


def resnet() -> nn.Model:
    x = nn.Input((3, 32, 32))
    h = nn.MaxPool2d(3, 2, 1)(nn.ReLU()(nn.BatchNorm2d()(nn.Conv2d(8, 7, 2, 3, bias=False)(x))))
    h = residual(residual(h, 8, 1), 16, 2)
    return nn.Model(x, nn.Linear(10)(nn.GlobalAvgPool2d()(h)))


def mobilenet() -> nn.Model:
    x = nn.Input((3, 32, 32))
    h = nn.ReLU6()(nn.BatchNorm2d()(nn.Conv2d(8, 3, 2, 1, bias=False)(x)))
    h = mbconv(mbconv(h, 8), 8)
    return nn.Model(x, nn.Linear(10)(nn.Dropout(0.2)(nn.GlobalAvgPool2d()(h))))


def unet() -> nn.Model:
    x = nn.Input((3, 32, 32))
    a = nn.ReLU()(nn.Conv2d(8, 3, padding=1)(x))
    b = nn.ReLU()(nn.Conv2d(16, 3, padding=1)(nn.MaxPool2d(2)(a)))
    up = nn.Upsample(scale_factor=2, mode="bilinear")(b)
    h = nn.ReLU()(nn.Conv2d(8, 3, padding=1)(nn.Concat()(up, a)))
    return nn.Model(x, nn.Sigmoid()(nn.Conv2d(1, 1)(nn.ConvTranspose2d(4, 2, 2)(h))))


@pytest.mark.parametrize("make", [resnet, mobilenet, unet])
def test_nets(make, rng, tmp_path):
    """Weights, names, running statistics and the graph itself come back as they were."""
    net = make()
    for name, value in net.params.items():
        if name.endswith("running_var"):
            value[...] = rng.uniform(0.5, 2.0, value.shape)
        elif name.endswith("running_mean"):
            value[...] = rng.normal(0.0, 0.1, value.shape)
    path = tmp_path / "net.onnx"
    fastconv.onnx.save(net, path)
    assert [each.name for each in tmp_path.iterdir()] == ["net.onnx"]
    onnx.checker.check_model(onnx.load(path), full_check=True)
    again = nn.load(path)
    assert again.params.keys() == net.params.keys()
    assert again.graph.nodes == net.graph.nodes
    assert set(again.graph.trainable) == set(net.graph.trainable)
    x = rng.normal(size=(3, 3, 32, 32)).astype(np.float32)
    expected = net.predict(x)
    np.testing.assert_array_equal(again.predict(x), expected)
    # rounding errors of the layers add up; each is at most a sum of 16 * 9 products
    depth = len(net.graph.nodes)
    bound = depth * 144 * EPS * float(np.abs(expected).max())
    np.testing.assert_allclose(
        runtime(path.read_bytes(), {next(iter(net.graph.inputs)): x})[0], expected, rtol=0.0, atol=bound
    )


def test_double_precision(rng):
    net = nn.Sequential([nn.Conv2d(4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3)], (1, 8, 8), dtype="float64")
    again = fastconv.onnx.load(fastconv.onnx.save(net))
    assert again.dtype == np.float64
    x = rng.normal(size=(2, 1, 8, 8))
    np.testing.assert_array_equal(again.predict(x), net.predict(x))


def test_several_outputs(rng):
    x = nn.Input((4,))
    h = nn.Linear(3)(x)
    net = nn.Model(x, [nn.ReLU()(h), h])
    content = fastconv.onnx.save(net)
    data = rng.normal(size=(2, 4)).astype(np.float32)
    for mine, theirs in zip(
        net.predict(data), runtime(content, {next(iter(net.graph.inputs)): data}), strict=True
    ):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)
    assert fastconv.onnx.load(content).graph.outputs == net.graph.outputs


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(importlib.import_module("sys").modules, "onnx", None)
    for call in (lambda: fastconv.onnx.save(resnet()), lambda: fastconv.onnx.load(b"")):
        with pytest.raises(ImportError, match=r"fastconv\[onnx\]"):
            call()
