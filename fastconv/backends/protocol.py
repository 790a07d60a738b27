"""The contract between the public functions and a backend: one signature per op.

A backend is a module with a table ``IMPLEMENTATIONS: dict[str, tuple[Implementation, ...]]``; every implementation of
an op has exactly the signature given here (a test checks it by reflection).  Arrays arrive C-contiguous, aligned, in
native byte order, of the spec's dtype, checked against the spec, possibly read-only; they must not be modified, but for
``out`` and what an optimizer's step is there to change.
"""

from __future__ import annotations

from typing import Protocol

from numpy.typing import NDArray

from fastconv import _spec as s
from fastconv._dispatch import Packed

Array = NDArray


class Operations(Protocol):
    """Ops in the order of the public API."""

    def conv_forward(
        self,
        spec: s.ConvSpec,
        input: Array,
        weight: Array | Packed,
        bias: Array | None,
        out: Array | None,
        residual: Array | None = None,
    ) -> Array:
        """Cross-correlation plus bias; shape ``spec.output_shape``; written to ``out`` where given.

        Then its epilogue: ``residual`` (of the result's shape) is added, and ``spec.activation`` applied.  A packed
        weight is one that the implementation itself has made.
        """

    def conv_input_grad(
        self, spec: s.ConvSpec, grad_output: Array, weight: Array, bias: Array | None, out: Array | None
    ) -> Array:
        """Adjoint in the input, ``spec.input_shape``; ``bias`` (in_channels,) serves the transposed convolution."""

    def conv_weight_grad(self, spec: s.ConvSpec, input: Array, grad_output: Array) -> Array:
        """Adjoint in the weight; shape ``spec.weight_shape``."""

    def block(self, spec: s.LayoutSpec, planes: Array, out: Array | None = None) -> Array:
        """(N, C, *space) in the blocked layout, zeros behind the last channel: ``spec.blocked_shape``."""

    def unblock(self, spec: s.LayoutSpec, blocked: Array, out: Array | None = None) -> Array:
        """Adjoint of :meth:`block`: ``spec.planes_shape``."""

    def blocked_conv_forward(
        self,
        spec: s.ConvSpec,
        input: Array,
        weight: Array | Packed,
        bias: Array | None,
        out: Array | None,
        residual: Array | None = None,
    ) -> Array:
        """:meth:`conv_forward` whose input, result, ``out`` and residual are blocked; weight and bias are not."""

    def blocked_stem_forward(
        self,
        spec: s.ConvSpec,
        input: Array,
        weight: Array | Packed,
        bias: Array | None,
        out: Array | None,
        residual: Array | None = None,
    ) -> Array:
        """:meth:`blocked_conv_forward` of an input that is not blocked."""

    def blocked_max_pool_forward(self, spec: s.PoolSpec, input: Array, out: Array | None = None) -> Array:
        """:meth:`max_pool_forward` of a blocked input, without indices; written to ``out`` where given."""

    def blocked_avg_pool_forward(self, spec: s.PoolSpec, input: Array, out: Array | None = None) -> Array:
        """:meth:`avg_pool_forward` of a blocked input; written to ``out`` where given."""

    def channel_sum(self, spec: s.ChannelSpec, x: Array) -> Array:
        """Sum over batch and inner: shape (channels,)."""

    def statistics(self, spec: s.StatisticsSpec, x: Array) -> tuple[Array, Array, Array]:
        """Of the finite elements: float64 mean, biased variance, least and greatest (NaN if there are none); int64
        numbers of zeros, of denormals and of elements that are not finite; int64 histogram of the finite ones over
        ``spec.edges()``."""

    def matmul(
        self, spec: s.MatmulSpec, a: Array, b: Array, bias: Array | None, residual: Array | None = None
    ) -> Array:
        """``op(a) @ op(b) + bias``: shape (m, n); then the epilogue as in :meth:`conv_forward`."""

    def max_pool_forward(
        self, spec: s.PoolSpec, input: Array, index_dtype: str | None
    ) -> tuple[Array, Array | None]:
        """Maximum and, for "int64" its flat index in the plane, for "uint8" its offset kh * KW + kw in the window."""

    def max_pool_backward(self, spec: s.PoolSpec, grad_output: Array, indices: Array) -> Array:
        """Each gradient added at its maximum, in output order; shape ``spec.input_shape``."""

    def avg_pool_forward(self, spec: s.PoolSpec, input: Array) -> Array:
        """Window means."""

    def avg_pool_backward(self, spec: s.PoolSpec, grad_output: Array) -> Array:
        """Shape ``spec.input_shape``."""

    def adaptive_avg_pool_forward(self, spec: s.AdaptivePoolSpec, input: Array) -> Array:
        """Window means."""

    def adaptive_avg_pool_backward(self, spec: s.AdaptivePoolSpec, grad_output: Array) -> Array:
        """Shape ``spec.input_shape``."""

    def adaptive_max_pool_forward(self, spec: s.AdaptivePoolSpec, input: Array) -> tuple[Array, Array]:
        """Maximum and its int64 flat index in the plane."""

    def scatter_planes(self, spec: s.PlaneSpec, values: Array, indices: Array) -> Array:
        """(N, C, in_plane) values put at ``indices`` of zeroed (N, C, out_plane): added, or the last one wins."""

    def gather_planes(self, spec: s.PlaneSpec, x: Array, indices: Array) -> Array:
        """(N, C, out_plane) read at ``indices``: shape (N, C, in_plane)."""

    def dropout_mask(self, spec: s.DropoutSpec) -> Array:
        """Packed uint8 keep-mask of ``spec.size`` bits, little end first."""

    def dropout_apply(self, spec: s.DropoutSpec, input: Array, mask: Array) -> Array:
        """``input * bit * scale``; one bit per ``spec.inner`` elements."""

    def dropout_forward(self, spec: s.DropoutSpec, input: Array) -> tuple[Array, Array]:
        """``(dropout_apply(input, mask), mask)`` with ``mask = dropout_mask(spec)``, in one pass."""

    def drop_block_mask(self, spec: s.DropBlockSpec) -> Array:
        """Packed uint8 keep-mask over N * C * H * W."""

    def activation_forward(self, spec: s.ActivationSpec, x: Array) -> Array:
        """Element-wise function."""

    def activation_backward(self, spec: s.ActivationSpec, grad_output: Array, output: Array) -> Array:
        """From the forward pass' output."""

    def add(self, spec: s.AddSpec, a: Array, b: Array, out: Array | None) -> Array:
        """``a + b``, after a ReLU if the spec says so; written to ``out`` where given, which may be ``a`` or ``b``."""

    def softmax_forward(self, spec: s.SoftmaxSpec, x: Array) -> Array:
        """(Log-)softmax along the middle axis."""

    def softmax_backward(self, spec: s.SoftmaxSpec, grad_output: Array, output: Array) -> Array:
        """From the forward pass' output."""

    def batch_norm_forward(
        self,
        spec: s.BatchNormSpec,
        x: Array,
        mean: Array | None,
        var: Array | None,
        weight: Array | None,
        bias: Array | None,
    ) -> tuple[Array, Array, Array]:
        """(y, mean, inv_std); in training the batch's mean and biased variance, else the given ones.

        With ``spec.relu`` y is what a ReLU makes of it.
        """

    def batch_norm_backward(
        self,
        spec: s.BatchNormSpec,
        grad_output: Array,
        x: Array,
        mean: Array,
        inv_std: Array,
        weight: Array | None,
        bias: Array | None,
    ) -> tuple[Array, Array, Array]:
        """(dx, dweight, dbias); ``bias`` tells where a ReLU lets gradients through, and matters there alone."""

    def cross_entropy_forward(
        self, spec: s.CrossEntropySpec, logits: Array, target: Array, weight: Array | None
    ) -> tuple[Array, Array]:
        """(loss, log-probabilities); the loss is 0-d, or (batch, inner) for reduction "none"."""

    def cross_entropy_backward(
        self,
        spec: s.CrossEntropySpec,
        grad_loss: Array,
        log_probs: Array,
        target: Array,
        weight: Array | None,
    ) -> Array:
        """Shape (batch, classes, inner)."""

    def unfold(self, spec: s.ConvSpec, input: Array) -> Array:
        """(N, C * prod(kernel), prod(out_size)): the patches of a convolution as columns."""

    def fold(self, spec: s.ConvSpec, columns: Array) -> Array:
        """Adjoint of unfold: overlaps added; shape ``spec.input_shape``."""

    def pad(self, spec: s.PadSpec, x: Array) -> Array:
        """(outer, *in_shape) to (outer, *out_shape)."""

    def pad_backward(self, spec: s.PadSpec, grad_output: Array) -> Array:
        """(outer, *out_shape) to (outer, *in_shape)."""

    def overlay(self, spec: s.OverlaySpec, base: Array, patches: Array, places: Array) -> Array:
        """Cut a box out of ``base`` for every row of ``places``, and lay its patch over it; ``spec.output_shape``.

        ``places`` (images, 7), int64: where in the flat ``patches`` the patch (planes, height, width, lanes) starts;
        its upper left corner in the base, its height and width, which may be 0; the upper left corner of the box, which
        may reach beyond the base: there it holds ``spec.fill``.
        """

    def optimizer_update(
        self,
        spec: s.UpdateSpec,
        rates: s.UpdateRates,
        factors: Array,
        weights: list[Array],
        grads: list[Array],
        velocity: list[Array] | None,
        mean: list[Array] | None,
        square: list[Array] | None,
    ) -> None:
        """One step on every weight, in place; velocity, mean and square (as the rule has them) move with it.

        ``factors`` (len(weights), 3), float64, of each: ``shrink``, which the weight is first multiplied by, ``decay``,
        whose product with the weight is added to the gradient, and ``scale`` of the gradient.
        """

    def square_sums(self, spec: s.ArraysSpec, arrays: list[Array]) -> Array:
        """Sum of the squares of each array: shape (len(arrays),), float64."""
