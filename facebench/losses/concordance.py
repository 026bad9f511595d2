"""One minus the concordance correlation of a batch, as a loss per example.

With x the predictions and y the labels of a batch, the concordance correlation (Lin 1989, "A
concordance correlation coefficient to evaluate reproducibility") is 2 cov(x, y) / D with
D = var(x) + var(y) + (mean x - mean y)^2, and the mean of (x - y)^2 is D - 2 cov(x, y). So 1 - CCC
is the mean over examples of (x - y)^2 / D: an example's loss is its squared error, by a number that
all examples of the batch share and that the gradient passes through.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

Array = jax.Array


def one_minus_ccc(
    value: Array, target: Array, known: Array, mask: Array, axis_name: str | None = None
) -> Array:
    """Losses whose mean over the examples of the mask is the mean over columns of 1 - CCC.

    Args:
        value: [B, A].
        target: [B, A]; where `known` is 0 it may be anything, NaN included.
        known: [B, A], 0 or 1.
        mask: [B], 1 for the examples that count.
        axis_name: the mapped axis that holds the rest of the batch, under ``pmap``.

    Returns:
        [B] float32. A column without a known label, or of which labels and predictions are one
        constant, costs nothing, and the former is left out of the mean. So is all outside `mask`.
    """
    weight = known.astype(jnp.float32) * mask.astype(jnp.float32)[:, None]
    x = jnp.where(weight > 0, value.astype(jnp.float32), 0.0)
    y = jnp.where(weight > 0, target.astype(jnp.float32), 0.0)

    def total(terms: Array) -> Array:
        terms = terms.sum(axis=0)
        return jax.lax.psum(terms, axis_name) if axis_name else terms

    count, examples = total(weight), total(mask.astype(jnp.float32))
    n = jnp.maximum(count, 1.0)
    mean_x, mean_y = total(x) / n, total(y) / n
    spread = total(weight * (jnp.square(x - mean_x) + jnp.square(y - mean_y))) / n
    below = spread + jnp.square(mean_x - mean_y)
    share = jnp.where(below > 0, 1.0 / jnp.where(below > 0, n * below, 1.0), 0.0)
    columns = jnp.maximum((count > 0).sum(), 1)
    return examples * (jnp.square(x - y) * share).sum(axis=1) / columns
