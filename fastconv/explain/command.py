"""What ``fastconv explain`` does: from files of a net and of an image to a page."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fastconv import nn
from fastconv._optional import require
from fastconv.explain.report import report


def run(arguments: argparse.Namespace) -> str:
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
    page = report(
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
