"""Layers: descriptions of an op with its name, initial values and penalties, callable on symbolic tensors.

A layer holds no arrays and does not know its input channels; both come when a :class:`fastconv.nn.Model` is
built from the tensors that it connects.  Calling one layer twice shares its parameters within a model.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from fastconv import ops
from fastconv._spec import Shape, as_shape
from fastconv.nn import initializers
from fastconv.nn._format import batched
from fastconv.nn.initializers import Initializer
from fastconv.nn.regularizers import Regularizer

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

    ndim: ClassVar[int | tuple[int, ...] | None] = None  # spatial dimensions of what it takes; None is any

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

    def __repr__(self) -> str:
        label = "" if self.name is None else f" {self.name!r}"
        return f"<{type(self).__name__}{label}>"


class _Conv(Layer):
    ndim: int

    def __init__(
        self,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        weight_initializer: str | Initializer = "he_uniform",
        bias_initializer: str | Initializer = "zeros",
        weight_regularizer: Regularizer | None = None,
        bias_regularizer: Regularizer | None = None,
        trainable: bool = True,
        name: str | None = None,
    ) -> None:
        super().__init__(
            ops.Conv.of(self.ndim, out_channels, kernel_size, stride, padding, dilation, groups, bias),
            name=name,
            initializers={
                "weight": initializers.get(weight_initializer),
                "bias": initializers.get(bias_initializer),
            },
            regularizers={"weight": weight_regularizer, "bias": bias_regularizer},
            trainable=trainable,
        )


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
    weight_regularizer, bias_regularizer : Regularizer, optional
    trainable : bool
    name : str, optional
    """

    ndim = 2


class Linear(Layer):
    """``x @ weight.T + bias`` on flat features (F,); the number of features is inferred."""

    def __init__(
        self,
        out_features: int,
        bias: bool = True,
        *,
        weight_initializer: str | Initializer = "he_uniform",
        bias_initializer: str | Initializer = "zeros",
        weight_regularizer: Regularizer | None = None,
        bias_regularizer: Regularizer | None = None,
        trainable: bool = True,
        name: str | None = None,
    ) -> None:
        super().__init__(
            ops.Linear(out_features=out_features, bias=bool(bias)),
            name=name,
            initializers={
                "weight": initializers.get(weight_initializer),
                "bias": initializers.get(bias_initializer),
            },
            regularizers={"weight": weight_regularizer, "bias": bias_regularizer},
            trainable=trainable,
        )


class BatchNorm2d(Layer):
    """Batch normalisation of the channels of (C, H, W); its running statistics are saved but not trained."""

    def __init__(
        self, eps: float = 1e-5, momentum: float = 0.1, *, trainable: bool = True, name: str | None = None
    ) -> None:
        one = initializers.Constant(1.0)
        super().__init__(
            ops.BatchNorm(eps=float(eps), momentum=float(momentum)),
            name=name,
            initializers={"weight": one, "running_var": one},
            trainable=trainable,
        )


class MaxPool2d(Layer):
    """Maximum of each window of (C, H, W); ``stride=None`` is the kernel size."""

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
        super().__init__(ops.MaxPool.of(2, kernel_size, stride, padding, dilation, ceil_mode), name=name)


class AvgPool2d(Layer):
    """Mean of each window of (C, H, W); ``stride=None`` is the kernel size."""

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
        op = ops.AvgPool.of(2, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
        super().__init__(op, name=name)


class GlobalAvgPool2d(Layer):
    """Mean over all positions: (C, H, W) to (C,), or to (C, 1, 1) with ``keepdims``."""

    def __init__(self, keepdims: bool = False, *, name: str | None = None) -> None:
        super().__init__(ops.GlobalAvgPool(keepdims=bool(keepdims)), name=name)


class Dropout(Layer):
    """In training, drop each element with probability ``p`` and scale the rest by 1/(1-p)."""

    def __init__(self, p: float = 0.5, *, name: str | None = None) -> None:
        super().__init__(ops.Dropout(p=p), name=name)


class Dropout2d(Layer):
    """In training, drop whole channels with probability ``p`` and scale the rest by 1/(1-p)."""

    def __init__(self, p: float = 0.5, *, name: str | None = None) -> None:
        super().__init__(ops.Dropout(p=p, whole_channels=True), name=name)


class Flatten(Layer):
    """(C, H, W) to (C * H * W,)."""

    def __init__(self, *, name: str | None = None) -> None:
        super().__init__(ops.Reshape(), name=name)


class Reshape(Layer):
    """The elements of a sample, in order, in another shape."""

    def __init__(self, shape: Any, *, name: str | None = None) -> None:
        super().__init__(ops.Reshape(shape=as_shape(shape, "shape")), name=name)


class ReLU(Layer):
    """``max(x, 0)``."""

    def __init__(self, *, name: str | None = None) -> None:
        super().__init__(ops.Activation(function="relu"), name=name)


class LeakyReLU(Layer):
    """``x`` where positive, else ``negative_slope * x``."""

    def __init__(self, negative_slope: float = 0.01, *, name: str | None = None) -> None:
        super().__init__(ops.Activation(function="leaky_relu", slope=float(negative_slope)), name=name)


class Sigmoid(Layer):
    """``1 / (1 + exp(-x))``."""

    def __init__(self, *, name: str | None = None) -> None:
        super().__init__(ops.Activation(function="sigmoid"), name=name)


class Tanh(Layer):
    """Hyperbolic tangent."""

    def __init__(self, *, name: str | None = None) -> None:
        super().__init__(ops.Activation(function="tanh"), name=name)


class Softmax(Layer):
    """Softmax over the channels.  Not needed before ``loss="cross_entropy"``, which takes logits."""

    def __init__(self, *, name: str | None = None) -> None:
        super().__init__(ops.Softmax(), name=name)


class Add(Layer):
    """Sum of two or more tensors of one shape; ``a + b`` is short for ``Add()(a, b)``."""

    def __init__(self, *, name: str | None = None) -> None:
        super().__init__(ops.Add(), name=name)


class Concat(Layer):
    """Tensors side by side along the channels."""

    def __init__(self, *, name: str | None = None) -> None:
        super().__init__(ops.Concat(), name=name)
