"""Receptive fields: published figures (Araujo, Norris and Sim 2019), joins, and the gradient as a witness."""

from dataclasses import replace
from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from fastconv import explain, nn, ops

# (size, effective stride, effective padding) of named end points


def chain(layers, size=224, channels=3):
    return nn.Sequential(layers, input_shape=(channels, size, size), seed=0)


def row(table, name):
    field = table[name]
    assert len(set(field.size)) == len(set(field.stride)) == len(set(field.padding)) == 1
    assert field.aligned
    assert not field.whole_input
    return field.size[0], field.stride[0], field.padding[0]


def test_alexnet():
    model = chain(
        [
            nn.Conv2d(1, 11, stride=4, name="conv1"),
            nn.MaxPool2d(3, 2, name="pool1"),
            nn.Conv2d(1, 5, padding=2, name="conv2"),
            nn.MaxPool2d(3, 2, name="pool2"),
            nn.Conv2d(1, 3, padding=1, name="conv3"),
            nn.ReLU(),
            nn.Conv2d(1, 3, padding=1, name="conv4"),
            nn.Conv2d(1, 3, padding=1, name="conv5"),
            nn.MaxPool2d(3, 2, name="pool5"),
        ]
    )
    table = explain.receptive_field(model)
    expected = {
        "conv1": (11, 4, 0),
        "pool1": (19, 8, 0),
        "conv2": (51, 8, 16),
        "conv3": (99, 16, 32),
        "relu_1": (99, 16, 32),
        "conv4": (131, 16, 48),
        "conv5": (163, 16, 64),
        "pool5": (195, 32, 64),
    }
    assert {name: row(table, name) for name in expected} == expected


def test_vgg16():
    layers = []
    for block, convs in enumerate((2, 2, 3, 3, 3), start=1):
        layers += [nn.Conv2d(1, 3, padding=1, name=f"conv{block}_{i}") for i in range(1, convs + 1)]
        layers += [nn.MaxPool2d(2, name=f"pool{block}")]
    table = explain.receptive_field(chain(layers))
    expected = {
        "conv1_1": (3, 1, 1),
        "pool1": (6, 2, 2),
        "conv2_1": (10, 2, 4),
        "pool2": (16, 4, 6),
        "conv3_1": (24, 4, 10),
        "conv3_2": (32, 4, 14),
        "pool3": (44, 8, 18),
        "conv4_1": (60, 8, 26),
        "conv4_2": (76, 8, 34),
        "pool4": (100, 16, 42),
        "conv5_1": (132, 16, 58),
        "conv5_2": (164, 16, 74),
        "pool5": (212, 32, 90),
    }
    assert {name: row(table, name) for name in expected} == expected


def bottleneck_resnet(units, *, stride_in, last_unit):
    """ResNet of bottleneck units whose stride sits in the 1x1 or in the 3x3.

    Slim's variant strides the last unit of blocks 1 to 3, the others the first unit of blocks 2 to 4.
    """
    x = nn.Input((1, 224, 224))
    h = nn.MaxPool2d(3, 2, padding=1)(nn.Conv2d(1, 7, stride=2, padding=3)(x))
    for block, count in enumerate(units):
        for unit in range(count):
            strided = (unit == count - 1 and block < 3) if last_unit else (unit == 0 and block > 0)
            first, second = ((2, 1) if stride_in == "1x1" else (1, 2)) if strided else (1, 1)
            short = nn.Conv2d(1, 1, stride=2)(h) if strided else h
            h = nn.Conv2d(1, 1, stride=first)(h)
            h = nn.Conv2d(1, 3, stride=second, padding=1)(h)
            h = nn.Conv2d(1, 1)(h)
            h = nn.ReLU(name=f"block{block + 1}_unit{unit + 1}")(h + short)
    return nn.Model(x, h)


@pytest.mark.parametrize(
    ("variant", "units", "expected"),
    [
        (
            {"stride_in": "3x3", "last_unit": True},
            (3, 4, 6, 3),
            (483, 32, 241),
        ),  # slim, pool padded on both sides
        ({"stride_in": "3x3", "last_unit": True}, (3, 4, 23, 3), (1027, 32, 513)),
        ({"stride_in": "1x1", "last_unit": False}, (3, 4, 6, 3), (483, 32, 241)),  # the paper's
        ({"stride_in": "3x3", "last_unit": False}, (3, 4, 6, 3), (427, 32, 213)),  # torchvision's
        ({"stride_in": "3x3", "last_unit": False}, (3, 4, 23, 3), (971, 32, 485)),
        ({"stride_in": "3x3", "last_unit": False}, (3, 8, 36, 3), (1451, 32, 725)),
    ],
)
def test_resnets_of_bottlenecks(variant, units, expected):
    model = bottleneck_resnet(units, **variant)
    assert row(explain.receptive_field(model), f"block4_unit{units[-1]}") == expected


@pytest.mark.parametrize(
    ("units", "expected"), [((2, 2, 2, 2), (435, 32, 217)), ((3, 4, 6, 3), (899, 32, 449))]
)
def test_basic_resnets(units, expected):
    x = nn.Input((1, 224, 224))
    h = nn.MaxPool2d(3, 2, padding=1)(nn.Conv2d(1, 7, stride=2, padding=3)(x))
    for block, count in enumerate(units):
        for unit in range(count):
            stride = 2 if unit == 0 and block > 0 else 1
            short = nn.Conv2d(1, 1, stride=2)(h) if stride == 2 else h
            h = nn.Conv2d(1, 3, padding=1)(nn.Conv2d(1, 3, stride=stride, padding=1)(h)) + short
    table = explain.receptive_field(nn.Model(x, h))
    assert row(table, table[-1].node) == expected


def test_mobilenet_v1_with_symmetric_padding():
    strides = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
    layers = [nn.Conv2d(1, 3, stride=2, padding=1)]
    for stride in strides:
        layers += [nn.Conv2d(1, 3, stride=stride, padding=1), nn.Conv2d(1, 1)]
    table = explain.receptive_field(chain(layers))
    assert row(table, table[-1].node) == (315, 32, 157)


def same(kernel, stride):
    """TensorFlow's padding of maps whose sides are multiples of the stride."""
    low, high = (kernel - stride) // 2, (kernel - stride + 1) // 2
    return (low, high, low, high)


def test_mobilenet_v1_as_published():
    strides = (2, 1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
    layers = [nn.Conv2d(1, 3, 2, same(3, 2), name="Conv2d_0")]
    for number, stride in enumerate(strides[1:], start=1):
        layers += [nn.Conv2d(1, 3, stride, same(3, stride)), nn.Conv2d(1, 1, name=f"Conv2d_{number}")]
    table = explain.receptive_field(chain(layers))
    sizes = (3, 7, 11, 19, 27, 43, 59, 91, 123, 155, 187, 219, 251, 315)
    assert tuple(row(table, f"Conv2d_{number}")[0] for number in range(14)) == sizes
    expected = {1: (2, 2), 3: (4, 6), 4: (8, 6), 7: (16, 30), 11: (16, 94), 12: (32, 94), 13: (32, 126)}
    assert {number: row(table, f"Conv2d_{number}")[1:] for number in expected} == expected


def test_resnet_v1_50_as_published():
    """Slim's: the last unit of a block strides, and the first pooling pads its far side alone."""
    x = nn.Input((1, 224, 224))
    h = nn.MaxPool2d(3, 2)(nn.Pad(same(3, 2))(nn.Conv2d(1, 7, stride=2, padding=3)(x)))
    for block, count in enumerate((3, 4, 6, 3), start=1):
        for unit in range(1, count + 1):
            stride = 2 if unit == count and block < 4 else 1
            short = nn.MaxPool2d(1, stride)(h) if stride == 2 else h
            inner = nn.Conv2d(1, 3, stride=stride, padding=1)(nn.Conv2d(1, 1)(h))
            h = nn.ReLU(name=f"block{block}/unit_{unit}")(nn.Conv2d(1, 1)(inner) + short)
    table = explain.receptive_field(nn.Model(x, h))
    blocks = {1: (35, 8, 15), 2: (99, 16, 47), 3: (291, 32, 143), 4: (483, 32, 239)}
    last = {1: 3, 2: 4, 3: 6, 4: 3}
    assert {block: row(table, f"block{block}/unit_{last[block]}") for block in blocks} == blocks
    # A unit sees two positions more of those before it, each as far from the next as the stride says.
    size, stride = 11, 4
    for block, count in last.items():
        for unit in range(1, count + 1):
            size += 2 * stride
            stride *= 2 if unit == count and block < 4 else 1
            assert row(table, f"block{block}/unit_{unit}") == (size, stride, (size - 5) // 2), (block, unit)


def inception_v3():
    """Slim's convolutional part, with one channel everywhere (Szegedy et al. 2015, arXiv:1512.00567)."""

    def conv(x, kernel, stride=1, padding="valid", **name):
        return nn.Conv2d(1, kernel, stride=stride, padding=padding, **name)(x)

    def tower(x, *kernels):
        for kernel in kernels:
            x = conv(x, kernel, padding="same")
        return x

    def pooled(x):
        return conv(nn.AvgPool2d(3, 1, padding=1)(x), 1)

    x = nn.Input((1, 299, 299))
    h = conv(x, 3, 2, name="1a")
    h = conv(conv(h, 3, name="2a"), 3, padding="same", name="2b")
    h = conv(nn.MaxPool2d(3, 2, name="3a")(h), 1, name="3b")
    h = nn.MaxPool2d(3, 2, name="5a")(conv(h, 3, name="4a"))
    for name in ("5b", "5c", "5d"):
        h = nn.Concat(name=name)(tower(h, 1), tower(h, 1, 5), tower(h, 1, 3, 3), pooled(h))
    h = nn.Concat(name="6a")(conv(h, 3, 2), conv(tower(h, 1, 3), 3, 2), nn.MaxPool2d(3, 2)(h))
    for name in ("6b", "6c", "6d", "6e"):
        seven = [(1, 7), (7, 1)]
        h = nn.Concat(name=name)(tower(h, 1), tower(h, 1, *seven), tower(h, 1, *seven[::-1] * 2), pooled(h))
    wide = conv(tower(h, 1, (1, 7), (7, 1)), 3, 2)
    h = nn.Concat(name="7a")(conv(tower(h, 1), 3, 2), wide, nn.MaxPool2d(3, 2)(h))
    for name in ("7b", "7c"):
        split = [tower(h, 1, kernel) for kernel in ((1, 3), (3, 1))]
        deeper = [tower(h, 1, 3, kernel) for kernel in ((1, 3), (3, 1))]
        h = nn.Concat(name=name)(tower(h, 1), *split, *deeper, pooled(h))
    return nn.Model(x, h)


def test_inception_v3_as_published():
    table = explain.receptive_field(inception_v3())
    expected = {
        "1a": (3, 2, 0),
        "2a": (7, 2, 0),
        "2b": (11, 2, 2),
        "3a": (15, 4, 2),
        "3b": (15, 4, 2),
        "4a": (23, 4, 2),
        "5a": (31, 8, 2),
        "5b": (63, 8, 18),
        "5c": (95, 8, 34),
        "5d": (127, 8, 50),
        "6a": (159, 16, 58),
        "6b": (351, 16, 154),
        "6c": (543, 16, 250),
        "6d": (735, 16, 346),
        "6e": (927, 16, 442),
        "7a": (1055, 32, 490),
        "7b": (1183, 32, 554),
        "7c": (1311, 32, 618),
    }
    assert {name: row(table, name) for name in expected} == expected


def test_dilation_stretches_the_kernel_and_axes_are_independent():
    model = nn.Sequential(
        [
            nn.Conv2d(1, (3, 5), dilation=(2, 1), padding=(2, 0)),
            nn.MaxPool2d((2, 1), (2, 1)),
            nn.Conv2d(1, 3, dilation=(1, 3)),
        ],
        input_shape=(1, 40, 30),
    )
    field = explain.receptive_field(model)[-1]
    # rows: 5, then 5 + 1 = 6 at stride 2, then 6 + 2*2 = 10; columns: 5, 5, 5 + 2*3 = 11
    assert (field.size, field.stride, field.padding) == ((10, 11), (2, 1), (2, 0))
    assert field.interval((0, 0)) == ((-2, 7), (0, 10))
    assert field.interval((3, 4)) == ((4, 13), (4, 14))


def test_global_layers_see_the_whole_input():
    model = nn.Sequential([nn.Conv2d(2, 3), nn.Flatten(), nn.Linear(5), nn.Softmax()], input_shape=(1, 9, 7))
    table = explain.receptive_field(model)
    assert [field.whole_input for field in table] == [False, True, True, True]
    assert table[-1].size == (9, 7)
    assert table[-1].stride is None
    assert table[-1].interval((0, 0)) == ((0, 8), (0, 6))


def test_branches_with_other_centres_give_their_hull_and_a_flag():
    x = nn.Input((1, 16, 16))
    left = nn.Conv2d(1, 3, padding=((2, 0), (1, 1)))(x)  # sees rows y - 2 .. y
    right = nn.Conv2d(1, 3, padding=((0, 2), (1, 1)))(x)  # sees rows y .. y + 2
    table = explain.receptive_field(nn.Model(x, nn.ReLU()(left + right)))
    field = table["relu_1"]
    assert not field.aligned
    assert (field.size, field.stride, field.padding) == ((5, 3), (1, 1), (2, 1))
    assert table[0].aligned
    (conflict,) = field.misaligned
    assert conflict == (
        "add_1: conv2d_1 (stride 1 x 1, centre -1.0 x 0.0) against conv2d_2 (stride 1 x 1, centre 1.0 x 0.0)"
    )
    assert f"not aligned: {conflict}" in str(table)


def test_branches_with_other_strides_have_no_fixed_field():
    x = nn.Input((1, 16, 16))
    fine = nn.Conv2d(1, 9)(x)  # 8 x 8 by cutting
    coarse = nn.MaxPool2d(2)(x)  # 8 x 8 by striding
    table = explain.receptive_field(nn.Model(x, nn.Conv2d(1, 3)(fine + coarse)))
    field = table[-1]
    assert not field.aligned
    assert field.stride is None
    with pytest.raises(ValueError, match="different strides"):
        field.interval((0, 0))


def test_a_repeated_branch_has_no_fixed_field():
    x = nn.Input((2, 8, 8))
    weights = nn.Conv2d(2, 8)(x)  # one unit that sees everything, without being a global layer
    table = explain.receptive_field(nn.Model(x, nn.Conv2d(2, 3, padding=1)(x) * weights))
    assert table["conv2d_1"].stride == (1, 1)
    assert (table["multiply_1"].stride, table["multiply_1"].size) == (None, (8, 8))
    squeezed = nn.Model(x, x * nn.GlobalAvgPool2d(keepdims=True)(x))
    assert explain.receptive_field(squeezed)["multiply_1"].whole_input


def test_concat_of_inception_branches_takes_the_widest():
    x = nn.Input((1, 20, 20))
    branches = [nn.Conv2d(1, k, padding=k // 2)(x) for k in (1, 3, 5)]
    assert row(explain.receptive_field(nn.Model(x, nn.Concat(name="mixed")(*branches))), "mixed") == (5, 1, 2)


def test_two_inputs_need_a_name_and_unrelated_nodes_are_left_out():
    a, b = nn.Input((1, 8, 8), name="a"), nn.Input((1, 8, 8), name="b")
    p, q = nn.Conv2d(1, 3, padding=1, name="p")(a), nn.Conv2d(1, 5, padding=2, name="q")(b)
    model = nn.Model([a, b], nn.Add(name="sum")(p, q))
    with pytest.raises(ValueError, match="input_name"):
        explain.receptive_field(model)
    with pytest.raises(ValueError, match="got 'c'"):
        explain.receptive_field(model, input_name="c")
    table = explain.receptive_field(model, input_name="b")
    assert [field.node for field in table] == ["q", "sum"]
    assert row(table, "sum") == (5, 1, 2)
    with pytest.raises(KeyError, match="'p'"):
        table["p"]


def test_flat_inputs_have_no_receptive_field():
    with pytest.raises(ValueError, match=r"\(channels, \*spatial\)"):
        explain.receptive_field(nn.Sequential([nn.Linear(2)], input_shape=(7,)))


def test_the_table_prints_every_node():
    text = str(
        explain.receptive_field(
            chain([nn.Conv2d(1, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(2)], size=28)
        )
    )
    nodes = [line.split()[0] for line in text.splitlines()[3:]]
    assert nodes == [
        "conv2d_1",
        "max_pool2d_1",
        "flatten_1",
        "linear_1",
    ]
    assert "4 x 4" in text
    assert "whole input" in text


def positive(model):
    """Make all weights positive, so that no gradient cancels."""
    model.set_weights({name: np.abs(value) + 0.1 for name, value in model.params.items()})
    return model


def seen_by(model, position):
    """Rows and columns of the input where one unit's gradient is not zero, first and last."""
    x = np.zeros((1, *next(iter(model.graph.inputs.values()))), dtype=np.float64)
    one = np.zeros_like(model.predict(x))
    one[(0, slice(None), *position)] = 1
    touched = model.input_gradient(x, one)[0].any(axis=0)
    rows, columns = np.flatnonzero(touched.any(axis=1)), np.flatnonzero(touched.any(axis=0))
    return ((int(rows[0]), int(rows[-1])), (int(columns[0]), int(columns[-1])))


def residual():
    x = nn.Input((1, 41, 37))
    h = nn.Conv2d(2, 3, stride=2, padding=1)(x)
    h = nn.Conv2d(2, 3, padding=1)(h) + h
    h = nn.Concat()(nn.AvgPool2d(3, stride=2, padding=1)(h), nn.Conv2d(2, 1, stride=2)(h))
    return nn.Model(x, nn.Conv2d(1, 3, padding=2, dilation=2)(h), dtype="float64")


def plain():
    layers = [
        nn.Conv2d(2, (5, 3), stride=(2, 1)),
        nn.AvgPool2d(3, stride=2),
        nn.Conv2d(2, 3, dilation=(1, 2), padding=(1, 2)),
    ]
    return nn.Sequential(layers, input_shape=(1, 43, 37), dtype="float64")


def autoencoder():
    x = nn.Input((1, 33, 35))
    h = nn.Conv2d(2, 3, stride=2, padding=1)(x)
    h = nn.ConvTranspose2d(2, 3, stride=2, padding=1)(h)
    return nn.Model(x, nn.Conv2d(1, 3, padding=1)(h + nn.Conv2d(2, 3, padding=1)(x)), dtype="float64")


def sparse_transposed():  # taps that skip, and come out of order
    layers = [nn.ConvTranspose2d(2, 3, stride=3, dilation=2), nn.AvgPool2d((2, 1))]
    return nn.Sequential(layers, input_shape=(1, 9, 8), dtype="float64")


def uneven():
    layers = [nn.Conv2d(2, 3), nn.AdaptiveAvgPool2d((7, 5)), nn.ConvTranspose2d(1, 2, stride=2)]
    return nn.Sequential(layers, input_shape=(1, 20, 19), dtype="float64")


def padded():
    layers = [nn.Pad((2, -3, 0, 1)), nn.Conv2d(1, 3, stride=2), nn.AdaptiveAvgPool2d((None, 4))]
    return nn.Sequential(layers, input_shape=(1, 17, 18), dtype="float64")


@pytest.mark.parametrize("build", [autoencoder, sparse_transposed, uneven, padded])
def test_the_gradient_of_every_inner_unit_reaches_the_computed_interval(build):
    model = positive(build())
    field = explain.receptive_field(model)[-1]
    rows, columns = field.output_shape[1:]
    sizes = []
    for position in product(range(rows // 3, rows - rows // 3), range(columns // 3, columns - columns // 3)):
        interval = field.interval(position)
        assert seen_by(model, position) == interval, position
        sizes.append([last - first + 1 for first, last in interval])
    assert tuple(np.max(sizes, axis=0)) == field.size


def random_chain(seed, length=90):
    """One to four layers whose windows are anything."""
    choose = np.random.default_rng(seed).integers
    x = h = nn.Input((1, length))
    for _ in range(choose(1, 5)):
        stride = int(choose(1, 5))
        pick = choose(6)
        if pick == 0:
            h = nn.Conv1d(1, choose(1, 5), choose(1, 4), choose(3), choose(1, 4))(h)
        elif pick == 1:
            h = nn.ConvTranspose1d(1, choose(1, 5), stride, choose(3), choose(stride), dilation=choose(1, 4))(
                h
            )
        elif pick == 2:
            h = nn.AvgPool1d(choose(1, 4), choose(1, 4))(h)
        elif pick == 3:
            h = nn.AdaptiveAvgPool1d(choose(5, 41))(h)
        elif pick == 4:
            h = nn.Pad(tuple(choose(-3, 4, 2)))(h)
        else:
            h = nn.Conv1d(1, 3, padding=1)(h) + nn.Conv1d(1, 1)(h)
    return nn.Model(x, h, dtype="float64")


@pytest.mark.parametrize("seed", range(40))
def test_random_chains_see_what_the_gradient_says(seed):
    model = positive(random_chain(seed))
    field = explain.receptive_field(model)[-1]
    count = field.output_shape[1]
    seen = model.input_gradient(np.zeros((count, 1, 90)), np.eye(count)[:, None])[:, 0]  # a row for each unit
    for y in range(count):
        touched = np.flatnonzero(seen[y])
        try:
            ((low, high),) = field.interval((y,))
        except ValueError:
            assert not touched.size
            continue
        inner = count // 3 <= y < count - count // 3 and low >= 0 and high < 90
        if inner:
            assert (touched[0], touched[-1]) == (low, high)
        elif touched.size:  # at a border, padding may hide part of the field
            assert low <= touched[0]
            assert touched[-1] <= high


def test_upsampling_halves_the_stride():
    layers = [
        nn.AvgPool2d(2),
        nn.ConvTranspose2d(1, 2, stride=2),
        nn.AvgPool2d(2),
        nn.ConvTranspose2d(1, 2, 4),
    ]
    table = explain.receptive_field(chain(layers, size=16, channels=1))
    pool, up, again, sparse = table
    assert (pool.size, pool.stride, pool.padding) == ((2, 2), (2, 2), (0, 0))
    # two neighbours see the same two pixels: one pixel further for each unit on average, but unlike a window
    assert (up.size, up.stride, up.padding) == ((2, 2), (1, 1), None)
    assert [up.interval((y, 0))[0] for y in range(4)] == [(0, 1), (0, 1), (2, 3), (2, 3)]
    assert (again.size, again.stride, again.padding) == ((2, 2), (2, 2), (0, 0))
    assert sparse.stride == (Fraction(1, 2), Fraction(1, 2))
    assert "1/2 x 1/2" in str(table)
    with pytest.raises(ValueError, match=r"at \(2, 0\) sees no input"):
        sparse.interval((2, 0))


def test_adaptive_pools():
    even = explain.receptive_field(chain([nn.AdaptiveAvgPool2d(4)], size=12))[0]
    assert (even.size, even.stride, even.padding) == ((3, 3), (3, 3), (0, 0))
    uneven = explain.receptive_field(chain([nn.AdaptiveMaxPool2d((3, None))], size=10))[0]
    assert (uneven.size, uneven.stride, uneven.padding) == ((4, 1), (Fraction(10, 3), 1), None)
    assert [uneven.interval((y, 0))[0] for y in range(3)] == [(0, 3), (3, 6), (6, 9)]
    assert explain.receptive_field(chain([nn.AdaptiveAvgPool2d(1)], size=10))[0].whole_input
    assert explain.receptive_field(chain([nn.GlobalMaxPool2d()], size=10))[0].whole_input


@pytest.mark.parametrize("build", [residual, plain])
def test_the_gradient_reaches_exactly_the_computed_interval(build):
    model = positive(build())
    field = explain.receptive_field(model)[-1]
    assert field.aligned
    shape = next(iter(model.graph.inputs.values()))[1:]
    centre = tuple(n // 2 for n in field.output_shape[1:])
    inside = field.interval(centre)
    fits = [low >= 0 and high < n for (low, high), n in zip(inside, shape, strict=True)]
    assert all(fits), "choose a larger input"
    assert seen_by(model, centre) == inside
    corner = field.interval((0, 0))
    assert seen_by(model, (0, 0)) == tuple(
        (max(low, 0), min(high, n - 1)) for (low, high), n in zip(corner, shape, strict=True)
    )


def test_centres_move_with_padding_and_by_strides():
    table = explain.receptive_field(chain([nn.Conv2d(1, 3, padding=1), nn.Conv2d(1, 4, stride=2)], size=16))
    assert [field.centre for field in table] == [(0.0, 0.0), (1.5, 1.5)]
    assert explain.receptive_field(chain([nn.GlobalAvgPool2d()], size=16))[0].centre is None


def test_regions_are_cut_at_the_edges_of_the_image():
    field = explain.receptive_field(chain([nn.Conv2d(1, 5, stride=2, padding=2)], size=9))[0]
    assert field.region((0, 2)) == (slice(0, 3), slice(2, 7))
    assert field.region((4, 4)) == (slice(6, 9), slice(6, 9))
    far = explain.receptive_field(chain([nn.Conv2d(1, 1, padding=3)], size=9))[0]
    with pytest.raises(ValueError, match="sees nothing but padding"):
        far.region((0, 5))


@pytest.mark.parametrize("build", [residual, plain, autoencoder, sparse_transposed, uneven, padded])
def test_units_are_the_reverse_of_intervals(build):
    field = explain.receptive_field(build())[-1]
    height, width = field._input_size
    for pixel in ((0, 0), (height // 2, width // 3), (height - 1, width - 1)):
        rows, columns = field.units(pixel)
        for position in product(range(field.output_shape[1]), range(field.output_shape[2])):
            try:
                interval = field.interval(position)
            except ValueError:
                continue
            if all(low <= at <= high for (low, high), at in zip(interval, pixel, strict=True)):
                assert position[0] in rows
                assert position[1] in columns
    with pytest.raises(ValueError, match="must have 2 indices"):
        field.units((1,))


def test_every_unit_of_a_global_node_sees_a_pixel():
    table = explain.receptive_field(chain([nn.Conv2d(2, 3), nn.GlobalAvgPool2d()], size=9))
    assert table[1].units((4, 4)) == (range(1), range(1))


def test_another_input_size_changes_the_maps_alone():
    model = chain([nn.Conv2d(2, 3, stride=2), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(3)], size=32)
    small, large = explain.receptive_field(model), explain.receptive_field(model, (64, 48))
    assert [field.size for field in small][:2] == [field.size for field in large][:2]
    assert large[1].output_shape == (2, 15, 11)
    assert large[-1].size == (64, 48)
    with pytest.raises(ValueError, match="input_size 2 x 2 does not fit the net"):
        explain.receptive_field(model, 2)
    with pytest.raises(ValueError, match="input_size"):
        explain.receptive_field(model, (3, 4, 5))


@pytest.mark.parametrize("build", [residual, plain, autoencoder, sparse_transposed, uneven, padded])
def test_gradients_verify_the_arithmetic(build):
    table = explain.receptive_field(build(), verify=True)
    assert table.verified == dict.fromkeys((field.node for field in table), "exact")
    assert explain.receptive_field(build()).verified == {}


def test_nodes_that_see_more_than_the_input_are_verified_in_a_larger_one():
    layers = [
        nn.Conv2d(3, 3, padding=1),
        nn.MaxPool2d(3, 2, padding=1, ceil_mode=True),
        nn.Conv2d(4, 9, padding=4),
    ]
    model = chain([*layers, nn.BatchNorm2d(), nn.Sigmoid(), nn.Flatten(), nn.Linear(2)], size=16)
    names = [node.name for node in model.graph.nodes[:5]]
    assert explain.receptive_field(model, verify=True).verified == dict(
        zip(names, ["exact"] * 2 + ["inside"] * 3, strict=True)
    )
    assert explain.receptive_field(model, 64, verify=True).verified == dict.fromkeys(names, "exact")


def test_deep_nets_are_verified():
    model = bottleneck_resnet((3, 4, 6, 3), stride_in="3x3", last_unit=True)
    table = explain.receptive_field(model, verify=True)
    assert set(table.verified) == {field.node for field in table}
    assert sum(status == "exact" for status in table.verified.values()) > len(table) // 2


@pytest.mark.parametrize("change", [1, -1])
def test_an_op_that_misreports_its_window_is_found_out(change, monkeypatch):
    honest = ops.Conv.window

    def dishonest(self, *shapes):
        window = honest(self, *shapes)
        return replace(window, kernel=tuple(k + change for k in window.kernel))

    model = chain([nn.Conv2d(1, 3, padding=1), nn.Conv2d(1, 3)], size=16)
    monkeypatch.setattr(ops.Conv, "window", dishonest)
    with pytest.raises(ArithmeticError, match=r"should see .* but its gradient reaches"):
        explain.receptive_field(model, verify=True)
