"""Sums of squares, and what diagnosis counts and sums of an array.

Sums are float64 of float32 elements, too: they are float64 by contract, and the square of a float32 need not be one.
Two float64 instructions an element, a conversion and a multiply-add, hardly slow a kernel that waits for memory even
where float64 has a 64th of float32's rate: the data sheet of a GeForce RTX 4090 allows 320 elements a nanosecond, its
memory delivers 250.
"""

from __future__ import annotations

from typing import Any

from fastconv.backends.cuda._numba import cuda, inlined, jit, real, uint32, uint64
from fastconv.backends.cuda.intrinsics import bits
from fastconv.backends.cuda.kernels.reduction import SPAN, THREADS, block_max, block_sum

KEYS = 2048  # sign, exponent and two bits of mantissa of a float32
ZEROS, DENORMALS, SLOTS = KEYS, KEYS + 1, KEYS + 2
NEGATIVE, RARE = (
    KEYS // 2,
    KEYS // 2 - 4,
)  # the sign's bit of a key; from here keys of one sign are not finite
BIAS = 4 * (1023 - 127)  # between the exponents of float64 and float32, in quarters of an octave


def squares(wide: str) -> Any:
    """Sum of the squares of a block's elements, in ``wide``: ``partial[at + block]``."""
    number = real(wide)

    @jit(THREADS)
    def kernel(x, partial, at, size):
        shared = cuda.shared.array(THREADS, number)
        thread, block = uint32(cuda.threadIdx.x), uint32(cuda.blockIdx.x)
        i = uint32(block * uint32(SPAN) + thread)
        end = min(uint32((block + uint32(1)) * uint32(SPAN)), uint32(size))
        total = number(0)
        while i < end:
            value = number(x[i])
            total += value * value
            i = uint32(i + uint32(THREADS))
        total = block_sum(total, shared, thread)
        if thread == uint32(0):
            partial[uint32(uint32(at) + block)] = total

    return kernel


def segments(wide: str) -> Any:
    """``out[k]``: sum of ``partial[starts[k] : starts[k + 1]]``."""
    number = real(wide)

    @jit(THREADS)
    def kernel(partial, starts, out, count):
        k = uint32(cuda.blockIdx.x) * uint32(THREADS) + uint32(cuda.threadIdx.x)
        if k < uint32(count):
            total = number(0)
            at = starts[k]
            while at < starts[uint32(k + uint32(1))]:
                total += partial[at]
                at = uint32(at + uint32(1))
            out[k] = total

    return kernel


@inlined
def _classes_of_single(x: Any) -> Any:
    """(key, whether it is finite, zero, denormal) of a float32."""
    word = bits(x)
    magnitude = uint32(word & uint32(0x7FFFFFFF))
    denormal = magnitude != uint32(0) and magnitude < uint32(0x00800000)
    return uint32(word >> uint32(21)), magnitude < uint32(0x7F800000), magnitude == uint32(0), denormal


@inlined
def _classes_of_double(x: Any) -> Any:
    """The same of a float64; a finite one beyond float32 has its outermost key, one below its middle one."""
    word = bits(x)
    high, low = uint32(word >> uint64(32)), uint32(word)
    magnitude = uint32(high & uint32(0x7FFFFFFF))
    zero = magnitude == uint32(0) and low == uint32(0)
    denormal = not zero and magnitude < uint32(0x00100000)
    quarter = uint32(magnitude >> uint32(18))  # of an octave, as in the key, from another exponent on
    key = min(uint32(quarter - uint32(BIAS)), uint32(RARE - 1)) if quarter > uint32(BIAS) else uint32(0)
    key = uint32(key + (high >> uint32(31)) * uint32(NEGATIVE))
    return key, magnitude < uint32(0x7FF00000), zero, denormal


_CLASSES = {"float32": _classes_of_single, "float64": _classes_of_double}


def counts_and_sums(dtype: str, wide: str) -> Any:
    """Of a block's finite elements: sum, least and greatest; added to ``counts``: their keys, but for zeros, which are
    in a slot of their own, and denormals once more in another.

    Counts are integers, whose sums do not depend on the order of the threads.
    """
    number, total_type = real(dtype), real(wide)
    lowest = number(float("-inf"))
    classify = _CLASSES[dtype]

    @jit(THREADS)
    def kernel(x, counts, sums, least, greatest, size):
        table = cuda.shared.array(SLOTS, uint32)
        shared = cuda.shared.array(THREADS, total_type)
        extremes = cuda.shared.array(THREADS, number)
        thread, block = uint32(cuda.threadIdx.x), uint32(cuda.blockIdx.x)
        slot = thread
        while slot < uint32(SLOTS):
            table[slot] = uint32(0)
            slot = uint32(slot + uint32(THREADS))
        cuda.syncthreads()
        i = uint32(block * uint32(SPAN) + thread)
        end = min(uint32((block + uint32(1)) * uint32(SPAN)), uint32(size))
        total, low, high = total_type(0), lowest, lowest
        zeros, denormals = uint32(0), uint32(0)  # in registers: many threads would wait for one slot
        while i < end:
            value = x[i]
            key, finite, zero, denormal = classify(value)
            if finite:
                total += total_type(value)
                low = -value if -value > low else low
                high = value if value > high else high
                if zero:
                    zeros = uint32(zeros + uint32(1))
                else:
                    cuda.atomic.add(table, key, uint32(1))
                if denormal:
                    denormals = uint32(denormals + uint32(1))
            i = uint32(i + uint32(THREADS))
        cuda.atomic.add(table, uint32(ZEROS), zeros)
        cuda.atomic.add(table, uint32(DENORMALS), denormals)
        total = block_sum(total, shared, thread)
        low = block_max(low, extremes, thread)
        high = block_max(high, extremes, thread)
        if thread == uint32(0):
            sums[block], least[block], greatest[block] = total, -low, high
        slot = thread
        while slot < uint32(SLOTS):
            if table[slot] != uint32(0):
                cuda.atomic.add(counts, slot, table[slot])
            slot = uint32(slot + uint32(THREADS))

    return kernel


def deviations(dtype: str, wide: str) -> Any:
    """Sum of the squared distances of a block's finite elements from ``mean``."""
    total_type = real(wide)
    classify = _CLASSES[dtype]

    @jit(THREADS)
    def kernel(x, sums, mean, size):
        shared = cuda.shared.array(THREADS, total_type)
        thread, block = uint32(cuda.threadIdx.x), uint32(cuda.blockIdx.x)
        i = uint32(block * uint32(SPAN) + thread)
        end = min(uint32((block + uint32(1)) * uint32(SPAN)), uint32(size))
        total = total_type(0)
        while i < end:
            _, finite, _, _ = classify(x[i])
            if finite:
                distance = total_type(x[i]) - mean
                total += distance * distance
            i = uint32(i + uint32(THREADS))
        total = block_sum(total, shared, thread)
        if thread == uint32(0):
            sums[block] = total

    return kernel
