"""Action units: is each of A facial actions there. F1 at 0.5, area under the ROC, accuracy.

Predictions hold ``probability`` (n, A), and may hold ``threshold`` (A,) in [0, 1], which was chosen
without the test labels; targets hold ``label`` (n, A): 1 there, 0 not, -1, 9 or 999 unknown, and
may hold ``fold`` (n,) and ``au_names`` (A,); predictions may hold ``au_names`` too, and are then
joined by name, whatever their order. An unknown label leaves its one cell out. Over the known cells
of an action unit, which is predicted where its probability is at least 0.5:

* ``f1``: 2 TP / (2 TP + FP + FN), and 0 where it is neither there nor predicted, as in published
  scorers.
* ``f1_chosen``: the same, predicted from the action unit's own ``threshold`` on.
* ``f1_all_positive``: the same, always predicted: what knowing nothing scores. It follows from the
  labels alone, 2 p / (1 + p) for a share p of images with it, and is the floor to read F1 from.
* ``auc``: the chance that an image with it scores above one without, ties counting half; None where
  one of the two kinds is missing.
* ``accuracy``: the share of right cells.

``NAME_per_au`` holds an action unit's number, None where it has none (no known label). Conventions
say what is averaged:

* ``fold-mean``: within each fold the mean over action units, then the mean over folds, also as
  ``NAME_per_fold``; an action unit's own number is its mean over folds. Needs ``fold``.
* ``pooled``: all images at once, then the mean over action units; ``fold`` is not read.

Without a convention it is ``fold-mean`` where the targets hold folds, else ``pooled``. The two
differ by points of F1 for rare action units: say which. What has no value is left out of a mean.

* ``legacy-best-on-test``: gives none of these, but ``legacy_f1_best_on_test``: the largest mean F1
  that one threshold of 0.01, 0.02, ... 0.99 for all action units reaches on the test labels
  themselves, within each fold where there are folds, then averaged. Some published figures are
  this one (FMAE's evaluation returns it). It is here to tell them apart from ``f1``; no board ranks
  by it.

Sources: Jeni, Cohn and De la Torre 2013, "Facing imbalanced data: recommendations for the use of
performance metrics"; Shao et al. 2021, "JAA-Net", section 5.1 (F1 of three folds).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

import numpy as np

from facebench.metrics._arrays import Arrays, Value, column_order, mean_of, pick_convention
from facebench.metrics._parts import Parts, mean_of_present, units
from facebench.metrics._verification import area_under_roc, rank_pairs

FOLDINGS = ("pooled", "fold-mean")
LEGACY = "legacy-best-on-test"
CONVENTIONS = (*FOLDINGS, LEGACY)
UNKNOWN = (-1, 9, 999)
GRID = np.arange(1, 100) / 100  # the thresholds of `LEGACY`

#: Head of a metric's name to (unit, higher is better, range, meaning).
METRICS: Mapping[str, tuple[str, bool | None, tuple[float, float | None], str]] = MappingProxyType(
    {
        "f1": ("fraction", True, (0, 1), "F1 at probability 0.5, mean over action units"),
        "f1_chosen": ("fraction", True, (0, 1), "F1 at thresholds chosen before the test"),
        "f1_all_positive": ("fraction", None, (0, 1), "F1 of always predicting every action unit"),
        "auc": ("fraction", True, (0, 1), "area under the ROC, mean over action units"),
        "accuracy": ("fraction", True, (0, 1), "right at probability 0.5, mean over action units"),
        "legacy_f1_best_on_test": ("fraction", None, (0, 1), "F1, threshold chosen on the test"),
        "legacy_threshold": ("fraction", None, (0, 1), "the threshold of legacy_f1_best_on_test"),
    }
)
AXES = ("au", "fold")

#: One action unit's numbers from its known rows of predictions and targets.
Scorer = Callable[[np.ndarray, np.ndarray], dict[str, float | None]]


def all_positive_f1(label: np.ndarray) -> list[float | None]:
    """F1 of each action unit if it is always predicted: the floor that a table must name.

    For a share p of positives it is 2 p / (1 + p).

    Args:
        label: (n, A) of 0, 1 and, for unknown, -1, 9 or 999.

    Returns:
        One number in [0, 1] per action unit; None where no label is known.
    """
    label = np.asarray(label)
    known, positive = ~np.isin(label, UNKNOWN), label == 1
    share = [p[k].mean() if k.any() else None for p, k in zip(positive.T, known.T)]
    return [None if p is None else float(2 * p / (1 + p)) for p in share]


def score(
    predictions: Arrays,
    targets: Arrays,
    convention: str | None = None,
    thresholds: Iterable[float] | None = None,
) -> dict[str, Value]:
    """Scores probabilities of action units; see the module's text for arrays and names.

    Args:
        predictions: ``probability`` (n, A); optional ``threshold`` (A,), ``au_names`` (A,).
        targets: ``label`` (n, A); optional ``fold`` (n,), ``au_names`` (A,).
        convention: a member of `CONVENTIONS`, or None.
        thresholds: there are none: the probability is read at 0.5, and at ``threshold``.

    Raises:
        FacebenchError: an array is missing, malformed, not finite or out of range.
        UsageError: another convention, or thresholds.
    """
    probability, label, known, threshold = _read(predictions, targets)
    if convention == LEGACY:
        within = "fold-mean" if "fold" in targets else "pooled"
        rows = folds("action_units", targets, len(label), within, thresholds)
        return _best_on_test(probability, label, known, rows)
    rows = folds("action_units", targets, len(label), convention, thresholds)
    result = over_folds(_occurrence, probability, label, known, rows)
    if threshold is not None:
        result |= over_folds(_chosen, probability >= threshold, label, known, rows)
    return result


def parts(predictions: Arrays, targets: Arrays, convention: str | None = None) -> dict[str, Parts]:
    """What F1 and ``accuracy`` are made of: counts of each action unit, per fold and image.

    An area under a curve is no function of sums over images: ``auc`` has no parts. What is chosen
    on the test labels has none either.
    """
    if convention == LEGACY:
        return {}
    probability, label, known, threshold = _read(predictions, targets)
    n, A = label.shape
    rows = folds("action_units", targets, n, convention, None)
    unit, of = units(targets, n)
    there, said = known & (label == 1), known & (probability >= 0.5)
    cells = [there & said, there.astype(np.int64) + said, known & (there == said), known]
    columns, spread = fold_columns(np.stack(cells, axis=2).astype(np.int64).reshape(n, -1), rows)

    def f1(sums: np.ndarray) -> np.ndarray:
        hit, either, _, seen = np.moveaxis(spread(sums, (A, 4)), -1, 0)
        return over_present(2 * hit, either, seen)

    def accuracy(sums: np.ndarray) -> np.ndarray:
        _, _, right, seen = np.moveaxis(spread(sums, (A, 4)), -1, 0)
        return over_present(right, seen, seen)

    result = {"f1": Parts(columns, f1, unit, of), "accuracy": Parts(columns, accuracy, unit, of)}
    others = {"f1_all_positive": known}
    if threshold is not None:
        others["f1_chosen"] = known & (probability >= threshold)
    for name, claimed in others.items():
        cells = [there & claimed, there.astype(np.int64) + claimed, known & ~claimed, known]
        columns, _ = fold_columns(np.stack(cells, axis=2).astype(np.int64).reshape(n, -1), rows)
        result[name] = Parts(columns, f1, unit, of)
    return result


def over_present(numerator: np.ndarray, denominator: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Mean of quotients (..., F, A) over the action units that are seen, then over such folds."""
    per_fold = mean_of_present(numerator, denominator, seen > 0)
    return mean_of_present(per_fold, np.ones_like(per_fold), seen.max(axis=-1) > 0)


def fold_columns(
    columns: np.ndarray, rows: list[np.ndarray] | None
) -> tuple[np.ndarray, Callable[[np.ndarray, tuple[int, ...]], np.ndarray]]:
    """Columns (n, c) of `Parts`, once per fold; zero for images of the other folds.

    Returns:
        (n, F c), and what turns sums of them (..., F c) into (..., F, *shape).
    """
    folded = [columns] if rows is None else [np.where(r[:, None], columns, 0) for r in rows]

    def spread(sums: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        return sums.reshape(*sums.shape[:-1], len(folded), *shape)

    return np.concatenate(folded, axis=1), spread


def _read(
    predictions: Arrays, targets: Arrays
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    """Probabilities, labels and whether they are known, each (n, A); thresholds (A,) or None."""
    label = targets.integers("label", ("n", "A"))
    n, A = label.shape
    odd = np.setdiff1d(label, (0, 1, *UNKNOWN))
    if len(odd):
        expected = "1 there, 0 not there, -1, 9 or 999 unknown"
        raise targets.fault("label", f"holds {odd[0]}", expected)
    known = ~np.isin(label, UNKNOWN)
    if not known.any():
        raise targets.fault("label", "holds no 0 or 1", "at least one known label")
    like = f"as 'label' of {targets.where}"
    probability = predictions.shares("probability", (n, A), like)
    threshold = None
    if "threshold" in predictions:
        threshold = predictions.shares("threshold", (A,), "one per column of 'probability'")
    order = column_order(predictions, targets, "au_names", A)
    if order is not None:
        probability = probability[:, order]
        threshold = None if threshold is None else threshold[order]
    return probability, label, known, threshold


def _f1(there: np.ndarray, said: np.ndarray) -> float:
    true_positive = np.count_nonzero(there & said)
    either = np.count_nonzero(there) + np.count_nonzero(said)
    return 2 * true_positive / either if either else 0.0


def _occurrence(probability: np.ndarray, label: np.ndarray) -> dict[str, float | None]:
    there, said = label == 1, probability >= 0.5
    return {
        "f1": _f1(there, said),
        "f1_all_positive": _f1(there, np.ones_like(there)),
        "auc": area_under_roc(rank_pairs(probability, there)),
        "accuracy": float(np.mean(there == said)),
    }


def _chosen(said: np.ndarray, label: np.ndarray) -> dict[str, float | None]:
    return {"f1_chosen": _f1(label == 1, said)}


def _best_on_test(
    probability: np.ndarray, label: np.ndarray, known: np.ndarray, rows: list[np.ndarray] | None
) -> dict[str, Value]:
    """The figures of `LEGACY`, for each fold (or all rows) at its best threshold."""
    best: list[float | None] = []
    thresholds: list[float | None] = []
    per_au: list[list[float | None]] = []
    for within in rows or [np.ones(len(label), bool)]:
        table = [
            _f1_on_grid(probability[cells, a], label[cells, a]) if cells.any() else None
            for a, cells in ((a, within & known[:, a]) for a in range(known.shape[1]))
        ]
        seen = [f1 for f1 in table if f1 is not None]
        mean = np.mean(seen, axis=0) if seen else None
        at = 0 if mean is None else int(np.argmax(mean))
        best.append(None if mean is None else float(mean[at]))
        thresholds.append(None if mean is None else float(GRID[at]))
        per_au.append([None if f1 is None else float(f1[at]) for f1 in table])
    name, where = "legacy_f1_best_on_test", "legacy_threshold"
    result: dict[str, Value] = {
        name: mean_of(best),
        f"{name}_per_au": [mean_of(cells) for cells in zip(*per_au, strict=True)],
    }
    if rows is None:
        return {**result, where: thresholds[0]}
    return {**result, f"{name}_per_fold": [*best], f"{where}_per_fold": [*thresholds]}


def _f1_on_grid(probability: np.ndarray, label: np.ndarray) -> np.ndarray:
    """F1 of one action unit at every threshold of `GRID`."""
    passed = np.searchsorted(GRID, probability, side="right")  # how many thresholds are reached
    there = np.bincount(passed[label == 1], minlength=len(GRID) + 1)
    every = np.bincount(passed, minlength=len(GRID) + 1)
    hit, said = (np.cumsum(count[::-1])[::-1][1:] for count in (there, every))
    either = said + there.sum()
    return np.where(either, 2 * hit / np.maximum(either, 1), 0.0)


def folds(
    task: str,
    targets: Arrays,
    n: int,
    convention: str | None,
    thresholds: Iterable[float] | None,
    conventions: tuple[str, ...] = CONVENTIONS,
) -> list[np.ndarray] | None:
    """The rows of each fold, in the order of the fold numbers; None when all are pooled.

    Raises:
        FacebenchError: ``fold-mean`` is asked for without folds, or they are malformed.
        UsageError: no such convention, or thresholds are given.
    """
    if convention is None and "fold" in targets:
        convention = "fold-mean"
    if pick_convention(task, convention, conventions, thresholds) == "pooled":
        return None
    fold = targets.integers("fold", (n,), "one per row")
    return [fold == name for name in np.unique(fold)]


def over_folds(
    scorer: Scorer,
    predicted: np.ndarray,
    true: np.ndarray,
    known: np.ndarray,
    parts: list[np.ndarray] | None,
) -> dict[str, Value]:
    """Each metric of `scorer` over action units, then over folds, and the numbers in between.

    Args:
        scorer: gives one action unit's metrics.
        predicted: (n, A).
        true: (n, A).
        known: (n, A) bool, not all False; other cells are left out.
        parts: the rows of each fold, or None for all rows at once.
    """
    tables = [
        [
            scorer(predicted[rows, a], true[rows, a]) if rows.any() else {}
            for a, rows in ((a, within & known[:, a]) for a in range(known.shape[1]))
        ]
        for within in (parts or [np.ones(len(known), bool)])
    ]
    names = next(list(cell) for table in tables for cell in table if cell)
    result: dict[str, Value] = {}
    for name in names:
        per_fold = [mean_of(cell.get(name) for cell in table) for table in tables]
        result[name] = mean_of(per_fold)
        result[f"{name}_per_au"] = [
            mean_of(cell.get(name) for cell in column) for column in zip(*tables, strict=True)
        ]
        if parts is not None:
            result[f"{name}_per_fold"] = per_fold
    return result
