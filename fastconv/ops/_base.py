"""The protocol of an op: what every interpreter of a :class:`fastconv.graph.Graph` may ask it.

An op is a frozen dataclass of attributes.  It holds no arrays: parameters are handed to it by name.  All
shapes in this package are those of one sample; the batch axis comes first in the arrays and is never part of
a shape.
"""

from __future__ import annotations

import enum
import hashlib
import math
from dataclasses import dataclass, fields
from typing import Any, Final, NamedTuple

from numpy.typing import NDArray

from fastconv._spec import Shape

Array = NDArray[Any]

LAYOUTS: Final = ("(F,)", "(C, L)", "(C, H, W)", "(C, D, H, W)")  # of a sample, by its spatial dimensions
DTYPE_OF_SHAPES: Final = "float32"  # specs need one; sizes do not depend on it


def derive_seed(seed: int, *path: object) -> int:
    """A 64-bit seed that is a pure function of ``seed`` and the labels in ``path``."""
    text = "/".join(str(part) for part in (seed, *path))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a forward pass is for.

    Parameters
    ----------
    training
        Dropout drops and batch normalisation uses (and records) the statistics of the batch.
    recording
        A backward pass will follow: ops return what it needs.
    seed, step
        Random masks are a pure function of (seed, step, node): the same for any number of threads.
    node
        Name of the node being run; the interpreter fills it in.
    """

    training: bool = False
    recording: bool = False
    seed: int = 0
    step: int = 0
    node: str = ""

    def mask_seed(self) -> int:
        """Seed of this node's random mask in this step."""
        return derive_seed(self.seed, self.step, self.node)


class Wanted(NamedTuple):
    """Which gradients a backward pass needs: one flag per input, and one for the parameters."""

    inputs: tuple[bool, ...]
    params: bool


Taps = tuple[tuple[int, ...], ...]  # per output position of one period, the input positions that it reads


@dataclass(frozen=True, kw_only=True)
class Window:
    """The sliding window of an op, per spatial dimension: what receptive-field arithmetic needs.

    Output position y reads positions ``y * stride - pad_lo + i * dilation`` for i < kernel, of the input with
    ``expansion - 1`` zeros between its elements (None is 1, the input itself; a transposed convolution expands).
    """

    kernel: Shape
    stride: Shape
    pad_lo: Shape
    pad_hi: Shape
    dilation: Shape
    expansion: Shape | None = None

    def taps(self, axis: int) -> tuple[int, Taps]:
        """How far the input position moves per period of output positions, and what those of a period read."""
        stride, expansion = self.stride[axis], self.expansion[axis] if self.expansion else 1
        period = expansion // math.gcd(expansion, stride)
        offsets = [i * self.dilation[axis] - self.pad_lo[axis] for i in range(self.kernel[axis])]
        return period * stride // expansion, tuple(
            tuple(
                (y * stride + offset) // expansion
                for offset in offsets
                if (y * stride + offset) % expansion == 0
            )
            for y in range(period)
        )


@dataclass(frozen=True, kw_only=True)
class Partition:
    """Windows that share an input out among a fixed number of outputs, per spatial dimension.

    Output position y reads positions ``floor(y * in_size / out_size)`` up to
    ``ceil((y + 1) * in_size / out_size)``.
    """

    in_size: Shape
    out_size: Shape

    def taps(self, axis: int) -> tuple[int, Taps]:
        """As :meth:`Window.taps`."""
        common = math.gcd(self.in_size[axis], self.out_size[axis])
        advance, period = self.in_size[axis] // common, self.out_size[axis] // common
        return advance, tuple(
            tuple(range(y * advance // period, -(-(y + 1) * advance // period))) for y in range(period)
        )


class Extent(enum.Enum):
    """Windows that are not sliding."""

    GLOBAL = "global"


GLOBAL: Final = Extent.GLOBAL  # every output sees the whole input

Gradients = tuple[tuple[Array | None, ...], dict[str, Array]]


class Op:
    """Base of all ops.

    A subclass is a frozen keyword-only dataclass whose fields are plain values (numbers, strings, tuples), so
    that an op can be compared, hashed and stored as text.
    """

    state: tuple[str, ...] = ()  # parameters that training moves by other means than their gradient

    @property
    def kind(self) -> str:
        """Lower-case name that node names start with."""
        raise NotImplementedError

    def infer_shape(self, *input_shapes: Shape) -> Shape:
        """Shape of the output of one sample; ValueError if the inputs do not fit."""
        raise NotImplementedError

    def param_shapes(self, *input_shapes: Shape) -> dict[str, Shape]:
        """Shapes of the parameters, in the order in which a node lists their names."""
        return {}

    def forward(
        self, inputs: tuple[Array, ...], params: dict[str, Array], context: Context
    ) -> tuple[Array, Any]:
        """The output, and what :meth:`backward` needs (None unless ``context.recording``).

        The output may be an input itself or a view of it: nobody writes to either.
        """
        raise NotImplementedError

    def backward(self, grad_output: Array, saved: Any, params: dict[str, Array], wanted: Wanted) -> Gradients:
        """Gradients of the inputs (None if not wanted) and, if wanted, of all parameters but :attr:`state`.

        Parameter gradients are fresh arrays; an input gradient may be ``grad_output`` itself.
        """
        raise NotImplementedError

    def window(self, *input_shapes: Shape) -> Window | Partition | Extent | None:
        """The sliding window; ``GLOBAL`` if every output sees the whole input; None for a point-wise op."""
        return None

    def macs(self, *input_shapes: Shape) -> int:
        """Multiply-accumulates for one sample; 0 for ops whose cost is memory traffic."""
        return 0


def single(input_shapes: tuple[Shape, ...], kind: str) -> Shape:
    """The shape of an op's only input."""
    if len(input_shapes) != 1:
        raise ValueError(f"{kind} takes one input, got {len(input_shapes)}")
    return input_shapes[0]


def planes(input_shapes: tuple[Shape, ...], kind: str, ndim: int) -> Shape:
    """The shape of an op's only input, which must have a channel and ``ndim`` spatial dimensions."""
    shape = single(input_shapes, kind)
    if len(shape) != ndim + 1:
        raise ValueError(f"{kind} takes an input of shape {LAYOUTS[ndim]} per sample, got {shape}")
    return shape


def attributes(op: Any) -> dict[str, Any]:
    """The fields of an op as a dictionary."""
    return {field.name: getattr(op, field.name) for field in fields(op)}
