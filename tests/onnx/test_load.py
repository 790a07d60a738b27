"""ONNX files as nets, against onnxruntime: operators in the opsets that changed them, and what exporters write."""

from __future__ import annotations

import doctest
import importlib
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

import fastconv.onnx
from fastconv import explain, nn, ops
from fastconv.graph import forward
from fastconv.onnx._file import NEWEST_OPSET, OLDEST_OPSET
from fastconv.onnx._operators import TRANSLATORS
from kit import Array, ramp

pytest.importorskip("onnx")

from onnx_files import helper, model, node, onnx, runtime

EPS = float(np.finfo(np.float32).eps)


def close(got: Array, expected: Array, terms: int = 1) -> None:
    """Equal up to the rounding of sums of ``terms`` products, and of a few operations more."""
    assert got.shape == expected.shape
    bound = (terms + 16) * EPS * max(float(np.abs(expected).max(initial=0.0)), 1e-3)
    np.testing.assert_allclose(got.astype(np.float64), expected.astype(np.float64), rtol=0.0, atol=bound)


def agrees(file: Any, terms: int = 1, batch: int = 2) -> nn.Model:
    """The net of a file, whose results are those of onnxruntime, as a graph and as a plan."""
    net = fastconv.onnx.load(file)
    feeds = {
        name: ramp((batch, *shape), "float32", seed)
        for seed, (name, shape) in enumerate(net.graph.inputs.items())
    }
    expected = runtime(file, feeds)
    for values in (forward(net.graph, net.params, feeds), net.compile_inference()(feeds)):
        for name, theirs in zip(net.graph.outputs, expected, strict=True):
            close(values[name], theirs, terms)
    return net


def weights(*shape: int, seed: int = 7) -> Array:
    return ramp(shape, "float32", seed)


IMAGE = {"x": ["N", 3, 9, 8]}
POSITIVE = weights(3) + 1.5
TWICE = np.array([1, 1, 2, 3], np.float32)
# name: (nodes, inputs, constants, opsets, products summed up per element)
CASES: dict[str, tuple[list[Any], Mapping[str, Sequence[Any]], Mapping[str, Any], tuple[int, ...], int]] = {
    "conv": (
        [node("Conv", "x w b", "y", strides=[2, 1], pads=[0, 1, 2, 3], dilations=[2, 1])],
        IMAGE,
        {"w": weights(4, 3, 3, 2), "b": weights(4)},
        (7, 11, 17),
        18,
    ),
    "conv, groups": ([node("Conv", "x w", "y", group=3)], IMAGE, {"w": weights(6, 1, 3, 3)}, (7,), 9),
    "conv, 1-D": ([node("Conv", "x w", "y")], {"x": ["N", 2, 11]}, {"w": weights(4, 2, 3)}, (7,), 6),
    "conv, 3-D": ([node("Conv", "x w", "y")], {"x": ["N", 2, 4, 5, 6]}, {"w": weights(4, 2, 3, 2, 3)}, (7,), 36),
    **{
        f"conv, {mode}": (
            [node("Conv", "x w", "y", auto_pad=mode, strides=[2, 3])],
            IMAGE,
            {"w": weights(4, 3, 4, 2)},
            (7,),
            24,
        )
        for mode in ("SAME_UPPER", "SAME_LOWER", "VALID")
    },
    "transposed conv": (
        [node("ConvTranspose", "x w b", "y", strides=[2, 3], pads=[1, 0, 1, 1], output_padding=[1, 0], group=3)],
        IMAGE,
        {"w": weights(3, 2, 3, 3), "b": weights(6)},
        (7, 11),
        9,
    ),
    "transposed conv to a shape": (
        [node("ConvTranspose", "x w b", "y", strides=[3, 3], output_shape=[26, 23])],
        IMAGE,
        {"w": weights(3, 2, 3, 3), "b": weights(2)},
        (11,),
        27,
    ),
    "max pool, storage order": (
        [node("MaxPool", "x", "y", kernel_shape=[2, 3], storage_order=1)],  # it is that of the indices alone
        IMAGE,
        {},
        (8, 13),
        1,
    ),
    "max pool": (
        [node("MaxPool", "x", "y", kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 2, 1])],
        IMAGE,
        {},
        (7, 8, 12),
        1,
    ),
    "max pool, dilated, rounded up": (
        [node("MaxPool", "x", "y", kernel_shape=[3, 2], strides=[2, 2], dilations=[2, 1], ceil_mode=1)],
        IMAGE,
        {},
        (10, 12),
        1,
    ),
    "max pool, 3-D": (
        [node("MaxPool", "x", "y", kernel_shape=[2, 3, 2], pads=[1, 1, 0, 0, 1, 1])],
        {"x": ["N", 2, 4, 5, 6]},
        {},
        (7, 12),
        1,
    ),
    **{
        f"average pool, pads {'count' if counted else 'do not count'}{', rounded up' if ceil else ''}, {pads}": (
            [
                node(
                    "AveragePool",
                    "x",
                    "y",
                    kernel_shape=[3, 3],
                    strides=[2, 3],
                    pads=pads,
                    count_include_pad=counted,
                    **({"ceil_mode": 1} if ceil else {}),
                )
            ],
            IMAGE,
            {},
            (10, 17) if ceil else (7, 11),
            9,
        )
        for counted in (0, 1)
        for ceil in (False, True)
        for pads in ([1, 1, 1, 1], [0, 1, 2, 0])
        if not (ceil and counted)  # onnxruntime counts what lies beyond the pads, too, against the rules
    },
    "average pool, 3-D": (
        [node("AveragePool", "x", "y", kernel_shape=[2, 3, 2], pads=[1, 1, 0, 0, 1, 1])],
        {"x": ["N", 2, 4, 5, 6]},
        {},
        (7,),
        12,
    ),
    "average pool, dilated": (
        [node("AveragePool", "x", "y", kernel_shape=[2, 3], dilations=[3, 2], pads=[1, 1, 1, 1])],
        IMAGE,
        {},
        (19,),
        6,
    ),
    "norms of windows": ([node("LpPool", "x", "y", kernel_shape=[3, 2], pads=[1, 0, 1, 1])], IMAGE, {}, (11,), 6),
    **{
        f"{op_type}": ([node(op_type, "x", "y")], IMAGE, {}, (7,), 72)
        for op_type in ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
    },
    "batch norm": (
        [node("BatchNormalization", "x w b m v", "y", epsilon=1e-3)],
        IMAGE,
        {"w": weights(3), "b": weights(3, seed=1), "m": weights(3, seed=2), "v": POSITIVE},
        (7, 9, 14, 15),
        4,
    ),
    "instance norm": (
        [node("InstanceNormalization", "x w b", "y")],
        IMAGE,
        {"w": weights(3), "b": weights(3, seed=1)},
        (7,),
        72,
    ),
    "layer norm": (
        [node("LayerNormalization", "x w b", "y", axis=-2)],
        IMAGE,
        {"w": weights(9, 8), "b": weights(9, 8, seed=1)},
        (17,),
        72,
    ),
    "local response norm": ([node("LRN", "x", "y", size=3, alpha=0.1, beta=0.7, bias=1.5)], IMAGE, {}, (7, 13), 9),
    "dropout": ([node("Dropout", "x", "y unused", ratio=0.3)], IMAGE, {}, (7, 10), 1),
    "dropout with inputs": (
        [node("Dropout", "x r t", "y", seed=3)],
        IMAGE,
        {"r": np.float32(0.3), "t": np.bool_(False)},
        (12, 13),
        1,
    ),
    **{
        f"{op_type} {attributes or ''}": ([node(op_type, "x", "y", **attributes)], IMAGE, {}, (opset, 19), 1)
        for op_type, attributes, opset in (
            ("Relu", {}, 7),
            ("LeakyRelu", {"alpha": 0.2}, 7),
            ("LeakyRelu", {"alpha": -0.2}, 7),
            ("Elu", {"alpha": 1.5}, 7),
            ("Selu", {}, 7),
            ("Celu", {"alpha": 1.5}, 12),
            ("HardSigmoid", {"alpha": 0.3}, 7),
            ("HardSwish", {}, 14),
            ("Sigmoid", {}, 7),
            ("Tanh", {}, 7),
            ("Softplus", {}, 7),
            ("Softsign", {}, 7),
            ("Mish", {}, 18),
            ("Abs", {}, 7),
            ("Neg", {}, 7),
            ("Exp", {}, 7),
            ("Floor", {}, 7),
            ("Ceil", {}, 7),
            ("Erf", {}, 9),
            ("Reciprocal", {}, 7),
            ("Identity", {}, 7),
        )
    },
    "gelu": ([node("Gelu", "x", "y")], IMAGE, {}, (20,), 1),
    "gelu by tanh": ([node("Gelu", "x", "y", approximate="tanh")], IMAGE, {}, (20,), 1),
    "root and logarithm": ([node("Abs", "x", "a"), node("Sqrt", "a", "r"), node("Log", "r", "y")], IMAGE, {}, (7,), 8),
    "slopes of channels": ([node("PRelu", "x s", "y")], IMAGE, {"s": weights(3, 1, 1)}, (7, 9, 16), 1),
    "clip by attributes": ([node("Clip", "x", "y", min=-0.3, max=0.4)], IMAGE, {}, (7,), 1),
    "clip by inputs": ([node("Clip", "x - hi", "y")], IMAGE, {"hi": np.float32(0.4)}, (11, 13), 1),
    "softmax over the rest": ([node("Softmax", "x", "y", axis=2)], IMAGE, {}, (7, 11), 72),
    "softmax, default axis": ([node("Softmax", "x", "y")], IMAGE, {}, (11, 13), 216),
    "log softmax": ([node("LogSoftmax", "x", "y", axis=-1)], IMAGE, {}, (11, 13), 8),
    "gemm": (
        [node("Gemm", "x w b", "y", alpha=0.5, beta=2.0, transB=1)],
        {"x": ["N", 7]},
        {"w": weights(5, 7), "b": weights(5)},
        (7, 9, 13),
        7,
    ),
    "gemm, scalar bias": ([node("Gemm", "x w b", "y")], {"x": ["N", 7]}, {"w": weights(7, 5), "b": 2.0}, (11,), 7),
    "product with a matrix": (
        [node("MatMul", "x w", "m"), node("Add", "m b", "y")],
        {"x": ["N", 7]},
        {"w": weights(7, 5), "b": weights(5)},
        (7, 13),
        7,
    ),
    "product of stacks": ([node("MatMul", "x w", "y")], IMAGE, {"w": weights(8, 5)}, (9, 13), 8),
    "product of two values": (
        [node("Transpose", "x", "t", perm=[0, 1, 3, 2]), node("MatMul", "x t", "y")],
        IMAGE,
        {},
        (9, 13),
        8,
    ),
    **{
        f"{op_type} with channels": ([node(op_type, "x c", "y")], IMAGE, {"c": POSITIVE.reshape(3, 1, 1)}, (7, 14), 1)
        for op_type in ("Add", "Sub", "Mul", "Div")
    },
    "power": ([node("Abs", "x", "a"), node("Pow", "a c", "y")], IMAGE, {"c": [2.5]}, (7, 13, 15), 4),
    "several": (
        [node("Min", "x c", "a"), node("Max", "x a c", "b"), node("Sum", "a b x", "s"), node("Mean", "s x", "y")],
        IMAGE,
        {"c": weights(1, 1, 8)},
        (8, 13),
        4,
    ),
    "choice": (
        [
            node("Greater", "x zero", "g"),
            node("Less", "x c", "l"),
            node("And", "g l", "a"),
            node("Not", "a", "n"),
            node("Where", "n x c", "y"),
        ],
        IMAGE,
        {"zero": 0.0, "c": 0.5},
        (9, 13),
        1,
    ),
    "equality": (
        [node("Relu", "x", "r"), node("Equal", "r x", "e"), node("Cast", "e", "y", to=1)],
        IMAGE,
        {},
        (11, 13),
        1,
    ),
    "concat": (
        [node("Relu", "x", "r"), node("Concat", "x r c", "y", axis=1)],
        {"x": [1, 3, 2]},
        {"c": [[[1.0, 2.0]]]},
        (7,),
        1,
    ),
    "concat along rows": ([node("Relu", "x", "r"), node("Concat", "x r", "y", axis=-2)], IMAGE, {}, (11,), 1),
    "split by attribute": (
        [node("Split", "x", "a b", axis=2, split=[4, 5]), node("ReduceSum", "b", "y", axes=[2])],
        IMAGE,
        {},
        (7, 11),
        5,
    ),
    "split by input": ([node("Split", "x s", "a y", axis=2)], IMAGE, {"s": [4, 5]}, (13, 17), 1),
    "split in parts": ([node("Split", "x", "a y", axis=2, num_outputs=2)], IMAGE, {}, (18,), 1),
    "slice by attributes": (
        [node("Slice", "x", "y", starts=[1, -6], ends=[3, 2**31], axes=[1, 3])],
        IMAGE,
        {},
        (7, 9),
        1,
    ),
    "slice by inputs": (
        [node("Slice", "x s e a t", "y")],
        IMAGE,
        {"s": [0, -1, 2], "e": [2**63 - 1, -(2**63) + 1, 7], "a": [0, 3, 2], "t": [1, -2, 3]},
        (10, 13),
        1,
    ),
    "gather": ([node("Gather", "x i", "y", axis=-1)], IMAGE, {"i": [[0, -1], [3, 3]]}, (11, 13), 1),
    "transpose": ([node("Transpose", "x", "y", perm=[0, 2, 3, 1])], IMAGE, {}, (7, 13), 1),
    "reshape": ([node("Reshape", "x s", "y")], IMAGE, {"s": [0, -1, 4]}, (7, 14), 1),
    "flatten": ([node("Flatten", "x", "y")], IMAGE, {}, (7, 13), 1),
    "squeeze by attribute": (
        [node("Unsqueeze", "x", "u", axes=[2, -1]), node("Squeeze", "u", "y", axes=[-1])],
        IMAGE,
        {},
        (11,),
        1,
    ),
    "squeeze by input": (
        [node("Unsqueeze", "x a", "u"), node("Squeeze", "u b", "y")],
        IMAGE,
        {"a": [2, -1], "b": [-1]},
        (13,),
        1,
    ),
    "expand": ([node("Expand", "x s", "y")], {"x": ["N", 3, 1, 4]}, {"s": [5, 1]}, (8, 13), 1),
    "tile": ([node("Tile", "x r", "y")], IMAGE, {"r": [1, 2, 1, 3]}, (7, 13), 1),
    "pad by attribute": ([node("Pad", "x", "y", pads=[0, 0, 1, 2, 0, 1, 3, -2], value=1.5)], IMAGE, {}, (7,), 1),
    **{
        f"pad, {mode}": (
            [node("Pad", "x p", "y", mode=mode)],
            IMAGE,
            {"p": [0, 0, 1, 2, 0, 0, 3, 1]},
            (19,) if mode == "wrap" else (11, 13, 18),
            1,
        )
        for mode in ("constant", "reflect", "edge", "wrap")
    },
    "pad some axes": ([node("Pad", "x p - a", "y")], IMAGE, {"p": [2, 1], "a": [-1]}, (18,), 1),
    **{
        f"resize, {mode}, {transform}, {size}": (
            [
                node(
                    "Resize",
                    "x roi s" if size == "scales" else "x roi roi s",
                    "y",
                    mode=mode,
                    coordinate_transformation_mode=transform,
                )
            ],
            {"x": [2, 3, 9, 8]},
            {
                "roi": np.zeros(0, np.float32),
                # where corners are aligned, onnxruntime rounds sizes before it computes with them
                "s": np.array([1, 1, 2, 1.75 if transform == "align_corners" else 1.7], np.float32)
                if size == "scales"
                else [2, 3, 5, 13],
            },
            (11, 13, 18),
            16,
        )
        for mode in ("nearest", "linear", "cubic")
        for transform in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
        for size in ("scales", "sizes")
    },
    "resize, before its attributes": ([node("Resize", "x s", "y")], IMAGE, {"s": TWICE}, (10,), 1),
    "upsample": ([node("Upsample", "x s", "y", mode="linear")], IMAGE, {"s": TWICE}, (9,), 4),
    "upsample by attribute": ([node("Upsample", "x", "y", scales=TWICE.tolist())], IMAGE, {}, (7,), 1),
    **{
        f"depth to space, {mode}": (
            [node("DepthToSpace", "x", "d", blocksize=2, mode=mode), node("SpaceToDepth", "d", "y", blocksize=4)],
            {"x": ["N", 8, 4, 6]},
            {},
            (11, 13),
            1,
        )
        for mode in ("DCR", "CRD")
    },
    **{
        f"{op_type} by attribute": ([node(op_type, "x", "y", axes=[1, -1], keepdims=0)], IMAGE, {}, opsets, 24)
        for op_type, opsets in (
            ("ReduceMean", (7, 13)),
            ("ReduceSum", (7, 11)),
            ("ReduceMax", (7, 13)),
            ("ReduceMin", (7, 13)),
            ("ReduceProd", (7, 13)),
            ("ReduceL1", (7, 13)),
            ("ReduceL2", (7, 13)),
            ("ReduceLogSumExp", (7, 13)),
            ("ReduceSumSquare", (7, 13)),
        )
    },
    **{
        f"{op_type} by input": ([node(op_type, "x a", "y")], IMAGE, {"a": [2, 3]}, (18,), 72)
        for op_type in ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceL2")
    },
    "sum by input": ([node("ReduceSum", "x a", "y")], IMAGE, {"a": [2, 3]}, (13,), 72),
    "largest": ([node("ArgMax", "x", "a", axis=1, keepdims=0), node("Cast", "a", "y", to=1)], IMAGE, {}, (7, 13), 1),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "opset"), [(name, opset) for name, case in CASES.items() for opset in case[3]]
)
def test_operator(name, opset):
    nodes, inputs, constants, _, terms = CASES[name]
    batch = 1 if inputs["x"][0] == 1 else 2
    agrees(model(nodes, inputs, constants=constants, opset=opset), terms, batch)


def test_documented_example():
    tried = doctest.testmod(importlib.import_module("fastconv.onnx._load"))
    assert tried.failed == 0
    assert tried.attempted > 0


def test_operators_and_opsets_are_listed():
    """In the documentation of the package, all of them and no other."""
    listed = fastconv.onnx.__doc__.split("64-bit floats:")[1]
    assert sorted(re.findall(r"\w+", listed)) == sorted(TRANSLATORS)
    assert f"opsets {OLDEST_OPSET} to {NEWEST_OPSET}" in fastconv.onnx.__doc__


# ----------------------------------------------------------------------------------------- how exporters write


def test_shape_arithmetic_of_a_dynamic_flatten():
    """``x.view(x.size(0), -1)`` and ``x.reshape(n, c * h, w)`` of PyTorch's exporter."""
    nodes = [
        node("Shape", "x", "s"),
        node("Gather", "s i0", "n", axis=0),
        node("Gather", "s i1", "c", axis=0),
        node("Gather", "s i2", "h", axis=0),
        node("Mul", "c h", "ch"),
        node("Div", "ch two", "half"),
        node("Unsqueeze", "n axis", "n1"),
        node("Unsqueeze", "half axis", "half1"),
        node("Concat", "n1 half1 rest", "shape", axis=0),
        node("Reshape", "x shape", "r"),
        node("Shape", "r", "s2"),
        node("Slice", "s2 zero one", "n2"),
        node("Concat", "n2 rest", "flat", axis=0),
        node("Reshape", "r flat", "y"),
    ]
    constants = {"i0": 0, "i1": 1, "i2": 2, "two": 2, "axis": [0], "rest": [-1], "zero": [0], "one": [1]}
    net = agrees(model(nodes, {"x": ["N", 4, 6, 5]}, constants=constants), batch=3)
    assert {type(each.op) for each in net.graph.nodes} == {ops.Reshape}
    assert net.graph.shapes["y"] == (120,)


def test_upsampling_to_the_size_of_another_value():
    """As ``interpolate(x, size=skip.shape[2:])`` is written."""
    nodes = [
        node("MaxPool", "x", "p", kernel_shape=[2, 2], strides=[2, 2]),
        node("Shape", "p", "sp"),
        node("Shape", "x", "sx"),
        node("Slice", "sp zero two", "front"),
        node("Slice", "sx two four", "size"),
        node("Concat", "front size", "sizes", axis=0),
        node(
            "Resize", "p - - sizes", "u", mode="linear", coordinate_transformation_mode="pytorch_half_pixel"
        ),
        node("Concat", "x u", "y", axis=1),
    ]
    constants = {"zero": [0], "two": [2], "four": [4]}
    net = agrees(model(nodes, {"x": ["N", 3, 7, 10]}, constants=constants), 4)
    assert net.graph.shapes["y"] == (6, 7, 10)


def test_constant_of_the_batch_s_size():
    nodes = [
        node("Shape", "x", "s"),
        node("Gather", "s zero", "n", axis=0),
        node("Concat", "n three", "shape", axis=0),
        node(
            "ConstantOfShape", "shape", "c", value=onnx.numpy_helper.from_array(np.array([2.0], np.float32))
        ),
        node("Expand", "w shape", "e"),
        node("Add", "c e", "a"),
        node("Concat", "x a", "y", axis=1),
    ]
    agrees(model(nodes, {"x": ["N", 5]}, constants={"zero": [0], "three": [3], "w": [1.0, 2.0, 3.0]}))


def test_fixed_batch_size_is_left_open():
    nodes = [node("Reshape", "x s", "y")]
    net = fastconv.onnx.load(model(nodes, {"x": [1, 3, 4]}, constants={"s": [1, 12]}))
    assert net.predict(np.zeros((5, 3, 4), np.float32)).shape == (5, 12)


@pytest.mark.parametrize("weights_are", ["initialisers", "inputs, too", "nodes"])
def test_where_weights_are_given(weights_are):
    constants = {"w": weights(4, 3, 3, 3), "b": weights(4)}
    file = model([node("Conv", "x w b", "y")], IMAGE, constants=constants)
    if weights_are == "inputs, too":
        for name, value in constants.items():
            file.graph.input.append(helper.make_tensor_value_info(name, 1, value.shape))
    elif weights_are == "nodes":
        made = [helper.make_node("Constant", [], [each.name], value=each) for each in file.graph.initializer]
        made += list(file.graph.node)
        del file.graph.initializer[:], file.graph.node[:]
        file.graph.node.extend(made)
    net = agrees(file, 27)
    assert list(net.graph.inputs) == ["x"]
    assert list(net.params) == ["w", "b"]
    assert set(net.trainable) == {"w", "b"}


def test_weights_reshaped_in_the_graph_are_folded_and_keep_their_names():
    nodes = [
        node("Reshape", "flat shape", "w"),
        node("Transpose", "t", "wt", perm=[1, 0]),
        node("Conv", "x w", "c"),
        node("GlobalAveragePool", "c", "g"),
        node("Flatten", "g", "f"),
        node("MatMul", "f wt", "y"),
    ]
    constants = {"flat": weights(108), "shape": [4, 3, 3, 3], "t": weights(5, 4)}
    net = agrees(model(nodes, IMAGE, constants=constants), 60)
    assert {name: value.shape for name, value in net.params.items()} == {"flat": (4, 3, 3, 3), "t": (5, 4)}


def test_names():
    nodes = [
        helper.make_node("Conv", ["x", "onnx::Conv_12"], ["/a/b/Conv_output_0"], name="/a/b/Conv"),
        helper.make_node("Relu", ["/a/b/Conv_output_0"], ["out put"]),
    ]
    file = model(nodes, IMAGE, constants={"onnx::Conv_12": weights(4, 3, 3, 3)})
    file.graph.node[1].output[0] = file.graph.output[0].name = "out put"
    net = fastconv.onnx.load(file)
    assert [each.name for each in net.graph.nodes] == ["a/b/Conv", "out_put"]
    assert list(net.params) == ["onnx__Conv_12"]


def test_several_outputs_and_inputs():
    nodes = [node("Add", "a b", "s"), node("Relu", "s", "r"), node("Mul", "s a", "m")]
    net = agrees(model(nodes, {"a": ["N", 3], "b": ["N", 3]}, "r m"))
    assert net.graph.outputs == ("r", "m")


def test_shared_weights_stay_shared():
    nodes = [node("Conv", "x w", "a", pads=[1, 1, 1, 1]), node("Conv", "a w", "y")]
    net = agrees(model(nodes, IMAGE, constants={"w": weights(3, 3, 3, 3)}), 27)
    assert list(net.params) == ["w"]


def test_open_sizes_must_be_given():
    file = model([node("Relu", "x", "y")], {"x": ["N", 3, "H", "W"]})
    with pytest.raises(ValueError, match=r"samples of unknown size.*input_shapes=\{'x'"):
        fastconv.onnx.load(file)
    net = fastconv.onnx.load(file, input_shapes={"x": (3, 4, 5)})
    assert net.graph.inputs == {"x": (3, 4, 5)}
    with pytest.raises(ValueError, match=r"has samples of shape \(3, None, None\), got \(4, 4, 5\)"):
        fastconv.onnx.load(file, input_shapes={"x": (4, 4, 5)})
    with pytest.raises(ValueError, match=r"inputs are \['x'\], got shapes for \['z'\]"):
        fastconv.onnx.load(file, input_shapes={"z": (4,)})


def test_types_of_floats():
    double = model(
        [node("Add", "x c", "y")], {"x": ["N", 2]}, constants={"c": np.array([1.0, 2.0])}, dtype="float64"
    )
    assert fastconv.onnx.load(double).dtype == np.float64
    constants = {"c": np.array([1.0, 2.0], np.float16)}
    half = fastconv.onnx.load(
        model([node("Add", "x c", "y")], {"x": ["N", 2]}, constants=constants, dtype="float16")
    )
    assert half.dtype == np.float32
    np.testing.assert_array_equal(half.predict(np.ones((1, 2), np.float16)), [[2.0, 3.0]])


def test_whole_numbers_stay_whole():
    nodes = [node("ArgMax", "x", "a", axis=1), node("Add", "a one", "b"), node("Mul", "b b", "y")]
    file = model(nodes, {"x": ["N", 3]}, constants={"one": [[1]]})
    file.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    x = np.array([[0.0, 2.0, 1.0], [0.0, 1.0, 2.0]], np.float32)
    got = fastconv.onnx.load(file).predict(x)
    np.testing.assert_array_equal(got, runtime(file, {"x": x})[0])
    assert got.dtype == np.int64


def test_images_of_bytes():
    nodes = [node("Cast", "x", "f", to=1), node("Div", "f c", "y")]
    net = fastconv.onnx.load(model(nodes, {"x": ["N", 2]}, constants={"c": 255.0}, dtype="uint8"))
    np.testing.assert_array_equal(net.predict(np.array([[0, 255]], np.uint8)), [[0.0, 1.0]])
    assert net.trainable == ()  # a number of one element is no weight


@pytest.mark.parametrize(
    ("nodes", "match"),
    [
        ([node("Transpose", "x", "y", perm=[1, 0, 2])], "moves the batch axis"),
        ([node("Transpose", "x", "y")], "moves the batch axis"),
        ([node("Reshape", "x four", "y")], "batch axis is mixed up"),
        ([node("Flatten", "x", "y", axis=2)], "flattens the batch axis"),
        ([node("Flatten", "x", "y", axis=0)], "flattens the batch axis"),
        ([node("Concat", "x x", "y", axis=0)], "works along the batch axis"),
        ([node("Softmax", "x", "y", axis=0)], "works along the batch axis"),
        ([node("ReduceMean", "x", "y", axes=[0])], "works along the batch axis"),
        ([node("ReduceMean", "x", "y")], "works along the batch axis"),
        ([node("Unsqueeze", "x zero", "y")], "works along the batch axis"),
        ([node("Gather", "x zero", "y")], "works along the batch axis"),
        ([node("Slice", "x zero one", "y")], "works along the batch axis"),
        ([node("Tile", "x two", "y")], "repeats along the batch axis"),
        ([node("Expand", "x four", "y")], "repeats along the batch axis"),
        ([node("Add", "x many", "y")], "combines the batch with 2 constant samples"),
        ([node("Gather", "many x", "y")], "indices must be constant"),
        ([node("Conv", "many x", "y")], "weight must be constant"),
        ([node("Conv", "x x", "y")], "weight must be constant"),
        ([node("MaxPool", "x", "y i", kernel_shape=[2]), node("Cast", "i", "z", to=1)], "count over the whole batch"),
        ([node("Shape", "x", "s"), node("Tile", "x s", "y")], "depend on the batch size"),
        ([node("Shape", "x", "s"), node("Add", "s one", "t"), node("Reshape", "x t", "y")], "node"),
    ],
)  # fmt: skip
def test_nodes_that_mix_samples_are_named(nodes, match):
    constants = {
        "zero": [0], "one": [1], "two": [2, 1, 1], "four": [2, -1, 3, 4], "many": weights(2, 3, 4),
    }  # fmt: skip
    outputs = nodes[-1].output[0] if nodes[-1].output[0] == "z" else "y"
    with pytest.raises(fastconv.onnx.UnsupportedModelError, match=rf"node .*{match}"):
        fastconv.onnx.load(model(nodes, {"x": ["N", 3, 4]}, outputs, constants))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("fixed", [True, False])
def test_export_of_pytorch(fixed):
    """Its exporter that needs no further package, on a net of many kinds of layers."""
    torch = pytest.importorskip("torch")
    layers, functional = torch.nn, torch.nn.functional

    class Net(layers.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.norm = layers.Conv2d(3, 8, 3, padding=1), layers.BatchNorm2d(8)
            self.depthwise, self.squeeze = layers.Conv2d(8, 8, 3, padding=1, groups=8), layers.Conv2d(8, 8, 1)
            self.groups, self.slopes = layers.GroupNorm(2, 8), layers.PReLU(8)
            self.up, self.last = layers.ConvTranspose2d(8, 4, 2, 2), layers.Linear(20, 5)

        def forward(self, x):
            h = functional.silu(self.norm(self.first(x)))
            p = functional.hardswish(self.depthwise(functional.max_pool2d(h, 2, ceil_mode=True)))
            p = p * torch.sigmoid(self.squeeze(functional.adaptive_avg_pool2d(p, 1)))
            a, b = torch.cat([h, functional.interpolate(p, size=h.shape[2:], mode="bilinear")], 1).chunk(2, 1)
            n, c, height, width = a.shape
            a = a.view(n, 2, c // 2, height, width).transpose(1, 2).reshape(n, c, height, width)
            h = self.groups(self.slopes(functional.gelu(a) + functional.mish(b)))
            h = functional.pad(h, (1, 2, 0, 1), mode="reflect")[:, :, 1:-1, ::2]
            h = functional.dropout(functional.pixel_shuffle(self.up(h), 2), 0.2, self.training)
            return self.last(h.mean(2).view(h.size(0), -1)[:, :20]).clamp(-0.5, 0.5), h

    torch.manual_seed(0)
    net, x = Net().eval(), torch.randn(2, 3, 9, 10)
    file = io.BytesIO()
    axes = None if fixed else {"x": {0: "N"}}
    torch.onnx.export(net, (x,), file, opset_version=17, dynamo=False, input_names=["x"], dynamic_axes=axes)
    loaded = fastconv.onnx.load(file.getvalue())
    assert loaded.predict(torch.randn(5, 3, 9, 10).numpy())[0].shape == (5, 5)
    feeds = {"x": x.numpy()}
    for values in (forward(loaded.graph, loaded.params, feeds), loaded.compile_inference()(feeds)):
        for name, theirs in zip(loaded.graph.outputs, net(x), strict=True):
            close(values[name], theirs.detach().numpy(), 20 * 72)


# ------------------------------------------------------------------------------------ what can be done with a net


def small_net() -> nn.Model:
    """A net with all that training moves: convolution, normalisation, a branch, dropout, a linear layer."""
    x = nn.Input((1, 8, 8))
    h = nn.ReLU()(nn.BatchNorm2d()(nn.Conv2d(4, 3, padding=1)(x)))
    h = nn.MaxPool2d(2)(h + nn.Conv2d(4, 1)(h))
    return nn.Model(x, nn.Linear(2)(nn.Dropout(0.1)(nn.Flatten()(h))), seed=3)


def test_a_loaded_net_trains(rng):
    net = fastconv.onnx.load(fastconv.onnx.save(small_net()), seed=3)
    x = rng.normal(size=(64, 1, 8, 8)).astype(np.float32)
    y = (x.mean(axis=(1, 2, 3)) > 0).astype(np.int64)
    before = net.get_weights()
    net.compile(nn.Adam(0.01), loss="cross_entropy", metrics=["accuracy"])
    history = net.fit(x, y, batch_size=16, epochs=12, verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0] / 2
    assert all((net.params[name] != value).any() for name, value in before.items())
    assert net.evaluate(x, y)["accuracy"] > 0.9


def test_a_loaded_net_trains_as_the_one_that_was_saved(rng):
    """Step by step the same, but for dropout, whose masks are by the names of nodes: these are kept, too."""
    x, y = rng.normal(size=(32, 1, 8, 8)).astype(np.float32), rng.integers(0, 2, 32)
    nets = [small_net(), fastconv.onnx.load(fastconv.onnx.save(small_net()), seed=3)]
    for net in nets:
        net.compile("adam", loss="cross_entropy")
        net.fit(x, y, batch_size=8, epochs=2, verbose=0)
    for name, value in nets[0].params.items():
        np.testing.assert_array_equal(nets[1].params[name], value)


def test_a_loaded_net_explains(rng):
    net = fastconv.onnx.load(fastconv.onnx.save(small_net()))
    image = rng.normal(size=(1, 8, 8)).astype(np.float32)
    saliency = explain.saliency_map(net, image, target=1)
    assert saliency.shape[-2:] == (8, 8)
    assert (saliency != 0).any()
    net.compile(loss="cross_entropy")
    heat = explain.occlusion(net, image, 1, window=4, stride=2, baseline="zero")
    original = small_net()
    original.compile(loss="cross_entropy")
    expected = explain.occlusion(original, image, 1, window=4, stride=2, baseline="zero")
    np.testing.assert_array_equal(heat.grid, expected.grid)
    assert "conv2d_1" in str(explain.receptive_field(net))
    assert "conv2d_1" in str(net.summary())


def test_a_loaded_net_is_saved_in_either_format(tmp_path):
    net = fastconv.onnx.load(fastconv.onnx.save(small_net()))
    x = ramp((2, 1, 8, 8), "float32")
    for name in ("net.safetensors", "net.onnx"):
        net.save(tmp_path / name)
        again = nn.load(tmp_path / name)
        np.testing.assert_array_equal(again.predict(x), net.predict(x))
        assert again.graph.nodes == net.graph.nodes
