"""What a net shows of itself while it trains, and which known faults that points to.

:class:`Recorder` turns the tensors of a batch into a :class:`Snapshot` of their statistics; :func:`find_faults` reads
snapshots and losses.  :class:`fastconv.nn.callbacks.Diagnose` does both during :meth:`Model.fit`,
:func:`fastconv.explain.diagnose` for data at hand.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fastconv._arrays import dtype_name
from fastconv._dispatch import run
from fastconv._spec import ChannelSpec
from fastconv.graph import Graph
from fastconv.nn.watch import Watcher
from fastconv.statistics import Statistics, describe

Array = NDArray[Any]

# Thresholds of the findings, each with where it comes from.

# Gradients keep their size from layer to layer where the weights' variance fits the fan (Glorot & Bengio 2010; He et
# al. 2015), and a sigmoid takes at least three quarters of it, as its slope is at most 1/4: five of them, 4**-5, leave
# a thousandth.  The first layers then learn a thousand times slower than the last.
GRADIENT_RATIO: Final = 1e3

# Steps of about a thousandth of the weights are usual (Karpathy, CS231n, "Ratio of weights:updates").  A step as long
# as the weights themselves puts others in their place: no linear approximation of the loss reaches so far.
UPDATE_RATIO: Final = 1.0

# Half of the outputs of a ReLU are zero where inputs are symmetric; nets of rectifiers lost no accuracy up to 85 %
# zeros (Glorot, Bordes, Bengio: Deep sparse rectifier neural networks, 2011).
SPARSITY: Final = 0.95

# Rule of three: what was not seen in n samples happens in fewer than 3 / n of them (at 95 % confidence), here 1 %.
DEAD_SAMPLES: Final = 300
# A quarter of a layer's work for nothing; a few dead filters are found in many a good net.
DEAD_SHARE: Final = 0.25

# Beyond these inputs the slopes of both functions are below 7.1 % of their largest, as tanh(z) = 2 sigmoid(2 z) - 1;
# powers of two are edges of the histogram.
SATURATED_INPUT: Final = {"sigmoid": 4.0, "tanh": 2.0}
SATURATED_SHARE: Final = 0.5

# The loss ends at three times the least that it has been: beyond the noise between batches and epochs.
DIVERGENCE: Final = 3.0

# Generalisation loss, the rise of the validation loss over its least, with the training loss still falling.  Prechelt
# (Early stopping - but when?, 1998) stops at 1 to 5 %; twice the most of it is beyond the noise of a validation set.
GENERALISATION_LOSS: Final = 0.10


@dataclass(frozen=True)
class Finding:
    """A fault that the numbers point to.

    Parameters
    ----------
    fault
        "loss divergence", "exploding gradients", "vanishing gradients", "sparse activations", "dead filters",
        "saturation" or "overfitting".
    layer
        Node that shows it most, None for the net as a whole.
    evidence
        The numbers, in words.
    advice
        What is worth a try, the most promising first.
    value, threshold
        The number that decided, and what it was compared with.
    """

    fault: str
    layer: str | None
    evidence: str
    advice: str
    value: float
    threshold: float

    def __str__(self) -> str:
        place = f" in {self.layer}" if self.layer else ""
        return f"{self.fault}{place}: {self.evidence}. {self.advice}."


@dataclass(eq=False)
class Snapshot:
    """Statistics of one batch; dictionaries by node name or by parameter name.

    Parameters
    ----------
    step
        Number of the batch since training began, from 0.
    samples
        Size of the batch.
    activations, output_gradients
        Of every node's output and of the loss' gradient in it.
    gradients, parameters, updates
        Of the trainable parameters: their gradient, they themselves before the update, and the update.
    active
        For every ReLU, which channels are positive anywhere in the batch: bool of shape (channels,).
    """

    step: int
    samples: int = 0
    activations: dict[str, Statistics] = field(default_factory=dict)
    output_gradients: dict[str, Statistics] = field(default_factory=dict)
    gradients: dict[str, Statistics] = field(default_factory=dict)
    parameters: dict[str, Statistics] = field(default_factory=dict)
    updates: dict[str, Statistics] = field(default_factory=dict)
    active: dict[str, Array] = field(default_factory=dict)

    def update_ratio(self, name: str) -> float:
        """Norm of a parameter's update over that of the parameter; NaN for a parameter that is zero."""
        size = self.parameters[name].norm
        return self.updates[name].norm / size if size else math.nan


class Recorder(Watcher):
    """Makes a snapshot of what the hooks of a callback are shown in one batch."""

    def __init__(self, graph: Graph, params: Mapping[str, Array], step: int) -> None:
        self._graph = graph
        self._params = params
        self.snapshot = Snapshot(step)

    def on_activation(self, node: str, values: Array) -> None:
        self.snapshot.samples = len(values)
        self.snapshot.activations[node] = describe(values)
        if self._graph.node(node).op.kind in ("relu", "relu6") and values.ndim > 1:
            self.snapshot.active[node] = _channel_totals(values) > 0

    def on_output_gradient(self, node: str, gradient: Array) -> None:
        self.snapshot.output_gradients[node] = describe(gradient)

    def on_gradients(self, gradients: Mapping[str, Array]) -> None:
        self.snapshot.gradients = {name: describe(gradient) for name, gradient in gradients.items()}
        self.snapshot.parameters = {name: describe(self._params[name]) for name in gradients}

    def on_update(self, changes: Mapping[str, Array]) -> None:
        self.snapshot.updates = {name: describe(change) for name, change in changes.items()}


def _channel_totals(values: Array) -> Array:
    """Sums of (N, C, ...) per channel: zero where nothing negative is added only if all is zero."""
    batch, channels, *inner = values.shape
    spec = ChannelSpec(batch=batch, channels=channels, inner=math.prod(inner), dtype=dtype_name(values))
    with np.errstate(over="ignore"):  # where a net explodes
        totals: Array = run("channel_sum", spec, values)
    return totals


def find_faults(
    graph: Graph,
    snapshots: Sequence[Snapshot],
    losses: Sequence[float] = (),
    history: Mapping[str, Sequence[float]] | None = None,
) -> list[Finding]:
    """The faults that the numbers point to; none of them is a proof.

    Parameters
    ----------
    graph : Graph
    snapshots : sequence of Snapshot
        In the order of training.  What happens once is looked for in all of them, what lasts in the last quarter, dead
        filters in the last of them that have 300 samples together.
    losses : sequence of float
        Of training, in its order: the first batch, then one value or more an epoch.
    history : mapping of str to sequence of float, optional
        Logs per epoch; ``loss`` and ``val_loss`` are read.

    Returns
    -------
    list of Finding
        Those that stop training first.
    """
    recent = snapshots[-max(1, len(snapshots) // 4) :]
    diverging, sparse = list(_diverging(losses)), list(_sparse(recent))
    return [
        *diverging,
        *_exploding(graph, snapshots),
        *(
            each for each in _vanishing(graph, recent) if each.value > 0 or not sparse
        ),  # else that is the cause
        *sparse,
        *_dead(snapshots),
        *_saturated(graph, recent),
        *(each for each in _overfitting(history or {}) if not diverging),
    ]


def _diverging(losses: Sequence[float]) -> Iterator[Finding]:
    if not losses:
        return
    last, best = losses[-1], min((loss for loss in losses if math.isfinite(loss)), default=math.nan)
    if math.isfinite(last) and not (best > 0 and last >= DIVERGENCE * best):
        return
    yield Finding(
        "loss divergence",
        None,
        f"the training loss is {last:.3g}" + ("" if math.isnan(best) else f" after it has been {best:.3g}"),
        "Lower the learning rate to a tenth, warm it up, or clip gradients; scale the inputs to about unit variance",
        last / best,
        DIVERGENCE,
    )


def _exploding(graph: Graph, snapshots: Sequence[Snapshot]) -> Iterator[Finding]:
    advice = "Lower the learning rate, clip gradients, or normalise between the layers; check initialisation and inputs"
    for snapshot in snapshots:
        for what, table in (("output", snapshot.activations), ("gradient", snapshot.output_gradients)):
            for node, values in table.items():
                if values.nonfinite:
                    share = f"{values.nonfinite} of {values.size} elements"
                    evidence = f"{share} of its {what} are not finite in batch {snapshot.step}"
                    yield Finding("exploding gradients", node, evidence, advice, values.nonfinite, 0.0)
                    return
    ratios = [
        (snapshot.update_ratio(param), node, snapshot.step)
        for snapshot in snapshots
        for node, param in _weights(graph)
        if param in snapshot.updates
    ]
    worst = max((entry for entry in ratios if not math.isnan(entry[0])), default=None)
    if worst and worst[0] >= UPDATE_RATIO:
        ratio, node, step = worst
        evidence = f"batch {step} changed its weights by {ratio:.3g} times what they are (0.001 is usual)"
        yield Finding("exploding gradients", node, evidence, advice, ratio, UPDATE_RATIO)
        return
    ratio, node, last = _extreme_gradient(graph, snapshots, max)
    if ratio >= GRADIENT_RATIO:
        evidence = f"the gradient in its output is {ratio:.3g} times that in the output of {last}"
        yield Finding("exploding gradients", node, evidence, advice, ratio, GRADIENT_RATIO)


def _vanishing(graph: Graph, recent: Sequence[Snapshot]) -> Iterator[Finding]:
    ratio, node, last = _extreme_gradient(graph, recent, min)
    if ratio <= 1 / GRADIENT_RATIO:
        yield Finding(
            "vanishing gradients",
            node,
            f"the gradient in its output is {ratio:.2g} times that in the output of {last}",
            "Use ReLU in place of sigmoid or tanh, batch normalisation between the layers, residual connections, or "
            "fewer layers; initialise with what nn.initializers has for the activation",
            ratio,
            1 / GRADIENT_RATIO,
        )


def _sparse(recent: Sequence[Snapshot]) -> Iterator[Finding]:
    for node in _nodes_of(recent, "active"):
        share = statistics.median(s.activations[node].zeros / s.activations[node].size for s in recent)
        if share >= SPARSITY:
            yield Finding(
                "sparse activations",
                node,
                f"{share:.1%} of its outputs are zero",
                "Check the bias and the scale of what enters it; lower the learning rate; leaky ReLU passes a gradient "
                "where ReLU has none",
                share,
                SPARSITY,
            )


def _dead(snapshots: Sequence[Snapshot]) -> Iterator[Finding]:
    later: list[Snapshot] = []
    samples = 0
    for snapshot in reversed(snapshots):
        if samples < DEAD_SAMPLES:
            later.append(snapshot)
            samples += snapshot.samples
    if samples < DEAD_SAMPLES:
        return
    for node in _nodes_of(later, "active"):
        dead = ~np.logical_or.reduce([snapshot.active[node] for snapshot in later])
        if dead.mean() >= DEAD_SHARE:
            numbers = ", ".join(map(str, np.flatnonzero(dead)[:8])) + (", ..." if dead.sum() > 8 else "")
            yield Finding(
                "dead filters",
                node,
                f"{dead.sum()} of {dead.size} channels ({numbers}) are zero for all of {samples} samples",
                "Lower the learning rate and start again, with a bias of zero; use leaky ReLU, or batch normalisation "
                "before it; or make the layer smaller",
                float(dead.mean()),
                DEAD_SHARE,
            )


def _saturated(graph: Graph, recent: Sequence[Snapshot]) -> Iterator[Finding]:
    for node in graph.nodes:
        limit = SATURATED_INPUT.get(node.op.kind)
        if (
            limit is None
            or node.name in graph.outputs
            or node.inputs[0] not in _nodes_of(recent, "activations")
        ):
            continue  # a confident output is no fault; inputs of the net are not watched
        share = statistics.median(s.activations[node.inputs[0]].share_beyond(limit) for s in recent)
        if share >= SATURATED_SHARE:
            yield Finding(
                "saturation",
                node.name,
                f"{share:.1%} of its inputs lie beyond ±{limit:g}, where its slope is below 7.1 % of its largest",
                "Use ReLU, batch normalisation before it, smaller initial weights, or inputs of about unit variance",
                share,
                SATURATED_SHARE,
            )


def _overfitting(history: Mapping[str, Sequence[float]]) -> Iterator[Finding]:
    train, validation = history.get("loss", ()), history.get("val_loss", ())
    if len(validation) < 2 or not all(map(math.isfinite, (*train, *validation))):
        return
    best = min(range(len(validation)), key=validation.__getitem__)
    if not validation[best] > 0:
        return
    rise = validation[-1] / validation[best] - 1
    if rise >= GENERALISATION_LOSS and train[-1] < min(train[best], validation[best]):
        yield Finding(
            "overfitting",
            None,
            f"since epoch {best + 1} the validation loss has risen by {rise:.0%} to {validation[-1]:.3g} while the "
            f"training loss has fallen to {train[-1]:.3g}",
            "Stop early (nn.callbacks.EarlyStopping), add dropout, weight decay or augmentation, get more data, or use "
            "a smaller net",
            rise,
            GENERALISATION_LOSS,
        )


def _weights(graph: Graph) -> list[tuple[str, str]]:
    """(node, name) of trainable parameters of two or more dimensions, in the order of the net."""
    trainable = set(graph.trainable)
    return [
        (node.name, name)
        for node in graph.nodes
        for name in node.params
        if name in trainable and len(graph.param_shapes[name]) > 1
    ]


def _extreme_gradient(
    graph: Graph,
    snapshots: Sequence[Snapshot],
    choose: Callable[[Iterable[tuple[float, str]]], tuple[float, str]],
) -> tuple[float, str, str]:
    """(norm of the gradient in a layer's output over that in the last layer's, the layer, the last one).

    Medians over the snapshots; of the layers with weights, the one that ``choose`` takes; ratio 1 where there is
    nothing to compare.
    """
    norms = {
        node: [s.output_gradients[node].norm for s in snapshots if node in s.output_gradients]
        for node, _ in _weights(graph)
    }
    medians = {node: statistics.median(values) for node, values in norms.items() if values}
    if not medians:
        return 1.0, "", ""
    last = list(medians)[-1]
    if not 0 < medians[last] < math.inf:
        return 1.0, last, last
    ratio, node = choose((norm / medians[last], node) for node, norm in medians.items())
    return ratio, node, last


def _nodes_of(snapshots: Sequence[Snapshot], table: str) -> Mapping[str, Any]:
    """A table of the snapshots, which all have the same nodes; empty without a snapshot."""
    found: Mapping[str, Any] = getattr(snapshots[-1], table) if snapshots else {}
    return found
