"""fastconv's own times for pytest-benchmark, to compare one commit with another: ``make bench-history``.

A plain ``pytest`` does not collect this file.
"""

from __future__ import annotations

from typing import Any

import pytest

import fastconv
from fastconv.bench import tasks
from fastconv.bench.contestants import Fastconv
from fastconv.bench.problem_line import Problem, read

# A few seconds each file, and between them every kernel.
FILES = ("winograd", "dilated", "special", "depthwise", "pool", "dropout", "tiny")
CASES = [
    pytest.param(problem, kind, id=f"{file}-{problem.name}-{kind}".replace(" ", "_"))
    for file in FILES
    for problem in read(file)
    for kind in tasks.PASSES[problem.op]
]


@pytest.mark.parametrize("threads", [2, 1])
@pytest.mark.parametrize(("problem", "kind"), CASES)
def test_time(benchmark: Any, problem: Problem, kind: str, threads: int) -> None:
    """One call; the implementation is kept beside the times."""
    ours = Fastconv()
    ours.set_threads(threads)
    arrays = tasks.inputs(problem, kind)
    benchmark.extra_info = {
        "served_by": ours.served_by(problem, kind, arrays),
        "isa": fastconv.show_config()["isa"],
    }
    benchmark(ours.prepare(problem, kind, arrays))
