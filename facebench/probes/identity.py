"""Who is seen, as far as a linear map can read it from features: what an adversary is to lower."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from facebench.errors import FacebenchError

#: Of the squared weights on standardised features, beside the mean squared error.
PENALTY = 1e-2


def accuracy(
    features: np.ndarray, person: np.ndarray, keys: Sequence[str], penalty: float = PENALTY
) -> dict[str, float]:
    """How well people are told apart in images that were not used to learn to.

    One half of every person's images, by the SHA-256 of their keys, is what a ridge regression to
    one column per person is fitted on; the other half is answered by the largest column.

    Args:
        features: [n, d], finite.
        person: [n] who each image shows; people with a single image are left out.
        keys: [n], of the images.
        penalty: see `PENALTY`.

    Returns:
        ``accuracy`` in [0, 1] on the other half; ``chance``, of naming the most frequent person
        always; ``people``; ``images``, how many were answered.

    Raises:
        FacebenchError: fewer than two people with two images each, or arrays that do not fit.
    """
    x, names = np.asarray(features, np.float64), np.asarray(person)
    if x.ndim != 2 or names.shape != (len(x),) or len(keys) != len(x):
        raise FacebenchError(
            f"features {list(x.shape)}, person {list(names.shape)} and {len(keys)} keys do not fit "
            "together: expected [n, d], [n] and n"
        )
    digests = np.array([hashlib.sha256(key.encode()).hexdigest() for key in keys])
    place = np.full(len(x), -1)  # 0: learnt from, 1: answered
    for one in np.unique(names):
        rows = np.flatnonzero(names == one)
        if len(rows) > 1:
            order = rows[np.argsort(digests[rows], kind="stable")]
            place[order] = np.arange(len(order)) >= (len(order) + 1) // 2
    known, code = np.unique(names[place >= 0], return_inverse=True)
    if len(known) < 2:
        raise FacebenchError(
            f"{len(known)} of {len(np.unique(names))} people have two images or more; an identity "
            "probe needs two such people"
        )
    x, held = x[place >= 0], place[place >= 0] == 1
    mean, scale = x[~held].mean(axis=0), x[~held].std(axis=0)
    x = (x - mean) / np.where(scale > 1e-9, scale, 1.0)
    y = np.eye(len(known))[code]
    offset = y[~held].mean(axis=0)  # columns of x have mean 0, so the constant is free
    gram = x[~held].T @ x[~held] / np.count_nonzero(~held) + penalty * np.eye(x.shape[1])
    weights = np.linalg.solve(gram, x[~held].T @ (y[~held] - offset) / np.count_nonzero(~held))
    answer = np.argmax(x[held] @ weights + offset, axis=1)
    return {
        "accuracy": float((answer == code[held]).mean()),
        "chance": float(np.bincount(code[held]).max() / np.count_nonzero(held)),
        "people": len(known),
        "images": int(np.count_nonzero(held)),
    }
