"""The arena: one piece of memory for all values of a plan, each at a place of its own for as long as it is needed."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from fastconv._spec import Shape
from fastconv.plan._steps import Step

ALIGNMENT = 64  # bytes: a cache line


@dataclass(frozen=True, kw_only=True)
class Life:
    """A value in the arena: its elements in one sample, and the steps that make it and use it last."""

    name: str
    shape: Shape
    first: int
    last: int


def lives(steps: Sequence[Step], outputs: Collection[str]) -> tuple[list[Life], list[list[str]]]:
    """The values that the arena holds; and for each step those that nobody needs behind it.

    A result that may lie in the memory of an input keeps that input alive; outputs are the caller's.
    """
    lies_in: dict[str, frozenset[str]] = {}  # the values whose memory each may be in, itself included
    last: dict[str, int] = {}
    for index, step in enumerate(steps):
        shared = step.inputs if step.memory == "shared" else ()
        lies_in[step.name] = frozenset({step.name}).union(*(lies_in.get(name, {name}) for name in shared))
        for used in (step.name, *step.inputs):
            for name in lies_in.get(used, {used}):
                last[name] = index
    kept = frozenset[str]().union(*(lies_in.get(name, {name}) for name in outputs))
    dying: list[list[str]] = [[] for _ in steps]
    for name, index in last.items():
        if name not in kept:
            dying[index].append(name)
    held = [
        Life(name=step.name, shape=step.shape, first=index, last=last[step.name])
        for index, step in enumerate(steps)
        if step.memory == "given" and step.name not in kept
    ]
    return held, dying


def arrange(held: Sequence[Life], batch: int, itemsize: int) -> tuple[Mapping[str, int], int]:
    """Where each value lies in the arena, in bytes from its start, and the arena's size.

    The largest come first, each at the lowest place that is free for as long as it lives.
    """
    nbytes = {
        life.name: -(-batch * math.prod(life.shape) * itemsize // ALIGNMENT) * ALIGNMENT for life in held
    }
    placed: list[tuple[Life, int]] = []
    for life in sorted(held, key=lambda life: -nbytes[life.name]):
        taken = sorted(
            (start, start + nbytes[other.name])
            for other, start in placed
            if other.first <= life.last and life.first <= other.last
        )
        at = 0
        for start, stop in taken:
            if start - at >= nbytes[life.name]:
                break
            at = max(at, stop)
        placed.append((life, at))
    size = max((start + nbytes[life.name] for life, start in placed), default=0)
    return {life.name: start for life, start in placed}, size
