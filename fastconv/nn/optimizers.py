"""Optimizers: how gradients move parameters, all of them in one compiled pass, in place."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv._dispatch import run
from fastconv._spec import ArraysSpec, UpdateRates, UpdateSpec
from fastconv.nn.schedules import Schedule

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "OptimizerState", "RMSprop", "get"]

Array = NDArray[Any]
Decayed = str | Callable[[str, Array], bool]

_DTYPES = (np.dtype("float32"), np.dtype("float64"))
_MEMORIES = ("velocity", "mean", "square")  # in the order in which the update takes them


class OptimizerState:
    """What an optimizer remembers about one net.

    Attributes
    ----------
    step : int
        Updates done.
    epoch : int
        Epochs done, for schedules counted by epoch; the training loop counts them.
    slots : dict of str to dict of str to ndarray
        By what is remembered (``"velocity"``, ``"mean"``, ``"square"``), then by parameter.
    """

    def __init__(self) -> None:
        self.step = 0
        self.epoch = 0
        self.slots: dict[str, dict[str, Array]] = {}

    def slot(self, kind: str, name: str, param: Array) -> Array:
        """What is remembered of a parameter, zeros at first."""
        arrays = self.slots.setdefault(kind, {})
        if name not in arrays:
            arrays[name] = np.zeros(param.shape, param.dtype)
        if arrays[name].shape != param.shape or arrays[name].dtype != param.dtype:
            raise ValueError(
                f"{name!r} was {arrays[name].dtype} of shape {arrays[name].shape} in former steps, now it is "
                f"{param.dtype} of shape {param.shape}; another net needs an OptimizerState of its own"
            )
        return arrays[name]


class Optimizer:
    """Base of optimizers.

    Parameters
    ----------
    learning_rate : float or Schedule
        A float may be changed between steps, for example by a callback; a :mod:`fastconv.nn.schedules` object is asked
        before every step.
    weight_decay : float
        For SGD, Adam and RMSprop ``weight_decay * w`` is added to the gradient; for AdamW the weight shrinks by
        ``learning_rate * weight_decay`` of itself, decoupled from the gradient.
    decayed : {"weights", "all"} or callable
        What ``weight_decay`` reaches: parameters of two or more dimensions, hence neither biases nor normalisation;
        all, as in PyTorch; or where ``decayed(name, parameter)`` is true.
    clipvalue, clipnorm, global_clipnorm : float, optional
        At most one: bound of every element of a gradient, of the Euclidean norm of each parameter's gradient, or of
        that of all together; a larger one is scaled down to it.

    Attributes
    ----------
    state : OptimizerState
        Used by :meth:`step` where it is given no other; a compiled model has one of its own, so that one optimizer may
        serve several.
    """

    rule: str
    nesterov = False
    decoupled = False

    def __init__(
        self,
        learning_rate: float | Schedule,
        weight_decay: float,
        decayed: Decayed,
        clipvalue: float | None,
        clipnorm: float | None,
        global_clipnorm: float | None,
    ) -> None:
        self.learning_rate = learning_rate
        if not isinstance(learning_rate, Schedule) and learning_rate == 0:
            raise ValueError("learning_rate must be positive, got 0")
        self.weight_decay = _checked("weight_decay", weight_decay, low=0.0)
        if decayed not in ("weights", "all") and not callable(decayed):
            raise ValueError(f"decayed must be 'weights', 'all' or a function, got {decayed!r}")
        self.decayed = decayed
        limits = {"clipvalue": clipvalue, "clipnorm": clipnorm, "global_clipnorm": global_clipnorm}
        given = [name for name, limit in limits.items() if limit is not None]
        if len(given) > 1:
            raise ValueError(f"only one way of clipping gradients may be given, got {' and '.join(given)}")
        for name in given:
            if not limits[name] > 0:  # type: ignore[operator]
                raise ValueError(f"{name} must be positive, got {limits[name]!r}")
        self.clipvalue, self.clipnorm, self.global_clipnorm = clipvalue, clipnorm, global_clipnorm
        self.state = OptimizerState()

    @property
    def learning_rate(self) -> float | Schedule:
        """The learning rate, or what says it."""
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float | Schedule) -> None:
        if isinstance(value, Schedule):
            self._learning_rate: float | Schedule = value
            return
        if not (value >= 0 and math.isfinite(value)):
            raise ValueError(f"learning_rate must be positive, got {value!r}")
        self._learning_rate = float(value)

    def current_rate(self, state: OptimizerState | None = None) -> float:
        """The learning rate of the next step."""
        if not isinstance(self._learning_rate, Schedule):
            return self._learning_rate
        state = self.state if state is None else state
        return float(self._learning_rate(state.step if self._learning_rate.unit == "step" else state.epoch))

    def step(
        self,
        params: Mapping[str, Array],
        gradients: Mapping[str, Array],
        state: OptimizerState | None = None,
    ) -> None:
        """Move every parameter that has a gradient, in place.

        Parameters
        ----------
        params : mapping of str to ndarray
            Such as ``model.params``: float32 or float64.
        gradients : mapping of str to ndarray
            Such as :meth:`Model.loss_and_gradients` returns.
        state : OptimizerState, optional
            Default: the optimizer's own.

        Raises
        ------
        KeyError
            For a gradient of an unknown parameter.
        ValueError, TypeError
            If a gradient does not have its parameter's shape, or a parameter cannot be changed.

        Examples
        --------
        >>> import numpy as np
        >>> from fastconv import nn
        >>> model = nn.Sequential([nn.Flatten(), nn.Linear(2)], input_shape=(1, 4, 4), seed=0)
        >>> model.compile(loss="cross_entropy")
        >>> x, y = np.ones((8, 1, 4, 4)), np.arange(8) % 2
        >>> optimizer = nn.Adam(0.01)
        >>> for step in range(3):
        ...     loss, gradients = model.loss_and_gradients(x, y, training=True, step=step)
        ...     optimizer.step(model.params, gradients)
        >>> optimizer.state.step
        3
        """
        state = self.state if state is None else state
        for name, grad in gradients.items():
            _check_pair(name, params[name], grad)
        gradients = {
            name: np.ascontiguousarray(grad, dtype=params[name].dtype) for name, grad in gradients.items()
        }
        scales = self._clip_scales(gradients)
        rate = self.current_rate(state)
        for dtype in _DTYPES:
            names = [name for name, grad in gradients.items() if grad.dtype == dtype]
            if names:
                self._move(dtype.name, names, params, gradients, state, rate, scales)
        state.step += 1

    def _move(
        self,
        dtype: str,
        names: list[str],
        params: Mapping[str, Array],
        gradients: Mapping[str, Array],
        state: OptimizerState,
        rate: float,
        scales: Mapping[str, float],
    ) -> None:
        # a parameter that is not contiguous is worked on as a copy
        weights = [np.ascontiguousarray(params[name]) for name in names]
        grads = [gradients[name] for name in names]
        memories = [
            [state.slot(kind, name, params[name]) for name in names] if kind in self.memories else None
            for kind in _MEMORIES
        ]
        factors = np.ones((len(names), 3))
        factors[:, 1] = [self.weight_decay * self._decays(name, params[name]) for name in names]
        if self.decoupled:
            factors[:, 0] -= rate * factors[:, 1]
            factors[:, 1] = 0.0
        factors[:, 2] = [scales[name] for name in names]
        spec = UpdateSpec(rule=self.rule, nesterov=self.nesterov, dtype=dtype)
        rates = self._rates(rate, state.step + 1)
        if self.clipvalue is not None:
            rates = rates._replace(bound=self.clipvalue)
        run("optimizer_update", spec, rates, factors, weights, grads, *memories)
        for name, weight in zip(names, weights, strict=True):
            if weight is not params[name]:
                params[name][...] = weight.reshape(params[name].shape)

    @property
    def memories(self) -> tuple[str, ...]:
        """What is remembered of every parameter, of :attr:`OptimizerState.slots`."""
        raise NotImplementedError

    def _rates(self, rate: float, step: int) -> UpdateRates:
        """The numbers of step number ``step``, counted from 1."""
        raise NotImplementedError

    def _decays(self, name: str, param: Array) -> bool:
        if callable(self.decayed):
            return bool(self.decayed(name, param))
        return self.decayed == "all" or param.ndim > 1

    def _clip_scales(self, gradients: Mapping[str, Array]) -> dict[str, float]:
        """What every gradient is multiplied by, for its norm or that of all."""
        limit = self.clipnorm if self.global_clipnorm is None else self.global_clipnorm
        if limit is None:
            return dict.fromkeys(gradients, 1.0)
        squares: dict[str, float] = {}
        for dtype in _DTYPES:
            arrays = {name: grad for name, grad in gradients.items() if grad.dtype == dtype}
            sums = run("square_sums", ArraysSpec(dtype=dtype.name), list(arrays.values()))
            squares |= zip(arrays, sums.tolist(), strict=True)
        if self.global_clipnorm is not None:
            squares = dict.fromkeys(gradients, sum(squares[name] for name in gradients))
        # a norm that is NaN makes all NaN
        return {
            name: 1.0 if square <= limit**2 else limit / math.sqrt(square) for name, square in squares.items()
        }

    def get_config(self) -> dict[str, Any]:
        """The hyper-parameters, as JSON can hold them; a schedule as its name and its parameters."""
        return {name: _as_json(getattr(self, name)) for name in inspect.signature(type(self)).parameters}

    def __repr__(self) -> str:
        values = ", ".join(
            f"{name}={getattr(self, name)!r}" for name in inspect.signature(type(self)).parameters
        )
        return f"{type(self).__name__}({values})"


class SGD(Optimizer):
    """Stochastic gradient descent; with momentum ``v = momentum * v + grad; w -= learning_rate * v``.

    Parameters
    ----------
    learning_rate : float or Schedule
    momentum : float
        In [0, 1).
    nesterov : bool
        Step along ``grad + momentum * v`` (Sutskever et al. 2013).
    weight_decay, decayed, clipvalue, clipnorm, global_clipnorm
        As for :class:`Optimizer`.
    """

    rule = "sgd"

    def __init__(
        self,
        learning_rate: float | Schedule = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        *,
        decayed: Decayed = "weights",
        clipvalue: float | None = None,
        clipnorm: float | None = None,
        global_clipnorm: float | None = None,
    ) -> None:
        super().__init__(learning_rate, weight_decay, decayed, clipvalue, clipnorm, global_clipnorm)
        self.momentum = _checked("momentum", momentum, low=0.0, high=1.0)
        if nesterov and momentum == 0.0:
            raise ValueError("nesterov needs a momentum > 0, got momentum 0")
        self.nesterov = bool(nesterov)

    @property
    def memories(self) -> tuple[str, ...]:
        return ("velocity",) if self.momentum else ()

    def _rates(self, rate: float, step: int) -> UpdateRates:
        return UpdateRates(rate=rate, momentum=self.momentum)


class Adam(Optimizer):
    """Adam (Kingma & Ba 2015, arXiv:1412.6980), with bias correction.

    Parameters
    ----------
    learning_rate : float or Schedule
    betas : (float, float)
        Decay of the running mean of the gradient and of its square, in [0, 1).
    eps : float
        Added to the corrected root mean square.
    weight_decay, decayed, clipvalue, clipnorm, global_clipnorm
        As for :class:`Optimizer`.
    """

    rule = "adam"
    memories = ("mean", "square")

    def __init__(
        self,
        learning_rate: float | Schedule = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        decayed: Decayed = "weights",
        clipvalue: float | None = None,
        clipnorm: float | None = None,
        global_clipnorm: float | None = None,
    ) -> None:
        super().__init__(learning_rate, weight_decay, decayed, clipvalue, clipnorm, global_clipnorm)
        if len(betas) != 2 or not all(0.0 <= beta < 1.0 for beta in betas):
            raise ValueError(f"betas must be two numbers in [0, 1), got {betas!r}")
        if not eps > 0:
            raise ValueError(f"eps must be positive, got {eps!r}")
        self.betas = (float(betas[0]), float(betas[1]))
        self.eps = float(eps)

    def _rates(self, rate: float, step: int) -> UpdateRates:
        beta1, beta2 = self.betas
        return UpdateRates(
            rate=rate / (1.0 - beta1**step),
            mean_decay=beta1,
            square_decay=beta2,
            root_scale=1.0 / math.sqrt(1.0 - beta2**step),
            eps=self.eps,
        )


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, arXiv:1711.05101).

    Parameters
    ----------
    learning_rate, betas, eps
        As for :class:`Adam`.
    weight_decay : float
        A weight shrinks by ``learning_rate * weight_decay`` of itself every step.
    decayed, clipvalue, clipnorm, global_clipnorm
        As for :class:`Optimizer`.
    """

    decoupled = True

    def __init__(
        self,
        learning_rate: float | Schedule = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        *,
        decayed: Decayed = "weights",
        clipvalue: float | None = None,
        clipnorm: float | None = None,
        global_clipnorm: float | None = None,
    ) -> None:
        super().__init__(
            learning_rate,
            betas,
            eps,
            weight_decay,
            decayed=decayed,
            clipvalue=clipvalue,
            clipnorm=clipnorm,
            global_clipnorm=global_clipnorm,
        )


class RMSprop(Optimizer):
    """RMSprop (Tieleman & Hinton 2012): the gradient over the root of the running mean of its square.

    Parameters
    ----------
    learning_rate : float or Schedule
    alpha : float
        Decay of the running mean, in [0, 1).
    eps : float
        Added to the root.
    momentum : float
        In [0, 1).
    centered : bool
        Divide by the running standard deviation instead (Graves 2013, arXiv:1308.0850).
    weight_decay, decayed, clipvalue, clipnorm, global_clipnorm
        As for :class:`Optimizer`.
    """

    rule = "rmsprop"

    def __init__(
        self,
        learning_rate: float | Schedule = 0.01,
        alpha: float = 0.99,
        eps: float = 1e-8,
        momentum: float = 0.0,
        centered: bool = False,
        weight_decay: float = 0.0,
        *,
        decayed: Decayed = "weights",
        clipvalue: float | None = None,
        clipnorm: float | None = None,
        global_clipnorm: float | None = None,
    ) -> None:
        super().__init__(learning_rate, weight_decay, decayed, clipvalue, clipnorm, global_clipnorm)
        self.alpha = _checked("alpha", alpha, low=0.0, high=1.0)
        if not eps > 0:
            raise ValueError(f"eps must be positive, got {eps!r}")
        self.eps = float(eps)
        self.momentum = _checked("momentum", momentum, low=0.0, high=1.0)
        self.centered = bool(centered)

    @property
    def memories(self) -> tuple[str, ...]:
        return (*(["velocity"] if self.momentum else []), *(["mean"] if self.centered else []), "square")

    def _rates(self, rate: float, step: int) -> UpdateRates:
        return UpdateRates(
            rate=rate, momentum=self.momentum, mean_decay=self.alpha, square_decay=self.alpha, eps=self.eps
        )


NAMED: dict[str, Callable[[], Optimizer]] = {"sgd": SGD, "adam": Adam, "adamw": AdamW, "rmsprop": RMSprop}


def get(optimizer: str | Optimizer) -> Optimizer:
    """An optimizer by name (with its defaults), or itself."""
    if isinstance(optimizer, Optimizer):
        return optimizer
    if optimizer not in NAMED:
        raise ValueError(f"optimizer must be an Optimizer or one of {sorted(NAMED)}, got {optimizer!r}")
    return NAMED[optimizer]()


def _checked(name: str, value: float, low: float, high: float = math.inf) -> float:
    if not low <= value < high:
        rule = f"in [{low:g}, {high:g})" if high < math.inf else f">= {low:g}"
        raise ValueError(f"{name} must be {rule}, got {value!r}")
    return float(value)


def _check_pair(name: str, param: Array, grad: Array) -> None:
    if param.dtype not in _DTYPES:
        raise TypeError(f"parameter {name!r} must be float32 or float64, got {param.dtype}")
    if not param.flags.writeable:
        raise ValueError(f"parameter {name!r} is read-only, so no optimizer can move it")
    if grad.shape != param.shape:
        raise ValueError(f"the gradient of {name!r} must have shape {param.shape}, got {grad.shape}")


def _as_json(value: Any) -> Any:
    if isinstance(value, Schedule):
        return {
            "schedule": type(value).__name__,
            **{field.name: _as_json(getattr(value, field.name)) for field in fields(value)},
        }
    if callable(value):
        return getattr(value, "__qualname__", type(value).__qualname__)
    return list(value) if isinstance(value, tuple | list) else value
