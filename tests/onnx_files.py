"""Small ONNX files for tests, from nodes and arrays."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
helper = onnx.helper


def node(op_type: str, inputs: str, outputs: str, **attributes: Any) -> Any:
    """A node of named values, separated by blanks; ``-`` is an input that is left out."""
    names = ["" if name == "-" else name for name in inputs.split()]
    return helper.make_node(op_type, names, outputs.split(), name=f"{outputs.split()[0]}_node", **attributes)


def model(
    nodes: Sequence[Any],
    inputs: Mapping[str, Sequence[Any]],
    outputs: str = "y",
    constants: Mapping[str, Any] | None = None,
    *,
    opset: int = 17,
    dtype: str = "float32",
) -> Any:
    """A ``ModelProto``; arrays of Python's integers are int64, of its floats float32."""
    code = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info(name, code, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, code, None) for name in outputs.split()],
        [onnx.numpy_helper.from_array(as_array(value), name) for name, value in (constants or {}).items()],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=min(8, onnx.IR_VERSION)
    )


def as_array(value: Any) -> np.ndarray:
    array = np.asarray(value)
    return (
        array.astype(np.float32) if array.dtype == np.float64 and not isinstance(value, np.ndarray) else array
    )


def runtime(file: Any, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """What onnxruntime makes of a file; skips the test where that is not installed."""
    pytest.importorskip("onnxruntime")
    onnxruntime = importlib.import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    content = file if isinstance(file, bytes) else file.SerializeToString()
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"]).run(
        None, dict(feeds)
    )
