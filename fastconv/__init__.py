"""fastconv: convolutional networks on NumPy arrays, in compiled kernels.

``fastconv.functional`` holds the ops, ``fastconv.grad`` their backward passes, ``fastconv.nn`` trainable nets and
``fastconv.explain`` the tools that explain them.
"""

from __future__ import annotations

import importlib
from types import ModuleType

# First of all, for it says how the OpenMP runtime waits, which any other extension might load before.
from fastconv._config import (
    force_isa,
    get_num_threads,
    manual_seed,
    release_memory,
    set_cache_limit,
    set_num_threads,
    show_config,
    supported_isas,
)

# isort: split
from fastconv import blocked, functional, grad
from fastconv._dispatch import PerformanceWarning, active_backend, allow_tf32, explain_choice, use_backend
from fastconv._tune import deterministic, tune
from fastconv.matrix import conv_matrix
from fastconv.prepared import PreparedConv, prepare

__version__ = "0.1.0"

_LAZY = ("datasets", "explain", "nn", "onnx", "plot")

__all__ = [
    "PerformanceWarning",
    "PreparedConv",
    "active_backend",
    "allow_tf32",
    "blocked",
    "conv_matrix",
    "datasets",
    "deterministic",
    "explain",
    "explain_choice",
    "force_isa",
    "functional",
    "get_num_threads",
    "grad",
    "manual_seed",
    "nn",
    "onnx",
    "plot",
    "prepare",
    "release_memory",
    "set_cache_limit",
    "set_num_threads",
    "show_config",
    "supported_isas",
    "tune",
    "use_backend",
]


def __getattr__(name: str) -> ModuleType:
    if name in _LAZY:
        return importlib.import_module(f"fastconv.{name}")
    raise AttributeError(f"module 'fastconv' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
