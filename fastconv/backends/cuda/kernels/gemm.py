"""Matrix product by tiles of 64 x 64, 4 x 4 a thread, with the next slab in registers while one is multiplied."""

from __future__ import annotations

from typing import Any

from fastconv.backends.cuda._numba import cuda, jit, real, uint32, uint64
from fastconv.backends.cuda.kernels.elementwise import activation

TILE = 64
SLAB = 16  # of the inner dimension
THREADS = 256
PITCH = (
    TILE + 4
)  # of a row in shared memory: spreads transposed stores over the banks, keeps 16-byte alignment
PART = 4  # rows and columns of a thread's part of the tile, and elements of each operand that it loads
SUMS = PART * PART


def matmul(trans_a: bool, trans_b: bool, has_bias: bool, has_residual: bool, kind: str, dtype: str) -> Any:
    """C = f(op(A) @ op(B) + bias + residual); C is (m, n), all row-major."""
    number = real(dtype)
    zero = number(0)
    function = activation(kind, dtype)
    buffer, both = SLAB * PITCH, 2 * SLAB * PITCH

    @jit(THREADS, 2)
    def kernel(a, b, bias, residual, out, m, n, k, slope):
        m, n, k = uint32(m), uint32(n), uint32(k)
        tile_a = cuda.shared.array(both, number, alignment=16)
        tile_b = cuda.shared.array(both, number, alignment=16)
        sums = cuda.local.array(SUMS, number)
        next_a, next_b = cuda.local.array(PART, number), cuda.local.array(PART, number)
        part_a, part_b = cuda.local.array(PART, number), cuda.local.array(PART, number)
        t = uint32(cuda.threadIdx.x)
        top, left = uint32(cuda.blockIdx.x) * uint32(TILE), uint32(cuda.blockIdx.y) * uint32(TILE)
        row, col = uint32((t >> uint32(4)) * uint32(PART)), uint32((t & uint32(15)) * uint32(PART))
        for i in range(SUMS):
            sums[i] = zero
        start, now = uint32(0), uint32(0)
        while True:
            if start < k:
                for i in range(PART):
                    e = uint32(t + uint32(i * THREADS))
                    # neighbouring threads read neighbouring elements
                    if trans_a:
                        r, c = uint32(top + (e & uint32(63))), uint32(start + (e >> uint32(6)))
                        next_a[i] = a[uint32(c * m + r)] if r < m and c < k else zero
                    else:
                        r, c = uint32(top + (e >> uint32(4))), uint32(start + (e & uint32(15)))
                        next_a[i] = a[uint32(r * k + c)] if r < m and c < k else zero
                    if trans_b:
                        r, c = uint32(start + (e & uint32(15))), uint32(left + (e >> uint32(4)))
                        next_b[i] = b[uint32(c * k + r)] if r < k and c < n else zero
                    else:
                        r, c = uint32(start + (e >> uint32(6))), uint32(left + (e & uint32(63)))
                        next_b[i] = b[uint32(r * n + c)] if r < k and c < n else zero
            if start:
                # in 64 bits, where Numba adds constants to addresses, not to indices that may wrap
                from_a = uint64(uint32(uint32(buffer) - now + row))
                from_b = uint64(uint32(uint32(buffer) - now + col))
                for s in range(SLAB):
                    for i in range(PART):
                        part_a[i] = tile_a[from_a + uint64(s * PITCH + i)]
                        part_b[i] = tile_b[from_b + uint64(s * PITCH + i)]
                    for i in range(PART):
                        for j in range(PART):
                            sums[i * PART + j] += part_a[i] * part_b[j]
            if start >= k:
                break
            for i in range(PART):
                e = uint32(t + uint32(i * THREADS))
                wide = uint32(now + (e >> uint32(6)) * uint32(PITCH) + (e & uint32(63)))
                deep = uint32(now + (e & uint32(15)) * uint32(PITCH) + (e >> uint32(4)))
                tile_a[wide if trans_a else deep] = next_a[i]
                tile_b[deep if trans_b else wide] = next_b[i]
            cuda.syncthreads()
            start = uint32(start + uint32(SLAB))
            now = uint32(uint32(buffer) - now)
        for i in range(PART):
            r = uint32(top + row + uint32(i))
            for j in range(PART):
                c = uint32(left + col + uint32(j))
                if r < m and c < n:
                    o = uint32(r * n + c)
                    total = sums[i * PART + j]
                    if has_bias:
                        total += bias[c]
                    if has_residual:
                        total += residual[o]
                    out[o] = function(total, slope)

    return kernel
