"""Depthwise convolutions on the device at sizes around the block; integers, so that every sum is exact."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="needs fastconv[cuda]")

import fastconv
import fastconv.functional as F
import fastconv.grad as G
from emulator import ORDERS, TARGETS, assemble, emulated, unsound
from fastconv._spec import ConvSpec
from fastconv.backends.cuda._depthwise import LEAST_PART, THREADS, parts_of
from kit import integers

# input, weight, arguments: blocks of 1, THREADS - 1, THREADS, THREADS + 1 threads, multipliers, uneven strides
SHAPES = [
    ((1, 2, 1, 1), (2, 1, 1, 1), {}),
    ((1, 3, 5, 17), (3, 1, 3, 3), {"padding": 1}),
    ((1, 2, 8, 16), (4, 1, 5, 3), {"padding": "same"}),
    ((1, 257, 2, 1), (257, 1, 2, 1), {}),
    ((2, 3, 11, 9), (9, 1, 3, 2), {"stride": (3, 2), "dilation": (2, 3), "padding": (2, 0)}),
    ((2, 2, 13), (2, 1, 4), {"stride": 2, "padding": 3}),
    ((2, 2, 4, 5, 6), (4, 1, 2, 3, 2), {"stride": (1, 2, 1), "padding": (1, 0, 1)}),
    ((3, 2, 33, 31), (2, 1, 3, 3), {"padding": 1}),  # in two parts of the weight's gradient
]


@pytest.mark.parametrize(("shape", "weight", "options"), SHAPES, ids=str)
def test_sums_are_exact(shape: tuple[int, ...], weight: tuple[int, ...], options: dict) -> None:
    rng = np.random.default_rng(0)
    options = {**options, "groups": shape[1]}
    d = len(shape) - 2
    conv, of_input, of_weight = (
        getattr(F, f"conv{d}d"),
        getattr(G, f"conv{d}d_input"),
        getattr(G, f"conv{d}d_weight"),
    )
    x, w, bias = (integers(rng, each, "float32") for each in (shape, weight, weight[0]))
    with fastconv.use_backend("reference"):
        y = conv(x, w, bias, **options)
        dy = integers(rng, y.shape, "float32")
        expected = y, of_input(shape, w, dy, **options), of_weight(x, weight, dy, **options)
    for order in ORDERS:
        with emulated(order=order) as device:
            got = (
                conv(x, w, bias, **options),
                of_input(shape, w, dy, **options),
                of_weight(x, weight, dy, **options),
            )
            device.assert_clean()
        for one, other in zip(got, expected, strict=True):
            np.testing.assert_array_equal(one, other)
    for kernel, parameters in device.launched:
        assert kernel.module == "depthwise"
        assert not unsound(assemble(kernel, parameters)), kernel


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: "sm_{}{}{}".format(*target))
def test_machine_code_is_sound_on(target: tuple[int, int, str]) -> None:
    rng = np.random.default_rng(0)
    x, w = integers(rng, (3, 2, 33, 31), "float32"), integers(rng, (2, 1, 3, 3), "float32")
    with emulated() as device:
        y = F.conv2d(x, w, padding=1, groups=2)
        G.conv2d_input(x.shape, w, y, padding=1, groups=2)
        G.conv2d_weight(x, w.shape, y, padding=1, groups=2)
    assert len(device.launched) == 4  # the weight's gradient takes two
    for kernel, parameters in device.launched:
        assert not unsound(assemble(kernel, parameters, target)), kernel


def test_parts_cover_the_outputs_and_are_no_more_than_needed() -> None:
    assert parts_of(18, LEAST_PART) == (1, LEAST_PART)
    assert parts_of(18, LEAST_PART + 1) == (2, LEAST_PART // 2 + 1)
    assert parts_of(10**6, 100 * LEAST_PART) == (1, 100 * LEAST_PART)
    for elements in (1, 18, 900):
        for outputs in (0, 1, THREADS, 10**7 + 1):
            parts, part = parts_of(elements, outputs)
            assert parts * part >= outputs


def test_other_groups_are_left_to_the_matrix_product_with_a_reason() -> None:
    for channels, groups in ((4, 2), (1, 1)):
        spec = ConvSpec.from_shapes(
            (1, channels, 5, 5), (4, channels // groups, 3, 3), "float32", groups=groups
        )
        choice = fastconv._dispatch.choose("cuda", "conv_forward", spec)
        assert choice.implementation.name == "implicit_gemm"
        assert f"its {channels} input channels are in {groups} groups" in choice.why
