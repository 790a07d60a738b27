"""Explain photographs, each on a page of its own, with nets that were trained on ImageNet.

    python examples/fetch_pretrained.py FOLDER
    python examples/gallery.py FOLDER --out gallery

Open gallery/index.html in a browser.  Without a picture, scikit-image's photographs are explained.
"""

import argparse
import json
from html import escape
from pathlib import Path

import numpy as np
from classify import PREPROCESSING, photographs, square

from fastconv import explain, nn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where examples/fetch_pretrained.py has put the nets")
    parser.add_argument("pictures", type=Path, nargs="*", metavar="PICTURE")
    parser.add_argument("--out", type=Path, default=Path("gallery"))
    arguments = parser.parse_args()
    names = json.loads((arguments.folder / "labels.json").read_text(encoding="utf-8"))
    arguments.out.mkdir(parents=True, exist_ok=True)
    entries = []
    for net, preprocess in PREPROCESSING.items():
        model = nn.load(arguments.folder / f"{net}.safetensors")
        for picture in arguments.pictures or photographs():
            pixels = square(picture)
            image = preprocess(pixels)
            page = explain.report(
                model,
                image,
                methods=list(explain.REPORT_METHODS),
                class_names=names,
                picture=pixels.transpose(2, 0, 1) / 255,
                title=f"{net}: {picture.name}",
            )
            target = arguments.out / f"{net}-{picture.stem}.html"
            target.write_text(page, encoding="utf-8")
            found = names[int(np.argmax(model.predict(image)[0]))]
            entries.append(
                f'<li><a href="{escape(target.name)}">{net}: {escape(picture.name)}</a>, {escape(found)}</li>'
            )
            print(target)
    index = arguments.out / "index.html"
    index.write_text(
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Gallery</title><h1>What nets look at</h1>'
        f"<ul>{''.join(entries)}</ul></html>\n",
        encoding="utf-8",
    )
    print(index)


if __name__ == "__main__":
    main()
