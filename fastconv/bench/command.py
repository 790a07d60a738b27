"""What ``fastconv bench`` does: run problems, and write their results as data, tables and pictures."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastconv import plot
from fastconv._optional import require
from fastconv.bench import problem_line, report, tasks
from fastconv.bench.contestants import OURS, installed
from fastconv.bench.runner import Effort, Runner


def run(
    problems: Sequence[tuple[str, problem_line.Problem]],
    threads: Sequence[int],
    effort: Effort,
    out: Path,
) -> int:
    """Measure (file, problem) pairs on every number of threads and write results and pictures; the exit code."""
    peers, notes = installed()
    for note in notes:
        print(note)
    rows: list[dict[str, Any]] = []
    total = len(threads) * sum(len(tasks.PASSES[problem.op]) for _, problem in problems)
    bar = require("tqdm", extra="bench").tqdm(total=total, unit="row")
    with Runner(peers, threads, effort) as runner, bar:
        for name, reason in runner.absent.items():
            bar.write(f"{name} does not play: {reason}", file=sys.stdout)
        for file, problem in problems:
            for row in runner.rows(file, problem):
                rows.append(row)
                bar.write(report.console_line(row), file=sys.stdout)
                bar.update()
        config = runner.config()
    results = {"config": config, "rows": rows}
    (out / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (out / "results.md").write_text(report.section(results) + "\n", encoding="utf-8")
    print(f"\nWritten to {out}: results.json results.md", *_draw_results(rows, runner.machine, out))
    wrong = [row for row in rows if OURS in row["failed"]]
    if wrong:
        print(f"fastconv bench: {len(wrong)} of fastconv's results are wrong or missing", file=sys.stderr)
    return 1 if wrong else 0


def chosen_problems(files: Sequence[str], match: str) -> list[tuple[str, problem_line.Problem]]:
    """(file, problem) of the files, all if none is given, whose lines contain ``match``."""
    every = [(file, problem) for file in files or problem_line.files() for problem in problem_line.read(file)]
    chosen = [(file, problem) for file, problem in every if match in problem.line]
    if not chosen:
        raise ValueError(f"no line of the chosen problem files contains {match!r}")
    return chosen


def _draw_results(
    rows: Sequence[dict[str, Any]], machine: Mapping[int, Mapping[str, float]], out: Path
) -> list[str]:
    """Draw a bar chart per problem file, if another library played, and a roofline per number of threads."""
    figures = {}
    for (file,), here in report.grouped([row for row in rows if row["ratio"] is not None], "file").items():
        figures[f"ratios_{file}.png"] = plot.benchmark_ratios(here, f"{file}: other libraries over fastconv")
    counted = [row for row in rows if row["flop"] and row["rate"] is not None]
    for (count,), here in report.grouped(counted, "threads").items():
        roofs = machine[count]["flops"], machine[count]["bandwidth"]
        title = f"fastconv on {count} thread{'s' * (count != 1)}"
        figures[f"roofline_{count}.png"] = plot.roofline(here, *roofs, title)
    for name, figure in figures.items():
        figure.savefig(out / name, dpi=110)
    return list(figures)
