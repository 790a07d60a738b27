"""Translators of ONNX operators into ops, by what they do."""

from __future__ import annotations

from fastconv.onnx._operators import layers, pointwise, reductions, shapes
from fastconv.onnx._operators._table import TRANSLATORS, translate

__all__ = ["TRANSLATORS", "layers", "pointwise", "reductions", "shapes", "translate"]
