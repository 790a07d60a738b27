"""The compiled backend against PyTorch, where that is installed: random problems, and what either refuses.

The fixed problems of test_reference compare the reference with PyTorch; here the kernels meet arguments drawn at
random, and both libraries must agree on which calls are mistakes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import fastconv.functional as F
import fastconv.grad as G
from kit import Array, ramp

torch = pytest.importorskip("torch")
nn = torch.nn.functional

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")

DTYPES = st.sampled_from(["float32", "float64"])


def close(ours: Array, theirs: Any, scale: float = 1.0) -> None:
    """Same shape and dtype; values within a few hundred roundings of the largest."""
    theirs = theirs.detach().numpy()
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    if ours.dtype.kind != "f":
        np.testing.assert_array_equal(ours, theirs)
        return
    largest = np.abs(theirs[np.isfinite(theirs)]).max(initial=1.0)
    np.testing.assert_allclose(ours, theirs, rtol=0.0, atol=200 * scale * np.finfo(ours.dtype).eps * largest)


def gradients(function: Callable[..., Any], *arrays: Array) -> tuple[Any, Array, list[Any]]:
    """PyTorch's result, an output gradient, and PyTorch's gradients of the arrays."""
    leaves = [torch.tensor(a, requires_grad=True) for a in arrays]
    out = function(*leaves)
    grad = ramp(tuple(out.shape), arrays[0].dtype, seed=9)
    out.backward(torch.tensor(grad))
    return out, grad, [leaf.grad for leaf in leaves]


def both(ours: Callable[[], Any], theirs: Callable[[], Any]) -> bool:
    """Whether both accept the call; fails where only one does."""
    their_error = our_error = None
    try:
        theirs()
    except (RuntimeError, ValueError, IndexError, TypeError, AssertionError) as error:
        their_error = error
    try:
        ours()
    except (ValueError, TypeError) as error:
        our_error = error
    assert (our_error is None) == (their_error is None), f"fastconv: {our_error!r}; PyTorch: {their_error!r}"
    return our_error is None


def per_dim(draw: st.DrawFn, low: int, high: int, ndim: int) -> Any:
    """One integer, or one for each dimension."""
    number = st.integers(low, high)
    return draw(number) if draw(st.booleans()) else tuple(draw(number) for _ in range(ndim))


@settings(max_examples=150)
@given(st.data(), st.integers(1, 3), DTYPES)
def test_convolution(data: st.DataObject, ndim: int, dtype: str) -> None:
    draw = data.draw
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    c, k = groups * draw(st.integers(1, 4)), groups * draw(st.integers(1, 9))
    shape = (draw(st.integers(0, 3)), c, *(draw(st.integers(1, 14)) for _ in range(ndim)))
    if draw(st.integers(0, 4)) == 0:
        shape = shape[1:]
    weight = (k, c // groups, *(draw(st.integers(1, 5)) for _ in range(ndim)))
    padding = draw(st.sampled_from(["same", "valid"])) if draw(st.integers(0, 3)) == 0 else None
    if padding is None:
        padding = per_dim(data.draw, 0, 4, ndim)
    args = (per_dim(draw, 1, 3, ndim), padding, per_dim(draw, 1, 3, ndim), groups)
    x, w, b = ramp(shape, dtype), ramp(weight, dtype, 1), ramp((k,), dtype, 2)
    ours, theirs = getattr(F, f"conv{ndim}d"), getattr(nn, f"conv{ndim}d")
    if both(
        lambda: ours(x, w, b, *args), lambda: theirs(torch.tensor(x), torch.tensor(w), torch.tensor(b), *args)
    ):
        out, grad, (dx, dw, db) = gradients(lambda x, w, b: theirs(x, w, b, *args), x, w, b)
        close(ours(x, w, b, *args), out)
        close(ours(x, w, None, *args), theirs(torch.tensor(x), torch.tensor(w), None, *args))
        close(getattr(G, f"conv{ndim}d_input")(x.shape, w, grad, *args), dx)
        close(getattr(G, f"conv{ndim}d_weight")(x, w.shape, grad, *args), dw)
        close(G.conv_bias(grad if x.ndim == w.ndim else grad[None]), db)


@settings(max_examples=100)
@given(st.data(), st.integers(1, 2), DTYPES)
def test_transposed_convolution(data: st.DataObject, ndim: int, dtype: str) -> None:
    draw = data.draw
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    c, k = groups * draw(st.integers(1, 4)), draw(st.integers(1, 4))
    # PyTorch does not look at output_padding where the batch is empty.
    shape = (draw(st.integers(1, 3)), c, *(draw(st.integers(1, 8)) for _ in range(ndim)))
    weight = (c, k, *(draw(st.integers(1, 4)) for _ in range(ndim)))
    args = (
        per_dim(draw, 1, 4, ndim),
        per_dim(draw, 0, 3, ndim),
        per_dim(draw, 0, 2, ndim),
        groups,
        per_dim(draw, 1, 3, ndim),
    )
    x, w, b = ramp(shape, dtype), ramp(weight, dtype, 1), ramp((k * groups,), dtype, 2)
    name = f"conv_transpose{ndim}d"
    ours, theirs = getattr(F, name), getattr(nn, name)
    if both(
        lambda: ours(x, w, b, *args), lambda: theirs(torch.tensor(x), torch.tensor(w), torch.tensor(b), *args)
    ):
        out, grad, (dx, dw, _) = gradients(lambda x, w, b: theirs(x, w, b, *args), x, w, b)
        close(ours(x, w, b, *args), out)
        close(getattr(G, f"{name}_input")(x.shape, w, grad, *args), dx)
        close(getattr(G, f"{name}_weight")(x, w.shape, grad, *args), dw)


def special(shape: tuple[int, ...], dtype: str, kind: int) -> Array:
    """A ramp, few distinct values (ties), or those with NaN and infinities among them."""
    if kind == 0:
        return ramp(shape, dtype)
    x = np.round(2 * ramp(shape, dtype))
    if kind == 2:
        random = np.random.default_rng(0).random(shape)
        x[random < 0.1] = np.nan
        x[random > 0.8] = -np.inf
    return x


@settings(max_examples=200)
@given(st.data(), st.integers(1, 2), DTYPES, st.integers(0, 2))
def test_max_pooling(data: st.DataObject, ndim: int, dtype: str, kind: int) -> None:
    draw = data.draw
    shape = (
        draw(st.integers(0, 2)),
        draw(st.integers(1, 3)),
        *(draw(st.integers(1, 20)) for _ in range(ndim)),
    )
    if draw(st.integers(0, 4)) == 0:
        shape = shape[1:]
    args = (
        per_dim(draw, 1, 5, ndim),
        draw(st.none()) if draw(st.booleans()) else per_dim(draw, 1, 5, ndim),
        per_dim(draw, 0, 2, ndim),
        per_dim(draw, 1, 3, ndim),
        draw(st.booleans()),
    )
    x, name = special(shape, dtype, kind), f"max_pool{ndim}d"
    ours, theirs = getattr(F, name), getattr(nn, name)
    # PyTorch gives -inf, and an index outside the plane, to a dilated window whose every element is padding.
    try:
        ours(x, *args)
    except ValueError as error:
        assume("every window must cover" not in str(error))
    if both(lambda: ours(x, *args), lambda: theirs(torch.tensor(x), *args)):
        values, indices = theirs(torch.tensor(x), *args, return_indices=True)
        out, where = ours(x, *args, return_indices=True)
        np.testing.assert_array_equal(out, values.numpy(), strict=True)
        np.testing.assert_array_equal(where, indices.numpy(), strict=True)
        np.testing.assert_array_equal(ours(x, *args), out)
        _, offsets = ours(x, *args, return_indices=True, index_dtype="uint8")
        _, grad, (dx,) = gradients(lambda x: theirs(x, *args), x)
        for positions in (where, offsets):
            close(getattr(G, name)(grad, positions, x.shape, *args), dx)


@settings(max_examples=150)
@given(st.data(), st.integers(1, 2), DTYPES)
def test_average_pooling(data: st.DataObject, ndim: int, dtype: str) -> None:
    draw = data.draw
    shape = (
        draw(st.integers(0, 2)),
        draw(st.integers(1, 3)),
        *(draw(st.integers(1, 20)) for _ in range(ndim)),
    )
    args = (
        per_dim(draw, 1, 5, ndim),
        per_dim(draw, 1, 5, ndim),
        per_dim(draw, 0, 2, ndim),
        draw(st.booleans()),
        draw(st.booleans()),
    )
    if ndim == 2 and draw(st.booleans()):
        args = (*args, draw(st.sampled_from([-3, 0, 1, 7])))
    x, name = ramp(shape, dtype), f"avg_pool{ndim}d"
    ours, theirs = getattr(F, name), getattr(nn, name)
    if both(lambda: ours(x, *args), lambda: theirs(torch.tensor(x), *args)):
        out, grad, (dx,) = gradients(lambda x: theirs(x, *args), x)
        close(ours(x, *args), out)
        close(getattr(G, name)(grad, x.shape, *args), dx)


@settings(max_examples=100)
@given(st.data(), st.integers(1, 2), DTYPES, st.integers(0, 2))
def test_adaptive_pooling(data: st.DataObject, ndim: int, dtype: str, kind: int) -> None:
    draw = data.draw
    shape = (
        draw(st.integers(0, 2)),
        draw(st.integers(1, 3)),
        *(draw(st.integers(1, 20)) for _ in range(ndim)),
    )
    size = per_dim(draw, 1, 9, ndim)
    average, maximum = f"adaptive_avg_pool{ndim}d", f"adaptive_max_pool{ndim}d"
    x = ramp(shape, dtype)
    out, grad, (dx,) = gradients(lambda x: getattr(nn, average)(x, size), x)
    close(getattr(F, average)(x, size), out)
    close(getattr(G, average)(grad, x.shape), dx)
    x = special(shape, dtype, kind)
    out, grad, (dx,) = gradients(lambda x: getattr(nn, maximum)(x, size), x)
    ours, where = getattr(F, maximum)(x, size, True)
    np.testing.assert_array_equal(ours, out.detach().numpy())
    np.testing.assert_array_equal(where, getattr(nn, maximum)(torch.tensor(x), size, True)[1].numpy())
    close(getattr(G, maximum)(grad, where, x.shape), dx)


@settings(max_examples=100)
@given(st.data(), DTYPES)
def test_unfold_and_fold(data: st.DataObject, dtype: str) -> None:
    draw = data.draw
    shape = (
        draw(st.integers(1, 3)),
        draw(st.integers(1, 3)),
        draw(st.integers(1, 12)),
        draw(st.integers(1, 12)),
    )
    args = tuple(per_dim(draw, low, high, 2) for low, high in ((1, 4), (1, 2), (0, 2), (1, 3)))
    x = ramp(shape, dtype)
    if both(lambda: F.unfold(x, *args), lambda: nn.unfold(torch.tensor(x), *args)):
        out, grad, (dx,) = gradients(lambda x: nn.unfold(x, *args), x)
        columns = F.unfold(x, *args)
        close(columns, out)
        close(G.unfold(grad, x.shape, *args), dx)
        out, grad, (dc,) = gradients(lambda c: nn.fold(c, shape[2:], *args), columns)
        close(F.fold(columns, shape[2:], *args), out)
        close(G.fold(grad, *args), dc)


@settings(max_examples=150)
@given(st.data(), st.sampled_from(["constant", "reflect", "replicate", "circular"]), DTYPES)
def test_padding(data: st.DataObject, mode: str, dtype: str) -> None:
    draw = data.draw
    axes = draw(st.integers(1, 3))
    shape = tuple(draw(st.integers(1, 7)) for _ in range(axes + 2))
    low = -3 if mode == "constant" else 0
    sides = tuple(draw(st.integers(low, 6)) for _ in range(2 * axes))
    value = draw(st.sampled_from([None, 1.5])) if mode == "constant" else None
    x = ramp(shape, dtype)
    if both(lambda: F.pad(x, sides, mode, value), lambda: nn.pad(torch.tensor(x), sides, mode, value)):
        out, grad, (dx,) = gradients(lambda x: nn.pad(x, sides, mode, value), x)
        close(F.pad(x, sides, mode, value), out)
        close(G.pad(grad, x.shape, sides, mode), dx)


@settings(max_examples=80)
@given(st.data(), DTYPES)
def test_softmax_along_any_axis(data: st.DataObject, dtype: str) -> None:
    shape = tuple(data.draw(st.lists(st.sampled_from([1, 2, 7, 8, 9, 17, 33]), min_size=1, max_size=3)))
    dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    x = data.draw(st.sampled_from([1, 30, 1000])) * ramp(shape, dtype)
    for name in ("softmax", "log_softmax"):
        out, grad, (dx,) = gradients(lambda x, name=name: getattr(nn, name)(x, dim), x)
        ours = getattr(F, name)(x, dim)
        close(ours, out)
        close(getattr(G, name)(grad, ours, dim), dx)


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "relu6", "sigmoid", "tanh"])
def test_activations_of_special_values(name: str, dtype: str, isa: str) -> None:
    large = [6.0, 88.8, -88.8, 104.0, -104.0, 745.0, -745.0]
    x = np.tile(np.array([0.0, -0.0, 1e-40, -1e-40, np.inf, -np.inf, np.nan, *large], dtype), 5)
    out = getattr(nn, name)(torch.tensor(x)).numpy()
    # PyTorch flushes what is below the smallest normal number to zero.
    info = np.finfo(dtype)
    np.testing.assert_allclose(getattr(F, name)(x), out, rtol=4 * info.eps, atol=info.tiny)


@settings(max_examples=60)
@given(st.data(), DTYPES)
def test_linear(data: st.DataObject, dtype: str) -> None:
    size = st.sampled_from([1, 2, 5, 6, 7, 8, 16, 17, 33])
    lead = tuple(data.draw(st.lists(size, max_size=2)))
    n, k = data.draw(size), data.draw(size)
    x, w, b = ramp((*lead, k), dtype), ramp((n, k), dtype, 1), ramp((n,), dtype, 2)
    out, grad, (dx, dw, db) = gradients(nn.linear, x, w, b)
    close(F.linear(x, w, b), out)
    close(G.linear_input(w, grad), dx)
    close(G.linear_weight(x, grad), dw)
    close(G.linear_bias(grad), db)


@settings(max_examples=80)
@given(st.data(), st.booleans(), DTYPES)
def test_batch_norm(data: st.DataObject, training: bool, dtype: str) -> None:
    draw = data.draw
    inner = st.lists(st.sampled_from([1, 2, 7, 9, 33]), max_size=2)
    shape = (draw(st.integers(2, 5)), draw(st.integers(1, 5)), *draw(inner))
    c = shape[1]
    x = draw(st.sampled_from([0.0, 3.0, 100.0])) + ramp(shape, dtype)
    w, b, mean, var = (ramp((c,), dtype, seed) + (seed % 2) * 1.5 for seed in (1, 2, 4, 3))
    their_mean, their_var = torch.tensor(mean), torch.tensor(var)
    args = (training, 0.3, 1e-3)
    out, grad, expected = gradients(
        lambda x, w, b: nn.batch_norm(x, their_mean, their_var, w, b, *args), x, w, b
    )
    ours, used_mean, inv_std = F.batch_norm(x, mean, var, w, b, *args, return_stats=True)
    size = float(np.abs(x).max()) * 10
    close(ours, out, scale=size)
    close(mean, their_mean)
    close(var, their_var, scale=size)
    for mine, theirs in zip(G.batch_norm(grad, x, used_mean, inv_std, w, training), expected, strict=True):
        close(mine, theirs, scale=10 * size)


@settings(max_examples=150)
@given(st.data(), DTYPES)
def test_cross_entropy(data: st.DataObject, dtype: str) -> None:
    draw = data.draw
    classes = draw(st.sampled_from([1, 2, 5, 17, 40]))
    inner = tuple(draw(st.lists(st.sampled_from([1, 3, 8, 9]), max_size=2)))
    batch = draw(st.integers(1, 9))
    shape, rest = (batch, classes, *inner), (batch, *inner)
    x = draw(st.sampled_from([1, 50])) * ramp(shape, dtype)
    weight = np.abs(ramp((classes,), dtype, 3)) if draw(st.booleans()) else None
    soft = draw(st.booleans())
    random = np.random.default_rng(draw(st.integers(0, 99)))
    options: dict[str, Any] = {
        "reduction": draw(st.sampled_from(["mean", "sum", "none"])),
        "label_smoothing": draw(st.sampled_from([0.0, 0.3])),
    }
    if soft:
        target = np.moveaxis(random.dirichlet(np.ones(classes), rest), -1, 1).astype(dtype)
    else:
        target = random.integers(0, classes, rest)
        options["ignore_index"] = draw(st.sampled_from([-100, 0, 1]))
        target[random.random(rest) < 0.2] = options["ignore_index"]
    goal, w = torch.tensor(target), None if weight is None else torch.tensor(weight)
    out, grad, (dx,) = gradients(lambda x: nn.cross_entropy(x, goal, w, **options), x)
    loss, log_probs = F.cross_entropy(x, target, weight, return_log_probs=True, **options)
    if np.isnan(out.detach().numpy()).all():  # the mean over nothing
        assert np.isnan(loss).all()
        return
    close(np.asarray(loss), out)
    close(G.cross_entropy(grad, log_probs, target, weight, **options), dx)


# ------------------------------------------------------------------------------------------------------- refusals

IMAGE, LINE = np.zeros((2, 4, 6, 5)), np.zeros((2, 4, 6))
WEIGHT = np.zeros((6, 4, 3, 3))
INDICES = np.zeros((2, 4, 3, 2), np.int64)
MISTAKES: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("conv2d", (IMAGE, WEIGHT), {"groups": 3}),
    ("conv2d", (IMAGE, WEIGHT), {"groups": 0}),
    ("conv2d", (IMAGE, WEIGHT), {"groups": -1}),
    ("conv2d", (IMAGE, WEIGHT), {"stride": 0}),
    ("conv2d", (IMAGE, WEIGHT), {"stride": -1}),
    ("conv2d", (IMAGE, WEIGHT), {"padding": -1}),
    ("conv2d", (IMAGE, WEIGHT), {"dilation": 0}),
    ("conv2d", (IMAGE, WEIGHT), {"dilation": 4}),
    ("conv2d", (IMAGE, WEIGHT), {"stride": (1, 2, 3)}),
    ("conv2d", (IMAGE, WEIGHT), {"stride": 1.5}),
    ("conv2d", (IMAGE, WEIGHT), {"padding": "full"}),
    ("conv2d", (IMAGE, WEIGHT), {"padding": "same", "stride": 2}),
    ("conv2d", (IMAGE, np.zeros((6, 3, 3, 3))), {}),
    ("conv2d", (IMAGE, np.zeros((6, 4, 7, 1))), {}),
    ("conv2d", (IMAGE, np.zeros((6, 4, 3))), {}),
    ("conv2d", (IMAGE, WEIGHT, np.zeros(5)), {}),
    ("conv2d", (IMAGE, WEIGHT, np.zeros((6, 1))), {}),
    ("conv2d", (IMAGE[0, 0], WEIGHT), {}),
    ("conv2d", (IMAGE[None], WEIGHT), {}),
    ("conv2d", (IMAGE.astype("float32"), WEIGHT), {}),
    ("conv2d", (np.zeros((2, 4, 0, 5)), WEIGHT), {}),
    ("conv1d", (IMAGE, WEIGHT[:, :, 0]), {}),
    ("conv1d", (LINE, np.zeros((6, 4, 7))), {}),
    ("conv3d", (IMAGE[None, None], WEIGHT[None]), {}),
    ("conv_transpose2d", (IMAGE, WEIGHT[:4]), {"output_padding": 1}),
    ("conv_transpose2d", (IMAGE, WEIGHT[:4]), {"output_padding": 2, "stride": 2}),
    ("conv_transpose2d", (IMAGE, WEIGHT[:4]), {"padding": 9}),
    ("conv_transpose2d", (IMAGE, WEIGHT), {}),
    ("conv_transpose2d", (IMAGE, WEIGHT[:4]), {"groups": 3}),
    ("conv_transpose2d", (IMAGE, WEIGHT[:4], np.zeros(3)), {}),
    ("conv_transpose1d", (LINE, np.zeros((4, 2, 3))), {"padding": "same"}),
    ("max_pool2d", (IMAGE, 0), {}),
    ("max_pool2d", (IMAGE, 7), {}),
    ("max_pool2d", (IMAGE, 2), {"stride": 0}),
    ("max_pool2d", (IMAGE, 2), {"padding": 2}),
    ("max_pool2d", (IMAGE, 2), {"padding": -1}),
    ("max_pool2d", (IMAGE, 2), {"dilation": 0}),
    ("max_pool2d", (IMAGE, (1, 2, 3)), {}),
    ("max_pool2d", (IMAGE[0, 0], 2), {}),
    ("max_pool2d", (np.zeros((2, 0, 4, 4)), 2), {}),
    ("max_pool2d", (np.zeros((2, 3, 0, 4)), 2), {}),
    ("max_pool1d", (IMAGE, 2), {}),
    ("max_pool1d", (LINE, 8), {}),
    ("avg_pool2d", (IMAGE, 7), {}),
    ("avg_pool2d", (IMAGE, 2), {"padding": 2}),
    ("avg_pool2d", (IMAGE, 2), {"divisor_override": 0}),
    ("avg_pool1d", (LINE, 0), {}),
    ("adaptive_avg_pool2d", (IMAGE, (1, 2, 3)), {}),
    ("adaptive_avg_pool2d", (IMAGE, -1), {}),
    ("adaptive_avg_pool1d", (IMAGE, 2), {}),
    ("adaptive_max_pool2d", (IMAGE, -2), {}),
    ("adaptive_max_pool2d", (np.zeros((2, 3, 0, 4)), 2), {}),
    ("max_unpool2d", (IMAGE[:, :, :3, :2], INDICES + 99, 2), {}),
    ("max_unpool2d", (IMAGE[:, :, :3, :2], INDICES - 1, 2), {}),
    ("max_unpool2d", (IMAGE, INDICES, 2), {}),
    ("max_unpool2d", (IMAGE[:, :, :3, :2], INDICES, 2), {"output_size": (9, 4)}),
    ("max_unpool2d", (IMAGE[:, :, :3, :2], INDICES.astype("int32"), 2), {}),
    ("dropout", (IMAGE,), {"p": -0.1}),
    ("dropout", (IMAGE,), {"p": 1.1}),
    ("softmax", (IMAGE,), {"dim": 4}),
    ("softmax", (IMAGE,), {"dim": -5}),
    ("log_softmax", (LINE,), {"dim": 3}),
    ("linear", (LINE, np.zeros((3, 5))), {}),
    ("linear", (LINE, np.zeros((3, 6)), np.zeros(4)), {}),
    ("linear", (LINE, np.zeros((3, 6, 1))), {}),
    ("batch_norm", (IMAGE, np.zeros(3), np.ones(3)), {}),
    ("batch_norm", (IMAGE, np.zeros(4), np.ones(4), np.ones(5)), {}),
    ("batch_norm", (IMAGE, None, None), {}),
    ("batch_norm", (np.zeros((1, 4)), None, None), {"training": True}),
    ("cross_entropy", (LINE[:, :, 0], np.zeros(3, int)), {}),
    ("cross_entropy", (LINE[:, :, 0], np.array([0, 4])), {}),
    ("cross_entropy", (LINE[:, :, 0], np.array([0, -1])), {}),
    ("cross_entropy", (LINE[:, :, 0], np.zeros(2, int), np.ones(5)), {}),
    ("cross_entropy", (LINE[:, :, 0], np.zeros(2, int)), {"reduction": "median"}),
    ("cross_entropy", (LINE[:, :, 0], np.zeros(2, int)), {"label_smoothing": 1.5}),
    ("cross_entropy", (LINE, np.zeros((2, 5), int)), {}),
    ("unfold", (IMAGE, 7), {}),
    ("unfold", (IMAGE, 0), {}),
    ("unfold", (LINE[0], 2), {}),
    ("fold", (np.zeros((2, 7, 9)), (4, 4), 2), {}),
    ("fold", (np.zeros((2, 8, 8)), (4, 4), 2), {}),
    ("pad", (IMAGE, (1,)), {}),
    ("pad", (IMAGE, (1,) * 10), {}),
    ("pad", (IMAGE, (-3, -3)), {}),
    ("pad", (IMAGE, (5, 0, 0, 0)), {"mode": "reflect"}),
    ("pad", (IMAGE, (6, 0, 0, 0)), {"mode": "circular"}),
    ("pad", (IMAGE, (1, 1)), {"mode": "mirror"}),
    ("pad", (IMAGE, (1, 1, 1, 1)), {"mode": "reflect", "value": 1.0}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "args", "options"), MISTAKES)
def test_what_pytorch_refuses_is_refused(name: str, args: tuple[Any, ...], options: dict[str, Any]) -> None:
    with pytest.raises((RuntimeError, ValueError, IndexError, TypeError, NotImplementedError)):
        getattr(nn, name)(*(torch.tensor(a) if isinstance(a, np.ndarray) else a for a in args), **options)
    with pytest.raises((ValueError, TypeError)):
        getattr(F, name)(*args, **options)


def test_torch_tensors_are_taken() -> None:
    x, w = torch.rand(2, 3, 5, 5), torch.rand(4, 3, 3, 3)
    close(F.conv2d(x, w), nn.conv2d(x, w))
    close(F.relu(x.to(memory_format=torch.channels_last) - 0.5), nn.relu(x - 0.5))
    with pytest.raises((RuntimeError, TypeError)):
        F.relu(x.requires_grad_())
