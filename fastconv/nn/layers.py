"""Layers: descriptions of an op with its name, initial values and penalties, callable on symbolic tensors.

A layer holds no arrays and does not know its input channels; both come when a :class:`fastconv.nn.Model` is
built from the tensors that it connects.  Calling one layer twice shares its parameters within a model.  The layers
*of* a model, which its calls and ``model.layers`` give, bring its arrays along.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Final, TypedDict, Unpack

from numpy.typing import NDArray

from fastconv import ops
from fastconv._spec import Shape, as_int, as_int_tuple, as_probability, as_shape
from fastconv.nn import initializers
from fastconv.nn._format import batched
from fastconv.nn.initializers import Initializer
from fastconv.nn.regularizers import Regularizer

Array = NDArray[Any]

_serials = itertools.count()


class Tensor:
    """The symbolic result of a layer, or an input; ``a + b`` adds two of them, ``a * b`` multiplies them.

    Attributes
    ----------
    shape : tuple of int
        Of one sample, without the batch axis.
    """

    __slots__ = ("inputs", "layer", "name", "serial", "shape")

    def __init__(
        self,
        shape: Shape,
        *,
        layer: Layer | None = None,
        inputs: tuple[Tensor, ...] = (),
        name: str | None = None,
    ) -> None:
        self.shape = shape
        self.layer = layer
        self.inputs = inputs
        self.name = name
        self.serial = next(_serials)  # creation order is a topological order

    def __add__(self, other: Tensor) -> Tensor:
        if not isinstance(other, Tensor):
            return NotImplemented
        return Add()(self, other)

    def __mul__(self, other: Tensor) -> Tensor:
        if not isinstance(other, Tensor):
            return NotImplemented
        return Multiply()(self, other)

    def __repr__(self) -> str:
        origin = "input" if self.layer is None else type(self.layer).__name__
        return f"<Tensor of shape {batched(self.shape)} from {origin}>"


def Input(shape: Any, *, name: str | None = None) -> Tensor:
    """A symbolic input; ``shape`` is that of one sample, for images (C, H, W).

    Examples
    --------
    >>> from fastconv import nn
    >>> x = nn.Input((3, 32, 32))
    >>> nn.Conv2d(8, 3)(x)
    <Tensor of shape (N, 8, 30, 30) from Conv2d>
    """
    return Tensor(as_shape(shape, "the shape of an input"), name=name)


class Layer:
    """An op that a net uses.

    Parameters
    ----------
    op
        What it computes.
    name
        Name of its node; by default the op's kind and a running number.
    initializers, regularizers
        By the op's own parameter names.  Parameters without an initializer start at zero.
    trainable
        If False, training leaves its parameters as they are.
    """

    def __init__(
        self,
        op: ops.Op,
        *,
        name: str | None = None,
        initializers: Mapping[str, Initializer] | None = None,
        regularizers: Mapping[str, Regularizer | None] | None = None,
        trainable: bool = True,
    ) -> None:
        if name is not None and (not isinstance(name, str) or not name):
            raise TypeError(f"the name of a layer must be a non-empty string, got {name!r}")
        self.op = op
        self.name = name
        self.initializers = dict(initializers or {})
        self.regularizers: dict[str, Regularizer] = {}
        for key, regularizer in (regularizers or {}).items():
            if regularizer is None:
                continue
            if not isinstance(regularizer, Regularizer):
                raise TypeError(f"a regularizer must be nn.L1(), nn.L2() or nn.L1L2(), got {regularizer!r}")
            self.regularizers[key] = regularizer
        self.trainable = bool(trainable)

    def __call__(self, *inputs: Tensor) -> Tensor:
        for value in inputs:
            if not isinstance(value, Tensor):
                raise TypeError(
                    f"{self!r} is called on symbolic tensors such as nn.Input(...), got "
                    f"{type(value).__name__}; arrays go through model.predict"
                )
        shapes = tuple(value.shape for value in inputs)
        try:
            shape = self.op_for(*shapes).infer_shape(*shapes)
        except ValueError as error:
            raise ValueError(f"{self!r}: {error}") from None
        return Tensor(shape, layer=self, inputs=inputs)

    def op_for(self, *input_shapes: Shape) -> ops.Op:
        """What the layer computes on inputs of these shapes."""
        return self.op

    @property
    def identity(self) -> object:
        """Equal for layers that share their parameters."""
        return id(self)

    def trains(self, key: str) -> bool:
        """Whether training changes the parameter that the op calls ``key``."""
        return self.trainable

    def values(self) -> Mapping[str, Array]:
        """Parameters that are there already, to be shared, by the op's own names."""
        return {}

    def __repr__(self) -> str:
        label = "" if self.name is None else f" {self.name!r}"
        return f"<{type(self).__name__}{label}>"


class BoundLayer(Layer):
    """A layer of a model that is there: wherever it is used, it has that model's parameters.

    Parameters
    ----------
    op
        What it computes.
    values
        The arrays, by the op's own names.
    name
        Of its node.
    frozen, regularizers
        By the op's own names: parameters that training leaves alone, and penalties.
    """

    def __init__(
        self,
        op: ops.Op,
        values: Mapping[str, Array],
        *,
        name: str | None = None,
        frozen: Collection[str] = (),
        regularizers: Mapping[str, Regularizer | None] | None = None,
    ) -> None:
        super().__init__(op, name=name, regularizers=regularizers)
        self._values = dict(values)
        self._frozen = frozenset(frozen)

    @property
    def identity(self) -> object:
        return tuple(map(id, self._values.values())) or id(self)

    def trains(self, key: str) -> bool:
        return key not in self._frozen

    def values(self) -> Mapping[str, Array]:
        return self._values

    def __repr__(self) -> str:
        return f"<layer {self.name or self.op.kind!r} of a model>"

    def op_for(self, *input_shapes: Shape) -> ops.Op:
        for key, shape in self.op.param_shapes(*input_shapes).items():
            if self._values[key].shape != shape:
                raise ValueError(
                    f"has a {key} of shape {self._values[key].shape}, but inputs {list(input_shapes)} need {shape}"
                )
        return self.op


class _WeightOptions(TypedDict, total=False):
    weight_initializer: str | Initializer
    bias_initializer: str | Initializer
    weight_regularizer: Regularizer | None
    bias_regularizer: Regularizer | None
    trainable: bool
    name: str | None


class _NormOptions(TypedDict, total=False):
    weight_initializer: str | Initializer
    bias_initializer: str | Initializer
    trainable: bool
    name: str | None


class _Weighted(Layer):
    """A layer with a weight and perhaps a bias."""

    def __init__(
        self,
        op: ops.Op,
        *,
        weight_initializer: str | Initializer = "he_uniform",
        bias_initializer: str | Initializer = "zeros",
        weight_regularizer: Regularizer | None = None,
        bias_regularizer: Regularizer | None = None,
        trainable: bool = True,
        name: str | None = None,
    ) -> None:
        super().__init__(
            op,
            name=name,
            initializers={
                "weight": initializers.get(weight_initializer),
                "bias": initializers.get(bias_initializer),
            },
            regularizers={"weight": weight_regularizer, "bias": bias_regularizer},
            trainable=trainable,
        )


class _Fixed(Layer):
    """A layer without arguments."""

    fixed: ClassVar[ops.Op]

    def __init__(self, *, name: str | None = None) -> None:
        super().__init__(self.fixed, name=name)


class _OfRank(Layer):
    """A layer that takes fewer shapes than its op does: those with ``ranks`` spatial dimensions."""

    ranks: ClassVar[tuple[int, ...]] = (0, 1, 2, 3)

    def op_for(self, *input_shapes: Shape) -> ops.Op:
        for shape in input_shapes:
            if len(shape) - 1 not in self.ranks:
                layouts = " or ".join(ops.LAYOUTS[rank] for rank in self.ranks)
                raise ValueError(f"takes an input of shape {layouts} per sample, got {shape}")
        return self.op


class _Conv(_Weighted):
    ndim: ClassVar[int]

    def __init__(
        self,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        **options: Unpack[_WeightOptions],
    ) -> None:
        op = ops.Conv.of(self.ndim, out_channels, kernel_size, stride, padding, dilation, groups, bias)
        super().__init__(op, **options)


class Conv1d(_Conv):
    """Convolution of (C, L); arguments as :class:`Conv2d`."""

    ndim = 1


class Conv2d(_Conv):
    """Convolution of (C, H, W); the input channels are inferred.

    Parameters
    ----------
    out_channels : int
    kernel_size, stride, padding, dilation, groups
        As in :func:`fastconv.functional.conv2d`; padding may be ``"same"``, ``"valid"`` or four sides.
    bias : bool
    weight_initializer, bias_initializer : str or Initializer
        ``"he_uniform"`` and ``"zeros"`` by default; see :mod:`fastconv.nn.initializers`.
    weight_regularizer, bias_regularizer : Regularizer, optional
    trainable : bool
    name : str, optional
    """

    ndim = 2


class Conv3d(_Conv):
    """Convolution of (C, D, H, W); arguments as :class:`Conv2d`."""

    ndim = 3


class DepthwiseConv2d(_Weighted):
    """Convolution of (C, H, W) with ``depth_multiplier`` filters for each channel alone.

    The same as :class:`Conv2d` of ``C * depth_multiplier`` channels in C groups, for a C that is inferred.

    Parameters
    ----------
    kernel_size, stride, padding, dilation
        As in :class:`Conv2d`.
    depth_multiplier : int
        Output channels per input channel; those of one channel are neighbours.
    bias : bool
    **options
        Keywords of :class:`Conv2d`, from ``weight_initializer`` on.
    """

    op: ops.Conv  # for one channel

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        depth_multiplier: int = 1,
        bias: bool = True,
        **options: Unpack[_WeightOptions],
    ) -> None:
        if as_int(depth_multiplier, "depth_multiplier") < 1:
            raise ValueError(f"depth_multiplier must be >= 1, got {depth_multiplier}")
        op = ops.Conv.of(2, depth_multiplier, kernel_size, stride, padding, dilation, 1, bias)
        super().__init__(op, **options)

    def op_for(self, *input_shapes: Shape) -> ops.Op:
        self.op.infer_shape(*((1, *shape[1:]) for shape in input_shapes))  # refuses what is no single image
        channels = input_shapes[0][0]
        return replace(self.op, out_channels=self.op.out_channels * channels, groups=channels)


class _ConvTranspose(_Weighted):
    ndim: ClassVar[int]

    def __init__(
        self,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        **options: Unpack[_WeightOptions],
    ) -> None:
        op = ops.ConvTranspose.of(
            self.ndim, out_channels, kernel_size, stride, padding, output_padding, groups, bias, dilation
        )
        super().__init__(op, **options)


class ConvTranspose1d(_ConvTranspose):
    """Transposed convolution of (C, L); arguments as :class:`ConvTranspose2d`."""

    ndim = 1


class ConvTranspose2d(_ConvTranspose):
    """Transposed convolution of (C, H, W), which a stride makes larger; the input channels are inferred.

    Output size per dimension:
    ``(in - 1) * stride - 2 * padding + dilation * (kernel_size - 1) + output_padding + 1``.

    Parameters
    ----------
    out_channels : int
    kernel_size, stride, padding, output_padding, groups, dilation
        As in :func:`fastconv.functional.conv_transpose2d`.
    bias : bool
    **options
        Keywords of :class:`Conv2d`, from ``weight_initializer`` on.
    """

    ndim = 2


class Linear(_Weighted):
    """``x @ weight.T + bias`` on flat features (F,); the number of features is inferred.

    Parameters
    ----------
    out_features : int
    bias : bool
    **options
        Keywords of :class:`Conv2d`, from ``weight_initializer`` on.
    """

    def __init__(self, out_features: int, bias: bool = True, **options: Unpack[_WeightOptions]) -> None:
        super().__init__(
            ops.Linear(out_features=as_int(out_features, "out_features"), bias=bool(bias)), **options
        )


class BatchNorm(_OfRank):
    """Batch normalisation of the channels of (F,), (C, L), (C, H, W) or (C, D, H, W).

    Its running statistics are saved but not trained.

    Parameters
    ----------
    eps : float
        Added to the variance.
    momentum : float
        Share of a batch in the running statistics.
    affine : bool
        Whether there are a weight and a bias.
    weight_initializer, bias_initializer : str or Initializer
    trainable : bool
    name : str, optional
    """

    def __init__(
        self,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        *,
        weight_initializer: str | Initializer = "ones",
        bias_initializer: str | Initializer = "zeros",
        trainable: bool = True,
        name: str | None = None,
    ) -> None:
        super().__init__(
            ops.BatchNorm(eps=float(eps), momentum=float(momentum), affine=bool(affine)),
            name=name,
            initializers={
                "weight": initializers.get(weight_initializer),
                "bias": initializers.get(bias_initializer),
                "running_var": initializers.get("ones"),
            },
            trainable=trainable,
        )


class BatchNorm1d(BatchNorm):
    """Batch normalisation of (F,) or (C, L); arguments as :class:`BatchNorm`."""

    ranks = (0, 1)


class BatchNorm2d(BatchNorm):
    """Batch normalisation of (C, H, W); arguments as :class:`BatchNorm`."""

    ranks = (2,)


class _OwnStatistics(_OfRank):
    """Normalisation by a sample's own statistics."""

    def __init__(
        self,
        op: ops.Op,
        *,
        weight_initializer: str | Initializer = "ones",
        bias_initializer: str | Initializer = "zeros",
        trainable: bool = True,
        name: str | None = None,
    ) -> None:
        super().__init__(
            op,
            name=name,
            initializers={
                "weight": initializers.get(weight_initializer),
                "bias": initializers.get(bias_initializer),
            },
            trainable=trainable,
        )


class InstanceNorm2d(_OwnStatistics):
    """Each channel of (C, H, W) by its own mean and variance (Ulyanov et al. 2016, arXiv:1607.08022).

    Parameters
    ----------
    eps : float
        Added to the variance.
    affine : bool
        Whether there are a weight and a bias.
    **options
        Keywords of :class:`BatchNorm`, from ``weight_initializer`` on.
    """

    ranks = (2,)

    def __init__(self, eps: float = 1e-5, affine: bool = False, **options: Unpack[_NormOptions]) -> None:
        super().__init__(ops.InstanceNorm(eps=float(eps), affine=bool(affine)), **options)


class GroupNorm(_OwnStatistics):
    """``num_groups`` groups of neighbouring channels, each by its mean and variance (Wu & He 2018, arXiv:1803.08494).

    Parameters
    ----------
    num_groups : int
        A divisor of the channels.
    eps, affine, **options
        As in :class:`InstanceNorm2d`.
    """

    def __init__(
        self, num_groups: int, eps: float = 1e-5, affine: bool = True, **options: Unpack[_NormOptions]
    ) -> None:
        groups = as_int(num_groups, "num_groups", 1)
        super().__init__(ops.GroupNorm(num_groups=groups, eps=float(eps), affine=bool(affine)), **options)


class LayerNorm(_OwnStatistics):
    """The last ``ndim`` axes by their common mean and variance (Ba et al. 2016, arXiv:1607.06450).

    PyTorch names the sizes of these axes; here they are inferred.

    Parameters
    ----------
    ndim : int
    eps, affine, **options
        As in :class:`InstanceNorm2d`.
    """

    def __init__(
        self, ndim: int = 1, eps: float = 1e-5, affine: bool = True, **options: Unpack[_NormOptions]
    ) -> None:
        axes = as_int(ndim, "ndim", 1)
        super().__init__(ops.LayerNorm(ndim=axes, eps=float(eps), affine=bool(affine)), **options)


class LocalResponseNorm(Layer):
    """``x / (k + alpha / size * sum of squares over size channels) ** beta`` (Krizhevsky et al. 2012)."""

    def __init__(
        self,
        size: int,
        alpha: float = 1e-4,
        beta: float = 0.75,
        k: float = 1.0,
        *,
        name: str | None = None,
    ) -> None:
        size = as_int(size, "size", 1)
        op = ops.LRN(size=size, alpha=float(alpha), beta=float(beta), bias=float(k), before=size // 2)
        super().__init__(op, name=name)


class _MaxPool(Layer):
    ndim: ClassVar[int]

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        *,
        name: str | None = None,
    ) -> None:
        op = ops.MaxPool.of(self.ndim, kernel_size, stride, padding, dilation, ceil_mode)
        super().__init__(op, name=name)


class MaxPool1d(_MaxPool):
    """Maximum of each window of (C, L); ``stride=None`` is the kernel size."""

    ndim = 1


class MaxPool2d(_MaxPool):
    """Maximum of each window of (C, H, W); ``stride=None`` is the kernel size."""

    ndim = 2


class _AvgPool(Layer):
    ndim: ClassVar[int]

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
        *,
        name: str | None = None,
    ) -> None:
        op = ops.AvgPool.of(
            self.ndim, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
        )
        super().__init__(op, name=name)


class AvgPool1d(_AvgPool):
    """Mean of each window of (C, L); ``stride=None`` is the kernel size."""

    ndim = 1


class AvgPool2d(_AvgPool):
    """Mean of each window of (C, H, W); ``stride=None`` is the kernel size."""

    ndim = 2


class _AdaptivePool(Layer):
    ndim: ClassVar[int]
    pool: ClassVar[type[ops.AdaptiveAvgPool | ops.AdaptiveMaxPool]]

    def __init__(self, output_size: Any, *, name: str | None = None) -> None:
        super().__init__(self.pool.of(self.ndim, output_size), name=name)


class AdaptiveAvgPool1d(_AdaptivePool):
    """Mean over as many windows of (C, L) as asked for; ``output_size`` None keeps the length."""

    ndim, pool = 1, ops.AdaptiveAvgPool


class AdaptiveAvgPool2d(_AdaptivePool):
    """Mean over as many windows of (C, H, W) as asked for: an integer or None (as in the input), or two."""

    ndim, pool = 2, ops.AdaptiveAvgPool


class AdaptiveMaxPool1d(_AdaptivePool):
    """Maximum of as many windows of (C, L) as asked for; ``output_size`` None keeps the length."""

    ndim, pool = 1, ops.AdaptiveMaxPool


class AdaptiveMaxPool2d(_AdaptivePool):
    """Maximum of as many windows of (C, H, W) as asked for: an integer or None (as in the input), or two."""

    ndim, pool = 2, ops.AdaptiveMaxPool


class GlobalAvgPool(_OfRank):
    """Mean over all positions: (C, ...) to (C,), or to (C, 1, ...) with ``keepdims``."""

    def __init__(self, keepdims: bool = False, *, name: str | None = None) -> None:
        super().__init__(ops.GlobalAvgPool(keepdims=bool(keepdims)), name=name)


class GlobalAvgPool1d(GlobalAvgPool):
    """Mean over all positions: (C, L) to (C,), or to (C, 1) with ``keepdims``."""

    ranks = (1,)


class GlobalAvgPool2d(GlobalAvgPool):
    """Mean over all positions: (C, H, W) to (C,), or to (C, 1, 1) with ``keepdims``."""

    ranks = (2,)


class GlobalMaxPool(_OfRank):
    """Maximum over all positions: (C, ...) to (C,), or to (C, 1, ...) with ``keepdims``."""

    def __init__(self, keepdims: bool = False, *, name: str | None = None) -> None:
        super().__init__(ops.GlobalMaxPool(keepdims=bool(keepdims)), name=name)


class GlobalMaxPool1d(GlobalMaxPool):
    """Maximum over all positions: (C, L) to (C,), or to (C, 1) with ``keepdims``."""

    ranks = (1,)


class GlobalMaxPool2d(GlobalMaxPool):
    """Maximum over all positions: (C, H, W) to (C,), or to (C, 1, 1) with ``keepdims``."""

    ranks = (2,)


class Pad(Layer):
    """More elements at the sides of a sample, or fewer.

    Parameters
    ----------
    padding : int or sequence of int
        One number for both sides of every spatial dimension; or (low, high) of the last dimension, then of the
        one before, and so on: (left, right, top, bottom) for images. Negative sides crop, in mode ``"constant"``.
    mode : {"constant", "reflect", "replicate", "circular"}
        As in :func:`fastconv.functional.pad`.
    value : float
        The constant.
    name : str, optional
    """

    def __init__(
        self, padding: Any, mode: str = "constant", value: float = 0.0, *, name: str | None = None
    ) -> None:
        if isinstance(padding, (tuple, list)):
            padding = tuple(as_int(side, "padding") for side in padding)
        else:
            padding = as_int(padding, "padding")
        super().__init__(ops.Pad(padding=padding, mode=mode, value=float(value)), name=name)


class Dropout(Layer):
    """In training, drop each element with probability ``p`` and scale the rest by 1/(1-p)."""

    def __init__(self, p: float = 0.5, *, name: str | None = None) -> None:
        super().__init__(ops.Dropout(p=as_probability(p)), name=name)


class Dropout2d(Layer):
    """In training, drop whole channels with probability ``p`` and scale the rest by 1/(1-p)."""

    def __init__(self, p: float = 0.5, *, name: str | None = None) -> None:
        super().__init__(ops.Dropout(p=as_probability(p), whole_channels=True), name=name)


class DropBlock2d(Layer):
    """In training, drop rectangles of each feature map of (C, H, W) and scale the rest (Ghiasi et al. 2018).

    Parameters
    ----------
    p : float
        Fraction to drop.
    block_size : int or tuple of 2 ints
        Height and width of the rectangles, at most those of the map.
    name : str, optional
    """

    def __init__(self, p: float, block_size: Any, *, name: str | None = None) -> None:
        block = as_int_tuple(block_size, 2, "block_size", 1)
        super().__init__(ops.DropBlock(p=as_probability(p), block_size=block), name=name)


class GaussianNoise(Layer):
    """In training, add normal noise of mean 0 and standard deviation ``std``."""

    def __init__(self, std: float, *, name: str | None = None) -> None:
        super().__init__(ops.GaussianNoise(std=float(std)), name=name)


class Flatten(_Fixed):
    """(C, H, W) to (C * H * W,)."""

    fixed = ops.Reshape()


class Reshape(Layer):
    """The elements of a sample, in order, in another shape."""

    def __init__(self, shape: Any, *, name: str | None = None) -> None:
        super().__init__(ops.Reshape(shape=as_shape(shape, "shape")), name=name)


class Permute(Layer):
    """Axes in another order: axis i of the result is axis ``dims[i]`` of the input, counted in a sample from 0 on."""

    def __init__(self, dims: Any, *, name: str | None = None) -> None:
        super().__init__(ops.Transpose(perm=tuple(as_int(axis, "dims") for axis in dims)), name=name)


class PixelShuffle(Layer):
    """(C * r**2, H, W) to (C, H * r, W * r) for ``upscale_factor`` r (Shi et al. 2016, arXiv:1609.05158)."""

    def __init__(self, upscale_factor: int, *, name: str | None = None) -> None:
        block = as_int(upscale_factor, "upscale_factor", 1)
        super().__init__(ops.DepthToSpace(block=block, mode="CRD"), name=name)


class PixelUnshuffle(Layer):
    """(C, H * r, W * r) to (C * r**2, H, W) for ``downscale_factor`` r: the inverse of :class:`PixelShuffle`."""

    def __init__(self, downscale_factor: int, *, name: str | None = None) -> None:
        block = as_int(downscale_factor, "downscale_factor", 1)
        super().__init__(ops.SpaceToDepth(block=block, mode="CRD"), name=name)


_UPSAMPLE_MODES: Final = {  # what is done, for one axis; and to how many spatial dimensions, None for any
    "nearest": (
        ops.Resize(out_size=(1,), coordinate_transform="asymmetric", nearest_mode="floor"),
        None,
    ),
    "nearest-exact": (ops.Resize(out_size=(1,), nearest_mode="round_prefer_ceil"), None),
    "linear": (ops.Resize(out_size=(1,), mode="linear"), 1),
    "bilinear": (ops.Resize(out_size=(1,), mode="linear"), 2),
    "trilinear": (ops.Resize(out_size=(1,), mode="linear"), 3),
    "bicubic": (ops.Resize(out_size=(1,), mode="cubic"), 2),
}


class Upsample(Layer):
    """Spatial dimensions of another size, larger or smaller, by interpolation.

    Parameters
    ----------
    size : int or tuple of int, optional
        Of the spatial dimensions.
    scale_factor : number or tuple of numbers, optional
        Instead of a size: sizes are ``floor(n * scale_factor)``.
    mode : {"nearest", "nearest-exact", "linear", "bilinear", "trilinear", "bicubic"}
        "nearest-exact" is nearest by the middle of a pixel, which "nearest" is not.
    align_corners : bool
        Whether the outermost pixels of input and output lie on each other, rather than their outer edges. Not for
        the nearest.
    name : str, optional
    """

    op: ops.Resize  # of one axis, to one pixel

    def __init__(
        self,
        size: Any = None,
        scale_factor: Any = None,
        mode: str = "nearest",
        align_corners: bool = False,
        *,
        name: str | None = None,
    ) -> None:
        if (size is None) == (scale_factor is None):
            raise ValueError(
                f"either size or scale_factor must be given, got size={size!r}, scale_factor={scale_factor!r}"
            )
        if mode not in _UPSAMPLE_MODES:
            raise ValueError(f"mode must be one of {tuple(_UPSAMPLE_MODES)}, got {mode!r}")
        op, self._rank = _UPSAMPLE_MODES[mode]
        if align_corners:
            if op.mode == "nearest":
                raise ValueError(f"align_corners is not for mode {mode!r}")
            op = replace(op, coordinate_transform="align_corners")
        self._size, self._scale = size, scale_factor
        super().__init__(op, name=name)

    def op_for(self, *input_shapes: Shape) -> ops.Op:
        shape = max(input_shapes, key=len, default=())[1:]
        ndim = len(shape) if self._rank is None else self._rank
        if len(shape) != ndim or not 1 <= ndim <= 3:
            layouts = " or ".join(ops.LAYOUTS[1:] if self._rank is None else [ops.LAYOUTS[ndim]])
            raise ValueError(f"takes an input of shape {layouts} per sample, got {input_shapes[0]}")
        if self._scale is None:
            return replace(self.op, out_size=as_int_tuple(self._size, ndim, "size", 1))
        scales = self._scale if isinstance(self._scale, (tuple, list)) else (self._scale,) * ndim
        if len(scales) != ndim or not all(0 < float(scale) < math.inf for scale in scales):
            raise ValueError(f"scale_factor must be one finite number > 0 or {ndim}, got {self._scale!r}")
        if self.op.coordinate_transform == "align_corners":  # those of the size, which is a whole number
            return replace(
                self.op, out_size=tuple(math.floor(n * s) for n, s in zip(shape, scales, strict=True))
            )
        return replace(self.op, out_size=None, scales=tuple(map(float, scales)))


class ReLU(_Fixed):
    """``max(x, 0)``."""

    fixed = ops.Activation(function="relu")


class ReLU6(_Fixed):
    """``min(max(x, 0), 6)``."""

    fixed = ops.Activation(function="relu6")


class LeakyReLU(Layer):
    """``x`` where positive, else ``negative_slope * x``."""

    def __init__(self, negative_slope: float = 0.01, *, name: str | None = None) -> None:
        super().__init__(ops.Activation(function="leaky_relu", slope=float(negative_slope)), name=name)


class Sigmoid(_Fixed):
    """``1 / (1 + exp(-x))``."""

    fixed = ops.Activation(function="sigmoid")


class Tanh(_Fixed):
    """Hyperbolic tangent."""

    fixed = ops.Activation(function="tanh")


class ELU(Layer):
    """``x`` where positive, else ``alpha * (exp(x) - 1)`` (Clevert et al. 2015, arXiv:1511.07289)."""

    def __init__(self, alpha: float = 1.0, *, name: str | None = None) -> None:
        super().__init__(ops.Unary(function="elu", alpha=float(alpha)), name=name)


class SELU(_Fixed):
    """ELU with the numbers that keep mean 0 and variance 1 (Klambauer et al. 2017, arXiv:1706.02515)."""

    fixed = ops.Unary(function="selu")


class GELU(Layer):
    """``x`` times the normal distribution function of x (Hendrycks & Gimpel 2016, arXiv:1606.08415).

    Parameters
    ----------
    approximate : {"none", "tanh"}
    name : str, optional
    """

    def __init__(self, approximate: str = "none", *, name: str | None = None) -> None:
        functions = {"none": "gelu", "tanh": "gelu_tanh"}
        if approximate not in functions:
            raise ValueError(f"approximate must be one of {tuple(functions)}, got {approximate!r}")
        super().__init__(ops.Unary(function=functions[approximate]), name=name)


class SiLU(_Fixed):
    """``x * sigmoid(x)``, also called swish."""

    fixed = ops.Unary(function="silu")


class Hardswish(_Fixed):
    """``x * relu6(x + 3) / 6`` (Howard et al. 2019, arXiv:1905.02244)."""

    fixed = ops.Unary(function="hard_swish")


class Hardsigmoid(_Fixed):
    """``relu6(x + 3) / 6``."""

    fixed = ops.Unary(function="hard_sigmoid")


class Softplus(Layer):
    """``log(1 + exp(beta * x)) / beta``."""

    def __init__(self, beta: float = 1.0, *, name: str | None = None) -> None:
        super().__init__(ops.Unary(function="softplus", alpha=float(beta)), name=name)


class Mish(_Fixed):
    """``x * tanh(softplus(x))`` (Misra 2019, arXiv:1908.08681)."""

    fixed = ops.Unary(function="mish")


class PReLU(Layer):
    """``x`` where positive, else a learned slope times x (He et al. 2015, arXiv:1502.01852).

    Parameters
    ----------
    num_parameters : int
        1, or one for each channel.
    init : float
        Slope to begin with.
    trainable : bool
    name : str, optional
    """

    op: ops.PRelu  # for channels alone

    def __init__(
        self, num_parameters: int = 1, init: float = 0.25, *, trainable: bool = True, name: str | None = None
    ) -> None:
        super().__init__(
            ops.PRelu(slope_shape=(as_int(num_parameters, "num_parameters", 1),)),
            name=name,
            initializers={"slope": initializers.Constant(float(init))},
            trainable=trainable,
        )

    def op_for(self, *input_shapes: Shape) -> ops.Op:
        behind = max(map(len, input_shapes), default=1) - 1  # axes behind the channels
        return replace(self.op, slope_shape=self.op.slope_shape + (1,) * behind)


class Softmax(Layer):
    """Softmax over an axis of a sample, the channels unless told.

    Not needed before ``loss="cross_entropy"``, which takes logits.
    """

    def __init__(self, axis: int = 0, *, name: str | None = None) -> None:
        super().__init__(ops.Softmax(axis=as_int(axis, "axis")), name=name)


class Add(_Fixed):
    """Sum of two or more tensors; ``a + b`` is short for ``Add()(a, b)``.

    Dimensions of size 1 are repeated, as NumPy's.
    """

    fixed = ops.Add()


class Concat(Layer):
    """Tensors side by side along an axis of a sample, the channels unless told."""

    def __init__(self, axis: int = 0, *, name: str | None = None) -> None:
        super().__init__(ops.Concat(axis=as_int(axis, "axis")), name=name)


class Multiply(_Fixed):
    """Product of two tensors; ``a * b`` is short for ``Multiply()(a, b)``.

    A dimension of size 1 is repeated, so that (C, 1, 1) weighs the channels of (C, H, W).
    """

    fixed = ops.Multiply()
