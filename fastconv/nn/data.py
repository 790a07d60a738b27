"""Where batches come from: arrays, files mapped into memory, objects and generators that give batches.

Batches are drawn, converted and augmented ahead of the training step by background threads.  Threads and not
processes: NumPy and the kernels release the interpreter's lock while they work, a batch need not be copied
from one process to the next, and nothing has to be picklable or importable.  Whatever the number of threads,
batches come in the same order with the same bits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import partial
from itertools import count, islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastconv._spec import as_int
from fastconv.nn import _random
from fastconv.nn.joint import Parts
from fastconv.ops import derive_seed

if TYPE_CHECKING:
    from fastconv.nn.model import Model

__all__ = ["Arrays", "Loader", "sample_weights"]

Array = NDArray[Any]
Batch = tuple[dict[str, Array], Array, Array | None]  # inputs, targets, weights of the samples
T = TypeVar("T")

_AHEAD = 2  # batches that wait per worker: enough to even out their times, little memory
_BATCH_STRIDE = 2**32  # sample j of batch i of a source without numbers has the number i * 2**32 + j


class Arrays:
    """Arrays with the rule that turns what they store into what the net sees: ``scale * x + offset``.

    Made for integer images and for files mapped into memory, which are read batch by batch and never whole:
    :meth:`Model.fit`, ``evaluate`` and ``predict`` take it in place of ``x`` and ``y``.

    Parameters
    ----------
    x : array_like of shape (N, *input shape), or a tuple or dict of them
        For example ``np.load("images.npy", mmap_mode="r")``.
    y : array_like, optional
        Targets; not needed to predict.
    sample_weight : array_like of shape (N,), optional
        Factor of the loss of each sample.
    scale, offset : float
        Applied to every input in the model's dtype, batch by batch.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> model = nn.Sequential([nn.Flatten()], input_shape=(1, 1, 2))
    >>> stored = np.array([0, 255], np.uint8).reshape(1, 1, 1, 2)
    >>> model.predict(nn.data.Arrays(stored, scale=2 / 255, offset=-1))
    array([[-1.,  1.]], dtype=float32)
    """

    def __init__(
        self, x: Any, y: Any = None, sample_weight: Any = None, *, scale: float = 1.0, offset: float = 0.0
    ) -> None:
        if not (np.isfinite(scale) and scale != 0 and np.isfinite(offset)):
            raise ValueError(f"scale must be finite and not 0, offset finite, got {scale!r} and {offset!r}")
        self.x = x
        self.y = y
        self.sample_weight = sample_weight
        self.scale = float(scale)
        self.offset = float(offset)

    def _rescale(self, x: Array, dtype: np.dtype[Any]) -> Array:
        if (self.scale, self.offset) == (1.0, 0.0):
            return x
        result = np.multiply(x, self.scale, dtype=dtype)
        result += dtype.type(self.offset)
        return result


class Loader:
    """The batches of an epoch, as a net's kernels want them.

    Parameters
    ----------
    model : Model
        Compiled, if there are targets.
    x, y
        Arrays, or in place of both one of :class:`Arrays`; an object with ``__len__`` and ``__getitem__`` that
        gives batch number i, such as Keras' ``Sequence``; an iterable of batches, such as PyTorch's
        ``DataLoader``; or an iterator or generator, which goes on from one epoch to the next (what was drawn
        ahead is lost when training stops within an epoch).  A batch is a tuple or list ``(x, y)`` or
        ``(x, y, sample_weight)``.
    sample_weight : array_like of shape (N,), optional
        Factor of the loss of each sample of arrays.
    class_weight : mapping of int to float, optional
        Factor of the loss of the samples of a class; 1 for classes that it lacks.
    batch_size : int
        Of arrays; whatever else gives batches has chosen their size.
    steps : int, optional
        Batches in an epoch; all there are by default.
    passes : int
        Epochs to come: an iterator without ``steps`` only serves one.
    targets : bool
        Whether targets are wanted; without, a batch may also be ``(x,)`` or ``x``.
    augment : callable, optional
        See :mod:`fastconv.nn.augment`.
    shuffle : bool
        Draw a new order every epoch: of the samples of arrays, of the batches of a sequence.
    workers : int
        Background threads; 0 works in the calling one.  An iterable gives one batch after the other, so that
        one thread is all it can use.

    Attributes
    ----------
    steps : int or None
        Batches in an epoch, where that is known beforehand.
    samples : int or None
        In an epoch, where they come from arrays.

    Raises
    ------
    ValueError, TypeError
        If the data do not fit the net or the arguments.
    """

    def __init__(
        self,
        model: Model,
        x: Any,
        y: Any = None,
        *,
        sample_weight: Any = None,
        class_weight: Mapping[int, float] | None = None,
        batch_size: int = 32,
        steps: int | None = None,
        passes: int = 1,
        targets: bool = True,
        augment: Callable[..., Any] | None = None,
        shuffle: bool = False,
        workers: int = 0,
    ) -> None:
        if augment is not None and len(model.graph.inputs) > 1:
            raise ValueError("augment works on nets with one input")
        self.workers = as_int(workers, "workers")
        if self.workers < 0 or (steps is not None and as_int(steps, "the number of steps") < 1):
            raise ValueError(f"workers must be >= 0 and steps >= 1, got {workers} and {steps}")
        self._model = model
        self._targets = targets
        self._class_weight = class_weight
        self._augment = augment
        self._shuffle = shuffle
        self._source = self._open(x, y, sample_weight, batch_size)
        self.samples = self._source.length if isinstance(self._source, _ArraySource) else None
        self.steps = self._source.steps if steps is None else steps
        if steps is not None and self._source.steps is not None and steps > self._source.steps:
            raise ValueError(f"{steps} steps are asked for, but the data have {self._source.steps} batches")
        if isinstance(self._source, _IterableSource):
            self.workers = min(self.workers, 1)
            if self._source.once and steps is None and passes > 1:
                raise ValueError(
                    f"an iterator can be run through once, but {passes} epochs are asked for: pass the number "
                    "of steps (steps_per_epoch, validation_steps) or something that can be iterated over again"
                )

    def _open(self, x: Any, y: Any, sample_weight: Any, batch_size: int) -> _Source:
        if not isinstance(x, Arrays) and not _is_batches(x):
            x = Arrays(x, y, sample_weight)
        elif y is not None or sample_weight is not None:
            raise ValueError(
                "y and sample_weight must not be given beside something that has them: batches are "
                "(x, y, sample_weight), and so are the arguments of nn.data.Arrays"
            )
        if isinstance(x, Arrays):
            checked = self._check(x.x, x.y, x.sample_weight)
            return _ArraySource(x, checked, batch_size, self._model.dtype)
        if hasattr(x, "__getitem__") and hasattr(x, "__len__"):
            return _SequenceSource(x)
        return _IterableSource(x)

    def batches(self, epoch: int = 0) -> Generator[Batch]:
        """The batches of one epoch: inputs by name, target (empty if none is wanted), weights.

        Close the generator (``contextlib.closing``) to end its threads before it ends by itself.

        Raises
        ------
        ValueError
            If a batch does not fit the net, or if there are none or fewer than ``steps``.
        """
        order = None
        if self._shuffle and self._source.length is not None:
            order = _random.permutation(derive_seed(self._model.seed, "shuffle", epoch), self._source.length)
        jobs = (partial(self._prepare, draw, epoch) for draw in self._source.draws(order))
        done = 0
        with closing(_in_order(islice(jobs, self.steps), self.workers)) as batches:
            for batch in batches:
                yield batch
                done += 1
        if done < (self.steps or 1):
            raise ValueError(f"the data ran out after {done} of {self.steps or 'at least 1'} batches")
        self._source.end_epoch()

    def _prepare(self, draw: Callable[[], _Draw | None], epoch: int) -> Batch | None:
        """Draw, check, augment and convert one batch; None if there is none left."""
        drawn = draw()
        if drawn is None:
            return None
        model = self._model
        inputs, target, weights = self._check(drawn.x, drawn.y, drawn.weights)
        batch = model._take(inputs, slice(None))
        if self._augment is not None:
            ((name, images),) = batch.items()
            key = {"seed": model.seed, "epoch": epoch, "indices": drawn.numbers(len(images))}
            if getattr(self._augment, "mixes_labels", False):
                images, target = self._augment(images, target, **key)
                inputs, target = model._as_data({name: images}, target)
            else:
                inputs = model._as_inputs({name: self._augment(images, **key)})
            batch = model._take(inputs, slice(None))
        return batch, target, weights

    def _check(self, x: Any, y: Any, weights: Any) -> Batch:
        if not self._targets:
            return self._model._as_inputs(x), np.empty(0), None
        if y is None:
            raise ValueError("targets are missing: pass y, nn.data.Arrays(x, y), or batches that are (x, y)")
        # a transform may yet cut images to the net's size
        inputs, target = self._model._as_data(x, y, any_size=self._augment is not None)
        return inputs, target, sample_weights(target, weights, self._class_weight)


def sample_weights(
    target: Array | Parts, sample_weight: Any = None, class_weight: Mapping[int, float] | None = None
) -> Array | None:
    """Factor of every sample's loss, float64 of shape (N,), or None where all count the same.

    Raises
    ------
    ValueError
        If a weight is negative or not finite, there is not one a sample, or targets are not one class a sample.
    """
    if sample_weight is None and class_weight is None:
        return None
    weights = np.ones(len(target)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    if weights.shape != (len(target),):
        raise ValueError(f"sample_weight must have shape {(len(target),)}, got {weights.shape}")
    if class_weight is not None:
        if isinstance(target, Parts):
            raise ValueError("class_weight is for nets with one output; weigh the samples by sample_weight")
        if target.dtype.kind == "f" and target.ndim == 2 and target.shape[1] > 1:
            classes = target.argmax(axis=1)
        elif target.size == len(target):
            classes = target.reshape(-1)
        else:
            raise ValueError(
                f"class_weight needs one class a sample, got targets of shape {target.shape}; "
                f"nn.CrossEntropy(weight=...) weighs positions"
            )
        factors = {int(label): float(class_weight.get(int(label), 1.0)) for label in np.unique(classes)}
        weights = weights * np.array([factors[int(label)] for label in classes])
    if not (np.isfinite(weights) & (weights >= 0)).all():
        raise ValueError("weights of samples and classes must be finite and >= 0")
    return weights


class _Draw(NamedTuple):
    """A batch as it was found, and which samples it holds."""

    x: Any
    y: Any
    weights: Any
    indices: Array | None
    step: int

    def numbers(self, size: int) -> Array:
        """The samples' numbers: those in the arrays, or what batch and place in it give."""
        return self.step * _BATCH_STRIDE + np.arange(size) if self.indices is None else self.indices


class _Source:
    """What a loader asks of data.

    Attributes
    ----------
    length : int or None
        Of what can be shuffled.
    steps : int or None
        Batches in an epoch, if known.
    """

    length: int | None = None
    steps: int | None = None

    def draws(self, order: Array | None) -> Iterator[Callable[[], _Draw | None]]:
        """One call per batch of an epoch, in the given order; a call returns None if nothing is left."""
        raise NotImplementedError

    def end_epoch(self) -> None:
        """Every batch of an epoch was used."""


class _ArraySource(_Source):
    def __init__(self, data: Arrays, checked: Batch, batch_size: int, dtype: np.dtype[Any]) -> None:
        self.inputs, self.target, _ = checked
        self.weights = None if data.sample_weight is None else np.asarray(data.sample_weight)
        self.data = data
        self.dtype = dtype
        self.batch_size = as_int(batch_size, "batch_size")
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be >= 1, got {batch_size}")
        self.length: int = len(next(iter(self.inputs.values())))
        # no samples to predict are one empty batch
        self.steps: int = max(-(-self.length // self.batch_size), 1)

    def draws(self, order: Array | None) -> Iterator[Callable[[], _Draw]]:
        return (partial(self._draw, step, order) for step in range(self.steps))

    def _draw(self, step: int, order: Array | None) -> _Draw:
        start, stop = step * self.batch_size, min((step + 1) * self.batch_size, self.length)
        indices = np.arange(start, stop) if order is None else order[start:stop]
        index = slice(start, stop) if order is None else indices  # a slice copies nothing
        x = {name: self.data._rescale(array[index], self.dtype) for name, array in self.inputs.items()}
        weights = None if self.weights is None else self.weights[index]
        return _Draw(x, self.target[index], weights, indices, step)


class _SequenceSource(_Source):
    def __init__(self, sequence: Any) -> None:
        self.sequence = sequence
        self.length = self.steps = len(sequence)

    def draws(self, order: Array | None) -> Iterator[Callable[[], _Draw]]:
        steps = range(len(self.sequence)) if order is None else order.tolist()
        return (partial(self._draw, step) for step in steps)

    def _draw(self, step: int) -> _Draw:
        return _Draw(*_parts(self.sequence[step]), None, step)

    def end_epoch(self) -> None:
        getattr(self.sequence, "on_epoch_end", lambda: None)()


class _IterableSource(_Source):
    def __init__(self, batches: Iterable[Any]) -> None:
        self.batches = batches
        self.once = isinstance(batches, Iterator)
        self.steps = len(batches) if isinstance(batches, Sized) else None

    def draws(self, order: Array | None) -> Iterator[Callable[[], _Draw | None]]:
        iterator = iter(self.batches)
        return (partial(self._draw, iterator, step) for step in count())

    @staticmethod
    def _draw(iterator: Iterator[Any], step: int) -> _Draw | None:
        for batch in iterator:
            return _Draw(*_parts(batch), None, step)
        return None


def _parts(batch: Any) -> tuple[Any, Any, Any]:
    """x, y and weights of a batch, None for what it lacks; whether targets are there is checked with them."""
    parts = batch if isinstance(batch, (tuple, list)) else (batch,)
    if not 1 <= len(parts) <= 3:
        raise ValueError(f"a batch must be (x, y) or (x, y, sample_weight), got {len(parts)} parts")
    x, y, weights = (*parts, None, None)[:3]
    return x, y, weights


def _is_batches(x: Any) -> bool:
    """Whether ``x`` gives batches, rather than being array_like itself."""
    array_like = isinstance(x, (list, tuple, Mapping, str, bytes)) or hasattr(x, "__array__")
    return not array_like and (hasattr(x, "__iter__") or hasattr(x, "__getitem__"))


def _in_order(jobs: Iterable[Callable[[], T | None]], workers: int) -> Generator[T]:
    """Results of ``jobs``, in their order, computed ahead by threads, until one is None.

    What a job raises is raised here, with its traceback.  However the generator ends, its threads have ended.
    """
    if workers == 0:
        for job in jobs:
            result = job()
            if result is None:
                return
            yield result
        return
    waiting: deque[Future[T | None]] = deque()
    jobs = iter(jobs)
    with ThreadPoolExecutor(workers, thread_name_prefix="fastconv-data") as pool:
        try:
            while True:
                for job in islice(jobs, workers * (1 + _AHEAD) - len(waiting)):
                    waiting.append(pool.submit(job))
                if not waiting or (result := waiting.popleft().result()) is None:
                    return
                yield result
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
