"""Reader of IDX files, the format of MNIST and its kin."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_GZIP_MAGIC = b"\x1f\x8b"


def read(path: Path) -> NDArray[Any]:
    """The array in an IDX file, gzipped or not, as stored: read-only, big-endian if it has wide numbers.

    The format: two zero bytes, a byte for the type, a byte for the number of axes, the length of each axis as a
    big-endian 32-bit integer, the numbers.

    Raises
    ------
    ValueError
        If it is no such file, or is longer or shorter than it says; the message names the file.
    """
    content = path.read_bytes()
    if content.startswith(_GZIP_MAGIC):
        try:
            content = gzip.decompress(content)
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(f"{path}: damaged gzip file ({error})") from error
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _DTYPES:
        raise ValueError(
            f"{path}: an IDX file begins with two zero bytes and a type among "
            f"{', '.join(f'{code:#04x}' for code in _DTYPES)}, this one with {content[:4].hex(' ') or 'nothing'}"
        )
    dtype, axes = np.dtype(_DTYPES[content[2]]), content[3]
    header = 4 + 4 * axes
    if len(content) < header:
        raise ValueError(f"{path}: cut off in its header, which takes {header} bytes; it has {len(content)}")
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", axes, offset=4))
    expected = header + math.prod(shape) * dtype.itemsize
    if len(content) != expected:
        raise ValueError(
            f"{path}: an IDX file of shape {shape} of {dtype} has {expected} bytes, this one {len(content)}"
        )
    return np.frombuffer(content, dtype, offset=header).reshape(shape)
