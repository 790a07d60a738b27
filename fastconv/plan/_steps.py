"""Steps of a plan: what each does to arrays, bound to one size of the batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastconv import _arrays, _dispatch
from fastconv._dispatch import Implementation, Packed
from fastconv._spec import ConvSpec, LayoutSpec, PoolSpec, Shape, block_lanes
from fastconv.ops import Add, AvgPool, Context, MaxPool, Multiply, Op

Array = NDArray[Any]
Run = Callable[[Sequence[Array], Array | None], Array]


class Bound(NamedTuple):
    """A step for one size of the batch.

    ``run(arrays, out) -> array`` gets arrays of just the right shapes; ``out`` is None or memory for the result.
    """

    run: Run
    by: str  # what serves it
    why: str = ""
    rounding: float = 0.0  # of a sum of products: its error in eps * root mean square of what is read


Bind = Callable[[int], Bound]


@dataclass(frozen=True, kw_only=True)
class Step:
    """One call of a kernel.

    Attributes
    ----------
    name : str
        Of the value it makes; ``nodes`` are those of the graph it stands for.
    inputs : tuple of str
    shape : tuple of int
        Of the result of one sample, in its layout.
    bind : callable
        ``size of the batch -> Bound``.
    macs : int
        For one sample.
    memory : {"given", "own", "shared"}
        Where the result lies: in memory that the step is given, in memory of its own, or possibly in that of an input.
    """

    name: str
    inputs: tuple[str, ...]
    shape: Shape
    bind: Bind
    nodes: tuple[str, ...] = ()
    macs: int = 0
    memory: str = "given"


def fixed(run: Run, by: str) -> Bind:
    """The binding of a step that does the same for every size of the batch."""
    return lambda batch: Bound(run, by)


def checked(bind: Bind, dtype: str) -> Bind:
    """The same for arrays that may be of another dtype than the net's, which no kernel takes."""

    def bind_checked(batch: int) -> Bound:
        bound = bind(batch)

        def run(arrays: Sequence[Array], out: Array | None) -> Array:
            for x in arrays:
                if _arrays.dtype_name(x) != dtype:
                    raise TypeError(f"a layer's input must be {dtype} like the net, got {x.dtype}")
            return bound.run(arrays, out)

        return bound._replace(run=run)

    return bind_checked


# ------------------------------------------------------------------------------------------------ convolution


class Kernel:
    """A convolution with a constant weight, kept in the form of each implementation that serves it.

    Where one implementation serves every size of the batch, and needs no more than its own form, the weight is laid out
    at once and let go of.
    """

    def __init__(self, op: str, spec: ConvSpec, weight: Array, bias: Array | None) -> None:
        self._op, self._spec = op, spec
        self._weight: Array | None = weight
        self._bias = None if bias is None else bias.copy()
        self._norm = largest_norm(weight)
        self._forms: dict[tuple[str, Hashable], Packed] = {}  # by implementation and layout
        settled = _dispatch.is_settled(op, spec) and self._form(_dispatch.select(op, spec), spec)
        if isinstance(settled, Packed) and settled.weight is None:
            self._weight = None
        else:
            self._weight = np.array(weight, order="C")  # whose later changes are of no account
            self._forms.clear()

    def bind(self, batch: int) -> Bound:
        """For arrays (input,) or (input, residual)."""
        spec = replace(self._spec, batch=batch)
        made = _dispatch.plan(self._op, _as_it_is, spec)
        weight, bias, call = self._form(made.choice.implementation, spec), self._bias, made.run

        def run(arrays: Sequence[Array], out: Array | None) -> Array:
            result: Array = call(arrays[0], weight, bias, out, *arrays[1:])
            return result

        growth = made.choice.implementation.error_growth(spec)
        rounding = growth * math.sqrt(math.prod(spec.weight_shape[1:])) * self._norm
        return Bound(run, made.choice.implementation.name, made.choice.why, rounding)

    @property
    def nbytes(self) -> int:
        """Bytes of memory held."""
        arrays = [self._weight, self._bias, *(packed.form for packed in self._forms.values())]
        return sum(array.nbytes for array in arrays if array is not None)

    def _form(self, implementation: Implementation, spec: ConvSpec) -> Array | Packed:
        if self._weight is None:
            return next(iter(self._forms.values()))
        layout = implementation.layout and implementation.layout(spec)
        if layout is None or implementation.pack is None:
            return self._weight
        key = implementation.name, layout
        if key not in self._forms:
            self._forms[key] = implementation.pack(spec, self._weight)
        return self._forms[key]


def largest_norm(weight: Array) -> float:
    """The largest of the filters' Euclidean norms."""
    squares = np.square(weight, dtype=np.float64)
    return math.sqrt(squares.sum(axis=tuple(range(1, weight.ndim))).max())


def _as_it_is(spec: Any) -> Any:
    return spec


def linear(kernel: Kernel, features: int, out_features: int, lanes: int) -> Bind:
    """A linear layer as a convolution of one position, whose channels the features are; the batch fills the tiles."""
    blocks, out_blocks, missing = -(-features // lanes), -(-out_features // lanes), -features % lanes

    def bind(batch: int) -> Bound:
        bound = kernel.bind(batch)

        def run(arrays: Sequence[Array], out: Array | None) -> Array:
            (x,) = arrays
            if missing:
                x = np.pad(x, ((0, 0), (0, missing)))
            x = x.reshape(batch, blocks, 1, lanes)
            if out is not None and out_features % lanes == 0:
                bound.run((x,), out.reshape(batch, out_blocks, 1, lanes))
                return out
            result = bound.run((x,), None).reshape(batch, out_blocks * lanes)
            return _delivered(result[:, :out_features], out)

        return bound._replace(run=run)

    return bind


# ------------------------------------------------------------------------------------------------ other steps


def _of_kernel(op: str, describe: Callable[[int], Any]) -> Bind:
    """A step of one input that ``op`` serves, on the spec ``describe`` gives for a size of the batch."""

    def bind(batch: int) -> Bound:
        made = _dispatch.plan(op, _as_it_is, describe(batch))
        call = made.run

        def run(arrays: Sequence[Array], out: Array | None) -> Array:
            result: Array = call(arrays[0], out)
            return result

        return Bound(run, made.choice.implementation.name, made.choice.why)

    return bind


def change_of_layout(op: str, shape: Shape, dtype: str) -> Bind:
    """``"block"`` or ``"unblock"`` arrays that are (N, *shape) when they are plain."""
    return _of_kernel(op, lambda batch: LayoutSpec(planes_shape=(batch, *shape), dtype=dtype))


def pool(op: MaxPool | AvgPool, shape: Shape, dtype: str) -> Bind:
    """Of blocked images of a shape."""
    kind = "max" if isinstance(op, MaxPool) else "avg"
    return _of_kernel(f"blocked_{kind}_pool_forward", lambda batch: op.spec((batch, *shape), dtype))


def global_pool(shape: Shape, result_shape: Shape, dtype: str) -> Bind:
    """Means of blocked images of a shape; the result is (N, *result_shape), not blocked."""
    channels, *size = shape
    lanes = block_lanes(dtype)
    blocks = -(-channels // lanes)
    means = _of_kernel(
        "blocked_avg_pool_forward", lambda batch: PoolSpec.from_shape((batch, *shape), dtype, tuple(size))
    )

    def bind(batch: int) -> Bound:
        bound = means(batch)

        def run(arrays: Sequence[Array], out: Array | None) -> Array:
            if out is not None and channels % lanes == 0:
                bound.run(arrays, out.reshape(batch, blocks, 1, 1, lanes))
                return out
            result = bound.run(arrays, None).reshape(batch, blocks * lanes)[:, :channels]
            return _delivered(result.reshape(batch, *result_shape), out)

        return bound._replace(run=run)

    return bind


def _delivered(result: Array, out: Array | None) -> Array:
    """A result that may be strided, in ``out`` if that is given."""
    if out is None:
        return np.ascontiguousarray(result)
    out[...] = result
    return out


def plain_forward(op: Op, params: Mapping[str, Array]) -> Run:
    """An op as it is."""
    own, context = {name: value.copy() for name, value in params.items()}, Context()

    def run(arrays: Sequence[Array], out: Array | None) -> Array:
        return op.forward(tuple(arrays), own, context)[0]

    return run


def joined(op: Add | Multiply) -> Run:
    """A sum or product of arrays of one shape."""
    join = np.add if isinstance(op, Add) else np.multiply

    def run(arrays: Sequence[Array], out: Array | None) -> Array:
        first, second, *others = arrays
        result: Array = join(first, second, out=out)
        for other in others:
            join(result, other, out=result)
        return result

    return run


def concatenated(arrays: Sequence[Array], out: Array | None) -> Array:
    """Blocks side by side."""
    return np.concatenate(arrays, axis=1, out=out)
