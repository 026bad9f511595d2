"""How near a predicted distribution over classes is to a true one, image by image.

With d the true shares and p the predicted ones of an image's classes, each summing to 1:

* ``kl_divergence``: sum d ln(d / p), in nats; ``cross_entropy``: -sum d ln p, in nats. In both, a
  predicted share below `FLOOR` counts as `FLOOR`, or one rounded zero would cost infinity.
* ``jensen_shannon``: (KL(d, m) + KL(p, m)) / 2 with m = (d + p) / 2, in bits: 0 to 1, and finite.
* ``chebyshev``: the largest |d - p|.
* ``cosine``: sum d p / (|d| |p|).
* ``intersection``: sum min(d, p), which is 1 - sum |d - p| / 2.

Clark's and Canberra's distances are left out: each class whose true share is exactly 0, as most
shares of ten votes are, adds 1 to them, however small the predicted share is.

Sources: Geng 2016, "Label distribution learning", IEEE TKDE 28(7), the measures compared there;
Barsoum et al. 2016, "Training deep networks for facial expression recognition with crowd-sourced
label distribution" (cross-entropy with votes); Lin 1991, "Divergence measures based on the Shannon
entropy" (Jensen-Shannon).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from facebench.metrics._arrays import Arrays

FLOOR = 1e-6  # the smallest predicted share that a logarithm is taken of
EXACT, STORED = 1e-3, 0.02  # how far from 1 the shares of a label, of a prediction, may sum

#: As `METRICS` of a task.
METRICS: Mapping[str, tuple[str, bool, tuple[float, float | None], str]] = MappingProxyType(
    {
        "kl_divergence": ("nats", False, (0, None), "divergence of the true from the predicted"),
        "cross_entropy": ("nats", False, (0, None), "cross-entropy with the true distribution"),
        "jensen_shannon": ("fraction", False, (0, 1), "Jensen-Shannon divergence, in bits"),
        "chebyshev": ("fraction", False, (0, 1), "largest difference of a class's shares"),
        "cosine": ("fraction", True, (0, 1), "cosine of the angle between the distributions"),
        "intersection": ("fraction", True, (0, 1), "mass that the two distributions share"),
    }
)


def summing_to_one(source: Arrays, name: str, share: np.ndarray, off: float) -> np.ndarray:
    """Shares of classes, scaled to sum to 1 exactly.

    Args:
        source: what holds the array.
        name: the array.
        share: (n, C), finite.
        off: how far from 1 a row may sum: storing shares in few bits moves it.

    Raises:
        FacebenchError: a share outside [0, 1], or a row that does not sum to 1.
    """
    low, high = float(share.min()), float(share.max())
    if low < -1e-6 or high > 1 + 1e-6:
        found = f"holds {low if low < -1e-6 else high:.4g}"
        raise source.fault(name, found, "shares from 0 to 1; divide votes by their number")
    share = np.clip(share, 0.0, 1.0)
    total = share.sum(axis=1)
    wrong = np.abs(total - 1) > off
    if wrong.any():
        row = int(np.argmax(wrong))
        found = f"sums to {total[row]:.4g} in row {row}"
        raise source.fault(name, found, "the shares of an image's classes, which sum to 1")
    return share / total[:, None]


def measures(predicted: np.ndarray, true: np.ndarray) -> dict[str, np.ndarray]:
    """Each of `METRICS` for each image.

    Args:
        predicted: (n, C), rows that sum to 1.
        true: (n, C), likewise.

    Returns:
        name to (n,) float64.
    """
    floored = np.maximum(predicted, FLOOR)
    floored = floored / floored.sum(axis=1, keepdims=True)
    middle = (predicted + true) / 2
    spread = (_divergence(true, middle) + _divergence(predicted, middle)) / (2 * np.log(2))
    lengths = np.sqrt((predicted**2).sum(axis=1) * (true**2).sum(axis=1))
    return {
        "kl_divergence": _divergence(true, floored),
        "cross_entropy": -(true * np.log(floored)).sum(axis=1),
        "jensen_shannon": np.minimum(spread, 1.0),
        "chebyshev": np.abs(predicted - true).max(axis=1),
        "cosine": np.minimum((predicted * true).sum(axis=1) / lengths, 1.0),
        "intersection": np.minimum(np.minimum(predicted, true).sum(axis=1), 1.0),
    }


def _divergence(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """The sum of p ln(p / q) over each row, in nats; q is above 0 where p is."""
    there = p > 0
    quotient = np.where(there, p, 1.0) / np.where(there, q, 1.0)
    return np.maximum((p * np.log(quotient)).sum(axis=1), 0.0)
