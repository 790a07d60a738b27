"""Download Fashion-MNIST (30 MB, MIT licence) into a folder and check that it is what was published.

python examples/fetch_fashion_mnist.py FOLDER
FASTCONV_FASHION_MNIST=FOLDER python examples/fashion_mnist.py
"""

import argparse
import gzip
import hashlib
import sys
import urllib.request
import zlib
from pathlib import Path

URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"

# of what the files hold, since other distributors pack it anew
SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


def fetch(folder: Path, url: str) -> None:
    """Write the four files to ``folder``; those that are there and right are left alone.

    Raises
    ------
    ValueError
        If what came is not what was published; nothing is written then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, expected in SHA256.items():
        path = folder / f"{name}.gz"
        if path.exists() and digest(path.read_bytes()) == expected:
            print(f"{path}: is there")
            continue
        with urllib.request.urlopen(f"{url}/{name}.gz", timeout=60) as answer:
            packed = answer.read()
        got = digest(packed)
        if got != expected:
            raise ValueError(f"{url}/{name}.gz: its content must have the SHA-256 {expected}, got {got}")
        partial = path.with_suffix(".part")
        partial.write_bytes(packed)
        partial.replace(path)
        print(f"{path}: {len(packed):,} bytes")


def digest(packed: bytes) -> str:
    """SHA-256 of what a gzip file holds."""
    try:
        return hashlib.sha256(gzip.decompress(packed)).hexdigest()
    except (EOFError, OSError, zlib.error) as error:
        return f"none, it is no gzip file ({error})"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--url", default=URL, help="where the files are (default: %(default)s)")
    arguments = parser.parse_args()
    try:
        fetch(arguments.folder, arguments.url)
    except (OSError, ValueError) as error:
        sys.exit(f"fetch_fashion_mnist: {error}")
