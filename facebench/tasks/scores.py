"""From embeddings to the scores that a protocol stores; NumPy in float64, no JAX.

Embeddings of faces are never stored: only the cosines of the pairs and of probes against the
gallery leave the run that computed them.
"""

from __future__ import annotations

import numpy as np

from facebench.errors import FacebenchError

#: How many numbers a chunk of rows may hold: 32 MB of float64.
_CHUNK = 1 << 22


def unit(embedding: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1, in float64; a zero row stays zero, so its cosines are 0.

    Args:
        embedding: [n, d], finite.

    Raises:
        FacebenchError: another rank, or a row that is not finite.
    """
    x = np.asarray(embedding, np.float64)
    if x.ndim != 2:
        raise FacebenchError(f"embedding has shape {list(x.shape)}, expected [n, d]")
    bad = np.flatnonzero(~np.isfinite(x).all(axis=1))
    if len(bad):
        raise FacebenchError(
            f"embedding: {len(bad)} of {len(x)} rows are not finite, the first is row {bad[0]}; "
            "did training diverge?"
        )
    # Scaled by the largest entry first: the squares of 1e-200 or 1e200 are not numbers any more.
    largest = np.abs(x).max(axis=1, keepdims=True, initial=0.0)
    x = x / np.where(largest > 0, largest, 1.0)
    length = np.sqrt(np.square(x).sum(axis=1, keepdims=True))
    return x / np.where(length > 0, length, 1.0)


def _indices(name: str, value: np.ndarray, n: int) -> np.ndarray:
    index = np.asarray(value)
    if index.size and not np.issubdtype(index.dtype, np.integer):
        raise FacebenchError(f"{name} holds {index.dtype}, expected row numbers (integers)")
    if index.size and (index.min() < 0 or index.max() >= n):
        raise FacebenchError(
            f"{name} names row {index.min() if index.min() < 0 else index.max()}, but there are "
            f"{n} embeddings (rows 0 to {n - 1})"
        )
    return index.astype(np.int64)


def pair_scores(embedding: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Cosines of pairs of embeddings.

    Args:
        embedding: [n, d]; normalised here.
        pairs: [m, 2] row numbers.

    Returns:
        [m] float64 in [-1, 1]; memory beyond the result is bounded.

    Raises:
        FacebenchError: bad shapes, rows that are not finite or do not exist.
    """
    x = unit(embedding)
    index = _indices("pairs", pairs, len(x))
    if index.ndim != 2 or index.shape[1] != 2:
        raise FacebenchError(f"pairs has shape {list(index.shape)}, expected [m, 2]")
    scores = np.empty(len(index))
    step = max(1, _CHUNK // max(x.shape[1], 1))
    for start in range(0, len(index), step):
        a, b = index[start : start + step].T
        scores[start : start + step] = np.einsum("nd,nd->n", x[a], x[b])
    return np.clip(scores, -1.0, 1.0, out=scores)


def similarity(embedding: np.ndarray, probe: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """Cosines of probes against the gallery.

    Args:
        embedding: [n, d]; normalised here.
        probe: [p] row numbers.
        gallery: [g] row numbers.

    Returns:
        [p, g] float64 in [-1, 1].

    Raises:
        FacebenchError: bad shapes, rows that are not finite or do not exist.
    """
    x = unit(embedding)
    rows, columns = (_indices(n, v, len(x)) for n, v in (("probe", probe), ("gallery", gallery)))
    for name, index in (("probe", rows), ("gallery", columns)):
        if index.ndim != 1:
            raise FacebenchError(f"{name} has shape {list(index.shape)}, expected [n]")
    scores = np.empty((len(rows), len(columns)))
    transposed = np.ascontiguousarray(x[columns].T)
    step = max(1, _CHUNK // max(x.shape[1], len(columns), 1))
    for start in range(0, len(rows), step):
        scores[start : start + step] = x[rows[start : start + step]] @ transposed
    return np.clip(scores, -1.0, 1.0, out=scores)


def best_of_each(probe: np.ndarray, known: np.ndarray, person: np.ndarray) -> np.ndarray:
    """Cosines of probes with each person: with the most alike of the person's images.

    Args:
        probe: [p, d] embeddings; normalised here.
        known: [k, d] embeddings of known people; normalised here.
        person: [k] whose image each is, 0 to g - 1, every person at least once.

    Returns:
        [p, g] float64 in [-1, 1].

    Raises:
        FacebenchError: bad shapes, rows that are not finite, or a person without an image.
    """
    x, y = unit(probe), unit(known)
    person = np.asarray(person)
    if x.shape[1] != y.shape[1] or person.shape != (len(y),):
        raise FacebenchError(
            f"probe {list(x.shape)}, known {list(y.shape)} and person {list(person.shape)} do not "
            "fit together: expected [p, d], [k, d] and [k]"
        )
    order = np.argsort(person, kind="stable")
    names, first = np.unique(person[order], return_index=True)
    if not np.array_equal(names, np.arange(len(names))):
        raise FacebenchError(f"person names {names[:5].tolist()} ...: expected 0 to g - 1, each")
    scores = np.empty((len(x), len(names)))
    transposed = np.ascontiguousarray(y[order].T)
    step = max(1, _CHUNK // max(x.shape[1], len(y), 1))
    for start in range(0, len(x), step):
        cosines = x[start : start + step] @ transposed
        scores[start : start + step] = np.maximum.reduceat(cosines, first, axis=1)
    return np.clip(scores, -1.0, 1.0, out=scores)


def pooled(
    embedding: np.ndarray, template: np.ndarray, media: np.ndarray, weight: np.ndarray, how: str
) -> np.ndarray:
    """Templates of images: the sum over media of the mean over a medium's images.

    Args:
        embedding: [n, d], not normalised where lengths are to count.
        template: [n] the template of each image, 0 to t - 1, every one at least once.
        media: [n] the still or video that each image is from.
        weight: [n] how much each image counts, such as the confidence of its detection.
        how: ``n1`` keeps the lengths of embeddings, ``n0`` makes them 1; ``d1`` multiplies by the
            weights, ``d0`` does not: ``n1d1``, ``n1d0``, ``n0d1`` or ``n0d0``.

    Returns:
        [t, d] float64, not normalised.

    Raises:
        FacebenchError: bad shapes.
    """
    n = len(embedding)
    for name, value in (("template", template), ("media", media), ("weight", weight)):
        if np.shape(value) != (n,):
            raise FacebenchError(f"{name} has shape {list(np.shape(value))}, expected [{n}]")
    order = np.lexsort((media, template))
    of, medium = np.asarray(template)[order], np.asarray(media)[order]
    new = np.append(True, (of[1:] != of[:-1]) | (medium[1:] != medium[:-1]))
    place = np.cumsum(new) - 1  # which medium of which template
    share = 1.0 / np.bincount(place)[place]
    if "d1" in how:
        share = share * np.asarray(weight, np.float64)[order]
    made = np.zeros((int(of.max()) + 1, np.shape(embedding)[1]))
    step = max(1, _CHUNK // max(made.shape[1], 1))
    for start in range(0, n, step):
        rows = np.asarray(embedding[order[start : start + step]], np.float64)
        if "n0" in how:
            rows = unit(rows)
        rows *= share[start : start + step, None]
        part = of[start : start + step]
        first = np.flatnonzero(np.append(True, part[1:] != part[:-1]))
        made[part[first]] += np.add.reduceat(rows, first, axis=0)
    return made
