"""Matrix product on tensor cores: operands rounded to TF32 (10 bits of mantissa), sums in float32.

A block has a tile of 64 x 64, each of its four warps a quarter: 2 x 4 products of 16 x 8 by instructions that take 8 of
the inner dimension at once.
"""

from __future__ import annotations

from typing import Any

from fastconv.backends.cuda._numba import cuda, float32, inlined, jit, uint32
from fastconv.backends.cuda.intrinsics import mma_tf32, to_tf32
from fastconv.backends.cuda.kernels.elementwise import activation

TILE, SLAB, THREADS = 64, 16, 128
PITCH = TILE + 8  # of a row in shared memory: the lanes of a warp read 32 banks
LOADS = TILE * SLAB // THREADS  # elements of each operand that a thread fetches for a slab
DOWN, ACROSS, SUMS = 2, 4, 32  # products of a warp, and their elements that a thread has


@inlined
def _row(tile_b: Any, from_b: Any, four: Any, sums: Any, s: Any) -> None:
    """The products of one fragment of A."""
    for j in range(ACROSS):
        c = uint32(from_b + uint32(8 * j))
        two = tile_b[c], tile_b[c + uint32(4 * PITCH)]
        k = s + 4 * j
        made = mma_tf32(four, two, (sums[k], sums[k + 1], sums[k + 2], sums[k + 3]))
        sums[k], sums[k + 1], sums[k + 2], sums[k + 3] = made[0], made[1], made[2], made[3]


@inlined
def multiply(tile_a: Any, tile_b: Any, from_a: Any, from_b: Any, sums: Any) -> None:
    """Eight steps of the inner dimension."""
    for i in range(DOWN):
        r = uint32(from_a + uint32(16 * i))
        e, d = uint32(r + uint32(8)), uint32(r + uint32(4 * PITCH))
        four = tile_a[r], tile_a[e], tile_a[d], tile_a[uint32(d + uint32(8))]
        _row(tile_b, from_b, four, sums, 4 * ACROSS * i)


def matmul(trans_a: bool, trans_b: bool, has_bias: bool, has_residual: bool, kind: str) -> Any:
    """C = f(op(A) @ op(B) + bias + residual); C is (m, n), all row-major float32."""
    zero = float32(0)
    function = activation(kind, "float32")
    buffer, both = SLAB * PITCH, 2 * SLAB * PITCH

    @jit(THREADS, 4)
    def kernel(a, b, bias, residual, out, m, n, k, slope):
        m, n, k = uint32(m), uint32(n), uint32(k)
        tile_a, tile_b = cuda.shared.array(both, uint32), cuda.shared.array(both, uint32)
        sums = cuda.local.array(SUMS, float32)
        t = uint32(cuda.threadIdx.x)
        top, left = uint32(cuda.blockIdx.x) * uint32(TILE), uint32(cuda.blockIdx.y) * uint32(TILE)
        lane, warp = uint32(t & uint32(31)), uint32(t >> uint32(5))
        group, part = (
            uint32(lane >> uint32(2)),
            uint32(lane & uint32(3)),
        )  # as the instruction deals elements out
        row = uint32((warp >> uint32(1)) * uint32(32) + group)
        col = uint32((warp & uint32(1)) * uint32(32) + group)
        corner = uint32(left + col - group + uint32(2) * part)
        for i in range(SUMS):
            sums[i] = zero
        start, now = uint32(0), uint32(0)
        while start < k:
            for i in range(LOADS):
                e = uint32(t + uint32(i * THREADS))
                wide = uint32(now + (e >> uint32(6)) * uint32(PITCH) + (e & uint32(63)))
                deep = uint32(now + (e & uint32(15)) * uint32(PITCH) + (e >> uint32(4)))
                # neighbouring threads read neighbouring elements
                if trans_a:
                    r, c = uint32(top + (e & uint32(63))), uint32(start + (e >> uint32(6)))
                    tile_a[wide] = to_tf32(a[uint32(c * m + r)] if r < m and c < k else zero)
                else:
                    r, c = uint32(top + (e >> uint32(4))), uint32(start + (e & uint32(15)))
                    tile_a[deep] = to_tf32(a[uint32(r * k + c)] if r < m and c < k else zero)
                if trans_b:
                    r, c = uint32(start + (e & uint32(15))), uint32(left + (e >> uint32(4)))
                    tile_b[deep] = to_tf32(b[uint32(c * k + r)] if r < k and c < n else zero)
                else:
                    r, c = uint32(start + (e >> uint32(6))), uint32(left + (e & uint32(63)))
                    tile_b[wide] = to_tf32(b[uint32(r * n + c)] if r < k and c < n else zero)
            cuda.syncthreads()
            from_a, from_b = (
                uint32(now + part * uint32(PITCH) + row),
                uint32(now + part * uint32(PITCH) + col),
            )
            multiply(tile_a, tile_b, from_a, from_b, sums)  # in so many words: else sums are no registers
            multiply(
                tile_a, tile_b, uint32(from_a + uint32(8 * PITCH)), uint32(from_b + uint32(8 * PITCH)), sums
            )
            start = uint32(start + uint32(SLAB))
            now = uint32(uint32(buffer) - now)  # the other half, which all have done with: one barrier a slab
        for i in range(DOWN):
            for j in range(ACROSS):
                for q in range(4):
                    r = uint32(top + row + uint32(16 * i + 8 * (q >> 1)))
                    c = uint32(corner + uint32(8 * j + (q & 1)))
                    if r < m and c < n:
                        o = uint32(r * n + c)
                        total = sums[(i * ACROSS + j) * 4 + q]
                        if has_bias:
                            total += bias[c]
                        if has_residual:
                            total += residual[o]
                        out[o] = function(total, slope)

    return kernel
