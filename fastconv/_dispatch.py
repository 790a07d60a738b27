"""Which implementation serves a call, and why.

Every backend offers, per op, an ordered tuple of implementations.  The first that does not refuse the spec is taken;
each refusal is a sentence, so that :func:`explain_choice` can say why a faster one was passed over.  The ``cpu``
lists end with the reference implementation; reaching it raises a :class:`PerformanceWarning`, never silence.
"""

from __future__ import annotations

import importlib
import math
import threading
import warnings
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from types import TracebackType
from typing import Any

from numpy.typing import NDArray

from fastconv.backends import load_backend

AUTO = "auto"

# Admits Winograd's F(4 x 4, 3 x 3), whose measured errors stay near 1e-5, not F(6 x 6, 3 x 3).
DEFAULT_MAX_ERROR = 200.0


class PerformanceWarning(UserWarning):
    """A call is served by a slow implementation."""


def accepts_everything(spec: Any) -> str | None:
    """Refusal rule of an implementation without limits."""
    return None


def exact_rounding(spec: Any) -> float:
    """Error factor of implementations that only sum products: see :class:`Implementation`."""
    return 1.0


@dataclass(frozen=True, eq=False, repr=False)
class Packed:
    """A weight in the form that an implementation works on, to be given to it in the weight's place.

    Parameters
    ----------
    weight
        As it was; None where the form is all that is needed.
    form
        What was made of it: flat, of the weight's dtype.
    isa
        Level of the instruction set that the form is for, and that is therefore used.
    """

    weight: NDArray[Any] | None
    form: NDArray[Any]
    isa: int


def unpack(weight: NDArray[Any] | Packed, isa: int) -> tuple[int, Any, NDArray[Any] | None]:
    """Level of the instruction set to use (``isa`` where nothing is packed), plain weight, and packed form or None."""
    if isinstance(weight, Packed):
        return weight.isa, weight.weight, weight.form
    return isa, weight, None


@dataclass(frozen=True, eq=False, repr=False)
class Implementation:
    """One way to compute an op.

    Parameters
    ----------
    name
        What the user passes as ``algorithm=``.
    run
        The function; its signature is the op's in :mod:`fastconv.backends.protocol`.
    refusal
        ``spec -> None`` (accepts) or a sentence saying why not; the size of the batch must not matter.
    error_growth
        ``spec -> float``: its a-priori error bound as a multiple of that of the plain sum of products; ``max_error`` is
        compared with it.
    cost
        ``spec -> float``: estimated cycles; infinite where it serves on request alone.  None for an implementation that
        is preferred wherever it accepts.
    prepare
        ``spec -> function of the arrays``: ``run`` with all done that depends on the spec alone, where that is worth
        while; small calls are repeated by the thousand.
    layout
        ``spec -> hashable``: how it would pack the weight, on the instruction set in use; calls with the same weight
        and the same layout share what ``pack`` made.  None, or where it says None, weights are taken as they are.
    pack
        ``(spec, weight) -> Packed``, for those with a layout.
    """

    name: str
    run: Callable[..., Any]
    refusal: Callable[[Any], str | None] = accepts_everything
    error_growth: Callable[[Any], float] = exact_rounding
    cost: Callable[[Any], float] | None = None
    prepare: Callable[[Any], Callable[..., Any]] | None = None
    layout: Callable[[Any], Hashable] | None = None
    pack: Callable[[Any, NDArray[Any]], Packed] | None = None

    def bound(self, spec: Any) -> Callable[..., Any]:
        """``run`` as a function of the arrays alone."""
        return self.prepare(spec) if self.prepare else partial(self.run, spec)


@dataclass(frozen=True)
class Choice:
    """The implementation taken for a call and what the ones before it said."""

    op: str
    backend: str
    implementation: Implementation
    refusals: tuple[tuple[str, str], ...]
    reason: str = ""  # of a choice that was not made by the model

    def __str__(self) -> str:
        lines = [
            f"{self.op}: {self.backend}/{self.implementation.name}" + (self.reason and f", {self.reason}")
        ]
        lines += [f"  not {name}: {reason}" for name, reason in self.refusals]
        return "\n".join(lines)

    @property
    def why(self) -> str:
        """The reason in one line: refusals, alike ones together."""
        alike: dict[str, list[str]] = {}
        for name, reason in self.refusals:
            alike.setdefault(reason, []).append(name)
        said = [f"not {', '.join(names)}: {reason}" for reason, names in alike.items()]
        return "; ".join([self.reason, *said] if self.reason else said)


@dataclass(frozen=True, eq=False, repr=False)
class Policy:
    """What ``algorithm="auto"`` goes by beside the lists; the switches of :mod:`fastconv._tune` set it.

    Parameters
    ----------
    batch
        Size of the batch whose costs decide; None for the call's own.
    measured
        ``(backend, op, spec, max_error) -> Choice``, or None to leave it to the model.
    """

    batch: int | None = None
    measured: Callable[[str, str, Any, float], Choice | None] | None = None


_policy = Policy()


def follow(policy: Policy) -> None:
    """Choose by ``policy`` from now on."""
    global _policy
    _policy = policy
    forget_choices()


_active = "cpu"


def active_backend() -> str:
    """Name of the backend that serves calls now."""
    return _active


class use_backend(AbstractContextManager["use_backend"]):
    """Serve calls by ``"cpu"`` (compiled kernels), ``"reference"`` (NumPy) or ``"cuda"`` (a GPU); process-wide.

    Takes effect at once; used in a ``with`` statement, the former backend returns at its end.

    Raises
    ------
    ValueError
        If there is no such backend.
    RuntimeError
        If it is "cuda" without ``fastconv[cuda]`` or without a device.

    Examples
    --------
    >>> import fastconv
    >>> with fastconv.use_backend("reference"):
    ...     fastconv.active_backend()
    'reference'
    """

    def __init__(self, name: str) -> None:
        global _active
        getattr(load_backend(name), "check_available", lambda: None)()
        self._former = _active
        _active = name

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        global _active
        _active = self._former


_tf32 = False


def tf32_allowed() -> bool:
    """Whether :class:`allow_tf32` is on."""
    return _tf32


class allow_tf32(AbstractContextManager["allow_tf32"]):
    """Let the cuda backend multiply float32 matrices on tensor cores, as TF32; process-wide, off by default.

    It takes effect at once; used in a ``with`` statement, the former setting returns at its end.  It serves matrix
    products (linear layers) on devices of compute capability 8.0 or more; nothing else is concerned.

    Both operands are rounded to 11 significant bits, the products are summed in float32: the result differs from that
    of exact arithmetic by at most ``(2**-10 + 2**-22 + k * 2**-22) * (abs(a) @ abs(b))``, where k is the length of the
    sums; tensor cores may truncate where float32 arithmetic rounds.

    Parameters
    ----------
    allowed : bool

    Raises
    ------
    TypeError
        If it is no bool.

    Examples
    --------
    >>> import fastconv
    >>> with fastconv.allow_tf32(True):
    ...     pass  # model.fit(...)
    """

    def __init__(self, allowed: bool) -> None:
        if not isinstance(allowed, bool):
            raise TypeError(f"allowed must be a bool, got {allowed!r}")
        self._former = _tf32
        self._set(allowed)

    @staticmethod
    def _set(allowed: bool) -> None:
        global _tf32
        _tf32 = allowed
        forget_choices()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._set(self._former)


def implementations(op: str, backend: str | None = None) -> Iterator[Implementation]:
    """The ordered implementations of ``op`` in a backend (default: the active one)."""
    yield from _candidates(backend or _active, op)


def _candidates(backend: str, op: str) -> tuple[Implementation, ...]:
    table = load_backend(backend).IMPLEMENTATIONS
    try:
        return table[op]
    except KeyError:
        raise ValueError(f"backend {backend!r} has no op {op!r}; it has {', '.join(sorted(table))}") from None


def objection(candidate: Implementation, spec: Any, max_error: float | None) -> str | None:
    """What keeps an implementation from serving a spec within an error bound, or None."""
    reason = candidate.refusal(spec)
    if reason is None and max_error is not None and candidate.error_growth(spec) > max_error:
        return f"its error bound {candidate.error_growth(spec):.3g} exceeds max_error {max_error:.3g}"
    return reason


def is_settled(op: str, spec: Any) -> bool:
    """Whether the model chooses the same implementation for every size of the batch: no costs are compared."""
    accepting = [c for c in implementations(op) if objection(c, spec, DEFAULT_MAX_ERROR) is None]
    return accepting[0].cost is None or sum(c.cost is not None for c in accepting) == 1


@lru_cache(4096)
def choose(backend: str, op: str, spec: Any, algorithm: str = AUTO, max_error: float | None = None) -> Choice:
    """The choice for ``op`` on ``spec``, with the reasons of every implementation passed over."""
    candidates = _candidates(backend, op)
    names = [c.name for c in candidates]
    if algorithm != AUTO and algorithm not in names:
        raise ValueError(
            f"algorithm must be 'auto' or one of {names} for {op} on backend {backend!r}, got {algorithm!r}"
        )
    if algorithm == AUTO:
        max_error = DEFAULT_MAX_ERROR if max_error is None else max_error
        measured = _policy.measured and _policy.measured(backend, op, spec, max_error)
        if measured:
            return measured
    refusals: list[tuple[str, str]] = []
    accepting: list[Implementation] = []
    for candidate in candidates:
        reason = objection(candidate, spec, max_error)
        if algorithm == AUTO:
            if reason is None:
                accepting.append(candidate)
                if candidate.cost is None:
                    break
            else:
                refusals.append((candidate.name, reason))
        elif candidate.name == algorithm:
            if reason is None:
                return Choice(op, backend, candidate, ())
            raise ValueError(f"algorithm {algorithm!r} does not serve this {op}: {reason}")
    if not accepting:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in refusals) or "it has no kernel for it yet"
        raise ValueError(f"no implementation of {op} on backend {backend!r} serves this call: {reasons}")
    return _cheapest(op, backend, spec, accepting, refusals)


def _cheapest(
    op: str, backend: str, spec: Any, accepting: list[Implementation], refusals: list[tuple[str, str]]
) -> Choice:
    """The least cost by the model; an implementation without a cost is preferred to those behind it."""
    costs = {c.name: c.cost(_as_decisive(spec)) for c in accepting if c.cost}
    if not costs:
        return Choice(op, backend, accepting[0], tuple(refusals))
    best = min(costs, key=lambda name: costs[name])
    for name, cost in costs.items():
        if cost == math.inf:
            refusals.append((name, "it serves this dtype on request alone"))
        elif name != best:
            refusals.append((name, f"by the cost model it takes {cost / costs[best]:.2f} times as long"))
    return Choice(op, backend, next(c for c in accepting if c.name == best), tuple(refusals))


def _as_decisive(spec: Any) -> Any:
    """The call whose costs decide."""
    return spec if _policy.batch is None else replace(spec, batch=_policy.batch)


class _Explained(Exception):
    """Carries the first choice of a call out of it, before anything is computed."""

    def __init__(self, choice: Choice) -> None:
        self.choice = choice


_explaining: set[int] = set()  # threads inside explain_choice


def explain_choice(op: str, *args: Any, **kwargs: Any) -> Choice:
    """Which implementation a call would take, and why not the ones before it; computes nothing.

    Under :class:`fastconv.tune` the answer for a new shape is measured, on arrays of its own.

    Parameters
    ----------
    op : str
        Name of a function of ``fastconv.functional`` ("conv2d") or of ``fastconv.grad`` ("grad.conv2d_weight").
    *args, **kwargs
        The arguments of the call.

    Returns
    -------
    Choice
        ``str()`` of it is the explanation.

    Raises
    ------
    ValueError
        If there is no such op, or it needs no implementation for these arguments.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> x, w = np.zeros((1, 8, 9, 9), "float32"), np.zeros((16, 8, 3, 3), "float32")
    >>> with fastconv.use_backend("reference"):
    ...     print(fastconv.explain_choice("conv2d", x, w))
    conv_forward: reference/reference
    """
    room, _, name = op.rpartition(".")
    if room not in ("", "functional", "grad"):
        raise ValueError(f"op must be named as in fastconv.functional or 'grad.' and its name, got {op!r}")
    function = getattr(importlib.import_module(f"fastconv.{room or 'functional'}"), name, None)
    if name.startswith("_") or not callable(function):
        raise ValueError(f"fastconv.{room or 'functional'} has no op {name!r}")
    _explaining.add(threading.get_ident())
    try:
        function(*args, **kwargs)
    except _Explained as explained:
        return explained.choice
    finally:
        _explaining.discard(threading.get_ident())
    raise ValueError(f"{op} needs no kernel for these arguments")


def select(op: str, spec: Any, algorithm: str = AUTO, max_error: float | None = None) -> Implementation:
    """The implementation that serves ``op`` on ``spec`` on the active backend."""
    choice = choose(_active, op, spec, algorithm, max_error)
    slow = _is_slow(choice, algorithm)
    if _explaining or slow:
        _report(choice, slow)
    return choice.implementation


def _is_slow(choice: Choice, algorithm: str) -> bool:
    """Whether the reference serves what nobody asked of it."""
    return choice.implementation.name == "reference" and choice.backend != "reference" and algorithm == AUTO


def _report(choice: Choice, slow: bool) -> None:
    """Hand a choice to the explanation that this thread may be asking for; warn of a slow one."""
    if threading.get_ident() in _explaining:
        raise _Explained(choice)
    if slow:
        warnings.warn(f"slow path: {choice}", PerformanceWarning, stacklevel=4)


def run(op: str, spec: Any, *arrays: Any) -> Any:
    """Select an implementation and run it."""
    return select(op, spec).run(spec, *arrays)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Plan:
    """A call whose arguments are checked and whose implementation is chosen: ``run`` takes the arrays."""

    spec: Any
    run: Callable[..., Any]
    choice: Choice
    slow: bool


def plan(
    op: str, describe: Callable[..., Any], *args: Any, algorithm: str = AUTO, max_error: float | None = None
) -> Plan:
    """What serves ``op`` on the spec ``describe(*args)``: one look-up where the same was asked before.

    The arguments must be hashable and equal only where the spec is the same, see :func:`fastconv._spec.frozen`.
    """
    question = (op, _active, describe, args, algorithm, max_error)
    made = _plans.get(question) or _make_plan(question)
    if _explaining or made.slow:
        _report(made.choice, made.slow)
    return made


_plans: dict[Any, Plan] = {}  # a look-up takes half the time of lru_cache's
_MOST_PLANS = 4096


def _make_plan(question: tuple[Any, ...]) -> Plan:
    op, backend, describe, args, algorithm, max_error = question
    spec = describe(*args)
    choice = choose(backend, op, spec, algorithm, max_error)
    if len(_plans) >= _MOST_PLANS:
        _plans.clear()
    made = _plans[question] = Plan(
        spec, choice.implementation.bound(spec), choice, _is_slow(choice, algorithm)
    )
    return made


def forget_choices() -> None:
    """Choose anew from now on: the lists of implementations, or what they are chosen by, have changed."""
    global _generation
    _generation += 1
    choose.cache_clear()
    _plans.clear()


_generation = 0


def generation() -> int:
    """How often choices have been forgotten: what was chosen under another number may be chosen otherwise now."""
    return _generation
