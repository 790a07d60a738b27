"""Incremental occlusion equals whole passes: on nets of every make, at every edge, exactly where numbers are whole."""

import dataclasses

import numpy as np
import pytest

import fastconv
from fastconv import explain, nn
from fastconv.explain import _regions
from fastconv.explain._incremental import Engine, Patches


def vgg(h):
    for channels in (5, 20):
        h = nn.ReLU()(nn.Conv2d(channels, 3, padding=1)(h))
        h = nn.MaxPool2d(2)(nn.ReLU()(nn.Conv2d(channels, 3, padding=1)(h)))
    return nn.Linear(4)(nn.ReLU()(nn.Linear(9)(nn.Dropout(0.5)(nn.Flatten()(h)))))


def resnet(h):
    h = nn.MaxPool2d(3, 2, 1)(nn.ReLU()(nn.BatchNorm2d()(nn.Conv2d(6, 7, 2, 3, bias=False)(h))))
    for channels, stride in ((6, 1), (18, 2)):
        y = nn.ReLU()(nn.BatchNorm2d()(nn.Conv2d(channels, 3, stride, 1, bias=False)(h)))
        y = nn.BatchNorm2d()(nn.Conv2d(channels, 3, 1, 1, bias=False)(y))
        if stride > 1:
            h = nn.BatchNorm2d()(nn.Conv2d(channels, 1, stride, bias=False)(h))
        h = nn.ReLU()(nn.Add()(y, h))
    return nn.Linear(4)(nn.GlobalAvgPool2d()(h))


def preactivated(h):
    """Sums that nothing follows, batch normalisation that follows no convolution, no activation to end with."""
    h = nn.Conv2d(17, 3, padding=1)(h)
    for _ in range(2):
        y = nn.Conv2d(17, 3, padding=1)(nn.ReLU()(nn.BatchNorm2d()(h)))
        h = nn.Add()(h, y, nn.Conv2d(17, 1)(h))
    return nn.GlobalAvgPool2d()(h)


def mobilenet(h):
    h = nn.ReLU6()(nn.Conv2d(8, 3, 2, 1)(h))
    for stride in (1, 2):
        y = nn.ReLU6()(nn.Conv2d(32, 1)(h))
        y = nn.ReLU6()(nn.Conv2d(32, 3, stride, 1, groups=32)(y))
        y = nn.Conv2d(8, 1)(y)
        h = nn.Add()(h, y) if stride == 1 else y
    return nn.Linear(4)(nn.GlobalAvgPool2d()(nn.ReLU6()(h)))


def inception(h):
    h = nn.ReLU()(nn.Conv2d(16, 3, 2)(h))
    for widths in ((16, 16, 32, 16), (3, 4, 5, 6)):  # whole blocks of channels, and parts of them
        a, b, c, d = widths
        h = nn.Concat()(
            nn.Conv2d(a, 1)(h),
            nn.ReLU()(nn.Conv2d(b, (1, 5), padding=(0, 2))(nn.Conv2d(4, 1)(h))),
            nn.ReLU()(nn.Conv2d(c, (5, 1), padding=(2, 0))(nn.Conv2d(4, 1)(h))),
            nn.Conv2d(d, 1)(nn.AvgPool2d(3, 1, 1, count_include_pad=False)(h)),
        )
    return nn.Linear(4)(nn.Flatten()(nn.AvgPool2d(2, ceil_mode=True)(h)))


def dilated(h):
    for dilation in (1, 2, 4):
        h = nn.LeakyReLU(0.1)(nn.Conv2d(6, 3, padding=dilation, dilation=dilation)(h))
    return nn.Linear(4)(nn.GlobalMaxPool2d()(h))


def unet(h):
    first = nn.ReLU()(nn.Conv2d(6, 3, padding=1)(nn.Pad((1, 2, 0, 1), value=0.5)(h)))
    down = nn.ReLU()(nn.Conv2d(8, 3, 2, 1)(first))
    bottom = nn.ReLU()(nn.Conv2d(8, 3, 2, 1)(down))
    up = nn.ReLU()(nn.ConvTranspose2d(8, 3, 2, 1)(bottom))
    up = nn.Pad((0, 1, 0, 1))(up)
    shapes = [t.shape[-2:] for t in (up, down)]
    up = nn.Pad((0, shapes[1][1] - shapes[0][1], 0, shapes[1][0] - shapes[0][0]))(up)
    joined = nn.ReLU()(nn.Conv2d(5, 3, padding=1)(nn.Concat()(up, down)))
    return nn.Conv2d(2, 1)(nn.Sigmoid()(nn.ConvTranspose2d(3, 4, 2, output_padding=1)(joined)))


def squeezed(h):
    """Channels weighted by what all positions hold: from there on everything changes."""
    h = nn.ReLU()(nn.Conv2d(8, 3, padding=1)(h))
    weights = nn.Sigmoid()(nn.Conv2d(8, 1)(nn.GlobalAvgPool2d(keepdims=True)(h)))
    h = nn.Conv2d(8, 3, 2, groups=4)(nn.Multiply()(h, weights))
    return nn.Softmax()(nn.Linear(4)(nn.Flatten()(nn.AdaptiveAvgPool2d((3, 2))(h))))


def reflected(h):
    h = nn.Conv2d(4, 3)(nn.Pad(1, mode="reflect")(h))
    return nn.GlobalAvgPool2d()(nn.Softmax()(nn.Conv2d(4, 3, 3)(h)))


NETS = (vgg, resnet, preactivated, mobilenet, inception, dilated, unet, squeezed, reflected)


def build(make, shape, dtype="float64", seed=0):
    x = nn.Input(shape)
    model = nn.Model(x, make(x), seed=seed, dtype=dtype)
    random = np.random.default_rng(seed)
    for name, value in model.params.items():
        if name.endswith("running_mean"):
            value[...] = random.normal(0, 0.1, value.shape)
        elif name.endswith(("running_var", "bias")):
            value[...] = random.uniform(0.5, 1.5, value.shape)
    return model


def image(*shape, seed=0, dtype="float64"):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(dtype)


def windows_of(shape, sizes=((1, 1), (3, 5), (4, 4)), step=3):
    """Boxes of several sizes that touch every edge and corner."""
    boxes = []
    for height, width in sizes:
        tops = sorted({*range(0, shape[0] - height + 1, step), shape[0] - height})
        lefts = sorted({*range(0, shape[1] - width + 1, step), shape[1] - width})
        boxes += [((y, y + height), (x, x + width)) for y in tops for x in lefts]
    return np.array(boxes, np.int64)


def patches_for(x, boxes, value):
    contents = [np.full(x[:, r[0] : r[1], c[0] : c[1]].shape, value, x.dtype).ravel() for r, c in boxes]
    starts = np.cumsum([0, *(len(each) for each in contents[:-1])])
    return Patches(memory=np.concatenate(contents), starts=starts, boxes=boxes)


def occluded(x, boxes, value):
    copies = np.repeat(x[None], len(boxes), axis=0)
    for copy, ((top, bottom), (left, right)) in zip(copies, boxes, strict=True):
        copy[:, top:bottom, left:right] = value
    return copies


def engine_of(model, x):
    engine = Engine(model.graph, model.params, model.dtype.name)
    return engine, engine.start(x)


@pytest.mark.parametrize("size", [(16, 16), (19, 23), (21, 18)])
@pytest.mark.parametrize("make", NETS, ids=lambda make: make.__name__)
def test_outputs_are_those_of_whole_passes(make, size):
    model, x = build(make, (3, *size)), image(3, *size)
    engine, whole = engine_of(model, x)
    np.testing.assert_allclose(whole, model.predict(x[None])[0], rtol=1e-9, atol=1e-10)
    boxes = windows_of(size)
    expected = model.predict(occluded(x, boxes, 0.3))
    np.testing.assert_allclose(engine.outputs(patches_for(x, boxes, 0.3)), expected, rtol=1e-9, atol=1e-10)
    assert np.ptp(expected, axis=0).max() > 1e-6, "the windows matter"


@pytest.mark.parametrize("make", NETS, ids=lambda make: make.__name__)
def test_float32_differs_by_rounding(make):
    model, x = build(make, (3, 20, 17), "float32"), image(3, 20, 17, dtype="float32")
    boxes = windows_of((20, 17), step=2)
    expected = model.predict(occluded(x, boxes, 0))
    got = engine_of(model, x)[0].outputs(patches_for(x, boxes, 0))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_whole_numbers_are_exact():
    """Sums of whole numbers are exact in any order; Winograd's transforms, which divide, are out of it in float64."""

    def whole(h):
        for channels, dilation in ((4, 1), (5, 2)):
            h = nn.ReLU()(nn.Conv2d(channels, 3, padding=dilation, dilation=dilation)(h))
            h = nn.MaxPool2d(2)(h)
        return nn.Linear(3)(nn.Flatten()(h))

    model = build(whole, (2, 18, 15))
    random = np.random.default_rng(1)
    for value in model.params.values():
        value[...] = random.integers(-3, 4, value.shape)
    x = random.integers(-4, 5, (2, 18, 15)).astype(float)
    boxes = windows_of((18, 15))
    got = engine_of(model, x)[0].outputs(patches_for(x, boxes, 2.0))
    np.testing.assert_array_equal(got, model.predict(occluded(x, boxes, 2.0)))


def test_the_reference_backend_infers_incrementally_too():
    model, x = build(resnet, (3, 16, 16)), image(3, 16, 16)
    boxes = windows_of((16, 16), ((4, 4),), 4)
    with fastconv.use_backend("reference"):
        got = engine_of(model, x)[0].outputs(patches_for(x, boxes, 0.0))
    np.testing.assert_allclose(got, model.predict(occluded(x, boxes, 0.0)), rtol=1e-9, atol=1e-10)


def test_a_window_whose_change_dies_out_has_the_output_of_the_unchanged_image():
    x = nn.Input((1, 12, 12))
    h = nn.ReLU()(nn.Conv2d(16, 3, padding=1)(x))
    model = nn.Model(x, nn.Linear(3)(nn.Flatten()(nn.ReLU()(nn.Conv2d(16, 3, padding=1)(h)))), seed=0)
    model.params[next(name for name in model.params if name.endswith("bias"))][...] = -100.0  # no ReLU passes
    picture = image(1, 12, 12, dtype="float32")
    engine, whole = engine_of(model, picture)
    boxes = windows_of((12, 12), ((4, 4),))
    ran = []
    for number, layer in enumerate(engine.layers):

        def run(parts, boxes, out, run=layer.run, name=layer.name):
            ran.append(name)
            return run(parts, boxes, out)

        engine.layers[number] = dataclasses.replace(layer, run=run)
    np.testing.assert_array_equal(
        engine.outputs(patches_for(picture, boxes, 0.0)), np.repeat(whole[None], len(boxes), axis=0)
    )
    assert set(ran) == {engine.layers[0].name}, "nothing behind the first ReLU is computed"
    ran.clear()
    some = boxes[:1]
    (top, bottom), (left, right) = some[0]
    same = Patches(
        memory=picture[:, top:bottom, left:right].copy().ravel(), starts=np.zeros(1, np.int64), boxes=some
    )
    np.testing.assert_array_equal(engine.outputs(same)[0], whole)
    assert not ran, "a window that shows what was there changes nothing"


@pytest.mark.parametrize("make", [vgg, resnet, inception, unet], ids=lambda make: make.__name__)
def test_boxes_hold_all_that_changes_and_no_more_than_their_share_is_counted(make):
    size = (24, 21)
    model, x = build(make, (3, *size)), image(3, *size)
    engine, _ = engine_of(model, x)
    boxes = windows_of(size, ((3, 4),), 5)
    before = model.activations(x[None])
    after = model.activations(occluded(x, boxes, 0.7))
    changed = {engine.input: boxes}
    for layer in engine.layers:
        changed[layer.name] = layer.reached([changed[name] for name in layer.inputs])
        if len(layer.form.shape) != 3:
            continue
        for box, got in zip(changed[layer.name], after[layer.name], strict=True):
            outside = np.ones(layer.form.size, bool)
            outside[box[0, 0] : box[0, 1], box[1, 0] : box[1, 1]] = False
            np.testing.assert_array_equal(got[:, outside], before[layer.name][0][:, outside])
    costs = engine.costs(boxes)
    assert (costs.macs <= costs.whole).all()
    assert costs.whole == sum(model.graph.macs(node) for node in model.graph.nodes)
    assert sorted(costs.order) == list(range(len(boxes)))


def test_unions_and_empty_boxes():
    a = np.array([[[1, 3], [0, 2]], [[0, 0], [0, 0]], [[0, 0], [0, 0]]])
    b = np.array([[[2, 5], [4, 6]], [[1, 2], [1, 4]], [[0, 0], [0, 0]]])
    np.testing.assert_array_equal(
        _regions.union([a, b]), [[[1, 5], [0, 6]], [[1, 2], [1, 4]], [[0, 0], [0, 0]]]
    )
    groups = list(_regions.alike(b, (1, 1)))
    assert [numbers.tolist() for numbers, _ in groups] == [[1], [0]] or len(groups) == 2


# ------------------------------------------------------------------------------------------ by way of the public calls


@pytest.mark.parametrize("make", [vgg, resnet, mobilenet], ids=lambda make: make.__name__)
def test_both_methods_attribute_alike(make):
    model, x = build(make, (3, 17, 20)), image(2, 3, 17, 20)
    options = {"strides": (3, 2, 3), "baselines": 0.1, "target": [1, 2]}
    full, incremental = (
        explain.Occlusion(model).attribute(
            x, (3, 5, 4), **options, method=method, memory_limit=1 << 16, perturbations_per_eval=7
        )
        for method in ("full", "incremental")
    )
    np.testing.assert_allclose(incremental, full, atol=1e-10)
    result = [
        explain.occlusion(model, x[0], window=5, stride=3, method=method)
        for method in ("full", "incremental")
    ]
    np.testing.assert_allclose(result[1].grid, result[0].grid, atol=1e-10)
    assert (result[1].method, result[1].reason) == ("incremental", "as asked for")


def test_windows_of_one_channel_and_masks_are_followed_as_well():
    model, x = build(vgg, (3, 16, 16)), image(1, 3, 16, 16)
    occlusion = explain.Occlusion(model)
    mask = np.random.default_rng(0).integers(0, 5, (3, 16, 16))
    for options in ({"sliding_window_shapes": (1, 4, 4), "strides": (1, 3, 3)}, {"feature_mask": mask}):
        full, incremental = (
            occlusion.attribute(x, **options, target=0, baselines="noise", method=method)
            for method in ("full", "incremental")
        )
        np.testing.assert_allclose(incremental, full, atol=1e-10)


def test_the_method_is_chosen_by_what_it_saves_and_the_reason_is_told():
    x = image(1, 3, 64, 64)
    model = build(vgg, (3, 64, 64))
    result = explain.occlusion(model, x[0], window=4, stride=4)
    assert result.method == "incremental"
    assert "of the multiply-adds" in result.reason
    assert explain.occlusion(model, x[0], window=64, stride=64).method == "full"
    estimate = explain.Occlusion(model).estimate(x, (3, 4, 4), (3, 4, 4), target=0)
    assert (estimate.method, estimate.windows) == ("incremental", 256)
    assert 0 < estimate.macs < estimate.full_macs == 256 * sum(model.graph.macs(n) for n in model.graph.nodes)
    assert estimate.seconds > 0
    assert estimate.nbytes <= 256 << 20
    assert "256 windows" in str(estimate)
    full = explain.Occlusion(model).estimate(x, (3, 4, 4), (3, 4, 4), target=0, method="full")
    assert full.macs == full.full_macs
    opaque = explain.Occlusion(model.predict).estimate(x, (3, 4, 4), (3, 4, 4), target=0)
    assert (opaque.method, opaque.reason, opaque.macs) == ("full", "a callable cannot be looked into", 0)


def test_what_cannot_be_followed_is_refused_with_the_reason():
    line = nn.Sequential([nn.Conv1d(2, 3), nn.Flatten(), nn.Linear(2)], input_shape=(1, 9), seed=0)
    x = image(1, 1, 9, dtype="float32")
    assert explain.Occlusion(line).attribute(x, (1, 3), target=0).shape == x.shape
    with pytest.raises(ValueError, match="no image"):
        explain.Occlusion(line).attribute(x, (1, 3), target=0, method="incremental")
    with pytest.raises(ValueError, match="callable cannot be looked into"):
        explain.Occlusion(line.predict).attribute(x, (1, 3), target=0, method="incremental")


def test_memory_is_bounded_and_a_cancelled_run_leaves_nothing_behind():
    model, x = build(resnet, (3, 32, 32)), image(3, 32, 32)
    boxes = windows_of((32, 32), ((4, 4),), 2)
    engine, _ = engine_of(model, x)
    costs = engine.costs(boxes)
    seen = []

    def score(outputs):
        seen.append(len(outputs))
        if len(seen) == 4:
            raise KeyboardInterrupt
        return outputs[:, 0]

    options = {"strides": (3, 2, 2), "method": "incremental", "score": score}
    limit = int(costs.nbytes.max()) * 5
    with pytest.raises(KeyboardInterrupt):
        explain.Occlusion(model).attribute(x[None], (3, 4, 4), **options, memory_limit=limit)
    whole = explain.Occlusion(model).attribute(x[None], (3, 4, 4), **options)
    assert max(seen[1:3]) <= 2 * 5 * int(costs.nbytes.max()) // int(costs.nbytes.min())
    assert sum(seen[1:4]) < len(boxes)
    expected = explain.Occlusion(model).attribute(x[None], (3, 4, 4), (3, 2, 2), target=0, method="full")
    np.testing.assert_allclose(whole, expected, atol=1e-10)
