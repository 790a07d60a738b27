"""Pictures: right data in the right scale, no global state."""

import io

import numpy as np
import pytest

from fastconv import explain, nn, plot
from fastconv.explain import Curve
from fastconv.nn.diagnosis import Finding
from fastconv.plot import training
from fastconv.plot._canvas import ONE_SIGNED, SIGNED
from kit import run_python

pytest.importorskip("matplotlib")


def image(*shape, seed=0):
    return np.random.default_rng(seed).uniform(0, 1, shape)


def png(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def maps_of(figure):
    """All pictures in a figure: colour bars have none."""
    return [axes.images[0] for axes in figure.axes if axes.images]


@pytest.fixture(scope="module")
def result():
    model = nn.Sequential([nn.Flatten(), nn.Linear(3)], input_shape=(1, 10, 12), seed=0)
    model.compile()
    return explain.occlusion(model, image(1, 10, 12), true_label=1, window=(4, 6), stride=(3, 2))


def test_signed_maps_are_centred_at_zero_and_others_start_at_it():
    (signed,) = maps_of(plot.filters(image(4, 1, 3, 3) - 0.8))
    low, high = signed.get_clim()
    assert low == -high
    assert high == pytest.approx(0.8, abs=0.1)
    assert signed.get_cmap().name == SIGNED
    (counts,) = maps_of(plot.feature_maps(1 + image(4, 3, 3)))
    assert counts.get_clim()[0] == 0
    assert counts.get_cmap().name == ONE_SIGNED


def test_tiles_hold_every_map_in_reading_order():
    maps = np.arange(1.0, 10)[:, None, None] * np.ones((1, 2, 3))
    (shown,) = maps_of(plot.feature_maps(maps))
    canvas = np.ma.filled(shown.get_array(), np.nan)
    assert canvas.shape == (5, 8 * 4 - 1)
    np.testing.assert_array_equal(canvas[0:2, 4:7], maps[1])
    np.testing.assert_array_equal(canvas[3:5, 0:3], maps[8])
    assert np.isnan(canvas[2]).all()


def test_filters_of_many_channels_make_a_matrix_with_numbered_axes():
    weight = image(5, 3, 2, 2)
    figure = plot.filters(weight)
    canvas = np.ma.filled(maps_of(figure)[0].get_array(), np.nan)
    np.testing.assert_array_equal(canvas[6:8, 3:5], weight[2, 1])
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == list("01234")
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("input channel", "filter")


def test_large_layers_are_cut_and_the_title_says_so():
    assert "first 64 of 70, channels 16 of 20" in plot.filters(image(70, 20, 1, 1)).axes[0].get_title()
    assert "first 64 of 70" in plot.feature_maps(image(70, 2, 2)).axes[0].get_title()


def test_occlusion_shows_image_grid_and_pixel_map_on_one_scale(result):
    figure = plot.occlusion(result, class_names=["cat", "dog", "owl"])
    shown, grid, pixels = maps_of(figure)
    np.testing.assert_allclose(shown.get_array(), result.image[0])
    np.testing.assert_allclose(grid.get_array(), result.grid)
    np.testing.assert_allclose(pixels.get_array(), result.pixel_map)
    assert grid.get_clim() == pixels.get_clim()
    assert "incorrect prediction of cat" in figure.get_suptitle()
    box = figure.axes[0].patches[0]
    top, left, height, width = result.most_important
    assert (box.get_xy(), box.get_width(), box.get_height()) == ((left - 0.5, top - 0.5), width, height)
    ticks = [int(label.get_text()) for label in figure.axes[1].get_yticklabels()]
    assert ticks == result.tops.tolist()


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_saliency_shows_image_and_map(channels):
    values = image(6, 7, seed=1)
    figure = plot.saliency(image(channels, 6, 7), values)
    shown, heat = maps_of(figure)
    assert shown.get_array().shape == ((6, 7, 3) if channels == 3 else (6, 7))
    np.testing.assert_allclose(heat.get_array(), values)


def test_training_curves_have_a_panel_per_quantity_and_mark_the_best_epoch():
    history = {
        "loss": [3, 2, 1.0],
        "accuracy": [0.1, 0.5, 0.4],
        "val_loss": [2, 0.5, 0.7],
        "val_accuracy": [0.2, 0.3, 0.9],
    }
    figure = plot.training_curves(history)
    loss, accuracy = figure.axes
    assert [axes.get_title() for axes in figure.axes] == ["loss", "accuracy"]
    np.testing.assert_array_equal(loss.lines[0].get_xydata(), [[1, 3], [2, 2], [3, 1]])
    assert loss.lines[2].get_xydata().tolist() == [[2, 0.5]]
    assert accuracy.lines[2].get_xydata().tolist() == [[3, 0.9]]
    with pytest.raises(ValueError, match="no epochs"):
        plot.training_curves({})


def test_flat_data_can_be_drawn(result):
    for figure in (
        plot.filters(np.zeros((2, 1, 3, 3))),
        plot.saliency(np.zeros((1, 4, 4)), np.zeros((4, 4))),
    ):
        assert png(figure).startswith(b"\x89PNG")


def test_every_picture_can_be_saved_without_pyplot(result):
    code = """
import sys, io, numpy as np
from fastconv import plot
figure = plot.saliency(np.zeros((3, 4, 4)), -np.ones((4, 4)))
figure.savefig(io.BytesIO())
assert "matplotlib.pyplot" not in sys.modules, "global state"
"""
    run_python("-c", code)
    assert png(plot.occlusion(result)).startswith(b"\x89PNG")
    assert png(plot.filters(image(3, 2, 3, 3))).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plot.filters(np.zeros((3, 3))), r"weight must be .* \(K, C, kh, kw\), got shape \(3, 3\)"),
        (lambda: plot.feature_maps(np.zeros((0, 3, 3))), "maps must be a non-empty"),
        (lambda: plot.saliency(np.zeros((4, 4)), np.zeros((4, 4))), "image must be"),
        (lambda: plot.saliency(np.zeros((1, 4, 4)), np.zeros((1, 4, 4))), "values must be"),
    ],
)
def test_wrong_shapes_are_refused(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()


def bench_row(name, ratio, threads=1, flop=2e9):
    row = {"name": name, "pass": "forward", "threads": threads, "ratio": ratio}
    return row | {"flop": flop, "bytes": 1e8, "rate": 50.0}


def test_benchmark_bars_show_losses_in_another_colour():
    rows = [bench_row("a", 2.0), bench_row("b", 0.5), bench_row("c", None), bench_row("b", 4.0, threads=2)]
    figure = plot.benchmark_ratios(rows)
    one, two = figure.axes
    assert one.get_title() == "1 thread: 1 of 2 lost"
    assert two.get_title() == "2 threads: 0 of 1 lost"
    assert [label.get_text() for label in one.get_yticklabels()] == ["a, forward", "b, forward"]
    win, loss = one.patches
    assert (win.get_x(), win.get_width()) == (1, 1)
    assert (loss.get_x(), loss.get_width()) == (1, -0.5)
    assert win.get_facecolor() != loss.get_facecolor()
    (bar,) = two.patches
    assert bar.get_y() + bar.get_height() / 2 == pytest.approx(1), "in the row of its name"
    assert png(figure)
    with pytest.raises(ValueError, match="alone"):
        plot.benchmark_ratios([bench_row("c", None)])


def test_roofline_has_a_dot_per_pass_below_two_roofs():
    rows = [bench_row("a", None), bench_row("b", 2.0), bench_row("pool", 2.0, flop=0)]
    figure = plot.roofline(rows, peak=1e11, bandwidth=1e10)
    dots, roof = figure.axes[0].lines
    np.testing.assert_allclose(dots.get_xydata(), [[20, 50], [20, 50]])
    intensity, rate = roof.get_xdata(), roof.get_ydata()
    np.testing.assert_allclose(rate, np.minimum(100, 10 * intensity))
    assert figure.axes[0].get_xscale() == figure.axes[0].get_yscale() == "log"
    assert png(figure)
    with pytest.raises(ValueError, match="operations"):
        plot.roofline([bench_row("pool", 2.0, flop=0)], 1e11, 1e10)


@pytest.fixture(scope="module")
def snapshots():
    """Of a net that learns for eight batches."""
    model = nn.Sequential(
        [nn.Flatten(), nn.Linear(4), nn.ReLU(), nn.Linear(2)], input_shape=(1, 4, 4), seed=0
    )
    model.compile("sgd")
    diagnose = nn.callbacks.Diagnose(every=2)
    model.fit(image(64, 1, 4, 4), np.arange(64) % 2, 8, 1, callbacks=[diagnose], verbose=0)
    return diagnose.snapshots


def test_ridges_are_one_for_each_snapshot_the_newest_in_front(snapshots):
    axes = plot.distributions(snapshots, "parameters", "linear_1.weight")
    feet = [each.get_paths()[0].vertices[:, 1].min() for each in axes.collections]
    assert feet == [0, -2, -4, -6]
    assert [line.get_zorder() for line in axes.lines] == [0, 1, 2, 3]
    weights = snapshots[-1].parameters["linear_1.weight"]
    low, high = axes.lines[0].get_xdata()[[0, -1]]
    assert (low, high) == pytest.approx((weights.minimum, weights.maximum), abs=0.05)
    assert axes.get_xlabel() == "parameters of linear_1.weight"
    assert axes.yaxis.get_major_formatter()(-4, None) == "4"
    assert png(axes.figure)


def test_ridges_hold_all_elements(snapshots):
    values = snapshots[0].activations["linear_1"]
    grid = np.linspace(values.minimum, values.maximum, 50)
    shares = training.density(values, grid)
    assert shares.sum() == pytest.approx(1)
    assert (shares >= 0).all()


def test_bands_are_percentiles_over_the_batches(snapshots):
    axes = plot.distributions(snapshots, "activations", "linear_1", "bands", title="Mine")
    (median,) = axes.lines
    expected = [[s.step, s.activations["linear_1"].quantile(0.5)] for s in snapshots]
    np.testing.assert_allclose(median.get_xydata(), expected)
    outermost = axes.collections[0].get_paths()[0].vertices[:, 1]
    series = [s.activations["linear_1"] for s in snapshots]
    assert outermost.min() == pytest.approx(min(each.minimum for each in series))
    assert outermost.max() == pytest.approx(max(each.maximum for each in series))
    assert (axes.get_xlabel(), axes.get_title()) == ("batch", "Mine")


def test_gradient_flow_goes_from_the_first_layer_to_the_last(snapshots):
    axes = plot.gradient_flow(snapshots)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["linear_1", "relu_1", "linear_2"]
    first, last = axes.lines
    np.testing.assert_allclose(
        first.get_ydata(), [snapshots[0].output_gradients[n].norm for n in ("linear_1", "relu_1", "linear_2")]
    )
    assert [first.get_label(), last.get_label()] == ["batch 0", "batch 6"]
    assert first.get_marker() != last.get_marker(), "told apart without colours"
    assert axes.get_yscale() == "log"
    assert png(axes.figure)
    assert len(plot.gradient_flow(snapshots[:1]).lines) == 1


def test_findings_are_rows_of_a_table():
    found = [Finding("saturation", "tanh_1", "60 % " * 20, "Use ReLU", 0.6, 0.5)]
    found.append(Finding("overfitting", None, "it rises", "Stop early", 0.3, 0.1))
    axes = plot.findings(found)
    cells = {place: cell.get_text().get_text() for place, cell in axes.tables[0].get_celld().items()}
    assert [cells[0, k] for k in range(4)] == ["fault", "layer", "evidence", "advice"]
    assert cells[1, 2].split() == found[0].evidence.split()
    assert cells[1, 2].count("\n") > 1
    assert [cells[2, k] for k in range(4)] == ["overfitting", "the net", "it rises", "Stop early"]
    assert png(axes.figure)
    assert plot.findings([]).texts[0].get_text() == "no fault found"


def test_pictures_of_training_are_drawn_where_they_are_told(snapshots):
    from matplotlib.figure import Figure

    left, middle, right = Figure().subplots(1, 3)
    assert plot.distributions(snapshots, "updates", "linear_1.bias", ax=left) is left
    assert plot.gradient_flow(snapshots, ax=middle) is middle
    assert plot.findings([], ax=right) is right
    assert png(left.figure)


def test_distributions_that_are_not_there_are_refused(snapshots):
    with pytest.raises(ValueError, match=r"style must be 'ridges' or 'bands', got 'box'"):
        plot.distributions(snapshots, "activations", "relu_1", "box")
    with pytest.raises(ValueError, match=r"table must be one of .*got 'weights'"):
        plot.distributions(snapshots, "weights", "relu_1")
    with pytest.raises(ValueError, match=r"'nothing' among its gradients, which are \['linear_1\.bias', "):
        plot.distributions(snapshots, "gradients", "nothing")
    with pytest.raises(ValueError, match="no gradients"):
        plot.gradient_flow([])


def two_headed():
    image, age = nn.Input((3, 8, 8), name="image"), nn.Input((5,), name="age")
    h = nn.ReLU()(nn.BatchNorm2d()(nn.Conv2d(4, 3, stride=2, padding=1)(image)))
    h = nn.ReLU()(nn.Conv2d(4, (3, 1), padding=(1, 0))(h) + h)
    mask = nn.Sigmoid()(nn.ConvTranspose2d(1, 2, stride=2, name="mask")(h))
    joined = nn.Concat()(nn.GlobalAvgPool2d()(h), nn.Tanh()(age))
    return nn.Model([image, age], [nn.Linear(2, name="classes")(joined), mask])


def test_network_boxes_hold_a_layer_and_the_pointwise_ones_after_it():
    ax = plot.network(two_headed())
    texts = sorted(text.get_text() for text in ax.texts)
    assert texts == sorted(
        [
            "image\n3 x 8 x 8",
            "age\n5",
            "conv2d_1: 3 x 3, stride 2\nbatch_norm_1\nrelu_1\n4 x 4 x 4",
            "conv2d_2: 3 x 1\n4 x 4 x 4",
            "add_1\nrelu_2\n4 x 4 x 4",
            "mask: 2 x 2, stride 2\nsigmoid_1\n1 x 8 x 8",
            "global_avg_pool_1\n4",
            "tanh_1\n5",
            "concat_1\n9",
            "classes\n2",
        ]
    )
    arrows = [patch for patch in ax.patches if type(patch).__name__ == "FancyArrowPatch"]
    assert len(arrows) == 10
    colors = {
        text: patch.get_facecolor() for text, patch in zip(ax.texts, ax.patches[len(arrows) :], strict=True)
    }
    assert len(set(colors.values())) == 5
    assert png(ax.figure).startswith(b"\x89PNG")


def test_network_draws_into_given_axes():
    from matplotlib.figure import Figure

    figure = Figure()
    left, right = figure.subplots(1, 2)
    graph = two_headed().graph
    assert plot.network(graph, right) is right
    assert not left.texts
    alone = plot.network(graph)
    assert right.texts[0].get_fontsize() < alone.texts[0].get_fontsize()
    assert right.get_xlim() == alone.get_xlim()
    assert png(figure).startswith(b"\x89PNG")


def test_overlays_let_the_image_through_where_nothing_is_attributed():
    picture, values = image(3, 20, 30), np.zeros((20, 30))
    values[5:15, 10:20] = np.linspace(-1, 1, 100).reshape(10, 10)
    ax = plot.overlay(picture, values, "score", opacity=0.5)
    below, above = ax.get_images()
    assert below.get_array().shape == (20, 30)
    opacity = above.get_alpha()
    assert not opacity[values == 0].any()
    assert opacity.max() == pytest.approx(0.5)
    low, high = above.get_clim()
    assert low == -high
    assert np.mean(np.abs(values) > high) <= 0.005
    assert above.colorbar.ax.get_ylabel() == "score"
    with pytest.raises(ValueError, match="of one size"):
        plot.overlay(picture, values[1:], "score")
    with pytest.raises(ValueError, match=r"opacity must lie in \(0, 1\], got 0"):
        plot.overlay(picture, values, opacity=0)


def test_boxes_show_what_the_middle_units_see():
    layers = [nn.Conv2d(2, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(2, 3), nn.GlobalAvgPool2d()]
    table = explain.receptive_field(nn.Sequential(layers, input_shape=(3, 20, 30), seed=0))
    ax = plot.receptive_fields(image(3, 20, 30), table)
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == [
        "conv2d_1: 3 x 3 pixels",
        "max_pool2d_1: 4 x 4 pixels",
        "conv2d_2: 8 x 8 pixels",
    ]
    assert [(box.get_height(), box.get_width()) for box in ax.patches] == [(3, 3), (4, 4), (8, 8)]
    rows, columns = table["conv2d_2"].region((4, 6))
    assert ax.patches[-1].get_xy() == (columns.start - 0.5, rows.start - 0.5)
    (figure,) = {ax.figure, plot.receptive_fields(image(3, 20, 30), table, ["relu_1"], ax=ax).figure}
    assert figure is ax.figure
    with pytest.raises(ValueError, match="size of the net's input"):
        plot.receptive_fields(image(3, 20, 20), table)


def test_effective_fields_lie_in_the_box_of_the_theoretical_ones():
    model = nn.Sequential(
        [nn.Conv2d(2, 5, padding=2), nn.Conv2d(1, 5, padding=2)], input_shape=(1, 21, 21), seed=0
    )
    field = explain.effective_receptive_field(model)
    ax = plot.effective_field(field)
    (box,) = ax.patches
    assert (box.get_xy(), box.get_width(), box.get_height()) == ((5.5, 5.5), 9, 9)
    np.testing.assert_array_equal(ax.get_images()[0].get_array(), field.map)
    assert f"{field.share:.0%}" in ax.get_title()


def test_curves_of_deletion_name_their_areas():
    shares = np.linspace(0, 1, 5)
    curves = {
        "good": Curve(shares=shares, scores=(1 - shares) ** 2),
        "bad": Curve(shares=shares, scores=1 - shares),
    }
    ax = plot.importance_curves(curves)
    good, bad = ax.get_lines()
    np.testing.assert_allclose(good.get_xdata(), 100 * shares)
    np.testing.assert_allclose(bad.get_ydata(), 1 - shares)
    assert good.get_linestyle() != bad.get_linestyle()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["good: area 0.344", "bad: area 0.5"]
    assert plot.importance_curves({}, ax=ax) is ax


def test_the_error_of_linearisation_is_drawn_beside_the_second_order():
    steps = 0.5 ** np.arange(6)
    error = explain.LinearizationError(steps=steps, scores=3 * steps**2, predictions=np.zeros(6))
    ax = plot.linearization_error(error)
    measured, second = ax.get_lines()
    np.testing.assert_allclose(measured.get_ydata(), second.get_ydata())
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert "order 2.00" in measured.get_label()
    exact = explain.LinearizationError(steps=steps, scores=steps, predictions=steps)
    assert "no error" in plot.linearization_error(exact).get_lines()[0].get_label()
