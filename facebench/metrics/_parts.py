"""What a metric is made of, where it is a function of sums over samples.

The interval of such a metric over other test samples follows from its parts alone: draw units,
add up their columns, apply `value`. The columns are whole numbers, so a sum is the same in every
order and on every machine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from facebench.metrics._arrays import Arrays

QUANTUM = 1e-9  # a loss is rounded to a multiple of this
LIMIT = 1e5  # and counts at most this much, so that sums stay far inside 64 bits


@dataclass(frozen=True)
class Parts:
    """The parts of one metric.

    Attributes:
        columns: int64 (n, c), one row per sample.
        value: sums of the columns over samples, (..., c), to the metric, float64 (...).
        unit: int64 (n,), which unit a sample belongs to: 0 ... U-1.
        of: what a unit is, such as ``unit``, ``identity`` or, where nothing better is known,
            ``sample``.
    """

    columns: np.ndarray
    value: Callable[[np.ndarray], np.ndarray]
    unit: np.ndarray
    of: str


def units(targets: Arrays, n: int) -> tuple[np.ndarray, str]:
    """The unit of each of n samples, from the targets' ``unit``; without it every sample is one.

    Returns:
        int64 (n,), 0 ... U-1 in the order of the sorted names, and what a unit is called.

    Raises:
        FacebenchError: ``unit`` has another length or is not whole numbers or text.
    """
    if "unit" not in targets:
        return np.arange(n), "sample"
    names = targets.take("unit", (n,), "one per sample")
    if names.dtype.kind not in "iuSU":
        raise targets.fault("unit", f"holds {names.dtype}", "whole numbers or text")
    return np.unique(names, return_inverse=True)[1].astype(np.int64), "unit"


def quantised(loss: np.ndarray) -> np.ndarray:
    """Losses as whole multiples of `QUANTUM`, int64; those beyond `LIMIT` count as `LIMIT`."""
    bounded = np.clip(np.asarray(loss, np.float64), -LIMIT, LIMIT)
    return np.rint(bounded / QUANTUM).astype(np.int64)


def mean_of_present(
    numerator: np.ndarray, denominator: np.ndarray, present: np.ndarray
) -> np.ndarray:
    """The mean over the last axis of the quotients that there are.

    Args:
        numerator: (..., m).
        denominator: (..., m); where it is 0 the quotient is 0.
        present: (..., m) bool, which quotients count.

    Returns:
        (...); 0 where none counts.
    """
    quotient = np.where(present, numerator / np.where(denominator, denominator, 1), 0.0)
    return quotient.sum(axis=-1) / np.maximum(present.sum(axis=-1), 1)


def ratio(
    numerator: np.ndarray, denominator: np.ndarray, scale: float, unit: np.ndarray, of: str
) -> Parts:
    """``scale * sum(numerator) / sum(denominator)``; 0 where the denominator is.

    Args:
        numerator: (n,) whole numbers.
        denominator: (n,) whole numbers, such as ones for a mean.
        scale: of the quotient.
        unit: (n,) as in `Parts`.
        of: as in `Parts`.
    """

    def value(sums: np.ndarray) -> np.ndarray:
        return scale * (sums[..., 0] / np.maximum(sums[..., 1], 1))

    columns = np.stack([numerator, denominator], axis=1).astype(np.int64)
    return Parts(columns, value, unit, of)
