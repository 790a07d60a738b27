"""Write the results of ``fastconv bench`` into the README, between its two ``bench`` marks.

``python -m bench.readme_table [fastconv-bench/results.json] [README.md]``
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from fastconv.bench.report import section

START, END = "<!-- bench:start -->", "<!-- bench:end -->"


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
    results = Path(sys.argv[1] if len(sys.argv) > 1 else "fastconv-bench/results.json")
    readme = Path(sys.argv[2] if len(sys.argv) > 2 else "README.md")
    text = section(json.loads(results.read_text(encoding="utf-8")))
    readme.write_text(rewrite(readme.read_text(encoding="utf-8"), text), encoding="utf-8")


if __name__ == "__main__":
    main()
