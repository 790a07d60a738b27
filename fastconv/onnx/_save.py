"""From a net to a file."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from fastconv import ops
from fastconv._optional import require
from fastconv._spec import Shape, as_int
from fastconv.graph import Node
from fastconv.nn.model import Model
from fastconv.onnx._file import NEWEST_OPSET
from fastconv.onnx._operators.pointwise import COMPARISONS, FUNCTIONS
from fastconv.onnx._operators.reductions import REDUCTIONS
from fastconv.onnx._operators.shapes import PAD_MODES
from fastconv.onnx._values import UnsupportedModelError
from fastconv.ops import Op

OLDEST_WRITTEN = 13  # from here on axes and sizes are inputs
_LARGEST_FILE = 2**31 - 1  # of a protocol buffer

Path = str | os.PathLike[str]


def save(model: Model, path: Path | None = None, *, opset: int = 17) -> bytes | None:
    """Write a net as an ONNX file for inference, with weights inside and a batch size ``"N"`` left open.

    Dropout stays as a node that does nothing in inference; dropout of channels and blocks, and noise, are left out.
    So are seed, penalties, and what is frozen.

    Parameters
    ----------
    model : Model
    path : path, optional
        Replaced at once, when all is written.
    opset : int
        13 to the newest that is known here.

    Returns
    -------
    bytes or None
        The file's content if there is no path.

    Raises
    ------
    UnsupportedModelError
        If ops have no counterpart in this opset; the message names all of them.
    ValueError
        If the opset is not known, or the file would be larger than 2 GiB.
    ImportError
        If the package ``onnx`` is not installed.
    """
    onnx = require("onnx", extra="onnx")
    version = as_int(opset, "opset", OLDEST_WRITTEN, min(NEWEST_OPSET, onnx.defs.onnx_opset_version()))
    if sum(param.nbytes for param in model.params.values()) > _LARGEST_FILE:
        raise ValueError("an ONNX file holds at most 2 GiB, but the net's parameters are larger")
    proto = _Writer(model, version, onnx).model()
    content: bytes = proto.SerializeToString()
    if path is None:
        return content
    temporary = f"{os.fspath(path)}.tmp"
    with open(temporary, "wb") as file:
        file.write(content)
    os.replace(temporary, path)
    return None


class _NoCounterpart(Exception):
    """Why an op cannot be written."""


class _Writer:
    """A file under construction, node by node of the graph; the last output of each bears the node's name."""

    def __init__(self, model: Model, opset: int, onnx: Any) -> None:
        self.graph, self.opset, self._onnx = model.graph, opset, onnx
        self._title = model.name or "net"
        self.float = model.dtype.name
        self.node = Node("", ops.Reshape(), ())  # the one being written
        self._dtypes: dict[str, str] = dict.fromkeys(self.graph.inputs, self.float)
        self._nodes: list[Any] = []
        self._names = {*self.graph.inputs, *(node.name for node in self.graph.nodes)}
        self._param_names = {
            name: self._unique(name) for name in model.params
        }  # there, nodes are named alike
        self._initializers = {self._param_names[name]: value for name, value in model.params.items()}
        self._fixed: set[str] = set()  # values that no input reaches: one for all samples

    # ---- what writers of ops use

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """Of the present node's inputs, one sample each."""
        return self.graph.input_shapes(self.node)

    @property
    def params(self) -> dict[str, str]:
        """Names of the present node's parameters."""
        return {key: self._param_names[name] for key, name in self.graph.param_names[self.node.name].items()}

    def step(self, op_type: str, inputs: Sequence[str], dtype: str | None = None, **attributes: Any) -> str:
        """One ONNX node on the way; the name of its output."""
        return self._write(op_type, inputs, self._fresh(op_type.lower()), dtype, attributes)

    def last(self, op_type: str, inputs: Sequence[str], dtype: str | None = None, **attributes: Any) -> None:
        """The ONNX node that gives the present node's value."""
        self._write(op_type, inputs, self.node.name, dtype, attributes)

    def value(self, array: Any, dtype: Any = None, label: str = "value") -> str:
        """A constant; the name of its initialiser."""
        name = self._fresh(label)
        self._initializers[name] = np.asarray(array, self.float if dtype is None else dtype)
        self._dtypes[name] = self._initializers[name].dtype.name
        return name

    def integers(self, values: Iterable[int], label: str) -> str:
        """A constant vector of integers."""
        return self.value(list(values), np.int64, label)

    def is_fixed(self, name: str) -> bool:
        """Whether a value is one for all samples."""
        return name in self._fixed

    def cast(self, name: str, dtype: str) -> str:
        """The value as another type."""
        if self._dtypes.get(name, self.float) == dtype:
            return name
        code = self._onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.step("Cast", [name], dtype, to=code)

    def aligned(self) -> list[str]:
        """The present node's inputs with axes of size 1 behind the batch where others have more."""
        rank = max(map(len, self.shapes))
        return [
            name if len(shape) == rank else self.unsqueezed(name, range(1, 1 + rank - len(shape)))
            for name, shape in zip(self.node.inputs, self.shapes, strict=True)
        ]

    def unsqueezed(self, name: str, axes: Iterable[int]) -> str:
        """The value with new axes of size 1."""
        return self.step("Unsqueeze", [name, self.integers(axes, "axes")])

    def _fresh(self, label: str) -> str:
        return self._unique(f"{self.node.name}/{label}")

    def _unique(self, wanted: str) -> str:
        name, number = wanted, 1
        while name in self._names:
            number += 1
            name = f"{wanted}_{number}"
        self._names.add(name)
        return name

    def _write(
        self, op_type: str, inputs: Sequence[str], output: str, dtype: str | None, attributes: dict[str, Any]
    ) -> str:
        make_node = self._onnx.helper.make_node
        self._nodes.append(make_node(op_type, list(inputs), [output], name=output, **attributes))
        first = next((name for name in inputs if name), None)
        self._dtypes[output] = dtype or self._dtypes.get(first or "", self.float)
        return output

    # ---- the whole

    def model(self) -> Any:
        """The file as a ``ModelProto``."""
        problems = []
        for node in self.graph.nodes:
            self.node = node
            if all(name in self._fixed for name in node.inputs):
                self._fixed.add(node.name)
            try:
                writer = _WRITERS.get(type(node.op))
                if writer is None:
                    raise _NoCounterpart("it has no counterpart")
                writer(self, node.op, *node.inputs)
            except _NoCounterpart as reason:
                problems.append(f"layer {node.name!r} ({node.op.kind}): {reason}")
        problems += [
            f"output {name!r} depends on no input" for name in self.graph.outputs if name in self._fixed
        ]
        if problems:
            raise UnsupportedModelError(
                f"this cannot be written in opset {self.opset}: " + "; ".join(problems)
            )
        helper = self._onnx.helper
        outputs = list(dict.fromkeys(self.graph.outputs))
        used = {name for node in self._nodes for name in node.input}
        graph = helper.make_graph(
            self._nodes,
            self._title,
            [self._describe(name) for name in self.graph.inputs],
            [self._describe(name) for name in outputs],
            [
                self._onnx.numpy_helper.from_array(np.asarray(array, order="C"), name)
                for name, array in self._initializers.items()
                if name in used
            ],
        )
        opsets = [helper.make_opsetid("", self.opset)]
        return helper.make_model(
            graph,
            opset_imports=opsets,
            ir_version=helper.find_min_ir_version_for(opsets),
            producer_name="fastconv",
        )

    def _describe(self, name: str) -> Any:
        helper = self._onnx.helper
        code = helper.np_dtype_to_tensor_dtype(np.dtype(self._dtypes[name]))
        return helper.make_tensor_value_info(name, code, ["N", *self.graph.shapes[name]])


_WRITERS: dict[type[Op], Callable[..., None]] = {}


def _writes(*kinds: type[Op]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    def enter(writer: Callable[..., None]) -> Callable[..., None]:
        for kind in kinds:
            _WRITERS[kind] = writer
        return writer

    return enter


# ------------------------------------------------------------------------------- layers with weights, and pools


def _ends(pads: Sequence[tuple[int, int]]) -> list[int]:
    """Pads as ONNX has them: all low sides, then all high ones."""
    return [low for low, _ in pads] + [high for _, high in pads]


@_writes(ops.Conv, ops.ConvTranspose)
def _conv(w: _Writer, op: Any, x: str) -> None:
    more: dict[str, Any] = {}
    if isinstance(op, ops.ConvTranspose):
        more = {"output_padding": op.output_padding}
    w.last(
        type(op).__name__,
        [x, *w.params.values()],
        kernel_shape=op.kernel_size,
        strides=op.stride,
        pads=_ends(op.padding),
        dilations=op.dilation,
        group=op.groups,
        **more,
    )


@_writes(ops.Linear)
def _linear(w: _Writer, op: ops.Linear, x: str) -> None:
    w.last("Gemm", [x, *w.params.values()], transB=1)


@_writes(ops.MatMul)
def _matmul(w: _Writer, op: ops.MatMul, *inputs: str) -> None:
    if min(map(len, w.shapes)) < 2:
        raise _NoCounterpart("samples of one axis are vectors, which ONNX has not")
    w.last("MatMul", w.aligned())


def _window(op: Any) -> dict[str, Any]:
    return {
        "kernel_shape": op.kernel_size,
        "strides": op.stride,
        "pads": op.padding * 2,
        "ceil_mode": int(op.ceil_mode),
    }


@_writes(ops.MaxPool)
def _max_pool(w: _Writer, op: ops.MaxPool, x: str) -> None:
    w.last("MaxPool", [x], dilations=op.dilation, **_window(op))


@_writes(ops.AvgPool)
def _avg_pool(w: _Writer, op: ops.AvgPool, x: str) -> None:
    if op.divisor_override is None:
        w.last("AveragePool", [x], count_include_pad=int(op.count_include_pad), **_window(op))
        return
    if op.ceil_mode:
        raise _NoCounterpart("ceil_mode and divisor_override together have no counterpart")
    mean = w.step("AveragePool", [x], count_include_pad=1, **_window(op))
    w.last("Mul", [mean, w.value(math.prod(op.kernel_size) / op.divisor_override)])


@_writes(ops.LpPool)
def _lp_pool(w: _Writer, op: ops.LpPool, x: str) -> None:
    if op.p != int(op.p):
        raise _NoCounterpart(f"p must be a whole number there, not {op.p}")
    window = _window(op)
    if w.opset < 18:
        if op.ceil_mode or set(op.dilation) != {1}:
            raise _NoCounterpart("ceil_mode and dilation need opset 18")
        del window["ceil_mode"]
    else:
        window["dilations"] = op.dilation
    w.last("LpPool", [x], p=int(op.p), **window)


@_writes(ops.GlobalAvgPool, ops.GlobalMaxPool, ops.GlobalLpPool)
def _global_pool(w: _Writer, op: Any, x: str) -> None:
    names = {
        ops.GlobalAvgPool: "GlobalAveragePool",
        ops.GlobalMaxPool: "GlobalMaxPool",
        ops.GlobalLpPool: "GlobalLpPool",
    }
    more: dict[str, Any] = {}
    if isinstance(op, ops.GlobalLpPool):
        if op.p != int(op.p):
            raise _NoCounterpart(f"p must be a whole number there, not {op.p}")
        more = {"p": int(op.p)}
    if op.keepdims:
        w.last(names[type(op)], [x], **more)
    else:
        w.last("Flatten", [w.step(names[type(op)], [x], **more)])


@_writes(ops.AdaptiveAvgPool, ops.AdaptiveMaxPool)
def _adaptive_pool(w: _Writer, op: Any, x: str) -> None:
    sizes = w.shapes[0][1:]
    wanted = [n if m is None else m for n, m in zip(sizes, op.output_size, strict=True)]
    if any(n % m for n, m in zip(sizes, wanted, strict=True)):
        raise _NoCounterpart(
            f"windows of unequal size, as for {wanted} out of {list(sizes)}, have no counterpart"
        )
    kernel = [n // m for n, m in zip(sizes, wanted, strict=True)]
    name = "AveragePool" if isinstance(op, ops.AdaptiveAvgPool) else "MaxPool"
    w.last(name, [x], kernel_shape=kernel, strides=kernel)


# ---------------------------------------------------------------------------------- normalisation and dropout


def _affine(w: _Writer, op: Any, count: int) -> list[str]:
    """Names of weight and bias, made up where the op has none."""
    if op.affine:
        return [w.params["weight"], w.params["bias"]]
    return [w.value(np.ones(count), label="weight"), w.value(np.zeros(count), label="bias")]


@_writes(ops.BatchNorm)
def _batch_norm(w: _Writer, op: ops.BatchNorm, x: str) -> None:
    statistics = [w.params["running_mean"], w.params["running_var"]]
    inputs = [x, *_affine(w, op, w.shapes[0][0]), *statistics]
    w.last("BatchNormalization", inputs, epsilon=op.eps, momentum=1.0 - op.momentum)


@_writes(ops.InstanceNorm)
def _instance_norm(w: _Writer, op: ops.InstanceNorm, x: str) -> None:
    w.last("InstanceNormalization", [x, *_affine(w, op, w.shapes[0][0])], epsilon=op.eps)


@_writes(ops.GroupNorm)
def _group_norm(w: _Writer, op: ops.GroupNorm, x: str) -> None:
    if w.opset < 21:
        raise _NoCounterpart("it needs opset 21")
    inputs = [x, *_affine(w, op, w.shapes[0][0])]
    w.last("GroupNormalization", inputs, num_groups=op.num_groups, epsilon=op.eps)


@_writes(ops.LayerNorm)
def _layer_norm(w: _Writer, op: ops.LayerNorm, x: str) -> None:
    if w.opset < 17:
        raise _NoCounterpart("it needs opset 17")
    shape = w.shapes[0][-op.ndim :]
    params = list(w.params.values()) if op.affine else [w.value(np.ones(shape), label="weight")]
    w.last("LayerNormalization", [x, *params], axis=-op.ndim, epsilon=op.eps)


@_writes(ops.LRN)
def _lrn(w: _Writer, op: ops.LRN, x: str) -> None:
    if op.before not in (None, (op.size - 1) // 2):
        raise _NoCounterpart(f"{op.before} of {op.size} channels before the own one have no counterpart")
    w.last("LRN", [x], size=op.size, alpha=op.alpha, beta=op.beta, bias=op.bias)


@_writes(ops.Dropout)
def _dropout(w: _Writer, op: ops.Dropout, x: str) -> None:
    if op.whole_channels:
        w.last("Identity", [x])
    else:
        w.last("Dropout", [x, w.value(op.p, label="ratio")])


@_writes(ops.DropBlock, ops.GaussianNoise)
def _noise(w: _Writer, op: Op, x: str) -> None:
    w.last("Identity", [x])


# --------------------------------------------------------------------------------------- element-wise functions


@_writes(ops.Activation)
def _activation(w: _Writer, op: ops.Activation, x: str) -> None:
    match op.function:
        case "relu6":
            w.last("Clip", [x, w.value(0.0, label="min"), w.value(6.0, label="max")])
        case "leaky_relu":
            w.last("LeakyRelu", [x], alpha=op.slope)
        case other:
            w.last(other.capitalize(), [x])


@_writes(ops.PRelu)
def _prelu(w: _Writer, op: ops.PRelu, x: str) -> None:
    w.last("PRelu", [x, w.params["slope"]])


_SIMPLE = {
    ours: theirs for theirs, ours in FUNCTIONS.items() if ours not in ("hard_swish", "mish", "softplus")
}


@_writes(ops.Unary)
def _unary(w: _Writer, op: ops.Unary, x: str) -> None:
    alpha, beta = op.numbers
    match op.function:
        case "clip":
            bounds = (("min", alpha), ("max", beta))
            inputs = [w.value(bound, label=name) if math.isfinite(bound) else "" for name, bound in bounds]
            w.last("Clip", [x, *inputs])
        case "elu" | "celu":
            w.last(op.function.capitalize(), [x], alpha=alpha)
        case "selu":
            w.last("Selu", [x], alpha=alpha, gamma=beta)
        case "hard_sigmoid":
            w.last("HardSigmoid", [x], alpha=alpha, beta=beta)
        case "hard_swish":
            w.last("Mul", [x, w.step("HardSigmoid", [x], alpha=1 / 6, beta=0.5)])
        case "silu":
            inner = x if alpha == 1.0 else w.step("Mul", [x, w.value(alpha)])
            w.last("Mul", [x, w.step("Sigmoid", [inner])])
        case "softplus" if alpha != 1.0:
            w.last("Div", [w.step("Softplus", [w.step("Mul", [x, w.value(alpha)])]), w.value(alpha)])
        case "softplus":
            w.last("Softplus", [x])
        case "mish":
            w.last("Mul", [x, w.step("Tanh", [w.step("Softplus", [x])])])
        case "gelu" | "gelu_tanh" if w.opset >= 20:
            w.last("Gelu", [x], approximate="tanh" if op.function == "gelu_tanh" else "none")
        case "gelu":
            _half_of_x_and_more(w, x, w.step("Erf", [w.step("Mul", [x, w.value(math.sqrt(0.5))])]))
        case "gelu_tanh":
            cube = w.step("Mul", [w.step("Mul", [x, x]), x])
            inner = w.step("Add", [x, w.step("Mul", [cube, w.value(0.044715)])])
            _half_of_x_and_more(
                w, x, w.step("Tanh", [w.step("Mul", [inner, w.value(math.sqrt(2 / math.pi))])])
            )
        case "not":
            w.last("Not", [w.cast(x, "bool")])
        case other:
            w.last(_SIMPLE[other], [x])


def _half_of_x_and_more(w: _Writer, x: str, part: str) -> None:
    """``0.5 * x * (1 + part)``."""
    w.last("Mul", [w.step("Mul", [x, w.value(0.5)]), w.step("Add", [part, w.value(1.0)])])


@_writes(ops.Softmax)
def _softmax(w: _Writer, op: ops.Softmax, x: str) -> None:
    w.last("LogSoftmax" if op.log else "Softmax", [x], axis=_axis(op.axis))


def _axis(axis: int) -> int:
    """An axis of a sample as one of a batch."""
    return axis + 1 if axis >= 0 else axis


# ------------------------------------------------------------------------------------------- several inputs


@_writes(ops.Add, ops.Multiply, ops.Subtract, ops.Divide, ops.Power, ops.Minimum, ops.Maximum, ops.MeanOf)
def _arithmetic(w: _Writer, op: Op, *inputs: str) -> None:
    names = {
        ops.Add: "Add" if len(inputs) == 2 else "Sum",
        ops.Multiply: "Mul",
        ops.Subtract: "Sub",
        ops.Divide: "Div",
        ops.Power: "Pow",
        ops.Minimum: "Min",
        ops.Maximum: "Max",
        ops.MeanOf: "Mean",
    }
    w.last(names[type(op)], [w.cast(name, w.float) for name in w.aligned()])


@_writes(ops.Compare)
def _compare(w: _Writer, op: ops.Compare, *inputs: str) -> None:
    kind = "bool" if op.function in ("and", "or", "xor") else w.float
    operands = [w.cast(name, kind) for name in w.aligned()]
    if op.function == "not_equal":
        w.last("Not", [w.step("Equal", operands, "bool")])
    else:
        names = {ours: theirs for theirs, ours in COMPARISONS.items()}
        w.last(names[op.function], operands, "bool")


@_writes(ops.Where)
def _where(w: _Writer, op: ops.Where, *inputs: str) -> None:
    condition, *branches = w.aligned()
    w.last("Where", [w.cast(condition, "bool"), *(w.cast(name, w.float) for name in branches)], w.float)


@_writes(ops.Concat)
def _concat(w: _Writer, op: ops.Concat, *inputs: str) -> None:
    fixed = [w.is_fixed(name) for name in inputs]
    if any(fixed) and not all(fixed):
        raise _NoCounterpart("a constant beside each sample has no counterpart")
    w.last("Concat", inputs, axis=_axis(op.axis))


@_writes(ops.Constant)
def _constant(w: _Writer, op: ops.Constant) -> None:
    w.last("Unsqueeze", [w.params["value"], w.integers([0], "axes")])


@_writes(ops.Cast)
def _cast(w: _Writer, op: ops.Cast, x: str) -> None:
    w.last("Identity", [w.cast(x, op.to)], op.to)


# -------------------------------------------------------------------------------------------------- shapes


@_writes(ops.Reshape)
def _reshape(w: _Writer, op: ops.Reshape, x: str) -> None:
    if op.shape is None and w.shapes[0]:
        w.last("Flatten", [x])
    else:
        w.last("Reshape", [x, w.integers((-1, *(op.shape or (1,))), "shape")])


@_writes(ops.Transpose)
def _transpose(w: _Writer, op: ops.Transpose, x: str) -> None:
    w.last("Transpose", [x], perm=[0, *(axis + 1 for axis in op.perm)])


@_writes(ops.Slice)
def _slice(w: _Writer, op: ops.Slice, x: str) -> None:
    rank = len(op.starts)
    vectors = ("starts", op.starts), ("ends", op.stops), ("axes", range(1, 1 + rank)), ("steps", op.steps)
    if rank:
        w.last("Slice", [x, *(w.integers(values, label) for label, values in vectors)])
    else:
        w.last("Identity", [x])


@_writes(ops.Gather)
def _gather(w: _Writer, op: ops.Gather, x: str) -> None:
    shape = (len(op.indices),) if op.indices_shape is None else op.indices_shape
    w.last("Gather", [x, w.value(np.reshape(op.indices, shape), np.int64, "indices")], axis=_axis(op.axis))


@_writes(ops.Expand)
def _expand(w: _Writer, op: ops.Expand, x: str) -> None:
    rank = len(w.graph.shapes[w.node.name])
    own = len(w.shapes[0])
    x = x if own == rank else w.unsqueezed(x, range(1, 1 + rank - own))
    w.last("Expand", [x, w.integers((1,) * (1 + rank - len(op.shape)) + op.shape, "shape")])


@_writes(ops.Tile)
def _tile(w: _Writer, op: ops.Tile, x: str) -> None:
    w.last("Tile", [x, w.integers((1, *op.repeats), "repeats")])


@_writes(ops.Pad)
def _pad(w: _Writer, op: ops.Pad, x: str) -> None:
    modes = {ours: theirs for theirs, ours in PAD_MODES.items()}
    if modes[op.mode] == "wrap" and w.opset < 19:
        raise _NoCounterpart("mode 'circular' needs opset 19")
    rank = len(w.shapes[0])
    sides = (op.padding,) * (2 * (rank - 1)) if isinstance(op.padding, int) else op.padding
    pairs = list(zip(sides[0::2], sides[1::2], strict=True))[::-1]
    pads = _ends([(0, 0)] * (1 + rank - len(pairs)) + pairs)
    inputs = [x, w.integers(pads, "pads")]
    w.last("Pad", [*inputs, w.value(op.value)] if op.value else inputs, mode=modes[op.mode])


@_writes(ops.Resize)
def _resize(w: _Writer, op: ops.Resize, x: str) -> None:
    if op.antialias and w.opset < 18:
        raise _NoCounterpart("antialias needs opset 18")
    if op.coordinate_transform == "half_pixel_symmetric" and w.opset < 19:
        raise _NoCounterpart("'half_pixel_symmetric' needs opset 19")
    kept = len(w.shapes[0]) - len(op.out_size or op.scales or ())
    if op.scales is None and op.out_size is not None:
        # of the axes that stay, the batch among them, the size is only known when it runs
        stay = w.step(
            "Slice", [w.step("Shape", [x], "int64"), *(w.integers([n], "bounds") for n in (0, 1 + kept))]
        )
        sizes = w.step("Concat", [stay, w.integers(op.out_size, "sizes")], "int64", axis=0)
        inputs = [x, "", "", sizes]
    else:
        inputs = [x, "", w.value([1.0] * (1 + kept) + list(op.scales or ()), np.float32, "scales")]
    more: dict[str, Any] = {"antialias": 1} if op.antialias else {}
    w.last(
        "Resize",
        inputs,
        mode=op.mode,
        coordinate_transformation_mode=op.coordinate_transform,
        nearest_mode=op.nearest_mode,
        cubic_coeff_a=op.cubic_coeff,
        exclude_outside=int(op.exclude_outside),
        **more,
    )


@_writes(ops.DepthToSpace)
def _depth_to_space(w: _Writer, op: ops.DepthToSpace, x: str) -> None:
    w.last("DepthToSpace", [x], blocksize=op.block, mode=op.mode)


@_writes(ops.SpaceToDepth)
def _space_to_depth(w: _Writer, op: ops.SpaceToDepth, x: str) -> None:
    if op.mode == "DCR":
        w.last("SpaceToDepth", [x], blocksize=op.block)
        return
    channels, height, width = w.shapes[0]
    rows, columns, b = height // op.block, width // op.block, op.block
    split = w.step("Reshape", [x, w.integers((-1, channels, rows, b, columns, b), "split")])
    moved = w.step("Transpose", [split], perm=[0, 1, 3, 5, 2, 4])
    w.last("Reshape", [moved, w.integers((-1, channels * b * b, rows, columns), "shape")])


@_writes(ops.Reduce)
def _reduce(w: _Writer, op: ops.Reduce, x: str) -> None:
    names = {ours: theirs for theirs, ours in REDUCTIONS.items()}
    axes = [_axis(axis) for axis in (range(len(w.shapes[0])) if op.axes is None else op.axes)]
    if w.opset >= 18 or op.function == "sum":
        w.last(names[op.function], [x, w.integers(axes, "axes")], keepdims=int(op.keepdims))
    else:
        w.last(names[op.function], [x], axes=axes, keepdims=int(op.keepdims))


@_writes(ops.ArgMax, ops.ArgMin)
def _arg_extreme(w: _Writer, op: Any, x: str) -> None:
    more: dict[str, Any] = {"keepdims": int(op.keepdims), "select_last_index": int(op.select_last)}
    w.last(type(op).__name__, [x], "int64", axis=_axis(op.axis), **more)
