"""Tools that explain a net: what it looks at, what it reacts to, and what it can see at all."""

from __future__ import annotations

from fastconv.explain._occluded import Estimate
from fastconv.explain._watched import Activity
from fastconv.explain.conventions import CONVENTIONS, Convention, occlusion_as
from fastconv.explain.diagnose import diagnose
from fastconv.explain.effective_field import EffectiveField, effective_receptive_field
from fastconv.explain.features import (
    Patch,
    dead_filters,
    feature_maps,
    filter_norms,
    filters,
    maximize_activation,
    top_patches,
)
from fastconv.explain.gradients import (
    InputXGradient,
    IntegratedGradients,
    LayerGradCam,
    NoiseTunnel,
    grad_cam,
)
from fastconv.explain.metrics import (
    Curve,
    deletion,
    infidelity,
    insertion,
    parameter_randomization,
    sensitivity_max,
)
from fastconv.explain.occlusion import Occlusion, OcclusionResult, occlusion
from fastconv.explain.receptive_field import Field, FieldTable, receptive_field
from fastconv.explain.report import METHODS as REPORT_METHODS
from fastconv.explain.report import report
from fastconv.explain.saliency import (
    LinearizationError,
    Saliency,
    linearization_error,
    linearize,
    saliency_map,
    top_predictors,
)

__all__ = [
    "CONVENTIONS",
    "REPORT_METHODS",
    "Activity",
    "Convention",
    "Curve",
    "EffectiveField",
    "Estimate",
    "Field",
    "FieldTable",
    "InputXGradient",
    "IntegratedGradients",
    "LayerGradCam",
    "LinearizationError",
    "NoiseTunnel",
    "Occlusion",
    "OcclusionResult",
    "Patch",
    "Saliency",
    "dead_filters",
    "deletion",
    "diagnose",
    "effective_receptive_field",
    "feature_maps",
    "filter_norms",
    "filters",
    "grad_cam",
    "infidelity",
    "insertion",
    "linearization_error",
    "linearize",
    "maximize_activation",
    "occlusion",
    "occlusion_as",
    "parameter_randomization",
    "receptive_field",
    "report",
    "saliency_map",
    "sensitivity_max",
    "top_patches",
    "top_predictors",
]
