"""The interface ``onnx.backend.base`` that tools and ONNX's own tests speak.

A model whose axis 0 is a batch throughout is loaded as a net and runs as its inference plan.  Any other runs node by
node, by the same translators; :attr:`FastconvRep.reason` says why.

Importing this module needs the package ``onnx`` (extra ``onnx``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastconv._optional import require
from fastconv.nn.model import Model
from fastconv.onnx._builder import LARGEST_VALUE, Builder
from fastconv.onnx._file import NEWEST_OPSET, Program, TensorType, read
from fastconv.onnx._load import build, interpret
from fastconv.onnx._operators import TRANSLATORS
from fastconv.onnx._values import Array, Known, UnsupportedModelError

if TYPE_CHECKING:
    _Backend: Any = object
    _BackendRep: Any = object
else:
    _base = require("onnx.backend.base", extra="onnx")
    _Backend, _BackendRep = _base.Backend, _base.BackendRep


class FastconvRep(_BackendRep):
    """A model that is ready to run.

    Attributes
    ----------
    model : Model or None
        The net whose inference plan runs, or None if the model runs node by node.
    reason : str or None
        Why it runs node by node.
    """

    def __init__(self, program: Program) -> None:
        self._program = program
        self.model: Model | None = None
        self.reason: str | None = None
        dtypes = {kind.dtype for kind in program.inputs.values()}
        if len(dtypes) != 1 or not dtypes <= {"float32", "float64"}:
            self.reason = f"a net takes inputs of one float type, the model's are of {sorted(dtypes)}"
            return
        try:
            self.model = build(program, {}, 0, LARGEST_VALUE)
        except ValueError as error:
            self.reason = str(error)
        else:
            self.model.compile_inference()

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Array, ...]:
        """The outputs, in the order of the file.

        Parameters
        ----------
        inputs : sequence of array_like in the order of the file, or mapping by name

        Raises
        ------
        ValueError
            If inputs are missing, unknown, or of another type or shape than the file says.
        """
        arrays = self._arrays(inputs)
        if self.model is not None and all(len(array) for array in arrays.values()):
            result = self.model.predict(
                tuple(arrays.values()) if len(arrays) > 1 else next(iter(arrays.values()))
            )
            outputs = result if isinstance(result, tuple) else (result,)
        else:
            builder = Builder(self._program)
            values = interpret(self._program, builder, {name: Known(array) for name, array in arrays.items()})
            outputs = tuple(value.array for value in values.values() if isinstance(value, Known))
        kinds = self._program.outputs.values()
        return tuple(array.astype(kind.dtype, copy=False) for array, kind in zip(outputs, kinds, strict=True))

    def _arrays(self, inputs: Any) -> dict[str, Array]:
        kinds = self._program.inputs
        if isinstance(inputs, Mapping):
            given = dict(inputs)
        else:
            given = dict(zip(kinds, inputs, strict=False)) if len(inputs) == len(kinds) else {}
        if set(given) != set(kinds):
            raise ValueError(f"the model's inputs are {list(kinds)}, got {len(inputs)}: {sorted(given)}")
        return {name: _checked(name, given[name], kind) for name, kind in kinds.items()}


def _checked(name: str, value: Any, kind: TensorType) -> Array:
    array = np.asarray(value)
    fits = kind.shape is None or (
        array.ndim == len(kind.shape)
        and all(n in (None, m) for n, m in zip(kind.shape, array.shape, strict=True))
    )
    if array.dtype != kind.dtype or not fits:
        raise ValueError(
            f"input {name!r} must be {kind.dtype} of shape {kind.shape}, got {array.dtype} of {array.shape}"
        )
    return array


class FastconvBackend(_Backend):
    """``onnx.backend.base.Backend``; its methods are also functions of this module."""

    @classmethod
    def is_compatible(cls, model: Any, device: str = "CPU", **kwargs: Any) -> bool:
        """Whether :meth:`prepare` accepts the model."""
        try:
            read(model, TRANSLATORS)
        except UnsupportedModelError:
            return False
        return cls.supports_device(device)

    @classmethod
    def prepare(cls, model: Any, device: str = "CPU", **kwargs: Any) -> FastconvRep:
        """The model, ready to run.

        Parameters
        ----------
        model : onnx.ModelProto, path or bytes
        device : str

        Raises
        ------
        ValueError
            As :func:`fastconv.onnx.load`, and if the device is not supported.
        """
        if not cls.supports_device(device):
            raise ValueError(f"device must be 'CPU', got {device!r}")
        return FastconvRep(read(model, TRANSLATORS))

    @classmethod
    def run_model(cls, model: Any, inputs: Any, device: str = "CPU", **kwargs: Any) -> tuple[Array, ...]:
        """:meth:`prepare`, then :meth:`FastconvRep.run`."""
        return cls.prepare(model, device).run(inputs)

    @classmethod
    def run_node(
        cls,
        node: Any,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Sequence[tuple[Any, tuple[int, ...]]] | None = None,
        **kwargs: Any,
    ) -> tuple[Array, ...]:
        """The outputs of one ``NodeProto``.

        Parameters
        ----------
        node : onnx.NodeProto
        inputs : sequence of array_like
            One for each input that the node has.
        device : str
        outputs_info : sequence of (dtype, shape), optional
            The first input's dtype if not given.
        **kwargs
            ``opset_version``, the newest that is supported by default.
        """
        onnx = require("onnx", extra="onnx")
        arrays = [np.asarray(value) for value in inputs]
        names = [name for name in node.input if name]
        dtypes = [array.dtype for array in arrays]
        info = (
            [dtypes[0]] * len(node.output) if outputs_info is None else [dtype for dtype, _ in outputs_info]
        )
        describe, code = onnx.helper.make_tensor_value_info, onnx.helper.np_dtype_to_tensor_dtype
        graph = onnx.helper.make_graph(
            [node],
            "node",
            [
                describe(name, code(array.dtype), array.shape)
                for name, array in zip(names, arrays, strict=True)
            ],
            [
                describe(name, code(np.dtype(dtype)), None)
                for name, dtype in zip(node.output, info, strict=True)
                if name
            ],
        )
        version = kwargs.get("opset_version", min(NEWEST_OPSET, onnx.defs.onnx_opset_version()))
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", version)])
        return cls.run_model(model, arrays, device)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether the device is the CPU."""
        return device.partition(":")[0] == "CPU"


is_compatible = FastconvBackend.is_compatible
prepare = FastconvBackend.prepare
run_model = FastconvBackend.run_model
run_node = FastconvBackend.run_node
supports_device = FastconvBackend.supports_device
