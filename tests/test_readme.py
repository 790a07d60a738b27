"""The examples of the README run as they stand."""

import re
from pathlib import Path

import numpy as np
import pytest

from fastconv import nn

README = Path(__file__).parents[1] / "README.md"


def blocks():
    return re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def test_the_readme_has_its_examples():
    assert len(blocks()) == 5


def run(number, names):
    exec(compile(blocks()[number], f"README example {number}", "exec"), names)
    return names


def test_ops():
    names = run(0, {})
    assert names["y"].shape == (8, 16, 32, 32)
    assert names["dw"].shape == names["w"].shape


def test_a_net_is_trained_and_explained_and_trained_on(capsys, tmp_path, monkeypatch):
    pytest.importorskip("mlxtend")
    pytest.importorskip("tensorboard")
    monkeypatch.chdir(tmp_path)
    names = run(1, {})
    assert names["result"].grid.shape == (6, 6)
    accuracy = names["model"].evaluate(names["x_test"], names["y_test"])["accuracy"]
    assert accuracy > 0.8
    assert "whole input" in capsys.readouterr().out
    run(2, names)
    assert names["model"].evaluate(names["x_test"], names["y_test"])["accuracy"] > accuracy
    assert (tmp_path / "run.safetensors").exists()
    assert list((tmp_path / "logs" / "train").iterdir())


def test_nets_from_onnx_files(tmp_path, monkeypatch):
    pytest.importorskip("onnx")
    monkeypatch.chdir(tmp_path)
    layers = [nn.Conv2d(4, 3), nn.ReLU(), nn.GlobalAvgPool2d(), nn.Linear(2)]
    original = nn.Sequential(layers, input_shape=(3, 8, 8), seed=0)
    original.save("net.onnx")
    names = run(3, {})
    x = np.random.default_rng(0).random((2, 3, 8, 8), dtype=np.float32)
    for model in (names["model"], nn.load("again.onnx")):
        np.testing.assert_allclose(model.predict(x), original.predict(x), rtol=1e-5, atol=1e-6)


def test_modules_of_pytorch():
    torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten()).eval()
    x = torch.rand(2, 3, 8, 8)
    names = run(4, {"module": module, "example_inputs": (x,)})
    with torch.no_grad():
        expected = module(x).numpy()
        np.testing.assert_allclose(names["fast"](x).numpy(), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(names["model"].predict(x.numpy()), expected, rtol=1e-5, atol=1e-6)
