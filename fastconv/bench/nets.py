"""The nets whose training step is measured, and how PyTorch is told to run the same one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastconv.functional as F
from fastconv import nn, ops
from fastconv.bench.problem_line import Problem
from fastconv.graph import Node

Array = NDArray[Any]

CLASSES = 10
SEED = 0
LEARNING_RATE, MOMENTUM = 1e-3, 0.9


def mnist(shape: Sequence[int], dtype: str) -> nn.Model:
    """Two convolutions, two fully connected layers, dropout: the net of many a first lesson."""
    layers = [
        *(nn.Conv2d(32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Dropout(0.25), *_classifier()),
    ]
    return nn.Sequential(layers, shape, seed=SEED, dtype=dtype)


def fashion(shape: Sequence[int], dtype: str) -> nn.Model:
    """Three blocks of convolution, batch normalisation, pooling and dropout."""
    layers: list[nn.Layer] = []
    for channels in (32, 64, 128):
        layers += [nn.Conv2d(channels, 3, padding=1, bias=False), nn.BatchNorm2d(), nn.ReLU()]
        layers += [nn.MaxPool2d(2), nn.Dropout(0.25)]
    return nn.Sequential([*layers, *_classifier()], shape, seed=SEED, dtype=dtype)


def _classifier() -> list[nn.Layer]:
    return [nn.Flatten(), nn.Linear(128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(CLASSES)]


def resnet18(shape: Sequence[int], dtype: str) -> nn.Model:
    """ResNet-18 as it is trained on small images: a stem of 3 x 3 and no pooling (He et al. 2016, arXiv:1512.03385)."""
    x = nn.Input(shape)
    h = nn.ReLU()(_conv_norm(x, 64, 3, 1))
    for channels in (64, 128, 256, 512):
        for block in range(2):
            stride = 2 if block == 0 and channels > 64 else 1
            skip = h if stride == 1 else _conv_norm(h, channels, 1, stride)
            inside = nn.ReLU()(_conv_norm(h, channels, 3, stride))
            h = nn.ReLU()(_conv_norm(inside, channels, 3, 1) + skip)
    return nn.Model(x, nn.Linear(CLASSES)(nn.GlobalAvgPool2d()(h)), seed=SEED, dtype=dtype)


def _conv_norm(x: nn.Tensor, channels: int, kernel: int, stride: int) -> nn.Tensor:
    return nn.BatchNorm2d()(nn.Conv2d(channels, kernel, stride=stride, padding=kernel // 2, bias=False)(x))


NETS: dict[str, Callable[[Sequence[int], str], nn.Model]] = {
    "mnist": mnist,
    "fashion": fashion,
    "resnet18": resnet18,
}


def build(problem: Problem, dtype: str = "float32") -> nn.Model:
    """The net that a line ``train`` names, compiled; its parameters are the same for every contestant.

    Raises
    ------
    ValueError
        If there is no such net.
    """
    if problem.name not in NETS:
        raise ValueError(f"a net to train is one of {', '.join(NETS)}, got {problem.name!r}")
    model = NETS[problem.name](problem.input_shape[1:], dtype)
    model.compile(nn.SGD(LEARNING_RATE, MOMENTUM))
    return model


class Outcome:
    """What a step of training computed: as an array the loss, then all gradients in the order of the parameters."""

    def __init__(self, loss: Any, gradients: Callable[[], Sequence[Array]]) -> None:
        self.loss, self.gradients = loss, gradients

    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        parts = [np.ravel(self.loss), *(np.ravel(each) for each in self.gradients())]
        return np.concatenate(parts, dtype=dtype)[None]


class FastconvStep:
    """Loss, gradients and update of one batch again and again."""

    def __init__(self, problem: Problem, x: Array, labels: Array) -> None:
        self.model = build(problem, x.dtype.name)
        self.optimizer = nn.SGD(LEARNING_RATE, MOMENTUM)
        self.state = nn.optimizers.OptimizerState()
        self.x, self.labels = x, labels

    def __call__(self) -> Outcome:
        loss, grads = self.model.loss_and_gradients(self.x, self.labels, training=True, step=self.state.step)
        self.optimizer.step(self.model.params, grads, self.state)
        return Outcome(loss, lambda: [grads[name] for name in self.model.trainable])


class TorchStep:
    """The same net and step in PyTorch, written as its users do; the first step drops what fastconv's first drops."""

    def __init__(self, torch: Any, layout: Any, problem: Problem, x: Array, labels: Array) -> None:
        self.torch, self.model = torch, build(problem)
        self.names = iter(self.model.graph.inputs)
        self.layers = [(node.name, self._layer(node), node.inputs) for node in self.model.graph.nodes]
        modules = {name: layer for name, layer, _ in self.layers if isinstance(layer, torch.nn.Module)}
        for name, module in modules.items():
            module.to(memory_format=layout)
            for key, full in self.model.graph.param_names[name].items():
                getattr(module, key).data.copy_(torch.from_numpy(self.model.params[full]))
        of_fastconv = {
            full: getattr(modules[name], key)
            for name in modules
            for key, full in self.model.graph.param_names[name].items()
        }
        self.params = [of_fastconv[name].requires_grad_() for name in self.model.trainable]
        self.optimizer = torch.optim.SGD(self.params, LEARNING_RATE, MOMENTUM)
        self.x = torch.from_numpy(x).to(memory_format=layout)
        self.labels = torch.from_numpy(labels)

    def _layer(self, node: Node) -> Callable[..., Any]:
        modules, channels = self.torch.nn, self.model.graph.input_shapes(node)[0][0]
        match node.op:
            case ops.Conv() as op:
                padding = tuple(low for low, _ in op.padding)
                window = op.kernel_size, op.stride, padding, op.dilation
                layer = modules.Conv2d(channels, op.out_channels, *window, op.groups, op.bias)
            case ops.BatchNorm() as op:
                layer = modules.BatchNorm2d(channels, op.eps, op.momentum)
            case ops.Activation(function="relu"):
                layer = modules.ReLU(inplace=True)
            case ops.MaxPool() as op:
                layer = modules.MaxPool2d(op.kernel_size, op.stride, op.padding)
            case ops.GlobalAvgPool():
                layer = modules.Sequential(modules.AdaptiveAvgPool2d(1), modules.Flatten())
            case ops.Dropout() as op:
                layer = _SameFirstDropout(self.torch, op, self.model.seed, node.name)
            case ops.Reshape(shape=None):
                layer = modules.Flatten()
            case ops.Linear() as op:
                layer = modules.Linear(channels, op.out_features, op.bias)
            case ops.Add():
                layer = self.torch.add
            case op:
                raise ValueError(f"no layer of PyTorch is known for {op}")
        made: Callable[..., Any] = layer
        return made

    def __call__(self) -> Outcome:
        torch = self.torch
        with torch.enable_grad():
            values = dict.fromkeys(self.model.graph.inputs, self.x)
            for name, layer, inputs in self.layers:
                values[name] = layer(*(values[each] for each in inputs))
            loss = torch.nn.functional.cross_entropy(values[self.model.graph.outputs[0]], self.labels)
        del values
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return Outcome(loss.item(), lambda: [param.grad.numpy() for param in self.params])


class _SameFirstDropout:
    """PyTorch's dropout, but for a first mask of fastconv's, without which the results could not be compared."""

    def __init__(self, torch: Any, op: ops.Dropout, seed: int, name: str) -> None:
        self.torch, self.p = torch, op.p
        self.first_seed: int | None = ops.Context(seed=seed, step=0, node=name).mask_seed()

    def __call__(self, x: Any) -> Any:
        if self.first_seed is None:
            return self.torch.nn.functional.dropout(x, self.p)
        kept = F.dropout(np.ones(x.shape, np.float32), self.p, seed=self.first_seed)
        self.first_seed = None
        return x * self.torch.from_numpy(kept)
