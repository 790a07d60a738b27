"""Fit the constants of the cost model in fastconv/backends/_cpu_cost.py to measured times.

``python -m bench.calibrate [--isa NAME]`` times every algorithm on one thread over shapes drawn from a seed, fits
non-negative constants to the relative error, prints the table to paste, and says how good the model's choices are.
Times are of the process, so other programs disturb them little.
"""

from __future__ import annotations

import argparse
import itertools
import math
import random
import time
from functools import partial

import numpy as np
from scipy.optimize import nnls

import fastconv
from fastconv import _config, _dispatch
from fastconv._spec import ConvSpec
from fastconv._tune import random_arrays
from fastconv.backends import _cpu_cost as model

OPS = (model.FORWARD, model.INPUT, model.WEIGHT, model.BLOCKED)
TILES = (0, 2, 4, 6)


def shapes(count: int, seed: int) -> list[ConvSpec]:
    """Problems of 10 million to a billion multiply-adds."""
    rng = random.Random(seed)
    found: list[ConvSpec] = []
    while len(found) < count:
        n, size = rng.choice([1, 2, 4, 8, 16]), rng.choice([5, 7, 8, 13, 14, 16, 20, 28, 33, 40, 56, 80, 112])
        c, k = (int(2 ** rng.uniform(0, 9.2)) for _ in range(2))
        d = rng.choice([1, 1, 1, 2, 3])
        spec = ConvSpec.from_shapes((n, c, size, size), (k, c, 3, 3), "float32", 1, d, d, 1)
        if 1e7 < spec.macs < 1e9:
            found.append(spec)
    return found


def seconds(spec: ConvSpec, op: str) -> dict[int, float]:
    """Least process time of each algorithm, in turns."""
    table = {i.name: i for i in _dispatch.implementations(op)}
    plain = "direct" if op == model.BLOCKED else "implicit_gemm"
    runs = {m: partial(table[f"winograd{m}" if m else plain].run, spec) for m in TILES}
    if op == model.BLOCKED:  # a net keeps its weights packed
        x, w, *others = random_arrays(spec, model.FORWARD)
        x = fastconv.blocked.to_blocked(x)
        packs = {m: table[f"winograd{m}" if m else plain].pack for m in TILES}
        calls = {m: partial(runs[m], x, packs[m](spec, w), *others) for m in TILES}
    else:
        calls = {m: partial(runs[m], *random_arrays(spec, op)) for m in TILES}
    best = dict.fromkeys(TILES, math.inf)
    for _, m in itertools.product(range(4), TILES):
        start = time.process_time()
        calls[m]()
        best[m] = min(best[m], time.process_time() - start)
    return best


def features(spec: ConvSpec, op: str, m: int) -> model.Features:
    if op == model.BLOCKED:
        return model.blocked_features(spec, m)
    return model.winograd_features(spec, op, m) if m else model.implicit_gemm_features(spec, op)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--isa", default=fastconv.supported_isas()[-1])
    parser.add_argument("--shapes", type=int, default=60)
    parser.add_argument("--op", choices=OPS, action="append", help="one of the passes; by default all")
    args = parser.parse_args()
    fastconv.set_num_threads(1)
    with fastconv.force_isa(args.isa):
        fitted: dict[tuple[str, int], tuple[float, ...]] = {}
        for op in args.op or OPS:
            specs = shapes(args.shapes, seed=1)
            times = [seconds(spec, op) for spec in specs]
            unit = min(times[0].values()) / min(
                features(specs[0], op, m)[0] for m in TILES
            )  # of about a cycle
            for m in TILES:
                rows = np.array([features(s, op, m) for s in specs])
                measured = np.array([t[m] for t in times]) / unit
                constants, _ = nnls(rows / measured[:, None], np.ones(len(specs)))
                fitted[op, m] = tuple(float(f"{v:.3g}") for v in constants)
            regret = []
            for spec, t in zip(specs, times, strict=True):
                choice = min(TILES, key=lambda m: float(np.dot(fitted[op, m], features(spec, op, m))))
                regret.append(t[choice] / min(t.values()))
            print(
                f"# {op}: choices cost {np.exp(np.mean(np.log(regret))):.3f} of the best, at worst {max(regret):.2f}"
            )
        print(f'    "{_config.isa_name()}": {{')
        for key, value in fitted.items():
            print(f"        {key}: {value},")
        print("    },")


if __name__ == "__main__":
    main()
