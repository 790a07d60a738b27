"""``fastconv.tune``: the fastest is taken, and kept in a file that may be missing, spoilt or written by others."""

from __future__ import annotations

import itertools
import json
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastconv
import fastconv.functional as F
import fastconv.grad as G
from fastconv import _config, _dispatch, _tune
from fastconv._spec import ConvSpec
from fastconv._tuned_file import FORMAT, TunedFile
from fastconv.backends import load_backend
from kit import Array, run_python

X, W = np.ones((2, 8, 9, 9), "float32"), np.ones((8, 8, 3, 3), "float32")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tuned.json"


def stored(path: Path) -> list[dict[str, float]]:
    """The times in a file, whatever they were measured for."""
    content = json.loads(path.read_text())
    return [times for problems in content["seconds"].values() for times in problems.values()]


# --------------------------------------------------------------------------------------------------- measurement


class Clock:
    """Time that passes only when told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now

    def runs_for(self, *seconds: float) -> Callable[[], None]:
        """A function that takes these times in turn, again and again."""
        turn = itertools.cycle(seconds)

        def run() -> None:
            self.now += next(turn)

        return run


def test_the_least_time_counts_and_the_first_run_does_not() -> None:
    clock = Clock()
    runs = {
        "steady": clock.runs_for(2e-3),
        "late": clock.runs_for(1e-4, *[5e-3] * 30),
        "varies": clock.runs_for(3e-3, 1e-3),
    }
    times = _tune.measure(runs, clock)
    assert times == pytest.approx({"steady": 2e-3, "late": 5e-3, "varies": 1e-3})
    assert list(times) == list(runs)


def test_measuring_ends_with_its_budget() -> None:
    clock = Clock()
    assert _tune.measure({"a": clock.runs_for(1.0), "b": clock.runs_for(2.0)}, clock) == {"a": 1.0, "b": 2.0}
    assert clock.now == 3.0
    clock = Clock()
    _tune.measure({"a": clock.runs_for(0.1), "b": clock.runs_for(0.02)}, clock)
    assert clock.now <= _tune.BUDGET + 0.24
    clock = Clock()
    _tune.measure({"a": clock.runs_for(1e-6)}, clock)
    assert clock.now == pytest.approx(1e-6 * (_tune.ROUNDS + 1))


@pytest.mark.parametrize(
    ("batch", "channels", "size", "expected"),
    [(3, 64, 9, 3), (1000, 64, 112, 18), (10**6, 1, 8, 2**18), (5, 64, 4000, 1)],
)
def test_large_batches_are_measured_by_a_part(batch: int, channels: int, size: int, expected: int) -> None:
    weight_shape = (channels, channels, 3, 3)
    spec = ConvSpec.from_shapes((batch, channels, size, size), weight_shape, "float32", 1, 1)
    assert _tune._measurable(spec) == replace(spec, batch=expected)


class Fakes:
    """Implementations that take a given time and leave word that they ran."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = Clock()
        self.ran: list[str] = []
        self.table = load_backend("cpu").IMPLEMENTATIONS
        self.monkeypatch = monkeypatch
        monkeypatch.setattr(_tune, "measure", partial(_tune.measure, clock=self.clock))

    def offer(self, **seconds: float) -> None:
        """Names and times; what the names begin with says what else is special."""
        made = [self._make(name, duration) for name, duration in seconds.items()]
        self.monkeypatch.setitem(self.table, "conv_forward", (*made, self.table["conv_forward"][-1]))
        _dispatch.forget_choices()

    def _make(self, name: str, seconds: float) -> _dispatch.Implementation:
        kind = name.partition("_")[0]

        def run(spec: ConvSpec, input: Array, weight: Array, bias: Array | None, out: Array | None) -> Array:
            self.ran.append(name)
            self.clock.now += seconds
            return np.empty(spec.output_shape, spec.dtype)

        return _dispatch.Implementation(
            name,
            run,
            lambda spec: "it never wants to" if kind == "refusing" else None,
            lambda spec: 500.0 if kind == "rough" else 1.0,
            None if kind == "preferred" else lambda spec: np.inf if kind == "special" else 10.0 - len(name),
        )


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fakes]:
    yield Fakes(monkeypatch)
    monkeypatch.undo()
    _dispatch.forget_choices()


def test_the_fastest_is_taken_whatever_the_model_says(fakes: Fakes, path: Path) -> None:
    fakes.offer(preferred=3e-3, modelled=2e-3, fast=1e-3, refusing=1e-6, rough=1e-6, special=1e-6)
    F.conv2d(X, W)
    assert fakes.ran == ["preferred"]
    with fastconv.tune(path):
        F.conv2d(X, W)
        assert set(fakes.ran) == {"preferred", "modelled", "fast"}
        fakes.ran.clear()
        F.conv2d(X, W)
        assert fakes.ran == ["fast"]
        assert str(fastconv.explain_choice("conv2d", X, W)).splitlines() == [
            "conv_forward: cpu/fast, measured 1 ms",
            "  not refusing: it never wants to",
            "  not rough: its error bound 500 exceeds max_error 200",
            "  not preferred: measured 3 ms",
            "  not modelled: measured 2 ms",
        ]
        F.conv2d(X, W, algorithm="modelled")
        assert fakes.ran == ["fast", "modelled"]
        assert fastconv.explain_choice("conv2d", X, W, max_error=1000.0).implementation.name == "rough"
        with fastconv.use_backend("reference"):
            assert "measured" not in str(fastconv.explain_choice("conv2d", X, W))
    fakes.ran.clear()
    F.conv2d(X, W)
    assert fakes.ran == ["preferred"]


def test_what_was_measured_is_not_measured_again(fakes: Fakes, path: Path) -> None:
    fakes.offer(a=3e-3, b=2e-3)
    for _ in range(2):
        with fastconv.tune(path):
            F.conv2d(X, W)
    assert fakes.ran[-2:] == ["b", "b"]
    assert len(fakes.ran) == 2 * (_tune.ROUNDS + 1) + 2
    assert stored(path) == [pytest.approx({"a": 3e-3, "b": 2e-3})]


@pytest.mark.parametrize("change", ["shape", "dtype", "max_error", "threads", "version", "candidates"])
def test_what_differs_is_measured_anew(
    change: str, fakes: Fakes, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.offer(a=3e-3, b=2e-3)
    x, w, max_error = X, W, None
    with fastconv.tune(path):
        F.conv2d(x, w)
    fakes.ran.clear()
    if change == "shape":
        x = np.ones((3, 8, 9, 9), "float32")
    elif change == "dtype":
        x, w = X.astype("float64"), W.astype("float64")
    elif change == "max_error":
        max_error = 10.0
    elif change == "threads":
        monkeypatch.setattr(_config, "get_num_threads", lambda: 77)
    elif change == "version":
        monkeypatch.setattr(fastconv, "__version__", "0.0.1")
    else:
        fakes.offer(a=3e-3, b=2e-3, c=1e-3)
    with fastconv.tune(path):
        F.conv2d(x, w, max_error=max_error)
    assert len(fakes.ran) > 2
    assert len(stored(path)) == (1 if change == "candidates" else 2)


def test_another_number_of_threads_chooses_anew(fakes: Fakes, path: Path) -> None:
    fakes.offer(a=3e-3, b=2e-3)
    before = _config._n_threads
    try:
        with fastconv.tune(path):
            for n in (1, 2, 1):
                fastconv.set_num_threads(n)
                F.conv2d(X, W)
    finally:
        _config._n_threads = before
    assert len(stored(path)) == (2 if fastconv.show_config()["openmp"] else 1)


def test_nothing_to_choose_is_not_measured(fakes: Fakes, path: Path) -> None:
    fakes.offer(only=1e-3)
    with fastconv.tune(path):
        F.conv2d(X, W)
        assert fakes.ran == ["only"]
        fakes.offer(a=3e-3, b=2e-3)
        F.conv2d(X[:0], W)
        assert len(fakes.ran) == 2
        F.linear(X, X[0, 0])
    assert not path.exists()


def test_threads_that_call_at_once_measure_one_at_a_time(fakes: Fakes, path: Path) -> None:
    fakes.offer(a=3e-3, b=2e-3)
    with fastconv.tune(path):
        callers = [threading.Thread(target=F.conv2d, args=(X, W)) for _ in range(8)]
        for each in callers:
            each.start()
        for each in callers:
            each.join()
    assert len(fakes.ran) == 2 * (_tune.ROUNDS + 1) + 8
    assert stored(path) == [pytest.approx({"a": 3e-3, "b": 2e-3})]


def test_real_measurements(path: Path, dtype: str) -> None:
    """All three passes and the transposed convolution; results stay within the error bound."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((3, 8, 11, 10)).astype(dtype), rng.standard_normal((8, 8, 3, 3)).astype(dtype)
    depthwise, one_sided = w[:, :1], np.ascontiguousarray(w[:, :, :1])
    calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
        ("conv2d", (x, w), {"padding": 1}),
        ("conv2d", (x, depthwise), {"groups": 8}),
        ("conv2d", (x, one_sided), {}),
        ("conv_transpose2d", (x, w), {}),
        ("grad.conv2d_input", (x.shape, w, x), {"padding": 1}),
        ("grad.conv2d_weight", (x, w.shape, x), {"padding": 1}),
    ]
    for name, arguments, options in calls:
        room, _, op = name.rpartition(".")
        function = getattr(G if room else F, op)
        expected = function(*arguments, algorithm="reference", **options)
        with fastconv.tune(path):
            got = function(*arguments, **options)
            choice = fastconv.explain_choice(name, *arguments, **options)
        atol = 500 * np.finfo(dtype).eps * np.abs(expected).max()
        np.testing.assert_allclose(got, expected, rtol=0.0, atol=atol)
        assert "measured" in str(choice) or dtype == "float64"  # there often one implementation alone accepts
        assert choice.implementation.name != "reference"
    for times in stored(path):
        assert len(times) >= 2
        assert all(seconds > 0.0 for seconds in times.values())


# ---------------------------------------------------------------------------------------------------------- file

SPOILT = [
    "",
    "{",
    "[]",
    "null",
    "{}",
    '{"format": "something else", "seconds": {}}',
    '{"format": "%s"}',
    '{"format": "%s", "seconds": []}',
    '{"format": "%s", "seconds": {"here": 5}}',
    '{"format": "%s", "seconds": {"here": {"this": {"winograd4": "fast"}}}}',
    '{"format": "%s", "seconds": {"here": {"this": {"winograd4": NaN}}}}',
    '{"format": "%s", "seconds": {"here": {"this": {"winograd4": -1.0}}}}',
    "[" * 100_000,
    "\udcff\udcfe",
]


@pytest.mark.parametrize("text", SPOILT, ids=range(len(SPOILT)))
def test_a_file_that_holds_something_else_is_left_alone(text: str, fakes: Fakes, path: Path) -> None:
    fakes.offer(a=3e-3, b=2e-3)
    content = text.replace("%s", FORMAT).encode("utf-8", "surrogateescape")
    path.write_bytes(content)
    told = r"last only as long as this process: .*tuned\.json does not hold tuned choices .*: remove it"
    with pytest.warns(RuntimeWarning, match=told):
        switch = fastconv.tune(path)
    with switch:
        F.conv2d(X, W)
        F.conv2d(X, W)
        assert fakes.ran[-2:] == ["b", "b"]
    assert path.read_bytes() == content


def test_a_file_that_cannot_be_written_is_warned_of_once(fakes: Fakes, tmp_path: Path) -> None:
    fakes.offer(a=3e-3, b=2e-3)
    (tmp_path / "file").touch()
    with pytest.warns(
        RuntimeWarning, match="give fastconv.tune the path of a file that can be read and written"
    ):
        switch = fastconv.tune(tmp_path / "file" / "tuned.json")
    with switch, warnings.catch_warnings():
        warnings.simplefilter("error")
        F.conv2d(X, W)
        assert fakes.ran[-1] == "b"


def test_a_file_that_cannot_be_replaced_leaves_nothing_behind(
    fakes: Fakes, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.offer(a=3e-3, b=2e-3)

    def refuse(*paths: object) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr(os, "replace", refuse)
    with fastconv.tune(path):
        with pytest.warns(RuntimeWarning, match="read-only"):
            F.conv2d(X, W)
        F.conv2d(X[:1], W)
        assert fakes.ran[-1] == "b"
    assert list(path.parent.iterdir()) == []


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.warns(RuntimeWarning, match="last only as long"), fastconv.tune(tmp_path):
        F.conv2d(X, W)


def test_what_other_processes_wrote_meanwhile_is_kept(fakes: Fakes, path: Path) -> None:
    fakes.offer(a=3e-3, b=2e-3)
    first, second = _tune.Tuner(path), _tune.Tuner(path)
    for n, tuner in enumerate((first, second, first), start=1):
        spec = ConvSpec.from_shapes((n, 8, 9, 9), (8, 8, 3, 3), "float32")
        choice = tuner.choose("cpu", "conv_forward", spec, 200.0)
        assert choice is not None
        assert choice.implementation.name == "b"
    assert len(stored(path)) == 3
    path.unlink()
    assert second.choose(
        "cpu", "conv_forward", ConvSpec.from_shapes((9, 8, 9, 9), (8, 8, 3, 3), "float32"), 200.0
    )
    assert len(stored(path)) == 1


def test_readers_never_see_half_a_file(path: Path) -> None:
    def write(number: int) -> None:
        for i in range(100):
            TunedFile(path).write({f"machine {number}": {f"problem {i}": {"a": 1.0}}})

    writers = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for each in writers:
        each.start()
    while any(each.is_alive() for each in writers):
        assert len(TunedFile(path).read()) <= 1
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="Linux's customary place")
def test_the_default_file_is_in_the_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    with fastconv.tune():
        F.conv2d(X, W)
    assert stored(tmp_path / "elsewhere" / "fastconv" / "tuned.json")
    for ignored in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        assert TunedFile(None).path == tmp_path / ".cache" / "fastconv" / "tuned.json"


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "expanduser", no_home)
    with pytest.warns(RuntimeWarning, match="home directory"), fastconv.tune():
        F.conv2d(X, W)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.no_sanitize
def test_a_child_forked_while_another_thread_measures_can_measure(path: Path) -> None:
    code = f"""
import os, numpy as np, fastconv, fastconv.functional as F
from fastconv import _tune
from fastconv._tuned_file import TunedFile
fastconv.tune({str(path)!r})
with _tune._lock:
    child = os.fork()
    if not child:
        F.conv2d(np.ones((1, 8, 9, 9), "float32"), np.ones((8, 8, 3, 3), "float32"))
        os._exit(0)
    print(os.waitpid(child, 0)[1])
"""
    assert run_python("-W", "ignore", "-c", code, timeout=60).split() == ["0"]
    assert len(stored(path)) == 1


# -------------------------------------------------------------------------------------------------------- switch


def on() -> bool:
    setting = fastconv.show_config()["tuning"]
    assert setting == (_dispatch._policy.measured is not None)
    return bool(setting)


def test_it_is_a_switch_and_a_context(path: Path) -> None:
    assert not on()
    with fastconv.tune(path):
        assert on()
        with fastconv.tune(enabled=False):
            assert not on()
        assert on()
    with pytest.raises(KeyError), fastconv.tune(path):
        raise KeyError
    assert not on()
    try:
        fastconv.tune(str(path))
        assert on()
    finally:
        fastconv.tune(enabled=False)
    assert not on()
    assert not path.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"path": 5}, "PathLike"),
        ({"path": b"tuned.json"}, "bytes"),
        ({"enabled": 1}, "enabled must be True or False, got 1"),
        ({"enabled": None}, "enabled must be True or False, got None"),
    ],
)
def test_other_values_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        fastconv.tune(**arguments)
    assert not on()
