"""The checks are worth something: kernels with a seeded defect are caught, the same without it are clean."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="needs fastconv[cuda]")

from emulator import ORDERS, assemble_dispatcher, run_machine, signature, unsound
from fastconv.backends.cuda import intrinsics
from fastconv.backends.cuda._numba import cuda, float32, jit, uint32, uint64
from fastconv.backends.cuda.launch import Kernel

THREADS = 64


def findings(dispatcher: Any, blocks: int, *arguments: Any, order: int = 0) -> str:
    machine = assemble_dispatcher(dispatcher, signature(arguments))
    return "\n".join(run_machine(machine, (blocks,), THREADS, arguments, order))


def reversed_blocks(barrier: bool) -> Any:
    """Each block's elements in reverse, by way of shared memory."""

    @jit(THREADS)
    def kernel(x, y):
        tile = cuda.shared.array(THREADS, float32)
        t = uint32(cuda.threadIdx.x)
        start = uint32(cuda.blockIdx.x) * uint32(THREADS)
        tile[t] = x[start + t]
        if barrier:
            cuda.syncthreads()
        y[start + t] = tile[uint32(THREADS - 1) - t]

    return kernel


@pytest.mark.parametrize("order", ORDERS)
def test_a_missing_barrier(order: int) -> None:
    x = np.arange(2 * THREADS, dtype=np.float32)
    y = np.zeros_like(x)
    assert not findings(reversed_blocks(True), 2, x, y, order=order)
    np.testing.assert_array_equal(y.reshape(2, -1), x.reshape(2, -1)[:, ::-1])
    found = findings(reversed_blocks(False), 2, x, y, order=order)
    assert "UNINIT" in found or "RACE" in found


def test_a_grid_that_is_too_large() -> None:
    x = np.zeros(2 * THREADS, np.float32)
    assert "OOB" in findings(reversed_blocks(True), 3, x, np.zeros_like(x)).upper()


def test_a_barrier_that_not_all_threads_reach() -> None:
    @jit(THREADS)
    def kernel(x):
        if cuda.threadIdx.x < 40:
            cuda.syncthreads()
        x[cuda.threadIdx.x] = float32(1)

    assert findings(kernel, 1, np.zeros(THREADS, np.float32))


def test_misaligned_vectors() -> None:
    @jit(THREADS)
    def kernel(x, y):
        i = uint32(cuda.threadIdx.x) * uint32(4)
        intrinsics.store128(y, i, intrinsics.load128(x, i))

    memory = np.arange(4 * THREADS + 68, dtype=np.float32)
    aligned = -memory.ctypes.data % 16 // 4
    y = np.zeros_like(memory)
    start = -y.ctypes.data % 16 // 4
    target = y[start : start + 4 * THREADS]
    assert not findings(kernel, 1, memory[aligned : aligned + 4 * THREADS], target)
    np.testing.assert_array_equal(target, memory[aligned : aligned + 4 * THREADS])
    assert (
        "MISALIGNED" in findings(kernel, 1, memory[aligned + 1 : aligned + 1 + 4 * THREADS], target).upper()
    )


def test_the_gate_refuses_64_bit_division_and_float64_in_float32_kernels() -> None:
    def scaling(factor: Any, wide: Any) -> Any:
        @jit(THREADS)
        def kernel(x, n):
            i = uint32(cuda.threadIdx.x)
            number = wide(n) * wide(n)
            x[uint32((number + wide(i)) // number)] = x[i] * factor + factor

        return kernel

    parameters = signature((np.zeros(THREADS, np.float32), np.uint32(3)))
    bad = assemble_dispatcher(scaling(0.1, uint64), parameters)
    assert {"64-bit division", "float64 instructions"} <= set(unsound(bad))


def test_the_gate_refuses_spills() -> None:
    @jit(1024, 2)  # 32 registers
    def kernel(x, y):
        kept = cuda.local.array(64, float32)
        for i in range(64):
            kept[i] = x[i]
        cuda.syncthreads()
        for i in range(64):
            y[i] = kept[63 - i] * kept[i]

    both = signature((np.zeros(64, np.float32),) * 2)
    assert "local memory" in unsound(assemble_dispatcher(kernel, both))


def test_intrinsics_compute_what_their_names_say() -> None:
    @jit(THREADS)
    def kernel(a, b, high, quotient):
        i = uint32(cuda.threadIdx.x)
        high[i] = intrinsics.mulhi(a[i], b[i])
        quotient[i] = intrinsics.udiv(a[i], b[i])

    a, b = np.random.default_rng(0).integers(1, 2**32, (2, THREADS), np.uint32)
    high, quotient = np.zeros((2, THREADS), np.uint32)
    assert not findings(kernel, 1, a, b, high, quotient)
    np.testing.assert_array_equal(high, (a.astype(np.uint64) * b) >> np.uint64(32))
    np.testing.assert_array_equal(quotient, a // b)


def test_a_kernel_is_made_once() -> None:
    kernel = Kernel("elementwise", "add", (False, "float32"))
    assert kernel.build() is Kernel("elementwise", "add", (False, "float32")).build()
