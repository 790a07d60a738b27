"""Local response normalisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastconv._spec import Shape
from fastconv.ops._base import Array, Context, Gradients, Op, Wanted, single


@dataclass(frozen=True, kw_only=True)
class LRN(Op):
    """``x / (bias + alpha / size * sum of squares over size channels) ** beta`` (Krizhevsky et al. 2012).

    Parameters
    ----------
    size : int
        Number of neighbouring channels, the own one among them.
    alpha, beta, bias : float
    before : int, optional
        How many of them come before the own one; None is ``(size - 1) // 2``, as in ONNX.  PyTorch has ``size // 2``,
        which is another number where the size is even.
    """

    size: int
    alpha: float = 1e-4
    beta: float = 0.75
    bias: float = 1.0
    before: int | None = None

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size must be >= 1, got {self.size!r}")
        if not 0 <= self._before < self.size:
            raise ValueError(f"before must be from 0 to size - 1 = {self.size - 1}, got {self.before!r}")

    @property
    def kind(self) -> str:
        return "lrn"

    @property
    def _before(self) -> int:
        return (self.size - 1) // 2 if self.before is None else self.before

    def infer_shape(self, *input_shapes: Shape) -> Shape:
        shape = single(input_shapes, self.kind)
        if not shape:
            raise ValueError(f"{self.kind} takes an input with channels, got a scalar per sample")
        return shape

    def _neighbours(self, x: Array, before: int) -> Array:
        """Sums over each channel and those next to it."""
        total = x.copy()
        channels = x.shape[1]
        for shift in range(max(-before, 1 - channels), min(self.size - before, channels)):
            if shift > 0:
                total[:, :-shift] += x[:, shift:]
            elif shift < 0:
                total[:, -shift:] += x[:, :shift]
        return total

    def forward(
        self, inputs: tuple[Array, ...], params: dict[str, Array], context: Context
    ) -> tuple[Array, Any]:
        (x,) = inputs
        base = self.bias + self.alpha / self.size * self._neighbours(x * x, self._before)
        factor = base**-self.beta
        return x * factor, (x, base, factor) if context.recording else None

    def backward(self, grad_output: Array, saved: Any, params: dict[str, Array], wanted: Wanted) -> Gradients:
        x, base, factor = saved
        # a channel is a neighbour of those that it has as neighbours, on the other side
        through = self._neighbours(grad_output * x * factor / base, self.size - 1 - self._before)
        return (grad_output * factor - 2 * self.alpha * self.beta / self.size * x * through,), {}
