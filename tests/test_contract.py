"""What every op promises about its arrays, apart from values: none is modified, any memory layout will do, batches may
be empty, results are new, and sizes that nothing can hold are refused instead of computed wrongly."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastconv
import fastconv.functional as F
import fastconv.grad as G
from cases import CASES, Case
from kit import Array, bits, ramp, run_python

LAYOUTS: dict[str, Callable[[Array], Any]] = {}


def layout(make: Callable[[Array], Any]) -> Callable[[Array], Any]:
    """Register a way to hold the same values differently."""
    LAYOUTS[make.__name__.replace("_", " ").strip()] = make
    return make


@layout
def fortran_order(a: Array) -> Array:
    return np.asfortranarray(a)


@layout
def channels_last(a: Array) -> Array:
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 1, -1)), -1, 1) if a.ndim > 2 else a


@layout
def every_other_element(a: Array) -> Array:
    wide = np.repeat(a, 2, axis=-1)
    wide[..., 1::2] = 77
    return wide[..., ::2]


@layout
def backwards(a: Array) -> Array:
    return np.ascontiguousarray(a[..., ::-1])[..., ::-1]


@layout
def read_only(a: Array) -> Array:
    frozen = a.copy()
    frozen.flags.writeable = False
    return frozen


@layout
def byte_swapped(a: Array) -> Array:
    return a.astype(a.dtype.newbyteorder())


@layout
def unaligned(a: Array) -> Array:
    shifted: Array = np.frombuffer(b"\0" + a.tobytes(), np.uint8)[1:].view(a.dtype).reshape(a.shape)
    return shifted


@layout
def subclass(a: Array) -> Array:
    class Labelled(np.ndarray):
        pass

    return a.view(Labelled)


class WithArray:
    """Only ``__array__``."""

    def __init__(self, array: Array) -> None:
        self.array = array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return self.array


class WithDlpack:
    """Only ``__dlpack__``."""

    def __init__(self, array: Array) -> None:
        self.array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()


LAYOUTS["__array__"] = WithArray
LAYOUTS["__dlpack__"] = WithDlpack


def outermost(a: Any) -> Array:
    """The array that owns the memory of ``a``."""
    a = getattr(a, "array", a)
    while isinstance(a.base, np.ndarray):
        a = a.base
    return a


@pytest.mark.parametrize("each", CASES, ids=str)
def test_any_layout_gives_the_same_bits_and_is_left_alone(each: Case, dtype: str) -> None:
    clean = each.make(dtype)
    expected = each.run(clean)
    for name, change in LAYOUTS.items():
        arguments = [change(a) if isinstance(a, np.ndarray) else a for a in clean]
        owners = [outermost(a) for a, b in zip(arguments, clean, strict=True) if isinstance(b, np.ndarray)]
        before = [bits(a) for a in owners]
        results = each.run(arguments)
        assert [bits(a) for a in owners] == before, f"{name}: an input was modified"
        for got, want in zip(results, expected, strict=True):
            assert type(got) is np.ndarray, name
            assert (got.shape, got.dtype) == (want.shape, want.dtype), name
            assert bits(got) == bits(want), name


@pytest.mark.parametrize("each", CASES, ids=str)
def test_results_are_new_arrays_that_may_be_written_to(each: Case, dtype: str) -> None:
    arguments = each.make(dtype)
    before = [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]
    result = each.function(*arguments, **each.options)
    for got in result if isinstance(result, tuple) else (result,):
        assert not any(isinstance(a, np.ndarray) and np.shares_memory(got, a) for a in arguments)
        assert got.ndim == 0 or got.flags.writeable
        if got.ndim:
            got[...] = 1
    for a, b in zip(arguments, before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("each", CASES, ids=str)
def test_lists_are_taken_as_float64(each: Case) -> None:
    clean = each.make("float64")
    masks = [isinstance(a, np.ndarray) and a.dtype == np.uint8 for a in clean]
    lists = [
        a.tolist() if isinstance(a, np.ndarray) and not m else a for a, m in zip(clean, masks, strict=True)
    ]
    for got, want in zip(each.run(lists), each.run(clean), strict=True):
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("each", CASES, ids=str)
def test_other_number_types_are_refused(each: Case) -> None:
    """Each float argument in turn as integers, half precision, complex, text: TypeError, naming what it got."""
    clean = each.make("float64")
    floats = [i for i, a in enumerate(clean) if isinstance(a, np.ndarray) and a.dtype == np.float64]
    for i in floats:
        for other in ("float16", "longdouble", "complex64", "bool", "O", "U8"):
            arguments = list(clean)
            arguments[i] = clean[i].astype(other)
            with pytest.raises(TypeError, match=r"float(32|16)|float64|integer|dtype"):
                each.run(arguments)


@pytest.mark.parametrize("each", CASES, ids=str)
def test_mixed_dtypes_are_refused(each: Case) -> None:
    clean = each.make("float64")
    floats = [i for i, a in enumerate(clean) if isinstance(a, np.ndarray) and a.dtype == np.float64]
    for i in floats if len(floats) > 1 else ():
        arguments = list(clean)
        arguments[i] = clean[i].astype("float32")
        with pytest.raises(TypeError, match=r"dtype of .*float32"):
            each.run(arguments)


def test_gpu_arrays_are_refused_with_the_reason() -> None:
    class OnGpu:
        __cuda_array_interface__ = {"shape": (1, 1, 3, 3)}  # noqa: RUF012

    for call in (F.relu, lambda x: F.max_pool2d(x, 2), lambda x: F.conv2d(np.ones((1, 1, 3, 3)), x)):
        with pytest.raises(TypeError, match="GPU array"):
            call(OnGpu())


@pytest.mark.parametrize("each", CASES, ids=str)
def test_empty_batches(each: Case, dtype: str) -> None:
    """Shapes and dtypes are those of a full batch; values, where there are any, those of the reference."""
    arguments, full = each.make(dtype, batch=0), each.make(dtype, batch=2)
    results = each.run(arguments)
    with fastconv.use_backend("reference"):
        expected = each.run(arguments)
    for got, want, like in zip(results, expected, each.run(full), strict=True):
        assert got.dtype == like.dtype
        assert got.shape == want.shape
        assert len(got.shape) == len(like.shape)
        np.testing.assert_array_equal(got, want)


# ---------------------------------------------------------------------------------------------------------- out=

X, W, B = ramp((2, 3, 7, 6)), ramp((4, 3, 3, 3), seed=1), ramp((4,), seed=2)
OUT_CALLS = [
    pytest.param(lambda **k: F.conv1d(X[:, :, 0], W[:, :, 0], B, **k), id="conv1d"),
    pytest.param(lambda **k: F.conv2d(X, W, B, **k), id="conv2d"),
    pytest.param(lambda **k: F.conv2d(X[0], W, B, **k), id="conv2d-unbatched"),
    pytest.param(lambda **k: F.conv2d(X, W[:3, :1], B[:3], groups=3, **k), id="depthwise"),
    pytest.param(lambda **k: F.conv3d(X[:, None], W[:, :1, None], B, **k), id="conv3d"),
    pytest.param(lambda **k: F.conv_transpose1d(X[:, :, 0], W[:3, :, 0], B[:3], **k), id="conv_transpose1d"),
    pytest.param(lambda **k: F.conv_transpose2d(X, W[:3], B[:3], stride=2, **k), id="conv_transpose2d"),
]


@pytest.mark.parametrize("call", OUT_CALLS)
def test_out_is_filled_and_its_neighbours_are_not(call: Callable[..., Array]) -> None:
    expected = call()
    room = np.full(expected.size + 128, np.nan)
    out = room[64:-64].reshape(expected.shape)
    assert call(out=out) is out
    np.testing.assert_array_equal(out, expected)
    assert np.isnan(room[:64]).all() and np.isnan(room[-64:]).all()


@pytest.mark.parametrize("call", OUT_CALLS)
def test_unfit_out_is_refused_and_left_alone(call: Callable[..., Array]) -> None:
    shape = call().shape
    wide = np.zeros((*shape, 2))
    frozen = np.zeros(shape)
    frozen.flags.writeable = False
    unaligned = np.zeros(8 * np.prod(shape) + 1, np.uint8)[1:].view("float64").reshape(shape)
    for out, error, message in (
        (np.zeros(shape, "float32"), ValueError, "dtype float64, got float32"),
        (np.zeros((*shape[:-1], shape[-1] + 1)), ValueError, "out must have shape"),
        (np.zeros(shape[1:]), ValueError, "out must have shape"),
        (wide[..., 0], ValueError, "contiguous"),
        (np.zeros(shape).astype(">f8"), ValueError, "dtype"),
        (frozen, ValueError, "writeable"),
        (unaligned, ValueError, "aligned"),
        (np.zeros(shape).tolist(), TypeError, "ndarray, got list"),
    ):
        with pytest.raises(error, match=message):
            call(out=out)
        assert not np.any(out)


def test_out_that_overlaps_an_input_is_refused() -> None:
    memory = ramp((400,))
    x, w, b = memory[:100].reshape(1, 4, 5, 5), memory[100:116].reshape(4, 4, 1, 1), memory[116:120]
    before = memory.copy()
    for start in (0, 99, 100, 115, 116, 119):
        with pytest.raises(ValueError, match="share memory"):
            F.conv2d(x, w, b, out=memory[start : start + 100].reshape(1, 4, 5, 5))
    with pytest.raises(ValueError, match="share memory"):
        F.conv2d(WithArray(x), w, b, out=x)
    with pytest.raises(ValueError, match="share memory"):
        F.conv2d(x.transpose(0, 1, 3, 2), w, b, out=x)
    np.testing.assert_array_equal(memory, before)
    beside = memory[120:220].reshape(1, 4, 5, 5)
    np.testing.assert_array_equal(F.conv2d(x, w, b, out=beside), F.conv2d(x, w, b))


# ------------------------------------------------------------------------------------------------- special values


def test_nan_and_infinity_reach_exactly_the_results_that_see_them(dtype: str, isa: str) -> None:
    """Also where a panel is padded with zeros: 0 * inf in a lane that does not count must not leak."""
    for value in (np.nan, np.inf):
        for channels, groups in ((3, 1), (3, 3)):
            x = np.ones((2, channels, 9, 21), dtype)
            x[1, 1, 4, 20] = value
            y = F.conv2d(x, np.ones((2 * channels, channels // groups, 3, 3), dtype), None, 1, 1, 1, groups)
            seen = np.zeros(y.shape, bool)
            reached = slice(None) if groups == 1 else slice(2, 4)
            seen[1, reached, 3:6, 19:21] = True
            assert (~np.isfinite(y) == seen).all()


def test_zero_dimensional_and_empty_arrays() -> None:
    assert F.relu(np.float64(-1.0)).shape == ()
    assert F.relu(np.zeros((0, 3))).shape == (0, 3)
    assert F.pad(np.zeros((2, 0)), (1, 2)).tolist() == [[0, 0, 0], [0, 0, 0]]
    assert F.softmax(np.zeros((2, 0)), 1).shape == (2, 0)
    assert F.softmax(np.float64(3.0), 0) == 1.0
    assert F.linear(np.zeros((0, 4)), np.zeros((3, 4))).shape == (0, 3)
    assert F.linear(np.zeros((2, 0)), np.zeros((3, 0)), [1.0, 2.0, 3.0]).tolist() == [[1, 2, 3], [1, 2, 3]]
    np.testing.assert_array_equal(
        G.conv2d_weight(np.zeros((0, 2, 4, 4)), (3, 2, 2, 2), np.zeros((0, 3, 3, 3))), 0
    )
    assert G.conv_bias(np.zeros((0, 3, 4, 4))).tolist() == [0, 0, 0]
    assert F.dropout(np.zeros((0,)), 0.5, return_mask=True)[1].shape == (0,)


# ------------------------------------------------------------------------------------------ huge sizes, guard pages


SCRIPTS = Path(__file__).parent


@pytest.mark.no_sanitize
@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")
def test_sizes_that_nothing_can_hold_are_refused() -> None:
    assert run_python(str(SCRIPTS / "huge_sizes.py")).split() == ["ok"]


@pytest.mark.no_sanitize
@pytest.mark.skipif(sys.platform != "linux", reason="protects pages of memory")
def test_kernels_touch_nothing_beyond_their_arrays() -> None:
    assert run_python(str(SCRIPTS / "guard_pages.py")).split() == ["ok"]
