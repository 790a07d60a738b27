import gc
import weakref
from dataclasses import dataclass

import numpy as np
import pytest

from fastconv import nn, ops
from fastconv.graph import Graph, Node, forward


def chain(*pairs, shape):
    """A graph of (name, op) one after the other; parameters named after the node."""
    nodes, source, current = [], "x", shape
    for name, op in pairs:
        nodes.append(Node(name, op, (source,), tuple(f"{name}.{key}" for key in op.param_shapes(current))))
        source, current = name, op.infer_shape(current)
    return Graph({"x": shape}, tuple(nodes), (source,))


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (nn.Conv2d(5, 3), (2, 8, 9), (5, 6, 7)),
        (nn.Conv2d(5, 3, padding=1), (2, 8, 9), (5, 8, 9)),
        (nn.Conv2d(5, (3, 4), padding="same", dilation=2), (2, 8, 9), (5, 8, 9)),
        (nn.Conv2d(6, 3, stride=2, groups=2), (4, 8, 9), (6, 3, 4)),
        (nn.Conv2d(5, 2, padding=(1, 0, 2, 0)), (2, 8, 9), (5, 8, 10)),
        (nn.Conv1d(5, 3, stride=2), (2, 9), (5, 4)),
        (nn.MaxPool2d(2), (3, 7, 8), (3, 3, 4)),
        (nn.MaxPool2d(3, 2, 1, ceil_mode=True), (3, 8, 8), (3, 5, 5)),
        (nn.AvgPool2d((2, 3)), (3, 7, 8), (3, 3, 2)),
        (nn.GlobalAvgPool2d(), (3, 7, 8), (3,)),
        (nn.GlobalAvgPool2d(keepdims=True), (3, 7, 8), (3, 1, 1)),
        (nn.Flatten(), (3, 7, 8), (168,)),
        (nn.Reshape((7, 24)), (3, 7, 8), (7, 24)),
        (nn.Linear(4), (9,), (4,)),
        (nn.BatchNorm2d(), (3, 7, 8), (3, 7, 8)),
        (nn.Dropout2d(0.5), (3, 7, 8), (3, 7, 8)),
        (nn.Softmax(), (3, 7, 8), (3, 7, 8)),
    ],
)
def test_inferred_shape_is_the_shape_of_the_result(layer, shape, expected):
    x = nn.Input(shape)
    y = layer(x)
    assert y.shape == expected
    model = nn.Model(x, y)
    out = model.predict(np.random.default_rng(0).random((3, *shape), np.float32))
    assert out.shape == (3, *expected)
    assert {k: v.shape for k, v in model.params.items()} == model.graph.param_shapes


def test_join_shapes():
    a, b = nn.Input((2, 4, 4)), nn.Input((3, 4, 4))
    assert nn.Concat()(a, b).shape == (5, 4, 4)
    assert (a + a).shape == (2, 4, 4)
    with pytest.raises(ValueError, match="channels only"):
        nn.Concat()(a, nn.Input((2, 4, 5)))
    with pytest.raises(ValueError, match=r"one shape, got \[\(2, 4, 4\), \(3, 4, 4\)\]"):
        nn.Add(name="join")(a, b)


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (nn.Conv2d(4, 3, name="stem"), (28, 28), r"'stem'.*\(C, H, W\).*\(28, 28\)"),
        (nn.Conv2d(4, 5), (1, 3, 9), "effective kernel"),
        (nn.Conv2d(4, 3, groups=2), (3, 8, 8), "multiple of groups, got 3 and groups 2"),
        (nn.Linear(4), (1, 8, 8), r"flat features.*\(1, 8, 8\).*Flatten"),
        (nn.MaxPool2d(9), (1, 8, 8), "effective window"),
        (nn.GlobalAvgPool(), (8,), "spatial dimensions"),
        (nn.Dropout2d(), (8,), "spatial dimensions"),
        (nn.Reshape((5,)), (2, 3), "number of elements"),
    ],
)
def test_shape_errors_say_what_and_where(layer, shape, message):
    with pytest.raises(ValueError, match=message):
        layer(nn.Input(shape))


def test_sequential_error_names_the_layer_number():
    with pytest.raises(ValueError, match="layer 2 of 2: <Linear 'head'>"):
        nn.Sequential([nn.ReLU(), nn.Linear(3, name="head")], input_shape=(1, 4, 4))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Conv2d(0, 3), "out_channels"),
        (lambda: nn.Conv2d(4, 0), "kernel_size must be >= 1"),
        (lambda: nn.Conv2d(4, 3, stride=2, padding="same"), "stride 1"),
        (lambda: nn.Conv2d(5, 3, groups=2), "multiple of groups"),
        (lambda: nn.Linear(0), "out_features"),
        (lambda: nn.Dropout(1.5), "between 0 and 1"),
        (lambda: nn.LeakyReLU(0.0), "slope > 0"),
        (lambda: nn.Conv2d(4, 3, weight_initializer="magic"), "initializer"),
    ],
)
def test_layers_refuse_bad_arguments_at_once(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_graph_checks_names():
    relu = ops.Activation(function="relu")
    with pytest.raises(ValueError, match="'b' uses 'c'"):
        Graph({"x": (2,)}, (Node("b", relu, ("c",)), Node("c", relu, ("x",))), ("b",))
    with pytest.raises(ValueError, match="unique, got 'x' twice"):
        Graph({"x": (2,)}, (Node("x", relu, ("x",)),), ("x",))
    with pytest.raises(ValueError, match="output 'y'"):
        Graph({"x": (2,)}, (Node("b", relu, ("x",)),), ("y",))
    with pytest.raises(ValueError, match="at least one output"):
        Graph({"x": (2,)}, (), ())


def test_graph_checks_shapes_and_shared_parameters():
    linear = ops.Linear(out_features=3, bias=False)
    with pytest.raises(ValueError, match=r"layer 'b'.*Flatten"):
        Graph({"x": (2, 3)}, (Node("b", linear, ("x",), ("w",)),), ("b",))
    with pytest.raises(ValueError, match=r"'w' is shared by uses that need shapes \(3, 2\) and \(3, 3\)"):
        Graph({"x": (2,)}, (Node("a", linear, ("x",), ("w",)), Node("b", linear, ("a",), ("w",))), ("b",))
    with pytest.raises(ValueError, match=r"parameters \['weight'\]"):
        Graph({"x": (2,)}, (Node("a", linear, ("x",), ()),), ("a",))


def test_node_lookup_lists_the_names():
    graph = chain(("a", ops.Reshape()), shape=(2, 3))
    assert graph.node("a").op == ops.Reshape()
    with pytest.raises(KeyError, match="no node 'b'; the nodes are a"):
        graph.node("b")


@dataclass(frozen=True, kw_only=True)
class Spy(ops.Op):
    """Adds one; notes which earlier results still exist when it runs."""

    log: list
    kind = "spy"

    def infer_shape(self, *input_shapes):
        return input_shapes[0]

    def forward(self, inputs, params, context):
        gc.collect()
        alive = [reference() is not None for reference, _ in self.log]
        out = sum(inputs) + 1
        self.log.append((weakref.ref(out), alive))
        return out, None


def test_forward_frees_values_after_their_last_use():
    log = []
    spy = Spy(log=log)
    nodes = (
        Node("a", spy, ("x",)),
        Node("b", spy, ("a",)),
        Node("c", spy, ("b",)),
        Node("d", spy, ("a", "c")),
        Node("e", spy, ("d",)),
    )
    graph = Graph({"x": (2,)}, nodes, ("e",))
    out = forward(graph, {}, {"x": np.zeros((3, 2))})
    assert list(out) == ["e"]
    # when e runs, d is in use, and a (kept for d), b and c are gone
    assert [alive for _, alive in log] == [
        [],
        [True],
        [True, True],
        [True, False, True],
        [False, False, False, True],
    ]


def test_kept_values_are_returned():
    log = []
    nodes = (Node("a", Spy(log=log), ("x",)), Node("b", Spy(log=log), ("a",)))
    x = np.zeros((3, 2))
    out = forward(Graph({"x": (2,)}, nodes, ("b",)), {}, {"x": x}, keep=["a", "x"])
    assert sorted(out) == ["a", "b", "x"]
    assert out["x"] is x
    np.testing.assert_array_equal(out["a"], 1)


def test_ops_survive_a_round_trip_through_plain_values():
    import json

    for layer in (
        nn.Conv2d(4, (3, 5), padding=(1, 0, 2, 0), dilation=2),
        nn.AvgPool2d(3, 2, 1, count_include_pad=False),
        nn.Reshape((2, 3)),
        nn.LeakyReLU(0.2),
        nn.BatchNorm2d(eps=1e-3),
        nn.Dropout2d(0.25),
    ):
        assert ops.from_config(json.loads(json.dumps(ops.to_config(layer.op)))) == layer.op
    with pytest.raises(ValueError, match="op must be one of"):
        ops.from_config({"op": "Attention"})


def test_windows_for_receptive_fields():
    window = nn.Conv2d(4, (3, 5), stride=2, padding=(1, 0, 2, 3), dilation=(1, 2)).op.window()
    assert window == ops.Window(kernel=(3, 5), stride=(2, 2), pad_lo=(1, 2), pad_hi=(0, 3), dilation=(1, 2))
    assert nn.MaxPool2d(3, 2).op.window().stride == (2, 2)
    assert nn.ReLU().op.window() is None
    assert nn.Linear(3).op.window() is ops.GLOBAL
    assert nn.GlobalAvgPool2d().op.window() is ops.GLOBAL


def test_macs():
    assert nn.Conv2d(8, 3, padding=1).op.macs((4, 10, 10)) == 8 * 10 * 10 * 4 * 9
    assert nn.Conv2d(8, 3, padding=1, groups=4).op.macs((4, 10, 10)) == 8 * 10 * 10 * 9
    assert nn.Linear(7).op.macs((5,)) == 35
    assert nn.ReLU().op.macs((4, 10, 10)) == 0
