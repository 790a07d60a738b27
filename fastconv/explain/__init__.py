"""Tools that explain a net: what it looks at, what it reacts to, and what it can see at all."""

from __future__ import annotations

from fastconv.explain._occluded import Estimate
from fastconv.explain._watched import Activity
from fastconv.explain.conventions import CONVENTIONS, Convention, occlusion_as
from fastconv.explain.diagnose import diagnose
from fastconv.explain.effective_field import EffectiveField, effective_receptive_field
from fastconv.explain.features import feature_maps, filters
from fastconv.explain.occlusion import Occlusion, OcclusionResult, occlusion
from fastconv.explain.receptive_field import Field, FieldTable, receptive_field
from fastconv.explain.report import METHODS as REPORT_METHODS
from fastconv.explain.report import report
from fastconv.explain.saliency import Saliency, linearize, saliency_map

__all__ = [
    "CONVENTIONS",
    "REPORT_METHODS",
    "Activity",
    "Convention",
    "EffectiveField",
    "Estimate",
    "Field",
    "FieldTable",
    "Occlusion",
    "OcclusionResult",
    "Saliency",
    "diagnose",
    "effective_receptive_field",
    "feature_maps",
    "filters",
    "linearize",
    "occlusion",
    "occlusion_as",
    "receptive_field",
    "report",
    "saliency_map",
]
