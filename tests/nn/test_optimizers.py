import math

import numpy as np
import pytest

import fastconv
from fastconv import nn
from fastconv.nn import schedules
from fastconv.nn.optimizers import OptimizerState

BOWL = np.linspace(0.5, 3, 12).reshape(3, 4)
START = np.random.default_rng(0).standard_normal((3, 4))

# our optimizer, PyTorch's class and its options; `decayed="all"` is what PyTorch does
PAIRS = [
    (nn.SGD(0.1), "SGD", {"lr": 0.1}),
    (nn.SGD(0.1, momentum=0.9), "SGD", {"lr": 0.1, "momentum": 0.9}),
    (nn.SGD(0.1, momentum=0.9, nesterov=True), "SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    (nn.SGD(0.1, 0.9, weight_decay=0.2), "SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.2}),
    (nn.Adam(0.05), "Adam", {"lr": 0.05}),
    (nn.Adam(0.05, betas=(0.5, 0.9), eps=1e-3), "Adam", {"lr": 0.05, "betas": (0.5, 0.9), "eps": 1e-3}),
    (nn.Adam(0.05, weight_decay=0.3), "Adam", {"lr": 0.05, "weight_decay": 0.3}),
    (nn.AdamW(0.05), "AdamW", {"lr": 0.05}),
    (nn.AdamW(0.05, weight_decay=0.5), "AdamW", {"lr": 0.05, "weight_decay": 0.5}),
    (nn.RMSprop(), "RMSprop", {}),
    (nn.RMSprop(0.02, alpha=0.7, eps=1e-3), "RMSprop", {"lr": 0.02, "alpha": 0.7, "eps": 1e-3}),
    (nn.RMSprop(0.02, centered=True), "RMSprop", {"lr": 0.02, "centered": True}),
    (
        nn.RMSprop(0.02, momentum=0.8, centered=True, weight_decay=0.1),
        "RMSprop",
        {"lr": 0.02, "momentum": 0.8, "centered": True, "weight_decay": 0.1},
    ),
]
EVERY = [pair[0] for pair in PAIRS]


def trajectory(optimizer, dtype="float64", steps=7):
    """Parameters after some steps down a bowl that is not round."""
    params, state = {"w": START.astype(dtype)}, OptimizerState()
    for _ in range(steps):
        optimizer.step(params, {"w": BOWL.astype(dtype) * params["w"]}, state)
    return params["w"]


@pytest.mark.parametrize(("ours", "theirs", "options"), PAIRS, ids=lambda v: v if isinstance(v, str) else "")
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 2e-6)])
def test_steps_are_those_of_torch(ours, theirs, options, dtype, tolerance):
    torch = pytest.importorskip("torch")
    w = torch.tensor(START.astype(dtype), requires_grad=True)
    bowl = torch.tensor(BOWL.astype(dtype))
    optimizer = getattr(torch.optim, theirs)([w], **options)
    for _ in range(7):
        optimizer.zero_grad()
        (0.5 * bowl * w**2).sum().backward()
        optimizer.step()
    np.testing.assert_allclose(
        trajectory(ours, dtype), w.detach().numpy(), rtol=tolerance, atol=tolerance / 10
    )


def test_adamw_by_its_recurrence():
    w, m, v = START.copy(), 0.0, 0.0
    for t in range(1, 8):
        g = BOWL * w
        w = w - 0.05 * 0.5 * w
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        w = w - 0.05 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    np.testing.assert_allclose(trajectory(nn.AdamW(0.05, weight_decay=0.5)), w, rtol=1e-12)


def test_nesterov_with_decay_by_its_recurrence():
    w, velocity = START.copy(), 0.0
    for _ in range(7):
        g = BOWL * w + 0.2 * w
        velocity = 0.9 * velocity + g
        w = w - 0.1 * (g + 0.9 * velocity)
    np.testing.assert_allclose(trajectory(nn.SGD(0.1, 0.9, nesterov=True, weight_decay=0.2)), w, rtol=1e-12)


def test_centered_rmsprop_by_its_recurrence():
    w, mean, square, velocity = START.copy(), 0.0, 0.0, 0.0
    for _ in range(7):
        g = BOWL * w
        mean, square = 0.9 * mean + 0.1 * g, 0.9 * square + 0.1 * g * g
        velocity = 0.5 * velocity + g / (np.sqrt(square - mean**2) + 1e-3)
        w = w - 0.02 * velocity
    optimizer = nn.RMSprop(0.02, alpha=0.9, eps=1e-3, momentum=0.5, centered=True)
    np.testing.assert_allclose(trajectory(optimizer), w, rtol=1e-11)


@pytest.mark.parametrize("optimizer", EVERY, ids=repr)
def test_the_reference_backend_takes_the_same_steps(optimizer):
    ours = trajectory(optimizer)
    with fastconv.use_backend("reference"):
        np.testing.assert_allclose(trajectory(optimizer), ours, rtol=1e-13)


def test_first_step_of_adam_is_the_learning_rate():
    # bias correction makes the first step learning_rate * sign(grad), up to eps
    params = {"w": np.zeros(3)}
    nn.Adam(0.1).step(params, {"w": np.array([5.0, -1e-3, 2.0])})
    np.testing.assert_allclose(params["w"], [-0.1, 0.1, -0.1], rtol=1e-4)


@pytest.mark.parametrize("optimizer", EVERY, ids=repr)
def test_steps_are_in_place_keep_the_dtype_and_leave_the_gradient(optimizer):
    w, grad = np.ones(5, np.float32), np.full(5, 0.5, np.float32)
    grad.flags.writeable = False
    state = OptimizerState()
    optimizer.step({"w": w}, {"w": grad}, state)
    slots = [id(arrays["w"]) for arrays in state.slots.values()]
    optimizer.step({"w": w}, {"w": grad}, state)
    assert w.dtype == np.float32
    assert (w < 1).all()
    assert [id(arrays["w"]) for arrays in state.slots.values()] == slots
    assert all(arrays["w"].dtype == np.float32 for arrays in state.slots.values())


def test_strided_and_mixed_parameters_move_like_plain_ones():
    rng = np.random.default_rng(0)
    plain = {"a": rng.standard_normal((4, 6)), "b": rng.standard_normal(3), "c": rng.standard_normal(())}
    params = {"a": np.asfortranarray(plain["a"]), "b": plain["b"].astype("float32"), "c": plain["c"].copy()}
    whole = np.zeros(6)
    whole[::2] = plain["b"]
    params["d"] = whole[::2]
    grads = {name: np.full(array.shape, 0.25) for name, array in params.items()}
    nn.SGD(0.5).step(params, grads)
    np.testing.assert_allclose(params["a"], plain["a"] - 0.125)
    np.testing.assert_allclose(params["b"], plain["b"] - 0.125, rtol=1e-6)
    np.testing.assert_allclose(params["c"], plain["c"] - 0.125)
    np.testing.assert_allclose(whole[::2], plain["b"] - 0.125)
    assert (whole[1::2] == 0).all()


def test_one_optimizer_serves_two_models():
    shared = nn.Adam(0.1)
    params = []
    for _ in range(2):
        model = nn.Sequential([nn.Linear(1)], input_shape=(2,))
        model.compile(shared, "mse")
        model.fit(np.ones((4, 2)), np.zeros((4, 1)), epochs=3, verbose=0)
        params.append(model.params["linear_1.weight"])
    np.testing.assert_array_equal(*params)


def test_decay_reaches_weights_all_or_what_a_rule_says():
    def after(decayed, make=nn.SGD, **options):
        params = {"weight": np.ones((2, 2)), "bias": np.ones(2)}
        optimizer = make(0.5, weight_decay=0.5, decayed=decayed, **options)
        optimizer.step(params, {name: np.zeros_like(value) for name, value in params.items()})
        return [float(value.flat[0]) for value in params.values()]

    for make in (nn.SGD, nn.AdamW):  # for these, both kinds of decay take 0.25 from a 1 without gradient
        assert after("weights", make) == [0.75, 1.0]
        assert after("all", make) == [0.75, 0.75]
        assert after(lambda name, param: name == "bias", make) == [1.0, 0.75]


GRADS = {"a": np.array([3.0, -4.0, 0.0]), "b": np.array([[0.0, 12.0]])}


def moves(**options):
    params = {name: np.zeros_like(grad) for name, grad in GRADS.items()}
    nn.SGD(1.0, **options).step(params, GRADS)
    return {name: -param for name, param in params.items()}


def test_clipping():
    by_value = moves(clipvalue=3.5)
    np.testing.assert_array_equal(by_value["a"], [3.0, -3.5, 0.0])
    np.testing.assert_array_equal(by_value["b"], [[0.0, 3.5]])
    by_norm = moves(clipnorm=6.0)
    np.testing.assert_array_equal(by_norm["a"], GRADS["a"])
    np.testing.assert_allclose(by_norm["b"], GRADS["b"] / 2)
    together = moves(global_clipnorm=6.5)  # the norm of all is 13
    for name, grad in GRADS.items():
        np.testing.assert_allclose(together[name], grad / 2)
    for name, value in moves(global_clipnorm=13.0).items():
        np.testing.assert_array_equal(value, GRADS[name])


def test_global_clipping_is_torch_s():
    torch = pytest.importorskip("torch")
    tensors = [torch.zeros(grad.shape, dtype=torch.float64, requires_grad=True) for grad in GRADS.values()]
    for tensor, grad in zip(tensors, GRADS.values(), strict=True):
        tensor.grad = torch.tensor(grad)
    torch.nn.utils.clip_grad_norm_(tensors, 2.0)
    for tensor, move in zip(tensors, moves(global_clipnorm=2.0).values(), strict=True):
        np.testing.assert_allclose(tensor.grad.numpy(), move, rtol=1e-6)  # PyTorch adds 1e-6 to the norm


def test_clipping_does_not_hide_nan():
    for options in ({"clipvalue": 1.0}, {"clipnorm": 1.0}, {"global_clipnorm": 1.0}):
        params = {"w": np.zeros(2)}
        nn.SGD(1.0, **options).step(params, {"w": np.array([np.nan, 1.0])})
        assert np.isnan(params["w"][0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.SGD(0), "learning_rate must be positive, got 0"),
        (lambda: nn.SGD(float("nan")), "learning_rate must be positive, got nan"),
        (lambda: nn.SGD(0.1, momentum=1.0), r"momentum must be in \[0, 1\), got 1.0"),
        (lambda: nn.SGD(0.1, nesterov=True), "nesterov needs a momentum"),
        (lambda: nn.SGD(0.1, weight_decay=-1), "weight_decay must be >= 0, got -1"),
        (lambda: nn.SGD(0.1, decayed="biases"), "decayed must be"),
        (
            lambda: nn.SGD(0.1, clipnorm=1.0, clipvalue=1.0),
            "only one way of clipping .* clipvalue and clipnorm",
        ),
        (lambda: nn.SGD(0.1, global_clipnorm=0.0), "global_clipnorm must be positive, got 0.0"),
        (lambda: nn.Adam(betas=(0.9, 1.0)), "betas"),
        (lambda: nn.Adam(eps=0.0), "eps"),
        (lambda: nn.RMSprop(alpha=1.0), "alpha"),
    ],
)
def test_bad_hyper_parameters(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_what_cannot_be_moved_is_refused_before_anything_moves():
    params = {"a": np.zeros(3), "b": np.zeros(3, int), "c": np.zeros(3)}
    params["c"].flags.writeable = False
    for bad, error, message in (
        ({"b": np.ones(3)}, TypeError, "'b' must be float32 or float64, got int64"),
        ({"c": np.ones(3)}, ValueError, "'c' is read-only"),
        ({"a": np.ones(2)}, ValueError, r"the gradient of 'a' must have shape \(3,\), got \(2,\)"),
    ):
        with pytest.raises(error, match=message):
            nn.SGD(1.0).step(params, {"a": np.ones(3)} | bad)
        assert (params["a"] == 0).all()
    optimizer = nn.Adam()
    optimizer.step({"w": np.zeros(3)}, {"w": np.ones(3)})
    with pytest.raises(ValueError, match="an OptimizerState of its own"):
        optimizer.step({"w": np.zeros(4)}, {"w": np.ones(4)})


# ------------------------------------------------------------------------------------------------------ schedules

SCHEDULES = [
    (schedules.Constant(0.1, factor=0.25, steps=4), "ConstantLR", {"factor": 0.25, "total_iters": 4}),
    (schedules.Step(0.1, 3), "StepLR", {"step_size": 3}),
    (
        schedules.MultiStep(0.1, [2, 5, 5, 9], gamma=0.5),
        "MultiStepLR",
        {"milestones": [2, 5, 5, 9], "gamma": 0.5},
    ),
    (schedules.Exponential(0.1, 0.9), "ExponentialLR", {"gamma": 0.9}),
    (schedules.Polynomial(0.1, 12, power=2.0), "PolynomialLR", {"total_iters": 12, "power": 2.0}),
    (schedules.Cosine(0.1, 16, min_rate=0.01), "CosineAnnealingLR", {"T_max": 16, "eta_min": 0.01}),
    (schedules.CosineRestarts(0.1, 4), "CosineAnnealingWarmRestarts", {"T_0": 4}),
    (
        schedules.CosineRestarts(0.1, 3, factor=2, min_rate=0.01),
        "CosineAnnealingWarmRestarts",
        {"T_0": 3, "T_mult": 2, "eta_min": 0.01},
    ),
    (schedules.OneCycle(0.1, 17), "OneCycleLR", {"max_lr": 0.1, "total_steps": 17}),
    (
        schedules.OneCycle(0.1, 20, pct_start=0.5, div_factor=5, final_div_factor=50),
        "OneCycleLR",
        {"max_lr": 0.1, "total_steps": 20, "pct_start": 0.5, "div_factor": 5, "final_div_factor": 50},
    ),
    (schedules.Warmup(0.1, 5, start_factor=0.2), "LinearLR", {"start_factor": 0.2, "total_iters": 5}),
]


@pytest.mark.parametrize(
    ("ours", "theirs", "options"), SCHEDULES, ids=lambda v: v if isinstance(v, str) else ""
)
def test_schedules_are_torch_s(ours, theirs, options):
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    scheduler = getattr(torch.optim.lr_scheduler, theirs)(optimizer, **options)
    expected = []
    for _ in range(17):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step() if len(expected) < 17 else None
    np.testing.assert_allclose([ours(t) for t in range(17)], expected, rtol=1e-9, atol=1e-15)


def test_a_warm_up_goes_on_as_the_other_schedule():
    rate = schedules.Warmup(schedules.Step(1.0, 10), 4)
    assert [rate(t) for t in (0, 1, 4, 13, 14)] == [0.0, 0.25, 1.0, 1.0, 0.1]


@pytest.mark.parametrize("schedule", [pair[0] for pair in SCHEDULES], ids=repr)
def test_schedules_stay_defined_past_their_end(schedule):
    assert all(math.isfinite(schedule(t)) and schedule(t) >= 0 for t in (0, 1, 100, 10**6))


def test_schedules_count_steps_or_epochs():
    rates = []

    class Note(nn.callbacks.Callback):
        def on_train_batch_begin(self, batch):
            rates.append(self.model.optimizer.current_rate(self.model._optimizer_state))

    for unit in ("step", "epoch"):
        model = nn.Sequential([nn.Linear(1)], input_shape=(2,))
        model.compile(nn.SGD(schedules.Exponential(1e-3, 0.5, unit=unit)), "mse")
        model.fit(np.ones((4, 2)), np.zeros((4, 1)), batch_size=2, epochs=2, callbacks=[Note()], verbose=0)
    assert rates == [1e-3, 5e-4, 2.5e-4, 1.25e-4, 1e-3, 1e-3, 5e-4, 5e-4]


def test_a_schedule_drives_the_steps():
    params = {"w": np.zeros(1)}
    optimizer = nn.SGD(schedules.Step(1.0, 1, gamma=0.5))
    for expected in (-1.0, -1.5, -1.75):
        optimizer.step(params, {"w": np.ones(1)})
        assert params["w"][0] == expected


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: schedules.Step(0.0, 3), "learning_rate must be positive"),
        (lambda: schedules.Step(0.1, 0), "step_size must be an integer >= 1, got 0"),
        (lambda: schedules.Cosine(0.1, 2.5), "steps must be an integer >= 1, got 2.5"),
        (lambda: schedules.Cosine(0.1, 5, unit="batch"), "unit must be one of"),
        (lambda: schedules.MultiStep(0.1, [5, 2]), "milestones must ascend"),
        (lambda: schedules.OneCycle(0.1, 5, pct_start=2), "pct_start must be between 0 and 1, got 2"),
        (lambda: schedules.Warmup(schedules.Step(0.1, 3, unit="epoch"), 5), "counted by step cannot go on"),
    ],
)
def test_bad_schedules(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_hyper_parameters_as_json_and_text():
    optimizer = nn.AdamW(schedules.Warmup(schedules.Cosine(0.1, 9), 3), betas=(0.5, 0.9))
    config = optimizer.get_config()
    assert config["betas"] == [0.5, 0.9]
    assert config["learning_rate"]["schedule"] == "Warmup"
    assert config["learning_rate"]["after"] == {
        "schedule": "Cosine",
        "unit": "step",
        "learning_rate": 0.1,
        "steps": 9,
        "min_rate": 0.0,
    }
    assert repr(nn.SGD(0.1)).startswith(
        "SGD(learning_rate=0.1, momentum=0.0, nesterov=False, weight_decay=0.0"
    )
