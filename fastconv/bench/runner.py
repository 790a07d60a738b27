"""Let contestants take turns on problems, each in a process of its own, and gather a row per pass and thread count."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastconv
from fastconv import _config
from fastconv.bench import machine, tasks
from fastconv.bench.contestants import OURS, PLACES
from fastconv.bench.problem_line import Problem

Row = dict[str, Any]

_PAUSE = 0.01  # seconds for the last contestant's idle threads to fall asleep


class Process:
    """A contestant's process.

    Parameters
    ----------
    place : str
        ``"module:Class"`` of the contestant.

    Raises
    ------
    RuntimeError
        From every request that the contestant answers with an error, or its end.
    """

    def __init__(self, place: str) -> None:
        # -P: the current folder may hold sources that are not built
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "fastconv.bench.worker", place],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=_environment(),
        )

    def ask(self, verb: str, **arguments: Any) -> Any:
        """What the worker's method of that name returns."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin and stdout  # both are pipes
        try:
            print(json.dumps([verb, arguments]), file=stdin, flush=True)
            line = stdout.readline()
        except OSError:
            line = ""
        if not line:
            raise RuntimeError(f"its process ended with code {self._process.wait()}")
        reply = json.loads(line)
        if "failed" in reply:
            raise RuntimeError(reply["failed"])
        return reply["answer"]

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        """End the process; what it was doing is lost."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                with contextlib.suppress(OSError):  # what was not sent will not be
                    pipe.close()


def _environment(**more: str) -> dict[str, str]:
    """The child finds what this process finds, and no library is told how many threads to use."""
    kept = {name: value for name, value in os.environ.items() if name not in machine.BLAS_VARIABLES}
    return kept | {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)} | more


def probe(threads: int) -> dict[str, float]:
    """Peak and bandwidth of this machine on so many threads: see :mod:`fastconv.bench.machine`."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "fastconv.bench.machine", str(threads)],
        env=_environment(**dict.fromkeys(machine.BLAS_VARIABLES, str(threads))),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    answer: dict[str, float] = json.loads(done.stdout)
    return answer


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How long to measure: each contestant has ``rounds`` turns of ``seconds`` a row, a long call two turns."""

    rounds: int = 3
    seconds: float = 0.03


class Runner(contextlib.AbstractContextManager["Runner"]):
    """The contestants' processes, their turns, and what was measured of each pass so far.

    ``absent`` says why a contestant does not start; the others play without it.

    Parameters
    ----------
    peers : sequence of str
        The contestants beside fastconv.
    threads : sequence of int
    effort : Effort
    places : mapping of str to str
        Where each contestant's class is.

    Raises
    ------
    RuntimeError
        If fastconv does not start.
    """

    def __init__(
        self,
        peers: Sequence[str],
        threads: Sequence[int],
        effort: Effort,
        places: Mapping[str, str] = PLACES,
    ) -> None:
        self.threads, self.effort = tuple(threads), effort
        self.machine = {count: probe(count) for count in self.threads}
        self.versions: dict[str, str] = {}
        self._measured: dict[tuple[Any, ...], dict[int, Row]] = {}
        self.absent: dict[str, str] = {}
        self._places = {name: places[name] for name in (OURS, *peers)}
        self._processes = {name: Process(place) for name, place in self._places.items()}
        self._folder = tempfile.TemporaryDirectory(prefix="fastconv-bench-")
        self._reference = Path(self._folder.name, "reference.npy")
        for name, process in list(self._processes.items()):
            try:
                self.versions[name] = process.ask("hello")
            except RuntimeError as error:
                self.absent[name] = str(error)
                self._processes.pop(name).close()
        if OURS in self.absent:
            self.__exit__()
            raise RuntimeError(f"{OURS} does not start: {self.absent[OURS]}")

    def __exit__(self, *exception: object) -> None:
        for process in self._processes.values():
            process.close()
        self._folder.cleanup()

    def config(self) -> dict[str, Any]:
        """What was measured where, for the report."""
        return fastconv.show_config() | {
            "cpu": _config.cpu_name(),
            "load": machine.load(),
            "machine": {str(count): figures for count, figures in self.machine.items()},
            "versions": self.versions,
        }

    def rows(self, file: str, problem: Problem) -> Iterator[Row]:
        """Measure every pass of a problem; one that another file has had already is not measured again."""
        heading = {"file": file, "line": problem.line, "name": problem.name, "count": problem.count}
        for kind in tasks.PASSES[problem.op]:
            measured = self._measured.setdefault(self._key(problem, kind), {})
            if not measured:
                path = str(self._reference)
                self._processes[OURS].ask("reference", line=problem.line, kind=kind, path=path)
            for threads in self.threads:
                if threads not in measured:
                    measured[threads] = self._measure(problem, kind, threads)
                yield heading | measured[threads]

    @staticmethod
    def _key(problem: Problem, kind: str) -> tuple[Any, ...]:
        net = problem.name if problem.op in ("train", "occlusion", "infer") else ""
        return problem.op, net, *sorted(problem.sizes.items()), kind

    def _measure(self, problem: Problem, kind: str, threads: int) -> Row:
        failed: dict[str, str] = {}
        prepared: dict[str, dict[str, Any]] = {}
        reference = str(self._reference) if tasks.has_reference(problem, kind) else None
        request = {"line": problem.line, "kind": kind, "threads": threads, "reference": reference}
        for name in list(self._processes):
            answer = self._ask(name, failed, "prepare", **request)
            if answer is not None and not answer["error"] <= tasks.tolerance(problem):
                failed[name] = f"wrong by {answer['error']:.2g} of the largest value, not timed"
            elif answer is not None:
                prepared[name] = answer
        times = self._take_turns(list(prepared), failed)
        row: Row = {
            "op": problem.op,
            "pass": kind,
            "threads": threads,
            "served_by": prepared.get(OURS, {}).get("served_by"),
            "errors": {name: answer["error"] for name, answer in prepared.items()},
            "workspace": {name: answer["workspace"] for name, answer in prepared.items()},
            "first": {name: answer["first"] for name, answer in prepared.items()},
            "failed": failed,
            "times": times,
        }
        return row | self._figures(problem, kind, threads, times)

    def _ask(self, name: str, failed: dict[str, str], verb: str, **arguments: Any) -> Any:
        """The contestant's answer; None, with the reason in ``failed``, where it fails."""
        process = self._processes[name]
        try:
            return process.ask(verb, **arguments)
        except RuntimeError as error:
            failed[name] = str(error)
            if not process.alive:
                process.close()
                self._processes[name] = Process(self._places[name])
            return None

    def _take_turns(self, names: Sequence[str], failed: dict[str, str]) -> dict[str, dict[str, float]]:
        """Least time and median of medians of each contestant that lasts."""
        turns: dict[str, list[dict[str, float]]] = {name: [] for name in names}
        for turn in range(self.effort.rounds):
            for name, each in turns.items():
                if name in failed or (turn >= 2 and each[-1]["min"] > self.effort.seconds):
                    continue
                time.sleep(_PAUSE)
                if answer := self._ask(name, failed, "time", seconds=self.effort.seconds):
                    each.append(answer)
        return {
            name: {
                "min": min(turn["min"] for turn in each),
                "median": statistics.median(turn["median"] for turn in each),
            }
            for name, each in turns.items()
            if name not in failed
        }

    def _figures(self, problem: Problem, kind: str, threads: int, times: Mapping[str, Any]) -> Row:
        """What follows from the times."""
        work = tasks.work(problem, kind)
        amount, roof, unit = (
            (work.flop, "flops", "GFLOP/s") if work.flop else (work.nbytes, "bandwidth", "GB/s")
        )
        row: Row = {"flop": work.flop, "bytes": work.nbytes, "roof": roof, "unit": unit}
        row |= dict.fromkeys(("rate", "share", "rival", "ratio"))
        if OURS in times:
            rate = amount / times[OURS]["min"]
            row |= {"rate": 1e-9 * rate, "share": rate / self.machine[threads][roof]}
            if rivals := sorted(times.keys() - {OURS}, key=lambda name: times[name]["min"]):
                row |= {"rival": rivals[0], "ratio": times[rivals[0]]["min"] / times[OURS]["min"]}
        if kind == tasks.DENORMAL:
            normal = self._measured[self._key(problem, tasks.FORWARD)][threads]["times"]
            both = [name for name in times if name in normal]
            row["slowdown"] = {name: times[name]["min"] / normal[name]["min"] for name in both}
        return row
