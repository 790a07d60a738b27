"""From a file to a net."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastconv._spec import Shape, as_int, as_shape
from fastconv.nn.model import Model
from fastconv.onnx._builder import Builder
from fastconv.onnx._file import Program, read
from fastconv.onnx._operators import TRANSLATORS, translate
from fastconv.onnx._values import UnsupportedModelError, Value

# What a translator may meet in a file that is not as it should be; all of it ends as one error that names the node.
_FAILURES = (ArithmeticError, LookupError, MemoryError, TypeError, ValueError)


def load(
    source: Any,
    *,
    input_shapes: Mapping[str, Any] | None = None,
    seed: int = 0,
    max_folding: int = 2**28,
) -> Model:
    """The net in an ONNX file, as a model that infers, trains and explains.

    Axis 0 of every input and output is the batch, whatever size the file gives it.  What depends on no input is
    computed at once.  Initialisers become parameters under their own names: weights of layers, and tensors of more
    than one element that are added or multiplied, are trainable, other numbers are frozen; running statistics of
    batch normalisation move in training.  Dropout drops in training alone, with the model's seed.  16-bit floats are
    widened to float32; a file of 64-bit floats makes a float64 net.

    Parameters
    ----------
    source : path, bytes or onnx.ModelProto
        External data must lie in the folder of the path, or deeper.
    input_shapes : mapping of input name to shape of one sample, optional
        For inputs whose sizes the file leaves open.
    seed : int
        Of the model.
    max_folding : int
        Bytes of all values together that may be computed from constants, which a small file can make large.

    Returns
    -------
    Model

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    UnsupportedModelError
        If the file uses what this version does not know (the message names all of it), or if a node mixes the
        samples of a batch.
    ValueError
        If the file is damaged, contradicts itself, or asks for more constants than ``max_folding`` or for a value of
        more than 4 GiB per sample.
    ImportError
        If the package ``onnx`` is not installed.

    Examples
    --------
    >>> from fastconv import nn, onnx
    >>> layers = [nn.Conv2d(8, 3), nn.ReLU(), nn.GlobalAvgPool2d(), nn.Linear(10)]
    >>> file = onnx.save(nn.Sequential(layers, input_shape=(3, 16, 16)))
    >>> model = onnx.load(file)
    >>> [node.name for node in model.graph.nodes]
    ['conv2d_1', 'relu_1', 'global_avg_pool_1', 'linear_1']
    >>> model.params["linear_1.weight"].shape
    (10, 8)
    """
    return build(read(source, TRANSLATORS), input_shapes or {}, seed, as_int(max_folding, "max_folding", 0))


def build(program: Program, input_shapes: Mapping[str, Any], seed: int, max_folding: int) -> Model:
    """The model of a program; see :func:`load`."""
    unknown = sorted(set(input_shapes) - set(program.inputs))
    if unknown:
        raise ValueError(f"the model's inputs are {list(program.inputs)}, got shapes for {unknown}")
    dtype = _float_type(program)
    builder = Builder(program, _batch_size(program), dtype, max_folding)
    values: dict[str, Value] = {}
    for name, kind in program.inputs.items():
        shape = _sample_shape(name, kind.shape, input_shapes)
        values[name] = builder.input(name, shape, kind.dtype)
    outputs = interpret(program, builder, values)
    graph = builder.graph(outputs)
    return Model.from_graph(graph, builder.params, seed=seed, dtype=dtype, frozen=builder.frozen)


def interpret(program: Program, builder: Builder, values: Mapping[str, Value]) -> dict[str, Value]:
    """The outputs of a program, of inputs that are known or not.

    Raises
    ------
    UnsupportedModelError
        The message names the node that cannot be translated.
    """
    known: dict[str, Value] = {**program.constants, **values}
    for call in program.calls:
        operands = [known[name] if name else None for name in call.inputs]
        builder.call = call
        try:
            with np.errstate(all="ignore"):
                result = translate(builder, call, operands)
            if call.unread():
                raise UnsupportedModelError(f"its attributes {call.unread()} are not known")
        except _FAILURES as error:
            raise UnsupportedModelError(f"node {call}: {error}") from error
        results = result if isinstance(result, tuple) else (result,)
        for name, value in zip(call.outputs, results, strict=False):
            if name and value is not None:
                known[name] = value
        missing = [name for name in call.outputs if name not in known and name in builder.uses]
        if missing:
            raise UnsupportedModelError(f"node {call}: its outputs {missing} are not computed here")
    return {name: known[name] for name in program.outputs}


def _float_type(program: Program) -> str:
    """The type of a net that keeps what the file's numbers say."""
    dtypes = {kind.dtype for kind in program.inputs.values()} or {"float32"}
    return "float64" if dtypes == {"float64"} else "float32"


def _batch_size(program: Program) -> int | None:
    sizes = {kind.shape[0] for kind in program.inputs.values() if kind.shape}
    if len(sizes) > 1:
        raise UnsupportedModelError(
            f"axis 0 of all inputs is the batch, but they have sizes {sorted(map(str, sizes))} there"
        )
    return next(iter(sizes), None)


def _sample_shape(name: str, shape: tuple[int | None, ...] | None, given: Mapping[str, Any]) -> Shape:
    if name in given:
        sample = as_shape(given[name], f"shape of {name!r}")
        if shape is not None and (
            len(shape) != len(sample) + 1
            or any(n not in (None, m) for n, m in zip(shape[1:], sample, strict=True))
        ):
            raise ValueError(f"input {name!r} has samples of shape {shape[1:]}, got {sample}")
        return sample
    if shape == ():
        raise UnsupportedModelError(f"input {name!r} is a single number, without a batch")
    if shape is None or None in shape[1:]:
        raise ValueError(
            f"input {name!r} has samples of unknown size {'' if shape is None else shape[1:]}: give it as "
            f"load(..., input_shapes={{{name!r}: (3, 224, 224)}})"
        )
    return tuple(n for n in shape[1:] if n is not None)
