"""The cuda backend against the reference, by the public API, with its compiled kernels executed on the host."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="needs fastconv[cuda]")

import fastconv
import fastconv.functional as F
from cases import CASES, Case
from emulator import TARGETS, assemble, emulated, settings, unsound
from fastconv._spec import ActivationSpec
from fastconv.backends import load_backend, reference
from fastconv.backends.cuda.array import DeviceArray, lift
from fastconv.blocked import to_blocked
from fastconv.ops import Context, Unary

NO_KERNEL = "the blocked layout is for a CPU"  # the only ops without


def run(each: Case, dtype: str, **options: Any) -> Any:
    """Results and emulator of a case; skips where an op of it has no kernel."""
    try:
        with emulated(**options) as device:
            return each.run(each.make(dtype)), device
    except ValueError as error:
        if NO_KERNEL not in str(error):
            raise
        pytest.skip(str(error))


@pytest.mark.parametrize("each", CASES, ids=str)
def test_cases_agree_with_the_reference_and_every_check_is_clean(each: Case, dtype: str) -> None:
    with fastconv.use_backend("reference"):
        expected = each.run(each.make(dtype))
    for options in settings():
        results, device = run(each, dtype, **options)
        device.assert_clean()
        for got, want in zip(results, expected, strict=True):
            assert (got.shape, got.dtype) == (want.shape, want.dtype)
            if got.dtype.kind == "f":
                largest = np.abs(want).max(initial=1.0)
                np.testing.assert_allclose(got, want, rtol=0.0, atol=64 * np.finfo(dtype).eps * largest)
            else:
                np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("each", CASES, ids=str)
def test_machine_code_is_sound(each: Case, dtype: str) -> None:
    _, device = run(each, dtype)
    for kernel, parameters in device.launched:
        assert not unsound(assemble(kernel, parameters), double=dtype == "float64"), kernel


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: "sm_{}{}{}".format(*target))
@pytest.mark.parametrize("each", CASES, ids=str)
def test_machine_code_is_sound_on(each: Case, target: Any) -> None:
    _, device = run(each, "float32")
    for kernel, parameters in device.launched:
        assert not unsound(assemble(kernel, parameters, target)), kernel


@pytest.mark.parametrize("op", reference.IMPLEMENTATIONS)
def test_every_op_has_a_kernel_or_says_why_not(op: str) -> None:
    served = load_backend("cuda").IMPLEMENTATIONS[op]
    assert served
    if op == "unblock" or "block" in op.split("_")[0]:
        with pytest.raises(ValueError, match=f"no implementation of {op} on backend 'cuda'.*{NO_KERNEL}"):
            fastconv._dispatch.choose("cuda", op, object())


def test_the_blocked_layout_is_refused() -> None:
    x = np.zeros((1, 8, 4, 4), np.float32)
    with emulated() as device, pytest.raises(ValueError, match=NO_KERNEL):
        to_blocked(x)
    assert not device.launched


def test_device_arrays_stay_on_the_device() -> None:
    x = np.linspace(-1, 1, 7, dtype=np.float32)
    with emulated():
        (serving,) = load_backend("cuda").IMPLEMENTATIONS["activation_forward"]
        spec = fastconv._spec.ActivationSpec.of("relu", 7, x.dtype, 0.0)
        y = serving.run(spec, lift(x))
        assert isinstance(y, DeviceArray)
        np.testing.assert_array_equal(y.numpy(), F.relu(x))


@pytest.mark.parametrize("function", ActivationSpec.OF_INPUT)
def test_functions_whose_derivative_takes_the_input(function: str, dtype: str) -> None:
    x = np.linspace(-9, 9, 301).astype(dtype)
    x[7] = np.nan
    op = Unary(function=function)
    with fastconv.use_backend("reference"):
        want, _ = op.forward((x,), {}, Context())
    with emulated() as device:
        got, _ = op.forward((x,), {}, Context())
    device.assert_clean()
    np.testing.assert_allclose(got, want, rtol=0.0, atol=16 * np.finfo(dtype).eps)
