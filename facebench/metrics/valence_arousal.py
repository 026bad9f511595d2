"""Valence and arousal: two numbers per face. Concordance, correlation, RMSE, agreement of signs.

Predictions and targets hold ``valence_arousal`` (n, 2): valence and arousal, each from -1 to 1. A
label of -2 (AffectNet's mark of an image without a valid one) or NaN is unknown and leaves its one
cell out. Targets may hold ``group`` (n,). Over the known cells of each dimension, with x the label
and y the prediction:

* ``ccc_valence``, ``ccc_arousal``: 2 cov(x, y) / (var(x) + var(y) + (mean x - mean y)^2), with the
  population's moments (divided by n).
* ``pcc_...``: cov(x, y) / sqrt(var(x) var(y)), Pearson's correlation.
* ``rmse_...``: sqrt(mean (x - y)^2).
* ``sagr_...``: the share of images with sign(x) = sign(y); 0 is a sign of its own.

``ccc``, ``pcc``, ``rmse`` and ``sagr`` are the means of the two dimensions. Both correlations are 0
where x or y is constant. A dimension without a known label has None, and is left out of the mean.
With ``group``, every number is also computed within each group, as ``NAME_per_group`` in the sorted
order of the group values.

Sources: Lin 1989, "A concordance correlation coefficient to evaluate reproducibility";
Mollahosseini et al. 2019, "AffectNet: a database for facial expression, valence, and arousal
computing in the wild", the measures of its continuous model; Nicolaou et al. 2011, "Continuous
prediction of spontaneous affect from multiple cues and modalities in valence-arousal space" (sign
agreement).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from types import MappingProxyType

import numpy as np

from facebench.metrics import _moments as moments
from facebench.metrics._arrays import Arrays, Value, mean_of, pick_convention
from facebench.metrics._parts import Parts, mean_of_present, units

CONVENTIONS = ("pooled",)
TASK = "valence_arousal"
UNKNOWN = (-2,)
DIMENSIONS = ("valence", "arousal")
STEP = 1e-6  # numbers are rounded to a multiple of this in the parts

_MEASURES: Mapping[str, tuple[str, bool, tuple[float, float | None], str]] = {
    "ccc": ("fraction", True, (-1, 1), "concordance correlation, population moments"),
    "pcc": ("fraction", True, (-1, 1), "Pearson's correlation"),
    "rmse": ("scale", False, (0, 2), "root of the mean squared error"),
    "sagr": ("fraction", True, (0, 1), "images whose sign is right"),
}

#: Head of a metric's name to (unit, higher is better, range, meaning).
METRICS: Mapping[str, tuple[str, bool, tuple[float, float | None], str]] = MappingProxyType(
    {name: (*known[:3], f"{known[3]}, mean of both") for name, known in _MEASURES.items()}
    | {
        f"{name}_{dimension}": (*known[:3], f"{known[3]}, of {dimension}")
        for name, known in _MEASURES.items()
        for dimension in DIMENSIONS
    }
)
AXES = ("group",)


def score(
    predictions: Arrays,
    targets: Arrays,
    convention: str | None = None,
    thresholds: Iterable[float] | None = None,
) -> dict[str, Value]:
    """Scores valence and arousal; see the module's text for arrays and names.

    Args:
        predictions: ``valence_arousal`` (n, 2).
        targets: ``valence_arousal`` (n, 2); optional ``group`` (n,).
        convention: ``pooled``, or None.
        thresholds: there are none.

    Raises:
        FacebenchError: an array is missing, malformed, not finite or out of range.
        UsageError: another convention, or thresholds.
    """
    pick_convention(TASK, convention, CONVENTIONS, thresholds)
    predicted, true, known = _read(predictions, targets)
    result: dict[str, Value] = {**_numbers(predicted, true, known)}
    if "group" in targets:
        group = targets.take("group", (len(true),), "one per row of 'valence_arousal'")
        if group.dtype.kind == "f":
            raise targets.fault("group", f"holds {group.dtype}", "whole numbers or text")
        within = [
            _numbers(predicted[rows], true[rows], known[rows])
            for rows in (group == name for name in np.unique(group))
        ]
        for name in METRICS:
            result[f"{name}_per_group"] = [part[name] for part in within]
    return result


def parts(predictions: Arrays, targets: Arrays, convention: str | None = None) -> dict[str, Parts]:
    """What every number is made of: sums of x, y, their squares and products, in `STEP`s."""
    pick_convention(TASK, convention, CONVENTIONS, None)
    predicted, true, known = _read(predictions, targets)
    unit, of = units(targets, len(true))
    error = np.rint((predicted - true) / STEP).astype(np.int64) * known
    agrees = (np.sign(predicted) == np.sign(true)) & known
    summed = (*moments.columns(predicted, true, known, STEP), error * error, agrees)
    columns = np.stack(summed, axis=2).astype(np.int64).reshape(len(true), -1)
    result = {}
    for measure in _MEASURES:
        result[measure] = Parts(columns, partial(_of_sums, measure, (0, 1)), unit, of)
        for k, dimension in enumerate(DIMENSIONS):
            value = partial(_of_sums, measure, (k,))
            result[f"{measure}_{dimension}"] = Parts(columns, value, unit, of)
    return result


def _of_sums(measure: str, which: tuple[int, ...], sums: np.ndarray) -> np.ndarray:
    """The mean of a measure over dimensions, from sums (..., 16) of the columns in `parts`."""
    table = sums.reshape(*sums.shape[:-1], 2, 8)[..., list(which), :]
    n = table[..., 5]
    if measure == "rmse":
        cell = STEP * np.sqrt(table[..., 6] / np.maximum(n, 1))
    elif measure == "sagr":
        cell = table[..., 7] / np.maximum(n, 1)
    else:
        cell = moments.from_sums(measure, table[..., :6])
    return mean_of_present(cell, np.ones_like(cell), n > 0)


def _read(predictions: Arrays, targets: Arrays) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predicted and true numbers and which are known, each (n, 2)."""
    true, known = targets.partly(TASK, ("n", 2), UNKNOWN, (-1, 1))
    predicted = predictions.numbers(TASK, true.shape, f"as {TASK!r} of {targets.where}")
    far = float(np.abs(predicted).max())
    if far > 1 + 1e-6:
        raise predictions.fault(TASK, f"holds a magnitude of {far:.4g}", "numbers from -1 to 1")
    return predicted, true, known


def _numbers(predicted: np.ndarray, true: np.ndarray, known: np.ndarray) -> dict[str, float | None]:
    """Every metric, of some rows."""
    found: dict[str, float | None] = {}
    each = [_one(predicted[rows, k], true[rows, k]) for k, rows in enumerate(known.T)]
    for measure in _MEASURES:
        found[measure] = mean_of(one.get(measure) for one in each)
        for dimension, one in zip(DIMENSIONS, each, strict=True):
            found[f"{measure}_{dimension}"] = one.get(measure)
    return found


def _one(predicted: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """The measures of one dimension, from its known cells; none without any."""
    if not len(true):
        return {}
    return {
        **moments.agreement(predicted, true, ("ccc", "pcc")),
        "rmse": float(np.sqrt(np.square(predicted - true).mean())),
        "sagr": float((np.sign(predicted) == np.sign(true)).mean()),
    }
