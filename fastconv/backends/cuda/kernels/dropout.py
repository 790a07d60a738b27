"""Masks from Philox 4x32-10, one bit per element, and their application.

Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

from typing import Any

from fastconv.backends.cuda._numba import cuda, inlined, jit, real, uint8, uint32, uint64
from fastconv.backends.cuda.intrinsics import mulhi, udiv

THREADS = 256
ROUNDS = 10
FACTOR_0, FACTOR_1 = uint32(0xD2511F53), uint32(0xCD9E8D57)
STEP_0, STEP_1 = uint32(0x9E3779B9), uint32(0xBB67AE85)
NUMBERS = uint64(2**61 - 1)  # blocks of eight elements are numbered in so many bits


@inlined
def two_bits(word: Any, threshold: Any) -> Any:
    """Which halves of a word reach the threshold, the low one first."""
    return uint32(word & uint32(0xFFFF) >= threshold) | (uint32(word >> uint32(16) >= threshold) << uint32(1))


@inlined
def kept(number: Any, key_0: Any, key_1: Any, threshold: Any) -> Any:
    """Keep-bits of the eight elements of a Philox block: 16 random bits each, low half before high half."""
    block = number & NUMBERS
    c0, c1 = uint32(block), uint32(block >> uint64(32))
    c2, c3 = uint32(0), uint32(0)
    k0, k1 = uint32(key_0), uint32(key_1)
    for _ in range(ROUNDS):
        low_0, high_0 = uint32(FACTOR_0 * c0), mulhi(FACTOR_0, c0)
        low_1, high_1 = uint32(FACTOR_1 * c2), mulhi(FACTOR_1, c2)
        c0, c1, c2, c3 = uint32(high_1 ^ c1 ^ k0), low_1, uint32(high_0 ^ c3 ^ k1), low_0
        k0, k1 = uint32(k0 + STEP_0), uint32(k1 + STEP_1)  # Numba adds in 64 bits
    low = two_bits(c0, threshold) | (two_bits(c1, threshold) << uint32(2))
    high = two_bits(c2, threshold) | (two_bits(c3, threshold) << uint32(2))
    return uint32(low | (high << uint32(4)))


def mask(shift: int) -> Any:
    """Keep-bits of the stream from element ``8 * first + shift``, a byte a thread; zeros behind the last."""

    @jit(THREADS)
    def kernel(mask, size, first, key_0, key_1, threshold):
        byte = uint32(cuda.blockIdx.x) * uint32(THREADS) + uint32(cuda.threadIdx.x)
        start = uint32(byte << uint32(3))
        if start < uint32(size):
            number = uint64(first) + uint64(byte)
            bits = kept(number, key_0, key_1, uint32(threshold))
            if shift:
                more = kept(number + uint64(1), key_0, key_1, uint32(threshold))
                bits = uint32((bits >> uint32(shift)) | (more << uint32(8 - shift)))
            left = uint32(size) - start
            mask[byte] = uint8(bits & uint32((uint32(1) << min(left, uint32(8))) - uint32(1)))

    return kernel


def apply(inner: bool, dtype: str) -> Any:
    """out = x * bit * scale; one bit per ``inner`` elements, or per element. A dropped NaN stays NaN."""
    zero = real(dtype)(0)

    @jit(THREADS)
    def kernel(x, mask, out, size, elements, scale):
        i = uint32(cuda.blockIdx.x) * uint32(THREADS) + uint32(cuda.threadIdx.x)
        if i < uint32(size):
            bit = udiv(i, uint32(elements)) if inner else i
            keeps = (uint32(mask[bit >> uint32(3)]) >> (bit & uint32(7))) & uint32(1)
            out[i] = x[i] * (scale if keeps else zero)

    return kernel


def drop_block(rows: int, cols: int) -> Any:
    """Keep-bits with a block of rows x cols dropped around each zero bit of ``centres`` whose block fits the map."""
    above, left = uint32(rows // 2), uint32(cols // 2)
    below, right = uint32((rows - 1) // 2), uint32((cols - 1) // 2)

    @jit(THREADS)
    def kernel(centres, mask, size, height, width):
        height, width = uint32(height), uint32(width)
        byte = uint32(cuda.blockIdx.x) * uint32(THREADS) + uint32(cuda.threadIdx.x)
        start = uint32(byte << uint32(3))
        if start >= uint32(size):
            return
        bits = uint32(0)
        for lane in range(8):
            position = uint32(start + uint32(lane))
            if position < uint32(size):
                line = udiv(position, width)
                plane = uint32(udiv(line, height) * height)
                row, col = uint32(line - plane), uint32(position - line * width)
                top = uint32(row - below) if row >= above + below else above
                bottom = min(uint32(row + above), uint32(height - uint32(1) - below))
                first = uint32(col - right) if col >= left + right else left
                last = min(uint32(col + left), uint32(width - uint32(1) - right))
                keeps = uint32(1)
                for r in range(top, bottom + uint32(1)):
                    for c in range(first, last + uint32(1)):
                        bit = uint32((plane + uint32(r)) * width + uint32(c))
                        keeps = uint32(keeps & (uint32(centres[bit >> uint32(3)]) >> (bit & uint32(7))))
                bits = uint32(bits | (keeps << uint32(lane)))
        mask[byte] = uint8(bits)

    return kernel
