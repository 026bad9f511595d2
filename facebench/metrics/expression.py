"""Expression: one class per image. Accuracy, mean recall, macro F1 and the confusion table.

Predictions hold ``probability`` (n, C). Targets hold ``label`` (n,), whole numbers from 0 to C - 1,
or ``distribution`` (n, C), what share of an image each class has (votes divided by their number),
or both; and may hold ``group`` (n,) and ``class_names`` (C,). Class numbers mean nothing by
themselves: every data set orders its classes in its own way (`facebench.schemes`). So predictions
may hold ``class_names`` too; where both do, columns are joined by name, whatever their order.

With ``label``, the class with the highest probability is predicted; of equal ones the first. With
TP, FP and FN counted over all images:

* ``accuracy``: the share of images that are right (WAR in papers on video).
* ``recall`` of a class: TP / (TP + FN); None for a class that no image shows. ``uar`` is its mean
  over the classes that are shown (balanced accuracy).
* ``precision`` of a class: TP / (TP + FP); None for a class that is never predicted.
* ``f1`` of a class: 2 TP / (2 TP + FP + FN); None for a class that is neither shown nor predicted,
  0 for one that is predicted without being shown. ``macro_f1`` is its mean over the rest,
  ``weighted_f1`` its mean over images, each counting the F1 of the class that it shows.
* ``kappa``: (o - e) / (1 - e), where o is the accuracy and e what predictions as frequent as these
  would have by chance; 0 where e is 1.
* ``confusion_per_class``: row c counts how the images of class c were predicted.

With ``distribution``, the mean over images of the measures of `facebench.metrics._distributions`:
``kl_divergence``, ``cross_entropy``, ``jensen_shannon``, ``chebyshev``, ``cosine`` and
``intersection``. Each image's probabilities must then sum to 1.

With ``group``, what is one number is also computed within each group, as ``NAME_per_group`` in the
sorted order of the group values.

With ``attention`` in the predictions and ``points`` in the targets also ``attention_cosine``, see
`facebench.metrics._cues`.

Sources: Sokolova and Lapalme 2009, "A systematic analysis of performance measures for
classification tasks", table 3; Schuller et al. 2009, "The INTERSPEECH 2009 emotion challenge",
section 4 (unweighted average recall); Cohen 1960, "A coefficient of agreement for nominal scales".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

import numpy as np

from facebench.metrics import _cues
from facebench.metrics import _distributions as distributions
from facebench.metrics._arrays import Arrays, Value, column_order, mean_of, pick_convention
from facebench.metrics._parts import QUANTUM, Parts, mean_of_present, quantised, ratio, units

CONVENTIONS = ("pooled",)

#: Head of a metric's name to (unit, higher is better, range, meaning).
METRICS: Mapping[str, tuple[str, bool | None, tuple[float, float | None], str]] = MappingProxyType(
    {
        "accuracy": ("fraction", True, (0, 1), "images whose most probable class is the label"),
        "uar": ("fraction", True, (0, 1), "unweighted average recall, over the classes shown"),
        "macro_f1": ("fraction", True, (0, 1), "mean F1 over the classes shown or predicted"),
        "weighted_f1": ("fraction", True, (0, 1), "F1 of the class shown, mean over images"),
        "kappa": ("fraction", True, (-1, 1), "Cohen's kappa: agreement beyond chance"),
        "recall": ("fraction", True, (0, 1), "images of a class that are predicted as it"),
        "precision": ("fraction", True, (0, 1), "images predicted as a class that show it"),
        "f1": ("fraction", True, (0, 1), "harmonic mean of a class's precision and recall"),
        "attention_cosine": (
            "ratio",
            True,
            (0, 1),
            "attention against the true class's action units, over classes",
        ),
        "confusion": ("count", None, (0, None), "images by label (rows) and prediction"),
        **distributions.METRICS,
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


def precisions(table: np.ndarray) -> list[float | None]:
    """Precision of each class of a confusion table [C, C]; None where its column is empty."""
    return recalls(table.T)


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
        targets: ``label`` (n,) or ``distribution`` (n, C) or both; optional ``class_names`` (C,),
            ``group`` (n,).
        convention: ``pooled``, or None.
        thresholds: there are none.

    Raises:
        FacebenchError: an array is missing, malformed, not finite or out of range, or classes are
            named that the targets do not have.
        UsageError: another convention, or thresholds.
    """
    pick_convention("expression", convention, CONVENTIONS, thresholds)
    probability = read_probability(predictions, targets)
    n, classes = probability.shape
    label, losses = _label(targets, n, classes), _losses(predictions, targets, probability)
    predicted = probability.argmax(axis=1)

    def numbers(rows: np.ndarray | slice) -> dict[str, float | None]:
        found = {} if label is None else _summary(confusion(label[rows], predicted[rows], classes))
        return found | {name: float(loss[rows].mean()) for name, loss in losses.items()}

    result: dict[str, Value] = {**numbers(slice(None))}
    if label is not None:
        table = confusion(label, predicted, classes)
        result |= {
            "recall_per_class": recalls(table),
            "precision_per_class": precisions(table),
            "f1_per_class": f1s(table),
            "confusion_per_class": table.astype(float).tolist(),
        }
        if _cues.asked(predictions, targets):
            result |= _cues.score(predictions, targets, label, classes)
    if "group" in targets:
        group = targets.take("group", (n,), "one per row of 'probability'")
        if group.dtype.kind == "f":
            raise targets.fault("group", f"holds {group.dtype}", "whole numbers or text")
        parts = [numbers(group == name) for name in np.unique(group)]
        for name in parts[0]:
            result[f"{name}_per_group"] = [part[name] for part in parts]
    return result


def parts(predictions: Arrays, targets: Arrays, convention: str | None = None) -> dict[str, Parts]:
    """What every single number is made of: counts of each class per image, and losses."""
    pick_convention("expression", convention, CONVENTIONS, None)
    probability = read_probability(predictions, targets)
    n, classes = probability.shape
    label, losses = _label(targets, n, classes), _losses(predictions, targets, probability)
    unit, of = units(targets, n)
    one = np.ones(n, np.int64)
    result = {name: ratio(quantised(loss), one, QUANTUM, unit, of) for name, loss in losses.items()}
    if label is None:
        return result
    predicted, every = probability.argmax(axis=1), np.arange(classes)
    right, shown, said = label == predicted, label[:, None] == every, predicted[:, None] == every
    columns = np.concatenate([shown & said, shown, said], axis=1).astype(np.int64)

    def uar(sums: np.ndarray) -> np.ndarray:
        hit, there, _ = np.split(sums, 3, axis=-1)
        return mean_of_present(hit, there, there > 0)

    def macro_f1(sums: np.ndarray) -> np.ndarray:
        hit, there, claimed = np.split(sums, 3, axis=-1)
        return mean_of_present(2 * hit, there + claimed, there + claimed > 0)

    result |= {
        "accuracy": ratio(right, one, 1, unit, of),
        "uar": Parts(columns, uar, unit, of),
        "macro_f1": Parts(columns, macro_f1, unit, of),
        "weighted_f1": Parts(columns, _weighted_f1, unit, of),
        "kappa": Parts(columns, _kappa, unit, of),
    }
    if _cues.asked(predictions, targets):
        result["attention_cosine"] = _cues.parts(predictions, targets, label, classes, unit, of)
    return result


def read_probability(predictions: Arrays, targets: Arrays) -> np.ndarray:
    """Predicted shares (n, C), their columns in the order of the targets' classes."""
    n = len(targets.take("label", ("n",))) if "label" in targets else "n"
    like = f"as 'label' of {targets.where}" if "label" in targets else ""
    probability = predictions.shares("probability", (n, "C"), like, "a softmax")
    order = column_order(predictions, targets, "class_names", probability.shape[1])
    return probability if order is None else probability[:, order]


def _label(targets: Arrays, n: int, classes: int) -> np.ndarray | None:
    """Labels (n,); None where the targets hold distributions alone."""
    if "label" not in targets and "distribution" in targets:
        return None
    label = targets.integers("label", (n,), "one per row of 'probability'")
    if label.min() < 0 or label.max() >= classes:
        found = label.min() if label.min() < 0 else label.max()
        raise targets.fault(
            "label", f"holds {found}", f"0 to {classes - 1}, a column of 'probability'"
        )
    return label


def _losses(predictions: Arrays, targets: Arrays, probability: np.ndarray) -> dict[str, np.ndarray]:
    """The measures of distributions of each image, name to (n,); none without distributions."""
    if "distribution" not in targets:
        return {}
    like = f"as 'probability' of {predictions.where}"
    true = targets.numbers("distribution", probability.shape, like)
    return distributions.measures(
        distributions.summing_to_one(predictions, "probability", probability, distributions.STORED),
        distributions.summing_to_one(targets, "distribution", true, distributions.EXACT),
    )


def _summary(table: np.ndarray) -> dict[str, float | None]:
    counts = np.concatenate([np.diag(table), table.sum(axis=1), table.sum(axis=0)])
    return {
        "accuracy": float(np.trace(table) / table.sum()),
        "uar": mean_of(recalls(table)),
        "macro_f1": mean_of(f1s(table)),
        "weighted_f1": float(_weighted_f1(counts)),
        "kappa": float(_kappa(counts)),
    }


def _weighted_f1(sums: np.ndarray) -> np.ndarray:
    """From how often each class is right, shown and predicted, (..., 3 C)."""
    hit, there, claimed = np.split(sums, 3, axis=-1)
    f1 = 2 * hit / np.maximum(there + claimed, 1)
    return (there * f1).sum(axis=-1) / np.maximum(there.sum(axis=-1), 1)


def _kappa(sums: np.ndarray) -> np.ndarray:
    """From how often each class is right, shown and predicted, (..., 3 C)."""
    hit, there, claimed = np.split(sums.astype(np.float64), 3, axis=-1)
    n = there.sum(axis=-1)
    chance = (there * claimed).sum(axis=-1)
    room = n * n - chance
    return np.where(room > 0, (n * hit.sum(axis=-1) - chance) / np.where(room > 0, room, 1), 0.0)
