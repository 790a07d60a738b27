"""Run by test_contract: every op on arrays that touch unreadable pages, on every instruction set.

Reading or writing one byte beyond an array kills the process.  Results of convolutions are placed there as well.
"""

import ctypes
import mmap
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

import fastconv.blocked as B
import fastconv.functional as F
import fastconv.grad as G
from cases import CASES
from fastconv import prepare
from fastconv._digest import digest
from fastconv._spec import ArraysSpec, ConvSpec, OverlaySpec, UpdateRates, UpdateSpec
from fastconv.statistics import describe
from kit import Array, every_setting, kernels, ramp

PAGE = mmap.PAGESIZE
libc = ctypes.CDLL(None, use_errno=True)


def fenced(array: Array, at_end: bool) -> Array:
    """A copy whose last (or first) byte borders on a page without access."""
    room = -(-max(array.nbytes, 1) // PAGE) * PAGE
    memory = mmap.mmap(-1, room + 2 * PAGE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for fence in (start, start + PAGE + room):
        if libc.mprotect(ctypes.c_void_p(fence), PAGE, 0):
            raise OSError(ctypes.get_errno(), "mprotect")
    offset = PAGE + (room - array.nbytes if at_end else 0)
    copy: Array = np.frombuffer(memory, array.dtype, array.size, offset).reshape(array.shape)
    copy[...] = array
    return copy


def check(name: str, call: Any, arguments: list[Any]) -> None:
    print(name, file=sys.stderr, flush=True)
    for at_end in (True, False):
        inside = [fenced(a, at_end) if isinstance(a, np.ndarray) else a for a in arguments]
        for _ in every_setting():
            call(*inside)


def check_convolutions(
    dtype: str, width: int, size: int, stride: int, padding: int, channels: int, groups: int
) -> None:
    """Results as well beside the fence; packing has a special way at the end of an array."""
    shape = (2 * channels, channels // groups, size, size)
    x, w = ramp((2, channels, 5, width), dtype), ramp(shape, dtype)
    spec = ConvSpec.from_shapes(x.shape, shape, dtype, stride, padding, 1, groups)

    def every_kernel(op: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for each in kernels(op, spec):
            options = {"stride": stride, "padding": padding, "groups": groups, "algorithm": each.name}
            yield f"{op} {x.shape} {shape} {options}", options

    y = F.conv2d(x, w, stride=stride, padding=padding, groups=groups)
    for name, options in every_kernel("conv_forward"):
        check(name, lambda x, w, out, options=options: F.conv2d(x, w, out=out, **options), [x, w, y])
    for name, options in every_kernel("conv_input_grad"):
        check(name, lambda w, y, options=options: G.conv2d_input(x.shape, w, y, **options), [w, y])
    for name, options in every_kernel("conv_weight_grad"):
        check(name, lambda x, y, options=options: G.conv2d_weight(x, shape, y, **options), [x, y])
    z = F.conv_transpose2d(y, w, stride=stride, groups=groups)
    transpose = partial(F.conv_transpose2d, stride=stride, groups=groups)
    check(f"transposed {y.shape}", lambda y, w, out: transpose(y, w, out=out), [y, w, z])


def check_depthwise(dtype: str, width: int, kernel: int, stride: int) -> None:
    """Planes are read where they lie, by vectors that reach beyond a row."""
    options = {"stride": stride, "padding": kernel // 2, "groups": 3, "algorithm": "direct"}
    x, w = ramp((2, 3, 6, width), dtype), ramp((3, 1, kernel, kernel), dtype)
    name = f"depthwise {x.shape} {w.shape} {options}"
    y = F.conv2d(x, w, **options)
    check(name, lambda x, w, out: F.conv2d(x, w, out=out, **options), [x, w, y])
    check(f"{name} input gradient", lambda w, y: G.conv2d_input(x.shape, w, y, **options), [w, y])
    check(f"{name} weight gradient", lambda x, y: G.conv2d_weight(x, w.shape, y, **options), [x, y])


def check_pools(dtype: str, height: int, width: int, kernel: int, stride: int, padding: int) -> None:
    """Rows narrower than a vector are read, and blocks of planes padded, beyond their ends."""
    x = ramp((2, 3, height, width), dtype)
    window = (kernel, stride, padding)
    name = f"{x.shape} {window} {dtype}"
    y, offsets = F.max_pool2d(x, *window, return_indices=True, index_dtype="uint8")
    for index_dtype in (None, "uint8", "int64"):
        options = {"return_indices": index_dtype is not None, "index_dtype": index_dtype or "int64"}
        check(f"max_pool2d {name} {index_dtype}", lambda x, o=options: F.max_pool2d(x, *window, **o), [x])
    check(f"max_pool2d gradient {name}", lambda y, i: G.max_pool2d(y, i, x.shape, *window), [y, offsets])
    check(f"avg_pool2d {name}", lambda x: F.avg_pool2d(x, *window), [x])


def check_winograd(dtype: str, m: int, width: int, dilation: int) -> None:
    """Tiles reach beyond the image on every side; results, filters and bias as well beside the fence."""
    options = {"padding": dilation, "dilation": dilation, "algorithm": f"winograd{m}"}
    x, w, b = ramp((2, 3, 7, width), dtype), ramp((7, 3, 3, 3), dtype), ramp((7,), dtype)
    name = f"{x.shape} {options}"
    y = F.conv2d(x, w, b, **options)
    check(f"conv2d {name}", lambda x, w, b, out: F.conv2d(x, w, b, out=out, **options), [x, w, b, y])
    check(f"input gradient {name}", lambda w, y: G.conv2d_input(x.shape, w, y, **options), [w, y])
    check(f"weight gradient {name}", lambda x, y: G.conv2d_weight(x, w.shape, y, **options), [x, y])
    transpose = partial(F.conv_transpose2d, padding=dilation, dilation=dilation, algorithm=f"winograd{m}")
    check(f"transposed {name}", lambda y, w, out: transpose(y, w, out=out), [y, w, x])


def check_updates(dtype: str, size: int) -> None:
    """Steps of optimizers and sums of squares."""
    arrays = [ramp((size,), dtype, seed=k) ** 2 for k in range(5)]
    rates, factors = UpdateRates(0.1, 0.9, 0.9, 0.9, 1.0, 1e-8, 1.0), np.ones((1, 3))
    for rule in ("sgd", "adam", "rmsprop"):
        spec = UpdateSpec(rule=rule, dtype=dtype)
        (kernel,) = kernels("optimizer_update", spec)
        check(
            f"{rule} {size}", lambda *a, r=kernel.run, s=spec: r(s, rates, factors, *([x] for x in a)), arrays
        )
    spec = ArraysSpec(dtype=dtype)
    (kernel,) = kernels("square_sums", spec)
    check(f"square_sums {size}", lambda x, r=kernel.run: r(spec, [x]), arrays[:1])


def check_blocked(dtype: str, channels: int, filters: int, width: int, kernel: int, stride: int) -> None:
    """Blocks are whole, so nothing is read or written behind them; plain arrays end anywhere."""
    padding = kernel // 2
    x, b = ramp((2, channels, 5, width), dtype), ramp((filters,), dtype)
    w = ramp((filters, channels, kernel, kernel), dtype)
    blocked, residual = B.to_blocked(x), B.to_blocked(F.conv2d(x, w, b, stride, padding))
    check(f"to_blocked {x.shape}", B.to_blocked, [x])
    check(f"from_blocked {x.shape}", lambda blocked: B.from_blocked(blocked, channels), [blocked])
    check(f"blocked max_pool2d {x.shape}", lambda blocked: B.max_pool2d(blocked, 2, 1, 1), [blocked])
    spec = ConvSpec.from_shapes(x.shape, w.shape, dtype, stride, padding, 1, 1)
    for op, call, given in (("conv", B.conv2d, blocked), ("stem", B.stem2d, x)):
        for each in kernels(f"blocked_{op}_forward", spec):
            options = {"stride": stride, "padding": padding, "algorithm": each.name}
            check(
                f"blocked {op} {x.shape} {w.shape} {options}",
                lambda x, w, b, r, call=call, options=options: call(x, w, b, **options, residual=r),
                [given, w, b, residual],
            )
    if channels == filters:
        w = ramp((channels, 1, kernel, kernel), dtype)
        depthwise = partial(B.conv2d, stride=stride, padding=padding, groups=channels, algorithm="depthwise")
        check(f"blocked depthwise {x.shape}", depthwise, [blocked, w, b])


def check_overlay(dtype: str, lanes: int, width: int, left: int) -> None:
    """Boxes that reach beyond the image on every side, patches in its corners, and one without a patch."""
    spec = OverlaySpec(
        images=3, planes=2, base_size=(4, 5), size=(6, width), lanes=lanes, fill=0.0, dtype=dtype
    )
    base, patches = ramp(spec.base_shape, dtype), ramp((2 * 2 * (6 + 4) * lanes,), dtype)
    second = 2 * 6 * lanes
    places = np.array(
        [(0, 0, 0, 2, 3, -1, left), (second, 2, 3, 2, 2, -1, left), (0, 0, 0, 0, 0, -1, left)], np.int64
    )
    (kernel,) = kernels("overlay", spec)
    check(
        f"overlay {spec}",
        lambda base, patches, places: kernel.run(spec, base, patches, places),
        [base, patches[: second + 2 * 4 * lanes], places],
    )


def check_prepared(dtype: str, width: int, stride: int, groups: int) -> None:
    """Residual and result beside the fence."""
    x, w, b = ramp((2, 4, 5, width), dtype), ramp((6, 4 // groups, 3, 3), dtype), ramp((6,), dtype)
    settings = {"stride": stride, "padding": 1, "groups": groups, "activation": "relu6"}
    spec = ConvSpec.from_shapes(x.shape, w.shape, dtype, stride, 1, 1, groups)
    y = ramp(spec.output_shape, dtype)
    for each in kernels("conv_forward", spec):
        check(
            f"prepared {x.shape} {settings} {each.name}",
            lambda x, w, b, r, out, a=each.name: prepare(w, b, algorithm=a, **settings)(x, r, out=out),
            [x, w, b, y, y],
        )


for case in CASES:
    for dtype in ("float32", "float64"):
        for batch in (1, 3):
            check(f"{case} {dtype}", lambda *a, case=case: case.run(list(a)), case.make(dtype, batch))

for dtype in ("float32", "float64"):
    for size in (1, 3, 15, 16, 17, 33, 4097):
        check(f"statistics {size} {dtype}", describe, [ramp((size,), dtype)])
        check(f"digest {size} {dtype}", lambda x: digest(x, x.nbytes, 1), [ramp((size,), dtype)])
    for size in (1, 3, 7, 8, 9, 15, 16, 17, 33, 16385):
        check_updates(dtype, size)
    for width in (3, 7, 8, 9, 15, 16, 17, 33):
        for window in ((2, 2, 0), (3, 2, 1), (3, 1, 1), (3, 3, 0)):
            check_pools(dtype, 5, width, *window)
    for width in (2, 6, 8, 14, 16, 18, 32, 34):
        check_pools(dtype, 4, width, 2, 2, 0)
    for width in (3, 7, 8, 9, 15, 16, 17, 33, 64, 259):
        for size in (1, 3):
            for rest in (
                (1, 0, 3, 1),
                (1, 1, 3, 1),
                (2, 1, 7, 1),
                (1, 1, 4, 4),
                (2, 1, 4, 4),
                (3, 2, 2, 2),
                (2, 1, 9, 1),
            ):
                check_convolutions(dtype, width, size, *rest)
        for stride in (1, 2):
            check_convolutions(dtype, width, 5, stride, 2, 2, 2)
            for kernel in (3, 5):
                check_depthwise(dtype, width, kernel, stride)
    for lanes in (1, 8, 16):
        for width in (1, 3, 5, 9):
            for left in (-7, -2, 0, 2, 5):
                check_overlay(dtype, lanes, width, left)
    for width in (3, 7, 8, 9, 15, 16, 17, 33):
        for stride in (1, 2):
            for groups in (1, 2):
                check_prepared(dtype, width, stride, groups)
    for m in (2, 4, 6):
        for width in (1, 3, 5, 7, 8, 9, 16, 17, 33):
            check_winograd(dtype, m, width, 1)
        for width in (3, 8, 17):
            check_winograd(dtype, m, width, 3)
    for channels, filters in ((3, 7), (16, 16), (9, 33)):
        for width in (1, 4, 6, 9):
            for window in ((1, 1), (3, 1), (3, 2)):
                check_blocked(dtype, channels, filters, width, *window)
print("ok")
