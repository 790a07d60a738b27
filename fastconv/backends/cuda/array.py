"""An array in device memory, and the way there and back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv.backends.cuda import engine


@dataclass(frozen=True, eq=False)
class DeviceArray:
    """A C-contiguous array on the device.

    Parameters
    ----------
    flat
        Its elements, 1-D, as kernels take them.
    shape
        Extents.
    """

    flat: Any
    shape: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.flat.dtype)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        return self.size * self.itemsize

    @property
    def strides(self) -> tuple[int, ...]:
        """Bytes from element to element along each axis."""
        return tuple(self.itemsize * math.prod(self.shape[axis + 1 :]) for axis in range(self.ndim))

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Version 3; no stream to wait for, as all work is on the default one."""
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": self.flat.__cuda_array_interface__["data"],
            "strides": None,
            "stream": None,
            "version": 3,
        }

    def reshape(self, *shape: int) -> DeviceArray:
        """The same elements in another shape.

        Raises
        ------
        ValueError
            If it has another number of elements.
        """
        if math.prod(shape) != self.size:
            raise ValueError(
                f"cannot reshape {self.shape} to {shape}: {self.size} and {math.prod(shape)} elements"
            )
        return DeviceArray(self.flat, shape)

    def numpy(self) -> NDArray[Any]:
        """A copy on the host."""
        return engine.current().download(self.flat)[: self.size].reshape(self.shape)

    def __repr__(self) -> str:
        return f"DeviceArray(shape={self.shape}, dtype={self.dtype})"


def empty(shape: tuple[int, ...], dtype: Any) -> DeviceArray:
    """Device memory of that shape, contents undefined."""
    return DeviceArray(engine.current().empty(math.prod(shape), np.dtype(dtype).name), shape)


def room(out: NDArray[Any] | DeviceArray | None, shape: tuple[int, ...], dtype: Any) -> DeviceArray:
    """Where a result goes on its way to ``out``: there, if that is on the device, else new memory."""
    return out if isinstance(out, DeviceArray) else empty(shape, dtype)


def lift(x: NDArray[Any] | DeviceArray) -> DeviceArray:
    """``x`` on the device: a copy, unless it is there."""
    if isinstance(x, DeviceArray):
        return x
    return DeviceArray(engine.current().upload(x.reshape(-1)), x.shape)


def settle(result: DeviceArray, like: NDArray[Any] | DeviceArray, out: Any = None) -> Any:
    """``result`` where ``like`` lives: callers get back the kind that they gave; on the host in ``out``, if given."""
    if isinstance(like, DeviceArray):
        return result
    if out is None:
        return result.numpy()
    out[...] = result.numpy()
    return out
