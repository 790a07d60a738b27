"""At least one call of every public op, for the tests that hold for all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import fastconv.functional as F
import fastconv.grad as G
from kit import Array, ramp

N = "N"  # stands for the batch size in a shape


@dataclass(frozen=True)
class Fixed:
    """A positional argument that is not an array; N in a tuple stands for the batch size."""

    value: Any


@dataclass(frozen=True)
class Case:
    """A call: a shape stands for a float array, a callable ``(dtype, batch) -> array`` for any other."""

    name: str
    arguments: tuple[Any, ...]
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        settings = ",".join(f"{name}={value}" for name, value in self.options.items())
        return f"{self.name}({settings})".replace(" ", "")

    @property
    def function(self) -> Callable[..., Any]:
        room, _, name = self.name.rpartition(".")
        function: Callable[..., Any] = getattr(G if room == "grad" else F, name)
        return function

    def make(self, dtype: str, batch: int = 2) -> list[Any]:
        """The positional arguments, arrays among them."""
        made: list[Any] = []
        for seed, each in enumerate(self.arguments):
            if isinstance(each, Fixed):
                made.append(_sized(each.value, batch) if isinstance(each.value, tuple) else each.value)
            elif callable(each):
                made.append(each(dtype, batch))
            else:
                made.append(ramp(_sized(each, batch), dtype, seed))
        return made

    def run(self, arguments: list[Any]) -> list[Array]:
        """The results of the call as a list of arrays."""
        result = self.function(*arguments, **self.options)
        return [np.asarray(each) for each in (result if isinstance(result, tuple) else (result,))]


def _sized(shape: tuple[Any, ...], batch: int) -> tuple[Any, ...]:
    return tuple(batch if each is N else each for each in shape)


def case(name: str, *arguments: Any, **options: Any) -> Case:
    return Case(name, arguments, options)


def _argmax(function: Callable[..., Any], shape: tuple[Any, ...], *args: Any, **options: Any) -> Any:
    """Indices that a pooling of a ramp returns."""
    return lambda dtype, batch: function(
        ramp(_sized(shape, batch), dtype), *args, return_indices=True, **options
    )[1]


def _mask(size: Callable[[int], int]) -> Any:
    return lambda dtype, batch: F.dropout(np.ones(size(batch), dtype), 0.3, seed=1, return_mask=True)[1]


def _labels(*shape: Any) -> Any:
    def make(dtype: str, batch: int) -> Array:
        labels = np.random.default_rng(3).integers(0, 5, _sized(shape, batch))
        labels[:1] = -100
        return labels

    return make


def _probabilities(*shape: Any) -> Any:
    return lambda dtype, batch: F.softmax(ramp(_sized(shape, batch), dtype), 1)


def _positive(size: int) -> Any:
    return lambda dtype, batch: np.linspace(0.5, 2.0, size).astype(dtype)


IMAGE, LINE = (N, 6, 9, 8), (N, 6, 11)
POOLED, OVERLAP = (N, 6, 4, 4), (N, 6, 5, 4)
OVERLAP_OFFSETS = _argmax(F.max_pool2d, IMAGE, 3, 2, 1, index_dtype="uint8")

CASES = (
    case("conv1d", LINE, (4, 3, 3), (4,), stride=2, padding=1, groups=2),
    case("conv2d", IMAGE, (4, 6, 3, 3), (4,), padding=1),
    case("conv2d", IMAGE, (12, 1, 3, 3), (12,), stride=2, padding="valid", dilation=2, groups=6),
    case("conv2d", IMAGE, (5, 6, 1, 1), (5,)),
    case("conv3d", (N, 2, 5, 6, 7), (3, 2, 2, 3, 2), (3,), padding=1, stride=(1, 2, 1)),
    case("conv_transpose1d", LINE, (6, 2, 3), (4,), stride=2, padding=1, output_padding=1, groups=2),
    case("conv_transpose2d", IMAGE, (6, 4, 3, 2), (4,), stride=(2, 3), padding=1),
    case("max_pool1d", LINE, Fixed(3), stride=2, padding=1),
    case("max_pool2d", IMAGE, Fixed(2)),
    case("max_pool2d", IMAGE, Fixed(3), stride=2, padding=1, return_indices=True),
    case("max_pool2d", IMAGE, Fixed((2, 3)), ceil_mode=True, return_indices=True, index_dtype="uint8"),
    case("avg_pool1d", LINE, Fixed(3), stride=2, padding=1),
    case("avg_pool2d", IMAGE, Fixed((3, 2)), stride=2, padding=1, count_include_pad=False),
    case("adaptive_avg_pool1d", LINE, Fixed(4)),
    case("adaptive_avg_pool2d", IMAGE, Fixed((4, 3))),
    case("adaptive_max_pool1d", LINE, Fixed(4), return_indices=True),
    case("adaptive_max_pool2d", IMAGE, Fixed((4, 3)), return_indices=True),
    case("max_unpool1d", (N, 6, 5), _argmax(F.max_pool1d, LINE, 2), Fixed(2)),
    case("max_unpool2d", POOLED, _argmax(F.max_pool2d, IMAGE, 2), Fixed(2)),
    case("dropout", IMAGE, p=0.4, seed=5, return_mask=True),
    case("dropout2d", IMAGE, p=0.4, seed=5, return_mask=True),
    case("drop_block2d", IMAGE, Fixed(0.2), Fixed(3), seed=5, return_mask=True),
    case("relu", IMAGE),
    case("leaky_relu", IMAGE, negative_slope=0.2),
    case("relu6", IMAGE),
    case("sigmoid", IMAGE),
    case("tanh", IMAGE),
    case("softmax", IMAGE, Fixed(1)),
    case("log_softmax", IMAGE, Fixed(-1)),
    case("linear", (N, 3, 40), (10, 40), (10,)),
    case("batch_norm", IMAGE, (6,), _positive(6), (6,), (6,)),
    case("batch_norm", IMAGE, Fixed(None), Fixed(None), (6,), (6,), training=True, return_stats=True),
    case("cross_entropy", (N, 5, 3, 4), _labels(N, 3, 4), _positive(5), label_smoothing=0.1),
    case("cross_entropy", (N, 5, 6), _probabilities(N, 5, 6), reduction="none", return_log_probs=True),
    case("unfold", IMAGE, Fixed((3, 2)), padding=1, stride=2),
    case("fold", (N, 36, 25), Fixed((9, 8)), Fixed((3, 2)), padding=1, stride=2),
    case("pad", IMAGE, Fixed((1, 2, -1, 3)), value=0.5),
    case("pad", IMAGE, Fixed((1, 2, 3, 4)), mode="reflect"),
    case("grad.conv1d_input", Fixed(LINE), (4, 3, 3), (N, 4, 6), stride=2, padding=1, groups=2),
    case("grad.conv1d_weight", LINE, Fixed((4, 3, 3)), (N, 4, 6), stride=2, padding=1, groups=2),
    case("grad.conv2d_input", Fixed(IMAGE), (4, 6, 3, 3), (N, 4, 9, 8), padding=1),
    case("grad.conv2d_input", Fixed(IMAGE), (12, 1, 3, 3), (N, 12, 3, 2), stride=2, dilation=2, groups=6),
    case("grad.conv2d_weight", IMAGE, Fixed((4, 6, 3, 3)), (N, 4, 9, 8), padding=1),
    case("grad.conv2d_weight", IMAGE, Fixed((12, 1, 3, 3)), (N, 12, 3, 2), stride=2, dilation=2, groups=6),
    case("grad.conv3d_input", Fixed((N, 2, 5, 6, 7)), (3, 2, 2, 3, 2), (N, 3, 6, 3, 8), padding=1, stride=(1, 2, 1)),
    case("grad.conv3d_weight", (N, 2, 5, 6, 7), Fixed((3, 2, 2, 3, 2)), (N, 3, 6, 3, 8), padding=1, stride=(1, 2, 1)),
    case("grad.conv_bias", IMAGE),
    case("grad.conv_transpose1d_input", Fixed(LINE), (6, 2, 3), (N, 2, 23), stride=2),
    case("grad.conv_transpose1d_weight", LINE, Fixed((6, 2, 3)), (N, 2, 23), stride=2),
    case("grad.conv_transpose2d_input", Fixed(IMAGE), (6, 4, 3, 2), (N, 4, 17, 21), stride=(2, 3), padding=1),
    case("grad.conv_transpose2d_weight", IMAGE, Fixed((6, 4, 3, 2)), (N, 4, 17, 21), stride=(2, 3), padding=1),
    case("grad.max_pool1d", (N, 6, 5), _argmax(F.max_pool1d, LINE, 2), Fixed(LINE), Fixed(2)),
    case("grad.max_pool2d", POOLED, _argmax(F.max_pool2d, IMAGE, 2), Fixed(IMAGE), Fixed(2)),
    case("grad.max_pool2d", OVERLAP, _argmax(F.max_pool2d, IMAGE, 3, 2, 1), Fixed(IMAGE), Fixed(3), Fixed(2), Fixed(1)),
    case("grad.max_pool2d", OVERLAP, OVERLAP_OFFSETS, Fixed(IMAGE), Fixed(3), Fixed(2), Fixed(1)),
    case("grad.avg_pool1d", (N, 6, 6), Fixed(LINE), Fixed(3), stride=2, padding=1),
    case("grad.avg_pool2d", (N, 6, 5, 5), Fixed(IMAGE), Fixed((3, 2)), stride=2, padding=1),
    case("grad.adaptive_avg_pool1d", (N, 6, 4), Fixed(LINE)),
    case("grad.adaptive_avg_pool2d", (N, 6, 4, 3), Fixed(IMAGE)),
    case("grad.adaptive_max_pool1d", (N, 6, 4), _argmax(F.adaptive_max_pool1d, LINE, 4), Fixed(LINE)),
    case("grad.adaptive_max_pool2d", (N, 6, 4, 3), _argmax(F.adaptive_max_pool2d, IMAGE, (4, 3)), Fixed(IMAGE)),
    case("grad.max_unpool1d", (N, 6, 10), _argmax(F.max_pool1d, LINE, 2)),
    case("grad.max_unpool2d", (N, 6, 8, 8), _argmax(F.max_pool2d, (N, 6, 8, 8), 2)),
    case("grad.dropout", IMAGE, _mask(lambda batch: batch * 432), Fixed(0.3)),
    case("grad.dropout2d", IMAGE, _mask(lambda batch: batch * 6), Fixed(0.3)),
    case("grad.drop_block2d", IMAGE, _mask(lambda batch: batch * 432)),
    case("grad.relu", IMAGE, IMAGE),
    case("grad.leaky_relu", IMAGE, IMAGE, negative_slope=0.2),
    case("grad.relu6", IMAGE, IMAGE),
    case("grad.sigmoid", IMAGE, IMAGE),
    case("grad.tanh", IMAGE, IMAGE),
    case("grad.softmax", IMAGE, IMAGE, Fixed(1)),
    case("grad.log_softmax", IMAGE, IMAGE, Fixed(-1)),
    case("grad.linear_input", (10, 40), (N, 3, 10)),
    case("grad.linear_weight", (N, 3, 40), (N, 3, 10)),
    case("grad.linear_bias", (N, 3, 10)),
    case("grad.batch_norm", IMAGE, IMAGE, (6,), _positive(6), (6,)),
    case("grad.cross_entropy", Fixed(0.7), (N, 5, 3, 4), _labels(N, 3, 4), _positive(5), label_smoothing=0.1),
    case("grad.cross_entropy", (N, 6), (N, 5, 6), _probabilities(N, 5, 6), reduction="none"),
    case("grad.unfold", (N, 36, 25), Fixed(IMAGE), Fixed((3, 2)), padding=1, stride=2),
    case("grad.fold", IMAGE, Fixed((3, 2)), padding=1, stride=2),
    case("grad.pad", (N, 6, 11, 11), Fixed(IMAGE), Fixed((1, 2, -1, 3))),
    case("grad.pad", (N, 6, 16, 11), Fixed(IMAGE), Fixed((1, 2, 3, 4)), mode="reflect"),
)  # fmt: skip
