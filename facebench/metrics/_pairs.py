"""Pairs, checked, and the evaluators that score them: pooled, by folds, and IJB's table."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import numpy as np

from facebench.errors import FacebenchError
from facebench.metrics import _fairness
from facebench.metrics._arrays import Arrays, Value, levels, release, scientific, unit_rows
from facebench.metrics._identification import one_of
from facebench.metrics._templates import Pooling, Templates, pair_scores
from facebench.metrics._verification import (
    Ranked,
    area_under_roc,
    best_threshold_accuracy,
    contiguous_folds,
    cross_validate,
    equal_error_rate,
    mean_curve_area,
    mean_curve_equal_error,
    pair_cosines,
    pair_squared_distances,
    rank_pairs,
    tar_at_far,
    tar_at_nearest_far,
)

FARS = (1e-1, 1e-2, 1e-3, 1e-4)  # of pooled conventions
FOLD_FARS = (1e-3,)  # of ten-fold conventions
IJB_FARS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
_RATE = "a false accept rate, above 0 and up to 1"


@dataclass(frozen=True)
class Pairs:
    """Checked pairs: either `score` (n,), or `embedding` (2n, d) with its rows' lengths."""

    same: np.ndarray
    fold: np.ndarray | None
    where: str
    score: np.ndarray | None = None
    embedding: np.ndarray | None = None
    length: np.ndarray | None = None

    def cosine(self) -> np.ndarray:
        """(n,) scores, or cosines of the embeddings."""
        if self.embedding is None or self.length is None:
            assert self.score is not None
            return self.score
        return pair_cosines(self.embedding, self.length)

    def only(self, rows: np.ndarray) -> Pairs:
        """The pairs that a mask (n,) keeps."""
        both = np.repeat(rows, 2)  # two rows per pair
        return Pairs(
            self.same[rows],
            None if self.fold is None else self.fold[rows],
            self.where,
            None if self.score is None else self.score[rows],
            None if self.embedding is None else self.embedding[both],
            None if self.length is None else self.length[both],
        )


def _counts(ranked: Ranked) -> dict[str, Value]:
    return {
        "genuine_pairs": float(len(ranked.genuine)),
        "impostor_pairs": float(len(ranked.impostor)),
    }


def _pooled(
    pairs: Pairs,
    thresholds: Iterable[float] | None,
    tar: Callable[[Ranked, float], float | None] = tar_at_far,
) -> dict[str, Value]:
    fars = levels(thresholds, FARS, 1, _RATE)
    ranked = rank_pairs(pairs.cosine(), pairs.same)
    return {
        "eer": equal_error_rate(ranked),
        "auc": area_under_roc(ranked),
        "accuracy_best_threshold": best_threshold_accuracy(ranked),
        **{f"tar@far={scientific(far)}": tar(ranked, far) for far in fars},
        **_counts(ranked),
    }


def _ijb(pairs: Pairs, thresholds: Iterable[float] | None) -> dict[str, Value]:
    fars = levels(thresholds, IJB_FARS, 1, _RATE)
    ranked = rank_pairs(pairs.cosine(), pairs.same)
    result: dict[str, Value] = {"eer": equal_error_rate(ranked), "auc": area_under_roc(ranked)}
    for far in fars:
        result[f"tar@far={scientific(far)}"] = tar_at_nearest_far(ranked, far)
        result[f"tar@far={scientific(far)}:conservative"] = tar_at_far(ranked, far)
    return result | _counts(ranked)


def _folded(
    pairs: Pairs,
    thresholds: Iterable[float] | None,
    angle: bool = False,
    centred: bool = False,
    curve: bool = False,
) -> dict[str, Value]:
    fars = levels(thresholds, FOLD_FARS, 1, _RATE)
    fold = _folds(pairs)
    if angle:
        distance = partial(_angles, pairs, fold) if centred else partial(_angles, pairs, None)
    else:
        distance = partial(_squared, pairs)
    found = cross_validate(distance, pairs.same, fold, fars, per_fold=centred)
    result: dict[str, Value] = {
        "accuracy": float(found.accuracy.mean()),
        "accuracy_std": float(found.accuracy.std()),
    }
    for far in fars:
        val, measured = found.val[far]
        name = scientific(far)
        result[f"val@far={name}"] = None if val is None else float(val.mean())
        result[f"val_std@far={name}"] = None if val is None else float(val.std())
        result[f"far@far={name}"] = None if measured is None else float(measured.mean())
    if curve:
        both = 0 < pairs.same.sum() < len(pairs.same)
        result["auc"] = mean_curve_area(found) if both else None
        result["eer"] = mean_curve_equal_error(found) if both else None
    result["accuracy_per_fold"] = [float(a) for a in found.accuracy]
    return result


def _folds(pairs: Pairs) -> np.ndarray:
    n = len(pairs.same)
    if pairs.fold is None:
        if n < 10:
            raise FacebenchError(
                f"{pairs.where}: {n} pairs cannot be split into ten folds; give at least 10, "
                "or score them with convention 'pooled'"
            )
        return contiguous_folds(n)
    values, fold = np.unique(pairs.fold, return_inverse=True)
    if len(values) < 2:
        raise FacebenchError(
            f"{pairs.where}: array 'fold' names one fold, {values[0]}; expected at least two, "
            "since a threshold is chosen on the others"
        )
    return fold


def _squared(pairs: Pairs, held_out: int | None) -> np.ndarray:
    del held_out
    if pairs.embedding is None or pairs.length is None:
        return 2 - 2 * pairs.cosine()
    off = np.abs(pairs.length - 1) > 0.01
    if off.any():
        row = int(np.argmax(off))
        raise FacebenchError(
            f"{pairs.where}: array 'embedding' has length {pairs.length[row]:.4g} in row {row}; "
            "expected 1: this convention compares squared distances of unit vectors, so "
            "L2-normalise every row (after adding the flipped image's)"
        )
    return pair_squared_distances(pairs.embedding)


def _angles(pairs: Pairs, fold: np.ndarray | None, held_out: int | None) -> np.ndarray:
    if fold is None:
        cosine = pairs.cosine()
    else:
        if pairs.embedding is None:
            raise FacebenchError(
                f"{pairs.where}: array 'score' cannot be centred; give 'embedding' (2n, d), or "
                "use convention 'facenet-lfw-angle'"
            )
        rows = pairs.embedding.astype(np.float64)
        rows -= rows[np.repeat(fold != held_out, 2)].mean(axis=0)
        cosine = pair_cosines(rows, unit_rows(Arrays({}, pairs.where), "embedding", rows))
    return np.arccos(np.clip(cosine, -1, 1)) / np.pi


Evaluator = Callable[[Pairs, Iterable[float] | None], dict[str, Value]]

#: Convention name to how it scores pairs of images.
CONVENTIONS: Mapping[str, Evaluator] = MappingProxyType(
    {
        "pooled": _pooled,
        "pooled-nearest": partial(_pooled, tar=tar_at_nearest_far),
        "insightface-10fold": _folded,
        "facenet-lfw": partial(_folded, curve=True),
        "facenet-lfw-angle": partial(_folded, curve=True, angle=True),
        "facenet-lfw-angle-centred": partial(_folded, curve=True, angle=True, centred=True),
    }
)

_N1D1 = Pooling(norm=True, detector=True)
_N1D0 = Pooling(norm=True, detector=False)
_N0D1 = Pooling(norm=False, detector=True)
_N0D0 = Pooling(norm=False, detector=False)

#: Convention name to how templates are pooled and how their pairs are scored.
TEMPLATE_CONVENTIONS: Mapping[str, tuple[Pooling, Evaluator]] = MappingProxyType(
    {
        "ijb-n1d1": (_N1D1, _ijb),
        "ijb-n1d0": (_N1D0, _ijb),
        "ijb-n0d1": (_N0D1, _ijb),
        "ijb-n0d0": (_N0D0, _ijb),
        "ijb-legacy": (_N1D1, _ijb),
        "ijb-legacy-n1d0": (_N1D0, _ijb),
        "ijb-legacy-n0d1": (_N0D1, _ijb),
        "ijb-legacy-n0d0": (_N0D0, _ijb),
        "video-frames-10fold": (Pooling(norm=False, media=False, unit=False), _folded),
        "video-mean-10fold": (Pooling(norm=True, media=False), _folded),
    }
)


def of_images(predictions: Arrays, targets: Arrays) -> Pairs:
    """Pairs of images: ``score`` (n,) or ``embedding`` (2n, d), and ``same`` (n,).

    Raises:
        FacebenchError: an array is missing or malformed.
    """
    given = one_of(predictions, "embedding", "score", "how alike the pairs are")
    same = targets.flags("same", ("n",))
    n = len(same)
    like = f"as 'same' of {targets.where}"
    fold = targets.integers("fold", (n,), "as 'same'") if "fold" in targets else None
    if given == "score":
        values = predictions.numbers("score", (n,), like)
        return Pairs(same, fold, predictions.where, score=values)
    rows = predictions.vectors("embedding", (2 * n, "d"), f"two rows per pair, {like}")
    length = unit_rows(predictions, "embedding", rows)
    return Pairs(same, fold, predictions.where, embedding=rows, length=length)


def of_templates(templates: Templates, targets: Arrays, where: str) -> Pairs:
    """Pairs of templates: ``pairs`` (m, 2) of template numbers, and ``same`` (m,).

    Raises:
        FacebenchError: an array is missing or malformed, or a pair names no template.
    """
    same = targets.flags("same", ("m",))
    m = len(same)
    fold = targets.integers("fold", (m,), "as 'same'") if "fold" in targets else None
    ids = targets.integers("pairs", (m, 2), "as 'same'")
    rows = templates.rows(ids, targets, "pairs")
    release(ids)
    score = pair_scores(templates.vectors, rows[:, 0], rows[:, 1])
    return Pairs(same, fold, where, score=score)


def score_pairs(
    pairs: Pairs, targets: Arrays, evaluate: Evaluator, thresholds: list[float] | None
) -> dict[str, Value]:
    """The numbers of an evaluator; with ``group`` (n,) of each group too, and how they differ.

    Raises:
        FacebenchError: ``group`` is malformed.
        UsageError: a threshold out of range.
    """
    result = evaluate(pairs, thresholds)
    if "group" not in targets:
        return result
    group = targets.take("group", (len(pairs.same),), "as 'same'")
    if group.dtype.kind == "f":
        raise targets.fault("group", f"holds {group.dtype}", "whole numbers or text")
    names = np.unique(group[~_fairness.of_two(group)])
    parts = [evaluate(pairs.only(group == name), thresholds) for name in names]
    for name in [name for name, value in result.items() if not isinstance(value, list)]:
        values: list[float | None] = []
        for part in parts:
            value = part[name]
            assert not isinstance(value, list)
            values.append(value)
        result[f"{name}_per_group"] = values
        if name == "accuracy":
            result |= _fairness.of_accuracies(values)
    fars = [float(name.split("=")[1]) for name in result if _AT.fullmatch(name)]
    return result | _fairness.at_one_threshold(pairs.cosine(), pairs.same, group, fars)


_AT = re.compile(r"(tar|val)@far=[0-9.e-]+")
