"""Face parsing: one class per pixel. Mean F1 over the foreground, mean IoU, pixel accuracy.

Predictions hold ``parse`` (n, H, W), whole numbers from 0; targets hold the same, where 255 marks
pixels that are left out, and may hold ``class_names`` (C,), which predictions may hold too and must
then agree with. Without names there are as many classes as the largest number says. Class 0 is the
background.

All pixels of all images are counted into ONE table; with TP, FP and FN of a class from it:

* ``f1``: 2 TP / (2 TP + FP + FN); ``f1`` is its mean over the classes but the background.
* ``iou``: TP / (TP + FP + FN); ``miou`` is its mean over all classes.
* ``pixel_accuracy``: the share of right pixels, background and all.

A class that is neither in the labels nor predicted has no value (None) and is left out of the
means; one that is predicted without being in the labels counts as 0. (A mean of F1 per image is
another, usually lower number.)

Sources: Zheng et al. 2022, "General facial representation learning in a visual-linguistic manner"
(FaRL), section 4.3 (F1 from one table); Everingham et al. 2010, "The PASCAL visual object classes
(VOC) challenge", section 4 (intersection over union).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

import numpy as np

from facebench.metrics._arrays import Arrays, Value, blocks, column_names, mean_of, pick_convention
from facebench.metrics._parts import Parts, mean_of_present, ratio, units
from facebench.metrics.expression import confusion, f1s

CONVENTIONS = ("pooled",)
IGNORED = 255

#: Head of a metric's name to (unit, higher is better, range, meaning).
METRICS: Mapping[str, tuple[str, bool, tuple[float, float | None], str]] = MappingProxyType(
    {
        "f1": ("fraction", True, (0, 1), "F1 of pixels, mean over the classes but background"),
        "miou": ("fraction", True, (0, 1), "intersection over union, mean over all classes"),
        "iou": ("fraction", True, (0, 1), "intersection over union of a class"),
        "pixel_accuracy": ("fraction", True, (0, 1), "pixels whose class is right"),
    }
)
AXES = ("class",)


def score(
    predictions: Arrays,
    targets: Arrays,
    convention: str | None = None,
    thresholds: Iterable[float] | None = None,
) -> dict[str, Value]:
    """Scores parse masks; see the module's text for arrays and names.

    Args:
        predictions: ``parse`` (n, H, W); optional ``class_names`` (C,).
        targets: ``parse`` (n, H, W), 255 for pixels to leave out; optional ``class_names`` (C,).
        convention: ``pooled``, or None.
        thresholds: there are none.

    Raises:
        FacebenchError: an array is missing, malformed or out of range, or no pixel is labelled.
        UsageError: another convention, or thresholds.
    """
    pick_convention("parsing", convention, CONVENTIONS, thresholds)
    true, predicted, classes = _read(predictions, targets)
    table = np.zeros((classes, classes), np.int64)
    for start, stop in blocks(len(true), true[0].size):
        part = true[start:stop] != IGNORED
        table += confusion(true[start:stop][part], predicted[start:stop][part], classes)
    f1 = f1s(table)
    right = np.diag(table)
    union = table.sum(axis=0) + table.sum(axis=1) - right
    iou = [float(r / u) if u else None for r, u in zip(right, union)]
    return {
        "f1": mean_of(f1[1:]),
        "miou": mean_of(iou),
        "pixel_accuracy": float(right.sum() / table.sum()),
        "f1_per_class": list(f1),
        "iou_per_class": list(iou),
    }


def parts(predictions: Arrays, targets: Arrays, convention: str | None = None) -> dict[str, Parts]:
    """What ``f1``, ``miou`` and ``pixel_accuracy`` are made of: pixels of each class per image."""
    pick_convention("parsing", convention, CONVENTIONS, None)
    true, predicted, classes = _read(predictions, targets)
    unit, of = units(targets, len(true))
    columns = np.empty((len(true), 3 * classes), np.int64)
    for row in range(len(true)):
        kept = true[row] != IGNORED
        a, b = true[row][kept], predicted[row][kept]
        columns[row] = np.concatenate(
            [np.bincount(x, minlength=classes) for x in (a[a == b], a, b)]
        )

    def f1(sums: np.ndarray) -> np.ndarray:
        hit, there, said = (x[..., 1:] for x in np.split(sums, 3, axis=-1))
        return mean_of_present(2 * hit, there + said, there + said > 0)

    def miou(sums: np.ndarray) -> np.ndarray:
        hit, there, said = np.split(sums, 3, axis=-1)
        union = there + said - hit
        return mean_of_present(hit, union, union > 0)

    right, pixels = (columns[:, k * classes : (k + 1) * classes].sum(axis=1) for k in (0, 1))
    return {
        "f1": Parts(columns, f1, unit, of),
        "miou": Parts(columns, miou, unit, of),
        "pixel_accuracy": ratio(right, pixels, 1, unit, of),
    }


def _read(predictions: Arrays, targets: Arrays) -> tuple[np.ndarray, np.ndarray, int]:
    """Classes (n, H, W) in the labels and predicted, and how many there are."""
    true = _classes(targets, ("n", "H", "W"), IGNORED)
    kept = true != IGNORED
    if not kept.any():
        raise targets.fault("parse", f"holds {IGNORED} alone", "labelled pixels")
    predicted = _classes(predictions, true.shape, IGNORED - 1, f"as 'parse' of {targets.where}")
    largest = {
        predictions: int(predicted.max()), targets: int(np.max(true, where=kept, initial=0))
    }  # fmt: skip
    classes = 1 + max(largest.values())
    for source in (targets, predictions):
        if "class_names" in source:
            classes = len(source.take("class_names", ("C",)))
            break
    for source, found in largest.items():
        if found >= classes:
            raise source.fault("parse", f"holds {found}", f"0 to {classes - 1}, by 'class_names'")
    column_names(predictions, targets, "class_names", classes)
    return true, predicted, classes


def _classes(source: Arrays, shape: tuple[int | str, ...], most: int, like: str = "") -> np.ndarray:
    """Class numbers in their own type: masks are large."""
    array = source.take("parse", shape, like)
    if array.dtype.kind not in "iu":
        raise source.fault("parse", f"holds {array.dtype}", "whole numbers")
    if array.min() < 0 or array.max() > most:
        found = array.min() if array.min() < 0 else array.max()
        raise source.fault("parse", f"holds {found}", f"class numbers from 0 to {IGNORED - 1}")
    return array
