"""ONNX's own tests of backends, all that use no operator beyond those that are read."""

from __future__ import annotations

import importlib
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastconv.onnx
from fastconv.onnx._operators import TRANSLATORS

onnx = pytest.importorskip("onnx")
helper = onnx.helper
backend = importlib.import_module("fastconv.onnx.backend")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # ONNX computes with infinities to make its cases
    BackendTest = importlib.import_module("onnx.backend.test").BackendTest
    load_model_tests = importlib.import_module("onnx.backend.test.loader").load_model_tests
    CASES = {
        kind: load_model_tests(kind=kind)
        for kind in ("node", "simple", "pytorch-converted", "pytorch-operator", "real")
    }

# What a file may use, besides constants and types.
REQUIRED = """
    Conv ConvTranspose MaxPool AveragePool LpPool GlobalAveragePool GlobalMaxPool GlobalLpPool
    BatchNormalization InstanceNormalization LRN Dropout Relu LeakyRelu PRelu Clip Elu Selu Celu HardSigmoid
    HardSwish Sigmoid Tanh Softplus Softsign Mish Gelu Softmax LogSoftmax Gemm MatMul Add Sub Mul Div Pow Sqrt
    Exp Neg Abs Min Max Sum Mean Concat Split Slice Gather Transpose Reshape Flatten Squeeze Unsqueeze Expand
    Tile Pad Resize DepthToSpace SpaceToDepth ReduceMean ReduceSum ReduceMax ReduceMin ArgMax Cast Constant
    ConstantOfShape Shape Identity Where Equal Greater Less
"""

# Every case that is left out although its operators are read: patterns of names, by reason.
EXCLUDED = {
    "8-bit and smaller types, bfloat16, strings, sequences and optional values are not read": [
        r"^test_cast(like)?_.*(FLOAT8|FLOAT4|U?INT[24]|BFLOAT16)",
        r"^test_(celu|range)_bfloat16",
        r"^test_equal_string",
        r"^test_identity_(sequence|opt)$",
        r"^test_(sequence_model|strnorm)",
    ],
    "the masks of dropout are those of another generator": [r"^test_training_dropout(_default)?(_mask)?$"],
    "written for opset 1, before the first that is read": [r"^test_not_[234]d$"],
    "the region of interest (tf_crop_and_resize) is not read": [r"^test_resize_tf_crop_and_resize"],
}


def operators(case: Any) -> set[str]:
    """Operators of a case, with their domains."""
    model = case.model
    if model is None:
        model = onnx.load(model_file(case), load_external_data=False)
    return {f"{node.domain}.{node.op_type}" if node.domain else node.op_type for node in model.graph.node}


def model_file(case: Any) -> Path:
    """Where the model of a case is; those of the kind "real" come with the package, without their weights."""
    return (
        Path(case.model_dir) / "model.onnx" if case.model_dir else Path(onnx.__file__).parents[1] / case.url
    )


def is_excluded(case: Any) -> bool:
    return any(re.search(pattern, case.name) for patterns in EXCLUDED.values() for pattern in patterns)


READ = [case for cases in CASES.values() for case in cases if operators(case) <= set(TRANSLATORS)]
CHOSEN = {f"{case.name}_cpu" for case in READ if not is_excluded(case)}

for _name, _cases in BackendTest(backend.FastconvBackend, __name__).test_cases.items():
    for _attribute in [each for each in vars(_cases) if each.startswith("test_") and each not in CHOSEN]:
        delattr(_cases, _attribute)
    globals()[_name] = _cases


@pytest.fixture(autouse=True, scope="module")
def models_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """ONNX keeps what it makes for the "real" models in the home folder unless told otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ONNX_MODELS", os.fspath(tmp_path_factory.mktemp("models")))
        yield


def test_operators_that_must_be_read():
    assert set(REQUIRED.split()) <= set(TRANSLATORS)


def test_most_cases_run():
    """So that an error in choosing them does not go unseen."""
    kinds = {kind: sum(f"{case.name}_cpu" in CHOSEN for case in cases) for kind, cases in CASES.items()}
    assert kinds["node"] >= 800
    assert kinds["real"] == len(CASES["real"])
    assert kinds["pytorch-converted"] == len(CASES["pytorch-converted"])
    assert kinds["pytorch-operator"] == len(CASES["pytorch-operator"])


@pytest.mark.parametrize("pattern", [pattern for patterns in EXCLUDED.values() for pattern in patterns])
def test_excluded_cases_are_there_and_fail(pattern):
    """A pattern that excludes nothing, or what would pass, has no place in the table."""
    excluded = [case for cases in CASES.values() for case in cases if re.search(pattern, case.name)]
    assert excluded
    for case in excluded:
        if case.model is not None:
            with pytest.raises((ValueError, AssertionError)):
                run(case)


def run(case: Any) -> None:
    prepared = backend.prepare(case.model)
    for inputs, outputs in case.data_sets:
        inputs = [onnx.numpy_helper.to_array(x) if isinstance(x, onnx.TensorProto) else x for x in inputs]
        for got, expected in zip(prepared.run(inputs), outputs, strict=True):
            np.testing.assert_allclose(got, expected, rtol=case.rtol, atol=case.atol)


# ------------------------------------------------------------------------------------------ the interface itself


def relu_model(shape: Any = ("N", 3)) -> Any:
    """A model of one ReLU."""
    value = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", value[:1], value[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def test_devices():
    assert backend.supports_device("CPU")
    assert backend.supports_device("CPU:0")
    assert not backend.supports_device("CUDA")
    with pytest.raises(ValueError, match="device must be 'CPU'"):
        backend.prepare(relu_model(), "CUDA")


def test_a_net_runs_as_its_plan_and_anything_else_says_why_not():
    x = np.array([[-1.0, 0.0, 2.0]], np.float32)
    prepared = backend.prepare(relu_model())
    assert prepared.model is not None
    assert prepared.reason is None
    np.testing.assert_array_equal(prepared.run([x])[0], [[0.0, 0.0, 2.0]])
    np.testing.assert_array_equal(prepared.run({"x": x})[0], [[0.0, 0.0, 2.0]])
    single = backend.prepare(relu_model([]))
    assert single.model is None
    assert "without a batch" in single.reason
    assert single.run([np.float32(-1.0)])[0] == 0.0


def test_run_model_and_node():
    x = np.array([[-1.0, 2.0, 3.0]], np.float32)
    np.testing.assert_array_equal(backend.run_model(relu_model(), [x])[0], [[0.0, 2.0, 3.0]])
    node = helper.make_node("Softmax", ["x"], ["y"], axis=1)
    (got,) = backend.run_node(node, [x])
    np.testing.assert_allclose(got, np.exp(x) / np.exp(x).sum(), rtol=1e-6)
    node = helper.make_node("ArgMax", ["x"], ["y"], axis=1)
    (got,) = backend.run_node(node, [x], outputs_info=[(np.int64, (1, 1))], opset_version=13)
    assert got.dtype == np.int64
    assert got.item() == 2


def test_compatible_is_what_can_be_prepared():
    assert backend.is_compatible(relu_model())
    model = relu_model()
    model.graph.node[0].op_type = "NonMaxSuppression"
    assert not backend.is_compatible(model)
    with pytest.raises(fastconv.onnx.UnsupportedModelError, match="NonMaxSuppression"):
        backend.prepare(model)


@pytest.mark.parametrize(
    "inputs",
    [
        [],
        [np.zeros((1, 3), np.float64)],
        [np.zeros((1, 4), np.float32)],
        [np.zeros(3, np.float32)],
        {"z": np.zeros((1, 3), np.float32)},
        [np.zeros((1, 3), np.float32)] * 2,
    ],
)
def test_wrong_inputs_are_refused(inputs):
    with pytest.raises(ValueError, match="input"):
        backend.prepare(relu_model()).run(inputs)
