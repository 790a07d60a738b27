"""``torch.compile(net, backend="fastconv")`` beside the net itself."""

from __future__ import annotations

import copy
import tomllib
from importlib import import_module
from pathlib import Path
from unittest import mock

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from fastconv.torch import _inference  # noqa: E402
from torch_nets import NETS, assert_as_close, build  # noqa: E402


def compiled(net, **options):
    return torch.compile(net, backend="fastconv", **options)


def small(*more):
    return nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), *more)


class Spy:
    """Counts the plans that are made, and how often their parameters are frozen in."""

    def __init__(self):
        self.plans, self.freezes = [], 0
        init, freeze = _inference.Plan.__init__, _inference.Plan._freeze

        def counted_init(plan, *args, **kwargs):
            init(plan, *args, **kwargs)
            self.plans.append(plan)

        def counted_freeze(plan, *args):
            self.freezes += 1
            return freeze(plan, *args)

        self._patch = mock.patch.multiple(_inference.Plan, __init__=counted_init, _freeze=counted_freeze)

    def __enter__(self):
        self._patch.start()
        return self

    def __exit__(self, *_):
        self._patch.stop()


def agree(run, net, x, rtol=1e-4):
    expected = net(x)
    largest = float(expected.detach().abs().max()) if expected.numel() else 0.0
    torch.testing.assert_close(run(x), expected, rtol=rtol, atol=rtol * largest)


# ------------------------------------------------------------------------------------------------- architectures


@pytest.mark.parametrize(
    ("name", "dtype"), [*((name, torch.float32) for name in NETS), ("unet", torch.float64)]
)
def test_inference(name, dtype):
    net, x = build(name, dtype)
    net.eval()
    with Spy() as spy, torch.no_grad():
        assert_as_close(compiled(net)(x), net, x)
    nodes = sum(len(plan.graph.nodes) for plan in spy.plans)
    assert nodes >= len([each for each in net.modules() if isinstance(each, (nn.Conv2d, nn.BatchNorm2d))])


def without_dropout(net):
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return net


@pytest.mark.parametrize("name", NETS)
def test_steps_of_training(name):
    net, x = build(name, torch.float64)
    ours, theirs = without_dropout(net), copy.deepcopy(without_dropout(net))
    run = compiled(ours, dynamic=False)
    optimizers = [torch.optim.SGD(each.parameters(), 0.01, momentum=0.9) for each in (ours, theirs)]
    for _ in range(3):
        inputs = [x.clone().requires_grad_() for _ in range(2)]
        losses = [step(each).square().mean() for step, each in zip((run, theirs), inputs, strict=True)]
        for optimizer, loss in zip(optimizers, losses, strict=True):
            optimizer.zero_grad()
            loss.backward()
        torch.testing.assert_close(losses[0], losses[1], rtol=1e-11, atol=0.0)
        torch.testing.assert_close(inputs[0].grad, inputs[1].grad, rtol=0.0, atol=1e-11)
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad, rtol=0.0, atol=1e-10 * float(b.grad.abs().max() + 1))
        for a, b in zip(ours.buffers(), theirs.buffers(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)
        for optimizer in optimizers:
            optimizer.step()
        x = x + 0.1


def test_training_runs_on_the_kernels():
    net, x = build("resnet18")
    with mock.patch.dict("fastconv.torch._ops.KERNELS") as kernels:
        calls = []

        def counting(op, kernel):
            def call(*args):
                calls.append(op)
                return kernel(*args)

            return call

        kernels.update({op: counting(str(op), kernel) for op, kernel in kernels.items()})
        compiled(net)(x).sum().backward()
    count = {op: calls.count(op) for op in set(calls)}
    convolutions = len([each for each in net.modules() if isinstance(each, nn.Conv2d)])
    norms = len([each for each in net.modules() if isinstance(each, nn.BatchNorm2d)])
    assert count["fastconv.convolution.default"] == convolutions
    assert count["fastconv.convolution_backward.default"] == convolutions
    assert count["fastconv.batch_norm.default"] == count["fastconv.batch_norm_backward.default"] == norms
    assert count["fastconv.max_pool2d.default"] == count["fastconv.max_pool2d_backward.default"] == 1
    assert count["fastconv.linear.default"] == 1


# ------------------------------------------------------------------------------------- parameters that change


def test_changed_parameters_are_noticed():
    net = small(nn.Flatten(), nn.Linear(6 * 64, 4)).eval()
    run, x = compiled(net), torch.randn(2, 3, 8, 8)
    with torch.no_grad(), Spy() as spy:
        agree(run, net, x)
        agree(run, net, x)
        assert spy.freezes == 1
        for change in (
            lambda: net[0].weight.mul_(2.0),
            lambda: net[1].running_var.add_(1.0),
            lambda: net[4].bias.data.add_(1.0),  # leaves no trace in the tensor's version
            lambda: setattr(net[0].weight, "data", net[0].weight.data * 0.5),
            lambda: net.load_state_dict({key: value * 0.9 for key, value in net.state_dict().items()}),
            lambda: net[4].weight.copy_(torch.randn_like(net[4].weight)),
        ):
            change()
            before = spy.freezes
            agree(run, net, x)
            assert spy.freezes == before + 1


def test_a_new_parameter_in_place_of_another():
    net = small().eval()
    run, x = compiled(net), torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        agree(run, net, x)
        net[0].weight = nn.Parameter(torch.randn(6, 3, 3, 3))
        agree(run, net, x)


def test_training_and_evaluation_in_turns():
    ours = small(nn.Flatten(), nn.Linear(6 * 64, 4)).double()
    theirs = copy.deepcopy(ours)
    run, x = compiled(ours), torch.randn(4, 3, 8, 8, dtype=torch.float64)
    nets = (ours, theirs)
    optimizers = [torch.optim.SGD(net.parameters(), 0.01) for net in nets]
    for _ in range(2):
        for net, call, optimizer in zip(nets, (run, theirs), optimizers, strict=True):
            net.train()
            optimizer.zero_grad()
            call(x).square().sum().backward()
            optimizer.step()
            net.eval()
        with torch.no_grad():
            agree(run, theirs, x, 1e-9)
        torch.testing.assert_close(run(x), theirs(x), rtol=1e-9, atol=1e-9)  # evaluation with gradients


def test_training_mode_without_gradients():
    ours = small().double()
    theirs = copy.deepcopy(ours)
    x = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        agree(compiled(ours), theirs, x, 1e-12)
    torch.testing.assert_close(ours[1].running_var, theirs[1].running_var)
    assert int(ours[1].num_batches_tracked) == 1


def test_inference_mode():
    net = small().eval()
    run, x = compiled(net), torch.randn(2, 3, 8, 8)
    with torch.inference_mode():
        agree(run, net, x)
        agree(run, net, x)


# --------------------------------------------------------------------------------------------- shapes and memory


def test_batches_of_any_size():
    net = small(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 4)).eval()
    run = compiled(net)
    with torch.no_grad():
        for batch in (2, 1, 5, 7, 0):
            agree(run, net, torch.randn(batch, 3, 8, 8))


def test_batches_of_any_size_in_training():
    net = small(nn.MaxPool2d(2), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(24, 4)).double()
    twin = copy.deepcopy(net)
    run = compiled(net)
    for batch in (4, 3, 5, 1):
        x = torch.randn(batch, 3, 8, 8, dtype=torch.float64)
        for call, each in ((run, net), (twin, twin)):
            each.zero_grad()
            call(x).square().sum().backward()
        for a, b in zip(net.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-9, atol=1e-9)


def test_images_of_any_size():
    net = small(nn.MaxPool2d(2), nn.Conv2d(6, 2, 1)).eval()
    run = compiled(net)
    with torch.no_grad():
        for size in (8, 12, 11):
            agree(run, net, torch.randn(2, 3, size, size + 1))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dynamic", [None, True])
def test_images_of_any_size_in_training(dynamic, layout):
    net = small(nn.MaxPool2d(2), nn.Conv2d(6, 4, 3, stride=2), nn.ReLU6(), nn.AdaptiveAvgPool2d(1)).double()
    twin = copy.deepcopy(net)
    run = compiled(net, dynamic=dynamic)
    for size in ((2, 3, 12, 10), (3, 3, 17, 9), (4, 3, 20, 31)):
        x = torch.randn(*size, dtype=torch.float64).to(memory_format=layout)
        leaves = [x.clone().requires_grad_() for _ in range(2)]
        for call, leaf in zip((run, twin), leaves, strict=True):
            call(leaf).square().sum().backward()
        torch.testing.assert_close(leaves[0].grad, leaves[1].grad, rtol=1e-9, atol=1e-12)
        for a, b in zip(net.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-9, atol=1e-9)


def test_second_derivatives_are_refused():
    net = small(nn.AdaptiveAvgPool2d(1)).double()
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64, requires_grad=True)

    def differentiate_twice():
        (grad,) = torch.autograd.grad(compiled(net)(x).square().sum(), x, create_graph=True)
        grad.square().sum().backward()

    with pytest.raises(RuntimeError, match=r"create_graph=False|double backward"):  # PyTorch's own words
        differentiate_twice()


@pytest.mark.parametrize("training", [False, True])
def test_channels_last(training):
    net = small(nn.MaxPool2d(2)).to(memory_format=torch.channels_last).train(training)
    x = torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last)
    run = compiled(net)
    with torch.set_grad_enabled(training):
        got, expected = run(x), net(x)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    if not training:
        assert got.stride() == expected.stride()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("training", [False, True])
def test_axes_in_another_order_behind_the_net(training, layout):
    """What is a view of the net's result in PyTorch is one here: the memory is laid out alike."""
    net = small(nn.MaxPool2d(2), nn.Conv2d(6, 6, 1), nn.Dropout(0.0), nn.ReLU6()).double().train(training)

    def features_last(x):
        h = net(x)
        last = h.permute(0, 2, 3, 1)
        return h, last, last.reshape(-1, 6).abs()

    x = torch.randn(2, 3, 8, 8, dtype=torch.float64).to(memory_format=layout)
    leaves = [x.clone().requires_grad_(training) for _ in range(2)]
    with torch.set_grad_enabled(training):
        results = [
            call(leaf) for call, leaf in zip((compiled(features_last), features_last), leaves, strict=True)
        ]
        for ours, theirs in zip(*results, strict=True):
            torch.testing.assert_close(ours, theirs)
            assert ours.stride() == theirs.stride()
        if training:
            for each in results:
                sum(part.square().sum() for part in each).backward()
            torch.testing.assert_close(leaves[0].grad, leaves[1].grad)


def test_views_as_inputs():
    net = small().eval()
    whole = torch.randn(4, 6, 10, 10)
    with torch.no_grad():
        for x in (whole[1:3, ::2, 1:9, 2:], whole[:, :3].transpose(2, 3), whole[:, :3].flip(3)):
            agree(compiled(net), net, x)


def test_results_own_their_memory():
    net = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Flatten()).eval()

    def both(x):
        h = net[0](x)
        return h, net[1](h), x.flatten(1)

    run, x = compiled(both), torch.randn(2, 3, 4, 4)
    with torch.no_grad():
        first = [each.clone() for each in run(x)]
        kept = run(x)
        run(torch.randn(2, 3, 4, 4))  # must not write where former results lie
        for a, b in zip(kept, first, strict=True):
            assert torch.equal(a, b)


# ---------------------------------------------------------------------------------------------- ways to use a net


def test_one_net_twice_in_a_graph():
    net = small().double()
    twin = copy.deepcopy(net)

    def twice(layer):
        return lambda a, b: (layer(a) * layer(b)).sum()

    a, b = torch.randn(2, 2, 3, 8, 8, dtype=torch.float64)
    compiled(twice(net))(a, b).backward()
    twice(twin)(a, b).backward()
    for ours, theirs in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(net[1].running_mean, twin[1].running_mean)


class Tied(nn.Module):
    """An autoencoder whose decoder is the encoder's weight, transposed."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3, padding=1, bias=False)
        self.code = nn.Linear(5 * 36, 4, bias=False)

    def forward(self, x):
        h = torch.relu(self.conv(x))
        h = F.linear(self.code(h.flatten(1)), self.code.weight.t()).reshape(h.shape)
        return F.conv_transpose2d(h, self.conv.weight, padding=1)


def test_tied_weights():
    net = Tied().double()
    twin = copy.deepcopy(net)
    run, x = compiled(net), torch.randn(2, 3, 6, 6, dtype=torch.float64)
    with torch.no_grad(), Spy() as spy:
        agree(run, twin, x, 1e-12)
    assert [len(plan.graph.nodes) for plan in spy.plans] == [7]
    run(x).square().sum().backward()
    twin(x).square().sum().backward()
    for a, b in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-9, atol=1e-9)


def test_weights_that_are_computed():
    conv = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3))
    run, x = compiled(conv), torch.randn(2, 3, 8, 8)
    with torch.no_grad(), Spy() as spy:
        agree(run, conv, x)
        agree(run, conv, x)
        assert spy.freezes == 1
        conv.parametrizations.weight.original0.mul_(3.0)
        agree(run, conv, x)


def test_weights_that_are_kept_in_half_the_bits():
    weight = nn.Parameter(torch.randn(4, 3, 3, 3).bfloat16())

    def forward(x):
        return F.conv2d(x, weight.float())

    run, x = compiled(forward), torch.randn(2, 3, 8, 8)
    with torch.no_grad(), Spy() as spy:
        agree(run, forward, x)
        weight.data.mul_(2.0)
        agree(run, forward, x)
    assert (len(spy.plans), spy.freezes) == (1, 2)


def test_weights_that_are_inputs():
    x, weight = torch.randn(2, 3, 8, 8), torch.randn(4, 3, 3, 3)
    run = compiled(F.conv2d)
    for scale in (1.0, 2.0):
        torch.testing.assert_close(run(x, weight * scale), F.conv2d(x, weight * scale), rtol=1e-4, atol=1e-4)


def test_parts_that_are_not_covered():
    net, other = small(), nn.Sequential(nn.Conv2d(6, 4, 3), nn.ReLU())
    both = nn.ModuleList([net, other]).eval()

    def forward(x):
        h = torch.cumsum(net(x), dim=0)  # mixes samples
        h = torch.fft.rfft(h).abs()
        return other(h.float()).argmax(1), torch.special.entr(net(x))

    with torch.no_grad(), Spy() as spy:
        got, expected = compiled(forward)(torch.ones(2, 3, 8, 8)), forward(torch.ones(2, 3, 8, 8))
    assert torch.equal(got[0], expected[0])
    torch.testing.assert_close(got[1], expected[1], rtol=1e-4, atol=1e-5)
    assert len(spy.plans) >= 2
    assert both is not None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_other_dtypes_are_left_to_pytorch(dtype):
    net = small().to(dtype)
    x = torch.randn(2, 3, 8, 8, dtype=dtype)
    with torch.no_grad(), Spy() as spy:
        agree(compiled(net.eval()), net, x, 1e-2)
    assert not spy.plans
    compiled(net.train())(x).float().sum().backward()
    assert net[0].weight.grad.dtype == dtype


def test_mixed_precision_is_left_to_pytorch():
    net, x = small().eval(), torch.randn(2, 3, 8, 8)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        agree(compiled(net), net, x, 2e-2)


def test_positions_of_maxima_that_are_wanted():
    def there_and_back(x):
        h, where = F.max_pool2d(x, 2, return_indices=True)
        return F.max_unpool2d(h, where, 2)

    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    twin = x.detach().clone().requires_grad_()
    compiled(there_and_back)(x).square().sum().backward()
    there_and_back(twin).square().sum().backward()
    torch.testing.assert_close(x.grad, twin.grad)


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((2, 3, 7), {"scale_factor": 2.0, "mode": "linear"}),
        ((2, 3, 5, 4), {"size": (8, 9)}),
        ((2, 3, 5, 4), {"scale_factor": 2, "mode": "nearest-exact"}),
        ((2, 3, 5, 4), {"scale_factor": (1.5, 2.5), "mode": "bilinear"}),
        ((2, 3, 5, 4), {"size": 7, "mode": "bicubic", "align_corners": True}),
        ((2, 3, 8, 6), {"size": (3, 3), "mode": "bilinear", "antialias": True}),
        ((2, 3, 5, 4), {"scale_factor": 1.6, "recompute_scale_factor": True}),
        ((1, 2, 3, 4, 5), {"size": (4, 5, 6), "mode": "trilinear"}),
    ],
)
def test_interpolation(shape, options):
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    twin = x.detach().clone().requires_grad_()
    ours, theirs = compiled(F.interpolate)(x, **options), F.interpolate(twin, **options)
    torch.testing.assert_close(ours, theirs)
    for each in (ours, theirs):
        each.square().sum().backward()
    torch.testing.assert_close(x.grad, twin.grad)


def test_inputs_written_over_after_their_use():
    def forward(x):
        h = x * 2.0
        return F.relu6(h, inplace=True) + F.relu(h.neg_(), inplace=True)

    x = (8 * torch.randn(50, dtype=torch.float64)).requires_grad_()
    twin = x.detach().clone().requires_grad_()
    compiled(forward)(x).square().sum().backward()
    forward(twin).square().sum().backward()
    torch.testing.assert_close(x.grad, twin.grad)


def test_two_outputs_and_an_input_among_them():
    net = small().eval()

    def forward(x):
        h = net(x)
        return {"h": h, "x": x, "mean": h.mean((2, 3))}

    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        got, expected = compiled(forward)(x), forward(x)
    assert got["x"] is x
    for key, value in expected.items():
        torch.testing.assert_close(got[key], value, rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------------------------------------------- dropout


def test_dropout_repeats_with_pytorchs_seed():
    net = nn.Sequential(nn.Dropout(0.25), nn.Dropout(0.5))
    run, x = compiled(net), torch.ones(50, 100, requires_grad=True)
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        x.grad = None
        out = run(x)
        out.sum().backward()
        assert torch.equal(x.grad, out.detach())  # the backward pass drops what the forward pass dropped
        results.append(out.detach())
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
    assert results[0].unique().tolist() == pytest.approx([0.0, 8 / 3])
    assert float((results[0] == 0).float().mean()) == pytest.approx(0.625, abs=0.04)


def test_functions_between_convolutions():
    functions = (
        nn.GELU(),
        nn.GELU("tanh"),
        nn.ELU(0.7),
        nn.CELU(0.7),
        nn.SELU(),
        nn.Mish(),
        nn.SiLU(),
        nn.Hardswish(),
    )
    layers = [(nn.Conv2d(20, 20, 3, padding=1), function) for function in functions]
    net = nn.Sequential(*(each for pair in layers for each in pair), nn.BatchNorm2d(20)).eval()
    x = torch.randn(2, 20, 9, 9)
    with torch.no_grad(), Spy() as spy:
        assert_as_close(compiled(net)(x), net, x)
    assert [len(plan.graph.nodes) for plan in spy.plans] == [17]


def test_dropout_in_evaluation_is_the_identity():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Dropout(0.5), nn.Dropout2d(0.5)).eval()
    with torch.no_grad(), Spy() as spy:
        agree(compiled(net), net, torch.randn(2, 3, 4, 4))
    assert len(spy.plans) == 1


# -------------------------------------------------------------------------------------------------- registration


def test_registered():
    assert "fastconv" in torch._dynamo.list_backends()
    pyproject = Path(__file__).parents[2] / "pyproject.toml"
    entries = tomllib.loads(pyproject.read_text())["project"]["entry-points"]["torch_dynamo_backends"]
    module, _, function = entries["fastconv"].partition(":")
    assert callable(getattr(import_module(module), function))
