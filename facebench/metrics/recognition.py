"""Recognition: are two faces one person (pairs), and who is this (identification).

Pairs. Predictions hold ``embedding`` (2n, d), pair i being rows 2i and 2i+1, or ``score`` (n,),
higher meaning more alike; targets hold ``same`` (n,), and may hold ``fold`` (n,) and ``group``
(n,). Identification. Predictions hold ``probe`` (p, d) and ``gallery`` (g, d), compared by cosine,
or ``similarity`` (p, g); targets hold ``probe_identity`` (p,) and ``gallery_identity`` (g,), -1 for
none. Several gallery rows may share an identity. Whatever is there is scored into one flat dict.

Conventions, which say how pairs are scored (identification has one way):

* ``pooled``: all pairs on one ROC of the cosines or scores. ``eer``, ``auc``, ``tar@far=``
  (conservative: the highest TAR with FAR <= the target) and ``accuracy_best_threshold``, whose
  threshold is chosen on the scored pairs themselves: an optimistic number, and named so.
* ``pooled-nearest``: the same with ``tar@far=`` read where FAR is nearest to the target, as in
  published IJB tables.
* ``insightface-10fold``: ten contiguous folds (or ``fold``), threshold from the other nine,
  squared distances of unit embeddings or 2 - 2 score.
* ``facenet-lfw``: the same, with FaceNet's ``auc`` and ``eer`` of the mean held-out curve;
  ``facenet-lfw-angle``: on angles over pi; ``facenet-lfw-angle-centred``: on angles after
  subtracting the mean embedding of the other folds.

With ``group``, every number of the convention is also computed within each group, with that
group's own thresholds, as ``NAME_per_group`` in the sorted order of the group values.

A metric that has no value on an input (no impostor pair, no mated probe) is None. ``tpir@fpir=``
stands only where the targets hold unmated probes.

Sources: Huang et al. 2007, "Labeled faces in the wild"; Schroff et al. 2015, "FaceNet", section 4;
Deng et al. 2019, "ArcFace", section 3; Grother et al., FRVT 1:N, section on open-set accuracy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import numpy as np

from facebench.errors import FacebenchError, UsageError, nearest
from facebench.metrics._arrays import Arrays, Value, levels, plain, scientific, unit_rows
from facebench.metrics._identification import (
    Search,
    Similarity,
    cosine_similarity,
    rank_k,
    search,
    tpir_at_fpir,
)
from facebench.metrics._parts import Parts, ratio
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
FPIRS = (0.01, 0.1)
RANKS = (1, 5)

#: Head of a metric's name to (unit, higher is better, range, meaning).
METRICS: Mapping[str, tuple[str, bool | None, tuple[float, float | None], str]] = MappingProxyType(
    {
        "eer": ("fraction", False, (0, 1), "equal error rate"),
        "auc": ("fraction", True, (0, 1), "area under the ROC"),
        "tar@far=": ("fraction", True, (0, 1), "true accepts at this false accept rate"),
        "accuracy_best_threshold": (
            "fraction",
            True,
            (0, 1),
            "accuracy at the threshold that is best on the scored pairs (optimistic)",
        ),
        "accuracy": ("fraction", True, (0, 1), "mean accuracy of held-out folds"),
        "accuracy_std": (
            "fraction",
            None,
            (0, 0.5),
            "population standard deviation of that accuracy over folds",
        ),
        "val@far=": ("fraction", True, (0, 1), "mean true accepts of held-out folds"),
        "val_std@far=": (
            "fraction",
            None,
            (0, 0.5),
            "population standard deviation of those true accepts over folds",
        ),
        "far@far=": (
            "fraction",
            None,
            (0, 1),
            "mean false accepts of held-out folds at the threshold for this target",
        ),
        "rank@": ("fraction", True, (0, 1), "mated probes with a mate among the k best rows"),
        "tpir@fpir=": (
            "fraction",
            True,
            (0, 1),
            "mated probes found at rank 1 above the threshold for this rate of unmated probes",
        ),
    }
)
AXES = ("fold", "group")


@dataclass(frozen=True)
class _Pairs:
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

    def only(self, rows: np.ndarray) -> _Pairs:
        """The pairs that a mask (n,) keeps."""
        both = np.repeat(rows, 2)
        return _Pairs(
            self.same[rows],
            None if self.fold is None else self.fold[rows],
            self.where,
            None if self.score is None else self.score[rows],
            None if self.embedding is None else self.embedding[both],
            None if self.length is None else self.length[both],
        )


def _pooled(
    pairs: _Pairs,
    thresholds: Iterable[float] | None,
    tar: Callable[[Ranked, float], float | None] = tar_at_far,
) -> dict[str, Value]:
    fars = levels(thresholds, FARS, 1, "a false accept rate, above 0 and up to 1")
    ranked = rank_pairs(pairs.cosine(), pairs.same)
    return {
        "eer": equal_error_rate(ranked),
        "auc": area_under_roc(ranked),
        "accuracy_best_threshold": best_threshold_accuracy(ranked),
        **{f"tar@far={scientific(far)}": tar(ranked, far) for far in fars},
    }


def _folded(
    pairs: _Pairs,
    thresholds: Iterable[float] | None,
    angle: bool = False,
    centred: bool = False,
    curve: bool = False,
) -> dict[str, Value]:
    fars = levels(thresholds, FOLD_FARS, 1, "a false accept rate, above 0 and up to 1")
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


def _folds(pairs: _Pairs) -> np.ndarray:
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


def _squared(pairs: _Pairs, held_out: int | None) -> np.ndarray:
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


def _angles(pairs: _Pairs, fold: np.ndarray | None, held_out: int | None) -> np.ndarray:
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


#: Convention name to how it scores pairs.
CONVENTIONS: Mapping[str, Callable[[_Pairs, Iterable[float] | None], dict[str, Value]]] = (
    MappingProxyType(
        {
            "pooled": _pooled,
            "pooled-nearest": partial(_pooled, tar=tar_at_nearest_far),
            "insightface-10fold": _folded,
            "facenet-lfw": partial(_folded, curve=True),
            "facenet-lfw-angle": partial(_folded, curve=True, angle=True),
            "facenet-lfw-angle-centred": partial(_folded, curve=True, angle=True, centred=True),
        }
    )
)


def score(
    predictions: Arrays,
    targets: Arrays,
    convention: str | None = None,
    thresholds: Iterable[float] | None = None,
) -> dict[str, Value]:
    """Scores pairs, identification or both; see the module's text for arrays and conventions.

    Args:
        predictions: ``embedding`` or ``score``, and / or ``probe`` and ``gallery``, or
            ``similarity``.
        targets: ``same`` and / or ``probe_identity`` and ``gallery_identity``.
        convention: a key of `CONVENTIONS`; without it ``pooled``.
        thresholds: false accept rates in (0, 1]: FAR for pairs, FPIR for identification; without
            them 1e-1 ... 1e-4 (pooled), 1e-3 (ten folds), 0.01 and 0.1 (FPIR).

    Returns:
        Metric name to number in [0, 1], None where it has no value, lists under ``*_per_*``.

    Raises:
        FacebenchError: an array is missing, malformed, not finite or without its counterpart.
        UsageError: no such convention, or a threshold out of range.
    """
    convention = "pooled" if convention is None else convention
    if convention not in CONVENTIONS:
        raise UsageError(
            f"recognition has no convention {convention!r}: {nearest(convention, CONVENTIONS)}"
        )
    thresholds = None if thresholds is None else list(thresholds)
    by_pair = any(name in predictions for name in ("embedding", "score")) or "same" in targets
    searched = any(name in predictions for name in ("probe", "gallery", "similarity")) or any(
        name in targets for name in ("probe_identity", "gallery_identity")
    )
    if not by_pair and not searched:
        raise FacebenchError(
            f"{predictions.where}: found {', '.join(sorted(predictions.arrays)) or 'no arrays'}; "
            "expected pairs ('embedding' or 'score') or identification ('probe' and 'gallery', "
            "or 'similarity')"
        )
    result: dict[str, Value] = {}
    if by_pair:
        result |= _score_pairs(predictions, targets, convention, thresholds)
    if searched:
        result |= _score_searches(predictions, targets, thresholds)
    return result


def _one_of(source: Arrays, first: str, second: str, what: str) -> str:
    if first in source and second in source:
        raise FacebenchError(
            f"{source.where}: both {first!r} and {second!r} are given; expected one of them, "
            f"since each alone says {what}"
        )
    if first not in source and second not in source:
        raise FacebenchError(
            f"{source.where}: neither {first!r} nor {second!r} is given; expected one of them, "
            f"to say {what}; found {', '.join(sorted(source.arrays)) or 'no arrays'}"
        )
    return first if first in source else second


def _score_pairs(
    predictions: Arrays,
    targets: Arrays,
    convention: str,
    thresholds: list[float] | None,
) -> dict[str, Value]:
    given = _one_of(predictions, "embedding", "score", "how alike the pairs are")
    same = targets.flags("same", ("n",))
    n = len(same)
    like = f"as 'same' of {targets.where}"
    fold = targets.integers("fold", (n,), "as 'same'") if "fold" in targets else None
    if given == "score":
        values = predictions.numbers("score", (n,), like)
        pairs = _Pairs(same, fold, predictions.where, score=values)
    else:
        rows = predictions.numbers("embedding", (2 * n, "d"), f"two rows per pair, {like}", True)
        length = unit_rows(predictions, "embedding", rows)
        pairs = _Pairs(same, fold, predictions.where, embedding=rows, length=length)
    evaluate = CONVENTIONS[convention]
    result = evaluate(pairs, thresholds)
    if "group" in targets:
        group = targets.take("group", (n,), "as 'same'")
        if group.dtype.kind == "f":
            raise targets.fault("group", f"holds {group.dtype}", "whole numbers or text")
        parts = [evaluate(pairs.only(group == name), thresholds) for name in np.unique(group)]
        for name in [name for name, value in result.items() if not isinstance(value, list)]:
            values_per_group: list[float | None] = []
            for part in parts:
                value = part[name]
                assert not isinstance(value, list)
                values_per_group.append(value)
            result[f"{name}_per_group"] = values_per_group
    return result


def _tile(matrix: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    return matrix[np.ix_(rows, columns)].astype(np.float64)


def _score_searches(
    predictions: Arrays, targets: Arrays, thresholds: list[float] | None
) -> dict[str, Value]:
    fpirs = levels(thresholds, FPIRS, 1, "a false positive rate, above 0 and up to 1")
    found, _ = _searched(predictions, targets)
    result: dict[str, Value] = {f"rank@{k}": rank_k(found, k) for k in RANKS}
    if not found.mated.all():
        for fpir in fpirs:
            result[f"tpir@fpir={plain(fpir)}"] = tpir_at_fpir(found, fpir)
    return result


def parts(predictions: Arrays, targets: Arrays, convention: str | None = None) -> dict[str, Parts]:
    """What ``rank@`` is made of: probes, which belong to identities.

    A threshold that is read off all pairs or all unmated probes is no function of sums over
    samples, and a pair belongs to two people: ``eer``, ``auc``, ``tar@far=``, ``tpir@fpir=`` and
    the accuracies of folds have no parts.
    """
    del convention  # identification has one way
    if "probe_identity" not in targets:
        return {}
    found, identity = _searched(predictions, targets)
    unit = np.unique(identity[found.mated], return_inverse=True)[1].astype(np.int64)
    if not len(unit):
        return {}
    position, one = found.position[found.mated], np.ones(len(unit), np.int64)
    return {f"rank@{k}": ratio(position <= k, one, 1, unit, "identity") for k in RANKS}


def _searched(predictions: Arrays, targets: Arrays) -> tuple[Search, np.ndarray]:
    """The outcome of every probe's search and the probes' identities."""
    probe_identity = targets.integers("probe_identity", ("p",))
    gallery_identity = targets.integers("gallery_identity", ("g",))
    for name, identity in (
        ("probe_identity", probe_identity),
        ("gallery_identity", gallery_identity),
    ):
        if (low := int(identity.min())) < -1:
            raise targets.fault(name, f"holds {low}", "identities from 0, or -1 for none")
    p, g = len(probe_identity), len(gallery_identity)
    first = "probe" if "probe" in predictions else "gallery"
    given = _one_of(predictions, first, "similarity", "how alike probes and gallery are")
    if given == "similarity":
        matrix = predictions.numbers(
            "similarity", (p, g), f"probes x gallery of {targets.where}", True
        )
        similarity: Similarity = partial(_tile, matrix)
    else:
        like = f"of {targets.where}"
        probe = predictions.numbers("probe", (p, "d"), f"as 'probe_identity' {like}", True)
        gallery = predictions.numbers(
            "gallery", (g, probe.shape[1]), f"as 'gallery_identity' {like} and 'probe'", True
        )
        lengths = [
            unit_rows(predictions, name, rows)
            for name, rows in (("probe", probe), ("gallery", gallery))
        ]
        similarity = cosine_similarity(probe, gallery, *lengths)
    return search(similarity, probe_identity, gallery_identity), probe_identity
