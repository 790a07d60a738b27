"""Problem descriptors, one a line, in the manner of oneDNN's benchdnn: ``mb8 ic64 ih56 oc64 kh3 ph1 n"name*3"``.

A line may begin with its op: ``conv`` (or nothing), ``denormal`` (a convolution of denormal numbers), ``prepared``
(one whose weight is constant), ``pool``, ``dropout``, ``relu``, ``train`` (a step of training of the net called
``n``), ``occlusion`` (the map of the net called ``n``, by windows ``kh kw`` every ``sh sw`` pixels) or ``infer`` (a
forward pass of the net, from an ONNX file).  A key is letters, its value the integer behind them: ``mb`` batch, ``g``
groups, ``ic`` and ``oc`` channels, ``ih iw`` image, ``kh kw`` kernel, ``sh sw`` stride, ``ph pw`` padding, ``dh dw``
dilation (1: none, unlike benchdnn), ``p`` percent dropped.  A width is the height where it is left out.  ``n`` is a
name; ``*3`` in it says that the net has three such layers, and of a net's name what follows a dot tells its lines
apart.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

PROBLEMS = Path(__file__).parent / "problems"

OPS = ("conv", "denormal", "prepared", "pool", "dropout", "relu", "train", "occlusion", "infer")

_DEFAULTS = {"mb": 1, "g": 1, "oc": 0, "kh": 1, "sh": 1, "ph": 0, "dh": 1, "p": 0}
_WIDTHS = {"iw": "ih", "kw": "kh", "sw": "sh", "pw": "ph", "dw": "dh"}
_NEEDED = ("ic", "ih")


@dataclass(frozen=True)
class Problem:
    """One line: the op, sizes by their key, the name, and how often the net has the layer."""

    line: str
    op: str
    name: str
    count: int
    sizes: dict[str, int]

    def __getitem__(self, key: str) -> int:
        return self.sizes[key]

    def pair(self, letter: str) -> tuple[int, int]:
        """Height and width of the image (i), kernel (k), stride (s), padding (p) or dilation (d)."""
        return self[letter + "h"], self[letter + "w"]

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        return self["mb"], self["ic"], self["ih"], self["iw"]

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        return self["oc"], self["ic"] // self["g"], self["kh"], self["kw"]

    @property
    def out_size(self) -> tuple[int, int]:
        height, width = (
            (self[f"i{x}"] + 2 * self[f"p{x}"] - self[f"d{x}"] * (self[f"k{x}"] - 1) - 1) // self[f"s{x}"] + 1
            for x in "hw"
        )
        return height, width

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        return self["mb"], self["oc"] or self["ic"], *self.out_size

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the convolution."""
        per_output = self.weight_shape[1] * self["kh"] * self["kw"]
        return self["mb"] * self["oc"] * self.out_size[0] * self.out_size[1] * per_output


def parse(line: str) -> Problem:
    """One descriptor.

    Raises
    ------
    ValueError
        If the line breaks a rule of the descriptors.
    """
    sizes: dict[str, int] = {}
    name, count = "", 1
    words = line.split()
    op = words.pop(0) if words and words[0] in OPS else OPS[0]
    for word in words:
        if named := re.fullmatch(r'n"([^"*]+)(?:\*(\d+))?"', word):
            name, count = named[1], int(named[2] or 1)
        elif (sized := re.fullmatch(r"([a-z]+)(\d+)", word)) and sized[1] in {*_DEFAULTS, *_WIDTHS, *_NEEDED}:
            if sized[1] in sizes:
                raise ValueError(f"{sized[1]} is given twice: {line!r}")
            sizes[sized[1]] = int(sized[2])
        else:
            raise ValueError(
                f'a descriptor has an op, words like ic64 and a name like n"conv1", got {word!r} in {line!r}'
            )
    missing = [key for key in _NEEDED if key not in sizes]
    if missing:
        raise ValueError(f"a descriptor needs {' and '.join(missing)}: {line!r}")
    sizes = _DEFAULTS | sizes
    for width, height in _WIDTHS.items():
        sizes.setdefault(width, sizes[height])
    return Problem(line, op, name or line, count, sizes)


def files() -> list[str]:
    """Names of the problem files."""
    return sorted(path.stem for path in PROBLEMS.glob("*.txt"))


def read(file: str) -> list[Problem]:
    """The problems of ``problems/<file>.txt``; ``#`` starts a comment.

    Raises
    ------
    ValueError
        If there is no such file.
    """
    if file not in files():
        raise ValueError(f"no problem file {file!r}; there are {', '.join(files())}")
    text = (PROBLEMS / f"{file}.txt").read_text(encoding="utf-8")
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [parse(line) for line in lines if line]
