"""Templates: many images of a person pooled into one vector, and scores of pairs of them.

A row's feature is f = e + e', the raw sum of the image's embedding and, where it is given, that of
the flipped image. With ``norm`` (of networks that return unit vectors and lengths apart) e is
multiplied by its length first, e' by ``norm_flipped``. Then, in this order:

1. N1 keeps f as it is; N0 divides it by its length.
2. D1 multiplies it by the detector's score of the image; D0 does not.
3. Rows of one template and one medium (a video's frames) are averaged.
4. The media of a template are added, without normalising each.
5. The template is divided by its length.

A template is a weighted sum of rows, so one pass over the rows makes all of them. Pairs are scored
by products of blocks of templates where most of a block is asked for, as in IJB, where each gallery
template meets each of a thousand others, and one by one where not.

Sources: Maze et al. 2018, "IARPA Janus Benchmark-C: face dataset and protocol"; Whitelam et al.
2017, "IARPA Janus Benchmark-B face dataset"; Wolf et al. 2011, "Face recognition in unconstrained
videos with matched background similarity".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from facebench.errors import FacebenchError
from facebench.metrics._arrays import Arrays, blocks, no_direction, release
from facebench.metrics._verification import DECIMALS

_ROWS = 256  # rows that are pooled at once
_STRIP = 1 << 23  # scores that one product of blocks makes
_SPARSE = 24  # one pair costs as much as this many scores of a product

_Side = tuple[str, np.ndarray, np.ndarray | None]  # name, rows (N, d), their lengths given apart


@dataclass(frozen=True)
class Pooling:
    """How rows become a template.

    Attributes:
        norm: whether a row's length is kept (N1) or taken off (N0).
        detector: whether rows are weighted by the detector's score (D1).
        media: whether the rows of a medium count as one.
        unit: whether a template is divided by its length; if not, it is the mean of its rows.
    """

    norm: bool = True
    detector: bool = False
    media: bool = True
    unit: bool = True


@dataclass(frozen=True)
class Templates:
    """Pooled vectors.

    Attributes:
        names: (T,) template numbers, ascending.
        vectors: (T, d) float64.
    """

    names: np.ndarray
    vectors: np.ndarray

    def rows(self, ids: np.ndarray, source: Arrays, name: str) -> np.ndarray:
        """Rows of `vectors` of template numbers, int32, in the shape of `ids`.

        Raises:
            FacebenchError: a number that no template has; `name` is what `source` calls `ids`.
        """
        low, high = int(self.names[0]), int(self.names[-1])
        flat, found = ids.reshape(-1), np.empty(ids.size, np.int32)
        span = high - low + 1
        table = None
        if span <= 4 * (len(self.names) + ids.size):
            table = np.full(span, -1, np.int32)
            table[self.names - low] = np.arange(len(self.names))
        for start, stop in blocks(len(flat), 1):
            part = flat[start:stop]
            inside = (part >= low) & (part <= high)
            if table is not None:
                place = table[np.where(inside, part - low, 0)]
            else:
                place = np.searchsorted(self.names, np.where(inside, part, low)).astype(np.int32)
                place[self.names[place] != part] = -1
            place[~inside] = -1
            if (place < 0).any():
                at = int(np.argmax(place < 0))
                row = (start + at) // (ids.shape[1] if ids.ndim == 2 else 1)
                raise source.fault(
                    name, f"names {part[at]} in row {row}", "numbers that 'template' holds"
                )
            found[start:stop] = place
        return found.reshape(ids.shape)


def pool(predictions: Arrays, targets: Arrays, pooling: Pooling) -> Templates:
    """Pools rows into templates; see the module's text.

    Args:
        predictions: ``embedding`` (N, d); optional ``embedding_flipped`` (N, d), ``norm`` (N,),
            ``norm_flipped`` (N,); ``detector_score`` (N,) where it weights.
        targets: ``template`` (N,) whole numbers; optional ``media`` (N,), whole numbers or text,
            without which every row is a medium of its own.
        pooling: how.

    Raises:
        FacebenchError: an array is missing, malformed or not finite; a template is a zero vector.
    """
    template = targets.integers("template", ("N",))
    n = len(template)
    like = f"as 'template' of {targets.where}"
    names, row_template, weight = _weights(predictions, targets, template, pooling)
    sources = [("embedding", "norm")]
    if "embedding_flipped" in predictions:
        sources.append(("embedding_flipped", "norm_flipped"))
        if ("norm" in predictions) != ("norm_flipped" in predictions):
            raise FacebenchError(
                f"{predictions.where}: of 'norm' and 'norm_flipped' one is missing; expected both "
                "or neither, since each belongs to its embedding"
            )
    sides: list[_Side] = []
    for name, norm in sources:
        shape = (n, sides[0][1].shape[1] if sides else "d")
        array = predictions.take(name, shape, like)
        if array.dtype.kind not in "iuf":
            raise predictions.fault(name, f"holds {array.dtype}", "real numbers")
        length = predictions.numbers(norm, (n,), like) if norm in predictions else None
        if length is not None and not (length > 0).all():
            raise predictions.fault(norm, f"holds {length.min():.4g}", "lengths above 0")
        sides.append((name, array, length))
    vectors = np.zeros((len(names), sides[0][1].shape[1]))
    order = None
    if (np.diff(row_template) < 0).any():
        order = np.argsort(row_template, kind="stable")
        row_template, weight = row_template[order], weight[order]
    for start in range(0, n, _ROWS):
        held = row_template[start : start + _ROWS]
        rows = slice(start, start + len(held)) if order is None else order[start : start + _ROWS]
        part = _features(predictions, sides, rows, pooling)
        first = np.flatnonzero(np.append(True, held[1:] != held[:-1]))
        counts = np.zeros((len(first), len(held)))  # of each row for each template
        counts[np.searchsorted(held[first], held), np.arange(len(held))] = weight[start:][
            : len(held)
        ]
        vectors[held[first]] += counts @ part
        if start % (32 * _ROWS) == 0:
            for _, array, _ in sides:
                release(array)
    if pooling.unit:
        length = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
        bad = ~(np.isfinite(length) & (length > 0))
        if bad.any():
            _finite(predictions, sides)
            at = int(np.argmax(bad))
            raise predictions.fault(
                "embedding",
                f"pools to a vector of length {length[at]:.4g} for template {names[at]}",
                "a direction for every template",
            )
        vectors /= length[:, None]
    return Templates(names, vectors)


def _weights(
    predictions: Arrays, targets: Arrays, template: np.ndarray, pooling: Pooling
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Template numbers (T,), each row's place in them (N,) and what it counts (N,)."""
    n = len(template)
    like = f"as 'template' of {targets.where}"
    names, place = np.unique(template, return_inverse=True)
    weight = np.ones(n)
    if not pooling.unit:
        weight /= np.bincount(place)[place]
    if pooling.media and "media" in targets:
        media = targets.take("media", (n,), "as 'template'")
        if media.dtype.kind not in "iuSU":
            raise targets.fault("media", f"holds {media.dtype}", "whole numbers or text")
        kinds, medium = np.unique(media, return_inverse=True)
        _, cell, count = np.unique(
            place * len(kinds) + medium, return_inverse=True, return_counts=True
        )
        weight /= count[cell]
    if pooling.detector:
        if "detector_score" not in predictions:
            raise FacebenchError(
                f"{predictions.where}: array 'detector_score' is missing; give it (N,), or score "
                "without it by 'ijb-n1d0' or 'ijb-n0d0'"
            )
        weight *= predictions.numbers("detector_score", (n,), like)
    return names, place, weight


def _features(
    predictions: Arrays, sides: list[_Side], rows: slice | np.ndarray, pooling: Pooling
) -> np.ndarray:
    """Features (r, d) of some rows, fresh, float64: the flip sum, and N0 or N1."""
    parts = []
    for name, array, norm in sides:
        part = array[rows]
        if norm is not None:
            length = np.sqrt(np.einsum("ij,ij->i", part, part, dtype=np.float64))
            off = ~(np.abs(length - 1) <= 0.01)
            if off.any():
                _finite(predictions, sides)
                row = np.arange(array.shape[0])[rows][int(np.argmax(off))]
                raise predictions.fault(
                    name,
                    f"has length {length[np.argmax(off)]:.4g} in row {row}",
                    "1, since its length is given apart",
                )
            part = part * norm[rows][:, None]
        parts.append(part)
    total = parts[0].astype(np.float64) if len(parts) == 1 else np.add(*parts, dtype=np.float64)
    if not pooling.norm:
        length = np.sqrt(np.einsum("ij,ij->i", total, total))
        bad = ~(np.isfinite(length) & (length > 0))
        if bad.any():
            _finite(predictions, sides)
            at = int(np.argmax(bad))
            row = int(np.arange(sides[0][1].shape[0])[rows][at])
            raise no_direction(predictions, sides[0][0], total[at : at + 1], row)
        total /= length[:, None]
    return total


def _finite(predictions: Arrays, sides: list[_Side]) -> None:
    """Looks for the row that spoils a sum.

    Raises:
        FacebenchError: a row is NaN or infinite.
    """
    for name, array, _ in sides:
        for start, stop in blocks(*array.shape):
            part = array[start:stop].astype(np.float64)
            if not np.isfinite(part).all():
                row = int(np.argmin(np.isfinite(part).all(axis=1)))
                raise no_direction(predictions, name, part[row : row + 1], start + row)


def pair_scores(vectors: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(m,) products of rows `first` and `second` (m,) of `vectors` (T, d), to `DECIMALS`."""
    m = len(first)
    score = np.empty(m)
    left, right = _present(first, len(vectors)), _present(second, len(vectors))
    shared = np.union1d(left, right)
    swap = len(shared) ** 2 // 2 < len(left) * len(right)
    if swap:  # below the diagonal nothing is needed
        first, second = np.minimum(first, second), np.maximum(first, second)
        left = right = shared
    cost = len(left) * len(right) // (2 if swap else 1)
    if cost > _SPARSE * m:
        for start, stop in blocks(m, 2 * vectors.shape[1]):
            a, b = vectors[first[start:stop]], vectors[second[start:stop]]
            score[start:stop] = np.einsum("ij,ij->i", a, b)
    else:
        _by_strips(vectors, (first, second), (left, right), swap, score)
    for start, stop in blocks(m, 1):
        score[start:stop] = np.clip(np.round(score[start:stop], DECIMALS), -1, 1)
    return score


def _present(rows: np.ndarray, most: int) -> np.ndarray:
    seen = np.zeros(most, bool)
    seen[rows] = True
    return np.flatnonzero(seen)


def _by_strips(
    vectors: np.ndarray,
    pair: tuple[np.ndarray, np.ndarray],
    used: tuple[np.ndarray, np.ndarray],
    upper: bool,
    score: np.ndarray,
) -> None:
    """Fills `score` (m,) from products of strips of the left vectors with the right ones."""
    left, right = used
    height = max(_STRIP // len(right), 8, -(-len(left) // (1 << 15)))
    place = np.zeros((2, len(vectors)), np.int32)
    place[0, left], place[1, right] = np.arange(len(left)), np.arange(len(right))
    # A stable sort of 16-bit numbers takes one pass each.
    strip = (place[0] // height).astype(np.uint16)[pair[0]]
    order = np.argsort(strip, kind="stable")
    ends = np.cumsum(np.bincount(strip, minlength=-(-len(left) // height)))
    del strip
    columns = vectors[right]
    for k, end in enumerate(ends):
        mine = order[(ends[k - 1] if k else 0) : end]
        if not len(mine):
            continue
        low = k * height if upper else 0
        table = vectors[left[k * height : (k + 1) * height]] @ columns[low:].T
        for start, stop in blocks(len(mine), 4):
            rows = mine[start:stop]
            at = place[0][pair[0][rows]] - k * height, place[1][pair[1][rows]] - low
            score[rows] = table[at]
