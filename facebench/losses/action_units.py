"""Losses of action units: weighted cross-entropy, asymmetric, Dice; unknown labels count nowhere.

All read ln p and ln(1 - p) of each action unit, from a logit (`of_logits`) or a probability
(`of_probability`), and have a weight per action unit. Faces show few action units at a time, so the
weights make rare ones count more, and the asymmetric loss makes easy absences count less.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from facebench.losses.landmarks import masked_mean

Array = jax.Array

#: The least that a logarithm is taken of, where a probability is given and not a logit.
LEAST = 1e-8


def inverse_weights(rate: Array) -> Array:
    """Weights in inverse proportion to how often an action unit is there, 1 on average.

    w_i = A (1 / p_i) / sum_j (1 / p_j) over the A action units that are there at all (Shao et al.
    2018, *Deep Adaptive Attention for Joint Facial Action Unit Detection and Face Alignment*); one
    that never is has no such weight, and is given 1.

    Args:
        rate: [..., A] in [0, 1], the share of positives among the known training labels.

    Returns:
        [..., A] float32, above 0.
    """
    rate = jnp.asarray(rate, jnp.float32)
    there = rate > 0
    inverse = jnp.where(there, 1.0 / jnp.where(there, rate, 1.0), 0.0)
    total = jnp.maximum(inverse.sum(axis=-1, keepdims=True), 1.0)
    return jnp.where(there, there.sum(axis=-1, keepdims=True) * inverse / total, 1.0)


def of_logits(logits: Array) -> tuple[Array, Array]:
    """(ln p, ln(1 - p)) of p = sigmoid(logit), finite for every finite logit; float32."""
    logits = logits.astype(jnp.float32)
    return jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)


def of_probability(probability: Array) -> tuple[Array, Array]:
    """(ln p, ln(1 - p)) of p in [0, 1], each at least ln `LEAST`, where it has no gradient."""
    p = probability.astype(jnp.float32)
    return jnp.log(jnp.maximum(p, LEAST)), jnp.log(jnp.maximum(1.0 - p, LEAST))


def _mean(cost: Array, known: Array, weight: Array | None) -> Array:
    """The weighted costs' mean over what is known; the weights do not enter the denominator."""
    known = known.astype(jnp.float32)
    if weight is not None:
        cost = cost * jnp.asarray(weight, jnp.float32)
    return masked_mean(jnp.where(known > 0, cost, 0.0), known)


def cross_entropy(
    log_there: Array,
    log_not: Array,
    there: Array,
    known: Array,
    weight: Array | None = None,
) -> Array:
    """Mean over the known action units of -w (y ln p + (1 - y) ln(1 - p)).

    Args:
        log_there: [B, A] ln p.
        log_not: [B, A] ln(1 - p).
        there: [B, A], 0 or 1; anything where `known` is 0.
        known: [B, A], 0 or 1.
        weight: [A] or [B, A], 1 by default.

    Returns:
        [B] float32, in nats; 0, with gradient 0, where nothing is known.
    """
    return _mean(-jnp.where(there > 0, log_there, log_not), known, weight)


def asymmetric(
    log_there: Array,
    log_not: Array,
    there: Array,
    known: Array,
    weight: Array | None = None,
) -> Array:
    """Mean over the known action units of -w (y ln p + (1 - y) p ln(1 - p)).

    The p before the logarithm says how far an absence is from being known, and is a constant to the
    gradient (Luo et al. 2022, *Learning Multi-dimensional Edge Feature-based AU Relation Graph for
    Facial Action Unit Recognition*).

    Args: as of `cross_entropy`.

    Returns:
        [B] float32; 0, with gradient 0, where nothing is known.
    """
    focus = jax.lax.stop_gradient(jnp.exp(log_there))
    return _mean(-jnp.where(there > 0, log_there, focus * log_not), known, weight)


def dice(log_there: Array, there: Array, known: Array, weight: Array | None = None) -> Array:
    """Mean over the known action units of w (1 - (2 y p + 1) / (y^2 + p^2 + 1)).

    The 1 smooths, and makes an absence that is known cost nothing (Shao et al. 2021,
    *JAA-Net*). The quotient is of each example: of sums over a batch, as some code has it, an
    example's loss would follow from its neighbours.

    Args: as of `cross_entropy`.

    Returns:
        [B] float32 in [0, 1] times the mean weight; 0, with gradient 0, where nothing is known.
    """
    p, y = jnp.exp(log_there), (there > 0).astype(jnp.float32)
    return _mean(1.0 - (2.0 * y * p + 1.0) / (y + jnp.square(p) + 1.0), known, weight)
