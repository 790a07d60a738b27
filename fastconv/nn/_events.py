"""Event files, TensorBoard's logs: scalars, histograms, images and graphs, written by the package ``tensorboard``."""

from __future__ import annotations

import io
import time
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv._optional import require
from fastconv._spec import Shape
from fastconv.graph import Graph
from fastconv.ops import to_config
from fastconv.statistics import Statistics

Array = NDArray[Any]

_EXTRA = "tensorboard"
_PROTO = "tensorboard.compat.proto"
_QUEUE = 1000  # events that may wait for the writing thread before training waits for it
_FLUSH_SECONDS = 10.0


class EventWriter:
    """One run: a folder with an event file, written by a thread of its own.

    The file is completed by :meth:`close`, at the latest when the writer is forgotten or Python ends.

    Parameters
    ----------
    folder : str
        Made if it is not there.

    Raises
    ------
    ImportError
        If ``tensorboard`` is not installed.
    """

    def __init__(self, folder: str) -> None:
        writer = require("tensorboard.summary.writer.event_file_writer", extra=_EXTRA)
        self._file = writer.EventFileWriter(folder, max_queue_size=_QUEUE, flush_secs=_FLUSH_SECONDS)
        self._summary = require(f"{_PROTO}.summary_pb2", extra=_EXTRA)
        self._event = require(f"{_PROTO}.event_pb2", extra=_EXTRA)
        self.close = weakref.finalize(self, self._file.close)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """A number for each tag."""
        self._write(
            [self._summary.Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()], step
        )

    def histogram(self, tag: str, values: Statistics, step: int) -> None:
        """A distribution; one without finite values is left out."""
        if not values.finite:
            return
        edges, counts = values.histogram()
        histogram = self._summary.HistogramProto(
            min=values.minimum,
            max=values.maximum,
            num=values.finite,
            sum=values.mean * values.finite,
            sum_squares=values.norm**2,
            bucket_limit=edges[1:].tolist(),
            bucket=counts.tolist(),
        )
        self._write([self._summary.Summary.Value(tag=tag, histo=histogram)], step)

    def image(self, tag: str, pixels: Array, step: int) -> None:
        """A picture: uint8 of shape (H, W) or (H, W, 3)."""
        buffer = io.BytesIO()
        require("PIL.Image", extra=_EXTRA).fromarray(pixels).save(buffer, "PNG")
        height, width, *channels = pixels.shape
        image = self._summary.Summary.Image(
            height=height,
            width=width,
            colorspace=channels[0] if channels else 1,
            encoded_image_string=buffer.getvalue(),
        )
        self._write([self._summary.Summary.Value(tag=tag, image=image)], step)

    def graph(self, graph: Graph) -> None:
        """The net, a node per layer and one per parameter beside it."""
        content = _graph_def(graph).SerializeToString()
        self._file.add_event(self._event.Event(wall_time=time.time(), graph_def=content))

    def _write(self, values: list[Any], step: int) -> None:
        summary = self._summary.Summary(value=values)
        self._file.add_event(self._event.Event(wall_time=time.time(), step=step, summary=summary))


def _graph_def(graph: Graph) -> Any:
    protos = {
        name: require(f"{_PROTO}.{name}_pb2", extra=_EXTRA)
        for name in ("graph", "node_def", "attr_value", "tensor_shape", "versions")
    }

    def attribute(**value: Any) -> Any:
        return protos["attr_value"].AttrValue(**value)

    def text(value: Any) -> Any:
        return attribute(s=str(value).encode())

    def shape_of(shape: tuple[int, ...]) -> Any:
        sizes = [protos["tensor_shape"].TensorShapeProto.Dim(size=size) for size in shape]
        shapes = [protos["tensor_shape"].TensorShapeProto(dim=sizes)]
        return attribute(list=protos["attr_value"].AttrValue.ListValue(shape=shapes))

    def node_def(name: str, op: str, shape: Shape, inputs: list[str], attributes: Mapping[str, Any]) -> Any:
        texts = {key: text(value) for key, value in attributes.items()}
        return protos["node_def"].NodeDef(
            name=name, op=op, input=inputs, attr={"_output_shapes": shape_of(shape), **texts}
        )

    unknown = -1  # the batch
    nodes = [node_def(name, "Input", (unknown, *shape), [], {}) for name, shape in graph.inputs.items()]
    for name, shape in graph.param_shapes.items():
        nodes.append(node_def(tag_of(name), "Parameter", shape, [], {"trainable": name in graph.trainable}))
    for node in graph.nodes:
        inputs = [*node.inputs, *map(tag_of, node.params)]
        config = to_config(node.op)
        kind = config.pop("op")
        nodes.append(node_def(node.name, kind, (unknown, *graph.shapes[node.name]), inputs, config))
    return protos["graph"].GraphDef(node=nodes, versions=protos["versions"].VersionDef(producer=22))


def tag_of(param: str) -> str:
    """``layer.weight`` as TensorBoard writes and groups it."""
    return param.replace(".", "/")


def mosaic(tiles: Array, columns: int | None = None) -> Array:
    """Tiles of one picture, on one scale from their least value, black, to their greatest, white.

    Parameters
    ----------
    tiles : ndarray of shape (n, h, w) or (n, h, w, 3)
    columns : int, optional
        Tiles in a row; as many as rows by default.

    Returns
    -------
    ndarray of uint8, shape (H, W) or (H, W, 3)
        One pixel of mid-grey between the tiles; values that are not finite are mid-grey, too.
    """
    count, height, width, *channels = tiles.shape
    columns = columns or int(np.ceil(np.sqrt(count)))
    rows = -(-count // columns)
    finite = tiles[np.isfinite(tiles)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    scale = 255 / (high - low) if high > low else 0.0
    with np.errstate(invalid="ignore"):
        pixels = np.where(np.isfinite(tiles), (tiles - low) * scale, 127.0).round().astype(np.uint8)
    canvas = np.full((rows, height + 1, columns, width + 1, *channels), 127, np.uint8)
    for k, tile in enumerate(pixels):
        canvas[k // columns, :height, k % columns, :width] = tile
    return canvas.reshape(rows * (height + 1), columns * (width + 1), *channels)[:-1, :-1]
