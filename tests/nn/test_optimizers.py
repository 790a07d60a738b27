import numpy as np
import pytest

from fastconv import nn
from fastconv.nn.optimizers import OptimizerState


def trajectory(optimizer, dtype=np.float64, steps=7):
    """Parameters after some steps down a bowl that is not round."""
    start = np.random.default_rng(0).standard_normal((3, 4)).astype(dtype)
    params, state = {"w": start}, OptimizerState()
    bowl = np.linspace(0.5, 3, 12).reshape(3, 4).astype(dtype)
    for _ in range(steps):
        optimizer.apply(params, {"w": bowl * params["w"]}, state)
    return params["w"]


@pytest.mark.parametrize(
    ("ours", "theirs", "options"),
    [
        (nn.SGD(0.1), "SGD", {"lr": 0.1}),
        (nn.SGD(0.1, momentum=0.9), "SGD", {"lr": 0.1, "momentum": 0.9}),
        (nn.SGD(0.1, momentum=0.9, nesterov=True), "SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
        (nn.Adam(0.05), "Adam", {"lr": 0.05}),
        (nn.Adam(0.05, betas=(0.5, 0.9), eps=1e-3), "Adam", {"lr": 0.05, "betas": (0.5, 0.9), "eps": 1e-3}),
    ],
)
def test_steps_are_those_of_torch(ours, theirs, options):
    torch = pytest.importorskip("torch")
    start = np.random.default_rng(0).standard_normal((3, 4))
    w = torch.tensor(start, requires_grad=True)
    bowl = torch.tensor(np.linspace(0.5, 3, 12).reshape(3, 4))
    optimizer = getattr(torch.optim, theirs)([w], **options)
    for _ in range(7):
        optimizer.zero_grad()
        (0.5 * bowl * w**2).sum().backward()
        optimizer.step()
    np.testing.assert_allclose(trajectory(ours), w.detach().numpy(), rtol=1e-12)


def test_first_step_of_adam_is_the_learning_rate():
    # bias correction makes the first step learning_rate * sign(grad), up to eps
    params = {"w": np.zeros(3)}
    nn.Adam(0.1).apply(params, {"w": np.array([5.0, -1e-3, 2.0])}, OptimizerState())
    np.testing.assert_allclose(params["w"], [-0.1, 0.1, -0.1], rtol=1e-4)


@pytest.mark.parametrize("optimizer", [nn.SGD(0.1), nn.SGD(0.1, 0.9), nn.Adam(0.1)])
def test_steps_are_in_place_keep_the_dtype_and_leave_the_gradient(optimizer):
    w, grad = np.ones(5, np.float32), np.full(5, 0.5, np.float32)
    grad.flags.writeable = False
    state = OptimizerState()
    optimizer.apply({"w": w}, {"w": grad}, state)
    buffers = [id(b) for b in state.buffers["w"]]
    optimizer.apply({"w": w}, {"w": grad}, state)
    assert w.dtype == np.float32
    assert (w < 1).all()
    assert [id(b) for b in state.buffers["w"]] == buffers
    assert {b.dtype for b in state.buffers["w"]} == {np.dtype(np.float32)}


def test_one_optimizer_serves_two_models():
    shared = nn.Adam(0.1)
    params = []
    for _ in range(2):
        model = nn.Sequential([nn.Linear(1)], input_shape=(2,))
        model.compile(shared, "mse")
        model.fit(np.ones((4, 2)), np.zeros((4, 1)), epochs=3, verbose=0)
        params.append(model.params["linear_1.weight"])
    np.testing.assert_array_equal(*params)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.SGD(0), "learning_rate must be positive, got 0"),
        (lambda: nn.SGD(0.1, momentum=1.0), "momentum"),
        (lambda: nn.SGD(0.1, nesterov=True), "nesterov needs a momentum"),
        (lambda: nn.Adam(betas=(0.9, 1.0)), "betas"),
        (lambda: nn.Adam(eps=0.0), "eps"),
    ],
)
def test_bad_hyper_parameters(make, message):
    with pytest.raises(ValueError, match=message):
        make()
