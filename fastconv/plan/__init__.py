"""The inference plan: a graph with constant parameters, rewritten to fewer and cheaper steps.

What no input reaches is computed at once. Then each module does one thing: ``_fuse`` leaves out what
inference does not need (dropout, noise), folds batch normalisation, constant factors and padding into the
convolutions beside them, and gives convolutions and linear layers the sum and the activation behind them as
an epilogue. ``_layout`` keeps images in the blocked layout (see :mod:`fastconv.blocked`) from one layer to
the next and changes it only where a step needs the other one. ``_steps`` says what each does, bound to one
size of the batch once for all calls. ``_memory`` gives all values places in one arena; ``_run`` runs the
steps, ``_kept`` makes the plan anew where parameters have changed, and ``_report`` prints what the steps do.

An op that no module knows runs as it is, on plain arrays.
"""

from fastconv.plan._fuse import Unit, fuse, of_other_dtypes
from fastconv.plan._kept import KeptPlan
from fastconv.plan._report import Report, Row
from fastconv.plan._run import InferencePlan
from fastconv.plan._steps import Step, concatenated, joined

__all__ = [
    "InferencePlan",
    "KeptPlan",
    "Report",
    "Row",
    "Step",
    "Unit",
    "concatenated",
    "fuse",
    "joined",
    "of_other_dtypes",
]
