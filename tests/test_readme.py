"""The examples of the README run as they stand."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


def blocks():
    return re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def test_the_readme_has_its_examples():
    assert len(blocks()) == 3


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
