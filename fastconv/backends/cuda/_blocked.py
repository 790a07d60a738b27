"""Why no op on the blocked layout is served."""

from __future__ import annotations

from typing import Any

from fastconv._dispatch import Implementation
from fastconv.backends import reference


def _refusal(spec: Any) -> str:
    return (
        "the blocked layout is for a CPU, whose vectors hold a pixel's channels; on a device neighbouring threads read "
        "neighbouring pixels, so that images stay (N, C, H, W), as fastconv.functional takes them"
    )


IMPLEMENTATIONS: dict[str, tuple[Implementation, ...]] = {
    op: (
        Implementation("none", reference.IMPLEMENTATIONS[op][0].run, _refusal),
    )  # whose signature a twin has
    for op in (
        "block",
        "unblock",
        "blocked_conv_forward",
        "blocked_stem_forward",
        "blocked_max_pool_forward",
        "blocked_avg_pool_forward",
    )
}
