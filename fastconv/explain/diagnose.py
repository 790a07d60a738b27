"""What is wrong with a net, told from what data raises in it."""

from __future__ import annotations

from typing import Any

from fastconv.explain._scores import require_model
from fastconv.nn import Model, data
from fastconv.nn.diagnosis import Finding, Recorder, find_faults


def diagnose(model: Model, x: Any, y: Any, batch_size: int = 64) -> list[Finding]:
    """The faults that activations and gradients of a net point to; nothing is trained or changed.

    Forward and backward in inference mode: no dropout, normalisation with the running statistics.  What takes a course
    of training to show (divergence, updates too large, overfitting) is found by
    :class:`fastconv.nn.callbacks.Diagnose`; the thresholds are in :mod:`fastconv.nn.diagnosis`.

    Parameters
    ----------
    model : Model
        Compiled, for its loss.
    x, y
        Data and targets; 300 samples or more, if dead filters shall be told from rarely active ones.
    batch_size : int
        Samples at a time; bounds the memory.

    Returns
    -------
    list of Finding
        Empty for a net without faults.

    Raises
    ------
    ValueError
        If the model is not compiled, the data does not fit it, or a batch has no sample.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import explain, nn
    >>> layers = [each for _ in range(9) for each in (nn.Linear(16), nn.Sigmoid())]
    >>> model = nn.Sequential([*layers, nn.Linear(2)], input_shape=(16,))
    >>> model.compile()
    >>> x = np.random.default_rng(0).standard_normal((64, 16))
    >>> [(each.fault, each.layer) for each in explain.diagnose(model, x, np.arange(64) % 2)]
    [('vanishing gradients', 'linear_1')]
    """
    model = require_model(model, "diagnose")
    snapshots = []
    for number, (batch, target, weights) in enumerate(
        data.Loader(model, x, y, batch_size=batch_size).batches()
    ):
        recorder = Recorder(model.graph, model.params, step=number)
        model._loss_and_gradients(batch, target, False, 0, weights, watchers=[recorder])
        snapshots.append(recorder.snapshot)
    return find_faults(model.graph, snapshots)
