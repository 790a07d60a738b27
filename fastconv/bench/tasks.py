"""What is computed of a problem: its passes, their inputs, their work, and what counts as a right result."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastconv.bench import nets
from fastconv.bench.problem_line import Problem

Array = NDArray[Any]

FORWARD, INPUT_GRAD, WEIGHT_GRAD = "forward", "input gradient", "weight gradient"
INDICES, BACKWARD, DENORMAL, PREPARED = (
    "forward, indices",
    "backward",
    "forward, denormals",
    "forward, prepared",
)
STEP = "training step"
INFERENCE = "inference"
MAP = "map"
PASSES = {
    "conv": (FORWARD, INPUT_GRAD, WEIGHT_GRAD),
    "denormal": (FORWARD, DENORMAL),
    "prepared": (FORWARD, PREPARED),
    "pool": (FORWARD, INDICES, BACKWARD),
    "dropout": (FORWARD, BACKWARD),
    "relu": (FORWARD,),
    "train": (STEP,),
    "infer": (INFERENCE,),
    "occlusion": (MAP,),
}

# Of the largest value: all contestants round, and some choose Winograd's algorithm.
TOLERANCE = 1e-4

# A deep net's: rounding makes some ReLUs pass what others hold back, and each layer adds its part.
STEP_TOLERANCE = 1e-3

# Results below the least normal number may be flushed to zero: so much is no error of a denormal result.
_LEAST_SCALE = float(np.finfo(np.float32).tiny) / TOLERANCE
_DENORMAL = 1e-41


class Work(NamedTuple):
    """What a pass has to do at least: arithmetic, and bytes that must be read or written."""

    flop: float
    nbytes: float

    @property
    def is_arithmetic(self) -> bool:
        """Measured against the peak of multiply-adds, otherwise against the bandwidth of a copy."""
        return self.flop > 0


def work(problem: Problem, kind: str) -> Work:
    """Multiplications and additions of the direct algorithm; every array read or written once."""
    x, y = math.prod(problem.input_shape), math.prod(problem.output_shape)
    match problem.op, kind:
        case (("conv" | "denormal" | "prepared"), _):
            return Work(2 * problem.macs, 4 * (x + math.prod(problem.weight_shape) + y))
        case "pool", _:
            return Work(0, 4 * (x + y) + (0 if kind == FORWARD else y))
        case "dropout", _:
            return Work(0, 8 * x + x / 8)
        case "train", _:
            return _work_of_step(problem)
        case "infer", _:
            graph = nets.build(problem).graph
            params = sum(math.prod(shape) for shape in graph.param_shapes.values())
            return Work(2 * problem["mb"] * sum(map(graph.macs, graph.nodes)), 4 * (x + params))
        case "occlusion", _:
            graph = nets.build(problem).graph
            macs = sum(graph.macs(node) for node in graph.nodes)
            return Work(2 * macs * (1 + nets.count_windows(problem)), 8 * x)
        case _:
            return Work(0, 8 * x)


def _work_of_step(problem: Problem) -> Work:
    """Three passes of every layer but the first, which needs no gradient of its input; parameters read and written."""
    graph = nets.build(problem).graph
    macs = [graph.macs(node) for node in graph.nodes]
    params = sum(math.prod(shape) for shape in graph.param_shapes.values())
    return Work(
        2 * problem["mb"] * (3 * sum(macs) - macs[0]), 4 * (math.prod(problem.input_shape) + 2 * params)
    )


def labels(problem: Problem) -> Array:
    """A class for every sample, from a fixed seed."""
    return np.random.default_rng(3).integers(0, nets.CLASSES, problem["mb"])


def inputs(problem: Problem, kind: str) -> tuple[Array, Array, Array]:
    """Input, weight and gradient of the output, from fixed seeds; the weight is empty where there is none."""
    x, weight, grad = (
        np.random.default_rng(seed).standard_normal(shape, np.float32)
        for seed, shape in enumerate((problem.input_shape, problem.weight_shape, problem.output_shape))
    )
    return (x * np.float32(_DENORMAL) if kind == DENORMAL else x), weight, grad


def has_reference(problem: Problem, kind: str) -> bool:
    """Whether the right result is one array: every library draws dropout masks of its own."""
    return (problem.op, kind) != ("dropout", FORWARD)


def tolerance(problem: Problem) -> float:
    """The largest :func:`error` of a right result."""
    return STEP_TOLERANCE if problem.op == "train" else TOLERANCE


def error(problem: Problem, kind: str, result: Array, reference: Array | None) -> float:
    """Largest error over the largest value of the right result; NaN or infinity if the result is no such thing."""
    if reference is None:
        return _dropout_error(result, inputs(problem, kind)[0], problem["p"] / 100)
    if result.shape != reference.shape:
        return math.inf
    # Image by image: large problems are compared in float64.
    pairs = zip(np.atleast_1d(result), np.atleast_1d(reference), strict=True)
    worst, largest = np.max(
        [(np.abs(got - right).max(), np.abs(right).max()) for got, right in pairs], axis=0
    )
    return float(worst / max(largest, _LEAST_SCALE))


def _dropout_error(result: Array, x: Array, p: float) -> float:
    """Kept elements are exact multiples, and as many are kept as chance allows (six standard deviations)."""
    if result.shape != x.shape:
        return math.inf
    kept = result != 0
    if abs(float(kept.mean()) - (1 - p)) > 6 * math.sqrt(p * (1 - p) / x.size):
        return math.nan
    wanted = x.astype(np.float64) / (1 - p)
    return float(np.abs(result - wanted, where=kept, out=np.zeros(x.shape)).max() / np.abs(wanted).max())
