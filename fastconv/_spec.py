"""Problem specifications: every argument check and the only output-size arithmetic of the package.

A spec is a frozen, hashable description of one call.  The public functions build it (the constructors are cached, so
a repeated call costs one dictionary look-up), dispatch reads it to choose an implementation, and the implementation
reads sizes from it.  Nothing below this file checks an argument again.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field, fields
from functools import cache, cached_property, lru_cache
from typing import Any, ClassVar, NamedTuple, TypeVar, dataclass_transform

import numpy as np
from numpy.typing import NDArray

S = TypeVar("S", bound="Spec")

Shape = tuple[int, ...]

MAX_ELEMENTS = 2**59  # of any one array: the byte count of float64 still fits in a signed 64-bit integer

MAX_WINDOW = 2**31 - 1  # of a kernel size, stride, pad or dilation: what kernels make of them fits in 64 bits

_CACHE_SIZE = 1024


# ---------------------------------------------------------------------------------------------------- arguments


def as_int(value: Any, name: str, minimum: int = -(2**63), maximum: int = 2**63 - 1) -> int:
    """``value`` as a Python int.

    Raises
    ------
    TypeError
        If it is not an integer; a bool is none.
    ValueError
        If it is below ``minimum`` or above ``maximum``.
    """
    if type(value) is int and minimum <= value <= maximum:
        return value
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r} of type {type(value).__name__}") from None
    if not minimum <= number <= maximum:
        raise ValueError(f"{name} must be between {minimum} and {maximum}, got {value!r}")
    return number


def as_int_tuple(value: Any, ndim: int, name: str, minimum: int, maximum: int = MAX_WINDOW) -> Shape:
    """One integer for all spatial dimensions, or a sequence with one for each.

    Raises
    ------
    ValueError
        If the sequence does not have 1 or ``ndim`` entries, or an entry is below ``minimum`` or above ``maximum``.
    TypeError
        If an entry is not an integer.
    """
    if isinstance(value, (Sequence, np.ndarray)) and not isinstance(value, str):
        items = tuple(as_int(v, name) for v in value)
        if len(items) == 1:
            items = items * ndim
        if len(items) != ndim:
            raise ValueError(
                f"{name} must be one integer or {ndim}, one per spatial dimension, got {value!r}"
            )
    else:
        items = (as_int(value, name),) * ndim
    for item in items:
        if item < minimum:
            raise ValueError(f"{name} must be >= {minimum}, got {value!r}")
        if item > maximum:
            raise ValueError(f"{name} must be <= {maximum}, got {value!r}")
    return items


def as_shape(value: Any, name: str) -> Shape:
    """A shape given as a sequence of non-negative integers."""
    if type(value) is tuple:
        for n in value:
            if type(n) is not int or not 0 <= n <= MAX_ELEMENTS:
                break
        else:
            return value
    if isinstance(value, str) or not isinstance(value, (Sequence, np.ndarray)):
        raise TypeError(f"{name} must be a sequence of integers, got {value!r}")
    return as_int_tuple(value, len(value), name, 0, MAX_ELEMENTS) if len(value) else ()


def as_probability(p: Any, name: str = "p") -> float:
    """``p`` as a float in [0, 1]."""
    try:
        value = float(p)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number, got {p!r}") from None
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} must be a probability between 0 and 1, got {p!r}")
    return value


def as_slope(negative_slope: Any) -> float:
    """A slope that keeps the sign: a finite number >= 0."""
    slope = float(negative_slope)
    if not (0.0 <= slope < math.inf):
        raise ValueError(f"negative_slope must be a finite number >= 0, got {negative_slope!r}")
    return abs(slope)  # -0.0 is 0.0, also to a cache of specs


ACTIVATIONS = ("relu", "relu6", "leaky_relu")  # that an epilogue has, beside "linear": none


def as_epilogue(activation: Any, negative_slope: Any) -> tuple[str, float]:
    """Activation and slope of a spec; the slope is that of "leaky_relu" and 0 for the others."""
    if activation is None:
        return "linear", 0.0
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation must be None or one of {ACTIVATIONS}, got {activation!r}")
    return activation, as_slope(negative_slope) if activation == "leaky_relu" else 0.0


def as_max_error(max_error: Any) -> float | None:
    """An error bound: None or a number > 0."""
    if max_error is None:
        return None
    if isinstance(max_error, (bool, str)) or not float(max_error) > 0.0:
        raise ValueError(f"max_error must be None or a number > 0, got {max_error!r}")
    return float(max_error)


def check_size(shape: Shape, name: str) -> None:
    """Refuse arrays whose element count cannot be addressed."""
    if math.prod(shape) > MAX_ELEMENTS:
        raise ValueError(f"{name} of shape {shape} has more than 2**59 elements")


def float_name(dtype: np.dtype[Any]) -> str:
    """Name of a dtype that the kernels know.

    Raises
    ------
    TypeError
        If it is not float32 or float64.
    """
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"kernels take float32 or float64, got {dtype}; a Cast before the op helps")
    return dtype.name


def _freeze(value: Any) -> Any:
    """Lists and arrays as (nested) tuples, so that arguments can be dictionary keys."""
    if type(value) is int:
        return value
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return tuple(_freeze(v) for v in value)
    if isinstance(value, float):
        # 1.0 == 1 and hashes alike: without this a cached integer call would let a float through; -0.0 == 0.0, too
        return ("float", value.hex())
    if isinstance(value, (bool, np.bool_)):
        return ("bool", bool(value))
    return value


def _thaw(value: Any) -> Any:
    if isinstance(value, tuple):
        if len(value) == 2 and value[0] == "float":
            return float.fromhex(value[1])
        if len(value) == 2 and value[0] == "bool":
            return value[1]
        return tuple(_thaw(v) for v in value)
    return value


def frozen(*values: Any) -> tuple[Any, ...]:
    """Arguments of a call as dictionary keys; nearly all of them are plain integers, names or None."""
    return tuple([v if type(v) is int or type(v) is str or v is None else _freeze(v) for v in values])


def resolve_padding(
    padding: Any, ndim: int, kernel: Shape, stride: Shape, dilation: Shape
) -> tuple[Shape, Shape]:
    """``padding`` as (low sides, high sides).

    Accepted are an integer, one integer per dimension, explicit sides (low and high of each dimension in order:
    ``(top, bottom, left, right)`` in 2-D), nested pairs ``((top, bottom), (left, right))``, ``"valid"`` and ``"same"``.
    """
    if isinstance(padding, str):
        if padding == "valid":
            return (0,) * ndim, (0,) * ndim
        if padding == "same":
            if any(s != 1 for s in stride):
                raise ValueError(f"padding='same' needs stride 1, got stride {stride}")
            total = tuple(d * (k - 1) for k, d in zip(kernel, dilation, strict=True))
            low = tuple(t // 2 for t in total)
            return low, tuple(t - lo for t, lo in zip(total, low, strict=True))
        raise ValueError(f"padding must be integers, 'valid' or 'same', got {padding!r}")
    if isinstance(padding, (Sequence, np.ndarray)):
        items = list(padding)
        if any(isinstance(v, (Sequence, np.ndarray)) for v in items):
            if len(items) != ndim or any(not isinstance(v, Sequence) or len(v) != 2 for v in items):
                raise ValueError(f"nested padding must be {ndim} (low, high) pairs, got {padding!r}")
            items = [side for pair in items for side in pair]
        if len(items) == 2 * ndim:
            sides = as_int_tuple(items, 2 * ndim, "padding", 0)
            return sides[0::2], sides[1::2]
    both = as_int_tuple(padding, ndim, "padding", 0)
    return both, both


class Spec:
    """Base of all specs: made of keywords, not to be changed, equal by value.

    It has the methods that ``dataclass`` would write and compile for each spec, which took longer than all the rest of
    importing the package.  The hash is computed once, for dispatch looks a spec up on every call.
    """

    _names: ClassVar[frozenset[str]]
    _compared: ClassVar[tuple[str, ...]]  # of the fields that count in comparisons
    _defaults: ClassVar[dict[str, Any]]

    def __init__(self, **values: Any) -> None:
        values = self._defaults | values
        if values.keys() != self._names:
            raise TypeError(f"{type(self).__name__} takes {sorted(self._names)}, got {sorted(values)}")
        self.__dict__.update(values)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a spec does not change; dataclasses.replace makes one with another {name!r}")

    def __repr__(self) -> str:
        values = (f"{each.name}={getattr(self, each.name)!r}" for each in fields(self))  # type: ignore[arg-type]
        return f"{type(self).__name__}({', '.join(values)})"

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._key == other._key

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _key(self) -> tuple[Any, ...]:
        return tuple([self.__dict__[name] for name in self._compared])

    @cached_property
    def _hash(self) -> int:
        return hash(self._key)


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(field,))
def specification(cls: type[S]) -> type[S]:
    """A spec of the annotated fields, which ``dataclasses.fields`` and ``replace`` know."""
    cls = dataclass(init=False, repr=False, eq=False)(cls)
    found = fields(cls)  # type: ignore[arg-type]
    cls._names = frozenset(each.name for each in found)
    cls._compared = tuple(each.name for each in found if each.compare)
    cls._defaults = {each.name: each.default for each in found if each.default is not MISSING}
    return cls


# ---------------------------------------------------------------------------------------------------- convolution


@specification
class ConvSpec(Spec):
    """One convolution (cross-correlation) over 1 to 3 spatial dimensions.

    Output size per dimension: ``floor((in + pad_lo + pad_hi - dilation * (kernel - 1) - 1) / stride) + 1``.
    Pads may be negative in specs built by :meth:`transposed`.  ``activation`` ("linear" for none) and ``slope`` are
    those of the forward pass' epilogue; gradients know nothing of them.
    """

    batch: int
    in_channels: int
    out_channels: int
    groups: int
    in_size: Shape
    kernel: Shape
    stride: Shape
    dilation: Shape
    pad_lo: Shape
    pad_hi: Shape
    dtype: str
    activation: str = "linear"
    slope: float = 0.0

    @property
    def ndim(self) -> int:
        return len(self.in_size)

    @cached_property
    def out_size(self) -> Shape:
        return tuple(
            (n + lo + hi - d * (k - 1) - 1) // s + 1
            for n, lo, hi, d, k, s in zip(
                self.in_size, self.pad_lo, self.pad_hi, self.dilation, self.kernel, self.stride, strict=True
            )
        )

    @cached_property
    def input_shape(self) -> Shape:
        return (self.batch, self.in_channels, *self.in_size)

    @cached_property
    def weight_shape(self) -> Shape:
        return (self.out_channels, self.in_channels // self.groups, *self.kernel)

    @cached_property
    def output_shape(self) -> Shape:
        return (self.batch, self.out_channels, *self.out_size)

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates of the direct algorithm (padding counted)."""
        return math.prod(self.output_shape) * math.prod(self.weight_shape[1:])

    @staticmethod
    def from_shapes(
        input_shape: Shape,
        weight_shape: Shape,
        dtype: str,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: Any = 1,
    ) -> ConvSpec:
        """Spec of ``conv(input, weight)``: ``input_shape`` (N, C, *spatial), ``weight_shape`` (K, C/groups, *kernel).

        Raises
        ------
        ValueError, TypeError
            If an argument breaks a rule; the message states the rule and the value.
        """
        return conv_spec(input_shape, weight_shape, dtype, *frozen(stride, padding, dilation, groups))

    @staticmethod
    def of_patches(
        shape: Shape, dtype: str, kernel_size: Any, dilation: Any, padding: Any, stride: Any
    ) -> ConvSpec:
        """The convolution whose patches are unfolded from, or folded into, an image batch of ``shape``."""
        kernel = as_int_tuple(kernel_size, 2, "kernel_size", 1)
        return ConvSpec.from_shapes(shape, (1, shape[1], *kernel), dtype, stride, padding, dilation, 1)

    @staticmethod
    def transposed(
        input_shape: Shape,
        weight_shape: Shape,
        dtype: str,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: Any = 1,
        dilation: Any = 1,
    ) -> ConvSpec:
        """Spec of the convolution whose input gradient is ``conv_transpose(input, weight)``.

        Its ``output_shape`` is the given ``input_shape``, its ``input_shape`` the transposed convolution's output:
        ``(in - 1) * stride - 2 * padding + dilation * (kernel - 1) + output_padding + 1``.
        """
        return conv_transpose_spec(
            input_shape, weight_shape, dtype, *frozen(stride, padding, output_padding, groups, dilation)
        )


def _check_conv_shapes(input_shape: Shape, weight_shape: Shape, groups: int) -> int:
    ndim = len(weight_shape) - 2
    if len(input_shape) != len(weight_shape):
        raise ValueError(
            f"input and weight must have the same number of dimensions, got shapes {input_shape} and {weight_shape}"
        )
    if groups < 1:
        raise ValueError(f"groups must be >= 1, got {groups}")
    if any(k < 1 for k in weight_shape[2:]):
        raise ValueError(f"kernel sizes must be >= 1, got weight of shape {weight_shape}")
    if weight_shape[0] < 1 or weight_shape[1] < 1:
        raise ValueError(f"weight must have at least one channel on both sides, got shape {weight_shape}")
    check_size(input_shape, "input")
    check_size(weight_shape, "weight")
    return ndim


@lru_cache(_CACHE_SIZE)
def conv_spec(
    input_shape: Shape,
    weight_shape: Shape,
    dtype: str,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    activation: str = "linear",
    slope: float = 0.0,
) -> ConvSpec:
    """:meth:`ConvSpec.from_shapes` of :func:`frozen` arguments, with the epilogue of :func:`as_epilogue`."""
    groups = as_int(_thaw(groups), "groups")
    ndim = _check_conv_shapes(input_shape, weight_shape, groups)
    kernel = weight_shape[2:]
    stride = as_int_tuple(_thaw(stride), ndim, "stride", 1)
    dilation = as_int_tuple(_thaw(dilation), ndim, "dilation", 1)
    pad_lo, pad_hi = resolve_padding(_thaw(padding), ndim, kernel, stride, dilation)
    channels, out_channels = input_shape[1], weight_shape[0]
    if channels != weight_shape[1] * groups:
        raise ValueError(
            f"input channels must equal weight.shape[1] * groups = {weight_shape[1]} * {groups}, "
            f"got input of shape {input_shape} and weight of shape {weight_shape}"
        )
    if out_channels % groups:
        raise ValueError(f"output channels must be a multiple of groups, got {out_channels} and {groups}")
    for n, lo, hi, d, k in zip(input_shape[2:], pad_lo, pad_hi, dilation, kernel, strict=True):
        if n + lo + hi < d * (k - 1) + 1:
            raise ValueError(
                f"the padded input must be at least as large as the effective kernel: input size {n} + padding "
                f"({lo}, {hi}) < dilation {d} * (kernel {k} - 1) + 1"
            )
    spec = ConvSpec(
        batch=input_shape[0],
        in_channels=channels,
        out_channels=out_channels,
        groups=groups,
        in_size=input_shape[2:],
        kernel=kernel,
        stride=stride,
        dilation=dilation,
        pad_lo=pad_lo,
        pad_hi=pad_hi,
        dtype=dtype,
        activation=activation,
        slope=slope,
    )
    check_size(spec.output_shape, "output")
    return spec


@lru_cache(_CACHE_SIZE)
def conv_transpose_spec(
    input_shape: Shape,
    weight_shape: Shape,
    dtype: str,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: Any,
    dilation: Any,
) -> ConvSpec:
    """:meth:`ConvSpec.transposed` of :func:`frozen` arguments."""
    groups = as_int(_thaw(groups), "groups")
    ndim = _check_conv_shapes(input_shape, weight_shape, groups)
    kernel = weight_shape[2:]
    stride = as_int_tuple(_thaw(stride), ndim, "stride", 1)
    dilation = as_int_tuple(_thaw(dilation), ndim, "dilation", 1)
    pad_arg = _thaw(padding)
    if isinstance(pad_arg, str):
        raise TypeError(f"padding of a transposed convolution must be integers, got {pad_arg!r}")
    pad_lo, pad_hi = resolve_padding(pad_arg, ndim, kernel, stride, dilation)
    extra = as_int_tuple(_thaw(output_padding), ndim, "output_padding", 0)
    if input_shape[1] != weight_shape[0]:
        raise ValueError(
            f"input channels must equal weight.shape[0], got input of shape {input_shape} and weight of shape "
            f"{weight_shape}"
        )
    if input_shape[1] % groups:
        raise ValueError(f"input channels must be a multiple of groups, got {input_shape[1]} and {groups}")
    out_size = []
    for n, s, lo, hi, d, k, e in zip(
        input_shape[2:], stride, pad_lo, pad_hi, dilation, kernel, extra, strict=True
    ):
        if e >= s and e >= d:
            raise ValueError(
                f"output_padding must be smaller than stride or dilation, got output_padding {e}, stride {s}, "
                f"dilation {d}"
            )
        size = (n - 1) * s - lo - hi + d * (k - 1) + e + 1
        if n < 1 or size < 1:
            raise ValueError(
                f"the output of a transposed convolution must not be empty, got input size {n} -> output size {size}"
            )
        out_size.append(size)
    spec = ConvSpec(
        batch=input_shape[0],
        in_channels=weight_shape[1] * groups,
        out_channels=input_shape[1],
        groups=groups,
        in_size=tuple(out_size),
        kernel=kernel,
        stride=stride,
        dilation=dilation,
        pad_lo=pad_lo,
        # without output_padding the sizes divide exactly; taking it off the high side keeps them so
        pad_hi=tuple(hi - e for hi, e in zip(pad_hi, extra, strict=True)),
        dtype=dtype,
    )
    check_size(spec.input_shape, "output")
    return spec


# ---------------------------------------------------------------------------------------------------- pooling


BLOCK_BYTES = 64  # of a block of channels: a cache line


def block_lanes(dtype: str) -> int:
    """Channels of a block of the blocked layout."""
    return BLOCK_BYTES // np.dtype(dtype).itemsize


def blocked_shape(shape: Shape, dtype: str) -> Shape:
    """(N, C, *space) as (N, blocks, *space, lanes)."""
    batch, channels, *space = shape
    lanes = block_lanes(dtype)
    return (batch, -(-channels // lanes), *space, lanes)


@specification
class LayoutSpec(Spec):
    """One array of shape (N, C, *space) and its blocked counterpart (N, blocks, *space, lanes)."""

    planes_shape: Shape
    dtype: str

    @cached_property
    def blocked_shape(self) -> Shape:
        return blocked_shape(self.planes_shape, self.dtype)


@specification
class OverlaySpec(Spec):
    """Boxes of one image, each with a patch of its own laid over it.

    Positions hold ``lanes`` elements each: 1 in the plain layout, a block's in the blocked one.  The base is (planes,
    *base_size, lanes), the result (images, planes, *size, lanes).
    """

    images: int
    planes: int
    base_size: Shape
    size: Shape
    lanes: int
    fill: float
    dtype: str

    @property
    def base_shape(self) -> Shape:
        return (self.planes, *self.base_size, self.lanes)

    @property
    def output_shape(self) -> Shape:
        return (self.images, self.planes, *self.size, self.lanes)


@specification
class PoolSpec(Spec):
    """One max- or average-pooling over (N, C, H, W); one-dimensional pools have H = 1.

    Output size per dimension: ``floor((in + pad_lo + pad_hi - dilation * (kernel - 1) - 1) / stride) + 1``; with
    ``ceil_mode`` the quotient is rounded up, but a window that would start in the high padding is left out.
    """

    batch: int
    channels: int
    in_size: Shape
    kernel: Shape
    stride: Shape
    dilation: Shape
    pad_lo: Shape
    pad_hi: Shape
    ceil_mode: bool
    count_include_pad: bool
    divisor_override: int | None
    dtype: str

    @cached_property
    def out_size(self) -> Shape:
        sizes = []
        for n, lo, hi, d, k, s in zip(
            self.in_size, self.pad_lo, self.pad_hi, self.dilation, self.kernel, self.stride, strict=True
        ):
            span = n + lo + hi - d * (k - 1) - 1
            size = (span + (s - 1 if self.ceil_mode else 0)) // s + 1
            if self.ceil_mode and (size - 1) * s >= n + lo:
                size -= 1
            sizes.append(size)
        return tuple(sizes)

    @cached_property
    def input_shape(self) -> Shape:
        return (self.batch, self.channels, *self.in_size)

    @cached_property
    def output_shape(self) -> Shape:
        return (self.batch, self.channels, *self.out_size)

    @staticmethod
    def from_shape(
        input_shape: Shape,
        dtype: str,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: Any = None,
    ) -> PoolSpec:
        """Spec of a pool over ``input_shape`` = (N, C, L) or (N, C, H, W).

        Raises
        ------
        ValueError, TypeError
            If an argument breaks a rule; the message states the rule and the value.
        """
        return pool_spec(
            input_shape,
            dtype,
            *frozen(kernel_size, stride, padding, dilation),
            bool(ceil_mode),
            bool(count_include_pad),
            _freeze(divisor_override),
        )


@lru_cache(_CACHE_SIZE)
def pool_spec(
    input_shape: Shape,
    dtype: str,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: Any,
) -> PoolSpec:
    """:meth:`PoolSpec.from_shape` of :func:`frozen` arguments."""
    ndim = len(input_shape) - 2
    kernel = as_int_tuple(_thaw(kernel_size), ndim, "kernel_size", 1)
    stride = _thaw(stride)
    stride = kernel if stride is None or stride == () else as_int_tuple(stride, ndim, "stride", 1)
    dilation = as_int_tuple(_thaw(dilation), ndim, "dilation", 1)
    pad = as_int_tuple(_thaw(padding), ndim, "padding", 0)
    for p, k in zip(pad, kernel, strict=True):
        if 2 * p > k:
            raise ValueError(
                f"padding must be at most half the kernel size, got padding {p} and kernel size {k}"
            )
    divisor = _thaw(divisor_override)
    if divisor is not None:
        divisor = as_int(divisor, "divisor_override")
        if not 1 <= abs(divisor) <= MAX_WINDOW:
            raise ValueError(f"divisor_override must be other than 0 and at most {MAX_WINDOW}, got {divisor}")
    check_size(input_shape, "input")
    if any(n < 1 for n in input_shape[1:]):
        raise ValueError(f"only the batch of a pooling input may be empty, got shape {input_shape}")
    lift = (1,) * (2 - ndim)
    spec = PoolSpec(
        batch=input_shape[0],
        channels=input_shape[1],
        in_size=lift + input_shape[2:],
        kernel=lift + kernel,
        stride=lift + stride,
        dilation=lift + dilation,
        pad_lo=(0,) * (2 - ndim) + pad,
        pad_hi=(0,) * (2 - ndim) + pad,
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
        divisor_override=divisor,
        dtype=dtype,
    )
    for n, size, p, k, d in zip(
        spec.in_size, spec.out_size, spec.pad_lo, spec.kernel, spec.dilation, strict=True
    ):
        if size < 1:
            raise ValueError(
                f"the padded input must be at least as large as the effective window: input size {n} + 2 * padding "
                f"{p} < {d * (k - 1) + 1}"
            )
    for n, size, p, s, d in zip(
        spec.in_size, spec.out_size, spec.pad_lo, spec.stride, spec.dilation, strict=True
    ):
        # A window that starts in the low padding first meets the input at its start modulo the dilation.
        starts = range(-p, min(0, (size - 1) * s - p + 1), s)
        if any(start % d >= n for start in starts):
            raise ValueError(
                f"every window must cover an element of the input, got input size {n}, padding {p}, dilation {d}"
            )
    return spec


@specification
class AdaptivePoolSpec(Spec):
    """Pooling to a fixed output size over (N, C, H, W): window i of a dimension covers
    ``floor(i * in / out)`` up to ``ceil((i + 1) * in / out)``."""

    batch: int
    channels: int
    in_size: Shape
    out_size: Shape
    dtype: str

    @cached_property
    def input_shape(self) -> Shape:
        return (self.batch, self.channels, *self.in_size)

    @cached_property
    def output_shape(self) -> Shape:
        return (self.batch, self.channels, *self.out_size)

    def windows(self, axis: int) -> tuple[np.ndarray, np.ndarray]:
        """Starts and ends (exclusive) of the windows along spatial ``axis``, two int64 arrays of length out_size."""
        n, m = self.in_size[axis], self.out_size[axis]
        i = np.arange(m, dtype=np.int64)
        return i * n // m, -((-(i + 1) * n) // m)

    @staticmethod
    def from_shape(input_shape: Shape, dtype: str, output_size: Any) -> AdaptivePoolSpec:
        """Spec over ``input_shape`` = (N, C, L) or (N, C, H, W); a None in ``output_size`` keeps that input size."""
        return adaptive_pool_spec(tuple(input_shape), dtype, *frozen(output_size))


@lru_cache(_CACHE_SIZE)
def adaptive_pool_spec(input_shape: Shape, dtype: str, output_size: Any) -> AdaptivePoolSpec:
    """:meth:`AdaptivePoolSpec.from_shape` of :func:`frozen` arguments."""
    ndim = len(input_shape) - 2
    output_size = _thaw(output_size)
    sizes = output_size if isinstance(output_size, tuple) else (output_size,)
    if len(sizes) == 1:
        sizes = sizes * ndim
    if len(sizes) != ndim:
        raise ValueError(f"output_size must be one integer or {ndim}, got {output_size!r}")
    if any(n < 1 for n in input_shape[1:]):
        raise ValueError(f"only the batch of a pooling input may be empty, got shape {input_shape}")
    out = tuple(
        n if m is None else as_int(m, "output_size") for n, m in zip(input_shape[2:], sizes, strict=True)
    )
    if any(m < 1 for m in out):
        raise ValueError(f"output_size must be >= 1, got {output_size!r}")
    check_size(input_shape, "input")
    check_size((*input_shape[:2], *out), "output")
    lift = (1,) * (2 - ndim)
    return AdaptivePoolSpec(
        batch=input_shape[0],
        channels=input_shape[1],
        in_size=lift + input_shape[2:],
        out_size=lift + out,
        dtype=dtype,
    )


@specification
class PlaneSpec(Spec):
    """Scatter or gather of values by flat index inside each (n, c) plane."""

    batch: int
    channels: int
    in_plane: int
    out_plane: int
    accumulate: bool
    dtype: str


# ---------------------------------------------------------------------------------------------------- dropout

STREAM = 2**64  # elements that one seed has random bits for, and the number of seeds
MASK_LEVELS = 65536  # a mask bit compares 16 random bits: probabilities are honoured to 2**-17


@specification
class DropoutSpec(Spec):
    """Bernoulli mask of ``size`` bits, each covering ``inner`` consecutive elements.

    Where the stream of bits starts does not enter comparison: dispatch keeps its choices by spec, and every call may
    have a seed of its own.
    """

    size: int
    inner: int
    p: float
    seed: int = field(compare=False)
    offset: int = field(compare=False)

    @cached_property
    def scale(self) -> float:
        """Factor of the kept elements (inverted dropout); 0 where everything is dropped."""
        return 0.0 if self.p == 1.0 else 1.0 / (1.0 - self.p)

    @cached_property
    def threshold(self) -> int:
        """Elements whose 16 random bits are below it are dropped."""
        return round(self.p * MASK_LEVELS)

    @staticmethod
    def from_args(size: int, inner: int, p: Any, seed: Any, offset: Any) -> DropoutSpec:
        """Check ``p`` in [0, 1], ``seed`` in [0, 2**64), and that ``offset`` + ``size`` stays in the stream."""
        spec = object.__new__(DropoutSpec)
        spec.__dict__.update(
            _dropout_spec(size, inner, as_probability(p)).__dict__,
            seed=as_int(seed, "seed", 0, STREAM - 1),
            offset=as_int(offset, "offset", 0, STREAM - size),
        )
        return spec


@lru_cache(_CACHE_SIZE)
def _dropout_spec(size: int, inner: int, p: float) -> DropoutSpec:
    """What all seeds have in common, to be copied: its hash, scale and threshold are computed once."""
    spec = DropoutSpec(size=size, inner=inner, p=p, seed=0, offset=0)
    _ = hash(spec), spec.scale, spec.threshold
    return spec


@specification
class DropBlockSpec(Spec):
    """DropBlock mask over (N, C, H, W); Ghiasi, Lin, Le 2018.  Compared without the start of its stream of bits."""

    batch: int
    channels: int
    size: Shape
    block: Shape
    p: float
    seed: int = field(compare=False)
    offset: int = field(compare=False)

    @property
    def gamma(self) -> float:
        """Probability of a block centre: ``p / area(block) * area(map) / area(valid centres)``, at most 1."""
        area = math.prod(self.block)
        valid = math.prod(n - b + 1 for n, b in zip(self.size, self.block, strict=True))
        return min(1.0, self.p / area * math.prod(self.size) / valid)

    @property
    def threshold(self) -> int:
        """Positions whose 16 random bits are below it become block centres."""
        return round(self.gamma * MASK_LEVELS)

    @staticmethod
    def from_args(input_shape: Shape, p: Any, block_size: Any, seed: Any, offset: Any) -> DropBlockSpec:
        """Check that the block fits the map; ``input_shape`` is (N, C, H, W)."""
        block = as_int_tuple(block_size, 2, "block_size", 1)
        size = tuple(input_shape[2:])
        if any(b > n for b, n in zip(block, size, strict=True)):
            raise ValueError(f"block_size must not exceed the feature map, got {block_size!r} and map {size}")
        return DropBlockSpec(
            batch=input_shape[0],
            channels=input_shape[1],
            size=size,
            block=block,
            p=as_probability(p),
            seed=as_int(seed, "seed", 0, STREAM - 1),
            offset=as_int(offset, "offset", 0, STREAM - math.prod(input_shape)),
        )


# ---------------------------------------------------------------------------------------------------- point-wise


@specification
class ActivationSpec(Spec):
    """Element-wise function; ``kind`` is relu, leaky_relu, relu6, sigmoid, tanh, or one of those that
    :attr:`OF_INPUT` names, whose outputs do not tell the derivative: they have no backward pass."""

    OF_INPUT: ClassVar[tuple[str, ...]] = ("erf", "gelu")

    kind: str
    size: int
    dtype: str
    slope: float = 0.0

    @staticmethod
    def of(kind: str, size: int, dtype: np.dtype[Any], slope: float) -> ActivationSpec:
        """The spec, from positional arguments."""
        return ActivationSpec(kind=kind, size=size, dtype=float_name(dtype), slope=slope)

    def check_derivative(self) -> None:
        """Refuse a backward pass that knows the output alone where it does not tell the derivative."""
        if self.kind in self.OF_INPUT:
            raise ValueError(
                f"the derivative of {self.kind} takes its input, and the backward pass has its output"
            )


@specification
class AddSpec(Spec):
    """Element-wise sum of two arrays, if ``relu`` without what is negative."""

    size: int
    dtype: str
    relu: bool = False

    @staticmethod
    def of(size: int, dtype: np.dtype[Any], relu: bool) -> AddSpec:
        """The spec, from positional arguments."""
        return AddSpec(size=size, dtype=float_name(dtype), relu=relu)


@specification
class SoftmaxSpec(Spec):
    """Softmax along the middle axis of (outer, length, inner)."""

    outer: int
    length: int
    inner: int
    log: bool
    dtype: str

    @staticmethod
    def from_shape(shape: Shape, dim: Any, log: bool, dtype: str) -> SoftmaxSpec:
        """Spec along axis ``dim`` (negative counts from the end) of an array of ``shape``."""
        dim = as_int(dim, "dim")
        ndim = max(len(shape), 1)
        if not -ndim <= dim < ndim:
            raise ValueError(f"dim must be between {-ndim} and {ndim - 1} for shape {shape}, got {dim}")
        axis, full = dim % ndim, shape or (1,)
        return SoftmaxSpec(
            outer=math.prod(full[:axis]),
            length=full[axis],
            inner=math.prod(full[axis + 1 :]),
            log=log,
            dtype=dtype,
        )


@specification
class MatmulSpec(Spec):
    """``C[m, n] = op(A) @ op(B) (+ bias[n])``; A is (m, k), or (k, m) with ``trans_a``; B alike.

    ``activation`` and ``slope`` are those of the epilogue, as in :class:`ConvSpec`.
    """

    m: int
    n: int
    k: int
    trans_a: bool
    trans_b: bool
    dtype: str
    activation: str = "linear"
    slope: float = 0.0

    @staticmethod
    def of(
        m: int,
        n: int,
        k: int,
        trans_a: bool,
        trans_b: bool,
        dtype: np.dtype[Any],
        activation: str = "linear",
        slope: float = 0.0,
    ) -> MatmulSpec:
        """The spec, from positional arguments; the last two are those of :func:`as_epilogue`."""
        return MatmulSpec(
            m=m,
            n=n,
            k=k,
            trans_a=trans_a,
            trans_b=trans_b,
            dtype=float_name(dtype),
            activation=activation,
            slope=slope,
        )


@specification
class ChannelSpec(Spec):
    """An array seen as (batch, channels, inner)."""

    batch: int
    channels: int
    inner: int
    dtype: str

    @staticmethod
    def of(batch: int, channels: int, inner: int, dtype: np.dtype[Any]) -> ChannelSpec:
        """The spec, from positional arguments."""
        return ChannelSpec(batch=batch, channels=channels, inner=inner, dtype=float_name(dtype))


@specification
class StatisticsSpec(Spec):
    """Any array, as so many elements.

    Its histogram has :attr:`BINS` bins with :meth:`edges` in quarters of an octave, those of sign, exponent and two
    bits of mantissa in float32: bins of positive numbers include their lower edge, bins of negative ones their upper
    edge; the one in the middle has zeros and what is smaller than float32's least normal number; the outermost ones
    what is larger than float32 can be.
    """

    size: int
    dtype: str

    BINS: ClassVar[int] = 2 * 4 * 254 + 1  # float32 has 254 exponents of normal numbers

    @staticmethod
    def of(size: int, dtype: str) -> StatisticsSpec:
        """The spec, from positional arguments."""
        return StatisticsSpec(size=size, dtype=dtype)

    @staticmethod
    @cache
    def edges() -> NDArray[np.float64]:
        """The ``BINS + 1`` edges, ascending."""
        magnitudes = np.ldexp(1 + np.arange(4) / 4, np.arange(-126, 128)[:, None]).ravel()
        positive = np.append(magnitudes, 2.0**128)
        edges = np.concatenate((-positive[::-1], positive))
        edges.flags.writeable = False
        return edges


@specification
class BatchNormSpec(Spec):
    """Batch normalisation of (batch, channels, inner)."""

    batch: int
    channels: int
    inner: int
    training: bool
    eps: float
    dtype: str
    relu: bool = False  # applied to the output

    @staticmethod
    def from_shape(shape: Shape, dtype: str, training: bool, eps: Any = 0.0) -> BatchNormSpec:
        """Spec over an array of ``shape`` (N, C, ...); training needs more than one value per channel.

        The backward pass, which has no use for ``eps``, leaves it out.
        """
        return _batch_norm_spec(shape, dtype, training, float(eps))


@lru_cache(_CACHE_SIZE)
def _batch_norm_spec(shape: Shape, dtype: str, training: bool, eps: float) -> BatchNormSpec:
    if len(shape) < 2:
        raise ValueError(f"batch_norm takes an input of shape (N, C, ...), got {shape}")
    values = math.prod(shape[:1] + shape[2:])
    if training and values == 1:
        raise ValueError(f"training needs more than 1 value per channel, got input of shape {shape}")
    if not eps >= 0.0:
        raise ValueError(f"eps must be >= 0, got {eps}")
    return BatchNormSpec(
        batch=shape[0],
        channels=shape[1],
        inner=math.prod(shape[2:]),
        training=training,
        eps=eps,
        dtype=dtype,
    )


@specification
class CrossEntropySpec(Spec):
    """Cross-entropy of logits seen as (batch, classes, inner)."""

    batch: int
    classes: int
    inner: int
    soft: bool
    weighted: bool
    ignore_index: int
    label_smoothing: float
    reduction: str
    dtype: str

    @staticmethod
    def from_shapes(
        logits_shape: Shape,
        target_shape: Shape,
        dtype: str,
        *,
        soft: bool,
        weighted: bool,
        ignore_index: Any = -100,
        label_smoothing: Any = 0.0,
        reduction: str = "mean",
    ) -> CrossEntropySpec:
        """Spec of logits (C,), (N, C) or (N, C, ...); labels lack the C axis, probabilities (``soft``) have it."""
        return CrossEntropySpec.of(
            logits_shape, target_shape, dtype, soft, weighted, ignore_index, label_smoothing, reduction
        )

    @staticmethod
    def of(
        logits_shape: Shape,
        target_shape: Shape,
        dtype: str,
        soft: bool,
        weighted: bool,
        ignore_index: Any,
        label_smoothing: Any,
        reduction: Any,
    ) -> CrossEntropySpec:
        """The spec, from positional arguments that may be :func:`frozen`."""
        if reduction not in ("none", "mean", "sum"):
            raise ValueError(f"reduction must be 'none', 'mean' or 'sum', got {reduction!r}")
        return _cross_entropy_spec(
            logits_shape,
            target_shape,
            dtype,
            soft,
            weighted,
            as_int(_thaw(ignore_index), "ignore_index"),
            as_probability(_thaw(label_smoothing), "label_smoothing"),
            reduction,
        )


@lru_cache(_CACHE_SIZE)
def _cross_entropy_spec(
    logits_shape: Shape,
    target_shape: Shape,
    dtype: str,
    soft: bool,
    weighted: bool,
    ignore_index: int,
    label_smoothing: float,
    reduction: str,
) -> CrossEntropySpec:
    if not logits_shape:
        raise ValueError("cross_entropy takes an input of shape (C,), (N, C) or (N, C, ...), got ()")
    axis = 0 if len(logits_shape) == 1 else 1
    expected = logits_shape if soft else logits_shape[:axis] + logits_shape[axis + 1 :]
    if target_shape != expected:
        kind = "probabilities" if soft else "labels"
        raise ValueError(
            f"target {kind} for input of shape {logits_shape} must have shape {expected}, got {target_shape}"
        )
    if logits_shape[axis] < 1:
        raise ValueError(f"cross_entropy needs at least one class, got input of shape {logits_shape}")
    if soft and ignore_index >= 0:
        raise ValueError(f"ignore_index is for labels, not for probabilities, got {ignore_index}")
    return CrossEntropySpec(
        batch=1 if axis == 0 else logits_shape[0],
        classes=logits_shape[axis],
        inner=math.prod(logits_shape[axis + 1 :]),
        soft=soft,
        weighted=weighted,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction=reduction,
        dtype=dtype,
    )


# ---------------------------------------------------------------------------------------------------- padding


PAD_MODES = ("constant", "reflect", "replicate", "circular")


@specification
class PadSpec(Spec):
    """Padding of the trailing dimensions ``in_shape`` of an array with ``outer`` leading elements.

    ``lo`` and ``hi`` may be negative (cropping) in constant mode.
    """

    outer: int
    in_shape: Shape
    lo: Shape
    hi: Shape
    mode: str
    value: float
    dtype: str

    @cached_property
    def out_shape(self) -> Shape:
        return tuple(n + lo + hi for n, lo, hi in zip(self.in_shape, self.lo, self.hi, strict=True))

    @staticmethod
    def from_shape(shape: Shape, pad: Any, mode: str, value: Any, dtype: str) -> PadSpec:
        """Spec for an array of ``shape``; ``pad`` is (lo, hi) of the last axis, then of the one before, and so on.

        Raises
        ------
        ValueError, TypeError
            If an argument breaks a rule; the message states the rule and the value.
        """
        return pad_spec(tuple(shape), *frozen(pad, mode, value), dtype)


@lru_cache(_CACHE_SIZE)
def pad_spec(shape: Shape, pad: Any, mode: str, value: Any, dtype: str) -> PadSpec:
    """:meth:`PadSpec.from_shape` of :func:`frozen` arguments."""
    pad, value = _thaw(pad), _thaw(value)
    if isinstance(pad, str) or not isinstance(pad, (Sequence, np.ndarray)):
        raise TypeError(f"pad must be a sequence of integers, got {pad!r}")
    sides = tuple(as_int(side, "pad") for side in pad)
    axes = len(sides) // 2
    if len(sides) % 2 or axes > len(shape):
        raise ValueError(
            f"pad must be (lo, hi) pairs, at most one for each of {len(shape)} axes, last first, got {pad!r}"
        )
    if mode not in PAD_MODES:
        raise ValueError(f"mode must be one of {PAD_MODES}, got {mode!r}")
    lo, hi = sides[0::2][::-1], sides[1::2][::-1]
    in_shape = shape[len(shape) - axes :]
    for n, low, high in zip(in_shape, lo, hi, strict=True):
        if n + min(low, 0) + min(high, 0) < 0:
            raise ValueError(f"an axis cannot be cropped below 0, got size {n} and pad ({low}, {high})")
        if mode == "constant":
            continue
        most = {"reflect": n - 1, "circular": n}.get(mode, MAX_ELEMENTS)
        if n < 1 or not (0 <= low <= most and 0 <= high <= most):
            raise ValueError(f"mode {mode!r} pads size {n} by 0 to {most} on each side, got ({low}, {high})")
    if mode != "constant":
        if not 1 <= axes <= 3 or not axes + 1 <= len(shape) <= axes + 2:
            raise ValueError(
                f"mode {mode!r} pads the last 1 to 3 axes of an array with one or two more, "
                f"got {axes} of {len(shape)} axes"
            )
        if value:
            raise ValueError(f"value is for mode 'constant', got {value!r} with mode {mode!r}")
    spec = PadSpec(
        outer=math.prod(shape[: len(shape) - axes]),
        in_shape=in_shape,
        lo=lo,
        hi=hi,
        mode=mode,
        value=0.0 if value is None else float(value),
        dtype=dtype,
    )
    check_size((spec.outer, *spec.out_shape), "output")
    return spec


@specification
class ArraysSpec(Spec):
    """Any number of arrays of one dtype, whatever their sizes."""

    dtype: str


@specification
class UpdateSpec(ArraysSpec):
    """Step of an optimizer; ``rule`` is sgd, adam or rmsprop."""

    rule: str
    nesterov: bool = False


class UpdateRates(NamedTuple):
    """Numbers of one step, which need not be those of the next."""

    rate: float  # step size, Adam's correction of the mean included
    momentum: float = 0.0
    mean_decay: float = 0.0
    square_decay: float = 0.0
    root_scale: float = 1.0  # of the root of the mean square: Adam's correction of it
    eps: float = 0.0
    bound: float = math.inf  # gradients are clamped to [-bound, bound]
