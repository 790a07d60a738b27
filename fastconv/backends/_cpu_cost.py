"""What a convolution costs by each algorithm: the model that chooses between them.

The cost is a count of core cycles, a sum of ``constant * feature`` over the parts of the algorithm.  Features are exact
counts that follow from the shapes; the constants were fitted to measured times of some eighty shapes, once per
instruction set (``python -m bench.calibrate``).  They matter only in proportion, so they hold for other machines of the
same instruction set; the number of threads does not enter, or results would depend on it.

======================  ==========================================================================================
feature                 counts
======================  ==========================================================================================
product                 multiply-adds of the matrix products, rows padded to the register tile, per vector lane
tiles                   positions read into tiles and transformed (Winograd), or packed (implicit product), per lane
sums                    sums that are transformed back (Winograd) or stored, per lane
filters                 filter elements transformed or packed, per lane, once per pass over them
======================  ==========================================================================================
"""

from __future__ import annotations

import math

from fastconv import _config
from fastconv._spec import ConvSpec

FORWARD, INPUT, WEIGHT = "conv_forward", "conv_input_grad", "conv_weight_grad"

# Lanes of a vector of float32 and rows of the register tile, per instruction set.
_LANES = {"baseline": 4, "avx2": 8, "avx512": 16}
_ROWS = {"baseline": 6, "avx2": 6, "avx512": 12}

Features = tuple[float, float, float, float]

# Cycles of (product, tiles, sums, filters) per algorithm and pass.
_CONSTANTS: dict[str, dict[tuple[str, int], Features]] = {
    "baseline": {
        (FORWARD, 0): (0.637, 3.69, 1.46, 12.9),
        (FORWARD, 2): (0.671, 6.79, 9.98, 4.13),
        (FORWARD, 4): (0.671, 8.72, 9.51, 2.89),
        (FORWARD, 6): (0.685, 8.99, 11.9, 2.72),
        (INPUT, 0): (0.637, 3.07, 1.8, 22.8),
        (INPUT, 2): (0.721, 6.55, 6.65, 9.16),
        (INPUT, 4): (0.69, 8.89, 7.19, 5.34),
        (INPUT, 6): (0.698, 10.4, 9.39, 3.51),
        (WEIGHT, 0): (0.627, 3.18, 6.44, 7.49),
        (WEIGHT, 2): (0.656, 6.71, 11.0, 8.44),
        (WEIGHT, 4): (0.667, 8.36, 13.3, 5.84),
        (WEIGHT, 6): (0.681, 7.85, 15.4, 5.67),
    },
    "avx2": {
        (FORWARD, 0): (0.481, 6.26, 1.98, 22.3),
        (FORWARD, 2): (0.623, 11.2, 14.4, 5.48),
        (FORWARD, 4): (0.606, 12.6, 12.2, 4.31),
        (FORWARD, 6): (0.626, 13.3, 13.9, 3.05),
        (INPUT, 0): (0.395, 4.81, 1.96, 28.4),
        (INPUT, 2): (0.477, 9.73, 10.6, 13.4),
        (INPUT, 4): (0.518, 10.3, 8.83, 5.56),
        (INPUT, 6): (0.487, 12.8, 10.7, 4.47),
        (WEIGHT, 0): (0.396, 5.79, 12.4, 9.46),
        (WEIGHT, 2): (0.408, 12.4, 18.0, 17.6),
        (WEIGHT, 4): (0.39, 14.6, 23.9, 9.84),
        (WEIGHT, 6): (0.463, 14.0, 23.6, 8.2),
    },
}
_CONSTANTS["avx512"] = _CONSTANTS[
    "avx2"
]  # not measured: the counts are per lane, so the proportions are alike


def _padded(n: int, to: int) -> int:
    return -(-n // to) * to


def _per_group(spec: ConvSpec, op: str) -> tuple[int, int, tuple[int, ...]]:
    """Channels that are summed over, channels that are produced, and the grid of positions, as the op sees them."""
    c, k = spec.in_channels // spec.groups, spec.out_channels // spec.groups
    return (k, c, spec.in_size) if op == INPUT else (c, k, spec.out_size)


def implicit_gemm_features(spec: ConvSpec, op: str) -> Features:
    """Features of the implicit matrix product."""
    lanes, rows = _LANES[_config.isa_name()], _ROWS[_config.isa_name()]
    summed, produced, grid = _per_group(spec, op)
    taps, positions = math.prod(spec.kernel), spec.batch * math.prod(grid)
    columns = spec.groups * positions * summed * taps / lanes
    return (
        columns * _padded(produced, rows),
        columns,
        spec.groups * positions * produced / lanes,
        spec.groups * summed * produced * taps / lanes,
    )


def winograd_tiles(spec: ConvSpec, op: str, m: int) -> tuple[int, int]:
    """Tiles of the problem and frequencies of a tile."""
    tiles, frequencies = spec.batch, 1
    grid = _per_group(spec, op)[2]
    for n, k, d in zip(grid, spec.kernel, spec.dilation, strict=True):
        if k == 3:
            each, longer = divmod(n, d)  # positions of a phase; so many phases have one more
            tiles *= longer * -(-(each + 1) // m) + (d - longer) * -(-each // m)
            frequencies *= m + 2
        else:
            tiles *= n
    return tiles, frequencies


def winograd_features(spec: ConvSpec, op: str, m: int) -> Features:
    """Features of F(m x m, 3 x 3)."""
    lanes, rows = _LANES[_config.isa_name()], _ROWS[_config.isa_name()]
    summed, produced, _ = _per_group(spec, op)
    tiles, frequencies = winograd_tiles(spec, op, m)
    scale = spec.groups * frequencies / lanes
    if op != WEIGHT:
        tiles = _padded(tiles, 2 * lanes)
    return (
        scale * tiles * summed * _padded(produced, rows),
        scale * tiles * summed,
        scale * tiles * produced,
        scale * summed * produced,
    )


def cost(op: str, m: int, features: Features) -> float:
    """Cycles of an algorithm; ``m`` is 0 for the implicit product."""
    constants = _CONSTANTS[_config.isa_name()][op, m]
    return sum(c * f for c, f in zip(constants, features, strict=True))
