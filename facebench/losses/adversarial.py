"""Adversarial learning: what a head learns is taken out of the features that it reads."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from facebench.errors import UsageError, nearest
from facebench.losses.margin import cross_entropy

Array = jax.Array

IDENTITY_LOSSES = ("bce", "softmax")


@jax.custom_vjp
def gradient_reversal(x: Array, scale: Array | float) -> Array:
    """`x` as it is; its gradient comes back times -`scale`.

    What reads the result learns as ever; what made `x` is driven against it (Ganin and Lempitsky
    2015, *Unsupervised Domain Adaptation by Backpropagation*). A `scale` of 0 lets no
    gradient through, a negative one lets it through as a second task's.

    Args:
        x: of any shape.
        scale: a number; it has no gradient itself.
    """
    return x


def _forward(x: Array, scale: Array | float) -> tuple[Array, Array]:
    return x, jnp.asarray(scale)


def _backward(scale: Array, gradient: Array) -> tuple[Array, Array]:
    return (-scale * gradient).astype(gradient.dtype), jnp.zeros_like(scale)


gradient_reversal.defvjp(_forward, _backward)


def identity_loss(logits: Array, identity: Array, loss: str = "bce") -> Array:
    """How wrong a head is about who is seen.

    Args:
        logits: [B, N], one per known person.
        identity: [B] whole numbers in 0..N-1; another one is unknown.
        loss: ``bce``: a yes or no for each person, the mean over the N of them, as Ning et al.
            2024, *Representation Learning and Identity Adversarial Training for Facial Behavior
            Understanding*, have it; ``softmax``: one of N, with gradients about N times as large.

    Returns:
        [B] float32, in nats; 0, with gradient 0, where the person is unknown.

    Raises:
        UsageError: another loss.
    """
    logits = logits.astype(jnp.float32)
    if loss == "softmax":
        return cross_entropy(logits, identity)
    if loss != "bce":
        raise UsageError(f"identity_loss is {loss!r}: {nearest(loss, IDENTITY_LOSSES)}")
    people = logits.shape[1]
    known = (identity >= 0) & (identity < people)
    seen = jax.nn.one_hot(identity, people, dtype=jnp.float32)
    cost = (jax.nn.softplus(logits) - logits * seen).mean(axis=1)
    return jnp.where(known, cost, 0.0)
