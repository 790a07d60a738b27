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
BLOCKED = "blocked_conv_forward"

# Lanes of a vector of float32 and rows of the register tile, per instruction set.
_LANES = {"baseline": 4, "avx2": 8, "avx512": 16}
_ROWS = {"baseline": 6, "avx2": 6, "avx512": 12}

Features = tuple[float, float, float, float]

# Cycles of (product, tiles, sums, filters) per algorithm and pass.
_CONSTANTS: dict[str, dict[tuple[str, int], Features]] = {
    "baseline": {
        (FORWARD, 0): (0.657, 2.22, 3.36, 15.9),
        (FORWARD, 2): (0.822, 7.16, 7.4, 1.38),
        (FORWARD, 4): (0.825, 9.03, 7.65, 2.21),
        (FORWARD, 6): (0.839, 9.23, 11.1, 1.95),
        (INPUT, 0): (0.724, 1.53, 3.19, 16.0),
        (INPUT, 2): (0.871, 6.91, 7.4, 2.06),
        (INPUT, 4): (0.895, 9.55, 7.7, 2.31),
        (INPUT, 6): (0.912, 10.1, 10.5, 1.54),
        (WEIGHT, 0): (0.718, 1.44, 4.78, 11.9),
        (WEIGHT, 2): (0.788, 7.09, 6.9, 5.4),
        (WEIGHT, 4): (0.806, 8.62, 8.24, 5.43),
        (WEIGHT, 6): (0.752, 10.1, 10.9, 6.26),
        (BLOCKED, 0): (0.713, 0.0, 16.5, 0.0),
        (BLOCKED, 2): (0.747, 5.38, 5.37, 0.0),
        (BLOCKED, 4): (0.738, 10.0, 8.71, 0.754),
        (BLOCKED, 6): (0.703, 13.3, 11.5, 0.854),
    },
    "avx2": {
        (FORWARD, 0): (0.616, 6.75, 6.13, 33.6),
        (FORWARD, 2): (0.741, 15.9, 17.6, 7.41),
        (FORWARD, 4): (0.713, 18.8, 11.6, 7.02),
        (FORWARD, 6): (0.74, 20.2, 17.6, 5.44),
        (INPUT, 0): (0.665, 6.56, 4.57, 39.0),
        (INPUT, 2): (0.818, 15.4, 16.8, 6.69),
        (INPUT, 4): (0.803, 18.3, 11.3, 7.46),
        (INPUT, 6): (0.798, 20.3, 16.3, 5.57),
        (WEIGHT, 0): (0.567, 5.42, 10.4, 30.0),
        (WEIGHT, 2): (0.633, 17.8, 16.3, 23.6),
        (WEIGHT, 4): (0.647, 21.3, 23.8, 12.2),
        (WEIGHT, 6): (0.684, 22.6, 23.9, 12.5),
        (BLOCKED, 0): (0.55, 0.0, 18.6, 5.23),
        (BLOCKED, 2): (0.591, 10.3, 8.76, 3.93),
        (BLOCKED, 4): (0.624, 16.7, 12.1, 4.1),
        (BLOCKED, 6): (0.636, 19.0, 16.0, 2.79),
    },
}
# Not measured: the counts are per lane, so the proportions are alike.
_CONSTANTS["avx512"] = _CONSTANTS["avx2"]


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
    columns = summed
    if op == WEIGHT:  # what the lanes of the products are fills whole panels: channels, elsewhere tiles
        columns = _padded(summed, 2 * lanes)
    else:
        tiles = _padded(tiles, 2 * lanes)
    return (
        scale * tiles * columns * _padded(produced, rows),
        scale * tiles * summed,
        scale * tiles * produced,
        scale * summed * produced,
    )


def blocked_features(spec: ConvSpec, m: int) -> Features:
    """Features of a convolution of blocked images: tiles fill the rows of a product and filters its lanes."""
    lanes, rows = _LANES[_config.isa_name()], _ROWS[_config.isa_name()]
    summed, produced = spec.in_channels // spec.groups, spec.out_channels // spec.groups
    padded = _padded(produced, 2 * lanes)
    taps, positions = math.prod(spec.kernel), spec.batch * math.prod(spec.out_size)
    tiles, frequencies = winograd_tiles(spec, FORWARD, m) if m else (positions, taps)
    scale = spec.groups * frequencies / lanes
    return (
        scale * _padded(tiles, rows) * summed * padded,
        scale * tiles * summed if m else 0.0,
        scale * tiles * produced if m else spec.groups * positions * produced / lanes,
        scale * summed * padded,  # they come from memory
    )


def cost(op: str, m: int, features: Features) -> float:
    """Cycles of an algorithm; ``m`` is 0 for the implicit product."""
    constants = _CONSTANTS[_config.isa_name()][op, m]
    return sum(c * f for c, f in zip(constants, features, strict=True))
