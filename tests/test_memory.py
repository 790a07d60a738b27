"""Memory of large results: arrays like any other, reused after their death, within the limit."""

from __future__ import annotations

import os
import pickle
import threading
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest

import fastconv
import fastconv.functional as F
from fastconv import _memory
from kit import bits, run_python

MIB = 1 << 20
DEFAULT_LIMIT = fastconv.show_config()["cache_limit_bytes"]


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    fastconv.release_memory()
    yield
    fastconv.set_cache_limit(DEFAULT_LIMIT)


def address(x: np.ndarray) -> int:
    return x.ctypes.data


@pytest.mark.parametrize("shape", [(), 0, 5, (3,), (2, 0, 4), (300, 1000), (1, 1, 1, 1 << 18)])
@pytest.mark.parametrize("kind", ["float32", np.float64, np.dtype(np.int64), "u1", ">f4"])
def test_empty_makes_what_numpy_makes(shape: int | tuple[int, ...], kind: object) -> None:
    ours, theirs = _memory.empty(shape, kind), np.empty(shape, kind)  # type: ignore[arg-type, call-overload]
    assert (ours.shape, ours.strides, ours.dtype, type(ours)) == (
        theirs.shape,
        theirs.strides,
        theirs.dtype,
        np.ndarray,
    )
    assert ours.flags.owndata and ours.flags.writeable and ours.flags.aligned
    ours[...] = 1
    assert (ours == 1).all()
    assert _memory.empty(3).dtype == np.float64


def test_empty_refuses_what_numpy_refuses() -> None:
    with pytest.raises(ValueError, match="negative"):
        _memory.empty((-1, 3), "float32")
    with pytest.raises(ValueError, match="too big"):
        _memory.empty((2**62, 8), "float32")
    with pytest.raises(TypeError):
        _memory.empty((2, 2), "q9")
    with pytest.raises(TypeError):
        _memory.empty("ab", "float32")  # type: ignore[arg-type]
    with pytest.raises(MemoryError):
        _memory.empty(2**46, "float32")


def test_a_result_takes_over_the_memory_of_a_dead_one() -> None:
    x = np.ones(MIB, np.float32)
    y = F.relu(x)
    first, second = address(y), address(F.relu(x))
    assert first != second
    del y
    assert _memory.held() >= 2 * x.nbytes
    # The youngest first, and one that is a little smaller as well as one of the same size.
    kept = [F.relu(x[: x.size - 1000]), F.relu(x)]
    assert [address(y) for y in kept] == [first, second]
    assert _memory.held() == 0


def test_views_keep_memory_from_reuse() -> None:
    x = np.ones((4, MIB // 4), np.float32)
    view = F.relu(x)[1:, ::2]
    others = [F.dropout(x, 0.9, seed=1) for _ in range(3)]
    assert (view == 1).all() and len(others) == 3


def test_small_results_are_left_to_numpy() -> None:
    small = F.relu(np.ones(1000, np.float32))
    del small
    assert _memory.held() == 0


def test_no_two_live_results_share_memory(rng: np.random.Generator) -> None:
    fastconv.set_cache_limit(8 * MIB)
    alive: list[tuple[float, np.ndarray]] = []
    for i in range(400):
        if alive and (len(alive) > 6 or rng.random() < 0.4):
            wanted, x = alive.pop(rng.integers(len(alive)))
            assert (x == wanted).all()
        else:
            x = _memory.empty(int(rng.integers(1, MIB)), np.float64)
            x[:] = i
            alive.append((i, x))
        assert _memory.held() <= 8 * MIB
    assert all((x == wanted).all() for wanted, x in alive)


def test_the_limit_bounds_what_is_kept() -> None:
    size = MIB // 4
    fastconv.set_cache_limit(5 * MIB)
    assert fastconv.show_config()["cache_limit_bytes"] == 5 * MIB
    results = [_memory.empty(size, np.float32) for _ in range(8)]
    oldest = address(results[0])
    while results:
        del results[0]
    assert 4 * MIB <= _memory.held() <= 5 * MIB
    assert oldest not in [address(_memory.empty(size, np.float32)) for _ in range(8)]
    too_large = _memory.empty(6 * MIB, np.uint8)
    before = _memory.held()
    del too_large
    assert _memory.held() == before
    fastconv.set_cache_limit(2 * MIB)
    assert 0 < _memory.held() <= 2 * MIB
    fastconv.set_cache_limit(0)
    assert _memory.held() == 0
    F.relu(np.ones(MIB, np.float32))
    assert _memory.held() == 0


def test_release_memory_keeps_nothing() -> None:
    F.relu(np.ones(MIB, np.float32))
    assert _memory.held()
    fastconv.release_memory()
    assert _memory.held() == 0


@pytest.mark.parametrize(("limit", "error"), [(-1, ValueError), (2**64, ValueError), (1.5, TypeError)])
def test_a_limit_is_a_number_of_bytes(limit: object, error: type[Exception]) -> None:
    with pytest.raises(error, match="the cache limit"):
        fastconv.set_cache_limit(limit)  # type: ignore[arg-type]
    assert fastconv.show_config()["cache_limit_bytes"] == DEFAULT_LIMIT


def test_results_can_be_resized() -> None:
    x = _memory.empty(MIB, np.float32)
    x[:] = np.arange(MIB)
    x.resize(3 * MIB, refcheck=False)
    assert (x[:MIB] == np.arange(MIB)).all() and not x[MIB:].any()
    x.resize(7, refcheck=False)
    assert x.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert bits(pickle.loads(pickle.dumps(x))) == bits(x)


def test_results_die_on_any_thread() -> None:
    """Four threads hand their results on to the next, which checks and drops them."""
    rounds = 60
    passed: list[list[np.ndarray]] = [[] for _ in range(4)]
    ready = [threading.Semaphore(0) for _ in range(4)]
    wrong: list[tuple[int, int]] = []

    def work(i: int) -> None:
        for r in range(rounds):
            x = F.relu(np.full(MIB // 4 + r, i + 1, np.float32))
            passed[i].append(x)
            del x
            ready[i].release()
            j = (i + 1) % 4
            ready[j].acquire()
            if (passed[j].pop(0) != j + 1).any():
                wrong.append((i, r))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert _memory.held() <= DEFAULT_LIMIT


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_goes_on_with_its_own_copy() -> None:
    code = """
import os, numpy as np, fastconv.functional as F
x = np.ones(1 << 20, np.float32)
alive = F.relu(x)
F.relu(x)
child = os.fork()
if child == 0:
    alive[:] = 5
    other = F.relu(2 * x)
    del alive
    os._exit(0 if (other == 2).all() and (F.relu(3 * x) == 3).all() and (other == 2).all() else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), (alive == 1).all(), (F.relu(x) == 1).all())
"""
    assert run_python("-c", code).split() == ["0", "True", "True"]


def test_tracemalloc_sees_live_results_alone() -> None:
    x = np.ones(MIB, np.float32)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        y = F.relu(x)
        assert x.nbytes <= tracemalloc.get_traced_memory()[0] - before < x.nbytes + MIB // 4
        del y
        assert tracemalloc.get_traced_memory()[0] - before < MIB // 4
        assert _memory.held() >= x.nbytes
    finally:
        tracemalloc.stop()
