"""Every probe against every gallery row, tile by tile: the best scores, never the matrix.

Cosines are screened in float32, at twice the speed of float64, and what could matter is computed
again in float64. Which cosines could matter follows from a bound: a product of unit vectors of d
numbers, rounded to float32 and summed in any order, is off by less than (d + 8) 2^-24 (Higham 2002,
"Accuracy and stability of numerical algorithms", section 3.1), so nothing that a float64 product
would have found is passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from facebench.metrics._arrays import SMALL, Rows, blocks, release
from facebench.metrics._verification import DECIMALS

CHUNK = 8192  # probes that are held ready at once
TILE = (256, 4096)  # probes, gallery rows
_TINY = 1e-12  # the length of a float32 vector whose products are far from the smallest number


class Similarity(Protocol):
    """Scores of probes and gallery rows, higher meaning more alike.

    `probes` and then `gallery` make rows ready; afterwards rows are asked for by their places
    among them.
    """

    shape: tuple[int, int]
    slack: float

    def probes(self, rows: np.ndarray) -> None:
        """Makes probes ready."""

    def gallery(self, rows: np.ndarray) -> None:
        """Makes gallery rows ready."""

    def screen(self, probes: slice) -> np.ndarray:
        """Scores (r, c) of some probes and all ready gallery rows, off by up to `slack`; fresh."""

    def table(self, probes: np.ndarray) -> np.ndarray:
        """Exact scores (r, c), float64."""

    def exact(self, probes: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Exact scores (n,) of probe i and gallery row i, float64."""


class Matrix:
    """Scores that are given, (p, g)."""

    slack = 0.0

    def __init__(self, matrix: np.ndarray) -> None:
        self.matrix = matrix
        self.shape = matrix.shape

    def probes(self, rows: np.ndarray) -> None:
        self._rows = rows

    def gallery(self, rows: np.ndarray) -> None:
        self._columns = rows
        release(self.matrix)

    def screen(self, probes: slice) -> np.ndarray:
        return self.table(np.arange(probes.start, probes.stop))

    def table(self, probes: np.ndarray) -> np.ndarray:
        return self.matrix[np.ix_(self._rows[probes], self._columns)].astype(np.float64)

    def exact(self, probes: np.ndarray, columns: np.ndarray) -> np.ndarray:
        return self.matrix[self._rows[probes], self._columns[columns]].astype(np.float64)


class Cosines:
    """Cosines of `probe` (p, d) and `gallery` (g, d), to `DECIMALS`."""

    def __init__(self, probe: Rows, gallery: Rows) -> None:
        self._sides = probe, gallery
        self.shape = len(probe.array), len(gallery.array)
        self.slack = (probe.array.shape[1] + 8) * 2.0**-24 * 1.001 + 10.0**-DECIMALS

    def probes(self, rows: np.ndarray) -> None:
        part, length = self._sides[0].take(rows)
        self._probe = part / length[:, None]
        self._probe32 = self._probe.astype(np.float32)

    def gallery(self, rows: np.ndarray) -> None:
        self._part, self._length = self._sides[1].take(rows)
        short, long = self._length.min(), self._length.max()
        self._scale = None
        if self._part.dtype == np.float32 and short > _TINY and long < 1 / _TINY:
            self._gallery32 = self._part  # whose products are scaled: fewer numbers than it has
            self._scale = (1 / self._length).astype(np.float32)
        else:
            self._gallery32 = self._unit(self._part, self._length).astype(np.float32)

    @staticmethod
    def _unit(part: np.ndarray, length: np.ndarray) -> np.ndarray:
        return part.astype(np.float64) / length[:, None]

    def screen(self, probes: slice) -> np.ndarray:
        found = self._probe32[probes] @ self._gallery32.T
        if self._scale is not None:
            found *= self._scale
        return found

    def table(self, probes: np.ndarray) -> np.ndarray:
        return np.round(self._probe[probes] @ self._unit(self._part, self._length).T, DECIMALS)

    def exact(self, probes: np.ndarray, columns: np.ndarray) -> np.ndarray:
        found = np.empty(len(probes))
        for start, stop in blocks(len(probes), 2 * SMALL * self._probe.shape[1]):
            at = columns[start:stop]
            right = self._unit(self._part[at], self._length[at])
            found[start:stop] = np.einsum("ij,ij->i", self._probe[probes[start:stop]], right)
        return np.round(found, DECIMALS)


@dataclass(frozen=True)
class Search:
    """The outcome of every probe's search; g gallery rows, of which an identity may own several.

    Attributes:
        mate: (p,) highest score of a row of the same identity; -inf if the probe has none.
        mates: (p,) how many rows of the same identity there are.
        best: (p, k) the highest scores of other rows, descending; -inf where there are fewer.
        highest: the highest scores of all pairs of a probe and another row, descending.
    """

    mate: np.ndarray
    mates: np.ndarray
    best: np.ndarray
    highest: np.ndarray

    @property
    def mated(self) -> np.ndarray:
        """(p,) whether the probe's identity is in the gallery."""
        return self.mates > 0

    @property
    def other(self) -> np.ndarray:
        """(p,) highest score of another row; -inf if there is none."""
        return self.best[:, 0]

    @property
    def position(self) -> np.ndarray:
        """(p,) where the first mate comes, from 1; k + 1 means anywhere behind place k.

        Rows of others with a score of at least the mate's come before it: ties count against the
        probe.
        """
        return 1 + (self.best >= self.mate[:, None]).sum(axis=1)


def search(
    similarity: Similarity,
    probe_identity: np.ndarray,
    gallery_identity: np.ndarray,
    depth: int = 1,
    highest: int = 0,
    rows: np.ndarray | None = None,
) -> Search:
    """Searches every probe in the gallery, in memory of a few tiles of the score matrix.

    Args:
        similarity: scores of p probes and g gallery rows.
        probe_identity: (p,) identities; negative: none.
        gallery_identity: (g,) likewise.
        depth: how many of the best other rows are kept of each probe.
        highest: how many of the highest scores of all are kept.
        rows: the gallery rows that are searched, ascending; None for all.

    Returns:
        What rank-k, TPIR and their like are read from, in the order of the probes.
    """
    p, g = similarity.shape
    columns = np.arange(g) if rows is None else rows
    mate, best = np.full(p, -np.inf), np.full((p, depth), -np.inf)
    mates, top = np.zeros(p, np.int64), _Highest(highest)
    for first in range(0, p, CHUNK):
        chunk = np.arange(first, min(first + CHUNK, p))
        similarity.probes(chunk)
        for start in range(0, len(columns), TILE[1]):
            block = columns[start : start + TILE[1]]
            similarity.gallery(block)
            held = _Held(gallery_identity[block])
            for begin in range(0, len(chunk), TILE[0]):
                tile = slice(begin, min(begin + TILE[0], len(chunk)))
                within = slice(first + tile.start, first + tile.stop)
                values = similarity.screen(tile)
                own = held.mates(probe_identity[within])
                if own is not None:
                    _mates(similarity, tile, own, values, mate[within], mates[within])
                most = values.max(axis=1)
                _best(similarity, tile, values, most, best[within])
                top.add(similarity, tile, values, most)
    return Search(mate, mates, best, top.values())


class _Held:
    """The identities of a block of gallery rows."""

    def __init__(self, identity: np.ndarray) -> None:
        self.order = np.argsort(identity, kind="stable")
        self.sorted = identity[self.order]

    def mates(self, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Places of probes and of rows of one identity; None if there are none."""
        low = np.searchsorted(self.sorted, wanted, side="left")
        count = np.searchsorted(self.sorted, wanted, side="right") - low
        count[wanted < 0] = 0
        if not count.any():
            return None
        probes = np.repeat(np.arange(len(wanted)), count)
        place = np.arange(len(probes)) - np.repeat(np.cumsum(count) - count, count)
        return probes, self.order[np.repeat(low, count) + place]


def _mates(
    similarity: Similarity,
    tile: slice,
    own: tuple[np.ndarray, np.ndarray],
    values: np.ndarray,
    mate: np.ndarray,
    mates: np.ndarray,
) -> None:
    """Takes the mates out of a tile."""
    probes, columns = own
    if len(probes) > values.size // 8:
        found = similarity.table(np.arange(tile.start, tile.stop))[probes, columns]
    else:
        found = similarity.exact(tile.start + probes, columns)
    np.maximum.at(mate, probes, found)
    mates += np.bincount(probes, minlength=len(mates))
    values[probes, columns] = -np.inf


def _candidates(
    similarity: Similarity, tile: slice, values: np.ndarray, rows: np.ndarray, floor: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Exact scores of `rows` of a tile that may be `floor` (r,) or more.

    Yields:
        Rows (n,), counted in `rows` and ascending, and their scores (n,); some may be lower.
    """
    part = values[rows]
    some = (part >= (floor - similarity.slack)[:, None]) & (part > -np.inf)
    row, column = np.nonzero(some)
    if len(row) > part.size // 8:
        yield row, similarity.table(tile.start + rows)[row, column]
    elif len(row):
        yield row, similarity.exact(tile.start + rows[row], column)


def _best(
    similarity: Similarity, tile: slice, values: np.ndarray, most: np.ndarray, best: np.ndarray
) -> None:
    """Merges a tile into the best scores (r, k) of its probes."""
    k = best.shape[1]
    rows = np.flatnonzero((most >= best[:, -1] - similarity.slack) & (most > -np.inf))
    if not len(rows):
        return
    floor = best[rows, -1]
    empty = np.flatnonzero(floor == -np.inf)
    if len(empty) and values.shape[1] > k:
        # No exact score is further than the slack from the screened one, so k of them are at
        # least the k-th screened one less the slack.
        kth = np.partition(values[rows[empty]], -k, axis=1)[:, -k]
        floor[empty] = kth.astype(np.float64) - similarity.slack
    for row, found in _candidates(similarity, tile, values, rows, floor):
        count = np.bincount(row, minlength=len(rows))
        place = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
        wide = np.full((len(rows), k + int(count.max())), -np.inf)
        wide[:, :k] = best[rows]
        wide[row, k + place] = found
        wide.partition(wide.shape[1] - k, axis=1)
        best[rows] = np.sort(wide[:, -k:], axis=1)[:, ::-1]


class _Highest:
    """The `count` highest scores of all that were added."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.floor = -np.inf
        self.kept: list[np.ndarray] = []
        self.size = 0

    def add(
        self, similarity: Similarity, tile: slice, values: np.ndarray, most: np.ndarray
    ) -> None:
        if not self.count:
            return
        floor = self.floor
        if floor == -np.inf and values.size > self.count:
            kth = np.partition(values, values.size - self.count, axis=None)
            floor = float(kth[values.size - self.count]) - similarity.slack
        rows = np.flatnonzero((most >= floor - similarity.slack) & (most > -np.inf))
        if not len(rows):
            return
        limit = np.full(len(rows), floor)
        for _, found in _candidates(similarity, tile, values, rows, limit):
            found = found[found >= self.floor]
            self.kept.append(found)
            self.size += len(found)
        if self.size > 2 * self.count + values.size:
            self.values()

    def values(self) -> np.ndarray:
        every = np.concatenate(self.kept) if self.kept else np.empty(0)
        if len(every) > self.count:
            every = np.partition(every, len(every) - self.count)[len(every) - self.count :]
        self.kept, self.size = [every], len(every)
        if self.count and len(every) == self.count:
            self.floor = float(every.min())
        return np.sort(every)[::-1]
