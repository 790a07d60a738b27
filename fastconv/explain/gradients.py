"""Attributions by gradients, with Captum's names, arguments and numbers: input x gradient, integrated gradients, noise
tunnels (SmoothGrad) and Grad-CAM."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastconv._spec import as_int
from fastconv.autodiff import backward
from fastconv.explain._scores import as_image_batch, require_model, target_index
from fastconv.explain.saliency import logit_node, scores_and_gradients
from fastconv.graph import Tape, forward
from fastconv.nn import Model
from fastconv.ops import Context, Resize

Array = NDArray[Any]

RULES = ("riemann_trapezoid", "riemann_left", "riemann_right", "riemann_middle", "gausslegendre")
NOISE_TYPES = ("smoothgrad", "smoothgrad_sq", "vargrad")


class Attribution(Protocol):
    """What a noise tunnel can be laid around."""

    @property
    def attribute(self) -> Callable[..., Any]:
        """From the inputs to an array like them."""


class InputXGradient:
    """The input times the gradient of the score in it [1]_.

    Parameters
    ----------
    model : Model

    References
    ----------
    .. [1] Shrikumar, Greenside, Shcherbina and Kundaje, "Not Just a Black Box", 2016, arXiv:1605.01713.
    """

    def __init__(self, model: Model) -> None:
        self.model = require_model(model, "InputXGradient")

    def attribute(self, inputs: Any, target: Any = None) -> Array:
        """Attribution of each example's score.

        Parameters
        ----------
        inputs : ndarray of shape (N, ...)
        target : None, int, tuple of int, list or ndarray, optional
            Which output is the score; see `Occlusion.attribute`.

        Returns
        -------
        ndarray of shape (N, ...)
        """
        batch = np.asarray(inputs, dtype=self.model.dtype)
        _, gradient = scores_and_gradients(self.model, batch, target)
        return np.asarray(batch * gradient)


class IntegratedGradients:
    """The gradient averaged along the line from a baseline to the input, times their difference [1]_.

    Attributions add up to the difference of the scores of input and baseline, but for the error of the quadrature.

    Parameters
    ----------
    model : Model
    multiply_by_inputs : bool, default True
        False leaves out the factor.

    References
    ----------
    .. [1] Sundararajan, Taly and Yan, "Axiomatic Attribution for Deep Networks", 2017, arXiv:1703.01365.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import explain, nn
    >>> net = nn.Sequential([nn.Flatten(), nn.Linear(3)], input_shape=(1, 2, 2), seed=0)
    >>> x = np.ones((1, 1, 2, 2))
    >>> found, delta = explain.IntegratedGradients(net).attribute(x, target=1, return_convergence_delta=True)
    >>> bool(np.allclose(found.ravel(), net.params["linear_1.weight"][1])), bool(abs(delta[0]) < 1e-6)
    (True, True)
    """

    def __init__(self, model: Model, multiply_by_inputs: bool = True) -> None:
        self.model = require_model(model, "IntegratedGradients")
        self.multiply_by_inputs = bool(multiply_by_inputs)

    def attribute(
        self,
        inputs: Any,
        baselines: Any = None,
        target: Any = None,
        *,
        n_steps: int = 50,
        method: str = "gausslegendre",
        internal_batch_size: int | None = None,
        return_convergence_delta: bool = False,
    ) -> Any:
        """Attribution of each example's score.

        Parameters
        ----------
        inputs : ndarray of shape (N, ...)
        baselines : number or ndarray that broadcasts to the inputs, optional
            Where the lines start; 0 by default.
        target : None, int, tuple of int, list or ndarray, optional
            Which output is the score; see `Occlusion.attribute`.
        n_steps : int, default 50
            Points of the quadrature.
        method : str, default "gausslegendre"
            Its rule, one of `RULES`.
        internal_batch_size : int, optional
            Examples of one pass, at least; by default as many as ``inputs`` has.
        return_convergence_delta : bool, default False
            Return the error of the quadrature, too.

        Returns
        -------
        ndarray of shape (N, ...)
        delta : ndarray of shape (N,), if asked for
            Sum of the attributions, less the difference of the scores of input and baseline.

        Raises
        ------
        ValueError
            If the method, the steps, the baselines or the target are not as stated.
        """
        batch = np.asarray(inputs, dtype=self.model.dtype)
        steps = as_int(n_steps, "n_steps", 1)
        points, weights = _quadrature(method, steps)
        start = np.broadcast_to(
            np.asarray(0 if baselines is None else baselines, self.model.dtype), batch.shape
        )
        each = max(
            1,
            len(batch)
            if internal_batch_size is None
            else as_int(internal_batch_size, "internal_batch_size", 1),
        )
        together = max(1, each // max(1, len(batch)))
        total = np.zeros(batch.shape)
        for first in range(0, steps, together):
            along = points[first : first + together]
            line = np.concatenate(
                [start + point * (batch - start) for point in along.astype(self.model.dtype)]
            )
            _, gradient = scores_and_gradients(self.model, line, _repeated(target, len(along)))
            parts = gradient.reshape(len(along), *batch.shape)
            total += np.tensordot(weights[first : first + together], parts, axes=1)
        found = (total * (batch - start) if self.multiply_by_inputs else total).astype(self.model.dtype)
        if not return_convergence_delta:
            return found
        return found, self.compute_convergence_delta(found, start, batch, target)

    def compute_convergence_delta(
        self, attributions: Any, start_point: Any, end_point: Any, target: Any = None
    ) -> Array:
        """Sum of the attributions of each example, less the difference of its scores at the ends, shape (N,)."""
        ends = [np.asarray(point, dtype=self.model.dtype) for point in (end_point, start_point)]
        scores = []
        for end in ends:
            output = self.model.predict(end)
            scores.append(output[target_index(output.shape, target)].astype(np.float64))
        found = np.asarray(attributions, dtype=np.float64)
        return np.asarray(found.reshape(len(found), -1).sum(axis=1) - (scores[0] - scores[1]))


class NoiseTunnel:
    """Attributions of noisy copies of the input, averaged: SmoothGrad and its kin [1]_, [2]_.

    Parameters
    ----------
    attribution_method : object with ``attribute(inputs, **kwargs)``
        Such as `Saliency` or `IntegratedGradients`.

    References
    ----------
    .. [1] Smilkov, Thorat, Kim, Viegas and Wattenberg, "SmoothGrad", 2017, arXiv:1706.03825.
    .. [2] Adebayo, Gilmer, Goodfellow and Kim, "Local Explanation Methods for Deep Neural Networks Lack Sensitivity to
       Parameter Values", 2018, arXiv:1810.03307 (VarGrad).
    """

    def __init__(self, attribution_method: Attribution) -> None:
        self.attribution_method = attribution_method

    def attribute(
        self,
        inputs: Any,
        nt_type: str = "smoothgrad",
        nt_samples: int = 5,
        nt_samples_batch_size: int | None = None,
        stdevs: float = 1.0,
        *,
        seed: int = 0,
        **kwargs: Any,
    ) -> Array:
        """The mean of the attributions (``"smoothgrad"``), of their squares (``"smoothgrad_sq"``), or their variance
        (``"vargrad"``).

        Parameters
        ----------
        inputs : ndarray of shape (N, ...)
        nt_type : {"smoothgrad", "smoothgrad_sq", "vargrad"}
        nt_samples : int, default 5
            Noisy copies of each example.
        nt_samples_batch_size : int, optional
            Copies that are attributed together; all by default.
        stdevs : float, default 1.0
            Standard deviation of the noise.
        seed : int, default 0
            Of the noise; the same for any `nt_samples_batch_size`.
        **kwargs
            Of the method; an entry per example of ``target`` is repeated for its copies.

        Returns
        -------
        ndarray of shape (N, ...)

        Raises
        ------
        ValueError
            If an argument is not as stated.
        """
        if nt_type not in NOISE_TYPES:
            raise ValueError(f"nt_type must be one of {NOISE_TYPES}, got {nt_type!r}")
        samples = as_int(nt_samples, "nt_samples", 1)
        together = (
            samples
            if nt_samples_batch_size is None
            else as_int(nt_samples_batch_size, "nt_samples_batch_size", 1)
        )
        if not stdevs >= 0:
            raise ValueError(f"stdevs must be at least 0, got {stdevs}")
        batch = np.asarray(inputs)
        rng = np.random.default_rng(seed)
        mean, spread = np.zeros(batch.shape), np.zeros(batch.shape)  # updated as Welford does
        done = 0
        for first in range(0, samples, together):
            count = min(together, samples - first)
            noisy = batch + stdevs * rng.standard_normal((count, *batch.shape))
            chosen = (
                {**kwargs, "target": _repeated(kwargs["target"], count)} if "target" in kwargs else kwargs
            )
            parts = self.attribution_method.attribute(noisy.reshape(-1, *batch.shape[1:]), **chosen)
            for values in np.reshape(parts, (count, *batch.shape)):
                done += 1
                step = values - mean
                mean += step / done
                spread += step * (values - mean)
        variance = spread / samples
        result = {"smoothgrad": mean, "smoothgrad_sq": mean**2 + variance, "vargrad": variance}[nt_type]
        return np.asarray(result.astype(parts.dtype))


class LayerGradCam:
    """Feature maps of a layer, each weighted by the mean gradient of the score in it, and summed [1]_.

    Parameters
    ----------
    model : Model
    layer : str
        Name of a node whose output is made of maps.

    References
    ----------
    .. [1] Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", 2016,
       arXiv:1610.02391.
    """

    def __init__(self, model: Model, layer: str) -> None:
        self.model = require_model(model, "LayerGradCam")
        self.layer = self.model.graph.node(layer).name
        shape = self.model.graph.shapes[layer]
        if len(shape) < 2:
            raise ValueError(
                f"the output of {layer!r} must be maps, of shape (channels, *spatial), got {shape}"
            )

    def attribute(self, inputs: Any, target: Any = None, relu_attributions: bool = False) -> Array:
        """One map for each example.

        Parameters
        ----------
        inputs : ndarray of shape (N, ...)
        target : None, int, tuple of int, list or ndarray, optional
            Which output is the score; see `Occlusion.attribute`.
        relu_attributions : bool, default False
            Keep what raises the score alone.

        Returns
        -------
        ndarray of shape (N, 1, *spatial of the layer)
        """
        return self._attribute(np.asarray(inputs), target, relu_attributions, self.model.graph.outputs[0])

    def _attribute(self, batch: Array, target: Any, relu: bool, score_node: str) -> Array:
        graph, tape = self.model.graph, Tape()
        (name,) = graph.inputs
        inputs = {name: np.ascontiguousarray(batch, dtype=self.model.dtype)}
        values = forward(graph, self.model.params, inputs, keep=(self.layer, score_node), tape=tape)
        maps, output = values[self.layer], values[score_node]
        one_hot = np.zeros_like(output)
        one_hot[target_index(output.shape, target)] = 1
        seen: dict[str, Array] = {}

        def observe(node: str, gradient: Array) -> None:
            if node == self.layer:
                seen[node] = gradient.copy()

        backward(
            graph,
            self.model.params,
            tape,
            {score_node: one_hot},
            wrt_params=(),
            wrt_inputs=True,
            observe=observe,
        )
        if self.layer not in seen:
            raise ValueError(f"the score does not depend on node {self.layer!r}")
        weights = seen[self.layer].reshape(*maps.shape[:2], -1).mean(axis=2)
        found = np.einsum("nc,nc...->n...", weights, maps)[:, None]
        return np.maximum(found, 0) if relu else found


def grad_cam(model: Model, image: Any, target: int | None = None, layer: str | None = None) -> Array:
    """What raises the score of a class, at the size of the image: Grad-CAM without what lowers it, interpolated.

    Parameters
    ----------
    model : Model
    image : ndarray of shape (C, H, W) or (1, C, H, W)
    target : int, optional
        The class; None takes the one the net predicts. A softmax at the end of the net is left out.
    layer : str, optional
        By default the last node whose output is made of maps of more than one position.

    Returns
    -------
    ndarray of shape (H, W)
    """
    model = require_model(model, "grad_cam")
    batch = as_image_batch(image).astype(model.dtype)
    if layer is None:
        shapes = model.graph.shapes
        layers = [
            node.name
            for node in model.graph.nodes
            if len(shapes[node.name]) == 3 and max(shapes[node.name][1:]) > 1
        ]
        if not layers:
            raise ValueError("the net has no layer of maps of more than one position")
        layer = layers[-1]
    if target is None:
        target = int(np.argmax(model.predict(batch)[0]))
    maps = LayerGradCam(model, layer)._attribute(batch, target, True, logit_node(model))
    return np.asarray(
        Resize(out_size=batch.shape[2:], mode="linear").forward((maps,), {}, Context())[0][0, 0]
    )


def _quadrature(method: str, steps: int) -> tuple[Array, Array]:
    """Points in [0, 1] and their weights."""
    if method not in RULES:
        raise ValueError(f"method must be one of {RULES}, got {method!r}")
    if method == "gausslegendre":
        points, weights = np.polynomial.legendre.leggauss(steps)
        return (1 + points) / 2, weights / 2
    if method == "riemann_trapezoid":
        if steps < 2:
            raise ValueError(f"riemann_trapezoid needs n_steps of at least 2, got {steps}")
        weights = np.full(steps, 1 / steps)
        weights[[0, -1]] /= 2
        return np.linspace(0, 1, steps), weights
    shift = {"riemann_left": 0.0, "riemann_middle": 0.5, "riemann_right": 1.0}[method]
    return (np.arange(steps) + shift) / steps, np.full(steps, 1 / steps)


def _repeated(target: Any, count: int) -> Any:
    """A target for ``count`` copies of a batch, one behind the other."""
    if isinstance(target, (list, np.ndarray)) and len(target) > 1:
        return list(target) * count
    return target
