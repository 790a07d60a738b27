"""Two switches over the choice of algorithm: the same for every size of the batch, and measured instead of modelled."""

from __future__ import annotations

import math
import os
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from fastconv import _config
from fastconv._dispatch import Choice, Policy, follow, implementations, objection
from fastconv._spec import ConvSpec

if TYPE_CHECKING:
    from fastconv._tuned_file import Times

CANONICAL_BATCH = 8  # costs batches of 4 and more nothing, a single image a tenth on average

ROUNDS = 20
BUDGET = 0.25  # seconds for the rounds of one problem
MOST_MACS = 1 << 33  # of a problem that is measured: beyond them, fewer images of it
MOST_ELEMENTS = 1 << 25


# What the arrays of an op are, and which optional ones follow.
_ARRAYS: dict[str, tuple[str, str, int]] = {
    "conv_forward": ("input_shape", "weight_shape", 2),
    "conv_input_grad": ("output_shape", "weight_shape", 2),
    "conv_weight_grad": ("input_shape", "output_shape", 0),
}


# ------------------------------------------------------------------------------------------------------ switches


@dataclass(frozen=True)
class _Settings:
    batch_invariant: bool = False
    tuner: Tuner | None = None


_settings = _Settings()


def _set(**changes: Any) -> None:
    global _settings
    _settings = replace(_settings, **changes)
    if _settings.batch_invariant:
        follow(Policy(batch=CANONICAL_BATCH))
    else:
        follow(Policy(measured=_settings.tuner.choose if _settings.tuner else None))


class _Switch(AbstractContextManager[Any]):
    """Changes one setting at once; at the end of a ``with`` statement its former value returns."""

    def __init__(self, setting: str, value: Any) -> None:
        self._former = {setting: getattr(_settings, setting)}
        _set(**{setting: value})

    def __exit__(self, *error: object) -> None:
        _set(**self._former)


def _as_bool(value: Any, name: str) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)


class deterministic(_Switch):
    """Make a sample's result independent of its batch; process-wide.

    Always, the same call gives the same bits, for any number of threads.  The batch is part of the call: by default its
    size has a say in which algorithm is the cheapest, and algorithms round differently.  With this switch on, every
    choice is that for a batch of 8 images, whatever the batch at hand, and tuned choices (:class:`fastconv.tune`) are
    ignored.  Then ``op(x)[i]`` and ``op(x[i : i + 1])[0]`` are the same bits for every op that works on samples, and
    ``nn.Model.predict`` gives the same bits for any ``batch_size``.  Single small images may take longer.

    Takes effect at once; used in a ``with`` statement, the former setting returns at its end.

    Parameters
    ----------
    batch_invariant : bool
        False turns the switch off.

    Raises
    ------
    TypeError
        If it is neither True nor False.

    Notes
    -----
    It holds for the compiled kernels, on one instruction set.  Sums over the batch itself are another matter: gradients
    of weights and biases, reduced losses, batch normalisation in training.  The reference backend computes products by
    NumPy's BLAS and promises nothing.

    Examples
    --------
    >>> import numpy as np, fastconv, fastconv.functional as F
    >>> x, w = np.random.rand(5, 16, 9, 9).astype("float32"), np.ones((16, 16, 3, 3), "float32")
    >>> with fastconv.deterministic(batch_invariant=True):
    ...     np.array_equal(F.conv2d(x, w)[3], F.conv2d(x[3:4], w)[0])
    True
    """

    def __init__(self, *, batch_invariant: bool = True) -> None:
        super().__init__("batch_invariant", _as_bool(batch_invariant, "batch_invariant"))


class tune(_Switch):
    """Choose the algorithm of a convolution by measurement; process-wide.

    While on, the first call of a convolution of a new shape (forward, input gradient or weight gradient) times every
    implementation that accepts it within its ``max_error``, on random arrays, which takes up to about a second; the
    fastest serves from then on.  Otherwise a cost model chooses.  Which is the fastest may differ between machines,
    runs and numbers of threads, and so may the results, within the error bound.

    The times are kept in a small JSON file, under the version of the package, the CPU and its instruction set, the
    number of threads and the problem, so that later processes measure nothing again; to start anew, delete it.  A file
    that can't be read or written is left alone, with a warning; the choices then last as long as the process.

    Takes effect at once; used in a ``with`` statement, the former setting returns at its end.
    :func:`fastconv.explain_choice` tells the times.

    Parameters
    ----------
    path : str or os.PathLike, optional
        The file; by default ``fastconv/tuned.json`` in the user's cache folder: ``$XDG_CACHE_HOME``, or the platform's
        customary place.
    enabled : bool
        False turns measured choices off.

    Raises
    ------
    TypeError
        If ``path`` is no path, or ``enabled`` neither True nor False.

    Examples
    --------
    >>> import numpy as np, fastconv, tempfile
    >>> x, w = np.ones((2, 16, 9, 9), "float32"), np.ones((16, 16, 3, 3), "float32")
    >>> with tempfile.TemporaryDirectory() as folder, fastconv.tune(f"{folder}/tuned.json"):
    ...     "measured" in str(fastconv.explain_choice("conv2d", x, w))
    True
    >>> fastconv.show_config()["tuning"]
    False
    """

    def __init__(self, path: str | os.PathLike[str] | None = None, *, enabled: bool = True) -> None:
        super().__init__("tuner", Tuner(path) if _as_bool(enabled, "enabled") else None)


def show() -> dict[str, bool]:
    """The settings, for ``fastconv.show_config``."""
    return {"batch_invariant": _settings.batch_invariant, "tuning": _settings.tuner is not None}


# --------------------------------------------------------------------------------------------------- measurement


def random_arrays(spec: ConvSpec, op: str) -> list[Any]:
    """Arguments of an implementation of a convolution's pass behind the spec."""
    *shapes, optional = _ARRAYS[op]
    rng = np.random.default_rng(0)
    return [rng.random(getattr(spec, shape), spec.dtype) for shape in shapes] + [None] * optional  # type: ignore[call-overload]


def measure(
    runs: Mapping[str, Callable[[], Any]], clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Least seconds of each, taken in turns: once to warm up, then as often as :data:`BUDGET` allows."""

    def seconds(run: Callable[[], Any]) -> float:
        start = clock()
        run()
        return clock() - start

    start = clock()
    first = {name: seconds(run) for name, run in runs.items()}
    best = dict.fromkeys(runs, math.inf)
    for turn in range(ROUNDS):
        if clock() - start > BUDGET:
            return best if turn else first
        best = {name: min(best[name], seconds(run)) for name, run in runs.items()}
    return best


def _measurable(spec: ConvSpec) -> ConvSpec:
    """As many images of a problem as can be measured in little time and memory."""
    elements = math.prod(spec.input_shape) + math.prod(spec.output_shape)
    share = min(1.0, MOST_MACS / spec.macs, MOST_ELEMENTS / elements)
    return replace(spec, batch=max(1, int(spec.batch * share)))


# Held while measuring, for two at a time would disturb each other, and while the file is updated.
_lock = threading.Lock()


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


class Tuner:
    """Choices by measured times, which a file keeps; None stands for the one in the user's cache folder."""

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        from fastconv import _tuned_file  # and what files need, which is no part of importing the package

        self._times: Times = {}
        try:
            self._file: _tuned_file.TunedFile | None = _tuned_file.TunedFile(path)
            self._times = self._file.read()
        except (OSError, ValueError, RuntimeError) as error:
            self._do_without_file(error)

    def choose(self, backend: str, op: str, spec: Any, max_error: float) -> Choice | None:
        """The fastest implementation; None where there is nothing to measure."""
        if op not in _ARRAYS or spec.macs == 0:
            return None
        objections = {c: objection(c, spec, max_error) for c in implementations(op, backend)}
        contenders = {
            c.name: c
            for c, reason in objections.items()
            if reason is None and c.name != "reference" and (c.cost is None or c.cost(spec) < math.inf)
        }
        if len(contenders) < 2:
            return None
        problem = f"{op} {spec} max_error={max_error}"
        sample = _measurable(spec)
        with _lock:
            times = self._times.get(_environment(), {}).get(problem, {})
            if times.keys() != contenders.keys():
                arrays = random_arrays(sample, op)
                times = measure({name: partial(c.bound(sample), *arrays) for name, c in contenders.items()})
                self._keep(_environment(), problem, times)
        best = min(times, key=lambda name: times[name])
        scale = 1e3 * spec.batch / sample.batch
        refusals = [(c.name, reason) for c, reason in objections.items() if reason is not None]
        refusals += [
            (name, f"measured {scale * seconds:.3g} ms") for name, seconds in times.items() if name != best
        ]
        return Choice(
            op, backend, contenders[best], tuple(refusals), reason=f"measured {scale * times[best]:.3g} ms"
        )

    def _keep(self, environment: str, problem: str, times: dict[str, float]) -> None:
        self._times.setdefault(environment, {})[problem] = times
        if self._file is None:
            return
        try:
            stored = self._file.read()  # again: other processes write too
            stored.setdefault(environment, {})[problem] = times
            self._file.write(stored)
        except (OSError, ValueError) as error:
            self._do_without_file(error)

    def _do_without_file(self, error: Exception) -> None:
        self._file = None
        warnings.warn(
            f"tuned choices last only as long as this process: {error}; to keep them, give fastconv.tune the path of a "
            "file that can be read and written",
            RuntimeWarning,
            stacklevel=4,
        )


def _environment() -> str:
    from fastconv import __version__

    threads = f"{_config.get_num_threads()} thread(s)"
    return f"fastconv {__version__}, {_config.cpu_name()}, {_config.isa_name()}, {threads}"
