"""Checkpoints of a training run: one file with the net, the optimizer and all that decides how the run goes on.

The file is a net as :meth:`Model.save` writes it, with more tensors and, as JSON, the state of the run.  Being one
file, it is replaced as a whole or not at all.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastconv._optional import require
from fastconv.nn import serialization
from fastconv.nn.callbacks import Callback

if TYPE_CHECKING:
    from fastconv.nn.model import Model

Array = NDArray[Any]
Path = str | os.PathLike[str]

_KEY = "fastconv_run"
_FORMAT = 1


def prepare(path: Path) -> None:
    """Complain of what would keep :func:`write` from working, before anything is computed; makes the folder.

    Raises
    ------
    ImportError
        If safetensors is not installed.
    ValueError
        If ``path`` is a folder.
    """
    require("safetensors.numpy", extra="demo")
    if os.path.isdir(path):
        raise ValueError(f"a checkpoint is one file, but {os.fspath(path)} is a folder")
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)


def write(path: Path, model: Model, callbacks: Sequence[Callback], run: dict[str, Any], epoch: int) -> None:
    """Save the run after its ``epoch``-th epoch; ``run`` says what has to be the same when it goes on."""
    assert model.optimizer is not None  # fit has checked it
    tensors: dict[str, Array] = {}
    states = ((type(callback).__name__, callback.get_state()) for callback in callbacks)
    state = {
        "format": _FORMAT,
        "epoch": epoch,
        "epochs_done": model._epochs_done,
        "stopped": model.stop_training,
        "run": run,
        "optimizer": {
            "class": type(model.optimizer).__name__,
            "config": model.optimizer.get_config(),
            **vars(model._optimizer_state),
        },
        "callbacks": [{"class": name, "state": kept} for name, kept in states if kept],
    }
    text = json.dumps(_pack(state, tensors), default=_plain_number)
    description = serialization.describe(model)
    serialization.write(path, model.params | tensors, {serialization.KEY: description, _KEY: text})


def read(path: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, Array]]:
    """(description of the net, state of the run, parameters) of a checkpoint.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no checkpoint, is damaged, or is of a later version.
    """
    metadata, tensors = serialization.read(path)
    if _KEY not in metadata:
        raise ValueError(
            f"{os.fspath(path)} is no checkpoint of a training run: fit(checkpoint=...) writes them"
        )
    state = serialization.parse(path, metadata[_KEY], _FORMAT)
    description = serialization.parse(path, metadata.get(serialization.KEY), serialization.FORMAT)
    params = {name: tensor for name, tensor in tensors.items() if not serialization.is_extra(name)}
    try:
        return description, _unpack(state, tensors), params
    except KeyError as error:
        raise ValueError(f"{os.fspath(path)} is damaged: it lacks the tensor {error}") from None


def restore(path: Path, model: Model, callbacks: Sequence[Callback], run: dict[str, Any]) -> int:
    """Put model, optimizer and callbacks where the run left them; the number of epochs that it has done.

    Raises
    ------
    ValueError
        As :func:`read`, or if the checkpoint is of another net, optimizer or run: then nothing has changed.
    """
    assert model.optimizer is not None  # fit has checked it
    description, state, params = read(path)
    where = os.fspath(path)
    ours = json.loads(serialization.describe(model))
    differing = [key for key in ours if ours[key] != description.get(key)]
    if differing:
        raise ValueError(f"{where} is a checkpoint of another net: it differs in {', '.join(differing)}")
    try:
        _check_optimizer(where, model, state["optimizer"])
        for key, value in run.items():
            if state["run"][key] != value:
                raise ValueError(
                    f"{where} is a checkpoint of another run: {key} was {state['run'][key]!r}, got {value!r}"
                )
        keepers = [callback for callback in callbacks if callback.get_state()]
        names = [type(callback).__name__ for callback in keepers]
        written = [entry["class"] for entry in state["callbacks"]]
        if names != written:
            raise ValueError(
                f"{where} keeps the state of the callbacks {', '.join(written)}, "
                f"but this run has {', '.join(names)}"
            )
        model.set_weights(params)
        for key in vars(model._optimizer_state):
            setattr(model._optimizer_state, key, state["optimizer"][key])
        rate = state["optimizer"]["config"]["learning_rate"]
        if isinstance(rate, float):  # callbacks may have changed it
            model.optimizer.learning_rate = rate
        for callback, entry in zip(keepers, state["callbacks"], strict=True):
            callback.set_state(entry["state"])
        model._epochs_done = state["epochs_done"]
        model.stop_training = state["stopped"]
        return state["epoch"]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{where} is damaged: {error!r}") from None


def _check_optimizer(where: str, model: Model, written: dict[str, Any]) -> None:
    ours, theirs = type(model.optimizer).__name__, written["class"]
    if ours != theirs:
        raise ValueError(f"{where} is a checkpoint of {theirs}, the model is compiled with {ours}")
    assert model.optimizer is not None
    for key, value in model.optimizer.get_config().items():
        former = written["config"][key]
        if key == "learning_rate" and isinstance(value, float) and isinstance(former, float):
            continue
        if former != value:
            raise ValueError(f"{where} is a checkpoint of {theirs} with {key} {former!r}, got {value!r}")


def _pack(value: Any, tensors: dict[str, Array]) -> Any:
    """``value`` with each array put into ``tensors`` and its name in its place."""
    if isinstance(value, np.ndarray):
        name = serialization.extra_name(len(tensors))
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, dict):
        return {key: _pack(each, tensors) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_pack(each, tensors) for each in value]
    return value


def _unpack(value: Any, tensors: dict[str, Array]) -> Any:
    """The inverse of :func:`_pack`."""
    if isinstance(value, dict):
        if set(value) == {"tensor"}:
            return tensors[value["tensor"]]
        return {key: _unpack(each, tensors) for key, each in value.items()}
    if isinstance(value, list):
        return [_unpack(each, tensors) for each in value]
    return value


def _plain_number(value: Any) -> Any:
    """A number of NumPy's as Python's."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a callback's state must hold numbers, strings, lists, dicts and arrays, got {value!r}")
