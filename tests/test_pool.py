"""Pooling, scatter, gather, unfold, fold and pad kernels against the oracle and PyTorch, on every instruction set."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import fastconv
from fastconv._spec import AdaptivePoolSpec, ConvSpec, PadSpec, PlaneSpec, PoolSpec
from kit import Array, assert_within, bits, every_setting, integers, kernels, reference, with_threads

# kernel, stride, padding, dilation: the sizes the kernels know, then the general ways through them
WINDOWS = [
    ((2, 2), (2, 2), (0, 0), (1, 1)),
    ((3, 3), (2, 2), (1, 1), (1, 1)),
    ((3, 3), (1, 1), (1, 1), (1, 1)),
    ((3, 3), (2, 2), (0, 0), (1, 1)),
    ((2, 3), (1, 2), (1, 0), (1, 1)),
    ((1, 1), (1, 1), (0, 0), (1, 1)),
    ((5, 4), (2, 1), (2, 2), (1, 1)),
    ((3, 5), (4, 3), (1, 2), (1, 1)),
    ((2, 2), (3, 5), (0, 1), (1, 1)),
    ((3, 3), (1, 2), (1, 1), (2, 3)),
    ((2, 3), (2, 1), (1, 1), (3, 2)),
    ((1, 7), (1, 1), (0, 3), (1, 1)),
]
# around one, two and four vectors of every instruction set, before and after a stride of two
WIDTHS = [3, 5, 7, 8, 9, 16, 17, 33, 67]


def run(op: str, spec: Any, *arrays: Any) -> Any:
    """The result of the one compiled kernel of ``op``."""
    (kernel,) = kernels(op, spec)
    return kernel.run(spec, *arrays)


def special(rng: np.random.Generator, shape: Any, dtype: str) -> Array:
    """Ties, NaN and -inf, so many of them that whole windows hold nothing else."""
    x = integers(rng, shape, dtype, 2)
    x[rng.random(shape) < 0.4] = -np.inf
    x[rng.random(shape) < 0.15] = np.nan
    return x


def pool_specs(dtype: str, **options: Any) -> list[PoolSpec]:
    """Every window over every width it fits, rounding up every other time."""
    specs = []
    for i, ((kernel, stride, padding, dilation), width) in enumerate(itertools.product(WINDOWS, WIDTHS)):
        if "count_include_pad" in options and dilation != (1, 1):
            continue
        shape = (1, 2, 7, width) if width != 16 else (1, 1, 70, width)
        reach = width + 2 * padding[1] - dilation[1] * (kernel[1] - 1)
        if reach >= 1:
            specs.append(
                PoolSpec.from_shape(shape, dtype, kernel, stride, padding, dilation, i % 2 == 0, **options)
            )
    return specs


def test_max_pool_forward_is_the_oracle_s(dtype: str, isa: str, rng: np.random.Generator) -> None:
    for spec, make in itertools.product(pool_specs(dtype), (integers, special)):
        x = make(rng, spec.input_shape, dtype)
        for index_dtype in (None, "int64", "uint8"):
            out, indices = run("max_pool_forward", spec, x, index_dtype)
            expected, expected_indices = reference("max_pool_forward", spec, x, index_dtype)
            np.testing.assert_array_equal(out, expected, err_msg=f"{spec} {index_dtype}")
            if index_dtype is None:
                assert indices is None
            else:
                assert indices.dtype == index_dtype
                np.testing.assert_array_equal(indices, expected_indices, err_msg=f"{spec} {index_dtype}")


def test_max_pool_backward_is_the_oracle_s(dtype: str, isa: str, rng: np.random.Generator) -> None:
    for spec, index_dtype in itertools.product(pool_specs(dtype), ("int64", "uint8")):
        x = integers(rng, spec.input_shape, dtype)
        _, indices = run("max_pool_forward", spec, x, index_dtype)
        grad = integers(rng, spec.output_shape, dtype)
        got = run("max_pool_backward", spec, grad, indices)
        np.testing.assert_array_equal(
            got, reference("max_pool_backward", spec, grad, indices), err_msg=f"{spec} {index_dtype}"
        )


@pytest.mark.parametrize("size", [(1, 1), (7, 7), (2, 700), (33, 37)])
def test_max_pool_backward_over_many_planes_of_the_same_size(
    size: tuple[int, int], dtype: str, isa: str, threads: int, rng: np.random.Generator
) -> None:
    """All planes are one run, in blocks that end anywhere: nothing may pass from one plane or row to the next."""
    for kernel in ((3, 3), (5, 5), (1, 3)):
        spec = PoolSpec.from_shape((3, 7, *size), dtype, kernel, 1, tuple(k // 2 for k in kernel))
        x = integers(rng, spec.input_shape, dtype)
        _, offsets = run("max_pool_forward", spec, x, "uint8")
        grad = integers(rng, spec.output_shape, dtype)
        np.testing.assert_array_equal(
            run("max_pool_backward", spec, grad, offsets),
            reference("max_pool_backward", spec, grad, offsets),
            err_msg=str(spec),
        )


@pytest.mark.parametrize("height", [2, 4, 60])
def test_max_pool_backward_of_windows_that_tile_the_plane(
    height: int, dtype: str, isa: str, rng: np.random.Generator
) -> None:
    """Output rows narrower than a vector, as wide, wider by one; many rows and planes to a thread, and few."""
    for planes, width in itertools.product((1, 5), (2, 6, 8, 14, 16, 18, 30, 32, 34, 66)):
        spec = PoolSpec.from_shape((planes, 1, height, width), dtype, 2)
        x = integers(rng, spec.input_shape, dtype)
        _, offsets = run("max_pool_forward", spec, x, "uint8")
        grad = integers(rng, spec.output_shape, dtype)
        expected = reference("max_pool_backward", spec, grad, offsets)
        for threads in (1, 2, 5):
            with with_threads(threads):
                got = run("max_pool_backward", spec, grad, offsets)
            np.testing.assert_array_equal(got, expected, err_msg=f"{spec} {threads}")


def test_max_pool_backward_passes_infinity_and_nan_to_the_winner_only(isa: str) -> None:
    spec = PoolSpec.from_shape((1, 1, 4, 40), "float32", 2)
    grad = np.zeros(spec.output_shape, "float32")
    grad[0, 0, 0, 3], grad[0, 0, 1, 7] = np.inf, np.nan
    got = run("max_pool_backward", spec, grad, np.full(spec.output_shape, 3, "uint8"))
    expected = np.zeros(spec.input_shape, "float32")
    expected[0, 0, 1, 7], expected[0, 0, 3, 15] = np.inf, np.nan
    np.testing.assert_array_equal(got, expected)


def test_max_pool_backward_ignores_offsets_that_no_tap_has(dtype: str, isa: str) -> None:
    for width, stride in ((13, 2), (80, 2), (13, 1)):  # scattered, gathered, all planes at once
        spec = PoolSpec.from_shape((1, 2, 9, width), dtype, 3, stride, 1)
        for offset in (9, 255):
            grad, offsets = np.ones(spec.output_shape, dtype), np.full(spec.output_shape, offset, "uint8")
            assert not run("max_pool_backward", spec, grad, offsets).any()


@pytest.mark.parametrize(
    "options", [{"count_include_pad": True}, {"count_include_pad": False}, {"divisor_override": -3}], ids=str
)
def test_avg_pool_is_the_oracle_s(
    dtype: str, isa: str, rng: np.random.Generator, options: dict[str, Any]
) -> None:
    eps = np.finfo(dtype).eps
    for spec in pool_specs(dtype, **{"count_include_pad": True, **options}):
        x = integers(rng, spec.input_shape, dtype)
        # sums of integers are exact; the division rounds once
        out = run("avg_pool_forward", spec, x)
        expected = reference("avg_pool_forward", spec, x)
        assert_within(out, expected, eps * np.abs(expected), str(spec))
        # each share rounds, and so does every addition of at most KH * KW of them
        taps = spec.kernel[0] * spec.kernel[1]
        got = run("avg_pool_backward", spec, x_like := integers(rng, spec.output_shape, dtype))
        bound = eps * (taps + 1) * reference("avg_pool_backward", spec, np.abs(x_like))
        assert_within(got, reference("avg_pool_backward", spec, x_like), np.abs(bound), str(spec))


# several planes at once, in the lanes of a vector: around one vector of each instruction set
@pytest.mark.parametrize("planes", [1, 2, 3, 4, 7, 8, 9, 16, 17, 67])
def test_averages_of_narrow_planes_are_the_oracle_s(
    planes: int, dtype: str, isa: str, rng: np.random.Generator
) -> None:
    eps = np.finfo(dtype).eps
    for size, (kernel, stride, padding, dilation) in itertools.product([(7, 7), (3, 2), (14, 13)], WINDOWS):
        if dilation != (1, 1) or any(n + 2 * p < k for n, p, k in zip(size, padding, kernel, strict=True)):
            continue
        spec = PoolSpec.from_shape(
            (1, planes, *size), dtype, kernel, stride, padding, 1, True, planes % 2 == 0
        )
        x = integers(rng, spec.input_shape, dtype)
        expected = reference("avg_pool_forward", spec, x)
        assert_within(run("avg_pool_forward", spec, x), expected, eps * np.abs(expected), str(spec))
        grad = integers(rng, spec.output_shape, dtype)
        bound = eps * (kernel[0] * kernel[1] + 1) * reference("avg_pool_backward", spec, np.abs(grad))
        got, expected = run("avg_pool_backward", spec, grad), reference("avg_pool_backward", spec, grad)
        assert_within(got, expected, bound, str(spec))


@pytest.mark.parametrize("size", [(7, 7), (3, 2), (5, 40), (40, 41)])
def test_the_average_of_a_whole_plane_is_the_adaptive_one(
    size: tuple[int, int], dtype: str, isa: str, rng: np.random.Generator
) -> None:
    for planes in (1, 7, 8, 33):
        x = rng.standard_normal((planes, 1, *size)).astype(dtype)
        pool = PoolSpec.from_shape(x.shape, dtype, size)
        adaptive = AdaptivePoolSpec.from_shape(x.shape, dtype, 1)
        out = run("avg_pool_forward", pool, x)
        assert bits(out) == bits(run("adaptive_avg_pool_forward", adaptive, x))
        bound = 2 * size[0] * size[1] * np.finfo(dtype).eps * reference("avg_pool_forward", pool, np.abs(x))
        assert_within(out, reference("avg_pool_forward", pool, x), bound)
        back = run("avg_pool_backward", pool, out)
        np.testing.assert_array_equal(back, reference("avg_pool_backward", pool, out))
        assert bits(back) == bits(run("adaptive_avg_pool_backward", adaptive, out))
        other = PoolSpec.from_shape(x.shape, dtype, size, divisor_override=3)
        whole = integers(rng, x.shape, dtype)
        bound = np.finfo(dtype).eps * np.abs(reference("avg_pool_forward", other, whole))
        assert_within(
            run("avg_pool_forward", other, whole), reference("avg_pool_forward", other, whole), bound
        )


ADAPTIVE = [
    ((7, 9), (3, 4)),
    ((20, 40), (1, 1)),
    ((20, 40), (6, 1)),
    ((20, 40), (6, 7)),
    ((5, 6), (1, 1)),
    ((4, 5), (9, 11)),
    ((33, 65), (32, 8)),
    ((1, 17), (1, 17)),
    ((64, 7), (1, 3)),
    ((9, 34), (3, 17)),
    ((5, 20), (5, 20)),
]


@pytest.mark.parametrize(("size", "out_size"), ADAPTIVE)
def test_adaptive_pools_are_the_oracle_s(
    size: tuple[int, int],
    out_size: tuple[int, int],
    dtype: str,
    isa: str,
    threads: int,
    rng: np.random.Generator,
) -> None:
    spec = AdaptivePoolSpec.from_shape((3, 5, *size), dtype, out_size)
    eps = np.finfo(dtype).eps
    x = integers(rng, spec.input_shape, dtype)
    expected = reference("adaptive_avg_pool_forward", spec, x)
    assert_within(run("adaptive_avg_pool_forward", spec, x), expected, eps * np.abs(expected))
    grad = integers(rng, spec.output_shape, dtype)
    cells = np.prod([-(-m // n) + 2 for n, m in zip(size, out_size, strict=True)])
    bound = eps * cells * reference("adaptive_avg_pool_backward", spec, np.abs(grad))
    assert_within(
        run("adaptive_avg_pool_backward", spec, grad),
        reference("adaptive_avg_pool_backward", spec, grad),
        bound,
    )
    for values in (x, special(rng, spec.input_shape, dtype)):
        out, indices = run("adaptive_max_pool_forward", spec, values)
        expected, expected_indices = reference("adaptive_max_pool_forward", spec, values)
        np.testing.assert_array_equal(out, expected)
        np.testing.assert_array_equal(indices, expected_indices)


@pytest.mark.parametrize("accumulate", [False, True])
def test_scatter_and_gather_planes(
    accumulate: bool, dtype: str, threads: int, rng: np.random.Generator
) -> None:
    spec = PlaneSpec(batch=3, channels=4, in_plane=900, out_plane=5000, accumulate=accumulate, dtype=dtype)
    indices = rng.integers(0, 700, (3, 4, 900))  # collisions, and places that receive nothing
    values = integers(rng, indices.shape, dtype)
    planes = run("scatter_planes", spec, values, indices)
    np.testing.assert_array_equal(planes, reference("scatter_planes", spec, values, indices))
    np.testing.assert_array_equal(
        run("gather_planes", spec, planes, indices), np.take_along_axis(planes, indices, axis=-1)
    )


CONVOLUTIONS = [
    ((40,), (3,), 1, 1, 1),
    ((41,), (4,), 3, (2, 0), 2),
    ((13, 37), (3, 5), 1, 2, 1),
    ((12, 33), (3, 2), (2, 3), (0, 1, 3, 2), (2, 1)),
    ((5, 6, 19), (2, 3, 3), (1, 2, 1), 1, (2, 1, 1)),
    ((4, 7, 18), (3, 1, 2), 2, (1, 0, 2), 1),
]


def unfold_specs(dtype: str) -> list[ConvSpec]:
    specs = [
        ConvSpec.from_shapes((2, 3, *size), (1, 3, *kernel), dtype, stride, padding, dilation)
        for size, kernel, stride, padding, dilation in CONVOLUTIONS
    ]
    # a transposed convolution's negative pads: the window skips the rim of the input
    specs.append(ConvSpec.transposed((2, 1, 9, 9), (1, 3, 3, 3), dtype, 2, 1, 1))
    specs.append(ConvSpec.transposed((2, 1, 30), (1, 2, 1), dtype, 3, 0, 2))
    return specs


def test_unfold_and_fold_are_the_oracle_s(
    dtype: str, isa: str, threads: int, rng: np.random.Generator
) -> None:
    for spec in unfold_specs(dtype):
        x = integers(rng, spec.input_shape, dtype)
        columns = run("unfold", spec, x)
        np.testing.assert_array_equal(columns, reference("unfold", spec, x), err_msg=str(spec))
        grad = integers(rng, columns.shape, dtype)
        np.testing.assert_array_equal(
            run("fold", spec, grad), reference("fold", spec, grad), err_msg=str(spec)
        )


PADS = [
    ((3, 20), (2, 1), "constant"),
    ((3, 20), (-2, 5), "constant"),
    ((2, 3, 6, 9), (40, -4, -1, 2), "constant"),
    ((2, 3, 4, 5, 6), (1, 2, 0, 3, -2, 1), "constant"),
    ((2, 0, 3), (1, 1, 2, 2), "constant"),
    ((2, 3, 9), (8, 3), "reflect"),
    ((2, 3, 5, 9), (0, 8, 4, 2), "reflect"),
    ((2, 3, 4, 5, 6), (5, 1, 2, 4, 0, 3), "reflect"),
    ((2, 3, 4, 5), (20, 9, 0, 7), "replicate"),
    ((2, 3, 1, 5), (1, 2, 3, 4), "replicate"),
    ((2, 3, 4, 5), (5, 2, 1, 4), "circular"),
    ((2, 2, 3, 4, 5), (5, 0, 4, 2, 1, 3), "circular"),
]


@pytest.mark.parametrize(("shape", "sides", "mode"), PADS)
def test_pad_and_its_adjoint_are_the_oracle_s(
    shape: tuple[int, ...],
    sides: tuple[int, ...],
    mode: str,
    dtype: str,
    threads: int,
    rng: np.random.Generator,
) -> None:
    spec = PadSpec.from_shape(shape, sides, mode, -0.5 if mode == "constant" else None, dtype)
    x = integers(rng, (spec.outer, *spec.in_shape), dtype)
    out = run("pad", spec, x)
    np.testing.assert_array_equal(out, reference("pad", spec, x))
    grad = integers(rng, out.shape, dtype)
    np.testing.assert_array_equal(run("pad_backward", spec, grad), reference("pad_backward", spec, grad))


def test_more_axes_than_the_kernel_pads_are_refused_with_the_reason() -> None:
    spec = PadSpec.from_shape((2, 2, 2, 2), (1,) * 8, "constant", None, "float32")
    refusal = next(iter(fastconv._dispatch.implementations("pad", "cpu"))).refusal(spec)
    assert refusal is not None
    assert "3 axes, not 4" in refusal


def test_windows_beyond_32_bits_are_refused_with_the_reason() -> None:
    spec = PoolSpec.from_shape((0, 1, 3, 2**31), "float32", 2, 1)
    refusal = next(iter(fastconv._dispatch.implementations("max_pool_forward", "cpu"))).refusal(spec)
    assert refusal is not None
    assert "2**31" in refusal


# few planes, so that they are cut into bands, and many
SHAPES = [(1, 1, 301, 260), (1, 3, 130, 133), (5, 13, 40, 41), (5, 71, 14, 14)]


@pytest.mark.parametrize("shape", SHAPES)
def test_threads_and_bands_change_no_bit(
    shape: tuple[int, ...], dtype: str, isa: str, rng: np.random.Generator
) -> None:
    x = rng.standard_normal(shape).astype(dtype)
    for kernel, stride, padding, dilation in WINDOWS:
        spec = PoolSpec.from_shape(shape, dtype, kernel, stride, padding, dilation)
        grad = rng.standard_normal(spec.output_shape).astype(dtype)
        seen = set()
        for n in (1, 2, 3, 8):
            with with_threads(n):
                parts = [run("max_pool_forward", spec, x, None)[0]]
                for index_dtype in ("int64", "uint8"):
                    out, indices = run("max_pool_forward", spec, x, index_dtype)
                    parts += [out, indices, run("max_pool_backward", spec, grad, indices)]
                if dilation == (1, 1):
                    parts += [run("avg_pool_forward", spec, x), run("avg_pool_backward", spec, grad)]
            seen.add(b"".join(bits(part) for part in parts))
        assert len(seen) == 1


def test_empty_batches_and_planes_of_one_element(dtype: str) -> None:
    for setting in every_setting():
        spec = PoolSpec.from_shape((0, 3, 8, 8), dtype, 2)
        x = np.empty(spec.input_shape, dtype)
        out, indices = run("max_pool_forward", spec, x, "int64")
        assert out.shape == indices.shape == (0, 3, 4, 4), setting
        assert run("max_pool_backward", spec, out, indices).shape == x.shape, setting
        one = PoolSpec.from_shape(
            (1, 1, 1, 1), dtype, 1, 2**31 - 1
        )  # the stride between one window means nothing
        x = np.full((1, 1, 1, 1), 3, dtype)
        out, indices = run("max_pool_forward", one, x, "uint8")
        assert (out.item(), indices.item()) == (3, 0), setting
        assert run("max_pool_backward", one, x, indices).item() == 3, setting


def test_max_pool_is_pytorch_s(dtype: str, isa: str, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    from torch.nn.functional import max_pool2d

    for spec in pool_specs(dtype):
        x = special(rng, spec.input_shape, dtype)
        try:
            expected, expected_indices = max_pool2d(
                torch.tensor(x), spec.kernel, spec.stride, spec.pad_lo, spec.dilation, spec.ceil_mode, True
            )
        except RuntimeError:  # PyTorch bounds the padding by the kernel before its dilation
            assert any(2 * p > k for p, k in zip(spec.pad_lo, spec.kernel, strict=True))
            continue
        for index_dtype in (None, "int64", "uint8"):
            out, indices = run("max_pool_forward", spec, x, index_dtype)
            np.testing.assert_array_equal(out, expected.numpy(), err_msg=str(spec))
            if index_dtype == "int64":
                np.testing.assert_array_equal(indices, expected_indices.numpy(), err_msg=str(spec))


def test_pads_are_pytorch_s(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    from torch.nn.functional import pad

    for shape, sides, mode in PADS:
        if 0 in shape:
            continue
        value = -0.5 if mode == "constant" else None
        spec = PadSpec.from_shape(shape, sides, mode, value, dtype)
        x = np.arange(np.prod(shape), dtype=dtype).reshape(shape)
        expected = pad(torch.tensor(x), sides, mode, value).numpy()
        got = run("pad", spec, x.reshape(spec.outer, *spec.in_shape))
        np.testing.assert_array_equal(got.reshape(expected.shape), expected)


def test_pads_tell_the_zeros_apart() -> None:
    x = np.ones((1, 2), np.float32)
    for value in (0.0, -0.0, 0.0):
        padded = fastconv.functional.pad(x, (1, 1), value=value)
        assert (np.signbit(padded) == [[np.signbit(value), False, False, np.signbit(value)]]).all()
