"""Ops against PyTorch's, values and gradients."""

import math

import numpy as np
import pytest

from fastconv import nn, ops
from fastconv.ops import Context
from kit import ramp

torch = pytest.importorskip("torch")
T = torch.nn.functional


def agree(op, reference, *arrays, tolerance=1e-12, **params):
    """Values and gradients in float64 of an op and a function of tensors."""
    output, saved = op.forward(arrays, params, Context(recording=True))
    tensors = [torch.tensor(x, requires_grad=True) for x in (*arrays, *params.values())]
    expected = reference(*tensors)
    np.testing.assert_allclose(output, expected.detach().numpy(), rtol=tolerance, atol=tolerance)
    grad = ramp(output.shape, seed=9)
    expected.backward(torch.tensor(grad))
    of_inputs, of_params = op.backward(grad, saved, params, ops.Wanted((True,) * len(arrays), True))
    for found, tensor in zip((*of_inputs, *of_params.values()), tensors, strict=True):
        np.testing.assert_allclose(found, tensor.grad.numpy(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("function", "numbers", "reference"),
    [
        ("celu", {"alpha": 1.25}, lambda x: T.celu(x, 1.25)),
        ("clip", {"alpha": -1.0, "beta": 2.0}, lambda x: x.clamp(-1, 2)),
        ("elu", {}, T.elu),
        ("erf", {}, torch.erf),
        ("gelu", {}, T.gelu),
        ("gelu_tanh", {}, lambda x: T.gelu(x, approximate="tanh")),
        ("hard_sigmoid", {}, T.hardsigmoid),
        ("hard_swish", {}, T.hardswish),
        ("mish", {}, T.mish),
        ("selu", {}, T.selu),
        ("silu", {}, T.silu),
        ("softplus", {"alpha": 2.0}, lambda x: T.softplus(x, 2.0, threshold=50)),
        ("softsign", {}, T.softsign),
    ],
)
def test_functions(function, numbers, reference):
    x = np.concatenate([ramp((2, 200)) * 8, [[-math.inf] * 200, [math.inf] * 200]])
    op = ops.Unary(function=function, **numbers)
    # PyTorch's sixth is one of float32
    agree(op, reference, x[:2], tolerance=1e-7 if function == "hard_sigmoid" else 1e-12)
    np.testing.assert_allclose(
        op.forward((x,), {}, Context())[0], reference(torch.tensor(x)), rtol=1e-12, atol=1e-13
    )


def test_prelu():
    agree(
        ops.PRelu(slope_shape=(3, 1, 1)),
        lambda x, w: T.prelu(x, w.reshape(3)),
        ramp((2, 3, 4, 4)),
        slope=ramp((3, 1, 1), seed=1),
    )


@pytest.mark.parametrize("size", [(3, 4), (6, 10), (7, 5), (1, 1), (12, 20), (6, 3)])
@pytest.mark.parametrize(
    ("fields", "arguments"),
    [
        ({"coordinate_transform": "asymmetric", "nearest_mode": "floor"}, {"mode": "nearest"}),
        ({"nearest_mode": "round_prefer_ceil"}, {"mode": "nearest-exact"}),
        ({"mode": "linear"}, {"mode": "bilinear"}),
        ({"mode": "cubic"}, {"mode": "bicubic"}),
        (
            {"mode": "linear", "coordinate_transform": "align_corners"},
            {"mode": "bilinear", "align_corners": True},
        ),
        (
            {"mode": "cubic", "coordinate_transform": "align_corners"},
            {"mode": "bicubic", "align_corners": True},
        ),
        (
            {"mode": "linear", "antialias": True, "exclude_outside": True},
            {"mode": "bilinear", "antialias": True},
        ),
        (
            {"mode": "cubic", "antialias": True, "exclude_outside": True, "cubic_coeff": -0.5},
            {"mode": "bicubic", "antialias": True},
        ),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else None,
)
def test_resize(size, fields, arguments):
    agree(
        ops.Resize(out_size=size, **fields),
        lambda x: T.interpolate(x, size=size, **arguments),
        ramp((2, 3, 6, 5)),
    )


@pytest.mark.parametrize("scale", [0.6, 1.0, 1.7, 2.0])
def test_resize_by_a_scale(scale):
    x = ramp((2, 3, 7, 5))
    size = tuple(math.floor(n * scale) for n in x.shape[2:])
    agree(
        ops.Resize(out_size=size, mode="linear", scales=(scale, scale)),
        lambda t: T.interpolate(t, scale_factor=scale, mode="bilinear", recompute_scale_factor=False),
        x,
    )


@pytest.mark.parametrize("rank", [1, 3])
def test_resize_of_other_ranks(rank):
    x = ramp((2, 3, 6, 5, 4)[: rank + 2])
    size = (4, 7, 9)[:rank]
    mode = {1: "linear", 3: "trilinear"}[rank]
    agree(ops.Resize(out_size=size, mode="linear"), lambda t: T.interpolate(t, size=size, mode=mode), x)


@pytest.mark.parametrize("size", [3, 4, 5])
def test_local_response_norm(size):
    agree(
        ops.LRN(size=size, alpha=0.4, beta=0.7, bias=1.5, before=size // 2),
        lambda x: T.local_response_norm(x, size, 0.4, 0.7, 1.5),
        ramp((2, 6, 3, 4)),
    )


def test_pixel_shuffle():
    agree(ops.DepthToSpace(block=2, mode="CRD"), lambda x: T.pixel_shuffle(x, 2), ramp((2, 8, 3, 4)))
    agree(ops.SpaceToDepth(block=2, mode="CRD"), lambda x: T.pixel_unshuffle(x, 2), ramp((2, 3, 4, 6)))


def test_norms():
    x, weight, bias = ramp((2, 4, 3, 5)), ramp((4,), seed=1), ramp((4,), seed=2)
    agree(
        ops.InstanceNorm(eps=1e-3),
        lambda x, w, b: T.instance_norm(x, weight=w, bias=b, eps=1e-3),
        x,
        weight=weight,
        bias=bias,
    )
    agree(ops.GroupNorm(num_groups=2), lambda x, w, b: T.group_norm(x, 2, w, b), x, weight=weight, bias=bias)
    weight, bias = ramp((3, 5), seed=1), ramp((3, 5), seed=2)
    agree(ops.LayerNorm(ndim=2), lambda x, w, b: T.layer_norm(x, (3, 5), w, b), x, weight=weight, bias=bias)


def test_lp_pool():
    agree(ops.LpPool.of(2, 3, 2, p=2.0), lambda x: T.lp_pool2d(x, 2.0, 3, 2), ramp((2, 3, 7, 8)))


@pytest.mark.parametrize(
    ("function", "reference"),
    [
        ("max", lambda x: x.amax((1, 3), keepdim=True)),
        ("min", lambda x: x.amin((1, 3), keepdim=True)),
        ("log_sum_exp", lambda x: x.logsumexp((1, 3), keepdim=True)),
        ("l2", lambda x: x.norm(dim=(1, 3), keepdim=True)),
    ],
)
def test_reductions(function, reference):
    x = np.rint(ramp((2, 3, 4, 5)) * 3)  # with ties
    agree(ops.Reduce(function=function, axes=(0, 2)), reference, x)


@pytest.mark.parametrize("shapes", [((3, 4), (4, 5)), ((2, 3, 4), (2, 4, 5)), ((4,), (4, 5))])
def test_matmul(shapes):
    arrays = [ramp((3, *shape), seed=i) for i, shape in enumerate(shapes)]
    agree(ops.MatMul(), torch.func.vmap(torch.matmul), *arrays)


def test_softmax_over_any_axis():
    x = ramp((2, 3, 4, 5))
    agree(ops.Softmax(axis=-1), lambda t: t.softmax(3), x)
    agree(ops.Softmax(axis=1, log=True), lambda t: t.log_softmax(2), x)


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda nn: nn.ELU(), (4, 5)),
        (lambda nn: nn.SELU(), (4, 5)),
        (lambda nn: nn.GELU(), (4, 5)),
        (lambda nn: nn.GELU("tanh"), (4, 5)),
        (lambda nn: nn.SiLU(), (4, 5)),
        (lambda nn: nn.Hardswish(), (4, 5)),
        (lambda nn: nn.Hardsigmoid(), (4, 5)),
        (lambda nn: nn.Softplus(), (4, 5)),
        (lambda nn: nn.Softplus(2.0), (4, 5)),
        (lambda nn: nn.Mish(), (4, 5)),
        (lambda nn: nn.PReLU(), (4, 5)),
        (lambda nn: nn.PReLU(4, 0.1), (4, 5, 3)),
        (lambda nn: nn.LocalResponseNorm(4), (6, 5, 3)),
        (lambda nn: nn.LocalResponseNorm(3, 0.1, 0.5, 2.0), (6, 5, 3)),
        (lambda nn: nn.PixelShuffle(2), (8, 2, 3)),
        (lambda nn: nn.PixelUnshuffle(2), (2, 4, 6)),
        (lambda nn: nn.Upsample(7), (2, 4, 6)),
        (lambda nn: nn.Upsample(scale_factor=2), (2, 4)),
        (lambda nn: nn.Upsample((3, 8), mode="bilinear", align_corners=True), (2, 4, 6)),
        (lambda nn: nn.Upsample(scale_factor=1.6, mode="bilinear", align_corners=True), (2, 4, 6)),
        (lambda nn: nn.Upsample(scale_factor=1.6, mode="bicubic"), (2, 4, 6)),
        (lambda nn: nn.Upsample(scale_factor=1.6), (2, 4, 6)),
        (lambda nn: nn.Upsample(5, mode="nearest-exact"), (2, 4, 6)),
    ],
)
def test_layers_are_pytorchs_modules(make, shape):
    model = nn.Sequential([make(nn)], input_shape=shape, dtype="float64")
    x = ramp((2, *shape)) * 5
    with torch.no_grad():
        expected = make(torch.nn).double()(torch.tensor(x)).numpy()
    np.testing.assert_allclose(model.predict(x), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("layer", "module"),
    [
        (nn.InstanceNorm2d(), torch.nn.InstanceNorm2d(4)),
        (nn.GroupNorm(2), torch.nn.GroupNorm(2, 4)),
        (nn.LayerNorm(2), torch.nn.LayerNorm((5, 3))),
    ],
)
def test_norm_layers_are_pytorchs_modules(layer, module):
    x = ramp((2, 4, 5, 3)) * 5
    with torch.no_grad():
        expected = module.double()(torch.tensor(x)).numpy()
    found = nn.Sequential([layer], input_shape=(4, 5, 3), dtype="float64").predict(x)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
