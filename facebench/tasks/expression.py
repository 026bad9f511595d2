"""Expression: one class per image, by a linear layer and a softmax."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import linen as nn

from facebench import models
from facebench.errors import UsageError, nearest
from facebench.losses import margin as losses
from facebench.tasks import Spec, Task
from facebench.tasks.linear import LinearNet

Array = jax.Array


class Expression(Task):
    """One of C expressions per face.

    Batches hold ``expression`` [B] whole numbers in 0..C-1, another one where it is unknown;
    predictions are ``probability`` [B, C].
    """

    fields = ("expression",)

    def __init__(
        self, spec: Spec, features: str = "pooled", dropout: float = 0.0, smoothing: float = 0.0
    ) -> None:
        """Checks and keeps the configuration.

        Args:
            spec: `classes` (at least 2) is needed: here the number of expressions.
            features: ``pooled``, ``spatial`` or ``both``, see `facebench.models.features`.
            dropout: rate of the dropout on the features.
            smoothing: label smoothing.

        Raises:
            UsageError: unknown features, or a smoothing outside [0, 1).
            FacebenchError: fewer than 2 classes.
        """
        super().__init__(spec)
        spec.require("expression", size=1, classes=2)
        if features not in models.FEATURES:
            raise UsageError(f"features is {features!r}: {nearest(features, models.FEATURES)}")
        losses.check(smoothing=smoothing)
        self.features = features
        self.dropout = dropout
        self._smoothing = smoothing

    def module(self, backbone: nn.Module) -> LinearNet:
        """The backbone and the head, `facebench.tasks.linear.LinearNet`."""
        return LinearNet(backbone, self.spec.classes, features=self.features, dropout=self.dropout)

    def loss(
        self, outputs: Mapping[str, Array], batch: Mapping[str, Array]
    ) -> tuple[Array, dict[str, Array]]:
        """Softmax cross-entropy, 0 where the label is unknown; logs ``accuracy``."""
        logits, label = outputs["logits"], batch["expression"]
        correct = jnp.argmax(logits, axis=1).astype(label.dtype) == label
        loss = losses.cross_entropy(logits, label, self._smoothing)
        return loss, {"accuracy": correct.astype(jnp.float32)}

    def predict(self, outputs: Mapping[str, Array], batch: Mapping[str, Array]) -> dict[str, Array]:
        """``probability`` [B, C] float32."""
        return {"probability": jax.nn.softmax(outputs["logits"].astype(jnp.float32))}
