"""The page about an image: complete, self-contained, shown by a browser as it is meant."""

import base64
import html
import json
import re
import shutil
import subprocess

import numpy as np
import pytest

from fastconv import cli, explain, nn
from fastconv.explain import command

pytest.importorskip("matplotlib")
pillow = pytest.importorskip("PIL.Image")

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


def net(channels=3, classes=4, seed=0):
    layers = [nn.Conv2d(4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 3), nn.ReLU()]
    layers += [nn.GlobalAvgPool2d(), nn.Linear(classes)]
    return nn.Sequential(layers, input_shape=(channels, 28, 24), seed=seed)


@pytest.fixture
def image(rng):
    return rng.random((3, 28, 24))


def table(page):
    """First cells of the page's rows, to what follows them."""
    rows = re.findall(r"<tr><t[hd]>(.*?)</t[hd]>(.*?)</tr>", page)
    return {html.unescape(name): html.unescape(re.sub("<.*?>", " ", rest)).split() for name, rest in rows}


def test_a_page_holds_every_method_its_numbers_and_its_cost(image):
    model = net()
    page = explain.report(
        model,
        image,
        methods=list(explain.REPORT_METHODS),
        true_label=2,
        class_names=["a", "b", "<c>", "d & e"],
    )
    headings = re.findall("<h2>(.*?)</h2>", page)
    assert headings == [
        *("Prediction", "Occlusion", "Saliency", "Grad-CAM", "Integrated gradients"),
        *("SmoothGrad", "Feature maps", "Receptive fields"),
        *("Cost", "Net"),
    ]
    pictures = re.findall(r'src="data:image/png;base64,(.*?)"', page)
    assert len(pictures) == 2 + 2 + 1 + 1 + 1 + 2 + 2
    assert all(base64.b64decode(picture).startswith(b"\x89PNG") for picture in pictures)
    rows = table(page)
    scores = model.predict(image[None])[0]
    best = int(np.argmax(scores))
    name = ["a (0)", "b (1)", "<c> (2)", "d & e (3)"][best]
    assert rows[name][0] == f"{scores[best]:.4g}"
    assert rows["true class"] == ["<c>", "(2)"]
    assert "<c>" not in page
    result = explain.occlusion(model, image, 2, window=1, stride=1)
    assert f"{result.loss:.4g}," in rows["watched loss"]
    total = explain.IntegratedGradients(model).attribute(image[None].astype(np.float32), target=best).sum()
    assert rows["sum"] == [f"{total:.4g}"]
    for step in ("prediction", "occlusion", "saliency", "feature maps", "receptive fields"):
        assert rows[step][1] == "ms"


def test_a_page_needs_nothing_from_elsewhere(image):
    page = explain.report(net(), image, methods=["saliency"], title="<script>alert(1)</script>")
    assert not re.search(r"<(script|link|iframe|object)", page)
    assert not re.search(r"""(src|href)=["'](?!data:)""", page)
    assert page.count("http") == 0


def test_probabilities_are_not_taken_twice(image):
    model = nn.Sequential([nn.Flatten(), nn.Linear(3), nn.Softmax()], input_shape=(3, 28, 24), seed=0)
    rows = table(explain.report(model, image, methods=["saliency"]))
    for index, probability in enumerate(model.predict(image[None])[0]):
        assert rows[f"class {index}"] == [f"{probability:.4g}", f"{probability:.2%}"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"methods": ["occlusion", "magic"]}, "methods must be some of .* got magic"),
        ({"methods": []}, "got none"),
        ({"target": 4}, r"target must lie in \[0, 4\), got 4"),
        ({"true_label": -1}, "true_label must lie in"),
        ({"class_names": ["a"]}, "class_names must have 4 entries, got 1"),
        ({"picture": np.zeros((3, 5, 5))}, "picture must be of the image's size"),
    ],
)
def test_wrong_arguments(arguments, message, image):
    with pytest.raises(ValueError, match=message):
        explain.report(net(), image, **arguments)


@pytest.fixture
def files(tmp_path, rng):
    pytest.importorskip("safetensors")
    pillow.fromarray(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)).save(tmp_path / "photo.png")
    net().save(tmp_path / "net.safetensors")
    (tmp_path / "names.json").write_text(json.dumps(["cat", "dog", "cow", "owl"]))
    return tmp_path


def test_the_command_writes_the_page(files, capsys):
    out = files / "new" / "page.html"
    arguments = [
        "--method",
        "saliency,occlusion",
        "--window",
        "7",
        "--stride",
        "7",
        "--label",
        "1",
        "--baseline",
        "mean",
    ]
    arguments += ["--range", "255", "--mean", "100", "110", "120", "--std", "50", "--bgr", "--names"]
    paths = [str(files / name) for name in ("net.safetensors", "photo.png", "names.json")]
    assert cli.main(["explain", *paths[:2], *arguments, paths[2], "--out", str(out)]) == 0
    page = out.read_text(encoding="utf-8")
    assert capsys.readouterr().out == f"{out}: {len(page):,} bytes\n"
    rows = table(page)
    assert rows["true class"] == ["dog", "(1)"]
    assert " ".join(rows["preprocessing"]) == "white is 255, mean 100, 110, 120, standard deviation 50, BGR"
    assert " ".join(rows["windows"]) == "16 of 7 x 7, 7 apart, mean"
    image = (
        command.read_image(files / "photo.png", (3, 28, 24))[::-1] * 255
        - np.reshape([100, 110, 120], (3, 1, 1))
    ) / 50
    model = nn.load(files / "net.safetensors")
    scores = model.predict(image[None])[0]
    best = int(np.argmax(scores))
    assert rows[f"{['cat', 'dog', 'cow', 'owl'][best]} ({best})"][0] == f"{scores[best]:.4g}"


def test_an_image_is_cut_in_the_middle_and_scaled(tmp_path):
    pixels = np.zeros((40, 100), np.uint8)
    pixels[:, 30:70] = 200
    pillow.fromarray(pixels).save(tmp_path / "wide.png")
    inner = command.read_image(tmp_path / "wide.png", (1, 20, 20))
    assert inner.shape == (1, 20, 20)
    np.testing.assert_allclose(inner[:, :, 2:-2], 200 / 255)  # bicubic weights overshoot at the cut
    assert command.read_image(tmp_path / "wide.png", (3, 10, 25)).shape == (3, 10, 25)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["net.safetensors", "missing.png"], "missing.png"),
        (["missing.safetensors", "photo.png"], "missing.safetensors"),
        (["net.safetensors", "names.json"], "cannot identify image file"),
        (["net.safetensors", "photo.png", "--mean", "1", "2"], "--mean and --std take 1 or 3 numbers"),
        (["net.safetensors", "photo.png", "--std", "0"], "--std none that is 0"),
        (["net.safetensors", "photo.png", "--method", "tarot"], "methods must be some of"),
    ],
)
def test_the_command_says_what_is_wrong(arguments, message, files, monkeypatch, capsys):
    monkeypatch.chdir(files)
    assert cli.main(["explain", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_browser_shows_the_page(files, image):
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip("no Chromium is installed")
    page = files / "page.html"
    page.write_text(explain.report(net(), image, title="Löwe & Co"), encoding="utf-8")
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
    ]
    flags += [
        "--disable-component-update",
        "--disable-sync",
        "--disable-quic",
        f"--user-data-dir={files / 'profile'}",
    ]
    probe = "document.title = [...document.images].map(i => i.complete && i.naturalWidth > 300).join()"
    probed = files / "probed.html"
    probed.write_text(
        page.read_text(encoding="utf-8").replace(
            "</body>", f"<script>onload = () => {{{probe}}}</script></body>"
        ),
        encoding="utf-8",
    )
    run = subprocess.run(
        [browser, *flags, "--dump-dom", probed.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "<title>true,true,true,true</title>" in run.stdout
    assert "<h1>Löwe &amp; Co</h1>" in run.stdout
