"""Name what is in pictures, with nets that were trained on ImageNet.

    python examples/fetch_pretrained.py FOLDER
    python examples/classify.py FOLDER PICTURE ...

Without a picture, scikit-image's photographs are looked at.
"""

import argparse
import json
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from fastconv import nn

SIDE = 224
PHOTOGRAPHS = ("chelsea", "coffee", "rocket", "astronaut", "motorcycle_left")


class Preprocessing(NamedTuple):
    """How pixels from 0 to 255 become the input of a net."""

    mean: tuple[float, float, float]
    scale: float = 1.0
    bgr: bool = False

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """From (H, W, 3), RGB, to (1, 3, H, W) in float32."""
        channels = pixels[..., ::-1] if self.bgr else pixels
        values = (channels - np.array(self.mean)) / self.scale
        return np.ascontiguousarray(values.transpose(2, 0, 1)[None], dtype=np.float32)


PREPROCESSING = {
    "squeezenet": Preprocessing((103.939, 116.779, 123.68), bgr=True),
    "efficientnet_lite0": Preprocessing((127.0, 127.0, 127.0), scale=128.0),
}


def square(path: Path) -> np.ndarray:
    """The middle of a picture, (224, 224, 3), RGB."""
    with Image.open(path) as image:
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        box = (left, top, left + side, top + side)
        return np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=box))


def photographs() -> list[Path]:
    """Those that scikit-image brings along."""
    import skimage

    folder = Path(skimage.__file__).parent / "data"
    return [path for name in PHOTOGRAPHS for path in sorted(folder.glob(f"{name}.*"))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where examples/fetch_pretrained.py has put the nets")
    parser.add_argument("pictures", type=Path, nargs="*", metavar="PICTURE")
    arguments = parser.parse_args()
    names = json.loads((arguments.folder / "labels.json").read_text(encoding="utf-8"))
    pictures = arguments.pictures or photographs()
    for net, preprocess in PREPROCESSING.items():
        model = nn.load(arguments.folder / f"{net}.safetensors")
        model.compile_inference()
        for picture in pictures:
            image = preprocess(square(picture))
            began = time.perf_counter()
            logits = model.predict(image)[0].astype(np.float64)
            took = time.perf_counter() - began
            probabilities = np.exp(logits - logits.max())
            probabilities /= probabilities.sum()
            best = np.argsort(-logits, kind="stable")[:5]
            found = ", ".join(f"{names[i]} {probabilities[i]:.0%}" for i in best)
            print(f"{net}: {picture.name}: {found} ({took * 1e3:.0f} ms)")


if __name__ == "__main__":
    main()
