"""Every gradient of fastconv.grad against random directional derivatives of its op."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import fastconv.functional as F
import fastconv.grad as G
from gradcheck import check_gradients
from kit import Array, ramp

# Gradients of each public op.  An op that is not here, or a gradient that no op names, fails a test.
BACKWARD = {
    **{f"conv{n}d": {f"conv{n}d_input", f"conv{n}d_weight", "conv_bias"} for n in (1, 2, 3)},
    **{
        f"conv_transpose{n}d": {f"conv_transpose{n}d_input", f"conv_transpose{n}d_weight", "conv_bias"}
        for n in (1, 2)
    },
    "linear": {"linear_input", "linear_weight", "linear_bias"},
}
CHECKS: list[Any] = []


def dimensions(name: str) -> int:
    """Spatial dimensions of an op, from its name: 2 for "conv2d"."""
    return int(name[-2])


def check(*names: str) -> Callable[[Callable[[str], None]], Callable[[str], None]]:
    """Register a check of the gradients of some ops; it is called with the name of each."""

    def register(function: Callable[[str], None]) -> Callable[[str], None]:
        CHECKS.extend(pytest.param(name, function, id=f"{name}-{function.__name__}") for name in names)
        return function

    return register


def test_every_op_has_its_gradients_and_every_gradient_its_op() -> None:
    """Without exceptions: every function of fastconv.functional is differentiable in its floats."""
    assert {each.values[0] for each in CHECKS} == set(F.__all__)
    gradients = {name: BACKWARD.get(name, {name}) for name in F.__all__}
    assert set().union(*gradients.values()) == set(G.__all__)


CONVS = [
    # spatial sizes, kernel, channels, filters, options
    ((9, 8), (3, 3), 4, 6, {}),
    ((9, 8), (3, 2), 4, 6, {"stride": (2, 3), "padding": (1, 2), "dilation": (2, 1), "groups": 2}),
    ((7, 7), (3, 3), 6, 12, {"padding": 1, "groups": 6}),
    ((7, 9), (2, 3), 3, 3, {"padding": (0, 2, 3, 1), "stride": 2}),
    ((5, 4), (1, 1), 9, 7, {}),
    ((5, 4), (4, 2), 3, 2, {"padding": "same"}),
]


@check("conv1d", "conv2d", "conv3d")
def convolution(name: str) -> None:
    ndim = dimensions(name)
    for size, kernel, channels, filters, options in CONVS:
        if ndim == 1:
            size, kernel = size[:1], kernel[:1]
            options = {k: v[: len(v) // 2] if isinstance(v, tuple) else v for k, v in options.items()}
        elif ndim == 3:
            if any(isinstance(value, tuple) for value in options.values()):
                continue
            size, kernel = (4, *size), (2, *kernel)
        weight = (filters, channels // options.get("groups", 1), *kernel)
        for shape in ((2, channels, *size), (channels, *size)):
            x, w, b = ramp(shape), ramp(weight, seed=1), ramp((filters,), seed=2)

            def backward(g: Array, x: Array = x, w: Array = w, options: dict[str, Any] = options) -> Any:
                dx = getattr(G, f"{name}_input")(x.shape, w, g, **options)
                dw = getattr(G, f"{name}_weight")(x, w.shape, g, **options)
                return dx, dw, G.conv_bias(g if x.ndim == w.ndim else g[None])

            check_gradients(partial(getattr(F, name), **options), backward, (x, w, b))


@check("conv_transpose1d", "conv_transpose2d")
def transposed_convolution(name: str) -> None:
    ndim = dimensions(name)
    for options in (
        {},
        {"stride": 2, "padding": 1, "output_padding": 1},
        {"stride": 3, "dilation": 2, "groups": 2, "padding": 2, "output_padding": 2},
    ):
        x, w, b = ramp((2, 4, 5, 4)[: ndim + 2]), ramp((4, 3, 3, 2)[: ndim + 2], seed=1), ramp((3,), seed=2)
        b = np.tile(b, options.get("groups", 1))

        def backward(g: Array, x: Array = x, w: Array = w, options: dict[str, Any] = options) -> Any:
            dx = getattr(G, f"{name}_input")(x.shape, w, g, **options)
            dw = getattr(G, f"{name}_weight")(x, w.shape, g, **options)
            return dx, dw, G.conv_bias(g)

        check_gradients(partial(getattr(F, name), **options), backward, (x, w, b))


@check("max_pool1d", "max_pool2d")
def max_pooling(name: str) -> None:
    x = ramp((2, 3, 11, 10)[: dimensions(name) + 2])
    pool, gradient = getattr(F, name), getattr(G, name)
    for args in ((2,), (3, 2, 1), (3, 1, 1, 2), (4, 3, 2, 1, True)):
        for index_dtype in ("int64", "uint8"):
            _, indices = pool(x, *args, return_indices=True, index_dtype=index_dtype)
            check_gradients(
                lambda x, args=args: pool(x, *args),
                lambda g, indices=indices, args=args: [gradient(g, indices, x.shape, *args)],
                [x],
            )


@check("max_unpool1d", "max_unpool2d")
def max_unpooling(name: str) -> None:
    ndim = dimensions(name)
    x, indices = getattr(F, f"max_pool{ndim}d")(ramp((2, 3, 9, 8)[: ndim + 2]), 2, return_indices=True)
    check_gradients(
        lambda x: getattr(F, name)(x, indices, 2),
        lambda g: [getattr(G, name)(g, indices)],
        [x],
    )


@check("avg_pool1d", "avg_pool2d")
def average_pooling(name: str) -> None:
    ndim = dimensions(name)
    x = ramp((2, 3, 11, 10)[: ndim + 2])
    divisors: list[tuple[int, ...]] = [(), (5,)] if ndim == 2 else [()]
    for args in ((2,), (3, 2, 1), (4, 3, 2, True), (3, 2, 1, True, False)):
        for divisor in divisors if len(args) == 5 else [()]:
            check_gradients(
                lambda x, args=args + divisor: getattr(F, name)(x, *args),
                lambda g, args=args + divisor: [getattr(G, name)(g, x.shape, *args)],
                [x],
            )


@check("adaptive_avg_pool1d", "adaptive_avg_pool2d")
def adaptive_average_pooling(name: str) -> None:
    x = ramp((2, 3, 11, 10)[: dimensions(name) + 2])
    for size in (1, 4, 13):
        check_gradients(
            lambda x, size=size: getattr(F, name)(x, size),
            lambda g: [getattr(G, name)(g, x.shape)],
            [x],
        )


@check("adaptive_max_pool1d", "adaptive_max_pool2d")
def adaptive_max_pooling(name: str) -> None:
    x = ramp((2, 3, 11, 10)[: dimensions(name) + 2])
    for size in (1, 4, 13):
        _, indices = getattr(F, name)(x, size, return_indices=True)
        check_gradients(
            lambda x, size=size: getattr(F, name)(x, size),
            lambda g, indices=indices: [getattr(G, name)(g, indices, x.shape)],
            [x],
        )


@check("dropout", "dropout2d")
def dropping(name: str) -> None:
    x = ramp((3, 4, 5, 6))
    _, mask = getattr(F, name)(x, 0.3, seed=1, return_mask=True)
    check_gradients(
        lambda x: getattr(F, name)(x, 0.3, mask=mask), lambda g: [getattr(G, name)(g, mask, 0.3)], [x]
    )
    # The mask is a pure function of the seed, so the random op itself has this gradient too.
    check_gradients(
        lambda x: getattr(F, name)(x, 0.3, seed=1), lambda g: [getattr(G, name)(g, mask, 0.3)], [x]
    )


@check("drop_block2d")
def dropping_blocks(name: str) -> None:
    x = ramp((3, 4, 7, 6))
    _, mask = F.drop_block2d(x, 0.3, 3, seed=1, return_mask=True)
    check_gradients(lambda x: F.drop_block2d(x, 0.3, 3, seed=1), lambda g: [G.drop_block2d(g, mask)], [x])


@check("relu", "relu6", "sigmoid", "tanh", "leaky_relu")
def activation(name: str) -> None:
    options = {"negative_slope": 0.2} if name == "leaky_relu" else {}
    forward, gradient = partial(getattr(F, name), **options), partial(getattr(G, name), **options)
    x = 9.0 * ramp((3, 5, 7))
    assert np.abs(x).min() > 1e-3 < np.abs(x - 6.0).min()
    check_gradients(forward, lambda g: [gradient(g, forward(x))], [x])


@check("softmax", "log_softmax")
def softmax_family(name: str) -> None:
    x = 3.0 * ramp((3, 5, 7))
    for dim in (0, 1, -1):
        check_gradients(
            lambda x, dim=dim: getattr(F, name)(x, dim),
            lambda g, dim=dim: [getattr(G, name)(g, getattr(F, name)(x, dim), dim)],
            [x],
        )


@check("linear")
def linear_layer(name: str) -> None:
    for lead, outputs in (((4,), (5,)), ((2, 3), (5,)), ((), (5,))):
        x, w, b = ramp((*lead, 7)), ramp((*outputs, 7), seed=1), ramp(outputs, seed=2)
        check_gradients(
            F.linear,
            lambda g, x=x, w=w: (G.linear_input(w, g), G.linear_weight(x, g), G.linear_bias(g)),
            (x, w, b),
        )
    x, w = ramp((3, 7)), ramp((7,), seed=1)
    check_gradients(F.linear, lambda g: (G.linear_input(w, g), G.linear_weight(x, g)), (x, w))


@check("batch_norm")
def batch_normalisation(name: str) -> None:
    for shape in ((6, 3), (4, 3, 5), (2, 3, 4, 5)):
        x, w, b = ramp(shape), 1.5 + ramp((3,), seed=1), ramp((3,), seed=2)
        for training in (True, False):
            mean, var = (None, None) if training else (ramp((3,), seed=3), 1.5 + ramp((3,), seed=4))

            def forward(x: Array, w: Array, b: Array, **options: Any) -> Any:
                return F.batch_norm(x, mean, var, w, b, training, **options)  # noqa: B023

            _, used_mean, inv_std = forward(x, w, b, return_stats=True)
            check_gradients(
                forward,
                lambda g, x=x, w=w, m=used_mean, s=inv_std, t=training: G.batch_norm(g, x, m, s, w, t),
                (x, w, b),
            )


@check("cross_entropy")
def cross_entropy_loss(name: str) -> None:
    for shape in ((5,), (6, 5), (3, 5, 4), (2, 5, 3, 2)):
        axis = min(len(shape), 2) - 1
        rest = shape[:axis] + shape[axis + 1 :]
        soft = np.moveaxis(np.random.default_rng(1).dirichlet(np.ones(5), rest), -1, axis)
        labels = np.array(soft.argmax(axis))
        if labels.ndim:
            labels.flat[0] = 3
        x = 2.0 * ramp(shape)
        for target, extra in ((labels, {}), (labels, {"ignore_index": 3} if labels.ndim else {}), (soft, {})):
            for reduction in ("mean", "sum", "none"):
                for smoothing in (0.0, 0.2):
                    for weight in (None, np.linspace(0.5, 2.0, 5)):
                        options = {
                            "weight": weight,
                            "reduction": reduction,
                            "label_smoothing": smoothing,
                            **extra,
                        }
                        loss = partial(F.cross_entropy, target=target, **options)
                        _, log_probs = loss(x, return_log_probs=True)
                        check_gradients(
                            loss,
                            lambda g, logp=log_probs, t=target, o=options: [G.cross_entropy(g, logp, t, **o)],
                            [x],
                            directions=1,
                        )


@check("unfold")
def unfolding(name: str) -> None:
    for shape in ((2, 3, 7, 8), (3, 7, 8)):
        x, args = ramp(shape), ((3, 2), (1, 2), (1, 0), (2, 1))
        check_gradients(
            lambda x, args=args: F.unfold(x, *args),
            lambda g, x=x, args=args: [G.unfold(g, x.shape, *args)],
            [x],
        )


@check("fold")
def folding(name: str) -> None:
    args = ((3, 2), (1, 2), (1, 0), (2, 1))
    columns = F.unfold(ramp((2, 3, 7, 8)), *args)
    check_gradients(lambda c: F.fold(c, (7, 8), *args), lambda g: [G.fold(g, *args)], [columns])


@check("pad")
def padding(name: str) -> None:
    x = ramp((2, 3, 5, 6))
    for mode, sides in (
        ("constant", (1, 2)),
        ("constant", (1, -2, -1, 3, 0, 1)),
        ("reflect", (5, 0, 2, 4)),
        ("replicate", (7, 1, 0, 9)),
        ("circular", (6, 1, 5, 2)),
    ):
        check_gradients(
            lambda x, sides=sides, mode=mode: F.pad(x, sides, mode),
            lambda g, sides=sides, mode=mode: [G.pad(g, x.shape, sides, mode)],
            [x],
        )


@pytest.mark.parametrize(("name", "function"), CHECKS)
def test_gradient(name: str, function: Callable[[str], None]) -> None:
    function(name)


def test_the_check_finds_what_is_wrong() -> None:
    """A gradient with one wrong element, a wrong factor, or a missing sum does not pass."""
    x = ramp((3, 4))
    right = 3.0 * x**2
    one_wrong = right.copy()
    one_wrong[1, 2] += 0.01
    check_gradients(lambda x: x**3, lambda g: [g * right], [x])
    for wrong in (one_wrong, 1.001 * right, np.zeros_like(x)):
        with pytest.raises(AssertionError, match="along a random direction"):
            check_gradients(lambda x: x**3, lambda g, wrong=wrong: [g * wrong], [x])
    with pytest.raises(AssertionError, match="shape"):
        check_gradients(lambda x: x**3, lambda g: [(g * right)[0]], [x])
