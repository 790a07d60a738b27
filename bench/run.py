"""Time fastconv beside PyTorch on layers of well-known nets; every result is checked before it is timed.

``python -m bench.run resnet50 vgg16 --threads 2 1 --out results.json``.  All contestants of a problem take turns within
one run, so that what the machine does to one of them it does to all.  PyTorch plays twice, with NCHW and with
channels_last arrays, converted beforehand; the better of the two counts.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fastconv
import fastconv.functional as F
import fastconv.grad as G
from bench.problem_line import PROBLEMS, Problem, read
from bench.report import OURS, geomean, groups
from fastconv import _config

FILES = tuple(sorted(path.stem for path in PROBLEMS.glob("*.txt")))
NCHW, NHWC = "torch NCHW", "torch channels_last"

Call = Callable[[], Any]


@dataclass(frozen=True)
class Task:
    """One pass of one problem: what each contestant calls, how much work that is, and in what unit it is counted."""

    kind: str
    calls: dict[str, Call]
    work: float
    unit: str


def random(shape: tuple[int, ...], seed: int) -> Any:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def both_layouts(*arrays: Any) -> dict[str, list[torch.Tensor]]:
    """The arrays as tensors, in NCHW and in channels_last memory."""
    tensors = [torch.from_numpy(a) for a in arrays]
    return {
        NCHW: tensors,
        NHWC: [t.to(memory_format=torch.channels_last) if t.ndim == 4 else t for t in tensors],
    }


def convolution(problem: Problem) -> Iterator[Task]:
    stride, padding, dilation = problem.pair("s"), problem.pair("p"), problem.pair("d")
    options: Any = {"stride": stride, "padding": padding, "dilation": dilation, "groups": problem["g"]}
    x, w = random(problem.input_shape, 0), random(problem.weight_shape, 1)
    y = random((problem["mb"], problem["oc"], *problem.out_size), 2)
    layouts = both_layouts(x, w, y)
    gflop = 2e-9 * problem.macs

    def gradient(name: str, wanted: list[bool]) -> Call:
        tx, tw, ty = layouts[name]
        rest = (None, stride, padding, dilation, False, (0, 0), problem["g"], wanted)
        return lambda: torch.ops.aten.convolution_backward(ty, tx, tw, *rest)[wanted.index(True)]

    def forward(name: str) -> Call:
        tx, tw, _ = layouts[name]
        return lambda: torch.nn.functional.conv2d(tx, tw, None, **options)

    yield Task(
        "forward",
        {OURS: lambda: F.conv2d(x, w, **options)} | {name: forward(name) for name in layouts},
        gflop,
        "GFLOP/s",
    )
    yield Task(
        "input gradient",
        {OURS: lambda: G.conv2d_input(x.shape, w, y, **options)}
        | {name: gradient(name, [True, False, False]) for name in layouts},
        gflop,
        "GFLOP/s",
    )
    yield Task(
        "weight gradient",
        {OURS: lambda: G.conv2d_weight(x, w.shape, y, **options)}
        | {name: gradient(name, [False, True, False]) for name in layouts},
        gflop,
        "GFLOP/s",
    )


def pooling(problem: Problem) -> Iterator[Task]:
    args = problem.pair("k"), problem.pair("s"), problem.pair("p")
    x = random(problem.input_shape, 0)
    y = random((problem["mb"], problem["ic"], *problem.out_size), 1)
    _, offsets = F.max_pool2d(x, *args, return_indices=True, index_dtype="uint8")
    layouts = both_layouts(x, y)
    giga = 1e-9 * x.size

    def values(name: str) -> Call:
        return lambda: torch.nn.functional.max_pool2d(layouts[name][0], *args)

    def indexed(name: str) -> Call:
        return lambda: torch.nn.functional.max_pool2d(layouts[name][0], *args, return_indices=True)[0]

    def backward(name: str) -> Call:
        tx, ty = layouts[name]
        _, indices = torch.nn.functional.max_pool2d(tx, *args, return_indices=True)
        call = torch.ops.aten.max_pool2d_with_indices_backward
        return lambda: call(ty, tx, *args, (1, 1), False, indices)

    yield Task(
        "forward",
        {OURS: lambda: F.max_pool2d(x, *args)} | {name: values(name) for name in layouts},
        giga,
        "Gelement/s",
    )
    yield Task(
        "forward, indices",
        {OURS: lambda: F.max_pool2d(x, *args, return_indices=True, index_dtype="uint8")[0]}
        | {name: indexed(name) for name in layouts},
        giga,
        "Gelement/s",
    )
    yield Task(
        "backward",
        {OURS: lambda: G.max_pool2d(y, offsets, x.shape, *args)} | {name: backward(name) for name in layouts},
        giga,
        "Gelement/s",
    )


def dropping(problem: Problem) -> Iterator[Task]:
    p = problem["p"] / 100
    x, y = random(problem.input_shape, 0), random(problem.input_shape, 1)
    _, mask = F.dropout(x, p, seed=0, return_mask=True)
    kept = np.unpackbits(mask, count=x.size, bitorder="little").reshape(x.shape).astype(bool)
    tx, ty, kept_torch = torch.from_numpy(x), torch.from_numpy(y), torch.from_numpy(kept)
    giga = 1e-9 * x.size

    def check_share(result: Any) -> Any:
        """Masks differ, so the check of a forward pass sees how many elements stay and their sum of squares."""
        flat = np.asarray(result)
        return np.array([np.count_nonzero(flat) / flat.size, np.square(flat).mean() * (1 - p)], np.float32)

    ours: Call = lambda: F.dropout(x, p, return_mask=True)[0]  # noqa: E731
    theirs: Call = lambda: torch.native_dropout(tx, p, True)[0]  # noqa: E731
    ours.check = theirs.check = check_share  # type: ignore[attr-defined]
    yield Task("forward", {OURS: ours, NCHW: theirs}, giga, "Gelement/s")
    yield Task(
        "backward",
        {
            OURS: lambda: G.dropout(y, mask, p),
            NCHW: lambda: torch.ops.aten.native_dropout_backward(ty, kept_torch, 1 / (1 - p)),
        },
        giga,
        "Gelement/s",
    )


TASKS = {"pool": pooling, "dropout": dropping}


def check(task: Task, where: str) -> None:
    """Every contestant's result against the first one's; exits where they differ."""
    expected = None
    for name, call in task.calls.items():
        view = getattr(call, "check", np.asarray)
        result = view(call())
        if expected is None:
            expected = result
        # Both round, and PyTorch may choose Winograd; random masks agree up to the noise of their means.
        tolerance = 0.02 if hasattr(call, "check") else 1e-4
        error = np.abs(result - expected).max() / np.abs(expected).max()
        if result.shape != expected.shape or not error <= tolerance:
            sys.exit(f"{where}: {name} is off by {error:.2g} of the largest value")


def sample(call: Call, seconds: float) -> float:
    """Seconds of one call, averaged over as many as fit in ``seconds``; a first one warms up."""
    start = time.perf_counter()
    call()
    once = time.perf_counter() - start
    repeats = max(1, math.ceil(seconds / once))
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


def measure(task: Task, rounds: int, seconds: float) -> dict[str, dict[str, float]]:
    """Minimum and median over rounds in which the contestants take turns."""
    samples: dict[str, list[float]] = {name: [] for name in task.calls}
    for _ in range(rounds):
        for name, call in task.calls.items():
            samples[name].append(sample(call, seconds))
    return {name: {"min": min(each), "median": float(np.median(each))} for name, each in samples.items()}


def run_file(file: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    for problem in read(file):
        if options.match not in problem.line:
            continue
        for task in TASKS.get(file, convolution)(problem):
            if options.passes and not any(task.kind.startswith(each) for each in options.passes):
                continue
            for threads in options.threads:
                torch.set_num_threads(threads)
                fastconv.set_num_threads(threads)
                check(task, f"{file} {problem.line} {task.kind}")
                times = measure(task, options.rounds, options.seconds)
                rival = min((name for name in times if name != OURS), key=lambda name: times[name]["min"])
                yield {
                    "file": file,
                    "line": problem.line,
                    "name": problem.name,
                    "count": problem.count,
                    "pass": task.kind,
                    "threads": threads,
                    "times": times,
                    "rate": task.work / times[OURS]["min"],
                    "unit": task.unit,
                    "rival": rival,
                    "ratio": times[rival]["min"] / times[OURS]["min"],
                }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", default=FILES, help=f"problem files: {', '.join(FILES)}")
    parser.add_argument("--match", default="", help="only lines that contain this")
    parser.add_argument(
        "--passes", nargs="*", help="only passes that start so: forward input weight backward"
    )
    parser.add_argument("--threads", nargs="+", type=int, default=[2, 1])
    parser.add_argument("--rounds", type=int, default=7, help="turns of each contestant")
    parser.add_argument("--seconds", type=float, default=0.05, help="at least so long per turn")
    parser.add_argument("--out", type=Path, default=Path("bench/results.json"))
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.files) - set(FILES))
    if unknown:
        parser.error(f"no problem file {unknown[0]!r}; there are {', '.join(FILES)}")

    rows: list[dict[str, Any]] = []
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    print(
        f"{'problem':44} {'pass':16} {'thr':>3} {'fastconv':>19} {'torch NCHW':>11} {'ch. last':>9} {'ratio':>6}"
    )
    with torch.no_grad():
        for file in options.files:
            for row in run_file(file, options):
                rows.append(row)
                times = {name: each["min"] for name, each in row["times"].items()}
                rivals = "".join(
                    f" {1e3 * times[name]:{width}.3f}" if name in times else " " * (width + 1)
                    for name, width in ((NCHW, 11), (NHWC, 9))
                )
                print(
                    f"{file + ' ' + row['name']:44} {row['pass']:16} {row['threads']:3} {1e3 * times[OURS]:9.3f} ms"
                    f" {row['rate']:7.4g}{rivals} {row['ratio']:6.2f}",
                    flush=True,
                )
    for (file, kind, threads), members in groups(rows).items():
        ratios = [row["ratio"] for row in members]
        lost = sum(ratio < 1 for ratio in ratios)
        print(
            f"{file} {kind}, {threads} threads: geomean {geomean(ratios):.2f}, worst {min(ratios):.2f}, {lost} lost"
        )
    config = fastconv.show_config() | {
        "torch": torch.__version__,
        "cpu": _config.cpu_name(),
        "load_before": load,
    }
    options.out.write_text(json.dumps({"config": config, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    print(f"written: {options.out}")


if __name__ == "__main__":
    main()
