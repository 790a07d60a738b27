"""Every compiled convolution against the reference: exact on integers, within the rounding bound on random floats.

All implementations that accept a problem run it on every instruction set, with one thread and two, on results
prefilled with NaN; what the thread count must not change is compared bit by bit.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from fastconv import _dispatch
from fastconv._spec import ConvSpec, MatmulSpec
from kit import Array, assert_within, bits, every_setting, integers, kernels, reference, with_threads

OPS = ("conv_forward", "conv_input_grad", "conv_weight_grad")

# Register tiles have 4, 6 or 12 rows and 4 to 32 columns, blocks 256 columns and a depth of 1024 bytes.
ROWS = (1, 3, 4, 5, 6, 7, 11, 12, 13, 23, 24, 25)
COLUMNS = (1, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 255, 256, 257, 512, 521)
DEPTHS = (1, 2, 127, 128, 129, 255, 256, 257, 512, 521)


@st.composite
def conv_specs(draw: st.DrawFn) -> ConvSpec:
    ndim = draw(st.integers(1, 3))
    small = 5 if ndim == 3 else 20
    dims = range(ndim)
    groups = draw(st.sampled_from([1, 1, 1, 2, 3, 5]))
    kernel = [draw(st.integers(1, 5 if ndim < 3 else 3)) for _ in dims]
    dilation = [draw(st.sampled_from([1, 1, 2, 3])) for _ in dims]
    stride = [draw(st.sampled_from([1, 1, 2, 3, 7])) for _ in dims]
    sides = [draw(st.integers(0, 4)) for _ in range(2 * ndim)]
    size = []
    for i in dims:
        least = max(1, dilation[i] * (kernel[i] - 1) + 1 - sides[2 * i] - sides[2 * i + 1])
        size.append(least + draw(st.integers(0, small)))
    if ndim == 1 and draw(st.booleans()):
        size[0] += draw(st.sampled_from([100, 240, 256, 500]))
    padding: Any = sides
    if draw(st.integers(0, 3)) == 0:
        stride, padding = [1] * ndim, "same"
    channels = draw(st.sampled_from([1, 1, 2, 3, 8]))
    return ConvSpec.from_shapes(
        (draw(st.sampled_from([0, 1, 1, 2, 3])), groups * channels, *size),
        (groups * draw(st.sampled_from([1, 1, 2, 5, 6, 7, 13])), channels, *kernel),
        draw(st.sampled_from(["float32", "float64"])),
        stride,
        padding,
        dilation,
        groups,
    )


def operands(op: str, spec: ConvSpec, make: Any) -> list[Array | None]:
    """Inputs of an op, made by ``make(shape)``; the bias, where there is one, comes last."""
    if op == "conv_forward":
        return [make(spec.input_shape), make(spec.weight_shape), make((spec.out_channels,))]
    if op == "conv_input_grad":
        return [make(spec.output_shape), make(spec.weight_shape), make((spec.in_channels,))]
    return [make(spec.input_shape), make(spec.output_shape)]


def compute(implementation: Any, op: str, spec: ConvSpec, arrays: list[Array | None]) -> Array:
    """Run on a result full of NaN, where the op takes one: an element that is not written shows."""
    if op == "conv_weight_grad":
        return implementation.run(spec, *arrays)
    shape = spec.output_shape if op == "conv_forward" else spec.input_shape
    return implementation.run(spec, *arrays, np.full(shape, np.nan, spec.dtype))


def terms(op: str, spec: ConvSpec) -> int:
    """Products summed for one result, at most, and the bias."""
    taps = math.prod(spec.kernel)
    if op == "conv_forward":
        return spec.in_channels // spec.groups * taps + 1
    if op == "conv_input_grad":
        return spec.out_channels // spec.groups * taps + 1
    return spec.batch * math.prod(spec.out_size)


def check(op: str, spec: ConvSpec, rng: np.random.Generator, bias: bool = True) -> None:
    """Compare every kernel that accepts ``spec`` with the reference."""
    exact = operands(op, spec, lambda shape: integers(rng, shape, spec.dtype))
    rounded = operands(op, spec, lambda shape: rng.standard_normal(shape).astype(spec.dtype))
    if not bias and len(exact) == 3:
        exact[-1] = rounded[-1] = None
    extra = () if op == "conv_weight_grad" else (None,)
    expected = reference(op, spec, *exact, *extra)
    close_to = reference(op, spec, *rounded, *extra)
    magnitude = reference(op, spec, *(None if a is None else np.abs(a) for a in rounded), *extra)
    for kernel in kernels(op, spec):
        growth = kernel.error_growth(spec)
        # Winograd mixes neighbours: its errors follow the largest of them
        scale = magnitude if growth == 1.0 else np.full_like(magnitude, magnitude.max(initial=0))
        bound = growth * (terms(op, spec) + 2) * np.finfo(spec.dtype).eps * scale.astype("float64")
        former: dict[str, bytes] = {}
        for setting in every_setting():
            where = f"{op} by {kernel.name} on {setting}: {spec}"
            if growth == 1.0:
                np.testing.assert_array_equal(compute(kernel, op, spec, exact), expected, where, strict=True)
            got = compute(kernel, op, spec, rounded)
            assert_within(got, close_to, bound, where)
            assert former.setdefault(setting.partition(",")[0], bits(got)) == bits(got), (
                f"other bits: {where}"
            )


@pytest.mark.parametrize("op", OPS)
@settings(max_examples=120)
@given(spec=conv_specs(), bias=st.booleans(), seed=st.integers(0, 2**32))
def test_any_problem(op: str, spec: ConvSpec, bias: bool, seed: int) -> None:
    note(f"seed {seed}")
    check(op, spec, np.random.default_rng(seed), bias)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize(
    ("rows", "columns", "depth"),
    [(m, 67, 33) for m in ROWS] + [(7, n, 33) for n in COLUMNS] + [(7, 67, k) for k in DEPTHS],
)
def test_sizes_around_the_tile(
    op: str, rows: int, columns: int, depth: int, dtype: str, rng: np.random.Generator
) -> None:
    """A 1x1 convolution is a matrix product of chosen size."""
    check(op, ConvSpec.from_shapes((1, depth, 1, columns), (rows, depth, 1, 1), dtype), rng)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("width", [1, 4, 7, 8, 9, 15, 16, 17, 31, 33, 64, 127, 255, 257, 513])
def test_row_lengths_around_the_tile(op: str, width: int, dtype: str, rng: np.random.Generator) -> None:
    """Rows of the result are cut into panels and blocks; padding and stride prepare rows instead of reading them."""
    check(op, ConvSpec.from_shapes((2, 3, 4, width), (7, 3, 3, 3), dtype, 1, 1), rng)
    check(op, ConvSpec.from_shapes((1, 2, 4, width * 2), (3, 2, 3, 3), dtype, 2, 1), rng)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("dilation", [1, 2, 9])
@pytest.mark.parametrize("kernel", [3, 5])
def test_depthwise_strides_and_dilations(
    op: str, stride: int, dilation: int, kernel: int, dtype: str, rng: np.random.Generator
) -> None:
    """Rows that share what they read go by fours and ones; columns are split and joined by vectors and halves."""
    reach = dilation * (kernel - 1)
    for height, width in ((1, 1), (3, 2), (4, 3), (5, 7), (8, 8), (9, 15), (13, 16), (7, 33), (6, 65)):
        size = (stride * height + 1, stride * width)
        for low in (0, reach // 2):
            padding = (low, reach - low, low, reach - low)
            spec = ConvSpec.from_shapes(
                (2, 2, *size), (2, 1, kernel, kernel), dtype, stride, padding, dilation, 2
            )
            check(op, spec, rng)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("filters", [1, 2])
def test_depthwise_planes_around_the_vector(
    op: str, stride: int, kernel: int, filters: int, dtype: str, rng: np.random.Generator
) -> None:
    """Planes are read where they lie; the first and the last of many need care, as do vectors that see padding."""
    edges = ((0, 0, 0, 0), (1, 1, 1, 1), (2, 0, 2, 1), (0, 1, 0, 2), (1, 0, 0, 1))
    for width in (4, 7, 8, 9, 14, 16, 17, 31, 33, 50):
        for height, padding in zip((5, 7, 8, 10, 14), edges, strict=True):
            weight = (3 * filters, 1, kernel, kernel)
            spec = ConvSpec.from_shapes((2, 3, height, width + 1), weight, dtype, stride, padding, 1, 3)
            check(op, spec, rng)
    deep = ConvSpec.from_shapes(
        (2, 3, 1, 9, 9), (3 * filters, 1, 3, 3, 3), dtype, (1, stride, stride), 1, 1, 3
    )
    check(op, deep, rng)  # two of three planes of the kernel see padding alone


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("size", [(150, 40), (3, 2100), (70, 1025)])
@pytest.mark.parametrize("stride", [1, 2])
def test_planes_of_several_tiles(
    op: str, size: tuple[int, int], stride: int, rng: np.random.Generator
) -> None:
    """What a tile prepares must not be seen by the next one."""
    check(op, ConvSpec.from_shapes((2, 2, *size), (2, 1, 3, 3), "float32", stride, 1, 1, 2), rng)


@pytest.mark.parametrize("width", [3, 7, 9, 15, 17])
def test_weight_gradient_of_infinities_beyond_a_row(width: int) -> None:
    """Lanes behind the end of a row hold elements that other taps see: those must not become NaN here."""
    spec = ConvSpec.from_shapes((1, 2, 4, width + 2), (2, 1, 3, 3), "float32", groups=2)
    x, grad = np.ones(spec.input_shape, "float32"), np.ones(spec.output_shape, "float32")
    x[..., -2:] = np.inf
    for kernel in kernels("conv_weight_grad", spec):
        if kernel.name == "direct":
            for setting in every_setting():
                got = kernel.run(spec, x, grad)
                assert np.isfinite(got[..., 0]).all() and np.isinf(got[..., 1:]).all(), setting


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("channels", [1, 5])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5, 7, 8, 9, 11])
def test_depthwise_kernel_sizes(
    op: str, channels: int, kernel: int, dtype: str, rng: np.random.Generator
) -> None:
    """3x3 and 5x5 have sums of their own; the others take taps one by one, and nine or four in the weight gradient."""
    shape = (2, channels, 12, 37)
    for weight in ((channels, 1, kernel, kernel), (2 * channels, 1, 1, kernel)):
        check(op, ConvSpec.from_shapes(shape, weight, dtype, 1, (3, 5), 1, channels), rng)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("channels", [300, 700])
def test_sums_of_several_depth_blocks_with_a_window(
    op: str, channels: int, dtype: str, rng: np.random.Generator
) -> None:
    spec = ConvSpec.from_shapes((2, channels, 5, 6), (9, channels, 3, 2), dtype, 1, 1)
    check(op, spec, rng)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("groups", [1, 2])
def test_weights_that_are_packed_in_several_passes(op: str, groups: int, rng: np.random.Generator) -> None:
    """Packed weights have 8 MiB: one group may need several passes, several groups may not fit into one."""
    channels = 250 * groups
    check(
        op,
        ConvSpec.from_shapes((1, channels, 4, 4), (1000 * groups, 250, 3, 3), "float32", 1, 1, 1, groups),
        rng,
    )


@pytest.mark.parametrize("op", OPS)
def test_sums_over_many_positions(op: str, dtype: str, rng: np.random.Generator) -> None:
    """A small weight gradient is summed in shares of the positions."""
    check(op, ConvSpec.from_shapes((6, 3, 40, 41), (5, 3, 3, 3), dtype, 1, 1), rng)
    check(op, ConvSpec.from_shapes((2, 4, 1, 20_000), (4, 2, 1, 3), dtype, 1, 0, 1, 2), rng)


@pytest.mark.parametrize("op", OPS)
def test_kernels_whose_columns_do_not_fit_a_block(op: str, dtype: str, rng: np.random.Generator) -> None:
    check(op, ConvSpec.from_shapes((1, 1, 93, 97), (2, 1, 91, 93), dtype), rng)


@pytest.mark.parametrize("op", OPS)
def test_kernels_beyond_the_scratch_memory_are_refused(op: str) -> None:
    spec = ConvSpec.from_shapes((1, 2, 2**17 + 1), (2, 1, 2**17 + 1), "float32", groups=2)
    compiled = [each for each in _dispatch.implementations(op, "cpu") if each.name != "reference"]
    assert all("taps" in str(each.refusal(spec)) for each in compiled)


@pytest.mark.parametrize("op", OPS)
def test_a_kernel_larger_than_the_image(op: str, dtype: str, rng: np.random.Generator) -> None:
    check(op, ConvSpec.from_shapes((2, 2, 3, 2), (3, 2, 9, 8), dtype, 1, (4, 4)), rng)
    check(op, ConvSpec.from_shapes((2, 2, 3, 40), (3, 2, 2, 2), dtype, (2, 29), (3, 8), (7, 55)), rng)


@pytest.mark.parametrize("op", OPS)
def test_windows_that_see_padding_alone(op: str, dtype: str, rng: np.random.Generator) -> None:
    """Pads beyond the kernel: whole rows of the result are the bias."""
    check(op, ConvSpec.from_shapes((1, 2, 3, 3), (3, 2, 2, 2), dtype, 1, (5, 6, 40, 3)), rng)
    check(op, ConvSpec.from_shapes((1, 2, 1, 1), (3, 2, 1, 1), dtype, 3, 7), rng)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("extra", [0, 1])
def test_cropping_padding(op: str, extra: int, dtype: str, rng: np.random.Generator) -> None:
    """A transposed convolution's output_padding can leave the underlying convolution a negative pad."""
    spec = ConvSpec.transposed((2, 3, 5, 4), (3, 4, 2, 3), dtype, 2, 0, extra)
    assert (min(spec.pad_hi) < 0) == (extra > 0)
    check(op, spec, rng)


MATMULS = [(m, 17, 33) for m in (0, *ROWS)] + [(7, n, 33) for n in (0, *COLUMNS)]
MATMULS += [(7, 17, k) for k in (0, *DEPTHS)] + [(65, 140, 300)]


@pytest.mark.parametrize(("m", "n", "k"), MATMULS)
def test_matrix_product(m: int, n: int, k: int, dtype: str, rng: np.random.Generator) -> None:
    for trans_a, trans_b, biased in np.ndindex(2, 2, 2):
        spec = MatmulSpec(m=m, n=n, k=k, trans_a=bool(trans_a), trans_b=bool(trans_b), dtype=dtype)
        shapes = ((k, m) if trans_a else (m, k)), ((n, k) if trans_b else (k, n)), (n,)
        exact = [integers(rng, shape, dtype) for shape in shapes]
        rounded = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
        if not biased:
            exact[2] = rounded[2] = None
        expected, close_to = reference("matmul", spec, *exact), reference("matmul", spec, *rounded)
        magnitude = reference("matmul", spec, *(None if a is None else np.abs(a) for a in rounded))
        bound = (k + 3) * np.finfo(dtype).eps * magnitude.astype("float64")
        former: dict[str, bytes] = {}
        for kernel in kernels("matmul", spec):
            for setting in every_setting():
                where = f"{kernel.name} on {setting}: {spec}"
                np.testing.assert_array_equal(kernel.run(spec, *exact), expected, where, strict=True)
                got = kernel.run(spec, *rounded)
                assert_within(got, close_to, bound, where)
                assert former.setdefault(setting.partition(",")[0], bits(got)) == bits(got), where


@pytest.mark.parametrize("op", OPS)
def test_more_threads_than_work_and_odd_numbers_of_them_give_the_same_bits(
    op: str, dtype: str, isa: str, rng: np.random.Generator
) -> None:
    for spec in (
        ConvSpec.from_shapes((3, 16, 19, 23), (20, 16, 3, 3), dtype, 1, 1),
        ConvSpec.from_shapes((3, 24, 19, 23), (24, 1, 3, 3), dtype, 2, 1, 1, 24),
        ConvSpec.from_shapes((2, 64, 4, 3), (96, 64, 3, 3), dtype, 1, 1),
        ConvSpec.from_shapes((6, 3, 40, 41), (5, 3, 3, 3), dtype, 1, 1),
    ):
        arrays = operands(op, spec, lambda shape, spec=spec: rng.standard_normal(shape).astype(spec.dtype))
        for kernel in kernels(op, spec):
            results = []
            for n in (1, 2, 3, 5, 16):
                with with_threads(n):
                    results.append(bits(compute(kernel, op, spec, arrays)))
            assert len(set(results)) == 1, f"{kernel.name}: {spec}"


@pytest.mark.parametrize("stride", [1, 2, 3, (1, 2), (4, 1)])
@pytest.mark.parametrize("produced", [1, 3, 4, 7])
@pytest.mark.parametrize("summed", [16, 17, 300])
def test_shifted_sums(stride: Any, produced: int, summed: int, dtype: str, rng: np.random.Generator) -> None:
    """col2im: rings of rows, phases of a stride, rows longer than a block, holes, taps outside."""
    for size, kernel, padding, dilation in (
        ((9, 11), (3, 3), 1, 1),
        ((5, 34), (2, 5), (0, 1, 3, 0), (2, 1)),
        ((7, 8), (1, 1), 0, 1),
        ((3, 2), (3, 2), (5, 7), (2, 3)),
    ):
        shape = (summed, produced, *kernel)
        spec = ConvSpec.from_shapes((2, produced, *size), shape, dtype, stride, padding, dilation)
        check("conv_input_grad", spec, rng)


def test_shifted_sums_of_long_rows_and_groups(dtype: str, rng: np.random.Generator) -> None:
    for stride in (1, 2):
        check("conv_input_grad", ConvSpec.from_shapes((1, 2, 1100), (16, 2, 5), dtype, stride, 2), rng)
        check(
            "conv_input_grad",
            ConvSpec.from_shapes((1, 3, 2, 530), (48, 1, 2, 3), dtype, stride, 1, 1, 3),
            rng,
        )
        check("conv_input_grad", ConvSpec.from_shapes((1, 60, 40, 41), (20, 60, 3, 3), dtype, stride, 1), rng)


@pytest.mark.parametrize("op", OPS)
def test_taps_that_see_padding_alone(op: str, dtype: str, rng: np.random.Generator) -> None:
    """However large dilation and padding are, scratch memory follows the arrays' sizes."""
    for size in ((5, 6), (6,)):
        shape = (17, 3) + (3,) * len(size)
        far, near = (ConvSpec.from_shapes((2, 3, *size), shape, dtype, 1, d, d) for d in (10**8, 9))
        arrays = operands(op, near, lambda shape: integers(rng, shape, dtype))
        extra = () if op == "conv_weight_grad" else (None,)
        for kernel in kernels(op, far):
            np.testing.assert_array_equal(
                compute(kernel, op, far, arrays), reference(op, near, *arrays, *extra)
            )
    check(op, ConvSpec.from_shapes((2, 2, 5, 6), (2, 1, 3, 2), dtype, 2, (1, 1, 40, 0), (1, 39), 2), rng)


@pytest.mark.parametrize("op", OPS)
def test_denormals_are_exact_or_zero_and_the_callers_stay(op: str, dtype: str, isa: str) -> None:
    tiny = np.finfo(dtype).smallest_subnormal
    spec = ConvSpec.from_shapes((1, 16, 9, 9), (16, 16, 3, 3), dtype, 1, 1)
    arrays = operands(op, spec, lambda shape: np.full(shape, 1, dtype))
    assert arrays[0] is not None
    arrays[0] *= tiny * 4
    if len(arrays) == 3:
        arrays[2] = None
    extra = () if op == "conv_weight_grad" else (None,)
    expected = reference(op, spec, *arrays, *extra)
    for threads in (1, 2):
        for kernel in kernels(op, spec):
            with with_threads(threads):
                got = compute(kernel, op, spec, arrays)
            if kernel.error_growth(spec) == 1:
                assert np.all((got == expected) | (got == 0)), kernel.name
            else:
                assert np.all(np.abs(got) <= expected * 2), kernel.name
            assert np.asarray(tiny * 4) / np.asarray(2, dtype) == tiny * 2 > 0, kernel.name


def test_every_algorithm_was_tried() -> None:
    """The problems above reach every compiled implementation: none is left out by its refusal."""
    tiny = ConvSpec.from_shapes((1, 1, 9, 9), (1, 1, 3, 3), "float32", 1, 1)
    dense = ConvSpec.from_shapes((1, 8, 9, 9), (8, 8, 3, 3), "float32", 1, 1)
    depthwise = ConvSpec.from_shapes((1, 8, 9, 9), (8, 1, 3, 3), "float32", 1, 1, 1, 8)
    strided = ConvSpec.from_shapes((1, 8, 9, 9), (16, 8, 3, 3), "float32", 2, 1)
    for op in OPS:
        served = {each.name for spec in (tiny, dense, depthwise, strided) for each in kernels(op, spec)}
        assert served == {each.name for each in _dispatch.implementations(op, "cpu")} - {"reference"}


def test_taps_that_see_padding_alone_are_no_work_of_direct_sums() -> None:
    """Their gradients are zeros that no sum of shifted rows would write."""
    (direct,) = (
        each for each in _dispatch.implementations("conv_weight_grad", "cpu") if each.name == "direct"
    )
    for size, padding, dilation, hidden in (
        (1, 1, 1, True),
        (2, 1, 1, False),
        (3, 0, 1, False),
        (4, 5, 5, True),
    ):
        spec = ConvSpec.from_shapes((2, 4, size, size), (4, 1, 3, 3), "float32", 1, padding, dilation, 4)
        assert bool(direct.refusal and direct.refusal(spec)) == hidden
        x, grad = np.ones(spec.input_shape, "float32"), np.ones(spec.output_shape, "float32")
        if hidden:
            with pytest.raises(ValueError, match="every tap must see the input"):
                direct.run(spec, x, grad)
        else:
            np.testing.assert_array_equal(
                direct.run(spec, x, grad), reference("conv_weight_grad", spec, x, grad)
            )


@pytest.mark.parametrize("op", ["conv_forward", "conv_input_grad"])
@pytest.mark.parametrize("width", [3, 7, 8, 9, 16, 17, 40])
@pytest.mark.parametrize(("stride", "padding", "dilation"), [(1, 0, 1), (1, 2, 2), (2, 1, 1), (3, 4, 2)])
def test_small_images_do_not_depend_on_their_batch(
    op: str, width: int, stride: int, padding: int, dilation: int, dtype: str, rng: np.random.Generator
) -> None:
    """One image is a task; what choice is made for it does not depend on how many there are."""

    def spec_of(batch: int) -> ConvSpec:
        shape = (batch, 1, width, width)
        return ConvSpec.from_shapes(shape, (1, 1, 3, 2), dtype, stride, padding, dilation)

    spec = spec_of(5)
    check(op, spec, rng)
    x, w, bias = operands(op, spec, lambda shape: rng.standard_normal(shape).astype(dtype))
    assert x is not None
    for kernel in kernels(op, spec):
        if kernel.name == "small":
            whole = kernel.run(spec, x, w, bias, None)
            parts = [kernel.run(spec_of(1), x[i : i + 1], w, bias, None) for i in range(5)]
            assert bits(np.concatenate(parts)) == bits(whole)
