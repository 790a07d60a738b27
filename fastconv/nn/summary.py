"""The table of a net's layers."""

from __future__ import annotations

import math

from fastconv.graph import Graph
from fastconv.nn._format import batched

_HEADER = ("layer", "kind", "output shape", "parameters", "MACs")


def summary(graph: Graph) -> str:
    """One line per layer, then the totals.

    Parameters shared by several layers are counted at their first use.  MACs are multiply-accumulates for one
    sample (a FLOP count is twice that); ops that only move or compare numbers count 0.
    """
    rows = [(name, "input", batched(shape), "", "") for name, shape in graph.inputs.items()]
    counted: set[str] = set()
    total_macs = 0
    for node in graph.nodes:
        own = [name for name in node.params if name not in counted]
        counted.update(own)
        count = sum(math.prod(graph.param_shapes[name]) for name in own)
        macs = graph.macs(node)
        total_macs += macs
        rows.append((node.name, node.op.kind, batched(graph.shapes[node.name]), f"{count:,}", f"{macs:,}"))
    widths = [max(len(row[column]) for row in (_HEADER, *rows)) for column in range(len(_HEADER))]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    sizes = {name: math.prod(shape) for name, shape in graph.param_shapes.items()}
    trainable = sum(sizes[name] for name in graph.trainable)
    total = sum(sizes.values())
    return "\n".join(
        [
            _line(_HEADER, widths),
            rule,
            *(_line(row, widths) for row in rows),
            rule,
            f"parameters: {total:,} ({trainable:,} trainable, {total - trainable:,} running statistics)",
            f"MACs per sample: {total_macs:,}",
        ]
    )


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    left = [cell.ljust(width) for cell, width in zip(cells[:3], widths, strict=False)]
    right = [cell.rjust(width) for cell, width in zip(cells[3:], widths[3:], strict=True)]
    return "  ".join(left + right).rstrip()
