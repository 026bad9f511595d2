"""The evaluators that the field runs, written from their descriptions: loop by loop, as they work.

`benchmarks/evaluators.py` measures against them; their numbers are those that ours must equal.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np


def folds(n: int, k: int = 10) -> list[tuple[np.ndarray, np.ndarray]]:
    """Train and test indices of contiguous folds."""
    every, parts = np.arange(n), np.array_split(np.arange(n), k)
    return [(np.setdiff1d(every, part), part) for part in parts]


def ten_folds(embedding: np.ndarray, same: np.ndarray) -> dict[str, float]:
    """The pair evaluator of insightface: every threshold on every fold, one after the other."""

    def accuracy(threshold: float, distance: np.ndarray, same: np.ndarray) -> tuple:
        said = np.less(distance, threshold)
        tp = np.sum(np.logical_and(said, same))
        fp = np.sum(np.logical_and(said, np.logical_not(same)))
        tn = np.sum(np.logical_and(np.logical_not(said), np.logical_not(same)))
        fn = np.sum(np.logical_and(np.logical_not(said), same))
        tpr = 0 if tp + fn == 0 else float(tp) / float(tp + fn)
        fpr = 0 if fp + tn == 0 else float(fp) / float(fp + tn)
        return tpr, fpr, float(tp + tn) / distance.size

    def val_far(threshold: float, distance: np.ndarray, same: np.ndarray) -> tuple:
        said = np.less(distance, threshold)
        true = np.sum(np.logical_and(said, same))
        false = np.sum(np.logical_and(said, np.logical_not(same)))
        return float(true) / np.sum(same), float(false) / np.sum(np.logical_not(same))

    first, second = embedding[0::2], embedding[1::2]
    distance = np.sum(np.square(np.subtract(first, second)), 1)
    coarse, fine = np.arange(0, 4, 0.01), np.arange(0, 4, 0.001)
    found = np.zeros(10)
    curve = np.zeros((10, len(coarse), 2))
    for f, (train, test) in enumerate(folds(len(same))):
        right = np.zeros(len(coarse))
        for i, t in enumerate(coarse):
            _, _, right[i] = accuracy(t, distance[train], same[train])
        best = np.argmax(right)
        for i, t in enumerate(coarse):
            *curve[f, i], _ = accuracy(t, distance[test], same[test])
        _, _, found[f] = accuracy(coarse[best], distance[test], same[test])
    distance = np.sum(np.square(np.subtract(first, second)), 1)
    val, far = np.zeros(10), np.zeros(10)
    for f, (train, test) in enumerate(folds(len(same))):
        reached = np.zeros(len(fine))
        for i, t in enumerate(fine):
            _, reached[i] = val_far(t, distance[train], same[train])
        at = np.interp(1e-3, reached, fine) if np.max(reached) >= 1e-3 else 0.0
        val[f], far[f] = val_far(at, distance[test], same[test])
    return {
        "accuracy": float(found.mean()),
        "accuracy_std": float(found.std()),
        "val@far=1e-3": float(val.mean()),
        "val_std@far=1e-3": float(val.std()),
        "far@far=1e-3": float(far.mean()),
    }


def roc_curve(same: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's, with its default of dropping points inside straight runs."""
    order = np.argsort(score, kind="mergesort")[::-1]
    score, same = score[order], same[order]
    last = np.r_[np.where(np.diff(score))[0], same.size - 1]
    tps = np.cumsum(same, dtype=np.float64)[last]
    fps = 1 + last - tps
    if len(fps) > 2:
        bend = np.where(np.r_[True, np.logical_or(np.diff(fps, 2), np.diff(tps, 2)), True])[0]
        fps, tps = fps[bend], tps[bend]
    fps, tps = np.r_[0, fps], np.r_[0, tps]
    return fps / fps[-1], tps / tps[-1]


def ijb(predictions: Path, targets: Path) -> dict[str, float]:
    """The IJB 1:1 evaluation of insightface, N1 D1 F1."""
    sides = [
        np.load(predictions / f"{name}.npy", mmap_mode="r")
        for name in ("embedding", "embedding_flipped")
    ]
    n, d = sides[0].shape
    both = np.empty((n, 2 * d), np.float32)  # a network's output for each image and its flip
    for start in range(0, n, 1000):
        for k, side in enumerate(sides):
            both[start : start + 1000, k * d : (k + 1) * d] = side[start : start + 1000]
    del sides, side
    detector = np.load(predictions / "detector_score.npy").astype(np.float32)
    template, media = (np.load(targets / f"{name}.npy") for name in ("template", "media"))
    pairs, same = np.load(targets / "pairs.npy"), np.load(targets / "same.npy")
    features = both[:, :d] + both[:, d:]
    features = features * detector[:, np.newaxis]
    names = np.unique(template)
    pooled = np.zeros((len(names), d))
    for i, name in enumerate(names):
        (rows,) = np.where(template == name)
        own, kinds = features[rows], media[rows]
        parts = []
        for medium, count in zip(*np.unique(kinds, return_counts=True), strict=True):
            (within,) = np.where(kinds == medium)
            if count == 1:
                parts += [own[within]]
            else:
                parts += [np.mean(own[within], axis=0, keepdims=True)]
        pooled[i] = np.sum(np.array(parts).reshape(-1, d), axis=0)
    unit = pooled / np.sqrt((pooled**2).sum(axis=1, keepdims=True))
    place = np.zeros((max(template) + 1, 1), dtype=int)
    for i, name in enumerate(names):
        place[name] = i
    p1, p2 = pairs[:, 0].copy(), pairs[:, 1].copy()
    score, every, batch = np.zeros(len(p1)), np.arange(len(p1)), 100_000
    for start in range(0, len(p1), batch):
        s = every[start : start + batch]
        left, right = unit[place[p1[s]]], unit[place[p2[s]]]
        score[s] = np.sum(left * right, -1).flatten()
    fpr, tpr = roc_curve(same, score)
    area = float(np.trapezoid(tpr, fpr))
    fpr, tpr = np.flipud(fpr), np.flipud(tpr)
    result = {"auc": area}
    for far in (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1):
        at = int(np.argmin(np.abs(fpr - far)))
        result[f"tar@far={far:.0e}".replace("e-0", "e-")] = float(tpr[at])
    return result


def search(predictions: Path, targets: Path) -> dict[str, float]:
    """The open-set 1:N evaluation of insightface: the whole matrix, each row sorted."""
    probe, gallery = (np.load(predictions / f"{name}.npy") for name in ("probe", "gallery"))
    who = np.load(targets / "probe_identity.npy")
    held = np.load(targets / "gallery_identity.npy")
    similarity = np.dot(probe, gallery.T)
    known = set(held.tolist())
    mated, unmated, position, hits = 0, [], [], []
    for i, identity in enumerate(who.tolist()):
        if identity not in known:
            unmated.append(similarity[i].max())
            continue
        order = np.argsort(similarity[i])[::-1]
        place = int(np.argmax(held[order] == identity))
        score = similarity[i][order[place]]
        mated += 1
        position.append(place)
        hits.append((score, place == 0))
    unmated = np.sort(np.array(unmated))[::-1]
    result = {f"rank@{k}": float(np.mean(np.array(position) < k)) for k in (1, 5, 10, 20)}
    for rate in (0.01, 0.1):
        threshold = unmated[max(int(len(unmated) * rate) - 1, 0)]
        result[f"tpir@fpir={rate:g}"] = sum(s > threshold and first for s, first in hits) / mated
    return result
