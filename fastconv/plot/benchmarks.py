"""Pictures of benchmarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastconv.plot._canvas import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_WON, _LOST = "C0", "C3"


def benchmark_ratios(
    rows: Sequence[Mapping[str, Any]], title: str = "Other libraries over fastconv"
) -> Figure:
    """How many times longer the fastest other library takes, a bar per problem and pass.

    Parameters
    ----------
    rows : sequence of mapping
        Of the JSON that ``fastconv bench`` writes; those without a ratio are left out.
    title : str

    Returns
    -------
    Figure
        One panel per number of threads, on a logarithmic scale; losses have another colour.

    Raises
    ------
    ValueError
        If no row has a ratio.
    """
    shown = [row for row in rows if row["ratio"] is not None]
    if not shown:
        raise ValueError("rows hold no ratio: fastconv was alone")
    counts = list(dict.fromkeys(row["threads"] for row in shown))
    labels = list(dict.fromkeys(f"{row['name']}, {row['pass']}" for row in shown))
    figure = new_figure(3.2 + 4 * len(counts), 1.3 + 0.17 * len(labels))
    figure.suptitle(title)
    panels = figure.subplots(1, len(counts), sharey=True, sharex=True, squeeze=False)[0]
    for axes, count in zip(panels, counts, strict=True):
        here = [row for row in shown if row["threads"] == count]
        ratios = np.array([row["ratio"] for row in here])
        places = [labels.index(f"{row['name']}, {row['pass']}") for row in here]
        # From 1, where both are as fast, to the right for a win and to the left for a loss.
        axes.barh(places, ratios - 1, left=1, color=np.where(ratios >= 1, _WON, _LOST), height=0.75)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.axvline(1, color="black", linewidth=0.8)
        axes.set_yticks(range(len(labels)), labels, fontsize=6)
        axes.set_ylim(len(labels) - 0.4, -0.6)
        lost = int(np.count_nonzero(ratios < 1))
        axes.set_title(f"{count} thread{'s' * (count != 1)}: {lost} of {len(ratios)} lost", fontsize=9)
        axes.set_xlabel("time of the fastest other / time of fastconv")
        axes.grid(axis="x", alpha=0.3)
    return figure


def roofline(
    rows: Sequence[Mapping[str, Any]], peak: float, bandwidth: float, title: str = "Roofline"
) -> Figure:
    """Rates that were reached, under what the machine allows.

    Parameters
    ----------
    rows : sequence of mapping
        Of the JSON that ``fastconv bench`` writes, of one number of threads.  A dot is a problem's pass that
        multiplies; it lies above the roof where an algorithm saves multiplications.
    peak : float
        Operations a second.
    bandwidth : float
        Bytes a second.
    title : str

    Returns
    -------
    Figure
        Logarithmic axes: operations per byte against GFLOP/s.

    Raises
    ------
    ValueError
        If no row counts operations.

    References
    ----------
    Williams, Waterman, Patterson: Roofline: an insightful visual performance model, CACM 52 (4), 2009.
    """
    shown = [row for row in rows if row["flop"] and row["rate"] is not None]
    if not shown:
        raise ValueError("rows hold no problem that counts operations")
    figure = new_figure(8, 5.2)
    axes = figure.subplots()
    for kind in dict.fromkeys(row["pass"] for row in shown):
        here = [row for row in shown if row["pass"] == kind]
        intensity = [row["flop"] / row["bytes"] for row in here]
        axes.plot(intensity, [row["rate"] for row in here], ".", label=kind)
    left, right = axes.get_xlim()
    reach = np.geomspace(max(left, 0.1), max(right, 10 * peak / bandwidth), 200)
    roof = 1e-9 * np.minimum(peak, bandwidth * reach)
    label = f"{1e-9 * bandwidth:.1f} GB/s, then {1e-9 * peak:.0f} GFLOP/s"
    axes.plot(reach, roof, color="black", linewidth=1, label=label)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("operations per byte that must be moved")
    axes.set_ylabel("GFLOP/s, counted as the direct algorithm's")
    axes.set_title(title)
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    return figure
