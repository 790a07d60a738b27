"""Scores of occluded copies of a batch: by whole passes, or incrementally where the net can be looked into."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv._optional import require
from fastconv.explain._incremental import Costs, Engine, Patches
from fastconv.explain._regions import Boxes
from fastconv.explain._windows import Region
from fastconv.graph import Graph
from fastconv.nn import Model
from fastconv.plan import of_other_dtypes

Array = NDArray[Any]
Score = Callable[[Array, Array], Array]  # (outputs, number of the example that each belongs to) -> scores

METHODS = ("auto", "full", "incremental")
MEMORY_LIMIT = 256 << 20

_LEAST_GAIN = 1.2  # in multiply-adds, for which windows are followed one by one
_SAMPLE = 8  # windows that are timed for an estimate


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What an occlusion will cost.

    Attributes
    ----------
    method : str
        "full" or "incremental", and ``reason`` why.
    windows : int
        Windows times images.
    macs : int
        Multiply-adds, of which whole passes would take ``full_macs``; 0 where the function cannot be looked into.
    seconds : float
        Extrapolated from some windows that were timed.
    nbytes : int
        Memory of the windows that are computed together, beside the weights and the values of one image.
    """

    method: str
    reason: str
    windows: int
    macs: int
    full_macs: int
    seconds: float
    nbytes: int

    def __str__(self) -> str:
        ratio = f", {self.full_macs / self.macs:.1f} times fewer than whole passes" if self.macs else ""
        work = f"{1e-9 * self.macs:.4g} billion multiply-adds{ratio}; " if self.macs else ""
        return (
            f"{self.method} ({self.reason}): {self.windows} windows, {work}about {self.seconds:.2g} s, "
            f"{self.nbytes / 2**20:.0f} MiB"
        )


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is asked: a forward function, and the net behind it where there is one."""

    forward: Callable[..., Array]
    graph: Graph | None = None
    params: Mapping[str, Array] | None = None
    dtype: str = ""
    scale: float = 1.0  # of the outputs

    def refusal(self) -> str | None:
        """Why its values cannot be followed incrementally; None if they can."""
        if self.graph is None:
            return "a callable cannot be looked into"
        if len(self.graph.inputs) != 1 or len(self.graph.outputs) != 1:
            return "the net has several inputs or outputs"
        (shape,) = self.graph.inputs.values()
        if len(shape) != 3:
            return f"the net's input is no image, but {shape}"
        if self.graph.constants:
            return "the net has values that depend on no input"
        if of_other_dtypes(self.graph, self.dtype):
            return f"the net has values that are not {self.dtype}"
        return None


def subject_of(model: Model, scale: float = 1.0) -> Subject:
    """A net as a subject, whose outputs are to be multiplied by ``scale``."""

    def forward(*inputs: Array) -> Array:
        output: Array = model.predict(inputs if len(inputs) > 1 else inputs[0], batch_size=len(inputs[0]))
        return output

    return Subject(
        forward=forward, graph=model.graph, params=model.params, dtype=model.dtype.name, scale=scale
    )


class Occluded:
    """Copies of a batch, each with one region taken from a baseline.

    Parameters
    ----------
    subject : Subject
    arrays : tuple of ndarray of shape (N, ...)
        The arguments of the forward function.
    which : int
        The one that is occluded.
    fill : ndarray
        Of its shape.
    regions : sequence of Region
    method : {"auto", "full", "incremental"}
    memory_limit : int
        Bytes of the windows that are computed together.
    per_pass : int
        Regions of a whole pass.
    """

    def __init__(
        self,
        subject: Subject,
        arrays: tuple[Array, ...],
        which: int,
        fill: Array,
        regions: Sequence[Region],
        method: str,
        memory_limit: int,
        per_pass: int,
    ) -> None:
        if method not in METHODS:
            raise ValueError(f"method must be one of {METHODS}, got {method!r}")
        if not isinstance(memory_limit, (int, np.integer)) or memory_limit < 1:
            raise ValueError(f"memory_limit must be a positive number of bytes, got {memory_limit!r}")
        self.subject, self.arrays, self.which = subject, arrays, which
        self.fill, self.regions = fill, regions
        self.memory_limit, self.per_pass = int(memory_limit), per_pass
        self.method, self.reason = self._choose(method)

    def _choose(self, method: str) -> tuple[str, str]:
        if method == "full":
            return method, "as asked for"
        if refusal := self.subject.refusal():
            if method == "incremental":
                raise ValueError(f"method 'incremental' does not serve here: {refusal}")
            return "full", refusal
        if method == "incremental":
            return method, "as asked for"
        gain = len(self.regions) * self._costs.whole / max(1, int(self._costs.macs.sum()))
        if gain < _LEAST_GAIN:
            return "full", f"windows change so much that following them takes 1/{gain:.2g} of the work"
        return "incremental", f"1/{gain:.3g} of the multiply-adds"

    @cached_property
    def _engine(self) -> Engine:
        graph, params = self.subject.graph, self.subject.params
        assert graph is not None and params is not None
        return Engine(graph, params, self.subject.dtype)

    @cached_property
    def _costs(self) -> Costs:
        return self._engine.costs(self._boxes)

    @cached_property
    def _boxes(self) -> Boxes:
        """Rows and columns of the regions."""
        ends = [[(axis.start, axis.stop) for axis in region.where[1:]] for region in self.regions]
        return np.array(ends, np.int64).reshape(-1, 2, 2)

    # -------------------------------------------------------------------------------------------- scores

    def original(self, score: Score) -> Array:
        """Scores of the batch as it is, shape (N,)."""
        examples = np.arange(len(self.arrays[0]))
        if self.method == "full":
            outputs = self.subject.forward(*self.arrays)
        else:
            outputs = np.stack([self._engine.start(image) for image in self._images()])
        return score(self._scaled(outputs), examples)

    def _scaled(self, outputs: Array) -> Array:
        scale = self.subject.scale
        return outputs if scale == 1.0 else outputs * outputs.dtype.type(scale)

    def scores(self, score: Score, width: int, progress: Progress) -> Array:
        """Scores of the occluded copies, shape (regions, width): of N examples, or one for each batch of them."""
        by = self._by_passes if self.method == "full" else self._by_patches
        result: Array | None = None
        for numbers, columns, values in by(score, width, progress):
            if result is None:
                result = np.empty((len(self.regions), width), values.dtype)
            result[numbers, columns] = values
        assert result is not None  # there are regions
        return result

    def _by_passes(
        self, score: Score, width: int, progress: Progress
    ) -> Iterator[tuple[Array, slice | int, Array]]:
        n = len(self.arrays[0])
        for start in range(0, len(self.regions), self.per_pass):
            regions = self.regions[start : start + self.per_pass]
            copies = tuple(
                occlude(x, self.fill, regions) if i == self.which else np.concatenate([x] * len(regions))
                for i, x in enumerate(self.arrays)
            )
            values = score(self._scaled(self.subject.forward(*copies)), np.tile(np.arange(n), len(regions)))
            if values.size != len(regions) * width:
                raise ValueError(
                    f"the forward function must return one score per example, got {width} for the inputs and "
                    f"{values.size} for {len(regions)} occluded copies of them"
                )
            yield np.arange(start, start + len(regions)), slice(None), values.reshape(len(regions), width)
            progress.update(len(regions) * n)

    def _by_patches(
        self, score: Score, width: int, progress: Progress
    ) -> Iterator[tuple[Array, slice | int, Array]]:
        fills = self._images(self.fill)
        for example, (image, fill) in enumerate(zip(self._images(), fills, strict=True)):
            self._engine.start(image)
            for numbers in self._batches():
                outputs = self._engine.outputs(self._patches(image, fill, numbers))
                yield numbers, example, score(self._scaled(outputs), np.full(len(numbers), example))
                progress.update(len(numbers))

    def _images(self, batch: Array | None = None) -> Iterator[Array]:
        """The images of a batch, of the net's dtype; by default those that are occluded."""
        for image in self.arrays[self.which] if batch is None else batch:
            yield image.astype(self.subject.dtype)

    def _batches(self) -> Iterator[Array]:
        """Numbers of regions of like boxes that together keep to the limit."""
        order = self._costs.order
        group = np.cumsum(self._costs.nbytes[order]) // self.memory_limit
        yield from np.split(order, np.flatnonzero(np.diff(group)) + 1)

    def _patches(self, image: Array, fill: Array, numbers: Array) -> Patches:
        """What regions of an image hold when they are occluded."""
        contents = []
        for number in numbers.tolist():
            region = self.regions[number]
            box = (slice(None), *region.where[1:])
            content = image[box].copy()
            hidden = fill[region.where]
            inside = content[region.where[0]]
            inside[...] = hidden if region.mask is None else np.where(region.mask, hidden, inside)
            contents.append(content.reshape(-1))
        ends = np.cumsum([len(content) for content in contents])
        return Patches(
            memory=np.concatenate(contents),
            starts=np.concatenate([[0], ends[:-1]]).astype(np.int64),
            boxes=self._boxes[numbers],
        )

    # -------------------------------------------------------------------------------------------- estimates

    def estimate(self) -> Estimate:
        """What :meth:`scores` will cost; some windows are computed to that end."""
        images, n = len(self.arrays[0]), len(self.regions)
        whole = self._costs.whole * n * images if self.subject.refusal() is None else 0
        if self.method == "full":
            sample = self.regions[: min(_SAMPLE, self.per_pass)]
            copies = [np.concatenate([x] * len(sample)) for x in self.arrays]
            seconds = _timed(lambda: self.subject.forward(*copies)) * n / len(sample)
            nbytes = sum(copy.nbytes for copy in copies) // len(sample) * self.per_pass
            macs = whole
        else:
            macs = images * int(self._costs.macs.sum())
            image, fill = next(self._images()), next(self._images(self.fill))
            self._engine.start(image)
            numbers = self._costs.order[:: max(1, n // _SAMPLE)]
            patches = self._patches(image, fill, numbers)
            share = int(self._costs.macs[numbers].sum()) / max(1, int(self._costs.macs.sum()))
            seconds = _timed(lambda: self._engine.outputs(patches)) / max(share, 1 / n) * images
            nbytes = max(int(self._costs.nbytes[batch].sum()) for batch in self._batches())
        return Estimate(
            method=self.method,
            reason=self.reason,
            windows=n * images,
            macs=macs,
            full_macs=whole,
            seconds=seconds,
            nbytes=nbytes,
        )


def _timed(call: Callable[[], Any]) -> float:
    """Seconds of a call, behind one that lays weights out."""
    call()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def occlude(x: Array, fill: Array, regions: Sequence[Region]) -> Array:
    """Copies of the batch `x`, each with one region taken from `fill`; shape (len(regions) * N, ...)."""
    copies = np.empty((len(regions), *x.shape), dtype=fill.dtype)
    copies[:] = x
    for copy, region in zip(copies, regions, strict=True):
        inside = (slice(None), *region.where)
        hidden = fill[inside]
        copy[inside] = hidden if region.mask is None else np.where(region.mask, hidden, copy[inside])
    return copies.reshape(-1, *x.shape[1:])


def images_per_pass(model: Model, memory_limit: int) -> int:
    """Images of a whole pass whose two widest layers, one read and one written, keep to the limit."""
    sizes = sorted(math.prod(shape) for shape in model.graph.shapes.values())
    return max(1, min(256, memory_limit // (sum(sizes[-2:]) * model.dtype.itemsize)))


class Progress:
    """A bar on stderr, or none."""

    def __init__(self, total: int, shown: bool) -> None:
        self._bar = (
            require("tqdm", extra="demo").tqdm(total=total, desc="occlusion", unit="window")
            if shown
            else None
        )

    def update(self, n: int) -> None:
        """So many windows more are done."""
        if self._bar is not None:
            self._bar.update(n)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()
