"""Valence and arousal: two numbers from -1 to 1 per face, by a linear layer and a tanh."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import linen as nn

from facebench import models
from facebench.errors import UsageError, nearest
from facebench.losses import classification, concordance
from facebench.losses.landmarks import masked_mean
from facebench.tasks import Spec, Task
from facebench.tasks.linear import LinearNet

Array = jax.Array

LOSSES = ("mse", "ccc")


class ValenceArousal(Task):
    """Valence and arousal of a face.

    Batches hold ``valence_arousal`` [B, 2]; a number outside [-1, 1] (-2 is customary, NaN too) is
    unknown. Predictions are ``valence_arousal`` [B, 2].
    """

    fields = ("valence_arousal",)

    def __init__(
        self, spec: Spec, features: str = "pooled", dropout: float = 0.0, loss: str = "mse"
    ) -> None:
        """Checks and keeps the configuration.

        Args:
            spec: only its size is read.
            features: ``pooled``, ``spatial`` or ``both``, see `facebench.models.features`.
            dropout: rate of the dropout on the features.
            loss: ``mse``, the squared error; or ``ccc``, one minus the concordance correlation
                over the batch (over each part of it, where gradients are accumulated).

        Raises:
            UsageError: unknown features or loss.
        """
        super().__init__(spec)
        spec.require("valence_arousal", size=1)
        for field, value, names in (
            ("features", features, models.FEATURES),
            ("loss", loss, LOSSES),
        ):
            if value not in names:
                raise UsageError(f"{field} is {value!r}: {nearest(value, names)}")
        self.features = features
        self.dropout = dropout
        self._loss = loss

    def module(self, backbone: nn.Module) -> LinearNet:
        """The backbone and the head, `facebench.tasks.linear.LinearNet`."""
        return LinearNet(backbone, 2, "logits", self.features, self.dropout)

    def loss(
        self, outputs: Mapping[str, Array], batch: Mapping[str, Array]
    ) -> tuple[Array, dict[str, Array]]:
        """The loss over what is known of an example; logs ``absolute_error``."""
        true, value = batch["valence_arousal"], _affect(outputs)
        known = jnp.abs(true) <= 1  # NaN is not
        if self._loss == "ccc":
            mask = batch.get("mask", jnp.ones(len(true), jnp.float32))
            loss = concordance.one_minus_ccc(value, true, known, mask, self.spec.axis_name)
        else:
            loss = classification.squared_error(value, true, known)
        error = jnp.where(known, jnp.abs(jax.lax.stop_gradient(value) - true), 0.0)
        return loss, {"absolute_error": masked_mean(error, known.astype(jnp.float32))}

    def predict(self, outputs: Mapping[str, Array], batch: Mapping[str, Array]) -> dict[str, Array]:
        """``valence_arousal`` [B, 2] float32 in [-1, 1]."""
        return {"valence_arousal": _affect(outputs)}


def _affect(outputs: Mapping[str, Array]) -> Array:
    return jnp.tanh(outputs["logits"].astype(jnp.float32))
