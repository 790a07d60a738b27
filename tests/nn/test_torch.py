"""Layers beside PyTorch's modules, and training step by step: loss, statistics, optimizer, penalty; in float64."""

import numpy as np
import pytest

from fastconv import nn
from fastconv.autodiff import backward
from fastconv.graph import forward
from fastconv.ops import Context

torch = pytest.importorskip("torch")


class TorchNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv2d_1 = torch.nn.Conv2d(2, 6, 3, padding=1, stride=2)
        self.batch_norm_1 = torch.nn.BatchNorm2d(6)
        self.conv2d_2 = torch.nn.Conv2d(6, 6, 3, padding=2, dilation=2, groups=3, bias=False)
        self.conv2d_3 = torch.nn.Conv2d(6, 4, 1)
        self.linear_1 = torch.nn.Linear(10 * 9, 5)

    def forward(self, x):
        F = torch.nn.functional
        h = F.relu(self.batch_norm_1(self.conv2d_1(x)))
        h = h + F.leaky_relu(self.conv2d_2(h), 0.1)
        joined = torch.cat([F.max_pool2d(h, 3, 2, 1), F.avg_pool2d(torch.tanh(self.conv2d_3(h)), 2)], 1)
        return self.linear_1(joined.flatten(1))


def our_net():
    x = nn.Input((2, 12, 12))
    h = nn.ReLU()(nn.BatchNorm2d()(nn.Conv2d(6, 3, padding=1, stride=2)(x)))
    h = h + nn.LeakyReLU(0.1)(nn.Conv2d(6, 3, padding=2, dilation=2, groups=3, bias=False)(h))
    branches = nn.MaxPool2d(3, 2, 1)(h), nn.AvgPool2d(2)(nn.Tanh()(nn.Conv2d(4, 1)(h)))
    return nn.Model(x, nn.Linear(5)(nn.Flatten()(nn.Concat()(*branches))), dtype="float64")


@pytest.mark.parametrize("soft", [False, True])
def test_training_follows_torch(soft):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 8, 2, 12, 12))  # four batches
    classes = rng.integers(0, 5, (4, 8))
    y = rng.dirichlet(np.ones(5), (4, 8)) if soft else classes

    model, twin = our_net(), TorchNet().double()
    for name in model.trainable:
        twin.get_parameter(name).data.copy_(torch.from_numpy(model.params[name]))
    model.compile(nn.Adam(0.01), nn.CrossEntropy(label_smoothing=0.1), regularizer=nn.L2(0.01))
    optimizer = torch.optim.Adam(twin.parameters(), lr=0.01)
    criterion = torch.nn.CrossEntropyLoss(label_smoothing=0.1)

    for batch, target in zip(x, y, strict=True):
        ours = model.fit(batch, target, 8, shuffle=False, verbose=0).history["loss"][0]
        optimizer.zero_grad()
        loss = criterion(twin(torch.from_numpy(batch)), torch.from_numpy(target))
        loss = loss + 0.01 * sum((p**2).sum() for p in twin.parameters() if p.ndim > 1)
        loss.backward()
        optimizer.step()
        assert ours == pytest.approx(loss.item(), rel=1e-10)

    theirs = {**dict(twin.named_parameters()), **dict(twin.named_buffers())}
    for name, value in model.params.items():
        np.testing.assert_allclose(value, theirs[name].detach().numpy(), rtol=1e-7, atol=1e-9, err_msg=name)
    twin.eval()
    with torch.no_grad():
        np.testing.assert_allclose(
            model.predict(x[0]), twin(torch.from_numpy(x[0])).numpy(), rtol=1e-7, atol=1e-8
        )


T = torch.nn
TWINS = [
    # layer, PyTorch's module, shape of a sample
    (
        nn.Conv3d(4, (2, 3, 3), (1, 2, 1), 1, groups=2),
        T.Conv3d(2, 4, (2, 3, 3), (1, 2, 1), 1, groups=2),
        (2, 4, 5, 6),
    ),
    (nn.DepthwiseConv2d(3, 2, 1, depth_multiplier=2), T.Conv2d(3, 6, 3, 2, 1, groups=3), (3, 7, 8)),
    (nn.ConvTranspose1d(4, 3, 3, 1, 2, 2), T.ConvTranspose1d(6, 4, 3, 3, 1, 2, 2), (6, 5)),
    (
        nn.ConvTranspose2d(6, 3, 2, 1, 1, 3, False, (2, 1)),
        T.ConvTranspose2d(3, 6, 3, 2, 1, 1, 3, False, (2, 1)),
        (3, 4, 5),
    ),
    (nn.BatchNorm1d(1e-3, 0.2), T.BatchNorm1d(6, 1e-3, 0.2), (6,)),
    (nn.BatchNorm1d(affine=False), T.BatchNorm1d(6, affine=False), (6, 3)),
    (nn.BatchNorm(), T.BatchNorm3d(3), (3, 2, 3, 2)),
    (nn.MaxPool1d(3, 2, 1, 2, True), T.MaxPool1d(3, 2, 1, 2, ceil_mode=True), (3, 12)),
    (nn.AvgPool1d(3, 2, 1, True, False), T.AvgPool1d(3, 2, 1, True, False), (3, 12)),
    (nn.AdaptiveAvgPool1d(4), T.AdaptiveAvgPool1d(4), (3, 11)),
    (nn.AdaptiveAvgPool2d((3, None)), T.AdaptiveAvgPool2d((3, None)), (3, 7, 5)),
    (nn.AdaptiveMaxPool1d(4), T.AdaptiveMaxPool1d(4), (3, 11)),
    (nn.AdaptiveMaxPool2d((3, 2)), T.AdaptiveMaxPool2d((3, 2)), (3, 7, 5)),
    (nn.GlobalAvgPool(True), T.AdaptiveAvgPool3d(1), (3, 2, 4, 3)),
    (nn.GlobalMaxPool1d(True), T.AdaptiveMaxPool1d(1), (3, 8)),
    (nn.Pad((1, 2, 0, 3)), T.ZeroPad2d((1, 2, 0, 3)), (3, 4, 5)),
    (nn.Pad(2, value=-1.5), T.ConstantPad1d(2, -1.5), (3, 4)),
    (nn.Pad((2, 1, 0, 1), "reflect"), T.ReflectionPad2d((2, 1, 0, 1)), (3, 4, 5)),
    (nn.Pad(2, "replicate"), T.ReplicationPad3d(2), (2, 3, 2, 3)),
    (nn.Pad((2, 1), "circular"), T.CircularPad1d((2, 1)), (3, 5)),
    (nn.ReLU6(), T.ReLU6(), (3, 5)),
]


@pytest.mark.parametrize(
    ("layer", "module", "shape"), TWINS, ids=[f"{type(a).__name__}-{type(b).__name__}" for a, b, _ in TWINS]
)
def test_layer_is_the_module(layer, module, shape):
    rng = np.random.default_rng(0)
    x = nn.Input(shape)
    model = nn.Model(x, layer(x), dtype="float64")
    module = module.double()
    (label,) = {name.rpartition(".")[0] for name in model.params} or {""}
    names = {key: f"{label}.{key}" for key in dict(module.named_parameters())}
    for key, parameter in module.named_parameters():
        parameter.data.copy_(torch.from_numpy(rng.standard_normal(parameter.shape)))
        model.params[names[key]][...] = parameter.detach().numpy()

    batch = 4 * rng.standard_normal((5, *shape))
    given = torch.from_numpy(batch).requires_grad_()
    expected = module(given)
    grad = rng.standard_normal(expected.shape)
    expected.backward(torch.from_numpy(grad))

    tape = []
    context = Context(training=True)
    (name,) = model.graph.outputs
    output = forward(model.graph, model.params, {"input": batch}, context, tape=tape)[name]
    param_grads, input_grads = backward(model.graph, model.params, tape, {name: grad}, wrt_inputs=True)

    def agree(ours, theirs):
        np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-9, atol=1e-9)

    agree(output, expected)
    agree(input_grads["input"], given.grad)
    assert set(param_grads) == set(names.values())
    for key, parameter in module.named_parameters():
        agree(param_grads[names[key]], parameter.grad)
    for key, buffer in module.named_buffers():
        if key != "num_batches_tracked":
            agree(model.params[f"{label}.{key}"], buffer)
