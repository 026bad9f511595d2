"""Classification losses: several yes-or-no answers, and one class per pixel.

One class per image is `facebench.losses.margin.cross_entropy`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from facebench.losses.landmarks import masked_mean
from facebench.losses.margin import cross_entropy

Array = jax.Array


def binary_cross_entropy(logits: Array, label: Array, known: Array) -> Array:
    """Mean over the known answers of -(y ln p + (1 - y) ln(1 - p)) with p = sigmoid(logit).

    Computed as softplus(x) - x y, which is finite for every finite logit and has the gradient
    p - y.

    Args:
        logits: [B, A].
        label: [B, A] in [0, 1]; where `known` is 0 it may be anything, NaN included.
        known: [B, A], 0 or 1.

    Returns:
        [B] float32, in nats; 0, with gradient 0, where nothing is known.
    """
    logits, known = logits.astype(jnp.float32), known.astype(jnp.float32)
    label = jnp.where(known > 0, label.astype(jnp.float32), 0.0)
    return masked_mean(jax.nn.softplus(logits) - logits * label, known)


def squared_error(value: Array, target: Array, known: Array) -> Array:
    """Mean over the known targets of (value - target)^2.

    Args:
        value: [B, A].
        target: [B, A]; where `known` is 0 it may be anything, NaN included.
        known: [B, A], 0 or 1.

    Returns:
        [B] float32; 0, with gradient 0, where nothing is known.
    """
    known = known.astype(jnp.float32)
    error = jnp.where(known > 0, value.astype(jnp.float32) - target, 0.0)
    return masked_mean(jnp.square(error), known)


def pixel_cross_entropy(logits: Array, label: Array) -> Array:
    """Softmax cross-entropy, mean over the labelled pixels of each example.

    Args:
        logits: [B, H, W, C].
        label: [B, H, W] whole numbers; a pixel with one outside 0..C-1 (255, say) is left out.

    Returns:
        [B] float32, in nats; 0, with gradient 0, where no pixel is labelled.
    """
    classes = logits.shape[-1]
    flat = label.reshape(label.shape[0], -1)
    loss = cross_entropy(logits.reshape(-1, classes), flat.reshape(-1)).reshape(flat.shape)
    return masked_mean(loss, ((flat >= 0) & (flat < classes)).astype(jnp.float32))
