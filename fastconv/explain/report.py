"""One self-contained HTML page about what a net makes of an image: pictures inline, numbers, settings, cost."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

import fastconv
from fastconv._spec import as_int
from fastconv.explain._scores import as_image_batch, probabilities, require_model
from fastconv.explain.effective_field import effective_receptive_field
from fastconv.explain.features import feature_maps
from fastconv.explain.gradients import IntegratedGradients, NoiseTunnel, grad_cam
from fastconv.explain.metrics import deletion, insertion
from fastconv.explain.occlusion import occlusion
from fastconv.explain.receptive_field import receptive_field
from fastconv.explain.saliency import Saliency, saliency_map
from fastconv.nn._format import times

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fastconv.nn import Model

_BEST = 5  # classes that are listed
_DPI = 110
_COPIES, _NOISE = 16, 0.15  # of SmoothGrad; the noise as a part of the image's range, as its paper has it

_STYLE = """
body { font-family: system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
h1, h2 { font-weight: 600 } img { max-width: 100% } figure { margin: 1rem 0 }
table { border-collapse: collapse; margin: 1rem 0 } td, th { padding: .2rem .8rem; border-bottom: 1px solid #ddd }
th { text-align: left; font-weight: 600 } td.number { text-align: right; font-variant-numeric: tabular-nums }
pre { overflow-x: auto; background: #f6f6f6; padding: .8rem } footer { color: #666; margin-top: 3rem }
"""


@dataclass(frozen=True, kw_only=True)
class Section:
    """What one method found.

    Attributes
    ----------
    title : str
    text : str
        What the picture shows, in a sentence or two.
    figures : dict of str to Figure
        By caption.
    facts : dict of str to str
        Numbers and settings.
    details : str
        Preformatted text.
    """

    title: str
    text: str
    figures: Mapping[str, Figure]
    facts: Mapping[str, str]
    details: str = ""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is explained: an image as the net takes it, how it is shown, and the class that is looked at."""

    model: Model
    image: np.ndarray
    shown: np.ndarray
    target: int
    label: int | None
    names: Sequence[str] | None
    window: int
    stride: int
    baseline: str | float

    def name_of(self, index: int) -> str:
        """A class in words."""
        return f"{self.names[index]} ({index})" if self.names else f"class {index}"


def _occlusion(subject: Subject) -> Section:
    from fastconv import plot

    result = occlusion(
        subject.model,
        subject.image,
        subject.label,
        subject.window,
        subject.stride,
        subject.baseline,
        target=subject.target,
    )
    top, left, height, width = result.most_important
    return Section(
        title="Occlusion",
        text="A window slides over the image and hides what it covers. Where hiding a part raises the loss (blue, "
        "below zero), the net needed it.",
        figures={
            f"Window of {times(result.window)} pixels": replace(result, image=subject.shown).plot(
                subject.names
            ),
            "Over the image": _drawn(
                plot.overlay(
                    subject.shown, result.pixel_map, "mean loss difference of the windows that cover a pixel"
                )
            ),
        },
        facts={
            "explains": result.explains,
            "watched loss": f"{result.loss:.4g}, of {subject.name_of(result.watched)}",
            "most important window": f"rows {top} to {top + height - 1}, columns {left} to {left + width - 1}: "
            f"the loss rises by {-result.grid.min():.4g}",
            "windows": f"{result.grid.size} of {times(result.window)}, {subject.stride} apart, {subject.baseline}",
            "computed": f"{result.method}: {result.reason}",
        },
    )


def _saliency(subject: Subject) -> Section:
    from fastconv import plot

    values = saliency_map(subject.model, subject.image, subject.target)
    row, column = np.unravel_index(int(np.argmax(values)), values.shape)
    return Section(
        title="Saliency",
        text="How strongly the un-normalised score of the class reacts to each pixel: the largest absolute gradient "
        "over the channels (Simonyan, Vedaldi and Zisserman 2013).",
        figures={
            "Gradient": plot.saliency(subject.shown, values, subject.name_of(subject.target)),
            "Over the image": _drawn(plot.overlay(subject.shown, values, "|d score / d pixel|")),
        },
        facts={
            "largest": f"{values.max():.4g} at row {row}, column {column}",
            "mean": f"{values.mean():.4g}",
        },
    )


def _grad_cam(subject: Subject) -> Section:
    from fastconv import plot

    values = grad_cam(subject.model, subject.image, subject.target)
    curves = {
        name: curve(
            subject.model,
            subject.image,
            values,
            subject.target,
            subject.image.mean(axis=(1, 2), keepdims=True),
        )
        for name, curve in (("deletion", deletion), ("insertion", insertion))
    }
    return Section(
        title="Grad-CAM",
        text="Feature maps of the last layer of maps, weighted by the mean gradient of the class score in each, where "
        "they raise it (Selvaraju et al. 2016).",
        figures={"Over the image": _drawn(plot.overlay(subject.shown, values, "weighted activation"))},
        facts={
            f"area under the {name} curve": f"{curve.area:.4g}, to the mean colour"
            for name, curve in curves.items()
        },
    )


def _integrated_gradients(subject: Subject) -> Section:
    from fastconv import plot

    found, delta = IntegratedGradients(subject.model).attribute(
        subject.image[None], target=subject.target, internal_batch_size=8, return_convergence_delta=True
    )
    values = found[0].sum(axis=0)
    return Section(
        title="Integrated gradients",
        text="Gradients along the way from an input of zeros, times the input: how much each pixel adds to the output "
        "(Sundararajan, Taly and Yan 2017).",
        figures={"Over the image": _drawn(plot.overlay(subject.shown, values, "share of the output"))},
        facts={"sum": f"{values.sum():.4g}", "error of the sum": f"{delta[0]:.2g}"},
    )


def _smoothgrad(subject: Subject) -> Section:
    from fastconv import plot

    noise = _NOISE * float(np.ptp(subject.image))
    found = NoiseTunnel(Saliency(subject.model)).attribute(
        subject.image[None],
        nt_samples=_COPIES,
        nt_samples_batch_size=1,
        stdevs=noise,
        target=subject.target,
        abs=False,
    )
    values = np.abs(found[0]).max(axis=0)
    return Section(
        title="SmoothGrad",
        text="The gradient of the output, averaged over noisy copies of the image: what stays of it is less ragged "
        "(Smilkov, Thorat, Kim, Viegas and Wattenberg 2017).",
        figures={"Over the image": _drawn(plot.overlay(subject.shown, values, "|mean d output / d pixel|"))},
        facts={"copies": f"{_COPIES}, noise of standard deviation {noise:.3g}"},
    )


def _feature_maps(subject: Subject) -> Section:
    from fastconv import plot

    graph = subject.model.graph
    nodes = [
        node.name for node in graph.nodes if node.op.kind == "relu" and len(graph.shapes[node.name]) == 3
    ]
    chosen = list(dict.fromkeys((nodes[0], nodes[len(nodes) // 2], nodes[-1]))) if nodes else []
    return Section(
        title="Feature maps",
        text="What the first, a middle and the last ReLU let through.",
        figures={
            node: plot.feature_maps(feature_maps(subject.model, subject.image, node), node) for node in chosen
        },
        facts={node: f"maps of {times(graph.shapes[node])}" for node in chosen},
    )


def _receptive_field(subject: Subject) -> Section:
    from fastconv import plot

    table = receptive_field(subject.model)
    figures = {"Middle unit of each layer": _drawn(plot.receptive_fields(subject.shown, table))}
    facts = {}
    if any(not field.whole_input for field in table):
        looked = effective_receptive_field(subject.model, images=subject.image[None])
        caption = "What the middle unit of the last local layer reacts to in this image"
        figures[caption] = _drawn(plot.effective_field(looked))
        facts["it looks at"] = f"{looked.share:.1%} of what it can see ({looked.node})"
    return Section(
        title="Receptive fields",
        text="What one unit of a layer can see of the image.",
        figures=figures,
        facts=facts,
        details=str(table),
    )


METHODS: Mapping[str, Callable[[Subject], Section]] = {
    "occlusion": _occlusion,
    "saliency": _saliency,
    "grad_cam": _grad_cam,
    "integrated_gradients": _integrated_gradients,
    "smoothgrad": _smoothgrad,
    "feature_maps": _feature_maps,
    "receptive_field": _receptive_field,
}


def report(
    model: Model,
    image: Any,
    *,
    methods: Sequence[str] = ("occlusion", "saliency"),
    target: int | None = None,
    true_label: int | None = None,
    class_names: Sequence[str] | None = None,
    window: int | None = None,
    stride: int | None = None,
    baseline: str | float = "gray",
    picture: Any = None,
    title: str = "What the net looks at",
    settings: Mapping[str, str] | None = None,
) -> str:
    """An HTML page that explains what a classifier makes of an image; it opens without a server or a network.

    Parameters
    ----------
    model : Model
        A classifier with one image input.
    image : ndarray of shape (C, H, W) or (1, C, H, W)
        As the net takes it.
    methods : sequence of str
        Some of `REPORT_METHODS`: "occlusion", "saliency", "grad_cam", "integrated_gradients", "smoothgrad",
        "feature_maps", "receptive_field".
    target : int, optional
        The class that is looked at; by default the predicted one.
    true_label : int, optional
        The true class.
    class_names : sequence of str, optional
    window, stride : int, optional
        Of the occlusion; by default a 14th of the shorter side, and half of that.
    baseline : str or float, default "gray"
        What the window shows, see `occlusion`.
    picture : ndarray of shape (C, H, W), optional
        How to show the image, if not as it is.
    title : str
    settings : mapping of str to str, optional
        More that the page should state, such as the file of the net.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If there is no such method, or the arguments do not fit.
    ImportError
        If Matplotlib is not installed.
    """
    model = require_model(model, "report")
    unknown = [name for name in methods if name not in METHODS]
    if unknown or not methods:
        raise ValueError(f"methods must be some of {', '.join(METHODS)}, got {', '.join(unknown) or 'none'}")
    batch = as_image_batch(image).astype(model.dtype)
    shown = batch[0] if picture is None else np.asarray(picture)
    if shown.ndim != 3 or shown.shape[1:] != batch.shape[2:]:
        raise ValueError(f"picture must be of the image's size, {batch.shape[2:]}, got shape {shown.shape}")
    began = time.perf_counter()
    scores = model.predict(batch)[0]
    inference = time.perf_counter() - began
    if scores.ndim != 1:
        raise ValueError(f"the net must end in one value per class, got {scores.shape} for an image")
    if class_names is not None and len(class_names) != len(scores):
        raise ValueError(f"class_names must have {len(scores)} entries, got {len(class_names)}")
    for name, index in (("target", target), ("true_label", true_label)):
        if index is not None and not 0 <= as_int(index, name) < len(scores):
            raise ValueError(f"{name} must lie in [0, {len(scores)}), got {index}")
    side = window or max(1, min(batch.shape[2:]) // 14)
    subject = Subject(
        model=model,
        image=batch[0],
        shown=shown,
        target=int(np.argmax(scores)) if target is None else target,
        label=true_label,
        names=class_names,
        window=side,
        stride=stride or max(1, side // 2),
        baseline=baseline,
    )
    sections, seconds = [], {"prediction": inference}
    for name in methods:
        began = time.perf_counter()
        section = METHODS[name](subject)
        seconds[section.title.lower()] = time.perf_counter() - began
        sections.append(_section(section))
    summary = model.summary()
    facts = {
        **(settings or {}),
        "image": times(batch.shape[1:]),
        "explained": subject.name_of(subject.target),
        "true class": "unknown" if true_label is None else subject.name_of(true_label),
        "net": f"{len(model.graph.nodes)} nodes, {summary.totals.parameters:,} parameters, "
        f"{summary.totals.macs:,} multiply-adds an image",
        "computed by": f"fastconv {fastconv.__version__}, {fastconv.get_num_threads()} threads",
    }
    return "\n".join(
        [
            "<!doctype html>",
            f'<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>',
            f"<style>{_STYLE}</style></head><body>",
            f"<h1>{escape(title)}</h1>",
            _table(facts),
            "<h2>Prediction</h2>",
            _predictions(subject, scores),
            *sections,
            "<h2>Cost</h2>",
            _table({name: f"{1e3 * took:,.0f} ms" for name, took in seconds.items()}),
            "<h2>Net</h2>",
            f"<pre>{escape(str(summary))}</pre>",
            "</body></html>",
            "",
        ]
    )


def _predictions(subject: Subject, scores: np.ndarray) -> str:
    """The best classes with their scores, and their softmax unless the net ends in one."""
    best = np.argsort(-scores, kind="stable")[:_BEST]
    shares = probabilities(scores[None], subject.model.graph)[0]
    rows = "".join(
        f'<tr><td>{escape(subject.name_of(int(index)))}</td><td class="number">{scores[index]:.4g}</td>'
        f'<td class="number">{shares[index]:.2%}</td></tr>'
        for index in best
    )
    return f"<table><tr><th>class</th><th>score</th><th>probability</th></tr>{rows}</table>"


def _section(section: Section) -> str:
    figures = "".join(
        f'<figure><img alt="{escape(caption)}" src="data:image/png;base64,{_png(figure)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
        for caption, figure in section.figures.items()
    )
    details = f"<pre>{escape(section.details)}</pre>" if section.details else ""
    return f"<h2>{escape(section.title)}</h2><p>{escape(section.text)}</p>{_table(section.facts)}{figures}{details}"


def _table(facts: Mapping[str, str]) -> str:
    rows = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in facts.items()
    )
    return f"<table>{rows}</table>" if rows else ""


def _drawn(ax: Axes) -> Figure:
    """The picture that was drawn on."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    return figure


def _png(figure: Figure) -> str:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=_DPI)
    return base64.b64encode(stream.getvalue()).decode("ascii")
