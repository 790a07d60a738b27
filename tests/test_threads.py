"""Threads: how many, whose bits, several callers at once, fork, and what is left behind after an error."""

from __future__ import annotations

import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import fastconv
import fastconv.functional as F
import fastconv.grad as G
from cases import CASES, Case
from kit import bits, ramp, run_python, with_threads

openmp = pytest.mark.skipif(not fastconv.show_config()["openmp"], reason="built without OpenMP")
linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc or sets the affinity")
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")

# Enough work for a second thread.
WORK = """
import numpy as np, fastconv, fastconv.functional as F
x, w = np.ones((2, 32, 40, 40), "float32"), np.ones((32, 32, 3, 3), "float32")
def work():
    y = F.max_pool2d(F.relu(F.conv2d(x, w, padding=1)), 2)
    z = F.dropout(y, 0.5, seed=1)
    return float(F.linear(z.reshape(2, -1), np.ones((7, z[0].size), "float32")).sum())
"""


@pytest.mark.parametrize("each", CASES, ids=str)
def test_any_number_of_threads_gives_the_same_bits(each: Case, dtype: str) -> None:
    arguments = each.make(dtype, batch=150)
    results = []
    for n in (1, 2, 3, 8):
        with with_threads(n):
            results.append([bits(a) for a in each.run(arguments)])
    assert all(result == results[0] for result in results)


def test_ops_called_from_several_threads_at_once_are_right() -> None:
    """Small and large calls of every op, shuffled, from four threads that use two threads each."""
    jobs = [(each, each.make("float32", batch)) for each in CASES for batch in (1, 40)]
    expected = [[bits(a) for a in each.run(arguments)] for each, arguments in jobs]

    def work(seed: int) -> list[str]:
        order = np.random.default_rng(seed).permutation(len(jobs))
        wrong = []
        for i in order:
            each, arguments = jobs[i]
            if [bits(a) for a in each.run(arguments)] != expected[i]:
                wrong.append(str(each))
        return wrong

    with with_threads(2), ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == [[]] * 4


def test_kernels_release_the_interpreter_lock() -> None:
    x, w = np.ones((2, 64, 96, 96), "float32"), np.ones((64, 64, 3, 3), "float32")
    ticks, stop = [0], threading.Event()

    def tick() -> None:
        while not stop.wait(0.001):
            ticks[0] += 1

    clock = threading.Thread(target=tick)
    clock.start()
    try:
        F.conv2d(x, w)
        before, start = ticks[0], time.perf_counter()
        with with_threads(1):
            while time.perf_counter() - start < 0.3:
                F.conv2d(x, w)
        assert ticks[0] - before >= 20
    finally:
        stop.set()
        clock.join()


# ---------------------------------------------------------------------------------------------------- how many


@pytest.mark.parametrize("n", [0, -1, 10**6, 2**70])
def test_numbers_of_threads_out_of_range_are_refused(n: int) -> None:
    before = fastconv.get_num_threads()
    with pytest.raises(ValueError, match=f"number of threads must be between .*got {n}"):
        fastconv.set_num_threads(n)
    assert fastconv.get_num_threads() == before


@pytest.mark.parametrize("n", [1.0, "2", None, True])
def test_numbers_of_threads_of_other_types_are_refused(n: object) -> None:
    with pytest.raises(TypeError, match="number of threads must be an integer"):
        fastconv.set_num_threads(n)  # type: ignore[arg-type]


@openmp
def test_set_num_threads_is_process_wide() -> None:
    code = """
import fastconv, threading
fastconv.set_num_threads(3)
seen = []
thread = threading.Thread(target=lambda: seen.append(fastconv.get_num_threads()))
thread.start(); thread.join()
print(fastconv.get_num_threads(), *seen, fastconv.show_config()["num_threads"])
"""
    assert run_python("-c", code).split() == ["3", "3", "3"]


@openmp
def test_omp_num_threads_is_the_default_up_to_the_cpus_at_hand() -> None:
    show = "import fastconv, os; print(fastconv.get_num_threads())"
    assert run_python("-c", show, OMP_NUM_THREADS="1").split() == ["1"]
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    assert run_python("-c", show, OMP_NUM_THREADS=str(cpus + 5)).split() == [str(cpus)]
    assert run_python("-c", show).split() == [str(cpus)]


@openmp
@linux
def test_affinity_limits_the_default() -> None:
    code = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import fastconv
print(fastconv.get_num_threads())
"""
    assert run_python("-c", code).split() == ["1"]


@openmp
def test_threadpoolctl_is_honoured() -> None:
    pytest.importorskip("threadpoolctl")
    code = """
import fastconv, threadpoolctl
before = fastconv.get_num_threads()
with threadpoolctl.threadpool_limits(1):
    inside = fastconv.get_num_threads()
assert fastconv.get_num_threads() == before
print(inside)
"""
    assert run_python("-c", code).split() == ["1"]


@openmp
@linux
def test_kernels_start_no_more_threads_than_asked_for() -> None:
    code = (
        WORK
        + """
import os
alive = lambda: len(os.listdir("/proc/self/task"))
start = alive()
for n in (1, 2, 3):
    fastconv.set_num_threads(n)
    work()
    print(alive() - start)
"""
    )
    assert run_python("-c", code, OPENBLAS_NUM_THREADS="1").split() == ["0", "1", "2"]


@openmp
def test_threads_do_not_spin_after_a_call() -> None:
    code = (
        WORK
        + """
import time
fastconv.set_num_threads(2)
work()
start = time.process_time()
time.sleep(0.5)
print(time.process_time() - start)
"""
    )
    assert float(run_python("-c", code)) < 0.2


# ---------------------------------------------------------------------------------------------------------- fork


@forks
@pytest.mark.no_sanitize
def test_a_forked_child_computes_after_its_parent_used_threads() -> None:
    """OpenMP's threads do not come along; a child that counted on them would wait for ever."""
    code = (
        WORK
        + """
import os, sys, warnings
warnings.simplefilter("ignore")
fastconv.set_num_threads(2)
expected = work()
for generation in range(2):  # a child, and a child of the child
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        os._exit(os.waitstatus_to_exitcode(status)) if generation else None
        assert os.waitstatus_to_exitcode(status) == 0, status
        assert work() == expected
        print("ok")
        sys.exit()
    if work() != expected or fastconv.get_num_threads() != 1:
        os._exit(3)
os._exit(0)
"""
    )
    assert run_python("-c", code, timeout=60).split() == ["ok"]


@forks
@pytest.mark.no_sanitize
@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_multiprocessing(method: str, tmp_path: object) -> None:
    script = f"{tmp_path}/pool.py"
    with open(script, "w") as file:
        file.write(
            WORK
            + f"""
import multiprocessing, warnings
warnings.simplefilter("ignore")
def task(i):
    return work()
if __name__ == "__main__":
    fastconv.set_num_threads(2)
    expected = work()
    with multiprocessing.get_context({method!r}).Pool(2) as pool:
        assert pool.map(task, range(4)) == [expected] * 4
    assert work() == expected
    print("ok")
"""
        )
    assert run_python(script, timeout=100).split() == ["ok"]


@forks
@pytest.mark.no_sanitize
def test_fork_while_other_threads_compute() -> None:
    code = (
        WORK
        + """
import os, sys, threading, warnings
warnings.simplefilter("ignore")
fastconv.set_num_threads(2)
expected, stop = work(), threading.Event()
def busy():
    while not stop.is_set():
        work()
        F.dropout(x, 0.5)
workers = [threading.Thread(target=busy) for _ in range(2)]
for each in workers:
    each.start()
failed = 0
for _ in range(10):
    child = os.fork()
    if not child:
        F.dropout(x, 0.5)
        os._exit(work() != expected)
    failed += os.waitpid(child, 0)[1]
stop.set()
for each in workers:
    each.join()
print(failed)
"""
    )
    assert run_python("-c", code, timeout=100).split() == ["0"]


@forks
@pytest.mark.no_sanitize
def test_drawn_dropout_seeds_differ_between_parent_and_child() -> None:
    """Data-loading workers that drop the same elements as each other would be a silent loss of randomness."""
    code = """
import os, sys, numpy as np, fastconv.functional as F
x = np.ones(4096, "float32")
F.dropout(x)
masks = []
for _ in range(2):
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.write(write, F.dropout(x, return_mask=True)[1].tobytes())
        os._exit(0)
    masks.append(os.read(read, 512))
    os.waitpid(child, 0)
masks.append(F.dropout(x, return_mask=True)[1].tobytes())
print(len(set(masks)))
"""
    assert run_python("-W", "ignore", "-c", code).split() == ["3"]


# --------------------------------------------------------------------------------------------- after an error


def test_errors_leave_no_state() -> None:
    x, w = ramp((2, 6, 9, 8), "float32"), ramp((9, 6, 3, 3), "float32", 1)
    expected, config = F.conv2d(x, w), fastconv.show_config()
    for _ in range(3):
        for mistake in (
            lambda: F.conv2d(x, w, algorithm="direct"),
            lambda: F.conv2d(x, w, groups=5),
            lambda: F.conv2d(x, w, padding=2**30),
            lambda: G.conv2d_weight(x, w.shape, expected[:, :1]),
            lambda: F.max_unpool2d(x, np.full(x.shape, 99), 1),
            lambda: fastconv.explain_choice("conv2d", x),
            lambda: fastconv.use_backend("tpu"),
        ):
            with pytest.raises((ValueError, TypeError)):
                mistake()
        assert bits(F.conv2d(x, w)) == bits(expected)
    assert fastconv.show_config() == config
