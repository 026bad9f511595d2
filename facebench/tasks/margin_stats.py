"""What losses of recognition know of earlier batches: AdaFace and CurricularFace do.

The network keeps it in the collection
``margin_stats``, so that it is carried, saved and restored like batch statistics. A step uses the
running numbers with its own batch blended in, as published. What the next step starts from is made
after the update, by `fold`, from sums over the whole global batch: the examples whose mask is 1, of
all devices and all accumulated parts. (With accumulation the blend that a part uses has seen that
part only.)
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from facebench.losses import quality

Array = jax.Array

#: The collection that running statistics live in.
STATS = "margin_stats"


class Running(nn.Module):
    """A running mean and spread of one number per example, in the collection `STATS`.

    Attributes:
        mean: to start from.
        std: to start from.
        t_alpha: weight of a batch.
        axis_name: the mapped axis to sum over.
    """

    mean: float
    std: float
    t_alpha: float
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Array, weight: Array | None) -> tuple[Array, Array]:
        """The mean and spread with the batch x [B] blended in; its sums wait for `fold`."""
        first = self.is_initializing()
        mean = self.variable(STATS, "mean", lambda: jnp.float32(self.mean))
        std = self.variable(STATS, "std", lambda: jnp.float32(self.std))
        zero = jnp.zeros((), jnp.float32)
        sums = self.variable(STATS, "sums", lambda: dict.fromkeys(quality.Moments._fields, zero))
        weight = jnp.ones(len(x), jnp.float32) if weight is None else weight
        found = quality.moments(x, weight, mean.value, None if first else self.axis_name)
        if not first:
            sums.value = {k: sums.value[k] + v for k, v in found._asdict().items()}
        return quality.blend(mean.value, std.value, found, self.t_alpha)


def fold(stats: Any, margin: str, t_alpha: float, step: Array) -> Any:
    """The collection `STATS` after an update: the batch's sums blended in, and taken back to 0.

    Args:
        stats: the collection, with sums over all parts of the batch.
        margin: which it belongs to.
        t_alpha: weight of the batch.
        step: the number of updates made.
    """
    if margin == "sphereface":
        return {**stats, "step": jnp.asarray(step, jnp.int32)}
    kept = stats["running"]
    sums = quality.Moments(**kept["sums"])
    mean, std = quality.blend(kept["mean"], kept["std"], sums, t_alpha)
    zeros = {k: jnp.zeros_like(v) for k, v in kept["sums"].items()}
    return {**stats, "running": {"mean": mean, "std": std, "sums": zeros}}
