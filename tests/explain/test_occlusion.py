"""Occlusion: closed forms, Captum's algorithm re-implemented plainly, and the loss recipe against brute force."""

import itertools
import math

import numpy as np
import pytest

from fastconv import explain, nn


def captum_occlusion(forward, x, window, strides, baseline, target):
    """Captum's algorithm as its source has it: full-size masks, one window at a time, weights added up."""
    score = lambda v: forward(v) if target is None else forward(v)[np.arange(len(v)), target]  # noqa: E731
    original = score(x)
    counts = [math.ceil((n - w) / s) + 1 for n, w, s in zip(x.shape[1:], window, strides, strict=True)]
    total, weight = np.zeros(x.shape), np.zeros(x.shape)
    for position in itertools.product(*map(range, counts)):
        mask = np.zeros(x.shape[1:])
        mask[tuple(slice(i * s, i * s + w) for i, s, w in zip(position, strides, window, strict=True))] = 1
        difference = original - score(x * (1 - mask) + baseline * mask)
        total += difference.reshape(-1, *[1] * (x.ndim - 1)) * mask
        weight += mask
    return total / weight


def classifier(shape, classes=4, seed=0, dtype="float64"):
    layers = [nn.Conv2d(3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(classes)]
    model = nn.Sequential(layers, input_shape=shape, seed=seed, dtype=dtype)
    model.compile(loss="cross_entropy")
    return model


def image(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape)


# ---------------------------------------------------------------------------------------------------- Captum's call


def test_single_pixel_windows_of_a_linear_score_give_weight_times_value():
    x, w = image(2, 3, 4, 5), image(3, 4, 5, seed=1)
    got = explain.Occlusion(lambda v: (v * w).sum(axis=(1, 2, 3))).attribute(x, (1, 1, 1))
    np.testing.assert_allclose(got, x * w, rtol=1e-12, atol=1e-14)


def test_one_window_over_everything_gives_the_whole_difference():
    x = image(2, 1, 3, 3)
    got = explain.Occlusion(lambda v: v.sum(axis=(1, 2, 3))).attribute(x, (1, 3, 3), strides=7, baselines=0.5)
    np.testing.assert_allclose(got, np.broadcast_to((x - 0.5).sum(axis=(1, 2, 3), keepdims=True), x.shape))


@pytest.mark.parametrize("per_eval", [1, 3, 64])
@pytest.mark.parametrize(
    ("shape", "window", "strides"),
    [
        ((2, 2, 7, 10), (2, 3, 4), (2, 2, 3)),  # last windows cut at both edges
        ((1, 2, 9, 6), (1, 4, 5), (1, 4, 4)),  # channels one by one
        ((3, 2, 8, 8), (2, 8, 1), (1, 1, 1)),  # full-height columns
    ],
)
def test_equals_captum_on_a_net(shape, window, strides, per_eval):
    model = classifier(shape[1:])
    x, target = image(*shape), np.arange(shape[0]) % 4
    got = explain.Occlusion(model).attribute(
        x, window, strides=strides, baselines=0.3, target=target, perturbations_per_eval=per_eval
    )
    expected = captum_occlusion(model.predict, x, window, strides, 0.3, target)
    assert got.shape == x.shape
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)


def test_int_strides_apply_to_every_axis_and_none_means_one():
    forward, x = (lambda v: (v**2).sum(axis=(1, 2, 3))), image(1, 2, 5, 4)
    for given, full in ((None, (1, 1, 1)), (2, (2, 2, 2))):
        got = explain.Occlusion(forward).attribute(x, (2, 2, 2), strides=given)
        np.testing.assert_allclose(got, captum_occlusion(forward, x, (2, 2, 2), full, 0, None), atol=1e-12)


def test_array_baseline_is_broadcast():
    forward, x, baseline = (lambda v: v.sum(axis=(1, 2, 3))), image(2, 3, 4, 4), image(1, 3, 4, 4, seed=5)
    got = explain.Occlusion(forward).attribute(x, (3, 2, 2), strides=2, baselines=baseline)
    np.testing.assert_allclose(
        got, captum_occlusion(forward, x, (3, 2, 2), (2, 2, 2), baseline, None), atol=1e-12
    )


def test_integer_images_give_float_attributions_and_are_not_modified():
    x = np.arange(32, dtype=np.uint8).reshape(1, 2, 4, 4)
    before = x.copy()
    got = explain.Occlusion(lambda v: v.mean(axis=(1, 2, 3))).attribute(x, (1, 1, 1), baselines=0.5)
    assert got.dtype.kind == "f"
    np.testing.assert_allclose(got, (x - 0.5) / 32, rtol=1e-6)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("baseline", [0, -1, 300])
def test_integer_baselines_keep_integer_inputs_exact(baseline):
    seen = []

    def forward(v):
        seen.append(v.dtype)
        return v.sum(axis=(1, 2, 3))

    x = np.full((1, 1, 2, 2), 200, dtype=np.uint8)
    got = explain.Occlusion(forward).attribute(x, (1, 1, 1), baselines=baseline)
    np.testing.assert_array_equal(got, np.full(x.shape, 200.0 - baseline))
    assert all(dtype.kind in "iu" for dtype in seen)


def test_a_float32_net_takes_uint8_images_and_gives_float32():
    model = classifier((1, 6, 6), dtype="float32")
    x = np.random.default_rng(0).integers(0, 255, (1, 1, 6, 6), dtype=np.uint8)
    got = explain.Occlusion(model).attribute(x, (1, 3, 3), strides=3, target=1)
    expected = captum_occlusion(model.predict, x, (1, 3, 3), (3, 3, 3), 0, 1)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("target", [2, [2, 2], np.array([2, 2]), np.array([2]), (2,), -2])
def test_all_spellings_of_a_target_agree(target):
    model, x = classifier((1, 4, 4)), image(2, 1, 4, 4)
    got = explain.Occlusion(model).attribute(x, (1, 2, 2), strides=2, target=target, perturbations_per_eval=3)
    expected = captum_occlusion(model.predict, x, (1, 2, 2), (2, 2, 2), 0, np.array([2, 2]))
    np.testing.assert_allclose(got, expected, atol=1e-12)


def test_a_score_per_batch_gives_one_attribution():
    x = image(3, 1, 4, 4)
    got = explain.Occlusion(lambda v: v.sum()).attribute(x, (1, 1, 1))
    assert got.shape == (1, 1, 4, 4)
    np.testing.assert_allclose(got[0], x.sum(axis=0), atol=1e-12)
    with pytest.raises(ValueError, match="perturbations_per_eval must be 1"):
        explain.Occlusion(lambda v: v.sum()).attribute(x, (1, 1, 1), perturbations_per_eval=2)


def test_several_inputs_are_occluded_in_turn():
    a, b = image(2, 1, 3, 3), image(2, 4, seed=1)
    forward = lambda p, q: 2 * p.sum(axis=(1, 2, 3)) + 3 * q.sum(axis=1)  # noqa: E731
    got = explain.Occlusion(forward).attribute(
        (a, b), ((1, 1, 1), (2,)), strides=(1, (2,)), perturbations_per_eval=2
    )
    np.testing.assert_allclose(got[0], 2 * a, atol=1e-12)
    np.testing.assert_allclose(got[1], 3 * np.repeat(b.reshape(2, 2, 2).sum(axis=2), 2, axis=1), atol=1e-12)


def test_progress_bar_is_shown_on_request(capsys):
    pytest.importorskip("tqdm")
    explain.Occlusion(lambda v: v.sum(axis=(1, 2))).attribute(image(1, 2, 2), (1, 1), show_progress=True)
    assert "4/4" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sliding_window_shapes": (1, 5, 2)}, "must not exceed the input"),
        ({"sliding_window_shapes": (1, 2, 2), "strides": (1, 3, 1)}, "must not exceed the sliding window"),
        ({"sliding_window_shapes": (2, 2)}, "3 positive integers"),
        ({"sliding_window_shapes": (1, 0, 2)}, "3 positive integers"),
        ({"sliding_window_shapes": (1, 2, 2), "strides": 0}, "3 positive integers"),
        ({"sliding_window_shapes": (1, 2, 2), "perturbations_per_eval": 0}, "perturbations_per_eval"),
        ({"sliding_window_shapes": (1, 2, 2), "target": None}, "target is required"),
        ({"sliding_window_shapes": (1, 2, 2), "target": 4}, "out of range"),
        ({"sliding_window_shapes": (1, 2, 2), "target": [0, 1, 2]}, "one per example"),
        ({"sliding_window_shapes": (1, 2, 2), "target": (0, 1)}, "1 indices"),
        (
            {"sliding_window_shapes": (1, 2, 2), "baselines": np.zeros((1, 2, 4, 4))},
            "baselines must broadcast",
        ),
    ],
)
def test_wrong_arguments_are_refused_with_the_rule(arguments, message):
    with pytest.raises(ValueError, match=message):
        explain.Occlusion(classifier((1, 4, 4))).attribute(image(2, 1, 4, 4), **({"target": 0} | arguments))


def test_a_forward_function_that_mixes_examples_is_refused():
    with pytest.raises(ValueError, match="one score per example"):
        explain.Occlusion(lambda v: v.reshape(-1, 2)).attribute(image(4, 1), (1,), target=0)
    with pytest.raises(TypeError, match="callable"):
        explain.Occlusion(3)


# ---------------------------------------------------------------------------------------------------- options


def windows_along(length, size, step, edge):
    """Starts and ends of windows, spelled out."""
    found = [(i, i + size) for i in range(0, length - size + 1, step)]
    if found[-1][1] < length:
        if edge == "cut":
            found.append((found[-1][0] + step, length))
        elif edge == "flush":
            found.append((length - size, length))
    return found


@pytest.mark.parametrize("reduction", ["mean", "sum", "grid", "scores"])
@pytest.mark.parametrize("edge", ["cut", "drop", "flush"])
def test_edges_and_reductions(edge, reduction):
    model, x = classifier((2, 9, 11)), image(2, 2, 9, 11)
    got = explain.Occlusion(model).attribute(
        x, (2, 3, 4), (2, 2, 3), 0.2, 1, 4, reduction=reduction, edge=edge, method="full"
    )
    rows, columns = windows_along(9, 3, 2, edge), windows_along(11, 4, 3, edge)
    total, count = np.zeros(x.shape), np.zeros(x.shape)
    grid = np.empty((2, 1, len(rows), len(columns)))
    original = model.predict(x)[:, 1]
    for (i, (top, bottom)), (j, (left, right)) in itertools.product(enumerate(rows), enumerate(columns)):
        hidden = x.copy()
        hidden[:, :, top:bottom, left:right] = 0.2
        score = model.predict(hidden)[:, 1]
        total[:, :, top:bottom, left:right] += (original - score)[:, None, None, None]
        count[:, :, top:bottom, left:right] += 1
        grid[:, 0, i, j] = score if reduction == "scores" else original - score
    expected = {"mean": total / np.maximum(count, 1), "sum": total}.get(reduction, grid)
    np.testing.assert_allclose(got, expected, atol=1e-12)


@pytest.mark.parametrize(
    "ending",
    [[], [nn.Softmax()], [nn.Softmax(), nn.Flatten()]],
    ids=["logits", "softmax", "softmax, reshaped"],
)
def test_probability_and_loss_are_those_of_the_classes_whatever_the_net_ends_in(ending):
    layers = [nn.Conv2d(3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4)]
    model = nn.Sequential(layers + ending, (1, 6, 6), seed=0, dtype="float64")
    logits = nn.Sequential(layers, (1, 6, 6), seed=0, dtype="float64")

    def probability(v):
        values = np.exp(logits.predict(v))
        return values / values.sum(axis=1, keepdims=True)

    x = image(2, 1, 6, 6)
    occlusion = explain.Occlusion(model)
    for score, forward in (("probability", probability), ("loss", lambda v: -np.log(probability(v)))):
        got = occlusion.attribute(x, (1, 2, 2), 2, target=2, score=score)
        expected = captum_occlusion(forward, x, (1, 2, 2), (2, 2, 2), 0, np.array([2, 2]))
        np.testing.assert_allclose(got, expected, atol=1e-12)


def test_a_function_of_the_outputs_is_a_score():
    model, x = classifier((1, 6, 6)), image(2, 1, 6, 6)
    got = explain.Occlusion(model).attribute(x, (1, 2, 2), 2, score=lambda v: v[:, 0] - v[:, 1])
    expected = captum_occlusion(lambda v: model.predict(v) @ [1, -1, 0, 0], x, (1, 2, 2), (2, 2, 2), 0, None)
    np.testing.assert_allclose(got, expected, atol=1e-12)


@pytest.mark.parametrize("method", ["full", "incremental"])
@pytest.mark.parametrize("channel", [None, 1])
def test_the_activity_of_a_feature_map_is_a_score(channel, method):
    layers = [nn.Conv2d(3, 3), nn.ReLU(), nn.Conv2d(5, 3), nn.Flatten(), nn.Linear(4)]
    model, x = nn.Sequential(layers, (1, 9, 8), seed=0, dtype="float64"), image(2, 1, 9, 8)
    got = explain.Occlusion(model).attribute(
        x, (1, 2, 3), (1, 2, 2), score=explain.Activity("relu_1", channel), method=method
    )
    activity = lambda v: model.activations(v, ["relu_1"])["relu_1"].sum(axis=(2, 3))  # noqa: E731
    maps = activity(x).argmax(axis=1) if channel is None else np.array([channel, channel])
    expected = captum_occlusion(activity, x, (1, 2, 3), (1, 2, 2), 0, maps)
    np.testing.assert_allclose(got, expected, atol=1e-11)


def test_values_of_one_number_in_a_mask_are_occluded_together():
    x, weight = image(2, 2, 3, 4), image(2, 3, 4, seed=1)
    mask = np.array([[0, 0, 7, 7], [5, 0, 0, 7], [5, 5, 0, 0]])
    forward = lambda v: (v * weight).sum(axis=(1, 2, 3))  # noqa: E731
    got = explain.Occlusion(forward).attribute(x, feature_mask=mask)
    grid = explain.Occlusion(forward).attribute(x, feature_mask=mask[None, None], reduction="grid")
    assert grid.shape == (2, 3)
    for k, number in enumerate((0, 5, 7)):
        expected = (x * weight * (mask == number)).sum(axis=(1, 2, 3))
        np.testing.assert_allclose(grid[:, k], expected, atol=1e-12)
        inside = got[:, 1][:, mask == number]
        np.testing.assert_allclose(inside, np.broadcast_to(expected[:, None], inside.shape))


def test_each_image_has_a_baseline_of_its_own():
    x = image(2, 3, 40, 50) + np.array([0, 5])[:, None, None, None]
    shown = {}
    for name in ("gray", "mean", "blur", "noise"):
        seen = []
        explain.Occlusion(lambda v, seen=seen: (seen.append(v), v[:, 0, 0, 0])[1]).attribute(
            x, (3, 40, 50), baselines=name
        )
        shown[name] = seen[-1]
    np.testing.assert_allclose(shown["gray"][1], (x[1].min() + x[1].max()) / 2)
    np.testing.assert_allclose(shown["mean"][1, 2], x[1, 2].mean())
    assert np.ptp(shown["blur"][0]) < np.ptp(x[0]) / 2
    np.testing.assert_allclose(shown["blur"].mean(axis=(1, 2, 3)), x.mean(axis=(1, 2, 3)), atol=0.1)
    np.testing.assert_allclose(shown["noise"].std(axis=(2, 3)), x.std(axis=(2, 3)), rtol=0.1)
    np.testing.assert_allclose(shown["noise"].mean(axis=(2, 3)), x.mean(axis=(2, 3)), atol=0.1)


def test_the_blur_is_scipy_s():
    ndimage = pytest.importorskip("scipy.ndimage")
    x, seen = image(1, 2, 30, 45), []
    explain.Occlusion(lambda v: (seen.append(v), v[:, 0, 0, 0])[1]).attribute(
        x, (2, 30, 45), baselines="blur"
    )
    deviation = 45 / 22.4
    truncate = math.ceil(3 * deviation) / deviation
    expected = ndimage.gaussian_filter(x, (0, 0, deviation, deviation), mode="nearest", truncate=truncate)
    np.testing.assert_allclose(seen[-1], expected, atol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"reduction": "max"}, "reduction must be one of"),
        ({"edge": "wrap"}, "edge must be one of"),
        ({"score": "logits"}, "score must be one of"),
        ({"score": np.sum}, "target must be None where the score is a function"),
        ({"score": explain.Activity("relu_9"), "target": None}, "node must be one of conv2d_1, relu_1"),
        ({"score": explain.Activity("relu_1", 3), "target": None}, r"channel must lie in \[0, 3\)"),
        ({"feature_mask": np.zeros((4, 4), int)}, "either sliding_window_shapes or a feature_mask"),
        ({"sliding_window_shapes": None}, "either sliding_window_shapes or a feature_mask"),
        ({"sliding_window_shapes": None, "feature_mask": np.zeros((5, 4), int)}, "must broadcast to"),
        ({"baselines": "grey"}, "baseline must be one of"),
        ({"method": "fast"}, "method must be one of"),
        ({"memory_limit": 0}, "memory_limit must be"),
    ],
)
def test_wrong_options_are_refused_with_the_rule(arguments, message):
    given = {"sliding_window_shapes": (1, 2, 2), "target": 0} | arguments
    with pytest.raises(ValueError, match=message):
        explain.Occlusion(classifier((1, 4, 4))).attribute(image(2, 1, 4, 4), **given)


def test_scores_and_masks_of_the_wrong_type_are_refused():
    occlusion, x = explain.Occlusion(classifier((1, 4, 4))), image(1, 1, 4, 4)
    with pytest.raises(TypeError, match="made of integers"):
        occlusion.attribute(x, target=0, feature_mask=np.zeros((4, 4)))
    with pytest.raises(TypeError, match="score must be a name"):
        occlusion.attribute(x, (1, 2, 2), score=3)
    with pytest.raises(TypeError, match=r"needs a fastconv.nn.Model"):
        explain.Occlusion(lambda v: v).attribute(x, (1, 2, 2), score=explain.Activity("relu_1"))


# ---------------------------------------------------------------------------------------------------- conventions


def by_convention(name, forward, x, target, window, stride):
    """What the packages do to one image, as their sources have it: loops over windows that never overlap the edge."""
    _, height, width = x.shape
    score = lambda v: forward(v[None])[0, target]  # noqa: E731
    edge = {"tf_explain": "cut", "mantissa": "flush"}.get(name, "drop")
    rows, columns = windows_along(height, window, stride, edge), windows_along(width, window, stride, edge)
    total, count, grid = np.zeros((height, width)), np.zeros((height, width)), []
    for (top, bottom), (left, right) in itertools.product(rows, columns):
        hidden = x.copy()
        hidden[:, top:bottom, left:right] = 127.5 if name == "tf_explain" else 0
        grid.append(1 - score(hidden))
        total[top:bottom, left:right] += score(x) - score(hidden)
        count[top:bottom, left:right] += 1
    if name == "tf_explain":
        return np.reshape(grid, (len(rows), len(columns)))
    if name == "mantissa":
        drops = np.maximum(total / count, 0)
        return drops / drops.max() if drops.max() > 0 else drops
    return np.broadcast_to(total, x.shape) if name == "pair" else total


@pytest.mark.parametrize(
    ("name", "window", "stride"),
    [("tf_explain", 4, 4), ("pair", 5, 1), ("xplique", 3, 3), ("mantissa", 7, 3)],
)
def test_conventions_of_other_packages(name, window, stride):
    """On images that are not square, and no multiple of the window."""
    model = classifier((2, 13, 17))
    ending = [
        nn.Conv2d(3, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(4),
        nn.Softmax(),
    ]
    confident = nn.Sequential(ending, (2, 13, 17), seed=0, dtype="float64")
    x = image(2, 2, 13, 17)
    given = (window if name in ("tf_explain", "pair") else None,)
    got = explain.occlusion_as(name, model, x, 1, *given)
    forward = confident.predict if name in ("tf_explain", "mantissa") else model.predict
    for values, picture in zip(got, x, strict=True):
        np.testing.assert_allclose(
            values, by_convention(name, forward, picture, 1, window, stride), atol=1e-11
        )


def test_captum_s_convention_is_that_of_the_class():
    model, x = classifier((2, 7, 9)), image(1, 2, 7, 9)
    np.testing.assert_array_equal(
        explain.occlusion_as("captum", model, x, 1, (3, 2)),
        explain.Occlusion(model).attribute(x, (2, 3, 2), (2, 1, 1), target=1),
    )


def test_conventions_refuse_what_they_cannot_know():
    model, x = classifier((1, 8, 8)), image(1, 1, 8, 8)
    with pytest.raises(ValueError, match="convention must be one of"):
        explain.occlusion_as("zennit", model, x, 0)
    with pytest.raises(ValueError, match="has no window of its own"):
        explain.occlusion_as("captum", model, x, 0)
    with pytest.raises(ValueError, match=r"shape \(N, C, H, W\)"):
        explain.occlusion_as("xplique", model, x[0], 0)


def test_equals_captum_itself():
    torch = pytest.importorskip("torch")
    captum = pytest.importorskip("captum.attr")
    model = classifier((2, 9, 10), dtype="float32")
    modules = torch.nn
    net = modules.Sequential(
        *(modules.Conv2d(2, 3, 3, padding=1), modules.ReLU(), modules.MaxPool2d(2)),
        *(modules.Flatten(), modules.Linear(60, 4)),
    )
    for theirs, ours in zip(net.parameters(), model.params.values(), strict=True):
        theirs.data.copy_(torch.from_numpy(ours))
    x = image(2, 2, 9, 10).astype("float32")
    options = {"strides": (2, 2, 3), "baselines": 0.25, "target": 3}
    expected = captum.Occlusion(net).attribute(torch.from_numpy(x), (2, 4, 3), **options).detach().numpy()
    for method in ("full", "incremental"):
        got = explain.Occlusion(model).attribute(x, (2, 4, 3), **options, method=method)
        np.testing.assert_allclose(got, expected, atol=1e-5)


# ---------------------------------------------------------------------------------------------------- the loss recipe


@pytest.mark.parametrize(
    ("shape", "window", "stride"),
    [((1, 8, 8), 4, 2), ((2, 7, 11), (3, 4), (2, 3)), ((1, 6, 6), 6, 6), ((1, 5, 9), (5, 2), (1, 2))],
)
def test_loss_grid_equals_brute_force(shape, window, stride):
    model, x = classifier(shape), image(*shape)
    result = explain.occlusion(
        model, x, target=1, window=window, stride=stride, baseline=0.25, batch_size=3, method="full"
    )
    height, width = np.broadcast_to(window, 2)

    def loss(v):
        logits = model.predict(v[None])[0]
        return np.log(np.exp(logits).sum()) - logits[1]

    total, count = np.zeros(shape[1:]), np.zeros(shape[1:])
    for (i, top), (j, left) in itertools.product(enumerate(result.tops), enumerate(result.lefts)):
        hidden = x.copy()
        hidden[:, top : top + height, left : left + width] = 0.25
        difference = loss(x) - loss(hidden)
        assert result.grid[i, j] == pytest.approx(difference, abs=1e-12)
        assert result.positions[i, j].tolist() == [top, left]
        total[top : top + height, left : left + width] += difference
        count[top : top + height, left : left + width] += 1
    assert count.min() >= 1, "every pixel is covered"
    np.testing.assert_allclose(result.pixel_map, total / count, atol=1e-12)
    assert (result.tops[-1] + height, result.lefts[-1] + width) == shape[1:]
    assert result.loss == pytest.approx(loss(x))
    row, column = np.unravel_index(result.grid.argmin(), result.grid.shape)
    assert result.most_important == (result.tops[row], result.lefts[column], height, width)


def test_batch_size_does_not_change_the_grid():
    model, x = classifier((1, 8, 8)), image(1, 8, 8)
    grids = [explain.occlusion(model, x, window=3, stride=1, batch_size=n).grid for n in (None, 1, 5)]
    np.testing.assert_allclose(grids[1], grids[0], atol=1e-12)
    np.testing.assert_allclose(grids[2], grids[0], atol=1e-12)


def test_the_predicted_class_is_watched_and_the_result_says_whether_it_is_the_true_one():
    model, x = classifier((1, 6, 6)), image(1, 6, 6)
    predicted = int(model.predict(x[None])[0].argmax())
    result = explain.occlusion(model, x[None], window=3, stride=3)
    assert (result.watched, result.predicted, result.label) == (predicted, predicted, None)
    assert result.correct is None
    assert result.explains == f"a prediction of class {predicted}"
    result = explain.occlusion(model, x[None], predicted, window=3, stride=3)
    assert result.correct is True
    assert result.explains == f"a correct prediction of class {predicted}"
    other = (predicted + 1) % 4
    result = explain.occlusion(model, x[None], other, window=3, stride=3)
    assert (result.correct, result.watched) == (False, predicted)
    assert result.explains == f"an incorrect prediction of class {predicted}, true class {other}"


def test_baselines_are_what_they_are_called():
    model = classifier((2, 4, 4))
    x = np.stack([np.linspace(0, 3, 16), np.linspace(1, 7, 16)]).reshape(2, 4, 4)

    def grid(baseline):
        return explain.occlusion(
            model, x, target=0, window=2, stride=2, baseline=baseline, method="full"
        ).grid

    np.testing.assert_array_equal(grid("gray"), grid(3.5))
    np.testing.assert_allclose(grid("mean"), grid(np.array([1.5, 4.0]).reshape(2, 1, 1)), atol=1e-12)
    np.testing.assert_array_equal(grid("zero"), grid(0))
    assert not np.array_equal(grid("zero"), grid("gray"))


def test_an_integer_image_gives_the_float_image_s_result_and_is_not_modified():
    model = classifier((1, 4, 4))
    x = np.random.default_rng(0).integers(0, 9, (1, 4, 4), dtype=np.uint8)
    before = x.copy()
    result = explain.occlusion(model, x, window=2, stride=1)
    np.testing.assert_array_equal(
        result.grid, explain.occlusion(model, x.astype(float), window=2, stride=1).grid
    )
    np.testing.assert_array_equal(x, before)
    assert result.image.dtype == np.uint8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "magic"}, r"method must be one of \('auto', 'full', 'incremental'"),
        ({"window": 7}, "got stride 2, window 7, height 6"),
        ({"window": 2, "stride": 3}, "stride <= window"),
        ({"window": (2, 2, 2)}, "window must be"),
        ({"window": 0}, "window must be"),
        ({"true_label": 4}, r"\[0, 4\), got 4"),
        ({"target": -1}, r"target must lie in \[0, 4\), got -1"),
        ({"baseline": "black"}, "baseline must be one of"),
        ({"baseline": np.zeros((2, 2))}, "baselines must broadcast"),
        ({"memory_limit": 0}, "memory_limit"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_recipe_refuses_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        explain.occlusion(classifier((1, 6, 6)), image(1, 6, 6), **({"window": 3, "stride": 2} | arguments))


def test_recipe_refuses_batches_and_callables():
    with pytest.raises(ValueError, match="one image"):
        explain.occlusion(classifier((1, 6, 6)), image(2, 1, 6, 6))
    with pytest.raises(TypeError, match=r"needs a fastconv.nn.Model"):
        explain.occlusion(lambda v: v, image(1, 6, 6))
