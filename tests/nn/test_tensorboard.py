"""What training writes, read back from a real TensorBoard server on this machine."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastconv import nn
from fastconv.nn._events import mosaic
from fastconv.nn.callbacks import Callback, History, TensorBoard
from kit import Array, run_python

LONGEST = 60  # seconds that the server may take to start and to read


def data(n: int = 48, seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, 3, 6, 6)).astype("float32"), np.arange(n) % 2


def net() -> nn.Sequential:
    layers = [nn.Conv2d(4, 3), nn.BatchNorm2d(), nn.ReLU(), nn.Flatten(), nn.Linear(2)]
    model = nn.Sequential(layers, input_shape=(3, 6, 6))
    model.compile(nn.SGD(0.1), "cross_entropy", ["accuracy"])
    return model


class Keep(Callback):
    """Copies of the weights at the end of each epoch, and the logs of each batch."""

    def __init__(self) -> None:
        self.weights: list[dict[str, Array]] = []
        self.batches: list[dict[str, float]] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        self.weights.append(self.model.get_weights())

    def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
        self.batches.append(dict(logs))


class Server:
    """A TensorBoard server, and its answers."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--load_fast=false"]
        command += ["--host", "127.0.0.1", "--port", "0", "--reload_interval", "1"]
        variables = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=variables
        )
        self.lines: list[str] = []
        self.started = threading.Event()
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                self.address = found[0]
                self.started.set()
        self.started.set()

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.reader.join()
        assert self.process.stderr is not None
        self.process.stderr.close()

    def get(self, plugin: str, route: str, **query: Any) -> Any:
        """JSON, or bytes where the answer is none."""
        assert self.started.wait(LONGEST) and hasattr(self, "address"), "".join(self.lines)
        url = f"{self.address}/data/plugin/{plugin}/{route}?{urllib.parse.urlencode(query)}"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url, timeout=LONGEST) as answer:
            content = answer.read()
            return json.loads(content) if "json" in answer.headers["Content-Type"] else content


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Model, Keep, History]:
    """A net that wrote everything there is in two epochs of three batches."""
    pytest.importorskip("tensorboard")
    folder = tmp_path_factory.mktemp("logs")
    model, keep = net(), Keep()
    board = TensorBoard(
        folder,
        histogram_freq=1,
        write_images=True,
        write_steps_per_second=True,
        update_freq=2,
        write_grads=True,
        write_activations=True,
    )
    history = model.fit(
        *data(), 16, 2, validation_data=data(20, 1), callbacks=[board, keep], shuffle=False, verbose=0
    )
    return folder, model, keep, history


@pytest.fixture(scope="module")
def server(training: tuple[Path, nn.Model, Keep, History]) -> Iterator[Server]:
    server = Server(training[0])
    try:
        deadline = time.monotonic() + LONGEST
        while set(server.get("scalars", "tags")) != {"train", "validation"} or not server.get(
            "graphs", "info"
        ):
            assert time.monotonic() < deadline, "".join(server.lines)
            time.sleep(0.2)
        yield server
    finally:
        server.stop()


def scalars(server: Server, run: str, tag: str) -> list[tuple[int, float]]:
    return [(step, value) for _, step, value in server.get("scalars", "scalars", run=run, tag=tag)]


def test_scalars_are_the_history_s(server: Server, training: tuple[Path, nn.Model, Keep, History]) -> None:
    tags = server.get("scalars", "tags")
    assert set(tags["train"]) == {
        *("epoch_loss", "epoch_accuracy", "epoch_learning_rate", "epoch_steps_per_second"),
        *("batch_loss", "batch_accuracy", "batch_steps_per_second"),
    }
    assert set(tags["validation"]) == {
        *(
            "epoch_loss",
            "epoch_accuracy",
            "evaluation_loss_vs_iterations",
            "evaluation_accuracy_vs_iterations",
        ),
    }
    _, _, keep, history = training
    for run, prefix in (("train", ""), ("validation", "val_")):
        for name in ("loss", "accuracy"):
            expected = list(enumerate(history.history[prefix + name]))
            assert scalars(server, run, f"epoch_{name}") == pytest.approx(np.array(expected), rel=1e-6)
    expected = [(3, history.history["val_loss"][0]), (6, history.history["val_loss"][1])]
    assert scalars(server, "validation", "evaluation_loss_vs_iterations") == pytest.approx(
        np.array(expected), rel=1e-6
    )
    assert scalars(server, "train", "epoch_learning_rate") == pytest.approx(np.array([(0, 0.1), (1, 0.1)]))
    expected = [(number, keep.batches[number - 1]["loss"]) for number in (2, 4, 6)]
    assert scalars(server, "train", "batch_loss") == pytest.approx(np.array(expected), rel=1e-6)
    assert all(rate > 0 for _, rate in scalars(server, "train", "epoch_steps_per_second"))


def histograms(server: Server, tag: str) -> list[tuple[int, Array]]:
    answer = server.get("histograms", "histograms", run="train", tag=tag)
    return [(step, np.array(buckets)) for _, step, buckets in answer]


def check_histogram(buckets: Array, values: Array) -> None:
    """Buckets are rows (left, right, count) and together hold the values."""
    assert buckets[:, 2].sum() == values.size
    assert buckets[0, 0] == pytest.approx(values.min(), rel=1e-6)
    assert buckets[-1, 1] == pytest.approx(values.max(), rel=1e-6)
    np.testing.assert_array_equal(buckets[1:, 0], buckets[:-1, 1])
    middle = 0.5 * (values.min() + values.max())
    k = int(np.abs(buckets[:, 1] - middle).argmin())
    assert buckets[: k + 1, 2].sum() == pytest.approx((values <= buckets[k, 1]).sum(), abs=1)


def test_histograms_hold_the_weights_of_every_epoch(
    server: Server, training: tuple[Path, nn.Model, Keep, History]
) -> None:
    _, model, keep, _ = training
    tags = server.get("histograms", "tags")["train"]
    assert {f"{name.replace('.', '/')}/histogram" for name in model.params} <= set(tags)
    for name in ("conv2d_1.weight", "linear_1.weight"):
        shown = histograms(server, f"{name.replace('.', '/')}/histogram")
        assert [step for step, _ in shown] == [0, 1]
        for (_, buckets), weights in zip(shown, keep.weights, strict=True):
            check_histogram(buckets, weights[name])


def test_histograms_of_gradients_and_activations_are_those_of_the_last_batch(
    server: Server, training: tuple[Path, nn.Model, Keep, History]
) -> None:
    """Trained up to the batch before it, a twin has the same."""
    _, model, _, _ = training
    x, y = data()
    twin = net()
    twin.fit(x[:32], y[:32], 16, 1, shuffle=False, verbose=0)
    _, gradients = twin.loss_and_gradients(x[32:], y[32:], training=True, step=2)
    tags = set(server.get("histograms", "tags")["train"])
    for name in gradients:
        tag = f"{name.replace('.', '/')}_grad/histogram"
        tags.remove(tag)
        (step, buckets), _ = histograms(server, tag)
        assert step == 0
        check_histogram(buckets, gradients[name])
    for node in model.graph.nodes:
        assert {f"{node.name}/out/histogram", f"{node.name}/out_grad/histogram"} <= tags
    (_, buckets), _ = histograms(server, "conv2d_1/out/histogram")
    check_histogram(buckets, twin.activations(x[32:], ["conv2d_1"])["conv2d_1"])


def test_distributions_are_shown(server: Server) -> None:
    answer = server.get("distributions", "distributions", run="train", tag="linear_1/weight/histogram")
    assert [step for _, step, _ in answer] == [0, 1]
    for _, _, points in answer:
        basis_points, edges = zip(*points, strict=True)
        assert list(basis_points) == sorted(basis_points)
        assert list(edges) == sorted(edges)
        assert len(set(edges)) > 2


def test_images_are_the_filters_and_the_feature_maps(
    server: Server, training: tuple[Path, nn.Model, Keep, History]
) -> None:
    image = pytest.importorskip("PIL.Image")
    _, _, keep, _ = training
    tags = server.get("images", "tags")["train"]
    assert set(tags) == {
        "conv2d_1/weight/image",
        *(f"{name}/out/image" for name in ("conv2d_1", "batch_norm_1", "relu_1")),
    }

    def last(tag: str) -> Array:
        *_, newest = server.get("images", "images", run="train", tag=tag, sample=0)
        assert newest["step"] == 1
        content = server.get("images", "individualImage", **dict(urllib.parse.parse_qsl(newest["query"])))
        return np.asarray(image.open(io.BytesIO(content)))

    filters = last("conv2d_1/weight/image")
    weight = keep.weights[-1]["conv2d_1.weight"]
    np.testing.assert_array_equal(filters, mosaic(np.moveaxis(weight, 1, -1)))
    assert filters.shape == (7, 7, 3)
    assert last("relu_1/out/image").shape == (9, 9)


def test_the_graph_has_every_layer_and_parameter(
    server: Server, training: tuple[Path, nn.Model, Keep, History]
) -> None:
    _, model, _, _ = training
    assert server.get("graphs", "info")["train"]["run_graph"]
    text = server.get("graphs", "graph", run="train").decode()
    nodes = dict(re.findall(r'^node \{\n  name: "([^"]*)"(.*?)^\}', text, re.DOTALL | re.MULTILINE))
    names = {*model.graph.inputs, *(node.name for node in model.graph.nodes)}
    assert set(nodes) == names | {name.replace(".", "/") for name in model.params}
    for node in model.graph.nodes:
        inputs = re.findall(r'^  input: "(.*)"', nodes[node.name], re.MULTILINE)
        assert inputs == [*node.inputs, *(name.replace(".", "/") for name in node.params)]
        assert f'op: "{type(node.op).__name__}"' in nodes[node.name]
    assert re.findall(r"size: (-?\d+)", nodes["conv2d_1"]) == ["-1", "4", "4", "4"]


def test_a_training_that_breaks_off_leaves_a_complete_file(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    code = """
import sys, numpy as np
from fastconv import nn
x = np.ones((8, 4), "float32")
model = nn.Sequential([nn.Linear(2)], input_shape=(4,))
model.compile(nn.SGD(1.0))
class Break(nn.callbacks.Callback):
    def on_train_batch_end(self, batch, logs):
        if batch == 3:
            print(logs["loss"])
            sys.exit()
board = nn.callbacks.TensorBoard(sys.argv[1], update_freq="batch")
model.fit(x, np.zeros(8, int), 2, callbacks=[board, Break()], verbose=0)
"""
    printed = run_python("-c", code, str(tmp_path))
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader")
    (file,) = (tmp_path / "train").iterdir()
    events = list(loader.LegacyEventFileLoader(str(file)).Load())
    values = {(v.tag, event.step): v.simple_value for event in events for v in event.summary.value}
    assert values["batch_loss", 4] == pytest.approx(float(printed), rel=1e-6)
    assert any(event.graph_def for event in events)


def test_only_what_was_asked_for_is_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    model = net()
    board = TensorBoard(tmp_path, write_graph=False)
    model.fit(*data(), 16, 1, callbacks=[board], verbose=0)
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader")
    (run,) = tmp_path.iterdir()
    (file,) = run.iterdir()
    events = list(loader.LegacyEventFileLoader(str(file)).Load())
    tags = [value.tag for event in events for value in event.summary.value]
    assert tags == ["epoch_loss", "epoch_accuracy", "epoch_learning_rate"]
    assert not any(event.graph_def for event in events)


def test_a_resumed_training_goes_on_counting(tmp_path: Path) -> None:
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader")
    model = net()
    model.compile(nn.SGD(nn.schedules.Exponential(0.1, 0.5)), "cross_entropy")
    steps = {}
    for epochs in (1, 2):
        board = TensorBoard(tmp_path / str(epochs), update_freq="batch")
        state = tmp_path / "state.safetensors"
        model.fit(*data(), 16, epochs, callbacks=[board], checkpoint=state, resume=True, verbose=0)
        (file,) = (tmp_path / str(epochs) / "train").iterdir()
        events = list(loader.LegacyEventFileLoader(str(file)).Load())
        steps[epochs] = [(v.tag, e.step) for e in events for v in e.summary.value if v.tag == "batch_loss"]
        (rate,) = (v.simple_value for e in events for v in e.summary.value if v.tag == "epoch_learning_rate")
        assert rate == pytest.approx(model.optimizer.current_rate(model._optimizer_state))
    assert steps == {1: [("batch_loss", k) for k in (1, 2, 3)], 2: [("batch_loss", k) for k in (4, 5, 6)]}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"update_freq": "step"}, "'epoch', 'batch' or a number of batches >= 1, got 'step'"),
        ({"update_freq": 0}, "got 0"),
        ({"histogram_freq": -1}, "histogram_freq must be >= 0, got -1"),
        ({"profile_batch": 2}, r"profile_batch must be 0 \(there is no profiler\), got 2"),
        ({"write_grads": True}, "write_grads writes with the histograms"),
        ({"write_images": True}, "histogram_freq must be >= 1, got 0"),
    ],
)
def test_wrong_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TensorBoard("logs", **options)


def test_without_tensorboard_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "tensorboard"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ImportError, match=r"pip install 'fastconv\[tensorboard\]'"):
        net().fit(*data(), callbacks=[TensorBoard(tmp_path)], verbose=0)


def test_mosaic_puts_tiles_in_reading_order() -> None:
    tiles = np.arange(5.0)[:, None, None] * np.ones((1, 2, 3))
    shown = mosaic(tiles)
    assert shown.shape == (5, 11)
    assert shown.dtype == np.uint8
    assert [shown[0, 0], shown[0, 4], shown[0, 8], shown[3, 0]] == [0, 64, 128, 191]
    assert (shown[2] == 127).all() and (shown[3:, 8:] == 127).all()
    assert mosaic(np.full((1, 2, 2), np.nan)).tolist() == [[127, 127], [127, 127]]
    assert mosaic(np.zeros((2, 2, 2)), columns=2).shape == (2, 5)
