"""Attributions by gradients: closed forms, axioms, and Captum's numbers where it is installed."""

import numpy as np
import pytest

from fastconv import explain, nn


def smooth(dtype="float64"):
    layers = [nn.Conv2d(3, 3, padding=1), nn.Tanh(), nn.MaxPool2d(2), nn.Conv2d(4, 3), nn.Sigmoid()]
    layers += [nn.Flatten(), nn.Linear(5)]
    return nn.Sequential(layers, input_shape=(2, 8, 8), seed=3, dtype=dtype)


def linear():
    return nn.Sequential([nn.Flatten(), nn.Linear(4)], input_shape=(1, 3, 3), seed=1, dtype="float64")


@pytest.fixture
def batch(rng):
    return rng.standard_normal((3, 2, 8, 8))


def test_on_a_linear_model_all_agree_with_its_weights(rng):
    model, x, start = linear(), rng.standard_normal((2, 1, 3, 3)), rng.standard_normal((1, 1, 3, 3))
    weight = model.params["linear_1.weight"][2].reshape(1, 1, 3, 3)
    np.testing.assert_allclose(explain.InputXGradient(model).attribute(x, target=2), x * weight, rtol=1e-12)
    for method in explain.gradients.RULES:
        found = explain.IntegratedGradients(model).attribute(x, start, target=2, n_steps=4, method=method)
        share = 0.75 if method == "riemann_trapezoid" else 1  # Captum's weights add up to (n - 1) / n
        np.testing.assert_allclose(found, share * (x - start) * weight, rtol=1e-12)
    noisy = explain.NoiseTunnel(explain.Saliency(model)).attribute(x, target=2, abs=False)
    np.testing.assert_allclose(noisy, np.broadcast_to(weight, x.shape), rtol=1e-12)
    view, bias = explain.linearize(model, x[0], target=2)
    np.testing.assert_allclose(view, weight[0], rtol=1e-12)
    assert bias == pytest.approx(model.params["linear_1.bias"][2])
    (index, value), *_ = explain.top_predictors(view, 3)
    assert index == np.unravel_index(np.abs(weight[0]).argmax(), (1, 3, 3))
    assert value == weight[0][index]


def test_importances_of_a_logistic_regression_are_its_weights(rng):
    x = rng.standard_normal((200, 1, 3, 3))
    truth = np.zeros((3, 3))
    truth[1, 1], truth[0, 2] = 3, -2
    labels = (np.tensordot(x[:, 0], truth, 2) > 0).astype(np.int64)
    model = nn.Sequential([nn.Flatten(), nn.Linear(2), nn.Softmax()], input_shape=(1, 3, 3), dtype="float64")
    logits = nn.Model.from_graph(
        type(model.graph)(model.graph.inputs, model.graph.nodes[:-1], ("linear_1",)),
        model.params,
        dtype="float64",
    )
    logits.compile(nn.SGD(0.5), loss="cross_entropy")
    logits.fit(x, labels, batch_size=50, epochs=20, verbose=0)
    for image in x[:3]:
        weight, _ = explain.linearize(model, image, target=1)
        np.testing.assert_allclose(weight.ravel(), model.params["linear_1.weight"][1], rtol=1e-12)
        assert {index for index, _ in explain.top_predictors(weight, 2)} == {(0, 1, 1), (0, 0, 2)}
        error = explain.linearization_error(model, image, x[5], target=1)
        np.testing.assert_allclose(error.errors, 0, atol=1e-12)


def test_integrated_gradients_add_up_to_the_difference_of_the_scores(batch):
    model = smooth()
    start = np.full((1, 2, 8, 8), 0.3)
    method = explain.IntegratedGradients(model)
    found, delta = method.attribute(batch, start, [0, 4, 2], n_steps=60, return_convergence_delta=True)
    scores, origin = model.predict(batch), model.predict(start)[0]
    expected = [scores[i, k] - origin[k] for i, k in enumerate((0, 4, 2))]
    np.testing.assert_allclose(found.sum(axis=(1, 2, 3)), expected, rtol=2e-3)
    np.testing.assert_allclose(delta, found.sum(axis=(1, 2, 3)) - expected, atol=1e-12)
    coarse = method.attribute(
        batch, start, [0, 4, 2], n_steps=3, method="riemann_left", return_convergence_delta=True
    )
    assert np.abs(coarse[1]).max() > np.abs(delta).max()


@pytest.mark.parametrize("internal", [1, 3, 7, 1000])
def test_integrated_gradients_do_not_depend_on_the_size_of_a_pass(internal, batch):
    method = explain.IntegratedGradients(smooth())
    whole = method.attribute(batch, target=1, n_steps=9)
    np.testing.assert_allclose(
        method.attribute(batch, target=1, n_steps=9, internal_batch_size=internal),
        whole,
        rtol=1e-9,
        atol=1e-12,
    )


@pytest.mark.parametrize("kind", ["smoothgrad", "smoothgrad_sq", "vargrad"])
def test_noise_tunnels_average_over_seeded_copies(kind, batch):
    model = smooth()
    tunnel = explain.NoiseTunnel(explain.Saliency(model))
    options = {"nt_type": kind, "nt_samples": 7, "stdevs": 0.2, "target": [1, 0, 3], "abs": False}
    found = tunnel.attribute(batch, **options, seed=5)
    np.testing.assert_allclose(
        found, tunnel.attribute(batch, **options, seed=5, nt_samples_batch_size=3), rtol=1e-9
    )
    assert not np.allclose(found, tunnel.attribute(batch, **options, seed=6))
    noise = np.random.default_rng(5).standard_normal((7, *batch.shape))
    each = [explain.Saliency(model).attribute(batch + 0.2 * one, [1, 0, 3], abs=False) for one in noise]
    expected = {
        "smoothgrad": np.mean(each, axis=0),
        "smoothgrad_sq": np.mean(np.square(each), axis=0),
        "vargrad": np.var(each, axis=0),
    }
    np.testing.assert_allclose(found, expected[kind], rtol=1e-6, atol=1e-12)


def test_grad_cam_of_a_net_that_ends_in_a_mean_is_its_class_activation_map(rng):
    """Zhou et al. 2015, arXiv:1512.04150: the weights of the classifier, over the number of positions."""
    layers = [nn.Conv2d(6, 3, name="maps"), nn.GlobalAvgPool2d(), nn.Linear(3), nn.Softmax()]
    model = nn.Sequential(layers, input_shape=(1, 9, 7), seed=0, dtype="float64")
    image = rng.standard_normal((1, 9, 7))
    maps = explain.feature_maps(model, image, "maps")
    raw = np.tensordot(model.params["linear_1.weight"][2], maps, 1) / maps[0].size
    logits = nn.Model.from_graph(
        type(model.graph)(model.graph.inputs, model.graph.nodes[:-1], ("linear_1",)),
        model.params,
        dtype="float64",
    )
    found = explain.LayerGradCam(logits, "maps").attribute(image[None], target=2)
    np.testing.assert_allclose(found[0, 0], raw, rtol=1e-10)
    positive = explain.LayerGradCam(logits, "maps").attribute(image[None], target=2, relu_attributions=True)
    np.testing.assert_array_equal(positive, np.maximum(found, 0))
    large = explain.grad_cam(model, image, target=2)  # the softmax is left out
    assert large.shape == (9, 7)
    assert large.min() >= 0
    np.testing.assert_allclose(large.max(), max(raw.max(), 0), rtol=0.2)


def test_a_smooth_net_is_linear_to_the_second_order(batch):
    error = explain.linearization_error(smooth(), batch[0], batch[1], target=0, steps=0.5 ** np.arange(9, 16))
    assert error.order == pytest.approx(2, abs=0.1)
    assert (np.diff(error.errors) < 0).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda m, x: explain.IntegratedGradients(m).attribute(x, target=0, method="simpson"),
            "must be one of",
        ),
        (lambda m, x: explain.IntegratedGradients(m).attribute(x, target=0, n_steps=0), "n_steps"),
        (lambda m, x: explain.IntegratedGradients(m).attribute(x), "target is required"),
        (
            lambda m, x: explain.NoiseTunnel(explain.Saliency(m)).attribute(x, "smooth", target=0),
            "nt_type must",
        ),
        (
            lambda m, x: explain.NoiseTunnel(explain.Saliency(m)).attribute(x, stdevs=-1, target=0),
            "stdevs must",
        ),
        (lambda m, x: explain.LayerGradCam(m, "linear_1"), "must be maps"),
        (lambda m, x: explain.linearization_error(m, x[0], x[0, :1]), "direction must be of the shape"),
    ],
)
def test_wrong_arguments(call, message, batch):
    with pytest.raises(ValueError, match=message):
        call(smooth(), batch)


class TestCaptum:
    @pytest.fixture
    def torch(self):
        pytest.importorskip("captum")
        return pytest.importorskip("torch")

    @pytest.fixture
    def twin(self, torch):
        model = smooth("float32")
        layers = torch.nn
        net = layers.Sequential(
            *(layers.Conv2d(2, 3, 3, padding=1), layers.Tanh(), layers.MaxPool2d(2), layers.Conv2d(3, 4, 3)),
            *(layers.Sigmoid(), layers.Flatten(), layers.Linear(16, 5)),
        )
        with torch.no_grad():
            for parameter, value in zip(net.parameters(), model.params.values(), strict=True):
                parameter.copy_(torch.from_numpy(value))
        return model, net.eval()

    @pytest.mark.filterwarnings("ignore::UserWarning")  # Captum sets requires_grad and says so
    def test_same_numbers(self, torch, twin, batch):
        import captum.attr as captum

        model, net = twin
        x, target = batch.astype(np.float32), [1, 0, 4]
        their_x, their_target = torch.from_numpy(x), torch.tensor(target)

        def check(ours, theirs):
            theirs = theirs.detach().numpy()
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5 * np.abs(theirs).max())

        check(
            explain.Saliency(model).attribute(x, target),
            captum.Saliency(net).attribute(their_x.clone(), their_target),
        )
        check(
            explain.InputXGradient(model).attribute(x, target),
            captum.InputXGradient(net).attribute(their_x.clone().requires_grad_(), their_target),
        )
        for method in explain.gradients.RULES:
            ours = explain.IntegratedGradients(model).attribute(
                x, 0.1, target, n_steps=11, method=method, return_convergence_delta=True
            )
            theirs = captum.IntegratedGradients(net).attribute(
                their_x.clone().requires_grad_(),
                0.1,
                their_target,
                None,
                11,
                method,
                return_convergence_delta=True,
            )
            check(ours[0], theirs[0])
            np.testing.assert_allclose(ours[1], theirs[1].detach(), atol=1e-5)
        for relu in (False, True):
            ours = explain.LayerGradCam(model, "conv2d_2").attribute(x, target, relu_attributions=relu)
            theirs = captum.LayerGradCam(net, net[3]).attribute(
                their_x.clone().requires_grad_(), their_target, relu_attributions=relu
            )
            check(ours, theirs)
