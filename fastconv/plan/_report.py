"""What a plan does, step by step, in numbers and as a table."""

from __future__ import annotations

from dataclasses import dataclass

from fastconv._table import aligned

MAX_WHY = 120  # characters of a reason in the table


@dataclass(frozen=True, kw_only=True)
class Row:
    """One step of a plan.

    Attributes
    ----------
    name : str
        Of the value it makes.
    nodes : tuple of str
        Those of the graph it stands for; none for a change of layout.
    by : str
        The algorithm that serves it.
    why : str
        What was said of the others.
    seconds : float
        Least time over some runs.
    gflops : float
        1e9 operations in a second, two for each multiply-accumulate of the plain algorithm; 0 where there are none.
    nbytes : int
        Of the result.
    """

    name: str
    nodes: tuple[str, ...]
    by: str
    why: str
    seconds: float
    gflops: float
    nbytes: int


@dataclass(frozen=True, kw_only=True)
class Report:
    """A plan measured on a batch of one size; ``str()`` of it is a table.

    Attributes
    ----------
    rows : tuple of Row
    batch : int
    seconds : float
        Least time of a call.
    first_seconds : float
        Of the first call with that size of the batch, which chooses algorithms, lays weights out and takes memory.
    arena_nbytes : int
        Of the one piece of memory that all values between input and output share.
    weight_nbytes : int
        Of weights and biases in all forms that are kept.
    """

    rows: tuple[Row, ...]
    batch: int
    seconds: float
    first_seconds: float
    arena_nbytes: int
    weight_nbytes: int

    def __str__(self) -> str:
        table = [("step", "stands for", "by", "ms", "GFLOP/s", "MiB", "why")]
        for row in self.rows:
            why = row.why if len(row.why) <= MAX_WHY else row.why[: MAX_WHY - 3] + "..."
            table.append(
                (
                    row.name,
                    " + ".join(row.nodes) if len(row.nodes) > 1 else "",
                    row.by,
                    f"{row.seconds * 1e3:.3f}",
                    f"{row.gflops:.1f}" if row.gflops else "",
                    f"{row.nbytes / 2**20:.2f}",
                    why,
                )
            )
        lines = aligned(table)
        lines.append(
            f"batch {self.batch}: {self.seconds * 1e3:.3f} ms a call in {len(self.rows)} steps, the first "
            f"{self.first_seconds * 1e3:.1f} ms; arena {self.arena_nbytes / 2**20:.2f} MiB, weights "
            f"{self.weight_nbytes / 2**20:.2f} MiB"
        )
        return "\n".join(lines)
