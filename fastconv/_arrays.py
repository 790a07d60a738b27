"""From whatever the caller has to what the kernels take: C-contiguous, aligned, native float32 or float64 arrays.

Nothing here writes to the caller's arrays; an array that already has the right form is passed on without a copy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import ndarray
from numpy.typing import NDArray

from fastconv import _pool
from fastconv._spec import (
    MAX_ELEMENTS,
    CrossEntropySpec,
    DropoutSpec,
    Shape,
    as_shape,
    block_lanes,
    float_name,
    frozen,
)

Array = NDArray[Any]

_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
_NAMES = {dtype.char: dtype.name for dtype in _FLOATS}


def _on_host(x: Any, name: str) -> Array:
    """``x`` as an ndarray that shares its memory where it can."""
    if isinstance(x, np.ndarray):
        return np.asarray(x)
    if hasattr(x, "__cuda_array_interface__"):
        raise TypeError(
            f"{name} is a GPU array ({type(x).__name__}), and GPU arrays need the cuda backend "
            "(pip install 'fastconv[cuda]'), which is not available here; copy it to the host first"
        )
    if hasattr(x, "__dlpack__") and not hasattr(x, "__array__"):
        return np.from_dlpack(x)
    return np.asarray(x)


def _clean(x: Array, dtype: Any) -> Array:
    """``x`` with ``dtype``, C-contiguous and aligned; a copy only where needed."""
    clean = np.asarray(x, dtype=dtype, order="C")
    return clean if clean.flags.aligned else clean.copy()


def as_floats(x: Any, name: str) -> Array:
    """A float32 or float64 array the kernels can read.

    Raises
    ------
    TypeError
        If ``x`` is not float32 or float64, or lives on a GPU.
    """
    if type(x) is ndarray and x.dtype in _FLOATS and x.flags.carray:  # the short way, taken by most calls
        return x
    array = _on_host(x, name)
    if array.dtype.kind != "f" or array.dtype.itemsize not in (4, 8):
        raise TypeError(f"{name} must be float32 or float64, got {array.dtype}")
    return _clean(array, array.dtype.newbyteorder("="))


def dtype_name(x: Array) -> str:
    """``x.dtype.name`` of a clean array; NumPy's own takes longer than all other steps of a call together.

    Raises
    ------
    TypeError
        If it is not float32 or float64, as values inside a net may be.
    """
    return _NAMES.get(x.dtype.char) or float_name(x.dtype)


def as_images(x: Any, name: str) -> Array:
    """Floats of shape (N, C, H, W), for ops that take no other.

    Raises
    ------
    TypeError, ValueError
        If the dtype or the number of axes is another one.
    """
    array = as_floats(x, name)
    if array.ndim != 4:
        raise ValueError(f"{name} must have shape (N, C, H, W), got {array.shape}")
    return array


def as_floats_like(x: Any, name: str, other: Array, other_name: str) -> Array:
    """`as_floats`, and of the same dtype as ``other``.

    Raises
    ------
    TypeError
        If the dtypes differ.
    """
    array = as_floats(x, name)
    if array.dtype != other.dtype:
        raise TypeError(f"{name} must have the dtype of {other_name}, got {array.dtype} and {other.dtype}")
    return array


def as_vector_like(x: Any, name: str, length: int, other: Array, other_name: str) -> Array | None:
    """An optional per-channel vector: None, or floats of shape (length,) and the dtype of ``other``."""
    if x is None:
        return None
    array = as_floats_like(x, name, other, other_name)
    check_shape(array, (length,), name)
    return array


def as_indices(x: Any, name: str, *, allow_uint8: bool = False) -> Array:
    """Positions made by a max-pooling: int64, or uint8 where those are taken.

    Raises
    ------
    TypeError
        If the dtype is another one.
    """
    if type(x) is ndarray and x.flags.carray and x.dtype == (np.uint8 if x.itemsize == 1 else np.int64):
        array = x
    else:
        array = _on_host(x, name)
    if array.dtype == np.uint8 and allow_uint8:
        return _clean(array, np.uint8)
    if array.dtype.kind != "i" or array.dtype.itemsize != 8:
        raise TypeError(f"{name} must be int64{' or uint8' if allow_uint8 else ''}, got {array.dtype}")
    return _clean(array, np.int64)


def as_labels(x: Array, classes: int, ignore_index: int) -> Array:
    """Class numbers as int64, each in [0, classes) or equal to ``ignore_index``.

    Raises
    ------
    ValueError
        If a label is out of range.
    """
    labels = _clean(x, np.int64)
    if _pool.all_below(labels, labels.size, classes):  # nearly always
        return labels
    # The caller's own numbers: unsigned ones beyond int64 would come out negative, as ignore_index may be.
    wrong = ((x < 0) | (x >= classes)) & (x != ignore_index)
    if wrong.any():
        raise ValueError(
            f"target labels must be in [0, {classes}) or equal ignore_index {ignore_index}, got {x[wrong].flat[0]}"
        )
    return labels


def as_target(x: Any) -> Array:
    """A loss target: integers (labels) or floats (probabilities).

    Raises
    ------
    TypeError
        If it is neither.
    """
    target = _on_host(x, "target")
    if target.dtype.kind in "iu":
        return target
    if target.dtype.kind != "f":
        raise TypeError(f"target must hold integer labels or float probabilities, got {target.dtype}")
    return as_floats(target, "target")


def as_mask(x: Any, bits: int) -> Array:
    """A packed mask of ``bits`` bits: uint8 of shape (ceil(bits / 8),).

    Raises
    ------
    TypeError, ValueError
        If the dtype or the shape is another one.
    """
    mask = _on_host(x, "mask")
    if mask.dtype != np.uint8:
        raise TypeError(f"mask must be packed bits of dtype uint8, got {mask.dtype}")
    check_shape(mask, (-(-bits // 8),), f"a packed mask of {bits} bits")
    return _clean(mask, np.uint8)


def check_shape(array: Array, shape: Shape, name: str) -> None:
    """ValueError unless ``array`` has exactly ``shape``."""
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")


def check_in_plane(indices: Array, plane: int, name: str = "indices") -> None:
    """ValueError unless every int64 index lies in [0, plane)."""
    bound = min(plane, MAX_ELEMENTS)  # larger planes are refused later
    if not _pool.all_below(indices, indices.size, bound):
        raise ValueError(
            f"{name} must be in [0, {plane}), got values from {indices.min()} to {indices.max()}"
        )


def batched_shape(shape: Shape, ndim: int, name: str) -> Shape:
    """``shape`` with a batch of one in front if it has none.

    Raises
    ------
    ValueError
        If it is neither (C, *spatial) nor (N, C, *spatial) for ``ndim`` spatial dimensions.
    """
    if len(shape) == ndim + 2:
        return shape
    if len(shape) == ndim + 1:
        return (1, *shape)
    axes = ", ".join(("D", "H", "W")[3 - ndim :]) if ndim > 1 else "L"
    raise ValueError(f"{name} must have shape (N, C, {axes}) or (C, {axes}), got {shape}")


def batched(x: Array, ndim: int) -> Array:
    """``x``, of a shape that `batched_shape` takes, with a batch axis."""
    return x if x.ndim == ndim + 2 else x[None]


def unbatched(result: Array, x: Array) -> Array:
    """``result``, computed with a batch axis, without it where ``x`` has none."""
    return result if result.ndim == x.ndim else result[0]


def as_input_size(size: Any, ndim: int) -> tuple[Shape, Shape]:
    """``input_size`` of a backward pass as given and with a batch axis."""
    shape = as_shape(size, "input_size")
    return shape, batched_shape(shape, ndim, "input_size")


def as_out(out: Any, shape: Shape, dtype: np.dtype[Any], *inputs: Any) -> Array:
    """Check a caller's output array.

    Raises
    ------
    TypeError
        If it is not an ndarray.
    ValueError
        If it has another shape or dtype, is not a writeable C-contiguous array, or shares memory with an input.
    """
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out must be an ndarray, got {type(out).__name__}")
    check_shape(out, shape, "out")
    if out.dtype != dtype:
        raise ValueError(f"out must have dtype {dtype}, got {out.dtype}")
    if not (out.flags.c_contiguous and out.flags.aligned and out.flags.writeable):
        raise ValueError("out must be C-contiguous, aligned and writeable")
    if any(isinstance(x, np.ndarray) and np.shares_memory(out, x) for x in inputs):
        raise ValueError("out must not share memory with an input")
    return out


def pooled_shape(shape: Shape, out_size: Shape, ndim: int) -> Shape:
    """Shape of a pool's result: the input's leading axes and the last ``ndim`` sizes."""
    return shape[:-ndim] + out_size[-ndim:]


def planes_shape(blocked: Array, name: str, ndim: int, channels: int | None = None) -> Shape:
    """Shape (N, C, *space) that a blocked array of ``ndim`` spatial dimensions stands for.

    All its lanes are channels where their number is not said.
    """
    lanes = block_lanes(dtype_name(blocked))
    if blocked.ndim != max(ndim, 0) + 3 or blocked.shape[-1] != lanes:
        axes = {1: "L, ", 2: "H, W, ", 3: "D, H, W, "}.get(ndim, "")
        raise ValueError(f"{name} must have shape (N, blocks, {axes}{lanes}), got {blocked.shape}")
    batch, blocks, *space, _ = blocked.shape
    if channels is None:
        channels = blocks * lanes
    elif -(-channels // lanes) != blocks:
        raise ValueError(f"{name} of {blocks} blocks of {lanes} channels does not hold {channels} channels")
    return (batch, channels, *space)


def as_planes(x: Array, shape: Shape) -> Array:
    """``x`` as the (N, C, H, W) that pools work on."""
    return x if x.ndim == 4 else x.reshape(shape)


def from_planes(result: Array, x: Array, ndim: int) -> Array:
    """A pool's result of shape (N, C, H, W) with the axes of its input ``x``."""
    return result if x.ndim == 4 else result.reshape(pooled_shape(x.shape, result.shape, ndim))


def drop_block_scaling(mask: Array, size: int) -> DropoutSpec:
    """How DropBlock applies a mask: scaled by ``size / count of kept``, as if that share had been dropped."""
    kept = int(np.unpackbits(mask, count=size, bitorder="little").sum())
    return DropoutSpec.from_args(size, 1, 1.0 - kept / size if size else 0.0, 0, 0)


def cross_entropy_question(
    x: Array, target: Array, weighted: bool, ignore_index: Any, label_smoothing: Any, reduction: Any
) -> tuple[Any, ...]:
    """Arguments of :meth:`CrossEntropySpec.of`, as a plan is looked up by, for logits or log-probabilities ``x``."""
    soft = target.dtype.kind == "f"
    settings = frozen(ignore_index, label_smoothing, reduction)
    return (x.shape, target.shape, dtype_name(x), soft, weighted, *settings)


def cross_entropy_arrays(
    spec: CrossEntropySpec, x: Array, target: Array, weight: Any
) -> tuple[Array, Array, Array | None]:
    """Logits or log-probabilities ``x``, targets and class weights as a backend takes them."""
    view = (spec.batch, spec.classes, spec.inner)
    w = as_vector_like(weight, "weight", spec.classes, x, "input")
    if spec.soft:
        return x.reshape(view), as_floats_like(target, "target", x, "input").reshape(view), w
    labels = as_labels(target, spec.classes, spec.ignore_index)
    return x.reshape(view), labels.reshape(spec.batch, spec.inner), w
