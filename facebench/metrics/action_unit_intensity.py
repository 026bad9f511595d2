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

from collections.abc import Iterable, Mapping
from types import MappingProxyType

import numpy as np

from facebench.metrics import action_units
from facebench.metrics._arrays import Arrays, Value, column_names

CONVENTIONS = action_units.CONVENTIONS

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
    true = targets.numbers("intensity", ("n", "A"))
    n, A = true.shape
    predicted = predictions.numbers("intensity", (n, A), f"as 'intensity' of {targets.where}")
    column_names(predictions, targets, "au_names", A)
    parts = action_units.folds("action_unit_intensity", targets, n, convention, thresholds)
    known = np.ones((n, A), bool)
    return action_units.over_folds(_intensity, predicted, true, known, parts)


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
