"""Tables of what the runner measured, in Markdown; every row is kept, those that lose are bold."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from fastconv.bench.contestants import OURS

Row = dict[str, Any]


def geomean(values: Sequence[float]) -> float:
    """Geometric mean of positive numbers."""
    return math.exp(sum(map(math.log, values)) / len(values))


def grouped(rows: Sequence[Row], *keys: str) -> dict[tuple[Any, ...], list[Row]]:
    """Rows by the values of ``keys``, in order of appearance."""
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[key] for key in keys), []).append(row)
    return found


def console_line(row: Row) -> str:
    """What ``fastconv bench`` prints of a row as soon as it is measured."""
    parts = [f"{row['file'] + ' ' + row['name']:36} {row['pass']:18} {row['threads']:2} thr"]
    if row["rate"] is not None:
        parts.append(f"{_milliseconds(row, OURS):>11} {row['rate']:7.4g} {row['unit']:7} {row['share']:5.0%}")
        parts.append(f"{row['served_by']:13}")
        ours = row["times"][OURS]["min"]
        parts += [f"{name} {each['min'] / ours:.2f}" for name, each in row["times"].items() if name != OURS]
    parts += [f"{name}: {reason}" for name, reason in row["failed"].items()]
    return "  ".join(parts)


def section(results: dict[str, Any]) -> str:
    """Everything: the machine, a summary, what happened to denormals, every row, and what failed."""
    rows = results["rows"]
    parts = [
        [_heading(results["config"])],
        _summary(rows),
        _training(rows),
        _inference(rows),
        _denormals(rows),
        _failures(rows),
    ]
    details = ["<details><summary>Every row</summary>", "", *_every_row(rows), "", "</details>"]
    return "\n\n".join("\n".join(lines) for lines in (*parts, details) if lines)


def _heading(config: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in config["versions"].items() if name != OURS)
    roofs = "; ".join(
        f"{figures['flops'] * 1e-9:.0f} GFLOP/s and {figures['bandwidth'] * 1e-9:.1f} GB/s on {_threads(count)}"
        for count, figures in config["machine"].items()
    )
    return (
        f"fastconv {config['version']} ({config['isa']}, {config['compiler']}) on {config['cpu']}, float32, beside "
        f"{versions or 'no other library'}. Ratio: time of the fastest other library over fastconv's, so above 1 "
        "fastconv is faster; losses are bold. Each time is the least of several turns, taken alternately by processes "
        "of their own, after a check against a float64 result; error: largest, over the largest value. Rates count "
        "the arithmetic of the direct algorithm, which Winograd's undercuts, or each byte once. %: of NumPy's matrix "
        f"product or of a large copy in the same run ({roofs}); arrays that fit a cache exceed the latter. Extra "
        "memory: high-water of the resident set during the first call, less the result."
    )


def _threads(count: Any) -> str:
    return f"{count} thread{'' if int(count) == 1 else 's'}"


def _mark(ratio: float | None) -> str:
    """A ratio, bold where it is a loss."""
    if ratio is None:
        return "-"
    return f"{ratio:.2f}" if ratio >= 1 else f"**{ratio:.2f}**"


def _milliseconds(row: Row, name: str) -> str:
    return f"{1e3 * row['times'][name]['min']:.3g} ms" if name in row["times"] else "failed"


def _table(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    """Text to the left; what begins with a thread count or is a figure to the right."""
    rule = ["---" if column in ("layers of", "problem", "pass", "by") else "---:" for column in columns]
    return ["| " + " | ".join(line) + " |" for line in (columns, rule, *lines)]


def _summary(rows: list[Row]) -> list[str]:
    """One line per problem file and pass: geometric mean, worst and lost rows, per number of threads."""
    counts = list(dict.fromkeys(row["threads"] for row in rows))
    rivals = any(row["ratio"] is not None for row in rows)
    figures = ("geomean", "worst", "lost") if rivals else ("geomean rate", "geomean %")
    columns = ["layers of", "pass", "layers"]
    columns += [f"{_threads(count)}: {figure}" for count in counts for figure in figures]
    lines = []
    for (file, kind), members in grouped(rows, "file", "pass").items():
        line = [file, kind, str(len({row["line"] for row in members}))]
        for count in counts:
            line += _summary_cells([row for row in members if row["threads"] == count], rivals)
        lines.append(line)
    return _table(columns, lines)


def _summary_cells(rows: list[Row], rivals: bool) -> list[str]:
    if rivals:
        ratios = [row["ratio"] for row in rows if row["ratio"] is not None]
        if not ratios:
            return ["-"] * 3
        return [_mark(geomean(ratios)), _mark(min(ratios)), str(sum(ratio < 1 for ratio in ratios))]
    done = [row for row in rows if row["rate"] is not None]
    if not done:
        return ["-"] * 2
    rate, share = (geomean([row[key] for row in done]) for key in ("rate", "share"))
    return [f"{rate:.3g} {done[0]['unit']}", f"{share:.0%}"]


def _every_row(rows: list[Row]) -> list[str]:
    """One line per problem and pass."""
    counts = list(dict.fromkeys(row["threads"] for row in rows))
    figures = ("fastconv", "rate", "%", "best other", "ratio")
    columns = ["problem", "pass", "by"]
    columns += [f"{_threads(count)}: {figure}" for count in counts for figure in figures]
    columns += ["error", "extra memory"]
    lines = []
    for (file, line, kind), members in grouped(rows, "file", "line", "pass").items():
        cells = [f"{file} `{line}`", kind, "/".join(dict.fromkeys(str(row["served_by"]) for row in members))]
        by_count = {row["threads"]: row for row in members}
        for count in counts:
            cells += _cells(by_count[count]) if count in by_count else ["-"] * len(figures)
        errors = [row["errors"][OURS] for row in members if OURS in row["errors"]]
        memory = [row["workspace"][OURS] for row in members if row["workspace"].get(OURS) is not None]
        cells.append(f"{max(errors):.1e}" if errors else "-")
        cells.append(f"{max(memory) / 2**20:.1f} MiB" if memory else "-")
        lines.append(cells)
    return _table(columns, lines)


def _cells(row: Row) -> list[str]:
    """Of one number of threads."""
    ours = [_milliseconds(row, OURS), "-", "-"]
    if row["rate"] is not None:
        ours[1:] = [f"{row['rate']:.3g} {row['unit']}", f"{row['share']:.0%}"]
    rival = f"{_milliseconds(row, row['rival'])} ({row['rival']})" if row["rival"] else "-"
    return [*ours, rival, _mark(row["ratio"])]


def _training(rows: list[Row]) -> list[str]:
    """Time and memory of a step of every net, library by library."""
    title = "A step of training, and the memory that the first one needs beside parameters and gradients:"
    return _nets(
        rows, "train", title, lambda row, name: f"{_milliseconds(row, name)}, {_mebibytes(row, name)}"
    )


def _inference(rows: list[Row]) -> list[str]:
    """Time, start and memory of every net, library by library."""

    def cell(row: Row, name: str) -> str:
        first = f"{1e3 * row['first'][name]:.3g} ms" if name in row["first"] else "-"
        return f"{_milliseconds(row, name)}, {first}, {_mebibytes(row, name)}"

    title = (
        "Inference of a whole net; then how long it took to load its file and to infer for the first time, and "
        "the most memory that both needed:"
    )
    return _nets(rows, "infer", title, cell)


def _nets(rows: list[Row], op: str, title: str, cell: Callable[[Row, str], str]) -> list[str]:
    """A table of whole nets, a column for each library."""
    steps = [row for row in rows if row["op"] == op]
    if not steps:
        return []
    names = list(dict.fromkeys(name for row in steps for name in row["times"]))
    lines = [
        [row["name"], str(row["threads"]), *(cell(row, name) for name in names), _mark(row["ratio"])]
        for row in steps
    ]
    return [title, "", *_table(["problem", "threads", *names, "ratio"], lines)]


def _mebibytes(row: Row, name: str) -> str:
    extra = row["workspace"].get(name)
    return "-" if extra is None else f"{extra / 2**20:.1f} MiB"


def _denormals(rows: list[Row]) -> list[str]:
    """How much longer a convolution takes when its input is denormal."""
    slowed = [row for row in rows if row.get("slowdown")]
    if not slowed:
        return []
    names = list(dict.fromkeys(name for row in slowed for name in row["slowdown"]))
    lines = [
        [
            f"{row['file']} `{row['line']}`",
            str(row["threads"]),
            *(f"{row['slowdown'][name]:.2f}" if name in row["slowdown"] else "-" for name in names),
        ]
        for row in slowed
    ]
    title = "Time on denormal input over that on normal input:"
    return [title, "", *_table(["problem", "threads", *names], lines)]


def _failures(rows: list[Row]) -> list[str]:
    return [
        f"* {name} failed {row['file']} `{row['line']}` {row['pass']} on {_threads(row['threads'])}: {reason}"
        for row in rows
        for name, reason in row["failed"].items()
    ]
