"""Triplet loss with mining inside the batch (FaceNet).

An anchor a, another image p of the same person, an image n of someone else cost
max(d(a, p) - d(a, n) + margin, 0): Schroff et al., *FaceNet*, CVPR 2015, section 3.1. Which n (and
p) are taken is mined among the examples of the batch:

- ``semi_hard``: every pair (a, p), with the nearest n that is further from a than p, or the
  furthest n where there is none;
- ``hard``: every a, with its furthest p and its nearest n (Hermans et al., *In Defense of the
  Triplet Loss*, 2017, "batch hard");
- ``random``: every pair (a, p), with any n: the baseline that mining is measured against.

The batch should be made of several images of each person; an image that is alone costs nothing.

Where this differs from TensorFlow Addons, with which it otherwise agrees, on purpose:

- an anchor without a positive (or without a negative) is left out of the mean; there, under
  ``hard``, it counts as if its positive were at distance 0;
- no [B, B, B] array is made: negatives are sorted once per anchor.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from facebench.errors import UsageError, nearest

Array = jax.Array

MININGS = ("semi_hard", "hard", "random")
DISTANCES = ("squared_l2", "l2", "angular")


def check(mining: str = "semi_hard", distance: str = "squared_l2", margin: float = 0.2) -> None:
    """Refuses what `triplet` cannot compute with.

    Raises:
        UsageError: an unknown mining or distance, a margin that is not positive.
    """
    for field, value, names in (("mining", mining, MININGS), ("distance", distance, DISTANCES)):
        if value not in names:
            raise UsageError(f"{field} is {value!r}: {nearest(value, names)}")
    if not margin > 0:
        raise UsageError(f"the triplets' margin is {margin}, expected a number above 0")


def pairwise(embedding: Array, distance: str = "squared_l2") -> Array:
    """[N, N] float32 distances between the rows of embedding [N, d].

    ``squared_l2``: |x - y|^2; ``l2``: |x - y|; ``angular``: 1 - cos of the angle. The gradient of
    ``l2`` is taken as 0 between rows that coincide, where it has none.
    """
    x = embedding.astype(jnp.float32)
    if distance == "angular":
        x = x * jax.lax.rsqrt(jnp.maximum(jnp.square(x).sum(axis=1, keepdims=True), 1e-12))
    product = jnp.matmul(x, x.T, precision=jax.lax.Precision.HIGHEST)
    if distance == "angular":
        return jnp.maximum(1.0 - product, 0.0)
    length = jnp.square(x).sum(axis=1)
    squared = jnp.maximum(length[:, None] - 2.0 * product + length[None, :], 0.0)
    if distance == "squared_l2":
        return squared
    apart = squared > 0
    return jnp.where(apart, jnp.sqrt(jnp.where(apart, squared, 1.0)), 0.0)


def triplet(
    embedding: Array,
    label: Array,
    valid: Array | None = None,
    *,
    margin: float = 0.2,
    mining: str = "semi_hard",
    distance: str = "squared_l2",
    seed: Array | None = None,
) -> Array:
    """The loss of each anchor, scaled so that their mean is the mean over triplets.

    Args:
        embedding: [N, d]; FaceNet's have length 1.
        label: [N] integer, who is shown.
        valid: [N], 0 for a padded example, which is no anchor, positive or negative; default all 1.
        margin: of distances.
        mining: ``semi_hard``, ``hard`` or ``random``.
        distance: see `pairwise`.
        seed: [N] uint32, a fresh number for each anchor; for ``random`` only.

    Returns:
        [N] float32: the mean over the valid examples is the mean over all (anchor, positive) pairs
        (under ``hard`` over anchors) that have a negative. 0 for a padded example. Which triplets
        are taken has no gradient.

    Raises:
        UsageError: see `check`.
    """
    check(mining, distance, margin)
    valid = jnp.ones(len(label), bool) if valid is None else valid > 0
    same = label[:, None] == label[None, :]
    both = valid[:, None] & valid[None, :]
    negative = both & ~same
    positive = both & same & ~jnp.eye(len(label), dtype=bool) & negative.any(1, keepdims=True)

    apart = pairwise(embedding, distance)
    known = jax.lax.stop_gradient(apart)
    if mining == "hard":
        p = jnp.argmax(jnp.where(positive, known, -1.0), axis=1, keepdims=True)
        n = jnp.argmin(jnp.where(negative, known, jnp.inf), axis=1, keepdims=True)
        to_positive, counts = jnp.take_along_axis(apart, p, 1), positive.any(1, keepdims=True)
    else:
        n = _negatives(known, negative, mining, seed)
        to_positive, counts = apart, positive
    cost = jnp.maximum(to_positive - jnp.take_along_axis(apart, n, 1) + margin, 0.0)
    scale = valid.sum() / jnp.maximum(counts.sum(), 1)
    return scale * jnp.where(counts, cost, 0.0).sum(axis=1)


def _negatives(known: Array, negative: Array, mining: str, seed: Array | None) -> Array:
    """[N, N]: of anchor i and positive j, which example is the negative."""
    order = jnp.argsort(jnp.where(negative, known, jnp.inf), axis=1)  # The nearest first.
    found = negative.sum(axis=1, keepdims=True)
    if mining == "random":
        if seed is None:
            raise UsageError("mining 'random' needs a seed for each anchor")
        draws = jax.vmap(lambda k: jax.random.uniform(jax.random.key(k), known.shape[1:]))(seed)
        place = (draws * found).astype(jnp.int32)
    else:
        ascending = jnp.take_along_axis(jnp.where(negative, known, jnp.inf), order, 1)
        place = jax.vmap(lambda row, at: jnp.searchsorted(row, at, side="right"))(ascending, known)
    return jnp.take_along_axis(order, jnp.clip(place, 0, jnp.maximum(found - 1, 0)), 1)
