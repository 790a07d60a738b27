"""Activations, softmax, cross-entropy, batch normalisation and channel sums of the cpu backend.

The oracle is the reference backend, which computes in float64; every instruction set is run in turn.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from fastconv._spec import ActivationSpec, AddSpec, BatchNormSpec, ChannelSpec, CrossEntropySpec, SoftmaxSpec
from fastconv.backends import _cpu_pointwise as cpu
from fastconv.backends import reference
from kit import bits, with_threads

pytestmark = pytest.mark.usefixtures("isa")

DTYPES = ("float32", "float64")
SIZES = (0, 1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33, 1009, 16383, 16384, 16385, 40009)
KINDS = ("relu", "leaky_relu", "relu6", "sigmoid", "tanh")
# (outer, length, inner): rows, columns, around the vector width, the column block (128) and the summing run (1024)
VIEWS = (
    (0, 3, 1),
    (3, 0, 1),
    (1, 1, 1),
    (5, 3, 1),
    (64, 10, 1),
    (3, 17, 1),
    (2, 1024, 1),
    (2, 1025, 1),
    (1, 40009, 1),
    (2, 3, 2),
    (2, 5, 127),
    (1, 21, 128),
    (3, 4, 129),
    (2, 7, 300),
    (2, 0, 5),
)
CHANNELS = (
    (4, 3, 1),
    (1, 1, 1),
    (9, 130, 1),
    (3, 7, 2),
    (2, 70, 15),
    (2, 3, 16),
    (3, 2, 17),
    (2, 5, 3136),
    (1, 2, 40009),
)


def randn(seed: int, shape: int | tuple[int, ...], dtype: str, scale: float = 1.0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(dtype)


def eps(dtype: str) -> float:
    return float(np.finfo(dtype).eps)


def assert_close(
    actual: np.ndarray, expected: np.ndarray, ulps: float, magnitude: float | None = None
) -> None:
    """Within ``ulps`` units of the expected value, or of ``magnitude`` where terms cancel."""
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    unit = eps(str(actual.dtype))
    np.testing.assert_allclose(
        actual,
        expected,
        rtol=ulps * unit,
        atol=ulps * unit * magnitude if magnitude else np.finfo(actual.dtype).tiny,
    )


def for_each_thread_count(call: Callable[[], tuple[np.ndarray, ...]]) -> tuple[np.ndarray, ...]:
    """The results on one thread, after checking that two and three give the same bits."""
    with with_threads(1):
        single = call()
    for n in (2, 3):
        with with_threads(n):
            several = call()
        for one, many in zip(single, several, strict=True):
            assert bits(one) == bits(many)
    return single


def directional(
    forward: Callable[[np.ndarray], np.ndarray], backward: Callable[[np.ndarray], np.ndarray], x: np.ndarray
) -> None:
    """The gradient against a central difference along a random direction, in float64."""
    step = 1e-6
    direction = randn(11, x.shape, "float64")
    direction /= np.linalg.norm(direction)
    grad_output = randn(12, forward(x).shape, "float64")
    numeric = np.sum(grad_output * (forward(x + step * direction) - forward(x - step * direction))) / (
        2 * step
    )
    assert numeric == pytest.approx(float(np.sum(backward(grad_output) * direction)), rel=1e-6, abs=1e-8)


# ------------------------------------------------------------------------------------------------ activations


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
def test_activation(kind: str, dtype: str, size: int) -> None:
    spec = ActivationSpec(kind=kind, size=size, dtype=dtype, slope=0.01)
    x = randn(1, size, dtype, 4.0)
    y, g = cpu.activation_forward(spec, x), randn(2, size, dtype)
    assert_close(y, reference.activation_forward(spec, x), 3)
    dx = cpu.activation_backward(spec, g, y)
    assert_close(dx, reference.activation_backward(spec, g, y), 3, magnitude=4.0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_activation_of_special_values(kind: str, dtype: str) -> None:
    special = np.array(
        [0.0, -0.0, np.inf, -np.inf, np.nan, 6.0, 1e-30, -1e-30, 88.8, -88.8, 200.0, -200.0], dtype
    )
    x = np.tile(special, 9)  # every value in vector bodies and in scalar tails
    spec = ActivationSpec(kind=kind, size=x.size, dtype=dtype, slope=0.01)
    y = cpu.activation_forward(spec, x)
    assert_close(y, reference.activation_forward(spec, x), 3)
    if kind in ("relu", "relu6", "leaky_relu", "tanh"):
        np.testing.assert_array_equal(np.signbit(y[:2]), [False, True])
    g = np.ones_like(x)
    assert_close(
        cpu.activation_backward(spec, g, y), reference.activation_backward(spec, g, y), 3, magnitude=1.0
    )


@pytest.mark.parametrize("kind", KINDS)
def test_activation_is_the_same_for_any_thread_count(kind: str) -> None:
    x, g = randn(3, 100_003, "float32"), randn(4, 100_003, "float32")
    spec = ActivationSpec(kind=kind, size=x.size, dtype="float32", slope=0.1)

    def both() -> tuple[np.ndarray, ...]:
        y = cpu.activation_forward(spec, x)
        return y, cpu.activation_backward(spec, g, y)

    for_each_thread_count(both)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [*SIZES, 100_003])
def test_add(size: int, dtype: str, relu: bool) -> None:
    a, b = randn(1, size, dtype), randn(2, size, dtype)
    if size > 1:
        a[-2:] = np.nan, 0
        b[-1] = -0.0
    spec = AddSpec(size=size, dtype=dtype, relu=relu)
    expected = reference.add(spec, a, b, None)
    (total,) = for_each_thread_count(lambda: (cpu.add(spec, a, b, None),))
    np.testing.assert_array_equal(total, expected)
    for place in (0, 1):
        own = [a.copy(), b.copy()]
        assert cpu.add(spec, *own, own[place]) is own[place]
        np.testing.assert_array_equal(own[place], expected)


def ulp_error(actual: np.ndarray, exact: np.ndarray) -> float:
    """Largest error in units of the float32 spacing at the exact value."""
    spacing = np.spacing(np.maximum(np.abs(exact), np.finfo(np.float32).tiny).astype(np.float32))
    return float(np.max(np.abs(actual.astype(np.float64) - exact) / spacing))


@pytest.mark.parametrize(("kind", "bound"), [("sigmoid", 3.0), ("tanh", 3.0), ("erf", 3.0)])
def test_float32_accuracy(kind: str, bound: float) -> None:
    x = np.concatenate(
        [np.linspace(-104, 89, 400_001), np.linspace(-1, 1, 100_001), np.logspace(-38, 0, 50_000)]
    ).astype(np.float32)
    exact = {
        "sigmoid": lambda z: np.exp(-np.logaddexp(0, -z)),
        "tanh": np.tanh,
        "erf": np.vectorize(math.erf),
    }[kind](x.astype(np.float64))
    y = cpu.activation_forward(ActivationSpec(kind=kind, size=x.size, dtype="float32"), x)
    assert ulp_error(y, exact) <= bound


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 17, 40_001])
def test_functions_whose_derivative_takes_the_input(size: int, dtype: str) -> None:
    """Within two roundings of the largest number in the formula, ``|x|`` for GELU, at any number of elements."""
    x = np.linspace(-9, 9, size).astype(dtype)
    x[1:3] = np.nan
    for kind in ActivationSpec.OF_INPUT:
        spec = ActivationSpec(kind=kind, size=size, dtype=dtype)
        (y,) = for_each_thread_count(lambda spec=spec: (cpu.activation_forward(spec, x),))
        exact = reference.activation_forward(spec, x)
        most = 2 * np.finfo(dtype).eps * (np.maximum(np.abs(x), 1) if kind == "gelu" else 1)
        np.testing.assert_array_equal(np.isnan(y), np.isnan(x))
        assert (np.abs(y - exact) <= most)[~np.isnan(x)].all()
        for backend in (cpu, reference):
            with pytest.raises(ValueError, match="takes its input"):
                backend.activation_backward(spec, x, y)
    ends = np.array([np.inf, -np.inf], dtype)
    assert cpu.activation_forward(ActivationSpec(kind="erf", size=2, dtype=dtype), ends).tolist() == [1, -1]


def test_float32_exp_accuracy() -> None:
    """The log-softmax gradient is g - exp(y) sum(g): with sum(g) = -1 it shows exp itself."""
    y = np.linspace(-110, 90, 2_000_001).astype(np.float32)
    y[-1] = 0.0
    g = np.zeros_like(y)
    g[-1] = -1.0
    spec = SoftmaxSpec(outer=1, length=y.size, inner=1, log=True, dtype="float32")
    exp = cpu.softmax_backward(spec, g, y)[:-1]
    exact = np.exp(y[:-1].astype(np.float64))
    finite = exact <= np.finfo(np.float32).max
    assert np.all(np.isposinf(exp[~finite]))
    assert ulp_error(exp[finite], exact[finite]) <= 2.0


# ------------------------------------------------------------------------------------------------ softmax


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("view", VIEWS)
def test_softmax(view: tuple[int, int, int], dtype: str, log: bool) -> None:
    spec = SoftmaxSpec(outer=view[0], length=view[1], inner=view[2], log=log, dtype=dtype)
    x, g = randn(1, view, dtype, 3.0), randn(2, view, dtype)

    def both() -> tuple[np.ndarray, ...]:
        y = cpu.softmax_forward(spec, x)
        return y, cpu.softmax_backward(spec, g, y)

    y, dx = for_each_thread_count(both)
    # the argument of exp is off by half an ulp of itself: its value here is at most 30
    assert_close(y, reference.softmax_forward(spec, x), 40, magnitude=1.0 if log else None)
    assert_close(dx, reference.softmax_backward(spec, g, y), 8, magnitude=4.0 + np.sqrt(view[1]))


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("inner", [1, 40])
def test_softmax_of_special_values(log: bool, inner: int) -> None:
    inf, nan = np.inf, np.nan
    rows = np.array(
        [
            [0, -inf, 1],
            [-inf, -inf, -inf],
            [inf, 0, 1],
            [nan, 0, 1],
            [0, 1, nan],
            [1e30, 1e30, -1e30],
            [200, 0, -200],
        ],
        np.float32,
    )
    x = np.repeat(np.tile(rows, (1, 7))[:, :, None], inner, axis=2)
    spec = SoftmaxSpec(outer=x.shape[0], length=x.shape[1], inner=inner, log=log, dtype="float32")
    np.testing.assert_allclose(
        cpu.softmax_forward(spec, x), reference.softmax_forward(spec, x), rtol=1e-6, atol=1e-30
    )


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("view", [(3, 11, 1), (2, 5, 7)])
def test_softmax_gradient(view: tuple[int, int, int], log: bool) -> None:
    spec = SoftmaxSpec(outer=view[0], length=view[1], inner=view[2], log=log, dtype="float64")
    x = randn(1, view, "float64")
    y = cpu.softmax_forward(spec, x)
    directional(lambda z: cpu.softmax_forward(spec, z), lambda g: cpu.softmax_backward(spec, g, y), x)


# ------------------------------------------------------------------------------------------------ cross-entropy


def cross_entropy_problem(
    view: tuple[int, int, int], dtype: str, *, soft: bool, weighted: bool, smoothing: float, reduction: str
) -> tuple[CrossEntropySpec, np.ndarray, np.ndarray, np.ndarray | None]:
    batch, classes, inner = view
    rng = np.random.default_rng(5)
    logits = randn(1, view, dtype, 2.0)
    if soft:
        target = rng.dirichlet(np.ones(classes), (batch, inner)).transpose(0, 2, 1).astype(dtype)
    else:
        target = rng.integers(0, classes, (batch, inner))
        target[rng.random((batch, inner)) < 0.2] = -100
    weight = rng.uniform(0.5, 2.0, classes).astype(dtype) if weighted else None
    spec = CrossEntropySpec(
        batch=batch,
        classes=classes,
        inner=inner,
        soft=soft,
        weighted=weighted,
        ignore_index=-100,
        label_smoothing=smoothing,
        reduction=reduction,
        dtype=dtype,
    )
    return spec, logits, np.ascontiguousarray(target), weight


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "view", [(9, 10, 1), (5000, 10, 1), (2, 1030, 1), (2, 3, 5), (2, 21, 300), (1, 1, 1)]
)
def test_cross_entropy(
    view: tuple[int, int, int], dtype: str, soft: bool, weighted: bool, smoothing: float, reduction: str
) -> None:
    spec, logits, target, weight = cross_entropy_problem(
        view, dtype, soft=soft, weighted=weighted, smoothing=smoothing, reduction=reduction
    )

    def forward() -> tuple[np.ndarray, ...]:
        return cpu.cross_entropy_forward(spec, logits, target, weight)

    loss, log_probs = for_each_thread_count(forward)
    expected, expected_log_probs = reference.cross_entropy_forward(spec, logits, target, weight)
    assert_close(log_probs, expected_log_probs, 8, magnitude=8.0)
    assert_close(loss, expected, 16, magnitude=16.0)
    grad = np.asarray(randn(3, loss.shape, dtype))
    (d,) = for_each_thread_count(lambda: (cpu.cross_entropy_backward(spec, grad, log_probs, target, weight),))
    exact = reference.cross_entropy_backward(spec, grad, log_probs, target, weight)
    assert_close(d, exact, 8, magnitude=4 * float(np.abs(grad).max()))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("inner", [1, 6])
def test_cross_entropy_with_every_label_ignored(inner: int, smoothing: float) -> None:
    spec, logits, target, _ = cross_entropy_problem(
        (3, 4, inner), "float32", soft=False, weighted=False, smoothing=smoothing, reduction="mean"
    )
    target[:] = -100
    loss, log_probs = cpu.cross_entropy_forward(spec, logits, target, None)
    assert loss.shape == () and np.isnan(loss)
    grad = cpu.cross_entropy_backward(spec, np.float32(1.0).reshape(()), log_probs, target, None)
    np.testing.assert_array_equal(grad, np.zeros_like(logits))


@pytest.mark.parametrize(("reduction", "expected"), [("mean", np.nan), ("sum", 0.0)])
def test_cross_entropy_of_an_empty_batch(reduction: str, expected: float) -> None:
    spec, logits, target, _ = cross_entropy_problem(
        (0, 4, 1), "float32", soft=False, weighted=False, smoothing=0.0, reduction=reduction
    )
    np.testing.assert_equal(float(cpu.cross_entropy_forward(spec, logits, target, None)[0]), expected)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("view", [(6, 5, 1), (2, 5, 7)])
def test_cross_entropy_gradient(view: tuple[int, int, int], soft: bool, reduction: str) -> None:
    spec, logits, target, weight = cross_entropy_problem(
        view, "float64", soft=soft, weighted=True, smoothing=0.1, reduction=reduction
    )
    log_probs = cpu.cross_entropy_forward(spec, logits, target, weight)[1]
    directional(
        lambda z: cpu.cross_entropy_forward(spec, z, target, weight)[0],
        lambda g: cpu.cross_entropy_backward(spec, np.asarray(g), log_probs, target, weight),
        logits,
    )


# ------------------------------------------------------------------------------------------------ channels


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("view", [*CHANNELS, (0, 3, 4), (2, 3, 0), (2, 0, 3)])
def test_channel_sum(view: tuple[int, int, int], dtype: str) -> None:
    spec = ChannelSpec(batch=view[0], channels=view[1], inner=view[2], dtype=dtype)
    x = randn(1, view, dtype)
    (total,) = for_each_thread_count(lambda: (cpu.channel_sum(spec, x),))
    # summed in float64: float32 results are the rounded exact ones, up to ties
    assert_close(
        total, x.astype(np.longdouble).sum(axis=(0, 2)).astype(dtype), 1, magnitude=view[0] * view[2] or 1
    )


def batch_norm_spec(
    view: tuple[int, int, int], dtype: str, training: bool, epsilon: float = 1e-5, relu: bool = False
) -> BatchNormSpec:
    sizes = dict(zip(("batch", "channels", "inner"), view, strict=True))
    return BatchNormSpec(**sizes, training=training, eps=epsilon, dtype=dtype, relu=relu)


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("view", CHANNELS)
def test_batch_norm(view: tuple[int, int, int], dtype: str, training: bool, affine: bool) -> None:
    spec = batch_norm_spec(view, dtype, training, 1e-2)
    x, g = randn(1, view, dtype) + np.asarray(3, dtype), randn(2, view, dtype)
    weight, bias = (randn(3, view[1], dtype), randn(4, view[1], dtype)) if affine else (None, None)
    mean, var = (None, None) if training else (randn(5, view[1], dtype), randn(6, view[1], dtype) ** 2)

    y, m, inv_std = for_each_thread_count(lambda: cpu.batch_norm_forward(spec, x, mean, var, weight, bias))
    exact_y, exact_m, exact_inv_std = reference.batch_norm_forward(spec, x, mean, var, weight, bias)
    assert_close(m, exact_m, 2, magnitude=4.0)
    assert_close(inv_std, exact_inv_std, 16)
    assert_close(y, exact_y, 16, magnitude=float(np.abs(exact_y).max()) + 30)

    results = for_each_thread_count(lambda: cpu.batch_norm_backward(spec, g, x, m, inv_std, weight, bias))
    exact = reference.batch_norm_backward(spec, g, x, m, inv_std, weight, bias)
    for actual, expected in zip(results, exact, strict=True):
        assert_close(
            actual, expected, 16, magnitude=float(np.abs(expected).max()) + np.sqrt(view[0] * view[2]) + 10
        )


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("view", CHANNELS)
def test_batch_norm_with_relu_is_batch_norm_and_relu(
    view: tuple[int, int, int], dtype: str, training: bool, affine: bool
) -> None:
    plain, joined = (batch_norm_spec(view, dtype, training, 1e-2, relu) for relu in (False, True))
    x = randn(1, view, dtype) + np.asarray(3, dtype)
    weight, bias = (randn(3, view[1], dtype), randn(4, view[1], dtype)) if affine else (None, None)
    mean, var = (None, None) if training else (randn(5, view[1], dtype), randn(6, view[1], dtype) ** 2)
    relu = ActivationSpec(kind="relu", size=x.size, dtype=dtype)

    def forward(spec: BatchNormSpec) -> tuple[np.ndarray, ...]:
        return cpu.batch_norm_forward(spec, x, mean, var, weight, bias)

    y, *statistics = for_each_thread_count(lambda: forward(joined))
    before_relu, *expected_statistics = forward(plain)
    expected = cpu.activation_forward(relu, before_relu), *expected_statistics
    for actual, wanted in zip((y, *statistics), expected, strict=True):
        np.testing.assert_array_equal(actual, wanted)

    # rounding decides whether the gradient passes where the output is nearly zero: none comes there
    g = np.where(np.abs(before_relu) > 1e-4, randn(2, view, dtype), np.zeros((), dtype))
    saved = x, *statistics, weight, bias
    results = for_each_thread_count(lambda: cpu.batch_norm_backward(joined, g, *saved))
    for exact in (
        cpu.batch_norm_backward(plain, cpu.activation_backward(relu, g, y), *saved),
        reference.batch_norm_backward(joined, g, *saved),
    ):
        for actual, wanted in zip(results, exact, strict=True):
            scale = float(np.abs(wanted).max()) + np.sqrt(view[0] * view[2]) + 10
            assert_close(actual, wanted, 16, magnitude=scale)


@pytest.mark.parametrize("view", [(4, 3, 1000), (500, 40, 1)])
def test_batch_norm_of_a_large_mean(view: tuple[int, int, int]) -> None:
    """Nothing cancels where the mean is 1e5 times the deviation (sum of squares minus square of sum would)."""
    x = (randn(1, view, "float64") + 1e5).astype(np.float32)
    y, mean, inv_std = cpu.batch_norm_forward(
        batch_norm_spec(view, "float32", True), x, None, None, None, None
    )
    exact = x.astype(np.float64)
    np.testing.assert_allclose(mean, exact.mean(axis=(0, 2)), rtol=1e-7)
    np.testing.assert_allclose(inv_std, 1 / np.sqrt(exact.var(axis=(0, 2)) + 1e-5), rtol=1e-6)
    assert np.abs(y.mean(axis=(0, 2), dtype=np.float64)).max() < 1e-6
    np.testing.assert_allclose(y.std(axis=(0, 2), dtype=np.float64), 1, rtol=1e-5)


@pytest.mark.parametrize("view", [(2, 2, 100), (100, 3, 1)])
def test_batch_norm_of_an_outlier_in_front(view: tuple[int, int, int]) -> None:
    """The shift of the variance comes from the first elements: one wild value there must not spoil it."""
    x = randn(1, view, "float64")
    x[0, :, 0] = 1e8
    inv_std = cpu.batch_norm_forward(batch_norm_spec(view, "float64", True), x, None, None, None, None)[2]
    np.testing.assert_allclose(inv_std, 1 / np.sqrt(x.var(axis=(0, 2)) + 1e-5), rtol=1e-12)


def test_batch_norm_of_a_constant_channel() -> None:
    x = np.full((3, 2, 50), 0.1, np.float32)
    y, _, inv_std = cpu.batch_norm_forward(
        batch_norm_spec(x.shape, "float32", True), x, None, None, None, None
    )
    np.testing.assert_allclose(inv_std, 1 / np.sqrt(1e-5), rtol=1e-6)
    assert np.abs(y).max() < 1e-5


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("view", [(5, 4, 1), (3, 2, 20)])
def test_batch_norm_gradient(view: tuple[int, int, int], training: bool) -> None:
    spec = batch_norm_spec(view, "float64", training)
    x, weight, bias = randn(1, view, "float64"), randn(2, view[1], "float64"), randn(3, view[1], "float64")
    given = (None, None) if training else (randn(4, view[1], "float64"), np.full(view[1], 0.7))
    _, mean, inv_std = cpu.batch_norm_forward(spec, x, *given, weight, bias)

    def backward(g: np.ndarray) -> tuple[np.ndarray, ...]:
        return cpu.batch_norm_backward(spec, g, x, mean, inv_std, weight, bias)

    directional(
        lambda z: cpu.batch_norm_forward(spec, z, *given, weight, bias)[0], lambda g: backward(g)[0], x
    )
    directional(
        lambda w: cpu.batch_norm_forward(spec, x, *given, w, bias)[0], lambda g: backward(g)[1], weight
    )
    directional(
        lambda b: cpu.batch_norm_forward(spec, x, *given, weight, b)[0], lambda g: backward(g)[2], bias
    )


@pytest.mark.parametrize("view", [(0, 3, 4), (2, 3, 0), (2, 0, 4)])
@pytest.mark.parametrize("training", [False, True])
def test_batch_norm_of_nothing(view: tuple[int, int, int], training: bool) -> None:
    spec = batch_norm_spec(view, "float32", training)
    x, ones = np.empty(view, np.float32), np.ones(view[1], np.float32)
    given = (None, None) if training else (ones, ones)
    y, mean, inv_std = cpu.batch_norm_forward(spec, x, *given, None, None)
    assert y.shape == view and mean.shape == inv_std.shape == (view[1],)
    dx, dweight, dbias = cpu.batch_norm_backward(spec, x, x, ones, ones, None, None)
    assert dx.shape == view
    np.testing.assert_array_equal(dweight, 0)
    np.testing.assert_array_equal(dbias, 0)


# ------------------------------------------------------------------------------------------------ contract


@pytest.mark.parametrize("op", ["activation", "softmax", "cross_entropy", "batch_norm", "channel_sum"])
def test_read_only_input_is_accepted_and_left_alone(op: str) -> None:
    x = randn(1, (2, 3, 40), "float32")
    before = x.tobytes()
    x.flags.writeable = False
    if op == "activation":
        cpu.activation_forward(ActivationSpec(kind="relu", size=x.size, dtype="float32"), x)
    elif op == "softmax":
        cpu.softmax_forward(SoftmaxSpec(outer=2, length=3, inner=40, log=False, dtype="float32"), x)
    elif op == "cross_entropy":
        spec, _, target, _ = cross_entropy_problem(
            (2, 3, 40), "float32", soft=False, weighted=False, smoothing=0.1, reduction="mean"
        )
        target.flags.writeable = False
        cpu.cross_entropy_forward(spec, x, target, None)
    elif op == "batch_norm":
        cpu.batch_norm_forward(batch_norm_spec((2, 3, 40), "float32", True), x, None, None, None, None)
    else:
        cpu.channel_sum(ChannelSpec(batch=2, channels=3, inner=40, dtype="float32"), x)
    assert x.tobytes() == before
