"""The plan of parameters that may change, kept as long as they have not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv import _config, _digest, _dispatch
from fastconv.graph import Graph
from fastconv.plan._run import InferencePlan

Array = NDArray[Any]


class KeptPlan:
    """Gives an inference plan that is never out of date.

    Arrays do not tell of a change in place, and whoever holds one may change it at any time.  So a digest of all
    parameters is compared whenever the plan is asked for: one read of them at the speed of the memory, where
    inference reads them as well and computes besides.
    """

    def __init__(self, graph: Graph, dtype: str) -> None:
        self._graph, self._dtype = graph, dtype
        self._kept: tuple[Any, InferencePlan] | None = None

    def get(self, params: Mapping[str, Array]) -> InferencePlan:
        """The plan of the parameters as they are."""
        state = _dispatch.generation(), digests(params)
        kept = self._kept
        if kept is None or kept[0] != state:
            self._kept = kept = None  # its memory makes room
            self._kept = kept = state, InferencePlan(self._graph, params, self._dtype)
        return kept[1]

    def drop(self) -> None:
        """Give its memory back; the next plan is made anew."""
        self._kept = None


def digests(params: Mapping[str, Array]) -> tuple[int, ...]:
    """64 bits of each array's elements, by which any change shows but for one in 2**64."""
    return tuple(
        _digest.digest(np.ascontiguousarray(x), x.nbytes, _config.threads_for(x.size))
        for x in params.values()
    )
