"""Optimizers: how a gradient moves a parameter, in place and without allocating after the first step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["SGD", "Adam", "Optimizer", "OptimizerState", "get"]

Array = NDArray[Any]


class OptimizerState:
    """What an optimizer remembers about one model: the steps done, and buffers per parameter."""

    def __init__(self) -> None:
        self.step = 0
        self.buffers: dict[str, tuple[Array, ...]] = {}


class Optimizer:
    """Base of optimizers: hyper-parameters only, so that one object may serve several models.

    Parameters
    ----------
    learning_rate : float
        May be changed between steps, for example by a callback.
    """

    n_buffers = 1  # zero arrays per parameter that ``_update`` gets

    def __init__(self, learning_rate: float) -> None:
        if not learning_rate > 0:
            raise ValueError(f"learning_rate must be positive, got {learning_rate!r}")
        self.learning_rate = float(learning_rate)

    def apply(self, params: Mapping[str, Array], grads: Mapping[str, Array], state: OptimizerState) -> None:
        """Move every parameter that has a gradient, in place."""
        state.step += 1
        for name, grad in grads.items():
            param = params[name]
            buffers = state.buffers.get(name)
            if buffers is None:
                buffers = state.buffers[name] = tuple(np.zeros_like(param) for _ in range(self.n_buffers))
            self._update(param, grad, buffers, state.step)

    def _update(self, param: Array, grad: Array, buffers: tuple[Array, ...], step: int) -> None:
        raise NotImplementedError


class SGD(Optimizer):
    """Stochastic gradient descent; with momentum ``v = momentum * v + grad; w -= learning_rate * v``.

    Parameters
    ----------
    learning_rate : float
    momentum : float
        In [0, 1).
    nesterov : bool
        Step along ``grad + momentum * v`` (Sutskever et al. 2013).
    """

    n_buffers = 2  # velocity, scratch

    def __init__(self, learning_rate: float = 0.01, momentum: float = 0.0, nesterov: bool = False) -> None:
        super().__init__(learning_rate)
        if not 0.0 <= momentum < 1.0:
            raise ValueError(f"momentum must be in [0, 1), got {momentum!r}")
        if nesterov and momentum == 0.0:
            raise ValueError("nesterov needs a momentum > 0, got momentum 0")
        self.momentum = float(momentum)
        self.nesterov = bool(nesterov)

    def _update(self, param: Array, grad: Array, buffers: tuple[Array, ...], step: int) -> None:
        velocity, move = buffers
        if self.momentum:
            velocity *= self.momentum
            velocity += grad
        if self.nesterov:
            np.multiply(velocity, self.momentum, out=move)
            move += grad
            move *= self.learning_rate
        else:
            np.multiply(velocity if self.momentum else grad, self.learning_rate, out=move)
        param -= move


class Adam(Optimizer):
    """Adam (Kingma & Ba 2015, arXiv:1412.6980), with bias correction.

    Parameters
    ----------
    learning_rate : float
    betas : (float, float)
        Decay of the running mean of the gradient and of its square, in [0, 1).
    eps : float
        Added to the corrected root mean square.
    """

    n_buffers = 3  # mean, mean square, scratch

    def __init__(
        self, learning_rate: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8
    ) -> None:
        super().__init__(learning_rate)
        if len(betas) != 2 or not all(0.0 <= beta < 1.0 for beta in betas):
            raise ValueError(f"betas must be two numbers in [0, 1), got {betas!r}")
        if not eps > 0:
            raise ValueError(f"eps must be positive, got {eps!r}")
        self.betas = (float(betas[0]), float(betas[1]))
        self.eps = float(eps)

    def _update(self, param: Array, grad: Array, buffers: tuple[Array, ...], step: int) -> None:
        mean, square, scratch = buffers
        beta1, beta2 = self.betas
        mean *= beta1
        np.multiply(grad, 1.0 - beta1, out=scratch)
        mean += scratch
        square *= beta2
        np.multiply(grad, grad, out=scratch)
        scratch *= 1.0 - beta2
        square += scratch
        np.sqrt(square, out=scratch)
        scratch *= 1.0 / math.sqrt(1.0 - beta2**step)
        scratch += self.eps
        np.divide(mean, scratch, out=scratch)
        scratch *= self.learning_rate / (1.0 - beta1**step)
        param -= scratch


NAMED: dict[str, type[SGD] | type[Adam]] = {"sgd": SGD, "adam": Adam}


def get(optimizer: str | Optimizer) -> Optimizer:
    """An optimizer by name (with its defaults), or itself."""
    if isinstance(optimizer, Optimizer):
        return optimizer
    if optimizer not in NAMED:
        raise ValueError(f"optimizer must be an Optimizer or one of {sorted(NAMED)}, got {optimizer!r}")
    return NAMED[optimizer]()
