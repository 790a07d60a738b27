"""Models: a graph with its parameters, run, trained and stored."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv import autodiff
from fastconv._dispatch import active_backend
from fastconv._spec import as_int
from fastconv.fusion import fuse
from fastconv.graph import Graph, Observer, Tape, forward
from fastconv.nn import data, losses, optimizers, serialization
from fastconv.nn import metrics as metric_library
from fastconv.nn import training as training_loop
from fastconv.nn._build import initial_params, trace
from fastconv.nn._format import batched
from fastconv.nn._tally import Tally
from fastconv.nn.callbacks import Callback, History
from fastconv.nn.joint import JointLoss, Parts, joint_loss, joint_metrics
from fastconv.nn.layers import BoundLayer, Input, Layer, Tensor
from fastconv.nn.regularizers import Regularizer
from fastconv.nn.summary import Summary, summary
from fastconv.nn.watch import Watcher
from fastconv.ops import Context
from fastconv.plan import InferencePlan, KeptPlan, Report

Array = NDArray[Any]

DTYPES = ("float32", "float64")


class Model:
    """A net from symbolic inputs to outputs, any directed acyclic graph.

    Parameters
    ----------
    inputs, outputs : Tensor or sequence of Tensor
        From :func:`fastconv.nn.Input` and layer calls.
    seed : int
        Initial parameters, the order of samples, augmentation and dropout are pure functions of it.
    dtype : {"float32", "float64"}
        Of the parameters and of all arithmetic; data is converted to it batch by batch.
    name : str, optional
        Where another model is built on this one, the names of its layers there start with ``name/``.

    Attributes
    ----------
    graph : Graph
    params : dict of str to ndarray
        By full name, such as ``"conv2d_1.weight"``; training changes them in place.
    history : History or None
        Of the last call of :meth:`fit`, also if it was interrupted.

    Examples
    --------
    >>> from fastconv import nn
    >>> x = nn.Input((3, 32, 32))
    >>> h = nn.ReLU()(nn.Conv2d(16, 3, padding=1)(x))
    >>> y = nn.Linear(10)(nn.GlobalAvgPool2d()(h + nn.Conv2d(16, 3, padding=1)(h)))
    >>> model = nn.Model(x, y)
    >>> [node.name for node in model.graph.nodes]
    ['conv2d_1', 'relu_1', 'conv2d_2', 'add_1', 'global_avg_pool_1', 'linear_1']
    """

    name: str | None = None

    def __init__(
        self,
        inputs: Tensor | Sequence[Tensor],
        outputs: Tensor | Sequence[Tensor],
        *,
        seed: int = 0,
        dtype: str = "float32",
        name: str | None = None,
    ) -> None:
        blueprint = trace(_as_tensors(inputs, "inputs"), _as_tensors(outputs, "outputs"))
        seed = as_int(seed, "seed")
        params = initial_params(blueprint, seed, _as_dtype(dtype))
        self._set_up(
            blueprint.graph, params, seed, _as_dtype(dtype), blueprint.regularizers, blueprint.frozen
        )
        self.name = name

    @classmethod
    def from_graph(
        cls,
        graph: Graph,
        params: Mapping[str, Array],
        *,
        seed: int = 0,
        dtype: str = "float32",
        regularizers: Mapping[str, Regularizer] | None = None,
        frozen: Iterable[str] = (),
        name: str | None = None,
    ) -> Model:
        """A model of an existing graph.

        Parameters
        ----------
        graph : Graph
        params : mapping of str to ndarray
            Exactly the graph's parameters, all of ``dtype``; used as they are, not copied.
        seed : int
        dtype : {"float32", "float64"}
        regularizers : mapping of parameter name to Regularizer, optional
        frozen : iterable of parameter names
            What training leaves alone.
        name : str, optional
            As for :class:`Model`.

        Raises
        ------
        ValueError, TypeError
            If a parameter is missing, unknown, or of another shape or dtype.
        """
        _check_params(graph, params, _as_dtype(dtype))
        ordered = {key: params[key] for key in graph.param_shapes}
        model = Model.__new__(Model)
        model._set_up(
            graph, ordered, as_int(seed, "seed"), _as_dtype(dtype), regularizers or {}, frozenset(frozen)
        )
        model.name = name
        return model

    def _set_up(
        self,
        graph: Graph,
        params: dict[str, Array],
        seed: int,
        dtype: np.dtype[Any],
        regularizers: Mapping[str, Regularizer],
        frozen: frozenset[str],
    ) -> None:
        self.graph = graph
        self._plan: InferencePlan | None = None  # that the user asked for
        self._kept_plan = KeptPlan(graph, dtype.name)
        self._fused = fuse(graph)  # what runs where nobody looks at the values between
        self.params = params
        self.seed = seed
        self.regularizers = dict(regularizers)
        self.frozen = frozen
        self.dtype = dtype
        self.optimizer: optimizers.Optimizer | None = None
        self.metrics: list[metric_library.Metric] = []
        self.stop_training = False  # callbacks set it
        self.history: History | None = None
        self._statistics = sorted(set(graph.param_shapes) - set(graph.trainable))
        self._loss: losses.Loss | None = None
        self._penalties: dict[str, Regularizer] = dict(regularizers)
        self._optimizer_state = optimizers.OptimizerState()
        self._epochs_done = 0

    # ---- building on

    def __call__(self, *inputs: Tensor) -> Any:
        """Use the net as if it were a layer: a model built on the result shares this one's parameters.

        Training either trains both, for the arrays are the same. Inputs may be larger than this net's if its layers
        can do with that.

        Parameters
        ----------
        *inputs : Tensor
            One for each input, in their order.

        Returns
        -------
        Tensor, or a tuple of them if the net has several outputs

        Examples
        --------
        >>> from fastconv import nn
        >>> encoder = nn.Sequential([nn.Conv2d(8, 3), nn.GlobalAvgPool2d()], input_shape=(3, 16, 16), name="encoder")
        >>> left, right = nn.Input((3, 16, 16)), nn.Input((3, 16, 16))
        >>> twin = nn.Model([left, right], nn.Linear(1)(nn.Concat()(encoder(left), encoder(right))))
        >>> twin.params["encoder/conv2d_1.weight"] is encoder.params["conv2d_1.weight"]
        True
        """
        if len(inputs) != len(self.graph.inputs):
            raise ValueError(f"the net has inputs {list(self.graph.inputs)}, got {len(inputs)}")
        values = dict(zip(self.graph.inputs, inputs, strict=True))
        for node in self.graph.nodes:
            values[node.name] = self.layers[node.name](*(values[name] for name in node.inputs))
        outputs = tuple(values[name] for name in self.graph.outputs)
        return outputs[0] if len(outputs) == 1 else outputs

    @cached_property
    def layers(self) -> dict[str, BoundLayer]:
        """The layer of each node by its name; called on a tensor it brings its parameters along, as the net does."""
        layers: dict[str, BoundLayer] = {}
        shared: dict[tuple[str, ...], BoundLayer] = {}
        for node in self.graph.nodes:
            keys = self.graph.param_names[node.name]
            layers[node.name] = shared.get(node.params) or BoundLayer(
                node.op,
                self.graph.local_params(node, self.params),
                name=self.name and f"{self.name}/{node.name}",
                frozen=[key for key, name in keys.items() if name in self.frozen],
                regularizers={key: self.regularizers.get(name) for key, name in keys.items()},
            )
            if node.params:
                shared[node.params] = layers[node.name]
        return layers

    # ---- inference

    def compile_inference(self) -> InferencePlan:
        """Freeze the present parameters into an inference plan, which :meth:`predict` and :meth:`evaluate` then run.

        Without this call they run a plan of their own, but read all parameters each time to see whether it is still
        true.  The call promises that ``params`` stay as they are, and saves that.  ``fit``, :meth:`set_weights` and
        loading drop the plan and end the promise; who changes ``params`` in another way, such as by an optimizer of
        their own, calls this again.

        Batch normalisation is folded, activations and sums are joined to the convolutions before them, images keep
        the blocked layout from layer to layer, and weights are packed once.  Results agree with those of the graph
        to rounding.

        Returns
        -------
        InferencePlan
            Usable without the model, which then may be let go of; :meth:`plan` tells what it does.

        Raises
        ------
        ValueError, TypeError
            If ``params`` do not fit the graph any more.

        Examples
        --------
        >>> import numpy as np
        >>> from fastconv import nn
        >>> model = nn.Sequential([nn.Conv2d(8, 3), nn.BatchNorm2d(), nn.ReLU()], input_shape=(3, 16, 16))
        >>> [step.name for step in model.compile_inference().steps]
        ['relu_1', 'relu_1 (plain)']
        >>> model.predict(np.ones((2, 3, 16, 16), "float32")).shape
        (2, 8, 14, 14)
        """
        _check_params(self.graph, self.params, self.dtype)
        self._plan = InferencePlan(self.graph, self.params, self.dtype.name)
        return self._plan

    def plan(self, x: Any = None, batch_size: int = 1) -> Report:
        """Measure the inference plan that :meth:`predict` runs.

        Parameters
        ----------
        x : array_like of shape (N, *input shape), optional
            For several inputs a tuple in their order or a dict by name; random numbers if not given.
        batch_size : int
            Of random inputs.

        Returns
        -------
        Report
            ``print`` it: for each step the algorithm, its time, GFLOP/s and memory, and what was said of other
            algorithms; then the whole call, the first one, which lays weights out, the arena and the weights.

        Examples
        --------
        >>> from fastconv import nn
        >>> model = nn.Sequential([nn.Conv2d(32, 3), nn.ReLU(), nn.MaxPool2d(2)], input_shape=(3, 16, 16))
        >>> [(row.name, row.by) for row in model.plan(batch_size=2).rows]
        [('relu_1', 'stem'), ('max_pool2d_1', 'windows'), ('max_pool2d_1 (plain)', 'transposed')]
        """
        _check_params(self.graph, self.params, self.dtype)
        plan = self._plan or self._kept_plan.get(self.params)
        return plan.report(None if x is None else self._take(self._as_inputs(x), slice(None)), batch_size)

    def _inference(self) -> Callable[[dict[str, Array]], dict[str, Array]]:
        """A function of a batch to the outputs by name in inference mode, of the parameters as they are now."""
        if self._plan is not None:
            return self._plan
        _check_params(self.graph, self.params, self.dtype)
        if active_backend() == "cpu":
            return self._kept_plan.get(self.params)
        return partial(forward, self._fused, self.params)

    def _drop_plans(self) -> None:
        """The parameters are about to change."""
        self._plan = None
        self._kept_plan.drop()

    def predict(self, x: Any, batch_size: int = 256, *, steps: int | None = None) -> Any:
        """The output for ``x`` in inference mode: for a net trained with cross-entropy, the logits.

        On the cpu backend this runs an inference plan (see :meth:`compile_inference`), made at the first call and again
        wherever a parameter has changed since, in whatever way; results are those of the parameters at the time of the
        call.  A net of many parameters and little arithmetic, such as VGG-16 on one image, gains by a call of
        :meth:`compile_inference`, which saves the look at them; that of memory gains by calling its plan alone.

        Parameters
        ----------
        x : array_like of shape (N, *input shape), or anything that gives batches
            For several inputs a tuple in their order or a dict by name.  What gives batches: see
            :class:`fastconv.nn.data.Loader`.
        batch_size : int
            Samples of arrays at a time; bounds the memory, does not change the result.
        steps : int, optional
            How many batches to take; all by default.

        Returns
        -------
        ndarray of shape (N, *output shape), or a tuple of them if the net has several outputs
        """
        outputs: list[list[Array]] = [[] for _ in self.graph.outputs]
        infer = self._inference()
        for batch, _, _ in data.Loader(self, x, batch_size=batch_size, steps=steps, targets=False).batches():
            values = infer(batch)
            for parts, name in zip(outputs, self.graph.outputs, strict=True):
                parts.append(values[name])
        joined = tuple(parts[0] if len(parts) == 1 else np.concatenate(parts) for parts in outputs)
        return joined[0] if len(joined) == 1 else joined

    def activations(self, x: Any, names: Iterable[str] | None = None) -> dict[str, Array]:
        """Outputs of nodes for ``x`` in inference mode, in one batch.

        Parameters
        ----------
        x : array_like of shape (N, *input shape)
        names : iterable of str, optional
            Nodes wanted; all by default.

        Returns
        -------
        dict of str to ndarray
            In the order of the graph.  Arrays may share memory.
        """
        wanted = [node.name for node in self.graph.nodes] if names is None else list(names)
        for name in wanted:
            self.graph.node(name)
        batch = self._take(self._as_inputs(x), slice(None))
        values = forward(self.graph, self.params, batch, keep=wanted)
        return {node.name: values[node.name] for node in self.graph.nodes if node.name in wanted}

    def input_gradient(self, x: Any, output_grad: Any, node: str | None = None) -> Any:
        """Gradient of ``sum(output * output_grad)`` in ``x``, in inference mode.

        Parameters
        ----------
        x : array_like of shape (N, *input shape)
        output_grad : array_like of shape (N, *output shape), or callable
            A callable gets the output and returns the array.
        node : str, optional
            Whose output is meant; by default that of the net.

        Returns
        -------
        ndarray like ``x``, or a dict of them by input name if the net has several inputs
        """
        name = self._single_output() if node is None else self.graph.node(node).name
        batch = self._take(self._as_inputs(x), slice(None))
        tape: Tape = []
        output = forward(self.graph, self.params, batch, keep=(name,), tape=tape)[name]
        grad = np.ascontiguousarray(
            output_grad(output) if callable(output_grad) else output_grad, dtype=self.dtype
        )
        if grad.shape != output.shape:
            raise ValueError(f"output_grad must have the output's shape {output.shape}, got {grad.shape}")
        _, input_grads = autodiff.backward(
            self.graph, self.params, tape, {name: grad}, wrt_params=(), wrt_inputs=True
        )
        return input_grads if len(self.graph.inputs) > 1 else input_grads[next(iter(self.graph.inputs))]

    # ---- training

    def compile(
        self,
        optimizer: str | optimizers.Optimizer = "sgd",
        loss: Any = "cross_entropy",
        metrics: Any = (),
        *,
        loss_weights: Any = None,
        regularizer: Regularizer | None = None,
    ) -> None:
        """Say how the net is trained; the optimizer starts afresh.

        A net with several outputs is trained on the weighted sum of their losses; its targets are a tuple in the
        order of the outputs, or a dict by their names.

        Parameters
        ----------
        optimizer : Optimizer or {"sgd", "adam", "adamw", "rmsprop"}
        loss : Loss or str
            ``"cross_entropy"``, ``"binary_cross_entropy"`` and ``"kl_divergence"`` take logits; ``"mse"``, ``"mae"``,
            ``"huber"``, ``"hinge"``, ``"categorical_hinge"``; Keras' longer names work, too.  For several outputs one
            for all, a list in their order (None trains the others alone), or a dict by name, which may lack some.
        metrics : sequence of Metric or str
            ``"accuracy"``, ``"top_5_accuracy"``, ``"precision"``, ``"recall"``, ``"f1"``, ``"per_class_accuracy"``,
            ``"confusion_matrix"``, ``"binary_accuracy"``.  For several outputs a dict of those by name; the loss of
            each output is always among them.
        loss_weights : sequence or dict of float, optional
            Factors of the losses of several outputs; 1 by default.
        regularizer : Regularizer, optional
            Penalty of every weight of two or more dimensions that has none of its own (so not of biases and
            normalisation).
        """
        if isinstance(metrics, str):
            raise TypeError(f"metrics must be a list, got {metrics!r}; write [{metrics!r}]")
        self.optimizer = optimizers.get(optimizer)
        outputs = self.graph.outputs
        if len(outputs) > 1:
            self._loss = together = joint_loss(outputs, loss, loss_weights)
            self.metrics = joint_metrics(outputs, metrics, together)
        elif loss_weights is not None or isinstance(loss, (list, tuple, Mapping)):
            raise ValueError(
                f"lists of losses and loss_weights are for several outputs, this net has {outputs}"
            )
        else:
            self._loss = losses.get(loss)
            self.metrics = [metric_library.get(metric, self._loss) for metric in metrics]
        self._warn_of_logits()
        self._optimizer_state = optimizers.OptimizerState()
        self._penalties = dict(self.regularizers)
        if regularizer is not None:
            if not isinstance(regularizer, Regularizer):
                raise TypeError(f"a regularizer must be nn.L1(), nn.L2() or nn.L1L2(), got {regularizer!r}")
            for name in self.graph.trainable:
                if self.params[name].ndim > 1:
                    self._penalties.setdefault(name, regularizer)

    def _warn_of_logits(self) -> None:
        """Warn where the net ends in what its loss applies itself."""
        loss = self._loss
        parts = loss.parts if isinstance(loss, JointLoss) else [loss]
        for name, part in zip(self.graph.outputs, parts, strict=True):
            if part is not None and name not in self.graph.inputs:
                kind = self.graph.node(name).op.kind
                if kind in part.applies:
                    warnings.warn(
                        f"{type(part).__name__} takes logits, but the net ends in {name!r}, which is a {kind}: "
                        f"leave it out for training",
                        stacklevel=3,
                    )

    @property
    def loss_function(self) -> losses.Loss:
        """The compiled loss.

        Raises
        ------
        ValueError
            If the model has not been compiled.
        """
        if self._loss is None:
            raise ValueError("the model has no loss yet: call model.compile(optimizer=..., loss=...) first")
        return self._loss

    @property
    def trainable(self) -> tuple[str, ...]:
        """Names of the parameters that training changes by their gradient."""
        return tuple(name for name in self.graph.trainable if name not in self.frozen)

    def loss(self, x: Any, y: Any, *, reduction: str = "mean", batch_size: int = 256) -> Any:
        """The loss in inference mode, without penalties.

        Parameters
        ----------
        x, y
            Data and targets.
        reduction : {"mean", "sum", "none"}
        batch_size : int

        Returns
        -------
        float, or ndarray of shape (N,) for ``"none"``
        """
        if reduction not in ("mean", "sum", "none"):
            raise ValueError(f"reduction must be 'mean', 'sum' or 'none', got {reduction!r}")
        batches = data.Loader(self, x, y, batch_size=batch_size)
        outputs = ((output, target) for output, target, _ in self._outputs(batches))
        if reduction == "none":
            return np.concatenate([self.loss_function.per_sample(*pair) for pair in outputs])
        sums = [self.loss_function.sums(*pair) for pair in outputs]
        total, count = (sum(column) for column in zip(*sums, strict=True))
        return total / count if reduction == "mean" and count else total

    def loss_and_gradients(
        self, x: Any, y: Any, *, training: bool = False, step: int = 0, sample_weight: Any = None
    ) -> tuple[float, dict[str, Array]]:
        """The mean loss of one batch with penalties, and its gradients in the trainable parameters.

        Parameters
        ----------
        x, y
            Data and targets.
        training : bool
            Whether dropout drops, and batch normalisation uses the batch and moves its running statistics.
        step : int
            Dropout's masks are a pure function of the model's seed and this number.
        sample_weight : array_like of shape (N,), optional
            Factor of the loss of each sample.

        Returns
        -------
        loss : float
        gradients : dict of str to ndarray

        Examples
        --------
        A loop of one's own; :meth:`Optimizer.step` keeps what the optimizer remembers.

        >>> import numpy as np
        >>> from fastconv import nn
        >>> rng = np.random.default_rng(0)
        >>> x = rng.standard_normal((64, 1, 8, 8)).astype("float32")
        >>> y = (x.mean(axis=(1, 2, 3)) > 0).astype(int)
        >>> layers = [nn.Conv2d(4, 3), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(), nn.Linear(2)]
        >>> model = nn.Sequential(layers, input_shape=(1, 8, 8), seed=0)
        >>> model.compile(loss="cross_entropy")
        >>> optimizer = nn.AdamW(0.01)
        >>> losses = []
        >>> for step in range(40):
        ...     batch = slice(step % 4 * 16, step % 4 * 16 + 16)
        ...     loss, gradients = model.loss_and_gradients(x[batch], y[batch], training=True, step=step)
        ...     optimizer.step(model.params, gradients)
        ...     losses.append(loss)
        >>> losses[-1] < losses[0] / 2
        True
        """
        inputs, target = self._as_data(x, y)
        weights = data.sample_weights(target, sample_weight)
        batch = self._take(inputs, slice(None))
        value, grads, _ = self._loss_and_gradients(batch, target, training, step, weights)
        return value, grads

    def _loss_and_gradients(
        self,
        batch: dict[str, Array],
        target: Array,
        training: bool,
        step: int,
        weights: Array | None = None,
        watchers: Sequence[Watcher] = (),
    ) -> tuple[float, dict[str, Array], Array]:
        """As the public one, of checked arrays; also returns the output."""
        context = Context(training=training, seed=self.seed, step=step)
        tape: Tape = []
        graph = self.graph if watchers else self._fused  # watchers look at the values between
        output = self._output(
            forward(
                graph,
                self.params,
                batch,
                context,
                tape=tape,
                observe=_to_all([watcher.on_activation for watcher in watchers]),
            )
        )
        value, output_grad = self.loss_function.value_and_gradient(output, target, weights)
        if not math.isfinite(value):
            raise FloatingPointError(self._where_non_finite(batch, context, value))
        grads, _ = autodiff.backward(
            graph,
            self.params,
            tape,
            self._by_output(output_grad),
            wrt_params=self.trainable,
            observe=_to_all([watcher.on_output_gradient for watcher in watchers]),
        )
        for param, penalty in self._penalties.items():
            value += penalty.penalty(self.params[param])
            if param in grads:
                penalty.add_gradient(self.params[param], grads[param])
        for watcher in watchers:
            watcher.on_gradients(grads)
        return value, grads, output

    def _train_step(
        self,
        batch: dict[str, Array],
        target: Array,
        weights: Array | None = None,
        watchers: Sequence[Watcher] = (),
    ) -> tuple[float, Array]:
        """One step of the optimizer; the loss before it and the output that gave it."""
        if self.optimizer is None:
            raise ValueError("the model is not compiled: call model.compile(optimizer=..., loss=...) first")
        self._drop_plans()
        statistics = {name: self.params[name].copy() for name in self._statistics}
        try:
            value, grads, output = self._loss_and_gradients(
                batch, target, True, self._optimizer_state.step, weights, watchers
            )
        except FloatingPointError:  # the forward pass has moved them already, maybe to NaN
            for name, values in statistics.items():
                self.params[name][...] = values
            raise
        changes = {name: self.params[name].copy() for name in grads} if watchers else {}
        self.optimizer.step(self.params, grads, self._optimizer_state)
        for name, former in changes.items():
            np.subtract(self.params[name], former, out=former)
        for watcher in watchers:
            watcher.on_update(changes)
        return value, output

    def _where_non_finite(self, batch: dict[str, Array], context: Context, loss: float) -> str:
        """Say where NaN or infinity first appears in a forward pass whose loss is not finite."""
        for name, array in (*batch.items(), *self.params.items()):
            if not np.isfinite(array).all():
                return f"the loss is {loss}: {name!r} already holds non-finite values"
        names = [node.name for node in self.graph.nodes]
        values = forward(self.graph, self.params, batch, context, keep=names)
        for name in names:
            if not np.isfinite(values[name]).all():
                return (
                    f"the loss is {loss}: the first layer with non-finite output is {name!r}; "
                    f"a smaller learning rate or input scaling may help"
                )
        return f"the loss is {loss} although the output of every layer is finite; check the targets"

    def fit(
        self,
        x: Any,
        y: Any = None,
        batch_size: int = 32,
        epochs: int = 1,
        *,
        validation_data: Any = None,
        sample_weight: Any = None,
        class_weight: Mapping[int, float] | None = None,
        augment: Callable[..., Any] | None = None,
        callbacks: Sequence[Callback] = (),
        shuffle: bool = True,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        workers: int = 1,
        verbose: int = 1,
        checkpoint: str | os.PathLike[str] | None = None,
        resume: str | os.PathLike[str] | bool = False,
    ) -> History:
        """Train; see :func:`fastconv.nn.training.fit`, which this calls.

        Returns
        -------
        History
        """
        return training_loop.fit(
            self,
            x,
            y,
            batch_size=batch_size,
            epochs=epochs,
            validation_data=validation_data,
            sample_weight=sample_weight,
            class_weight=class_weight,
            augment=augment,
            callbacks=callbacks,
            shuffle=shuffle,
            steps_per_epoch=steps_per_epoch,
            validation_steps=validation_steps,
            workers=workers,
            verbose=verbose,
            checkpoint=checkpoint,
            resume=resume,
        )

    def evaluate(
        self,
        x: Any,
        y: Any = None,
        batch_size: int = 256,
        *,
        sample_weight: Any = None,
        steps: int | None = None,
    ) -> dict[str, float]:
        """Mean loss (with penalties) and metrics in inference mode.

        Parameters
        ----------
        x, y
            Data and targets, or in place of both something that gives batches: see
            :class:`fastconv.nn.data.Loader`.
        batch_size : int
            Samples of arrays at a time; bounds the memory, does not change the result.
        sample_weight : array_like of shape (N,), optional
            Factor of the loss of each sample; metrics count all alike.
        steps : int, optional
            How many batches to take; all by default.

        Returns
        -------
        dict
            ``"loss"`` and the entries of the metrics, whose counts can be read afterwards.
        """
        batches = data.Loader(self, x, y, sample_weight=sample_weight, batch_size=batch_size, steps=steps)
        tally = Tally(self.metrics)
        for output, target, weights in self._outputs(batches):
            tally.add(*self.loss_function.sums(output, target, weights), output, target)
        logs = tally.logs()
        logs["loss"] += sum(penalty.penalty(self.params[name]) for name, penalty in self._penalties.items())
        return logs

    def get_weights(self) -> dict[str, Array]:
        """A copy of all parameters, running statistics included."""
        return {name: param.copy() for name, param in self.params.items()}

    def set_weights(self, weights: Mapping[str, Array]) -> None:
        """Overwrite all parameters in place.

        Raises
        ------
        ValueError
            If names or shapes differ.
        """
        _check_params(self.graph, weights)
        self._drop_plans()
        for name, param in self.params.items():
            param[...] = weights[name]

    # ---- text, files

    def summary(self, batch_size: int = 1) -> Summary:
        """A table of the layers: shapes, kernel, parameters, multiply-accumulates, receptive field; then totals.

        Parameters
        ----------
        batch_size : int
            For how many samples memory is counted.

        Returns
        -------
        Summary
            Text, with ``rows`` and ``totals`` as data.
        """
        size = as_int(batch_size, "batch_size", 1)
        return summary(self.graph, size, self.dtype.itemsize, self.frozen)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the net (not the optimizer) as a safetensors file, or as an ONNX file where ``path`` ends in ``.onnx``.

        :func:`fastconv.nn.load` reads either.
        """
        serialization.save(self, path)

    def save_weights(self, path: str | os.PathLike[str]) -> None:
        """Write the parameters alone as a safetensors file; :meth:`load_weights` reads it."""
        serialization.save_weights(self, path)

    def load_weights(self, path: str | os.PathLike[str]) -> None:
        """Overwrite all parameters with those of a file: weights, a saved net, or a checkpoint.

        Raises
        ------
        FileNotFoundError, ValueError
            If there is no such file, it is no safetensors file, or its parameters are not this net's.
        """
        serialization.load_weights(self, path)

    def __getstate__(self) -> dict[str, Any]:
        """What is copied and pickled: no plans, which are made of functions and made again from the rest."""
        return self.__dict__ | {"_plan": None, "_kept_plan": KeptPlan(self.graph, self.dtype.name)}

    def __repr__(self) -> str:
        count = sum(param.size for param in self.params.values())
        return (
            f"<{type(self).__name__} of {len(self.graph.nodes)} layers, {count:,} parameters, {self.dtype}>"
        )

    # ---- data

    def _single_output(self) -> str:
        if len(self.graph.outputs) != 1:
            raise ValueError(f"this needs a net with one output, got {list(self.graph.outputs)}")
        return self.graph.outputs[0]

    def _output(self, values: Mapping[str, Array]) -> Any:
        """What the loss takes: the array of the only output, or the :class:`Parts` of several."""
        parts = [values[name] for name in self.graph.outputs]
        return parts[0] if len(parts) == 1 else Parts(parts)

    def _by_output(self, grad: Any) -> dict[str, Array]:
        """The gradient that the loss gives, by the names of the outputs."""
        grads: dict[str, Array] = {}
        for name, part in zip(
            self.graph.outputs, grad.arrays if isinstance(grad, Parts) else [grad], strict=True
        ):
            if part is not None:  # one value may be several outputs
                grads[name] = grads[name] + part if name in grads else part
        return grads

    def _as_inputs(self, x: Any, *, any_size: bool = False) -> dict[str, Array]:
        """One array per graph input, of the right shape (of its channels, for ``any_size``), not converted yet."""
        names = list(self.graph.inputs)
        if isinstance(x, Mapping):
            if set(x) != set(names):
                raise ValueError(f"the net's inputs are {names}, got {sorted(x)}")
            arrays = {name: np.asarray(x[name]) for name in names}
        elif len(names) == 1:
            arrays = {names[0]: np.asarray(x)}
        else:
            if not isinstance(x, (tuple, list)) or len(x) != len(names):
                raise ValueError(f"a net with inputs {names} takes a tuple of {len(names)} arrays or a dict")
            arrays = {name: np.asarray(value) for name, value in zip(names, x, strict=True)}
        for name, array in arrays.items():
            shape = self.graph.shapes[name]
            if array.dtype.kind not in "fiub":
                raise TypeError(f"{name!r} must hold real numbers, got dtype {array.dtype}")
            compared = 1 if any_size else len(shape)
            if array.ndim != len(shape) + 1 or array.shape[1 : compared + 1] != shape[:compared]:
                hint = ""
                if array.shape == shape:
                    hint = "; a single sample needs a batch axis: x[None]"
                elif len(shape) == 3 and shape[0] == 1 and array.shape[1:] == shape[1:]:
                    hint = "; add the channel axis: x[:, None]"
                raise ValueError(f"{name!r} must have shape {batched(shape)}, got {array.shape}{hint}")
        sizes = {len(array) for array in arrays.values()}
        if len(sizes) != 1:
            raise ValueError(f"all inputs need the same number of samples, got {sorted(sizes)}")
        return arrays

    def _as_data(self, x: Any, y: Any, *, any_size: bool = False) -> tuple[dict[str, Array], Array]:
        """Checked inputs and targets of the same, positive length."""
        inputs = self._as_inputs(x, any_size=any_size)
        shapes: Any = tuple(self.graph.shapes[name] for name in self.graph.outputs)
        target = self.loss_function.check(y, shapes if len(shapes) > 1 else shapes[0])
        count = _count(inputs)
        if count != len(target):
            raise ValueError(f"x and y need the same number of samples, got {count} and {len(target)}")
        if count == 0:
            raise ValueError("x and y hold no samples")
        return inputs, target

    def _take(self, inputs: Mapping[str, Array], index: Any) -> dict[str, Array]:
        """A batch as the kernels want it: of the model's dtype, contiguous."""
        return {name: np.ascontiguousarray(array[index], dtype=self.dtype) for name, array in inputs.items()}

    def _outputs(self, loader: data.Loader) -> Iterator[tuple[Any, Any, Array | None]]:
        """(output in inference mode, target, weights of the samples) batch by batch."""
        infer = self._inference()
        for inputs, target, weights in loader.batches():
            yield self._output(infer(inputs)), target, weights


class Sequential(Model):
    """A chain of layers.

    Parameters
    ----------
    layers : sequence of Layer or Model
        A model shares its parameters; see :meth:`Model.__call__`.
    input_shape : tuple of int
        Of one sample, for images (C, H, W).
    seed, dtype, name
        As for :class:`Model`.

    Examples
    --------
    >>> from fastconv import nn
    >>> layers = [nn.Conv2d(8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(10)]
    >>> model = nn.Sequential(layers, input_shape=(1, 28, 28))
    >>> model.params["linear_1.weight"].shape
    (10, 5408)
    """

    def __init__(
        self,
        layers: Sequence[Layer | Model],
        input_shape: Any,
        *,
        seed: int = 0,
        dtype: str = "float32",
        name: str | None = None,
    ) -> None:
        layers = list(layers)
        for layer in layers:
            if not isinstance(layer, (Layer, Model)):
                raise TypeError(f"layers must be layers such as nn.ReLU(), got {layer!r}")
            if isinstance(layer, Model) and len(layer.graph.outputs) > 1:
                raise ValueError(
                    f"a link of a chain has one output, got {layer!r} with {layer.graph.outputs}"
                )
        if not layers:
            raise ValueError("a Sequential model needs at least one layer, got none")
        first = last = Input(input_shape)
        for number, layer in enumerate(layers, start=1):
            try:
                last = layer(last)
            except ValueError as error:
                raise ValueError(f"layer {number} of {len(layers)}: {error}") from None
        super().__init__(first, last, seed=seed, dtype=dtype, name=name)


def _as_tensors(value: Any, name: str) -> tuple[Tensor, ...]:
    tensors = (value,) if isinstance(value, Tensor) else tuple(value)
    if not tensors or not all(isinstance(tensor, Tensor) for tensor in tensors):
        raise TypeError(
            f"{name} must be one or more symbolic tensors from nn.Input and layer calls, got {value!r}"
        )
    return tensors


def _as_dtype(dtype: Any) -> np.dtype[Any]:
    if np.dtype(dtype).name not in DTYPES:
        raise ValueError(f"dtype must be one of {DTYPES}, got {dtype!r}")
    return np.dtype(dtype)


def _check_params(graph: Graph, params: Mapping[str, Array], dtype: np.dtype[Any] | None = None) -> None:
    expected = graph.param_shapes
    if set(params) != set(expected):
        missing, unknown = sorted(set(expected) - set(params)), sorted(set(params) - set(expected))
        raise ValueError(f"parameters do not match the net: missing {missing}, unknown {unknown}")
    for name, shape in expected.items():
        if tuple(params[name].shape) != shape:
            raise ValueError(f"parameter {name!r} must have shape {shape}, got {tuple(params[name].shape)}")
        if dtype is not None and params[name].dtype != dtype:
            raise TypeError(f"parameter {name!r} must be {dtype} like the model, got {params[name].dtype}")


def _to_all(hooks: Sequence[Observer]) -> Observer | None:
    """One observer that calls every hook; None for none, which costs nothing."""
    if not hooks:
        return None

    def observe(name: str, value: Array) -> None:
        for hook in hooks:
            hook(name, value)

    return observe


def _count(inputs: Mapping[str, Array]) -> int:
    return len(next(iter(inputs.values())))
