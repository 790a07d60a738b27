"""Every layer: gradients, the way to a file and back, shapes, errors."""

import inspect
import json
from dataclasses import replace

import numpy as np
import pytest

import fastconv.functional as F
from fastconv import nn, ops
from fastconv.autodiff import backward
from fastconv.graph import forward
from fastconv.ops import Context
from fastconv.plan import InferencePlan
from gradcheck import check_gradients
from kit import bits, ramp, with_threads

# (layer, shapes of its inputs per sample, shape of its output); every layer of nn appears
CASES = [
    (nn.Conv1d(4, 3, stride=2, padding=1), [(3, 9)], (4, 5)),
    (nn.Conv2d(4, (3, 2), padding=(1, 0, 2, 0), groups=2), [(6, 5, 7)], (4, 4, 8)),
    (nn.Conv3d(4, (2, 3, 3), stride=(1, 2, 1), padding=1), [(2, 4, 5, 6)], (4, 5, 3, 6)),
    (nn.Conv3d(3, 2, dilation=2, groups=3, bias=False), [(3, 4, 5, 4)], (3, 2, 3, 2)),
    (nn.DepthwiseConv2d(3, stride=2, padding=1), [(5, 7, 6)], (5, 4, 3)),
    (nn.DepthwiseConv2d((3, 1), depth_multiplier=3, bias=False), [(2, 6, 4)], (6, 4, 4)),
    (nn.ConvTranspose1d(4, 3, stride=3, output_padding=2), [(3, 5)], (4, 17)),
    (nn.ConvTranspose2d(6, 3, 2, padding=1, output_padding=1, groups=3), [(3, 4, 5)], (6, 8, 10)),
    (nn.ConvTranspose2d(2, (2, 3), (1, 2), bias=False, dilation=(2, 1)), [(4, 5, 3)], (2, 7, 7)),
    (nn.Linear(4), [(7,)], (4,)),
    (nn.BatchNorm(), [(3, 2, 3, 4)], (3, 2, 3, 4)),
    (nn.BatchNorm1d(), [(6,)], (6,)),
    (nn.BatchNorm1d(affine=False), [(4, 5)], (4, 5)),
    (nn.BatchNorm2d(1e-3), [(3, 4, 5)], (3, 4, 5)),
    (nn.InstanceNorm2d(), [(3, 4, 5)], (3, 4, 5)),
    (nn.InstanceNorm2d(1e-2, affine=True), [(3, 4, 5)], (3, 4, 5)),
    (nn.GroupNorm(2), [(4, 3, 2)], (4, 3, 2)),
    (nn.LayerNorm(2), [(3, 4, 5)], (3, 4, 5)),
    (nn.LocalResponseNorm(4, 0.5), [(6, 2, 3)], (6, 2, 3)),
    (nn.MaxPool1d(3, 2, 1), [(3, 11)], (3, 6)),
    (nn.MaxPool2d(2), [(3, 6, 7)], (3, 3, 3)),
    (nn.AvgPool1d(3, 2, 1, count_include_pad=False), [(3, 11)], (3, 6)),
    (nn.AvgPool2d((2, 3)), [(3, 6, 7)], (3, 3, 2)),
    (nn.AdaptiveAvgPool1d(4), [(3, 11)], (3, 4)),
    (nn.AdaptiveAvgPool2d((None, 3)), [(3, 5, 7)], (3, 5, 3)),
    (nn.AdaptiveMaxPool1d(4), [(3, 11)], (3, 4)),
    (nn.AdaptiveMaxPool2d(2), [(3, 5, 7)], (3, 2, 2)),
    (nn.GlobalAvgPool(), [(3, 2, 4, 2)], (3,)),
    (nn.GlobalAvgPool1d(), [(3, 9)], (3,)),
    (nn.GlobalAvgPool2d(keepdims=True), [(3, 4, 5)], (3, 1, 1)),
    (nn.GlobalMaxPool(), [(3, 2, 4, 2)], (3,)),
    (nn.GlobalMaxPool1d(keepdims=True), [(3, 9)], (3, 1)),
    (nn.GlobalMaxPool2d(), [(3, 4, 5)], (3,)),
    (nn.Pad(1), [(2, 4, 5)], (2, 6, 7)),
    (nn.Pad((1, -2, 0, 3, 2, 0), value=0.5), [(2, 4, 5)], (4, 7, 4)),
    (nn.Pad((2, 1), mode="reflect"), [(3, 6)], (3, 9)),
    (nn.Pad(2, mode="replicate"), [(2, 3, 3, 4)], (2, 7, 7, 8)),
    (nn.Pad((1, 2, 3, 0), mode="circular"), [(2, 4, 5)], (2, 7, 8)),
    (nn.Dropout(0.3), [(3, 8)], (3, 8)),
    (nn.Dropout2d(0.5), [(5, 3, 3)], (5, 3, 3)),
    (nn.DropBlock2d(0.3, (3, 2)), [(3, 8, 7)], (3, 8, 7)),
    (nn.GaussianNoise(0.5), [(3, 5)], (3, 5)),
    (nn.Flatten(), [(2, 3, 4)], (24,)),
    (nn.Reshape((6, 4)), [(2, 3, 4)], (6, 4)),
    (nn.Permute((1, 2, 0)), [(2, 3, 4)], (3, 4, 2)),
    (nn.PixelShuffle(2), [(8, 2, 3)], (2, 4, 6)),
    (nn.PixelUnshuffle(3), [(2, 3, 6)], (18, 1, 2)),
    (nn.Upsample(scale_factor=2), [(3, 4)], (3, 8)),
    (nn.Upsample((3, 7), mode="nearest-exact"), [(2, 4, 5)], (2, 3, 7)),
    (nn.Upsample(scale_factor=(1.5, 2), mode="bilinear"), [(2, 5, 3)], (2, 7, 6)),
    (nn.Upsample(4, mode="bicubic", align_corners=True), [(2, 3, 5)], (2, 4, 4)),
    (nn.Upsample(3, mode="trilinear"), [(1, 2, 3, 4)], (1, 3, 3, 3)),
    (nn.ReLU(), [(3, 7)], (3, 7)),
    (nn.ReLU6(), [(3, 7)], (3, 7)),
    (nn.LeakyReLU(0.2), [(3, 7)], (3, 7)),
    (nn.Sigmoid(), [(3, 7)], (3, 7)),
    (nn.Tanh(), [(3, 7)], (3, 7)),
    (nn.ELU(0.7), [(3, 7)], (3, 7)),
    (nn.SELU(), [(3, 7)], (3, 7)),
    (nn.GELU(), [(3, 7)], (3, 7)),
    (nn.GELU("tanh"), [(3, 7)], (3, 7)),
    (nn.SiLU(), [(3, 7)], (3, 7)),
    (nn.Hardswish(), [(3, 7)], (3, 7)),
    (nn.Hardsigmoid(), [(3, 7)], (3, 7)),
    (nn.Softplus(2.0), [(3, 7)], (3, 7)),
    (nn.Mish(), [(3, 7)], (3, 7)),
    (nn.PReLU(), [(7,)], (7,)),
    (nn.PReLU(3, 0.1), [(3, 4, 5)], (3, 4, 5)),
    (nn.Softmax(), [(5, 2)], (5, 2)),
    (nn.Softmax(-1), [(5, 2)], (5, 2)),
    (nn.Add(), [(3, 4), (3, 4), (3, 4)], (3, 4)),
    (nn.Add(), [(3, 1, 1), (3, 4, 2)], (3, 4, 2)),
    (nn.Concat(), [(3, 4), (2, 4)], (5, 4)),
    (nn.Concat(-1), [(3, 4), (3, 1)], (3, 5)),
    (nn.Multiply(), [(3, 1, 1), (3, 4, 2)], (3, 4, 2)),
    (nn.Multiply(), [(6,), (6,)], (6,)),
]
IDS = [f"{type(layer).__name__}-{number}" for number, (layer, _, _) in enumerate(CASES)]
every_layer = pytest.mark.parametrize(("layer", "shapes", "expected"), CASES, ids=IDS)


def build(layer, shapes):
    inputs = [nn.Input(shape) for shape in shapes]
    return nn.Model(inputs, layer(*inputs), seed=1, dtype="float64")


def test_every_layer_has_a_case():
    layers = {
        value for value in vars(nn).values() if inspect.isclass(value) and issubclass(value, nn.Layer)
    } - {nn.Layer}
    assert {type(layer) for layer, _, _ in CASES} == layers


@every_layer
def test_shape(layer, shapes, expected):
    model = build(layer, shapes)
    assert layer(*(nn.Input(shape) for shape in shapes)).shape == expected
    result = model.predict(
        [ramp((3, *shape)) for shape in shapes] if len(shapes) > 1 else ramp((3, *shapes[0]))
    )
    assert result.shape == (3, *expected)


@pytest.mark.parametrize("training", [False, True])
@every_layer
def test_gradients(layer, shapes, expected, training):
    graph = (model := build(layer, shapes)).graph
    (name,) = graph.outputs
    context = Context(training=training, seed=3, step=4)
    statistics = {key: value for key, value in model.params.items() if key not in graph.trainable}
    arrays = [ramp((4, *shape), seed=i) * 7 for i, shape in enumerate(shapes)]  # beyond the bend of relu6 too
    arrays += [ramp(model.params[key].shape, seed=10 + i) for i, key in enumerate(graph.trainable)]

    def run(*arrays, tape=None):
        inputs = dict(zip(graph.inputs, arrays, strict=False))
        params = dict(zip(graph.trainable, arrays[len(inputs) :], strict=True))
        params |= {key: value.copy() for key, value in statistics.items()}  # training moves them in place
        return params, forward(graph, params, inputs, context, tape=tape)[name]

    def gradients(grad_output):
        tape = []
        params, _ = run(*arrays, tape=tape)
        of_params, of_inputs = backward(graph, params, tape, {name: grad_output}, wrt_inputs=True)
        return [of_inputs[key] for key in graph.inputs] + [of_params[key] for key in graph.trainable]

    check_gradients(lambda *arrays: run(*arrays)[1], gradients, arrays, tolerance=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@every_layer
def test_the_inference_plan_computes_the_same(layer, shapes, expected, dtype):
    """Also behind a convolution of images, which may leave its result in another layout."""
    inputs = [nn.Input(shape) for shape in shapes]
    mixed = [nn.Conv2d(x.shape[0], 1)(x) if len(x.shape) == 3 else x for x in inputs]
    model = nn.Model(inputs, nn.ReLU()(layer(*mixed)), seed=1, dtype=dtype)
    x = {name: ramp((3, *shape), dtype) for name, shape in model.graph.inputs.items()}
    (name,) = model.graph.outputs
    found = InferencePlan(model.graph, model.params, dtype)(x)[name]
    wanted = forward(model.graph, model.params, x)[name]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=100 * np.finfo(dtype).eps * abs(wanted).max())


@every_layer
def test_config_round_trip(layer, shapes, expected):
    op = layer.op_for(*shapes)
    assert ops.from_config(json.loads(json.dumps(ops.to_config(op)))) == op
    assert replace(op) == op
    assert hash(replace(op)) == hash(op)


def test_numpy_numbers_become_plain_ones():
    two, half = np.int64(2), np.float32(0.5)
    for layer in (
        nn.Conv2d(two, two, two, two, two, two),
        nn.ConvTranspose2d(two, two, two, two, np.int64(1), two),
        nn.AvgPool2d(np.array([2, 2]), two, divisor_override=two),
        nn.AdaptiveAvgPool2d((two, None)),
        nn.Pad((two, two), value=half),
        nn.Linear(two),
        nn.Dropout(half),
        nn.Dropout2d(half),
        nn.DropBlock2d(half, two),
        nn.GaussianNoise(half),
        nn.LeakyReLU(half),
        nn.BatchNorm(half, half),
        nn.Reshape((two, two)),
        nn.ELU(half),
        nn.Softplus(half),
        nn.LocalResponseNorm(two, half, half, half),
        nn.GroupNorm(two, half),
        nn.Permute((np.int64(1), np.int64(0))),
        nn.PixelShuffle(two),
        nn.Softmax(two),
    ):
        assert ops.from_config(json.loads(json.dumps(ops.to_config(layer.op)))) == layer.op


@every_layer
def test_saved_and_loaded(layer, shapes, expected, tmp_path):
    pytest.importorskip("safetensors")
    model = build(layer, shapes)
    model.save(tmp_path / "net.safetensors")
    again = nn.load(tmp_path / "net.safetensors")
    assert again.graph.nodes == model.graph.nodes
    x = {name: ramp((2, *shape)) for name, shape in model.graph.inputs.items()}
    assert bits(again.predict(x)) == bits(model.predict(x))


@pytest.mark.parametrize(
    "layer", [nn.Dropout(0.5), nn.Dropout2d(0.5), nn.DropBlock2d(0.3, 2), nn.GaussianNoise(0.5)], ids=repr
)
def test_random_layers_repeat_and_only_act_in_training(layer):
    graph = build(layer, [(8, 6, 6)]).graph
    (name,) = graph.outputs
    x = {"input": ramp((4, 8, 6, 6), "float32")}

    def run(threads=1, **context):
        with with_threads(threads):
            return forward(graph, {}, x, Context(**context))[name]

    first = run(training=True, seed=1, step=2)
    assert first.dtype == np.float32
    assert bits(run(4, training=True, seed=1, step=2)) == bits(first)
    for other in ({"seed": 1, "step": 3}, {"seed": 2, "step": 2}):
        assert np.mean(run(training=True, **other) != first) > 0.2
    assert bits(run(training=False, seed=1, step=2)) == bits(x["input"])


def test_noise_has_its_moments_and_does_not_depend_on_later_samples():
    graph = build(nn.GaussianNoise(0.5), [(50,)]).graph

    def noise(count):
        x = {"input": np.ones((count, 50))}
        return forward(graph, {}, x, Context(training=True, seed=1))["gaussian_noise_1"] - 1

    many = noise(2000)
    # standard errors of mean and variance of 100,000 draws; five of them
    assert abs(many.mean()) < 5 * 0.5 / 1e5**0.5
    assert abs(many.var() - 0.25) < 5 * 0.25 * (2 / 1e5) ** 0.5
    assert bits(noise(7)) == bits(many[:7])


def test_layers_compute_what_the_functions_do():
    x = ramp((2, 4, 6, 5))
    w = ramp((4, 3, 3, 2), seed=1)
    transposed = build(nn.ConvTranspose2d(6, (3, 2), 2, 1, (1, 0), groups=2, bias=False), [(4, 6, 5)])
    transposed.set_weights({"conv_transpose2d_1.weight": w})
    np.testing.assert_array_equal(
        transposed.predict(x), F.conv_transpose2d(x, w, None, 2, 1, (1, 0), groups=2)
    )
    depthwise = build(nn.DepthwiseConv2d(3, padding=1, depth_multiplier=2, bias=False), [(4, 6, 5)])
    (weight,) = depthwise.params.values()
    assert weight.shape == (8, 1, 3, 3)
    np.testing.assert_array_equal(depthwise.predict(x), F.conv2d(x, weight, padding=1, groups=4))
    padded = build(nn.Pad((1, 2), mode="circular"), [(4, 6, 5)])
    np.testing.assert_array_equal(padded.predict(x), F.pad(x, (1, 2, 0, 0), "circular"))


@pytest.mark.parametrize(
    ("layer", "shapes", "message"),
    [
        (nn.BatchNorm2d(), [(5,)], r"takes an input of shape \(C, H, W\) per sample, got \(5,\)"),
        (nn.InstanceNorm2d(), [(5, 3)], r"\(C, H, W\) per sample"),
        (nn.GroupNorm(3), [(4, 5)], "a multiple of 3 channels"),
        (nn.PReLU(3), [(4, 5, 5)], r"slope_shape must broadcast to the input \(4, 5, 5\), got \(3, 1, 1\)"),
        (nn.Upsample(4), [(3,)], r"\(C, L\) or \(C, H, W\) or \(C, D, H, W\) per sample"),
        (nn.Upsample(4, mode="bilinear"), [(3, 5)], r"of shape \(C, H, W\) per sample"),
        (nn.Upsample(scale_factor=(2, 2)), [(3, 5)], "one finite number > 0 or 1"),
        (nn.Upsample(scale_factor=0.1), [(3, 5)], r"sizes >= 1, got \(0,\)"),
        (nn.PixelShuffle(2), [(6, 2, 2)], "multiple of 4 channels"),
        (nn.Permute((1, 0)), [(2, 3, 4)], "takes 2 axes"),
        (nn.BatchNorm1d(), [(5, 2, 2)], r"\(F,\) or \(C, L\) per sample"),
        (nn.GlobalMaxPool2d(), [(5, 3)], r"\(C, H, W\) per sample"),
        (nn.GlobalMaxPool(), [(5,)], "spatial dimensions"),
        (nn.AdaptiveMaxPool2d(2), [(5, 3)], r"\(C, H, W\) per sample"),
        (nn.DepthwiseConv2d(3), [(5, 3)], r"\(C, H, W\) per sample"),
        (nn.DepthwiseConv2d(3), [(5, 2, 8)], "effective kernel"),
        (nn.DepthwiseConv2d(3), [(0, 4, 4)], "out_channels must be a positive multiple"),
        (nn.ConvTranspose2d(4, 3, groups=2), [(3, 4, 4)], "multiple of groups, got 3"),
        (nn.ConvTranspose2d(4, 3, 2, output_padding=2), [(3, 4, 4)], "output_padding must be smaller"),
        (nn.ConvTranspose1d(4, 1, padding=2), [(3, 2)], "must not be empty"),
        (nn.MaxPool1d(9), [(3, 5)], "effective window"),
        (nn.DropBlock2d(0.1, 5), [(3, 4, 8)], "block_size must not exceed"),
        (nn.DropBlock2d(0.1, 2), [(8,)], r"\(C, H, W\)"),
        (nn.Pad(3, mode="reflect"), [(2, 3, 3)], "pads size 3 by 0 to 2"),
        (nn.Pad((0, -4)), [(3,)], "cropped below 0"),
        (nn.Pad((1,) * 8), [(2, 3, 3)], "at most one for each dimension of a sample"),
        (nn.Pad(1), [(3,)], "padding must be one integer or"),
        (nn.Pad((1, 1, 1)), [(2, 3, 3)], r"\(low, high\) pairs"),
        (nn.Multiply(), [(3,), (4,)], "two inputs that broadcast to one shape"),
        (nn.Add(), [(3, 4), (3, 1), (2, 1)], "two or more inputs that broadcast to one shape"),
        (nn.Multiply(), [(3,)], "two inputs"),
    ],
)
def test_shape_errors(layer, shapes, message):
    with pytest.raises(ValueError, match=message):
        layer(*(nn.Input(shape) for shape in shapes))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.DepthwiseConv2d(3, depth_multiplier=0), ValueError, "depth_multiplier must be >= 1"),
        (lambda: nn.ConvTranspose2d(3, 3, padding="same"), TypeError, "must be integers, got 'same'"),
        (lambda: nn.ConvTranspose2d(3, 3, groups=2), ValueError, "multiple of groups"),
        (lambda: nn.ConvTranspose2d(3, 3, output_padding=-1), ValueError, "output_padding must be >= 0"),
        (lambda: nn.AdaptiveAvgPool2d(0), ValueError, "output_size must be between 1"),
        (lambda: nn.AdaptiveAvgPool2d((1, 2, 3)), ValueError, "one integer or 2"),
        (lambda: nn.AdaptiveMaxPool1d(1.5), TypeError, "output_size must be an integer"),
        (lambda: nn.DropBlock2d(1.5, 3), ValueError, "probability"),
        (lambda: nn.DropBlock2d(0.5, 0), ValueError, "block_size must be >= 1"),
        (lambda: nn.GaussianNoise(-1.0), ValueError, "std must be a finite number >= 0"),
        (lambda: nn.Pad(1, mode="mirror"), ValueError, "mode must be one of"),
        (lambda: nn.Pad("same"), TypeError, "padding must be an integer"),
        (lambda: nn.BatchNorm2d(eps=-1.0), ValueError, "eps must be >= 0"),
        (lambda: nn.BatchNorm2d(momentum=2.0), ValueError, "momentum must be between 0 and 1"),
        (lambda: nn.GELU("erf"), ValueError, "approximate must be one of"),
        (lambda: nn.PReLU(0), ValueError, "num_parameters must be between 1"),
        (lambda: nn.Upsample(), ValueError, "either size or scale_factor"),
        (lambda: nn.Upsample(2, 2), ValueError, "either size or scale_factor"),
        (lambda: nn.Upsample(2, mode="area"), ValueError, "mode must be one of"),
        (lambda: nn.Upsample(2, align_corners=True), ValueError, "align_corners is not for mode 'nearest'"),
        (lambda: nn.Permute((0, 2)), ValueError, "each axis of a sample once"),
        (lambda: nn.Conv2d(3, 3, colour="red"), TypeError, "colour"),
    ],
)
def test_layers_refuse_bad_arguments_at_once(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_product_weighs_channels():
    x = nn.Input((4, 5, 5))
    squeezed = nn.Sigmoid()(nn.Linear(4)(nn.GlobalAvgPool2d()(x)))
    y = x * nn.Reshape((4, 1, 1))(squeezed)
    model = nn.Model(x, y, dtype="float64")
    batch = ramp((2, 4, 5, 5))
    weights = model.activations(batch, ["sigmoid_1"])["sigmoid_1"]
    np.testing.assert_array_equal(model.predict(batch), batch * weights[:, :, None, None])


def test_one_depthwise_layer_cannot_serve_two_channel_counts():
    layer = nn.DepthwiseConv2d(3)
    a, b = nn.Input((2, 5, 5)), nn.Input((3, 5, 5))
    with pytest.raises(ValueError, match="shared by uses that need shapes"):
        nn.Model([a, b], nn.Concat()(layer(a), layer(b)))
