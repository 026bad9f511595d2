"""The few-shot curve as one number, and scores on a common scale."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any


def area(values: Sequence[float], scores: Sequence[float]) -> float:
    """The mean height of the curve of scores over the logarithm of the regime value.

    The trapezoids over log(value), divided by the whole length: doubling the labels counts the
    same everywhere, and the result has the unit of the scores. Closed form, no grid.

    Args:
        values: regime values, ascending, above 0, at least two.
        scores: the score at each.
    """
    if len(values) < 2:
        raise ValueError(f"a curve needs two regime values, found {list(values)}")
    at = [math.log(value) for value in values]
    trapezoids = [(at[i + 1] - at[i]) * (scores[i] + scores[i + 1]) / 2 for i in range(len(at) - 1)]
    return math.fsum(trapezoids) / (at[-1] - at[0])


def normalised(metric: Mapping[str, Any], score: float) -> float | None:
    """A score as a share of the way from chance to the reference, both frozen in the protocol.

    0 is chance, 1 the reference, whichever of them is larger. It depends on no other entry.

    Args:
        metric: of a protocol; `chance` and `reference` are read.
        score: in the metric's unit.

    Returns:
        None where the protocol does not state both, or the score is not finite.
    """
    chance, reference = metric.get("chance"), metric.get("reference")
    if chance is None or reference is None or chance == reference or not math.isfinite(score):
        return None
    return (score - chance) / (reference - chance)
