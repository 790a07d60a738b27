"""What ``fastconv demo`` does: train, judge and explain a small net on real digits, and time its kernels."""

from __future__ import annotations

import importlib
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fastconv
import fastconv.functional as F
import fastconv.grad as G
from fastconv import datasets, explain, nn, plot
from fastconv._table import aligned
from fastconv.nn._format import times

REQUIRED_ACCURACY = 0.98

_HELD_OUT, _VALIDATION = 1000, 400
_LEARNING_RATE, _L2, _BATCH, _PATIENCE = 3e-3, 1e-4, 64, 6
_WINDOW, _STRIDE = 8, 2
_SECONDS_PER_ROW = 0.7  # of the speed table

Pair = tuple[np.ndarray, np.ndarray]


def run(out: Path, seed: int, epochs: int) -> int:
    """Train, judge, explain and time; the exit code."""
    began = time.perf_counter()
    learn, test = datasets.split(*datasets.mnist5k(), held_out=_HELD_OUT, seed=seed)
    train, validation = datasets.split(*learn, held_out=_VALIDATION, seed=seed)
    print(
        f"MNIST: {len(train[1])} digits to learn from, {_VALIDATION} to stop early by, {_HELD_OUT} held out\n"
    )

    model = digit_net(seed)
    print(model.summary())
    history = fit_digits(model, train, validation, epochs)
    accuracy = model.evaluate(*test)["accuracy"]
    took = time.perf_counter() - began
    print(f"\nheld-out digits read: {accuracy:.1%} of {_HELD_OUT} ({took:.0f} s so far)")
    model.save(out / "digits.safetensors")

    print("\nWhat one unit of each layer sees:\n")
    print(explain.receptive_field(model))

    print(f"\nPictures in {out}:")
    for path in draw_pictures(model, test, history.history, out):
        print(f"  {path.name}")

    print("\nMilliseconds per call, medians of interleaved rounds (x: times slower than fastconv):\n")
    print(speed_table(_SECONDS_PER_ROW))
    print(f"\n{time.perf_counter() - began:.0f} s in all")
    if accuracy < REQUIRED_ACCURACY:
        print(
            f"fastconv demo: {accuracy:.1%} is less than the {REQUIRED_ACCURACY:.0%} asked for",
            file=sys.stderr,
        )
        return 1
    return 0


def digit_net(seed: int) -> nn.Sequential:
    """Two conv-ReLU-max-pool blocks with dropout and a linear head, on 28 x 28 digits."""
    layers = [
        nn.Conv2d(16, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.1),
        nn.Conv2d(48, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.4),
        nn.Flatten(),
        nn.Linear(10),
    ]
    return nn.Sequential(layers, input_shape=(1, 28, 28), seed=seed)


def fit_digits(model: nn.Model, train: Pair, validation: Pair, epochs: int) -> nn.callbacks.History:
    """Mini-batches of slightly moved and deformed digits; weight decay; the best validation epoch is kept."""
    # large steps first, fine tuning last
    optimizer = nn.Adam(nn.schedules.Cosine(_LEARNING_RATE, epochs, unit="epoch"))
    model.compile(optimizer, loss="cross_entropy", metrics=["accuracy"], regularizer=nn.L2(_L2))
    deform = nn.augment.Affine(degrees=11, scale=(0.88, 1.12), shear=9)
    stop = nn.callbacks.EarlyStopping(monitor="val_loss", patience=_PATIENCE, restore_best_weights=True)
    return model.fit(
        *train,
        batch_size=_BATCH,
        epochs=epochs,
        validation_data=validation,
        augment=nn.augment.Compose([deform, nn.augment.Shift(2)]),
        callbacks=[stop],
    )


def draw_pictures(model: nn.Model, test: Pair, history: dict[str, list[float]], out: Path) -> list[Path]:
    """Write every picture of the demo; the paths."""
    images, labels = test
    predicted = model.predict(images).argmax(axis=1)
    losses = model.loss(images, labels, reduction="none")
    first = model.graph.nodes[0].name
    figures = {
        "training_curves": plot.training_curves(history, "Digits: training"),
        "filters": plot.filters(explain.filters(model, first), f"Filters of {first}"),
    }
    for kind, chosen in (("correct", predicted == labels), ("wrong", predicted != labels)):
        if not chosen.any():
            print(f"  (no {kind} prediction among the held-out digits to draw)")
            continue
        worst_first = np.flatnonzero(chosen)[np.argsort(-losses[chosen], kind="stable")]
        number = worst_first[0 if kind == "wrong" else len(worst_first) // 2]
        image, label = images[number], int(labels[number])
        title = f"A {label} read as {predicted[number]}"
        result = explain.occlusion(model, image, label, window=_WINDOW, stride=_STRIDE, baseline="zero")
        what = f"{title}: how hiding a part moves the loss of class {predicted[number]}"
        figures[f"occlusion_{kind}"] = plot.occlusion(result, title=what)
        values = explain.saliency_map(model, image, target=label)
        what = f"{title}: pixels that move the score of class {label}"
        figures[f"saliency_{kind}"] = plot.saliency(image, values, what)
        if kind == "correct":
            for node in (node.name for node in model.graph.nodes if node.op.kind == "relu"):
                maps = explain.feature_maps(model, image, node)
                figures[f"feature_maps_{node}"] = plot.feature_maps(maps, f"{title}: feature maps of {node}")
    paths = []
    for name, figure in figures.items():
        paths.append(out / f"{name}.png")
        figure.savefig(paths[-1], dpi=130)
    return paths


# ------------------------------------------------------------------------------------------------ the speed table


class _Race(NamedTuple):
    """One op to time: our call (also run on the reference backend) and, if it is there, PyTorch's."""

    op: str
    problem: str
    ours: Callable[[], Any]
    torch: Callable[[], Any] | None


def speed_table(seconds_per_row: float) -> str:
    """Our ops on the demo's layer shapes against the NumPy reference backend and, where installed, PyTorch.

    Results are compared before anything is timed; the contestants take turns, and each gets the median of its times.

    Raises
    ------
    RuntimeError
        If a result differs.
    """
    races = _races()
    with_torch = races[0].torch is not None
    rows = [["op", "problem", "fastconv", "NumPy", "x", *(["PyTorch", "x"] if with_torch else [])]]
    for race in races:
        calls: list[Callable[[], Any]] = [
            race.ours,
            partial(_on_reference, race.ours),
            *([race.torch] if race.torch else []),
        ]
        _check_results(race.op, *(np.asarray(call()) for call in calls))
        ours, *others = _median_times(calls, seconds_per_row)
        cells = [f"{1e3 * ours:.3f}"]
        for other in others:
            cells += [f"{1e3 * other:.3f}", f"{other / ours:.1f}"]
        rows.append([race.op, race.problem, *cells])
    lines = aligned(rows, right=range(2, len(rows[0])))
    note = "" if with_torch else "\n(PyTorch is not installed: no column for it)"
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]]) + note


def _on_reference(call: Callable[[], Any]) -> Any:
    with fastconv.use_backend("reference"):
        return call()


def _races() -> list[_Race]:
    """The second convolution of the demo's net, its first pooling and its first dropout, on one mini-batch."""
    rng = np.random.default_rng(0)
    shapes = {
        "x": (_BATCH, 16, 14, 14),
        "weight": (48, 16, 5, 5),
        "bias": (48,),
        "grad": (_BATCH, 48, 14, 14),
        "wide": (_BATCH, 16, 28, 28),
    }
    arrays = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    x, weight, bias, grad, wide = arrays.values()
    pooled, where = F.max_pool2d(wide, 2, return_indices=True)
    twins = _torch_twins(**arrays, pooled=pooled, where=where)
    conv, plane = f"{times(x.shape)} -> 48, 5 x 5", times(wide.shape)

    def unpool() -> np.ndarray:
        return G.max_pool2d(pooled, where, wide.shape, 2)

    ours: list[tuple[str, str, Callable[[], Any]]] = [
        ("conv2d", conv, lambda: F.conv2d(x, weight, bias, padding=2)),
        ("conv2d, input gradient", conv, lambda: G.conv2d_input(x.shape, weight, grad, padding=2)),
        ("conv2d, weight gradient", conv, lambda: G.conv2d_weight(x, weight.shape, grad, padding=2)),
        ("max_pool2d", f"{plane}, 2 x 2", lambda: F.max_pool2d(wide, 2)),
        ("max_pool2d, gradient", f"{plane}, 2 x 2", unpool),
        ("dropout", f"{plane}, p = 0.5", lambda: F.dropout(wide, 0.5, seed=1)),
    ]
    return [_Race(op, problem, call, twins.get(op)) for op, problem, call in ours]


def _torch_twins(**arrays: np.ndarray) -> dict[str, Callable[[], Any]]:
    """PyTorch's calls on the same arrays with as many threads, by op; none if it is not installed."""
    try:
        torch: Any = importlib.import_module("torch")  # optional, so not known to a type checker
    except ImportError:
        return {}
    torch.set_num_threads(fastconv.get_num_threads())
    x, weight, bias, grad, wide, pooled, where = (torch.from_numpy(array) for array in arrays.values())
    functional, gradients = torch.nn.functional, torch.nn.grad
    pool_backward = torch.ops.aten.max_pool2d_with_indices_backward
    return {
        "conv2d": lambda: functional.conv2d(x, weight, bias, padding=2),
        "conv2d, input gradient": lambda: gradients.conv2d_input(x.shape, weight, grad, padding=2),
        "conv2d, weight gradient": lambda: gradients.conv2d_weight(x, weight.shape, grad, padding=2),
        "max_pool2d": lambda: functional.max_pool2d(wide, 2),
        "max_pool2d, gradient": lambda: pool_backward(
            pooled, wide, [2, 2], [2, 2], [0, 0], [1, 1], False, where
        ),
        "dropout": lambda: functional.dropout(wide, 0.5),
    }


def _check_results(op: str, ours: np.ndarray, reference: np.ndarray, torch: np.ndarray | None = None) -> None:
    others = {"the NumPy reference": reference}
    if torch is not None and op != "dropout":  # PyTorch draws other masks
        others["PyTorch"] = torch
    for name, other in others.items():
        scale = float(np.abs(other).max())
        error = float(np.abs(ours - other).max()) if ours.shape == other.shape else math.inf
        if not error <= 1e-4 * scale:
            raise RuntimeError(f"{op}: differs from {name} by {error:.2g} at values up to {scale:.2g}")


def _median_times(calls: Sequence[Callable[[], Any]], seconds: float) -> list[float]:
    """Median time of each call, all taking turns for about `seconds`, three turns at least."""
    times: list[list[float]] = [[] for _ in calls]
    began = time.perf_counter()
    while len(times[0]) < 3 or time.perf_counter() - began < seconds:
        for call, record in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            record.append(time.perf_counter() - start)
    return [statistics.median(record) for record in times]
