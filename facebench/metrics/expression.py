"""Expression: one class per image. Accuracy, mean recall, macro F1 and the confusion table.

Predictions hold ``probability`` (n, C); targets hold ``label`` (n,), whole numbers from 0 to C - 1,
and may hold ``group`` (n,) and ``class_names`` (C,). Class numbers mean nothing by themselves:
every data set orders its classes in its own way. So predictions may hold ``class_names`` too, and
must then agree with the targets.

The class with the highest probability is predicted; of equal ones the first. With TP, FP and FN
counted over all images:

* ``accuracy``: the share of images that are right (WAR in papers on video).
* ``recall`` of a class: TP / (TP + FN); None for a class that no image shows. ``uar`` is its mean
  over the classes that are shown (balanced accuracy).
* ``f1`` of a class: 2 TP / (2 TP + FP + FN); None for a class that is neither shown nor predicted,
  0 for one that is predicted without being shown. ``macro_f1`` is its mean over the rest.
* ``confusion_per_class``: row c counts how the images of class c were predicted.

With ``group``, ``accuracy``, ``uar`` and ``macro_f1`` are also computed within each group, as
``NAME_per_group`` in the sorted order of the group values.

With ``attention`` in the predictions and ``points`` in the targets also ``attention_cosine``, see
`facebench.metrics._cues`.

Sources: Sokolova and Lapalme 2009, "A systematic analysis of performance measures for
classification tasks", table 3; Schuller et al. 2009, "The INTERSPEECH 2009 emotion challenge",
section 4 (unweighted average recall).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

import numpy as np

from facebench.metrics import _cues
from facebench.metrics._arrays import Arrays, Value, column_names, mean_of, pick_convention
from facebench.metrics._parts import Parts, mean_of_present, ratio, units

CONVENTIONS = ("pooled",)

#: Head of a metric's name to (unit, higher is better, range, meaning).
METRICS: Mapping[str, tuple[str, bool | None, tuple[float, float | None], str]] = MappingProxyType(
    {
        "accuracy": ("fraction", True, (0, 1), "images whose most probable class is the label"),
        "uar": ("fraction", True, (0, 1), "unweighted average recall, over the classes shown"),
        "macro_f1": ("fraction", True, (0, 1), "mean F1 over the classes shown or predicted"),
        "recall": ("fraction", True, (0, 1), "images of a class that are predicted as it"),
        "f1": ("fraction", True, (0, 1), "harmonic mean of a class's precision and recall"),
        "attention_cosine": (
            "ratio",
            True,
            (0, 1),
            "attention against the true class's action units, over classes",
        ),
        "confusion": ("count", None, (0, None), "images by label (rows) and prediction"),
    }
)
AXES = ("class", "group")


def confusion(label: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """How often label a was predicted as b: [C, C] int64 from two arrays of one shape."""
    pairs = label.astype(np.int64) * classes + predicted
    return np.bincount(pairs.reshape(-1), minlength=classes**2).reshape(classes, classes)


def recalls(table: np.ndarray) -> list[float | None]:
    """Recall of each class of a confusion table [C, C]; None where its row is empty."""
    shown = table.sum(axis=1)
    return [float(t / s) if s else None for t, s in zip(np.diag(table), shown)]


def f1s(table: np.ndarray) -> list[float | None]:
    """F1 of each class of a confusion table [C, C]; None where its row and column are empty."""
    either = table.sum(axis=1) + table.sum(axis=0)
    return [float(2 * t / e) if e else None for t, e in zip(np.diag(table), either)]


def score(
    predictions: Arrays,
    targets: Arrays,
    convention: str | None = None,
    thresholds: Iterable[float] | None = None,
) -> dict[str, Value]:
    """Scores class probabilities; see the module's text for arrays and names.

    Args:
        predictions: ``probability`` (n, C); optional ``class_names`` (C,).
        targets: ``label`` (n,); optional ``class_names`` (C,), ``group`` (n,).
        convention: ``pooled``, or None.
        thresholds: there are none.

    Raises:
        FacebenchError: an array is missing, malformed, not finite or out of range.
        UsageError: another convention, or thresholds.
    """
    pick_convention("expression", convention, CONVENTIONS, thresholds)
    label, predicted, classes = _read(predictions, targets)
    n = len(label)
    table = confusion(label, predicted, classes)
    result: dict[str, Value] = {
        **_summary(table),
        "recall_per_class": recalls(table),
        "f1_per_class": f1s(table),
        "confusion_per_class": table.astype(float).tolist(),
    }
    if _cues.asked(predictions, targets):
        result |= _cues.score(predictions, targets, label, classes)
    if "group" in targets:
        group = targets.take("group", (n,), "as 'label'")
        if group.dtype.kind == "f":
            raise targets.fault("group", f"holds {group.dtype}", "whole numbers or text")
        parts = [
            _summary(confusion(label[rows], predicted[rows], classes))
            for rows in (group == name for name in np.unique(group))
        ]
        for name in ("accuracy", "uar", "macro_f1"):
            result[f"{name}_per_group"] = [part[name] for part in parts]
    return result


def parts(predictions: Arrays, targets: Arrays, convention: str | None = None) -> dict[str, Parts]:
    """What ``accuracy``, ``uar`` and ``macro_f1`` are made of: counts of each class per image."""
    pick_convention("expression", convention, CONVENTIONS, None)
    label, predicted, classes = _read(predictions, targets)
    unit, of = units(targets, len(label))
    right = label == predicted
    every = np.arange(classes)
    shown, said = label[:, None] == every, predicted[:, None] == every
    columns = np.concatenate([shown & said, shown, said], axis=1).astype(np.int64)

    def uar(sums: np.ndarray) -> np.ndarray:
        hit, there, _ = np.split(sums, 3, axis=-1)
        return mean_of_present(hit, there, there > 0)

    def macro_f1(sums: np.ndarray) -> np.ndarray:
        hit, there, claimed = np.split(sums, 3, axis=-1)
        return mean_of_present(2 * hit, there + claimed, there + claimed > 0)

    made = {
        "accuracy": ratio(right, np.ones(len(label), np.int64), 1, unit, of),
        "uar": Parts(columns, uar, unit, of),
        "macro_f1": Parts(columns, macro_f1, unit, of),
    }
    if _cues.asked(predictions, targets):
        made["attention_cosine"] = _cues.parts(predictions, targets, label, classes, unit, of)
    return made


def _read(predictions: Arrays, targets: Arrays) -> tuple[np.ndarray, np.ndarray, int]:
    """Labels and predicted classes (n,), and how many classes there are."""
    label = targets.integers("label", ("n",))
    n = len(label)
    like = f"as 'label' of {targets.where}"
    probability = predictions.shares("probability", (n, "C"), like, "a softmax")
    classes = probability.shape[1]
    column_names(predictions, targets, "class_names", classes)
    if label.min() < 0 or label.max() >= classes:
        found = label.min() if label.min() < 0 else label.max()
        raise targets.fault(
            "label", f"holds {found}", f"0 to {classes - 1}, a column of 'probability'"
        )
    return label, probability.argmax(axis=1), classes


def _summary(table: np.ndarray) -> dict[str, float | None]:
    return {
        "accuracy": float(np.trace(table) / table.sum()),
        "uar": mean_of(recalls(table)),
        "macro_f1": mean_of(f1s(table)),
    }
