"""ONNX files in and out, and the backend that runs them.

:func:`load` makes a net of a file, :func:`save` a file of a net, and :mod:`fastconv.onnx.backend` implements
``onnx.backend.base``.  All need the package ``onnx`` (extra ``onnx``), which is imported where it is used.
"""

from __future__ import annotations

from fastconv.onnx._load import load
from fastconv.onnx._save import save
from fastconv.onnx._values import UnsupportedModelError

__all__ = ["UnsupportedModelError", "load", "save"]
