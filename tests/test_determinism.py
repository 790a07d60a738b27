"""``fastconv.deterministic``: with it no sample's bits depend on the batch it is in."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastconv
import fastconv.functional as F
import fastconv.grad as G
from cases import CASES, Case, Fixed
from fastconv import _config, _conv, _dispatch, nn
from fastconv._spec import ConvSpec
from kit import Array, bits, kernels, with_threads

BATCH = 13  # no other size of the cases

# These sum over the batch, or draw one mask for all of it.
OVER_THE_BATCH = ("weight", "bias", "drop", "grad.batch_norm")


def works_on_samples(each: Case) -> bool:
    if each.name.endswith("cross_entropy"):
        return each.options.get("reduction") == "none"
    return not each.options.get("training") and not any(word in each.name for word in OVER_THE_BATCH)


@pytest.fixture
def invariant() -> Iterator[None]:
    with fastconv.deterministic(batch_invariant=True):
        yield


def assert_samples_stand_alone(op: Callable[..., Array], *batches: Array) -> None:
    """The bits of single samples and of a few are those they have in the whole batch."""
    whole, n = op(*batches), len(batches[0])
    for start, stop in ((0, 1), (n // 2, n // 2 + 1), (n - 1, n), (1, min(4, n))):
        part = op(*(np.ascontiguousarray(a[start:stop]) for a in batches))
        assert bits(part) == bits(whole[start:stop]), (start, stop)


# ------------------------------------------------------------------------------------------------------- kernels


@pytest.mark.parametrize("each", [each for each in CASES if works_on_samples(each)], ids=str)
@pytest.mark.usefixtures("invariant")
def test_public_ops(each: Case, dtype: str, isa: str) -> None:
    arguments, single = each.make(dtype, BATCH), each.make(dtype, 1)
    whole = each.run(arguments)
    for i in (0, 5, BATCH - 1):
        one = [
            alone if isinstance(given, Fixed) else a[i : i + 1] if len(a) == BATCH else a
            for given, a, alone in zip(each.arguments, arguments, single, strict=True)
        ]
        for got, expected in zip(each.run(one), whole, strict=True):
            assert bits(got) == bits(expected[i : i + 1])


CONVOLUTIONS = [
    ((9, 1, 5, 5), (2, 1, 3, 3), {"padding": 1}),
    ((33, 2, 11), (3, 2, 3), {}),
    ((9, 5, 9, 8), (7, 5, 3, 3), {}),
    ((9, 16, 14, 14), (24, 16, 3, 3), {"padding": 1}),
    ((17, 3, 7, 5), (2, 3, 3, 3), {"padding": 1}),
    ((9, 6, 9, 8), (12, 1, 3, 3), {"groups": 6, "dilation": 2, "padding": 2}),
    ((9, 8, 6, 6), (10, 8, 1, 1), {}),
    ((5, 300, 5, 5), (7, 300, 3, 3), {"padding": 1}),
    ((5, 3, 23, 21), (8, 3, 5, 5), {"stride": 2, "padding": 2}),
    ((70, 32, 3, 3), (32, 32, 3, 3), {"padding": 1}),
    ((33, 20, 7), (11, 20, 3), {"padding": 1}),
    ((9, 4, 6, 9), (5, 4, 1, 3), {}),
    ((5, 2, 5, 6, 7), (3, 2, 2, 3, 2), {"padding": 1}),
]


@pytest.mark.parametrize(("shape", "weight_shape", "options"), CONVOLUTIONS)
@pytest.mark.parametrize("op", ["conv_forward", "conv_input_grad"])
def test_every_algorithm_of_convolution(
    op: str,
    shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    options: dict[str, Any],
    dtype: str,
    isa: str,
    threads: int,
    rng: np.random.Generator,
) -> None:
    spec = ConvSpec.from_shapes(shape, weight_shape, dtype, **options)
    forward = op == "conv_forward"
    source = rng.standard_normal(spec.input_shape if forward else spec.output_shape).astype(dtype)
    weight = rng.standard_normal(weight_shape).astype(dtype)
    bias = rng.standard_normal(spec.out_channels if forward else spec.in_channels).astype(dtype)
    assert kernels(op, spec) == kernels(op, replace(spec, batch=1))
    for each in kernels(op, spec):
        assert_samples_stand_alone(
            lambda x, run=each.run: run(replace(spec, batch=len(x)), x, weight, bias, None), source
        )


@pytest.mark.parametrize(
    ("m", "k", "n"), [(7, 40, 10), (100, 300, 33), (97, 1000, 128), (13, 512, 300), (200, 64, 5), (12, 7, 1)]
)
def test_linear(m: int, k: int, n: int, dtype: str, isa: str, threads: int, rng: np.random.Generator) -> None:
    x, w, b, grad = (rng.standard_normal(s).astype(dtype) for s in ((m, k), (n, k), n, (m, n)))
    assert_samples_stand_alone(lambda a: F.linear(a, w, b), x)
    assert_samples_stand_alone(lambda a: G.linear_input(w, a), grad)


@pytest.mark.parametrize(
    ("m", "n", "k"), [(13, 300, 70), (64, 128, 300), (97, 250, 257), (193, 47, 33), (1, 65, 40)]
)
def test_product_on_any_number_of_threads(
    m: int, n: int, k: int, dtype: str, isa: str, rng: np.random.Generator
) -> None:
    """The threads decide how many columns are packed together, never the order of a sum."""
    a, b = (rng.standard_normal(shape).astype(dtype) for shape in ((m, k), (k, n)))
    for left, right in itertools.product((False, True), repeat=2):
        results = []
        for threads in (1, 2, 3, 5, 64):
            out = np.empty((m, n), dtype)
            x, y = (np.ascontiguousarray(z.T) if turned else z for z, turned in ((a, left), (b, right)))
            _conv.matmul(x, y, None, out, m, n, k, out.itemsize, left, right, _config.isa(), threads)
            results.append(bits(out))
        np.testing.assert_allclose(out, a @ b, rtol=0, atol=8 * k * np.finfo(dtype).eps)
        assert len(set(results)) == 1


@pytest.mark.parametrize("shape", [(9, 6, 9, 8), (37, 3, 5, 5), (5, 7, 31, 33), (11, 13)])
def test_pointwise_ops(shape: tuple[int, ...], dtype: str, isa: str, rng: np.random.Generator) -> None:
    """Where a sample begins inside a vector must not matter."""
    x = (4 * rng.standard_normal(shape)).astype(dtype)
    for op in (F.relu, F.leaky_relu, F.relu6, F.sigmoid, F.tanh):
        assert_samples_stand_alone(op, x)
    for axis in range(1, x.ndim):
        assert_samples_stand_alone(lambda a, axis=axis: F.softmax(a, axis), x)
        assert_samples_stand_alone(lambda a, axis=axis: F.log_softmax(a, axis), x)
    statistics = [rng.uniform(0.5, 2.0, shape[1]).astype(dtype) for _ in range(4)]
    assert_samples_stand_alone(lambda a: F.batch_norm(a, *statistics), x)


@pytest.mark.parametrize("algorithm", ["winograd2", "winograd4", "winograd6"])
@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_infinities_of_a_sample_do_not_reach_another(algorithm: str, bad: float, isa: str) -> None:
    """Winograd does not serve samples that hold them: the others must not notice."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((5, 8, 9, 9), "float32"), rng.standard_normal((8, 8, 3, 3), "float32")
    spoilt = x.copy()
    spoilt[2, 3, 4, 4] = bad
    clean = np.arange(5) != 2

    def forward(x: Array, w: Array) -> Array:
        return F.conv2d(x, w, padding=1, algorithm=algorithm)

    def input_grad(grad: Array, w: Array) -> Array:
        return G.conv2d_input(grad.shape, w, grad, padding=1, algorithm=algorithm)

    for op in (forward, input_grad):
        expected, got = op(x, w), op(spoilt, w)
        assert bits(got[clean]) == bits(expected[clean])
        assert bits(got[2:3]) == bits(op(spoilt[2:3], w))
        assert np.isfinite(got[2]).sum() == 8 * (81 - 9)  # nine windows see it
        spoilt_weight = w.copy()
        spoilt_weight[1, 2, 0, 0] = bad
        assert_samples_stand_alone(lambda a, op=op, w=spoilt_weight: op(a, w), x)


# ------------------------------------------------------------------------------------------------------- choices

SIZES = (1, 2, 3, 8, 64)


def taken(op: str, batch: int) -> str:
    x, w = np.zeros((batch, 64, 7, 7), "float32"), np.zeros((64, 64, 3, 3), "float32")
    arguments = (x.shape, w, x) if op == "grad.conv2d_input" else (x, w)
    return fastconv.explain_choice(op, *arguments, padding=1).implementation.name


@pytest.mark.parametrize("op", ["conv2d", "conv_transpose2d", "grad.conv2d_input"])
def test_the_choice_does_not_depend_on_the_batch(op: str, isa: str) -> None:
    by_size = {taken(op, n) for n in SIZES}
    assert len(by_size) > 1  # else the shape shows nothing
    with fastconv.deterministic(batch_invariant=True):
        (always,) = {taken(op, n) for n in SIZES}
    assert always in by_size
    assert {taken(op, n) for n in SIZES} == by_size


@pytest.mark.usefixtures("invariant")
def test_convolutions_whose_best_algorithm_depends_on_the_batch(rng: np.random.Generator) -> None:
    x, w = rng.standard_normal((20, 64, 7, 7), "float32"), rng.standard_normal((64, 64, 3, 3), "float32")
    assert_samples_stand_alone(lambda a: F.conv2d(a, w, padding=1), x)
    assert_samples_stand_alone(lambda a: F.conv_transpose2d(a, w, padding=1), x)
    assert_samples_stand_alone(lambda a: G.conv2d_input(a.shape, w, a, padding=1), x)


@pytest.mark.usefixtures("invariant")
def test_predict_with_any_batch_size(threads: int, rng: np.random.Generator) -> None:
    image = nn.Input((3, 14, 14))
    h = nn.ReLU()(nn.BatchNorm2d()(nn.Conv2d(32, 3, padding=1)(image)))
    h = nn.MaxPool2d(2)(h)
    h = h + nn.Conv2d(32, 3, padding=1)(h)
    y = nn.Softmax()(nn.Linear(10)(nn.Dropout(0.5)(nn.Flatten()(nn.Sigmoid()(h)))))
    model = nn.Model(image, y, seed=0)
    x = rng.standard_normal((21, 3, 14, 14), "float32")
    expected = bits(model.predict(x))
    for batch_size in (1, 2, 5, 16):
        assert bits(model.predict(x, batch_size=batch_size)) == expected
    with with_threads(3):
        assert bits(model.predict(x, batch_size=4)) == expected


# -------------------------------------------------------------------------------------------------------- switch


def on() -> bool:
    setting = fastconv.show_config()["batch_invariant"]
    assert setting == (_dispatch._policy.batch is not None)
    return bool(setting)


def test_it_is_a_switch_and_a_context() -> None:
    assert not on()
    with fastconv.deterministic(batch_invariant=True):
        assert on()
        with fastconv.deterministic(batch_invariant=False):
            assert not on()
        assert on()
    assert not on()
    with pytest.raises(KeyError), fastconv.deterministic():
        raise KeyError
    assert not on()
    try:
        fastconv.deterministic(batch_invariant=True)
        assert on()
    finally:
        fastconv.deterministic(batch_invariant=False)
    assert not on()


@pytest.mark.parametrize("value", [1, None, "yes"])
def test_other_values_are_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="batch_invariant must be True or False, got"):
        fastconv.deterministic(batch_invariant=value)
    assert not on()


def test_tuned_choices_are_ignored(tmp_path: Path) -> None:
    x, w = np.zeros((2, 16, 9, 9), "float32"), np.zeros((16, 16, 3, 3), "float32")
    with fastconv.tune(tmp_path / "tuned.json"):
        with fastconv.deterministic(batch_invariant=True):
            assert "measured" not in str(fastconv.explain_choice("conv2d", x, w))
        assert "measured" in str(fastconv.explain_choice("conv2d", x, w))
        with fastconv.deterministic(batch_invariant=True), fastconv.tune(tmp_path / "other.json"):
            assert "measured" not in str(fastconv.explain_choice("conv2d", x, w))
            assert on()
    assert not (tmp_path / "other.json").exists()
