"""One contestant's process: ``python -m fastconv.bench.worker module:Class``.

It reads requests from standard input and answers on standard output, one JSON object a line.  Whatever the library
prints goes to standard error.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import math
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import fastconv.onnx
from fastconv.bench import nets, tasks
from fastconv.bench.contestants import Call, Contestant, Fastconv, array_of
from fastconv.bench.problem_line import parse
from fastconv.graph import forward

_BLOCK_SECONDS = 2e-4  # calls shorter than this are timed several at a time


class Worker:
    """The requests, one method each."""

    def __init__(self, contestant: Contestant) -> None:
        self.contestant = contestant
        self.call: Call | None = None

    def hello(self) -> str:
        """The library's version."""
        return self.contestant.version

    def prepare(self, line: str, kind: str, threads: int, reference: str | None) -> dict[str, Any] | None:
        """Make inputs and call once: error of the result, extra memory, seconds; None where there is no such op."""
        problem = parse(line)
        self.contestant.set_threads(threads)
        arrays = tasks.inputs(problem, kind)
        memory, start = HighWater(), time.perf_counter()
        if problem.op == "infer":  # loading the net counts
            self.call = self.contestant.infer(_model_file(reference), arrays[0])
        else:
            self.call = self.contestant.prepare(problem, kind, arrays)
        if self.call is None:
            return None
        if problem.op != "infer":
            if isinstance(self.contestant, Fastconv):
                self.contestant.release_memory()
            memory = HighWater()
        outcome = self.call()
        first = time.perf_counter() - start
        peak = memory.extra()
        result = array_of(outcome)
        extra = None if peak is None else max(0, peak - result.nbytes)
        wanted = None if reference is None else np.load(reference, mmap_mode="r")
        answer: dict[str, Any] = {"error": tasks.error(problem, kind, result, wanted), "workspace": extra}
        answer["first"] = first
        if isinstance(self.contestant, Fastconv):
            answer["served_by"] = self.contestant.served_by(problem, kind, arrays)
        return answer

    def time(self, seconds: float) -> dict[str, float]:
        """Least and median time of a call."""
        if self.call is None:
            raise RuntimeError("nothing is prepared")
        return sample(self.call, seconds)

    def reference(self, line: str, kind: str, path: str) -> None:
        """Save fastconv's result in float64; of a net, layer by layer, and an ONNX file of it."""
        problem = parse(line)
        if problem.op == "infer":
            model = nets.build(problem)
            fastconv.onnx.save(model, _model_file(path))
            params = {name: value.astype(np.float64) for name, value in model.params.items()}
            ((name, _),) = model.graph.inputs.items()
            images = {name: tasks.inputs(problem, kind)[0].astype(np.float64)}
            np.save(path, array_of(tuple(forward(model.graph, params, images).values())))
        elif tasks.has_reference(problem, kind):
            x, weight, grad = (each.astype(np.float64) for each in tasks.inputs(problem, kind))
            np.save(path, array_of(Fastconv().prepare(problem, kind, (x, weight, grad))()))


def _model_file(reference: str | None) -> str:
    """Where the net is whose result the reference is."""
    if reference is None:
        raise ValueError("a net has a reference")
    return str(Path(reference).with_suffix(".onnx"))


def sample(call: Call, seconds: float) -> dict[str, float]:
    """Least and median seconds of one call, measured for about ``seconds``; a first call warms up.

    A call that alone takes that long is not repeated.
    """
    start = time.perf_counter()
    call()
    once = time.perf_counter() - start
    if once >= seconds:
        return {"min": once, "median": once}
    repeats = max(1, math.ceil(_BLOCK_SECONDS / once))
    blocks: list[float] = []
    began = now = time.perf_counter()
    while not blocks or now - began < seconds:
        before = now
        for _ in range(repeats):
            call()
        now = time.perf_counter()
        blocks.append((now - before) / repeats)
    return {"min": min(blocks), "median": statistics.median(blocks)}


class HighWater:
    """Resident memory that a call needs at most, beyond what was there; Linux only.

    Memory that the C library holds back is returned first, so that earlier calls do not hide what this one needs.
    """

    def __init__(self) -> None:
        self.before: int | None = None
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
            self.before = self._status("VmRSS")

    def extra(self) -> int | None:
        """Bytes that were used, the result among them."""
        return None if self.before is None else self._status("VmHWM") - self.before

    @staticmethod
    def _status(key: str) -> int:
        text = Path("/proc/self/status").read_text()
        return 1024 * int(text.partition(f"{key}:")[2].split()[0])


def main() -> None:
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    module, _, name = sys.argv[1].partition(":")
    worker: Worker | None = None
    for line in sys.stdin:
        try:
            worker = worker or Worker(getattr(importlib.import_module(module), name)())
            verb, arguments = json.loads(line)
            answer = {"answer": getattr(worker, verb)(**arguments)}
        except Exception as error:  # whatever goes wrong in a library is that contestant's row, not the end
            answer = {"failed": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=replies, flush=True)


if __name__ == "__main__":
    main()
