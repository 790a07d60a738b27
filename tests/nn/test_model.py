import json

import numpy as np
import pytest

from fastconv import nn


def small(seed=0, dtype="float32"):
    layers = [
        nn.Conv2d(4, 3, padding=1),
        nn.BatchNorm2d(),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.25),
        nn.Flatten(),
        nn.Linear(3),
    ]
    return nn.Sequential(layers, input_shape=(1, 8, 8), seed=seed, dtype=dtype)


@pytest.fixture
def x():
    return np.random.default_rng(0).random((10, 1, 8, 8), np.float32)


def test_names_and_parameters():
    model = small()
    assert [node.name for node in model.graph.nodes] == [
        "conv2d_1",
        "batch_norm_1",
        "relu_1",
        "max_pool2d_1",
        "dropout_1",
        "flatten_1",
        "linear_1",
    ]
    assert list(model.params)[:4] == [
        "conv2d_1.weight",
        "conv2d_1.bias",
        "batch_norm_1.weight",
        "batch_norm_1.bias",
    ]
    assert "batch_norm_1.running_var" not in model.trainable
    assert {p.dtype.name for p in model.params.values()} == {"float32"}


def test_given_names_are_used_and_must_be_unique():
    model = nn.Sequential([nn.ReLU(name="act"), nn.ReLU()], input_shape=(2,))
    assert [node.name for node in model.graph.nodes] == ["act", "relu_2"]
    with pytest.raises(ValueError, match="two layers of the model are called 'act'"):
        nn.Sequential([nn.ReLU(name="act"), nn.Tanh(name="act")], input_shape=(2,))


def test_same_seed_same_bits_and_dtypes_agree():
    first, again, other, double = small(1), small(1), small(2), small(1, "float64")
    for name, value in first.params.items():
        np.testing.assert_array_equal(value, again.params[name])
        np.testing.assert_array_equal(value, double.params[name].astype(np.float32))
    assert not np.array_equal(first.params["conv2d_1.weight"], other.params["conv2d_1.weight"])


def test_predict_does_not_depend_on_the_batch_size(x):
    model = small()
    whole = model.predict(x)
    np.testing.assert_array_equal(model.predict(x, batch_size=3), whole)
    assert whole.dtype == np.float32


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.astype(np.float64),
        lambda x: np.asfortranarray(x),
        lambda x: np.repeat(x, 2, axis=3)[..., ::2],
        lambda x: x.astype(">f4"),
        lambda x: x.tolist(),
    ],
)
def test_input_of_any_layout_gives_the_same(x, change):
    model = small()
    changed = change(x)
    if isinstance(changed, np.ndarray):
        changed.flags.writeable = False
    np.testing.assert_array_equal(model.predict(changed), model.predict(x))


def test_integer_images_are_converted():
    pixels = np.random.default_rng(0).integers(0, 256, (4, 1, 8, 8), dtype=np.uint8)
    model = small()
    np.testing.assert_array_equal(model.predict(pixels), model.predict(pixels.astype(np.float32)))


def test_predict_of_no_samples(x):
    assert small().predict(x[:0]).shape == (0, 3)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (np.zeros((2, 8, 8)), ValueError, r"\(N, 1, 8, 8\), got \(2, 8, 8\); add the channel axis"),
        (np.zeros((1, 8, 8)), ValueError, r"a single sample needs a batch axis"),
        (np.zeros((2, 3, 8, 8)), ValueError, r"'input' must have shape \(N, 1, 8, 8\), got \(2, 3, 8, 8\)"),
        (np.zeros((2, 1, 8, 8), complex), TypeError, "real numbers, got dtype complex128"),
        (np.array(["a"]), TypeError, "real numbers"),
        (1.0, ValueError, r"got \(\)"),
    ],
)
def test_bad_inputs(value, error, message):
    with pytest.raises(error, match=message):
        small().predict(value)


def test_bad_batch_size(x):
    with pytest.raises(ValueError, match="batch_size must be >= 1, got 0"):
        small().predict(x, batch_size=0)
    with pytest.raises(TypeError, match="batch_size must be an integer"):
        small().predict(x, batch_size=2.0)


def test_activations(x):
    model = small()
    every = model.activations(x)
    assert list(every) == [node.name for node in model.graph.nodes]
    np.testing.assert_allclose(every["linear_1"], model.predict(x), atol=1e-5)
    assert every["relu_1"].min() == 0
    assert list(model.activations(x, ["relu_1"])) == ["relu_1"]
    with pytest.raises(KeyError, match="no node 'relu_9'"):
        model.activations(x, ["relu_9"])


def test_input_gradient_of_a_linear_net():
    model = nn.Sequential([nn.Flatten(), nn.Linear(3)], input_shape=(2, 2))
    x = np.zeros((4, 2, 2), np.float32)
    one_hot = np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]
    expected = model.params["linear_1.weight"][[0, 1, 2, 0]].reshape(4, 2, 2)
    np.testing.assert_allclose(model.input_gradient(x, one_hot), expected, rtol=1e-6)
    np.testing.assert_allclose(model.input_gradient(x, lambda output: one_hot), expected, rtol=1e-6)
    with pytest.raises(ValueError, match=r"output's shape \(4, 3\), got \(3,\)"):
        model.input_gradient(x, np.ones(3))


def test_inference_leaves_the_running_statistics_alone(x):
    model = small()
    before = model.get_weights()
    model.predict(x)
    model.input_gradient(x, lambda output: np.ones_like(output))
    for name, value in before.items():
        np.testing.assert_array_equal(model.params[name], value)


def test_loss_reductions_and_gradients(x):
    model = small(dtype="float64")
    y = np.arange(10) % 3
    with pytest.raises(ValueError, match="compile"):
        model.loss(x, y)
    model.compile(loss=nn.CrossEntropy(label_smoothing=0.1))
    each = model.loss(x, y, reduction="none", batch_size=4)
    logits = model.predict(x)
    log_probs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    smooth = 0.9 * np.eye(3)[y] + 0.1 / 3
    np.testing.assert_allclose(each, -(smooth * log_probs).sum(1), rtol=1e-12)
    np.testing.assert_allclose(
        model.loss(x, smooth, reduction="sum", batch_size=3), _smoothed(log_probs, smooth)
    )
    assert model.loss(x, y) == pytest.approx(each.mean())
    value, grads = model.loss_and_gradients(x, y)
    assert value == pytest.approx(each.mean())
    assert set(grads) == set(model.trainable)
    np.testing.assert_allclose(grads["linear_1.bias"], (np.exp(log_probs) - smooth).mean(0), atol=1e-12)
    with pytest.raises(ValueError, match="reduction"):
        model.loss(x, y, reduction="max")


def _smoothed(log_probs, targets):
    return -((0.9 * targets + 0.1 / 3) * log_probs).sum()


def test_mean_squared_error():
    model = nn.Sequential([nn.Linear(2)], input_shape=(3,), dtype="float64")
    model.compile(loss="mse")
    rng = np.random.default_rng(0)
    x, y = rng.random((5, 3)), rng.random((5, 2))
    error = model.predict(x) - y
    value, grads = model.loss_and_gradients(x, y)
    assert value == pytest.approx((error**2).mean())
    np.testing.assert_allclose(grads["linear_1.bias"], 2 * error.sum(0) / error.size)
    np.testing.assert_allclose(model.loss(x, y, reduction="none"), (error**2).mean(1))


@pytest.mark.parametrize(
    ("loss", "target", "error", "message"),
    [
        ("cross_entropy", [0, 1, 3], ValueError, "between 0 and 2 for 3 outputs, got values from 0 to 3"),
        ("cross_entropy", [0, -1, 2], ValueError, "from -1 to 2"),
        ("cross_entropy", [0.0, 1.0, 2.0], ValueError, "classes must be integers"),
        ("cross_entropy", [[0], [1], [2]], ValueError, r"classes must have shape \(N,\), got \(3, 1\)"),
        ("cross_entropy", ["a", "b", "c"], TypeError, "targets must be integers"),
        ("cross_entropy", [0, 1], ValueError, "same number of samples, got 3 and 2"),
        ("mse", [0.0, 1.0, 2.0], ValueError, r"output's shape \(N, 3\), got \(3,\)"),
        ("mse", np.zeros((3, 3), complex), TypeError, "real numbers"),
    ],
)
def test_bad_targets(loss, target, error, message):
    model = nn.Sequential([nn.Linear(3)], input_shape=(2,))
    model.compile(loss=loss)
    with pytest.raises(error, match=message):
        model.loss(np.zeros((3, 2)), target)


def test_several_inputs_and_outputs():
    a, b = nn.Input((2,), name="left"), nn.Input((2,))
    model = nn.Model([a, b], [a + b, nn.Tanh()(a)])
    x = np.ones((3, 2), np.float32), np.full((3, 2), 2, np.float32)
    total, tanh = model.predict(x, batch_size=2)
    np.testing.assert_array_equal(total, 3)
    np.testing.assert_allclose(tanh, np.tanh(1), rtol=1e-6)
    again, _ = model.predict({"left": x[0], "input_2": x[1]})
    np.testing.assert_array_equal(again, total)
    with pytest.raises(ValueError, match=r"inputs are \['left', 'input_2'\], got \['left'\]"):
        model.predict({"left": x[0]})
    with pytest.raises(ValueError, match="tuple of 2 arrays"):
        model.predict(x[0])
    with pytest.raises(ValueError, match="same number of samples"):
        model.predict((x[0], x[1][:2]))
    with pytest.raises(ValueError, match="one output"):
        model.input_gradient(x, 1.0)


def test_models_check_their_ends():
    x, other = nn.Input((2,)), nn.Input((2,))
    with pytest.raises(ValueError, match="not among the model's inputs"):
        nn.Model(x, x + other)
    with pytest.raises(ValueError, match="input number 2 of the model is not used"):
        nn.Model([x, other], nn.ReLU()(x))
    with pytest.raises(ValueError, match=r"come from nn.Input"):
        nn.Model(nn.ReLU()(x), nn.Tanh()(x))
    with pytest.raises(TypeError, match="symbolic tensors"):
        nn.Model(np.zeros(3), x)
    with pytest.raises(TypeError, match=r"arrays go through model\.predict"):
        nn.ReLU()(np.zeros(3))
    with pytest.raises(TypeError, match="layers must be layers"):
        nn.Sequential([nn.ReLU], input_shape=(2,))
    with pytest.raises(ValueError, match="at least one layer"):
        nn.Sequential([], input_shape=(2,))
    with pytest.raises(ValueError, match="dtype must be one of"):
        nn.Model(x, nn.ReLU()(x), dtype="int32")


def test_weights_copy_and_restore(x):
    model = small()
    weights = model.get_weights()
    before = model.predict(x)
    model.params["linear_1.weight"][...] = 0
    assert not np.array_equal(model.predict(x), before)
    held = model.params["linear_1.weight"]
    model.set_weights(weights)
    assert model.params["linear_1.weight"] is held
    np.testing.assert_array_equal(model.predict(x), before)
    with pytest.raises(ValueError, match=r"missing \['linear_1.bias'\]"):
        model.set_weights({k: v for k, v in weights.items() if k != "linear_1.bias"})
    with pytest.raises(ValueError, match=r"must have shape \(3,\), got \(4,\)"):
        model.set_weights(weights | {"linear_1.bias": np.zeros(4)})


def test_save_and_load(x, tmp_path):
    pytest.importorskip("safetensors")
    a = nn.Input((1, 8, 8))
    h = nn.Conv2d(3, 3, padding=1, weight_regularizer=nn.L1L2(0.1, 0.2), trainable=False)(a)
    h = nn.BatchNorm2d()(h) + nn.Conv2d(3, 1)(a)
    model = nn.Model(a, nn.Linear(2)(nn.GlobalAvgPool2d()(nn.Concat()(h, nn.LeakyReLU(0.2)(h)))), seed=4)
    model.compile(nn.Adam(0.01))
    model.fit(x, np.arange(10) % 2, epochs=2, verbose=0)
    path = tmp_path / "net.safetensors"
    model.save(path)
    loaded = nn.load(path)
    np.testing.assert_array_equal(loaded.predict(x), model.predict(x))
    assert loaded.graph.nodes == model.graph.nodes
    assert loaded.graph.inputs == model.graph.inputs
    assert list(loaded.params) == list(model.params)
    assert loaded.regularizers == model.regularizers
    assert loaded.trainable == model.trainable
    assert loaded.seed == 4
    loaded.compile(nn.Adam(0.01))
    loaded.fit(x, np.arange(10) % 2, epochs=1, verbose=0)  # its parameters are writable


def test_load_refuses_other_files(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    with pytest.raises(FileNotFoundError, match="no such file"):
        nn.load(tmp_path / "absent.safetensors")
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(b"\x00" * 3)
    with pytest.raises(ValueError, match="not a safetensors file"):
        nn.load(bad)
    safetensors.save_file({"w": np.zeros(3)}, bad)
    with pytest.raises(ValueError, match="no net of fastconv"):
        nn.load(bad)
    safetensors.save_file({"w": np.zeros(3)}, bad, metadata={"fastconv": json.dumps({"format": 99})})
    with pytest.raises(ValueError, match="format 99"):
        nn.load(bad)


def test_from_graph_checks_the_parameters():
    model = small()
    again = nn.Model.from_graph(model.graph, model.params)
    assert again.params["linear_1.weight"] is model.params["linear_1.weight"]
    with pytest.raises(TypeError, match=r"'linear_1.bias' must be float32 like the model, got float64"):
        nn.Model.from_graph(model.graph, model.params | {"linear_1.bias": np.zeros(3)})
    with pytest.raises(ValueError, match=r"unknown \['more'\]"):
        nn.Model.from_graph(model.graph, model.params | {"more": np.zeros(3)})


def test_a_net_without_parameters_keeps_its_dtype():
    model = nn.Sequential([nn.Tanh()], input_shape=(2,), dtype="float64")
    x = np.array([[0.1, -0.3]])
    assert model.predict(x).dtype == np.float64
    np.testing.assert_allclose(model.predict(x), np.tanh(x), rtol=1e-15)
