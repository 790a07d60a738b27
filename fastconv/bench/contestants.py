"""How each library is asked for a pass of a problem.

A contestant is a class whose instance lives in a process of its own: ``version``, ``set_threads(n)`` before the
arrays are prepared, ``prepare(problem, kind, arrays)``, which returns the call to time or None where the library does
not offer it, and ``infer(file, x)``, the same for the net in an ONNX file.  Layouts are converted and models built
there, before the clock runs.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import numpy as np

import fastconv
import fastconv.functional as F
import fastconv.grad as G
import fastconv.onnx
from fastconv.bench import nets
from fastconv.bench.problem_line import Problem
from fastconv.bench.tasks import (
    BACKWARD,
    DENORMAL,
    FORWARD,
    INDICES,
    INPUT_GRAD,
    PREPARED,
    WEIGHT_GRAD,
    Array,
    labels,
)

Call = Callable[[], Any]
Arrays = tuple[Array, Array, Array]


class Contestant(Protocol):
    """See the module's docstring."""

    version: str

    def set_threads(self, n: int) -> None: ...
    def prepare(self, problem: Problem, kind: str, arrays: Arrays) -> Call | None: ...
    def infer(self, file: str, x: Array) -> Call | None: ...


def array_of(result: Any) -> Array:
    """The array in what a call returns: of several results the first that was asked for."""
    if isinstance(result, (tuple, list)):
        result = next(each for each in result if each is not None)
    return np.asarray(result)


def _conv_options(problem: Problem) -> dict[str, Any]:
    names = {"stride": "s", "padding": "p", "dilation": "d"}
    return {name: problem.pair(letter) for name, letter in names.items()} | {"groups": problem["g"]}


def _window(problem: Problem) -> tuple[Any, Any, Any]:
    return problem.pair("k"), problem.pair("s"), problem.pair("p")


class Fastconv:
    """Plain calls of the public functions, or of a prepared convolution."""

    version = fastconv.__version__

    def set_threads(self, n: int) -> None:
        fastconv.set_num_threads(n)

    def prepare(self, problem: Problem, kind: str, arrays: Arrays) -> Call:
        if kind == PREPARED:
            x, weight, _ = arrays
            return partial(fastconv.prepare(weight, input_size=x.shape, **_conv_options(problem)), x)
        if problem.op == "train":
            return nets.FastconvStep(problem, arrays[0], labels(problem))
        if problem.op == "occlusion":
            return nets.FastconvMap(problem, arrays[0])
        name, args, kwargs = self._arguments(problem, kind, arrays)
        return partial(
            getattr(G if name.startswith("grad.") else F, name.rpartition(".")[2]), *args, **kwargs
        )

    def infer(self, file: str, x: Array) -> Call:
        """By the inference plan; the model that it is made of is let go of."""
        plan = fastconv.onnx.load(file).compile_inference()
        ((name, _),) = plan.graph.inputs.items()
        return lambda: tuple(plan({name: x}).values())

    def served_by(self, problem: Problem, kind: str, arrays: Arrays) -> str:
        """Name of the implementation; a net is served by many, a map by a method that may save work."""
        if problem.op in ("train", "infer"):
            return "-"
        if problem.op == "occlusion":
            return nets.FastconvMap(problem, arrays[0]).method
        name, args, kwargs = self._arguments(problem, kind, arrays)
        return fastconv.explain_choice(name, *args, **kwargs).implementation.name

    def release_memory(self) -> None:
        """Keep nothing of earlier calls, so that the next one shows how much it needs."""
        fastconv.release_memory()

    def _arguments(
        self, problem: Problem, kind: str, arrays: Arrays
    ) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
        """The op as :func:`fastconv.explain_choice` names it, and the arguments of the call."""
        x, weight, grad = arrays
        match problem.op, kind:
            case "pool", _ if kind == BACKWARD:
                window = _window(problem)
                _, offsets = F.max_pool2d(x, *window, return_indices=True, index_dtype="uint8")
                return "grad.max_pool2d", (grad, offsets, x.shape, *window), {}
            case "pool", _:
                indices = {"return_indices": True, "index_dtype": "uint8"} if kind == INDICES else {}
                return "max_pool2d", (x, *_window(problem)), indices
            case "dropout", _ if kind == BACKWARD:
                _, mask = F.dropout(x, problem["p"] / 100, seed=0, return_mask=True)
                return "grad.dropout", (grad, mask, problem["p"] / 100), {}
            case "dropout", _:
                return "dropout", (x, problem["p"] / 100), {"return_mask": True}
            case "relu", _:
                return "relu", (x,), {}
            case _ if kind == INPUT_GRAD:
                return "grad.conv2d_input", (x.shape, weight, grad), _conv_options(problem)
            case _ if kind == WEIGHT_GRAD:
                return "grad.conv2d_weight", (x, weight.shape, grad), _conv_options(problem)
            case _:
                return "conv2d", (x, weight), _conv_options(problem)


class Torch:
    """PyTorch on tensors in NCHW memory; occlusion is Captum's."""

    memory_format = "contiguous_format"

    def __init__(self) -> None:
        self.torch: Any = importlib.import_module("torch")
        self.torch.set_grad_enabled(False)
        self.version = self.torch.__version__

    def set_threads(self, n: int) -> None:
        self.torch.set_num_threads(n)

    def prepare(self, problem: Problem, kind: str, arrays: Arrays) -> Call | None:
        torch, ops = self.torch, self.torch.ops.aten
        layout = getattr(torch, self.memory_format)
        if problem.op == "train":
            return nets.TorchStep(torch, layout, problem, arrays[0], labels(problem))
        if problem.op == "occlusion":
            if importlib.util.find_spec("captum") is None:
                return None
            return nets.CaptumMap(torch, layout, problem, arrays[0])
        x, weight, grad = (torch.from_numpy(each).to(memory_format=layout) for each in arrays)
        match problem.op, kind:
            case "pool", _ if kind == BACKWARD:
                window = _window(problem)
                _, indices = torch.nn.functional.max_pool2d(x, *window, return_indices=True)
                return partial(ops.max_pool2d_with_indices_backward, grad, x, *window, (1, 1), False, indices)
            case "pool", _:
                return partial(
                    torch.nn.functional.max_pool2d, x, *_window(problem), return_indices=kind == INDICES
                )
            case "dropout", _ if kind == BACKWARD:
                p = problem["p"] / 100
                _, bits = F.dropout(arrays[0], p, seed=0, return_mask=True)
                kept = np.unpackbits(bits, count=x.numel(), bitorder="little").reshape(x.shape)
                return partial(
                    ops.native_dropout_backward, grad, torch.from_numpy(kept.astype(bool)), 1 / (1 - p)
                )
            case "dropout", _:
                return partial(torch.native_dropout, x, problem["p"] / 100, True)
            case "relu", _:
                return partial(torch.relu, x)
            case _ if kind in (INPUT_GRAD, WEIGHT_GRAD):
                stride, padding, dilation, groups = _conv_options(problem).values()
                wanted = [kind == INPUT_GRAD, kind == WEIGHT_GRAD, False]
                rest = (None, stride, padding, dilation, False, (0, 0), groups, wanted)
                return partial(ops.convolution_backward, grad, x, weight, *rest)
            case _:
                return partial(torch.nn.functional.conv2d, x, weight, None, **_conv_options(problem))

    def infer(self, file: str, x: Array) -> None:
        """It does not read such files."""


class TorchChannelsLast(Torch):
    """PyTorch on tensors in NHWC memory, the results as well."""

    memory_format = "channels_last"

    def prepare(self, problem: Problem, kind: str, arrays: Arrays) -> Call | None:
        if problem.op in ("dropout", "relu"):  # of no account to what goes element by element
            return None
        return super().prepare(problem, kind, arrays)


def onnx_model(problem: Problem, weight: Array) -> bytes | None:
    """A net of one node, the weight a constant in it; None for what is not an inference op."""
    helper = importlib.import_module("onnx.helper")
    numpy_helper = importlib.import_module("onnx.numpy_helper")
    names, constants = ["x"], []
    options: dict[str, Any] = {}
    if problem.op in ("conv", "denormal", "prepared", "pool"):
        (ph, pw), strides = problem.pair("p"), problem.pair("s")
        options = {"kernel_shape": problem.pair("k"), "strides": strides, "pads": (ph, pw, ph, pw)}
    match problem.op:
        case "conv" | "denormal" | "prepared":
            node = "Conv"
            names.append("w")
            constants.append(numpy_helper.from_array(weight, "w"))
            options |= {"dilations": problem.pair("d"), "group": problem["g"]}
        case "pool":
            node = "MaxPool"
        case "relu":
            node = "Relu"
        case _:
            return None
    ends = [
        [helper.make_tensor_value_info(name, 1, shape)]  # 1: float32
        for name, shape in (("x", problem.input_shape), ("y", problem.output_shape))
    ]
    graph = helper.make_graph([helper.make_node(node, names, ["y"], **options)], "problem", *ends, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return bytes(model.SerializeToString())


class _OnnxNet:
    """A library that runs ONNX models: forward passes only, for so many threads a model."""

    threads = 1

    def set_threads(self, n: int) -> None:
        self.threads = n

    def prepare(self, problem: Problem, kind: str, arrays: Arrays) -> Call | None:
        if kind not in (FORWARD, DENORMAL, PREPARED) or (model := onnx_model(problem, arrays[1])) is None:
            return None
        return self.infer(model, arrays[0])

    def infer(self, file: str | bytes, x: Array) -> Call:
        """The call that runs a model, or the one in a file, on ``x``."""
        raise NotImplementedError


class OnnxRuntime(_OnnxNet):
    """ONNX Runtime on the CPU."""

    def __init__(self) -> None:
        self.ort: Any = importlib.import_module("onnxruntime")
        self.version = self.ort.__version__

    def infer(self, file: str | bytes, x: Array) -> Call:
        options = self.ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.add_free_dimension_override_by_name("N", len(x))
        session = self.ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        return partial(session.run, None, {session.get_inputs()[0].name: x})


class OpenVino(_OnnxNet):
    """OpenVINO on the CPU in float32."""

    def __init__(self) -> None:
        os.environ["CI"] = "true"  # there it sends no usage statistics
        self.openvino: Any = importlib.import_module("openvino")
        self.version = self.openvino.__version__

    def infer(self, file: str | bytes, x: Array) -> Call:
        settings = {
            "INFERENCE_NUM_THREADS": self.threads,
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
        }
        core = self.openvino.Core()
        model = core.read_model(file)
        model.reshape(list(x.shape))
        request = core.compile_model(model, "CPU", settings).create_infer_request()
        request.set_input_tensor(self.openvino.Tensor(x, shared_memory=True))

        def call(kept: Array = x) -> Any:  # the tensor does not keep its memory alive
            request.infer()
            return request.get_output_tensor().data

        return call


OURS = "fastconv"
PLACES = {
    OURS: "fastconv.bench.contestants:Fastconv",
    "torch NCHW": "fastconv.bench.contestants:Torch",
    "torch channels_last": "fastconv.bench.contestants:TorchChannelsLast",
    "onnxruntime": "fastconv.bench.contestants:OnnxRuntime",
    "openvino": "fastconv.bench.contestants:OpenVino",
}
_NEEDS = {
    "torch NCHW": ("torch",),
    "torch channels_last": ("torch",),
    "onnxruntime": ("onnxruntime", "onnx"),
    "openvino": ("openvino", "onnx"),
}


def installed() -> tuple[list[str], list[str]]:
    """Names of the other libraries' contestants that can play, and a sentence for each that cannot."""
    names, notes = [], []
    for name, modules in _NEEDS.items():
        missing = [each for each in modules if importlib.util.find_spec(each) is None]
        if missing:
            notes.append(f"{name} does not play: {' and '.join(missing)} not installed")
        else:
            names.append(name)
    return names, notes
