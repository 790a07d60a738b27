"""Logs for TensorBoard."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv._spec import as_int
from fastconv.graph import Graph
from fastconv.nn._events import EventWriter, mosaic, tag_of
from fastconv.nn.callbacks._base import Callback, Logs
from fastconv.nn.watch import Watcher
from fastconv.statistics import describe

Array = NDArray[Any]

_MOST_TILES = 64  # of one picture


class TensorBoard(Callback):
    """Writes logs that ``tensorboard --logdir logs`` shows while the net trains; arguments, tags and steps are Keras'.

    Scalars: ``epoch_loss`` and one for each metric, in the run ``train`` and, with validation, in the run
    ``validation``, there also ``evaluation_loss_vs_iterations``; ``epoch_learning_rate``; ``batch_loss`` and so on
    by the number of the batch, from 1.  Histograms, which TensorBoard also shows as distributions:
    ``layer/weight/histogram``, with ``write_grads`` ``layer/weight_grad/histogram``, with ``write_activations``
    ``layer/out/histogram`` and ``layer/out_grad/histogram``.  Images: ``layer/weight/image``, ``layer/out/image``.

    Needs ``pip install 'fastconv[tensorboard]'``.  Event files are written by a thread of their own.

    Parameters
    ----------
    log_dir : str or path-like
        Folder of the runs ``train`` and ``validation``; take a new one for every training.
    histogram_freq : int
        Epochs from one set of histograms to the next, the first epoch included; 0 is none.
    write_graph : bool
        The net as a graph of its layers.
    write_images : bool
        With the histograms, filters of convolutions as pictures; with ``write_activations`` also the feature maps that
        the first image of the batch raises.
    write_steps_per_second : bool
        ``epoch_steps_per_second`` and ``batch_steps_per_second``.
    update_freq : {"epoch", "batch"} or int
        When the scalars of batches are written: never, after every batch, or after so many.
    profile_batch : {0}
        Keras can profile; this package cannot, and refuses other values.
    write_grads : bool
        With the weights' histograms those of their gradients, in the last batch of the epoch (in its first batch where
        data comes from a generator of unknown length).
    write_activations : bool
        Histograms of every layer's output and of the loss' gradient in it, in the last batch of the epoch.

    Raises
    ------
    ValueError
        If an argument is out of range, or asks for what is written with the histograms while there are none.
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str] = "logs",
        histogram_freq: int = 0,
        write_graph: bool = True,
        write_images: bool = False,
        write_steps_per_second: bool = False,
        update_freq: str | int = "epoch",
        profile_batch: int = 0,
        *,
        write_grads: bool = False,
        write_activations: bool = False,
    ) -> None:
        if profile_batch:
            raise ValueError(f"profile_batch must be 0 (there is no profiler), got {profile_batch!r}")
        self.histogram_freq = as_int(histogram_freq, "histogram_freq")
        if self.histogram_freq < 0:
            raise ValueError(f"histogram_freq must be >= 0, got {histogram_freq}")
        if not self.histogram_freq:
            for name, wanted in (
                ("write_images", write_images),
                ("write_grads", write_grads),
                ("write_activations", write_activations),
            ):
                if wanted:
                    raise ValueError(f"{name} writes with the histograms: histogram_freq must be >= 1, got 0")
        if update_freq in ("epoch", "batch"):
            self._batch_freq = 1 if update_freq == "batch" else 0
        else:
            self._batch_freq = 0 if isinstance(update_freq, str) else as_int(update_freq, "update_freq")
            if self._batch_freq < 1:
                raise ValueError(
                    f"update_freq must be 'epoch', 'batch' or a number of batches >= 1, got {update_freq!r}"
                )
        self.log_dir = os.fspath(log_dir)
        self.write_graph = write_graph
        self.write_images = write_images
        self.write_steps_per_second = write_steps_per_second
        self.write_grads = write_grads
        self.write_activations = write_activations
        self._writers: dict[str, EventWriter] = {}
        self._epoch = 0

    def on_train_begin(self) -> None:
        self._close()
        self._batches = 0
        if self.write_graph:
            self._run("train").graph(self.model.graph)

    def get_state(self) -> dict[str, Any]:
        return {"batches": self._batches}

    def set_state(self, state: dict[str, Any]) -> None:
        self._batches = state["batches"]

    def on_train_end(self) -> None:
        self._close()

    def on_epoch_begin(self, epoch: int) -> None:
        self._epoch = epoch
        self._epoch_start = time.perf_counter(), self._batches

    def on_train_batch_begin(self, batch: int) -> None:
        self._batch_start = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        self._batches += 1
        if not self._batch_freq or self._batches % self._batch_freq:
            return
        values = dict(logs)
        if self.write_steps_per_second:
            values["steps_per_second"] = 1 / (time.perf_counter() - self._batch_start)
        self._scalars("train", "batch_{}", values, self._batches)

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        train = {name: value for name, value in logs.items() if not name.startswith("val_")}
        validation = {name[4:]: value for name, value in logs.items() if name.startswith("val_")}
        if self.model.optimizer is not None:
            train.setdefault("learning_rate", self.model.optimizer.current_rate(self.model._optimizer_state))
        if self.write_steps_per_second:
            start, before = self._epoch_start
            train["steps_per_second"] = (self._batches - before) / (time.perf_counter() - start)
        self._scalars("train", "epoch_{}", train, epoch)
        if validation:
            self._scalars("validation", "epoch_{}", validation, epoch)
            iterations = self.model._optimizer_state.step
            self._scalars("validation", "evaluation_{}_vs_iterations", validation, iterations)
        if self._with_histograms(epoch):
            self._weights(epoch)

    def watcher(self, batch: int) -> Watcher | None:
        steps = self.params["steps"]  # None where it is not known: then the first batch serves
        chosen = batch == (0 if steps is None else steps - 1)
        if not (
            chosen and self._with_histograms(self._epoch) and (self.write_grads or self.write_activations)
        ):
            return None
        return _TensorWriter(self, self._run("train"), self.model.graph, self._epoch)

    def _with_histograms(self, epoch: int) -> bool:
        return self.histogram_freq > 0 and epoch % self.histogram_freq == 0

    def _weights(self, epoch: int) -> None:
        writer = self._run("train")
        for name, param in self.model.params.items():
            writer.histogram(f"{tag_of(name)}/histogram", describe(param), epoch)
            if self.write_images and param.ndim == 4:
                writer.image(f"{tag_of(name)}/image", _filters(param), epoch)

    def _scalars(self, run: str, tag: str, values: Logs, step: int) -> None:
        self._run(run).scalars({tag.format(name): value for name, value in values.items()}, step)

    def _run(self, name: str) -> EventWriter:
        """The writer of a run, made when it is first needed."""
        if name not in self._writers:
            self._writers[name] = EventWriter(os.path.join(self.log_dir, name))
        return self._writers[name]

    def _close(self) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()


class _TensorWriter(Watcher):
    """Writes the gradients and activations of one batch."""

    def __init__(self, options: TensorBoard, writer: EventWriter, graph: Graph, epoch: int) -> None:
        self._options = options
        self._writer = writer
        self._graph = graph
        self._epoch = epoch

    def on_activation(self, node: str, values: Array) -> None:
        if not self._options.write_activations:
            return
        self._writer.histogram(f"{node}/out/histogram", describe(values), self._epoch)
        if self._options.write_images and values.ndim == 4:
            self._writer.image(f"{node}/out/image", mosaic(values[0, :_MOST_TILES]), self._epoch)

    def on_output_gradient(self, node: str, gradient: Array) -> None:
        if self._options.write_activations:
            self._writer.histogram(f"{node}/out_grad/histogram", describe(gradient), self._epoch)

    def on_gradients(self, gradients: Mapping[str, Array]) -> None:
        if self._options.write_grads:
            for name, gradient in gradients.items():
                self._writer.histogram(f"{tag_of(name)}_grad/histogram", describe(gradient), self._epoch)


def _filters(weight: Array) -> Array:
    """Filters (K, C, kh, kw) as one picture: in colour for three channels, else a row for each filter or, with one
    channel, a square of them.
    """
    if weight.shape[1] == 3:
        return mosaic(np.moveaxis(weight[:_MOST_TILES], 1, -1))
    shown = weight[:_MOST_TILES, :_MOST_TILES]
    channels = shown.shape[1]
    return mosaic(shown.reshape(-1, *shown.shape[2:]), columns=channels if channels > 1 else None)
