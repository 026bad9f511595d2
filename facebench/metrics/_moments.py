"""How two series of numbers go together, from the series or from sums over them.

With x the labels, y the predictions, var and cov the population's (divided by n) and m the means:

* ``pcc``: cov / sqrt(var x var y), Pearson's correlation.
* ``ccc``: 2 cov / (var x + var y + (m x - m y)^2), Lin's concordance correlation.
* ``icc_1_1``, ``icc_2_1``, ``icc_3_1``: the intraclass correlations of Shrout and Fleiss of single
  ratings, for two raters: one-way random, two-way random (agreement), two-way mixed (consistency).
  With BMS, WMS, JMS, EMS the mean squares between images, within images, between raters and of what
  is left: (BMS - WMS) / (BMS + WMS), (BMS - EMS) / (BMS + EMS + 2 (JMS - EMS) / n) and
  (BMS - EMS) / (BMS + EMS), which is 2 cov / (var x + var y).

All are 0 where x or y is constant.

Sources: Lin 1989, "A concordance correlation coefficient to evaluate reproducibility"; Shrout and
Fleiss 1979, "Intraclass correlations: uses in assessing rater reliability".
"""

from __future__ import annotations

from typing import Any

import numpy as np

LIMIT = 1e6  # multiples of a step that a number differs from the centre at most
FLAT = 1e-12  # what is left of a constant's variance is rounding


def agreement(predicted: np.ndarray, true: np.ndarray, names: tuple[str, ...]) -> dict[str, float]:
    """The coefficients `names` of two series (n,)."""
    x, y = _centred(true), _centred(predicted)
    square_x, square_y = float(x @ x), float(y @ y)
    if not (square_x and square_y):
        return dict.fromkeys(names, 0.0)
    n = len(x)
    bias = n * float(predicted.mean() - true.mean()) ** 2
    covariance = float(x @ y)
    return {name: float(_value(name, n, covariance, square_x, square_y, bias)) for name in names}


def columns(
    predicted: np.ndarray, true: np.ndarray, known: np.ndarray, step: float
) -> tuple[np.ndarray, ...]:
    """What `from_sums` needs of every cell: whole numbers of which only sums are taken.

    Args:
        predicted: (n, A).
        true: (n, A).
        known: (n, A) bool; the columns of other cells are 0.
        step: numbers are rounded to a multiple of this, about the mean of the known labels.

    Returns:
        x, y, x^2, y^2, x y and 1, each int64 (n, A).
    """
    centre = np.where(known, true, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    x, y = (
        np.rint(np.clip((values - centre) / step, -LIMIT, LIMIT)).astype(np.int64) * known
        for values in (true, predicted)
    )
    return x, y, x * x, y * y, x * y, known.astype(np.int64)


def from_sums(name: str, sums: np.ndarray) -> np.ndarray:
    """A coefficient from sums (..., 6) of `columns`; 0 where nothing was summed."""
    x, y, xx, yy, xy, n = np.moveaxis(sums.astype(np.float64), -1, 0)
    cov, var_x, var_y = n * xy - x * y, n * xx - x * x, n * yy - y * y
    varied = (var_x > FLAT * n * xx) & (var_y > FLAT * n * yy)
    one = np.where(varied, 1.0, 0.0)
    found = _value(
        name,
        np.where(varied, n, 2.0),
        cov * one,
        np.where(varied, var_x, 1.0),
        np.where(varied, var_y, 1.0),
        np.square(x - y) * one,
    )
    return np.where(varied, found, 0.0)


def _value(name: str, n: Any, cov: Any, var_x: Any, var_y: Any, bias: Any) -> Any:
    """A coefficient from n and n times cov, var x, var y and (m x - m y)^2, or equal multiples."""
    both = var_x + var_y
    if name == "pcc":
        return np.clip(cov / (np.sqrt(var_x) * np.sqrt(var_y)), -1, 1)
    if name == "ccc":
        return np.clip(2 * cov / (both + bias), -1, 1)
    if name == "icc_3_1":
        return np.clip(2 * cov / both, -1, 1)
    if name == "icc_1_1":
        between, within = (both + 2 * cov) / (n - 1), (both - 2 * cov + bias) / n
        return np.clip((between - within) / (between + within), -1, 1)
    below = (n - 1) * (both + bias) + 2 * cov  # of icc_2_1; 0 for two images that are swapped
    return np.where(below > 0, 2 * n * cov / np.where(below > 0, below, 1), 0.0)


def _centred(values: np.ndarray) -> np.ndarray:
    # A constant less its rounded mean need not be zero.
    return values - values.mean() if np.ptp(values) else np.zeros_like(values)
