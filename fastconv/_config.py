"""Process-wide settings: threads, instruction set, kept memory, and random seeds drawn when the caller gives none."""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

from fastconv._spec import as_int


def _load_cpu() -> ModuleType:
    """Import ``_cpu`` and with it the OpenMP runtime, whose idle threads shall not spin for long.

    GNU's runtime takes its settings from the environment when it is loaded.  By default an idle thread spins for
    milliseconds, which slows every call many times over on cores that have other work.  10,000 turns, some tens of
    microseconds, still bridge the gap between two kernels.  The variable is taken back, for other libraries' sake.
    """
    ours = "GOMP_SPINCOUNT"
    settled = ours in os.environ or "OMP_WAIT_POLICY" in os.environ
    if not settled:
        os.environ[ours] = "10000"
    try:
        return importlib.import_module("fastconv._cpu")
    except ImportError as error:
        raise ImportError(
            "fastconv's compiled extensions are not beside its Python files: in a source tree run `make build`, or "
            "leave its folder to import the installed package"
        ) from error
    finally:
        if not settled:
            del os.environ[ours]


_cpu = _load_cpu()
_memory = importlib.import_module("fastconv._memory")  # later: it may come with the OpenMP runtime as well

ISA_NAMES = ("baseline", "avx2", "avx512")
_BEST_ISA: int = _cpu.best_isa()

_n_threads: int | None = None
_isa: int = _BEST_ISA
_forked = False


# elements or multiply-accumulates below which a second thread costs more than it brings
SERIAL_WORK = 1 << 15


def _available_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def set_num_threads(n: int) -> None:
    """Use ``n`` threads in every kernel from now on.

    Parameters
    ----------
    n : int
        At least 1.  Without OpenMP in the build, kernels run on one thread whatever ``n`` is.

    Raises
    ------
    ValueError, TypeError
        If ``n`` is not a positive integer.
    """
    global _n_threads
    n = as_int(n, "the number of threads")
    if not 1 <= n <= _cpu.MAX_THREADS:
        raise ValueError(f"the number of threads must be between 1 and {_cpu.MAX_THREADS}, got {n}")
    if n != _n_threads:
        _n_threads = n
        _forget_choices()


def get_num_threads() -> int:
    """Threads that the next kernel will use.

    The number given to :func:`set_num_threads`; else what OpenMP says (``OMP_NUM_THREADS``, threadpoolctl), at most
    the CPUs this process may run on.  1 without OpenMP, and 1 in a process forked from one that had imported
    fastconv: a fork does not carry the OpenMP threads over.
    """
    if _forked or not _cpu.HAVE_OPENMP:
        return 1
    if _n_threads is not None:
        return _n_threads
    return max(1, min(_cpu.openmp_max_threads(), _available_cpus()))


def threads_for(work: int) -> int:
    """Threads for a kernel with that much to do.

    What they are is asked for only where there may be several: the answer takes longer than a small kernel.
    """
    return 1 if work < SERIAL_WORK else get_num_threads()


def set_cache_limit(nbytes: int) -> None:
    """Keep at most ``nbytes`` of the memory of dead results for the next ones; 256 MiB unless told.

    Fresh memory is dear: the system zeroes every page of it on first touch, which often takes longer than the kernel.
    So the memory of a result of 256 KiB or more outlives its array, and the next result of about that size takes it
    over.  The results are arrays like any other, which own their data.  What was kept longest without use goes first.

    Parameters
    ----------
    nbytes : int
        At least 0, which keeps nothing.  What exceeds it now is given back at once.

    Raises
    ------
    ValueError, TypeError
        If ``nbytes`` is not an integer of at least 0.

    See Also
    --------
    release_memory
    """
    _memory.set_limit(as_int(nbytes, "the cache limit", 0, sys.maxsize))


def release_memory() -> None:
    """Give all memory back that is kept for later calls: that of dead results and the kernels' scratch memory."""
    from fastconv import _blocked, _conv, _direct, _winograd

    for extension in (_blocked, _conv, _direct, _winograd):
        extension.release_scratch()
    _memory.release()


def isa() -> int:
    """Level of the instruction set in use: an index into ``ISA_NAMES``."""
    return _isa


def isa_name() -> str:
    """Name of the instruction set in use."""
    return ISA_NAMES[_isa]


@cache
def cpu_name() -> str:
    """The processor as it calls itself."""
    import platform

    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as info:
            for line in info:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def supported_isas() -> tuple[str, ...]:
    """Instruction sets that this CPU runs and this build has, plainest first."""
    return ISA_NAMES[: _BEST_ISA + 1]


@contextmanager
def force_isa(name: str) -> Iterator[None]:
    """Run kernels built for another instruction set (for tests and benchmarks).

    Raises
    ------
    ValueError
        If this CPU cannot run it.
    """
    global _isa
    if name not in supported_isas():
        raise ValueError(f"instruction set must be one of {supported_isas()} on this machine, got {name!r}")
    former = _isa
    _isa = ISA_NAMES.index(name)
    _forget_choices()
    try:
        yield
    finally:
        _isa = former
        _forget_choices()


def _forget_choices() -> None:
    """Which implementation serves a call depends on the instruction set, if measured on the number of threads too."""
    from fastconv._dispatch import forget_choices

    forget_choices()


_SEEDS_AT_ONCE = 1024


def _seed_stream(seed: int | None) -> Iterator[int]:
    """63-bit numbers of NumPy's generator, drawn many at a time: one alone takes longer than a small dropout."""
    generator = np.random.default_rng(seed)
    while True:
        yield from generator.integers(2**63, size=_SEEDS_AT_ONCE).tolist()


_seeds_lock = threading.Lock()
_seeds = _seed_stream(None)
_seeded = False


def manual_seed(seed: int) -> None:
    """Seed the generator that dropout draws its seed from when none is given.

    Processes forked afterwards all go on from the same state; without a seed given here each draws its own.
    """
    global _seeds, _seeded
    number = as_int(seed, "seed", 0)
    with _seeds_lock:
        _seeds = _seed_stream(number)
        _seeded = True


def draw_seed() -> int:
    """A fresh 63-bit seed."""
    with _seeds_lock:
        return next(_seeds)


def _after_fork_in_child() -> None:
    global _forked, _seeds
    _forked = True
    if not _seeded:  # or all children would drop the same elements
        _seeds = _seed_stream(None)
    _seeds_lock.release()


# The lock is held across a fork, so that no child inherits half a draw of another thread.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_seeds_lock.acquire,
        after_in_parent=_seeds_lock.release,
        after_in_child=_after_fork_in_child,
    )


def show_config() -> dict[str, Any]:
    """What this installation is and does; printed by ``python -m fastconv``.

    Returns
    -------
    dict
        version, backend, instruction set in use and those supported, threads, whether choices are batch-invariant or
        tuned, OpenMP, compiler, bounds of scratch and kept memory, NumPy, Python and platform.
    """
    import platform

    from fastconv import __version__, _tune
    from fastconv._dispatch import active_backend

    return {
        "version": __version__,
        "backend": active_backend(),
        "isa": ISA_NAMES[_isa],
        "supported_isas": supported_isas(),
        "num_threads": get_num_threads(),
        **_tune.show(),
        "openmp": bool(_cpu.HAVE_OPENMP),
        "compiler": _cpu.COMPILER,
        "workspace_bytes_per_thread": _cpu.WORKSPACE_BYTES,
        "cache_limit_bytes": _memory.limit(),
        "numpy": np.__version__,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
    }
