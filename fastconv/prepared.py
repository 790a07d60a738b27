"""Convolutions whose weight is laid out once for many calls, with an epilogue: bias, residual, activation."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastconv import _arrays
from fastconv._dispatch import AUTO, Choice, Packed, Plan, plan
from fastconv._spec import (
    Shape,
    as_epilogue,
    as_int,
    as_max_error,
    as_shape,
    blocked_shape,
    conv_spec,
    frozen,
)

Array = NDArray[Any]

_MOST_SHAPES = 1024
FORWARD_OPS = {  # by layout of input and result
    "plain": "conv_forward",
    "blocked": "blocked_conv_forward",
    "stem": "blocked_stem_forward",
}


class PreparedConv:
    """What :func:`prepare` returns: call it with an input, and with a residual where there is one.

    Attributes
    ----------
    weight : ndarray of shape (K, C / groups, *kernel)
        The copy it works with, read-only.
    bias : ndarray of shape (K,), or None
        Likewise.
    """

    def __init__(
        self,
        weight: ArrayLike,
        bias: ArrayLike | None,
        stride: Any,
        padding: Any,
        dilation: Any,
        groups: Any,
        activation: str | None,
        negative_slope: float,
        layout: str,
        algorithm: str,
        max_error: float | None,
    ) -> None:
        if layout not in FORWARD_OPS:
            raise ValueError(f"layout must be one of {tuple(FORWARD_OPS)}, got {layout!r}")
        w = _arrays.as_floats(weight, "weight")
        self._ndim = w.ndim - 2
        if self._ndim not in (1, 2, 3):
            raise ValueError(
                f"weight must have shape (K, C / groups, *kernel) with 1 to 3 kernel sizes, got {w.shape}"
            )
        b = _arrays.as_vector_like(bias, "bias", w.shape[0], w, "weight")
        self.weight = _read_only_copy(w)
        self.bias = None if b is None else _read_only_copy(b)
        self._options = (
            *frozen(stride, padding, dilation, groups),
            *as_epilogue(activation, negative_slope),
        )
        self._layout = layout
        self._algorithm, self._max_error = algorithm, as_max_error(max_error)
        self._weights: dict[tuple[int, ...], tuple[Plan, Array | Packed]] = {}  # by shape of the input
        self._packed: dict[tuple[str, Hashable], Packed] = {}  # by implementation and layout

    def __call__(
        self, input: ArrayLike, residual: ArrayLike | None = None, *, out: Array | None = None
    ) -> Array:
        """``activation(conv(input, weight) + bias + residual)``.

        Parameters
        ----------
        input : array_like of shape (N, C, *spatial) or (C, *spatial)
            Of any size, and of the weight's dtype; (N, blocks, *spatial, lanes) in the blocked layout.
        residual : array_like, optional
            Of the result's shape and dtype.
        out : ndarray, optional
            Receives the result: C-contiguous, of its shape and dtype, sharing no memory with input or residual.

        Returns
        -------
        ndarray of shape (N, K, *out_size) or (K, *out_size)

        Raises
        ------
        ValueError, TypeError
            If an array is unfit, or the implementation asked for does not serve this shape.
        """
        x = _arrays.as_floats_like(input, "input", self.weight, "weight")
        one_image = x.ndim == self._ndim + (2 if self._layout == "blocked" else 1)
        given = x[None] if one_image else x
        made = self._plan(self._plain_shape(given))
        whole = made.spec.output_shape
        if self._layout != "plain":
            whole = blocked_shape(whole, made.spec.dtype)
        shape = whole[1:] if one_image else whole
        rest = None
        if residual is not None:
            rest = _arrays.as_floats_like(residual, "residual", self.weight, "weight")
            _arrays.check_shape(rest, shape, "residual")
            rest = rest.reshape(whole)
        weight = self._weight_of(made)
        if out is not None:
            _arrays.as_out(out, shape, x.dtype, input, residual, x, rest, self.weight, self.bias)
            made.run(given, weight, self.bias, out.reshape(whole), rest)
            return out
        result: Array = made.run(given, weight, self.bias, None, rest)
        return result.reshape(shape)

    def plan(self, input_size: Any) -> Choice:
        """Which implementation serves an input of that shape, and why; its weight is laid out now.

        Parameters
        ----------
        input_size : sequence of int
            (N, C, *spatial) or (C, *spatial).

        Returns
        -------
        Choice
            ``str()`` of it is the explanation.
        """
        made = self._plan(as_shape(input_size, "input_size"))
        self._weight_of(made)
        return made.choice

    @property
    def nbytes(self) -> int:
        """Bytes of memory held: weight and bias, and the weight in the form of each implementation used so far."""
        arrays = [self.weight, *(packed.form for packed in self._packed.values())]
        if self.bias is not None:
            arrays.append(self.bias)
        return sum(array.nbytes for array in arrays)

    def __str__(self) -> str:
        *options, activation, slope = self._options
        stride, padding, dilation, groups = options
        lines = [
            f"PreparedConv: weight {self.weight.shape} {self.weight.dtype}, stride {stride}, padding {padding}, "
            f"dilation {dilation}, groups {groups}, activation {activation}"
            + (f" {slope}" if activation == "leaky_relu" else "")
            + f", {self.nbytes} bytes"
        ]
        lines += [f"{shape}: {made.choice}" for shape, (made, _) in self._weights.items()]
        return "\n".join(lines)

    def _plain_shape(self, x: Array) -> Shape:
        """Shape of the input that ``x`` stands for."""
        if self._layout != "blocked":
            return x.shape
        channels = self.weight.shape[1] * as_int(self._options[3], "groups")
        return _arrays.planes_shape(x, "input", self._ndim, channels)

    def _plan(self, shape: Shape) -> Plan:
        return plan(
            FORWARD_OPS[self._layout],
            conv_spec,
            _arrays.batched_shape(shape, self._ndim, "input"),
            self.weight.shape,
            _arrays.dtype_name(self.weight),
            *self._options,
            algorithm=self._algorithm,
            max_error=self._max_error,
        )

    def _weight_of(self, made: Plan) -> Array | Packed:
        """The weight as the plan's implementation wants it; plans change with the settings of the process."""
        shape = made.spec.input_shape
        kept = self._weights.get(shape)
        if kept is None or kept[0] is not made:
            if len(self._weights) >= _MOST_SHAPES:
                self._weights.clear()
            kept = self._weights[shape] = made, self._packed_for(made)
        return kept[1]

    def _packed_for(self, made: Plan) -> Array | Packed:
        implementation = made.choice.implementation
        layout = implementation.layout and implementation.layout(made.spec)
        if layout is None or implementation.pack is None:
            return self.weight
        key = implementation.name, layout
        if key not in self._packed:
            self._packed[key] = implementation.pack(made.spec, self.weight)
        return self._packed[key]


def _read_only_copy(x: Array) -> Array:
    copy = np.array(x, order="C")
    copy.flags.writeable = False
    return copy


def prepare(
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    input_size: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    activation: str | None = None,
    negative_slope: float = 0.01,
    layout: str = "plain",
    algorithm: str = AUTO,
    max_error: float | None = None,
) -> PreparedConv:
    """A convolution with a constant weight, for many calls: ``activation(conv(input, weight) + bias + residual)``.

    The weight is copied, and laid out for the algorithm that serves a call (filters transformed, panels packed) once
    for all calls and not, as by :func:`fastconv.functional.conv2d`, in each.  Bias, residual and activation are applied
    while the sums are in cache, not in passes over the result.  The results are the same bits as those of
    ``conv1d``, ``conv2d`` or ``conv3d``, an addition and ``relu``, ``relu6`` or ``leaky_relu``, one after another.

    Parameters
    ----------
    weight : array_like of shape (K, C / groups, *kernel)
        float32 or float64; the convolution has as many dimensions as the kernel, 1 to 3.  Later changes of the array do
        not matter.
    bias : array_like of shape (K,), optional
    input_size : sequence of int, optional
        Shape (N, C, *spatial) or (C, *spatial) of an input, to lay the weight out now and not in the first call.
    stride, padding, dilation, groups
        As in :func:`fastconv.functional.conv2d`.
    activation : {None, "relu", "relu6", "leaky_relu"}
        NaN stays NaN.
    negative_slope : float
        Of "leaky_relu": a finite number >= 0.
    layout : {"plain", "blocked", "stem"}
        Of input, residual and result: plain arrays; blocked ones (see :mod:`fastconv.blocked`); or a plain input and
        a blocked result.
    algorithm, max_error
        As in :func:`fastconv.functional.conv2d`.

    Returns
    -------
    PreparedConv
        To be called as ``handle(input, residual=None, *, out=None)`` with inputs of any batch size and spatial size;
        ``handle.plan(input_size)`` tells the algorithm and why, ``handle.nbytes`` the memory held.  It may be called by
        several threads at a time.

    Raises
    ------
    TypeError
        If an array is neither float32 nor float64, or the dtypes differ.
    ValueError
        If an argument breaks a rule; what depends on the input is checked with ``input_size`` or in the call.

    Notes
    -----
    Every algorithm that has served a call keeps its own form of the weight: Winograd's F(4 x 4, 3 x 3) takes four times
    the weight's memory, F(6 x 6, 3 x 3) some seven times, the implicit matrix product about as much as the weight.
    Under another instruction set (:func:`fastconv.force_isa`) the weight is laid out anew; the number of threads is of
    no account.

    Examples
    --------
    >>> import numpy as np
    >>> conv = prepare(np.array([[[1.0, -1.0]]]), activation="relu")
    >>> conv(np.array([[[1.0, 2.0, 4.0, 3.0]]]))
    array([[[0., 0., 1.]]])
    >>> conv(np.array([[[1.0, 2.0, 4.0, 3.0]]]), residual=np.array([[[2.0, 2.0, 2.0]]]))
    array([[[1., 0., 3.]]])
    """
    handle = PreparedConv(
        weight,
        bias,
        stride,
        padding,
        dilation,
        groups,
        activation,
        negative_slope,
        layout,
        algorithm,
        max_error,
    )
    if input_size is not None:
        handle.plan(input_size)
    return handle
