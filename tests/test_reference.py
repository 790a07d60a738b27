"""The NumPy reference, through the public functions, against PyTorch; and the generator against published vectors."""

from __future__ import annotations

import numpy as np
import pytest

import fastconv
import fastconv.functional as F
import fastconv.grad as G
from fastconv.backends.reference import philox4x32_10

DTYPES = ("float32", "float64")


@pytest.fixture(autouse=True)
def _reference():
    with fastconv.use_backend("reference"):
        yield


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


def ramp(shape, dtype="float64", seed=0):
    """Distinct values around zero in random order: no ties, nothing near a kink."""
    size = int(np.prod(shape))
    values = (np.random.default_rng(seed).permutation(size) - size / 2 + 0.25) / max(size, 1)
    return values.reshape(shape).astype(dtype)


def close(ours, theirs, dtype="float64"):
    theirs = theirs.detach().numpy()
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    tolerance = 2e-5 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


def leaf(torch, array):
    return torch.tensor(array, requires_grad=True)


def with_gradients(torch, function, *arrays):
    """Result of a torch function, an output gradient for it, and the gradients it gives the arrays."""
    leaves = [leaf(torch, a) for a in arrays]
    out = function(*leaves)
    grad = ramp(tuple(out.shape), arrays[0].dtype.name, seed=9)
    out.backward(torch.tensor(grad))
    return out, grad, [x.grad for x in leaves]


CONVS = [
    # input, weight, stride, padding, dilation, groups
    ((2, 3, 9), (4, 3, 3), 1, 0, 1, 1),
    ((2, 4, 11), (6, 2, 3), 2, 2, 3, 2),
    ((2, 3, 7, 8), (5, 3, 3, 3), 1, 1, 1, 1),
    ((2, 4, 9, 7), (8, 1, 3, 2), (2, 1), (1, 0), (1, 2), 4),
    ((1, 2, 5, 5), (3, 2, 5, 5), 1, "valid", 1, 1),
    ((2, 2, 6, 5), (2, 2, 4, 3), 1, "same", (2, 1), 1),
    ((0, 2, 6, 5), (2, 2, 3, 3), 1, 1, 1, 1),
    ((3, 4, 5), (2, 3, 2, 3), 1, 1, 1, 1),
    ((1, 2, 5, 6, 4), (4, 1, 2, 3, 2), (1, 2, 1), (0, 1, 1), (2, 1, 1), 2),
]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "weight_shape", "stride", "padding", "dilation", "groups"), CONVS)
def test_conv_and_its_gradients(torch, shape, weight_shape, stride, padding, dilation, groups, dtype):
    ndim = len(weight_shape) - 2
    x, w, b = ramp(shape, dtype), ramp(weight_shape, dtype, 1), ramp(weight_shape[:1], dtype, 2)
    args = (stride, padding, dilation, groups)
    their = getattr(torch.nn.functional, f"conv{ndim}d")
    out, grad, (dx, dw, db) = with_gradients(torch, lambda x, w, b: their(x, w, b, *args), x, w, b)
    close(getattr(F, f"conv{ndim}d")(x, w, b, *args), out, dtype)
    close(getattr(G, f"conv{ndim}d_input")(x.shape, w, grad, *args), dx, dtype)
    close(getattr(G, f"conv{ndim}d_weight")(x, w.shape, grad, *args), dw, dtype)
    close(G.conv_bias(grad if x.ndim == w.ndim else grad[None]), db, dtype)


TRANSPOSED = [
    # input, weight, stride, padding, output_padding, groups, dilation
    ((2, 3, 5), (3, 4, 3), 2, 1, 1, 1, 1),
    ((4, 5), (4, 2, 2), 1, 0, 0, 2, 3),
    ((2, 4, 3, 5), (4, 3, 3, 2), (3, 2), (1, 0), (2, 1), 2, (1, 2)),
    ((2, 2, 3, 3), (2, 1, 1, 1), 2, 0, 1, 1, 1),
    ((1, 2, 4, 4), (2, 3, 2, 2), 1, 1, 1, 1, 2),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("shape", "weight_shape", "stride", "padding", "extra", "groups", "dilation"), TRANSPOSED
)
def test_conv_transpose_and_its_gradients(
    torch, shape, weight_shape, stride, padding, extra, groups, dilation, dtype
):
    name = f"conv_transpose{len(weight_shape) - 2}d"
    x, w, b = ramp(shape, dtype), ramp(weight_shape, dtype, 1), ramp((weight_shape[1] * groups,), dtype, 2)
    args = (stride, padding, extra, groups, dilation)
    their = getattr(torch.nn.functional, name)
    out, grad, (dx, dw, db) = with_gradients(torch, lambda x, w, b: their(x, w, b, *args), x, w, b)
    close(getattr(F, name)(x, w, b, *args), out, dtype)
    close(getattr(G, f"{name}_input")(x.shape, w, grad, *args), dx, dtype)
    close(getattr(G, f"{name}_weight")(x, w.shape, grad, *args), dw, dtype)
    close(G.conv_bias(grad if x.ndim == w.ndim else grad[None]), db, dtype)


def test_explicit_sides_are_zero_padding_followed_by_a_valid_convolution():
    x, w = ramp((1, 2, 5, 6)), ramp((3, 2, 3, 3), seed=1)
    padded = np.pad(x, ((0, 0), (0, 0), (2, 0), (1, 3)))
    np.testing.assert_array_equal(F.conv2d(x, w, padding=(2, 0, 1, 3)), F.conv2d(padded, w))


POOLS = [
    # input, kernel, stride, padding, dilation, ceil_mode
    ((2, 3, 11), 3, None, 1, 1, False),
    ((3, 12), 2, 3, 0, 2, True),
    ((2, 3, 8, 9), 2, None, 0, 1, False),
    ((2, 3, 8, 9), (3, 2), (2, 1), (1, 0), (1, 3), True),
    ((3, 7, 7), 3, 2, 1, 2, True),
    ((0, 3, 7, 7), 3, 2, 1, 1, False),
    ((1, 1, 5, 5), (4, 5), 3, 2, 1, True),
]


@pytest.mark.parametrize("index_dtype", ["int64", "uint8"])
@pytest.mark.parametrize(("shape", "kernel", "stride", "padding", "dilation", "ceil_mode"), POOLS)
def test_max_pool_and_its_gradient(torch, shape, kernel, stride, padding, dilation, ceil_mode, index_dtype):
    ndim = 1 if shape in ((2, 3, 11), (3, 12)) else 2
    name, x, args = f"max_pool{ndim}d", ramp(shape), (kernel, stride, padding, dilation, ceil_mode)
    their = getattr(torch.nn.functional, name)
    out, grad, (dx,) = with_gradients(torch, lambda x: their(x, *args), x)
    ours, indices = getattr(F, name)(x, *args, return_indices=True, index_dtype=index_dtype)
    close(ours, out)
    close(getattr(F, name)(x, *args), out)
    close(getattr(G, name)(grad, indices, x.shape, *args), dx)
    if index_dtype == "int64":
        close(indices, their(torch.tensor(x), *args, return_indices=True)[1])


def test_first_maximum_wins_and_the_last_nan(torch):
    x = np.array([[[[2.0, 2.0, np.nan, 1.0, np.nan, 0.0], [2.0, 0.0, 3.0, 3.0, -np.inf, np.nan]]]])
    out, indices = F.max_pool2d(x, 2, return_indices=True)
    theirs, their_indices = torch.nn.functional.max_pool2d(torch.tensor(x), 2, return_indices=True)
    close(out, theirs)
    close(indices, their_indices)
    assert F.max_pool2d(x, 2, return_indices=True, index_dtype="uint8")[1].ravel().tolist() == [0, 0, 3]
    close(
        F.adaptive_max_pool2d(x, (1, 2), True)[1],
        torch.nn.functional.adaptive_max_pool2d(torch.tensor(x), (1, 2), True)[1],
    )


AVG_POOLS = [
    ((2, 3, 11), 3, 2, 1, True, True, None),
    ((2, 3, 8, 9), 2, None, 0, False, True, None),
    ((2, 3, 8, 9), (3, 2), (2, 1), (1, 1), True, True, None),
    ((3, 7, 8), 3, 2, 1, True, False, None),
    ((1, 2, 7, 8), 3, 2, 1, False, True, 5),
]


@pytest.mark.parametrize(("shape", "kernel", "stride", "padding", "ceil_mode", "count", "divisor"), AVG_POOLS)
def test_avg_pool_and_its_gradient(torch, shape, kernel, stride, padding, ceil_mode, count, divisor):
    ndim = 1 if shape == (2, 3, 11) else 2
    name, x = f"avg_pool{ndim}d", ramp(shape)
    args = (kernel, stride, padding, ceil_mode, count) + ((divisor,) if ndim == 2 else ())
    out, grad, (dx,) = with_gradients(torch, lambda x: getattr(torch.nn.functional, name)(x, *args), x)
    close(getattr(F, name)(x, *args), out)
    close(getattr(G, name)(grad, x.shape, *args), dx)


@pytest.mark.parametrize(("shape", "size"), [((2, 3, 7), 3), ((2, 3, 7, 5), (3, None)), ((3, 4, 5), 6)])
def test_adaptive_pools_and_their_gradients(torch, shape, size):
    ndim = 1 if shape == (2, 3, 7) else 2
    x, nn = ramp(shape), torch.nn.functional
    average, maximum = f"adaptive_avg_pool{ndim}d", f"adaptive_max_pool{ndim}d"
    out, grad, (dx,) = with_gradients(torch, lambda x: getattr(nn, average)(x, size), x)
    close(getattr(F, average)(x, size), out)
    close(getattr(G, average)(grad, x.shape), dx)
    out, grad, (dx,) = with_gradients(torch, lambda x: getattr(nn, maximum)(x, size), x)
    ours, indices = getattr(F, maximum)(x, size, True)
    close(ours, out)
    close(indices, getattr(nn, maximum)(torch.tensor(x), size, True)[1])
    close(getattr(G, maximum)(grad, indices, x.shape), dx)


@pytest.mark.parametrize(
    ("shape", "args", "size"),
    [((2, 3, 8), (2,), None), ((2, 3, 7, 9), (2, 2), (7, 9)), ((3, 6, 6), (3, 3), None)],
)
def test_max_unpool_and_its_gradient(torch, shape, args, size):
    ndim = 1 if shape == (2, 3, 8) else 2
    nn = torch.nn.functional
    x, indices = getattr(F, f"max_pool{ndim}d")(ramp(shape), *args, return_indices=True)
    name = f"max_unpool{ndim}d"
    where = torch.tensor(indices)
    out, grad, (dx,) = with_gradients(
        torch, lambda x: getattr(nn, name)(x, where, *args, output_size=size), x
    )
    close(getattr(F, name)(x, indices, *args, output_size=size), out)
    close(getattr(G, name)(grad, indices), dx)


@pytest.mark.parametrize("index", [-1, 16, 2**40])
def test_indices_outside_the_plane_are_refused(index):
    bad = np.full((1, 1, 2, 2), index)
    ones = np.ones((1, 1, 2, 2))
    with pytest.raises(ValueError, match=r"must be in \[0, 16\)"):
        F.max_unpool2d(ones, bad, 2)
    with pytest.raises(ValueError, match=r"must be in \[0, 16\)"):
        G.max_pool2d(ones, bad, (1, 1, 4, 4), 2)
    with pytest.raises(ValueError, match=r"must be in \[0, 16\)"):
        G.adaptive_max_pool2d(ones, bad, (1, 1, 4, 4))
    with pytest.raises(ValueError, match=r"must be in \[0, 4\)"):
        G.max_unpool2d(ones, bad)


def test_offsets_outside_the_window_or_in_the_padding_are_refused():
    grad = np.ones((1, 1, 2, 2))
    offsets = np.full((1, 1, 2, 2), 4, dtype=np.uint8)
    with pytest.raises(ValueError, match=r"offsets in \[0, 4\), got 4"):
        G.max_pool2d(grad, offsets, (1, 1, 4, 4), 2)
    # With a 3x3 window and padding 1 the offset 4 is the centre; 1 lies above the input in the first row only.
    inside = G.max_pool2d(grad, offsets, (1, 1, 3, 3), 3, 2, 1)
    assert inside[0, 0].tolist() == [[1, 0, 1], [0, 0, 0], [1, 0, 1]]
    offsets[0, 0, 0] = 1
    with pytest.raises(ValueError, match="inside the input"):
        G.max_pool2d(grad, offsets, (1, 1, 3, 3), 3, 2, 1)
    offsets[0, 0] = [[4, 4], [1, 5]]
    with pytest.raises(ValueError, match="inside the input"):
        G.max_pool2d(grad, offsets, (1, 1, 3, 3), 3, 2, 1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["relu", "leaky_relu", "relu6", "sigmoid", "tanh"])
def test_activations_and_their_gradients(torch, name, dtype):
    x = np.append(np.linspace(-9.0, 9.0, 36), [0.0, 6.0, 1000.0, -1000.0]).astype(dtype).reshape(4, 10)
    out, grad, (dx,) = with_gradients(torch, getattr(torch.nn.functional, name), x)
    ours = getattr(F, name)(x)
    close(ours, out, dtype)
    close(getattr(G, name)(grad, ours), dx, dtype)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_softmax_and_its_gradient(torch, name, dim):
    x = 1000.0 * ramp((3, 4, 5))
    out, grad, (dx,) = with_gradients(torch, lambda x: getattr(torch.nn.functional, name)(x, dim), x)
    ours = getattr(F, name)(x, dim)
    close(ours, out)
    close(getattr(G, name)(grad, ours, dim), dx)


@pytest.mark.parametrize(
    ("shape", "weight_shape"), [((4, 3), (2, 3)), ((3,), (2, 3)), ((2, 4, 3), (3,)), ((0, 3), (2, 3))]
)
def test_linear_and_its_gradients(torch, shape, weight_shape):
    x, w, b = ramp(shape), ramp(weight_shape, seed=1), ramp(weight_shape[:-1], seed=2)
    out, grad, (dx, dw, db) = with_gradients(torch, torch.nn.functional.linear, x, w, b)
    close(F.linear(x, w, b), out)
    close(G.linear_input(w, grad), dx)
    close(G.linear_weight(x, grad), dw)
    if w.ndim == 2:
        close(G.linear_bias(grad), db)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(6, 3), (4, 3, 5), (2, 3, 4, 5)])
def test_batch_norm_and_its_gradients(torch, shape, training):
    x, w, b = ramp(shape), ramp(3, seed=1) + 1.0, ramp(3, seed=2)
    mean, var = ramp(3, seed=3), ramp(3, seed=4) + 1.0
    their_mean, their_var = torch.tensor(mean), torch.tensor(var)
    out, grad, (dx, dw, db) = with_gradients(
        torch,
        lambda x, w, b: torch.nn.functional.batch_norm(x, their_mean, their_var, w, b, training, 0.3, 1e-3),
        x,
        w,
        b,
    )
    ours, used_mean, inv_std = F.batch_norm(x, mean, var, w, b, training, 0.3, 1e-3, return_stats=True)
    close(ours, out)
    close(mean, their_mean)
    close(var, their_var)
    for mine, theirs in zip(
        G.batch_norm(grad, x, used_mean, inv_std, w, training), (dx, dw, db), strict=True
    ):
        close(mine, theirs)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("shape", [(5,), (6, 5), (2, 5, 3, 2)])
def test_cross_entropy_and_its_gradient(torch, shape, soft, weighted, smoothing, reduction):
    x, weight = 4.0 * ramp(shape), ramp(5, seed=3) + 1.0 if weighted else None
    axis = min(len(shape), 2) - 1
    target = np.moveaxis(
        np.random.default_rng(0).dirichlet(np.ones(5), shape[:axis] + shape[axis + 1 :]), -1, axis
    )
    if not soft:
        target = target.argmax(axis)
        if target.ndim:
            target.flat[0] = -100
    goal, w = torch.tensor(target), None if weight is None else torch.tensor(weight)
    options = {"reduction": reduction, "label_smoothing": smoothing}
    out, grad, (dx,) = with_gradients(
        torch, lambda x: torch.nn.functional.cross_entropy(x, goal, w, **options), x
    )
    loss, log_probs = F.cross_entropy(x, target, weight, return_log_probs=True, **options)
    close(np.asarray(loss), out)
    close(G.cross_entropy(grad, log_probs, target, weight, **options), dx)


def test_a_loss_over_ignored_labels_alone_is_nan_with_zero_gradient():
    loss, log_probs = F.cross_entropy(ramp((2, 3)), [-100, -100], return_log_probs=True)
    assert np.isnan(loss)
    np.testing.assert_array_equal(G.cross_entropy(1.0, log_probs, [-100, -100]), np.zeros((2, 3)))


@pytest.mark.parametrize("label", [-1, 3])
def test_labels_out_of_range_are_refused(label):
    with pytest.raises(ValueError, match=rf"got {label}"):
        F.cross_entropy(np.zeros((2, 3)), [0, label])


@pytest.mark.parametrize("shape", [(2, 3, 6, 7), (3, 6, 7)])
def test_unfold_fold_and_their_gradients(torch, shape):
    nn, x, args = torch.nn.functional, ramp(shape), ((3, 2), (1, 2), (1, 0), (2, 1))
    out, grad, (dx,) = with_gradients(torch, lambda x: nn.unfold(x, *args), x)
    columns = F.unfold(x, *args)
    close(columns, out)
    close(G.unfold(grad, x.shape, *args), dx)
    out, grad, (dx,) = with_gradients(torch, lambda c: nn.fold(c, (6, 7), *args), columns)
    close(F.fold(columns, (6, 7), *args), out)
    close(G.fold(grad, *args), dx)


@pytest.mark.parametrize(
    ("shape", "sides", "mode", "value"),
    [
        ((2, 3, 4), (1, 2), "constant", None),
        ((2, 3, 4), (-1, 2, 0, -2, 1, 0), "constant", 1.5),
        ((2, 3, 4), (-2, -2), "constant", None),
        ((4,), (3, 0), "constant", 2.0),
        ((2, 3, 4), (3, 2), "reflect", None),
        ((2, 3, 4, 5), (4, 0, 1, 3), "reflect", None),
        ((3, 4, 5), (6, 0, 1, 9), "replicate", None),
        ((1, 2, 3, 4, 5), (2, 5, 1, 0, 3, 2), "circular", None),
    ],
)
def test_pad_and_its_gradient(torch, shape, sides, mode, value):
    x = ramp(shape)
    out, grad, (dx,) = with_gradients(torch, lambda x: torch.nn.functional.pad(x, sides, mode, value), x)
    close(F.pad(x, sides, mode, value), out)
    close(G.pad(grad, x.shape, sides, mode), dx)


@pytest.mark.parametrize(
    ("shape", "sides", "mode"),
    [((1, 3), (3, 0), "reflect"), ((1, 3), (4, 0), "circular"), ((3,), (1, 0), "reflect")],
)
def test_pads_that_pytorch_refuses_are_refused(shape, sides, mode):
    with pytest.raises(ValueError, match=f"mode '{mode}' pads"):
        F.pad(np.zeros(shape), sides, mode)


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
def test_philox_gives_the_published_vectors(counter, key, expected):
    """Known answers of Random123, the authors' own library."""
    assert tuple(philox4x32_10(np.array(counter, dtype=np.uint32), key)) == expected


@pytest.mark.parametrize("offset", [0, 5, 2**35 - 3, 2**64 - 200])
def test_a_mask_bit_depends_on_seed_and_element_alone(offset):
    seed, p, size = 0x1234_5678_9ABC_DEF0, 0.3, 150
    _, mask = F.dropout(np.ones(size), p, seed=seed, offset=offset, return_mask=True)
    bits = np.unpackbits(mask, bitorder="little")
    assert not bits[size:].any()
    for i in (0, 1, 7, 8, 77, size - 1):
        element = offset + i
        block = element // 8
        counter = np.array([block & 0xFFFFFFFF, block >> 32, 0, 0], dtype=np.uint32)
        words = philox4x32_10(counter, (seed & 0xFFFFFFFF, seed >> 32))
        halfword = int(words[element % 8 // 2]) >> (16 * (element % 2)) & 0xFFFF
        assert bits[i] == (halfword >= round(p * 65536))


def test_dropout_scales_what_it_keeps_and_its_gradient_uses_the_same_mask():
    x = ramp((4, 3, 5, 7))
    y, mask = F.dropout(x, 0.25, seed=7, return_mask=True)
    bits = np.unpackbits(mask, count=x.size, bitorder="little").reshape(x.shape)
    np.testing.assert_array_equal(y, x * (bits / 0.75))
    np.testing.assert_array_equal(F.dropout(x, 0.25, mask=mask), y)
    np.testing.assert_array_equal(G.dropout(x, mask, 0.25), y)
    assert 0.65 < bits.mean() < 0.85
    np.testing.assert_array_equal(F.dropout(x, 1.0, seed=0), np.zeros_like(x))
    for copy in (F.dropout(x, 0.0), F.dropout(x, 0.5, training=False)):
        np.testing.assert_array_equal(copy, x)
        assert not np.shares_memory(copy, x)


def test_manual_seed_makes_drawn_seeds_repeat():
    draws = []
    for _ in range(2):
        fastconv.manual_seed(3)
        draws.append([F.dropout(np.ones(64), 0.5) for _ in range(2)])
    np.testing.assert_array_equal(draws[0], draws[1])
    assert (draws[0][0] != draws[0][1]).any()


def test_dropout2d_drops_whole_channels():
    x = ramp((8, 16, 3, 2)) + 2.0
    y, mask = F.dropout2d(x, 0.5, seed=1, return_mask=True)
    bits = np.unpackbits(mask, count=128, bitorder="little").reshape(8, 16, 1, 1)
    np.testing.assert_array_equal(y, x * (2.0 * bits))
    np.testing.assert_array_equal(G.dropout2d(x, mask, 0.5), y)
    assert 0 < bits.sum() < 128
    with pytest.raises(ValueError, match=r"\(N, C, H, W\)"):
        F.dropout2d(x[0])


@pytest.mark.parametrize("block", [1, 2, 3, (2, 4)])
def test_drop_block_drops_whole_blocks(block):
    bh, bw = (block, block) if isinstance(block, int) else block
    shape = (2, 3, 9, 8)
    y, mask = F.drop_block2d(np.ones(shape), 0.2, block, seed=5, return_mask=True)
    dropped = np.unpackbits(mask, count=y.size, bitorder="little").reshape(shape) == 0
    assert dropped.any()
    # The dropped set is a union of blocks: opening it by one block changes nothing.
    windows = np.lib.stride_tricks.sliding_window_view(dropped, (bh, bw), axis=(2, 3)).all(axis=(-1, -2))
    union = np.zeros_like(dropped)
    for i, j in np.ndindex(bh, bw):
        union[:, :, i : i + 10 - bh, j : j + 9 - bw] |= windows
    np.testing.assert_array_equal(union, dropped)
    np.testing.assert_allclose(y.sum(), y.size, rtol=1e-12)
    np.testing.assert_array_equal(G.drop_block2d(np.ones(shape), mask), y)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda x: F.relu([1, 2]), TypeError, "float32 or float64, got int64"),
        (lambda x: F.relu(x.astype("float16")), TypeError, "float32 or float64, got float16"),
        (lambda x: F.conv2d(x, np.ones((1, 1, 2, 2), "float32")), TypeError, "dtype of input"),
        (lambda x: F.conv2d(x, np.ones((1, 1, 2))), ValueError, "4 dimensions"),
        (lambda x: F.conv2d(x[0, 0], np.ones((1, 1, 2, 2))), ValueError, r"\(N, C, H, W\) or \(C, H, W\)"),
        (lambda x: F.conv2d(x, np.ones((1, 1, 2, 2)), padding="same", stride=2), ValueError, "stride 1"),
        (lambda x: F.conv2d(x, np.ones((1, 1, 2, 2)), max_error=-1.0), ValueError, "max_error"),
        (lambda x: F.conv2d(x, np.ones((1, 1, 1, 1)), out=x), ValueError, "share memory"),
        (
            lambda x: F.conv2d(x, np.ones((1, 1, 1, 1)), out=np.ones((1, 1, 4, 4), "float32")),
            ValueError,
            "dtype",
        ),
        (lambda x: F.conv2d(x, np.ones((1, 1, 1, 1)), out=np.ones((1, 1, 4, 5))), ValueError, "shape"),
        (lambda x: F.max_pool2d(x, 2, padding=2), ValueError, "half the kernel"),
        (
            lambda x: F.max_pool2d(np.ones((1, 1, 20, 20)), (1, 2), index_dtype="int8"),
            ValueError,
            "index_dtype",
        ),
        (lambda x: F.max_pool2d(np.ones((1, 1, 20, 20)), (16, 17), index_dtype="uint8"), ValueError, "256"),
        (lambda x: F.dropout(x, 1.5), ValueError, "probability"),
        (lambda x: F.dropout(x, seed=0, mask=np.zeros(2, np.uint8)), ValueError, "not both"),
        (lambda x: F.dropout(x, mask=np.zeros(3, np.uint8)), ValueError, r"shape \(2,\)"),
        (lambda x: F.dropout(x, seed=0, offset=2**64 - 1), ValueError, "offset must be between"),
        (lambda x: F.softmax(x, 4), ValueError, "dim must be"),
        (lambda x: F.batch_norm(x[:, :, :1, :1], None, None, training=True), ValueError, "more than 1 value"),
        (lambda x: F.batch_norm(x, [0.0], [1.0], training=True), TypeError, "writeable"),
        (lambda x: F.leaky_relu(x, -1.0), ValueError, "negative_slope"),
    ],
)
def test_mistakes_are_refused_with_the_rule(make, error, message):
    with pytest.raises(error, match=message):
        make(np.ones((1, 1, 4, 4)))


def test_out_receives_the_result():
    x, w = ramp((2, 3, 5, 5)), ramp((4, 3, 3, 3), seed=1)
    out = np.full((2, 4, 3, 3), np.nan)
    assert F.conv2d(x, w, out=out) is out
    np.testing.assert_array_equal(out, F.conv2d(x, w))
    single = np.full((4, 3, 3), np.nan)
    assert F.conv2d(x[1], w, out=single) is single
    np.testing.assert_array_equal(single, out[1])


def test_any_array_of_the_right_values_is_taken_and_left_alone(torch):
    x, w = ramp((2, 3, 5, 5), "float32"), ramp((4, 3, 3, 3), "float32", 1)
    expected = F.conv2d(x, w)
    frozen = x.copy()
    frozen.flags.writeable = False
    unaligned = np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view("float32").reshape(x.shape)

    class OnlyDlpack:
        def __dlpack__(self, **options):
            return x.__dlpack__(**options)

        def __dlpack_device__(self):
            return x.__dlpack_device__()

    class OnGpu:
        __cuda_array_interface__ = {"shape": x.shape}  # noqa: RUF012

    nhwc = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    for same in (
        frozen,
        unaligned,
        nhwc,
        x.astype(">f4"),
        torch.tensor(x),
        OnlyDlpack(),
        x[:, ::-1][:, ::-1],
    ):
        np.testing.assert_array_equal(F.conv2d(same, w), expected)
    np.testing.assert_array_equal(F.conv2d(x.tolist(), w.tolist()).astype("float32"), expected)
    with pytest.raises(TypeError, match="cuda"):
        F.conv2d(OnGpu(), w)
