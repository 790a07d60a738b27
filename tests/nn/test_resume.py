"""Checkpoints: a run that is killed at any moment goes on to the same bits; Ctrl-C leaves a whole step."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import fastconv
from fastconv import nn
from fastconv.nn import losses
from fastconv.nn.callbacks import Callback, EarlyStopping, LambdaCallback, ReduceLROnPlateau
from kit import start_python

safetensors = pytest.importorskip("safetensors.numpy")

SCRIPT = str(Path(__file__).with_name("resumable_run.py"))
X = np.random.default_rng(0).standard_normal((12, 4)).astype("float32")
Y = np.arange(12) % 3


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    done = start_python(SCRIPT, str(folder), "never")
    assert done.returncode == 0, done.stderr
    return done.stdout, (folder / "weights").read_bytes(), (folder / "log.csv").read_text()


def assert_same(folder, stdout, uninterrupted):
    printed, weights, log = uninterrupted
    assert stdout == printed
    assert (folder / "weights").read_bytes() == weights
    assert (folder / "log.csv").read_text() == log


# SIGKILL is Linux' and macOS' own
pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")


@pytest.mark.no_sanitize
def test_killed_at_every_kind_of_moment_it_ends_with_the_same_bits(tmp_path, uninterrupted):
    for where in ("batch:2", "write:2", "move:1", "moved:2", "batch:8"):
        done = start_python(SCRIPT, str(tmp_path), where)
        assert done.returncode == -signal.SIGKILL, f"{where}: {done.stderr}"
    done = start_python(SCRIPT, str(tmp_path), "never")
    assert done.returncode == 0, done.stderr
    assert_same(tmp_path, done.stdout, uninterrupted)
    # and what has ended stays as it is
    again = start_python(SCRIPT, str(tmp_path), "never")
    assert_same(tmp_path, again.stdout, uninterrupted)


@pytest.mark.no_sanitize
def test_killed_at_random_it_ends_with_the_same_bits(tmp_path, uninterrupted):
    environment = os.environ | {"PYTHONPATH": str(Path(fastconv.__file__).parents[1])}
    moments = random.Random()
    killed = 0
    for _ in range(3):
        child = subprocess.Popen(
            [sys.executable, "-P", SCRIPT, str(tmp_path), "never"],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert child.stdout.readline() == "ready\n"
        time.sleep(moments.uniform(0, 0.05))
        child.kill()
        child.communicate()
        killed += child.returncode == -signal.SIGKILL
    done = start_python(SCRIPT, str(tmp_path), "never")
    assert done.returncode == 0, done.stderr
    assert_same(tmp_path, done.stdout, uninterrupted)


# ------------------------------------------------------------------------------------------------- in one process


def net(seed=0, optimizer=None):
    model = nn.Sequential([nn.Linear(8), nn.Dropout(0.5), nn.Linear(3)], input_shape=(4,), seed=seed)
    model.compile(optimizer or nn.SGD(0.1, momentum=0.9))
    return model


class Fail(Callback):
    """Ends training with an error, like a crash."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_begin(self, epoch):
        if epoch == self.epoch:
            raise RuntimeError("crash")


def test_callbacks_and_their_rate_go_on(tmp_path):
    def run(crash, **options):
        model = net(optimizer=nn.RMSprop(0.1, momentum=0.5, centered=True))
        callbacks = [
            ReduceLROnPlateau("loss", 0.5, patience=1, min_delta=0.2),
            EarlyStopping("loss", patience=50),
        ]
        callbacks += [Fail(crash)] if crash else []
        try:
            history = model.fit(X, Y, 5, 9, callbacks=callbacks, verbose=0, **options)
        except RuntimeError:
            return None
        return history.history, model.params, model.optimizer.learning_rate, callbacks[0].best

    path = tmp_path / "run"
    expected = run(None)
    assert run(4, checkpoint=path) is None
    history, params, rate, best = run(None, resume=path)
    assert (history, rate, best) == (expected[0], expected[2], expected[3])
    assert len(set(history["learning_rate"])) > 1
    for name, value in params.items():
        np.testing.assert_array_equal(value, expected[1][name])


def test_a_run_can_be_made_longer(tmp_path):
    path = tmp_path / "run"
    whole, parts = net(), net()
    whole.fit(X, Y, 5, 6, verbose=0)
    parts.fit(X, Y, 5, 2, checkpoint=path, verbose=0)
    fresh = net()
    history = fresh.fit(X, Y, 5, 6, checkpoint=path, resume=path, verbose=0)
    assert history.epoch == list(range(6))
    for name, value in whole.params.items():
        np.testing.assert_array_equal(fresh.params[name], value)


def test_a_checkpoint_is_a_net_too(tmp_path):
    model = net()
    model.fit(X, Y, 5, 2, checkpoint=tmp_path / "run", verbose=0)
    np.testing.assert_array_equal(nn.load(tmp_path / "run").predict(X), model.predict(X))
    other = net(1)
    other.load_weights(tmp_path / "run")
    np.testing.assert_array_equal(other.predict(X), model.predict(X))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run"]


def test_resume_needs_a_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        net().fit(X, Y, verbose=0, resume=tmp_path / "none")
    with pytest.raises(ValueError, match="resume=True goes on from the checkpoint, but none is given"):
        net().fit(X, Y, verbose=0, resume=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "another net: it differs in seed"),
        ({"optimizer": nn.Adam()}, "is a checkpoint of SGD, the model is compiled with Adam"),
        ({"optimizer": nn.SGD(0.1)}, r"of SGD with momentum 0\.9, got 0\.0"),
        ({"batch_size": 4}, "another run: batch_size was 5, got 4"),
        ({"shuffle": False}, "another run: shuffle was True, got False"),
        ({"y": Y[:9]}, "another run: samples was 12, got 9"),
        (
            {"callbacks": [EarlyStopping("loss")]},
            "state of the callbacks History, but this run has EarlyStopping, History",
        ),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(tmp_path, change, message):
    net().fit(X, Y, 5, 1, checkpoint=tmp_path / "run", verbose=0)
    model = net(change.pop("seed", 0), change.pop("optimizer", None))
    before, y = model.get_weights(), change.pop("y", Y)
    options = {"batch_size": 5, "epochs": 2, "verbose": 0} | change
    with pytest.raises(ValueError, match=message):
        model.fit(X[: len(y)], y, resume=tmp_path / "run", **options)
    for name, value in before.items():
        np.testing.assert_array_equal(model.params[name], value)


def test_a_checkpoint_of_another_architecture_is_refused(tmp_path):
    net().fit(X, Y, 5, 1, checkpoint=tmp_path / "run", verbose=0)
    other = nn.Sequential([nn.Linear(3)], input_shape=(4,))
    other.compile(nn.SGD(0.1, momentum=0.9))
    with pytest.raises(ValueError, match="run is a checkpoint of another net: it differs in graph"):
        other.fit(X, Y, 5, 2, resume=tmp_path / "run", verbose=0)


def test_damaged_and_foreign_files_are_named(tmp_path):
    good = tmp_path / "good"
    net().fit(X, Y, 5, 1, checkpoint=good, verbose=0)
    whole = good.read_bytes()
    with safetensors.safe_open(good, "np") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118

    def written(**changes):
        kept = {key: value for key, value in (metadata | changes).items() if value is not None}
        return safetensors.save({k: v for k, v in tensors.items() if k != changes.get("drop")}, kept)

    run = json.loads(metadata["fastconv_run"])
    without_epoch = {key: value for key, value in run.items() if key != "epoch"}
    files = {
        "not a safetensors file, or not a whole one": [whole[:n] for n in (0, 5, 100, len(whole) // 2, -1)],
        "not a safetensors file": [b"PK\x03\x04 a zip file", b"\x80\x04 a pickle"],
        "is no checkpoint of a training run": [written(fastconv_run=None)],
        "has format 2, this version reads format 1": [
            written(fastconv_run=json.dumps(run | {"format": 2})),
            written(fastconv=json.dumps(json.loads(metadata["fastconv"]) | {"format": 2})),
        ],
        "is damaged": [
            written(fastconv_run="{"),
            written(fastconv_run="[]"),
            written(fastconv=None),
            written(fastconv_run=json.dumps(without_epoch)),
            written(drop="run/0"),
        ],
    }
    bad = tmp_path / "bad"
    for message, contents in files.items():
        for content in contents:
            bad.write_bytes(content)
            with pytest.raises(ValueError, match=f"bad.*{message}"):
                net().fit(X, Y, 5, 2, resume=bad, verbose=0)


def test_the_place_of_a_checkpoint(tmp_path):
    with pytest.raises(ValueError, match="a checkpoint is one file, but"):
        net().fit(X, Y, 5, 1, checkpoint=tmp_path, verbose=0)
    net().fit(X, Y, 5, 1, checkpoint=tmp_path / "new" / "run", verbose=0)
    (tmp_path / "plain").write_bytes(b"")
    assert (tmp_path / "new" / "run").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_callback_s_state_must_be_plain(tmp_path):
    class Odd(Callback):
        def get_state(self):
            return {"number": np.float32(1.5), "odd": object()}

    with pytest.raises(TypeError, match="a callback's state must hold numbers"):
        net().fit(X, Y, 5, 1, callbacks=[Odd()], checkpoint=tmp_path / "run", verbose=0)


def test_saving_leaves_the_old_file_when_it_fails(tmp_path, monkeypatch):
    model, path = net(), tmp_path / "net"
    model.save(path)
    before = path.read_bytes()

    def fail(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    model.params["linear_1.weight"][...] = 0
    with pytest.raises(OSError, match="disk full"):
        model.save(path)
    assert path.read_bytes() == before


# --------------------------------------------------------------------------------------------------------- Ctrl-C


class Interrupting(losses.CrossEntropy):
    """Sends SIGINT in the middle of its n-th call."""

    left = 7

    def value_and_gradient(self, output, target, sample_weight=None):
        Interrupting.left -= 1
        if Interrupting.left == 0:
            os.kill(os.getpid(), signal.SIGINT)
        return super().value_and_gradient(output, target, sample_weight)


def test_interrupted_in_a_step_the_step_is_finished(tmp_path):
    ends = []
    model = net()
    model.compile(nn.SGD(0.1, momentum=0.9), Interrupting())
    stop = EarlyStopping("loss", patience=9)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y, 5, 9, callbacks=[LambdaCallback(on_train_end=ends.append), stop], verbose=0)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert ends == [{}]
    assert model._optimizer_state.step == 7
    assert model.history.epoch == [0, 1]
    assert len(model.history.history["loss"]) == 2

    twin = net()
    count = [0]

    def stop_at_seven(batch, logs):
        count[0] += 1
        twin.stop_training = count[0] == 7

    twin.fit(X, Y, 5, 9, callbacks=[LambdaCallback(on_train_batch_end=stop_at_seven)], verbose=0)
    for name, value in twin.params.items():
        np.testing.assert_array_equal(model.params[name], value)
    model.compile(nn.SGD(0.1))
    model.fit(X, Y, 5, 1, verbose=0)  # it is as usable as ever


def test_interrupted_it_still_ends_with_the_best_weights():
    model, best = net(), []

    def script(epoch, logs):
        logs["loss"] = [3.0, 1.0, 2.0][epoch]
        if epoch == 1:
            best.append(model.get_weights())

    def interrupt(epoch, logs):
        if epoch == 2:
            raise KeyboardInterrupt

    watch = [
        LambdaCallback(on_epoch_end=script),
        EarlyStopping("loss", patience=9, restore_best_weights=True),
        LambdaCallback(on_epoch_end=interrupt),
    ]
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y, 5, 9, callbacks=watch, verbose=0)
    for name, value in best[0].items():
        np.testing.assert_array_equal(model.params[name], value)


def test_a_handler_of_one_s_own_and_other_threads_are_left_alone():
    def own(number, frame):
        raise AssertionError("not called")

    former = signal.signal(signal.SIGINT, own)
    try:
        handlers = []
        note = LambdaCallback(
            on_train_batch_begin=lambda *_: handlers.append(signal.getsignal(signal.SIGINT))
        )
        net().fit(X, Y, 12, 1, callbacks=[note], verbose=0)
        assert handlers == [own]
    finally:
        signal.signal(signal.SIGINT, former)
    thread = threading.Thread(target=lambda: net().fit(X, Y, 12, 1, callbacks=[note], verbose=0))
    thread.start()
    thread.join()
    assert handlers[1] is former


INTERRUPTED = """
import sys, numpy as np
from fastconv import nn

x = np.random.default_rng(0).standard_normal((64, 1, 12, 12)).astype("float32")
y = np.arange(64) % 3

def net():
    layers = [nn.Conv2d(8, 3), nn.BatchNorm2d(), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(), nn.Linear(3)]
    model = nn.Sequential(layers, input_shape=(1, 12, 12), seed=1)
    model.compile(nn.Adam(0.01))
    return model

class Tell(nn.callbacks.Callback):
    ended = 0
    def on_epoch_end(self, epoch, logs):
        print("epoch", epoch, flush=True)
    def on_train_end(self):
        self.ended += 1

model, tell = net(), Tell()
try:
    model.fit(x, y, 16, 100000, callbacks=[tell], verbose=0)
    sys.exit("not interrupted")
except KeyboardInterrupt:
    steps = model._optimizer_state.step
assert tell.ended == 1
assert model.history.epoch == list(range(len(model.history.epoch))) and len(model.history.epoch) >= 2

twin = net()
class Stop(nn.callbacks.Callback):
    def on_train_batch_end(self, batch, logs):
        self.model.stop_training = twin._optimizer_state.step == steps
twin.fit(x, y, 16, 100000, callbacks=[Stop()], verbose=0)
for name, value in twin.params.items():
    np.testing.assert_array_equal(value, model.params[name])
print("same", flush=True)
"""


@pytest.mark.no_sanitize
def test_ctrl_c_leaves_a_whole_step_and_the_history():
    environment = os.environ | {"PYTHONPATH": str(Path(fastconv.__file__).parents[1])}
    child = subprocess.Popen(
        [sys.executable, "-P", "-c", INTERRUPTED],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    while "epoch 1" not in child.stdout.readline():
        pass
    time.sleep(random.uniform(0, 0.05))
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 0, err
    assert out.endswith("same\n")
