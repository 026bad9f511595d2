"""Pairs: error rates of a pooled ROC, and the ten-fold evaluators of the field.

A pooled ROC is never built: two sorted arrays, of the genuine and of the impostor scores, answer
every question by binary search, so time is that of sorting and memory that of one copy.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from facebench.metrics._arrays import SMALL, blocks, release

# Cosines are rounded to this, so that pairs of equal embeddings tie whatever the BLAS does.
DECIMALS = 12


@dataclass(frozen=True)
class Ranked:
    """Scores of genuine and impostor pairs, each sorted ascending; higher means more alike."""

    genuine: np.ndarray
    impostor: np.ndarray


def rank_pairs(score: np.ndarray, same: np.ndarray) -> Ranked:
    """Sorts pair scores (n,) by what `same` (n,) says the pairs are."""
    score = np.asarray(score, np.float64)
    same = np.asarray(same, bool)
    return Ranked(np.sort(score[same]), np.sort(score[~same]))


def _at_least(ascending: np.ndarray, value: float) -> int:
    return len(ascending) - int(np.searchsorted(ascending, value, side="left"))


def _above(ascending: np.ndarray, value: float) -> int:
    return len(ascending) - int(np.searchsorted(ascending, value, side="right"))


def area_under_roc(pairs: Ranked) -> float | None:
    """The chance that a genuine pair scores above an impostor pair, ties counting half.

    The Mann-Whitney statistic, counted in integers; it equals the trapezoid over all distinct
    thresholds. None without a genuine or without an impostor pair.
    """
    genuine, impostor = pairs.genuine, pairs.impostor
    if not len(genuine) or not len(impostor):
        return None
    below = np.searchsorted(impostor, genuine, side="left").astype(np.int64).sum()
    up_to = np.searchsorted(impostor, genuine, side="right").astype(np.int64).sum()
    return (int(below) + int(up_to)) / (2 * len(genuine) * len(impostor))


def equal_error_rate(pairs: Ranked) -> float | None:
    """Where FAR = 1 - TAR on the ROC joined by straight lines, one vertex per distinct score.

    FAR + TAR grows strictly along that line, so the point is unique. None without a genuine or
    without an impostor pair.
    """
    genuine, impostor = pairs.genuine, pairs.impostor
    ng, ni = len(genuine), len(impostor)
    if not ng or not ni:
        return None
    whole = ng * ni  # rates are compared as integers over ng * ni

    def sums_short(value: float) -> bool:
        return _at_least(impostor, value) * ng + _at_least(genuine, value) * ni < whole

    # The highest score at which accepting "score >= value" reaches FAR + TAR >= 1.
    value = max(
        float(scores[index - 1])
        for scores in (genuine, impostor)
        if (
            index := bisect_left(
                range(len(scores)), True, key=lambda i: sums_short(float(scores[i]))
            )
        )
    )
    before = _above(impostor, value)
    after = _at_least(impostor, value)
    sum_before = before * ng + _above(genuine, value) * ni
    sum_after = after * ng + _at_least(genuine, value) * ni
    step = (whole - sum_before) / (sum_after - sum_before)
    return (before + step * (after - before)) / ni


def allowed_impostors(impostors: int, far: float) -> int:
    """The largest number of accepted impostors whose share of all is at most `far`, as written."""
    allowed = min(math.floor(far * impostors), impostors)
    while allowed < impostors and (allowed + 1) / impostors <= far:
        allowed += 1
    while allowed and allowed / impostors > far:
        allowed -= 1
    return allowed


def threshold_at_far(pairs: Ranked, far: float) -> float | None:
    """The lowest score that, accepting what lies strictly above it, keeps FAR <= `far`.

    Minus infinity where every impostor may pass. None without an impostor pair.
    """
    if not len(pairs.impostor):
        return None
    allowed = allowed_impostors(len(pairs.impostor), far)
    if allowed == len(pairs.impostor):
        return -math.inf
    return float(pairs.impostor[len(pairs.impostor) - 1 - allowed])


def tar_at_far(pairs: Ranked, far: float) -> float | None:
    """The highest TAR at a FAR of at most `far`, accepting scores strictly above a threshold.

    Defined for every `far` > 0: below one over the number of impostors no impostor may pass, and
    the value is the share of genuine pairs above the best impostor. None without a genuine or
    without an impostor pair.
    """
    threshold = threshold_at_far(pairs, far)
    if threshold is None or not len(pairs.genuine):
        return None
    return _above(pairs.genuine, threshold) / len(pairs.genuine)


def tar_at_nearest_far(pairs: Ranked, far: float, width: int = 64) -> float | None:
    """The TAR at the vertex of the ROC whose FAR is nearest to `far`, as published IJB tables.

    The ROC has one vertex per distinct score, without those inside a straight run (scikit-learn's
    `roc_curve` with its default `drop_intermediate`). Of two equally near vertices the one with
    the higher FAR counts; the FAR it was read at may exceed the target. None without a genuine
    or without an impostor pair.

    Only vertices around the target are built, `width` impostors on either side, and more until
    there is one of them on either side.
    """
    genuine, impostor = pairs.genuine, pairs.impostor
    ng, ni = len(genuine), len(impostor)
    if not ng or not ni:
        return None
    centre = ni - 1 - min(int(far * ni), ni - 1)
    while True:
        low, high = max(centre - width, 0), min(centre + width, ni - 1)
        width *= 8
        to_bottom, to_top = low == 0, high == ni - 1
        inside = [
            scores[
                0 if to_bottom else np.searchsorted(scores, impostor[low], side="left") :
                len(scores) if to_top else np.searchsorted(scores, impostor[high], side="right")
            ]
            for scores in (genuine, impostor)
        ]  # fmt: skip
        values = np.unique(np.concatenate(inside))[::-1]
        fp = ni - np.searchsorted(impostor, values, side="left")
        tp = ng - np.searchsorted(genuine, values, side="left")
        keep = np.ones(len(values), bool)
        keep[1:-1] = (np.diff(fp, 2) != 0) | (np.diff(tp, 2) != 0)
        keep[0] &= to_top  # whether the outer ones lie inside a straight run is not seen from here
        keep[-1] &= to_bottom
        fp, tp = fp[keep][::-1], tp[keep][::-1]  # from accept-all to accept-none
        if to_top:
            fp, tp = np.append(fp, 0), np.append(tp, 0)
        rate = fp / ni
        if (to_bottom or (rate >= far).any()) and (to_top or (rate <= far).any()):
            return float(tp[np.argmin(np.abs(rate - far))] / ng)


def best_threshold_accuracy(pairs: Ranked) -> float:
    """The accuracy at the threshold that is best on these very pairs: optimistic by design."""
    genuine, impostor = pairs.genuine, pairs.impostor
    total = len(genuine) + len(impostor)
    # A best threshold lies at a genuine score, or rejects every pair.
    accepted = len(genuine) - np.searchsorted(genuine, genuine, side="left")
    wrong = len(impostor) - np.searchsorted(impostor, genuine, side="left")
    right = np.append(accepted - wrong, 0) + len(impostor)
    return float(right.max() / total)


def pair_cosines(embedding: np.ndarray, length: np.ndarray) -> np.ndarray:
    """(n,) cosines of rows 2i and 2i+1 of `embedding` (2n, d), given the rows' lengths (2n,)."""
    result = np.empty(len(embedding) // 2)
    for start, stop in blocks(len(result), 2 * SMALL * embedding.shape[1]):
        rows = embedding[2 * start : 2 * stop].astype(np.float64)
        release(embedding)
        result[start:stop] = np.einsum("ij,ij->i", rows[::2], rows[1::2])
    cosine = np.clip(result / (length[::2] * length[1::2]), -1.0, 1.0)
    return np.round(cosine, DECIMALS)


def pair_squared_distances(embedding: np.ndarray) -> np.ndarray:
    """(n,) squared distances of rows 2i and 2i+1 of `embedding` (2n, d), as they are given."""
    result = np.empty(len(embedding) // 2)
    for start, stop in blocks(len(result), 2 * SMALL * embedding.shape[1]):
        rows = embedding[2 * start : 2 * stop].astype(np.float64)
        release(embedding)
        offset = rows[::2] - rows[1::2]
        result[start:stop] = np.einsum("ij,ij->i", offset, offset)
    return result


def contiguous_folds(n: int, folds: int = 10) -> np.ndarray:
    """(n,) fold numbers: blocks in the order given, the first ``n % folds`` one longer."""
    sizes = np.full(folds, n // folds)
    sizes[: n % folds] += 1
    return np.repeat(np.arange(folds), sizes)


@dataclass(frozen=True)
class FoldResult:
    """What a cross-validated pair evaluator finds, one row per fold.

    Attributes:
        accuracy: (F,) of the held-out fold at the threshold chosen on the others.
        threshold: (F,) that threshold (a distance).
        tar: (F, T) of the held-out fold over the accuracy grid; 0 where it has no genuine pair.
        far: (F, T) likewise for impostor pairs.
        val: far target to ((F,) TAR, (F,) FAR) of the held-out fold; None where a fold or the
            folds beside it lack the pairs to tell.
    """

    accuracy: np.ndarray
    threshold: np.ndarray
    tar: np.ndarray
    far: np.ndarray
    val: dict[float, tuple[np.ndarray | None, np.ndarray | None]]


def cross_validate(
    distance: Callable[[int | None], np.ndarray],
    same: np.ndarray,
    fold: np.ndarray,
    fars: list[float],
    per_fold: bool = False,
) -> FoldResult:
    """The evaluator of FaceNet and insightface on pair distances.

    Accuracy: of the thresholds 0, .01, ... 3.99 the first that is best on the other folds is
    applied to the held-out fold; a pair is accepted if its distance is strictly below it.
    VAL@FAR: on the thresholds 0, .001, ... 3.999, the threshold is interpolated linearly over the
    FAR of the other folds, which is a staircase: of equal FARs the last counts, as in
    `numpy.interp`. Where the other folds never reach the target the threshold is 0.

    Schroff et al. 2015, "FaceNet", section 4; Huang et al. 2007, "Labeled faces in the wild",
    view 2.

    Args:
        distance: gives the (n,) distances of all pairs when fold f is held out.
        same: (n,) bool.
        fold: (n,) fold numbers 0 ... F-1.
        fars: FAR targets.
        per_fold: whether the distances depend on f; if not, `distance` is asked once, for None.

    Returns:
        Everything per fold.
    """
    coarse, fine = np.arange(0, 4, 0.01), np.arange(0, 4, 0.001)
    F = int(fold.max()) + 1
    pairs = np.stack([np.bincount(fold[same == kind], minlength=F) for kind in (False, True)])
    accuracy, threshold = np.empty(F), np.empty(F)
    curves = np.empty((2, F, len(coarse)))
    val: dict[float, list[np.ndarray]] = {far: [] for far in fars}
    for f in range(F):
        if per_fold or f == 0:
            d = distance(f if per_fold else None)
            on_coarse = _accepted(d, same, fold, F, coarse)
            on_fine = _accepted(d, same, fold, F, fine)
        held, others = on_coarse[:, f], on_coarse.sum(axis=1) - on_coarse[:, f]
        train_pairs = pairs.sum(axis=1) - pairs[:, f]
        best = int(np.argmax(others[1] - others[0]))  # right ones, but for a constant
        threshold[f] = coarse[best]
        right = held[1, best] + pairs[0, f] - held[0, best]
        accuracy[f] = right / pairs[:, f].sum()
        curves[:, f] = held / np.maximum(pairs[:, f], 1)[:, None]
        for far in fars:
            at = 0.0
            if train_pairs[0]:
                others_far = (on_fine[0].sum(axis=0) - on_fine[0, f]) / train_pairs[0]
                if others_far.max() >= far:
                    at = float(np.interp(far, others_far, fine))
            passed = (d < at) & (fold == f)
            val[far].append(np.array([(passed & ~same).sum(), (passed & same).sum()]))
    defined = (pairs > 0).all(axis=1) & (pairs[0].sum() > pairs[0]).all()
    rates = {far: np.stack(counts, axis=1) / np.maximum(pairs, 1) for far, counts in val.items()}
    return FoldResult(
        accuracy=accuracy,
        threshold=threshold,
        tar=curves[1],
        far=curves[0],
        val={
            far: (rate[1] if defined[1] else None, rate[0] if defined[0] else None)
            for far, rate in rates.items()
        },
    )


def _accepted(
    distance: np.ndarray, same: np.ndarray, fold: np.ndarray, F: int, grid: np.ndarray
) -> np.ndarray:
    """(2, F, T) impostor and genuine pairs of each fold with a distance below each threshold."""
    first = np.searchsorted(grid, distance, side="right")  # the first threshold above it
    cell = (same.astype(np.int64) * F + fold) * (len(grid) + 1) + first
    count = np.bincount(cell, minlength=2 * F * (len(grid) + 1))
    return count.reshape(2, F, len(grid) + 1).cumsum(axis=2)[..., :-1]


def mean_curve_area(result: FoldResult) -> float:
    """Trapezoid under the mean over folds of the held-out curves: FaceNet's AUC."""
    far, tar = result.far.mean(axis=0), result.tar.mean(axis=0)
    return float(((far[1:] - far[:-1]) * (tar[1:] + tar[:-1]) / 2).sum())


def mean_curve_equal_error(result: FoldResult) -> float | None:
    """Where that mean curve, joined by straight lines, has FAR = 1 - TAR: FaceNet's EER.

    None where the curve ends before, because distances reach beyond the grid.
    """
    far, tar = result.far.mean(axis=0), result.tar.mean(axis=0)
    total = far + tar
    if total[-1] < 1:
        return None
    after = int(np.argmax(total >= 1))
    if after == 0:
        return float(far[0])
    step = (1 - total[after - 1]) / (total[after] - total[after - 1])
    return float(far[after - 1] + step * (far[after] - far[after - 1]))
