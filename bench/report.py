"""Write what ``bench.run`` measured into the README, between its two ``bench`` marks; every row is kept.

``python -m bench.report [results.json] [README.md]``
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

OURS = "fastconv"
START, END = "<!-- bench:start -->", "<!-- bench:end -->"


def geomean(values: list[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def groups(rows: list[dict[str, Any]]) -> dict[tuple[str, str, int], list[dict[str, Any]]]:
    """Rows by (file, pass, threads), in order of appearance."""
    found: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault((row["file"], row["pass"], row["threads"]), []).append(row)
    return found


def mark(ratio: float) -> str:
    """A ratio, bold where it is a loss."""
    return f"{ratio:.2f}" if ratio >= 1 else f"**{ratio:.2f}**"


def summary(rows: list[dict[str, Any]]) -> list[str]:
    """One line per problem file, pass and number of threads."""
    lines = [
        "| layers of | pass | threads | layers | geometric mean | best | worst | lost |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for (file, kind, threads), members in groups(rows).items():
        ratios = [row["ratio"] for row in members]
        lines.append(
            f"| {file} | {kind} | {threads} | {len(ratios)} | {mark(geomean(ratios))} | {mark(max(ratios))} "
            f"| {mark(min(ratios))} | {sum(ratio < 1 for ratio in ratios)} |"
        )
    return lines


def every_row(rows: list[dict[str, Any]]) -> list[str]:
    """One line per problem, pass and number of threads."""
    lines = [
        "| problem | pass | threads | fastconv | rate | best of PyTorch | ratio |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        ours, theirs = row["times"][OURS]["min"], row["times"][row["rival"]]["min"]
        layout = row["rival"].removeprefix("torch ")
        lines.append(
            f"| {row['file']} `{row['line']}` | {row['pass']} | {row['threads']} | {1e3 * ours:.3f} ms "
            f"| {row['rate']:.3g} {row['unit']} | {1e3 * theirs:.3f} ms ({layout}) | {mark(row['ratio'])} |"
        )
    return lines


def section(results: dict[str, Any]) -> str:
    """What stands between the marks."""
    config, rows = results["config"], results["rows"]
    return "\n".join(
        [
            f"fastconv {config['version']} ({config['isa']}, {config['compiler']}) and PyTorch {config['torch']} on "
            f"{config['cpu']}, float32. Ratio: time of the better of PyTorch's NCHW and channels_last over "
            "fastconv's, so above 1 fastconv is faster; losses are bold. Each time is the least of several turns "
            "taken alternately. `make bench` repeats this on your machine.",
            "",
            *summary(rows),
            "",
            "<details><summary>Every layer</summary>",
            "",
            *every_row(rows),
            "",
            "</details>",
        ]
    )


def rewrite(readme: str, text: str) -> str:
    """``readme`` with ``text`` between the marks.

    Raises
    ------
    ValueError
        If the two marks are not there, once each and in order.
    """
    if readme.count(START) != 1 or readme.count(END) != 1 or readme.index(START) > readme.index(END):
        raise ValueError(f"the README must have one {START} and, behind it, one {END}")
    before, _, rest = readme.partition(START)
    return f"{before}{START}\n{text}\n{END}{rest.partition(END)[2]}"


def main() -> None:
    results = Path(sys.argv[1] if len(sys.argv) > 1 else "bench/results.json")
    readme = Path(sys.argv[2] if len(sys.argv) > 2 else "README.md")
    text = section(json.loads(results.read_text(encoding="utf-8")))
    readme.write_text(rewrite(readme.read_text(encoding="utf-8"), text), encoding="utf-8")


if __name__ == "__main__":
    main()
