"""Attention cosine: how much a network looks where the action units of the true class show.

Predictions hold ``attention`` (n, h, w) in [0, 1]; targets hold ``points`` (n, 68, 2), pixels of
the crop, not finite where a face has none, ``size`` (), its side S in pixels, and may hold ``cues``
(C, K): the FACS numbers of each class's action units, 0 in the places left over. Without it the
classes are those of `schemes.EXPRESSIONS`, or the first of them, with the codebook ``corrected``.

Attention and map (`facebench.action_maps`) are compared on a grid of 28 x 28 cells, to which
attention is interpolated linearly between the centres of its cells, so that networks with coarse
and with fine maps are measured by one rule; the map is the maximum over the units of the sample's
class. The cosine of the two, as vectors, is averaged over the samples of a class, then over the
classes that have any. A sample counts if its class has units (neutral has none), its points are
valid and a unit is inside of the crop. Attention without any contrast points nowhere: cosine 0.

After Belharbi et al., "Guided interpretable facial expression recognition via spatial action unit
cues", FG 2024, section 4 (there on the pixels of the image). A map of the mean face, or a spot in
the middle of the crop, has a cosine far above 0: compare entries with one another.
"""

from __future__ import annotations

import numpy as np

from facebench import action_maps, schemes
from facebench.metrics._arrays import Arrays, Value, mean_of
from facebench.metrics._parts import QUANTUM, Parts, mean_of_present, quantised

GRID = 28
_ROWS = 64  # samples whose maps are in memory at once


def asked(predictions: Arrays, targets: Arrays) -> bool:
    """Whether there are both an attention and points to compare it with."""
    return "attention" in predictions and "points" in targets


def cosines(
    predictions: Arrays, targets: Arrays, label: np.ndarray, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """The cosine of each sample's attention, float64 (n,), and which samples count, bool (n,).

    Args:
        predictions: ``attention``.
        targets: ``points``, ``size`` and perhaps ``cues``.
        label: (n,) in 0 ... `classes` - 1.
        classes: C.

    Raises:
        FacebenchError: an array is missing, malformed or out of range.
    """
    n = len(label)
    attention = predictions.shares("attention", (n, "h", "w"), "n as 'label'", "its range")
    points = _points(targets, n)
    size = float(targets.numbers("size", ()))
    if not 1 <= size <= 1 << 16:
        raise targets.fault("size", f"is {size:.6g}", "the crop's side in pixels")
    found, counts = np.zeros(n), np.zeros(n, bool)
    for c, units in enumerate(_codes(targets, classes)):
        rows = np.flatnonzero((label == c) & bool(units))
        for start in range(0, len(rows), _ROWS):
            some = rows[start : start + _ROWS]
            drawn = action_maps.maps(points[some], size, GRID, units).max(axis=1)
            counts[some] = drawn.max(axis=(1, 2)) > 0
            found[some] = _cosine(_on_grid(attention[some]), drawn)
    return found, counts


def score(
    predictions: Arrays, targets: Arrays, label: np.ndarray, classes: int
) -> dict[str, Value]:
    """``attention_cosine`` and ``attention_cosine_per_class``; see `cosines`."""
    found, counts = cosines(predictions, targets, label, classes)
    each = [
        float(found[rows].mean()) if (rows := counts & (label == c)).any() else None
        for c in range(classes)
    ]
    return {"attention_cosine": mean_of(each), "attention_cosine_per_class": each}


def parts(
    predictions: Arrays,
    targets: Arrays,
    label: np.ndarray,
    classes: int,
    unit: np.ndarray,
    of: str,
) -> Parts:
    """What ``attention_cosine`` is made of: per class the sum of the cosines, and how many."""
    found, counts = cosines(predictions, targets, label, classes)
    there = counts[:, None] & (label[:, None] == np.arange(classes))
    columns = np.concatenate([np.where(there, quantised(found)[:, None], 0), there], axis=1)

    def value(sums: np.ndarray) -> np.ndarray:
        cosine, count = np.split(sums, 2, axis=-1)
        return mean_of_present(cosine, count, count > 0) * QUANTUM

    return Parts(columns.astype(np.int64), value, unit, of)


def _points(targets: Arrays, n: int) -> np.ndarray:
    points = targets.take("points", (n, 68, 2), "n as 'label'")
    if points.dtype.kind not in "iuf":
        raise targets.fault("points", f"holds {points.dtype}", "real numbers")
    points = points.astype(np.float64)
    far = np.isfinite(points) & (np.abs(points) > 1e6)
    if far.any():
        raise targets.fault("points", f"holds {points[far][0]:.4g}", "pixels of the crop")
    return points


def _codes(targets: Arrays, classes: int) -> list[tuple[int, ...]]:
    """The action units of each class."""
    if "cues" not in targets:
        if classes > len(schemes.EXPRESSIONS):
            raise targets.fault("cues", "is missing", f"the action units of {classes} classes")
        return list(action_maps.codes("corrected", schemes.EXPRESSIONS[:classes]))
    table = targets.integers("cues", (classes, "K"), "a row per column of 'probability'")
    made = []
    for row in table.tolist():
        units = tuple(sorted({number for number in row if number}))
        for number in units:
            if number not in action_maps.AUS:
                raise targets.fault(
                    "cues", f"holds {number}", f"0 or one of the units {action_maps.AUS}"
                )
        made.append(units)
    return made


def _on_grid(maps: np.ndarray) -> np.ndarray:
    """Maps (n, h, w) on the grid; where they are finer than it, weighted means of their cells."""
    rows, columns = (_weights(side) for side in maps.shape[1:])
    return rows @ maps @ columns.T


def _weights(side: int) -> np.ndarray:
    """(GRID, side) of a map's cells, by the distance of centres in units of the coarser grid."""
    centre = (np.arange(GRID)[:, None] + 0.5) / GRID * side - 0.5
    near = np.maximum(0, 1 - np.abs(centre - np.arange(side)) / max(1.0, side / GRID))
    # Beyond the outermost centres a map goes on as it is there: one weight is left, and becomes 1.
    return near / near.sum(axis=1, keepdims=True)


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosines (n,) of maps (n, g, g); 0 where one of them has no length."""
    product = np.sqrt((a * a).sum(axis=(1, 2)) * (b * b).sum(axis=(1, 2)))
    return (a * b).sum(axis=(1, 2)) / np.where(product > 0, product, 1)
