"""Whatever gives the batches and however many threads prepare them, training sees the same bits."""

import _thread
import threading
import time
import traceback

import numpy as np
import pytest

from fastconv import nn
from fastconv.nn import data
from fastconv.nn.callbacks import Callback


def workers_at_work():
    return [thread for thread in threading.enumerate() if thread.name.startswith("fastconv-data")]


@pytest.fixture(autouse=True)
def no_thread_stays_behind():
    yield
    assert not workers_at_work()


@pytest.fixture
def arrays(rng):
    return rng.integers(0, 256, (37, 1, 6, 6), np.uint8), rng.integers(0, 3, 37)


def net(**options):
    layers = [nn.Conv2d(4, 3), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(), nn.Linear(3)]
    model = nn.Sequential(layers, input_shape=(1, 6, 6), **options)
    model.compile(nn.SGD(0.01), metrics=["accuracy"])
    return model


def batches(x, y, size=8):
    return [(x[start : start + size], y[start : start + size]) for start in range(0, len(x), size)]


class Batches:
    """As Keras users write a Sequence."""

    def __init__(self, x, y, size=8):
        self.parts = batches(x, y, size)
        self.asked = []
        self.epochs = 0

    def __len__(self):
        return len(self.parts)

    def __getitem__(self, number):
        self.asked.append(number)
        return self.parts[number]

    def on_epoch_end(self):
        self.epochs += 1


class Again:
    """Can be iterated over again and again, and does not know its length."""

    def __init__(self, parts):
        self.parts = parts

    def __iter__(self):
        yield from self.parts


def weights(x, y=None, **options):
    model = net()
    model.fit(x, y, **{"batch_size": 8, "epochs": 3, "verbose": 0} | options)
    return model.params


def assert_same(some, others):
    for name, value in some.items():
        np.testing.assert_array_equal(value, others[name])


# ------------------------------------------------------------------------------------------ what gives batches


def test_every_source_trains_to_the_same_bits(arrays):
    x, y = arrays
    want = weights(x, y, shuffle=False)
    parts = batches(x, y)
    assert_same(want, weights(Batches(x, y), shuffle=False))
    assert_same(want, weights(Again(parts)))
    assert_same(want, weights((part for _ in range(3) for part in parts), steps_per_epoch=5))
    assert_same(want, weights(iter(parts * 3), steps_per_epoch=5))
    assert_same(want, weights(data.Arrays(x, y), shuffle=False))


def test_every_source_predicts_and_evaluates_alike(arrays):
    x, y = arrays
    model = net()
    want, scores = model.predict(x), model.evaluate(x, y)
    parts = batches(x, y)
    for source in (Batches(x, y), Again(parts), data.Arrays(x, y), Again([(x,) for x, _ in parts])):
        np.testing.assert_array_equal(model.predict(source, batch_size=8), want)
    np.testing.assert_array_equal(model.predict(x for x, _ in parts), want)
    np.testing.assert_array_equal(model.predict(iter(parts), steps=2), want[:16])
    for source in (Batches(x, y), Again(parts), iter(parts), data.Arrays(x, y)):
        assert model.evaluate(source) == pytest.approx(scores, rel=1e-6)
    assert model.evaluate(iter(parts), steps=1) == pytest.approx(model.evaluate(*parts[0]))


def test_batches_of_pytorchs_loader(arrays):
    torch = pytest.importorskip("torch")
    x, y = arrays
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(torch.from_numpy(x), torch.from_numpy(y)), batch_size=8
    )
    assert_same(weights(x, y, shuffle=False), weights(loader))
    np.testing.assert_array_equal(net().predict(loader), net().predict(x))


def test_scale_and_offset_turn_integers_into_what_the_net_sees(arrays):
    x, y = arrays
    source = data.Arrays(x, y, scale=2 / 255, offset=-1)
    seen = (x * np.float32(2 / 255) - np.float32(1)).astype(np.float32)
    assert seen.min() == -1 and seen.max() == pytest.approx(1)
    assert_same(weights(seen, y), weights(source))
    np.testing.assert_array_equal(net().predict(source), net().predict(seen))
    assert x.dtype == np.uint8


def test_weights_of_samples_from_any_source(arrays, rng):
    x, y = arrays
    w = rng.random(len(x))
    parts = [
        (*part, w[start : start + 8]) for part, start in zip(batches(x, y), range(0, 37, 8), strict=True)
    ]
    options = {"shuffle": False, "class_weight": {1: 3.0}}
    want = weights(x, y, sample_weight=w, **options)
    assert_same(want, weights(data.Arrays(x, y, w), **options))
    assert_same(want, weights(Again(parts), **options))
    plain = weights(x, y, shuffle=False)
    assert not np.array_equal(plain["conv2d_1.weight"], want["conv2d_1.weight"])
    scores = net().evaluate(x, y, sample_weight=w)
    assert net().evaluate(Again(parts)) == pytest.approx(scores)
    assert net().evaluate(data.Arrays(x, y, w)) == pytest.approx(scores)


def test_mapped_files_are_read_batch_by_batch(tmp_path, arrays):
    x, y = arrays
    np.save(tmp_path / "x.npy", x)
    stored = np.load(tmp_path / "x.npy", mmap_mode="r")
    taken = []

    class Spy(np.memmap):
        def __getitem__(self, index):
            part = super().__getitem__(index)
            taken.append(len(part))
            return part

        def __array__(self, *arguments, **options):
            raise AssertionError("the whole file was read")

    loader = data.Loader(net(), stored, y, batch_size=8, shuffle=True)
    (held,) = loader._source.inputs.values()
    assert np.shares_memory(held, stored)  # not a copy
    loader._source.inputs = {"input": stored.view(Spy)}
    assert sum(len(target) for _, target, _ in loader.batches()) == 37
    assert taken == [8, 8, 8, 8, 5]
    assert_same(weights(x, y), weights(stored, y))


def test_nets_with_several_inputs(rng):
    a, b = nn.Input((2,), name="a"), nn.Input((3,), name="b")
    model = nn.Model([a, b], nn.Linear(2)(nn.Concat()(a, b)))
    model.compile()
    xa, xb, y = rng.random((9, 2)), rng.random((9, 3)), np.arange(9) % 2
    want = model.evaluate((xa, xb), y)
    assert model.evaluate(iter([((xa, xb), y)])) == want
    assert model.evaluate(iter([({"a": xa, "b": xb}, y)])) == want
    assert model.evaluate(data.Arrays((2 * xa, 2 * xb), y, scale=0.5)) == pytest.approx(want)
    with pytest.raises(ValueError, match="one input"):
        model.fit((xa, xb), y, augment=nn.augment.Flip(), verbose=0)


def test_validation_from_any_source(arrays):
    x, y = arrays
    want = None
    parts = batches(x, y)
    for source, steps in [((x, y), None), (Batches(x, y), None), (Again(parts), 5), (iter(parts * 2), 5)]:
        history = (
            net().fit(x, y, 16, 2, validation_data=source, validation_steps=steps and 5, verbose=0).history
        )
        want = want or history
        assert history == {name: pytest.approx(values, rel=1e-6) for name, values in want.items()}


def test_sequences_are_shuffled_by_batch_and_told_of_the_end_of_an_epoch(arrays):
    source = Batches(*arrays)
    net().fit(source, epochs=2, workers=0, verbose=0)
    first, second = source.asked[:5], source.asked[5:]
    assert sorted(first) == sorted(second) == [0, 1, 2, 3, 4]
    assert first != second
    assert source.epochs == 2


def test_steps_per_epoch_limits_an_epoch(arrays):
    x, y = arrays
    steps = []

    class Count(Callback):
        def on_epoch_end(self, epoch, logs):
            steps.append((self.params["steps"], self.number + 1))

        def on_train_batch_end(self, batch, logs):
            self.number = batch

    drawn = []

    def endless():
        while True:
            drawn.append(1)
            yield x[:8], y[:8]

    net().fit(endless(), epochs=2, steps_per_epoch=3, callbacks=[Count()], verbose=0)
    assert len(drawn) == 6  # none is drawn ahead beyond the epoch's end and lost
    net().fit(x, y, 8, epochs=1, steps_per_epoch=2, callbacks=[Count()], verbose=0)
    net().fit(Again(batches(x, y)), epochs=1, callbacks=[Count()], verbose=0)
    assert steps == [(3, 3), (3, 3), (2, 2), (None, 5)]


@pytest.mark.parametrize("verbose", [1, 2])
def test_progress_without_a_known_number_of_steps(arrays, capsys, verbose):
    net().fit(Again(batches(*arrays)), verbose=verbose)
    assert "loss" in "".join(capsys.readouterr())


# ------------------------------------------------------------------------------------------ background workers

DEFORM = nn.augment.Compose([nn.augment.Flip(), nn.augment.Shift(1), nn.augment.Noise(0.1)])


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_workers_do_not_change_a_bit(arrays, workers):
    x, y = arrays
    assert_same(weights(x, y, augment=DEFORM, workers=0), weights(x, y, augment=DEFORM, workers=workers))
    for make in (lambda: Batches(x, y), lambda: Again(batches(x, y))):
        want = weights(make(), augment=DEFORM, workers=0)
        assert_same(want, weights(make(), augment=DEFORM, workers=workers))


def test_batches_come_in_order_however_long_each_takes():
    def job(number):
        time.sleep(0.002 * (number % 3))
        return number

    jobs = [lambda number=number: job(number) for number in range(20)]
    for workers in (0, 1, 3):
        assert list(data._in_order(jobs, workers)) == list(range(20))


def test_the_queue_is_bounded():
    started = []
    results = data._in_order(
        (lambda number=number: started.append(number) or number for number in range(99)), 2
    )
    assert next(results) == 0
    time.sleep(0.05)  # time enough to run away
    assert len(started) <= 2 * 3
    results.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_errors_of_workers_reach_the_caller_with_their_traceback(arrays, workers):
    def spoil(images, *, seed, epoch, indices):
        if 20 in indices:
            raise RuntimeError("sample 20 is spoilt")
        return images

    with pytest.raises(RuntimeError, match="sample 20 is spoilt") as caught:
        net().fit(*arrays, 8, augment=spoil, workers=workers, verbose=0)
    assert "spoil" in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]


@pytest.mark.parametrize("workers", [0, 2])
def test_errors_of_generators_reach_the_caller(arrays, workers):
    def broken():
        yield arrays
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        net().fit(broken(), workers=workers, verbose=0)


def test_an_early_stop_ends_the_workers(arrays):
    class Stop(Callback):
        def on_train_batch_end(self, batch, logs):
            self.model.stop_training = True

    net().fit(*arrays, 1, 3, workers=3, callbacks=[Stop()], verbose=0)
    assert not workers_at_work()


def test_an_interrupt_ends_the_workers(arrays):
    class Interrupt(Callback):
        def on_train_batch_end(self, batch, logs):
            assert workers_at_work()
            _thread.interrupt_main()  # as Ctrl-C does

    model = net()
    with pytest.raises(KeyboardInterrupt):
        model.fit(*arrays, 1, workers=3, callbacks=[Interrupt()], verbose=0)
    assert not workers_at_work()
    assert model.predict(arrays[0]).shape == (37, 3)


# ------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (lambda x, y: {"x": x}, "targets are missing"),
        (lambda x, y: {"x": data.Arrays(x)}, "targets are missing"),
        (lambda x, y: {"x": iter([x])}, "targets are missing"),
        (lambda x, y: {"x": data.Arrays(x, y), "y": y}, "must not be given beside"),
        (lambda x, y: {"x": Batches(x, y), "y": y}, "must not be given beside"),
        (lambda x, y: {"x": iter([(x, y)]), "epochs": 2}, "an iterator can be run through once"),
        (lambda x, y: {"x": iter([(x, y)]), "steps_per_epoch": 2}, "ran out after 1 of 2 batches"),
        (lambda x, y: {"x": iter([])}, "ran out after 0 of at least 1"),
        (
            lambda x, y: {"x": Batches(x, y), "steps_per_epoch": 6},
            "6 steps are asked for, but the data have 5",
        ),
        (lambda x, y: {"x": x, "y": y, "steps_per_epoch": 3}, "the data have 2 batches"),
        (lambda x, y: {"x": x, "y": y, "steps_per_epoch": 0}, "steps >= 1, got"),
        (lambda x, y: {"x": Again([]), "sample_weight": np.ones(3)}, "must not be given beside"),
        (lambda x, y: {"x": iter([(x, y, -np.ones(37))])}, "must be finite and >= 0"),
        (lambda x, y: {"x": x, "y": y, "workers": -1}, "workers must be >= 0"),
        (lambda x, y: {"x": iter([(x, y, y, y)])}, "got 4 parts"),
        (lambda x, y: {"x": iter([(x, y[1:])])}, "same number of samples, got 37 and 36"),
        (lambda x, y: {"x": iter([(x[:, 0], y)])}, "add the channel axis"),
        (lambda x, y: {"x": Batches(x[:, :, 1:], y)}, "must have shape"),
        (lambda x, y: {"x": x, "y": y, "epochs": 2, "validation_data": iter([(x, y)])}, "validation_steps"),
        (lambda x, y: {"x": x, "y": y, "validation_data": (x[:, 0], y)}, "add the channel axis"),
    ],
)
def test_bad_data(arrays, arguments, message):
    with pytest.raises(ValueError, match=message):
        net().fit(**arguments(*arrays), verbose=0)


def test_bad_scale():
    for scale, offset in ((0, 0), (np.nan, 0), (1, np.inf)):
        with pytest.raises(ValueError, match="scale must be finite and not 0"):
            data.Arrays(np.zeros(3), scale=scale, offset=offset)
