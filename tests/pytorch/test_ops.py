"""The operators ``torch.ops.fastconv.*``: PyTorch's own check of them, and their results beside ATen's."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch.library import opcheck  # noqa: E402

aten, ours = torch.ops.aten, torch.ops.fastconv
DTYPES = (torch.float32, torch.float64)
EPS = {dtype: torch.finfo(dtype).eps for dtype in DTYPES}


def ramp(*shape: int, dtype: Any = torch.float64, seed: int = 0) -> Any:
    """Distinct values in [-1, 1] in random order, none at 0, to be differentiated in."""
    n = torch.Size(shape).numel()
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    values = (2.0 * order - n + 0.5) / max(n, 1)
    return values.reshape(shape).to(dtype).requires_grad_()


def pooled(size: int = 9) -> Any:
    return ramp(2, 4, size, size)


def stats() -> tuple[Any, Any]:
    return torch.linspace(-0.5, 0.5, 4).double(), torch.linspace(0.5, 1.5, 4).double()


# name: (our operator, its arguments, what ATen says)
CASES: dict[str, tuple[Any, tuple[Any, ...], Any]] = {
    "conv1d": (
        ours.convolution,
        (ramp(2, 4, 11), ramp(6, 2, 3), ramp(6), [2], [1], [2], False, [0], 2),
        aten.convolution,
    ),
    "conv2d": (
        ours.convolution,
        (ramp(2, 4, 9, 8), ramp(6, 4, 3, 2), ramp(6), [2, 1], [1, 0], [1, 2], False, [0, 0], 1),
        aten.convolution,
    ),
    "conv2d, one number for both dimensions": (
        ours.convolution,
        (ramp(2, 4, 9, 8), ramp(4, 1, 3, 3), None, [1], [1], [1], False, [0], 4),
        aten.convolution,
    ),
    "conv3d": (
        ours.convolution,
        (ramp(1, 2, 5, 6, 7), ramp(3, 2, 2, 3, 3), ramp(3), [1] * 3, [0, 1, 1], [1] * 3, False, [0] * 3, 1),
        aten.convolution,
    ),
    "conv_transpose1d": (
        ours.convolution,
        (ramp(2, 4, 6), ramp(4, 3, 3), ramp(3), [2], [1], [1], True, [1], 1),
        aten.convolution,
    ),
    "conv_transpose2d": (
        ours.convolution,
        (ramp(2, 4, 5, 5), ramp(4, 3, 3, 2), ramp(6), [2, 3], [1, 0], [1, 1], True, [1, 0], 2),
        aten.convolution,
    ),
    "linear": (ours.linear, (ramp(3, 5), ramp(4, 5), ramp(4)), aten.linear),
    "linear of sequences": (ours.linear, (ramp(2, 3, 5), ramp(4, 5), None), aten.linear),
    "max_pool2d, bytes": (
        ours.max_pool2d,
        (pooled(), [3, 3], [2, 2], [1, 1], [1, 1], True, "uint8"),
        lambda x, *window: aten.max_pool2d_with_indices(x, *window[:-1])[0],
    ),
    "max_pool2d, int64": (
        ours.max_pool2d,
        (pooled(), [3, 2], [], [0, 1], [2, 1], False, "int64"),
        lambda x, *window: aten.max_pool2d_with_indices(x, *window[:-1]),
    ),
    "avg_pool2d": (
        ours.avg_pool2d,
        (pooled(), [3, 3], [2, 2], [1, 1], True, False, None),
        aten.avg_pool2d,
    ),
    "avg_pool2d, divisor": (ours.avg_pool2d, (pooled(), [2], [], [0], False, True, 3), aten.avg_pool2d),
    "adaptive_avg_pool2d": (ours.adaptive_avg_pool2d, (pooled(), [3, 2]), aten.adaptive_avg_pool2d),
    "batch_norm in training": (
        ours.batch_norm,
        (pooled(), ramp(4), ramp(4, seed=1), *stats(), True, 0.1, 1e-5),
        aten._native_batch_norm_legit_functional,
    ),
    "batch_norm without statistics": (
        ours.batch_norm,
        (pooled(), ramp(4), None, None, None, True, 0.1, 1e-5),
        lambda x, w, b, *rest: torch.nn.functional.batch_norm(x, None, None, w, b, *rest[2:]),
    ),
    "batch_norm in evaluation": (
        ours.batch_norm,
        (pooled(), None, None, *stats(), False, 0.1, 1e-5),
        lambda x, w, b, mean, var, *rest: torch.nn.functional.batch_norm(x, mean, var, w, b, *rest),
    ),
    "dropout": (ours.dropout, (pooled(), 0.3, torch.tensor(7)), None),
    "relu": (ours.activation, (pooled(), "relu", 0.0), lambda x, *_: aten.relu(x)),
    "relu6": (ours.activation, (10 * pooled().detach(), "relu6", 0.0), lambda x, *_: aten.relu6(x)),
    "leaky_relu": (
        ours.activation,
        (pooled(), "leaky_relu", 0.1),
        lambda x, _, slope: aten.leaky_relu(x, slope),
    ),
    "sigmoid": (ours.activation, (pooled(), "sigmoid", 0.0), lambda x, *_: aten.sigmoid(x)),
    "tanh": (ours.activation, (pooled(), "tanh", 0.0), lambda x, *_: aten.tanh(x)),
    "softmax": (ours.softmax, (pooled(), 1, False), lambda x, dim, _: aten.softmax(x, dim)),
    "log_softmax": (ours.softmax, (pooled(), -1, True), lambda x, dim, _: aten.log_softmax(x, dim)),
}
COMPARED = [name for name, case in CASES.items() if case[2] is not None]


def first(result: Any) -> Any:
    return result[0] if isinstance(result, (tuple, list)) else result


@pytest.mark.parametrize("name", CASES)
def test_opcheck(name):
    op, arguments, _ = CASES[name]
    assert set(opcheck(op.default, arguments).values()) == {"SUCCESS"}


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", COMPARED)
def test_results_and_gradients_are_those_of_aten(name, dtype, channels_last):
    op, arguments, theirs = CASES[name]

    def leaves():
        made = [
            a.detach().to(dtype).requires_grad_(a.requires_grad) if torch.is_tensor(a) else a
            for a in arguments
        ]
        if channels_last and made[0].ndim == 4:
            made[0] = made[0].detach().to(memory_format=torch.channels_last).requires_grad_()
        return made

    mine, yours = leaves(), leaves()
    got, expected = op(*mine), theirs(*yours)
    pairs = (
        zip(got, expected, strict=True) if isinstance(expected, tuple) else [(first(got), first(expected))]
    )
    for ours_, theirs_ in pairs:
        assert ours_.is_contiguous()
        torch.testing.assert_close(ours_, theirs_, rtol=0.0, atol=500 * EPS[dtype])
    grad = ramp(*first(expected).shape, dtype=dtype, seed=3).detach()
    first(got).backward(grad) if first(got).requires_grad else None
    first(expected).backward(grad) if first(expected).requires_grad else None
    for a, b in zip(mine, yours, strict=True):
        if torch.is_tensor(a):
            assert (a.grad is None) == (b.grad is None)
            if a.grad is not None:
                torch.testing.assert_close(a.grad, b.grad, rtol=0.0, atol=5000 * EPS[dtype])


def test_dropout_is_a_function_of_the_seed():
    x = torch.ones(10_000)
    out, mask = ours.dropout(x, 0.25, torch.tensor(3))
    again, _ = ours.dropout(x, 0.25, torch.tensor(3))
    other, _ = ours.dropout(x, 0.25, torch.tensor(4))
    assert torch.equal(out, again)
    assert not torch.equal(out, other)
    assert out.unique().tolist() == pytest.approx([0.0, 1 / 0.75])
    assert abs(float((out == 0).float().mean()) - 0.25) < 0.03
    assert torch.equal(ours.dropout_backward(x, mask, 0.25), out)


def test_memory_is_shared_both_ways():
    from fastconv.torch import _kernels

    x = torch.randn(3, 4, requires_grad=True)
    array = _kernels.as_array(x, "input")
    assert array.ctypes.data == x.data_ptr()
    assert _kernels.as_tensor(array).data_ptr() == x.data_ptr()
    assert _kernels.as_array(x.t(), "input").flags.c_contiguous


@pytest.mark.parametrize(
    "bad",
    [
        torch.ones(2, 3, dtype=torch.float16),
        torch.ones(2, 3, dtype=torch.bfloat16),
        torch.ones(2, 3, dtype=torch.int64),
        torch.ones(2, 3, device="meta"),
    ],
)
def test_other_tensors_are_refused(bad):
    with pytest.raises(TypeError, match="input must be a strided float32 or float64 tensor on the CPU"):
        ours.activation(bad, "relu", 0.0)


def test_dtypes_must_agree():
    with pytest.raises(TypeError, match="weight must have the dtype of input"):
        ours.linear(torch.ones(2, 3), torch.ones(4, 3).double(), None)


def test_second_derivatives_are_refused():
    x = ramp(2, 3)
    (grad,) = torch.autograd.grad(ours.activation(x, "tanh", 0.0).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="no autograd formula"):
        grad.sum().backward()
