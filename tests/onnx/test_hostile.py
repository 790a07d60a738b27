"""Files that are damaged or mean harm: refused with a ValueError, without a crash, a hang or a large allocation."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import fastconv.onnx
from fastconv import nn

pytest.importorskip("onnx")

from onnx_files import model, node, onnx

SMALL = 64 * 2**20  # bytes that refusing a small file may take at most


@contextmanager
def little_memory() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < SMALL
    finally:
        tracemalloc.stop()


def refused(file: Any, match: str, **options: Any) -> None:
    with little_memory(), pytest.raises(ValueError, match=match):
        fastconv.onnx.load(file, **options)


def valid() -> Any:
    """A file with a bit of everything."""
    constants = {
        "weight": np.arange(18, dtype=np.float32).reshape(2, 1, 3, 3),
        "pads": [0, 0, 1, 1, 0, 0, 1, 1],
        "first": [0],
        "rest": [-1],
        "sizes": [1, 1, 1],
        "four": [1, 2, 1, 1],
        "scales": np.array([1, 1, 2, 2], np.float32),
    }
    nodes = [
        node("Pad", "x pads", "p"),
        node("Conv", "p weight", "c", kernel_shape=[3, 3]),
        node("Resize", "c - scales", "r", mode="linear"),
        node("ConstantOfShape", "sizes", "zeros"),
        node("Expand", "zeros four", "e"),
        node("Add", "r e", "a"),
        node("Shape", "a", "s"),
        node("Gather", "s first", "n", axis=0),
        node("Concat", "n rest", "t", axis=0),
        node("Reshape", "a t", "f"),
        node("Softmax", "f", "y"),
    ]
    return model(nodes, {"x": ["N", 1, 4, 4]}, constants=constants)


VALID = valid().SerializeToString()


def test_the_valid_file_is_read():
    """Else what follows would show nothing."""
    assert fastconv.onnx.load(VALID).predict(np.ones((3, 1, 4, 4), np.float32)).shape == (3, 128)


# ------------------------------------------------------------------------------------------------- damaged bytes


@pytest.mark.parametrize("length", [0, 1, 10, 100, len(VALID) // 2, len(VALID) - 1])
def test_truncated(length):
    refused(VALID[:length], "not an ONNX file|defines|unknown|needs|not supported")


def test_other_files(tmp_path):
    for content in (
        b"",
        b"\x00" * 1000,
        b"PK\x03\x04",
        os.urandom(1) * 0 + bytes(range(256)),
        b"safetensors",
    ):
        refused(content, "not an ONNX file")
    path = tmp_path / "text.onnx"
    path.write_text("hello")
    refused(path, "not an ONNX file")
    with pytest.raises(FileNotFoundError):
        fastconv.onnx.load(tmp_path / "none.onnx")


EDITS = st.lists(
    st.tuples(st.integers(0, len(VALID) - 1), st.integers(0, 3), st.binary(min_size=1, max_size=6)),
    min_size=1,
    max_size=6,
)


@settings(max_examples=400)
@given(EDITS)
@example([(0, 0, b"\xff")])
def test_mutated_bytes_are_read_or_refused(edits):
    content = bytearray(VALID)
    for place, kind, data in edits:
        if kind == 0:
            content[place : place + len(data)] = data
        elif kind == 1:
            content[place:place] = data
        elif kind == 2:
            del content[place : place + len(data)]
        else:
            content[place : place + len(data)] = content[: len(data)]
    try:
        net = fastconv.onnx.load(bytes(content), max_folding=2**20)
    except ValueError:
        return
    assert isinstance(net, nn.Model)


@settings(max_examples=100)
@given(st.binary(max_size=300))
def test_random_bytes_are_refused(content):
    with pytest.raises(ValueError, match=r"\w"):
        fastconv.onnx.load(content)


def test_names_that_are_no_text():
    content = VALID.replace(b"weight", b"w\xff\xffght")
    refused(content, "not UTF-8|not an ONNX file")


def test_nested_graphs_end_where_protocol_buffers_do():
    body = model([node("Relu", "x", "y")], {"x": [1]}).graph.SerializeToString()

    def field(number: int, content: bytes) -> bytes:
        size, length = b"", len(content)
        while length > 127:
            size, length = size + bytes([length & 127 | 128]), length >> 7
        return bytes([number << 3 | 2]) + size + bytes([length]) + content

    for _ in range(500):  # graph { node { op_type "If", output "y", attribute { name, g, type GRAPH } } }
        attribute = field(1, b"then_branch") + field(6, body) + b"\xa0\x01\x05"
        body = field(1, field(4, b"If") + field(2, b"y") + field(5, attribute)) + field(12, field(1, b"y"))
    refused(b"\x08\x08" + field(7, body), "not an ONNX file|not supported")


# -------------------------------------------------------------------------------------------- contradictions


def test_cycle_and_use_before_definition():
    nodes = [node("Add", "x b", "a"), node("Relu", "a", "b"), node("Relu", "b", "y")]
    refused(model(nodes, {"x": ["N", 3]}), "topological order; a cycle has none")


def test_self_reference():
    refused(model([node("Add", "x y", "y")], {"x": ["N", 3]}), "topological order")


@pytest.mark.parametrize("outputs", ["x", "w", "a"])
def test_values_defined_twice(outputs):
    nodes = [node("Relu", "x", "a"), node("Relu", "x", outputs), node("Relu", "x", "y")]
    refused(model(nodes, {"x": ["N", 3]}, constants={"w": [1.0]}), "defined once")


def test_output_that_is_not_there():
    refused(model([node("Relu", "x", "z")], {"x": ["N", 3]}), "outputs must be values of the graph")


def test_output_that_is_constant():
    nodes = [node("Identity", "w", "y")]
    refused(model(nodes, {"x": ["N", 3]}, constants={"w": [1.0]}), "depends on no input")


def test_names_given_twice():
    file = model([node("Relu", "x", "y")], {"x": ["N", 3]}, constants={"w": [1.0]})
    file.graph.initializer.append(file.graph.initializer[0])
    refused(file, "initialisers must have names of their own")
    file = model([node("Relu", "x", "y")], {"x": ["N", 3]})
    file.graph.input.append(file.graph.input[0])
    refused(file, "inputs must have names of their own")
    file = model([node("Elu", "x", "y", alpha=1.0)], {"x": ["N", 3]})
    file.graph.node[0].attribute.append(file.graph.node[0].attribute[0])
    refused(file, "'alpha' twice")


@pytest.mark.parametrize("count", [0, 1, 3])
def test_wrong_number_of_inputs(count):
    nodes = [node("Add", " ".join(["x"] * count), "y")]
    refused(model(nodes, {"x": ["N", 3]}), "it takes 2 inputs")


def test_missing_input():
    refused(model([node("Conv", "x -", "y")], {"x": ["N", 3, 8, 8]}), "it takes 2 inputs")


def test_shapes_that_do_not_fit():
    constants = {"w": np.zeros((4, 5, 3, 3), np.float32)}
    refused(
        model([node("Conv", "x w", "y")], {"x": ["N", 3, 8, 8]}, constants=constants), r"node Conv 'y_node'"
    )


@pytest.mark.parametrize("dims", [(3,), (2, 3), (2**62, 2**62), (-1, 2), (-4,), (2**40, 0, 2)])
def test_initialisers_of_wrong_size(dims):
    file = model([node("Add", "x w", "y")], {"x": ["N", 4]}, constants={"w": [1.0, 2.0, 3.0, 4.0]})
    del file.graph.initializer[0].dims[:]
    file.graph.initializer[0].dims.extend(dims)
    refused(file, "needs|negative")


def test_initialiser_with_too_few_typed_values():
    file = model([node("Add", "x w", "y")], {"x": ["N", 4]})
    file.graph.initializer.append(onnx.TensorProto(name="w", data_type=1, dims=[4], float_data=[1.0, 2.0]))
    refused(file, "needs 4 values, got 2")


# ------------------------------------------------------------------------------------------------ huge results

HUGE = 2**40
MUCH = {
    "ConstantOfShape": ([node("ConstantOfShape", "n", "c")], {"n": [HUGE]}),
    "ConstantOfShape, several": ([node("ConstantOfShape", "n", "c")], {"n": [2**20] * 3}),
    "Expand": ([node("Expand", "one n", "c")], {"one": [1.0], "n": [HUGE, 1]}),
    "Tile": ([node("Tile", "one n", "c")], {"one": [1.0], "n": [HUGE]}),
    "Pad": ([node("Pad", "one n", "c")], {"one": [1.0], "n": [HUGE, HUGE]}),
    "Resize": ([node("Resize", "one - n", "c")], {"one": [1.0], "n": np.array([1e12], np.float32)}),
    "Resize to a size": ([node("Resize", "one - - n", "c")], {"one": [1.0], "n": [HUGE]}),
    "Range": ([node("Range", "zero n step", "c")], {"zero": 0, "n": HUGE, "step": 1}),
    "Range by nothing": ([node("Range", "zero n zero", "c")], {"zero": 0, "n": HUGE}),
    "Gather": (
        [node("Tile", "one n", "a"), node("Gather", "one a", "c")],
        {"one": np.zeros(2**10, np.int64), "n": [2**20]},
    ),
    "doubling": (
        [node("Concat", f"{'one' if i == 0 else f'a{i}'} " * 2, f"a{i + 1}", axis=0) for i in range(64)]
        + [node("Identity", "a64", "c")],
        {"one": [1.0]},
    ),
}


@pytest.mark.parametrize("case", MUCH)
def test_constants_that_would_be_huge(case):
    nodes, constants = MUCH[case]
    file = model([*nodes, node("Mul", "x c", "y")], {"x": ["N", 1]}, constants=constants)
    refused(file, r"node .*(max_folding|larger|more than|divide|zero)", max_folding=2**20)


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Tile", "x n", "y")],
        [node("Expand", "x n", "y")],
        [node("Pad", "x pads", "y")],
        [node("Resize", "x - scales", "y")],
        [node("Upsample", "x scales", "y")],
    ],
)
def test_values_that_would_be_huge(nodes):
    constants = {"n": [1, HUGE], "pads": [0, 0, 0, HUGE], "scales": np.array([1, 1e12], np.float32)}
    opset = 9 if nodes[0].op_type == "Upsample" else 17
    refused(model(nodes, {"x": ["N", 1]}, constants=constants, opset=opset), "bytes|more than")


def test_huge_input():
    refused(model([node("Relu", "x", "y")], {"x": ["N", 2**31, 2**31]}), "bytes|more than")


@pytest.mark.parametrize(
    ("op_type", "attributes"),
    [
        ("MaxPool", {"kernel_shape": [2**40, 2], "pads": [2**40, 0, 2**40, 0]}),
        ("AveragePool", {"kernel_shape": [2**30, 2**30], "pads": [2**30, 0, 2**30, 2**31]}),
        ("AveragePool", {"kernel_shape": [2**30, 2], "pads": [2**30 - 5, 0, 0, 0]}),
        ("AveragePool", {"kernel_shape": [2, 2], "strides": [0, 1]}),
        ("LpPool", {"kernel_shape": [2, 2], "p": 0}),
        ("LRN", {"size": -1}),
        ("DepthToSpace", {"blocksize": 0}),
        ("Softmax", {"axis": 2**62}),
        ("Flatten", {"axis": -(2**62)}),
        ("Transpose", {"perm": [0, 1, 1, 2]}),
        ("Elu", {"alpha": 1}),
        ("Relu", {"alpha": 1.0}),
    ],
)
def test_attributes_that_make_no_sense(op_type, attributes):
    refused(model([node(op_type, "x", "y", **attributes)], {"x": ["N", 3, 8, 8]}), f"node {op_type} 'y_node'")


def test_more_neighbours_than_channels_take_no_time():
    net = fastconv.onnx.load(model([node("LRN", "x", "y", size=2**60)], {"x": ["N", 3, 2, 2]}))
    np.testing.assert_allclose(net.predict(np.ones((1, 3, 2, 2), np.float32)), 1.0)


# ----------------------------------------------------------------------------------------------- other files


def external(folder: Path, location: str, **entries: Any) -> Path:
    """A model in ``folder/models`` whose weight of four floats is in another file."""
    file = model([node("Add", "x w", "y")], {"x": ["N", 4]})
    tensor = onnx.TensorProto(name="w", data_type=1, dims=[4], data_location=onnx.TensorProto.EXTERNAL)
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=str(value))
    file.graph.initializer.append(tensor)
    (folder / "models" / "deeper").mkdir(parents=True)
    path = folder / "models" / "net.onnx"
    path.write_bytes(file.SerializeToString())
    weights = np.arange(6, dtype=np.float32).tobytes()
    for place in ("weights.bin", "models/weights.bin", "models/deeper/weights.bin"):
        (folder / place).write_bytes(weights)
    return path


@pytest.mark.parametrize("location", ["weights.bin", "deeper/weights.bin", "./deeper/../weights.bin"])
def test_external_data(tmp_path, location):
    net = fastconv.onnx.load(external(tmp_path, location, offset=4, length=16))
    np.testing.assert_array_equal(net.predict(np.zeros((1, 4), np.float32)), [[1.0, 2.0, 3.0, 4.0]])


@pytest.mark.parametrize(
    "location", ["../weights.bin", "deeper/../../weights.bin", "{}/weights.bin", "link", "", "."]
)
def test_external_data_stays_in_the_folder(tmp_path, location):
    path = external(tmp_path, location.format(tmp_path), length=16)
    os.symlink(tmp_path / "weights.bin", tmp_path / "models" / "link")
    refused(path, "stay in the model's folder|no regular file")


def test_external_data_of_an_absolute_path_inside(tmp_path):
    path = external(tmp_path, f"{tmp_path}/models/weights.bin", length=16)
    refused(path, "stay in the model's folder")


@pytest.mark.parametrize(
    ("entries", "match"),
    [
        ({"offset": -4, "length": 16}, "are not in"),
        ({"offset": 0, "length": -16}, "are not in"),
        ({"offset": 16, "length": 16}, "are not in"),
        ({"offset": 2**70, "length": 16}, "are not in"),
        ({"length": 8}, "needs 16 bytes, got 8"),
        ({}, "needs 16 bytes, got 24"),
        ({"offset": "x"}, "must be integers"),
        ({"offset": "9" * 5000}, "must be integers"),
    ],
)
def test_external_data_beyond_its_file(tmp_path, entries, match):
    refused(external(tmp_path, "weights.bin", **entries), match)


def test_external_data_that_is_missing(tmp_path):
    refused(external(tmp_path, "none.bin"), "cannot read 'none.bin'")
    refused((tmp_path / "models" / "net.onnx").read_bytes(), "given by its path")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")
def test_external_data_in_a_pipe_does_not_hang(tmp_path):
    path = external(tmp_path, "pipe")
    os.mkfifo(tmp_path / "models" / "pipe")
    refused(path, "no regular file")


# ------------------------------------------------------------------------------------- what is not supported


def test_one_error_names_everything():
    nodes = [
        node("Relu", "x", "a"),
        node("NonMaxSuppression", "a", "b"),
        node("Attention", "b", "c", domain="com.microsoft"),
        node("NonMaxSuppression", "c", "y"),
    ]
    file = model(nodes, {"x": ["N", 3]}, opset=99)
    file.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.BFLOAT16
    file.graph.initializer.append(
        onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT8E4M3FN, dims=[0])
    )
    with pytest.raises(fastconv.onnx.UnsupportedModelError) as caught:
        fastconv.onnx.load(file)
    message = str(caught.value)
    for part in (
        "opset 99",
        "NonMaxSuppression (node 'b_node', 'y_node')",
        "com.microsoft.Attention (node 'c_node')",
        "'x' of bfloat16",
        "'w' of float8e4m3fn",
    ):
        assert part in message


@pytest.mark.parametrize("opset", [0, 5, 29, 2**40])
def test_opsets_that_are_not_known(opset):
    refused(model([node("Relu", "x", "y")], {"x": ["N", 3]}, opset=opset), f"opset {opset}")


def test_opset_is_needed():
    file = model([node("Relu", "x", "y")], {"x": ["N", 3]})
    del file.opset_import[:]
    refused(file, "one opset")


def test_attributes_that_are_not_known():
    refused(
        model([node("Relu", "x", "y", slope=1.0)], {"x": ["N", 3]}), r"attributes \['slope'\] are not known"
    )
