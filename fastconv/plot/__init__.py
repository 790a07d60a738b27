"""Pictures. A function returns a new matplotlib `Figure` (save it with `figure.savefig(path)`) or, where it takes
`ax` and may be part of a larger picture, the `Axes` it drew on; none touches global state.

Signed quantities use a red-blue map centred at zero, one-signed ones a sequential map; tiles of one picture
share a scale.
"""

from __future__ import annotations

from fastconv.plot.benchmarks import benchmark_ratios, roofline
from fastconv.plot.explanations import (
    effective_field,
    feature_maps,
    filters,
    importance_curves,
    linearization_error,
    occlusion,
    overlay,
    receptive_fields,
    saliency,
)
from fastconv.plot.networks import network
from fastconv.plot.training import distributions, findings, gradient_flow, training_curves

__all__ = [
    "benchmark_ratios",
    "distributions",
    "effective_field",
    "feature_maps",
    "filters",
    "findings",
    "gradient_flow",
    "importance_curves",
    "linearization_error",
    "network",
    "occlusion",
    "overlay",
    "receptive_fields",
    "roofline",
    "saliency",
    "training_curves",
]
