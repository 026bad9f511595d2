"""Action unit intensity: how strong each of A facial actions is. ICC(3,1), CCC, MAE, MSE, PCC.

Predictions and targets hold ``intensity`` (n, A), in one unit (0 to 5, or 0 to 1). A label of -1,
9, 999 or NaN is unknown and leaves its one cell out. Targets may hold ``fold`` (n,) and
``au_names`` (A,); predictions may hold ``au_names`` too, and are then joined by name, whatever
their order. Per action unit, over its known cells, with x the label and y the prediction:

* ``mae``: mean |x - y|; ``mse``: mean (x - y)^2.
* ``pcc``: cov(x, y) / sqrt(var(x) var(y)), Pearson's correlation.
* ``icc_3_1``: 2 cov(x, y) / (var(x) + var(y)), which is (BMS - EMS) / (BMS + EMS) of Shrout and
  Fleiss for two raters: consistency, not agreement. It does not see a bias, so read it with the
  errors, or with one that does:
* ``ccc``: 2 cov(x, y) / (var(x) + var(y) + (mean x - mean y)^2), with the population's moments.
* ``icc_1_1`` and ``icc_2_1``: agreement, one-way and two-way, see `facebench.metrics._moments`.

All correlations are 0 where x or y is constant (a floor that predicts one number earns nothing).
Means over action units and folds are as in `facebench.metrics.action_units`.

Sources: Shrout and Fleiss 1979, "Intraclass correlations: uses in assessing rater reliability"; Lin
1989, "A concordance correlation coefficient to evaluate reproducibility".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import MappingProxyType

import numpy as np

from facebench.metrics import _moments as moments
from facebench.metrics import action_units
from facebench.metrics._arrays import Arrays, Value, column_order
from facebench.metrics._parts import QUANTUM, Parts, quantised, units

CONVENTIONS = action_units.FOLDINGS
TASK = "action_unit_intensity"
STEP = 1e-4  # intensities are rounded to a multiple of this in the parts of correlations
MOST = 5.0  # FACS grade E
CORRELATIONS = ("icc_3_1", "ccc", "pcc", "icc_1_1", "icc_2_1")

#: Head of a metric's name to (unit, higher is better, range, meaning).
METRICS: Mapping[str, tuple[str, bool, tuple[float | None, float | None], str]] = MappingProxyType(
    {
        "icc_3_1": ("fraction", True, (-1, 1), "intraclass correlation ICC(3,1), consistency"),
        "ccc": ("fraction", True, (-1, 1), "concordance correlation, population moments"),
        "mae": ("intensity", False, (0, None), "mean absolute error"),
        "mse": ("intensity^2", False, (0, None), "mean squared error"),
        "pcc": ("fraction", True, (-1, 1), "Pearson's correlation"),
        "icc_1_1": ("fraction", True, (-1, 1), "intraclass correlation ICC(1,1), one-way"),
        "icc_2_1": ("fraction", True, (None, 1), "intraclass correlation ICC(2,1), agreement"),
    }
)
AXES = action_units.AXES


def score(
    predictions: Arrays,
    targets: Arrays,
    convention: str | None = None,
    thresholds: Iterable[float] | None = None,
) -> dict[str, Value]:
    """Scores intensities; see the module's text for arrays and names.

    Args:
        predictions: ``intensity`` (n, A); optional ``au_names`` (A,).
        targets: ``intensity`` (n, A); optional ``fold`` (n,), ``au_names`` (A,).
        convention: ``pooled``, ``fold-mean`` or None.
        thresholds: there are none.

    Raises:
        FacebenchError: an array is missing, malformed, not finite or out of range.
        UsageError: another convention, or thresholds.
    """
    predicted, true, known = _read(predictions, targets)
    rows = action_units.folds(TASK, targets, len(true), convention, thresholds, CONVENTIONS)
    return action_units.over_folds(_intensity, predicted, true, known, rows)


def parts(predictions: Arrays, targets: Arrays, convention: str | None = None) -> dict[str, Parts]:
    """What the means over action units are made of: sums per fold, image and action unit.

    Correlations follow from sums of x, y, x^2, y^2 and x y, in whole multiples of `STEP` about the
    labels' mean.
    """
    predicted, true, known = _read(predictions, targets)
    n, A = true.shape
    rows = action_units.folds(TASK, targets, n, convention, None, CONVENTIONS)
    unit, of = units(targets, n)
    result = {}
    error = predicted - true
    for name, loss in (("mae", np.abs(error)), ("mse", np.square(error))):
        lost = np.stack([quantised(loss) * known, known.astype(np.int64)], axis=2)
        columns, spread = action_units.fold_columns(lost.reshape(n, -1), rows)
        result[name] = Parts(columns, partial(_mean_loss, spread, A), unit, of)
    summed = np.stack(moments.columns(predicted, true, known, STEP), axis=2)
    columns, spread = action_units.fold_columns(summed.reshape(n, -1), rows)
    for name in CORRELATIONS:
        result[name] = Parts(columns, partial(_correlation, spread, A, name), unit, of)
    return result


def _mean_loss(spread: Callable[..., np.ndarray], A: int, sums: np.ndarray) -> np.ndarray:
    lost, count = np.moveaxis(spread(sums, (A, 2)), -1, 0)
    return action_units.over_present(lost * QUANTUM, count, count)


def _correlation(
    spread: Callable[..., np.ndarray], A: int, name: str, sums: np.ndarray
) -> np.ndarray:
    table = spread(sums, (A, 6))
    cell = moments.from_sums(name, table)
    return action_units.over_present(cell, np.ones_like(cell), table[..., 5])


def _read(predictions: Arrays, targets: Arrays) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predicted and true intensities and whether they are known, each (n, A)."""
    true, known = targets.partly("intensity", ("n", "A"), action_units.UNKNOWN, (0, MOST))
    n, A = true.shape
    predicted = predictions.numbers("intensity", (n, A), f"as 'intensity' of {targets.where}")
    order = column_order(predictions, targets, "au_names", A)
    return predicted if order is None else predicted[:, order], true, known


def _intensity(predicted: np.ndarray, true: np.ndarray) -> dict[str, float | None]:
    error = predicted - true
    return {
        **moments.agreement(predicted, true, CORRELATIONS),
        "mae": float(np.abs(error).mean()),
        "mse": float(np.square(error).mean()),
    }
