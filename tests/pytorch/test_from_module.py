"""Nets taken over from PyTorch modules beside the modules themselves."""

from __future__ import annotations

import copy
import functools

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from fastconv import explain  # noqa: E402
from fastconv import nn as fnn  # noqa: E402
from fastconv.torch import from_module  # noqa: E402
from torch_nets import NETS, assert_as_close, build  # noqa: E402


def predicted(module, x, **options):
    """What the net taken over says, its batch size being another than that of the example."""
    return torch.from_numpy(from_module(module, x[:1], **options).predict(x.numpy()))


@functools.cache
def taken_over(name):
    """A net in double precision, an input and the model; tracing takes its time, so nobody may change them."""
    torch.manual_seed(0)
    net, x = build(name, torch.float64)
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return net.eval(), x, from_module(net, x[:1])


@pytest.mark.parametrize("name", NETS)
def test_architectures_infer_alike(name):
    net, x, model = taken_over(name)
    assert_as_close(torch.from_numpy(model.predict(x.numpy())), net, x)
    assert not net.training


def test_single_precision():
    net, x = build("vgg")
    assert_as_close(predicted(net.eval(), x), net, x)


@pytest.mark.parametrize("name", NETS)
def test_architectures_train_alike(name):
    original, x, model = taken_over(name)
    net = copy.deepcopy(original).train()
    params = {key: value.copy() for key, value in model.params.items()}
    model = fnn.Model.from_graph(model.graph, params, dtype="float64")
    model.compile(fnn.SGD(0.01, 0.9), loss="mse")
    optimizer = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9)
    target = torch.randn_like(original(x))
    for _ in range(3):
        ours = model.fit(x.numpy(), target.numpy(), len(x), shuffle=False, verbose=0).history["loss"][0]
        optimizer.zero_grad()
        loss = F.mse_loss(net(x), target)
        loss.backward()
        optimizer.step()
        assert ours == pytest.approx(loss.item(), rel=1e-9)
    state = net.state_dict()
    for key, value in model.params.items():
        np.testing.assert_allclose(value, state[key].numpy(), rtol=0, atol=1e-9, err_msg=key)


def test_names_are_those_of_the_module():
    net, _, model = taken_over("resnet18")
    stored = {key for key in net.state_dict() if not key.endswith("num_batches_tracked")}
    assert set(model.params) == stored
    assert {"conv1", "bn1", "blocks.0.conv1", "fc", "avgpool"} <= {node.name for node in model.graph.nodes}


def test_parameters_are_copies():
    net = nn.Linear(3, 2)
    model = from_module(net, torch.zeros(1, 3))
    net.weight.data.zero_()
    assert model.params["weight"].any()


def test_a_net_taken_over_explains_itself():
    net, x, model = taken_over("vgg")
    image = x[:1].numpy()
    saliency = explain.Saliency(model).attribute(image, target=1)
    leaf = x[:1].clone().requires_grad_()
    net(leaf)[0, 1].backward()
    np.testing.assert_allclose(saliency, leaf.grad.abs().numpy(), rtol=1e-4, atol=1e-6)
    occlusion = explain.Occlusion(model).attribute(
        image, sliding_window_shapes=(3, 8, 8), strides=(3, 8, 8), target=1
    )
    assert occlusion.shape == image.shape
    assert explain.receptive_field(model)


def test_dropout_and_normalisation_are_taken_over_whatever_their_mode():
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, momentum=0.3), nn.Dropout2d(0.2), nn.Dropout(0.1)
    )
    kinds = ["conv2d", "batch_norm", "channel_dropout", "dropout"]
    for training in (True, False):
        net.train(training)
        model = from_module(net, torch.randn(2, 3, 8, 8))
        assert [node.op.kind for node in model.graph.nodes] == kinds
        assert [module.training for module in net] == [training] * 4
    assert model.graph.nodes[1].op.momentum == 0.3
    assert [node.op.p for node in model.graph.nodes[2:]] == [0.2, 0.1]


def test_shared_layers_and_frozen_parameters():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)
            self.last = nn.Conv2d(3, 2, 1).requires_grad_(False)
            self.register_buffer("offset", torch.randn(2, 1, 1))

        def forward(self, x):
            return self.last(self.conv(self.conv(x))) * 2.0 + self.offset

    net, x = Twice(), torch.randn(3, 3, 6, 6)
    model = from_module(net, x)
    assert [key for key in model.params if key.startswith("conv")] == ["conv.weight", "conv.bias"]
    assert list(model.trainable) == ["conv.weight", "conv.bias"]
    assert_as_close(torch.from_numpy(model.predict(x.numpy())), net, x)


def test_weights_that_are_computed():
    net = nn.utils.parametrizations.weight_norm(nn.Linear(5, 4))
    x = torch.randn(3, 5)
    assert_as_close(predicted(net, x), net, x)


def test_several_inputs_and_outputs():
    class Two(nn.Module):
        def forward(self, a, b):
            return a + b, torch.cat([a, b], dim=1)

    a, b = torch.randn(2, 3, 2, 4, 4)
    model = from_module(Two(), (a, b))
    total, joined = model.predict((a.numpy(), b.numpy()))
    np.testing.assert_array_equal(total, (a + b).numpy())
    np.testing.assert_array_equal(joined, torch.cat([a, b], 1).numpy())


CHANNELS = (2, 4, 6, 6)
FUNCTIONS = {
    **{
        each.__name__: each
        for each in (
            *(F.relu, F.relu6, F.leaky_relu, F.elu, F.selu, F.celu, F.silu, F.mish, F.gelu, F.hardswish),
            *(F.hardsigmoid, F.softplus, F.hardtanh, F.logsigmoid, F.softsign, F.tanhshrink),
            *(torch.sigmoid, torch.tanh, torch.abs, torch.exp, torch.neg, torch.sin, torch.cos, torch.erf),
            *(torch.floor, torch.ceil, torch.round, torch.sign),
        )
        if each not in (F.logsigmoid, F.tanhshrink)
    },
    "gelu tanh": lambda x: F.gelu(x, approximate="tanh"),
    "clamp": lambda x: x.clamp(-0.3, 0.4),
    "clamp above": lambda x: x.clamp(max=0.4),
    "rsqrt": lambda x: torch.rsqrt(x * x + 1.0),
    "log sqrt": lambda x: torch.log(torch.sqrt(x.abs() + 0.1)),
    "reciprocal": lambda x: torch.reciprocal(x.abs() + 1.0),
    "pow": lambda x: x.abs() ** 1.5 + x**2,
    "arithmetic": lambda x: (1.0 - x) / (x * 0.5 + 3.0) - x,
    "maximum": lambda x: torch.maximum(x, -x) + torch.minimum(x, 0.5 * x),
    "softmax": lambda x: F.softmax(x, 1) + F.log_softmax(x, -1),
    "permute": lambda x: x.permute(0, 2, 3, 1),
    "transpose": lambda x: x.transpose(1, 3),
    "slice": lambda x: x[:, 1:3, ::2, -3:],
    "select": lambda x: x[:, 2],
    "split": lambda x: torch.cat(x.split([1, 3], 1)[::-1], 1),
    "chunk": lambda x: x.chunk(2, dim=3)[1],
    "cat": lambda x: torch.cat([x, x * 2.0], dim=2),
    "reshape": lambda x: x.reshape(x.shape[0], 2, -1).unsqueeze(1),
    "flatten": lambda x: x.flatten(1),
    "expand": lambda x: x.mean((2, 3), keepdim=True).expand_as(x),
    "repeat": lambda x: x.repeat(1, 2, 1, 3),
    "mean": lambda x: x.mean((2, 3)),
    "sum": lambda x: x.sum(1, keepdim=True),
    "amax": lambda x: x.amax((1, 2)) - x.amin((1, 2)),
    "logsumexp": lambda x: torch.logsumexp(x, 1),
    "matmul": lambda x: x @ x.transpose(2, 3),
    "pad": lambda x: F.pad(x, (1, 2, 0, 1), value=0.5),
    "pad reflect": lambda x: F.pad(x, (1, 2, 0, 1), mode="reflect"),
    "pad replicate": lambda x: F.pad(x, (1, 2, 0, 1), mode="replicate"),
    "pixel_shuffle": lambda x: F.pixel_shuffle(x, 2),
    "pixel_unshuffle": lambda x: F.pixel_unshuffle(x, 2),
    "nearest": lambda x: F.interpolate(x, scale_factor=2),
    "nearest to a size": lambda x: F.interpolate(x, size=(9, 4)),
    "bilinear": lambda x: F.interpolate(x, scale_factor=1.7, mode="bilinear"),
    "bilinear aligned": lambda x: F.interpolate(x, size=(9, 4), mode="bilinear", align_corners=True),
    "bicubic": lambda x: F.interpolate(x, scale_factor=2, mode="bicubic"),
    "max_pool2d": lambda x: F.max_pool2d(x, 3, 2, 1, ceil_mode=True),
    "avg_pool2d": lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    "adaptive_avg_pool2d": lambda x: F.adaptive_avg_pool2d(x, (4, 2)),
    "adaptive_max_pool2d": lambda x: F.adaptive_max_pool2d(x, 3),
    "max_pool1d": lambda x: F.max_pool1d(x.flatten(2), 3, 2),
    "avg_pool1d": lambda x: F.avg_pool1d(x.flatten(2), 3, 2),
    "instance_norm": lambda x: F.instance_norm(x),
}


class Of(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.fixture(scope="module")
def results():
    """All functions of one input in one net: tracing takes its time."""
    x = torch.randn(CHANNELS, generator=torch.Generator().manual_seed(0))
    model = from_module(Of(lambda x: tuple(function(x) for function in FUNCTIONS.values())), x[:1])
    return x, dict(zip(FUNCTIONS, model.predict(x.numpy()), strict=True))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name, results):
    x, ours = results
    assert_as_close(torch.from_numpy(ours[name]), Of(FUNCTIONS[name]), x)


LAYERS = {
    "conv1d": (nn.Conv1d(4, 6, 3, 2, 1, groups=2), (2, 4, 9)),
    "conv2d same": (nn.Conv2d(4, 6, 3, padding="same", dilation=2), CHANNELS),
    "conv3d": (nn.Conv3d(2, 3, 2), (2, 2, 4, 5, 4)),
    "conv_transpose1d": (nn.ConvTranspose1d(4, 3, 3, 2, 1, 1), (2, 4, 5)),
    "conv_transpose2d": (nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, groups=2), CHANNELS),
    "linear of sequences": (nn.Linear(6, 5), (2, 3, 6)),
    "layer_norm": (nn.LayerNorm((6, 6)), CHANNELS),
    "group_norm": (nn.GroupNorm(2, 4), CHANNELS),
    "instance_norm": (nn.InstanceNorm2d(4, affine=True), CHANNELS),
    "prelu": (nn.PReLU(4), CHANNELS),
    "prelu of one slope": (nn.PReLU(), CHANNELS),
    "batch_norm1d": (nn.BatchNorm1d(6), (2, 6)),
    "batch_norm3d": (nn.BatchNorm3d(2, affine=False), (2, 2, 3, 3, 3)),
}


class Beside(nn.Module):
    """Layers with an input each."""

    def __init__(self, layers):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, *inputs):
        return tuple(layer(x) for layer, x in zip(self.layers, inputs, strict=True))


def test_layers():
    layers = [copy.deepcopy(layer).eval() for layer, _ in LAYERS.values()]
    inputs = [torch.randn(shape) for _, shape in LAYERS.values()]
    results = from_module(Beside(layers), [x[:1] for x in inputs]).predict(tuple(x.numpy() for x in inputs))
    for layer, x, ours in zip(layers, inputs, results, strict=True):
        assert_as_close(torch.from_numpy(ours), layer, x)


# -------------------------------------------------------------------------------------------------------- refusals


def test_one_error_names_every_operator():
    net = Of(lambda x: torch.fft.rfft(torch.cumsum(F.relu(x), 1)).abs() + torch.special.entr(x[..., :4]))
    with pytest.raises(ValueError, match="no layer stands for") as caught:
        from_module(net, torch.randn(2, 3, 6))
    for name in ("aten.cumsum.default", "aten.fft_rfft.default", "aten.special_entr.default"):
        assert name in str(caught.value)
    assert "relu" not in str(caught.value)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x.transpose(0, 1), "batch axis"),
        (lambda x: x.sum(0), "batch axis"),
        (lambda x: torch.cat([x, x]), "batch axis"),
        (lambda x: x.reshape(-1, 2), "first axis must be the batch"),
        (lambda x: x.double(), "one dtype"),
    ],
)
def test_batches_stay_batches(function, message):
    with pytest.raises(ValueError, match=message):
        from_module(Of(function), torch.randn(3, 3, 4))


def test_batch_sizes_stay_open():
    with pytest.raises(ValueError, match="cannot trace the module with an open batch size"):
        from_module(Of(lambda x: x.reshape(2, -1)), torch.randn(2, 3))


@pytest.mark.parametrize("example", [np.zeros((1, 3)), torch.tensor(1.0), torch.zeros(0, 3)])
def test_examples_are_tensors_with_samples(example):
    with pytest.raises(TypeError, match="example_inputs must be tensors with at least one sample"):
        from_module(nn.Linear(3, 2), [example])


def test_other_dtypes_are_refused():
    with pytest.raises(ValueError, match="float32 or float64"):
        from_module(nn.Linear(3, 2).half(), torch.zeros(1, 3, dtype=torch.float16))
