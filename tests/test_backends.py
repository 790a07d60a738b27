"""The backends are twins: same ops, same signatures, same results; and no public op takes the slow path."""

from __future__ import annotations

import inspect
import sys
import threading
import warnings

import numpy as np
import pytest

import fastconv
import fastconv.functional as F
import fastconv.grad as G
from cases import CASES, Case
from fastconv import _dispatch
from fastconv.backends import NAMES, load_backend
from fastconv.backends.protocol import Operations
from kit import Array, ramp

PROTOCOL = {
    name: value for name, value in vars(Operations).items() if inspect.isfunction(value) and name[0] != "_"
}
TABLES = {name: load_backend(name).IMPLEMENTATIONS for name in NAMES}
EVERY_IMPLEMENTATION = [
    pytest.param(op, each, id=f"{backend}-{op}-{each.name}")
    for backend, table in TABLES.items()
    for op, candidates in table.items()
    for each in candidates
]


def test_every_public_op_has_a_case() -> None:
    named = {each.name for each in CASES}
    assert named == {*F.__all__, *(f"grad.{name}" for name in G.__all__)}


@pytest.mark.parametrize("backend", NAMES)
def test_backends_offer_the_protocol_s_ops(backend: str) -> None:
    assert set(TABLES[backend]) == set(PROTOCOL)


@pytest.mark.parametrize(("op", "implementation"), EVERY_IMPLEMENTATION)
def test_implementations_have_the_protocol_s_signature(
    op: str, implementation: _dispatch.Implementation
) -> None:
    _, *expected = inspect.signature(PROTOCOL[op]).parameters
    assert list(inspect.signature(implementation.run).parameters) == expected


@pytest.mark.parametrize("backend", NAMES)
def test_implementations_of_an_op_have_distinct_names_and_the_reference_is_last(backend: str) -> None:
    for op, candidates in TABLES[backend].items():
        names = [each.name for each in candidates]
        assert len(set(names)) == len(names), op
        if backend == "cuda":  # nothing on the host stands in for a device
            assert "reference" not in names, op
        else:
            assert names.index("reference") == len(names) - 1, op


def test_the_cuda_backend_without_a_device_says_how_to_mend_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(RuntimeError, match=r"'cuda' is not available: .*pip install 'fastconv\[cuda\]'"):
        fastconv.use_backend("cuda")
    assert fastconv.active_backend() == "cpu"


@pytest.mark.parametrize("each", CASES, ids=str)
def test_backends_agree(each: Case, dtype: str, isa: str, threads: int) -> None:
    """Values within rounding, everything else exactly; a PerformanceWarning is an error here."""
    arguments = each.make(dtype)
    results = each.run(arguments)
    with fastconv.use_backend("reference"):
        expected = each.run(arguments)
    assert len(results) == len(expected)
    for got, want in zip(results, expected, strict=True):
        assert got.shape == want.shape
        assert got.dtype == want.dtype
        assert got.flags.c_contiguous
        if got.dtype.kind == "f":
            largest = np.abs(want).max(initial=1.0)
            np.testing.assert_allclose(got, want, rtol=0.0, atol=64 * np.finfo(dtype).eps * largest)
        else:
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("each", CASES, ids=str)
def test_a_choice_can_be_explained(each: Case) -> None:
    choice = fastconv.explain_choice(each.name, *each.make("float32"), **each.options)
    assert choice.backend == "cpu"
    assert choice.implementation.name != "reference"
    first, *rest = str(choice).splitlines()
    assert first == f"{choice.op}: cpu/{choice.implementation.name}"
    assert len(rest) == len(choice.refusals)
    for line, (name, reason) in zip(rest, choice.refusals, strict=True):
        assert name in line
        assert reason in line


X, W = ramp((1, 4, 6, 6)), ramp((4, 4, 3, 3), seed=1)


def test_explaining_computes_nothing_and_leaves_no_trace() -> None:
    out = np.full((1, 4, 4, 4), np.nan)
    fastconv.explain_choice("conv2d", X, W, out=out)
    assert np.isnan(out).all()
    with pytest.raises(ValueError, match="groups must be >= 1, got 0"):
        fastconv.explain_choice("conv2d", X, W, groups=0)
    assert F.conv2d(X, W).shape == (1, 4, 4, 4)


@pytest.mark.parametrize("op", ["conv5d", "nosuch.conv2d", "grad.", "_conv", "np", "grad.conv2d"])
def test_explaining_what_is_no_op_is_refused(op: str) -> None:
    with pytest.raises(ValueError, match="op"):
        fastconv.explain_choice(op, X, W)


def test_explaining_a_call_without_a_kernel_says_so() -> None:
    with pytest.raises(ValueError, match="needs no kernel"):
        fastconv.explain_choice("dropout", X, training=False)


def test_algorithm_by_name() -> None:
    expected = F.conv2d(X, W)
    for name in ("implicit_gemm", "reference"):
        np.testing.assert_allclose(F.conv2d(X, W, algorithm=name), expected, rtol=1e-13, atol=1e-14)
        assert fastconv.explain_choice("conv2d", X, W, algorithm=name).implementation.name == name


def test_refused_and_unknown_algorithms_are_errors_that_say_why() -> None:
    big = np.zeros((1, 200, 6, 6)), np.zeros((200, 200, 3, 3))
    with pytest.raises(ValueError, match="algorithm 'direct' does not serve this conv_forward: it pays"):
        F.conv2d(*big, algorithm="direct")
    with pytest.raises(ValueError, match=r"'auto' or one of \['small', .*got 'fastest'"):
        F.conv2d(X, W, algorithm="fastest")
    with fastconv.use_backend("reference"), pytest.raises(ValueError, match="got 'implicit_gemm'"):
        F.conv2d(X, W, algorithm="implicit_gemm")


def test_max_error_passes_over_implementations_with_a_larger_bound() -> None:
    exact = F.conv2d(X, W, max_error=1.0)
    np.testing.assert_array_equal(exact, F.conv2d(X, W, algorithm="implicit_gemm"))
    with pytest.raises(ValueError, match=r"error bound 1 exceeds max_error 0\.5"):
        F.conv2d(X, W, max_error=0.5)
    with pytest.raises(ValueError, match="max_error must be None or a number > 0, got 0"):
        F.conv2d(X, W, max_error=0)


def test_the_slow_path_is_never_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the kernels taken away the reference serves the call, says so, and says why."""

    def run(spec: object, input: Array, weight: Array, bias: Array | None, out: Array | None) -> Array:
        raise AssertionError("refused implementations do not run")

    refusing = _dispatch.Implementation("picky", run, lambda spec: "it never wants to")
    table = TABLES["cpu"]
    monkeypatch.setitem(table, "conv_forward", (refusing, *table["conv_forward"][-1:]))
    _dispatch.forget_choices()
    try:
        with pytest.warns(fastconv.PerformanceWarning, match="not picky: it never wants to"):
            F.conv2d(X, W)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            F.conv2d(X, W, algorithm="reference")
    finally:
        _dispatch.forget_choices()


def test_use_backend_is_a_switch_and_a_context() -> None:
    assert fastconv.active_backend() == "cpu"
    with fastconv.use_backend("reference"):
        assert fastconv.active_backend() == "reference"
        with fastconv.use_backend("cpu"):
            assert fastconv.active_backend() == "cpu"
        assert fastconv.active_backend() == "reference"
    assert fastconv.active_backend() == "cpu"
    with pytest.raises(KeyError), fastconv.use_backend("reference"):
        raise KeyError
    assert fastconv.active_backend() == "cpu"
    try:
        fastconv.use_backend("reference")
        assert fastconv.show_config()["backend"] == "reference"
    finally:
        fastconv.use_backend("cpu")
    with pytest.raises(ValueError, match=r"backend must be one of .*'cpu'.*got 'gpu'"):
        fastconv.use_backend("gpu")
    assert fastconv.active_backend() == "cpu"


def test_show_config_tells_what_is_in_use(isa: str, threads: int) -> None:
    config = fastconv.show_config()
    assert config["isa"] == isa
    assert config["supported_isas"] == fastconv.supported_isas()
    assert config["num_threads"] == (threads if config["openmp"] else 1)
    assert config["version"] == fastconv.__version__


def test_force_isa_refuses_what_this_machine_lacks() -> None:
    with pytest.raises(ValueError, match="got 'sse9'"), fastconv.force_isa("sse9"):
        pass
    with pytest.raises(KeyError), fastconv.force_isa("baseline"):
        raise KeyError
    assert fastconv.show_config()["isa"] == fastconv.supported_isas()[-1]


def test_explaining_in_one_thread_does_not_disturb_another() -> None:
    stop, failures = threading.Event(), []

    def compute() -> None:
        while not stop.is_set():
            try:
                F.conv2d(X, W)
            except BaseException as error:
                failures.append(error)
                return

    worker = threading.Thread(target=compute)
    worker.start()
    try:
        for _ in range(300):
            fastconv.explain_choice("conv2d", X, W)
    finally:
        stop.set()
        worker.join()
    assert not failures
