"""Dropout masks: the generator's known answers, the definition bit by bit, and what follows from it."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

import fastconv
import fastconv.functional as F
from fastconv import _dropout
from fastconv._spec import DropBlockSpec, DropoutSpec
from fastconv.backends import _cpu_pointwise as cpu
from fastconv.backends import reference
from kit import with_threads

pytestmark = pytest.mark.usefixtures("isa")

DTYPES = ("float32", "float64")
SEED = 0x0123456789ABCDEF
# around a byte, a vector of counters, a batch of blocks of shifted masks (2048 bits) and a task (16384 elements)
SIZES = (
    0,
    1,
    7,
    8,
    9,
    31,
    32,
    33,
    63,
    64,
    65,
    127,
    128,
    129,
    1009,
    2047,
    2048,
    2049,
    16383,
    16384,
    16385,
    40009,
)
# whole and broken blocks; the low counter word wraps inside the mask; the element number itself wraps
OFFSETS = (0, 1, 7, 8, 12345, 2**35 - 160, 2**35 - 3, 2**64 - 50)


def mask_spec(size: int, p: float = 0.5, offset: int = 0, inner: int = 1, seed: int = SEED) -> DropoutSpec:
    return DropoutSpec(size=size, inner=inner, p=p, seed=seed, offset=offset)


def bits(mask: np.ndarray, size: int) -> np.ndarray:
    return np.unpackbits(mask, bitorder="little")[:size]


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_known_answers(counter: tuple[int, ...], key: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """The vectors that come with Random123."""
    assert _dropout.philox_block(counter, key) == expected


def test_mask_is_the_definition() -> None:
    """Element e owns halfword e % 8 of block e // 8; it is kept where that is not below p * 65536."""
    offset, size, p = 2**35 + 3, 100, 0.3
    expected = []
    for e in range(offset, offset + size):
        block = e // 8
        words = _dropout.philox_block(
            (block & 0xFFFFFFFF, block >> 32, 0, 0), (SEED & 0xFFFFFFFF, SEED >> 32)
        )
        halfword = words[e % 8 // 2] >> (16 if e % 2 else 0) & 0xFFFF
        expected.append(halfword >= round(p * 65536))
    mask = cpu.dropout_mask(mask_spec(size, p, offset))
    np.testing.assert_array_equal(bits(mask, size), expected)


@pytest.mark.parametrize("p", [0.0, 1e-5, 0.1, 0.5, 0.9, 1 - 2**-16, 1.0])
@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("size", SIZES)
def test_mask_equals_the_reference(size: int, offset: int, p: float) -> None:
    spec = mask_spec(size, p, offset)
    np.testing.assert_array_equal(cpu.dropout_mask(spec), reference.dropout_mask(spec))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("offset", [0, 3])
@pytest.mark.parametrize("size", SIZES)
def test_one_pass_equals_two(size: int, offset: int, dtype: str) -> None:
    spec = mask_spec(size, 0.3, offset)
    x = np.random.default_rng(0).standard_normal(size).astype(dtype)
    out, mask = cpu.dropout_forward(spec, x)
    np.testing.assert_array_equal(mask, cpu.dropout_mask(spec))
    np.testing.assert_array_equal(out, cpu.dropout_apply(spec, x, mask))
    np.testing.assert_array_equal(out, reference.dropout_apply(spec, x, mask))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("inner", [2, 9, 49, 20_000])
@pytest.mark.parametrize("size", [0, 1, 13, 100])
def test_channels_share_a_bit(size: int, inner: int, dtype: str) -> None:
    spec = mask_spec(size, 0.4, 5, inner)
    x = np.random.default_rng(0).standard_normal(size * inner).astype(dtype)
    out, mask = cpu.dropout_forward(spec, x)
    np.testing.assert_array_equal(mask, reference.dropout_mask(spec))
    np.testing.assert_array_equal(out, reference.dropout_apply(spec, x, mask))


def test_mask_does_not_depend_on_threads() -> None:
    x = np.random.default_rng(0).standard_normal(200_003).astype(np.float32)
    spec = mask_spec(x.size, 0.3, 5)
    results = []
    for n in (1, 2, 3):
        with with_threads(n):
            out, mask = cpu.dropout_forward(spec, x)
            results.append((out.tobytes(), mask.tobytes(), cpu.dropout_mask(spec).tobytes()))
    assert results[0] == results[1] == results[2]
    assert results[0][1] == results[0][2]


def test_mask_does_not_depend_on_the_split() -> None:
    """Parts of a batch, each with its own offset, drop what the whole batch drops."""
    x = np.ones(50_000, np.float32)
    whole = F.dropout(x, 0.3, seed=7, offset=11)
    edges = [0, 1, 10, 1234, 16385, 40_000, 50_000]
    parts = [F.dropout(x[a:b], 0.3, seed=7, offset=11 + a) for a, b in itertools.pairwise(edges)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("p", [0.01, 0.1, 0.25, 0.5, 0.75, 0.99])
def test_keep_rate(p: float) -> None:
    """Hoeffding: a fair generator misses its rate by more than t with probability at most 2 exp(-2 n t^2)."""
    n = 2**20
    kept = bits(cpu.dropout_mask(mask_spec(n, p)), n)
    rate = 1 - round(p * 65536) / 65536
    assert abs(kept.mean() - rate) < math.sqrt(math.log(2 / 1e-9) / (2 * n))


def test_bits_are_uncorrelated() -> None:
    """Neighbours, elements a block apart, and the masks of neighbouring seeds, by the same bound."""
    n = 2**20
    first, second = (bits(cpu.dropout_mask(mask_spec(n, seed=s)), n).astype(bool) for s in (1, 2))
    bound = math.sqrt(math.log(2 / 1e-9) / (2 * (n - 8)))
    for lag in (1, 2, 7, 8):
        assert abs(np.mean(first[lag:] ^ first[:-lag]) - 0.5) < bound
    assert abs(np.mean(first ^ second) - 0.5) < bound


def test_dropped_nan_stays_nan_as_in_pytorch() -> None:
    x = np.full(64, np.nan, np.float32)
    x[32:] = np.inf
    out, mask = cpu.dropout_forward(mask_spec(64), x)
    kept = bits(mask, 64).astype(bool)
    assert np.isnan(out[:32]).all()
    np.testing.assert_array_equal(np.isnan(out[32:]), ~kept[32:])


def test_everything_dropped() -> None:
    out, mask = cpu.dropout_forward(mask_spec(1000, 1.0), np.ones(1000, np.float32))
    assert not out.any() and not mask.any()


def test_input_may_be_read_only() -> None:
    x = np.ones(100, np.float32)
    x.flags.writeable = False
    out, mask = cpu.dropout_forward(mask_spec(100), x)
    mask.flags.writeable = False
    np.testing.assert_array_equal(cpu.dropout_apply(mask_spec(100), x, mask), out)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradient_is_the_mask(dtype: str) -> None:
    """Dropout with a fixed mask is linear: its adjoint is itself."""
    rng = np.random.default_rng(0)
    x, g = rng.standard_normal((2, 1001)).astype(dtype)
    y, mask = F.dropout(x, 0.25, seed=3, return_mask=True)
    dx = fastconv.grad.dropout(g, mask, 0.25)
    forward, backward = np.sum(y.astype(np.float64) * g), np.sum(x.astype(np.float64) * dx)
    assert forward == pytest.approx(backward, rel=1000 * float(np.finfo(dtype).eps))


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("block", [(1, 1), (2, 3), (3, 3), (4, 4), (7, 5), (7, 9)])
@pytest.mark.parametrize("planes", [(0, 3), (1, 1), (2, 4), (3, 7)])
def test_drop_block_mask_equals_the_reference(
    planes: tuple[int, int], block: tuple[int, int], p: float
) -> None:
    spec = DropBlockSpec(
        batch=planes[0], channels=planes[1], size=(7, 9), block=block, p=p, seed=SEED, offset=11
    )
    expected = reference.drop_block_mask(spec)
    for n in (1, 2, 3):
        with with_threads(n):
            np.testing.assert_array_equal(cpu.drop_block_mask(spec), expected)


def test_drop_block_drops_blocks() -> None:
    """Every dropped element lies in a wholly dropped block, and the rate is near p."""
    n, size, b, p = 64, 28, 5, 0.1
    spec = DropBlockSpec(batch=n, channels=4, size=(size, size), block=(b, b), p=p, seed=1, offset=0)
    kept = bits(cpu.drop_block_mask(spec), n * 4 * size * size).reshape(-1, size, size).astype(bool)
    windows = np.lib.stride_tricks.sliding_window_view(~kept, (b, b), axis=(1, 2)).all(axis=(3, 4))
    covered = np.zeros_like(kept)
    for i, j in np.ndindex(b, b):
        covered[:, i : i + size - b + 1, j : j + size - b + 1] |= windows
    np.testing.assert_array_equal(covered, ~kept)
    assert 0.8 * p < (~kept).mean() <= p
