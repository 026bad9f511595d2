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
