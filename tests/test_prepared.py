"""Prepared convolutions: the same bits as one op after another, whatever the algorithm, threads and instruction set."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastconv
import fastconv.functional as F
from fastconv import _config, _conv, _direct, _small, _winograd
from fastconv._dispatch import Packed
from fastconv._spec import ACTIVATIONS, ConvSpec, MatmulSpec
from kit import Array, bits, integers, kernels, ramp, reference, with_threads

SLOPE = 0.25
ACTIVATE: dict[str | None, Callable[[Array], Array]] = {
    None: lambda y: y,
    "relu": F.relu,
    "relu6": F.relu6,
    "leaky_relu": lambda y: F.leaky_relu(y, SLOPE),
}
CONV = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}

# Shapes of input and weight, and options: with and without packing, tiles cut off, several blocks of channels.
PROBLEMS: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((2, 5, 9, 10), (7, 5, 3, 3), {"padding": 1}),
    ((1, 4, 8, 8), (4, 4, 3, 3), {}),
    ((2, 33, 9, 19), (14, 33, 3, 3), {"padding": 1}),
    ((2, 3, 13, 14), (7, 3, 3, 3), {"padding": 3, "dilation": 3}),
    ((3, 1, 2, 2), (1, 1, 3, 3), {"padding": 1}),  # an image of less than a tile, one channel
    ((2, 300, 6, 6), (13, 300, 1, 1), {}),
    ((2, 8, 11, 13), (12, 4, 3, 3), {"stride": 2, "padding": 1, "groups": 2}),
    ((3, 6, 7, 7), (6, 1, 3, 3), {"groups": 6, "padding": 1}),
    ((1, 3, 40, 40), (8, 3, 7, 7), {"stride": 2, "padding": 3}),
    ((1, 3, 20, 27), (40, 3, 5, 5), {"stride": (2, 1)}),
    ((1, 6, 5, 300), (5, 6, 1, 3), {}),
    ((2, 70, 30), (9, 70, 3), {"padding": 2, "dilation": 2}),
    ((1, 3, 5, 6, 7), (4, 3, 2, 3, 2), {}),
    ((2, 200, 7, 7), (40, 200, 3, 3), {"padding": 1}),
    ((1, 2, 3, 3), (3, 2, 9, 9), {"padding": 4}),  # taps that see padding alone
    ((1, 2, 70, 90), (6, 1, 3, 3), {"groups": 2, "padding": 1}),  # tiles of whole rows
    ((1, 2, 5, 1100), (2, 1, 3, 3), {"groups": 2}),  # tiles of half rows
]


def unfused(
    x: Array, w: Array, b: Array | None, r: Array | None, activation: str | None, **options: Any
) -> Array:
    """The ops one after another."""
    y = CONV[x.ndim](x, w, b, **options)
    return ACTIVATE[activation](y if r is None else y + r)


def arrays(problem: Any, dtype: str, make: Any) -> tuple[ConvSpec, Array, Array, Array, Array]:
    """Spec, input, weight, bias and residual of a problem."""
    x_shape, w_shape, options = problem
    spec = ConvSpec.from_shapes(x_shape, w_shape, dtype, **options)
    x, w, b, r = (make(s).astype(dtype) for s in (x_shape, w_shape, w_shape[:1], spec.output_shape))
    return spec, x, w, b, r


@pytest.mark.parametrize("problem", PROBLEMS, ids=str)
def test_every_algorithm_gives_the_bits_of_one_op_after_another(
    problem: Any, dtype: str, isa: str, rng: np.random.Generator
) -> None:
    spec, x, w, b, r = arrays(problem, dtype, lambda shape: 3 * rng.standard_normal(shape))
    for kernel in kernels("conv_forward", spec):
        for activation, bias, residual in itertools.product(ACTIVATE, (None, b), (None, r)):
            options = problem[2] | {"algorithm": kernel.name}
            conv = fastconv.prepare(w, bias, activation=activation, negative_slope=SLOPE, **options)
            with with_threads(1):
                got = conv(x, residual)
            with with_threads(2):
                expected = unfused(x, w, bias, residual, activation, **options)
            assert bits(got) == bits(expected), f"{kernel.name} {activation}"


@pytest.mark.parametrize("problem", PROBLEMS, ids=str)
def test_integers_are_exact(problem: Any, dtype: str, isa: str, rng: np.random.Generator) -> None:
    """Where sums of products are all there is: Winograd's factors are no integers."""
    spec, x, w, b, r = arrays(problem, dtype, lambda shape: integers(rng, shape, dtype))
    for activation, bias, residual in itertools.product(ACTIVATE, (None, b), (None, r)):
        settings = {"activation": activation, "negative_slope": SLOPE, **problem[2]}
        with fastconv.use_backend("reference"):
            expected = fastconv.prepare(w, bias, **settings)(x, residual)
        for kernel in kernels("conv_forward", spec):
            if kernel.error_growth(spec) == 1:
                got = fastconv.prepare(w, bias, algorithm=kernel.name, **settings)(x, residual)
                np.testing.assert_array_equal(got, expected, err_msg=kernel.name)


@pytest.mark.parametrize("problem", PROBLEMS[:2] + PROBLEMS[5:8], ids=str)
def test_nan_and_infinity_are_those_of_one_op_after_another(
    problem: Any, dtype: str, isa: str, rng: np.random.Generator
) -> None:
    """In one sample of several too, which Winograd leaves to another algorithm: the residual is added once."""
    spec, x, w, b, r = arrays(problem, dtype, rng.standard_normal)
    x[-1, 0].flat[:3] = np.nan, np.inf, -np.inf
    r.flat[-2:] = np.nan, -np.inf
    b[0] = np.inf
    for kernel in kernels("conv_forward", spec):
        for activation, bias, residual in itertools.product(ACTIVATE, (None, b), (None, r)):
            options = problem[2] | {"algorithm": kernel.name}
            conv = fastconv.prepare(w, bias, activation=activation, negative_slope=SLOPE, **options)
            with np.errstate(invalid="ignore"):
                expected = unfused(x, w, bias, residual, activation, **options)
                got = conv(x, residual)
            assert np.isnan(expected).any()
            np.testing.assert_array_equal(got, expected, err_msg=f"{kernel.name} {activation}")


@pytest.mark.parametrize("groups", [1, 2])
def test_weights_too_large_for_one_pass(groups: int, isa: str, rng: np.random.Generator) -> None:
    """Unprepared they are packed in several passes, prepared in one."""
    x = rng.standard_normal((1, 256 * groups, 4, 5)).astype("float32")
    w = rng.standard_normal((1030 * groups, 256, 3, 3)).astype("float32")
    r = rng.standard_normal((1, 1030 * groups, 4, 5)).astype("float32")
    for algorithm in ("implicit_gemm", "winograd4"):
        options: dict[str, Any] = {"padding": 1, "groups": groups, "algorithm": algorithm}
        conv = fastconv.prepare(w, activation="relu", **options)
        for n in (1, 2, 3):
            with with_threads(n):
                assert bits(conv(x, r)) == bits(unfused(x, w, None, r, "relu", **options))


def test_kernels_know_the_activations_of_the_specs() -> None:
    for extension in (_conv, _direct, _small, _winograd):
        assert {*extension.ACTIVATIONS} == {"linear", *ACTIVATIONS}


MATMULS = [(1, 1, 1), (1, 40, 300), (5, 17, 33), (13, 130, 7), (100, 260, 20), (3, 4, 0)]


@pytest.mark.parametrize(("m", "n", "k"), MATMULS)
@pytest.mark.parametrize("activation", ["linear", "relu", "relu6", "leaky_relu"])
def test_matrix_product(
    m: int, n: int, k: int, activation: str, dtype: str, isa: str, rng: np.random.Generator
) -> None:
    plain = MatmulSpec.of(m, n, k, False, True, np.dtype(dtype))
    spec = MatmulSpec.of(m, n, k, False, True, np.dtype(dtype), activation, SLOPE)
    a, b, bias, r = (integers(rng, shape, dtype) for shape in ((m, k), (n, k), n, (m, n)))
    function = ACTIVATE[None if activation == "linear" else activation]
    for kernel in kernels("matmul", spec):
        for c, residual in itertools.product((None, bias), (None, r)):
            got = kernel.run(spec, a, b, c, residual)
            np.testing.assert_array_equal(got, reference("matmul", spec, a, b, c, residual))
            y = kernel.run(plain, a, b, c)
            assert bits(got) == bits(function(y if residual is None else y + residual))


# -------------------------------------------------------------------------------------------------------- handle

X, W = ramp((2, 16, 12, 12), "float32"), ramp((16, 16, 3, 3), "float32", seed=1)
B, R = W[0, :, 0, 0], X[:, :, 1:-1, 1:-1]


def test_any_batch_and_size_share_one_form_of_the_weight() -> None:
    conv = fastconv.prepare(W, algorithm="winograd4")
    assert conv.nbytes == W.nbytes
    conv(X)
    held = conv.nbytes
    assert held > 4 * W.nbytes
    for x in (X[:1], X[0], X[:, :, :7, :9], np.concatenate([X, X])):
        assert bits(conv(x)) == bits(F.conv2d(x, W, algorithm="winograd4"))
    assert conv.nbytes == held


def test_preparing_for_a_size_lays_the_weight_out_at_once() -> None:
    conv = fastconv.prepare(W, B, input_size=X.shape, algorithm="implicit_gemm")
    held = conv.nbytes
    assert held >= 2 * W.nbytes + B.nbytes
    conv(X)
    assert conv.nbytes == held


def test_the_caller_s_arrays_are_copied_and_the_copies_read_only() -> None:
    w, b = W.copy(), B.copy()
    conv = fastconv.prepare(w, b)
    w[:], b[:] = 0, 0
    assert bits(conv(X)) == bits(F.conv2d(X, W, B))
    assert conv.bias is not None
    for held in (conv.weight, conv.bias):
        with pytest.raises(ValueError, match="read-only"):
            held[0] = 1


def test_settings_may_change_between_calls() -> None:
    """Instruction set, backend and threads: the handle follows, and finds its former forms again."""
    conv = fastconv.prepare(W, B, activation="relu", algorithm="winograd2")
    held = []
    for _ in range(2):
        for name in fastconv.supported_isas():
            with fastconv.force_isa(name):
                assert bits(conv(X, R)) == bits(unfused(X, W, B, R, "relu", algorithm="winograd2"))
        held.append(conv.nbytes)
    assert held[0] == held[1]
    auto = fastconv.prepare(W, B)
    compiled = auto(X)
    with fastconv.use_backend("reference"):
        assert "reference" in str(auto.plan(X.shape))
        np.testing.assert_allclose(auto(X), compiled, rtol=0, atol=1e-3)
    assert bits(auto(X)) == bits(compiled)


def test_a_form_is_used_on_the_instruction_set_it_is_for() -> None:
    """Whatever is in use by then: another thread may have changed it."""
    spec = ConvSpec.from_shapes(X.shape, W.shape, "float32")
    for kernel in kernels("conv_forward", spec):
        if kernel.pack is not None:
            packed = kernel.pack(spec, W)
            expected = kernel.run(spec, X, W, None, None)
            for name in fastconv.supported_isas():
                with fastconv.force_isa(name):
                    assert bits(kernel.run(spec, X, packed, None, None)) == bits(expected), kernel.name


def test_the_plan_and_the_string_tell_the_algorithm() -> None:
    conv = fastconv.prepare(W, padding=1, activation="leaky_relu", negative_slope=0.2)
    assert str(conv.plan(X.shape)) == str(fastconv.explain_choice("conv2d", X, W, padding=1))
    text = str(conv)
    assert "leaky_relu 0.2" in text
    assert f"{X.shape}: conv_forward: cpu/{conv.plan(X.shape).implementation.name}" in text
    assert f"{conv.nbytes} bytes" in text


def test_out_is_filled_and_must_be_fit() -> None:
    conv = fastconv.prepare(W, B, activation="relu6")
    expected = conv(X, R)
    out = np.full(expected.shape, np.nan, "float32")
    assert conv(X, R, out=out) is out
    assert bits(out) == bits(expected)
    assert bits(conv(X[0], R[0], out=out[0])) == bits(conv(X[0], R[0]))
    residual = np.zeros_like(expected)
    with pytest.raises(ValueError, match="share memory"):
        conv(X, residual, out=residual)
    with pytest.raises(ValueError, match="out must have shape"):
        conv(X, out=out[:, 1:])


def test_arrays_of_any_layout_are_taken(dtype: str) -> None:
    x, r, w = X.astype(dtype), R.astype(dtype), W.astype(dtype)
    conv = fastconv.prepare(np.asfortranarray(w), B.astype(dtype))
    nhwc = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    assert bits(conv(nhwc, np.asfortranarray(r))) == bits(conv(x, np.ascontiguousarray(r)))
    assert conv(x[:0]).shape == (0, 16, 10, 10)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"activation": "gelu"}, ValueError, "activation must be None or one of .*got 'gelu'"),
        ({"activation": "leaky_relu", "negative_slope": -1.0}, ValueError, "negative_slope must be"),
        ({"weight": W[0, 0]}, ValueError, r"1 to 3 kernel sizes, got \(3, 3\)"),
        ({"weight": W.astype(int)}, TypeError, "weight must be float32 or float64"),
        ({"bias": B[1:]}, ValueError, r"bias must have shape \(16,\), got \(15,\)"),
        ({"bias": B.astype("float64")}, TypeError, "bias must have the dtype of weight"),
        ({"max_error": 0}, ValueError, "max_error must be"),
        ({"input_size": X.shape, "algorithm": "fastest"}, ValueError, "algorithm must be"),
        ({"input_size": (1, 3, 9, 9)}, ValueError, "input channels must equal"),
        ({"input_size": X.shape, "groups": 0}, ValueError, "groups must be >= 1"),
        ({"input_size": (3, 3)}, ValueError, "input must have shape"),
        ({"input_size": 3}, TypeError, "input_size must be a sequence"),
    ],
)
def test_mistakes_in_preparing(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fastconv.prepare(**{"weight": W, **arguments})


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((X.astype("float64"),), TypeError, "input must have the dtype of weight"),
        ((X[:, :5],), ValueError, "input channels must equal"),
        ((X[0, 0],), ValueError, "input must have shape"),
        ((X, R.astype("float64")), TypeError, "residual must have the dtype of weight"),
        ((X, R[:, :, 1:]), ValueError, "residual must have shape"),
        ((X[0], R), ValueError, "residual must have shape"),
    ],
)
def test_mistakes_in_calling(arguments: tuple[Array, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fastconv.prepare(W)(*arguments)


def test_drivers_refuse_forms_of_another_size() -> None:
    spec = ConvSpec.from_shapes(X.shape, W.shape, "float32")
    out = np.empty(spec.output_shape, "float32")
    flat = X.reshape(-1), W.reshape(-1), None, out.reshape(-1)
    short = np.empty(5, "float32")
    epilogue = "linear", 0.0, None, short
    with pytest.raises(ValueError, match=r"packed weights must have .* got 5"):
        _conv.conv_forward(spec, *flat, _config.isa(), 1, *epilogue)
    with pytest.raises(ValueError, match=r"packed weights must have .* got 5"):
        _conv.pack(spec, W.reshape(-1), short, _config.isa(), 1)
    with pytest.raises(ValueError, match=r"transformed filters must have .* got 5"):
        _winograd.conv_forward(spec, *flat, 4, _config.isa(), 1, *epilogue)
    with pytest.raises(ValueError, match=r"transformed filters must have .* got 5"):
        _winograd.transform(spec, W.reshape(-1), short, 4, _config.isa(), 1)


def test_forms_do_not_depend_on_the_number_of_threads() -> None:
    spec = ConvSpec.from_shapes(X.shape, W.shape, "float32")
    for kernel in kernels("conv_forward", spec):
        if kernel.pack is not None:
            forms = []
            for n in (1, 2, 3):
                with with_threads(n):
                    packed = kernel.pack(spec, W)
                assert isinstance(packed, Packed)
                conv = kernel.run(spec, X, packed, None, None)
                forms.append(bits(conv))
            assert len(set(forms)) == 1, kernel.name
