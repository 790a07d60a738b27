"""The table of a net's layers."""

import pytest

from fastconv import nn


def small():
    layers = [
        nn.Conv2d(4, 3, padding=1),
        nn.BatchNorm2d(),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.25),
        nn.Flatten(),
        nn.Linear(3),
    ]
    return nn.Sequential(layers, input_shape=(1, 8, 8))


def test_the_table():
    text = small().summary(batch_size=10)
    assert text.splitlines() == [
        "layer         kind        input shape   output shape  kernel  parameters   MACs  receptive field",
        "------------------------------------------------------------------------------------------------",
        "input         input                     (N, 1, 8, 8)",
        "conv2d_1      conv2d      (N, 1, 8, 8)  (N, 4, 8, 8)  3 x 3           40  2,304  3 x 3",
        "batch_norm_1  batch_norm  (N, 4, 8, 8)  (N, 4, 8, 8)                  16      0  3 x 3",
        "relu_1        relu        (N, 4, 8, 8)  (N, 4, 8, 8)                   0      0  3 x 3",
        "max_pool2d_1  max_pool2d  (N, 4, 8, 8)  (N, 4, 4, 4)  2 x 2            0      0  4 x 4",
        "dropout_1     dropout     (N, 4, 4, 4)  (N, 4, 4, 4)                   0      0  4 x 4",
        "flatten_1     flatten     (N, 4, 4, 4)  (N, 64)                        0      0  whole input",
        "linear_1      linear      (N, 64)       (N, 3)                       195    192  whole input",
        "------------------------------------------------------------------------------------------------",
        "parameters: 251 (243 trainable, 8 running statistics)",
        "MACs per sample: 2,496",
        "memory for a batch of 10: parameters 0.00 MiB, outputs of all layers 0.04 MiB",
        "  inference 0.02 MiB, training up to 0.06 MiB and the optimizer's state",
    ]
    assert repr(text) == str(text)


def test_rows_and_totals_are_data():
    summary = small().summary(batch_size=10)
    conv = summary.rows[1]
    assert (conv.layer, conv.kind, conv.kernel, conv.parameters, conv.macs) == (
        "conv2d_1",
        "conv2d",
        (3, 3),
        40,
        2304,
    )
    assert (conv.input_shapes, conv.output_shape) == (((1, 8, 8),), (4, 8, 8))
    totals = summary.totals
    outputs = 3 * 256 + 3 * 64 + 3  # elements of one sample
    assert totals.parameter_bytes == 4 * 251
    assert totals.activation_bytes == 4 * 10 * outputs
    assert totals.inference_bytes == 4 * (251 + 10 * 2 * 256)  # an activation has its input beside it
    assert totals.training_bytes == 4 * (251 + 243 + 10 * (64 + outputs + 2 * 256))
    # for one sample and in float64
    double = nn.Sequential([nn.ReLU()], input_shape=(5,), dtype="float64").summary().totals
    assert (double.batch_size, double.activation_bytes) == (1, 40)


def test_inference_memory_is_that_of_the_values_alive_at_once():
    x = nn.Input((10,))
    wide = nn.Linear(100, name="wide")(x)
    joined = nn.Concat()(nn.ReLU()(nn.Linear(30)(wide)), x)  # x must wait for it
    totals = nn.Model(x, nn.Linear(2)(joined)).summary(batch_size=7).totals
    assert totals.inference_bytes - totals.parameter_bytes == 4 * 7 * (10 + 100 + 30)


def test_shared_parameters_count_once():
    x = nn.Input((4,))
    layer = nn.Linear(4)
    summary = nn.Model(x, layer(layer(x))).summary()
    assert [row.parameters for row in summary.rows] == [0, 20, 0]
    assert "parameters: 20 (20 trainable, 0 running statistics)" in summary
    assert "MACs per sample: 32" in summary


def test_frozen_parameters_are_told_apart():
    model = nn.Sequential([nn.Linear(4, trainable=False), nn.Linear(2)], input_shape=(3,))
    assert "parameters: 26 (10 trainable, 0 running statistics, 16 frozen)" in model.summary()


def test_several_inputs():
    a, b, flat = nn.Input((2, 4, 4)), nn.Input((3, 4, 4)), nn.Input((5,))
    image = nn.Add()(nn.Conv2d(2, 1)(nn.Concat()(a, b)), a)
    text = nn.Model([a, b, flat], nn.Concat()(nn.Flatten()(image), flat)).summary()
    assert "(N, 2, 4, 4) + (N, 3, 4, 4)" in text
    assert "2 x (N, 2, 4, 4)" in text
    assert {row.field for row in text.rows} == {None}  # of which input?

    model = nn.Model([a, flat], nn.Concat()(nn.Flatten()(nn.Conv2d(2, 3)(a)), nn.Linear(3)(flat)))
    fields = {row.layer: row.field for row in model.summary().rows}
    assert fields["conv2d_1"].size == (3, 3)
    assert fields["linear_1"] is None


@pytest.mark.parametrize("batch_size", [0, 1.5])
def test_the_batch_size_is_checked(batch_size):
    with pytest.raises((ValueError, TypeError), match="batch_size must be"):
        small().summary(batch_size)
