"""Tools that explain a net: what it looks at, what it reacts to, and what it can see at all."""

from __future__ import annotations

from fastconv.explain._occluded import Estimate
from fastconv.explain._watched import Activity
from fastconv.explain.conventions import CONVENTIONS, Convention, occlusion_as
from fastconv.explain.diagnose import diagnose
from fastconv.explain.features import feature_maps, filters
from fastconv.explain.occlusion import Occlusion, OcclusionResult, occlusion
from fastconv.explain.receptive_field import Field, FieldTable, receptive_field
from fastconv.explain.saliency import Saliency, linearize, saliency_map

__all__ = [
    "CONVENTIONS",
    "Activity",
    "Convention",
    "Estimate",
    "Field",
    "FieldTable",
    "Occlusion",
    "OcclusionResult",
    "Saliency",
    "diagnose",
    "feature_maps",
    "filters",
    "linearize",
    "occlusion",
    "occlusion_as",
    "receptive_field",
    "saliency_map",
]
