"""Occlusion as other packages do it: the same net, image and window give as many maps as there are conventions.

==============  ======  ======  ========  ==========  =====  ============================  ===========================
convention      window  stride  baseline  score       edge   windows that cover a value    result
==============  ======  ======  ========  ==========  =====  ============================  ===========================
"captum"        (told)  1       0         output      cut    mean of the differences       (N, C, H, W)
"tf_explain"    (told)  window  127.5     probability cut    none overlap                  1 - score occluded, (N,
                                                                                           rows, columns)
"pair"          15      1       0         output      drop   sum of the differences        (N, C, H, W)
"xplique"       3       3       0         output      drop   sum of the differences        (N, H, W)
"mantissa"      7       3       0         probability flush  mean of the differences       (N, H, W), negative values
                                                                                           0, the largest 1
==============  ======  ======  ========  ==========  =====  ============================  ===========================

A difference is the score of the image less that of the occluded one.  Captum is ``captum.attr.Occlusion`` 0.9,
tf_explain its ``OcclusionSensitivity`` 0.3.1 (without the final scaling to the image, which swaps the axes of images
that are not square), PAIR's ``saliency.Occlusion``, Xplique's ``Occlusion`` (whose pixels that no window covers are
0), and mantissa ``mantissa_interpret.occlusion_map`` 0.1.0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv.explain._windows import pair
from fastconv.explain.occlusion import Occlusion
from fastconv.nn import Model

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Convention:
    """How a package occludes: a row of the table above.

    Attributes
    ----------
    window, stride : int or None
        Unless told; a stride of None is the window.
    baseline : float
    score, edge, reduction : str
        As in `Occlusion.attribute`.
    finish : callable or None
        What is made of the attributions (N, C, H, W), or of the scores (N, 1, rows, columns).
    """

    window: int | None
    stride: int | None
    baseline: float
    score: str
    edge: str
    reduction: str
    finish: Callable[[Array], Array] | None = None


def _of_one_channel(attributions: Array) -> Array:
    """All channels are occluded at once: they have the same."""
    return attributions[:, 0]


def _missing_confidence(scores: Array) -> Array:
    return 1 - scores[:, 0]


def _drops_to_one(attributions: Array) -> Array:
    drops = np.maximum(attributions[:, 0], 0)
    largest = drops.max(axis=(1, 2), keepdims=True)
    return drops / np.where(largest > 0, largest, 1)


CONVENTIONS = {
    "captum": Convention(window=None, stride=1, baseline=0, score="output", edge="cut", reduction="mean"),
    "tf_explain": Convention(
        window=None,
        stride=None,
        baseline=127.5,
        score="probability",
        edge="cut",
        reduction="scores",
        finish=_missing_confidence,
    ),
    "pair": Convention(window=15, stride=1, baseline=0, score="output", edge="drop", reduction="sum"),
    "xplique": Convention(
        window=3, stride=3, baseline=0, score="output", edge="drop", reduction="sum", finish=_of_one_channel
    ),
    "mantissa": Convention(
        window=7,
        stride=3,
        baseline=0,
        score="probability",
        edge="flush",
        reduction="mean",
        finish=_drops_to_one,
    ),
}


def occlusion_as(
    convention: str,
    model: Model | Callable[..., Any],
    images: Any,
    target: Any,
    window: int | tuple[int, int] | None = None,
    stride: int | tuple[int, int] | None = None,
    **options: Any,
) -> Array:
    """Occlusion by the convention of another package, for maps that can be compared with that package's.

    Parameters
    ----------
    convention : {"captum", "tf_explain", "pair", "xplique", "mantissa"}
        See the table of `fastconv.explain.conventions`.
    model, target
        As in `Occlusion`.
    images : ndarray of shape (N, C, H, W)
    window, stride : int or pair of int, optional
        Height and width; the convention's own where it has one.
    **options
        As in `Occlusion.attribute`; they come before the convention's.

    Returns
    -------
    ndarray
        Shaped as the convention has it.

    Raises
    ------
    ValueError
        If there is no such convention, it has no window of its own and none is told, or as `Occlusion.attribute`.
    """
    if convention not in CONVENTIONS:
        raise ValueError(f"convention must be one of {tuple(CONVENTIONS)}, got {convention!r}")
    rules = CONVENTIONS[convention]
    x = np.asarray(images)
    if x.ndim != 4:
        raise ValueError(f"images must have shape (N, C, H, W), got {x.shape}")
    if window is None:
        window = rules.window
    if window is None:
        raise ValueError(f"convention {convention!r} has no window of its own: tell one")
    size = pair(window, "window")
    if stride is None:
        stride = size if rules.stride is None else rules.stride
    chosen = {"baselines": rules.baseline, "score": rules.score, "edge": rules.edge}
    asked = {**chosen, "reduction": rules.reduction, **options}
    values: Array = Occlusion(model).attribute(
        x, (x.shape[1], *size), (x.shape[1], *pair(stride, "stride")), target=target, **asked
    )
    return rules.finish(values) if rules.finish else values
