"""The blocked layout: the same numbers as in the plain one, wherever a kernel, a tail or a block ends."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

import fastconv
import fastconv.blocked as B
import fastconv.functional as F
from fastconv import _dispatch
from fastconv._spec import ConvSpec
from kit import Array, assert_within, bits, every_setting, integers, kernels, with_threads

NORM = {2: 24, 4: 80, 6: 640}  # as in test_winograd


def lanes(dtype: str) -> int:
    return 64 // np.dtype(dtype).itemsize


def activated(x: Array, activation: str | None) -> Array:
    if activation is None:
        return x
    return getattr(F, activation)(x, *([0.25] if activation == "leaky_relu" else []))


@st.composite
def problems(draw: st.DrawFn) -> dict[str, Any]:
    """Convolutions around the ends of blocks (8, 16 channels) and of tiles (6, 12 positions)."""
    dtype = draw(st.sampled_from(["float32", "float64"]))
    groups = draw(st.sampled_from([1, 1, 1, 2]))
    sizes = [lanes(dtype), 2 * lanes(dtype)] if groups > 1 else [1, 3, 7, 8, 9, 15, 16, 17, 31, 33, 40]
    channels, filters = (groups * draw(st.sampled_from(sizes)) for _ in range(2))
    if draw(st.sampled_from([False, False, True])):
        groups = filters = channels
    kernel = draw(st.sampled_from([(1, 1), (3, 3), (3, 3), (1, 3), (3, 1), (2, 5), (4, 1)]))
    stride = draw(st.sampled_from([(1, 1), (1, 1), (2, 2), (1, 3)]))
    dilation = draw(st.sampled_from([(1, 1), (1, 1), (2, 1), (3, 2)]))
    padding = [draw(st.integers(0, 4)) for _ in range(4)]
    span = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    size = [max(1, n - 2 + draw(st.integers(0, 14))) for n in span]
    for axis in range(2):
        missing = span[axis] - size[axis] - padding[2 * axis] - padding[2 * axis + 1]
        padding[2 * axis + 1] += max(0, missing)
    return {
        "dtype": dtype,
        "input": (draw(st.integers(1, 3)), channels, *size),
        "weight": (filters, channels // groups, *kernel),
        "options": {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups},
        "activation": draw(st.sampled_from([None, "relu", "relu6", "leaky_relu"])),
        "bias": draw(st.booleans()),
        "residual": draw(st.booleans()),
        "seed": draw(st.integers(0, 999)),
    }


def spec_of(problem: dict[str, Any]) -> ConvSpec:
    return ConvSpec.from_shapes(problem["input"], problem["weight"], problem["dtype"], **problem["options"])


@given(problems())
@settings(max_examples=150)
def test_sums_of_integers_are_exact_and_winograd_is_within_its_bound(problem: dict[str, Any]) -> None:
    """Every kernel on every instruction set, with epilogue, against the plain layout."""
    note(str(problem))
    dtype, spec = problem["dtype"], spec_of(problem)
    rng = np.random.default_rng(problem["seed"])
    x, w = integers(rng, problem["input"], dtype), integers(rng, problem["weight"], dtype)
    b = integers(rng, (spec.out_channels,), dtype) if problem["bias"] else None
    added = integers(rng, spec.output_shape, dtype) if problem["residual"] else None
    options = problem["options"]
    with fastconv.use_backend("reference"):
        sums = F.conv2d(x, w, b, **options)
    expected = activated(sums if added is None else sums + added, problem["activation"])
    bound = np.finfo(dtype).eps * F.conv2d(np.abs(x), np.abs(w), **options).max()
    arguments = {
        "activation": problem["activation"],
        "negative_slope": 0.25,
        "residual": None if added is None else B.to_blocked(added),
        **options,
    }
    for _ in every_setting():
        blocked = B.to_blocked(x)
        calls = [(B.conv2d, blocked, kernel) for kernel in kernels("blocked_conv_forward", spec)]
        calls += [(B.stem2d, x, kernel) for kernel in kernels("blocked_stem_forward", spec)]
        for call, images, kernel in calls:
            got = call(images, w, b, **arguments, algorithm=kernel.name)
            # by way of the plain layout up to F(4 x 4) may serve
            tile = 4 if kernel.name == "planes" else int(kernel.name.partition("winograd")[2] or 0)
            limit = NORM[tile] * bound if tile else 0.0
            assert_within(B.from_blocked(got, spec.out_channels), expected, limit, kernel.name)


@pytest.mark.parametrize(
    ("channels", "space"), [(1, (1,)), (7, (5, 3)), (16, (9,)), (17, (8, 8)), (40, (2, 3, 4))]
)
def test_there_and_back(channels: int, space: tuple[int, ...], dtype: str, isa: str) -> None:
    x = np.random.default_rng(0).standard_normal((2, channels, *space)).astype(dtype)
    blocked = B.to_blocked(x)
    assert blocked.shape == (2, -(-channels // lanes(dtype)), *space, lanes(dtype))
    for c in range(channels):
        assert np.array_equal(blocked[:, c // lanes(dtype), ..., c % lanes(dtype)], x[:, c])
    assert not np.moveaxis(blocked, -1, 2).reshape(2, -1, *space)[:, channels:].any()
    assert bits(B.from_blocked(blocked, channels)) == bits(x)


def test_no_channels_no_images(dtype: str) -> None:
    assert B.to_blocked(np.zeros((0, 5, 4, 4), dtype)).shape == (0, -(-5 // lanes(dtype)), 4, 4, lanes(dtype))
    w = np.ones((3, 5, 3, 3), dtype)
    empty = B.conv2d(B.to_blocked(np.zeros((0, 5, 4, 4), dtype)), w)
    assert B.from_blocked(empty, 3).shape == (0, 3, 2, 2)
    assert B.stem2d(np.zeros((0, 5, 4, 4), dtype), w).shape == empty.shape


@pytest.mark.parametrize("window", [(2, 2, 0), (3, 2, 1), (3, 1, 1), ((1, 4), (2, 3), (0, 2)), (5, 5, 2)])
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_pools(window: Any, ceil_mode: bool, dtype: str, isa: str, threads: int) -> None:
    x = np.random.default_rng(1).standard_normal((2, 19, 9, 11)).astype(dtype)
    x[0, 3, 4, 4] = np.nan
    x[1, 18, 0] = -np.inf
    blocked = B.to_blocked(x)
    got = B.from_blocked(B.max_pool2d(blocked, *window, ceil_mode=ceil_mode), 19)
    np.testing.assert_array_equal(got, F.max_pool2d(x, *window, ceil_mode=ceil_mode))
    for count_include_pad, divisor in ((True, None), (False, None), (True, 7)):
        options = {
            "ceil_mode": ceil_mode,
            "count_include_pad": count_include_pad,
            "divisor_override": divisor,
        }
        got = B.from_blocked(B.avg_pool2d(blocked, *window, **options), 19)
        rtol = 8 * np.finfo(dtype).eps
        np.testing.assert_allclose(got, F.avg_pool2d(x, *window, **options), rtol=rtol, atol=rtol)


def algorithms(shape: tuple[int, ...], weight: tuple[int, ...], groups: int = 1) -> list[str]:
    spec = ConvSpec.from_shapes(shape, weight, "float32", 1, 1, 1, groups)
    return [each.name for each in kernels("blocked_conv_forward", spec)]


@pytest.mark.parametrize("groups", [1, 20])
def test_same_bits_for_any_number_of_threads_and_any_batch(groups: int, isa: str) -> None:
    rng = np.random.default_rng(2)
    x = rng.standard_normal((5, 20, 13, 10), "float32")
    w = rng.standard_normal((20, 20 // groups, 3, 3), "float32")
    for name in algorithms(x.shape, w.shape, groups):
        options: dict[str, Any] = {"padding": 1, "groups": groups, "algorithm": name}
        with with_threads(1):
            expected = B.conv2d(B.to_blocked(x), w, **options)
        with with_threads(2):
            assert bits(B.conv2d(B.to_blocked(x), w, **options)) == bits(expected), name
            for i in range(
                5 if name != "planes" else 0
            ):  # whose choice in the plain layout may go by the batch
                alone = B.conv2d(B.to_blocked(x[i : i + 1]), w, **options)
                assert bits(alone) == bits(expected[i : i + 1]), name


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_stays_where_it_belongs(value: float, isa: str) -> None:
    """Also under Winograd's, and other samples keep their bits."""
    rng = np.random.default_rng(3)
    x, w = rng.standard_normal((2, 17, 12, 12), "float32"), rng.standard_normal((9, 17, 3, 3), "float32")
    clean = {
        name: B.conv2d(B.to_blocked(x), w, padding=1, algorithm=name) for name in algorithms(x.shape, w.shape)
    }
    x[1, 4, 5, 6] = value
    with fastconv.use_backend("reference"):
        expected = F.conv2d(x, w, padding=1)
    for name, before in clean.items():
        got = B.conv2d(B.to_blocked(x), w, padding=1, algorithm=name)
        assert bits(got[0]) == bits(before[0]), name
        plain = B.from_blocked(got, 9)
        assert np.array_equal(np.isfinite(plain), np.isfinite(expected)), name
        assert np.array_equal(np.isnan(plain), np.isnan(expected)), name


def test_the_lanes_behind_the_last_channel_are_of_no_account(isa: str) -> None:
    rng = np.random.default_rng(4)
    x, w = rng.standard_normal((1, 18, 9, 9), "float32"), rng.standard_normal((5, 18, 3, 3), "float32")
    blocked = B.to_blocked(x)
    soiled = blocked.copy()
    soiled[:, 1, ..., 2:] = np.nan
    for name in algorithms(x.shape, w.shape):
        clean = B.from_blocked(B.conv2d(blocked, w, padding=1, algorithm=name), 5)
        assert bits(B.from_blocked(B.conv2d(soiled, w, padding=1, algorithm=name), 5)) == bits(clean), name


@pytest.mark.parametrize("layout", ["blocked", "stem"])
def test_a_prepared_weight_gives_the_same_bits(layout: str, isa: str, threads: int) -> None:
    rng = np.random.default_rng(5)
    x, w, b = (rng.standard_normal(s, "float32") for s in ((2, 7, 12, 11), (33, 7, 3, 3), (33,)))
    added = B.to_blocked(rng.standard_normal((2, 33, 12, 11), "float32"))
    given, call = (x, B.stem2d) if layout == "stem" else (B.to_blocked(x), B.conv2d)
    for algorithm in ("auto", "planes", *([] if layout == "stem" else ["winograd4", "direct"])):
        handle = fastconv.prepare(w, b, padding=1, activation="relu", layout=layout, algorithm=algorithm)
        expected = call(given, w, b, padding=1, activation="relu", residual=added, algorithm=algorithm)
        for _ in range(2):
            assert bits(handle(given, added)) == bits(expected), algorithm
        out = np.empty_like(expected)
        assert handle(given, added, out=out) is out
        assert bits(out) == bits(expected), algorithm
        assert bits(handle(given[0], added[0])) == bits(handle(given[:1], added[:1])[0]), algorithm


def test_one_dimension(dtype: str, isa: str) -> None:
    rng = np.random.default_rng(6)
    x, w = integers(rng, (2, 9, 31), dtype), integers(rng, (20, 9, 3), dtype)
    expected = F.conv1d(x, w, stride=2, padding=1)
    handle = fastconv.prepare(w, stride=2, padding=1, layout="blocked")
    np.testing.assert_array_equal(B.from_blocked(handle(B.to_blocked(x)), 20), expected)


X = np.zeros((1, 2, 6, 6, 16), "float32")
W = np.zeros((4, 32, 3, 3), "float32")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: B.to_blocked(np.zeros(3, "float32")), r"shape \(N, C, ...\), got \(3,\)"),
        (lambda: B.from_blocked(X, 33), "of 2 blocks of 16 channels does not hold 33 channels"),
        (lambda: B.from_blocked(X[..., :8], 16), r"shape \(N, blocks, .*16\), got \(1, 2, 6, 6, 8\)"),
        (lambda: B.conv2d(X, W[:, :16]), "does not hold 16 channels"),
        (lambda: B.conv2d(X[0], W), r"shape \(N, blocks, H, W, 16\)"),
        (lambda: B.conv2d(X, W[0]), r"weight must have shape \(K, C / groups, KH, KW\)"),
        (lambda: B.conv2d(X, W, residual=X), r"residual must have shape \(1, 1, 4, 4, 16\)"),
        (lambda: B.conv2d(X, W, activation="tanh"), "activation must be None or one of"),
        (lambda: B.conv2d(X, W, algorithm="depthwise"), "each channel is its own group"),
        (lambda: B.stem2d(X, W), r"\(N, C, H, W\)"),
        (lambda: B.max_pool2d(X[0], 2), r"shape \(N, blocks, H, W, 16\)"),
        (lambda: fastconv.prepare(W, layout="nhwc"), "layout must be one of"),
        (lambda: fastconv.prepare(W, layout="blocked")(X[:, :1]), "does not hold 32 channels"),
    ],
)
def test_bad_input(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_mixed_dtypes_are_refused() -> None:
    with pytest.raises(TypeError, match="weight must have the dtype of input"):
        B.conv2d(X, W.astype("float64"))


def test_the_choice_is_explained() -> None:
    """Deep and wide: Winograd; strided: plain sums; a channel a group: depthwise."""
    x = (1, 64, 56, 56)
    for weight, options, name in (
        ((64, 64, 3, 3), {"padding": 1}, "winograd"),
        ((64, 64, 3, 3), {"padding": 1, "stride": 2}, "direct"),
        ((64, 1, 3, 3), {"padding": 1, "groups": 64}, "depthwise"),
        ((64, 16, 1, 1), {"groups": 4}, "direct"),
        ((64, 8, 1, 1), {"groups": 8}, "planes"),
    ):
        handle = fastconv.prepare(np.zeros(weight, "float32"), layout="blocked", **options)
        choice = handle.plan(x)
        assert choice.implementation.name.startswith(name), str(choice)
    assert "its groups are whole blocks of 16 channels, got 8 and 8" in str(choice)


def test_every_kernel_is_among_those_tested() -> None:
    names = {
        each.name
        for op in ("blocked_conv_forward", "blocked_stem_forward")
        for each in _dispatch.implementations(op, "cpu")
    }
    assert names == {
        "depthwise",
        "winograd2",
        "winograd4",
        "winograd6",
        "direct",
        "stem",
        "planes",
        "reference",
    }
