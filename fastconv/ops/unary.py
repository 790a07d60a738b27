"""Element-wise functions of one input whose derivative takes that input; :class:`Activation` has the others."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from fastconv._dispatch import plan
from fastconv._spec import ActivationSpec, Shape
from fastconv.ops._base import Array, Context, Gradients, Op, Wanted, single


class _Function(NamedTuple):
    """A function, and its derivative, of an array and two numbers, which have usual values."""

    value: Callable[[Array, float, float], Array]
    slope: Callable[[Array, float, float], Array] | None = None  # None: it is 0 wherever there is one
    alpha: float = 0.0
    beta: float = 0.0


def _elu(x: Array, alpha: float, beta: float) -> Array:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _elu_slope(x: Array, alpha: float, beta: float) -> Array:
    return np.where(x > 0, 1, alpha * np.exp(np.minimum(x, 0)))


def _celu(x: Array, alpha: float, beta: float) -> Array:
    return np.maximum(x, 0) + alpha * np.expm1(np.minimum(x / alpha, 0))


def _celu_slope(x: Array, alpha: float, beta: float) -> Array:
    return np.where(x > 0, 1, np.exp(np.minimum(x / alpha, 0)))


def _inside(x: Array, low: float, high: float) -> Array:
    """1 between the bounds, 0 outside, NaN for NaN."""
    return np.where((x < low) | (x > high), 0, np.where(np.isnan(x), x, 1))


def _kernel(function: str, x: Array) -> Array:
    """A function that has a kernel."""
    y: Array = plan("activation_forward", ActivationSpec.of, function, x.size, x.dtype, 0.0).run(x)
    return y


def _sigmoid(x: Array) -> Array:
    return _kernel("sigmoid", x)


def _tanh(x: Array) -> Array:
    return _kernel("tanh", x)


def _softplus(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _silu_slope(x: Array, alpha: float, beta: float) -> Array:
    sigmoid = _sigmoid(alpha * x)
    return sigmoid * (1 + alpha * x * (1 - sigmoid))


def _mish_slope(x: Array, alpha: float, beta: float) -> Array:
    tanh = _tanh(_softplus(x))
    return tanh + x * (1 - tanh * tanh) * _sigmoid(x)


def _normal_cdf(x: Array) -> Array:
    return 0.5 * (1 + _kernel("erf", x * math.sqrt(0.5)))


def _gelu_slope(x: Array, alpha: float, beta: float) -> Array:
    density = np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
    return _normal_cdf(x) + x * density


def _gelu_tanh(x: Array) -> Array:
    """Hyperbolic tangent in the approximation of GELU."""
    return _tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))


def _gelu_tanh_slope(x: Array, alpha: float, beta: float) -> Array:
    tanh = _gelu_tanh(x)
    inner = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x * x)
    return 0.5 * (1 + tanh) + 0.5 * x * (1 - tanh * tanh) * inner


_SELU: Final = (1.6732632423543772, 1.0507009873554805)  # Klambauer et al. 2017, arXiv:1706.02515

_FUNCTIONS: Final = {
    "abs": _Function(lambda x, a, b: np.abs(x), lambda x, a, b: np.sign(x)),
    "ceil": _Function(lambda x, a, b: np.ceil(x)),
    "celu": _Function(_celu, _celu_slope, 1.0),
    "clip": _Function(np.clip, _inside, -math.inf, math.inf),
    "cos": _Function(lambda x, a, b: np.cos(x), lambda x, a, b: -np.sin(x)),
    "elu": _Function(_elu, _elu_slope, 1.0),
    "erf": _Function(
        lambda x, a, b: _kernel("erf", x), lambda x, a, b: 2 / math.sqrt(math.pi) * np.exp(-x * x)
    ),
    "exp": _Function(lambda x, a, b: np.exp(x), lambda x, a, b: np.exp(x)),
    "floor": _Function(lambda x, a, b: np.floor(x)),
    "gelu": _Function(lambda x, a, b: _kernel("gelu", x), _gelu_slope),
    "gelu_tanh": _Function(lambda x, a, b: 0.5 * x * (1 + _gelu_tanh(x)), _gelu_tanh_slope),
    "hard_sigmoid": _Function(
        lambda x, a, b: np.clip(a * x + b, 0, 1), lambda x, a, b: a * _inside(a * x + b, 0, 1), 1 / 6, 0.5
    ),
    "hard_swish": _Function(
        lambda x, a, b: x * np.clip(x + 3, 0, 6) / 6,
        lambda x, a, b: np.clip(x + 3, 0, 6) / 6 + x / 6 * _inside(x, -3, 3),
    ),
    "log": _Function(lambda x, a, b: np.log(x), lambda x, a, b: 1 / x),
    "mish": _Function(lambda x, a, b: x * _tanh(_softplus(x)), _mish_slope),
    "neg": _Function(lambda x, a, b: -x, lambda x, a, b: np.full_like(x, -1)),
    "not": _Function(lambda x, a, b: np.logical_not(x)),
    "reciprocal": _Function(lambda x, a, b: np.reciprocal(x), lambda x, a, b: -1 / (x * x)),
    "round": _Function(lambda x, a, b: np.rint(x)),
    "selu": _Function(lambda x, a, b: b * _elu(x, a, b), lambda x, a, b: b * _elu_slope(x, a, b), *_SELU),
    "sign": _Function(lambda x, a, b: np.sign(x)),
    "silu": _Function(lambda x, a, b: x * _sigmoid(a * x), _silu_slope, 1.0),
    "sin": _Function(lambda x, a, b: np.sin(x), lambda x, a, b: np.cos(x)),
    "softplus": _Function(lambda x, a, b: _softplus(a * x) / a, lambda x, a, b: _sigmoid(a * x), 1.0),
    "softsign": _Function(lambda x, a, b: x / (1 + np.abs(x)), lambda x, a, b: 1 / (1 + np.abs(x)) ** 2),
    "sqrt": _Function(lambda x, a, b: np.sqrt(x), lambda x, a, b: 0.5 / np.sqrt(x)),
}


@dataclass(frozen=True, kw_only=True)
class Unary(Op):
    """Element-wise ``function``.  NaN stays NaN, and a result is as infinite as the function is; nothing warns.

    Parameters
    ----------
    function : str
        - ``"elu"``, ``"celu"``: ``alpha`` (1); ``"selu"``: ``alpha`` and the scale ``beta`` (those of its paper)
        - ``"silu"``: ``x * sigmoid(alpha * x)`` (1); ``"softplus"``: ``log(1 + exp(alpha * x)) / alpha`` (1)
        - ``"hard_sigmoid"``: ``alpha * x + beta`` between 0 and 1 (1/6, 0.5)
        - ``"clip"``: to ``alpha`` and ``beta`` (minus and plus infinity)
        - ``"gelu"``, ``"gelu_tanh"`` (its approximation), ``"hard_swish"``, ``"mish"``, ``"softsign"``
        - ``"abs"``, ``"cos"``, ``"erf"``, ``"exp"``, ``"log"``, ``"neg"``, ``"reciprocal"``, ``"sin"``, ``"sqrt"``
        - ``"ceil"``, ``"floor"``, ``"round"`` (half to even), ``"sign"``: of gradient 0
        - ``"not"``: of truth values; the result is one, without gradient
    alpha, beta : float, optional
        Numbers of the function; None is the usual value, in brackets above.
    """

    function: str
    alpha: float | None = None
    beta: float | None = None

    def __post_init__(self) -> None:
        if self.function not in _FUNCTIONS:
            raise ValueError(f"function must be one of {tuple(_FUNCTIONS)}, got {self.function!r}")
        alpha, beta = self.numbers
        if self.function in ("celu", "softplus") and alpha == 0:
            raise ValueError(f"{self.function} needs an alpha that is not 0, got {alpha!r}")
        if math.isnan(alpha) or math.isnan(beta):
            raise ValueError(f"alpha and beta must be numbers, got {alpha!r} and {beta!r}")

    @property
    def kind(self) -> str:
        return self.function

    @property
    def numbers(self) -> tuple[float, float]:
        """``alpha`` and ``beta``, the usual values for None."""
        usual = _FUNCTIONS[self.function]
        return (
            usual.alpha if self.alpha is None else self.alpha,
            usual.beta if self.beta is None else self.beta,
        )

    @property
    def is_tame(self) -> bool:
        """Whether 0 becomes 0, and every finite number a finite one."""
        output, _ = self.forward((np.array([0.0, -1.0]),), {}, Context())  # -1 is where a root is none
        return bool(output[0] == 0 and np.isfinite(output[1]))

    def infer_shape(self, *input_shapes: Shape) -> Shape:
        return single(input_shapes, self.kind)

    def forward(
        self, inputs: tuple[Array, ...], params: dict[str, Array], context: Context
    ) -> tuple[Array, Any]:
        (x,) = inputs
        with np.errstate(all="ignore"):
            output = _FUNCTIONS[self.function].value(x, *self.numbers)
        return output, x if context.recording else None

    def backward(self, grad_output: Array, saved: Any, params: dict[str, Array], wanted: Wanted) -> Gradients:
        slope = _FUNCTIONS[self.function].slope
        if slope is None:
            return (np.zeros_like(grad_output),), {}
        with np.errstate(all="ignore"):
            return (grad_output * slope(saved, *self.numbers),), {}
