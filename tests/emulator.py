"""Kernels without a device: compiled as a launch would, and their PTX executed on the host with every check on.

The tools come from the folder that ``FASTCONV_CUDA_TOOLS`` names, else from ``shared/tools`` beside the repository;
where they or numba-cuda are absent, importing this module skips the tests.
"""

from __future__ import annotations

import itertools
import os
import re
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest

import fastconv
from fastconv.backends.cuda import engine
from fastconv.backends.cuda.launch import Kernel
from kit import Array

pytest.importorskip("numba_cuda", reason="needs fastconv[cuda]")
TOOLS = Path(os.environ.get("FASTCONV_CUDA_TOOLS", Path(__file__).parents[2] / "shared" / "tools"))
if not (TOOLS / "ptxcpu.py").exists():
    pytest.skip(f"the tools that execute PTX are not in {TOOLS}", allow_module_level=True)
sys.path.append(str(TOOLS))

import nbtool  # type: ignore[import-not-found]  # noqa: E402
import ptxcpu  # type: ignore[import-not-found]  # noqa: E402
from numba import typeof, types  # noqa: E402


class _Translator(ptxcpu.Gen):  # type: ignore[misc]
    """Three opcodes more than the tool knows."""

    def ins(self, guard: Any, opcode: str, operands: list[str], text: str) -> str:
        name, _, kind = opcode.partition(".")
        if name == "copysign":
            sign, value = (self.rd(each, kind) for each in operands[1:])
            result = f"{'copysignf' if kind == 'f32' else 'copysign'}({value}, {sign})"
        elif name == "bfi":  # insert the low bits of one word in another
            inserted, word = (self.rd(each, kind) for each in operands[1:3])
            start, length = (self.rd(each, "u32") for each in operands[3:])
            ones = f"({length} >= {kind[1:]} ? ~0ull : (1ull << {length}) - 1)"
            result = f"(({word} & ~({ones} << {start})) | (({inserted} & {ones}) << {start}))"
        elif name == "cvt" and kind in ("sat.f32.f32", "sat.ftz.f32.f32"):  # NaN becomes 0
            kind = "f32"
            value = self.rd(operands[1], kind)
            result = f"({value} > 0 ? ({value} < 1 ? {value} : 1) : 0)"
        else:
            return super().ins(guard, opcode, operands, text)
        return self.wr(operands[0], kind, result)


ptxcpu.Gen = _Translator


def _legible(ptx: str) -> str:
    """PTX without the scopes in which libdevice takes halves of a float64: ``{ .reg .b32 %temp; mov ... }``."""
    return re.sub(
        r"\{\s*\.reg \.b32 %temp;\s*(mov\.b64[^;]*;)\s*\}",
        lambda scope: scope[1].replace("%temp", "_"),
        ptx,
    )


Target = tuple[int, int, str]
TARGETS: tuple[Target, ...] = (
    (7, 5, ""),
    (8, 0, ""),
    (8, 6, ""),
    (8, 9, ""),
    (9, 0, "a"),
    (10, 0, "a"),
    (12, 0, "a"),
)
USUAL: Target = (8, 0, "")
ORDERS = (0, 1, 2)  # of the threads of a block: forward, backward, at random


def signature(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Numba's types of what a launch passes."""
    return tuple(
        types.Array(typeof(each.dtype).dtype, 1, "C") if isinstance(each, np.ndarray) else typeof(each)
        for each in arguments
    )


@dataclass(frozen=True)
class Machine:
    """A kernel as the device would get it."""

    ptx: str
    cubin: bytes
    max_threads: int
    min_blocks: int

    def resources(self) -> dict[str, int]:
        """Registers, stack and static shared memory: REG, STACK, SHARED, LOCAL."""
        (used,) = nbtool.res_usage(self.cubin).values()
        return used

    def instructions(self) -> Counter[str]:
        """How often the machine code has each opcode, without its modifiers."""
        listed, _ = nbtool.parse(nbtool.sass(self.cubin))
        return Counter(opcode.split(".")[0] for _, opcode, _ in listed)


@lru_cache(None)
def assemble(kernel: Kernel, parameters: tuple[Any, ...], target: Target = USUAL) -> Machine:
    """Compile along the path of a launch on ``target``."""
    return assemble_dispatcher(kernel.build(), parameters, target)


def assemble_dispatcher(dispatcher: Any, parameters: tuple[Any, ...], target: Target = USUAL) -> Machine:
    """The same of what ``cuda.jit`` has made."""
    options = dispatcher.targetoptions
    bounds = options["launch_bounds"]
    device = SimpleNamespace(compute_capability=target[:2])  # which a kernel's functions are compiled for
    with mock.patch("numba.cuda.dispatcher.get_current_device", return_value=device):
        _, ptx, cubin = nbtool.build(dispatcher.py_func, parameters, target, launch_bounds=bounds)
    return Machine(ptx, cubin, *bounds)


@lru_cache(None)
def _executable(machine: Machine) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the tool leaves files to the garbage collector
        return ptxcpu.Compiled(_legible(machine.ptx), check=True)


def run_machine(
    machine: Machine, grid: Any, threads: int, arguments: Any, order: int = 0, read_only: Any = ()
) -> list[str]:
    """Execute on the host, arrays in place; returns what the checks found."""
    found = _executable(machine)(grid, threads, arguments, order=order, ro=read_only)
    if threads > machine.max_threads:
        found.append(f"{threads} threads, but the launch bound is {machine.max_threads}")
    return list(found)


def execute(
    kernel: Kernel, grid: Any, threads: int, *arguments: Any, order: int = 0, target: Target = USUAL
) -> list[str]:
    """Compile a kernel for its arguments and execute it: the findings (none is good)."""
    machine = assemble(kernel, signature(arguments), target)
    return run_machine(machine, grid, threads, arguments, order)


@dataclass
class Emulator:
    """An engine whose device is the host; keeps what was found, launched and uploaded."""

    target: Target = USUAL
    order: int = 0
    misaligned: bool = (
        False  # memory as a slice of somebody's array may begin: no better than the element's size
    )
    found: list[str] = field(default_factory=list)
    launched: list[tuple[Kernel, tuple[Any, ...]]] = field(default_factory=list)
    uploaded: list[tuple[Array, Array]] = field(default_factory=list)

    def capability(self) -> tuple[int, int]:
        return self.target[:2]

    def empty(self, size: int, dtype: str) -> Array:
        item = np.dtype(dtype).itemsize
        memory = np.full(
            max(size, 1) * item + 512, 0xFF, np.uint8
        )  # NaN, and no zero that a kernel forgot to write
        start = -memory.ctypes.data % 256 + (item if self.misaligned else 0)
        return memory[start : start + max(size, 1) * item].view(dtype)

    def upload(self, host: Array) -> Array:
        buffer = self.empty(host.size, host.dtype.name)
        buffer[: host.size] = host
        self.uploaded.append((buffer, buffer.copy()))
        return buffer

    def download(self, buffer: Array) -> Array:
        return buffer.copy()

    def launch(self, kernel: Kernel, grid: Any, threads: int, arguments: tuple[Any, ...]) -> None:
        self.launched.append((kernel, signature(arguments)))
        found = execute(kernel, grid, threads, *arguments, order=self.order, target=self.target)
        self.found += [f"{kernel}: {finding}" for finding in found]

    def assert_clean(self, *, in_place: bool = False) -> None:
        """No finding, something launched, and no input changed."""
        assert not self.found, "\n".join(self.found[:10])
        if not in_place:
            for buffer, before in self.uploaded:
                assert buffer.tobytes() == before.tobytes(), "a kernel wrote to its input"


@contextmanager
def emulated(**options: Any) -> Iterator[Emulator]:
    """The cuda backend, active, on an :class:`Emulator`."""
    made = Emulator(**options)
    former = engine.replace(made)
    try:
        with fastconv.use_backend("cuda"):
            yield made
    finally:
        engine.replace(former)


def both(function: Callable[[], Any], **options: Any) -> Iterator[tuple[Array, Array]]:
    """Results of ``function`` on the emulated device, every check clean, each beside the reference's."""
    with fastconv.use_backend("reference"):
        expected = function()
    with emulated(**options) as device:
        got = function()
        device.assert_clean()
    return zip(got, expected, strict=True)


def settings() -> Iterator[dict[str, Any]]:
    """Options of :func:`emulated`: each thread order, memory aligned and not."""
    for order, misaligned in itertools.product(ORDERS, (False, True)):
        yield {"order": order, "misaligned": misaligned}


def unsound(machine: Machine, *, double: bool = False) -> list[str]:
    """What the machine code has that it must not: spills, too many registers, 64-bit division, stray float64."""
    used, opcodes = machine.resources(), machine.instructions()
    registers = 65536 // (machine.max_threads * machine.min_blocks)
    checks = {
        f"a stack of {used['STACK']} bytes": used["STACK"] > 0,
        "local memory": bool(opcodes["LDL"] or opcodes["STL"]),
        f"{used['REG']} registers of {registers}": used["REG"] > registers,
        f"{used['SHARED']} bytes of shared memory": used["SHARED"] > 48 * 1024,
        "64-bit division": any(each in machine.ptx for each in ("div.u64", "div.s64", "rem.u64", "rem.s64")),
        "float64 instructions": not double and any(each[:2] in ("DA", "DM", "DF", "DS") for each in opcodes),
    }
    return [what for what, present in checks.items() if present]
