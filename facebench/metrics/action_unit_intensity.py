"""Action unit intensity: how strong each of A facial actions is. ICC(3,1), MAE, MSE, PCC.

Predictions and targets hold ``intensity`` (n, A), in one unit (0 to 5, or 0 to 1); targets may hold
``fold`` (n,) and ``au_names`` (A,), which predictions may hold too and must then agree with.
Per action unit, with x the label and y the prediction:

* ``mae``: mean |x - y|; ``mse``: mean (x - y)^2.
* ``pcc``: cov(x, y) / sqrt(var(x) var(y)), Pearson's correlation.
* ``icc_3_1``: 2 cov(x, y) / (var(x) + var(y)), which is (BMS - EMS) / (BMS + EMS) of Shrout and
  Fleiss for two raters: consistency, not agreement. It does not see a bias, so read it with the
  errors.

Both correlations are 0 where x or y is constant (a floor that predicts one number earns nothing).
Means over action units and folds are as in `facebench.metrics.action_units`.

Source: Shrout and Fleiss 1979, "Intraclass correlations: uses in assessing rater reliability".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import MappingProxyType

import numpy as np

from facebench.metrics import action_units
from facebench.metrics._arrays import Arrays, Value, column_names
from facebench.metrics._parts import QUANTUM, Parts, mean_of_present, quantised, units

CONVENTIONS = action_units.CONVENTIONS
TASK = "action_unit_intensity"
LIMIT = 1e6  # multiples of STEP that a difference from the mean counts at most
STEP = 1e-4  # intensities are rounded to a multiple of this in the parts of correlations

#: Head of a metric's name to (unit, higher is better, range, meaning).
METRICS: Mapping[str, tuple[str, bool, tuple[float, float | None], str]] = MappingProxyType(
    {
        "icc_3_1": ("fraction", True, (-1, 1), "intraclass correlation ICC(3,1), consistency"),
        "mae": ("intensity", False, (0, None), "mean absolute error"),
        "mse": ("intensity^2", False, (0, None), "mean squared error"),
        "pcc": ("fraction", True, (-1, 1), "Pearson's correlation"),
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
        FacebenchError: an array is missing, malformed or not finite.
        UsageError: another convention, or thresholds.
    """
    predicted, true = _read(predictions, targets)
    rows = action_units.folds(TASK, targets, len(true), convention, thresholds)
    return action_units.over_folds(_intensity, predicted, true, np.ones(true.shape, bool), rows)


def parts(predictions: Arrays, targets: Arrays, convention: str | None = None) -> dict[str, Parts]:
    """What the means over action units are made of: sums per fold and image.

    Correlations follow from sums of x, y, x^2, y^2 and x y, in whole multiples of `STEP` about the
    labels' mean, which no correlation depends on.
    """
    predicted, true = _read(predictions, targets)
    n, A = true.shape
    rows = action_units.folds(TASK, targets, n, convention, None)
    unit, of = units(targets, n)
    one = np.ones((n, 1), np.int64)
    result = {}
    error = predicted - true
    for name, loss in (("mae", np.abs(error)), ("mse", np.square(error))):
        lost = np.concatenate([quantised(loss.mean(axis=1))[:, None], one], axis=1)
        columns, spread = action_units.fold_columns(lost, rows)
        result[name] = Parts(columns, partial(_mean_loss, spread), unit, of)
    centre = true.mean(axis=0)
    x, y = (np.rint(np.clip((v - centre) / STEP, -LIMIT, LIMIT)).astype(np.int64)
            for v in (true, predicted))  # fmt: skip
    moments = np.concatenate([x, y, x * x, y * y, x * y, one], axis=1)
    columns, spread = action_units.fold_columns(moments, rows)
    for name in ("icc_3_1", "pcc"):
        value = partial(_correlation, spread, A, name == "pcc")
        result[name] = Parts(columns, value, unit, of)
    return result


def _mean_loss(spread: Callable[..., np.ndarray], sums: np.ndarray) -> np.ndarray:
    lost, count = np.moveaxis(spread(sums, (2,)), -1, 0)
    return mean_of_present(lost * QUANTUM, count, count > 0)


def _correlation(
    spread: Callable[..., np.ndarray], A: int, pearson: bool, sums: np.ndarray
) -> np.ndarray:
    table = spread(sums.astype(np.float64), (5 * A + 1,))
    n = table[..., -1:]
    x, y, xx, yy, xy = np.split(table[..., :-1], 5, axis=-1)
    cov, var_x, var_y = n * xy - x * y, n * xx - x * x, n * yy - y * y
    # What is left of a constant is rounding.
    varied = (var_x > 1e-12 * n * xx) & (var_y > 1e-12 * n * yy)
    below = np.sqrt(var_x * var_y * varied) if pearson else (var_x + var_y) / 2
    cell = np.where(varied, np.clip(cov / np.where(varied, below, 1), -1, 1), 0.0)
    seen = n[..., 0] > 0
    return mean_of_present(cell.mean(axis=-1), np.ones(seen.shape), seen)


def _read(predictions: Arrays, targets: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and true intensities (n, A)."""
    true = targets.numbers("intensity", ("n", "A"))
    n, A = true.shape
    predicted = predictions.numbers("intensity", (n, A), f"as 'intensity' of {targets.where}")
    column_names(predictions, targets, "au_names", A)
    return predicted, true


def _intensity(predicted: np.ndarray, true: np.ndarray) -> dict[str, float | None]:
    error = predicted - true
    x, y = (_centred(values) for values in (true, predicted))
    covariance, square_x, square_y = float(x @ y), float(x @ x), float(y @ y)
    flat = not (square_x and square_y)
    correlation = 0.0 if flat else covariance / (np.sqrt(square_x) * np.sqrt(square_y))
    return {
        "icc_3_1": 0.0 if flat else 2 * covariance / (square_x + square_y),
        "mae": float(np.abs(error).mean()),
        "mse": float(np.square(error).mean()),
        "pcc": float(np.clip(correlation, -1, 1)),
    }


def _centred(values: np.ndarray) -> np.ndarray:
    # A constant less its rounded mean need not be zero.
    return values - values.mean() if np.ptp(values) else np.zeros_like(values)
