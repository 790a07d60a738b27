"""Models built on models: shared parameters, names, penalties; several inputs and outputs."""

import numpy as np
import pytest

from fastconv import nn
from kit import bits, ramp


def encoder(name=None, **options):
    layers = [
        nn.Conv2d(4, 3, padding=1, weight_regularizer=nn.L2(0.1)),
        nn.BatchNorm2d(trainable=False),
        nn.ReLU(),
    ]
    return nn.Sequential(layers, input_shape=(1, 8, 8), name=name, **options)


def test_a_model_is_called_like_a_layer_and_shares_its_arrays():
    body = encoder(seed=5)
    x = nn.Input((1, 8, 8))
    whole = nn.Model(x, nn.Linear(3)(nn.GlobalAvgPool2d()(body(x))), seed=7)
    assert [node.name for node in whole.graph.nodes] == [
        "conv2d_1",
        "batch_norm_1",
        "relu_1",
        "global_avg_pool_1",
        "linear_1",
    ]
    for name, array in body.params.items():
        assert whole.params[name] is array
    assert whole.regularizers == body.regularizers != {}
    assert whole.frozen == body.frozen != set()

    batch = ramp((6, 1, 8, 8), "float32")
    before = body.predict(batch)
    whole.compile("sgd")
    whole.fit(batch, np.arange(6) % 3, epochs=2, verbose=0)
    assert bits(body.predict(batch)) != bits(before)  # trained along
    assert bits(body.activations(batch)["relu_1"]) == bits(whole.activations(batch)["relu_1"])


def test_twins_share_and_get_the_sum_of_gradients():
    def build(two):
        first = encoder("tower", dtype="float64")
        second = encoder("other", dtype="float64") if two else first
        second.set_weights(first.params)
        left, right = nn.Input((1, 8, 8), name="left"), nn.Input((1, 8, 8), name="right")
        both = nn.Concat()(nn.GlobalMaxPool2d()(first(left)), nn.GlobalMaxPool2d()(second(right)))
        return nn.Model([left, right], nn.Linear(2, name="head")(both), seed=1, dtype="float64")

    shared, separate = build(False), build(True)
    assert [node.name for node in shared.graph.nodes][:2] == ["tower/conv2d_1", "tower/batch_norm_1"]
    assert {node.name for node in shared.graph.nodes} >= {"tower/conv2d_1@2", "tower/relu_1"}
    x = {"left": ramp((5, 1, 8, 8)), "right": ramp((5, 1, 8, 8), seed=1)}
    y = np.array([0, 1, 0, 1, 1])
    gradients = []
    for model in (shared, separate):
        model.compile(loss="cross_entropy")
        model._penalties = {}
        gradients.append(model.loss_and_gradients(x, y)[1])
    one, two = gradients
    assert set(one) == {"tower/conv2d_1.weight", "tower/conv2d_1.bias", "head.weight", "head.bias"}
    total = two["tower/conv2d_1.weight"] + two["other/conv2d_1.weight"]
    np.testing.assert_allclose(one["tower/conv2d_1.weight"], total, rtol=1e-12)
    np.testing.assert_allclose(one["head.weight"], two["head.weight"], rtol=1e-12)


def test_single_layers_are_shared_too():
    body = encoder("body")
    x = nn.Input((1, 20, 30))  # convolutions do not mind
    model = nn.Model(x, body.layers["conv2d_1"](x))
    assert model.params["body/conv2d_1.weight"] is body.params["conv2d_1.weight"]
    # the same arrays, however they come, are one layer
    again = nn.Model(x, body.layers["conv2d_1"](x) + body(x) + nn.Model(x, body(x))(x))
    assert len(again.params) == len(body.params)
    assert list(body.layers) == ["conv2d_1", "batch_norm_1", "relu_1"]


def test_a_chain_may_hold_models():
    body = encoder()
    model = nn.Sequential([nn.Tanh(), body, nn.Flatten(), nn.Linear(2)], input_shape=(1, 8, 8))
    assert model.params["conv2d_1.weight"] is body.params["conv2d_1.weight"]
    assert [node.op.kind for node in model.graph.nodes] == [
        "tanh",
        "conv2d",
        "batch_norm",
        "relu",
        "flatten",
        "linear",
    ]


def test_models_of_models_are_saved_whole(tmp_path):
    pytest.importorskip("safetensors")
    body = encoder("body")
    x = nn.Input((1, 8, 8))
    model = nn.Model(x, nn.Flatten()(body(x)), name="outer")
    model.save(tmp_path / "net.safetensors")
    again = nn.load(tmp_path / "net.safetensors")
    batch = ramp((2, 1, 8, 8), "float32")
    assert bits(again.predict(batch)) == bits(model.predict(batch))
    assert again.name == "outer"
    assert not np.shares_memory(again.params["body/conv2d_1.weight"], body.params["conv2d_1.weight"])
    assert nn.Model(x, again(x)).graph.nodes[0].name == "outer/body/conv2d_1"


def test_several_outputs_of_a_called_model():
    x = nn.Input((4,))
    h = nn.Linear(3)(x)
    two = nn.Model(x, [h, nn.Tanh()(h)])
    z = nn.Input((4,))
    raw, bounded = two(z)
    model = nn.Model(z, raw * bounded)
    batch = ramp((5, 4), "float32")
    np.testing.assert_array_equal(model.predict(batch), np.multiply(*two.predict(batch)))
    with pytest.raises(ValueError, match="one output"):
        nn.Sequential([two], input_shape=(4,))


def test_errors_say_what_does_not_fit():
    body = encoder()
    with pytest.raises(ValueError, match=r"inputs \['input'\], got 2"):
        body(nn.Input((1, 8, 8)), nn.Input((1, 8, 8)))
    with pytest.raises(
        ValueError,
        match=r"'conv2d' of a model>: has a weight of shape \(4, 1, 3, 3\), but inputs \[\(2, 8, 8\)\]",
    ):
        body(nn.Input((2, 8, 8)))
    with pytest.raises(TypeError, match="symbolic tensors"):
        body(np.zeros((1, 1, 8, 8)))
    x = nn.Input((1, 8, 8))
    with pytest.raises(TypeError, match="shared with a model of float32, this one is float64"):
        nn.Model(x, body(x), dtype="float64")
