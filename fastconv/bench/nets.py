"""The nets whose training step, occlusion or inference is measured, and how PyTorch is told to run the same one."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastconv.functional as F
from fastconv import explain, nn, ops
from fastconv.bench.problem_line import Problem
from fastconv.graph import Node

Array = NDArray[Any]

CLASSES = 10
IMAGENET_CLASSES = 1000
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


def _conv_norm(x: nn.Tensor, channels: int, kernel: int, stride: int, groups: int = 1) -> nn.Tensor:
    layer = nn.Conv2d(channels, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False)
    return nn.BatchNorm2d()(layer(x))


def vgg16(shape: Sequence[int], dtype: str) -> nn.Model:
    """VGG-16 (Simonyan and Zisserman 2015, arXiv:1409.1556)."""
    layers: list[nn.Layer] = []
    for count, channels in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)):
        for _ in range(count):
            layers += [nn.Conv2d(channels, 3, padding=1), nn.ReLU()]
        layers.append(nn.MaxPool2d(2))
    layers.append(nn.Flatten())
    for _ in range(2):
        layers += [nn.Linear(4096), nn.ReLU(), nn.Dropout(0.5)]
    return nn.Sequential([*layers, nn.Linear(IMAGENET_CLASSES)], shape, seed=SEED, dtype=dtype)


def _basic_block(h: nn.Tensor, channels: int, stride: int) -> nn.Tensor:
    return _conv_norm(nn.ReLU()(_conv_norm(h, channels, 3, stride)), channels, 3, 1)


def _bottleneck(h: nn.Tensor, channels: int, stride: int) -> nn.Tensor:
    inside = nn.ReLU()(_conv_norm(nn.ReLU()(_conv_norm(h, channels // 4, 1, 1)), channels // 4, 3, stride))
    return _conv_norm(inside, channels, 1, 1)


def _imagenet_resnet(
    block: Callable[[nn.Tensor, int, int], nn.Tensor],
    counts: Sequence[int],
    width: int,
    shape: Sequence[int],
    dtype: str,
) -> nn.Model:
    """A ResNet for images of 224 x 224 (He et al. 2016, arXiv:1512.03385), strides in the convolutions of 3 x 3."""
    x = nn.Input(shape)
    h = nn.MaxPool2d(3, 2, 1)(nn.ReLU()(_conv_norm(x, 64, 7, 2)))
    for stage, count in enumerate(counts):
        channels = width * 2**stage
        for number in range(count):
            stride = 2 if stage and not number else 1
            skip = h if number or (stride == 1 and channels == 64) else _conv_norm(h, channels, 1, stride)
            h = nn.ReLU()(block(h, channels, stride) + skip)
    return nn.Model(x, nn.Linear(IMAGENET_CLASSES)(nn.GlobalAvgPool2d()(h)), seed=SEED, dtype=dtype)


def imagenet_resnet18(shape: Sequence[int], dtype: str) -> nn.Model:
    """ResNet-18 of basic blocks."""
    return _imagenet_resnet(_basic_block, (2, 2, 2, 2), 64, shape, dtype)


def imagenet_resnet50(shape: Sequence[int], dtype: str) -> nn.Model:
    """ResNet-50 of bottlenecks."""
    return _imagenet_resnet(_bottleneck, (3, 4, 6, 3), 256, shape, dtype)


def mobilenetv2(shape: Sequence[int], dtype: str) -> nn.Model:
    """MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381)."""
    x = nn.Input(shape)
    h = nn.ReLU6()(_conv_norm(x, 32, 3, 2))
    before = 32
    stages = (
        *((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)),
        *((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
    )
    for expansion, channels, count, first_stride in stages:
        for number in range(count):
            stride, wide = (1 if number else first_stride), before * expansion
            y = nn.ReLU6()(_conv_norm(h, wide, 1, 1)) if expansion > 1 else h
            y = _conv_norm(nn.ReLU6()(_conv_norm(y, wide, 3, stride, groups=wide)), channels, 1, 1)
            h = h + y if number else y
            before = channels
    h = nn.ReLU6()(_conv_norm(h, 1280, 1, 1))
    return nn.Model(x, nn.Linear(IMAGENET_CLASSES)(nn.GlobalAvgPool2d()(h)), seed=SEED, dtype=dtype)


Build = Callable[[Sequence[int], str], nn.Model]

TRAINED: dict[str, Build] = {"mnist": mnist, "fashion": fashion, "resnet18": resnet18}
EXPLAINED: dict[str, Build] = {
    "vgg16": vgg16,
    "imagenet-resnet18": imagenet_resnet18,
    "imagenet-resnet50": imagenet_resnet50,
    "mobilenetv2": mobilenetv2,
}
NETS = TRAINED | EXPLAINED


def build(problem: Problem, dtype: str = "float32") -> nn.Model:
    """The net that a line names up to a dot, compiled; its parameters are the same for every contestant.

    Raises
    ------
    ValueError
        If there is no such net.
    """
    name = problem.name.partition(".")[0]
    if name not in NETS:
        raise ValueError(f"a net is one of {', '.join(NETS)}, got {name!r}")
    model = NETS[name](problem.input_shape[1:], dtype)
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


class TorchNet:
    """The net of a problem in PyTorch, written as its users do, with the parameters of fastconv's."""

    def __init__(self, torch: Any, layout: Any, problem: Problem, training: bool) -> None:
        self.torch, self.training, self.model = torch, training, build(problem)
        graph = self.model.graph
        self.layers = [(node.name, self._layer(node), node.inputs) for node in graph.nodes]
        modules = {name: layer for name, layer, _ in self.layers if isinstance(layer, torch.nn.Module)}
        self.params: dict[str, Any] = {}  # by fastconv's names
        for name, module in modules.items():
            module.train(training).to(memory_format=layout)
            for key, full in graph.param_names[name].items():
                self.params[full] = getattr(module, key)
                self.params[full].data.copy_(torch.from_numpy(self.model.params[full]))

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
            case ops.Activation(function="relu6"):
                layer = modules.ReLU6(inplace=True)
            case ops.MaxPool() as op:
                layer = modules.MaxPool2d(op.kernel_size, op.stride, op.padding)
            case ops.GlobalAvgPool():
                layer = modules.Sequential(modules.AdaptiveAvgPool2d(1), modules.Flatten())
            case ops.Dropout() as op if self.training:
                layer = _SameFirstDropout(self.torch, op, self.model.seed, node.name)
            case ops.Dropout():
                layer = modules.Identity()
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

    def __call__(self, x: Any) -> Any:
        values = dict.fromkeys(self.model.graph.inputs, x)
        for name, layer, inputs in self.layers:
            values[name] = layer(*(values[each] for each in inputs))
        return values[self.model.graph.outputs[0]]


class TorchStep:
    """The same step in PyTorch; the first one drops what fastconv's first drops."""

    def __init__(self, torch: Any, layout: Any, problem: Problem, x: Array, labels: Array) -> None:
        self.torch, self.net = torch, TorchNet(torch, layout, problem, training=True)
        self.params = [self.net.params[name].requires_grad_() for name in self.net.model.trainable]
        self.optimizer = torch.optim.SGD(self.params, LEARNING_RATE, MOMENTUM)
        self.x = torch.from_numpy(x).to(memory_format=layout)
        self.labels = torch.from_numpy(labels)

    def __call__(self) -> Outcome:
        torch = self.torch
        with torch.enable_grad():
            loss = torch.nn.functional.cross_entropy(self.net(self.x), self.labels)
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


# ------------------------------------------------------------------------------------------------ occlusion

TARGET = 0  # the class whose score is watched
_PER_PASS = (1, 8, 32)  # windows, of which Captum is given the best number


def count_windows(problem: Problem) -> int:
    """Positions of the window of a line ``occlusion``."""
    rows, columns = (-(-(problem[f"i{x}"] - problem[f"k{x}"]) // problem[f"s{x}"]) + 1 for x in "hw")
    return int(rows * columns)


def _windows(problem: Problem) -> tuple[Any, Any]:
    """Window and strides as Captum takes them."""
    channels = (problem["ic"],)
    return channels + problem.pair("k"), channels + problem.pair("s")


class FastconvMap:
    """The occlusion map of an image; weights are laid out anew for each, as for any user."""

    def __init__(self, problem: Problem, x: Array) -> None:
        self.occlusion = explain.Occlusion(build(problem, x.dtype.name))
        self.x, self.windows = x, _windows(problem)

    @property
    def method(self) -> str:
        """How it is computed, and what part of the arithmetic that takes."""
        estimate = self.occlusion.estimate(self.x, *self.windows, target=TARGET)
        return f"{estimate.method}, 1/{estimate.full_macs / estimate.macs:.2f}"

    def __call__(self) -> Array:
        attributions: Array = self.occlusion.attribute(self.x, *self.windows, target=TARGET)
        return attributions


class CaptumMap:
    """The same map by Captum, with the number of windows per pass that a few passes have shown to be the best."""

    def __init__(self, torch: Any, layout: Any, problem: Problem, x: Array) -> None:
        net = TorchNet(torch, layout, problem, training=False)
        self.x, self.windows = torch.from_numpy(x).to(memory_format=layout), _windows(problem)
        self.occlusion = importlib.import_module("captum.attr").Occlusion(net)
        times = {}
        for count in _PER_PASS:
            batch = self.x.repeat(count, 1, 1, 1).contiguous(memory_format=layout)
            turns = []
            for _ in range(3):
                start = time.perf_counter()
                net(batch)
                turns.append(time.perf_counter() - start)
            times[count] = min(turns) / count
        self.per_pass = min(times, key=times.__getitem__)

    def __call__(self) -> Array:
        attributions = self.occlusion.attribute(
            self.x, *self.windows, target=TARGET, perturbations_per_eval=self.per_pass
        )
        return np.asarray(attributions)
