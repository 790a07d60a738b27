"""The command: the demo end to end at one epoch, its exit codes, and what its speed table refuses."""

import re
import sys

import numpy as np
import pytest

import fastconv
from fastconv import _demo, cli, nn
from kit import run_python, start_python


def needs_demo_packages():
    for module in ("mlxtend", "matplotlib", "tqdm", "safetensors"):
        pytest.importorskip(module)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """One epoch of the demo: exit code, standard output, standard error, folder."""
    needs_demo_packages()
    out = tmp_path_factory.mktemp("demo") / "new" / "folder"
    code = (
        "import sys; from fastconv import _demo, cli; _demo._SECONDS_PER_ROW = 0; "
        f"sys.exit(cli.main(['demo', '--out', {str(out)!r}, '--epochs', '1', '--seed', '3']))"
    )
    done = start_python("-c", code, timeout=300)
    return done.returncode, done.stdout, done.stderr, out


def test_too_few_digits_read_is_exit_code_1_with_a_message(demo):
    code, stdout, stderr, _ = demo
    accuracy = float(re.search(r"held-out digits read: ([\d.]+)%", stdout)[1])
    assert 80 < accuracy < 98, "one epoch learns, but not enough"
    assert code == 1, stderr
    assert f"{accuracy}% is less than the 98% asked for" in stderr


def test_demo_writes_every_picture_and_the_net(demo):
    *_, out = demo
    expected = {"training_curves", "filters", "feature_maps_relu_1", "feature_maps_relu_2"}
    expected |= {f"{what}_{kind}" for what in ("occlusion", "saliency") for kind in ("correct", "wrong")}
    assert {path.stem for path in out.glob("*.png")} == expected
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in out.glob("*.png"))
    assert nn.load(out / "digits.safetensors").predict(np.zeros((1, 1, 28, 28))).shape == (1, 10)


def test_demo_prints_the_tables(demo):
    _, stdout, stderr, _ = demo
    assert re.search(r"conv2d_2 +48 x 14 x 14 +14 x 14 +2 x 2 +6 x 6", stdout), "receptive field"
    for op in (
        "conv2d",
        "conv2d, input gradient",
        "conv2d, weight gradient",
        "max_pool2d",
        "max_pool2d, gradient",
        "dropout",
    ):
        assert re.search(rf"^{op} +64 x .*( +\d+\.\d+){{3}}", stdout, re.MULTILINE), op
    assert "Epoch 1/1: 100%" in stderr, "progress bar"


def test_demo_learns_the_same_net_from_the_same_seed():
    first, second = (_demo.digit_net(seed=5) for _ in range(2))
    x, y = np.random.default_rng(0).uniform(0, 1, (64, 1, 28, 28)), np.arange(64) % 10
    for model in (first, second):
        _demo.fit_digits(model, (x, y), (x, y), epochs=1)
    for name, value in first.params.items():
        np.testing.assert_array_equal(value, second.params[name])


@pytest.mark.parametrize("missing", ["mlxtend.data", "matplotlib.figure", "tqdm"])
def test_a_missing_package_is_exit_code_2_and_names_the_extra(missing, monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, missing, None)
    assert cli.main(["demo", "--out", str(tmp_path)]) == 2
    assert "pip install 'fastconv[demo]'" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_exit_code_2(tmp_path, capsys):
    needs_demo_packages()
    (tmp_path / "file").write_text("")
    assert cli.main(["demo", "--out", str(tmp_path / "file")]) == 2
    assert "file" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["dance"], ["demo", "--epochs", "0"], ["demo", "--seed", "x"]])
def test_a_wrong_call_is_exit_code_2_with_the_usage(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2
    assert "usage: fastconv" in capsys.readouterr().err


def test_python_m_fastconv_is_the_command():
    assert run_python("-m", "fastconv", "--version") == f"fastconv {fastconv.__version__}\n"


def test_speed_table_refuses_to_time_a_wrong_result(monkeypatch):
    right = _demo.F.conv2d
    monkeypatch.setattr(
        _demo.F, "conv2d", lambda *a, **k: right(*a, **k) * (1 + (fastconv.active_backend() == "cpu"))
    )
    with pytest.raises(RuntimeError, match="conv2d: differs from the NumPy reference"):
        _demo.speed_table(seconds_per_row=0)


@pytest.mark.parametrize("suffix", ["safetensors", "onnx"])
def test_summary_of_a_file(suffix, tmp_path, capsys):
    pytest.importorskip(suffix)
    model = nn.Sequential([nn.Conv2d(4, 3), nn.ReLU()], input_shape=(1, 8, 8))
    path = tmp_path / f"net.{suffix}"
    if suffix == "onnx":
        fastconv.onnx.save(model, path)
    else:
        model.save(path)
    assert cli.main(["summary", str(path)]) == 0
    assert "conv2d_1" in capsys.readouterr().out
    path.write_bytes(b"no net")
    assert cli.main(["summary", str(path)]) == 2
    assert re.search("not an? (ONNX|safetensors) file", capsys.readouterr().err)
