"""One probe against a gallery: rank-k and TPIR at FPIR, tile by tile of their similarities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from facebench.metrics._verification import DECIMALS

#: Gives the similarities (r, c) of probes `rows` (r,) to gallery rows `columns` (c,).
Similarity = Callable[[np.ndarray, np.ndarray], np.ndarray]

_TILE = (512, 4096)


@dataclass(frozen=True)
class Search:
    """The outcome of every probe's search; g gallery rows, of which an identity may own several.

    Attributes:
        mated: (p,) whether the probe's identity is in the gallery.
        mate: (p,) highest similarity to a row of the same identity; -inf if unmated.
        other: (p,) highest similarity to any other row; -inf if there is none.
        position: (p,) how many gallery rows come first: 1 + the number of rows of others with a
            similarity of at least `mate`, so ties count against the probe. Unmated: undefined.
    """

    mated: np.ndarray
    mate: np.ndarray
    other: np.ndarray
    position: np.ndarray


def cosine_similarity(
    probe: np.ndarray, gallery: np.ndarray, probe_length: np.ndarray, gallery_length: np.ndarray
) -> Similarity:
    """Cosines of `probe` (p, d) rows and `gallery` (g, d) rows, computed when asked for."""

    def tile(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        left = probe[rows].astype(np.float64) / probe_length[rows, None]
        right = gallery[columns].astype(np.float64) / gallery_length[columns, None]
        return np.round(left @ right.T, DECIMALS)

    return tile


def search(
    similarity: Similarity, probe_identity: np.ndarray, gallery_identity: np.ndarray
) -> Search:
    """Searches every probe in the gallery, in memory of one tile of the similarity matrix.

    Args:
        similarity: gives tiles of the (p, g) similarity matrix; higher means more alike.
        probe_identity: (p,) identities; negative: none.
        gallery_identity: (g,) likewise.

    Returns:
        What rank-k and TPIR are read from, in the order of the probes.
    """
    p, g = len(probe_identity), len(gallery_identity)
    mate, other = np.full(p, -np.inf), np.full(p, -np.inf)
    position = np.ones(p, np.int64)
    # In the order of identities the mates lie in few tiles, so looking them up first is cheap.
    probes = np.argsort(probe_identity, kind="stable")
    gallery = np.argsort(gallery_identity, kind="stable")

    def own(rows: np.ndarray, columns: np.ndarray) -> np.ndarray | None:
        wanted, held = probe_identity[rows], gallery_identity[columns]
        if wanted[-1] < max(0, held[0]) or held[-1] < max(0, wanted[0]):
            return None
        mask = (wanted[:, None] == held) & (wanted[:, None] >= 0)
        return mask if mask.any() else None

    for first in range(0, p, _TILE[0]):
        rows = probes[first : first + _TILE[0]]
        tiles = [gallery[start : start + _TILE[1]] for start in range(0, g, _TILE[1])]
        for columns in tiles:
            if (mask := own(rows, columns)) is not None:
                best = np.where(mask, similarity(rows, columns), -np.inf).max(axis=1)
                mate[rows] = np.maximum(mate[rows], best)
        for columns in tiles:
            values = similarity(rows, columns)
            if (mask := own(rows, columns)) is not None:
                values = np.where(mask, -np.inf, values)
            other[rows] = np.maximum(other[rows], values.max(axis=1))
            position[rows] += (values >= mate[rows, None]).sum(axis=1)
    return Search(mate > -np.inf, mate, other, position)


def rank_k(result: Search, k: int) -> float | None:
    """The share of mated probes with a mate among the k best gallery rows, ties pessimistic.

    A constant similarity scores 0 unless k reaches past every row of another identity. None if
    no probe has a mate. (Phillips et al. 2011, "Evaluation methods in face recognition".)
    """
    if not result.mated.any():
        return None
    return float((result.position[result.mated] <= k).mean())


def tpir_at_fpir(result: Search, fpir: float) -> float | None:
    """The share of mated probes found at rank 1 and above the threshold that `fpir` allows.

    The threshold is the highest similarity of the unmated probe at place ``int(n * fpir)``
    (from 1, at least the first) of the n unmated ones, sorted descending; a mate must be
    strictly above it and strictly above every other row (NIST IJB open-set search, as
    insightface's `evaluation_1N` reads it). None without mated or without unmated probes.
    """
    unmated = np.sort(result.other[~result.mated])[::-1]
    if not len(unmated) or not result.mated.any():
        return None
    threshold = unmated[max(int(len(unmated) * fpir) - 1, 0)]
    mate, other = result.mate[result.mated], result.other[result.mated]
    return float(((mate > other) & (mate > threshold)).mean())
